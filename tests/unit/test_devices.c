/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Overlays on block devices, and disks that are block devices. Loop devices stand for them. */
#include <sys/sysmacros.h>

#include "engine_world.h"
#include "loops.h"
#include "runner.h"

#define MIB (1024 * 1024)
#define DEVICE_SIZE (8 * MIB)

#define NEED_LOOPS()                                                                                         \
    do {                                                                                                     \
        if (!loops_work() && skip("no loop devices here"))                                                   \
            return;                                                                                          \
    } while (0)

static char *attach(World *world, const char *file)
{
    g_autofree char *path = world_path(world, file);
    return loop_attach(path, DEVICE_SIZE);
}

static char *on_device(const char *device, const char *rest)
{
    return g_strdup_printf("vda,stype=block,file=%s %s", device, rest);
}

/* <disk> elements of block devices. Caller frees. */
static char *device_element(const char *target, const char *format, const char *device)
{
    return g_strdup_printf("    <disk type='block' device='disk'>\n"
                           "      <driver name='qemu' type='%s'/>\n"
                           "      <source dev='%s'/>\n"
                           "      <target dev='%s' bus='virtio'/>\n"
                           "    </disk>\n",
                           format, device, target);
}

static void define_device(World *world, const char *format, const char *device)
{
    g_autofree char *disk = device_element("vda", format, device);
    g_autofree char *xml = domain_document("web", disk);
    world_assert_define_taken(world, xml);
}

static void assert_has(World *world, const char *snapshot, const char *text)
{
    EngineId domain = world_domain(world, "web");
    g_autofree char *xml =
        snapshot ? world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", snapshot))
                 : world_text(world, ENGINE_TEXT_DOMAIN_XML, domain);
    ck_assert_msg(strstr(xml, text) != NULL, "no %s in:\n%s", text, xml);
}

static void assert_layer(World *world, const char *snapshot, const char *path)
{
    g_autofree char *layer = world_layer(world, "web", snapshot, "vda", NULL);
    ck_assert_str_eq(layer, path);
}

/* What the mount shows of the layer of vda in @snapshot (NULL: now): its size, and its bytes. */
static void assert_shown(World *world, const char *snapshot, const char *device)
{
    const EngineOps *ops = world->engine->ops;
    EngineId node = snapshot ? world_snapshot(world, "web", snapshot) : world_domain(world, "web");
    g_autoptr(GPtrArray) disks = ops->disks(world->engine, node);
    g_autoptr(GError) error = NULL;
    EngineStat stat;
    EngineId layer = ((EngineDisk *)disks->pdata[0])->layer;
    ck_assert(ops->stat_layer(world->engine, layer, &stat));
    ck_assert_uint_eq(stat.size, DEVICE_SIZE);
    ck_assert_uint_eq(stat.blocks, DEVICE_SIZE / 512);
    g_autofree char *shown = g_malloc(DEVICE_SIZE);
    g_autofree char *real = g_malloc(DEVICE_SIZE);
    int fd = ops->open_layer(world->engine, layer, &error);
    ASSERT_OK(fd >= 0, error);
    int raw = open(device, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, shown, DEVICE_SIZE, 0), DEVICE_SIZE);
    ck_assert_int_eq(pread(raw, real, DEVICE_SIZE, 0), DEVICE_SIZE);
    ck_assert(memcmp(shown, real, DEVICE_SIZE) == 0);
    close(fd);
    close(raw);
}

static gboolean redefine(World *world, const char *xml, GError **error)
{
    return world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, xml, strlen(xml), FALSE,
                                        NULL, error);
}

/* --- an overlay on a device --- */

START_TEST(file_below)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *device = attach(world, "dev.img");
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *specs = on_device(device, "vdb,snapshot=no");
    g_autofree char *source = g_strdup_printf("<source dev='%s'/>", device);
    world_create(world, "web", "s1", specs);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        assert_layer(world, NULL, device);
        assert_layer(world, "s1", a);
        assert_has(world, NULL, "<disk type='block' device='disk'>");
        assert_has(world, NULL, source);
        assert_has(world, "s1", "<disk name='vda' snapshot='external' type='block'>");
        assert_has(world, "s1", source);
        world_assert_hash(world, NULL, "vda", 1, 1);
        ck_assert_uint_eq(file_mode(a), 0444);
        assert_shown(world, NULL, device);
        world_check_clean(world, "web");
    }
    g_autofree char *info = tool_output("qemu-img", "info", "--output=json", device, NULL);
    g_autofree char *backing = g_strdup_printf("\"backing-filename\": \"%s\"", a); /* it lies elsewhere */
    ck_assert_ptr_nonnull(strstr(info, backing));
    /* states in it, and back */
    world_write(world, "web", "vda", 71);
    world_create(world, "web", "in", "vda,snapshot=internal vdb,snapshot=no");
    world_write(world, "web", "vda", 72);
    world_revert(world, "web", "in");
    world_assert_hash(world, NULL, "vda", 71, 1);
    assert_layer(world, NULL, device);
    /* the definition and the documents come back as they are */
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *s1 = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    ASSERT_OK(world_try_define(world, xml, &error), error);
    ASSERT_OK(redefine(world, s1, &error), error);
    /* away from it, and an overlay of the file is named after the file */
    world_revert(world, "web", "s1");
    g_autofree char *next = world_path(world, "a.s1");
    assert_layer(world, NULL, next);
    assert_has(world, NULL, "<disk type='file' device='disk'>");
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_revert(world, "web", "in");
    world_assert_hash(world, NULL, "vda", 71, 1);
    world_delete(world, "web", "in");
    world_delete(world, "web", "s1");
    world_check_clean(world, "web");
}
END_TEST

/* The device becomes a frozen layer itself: a file above it, and another device. */
START_TEST(device_below)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *first = attach(world, "dev1.img");
    g_autofree char *second = attach(world, "dev2.img");
    g_autofree char *s1 = on_device(first, "vdb,snapshot=no");
    g_autofree char *s2 = on_device(second, "vdb,snapshot=no");
    world_create(world, "web", "s1", s1);
    world_write(world, "web", "vda", 71);
    world_create(world, "web", "in", "vda,snapshot=internal vdb,snapshot=no");
    world_write(world, "web", "vda", 72);
    /* a generated name beside the device there is not */
    world_assert_create_refused(world, "no", "vda,snapshot=external vdb,snapshot=no", EOPNOTSUPP,
                                "disk 'vda' is a block device: say where its overlay goes");
    world_create(world, "web", "s2", s2);
    world_write(world, "web", "vda", 73);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        assert_layer(world, "s2", first);
        assert_layer(world, NULL, second);
        world_assert_hash(world, "s1", "vda", 1, 1);
        world_assert_hash(world, "s2", "vda", 72, 1);
        world_assert_hash(world, NULL, "vda", 73, 1);
        assert_shown(world, "s2", first);
    }
    /* back to the device's own state: the overlay is a file, named like those of the disk's first image */
    world_revert(world, "web", "s2");
    g_autofree char *file = world_path(world, "a.s2");
    assert_layer(world, NULL, file);
    world_assert_hash(world, NULL, "vda", 72, 1);
    /* the state in the frozen device is copied out */
    world_revert(world, "web", "in");
    world_assert_hash(world, NULL, "vda", 71, 1);
    assert_has(world, NULL, "<disk type='file' device='disk'>");
    world_assert_hash(world, "s2", "vda", 72, 1);
    g_autofree char *doc = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s2"));
    ASSERT_OK(redefine(world, doc, &error), error);
    g_autofree char *disk = device_element("vda", "qcow2", first);
    g_autofree char *xml = domain_document("web", disk);
    world_assert_define_refused(world, xml, EBUSY, "is a frozen layer");
    world_check_clean(world, "web");
}
END_TEST

/* --- disks that are devices --- */

START_TEST(raw_device)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *backing = world_raw(world, "disk.img", 5);
    g_autofree char *device = loop_attach(backing, MIB);
    g_autofree char *over = world_path(world, "over.s1");
    g_autofree char *specs = g_strdup_printf("vda,file=%s", over);
    define_device(world, "raw", device);
    world_assert_create_refused(world, "s1", NULL, EOPNOTSUPP,
                                "is a block device: say where its overlay goes");
    world_assert_create_refused(world, "s1", "vda,snapshot=internal", EOPNOTSUPP, "only qcow2 images");
    world_create(world, "web", "s1", specs);
    world_write(world, "web", "vda", 6);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        assert_layer(world, "s1", device);
        world_assert_hash(world, "s1", "vda", 5, 5);
        world_assert_hash(world, NULL, "vda", 6, 5);
    }
    world_create(world, "web", "s2", NULL); /* the overlay is a qcow2 file like any other */
    world_revert(world, "web", "s1");
    g_autofree char *again = world_path(world, "over.s1-1");
    assert_layer(world, NULL, again); /* after the first overlay on it */
    world_assert_hash(world, NULL, "vda", 5, 5);
    g_autofree char *bytes = file_hash(backing);
    world_write(world, "web", "vda", 7);
    g_autofree char *same = file_hash(backing);
    ck_assert_str_eq(same, bytes);
    world_check_clean(world, "web");
}
END_TEST

/* An overlay that somebody made on the device. */
START_TEST(prepared_device)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *device = attach(world, "dev.img");
    g_autofree char *specs = on_device(device, "vdb,snapshot=no");
    g_autofree char *as_file = g_strdup_printf("vda,file=%s vdb,snapshot=no", device);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", a, "-F", "qcow2", device, NULL);
    write_pattern(device, 74, "0 64k");
    g_autoptr(CreateRequest) wrong = world_request("s1", as_file);
    wrong->reuse_external = TRUE;
    ck_assert(!world_try_request(world, "web", wrong, &error));
    expect_error(&error, EINVAL, "is a block device, not of type 'file'");
    g_autoptr(CreateRequest) request = world_request("s1", specs);
    request->reuse_external = TRUE;
    ASSERT_OK(world_try_request(world, "web", request, &error), error);
    world_reopen(world);
    assert_layer(world, NULL, device);
    world_assert_hash(world, NULL, "vda", 74, 1);
    world_assert_hash(world, "s1", "vda", 1, 1);
    world_revert(world, "web", "s1");
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

/* Nothing but devices: there is no directory that an overlay could be made in. */
START_TEST(only_devices)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *image = world_raw(world, "disk.img", 5);
    g_autofree char *raw = loop_attach(image, MIB);
    g_autofree char *over = attach(world, "over.img");
    g_autofree char *specs = on_device(over, "");
    define_device(world, "raw", raw);
    world_create(world, "web", "s1", specs);
    world_write(world, "web", "vda", 6);
    g_autofree char *before = world_digest(world, "web");
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EOPNOTSUPP, "disk 'vda': no file name can be made from the block device '");
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    world_create(world, "web", "in", NULL); /* internal: the overlay on the device can hold it */
    world_write(world, "web", "vda", 7);
    world_revert(world, "web", "in");
    world_assert_hash(world, NULL, "vda", 6, 5);
    world_check_clean(world, "web");
}
END_TEST

START_TEST(qcow2_device)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *image = world_image(world, "disk.img", 1);
    g_autofree char *device = loop_attach(image, DEVICE_SIZE);
    g_autofree char *over = world_path(world, "over");
    g_autofree char *specs = g_strdup_printf("vda,file=%s", over);
    define_device(world, "qcow2", device);
    world_create(world, "web", "in", NULL);
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s1", specs);
    world_write(world, "web", "vda", 12);
    world_reopen(world);
    world_assert_hash(world, "in", "vda", 1, 1);
    world_assert_hash(world, "s1", "vda", 11, 1);
    world_revert(world, "web", "in"); /* copied out, beside the overlay */
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert_msg(g_str_has_prefix(active, over), "%s", active);
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_delete(world, "web", "in"); /* its tag goes, in the frozen device */
    g_autofree char *tags = image_tags(device);
    ck_assert_str_eq(tags, "");
    world_assert_hash(world, "s1", "vda", 11, 1);
    world_check_clean(world, "web");
}
END_TEST

/* --- refused --- */

typedef struct {
    const char *name;
    /* Make the target unfit; the diskspec. Caller frees. */
    char *(*make)(World *world, const char *device);
    int code;
    const char *text;
} Bad;

static char *plain(const char *path)
{
    return g_strdup_printf("vda,stype=block,file=%s vdb,snapshot=external", path);
}

static char *mark_at(const char *device, off_t offset)
{
    int fd = open(device, O_WRONLY | O_CLOEXEC);
    ck_assert(pwrite(fd, "x", 1, offset) == 1 && fsync(fd) == 0);
    close(fd);
    return plain(device);
}

static char *make_first(World *world, const char *device)
{
    return mark_at(device, 0);
}

static char *make_middle(World *world, const char *device)
{
    return mark_at(device, 512 * 1024 + 7);
}

static char *make_last(World *world, const char *device)
{
    return mark_at(device, MIB - 1);
}

static char *make_claimed(World *world, const char *device)
{
    static int fd;
    fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC); /* as a mount does; closed with the test's process */
    ck_assert_int_ge(fd, 0);
    return plain(device);
}

static char *make_missing(World *world, const char *device)
{
    return plain("/dev/domsnapfs-no-such-device");
}

static char *make_file(World *world, const char *device)
{
    g_autofree char *path = world_raw(world, "file", 0);
    return plain(path);
}

static char *make_not_said(World *world, const char *device)
{
    return g_strdup_printf("vda,file=%s vdb,snapshot=external", device);
}

static char *make_null(World *world, const char *device)
{
    return plain("/dev/null");
}

static char *make_directory(World *world, const char *device)
{
    return plain(world->images);
}

static char *make_unnamed(World *world, const char *device)
{
    return g_strdup("vda,snapshot=external,stype=block vdb,snapshot=external");
}

static char *make_small(World *world, const char *device)
{
    g_autofree char *path = world_path(world, "small");
    g_autofree char *small = loop_attach(path, 128 * 1024);
    return plain(small);
}

static char *make_qed(World *world, const char *device)
{
    return g_strdup_printf("vda,stype=block,driver=qed,file=%s vdb,snapshot=external", device);
}

static char *make_others(World *world, const char *device)
{
    g_autofree char *disk = device_element("vda", "raw", device);
    g_autofree char *xml = domain_document("other", disk);
    world_assert_define_taken(world, xml);
    return plain(device);
}

/* Another node of the same device. */
static char *other_node(World *world, const char *device)
{
    struct stat st;
    char *node = world_path(world, "node");
    ck_assert(stat(device, &st) == 0 && mknod(node, S_IFBLK | 0600, st.st_rdev) == 0);
    return node;
}

static char *make_others_by_node(World *world, const char *device)
{
    g_autofree char *spec = make_others(world, device);
    g_autofree char *node = other_node(world, device);
    return plain(node);
}

static char *make_twice(World *world, const char *device)
{
    return g_strdup_printf("vda,stype=block,file=%s vdb,stype=block,file=%s", device, device);
}

static char *make_twice_by_node(World *world, const char *device)
{
    g_autofree char *node = other_node(world, device);
    return g_strdup_printf("vda,stype=block,file=%s vdb,stype=block,file=%s", device, node);
}

static const Bad bad[] = {
    {"first-byte", make_first, EEXIST, "is not blank: there is something in its first 1 MiB"},
    {"middle", make_middle, EEXIST, "dd if=/dev/zero bs=1M count=1"},
    {"last-byte", make_last, EEXIST, "is not blank"},
    {"claimed", make_claimed, EBUSY, "is in use: mounted, or a part of another device"},
    {"missing", make_missing, ENOENT, "disk 'vda': '/dev/domsnapfs-no-such-device'"},
    {"file", make_file, EINVAL, "is a file, not of type 'block': say type='file' (stype=file)"},
    {"not-said", make_not_said, EINVAL,
     "is a block device, not of type 'file': say type='block' (stype=block)"},
    {"null", make_null, EINVAL, "is neither a regular file nor a block device"},
    {"directory", make_directory, EINVAL, "is neither a regular file nor a block device"},
    {"unnamed", make_unnamed, EINVAL, "disk 'vda': an overlay of type 'block' needs a <source>"},
    {"small", make_small, ENOSPC, "has 131072 bytes, not even an empty overlay fits"},
    {"qed", make_qed, EOPNOTSUPP, "only a qcow2 overlay can be made on '"},
    {"others", make_others, EEXIST, "is an image of domain 'other' already"},
    {"others-by-node", make_others_by_node, EEXIST, "is an image of domain 'other' already"},
    {"twice", make_twice, EEXIST, "disk 'vdb': "},
    {"twice-by-node", make_twice_by_node, EEXIST, "disk 'vdb': "},
};

START_TEST(each_bad)
{
    NEED_LOOPS();
    const Bad *b = &bad[_i];
    g_autoptr(World) world = world_web(PATH(b->name));
    g_autofree char *device = attach(world, "dev.img");
    g_autofree char *specs = b->make(world, device);
    g_autofree char *image = world_path(world, "dev.img");
    g_autofree char *before = file_hash(image);
    world_assert_create_refused(world, "s1", specs, b->code, b->text);
    g_autofree char *after = file_hash(image);
    ck_assert_str_eq(after, before);
}
END_TEST

START_TEST(open_elsewhere)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *device = attach(world, "dev.img");
    g_autofree char *specs = on_device(device, "vdb,snapshot=no");
    Writer *writer = writer_begin(world, device);
    g_autoptr(GError) error = NULL;
    gboolean taken = world_try_create(world, "web", "s1", specs, &error);
    writer_end(writer);
    ck_assert(!taken);
    expect_error(&error, EBUSY, "another process has '");
    world_create(world, "web", "s1", specs);
}
END_TEST

/* Something fails, also after the device was written: it is blank again, every byte of it. */
START_TEST(blank_again)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *device = attach(world, "dev.img");
    g_autofree char *second = attach(world, "dev2.img");
    g_autofree char *image = world_path(world, "dev.img");
    g_autofree char *before = file_hash(image);
    g_autofree char *specs =
        g_strdup_printf("vda,stype=block,file=%s vdb,stype=block,file=%s", device, second);
    guint failures = 0, n = 1;
    world_close(world);
    g_autoptr(GPtrArray) saved = world_save(world);
    for (gboolean reached = TRUE; reached; n++) {
        g_autoptr(GError) error = NULL;
        world_restore(world, saved);
        loops_refresh();
        world_open(world);
        trap_set(TRAP_FAIL, n, EIO);
        gboolean ok = world_try_create(world, "web", "s1", specs, &error);
        reached = trap_seen() >= n;
        trap_set(TRAP_OFF, 0, 0);
        failures += !ok;
        g_autofree char *now = file_hash(image);
        ck_assert_msg(ok || strcmp(now, before) == 0, "point %u: %s", n, error->message);
        world_reopen(world); /* a failure behind the commit is made good */
        world_assert_hash(world, NULL, "vda", 1, 1);
        world_assert_hash(world, NULL, "vdb", 2, 2);
        world_check_clean(world, "web");
        world_close(world);
    }
    ck_assert_uint_gt(failures, 15);
    world_open(world);
}
END_TEST

/* --- clearing --- */

static void sync_to_device(const char *device)
{
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(fsync(fd), 0);
    close(fd);
}

/* What format wrote goes, in whole or in part; anything else that is there by now stays. */
START_TEST(clear_only_ours)
{
    NEED_LOOPS();
    g_autofree char *path = PATH("dev.img");
    g_autofree char *device = loop_attach(path, DEVICE_SIZE);
    g_autofree char *blank = file_hash(path);
    g_autoptr(GError) error = NULL;
    Backend *backend = offline_backend_new(NULL);
    const OverlaySpec spec = {.path = device,
                              .format = FORMAT_QCOW2,
                              .size = MIB,
                              .backing_name = "/some/where",
                              .backing_format = FORMAT_RAW};
    static const char zeros[65536];
    for (guint i = 0; i < 6; i++) {
        ASSERT_OK(backend->ops->place_check(backend, &spec, NULL, &error), error);
        ASSERT_OK(backend->ops->place_format(backend, &spec, NULL, &error), error);
        sync_to_device(device);
        g_autofree char *whole = file_hash(path);
        ck_assert_str_ne(whole, blank);
        ck_assert(!backend->ops->place_check(backend, &spec, NULL, &error));
        expect_error(&error, EEXIST, "is not blank");
        if (i == 1)
            poke(device, 0, zeros, 65536); /* cut short before the header was written */
        if (i == 2)
            poke(device, 65536, zeros, 65536);
        if (i == 3)
            poke(device, 0, zeros, 512); /* torn */
        if (i == 4)
            poke(device, 300, "mkfs", 4); /* somebody has made something else of it */
        if (i == 5)
            poke(device, 900 * 1024, "data", 4);
        sync_to_device(device);
        g_autofree char *there = file_hash(path);
        ASSERT_OK(backend->ops->place_clear(backend, &spec, &error), error);
        ASSERT_OK(backend->ops->place_clear(backend, &spec, &error), error);
        sync_to_device(device);
        g_autofree char *now = file_hash(path);
        ck_assert_str_eq(now, i < 4 ? blank : there);
        for (guint at = 0; at < MIB; at += 65536)
            poke(device, at, zeros, 65536);
        sync_to_device(device);
    }
    loop_detach(device);
    ASSERT_OK(backend->ops->place_clear(backend, &spec, &error), error); /* gone: nothing to clear */
    backend->ops->free(backend);
}
END_TEST

/* The metadata of a huge disk are more than 1 MiB: all of their area must be blank. */
START_TEST(huge)
{
    NEED_LOOPS();
    g_autofree char *path = PATH("dev.img");
    g_autofree char *device = loop_attach(path, DEVICE_SIZE);
    g_autoptr(GError) error = NULL;
    Backend *backend = offline_backend_new(NULL);
    OverlaySpec spec = {.path = device,
                        .format = FORMAT_QCOW2,
                        .size = (guint64)64 << 40,
                        .backing_name = "/some/where",
                        .backing_format = FORMAT_RAW};
    poke(device, 2 * MIB - 1, "x", 1);
    ck_assert(!backend->ops->place_format(backend, &spec, NULL, &error));
    expect_error(&error, EEXIST, "first 2 MiB");
    poke(device, 2 * MIB - 1, "\0", 1);
    ASSERT_OK(backend->ops->place_format(backend, &spec, NULL, &error), error);
    g_autofree char *name = g_strdup_printf("json:{\"driver\":\"qcow2\",\"backing\":null,\"file\":"
                                            "{\"driver\":\"host_device\",\"filename\":\"%s\"}}",
                                            device);
    tool("qemu-img", "check", "-q", name, NULL);
    ASSERT_OK(backend->ops->place_clear(backend, &spec, &error), error);
    ASSERT_OK(backend->ops->place_check(backend, &spec, NULL, &error), error);
    backend->ops->free(backend);
}
END_TEST

/* --- names --- */

#define NAME_IN_DEV "/dev/domsnapfs-test"

static void remove_name(void)
{
    (void)unlink(NAME_IN_DEV);
    loops_teardown();
}

/*
 * The name in /dev stays the device's name. After a restart it leads to another number, and what had the number may be
 * somebody else's disk.
 */
START_TEST(name_outlives_number)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *image = world_image(world, "disk.img", 1);
    g_autofree char *over = world_path(world, "over");
    g_autofree char *specs = g_strdup_printf("vda,file=%s", over);
    g_autofree char *first = loop_attach(image, DEVICE_SIZE);
    ck_assert_int_eq(symlink(first, NAME_IN_DEV), 0);
    g_autofree char *link = world_path(world, "link"); /* of the user's own, to the name */
    ck_assert_int_eq(symlink(NAME_IN_DEV, link), 0);
    define_device(world, "qcow2", link);
    assert_layer(world, NULL, NAME_IN_DEV);
    world_create(world, "web", "in", NULL);
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s1", specs);
    world_close(world);

    loop_detach(first);
    g_autofree char *stranger = attach(world, "stranger.img"); /* most likely on the same number */
    g_autofree char *second = loop_attach(image, DEVICE_SIZE);
    ck_assert(unlink(NAME_IN_DEV) == 0 && symlink(second, NAME_IN_DEV) == 0);
    world_open(world);
    world_check_clean(world, "web");
    assert_layer(world, "s1", NAME_IN_DEV);
    world_assert_hash(world, "s1", "vda", 11, 1);
    assert_shown(world, "s1", second);
    world_revert(world, "web", "in");
    world_assert_hash(world, NULL, "vda", 1, 1);
    g_autofree char *bytes = world_path(world, "stranger.img");
    g_autofree char *untouched = file_hash(bytes);
    g_autofree char *empty = PATH("empty");
    int fd = open(empty, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, DEVICE_SIZE), 0);
    close(fd);
    g_autofree char *zeros = file_hash(empty);
    ck_assert_str_eq(untouched, zeros);

    /* a frozen device of another size is another device */
    world_close(world);
    loop_detach(second);
    ck_assert_int_eq(truncate(image, 2 * DEVICE_SIZE), 0);
    g_autofree char *third = loop_attach(image, 2 * DEVICE_SIZE);
    ck_assert(unlink(NAME_IN_DEV) == 0 && symlink(third, NAME_IN_DEV) == 0);
    world_open(world);
    world_assert_read_only(world, "web", "was changed from outside");
}
END_TEST

/* What lies below a device is named, or recorded, or not taken: in /dev is everything. */
START_TEST(backing_device)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *image = world_raw(world, "base.img", 5);
    g_autofree char *base = loop_attach(image, MIB);
    g_autofree char *over = attach(world, "over.img");
    (void)unlink(NAME_IN_DEV); /* an earlier test's */
    ck_assert_int_eq(symlink(base, NAME_IN_DEV), 0);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", NAME_IN_DEV, "-F", "raw", over, NULL);
    g_autofree char *silent = device_element("vda", "qcow2", over);
    g_autofree char *named =
        g_strdup_printf("    <disk type='block' device='disk'>\n      <driver name='qemu' type='qcow2'/>\n"
                        "      <source dev='%s'/>\n      <backingStore type='block'>\n"
                        "        <format type='raw'/>\n        <source dev='" NAME_IN_DEV "'/>\n"
                        "      </backingStore>\n      <target dev='vda' bus='virtio'/>\n    </disk>\n",
                        over);
    g_autofree char *without = domain_document("web", silent);
    g_autofree char *with = domain_document("web", named);
    world_assert_define_refused(world, without, EPERM, "name it in <backingStore>");
    world_assert_define_taken(world, with);
    world_assert_hash(world, NULL, "vda", 5, 5);
    world_create(world, "web", "in", NULL);
    world_write(world, "web", "vda", 6);
    world_reopen(world);
    world_revert(world, "web", "in");
    world_assert_hash(world, NULL, "vda", 5, 5);
    world_assert_define_taken(world, without); /* recorded by now */
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("devices");
    TCase *tcase = loops_case(suite, "devices");
    tcase_add_test(tcase, file_below);
    tcase_add_test(tcase, device_below);
    tcase_add_test(tcase, raw_device);
    tcase_add_test(tcase, prepared_device);
    tcase_add_test(tcase, only_devices);
    tcase_add_test(tcase, qcow2_device);
    tcase_add_loop_test(tcase, each_bad, 0, G_N_ELEMENTS(bad));
    tcase_add_test(tcase, open_elsewhere);
    tcase_add_test(tcase, blank_again);
    tcase_add_test(tcase, clear_only_ours);
    tcase_add_test(tcase, huge);
    TCase *names = tcase_create("names");
    tcase_add_unchecked_fixture(names, scratch_setup, remove_name);
    tcase_add_test(names, name_outlives_number);
    tcase_add_test(names, backing_device);
    suite_add_tcase(suite, names);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
