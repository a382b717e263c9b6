/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Merges and what images there are: templates, clones, raw ones, devices, exports, qed; sizes, clusters, long runs. */
#include <sys/sysmacros.h>

#include "loops.h"
#include "nbd.h"
#include "runner.h"
#include "story.h"

#define MIB (1024 * 1024)

/* Who a file is and what is in it: the same text as long as nobody wrote it. */
static char *untouched(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    g_autofree char *hash = file_hash(path);
    return g_strdup_printf("%lu %ld.%09ld %s", (unsigned long)st.st_ino, (long)st.st_mtim.tv_sec,
                           (long)st.st_mtim.tv_nsec, hash);
}

static void assert_untouched(const char *path, const char *before)
{
    g_autofree char *now = untouched(path);
    ck_assert_str_eq(now, before);
}

static void overlay(World *world, const char *file, const char *below, const char *options)
{
    g_autofree char *path = world_path(world, file);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", below, "-F", "qcow2", path, NULL);
}

static void assert_log(World *world, const char *text)
{
    g_autofree char *log = world_log(world, "web");
    ck_assert_msg(strstr(log, text) != NULL, "no '%s' in:\n%s", text, log);
}

static guint count_in_log(World *world, const char *text)
{
    g_autofree char *log = world_log(world, "web");
    guint n = 0;
    for (const char *at = strstr(log, text); at; at = strstr(at + 1, text))
        n++;
    return n;
}

/* --- whose images they are --- */

/* Two domains whose images stand on one template: merges of both end above it. */
START_TEST(shared_template)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *template = world_image(world, "template.qcow2", 1);
    g_autofree char *before = untouched(template);
    overlay(world, "a.qcow2", "template.qcow2", "cluster_size=64k");
    overlay(world, "c.qcow2", "template.qcow2", "cluster_size=64k");
    world_define(world, "web", "a.qcow2", NULL);
    world_define(world, "other", "c.qcow2", NULL);
    world_create(world, "other", "s1", "vda,snapshot=external");
    world_write(world, "other", "vda", 7);
    world_delete(world, "other", "s1");
    g_autoptr(Story) story = story_new(world);
    story_tell(story,
               "external s1; write vda 11; external s2; write vda 12; delete s1; delete s2; merge; reopen;"
               "external s3; revert s3; delete s3; merge");
    world_merge(world, "other");
    g_autofree char *theirs = world_hash(world, "other", NULL, "vda");
    g_autofree char *expected = pattern_hash(7, 1);
    ck_assert_str_eq(theirs, expected);
    assert_untouched(template, before);
    story_tell(story, "files a.qcow2 c.qcow2 template.qcow2");
}
END_TEST

/* What is one domain's first image is another one's template: written when that is gone, and what stood on it. */
START_TEST(first_image_is_a_template)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_image(world, "a.qcow2", 1);
    g_autofree char *clone = world_path(world, "clone.qcow2");
    world_define(world, "web", "a.qcow2", NULL);
    g_autoptr(Story) story = story_new(world);
    story_tell(story, "external s1; write vda 11");
    overlay(world, "clone.qcow2", "a.qcow2", "cluster_size=64k");
    world_define(world, "other", "clone.qcow2", NULL);
    g_autofree char *before = untouched(a);
    story_tell(story, "delete s1; merge; files a.qcow2 a.s1 clone.qcow2");
    assert_log(world, "a.qcow2', too");
    ASSERT_OK(world->engine->ops->undefine(world->engine, world_domain(world, "other"), FALSE, NULL, &error),
              error);
    story_tell(story, "reopen; merge; files a.qcow2 a.s1 clone.qcow2");
    assert_log(world, "an image that this domain does not know stands on '");
    assert_untouched(a, before);
    g_autofree char *theirs = content_hash(clone, "qcow2", NULL);
    g_autofree char *expected = pattern_hash(1, 1);
    ck_assert_str_eq(theirs, expected);
    unlink(clone);
    story_tell(story, "reopen; merge; files a.qcow2");
}
END_TEST

/* Somebody's own overlay on a frozen layer in the middle, then on the top. */
START_TEST(linked_clone)
{
    static const char *const below[] = {"a.s1", "a.s2"};
    g_autoptr(World) world = world_new(PATH(below[_i]));
    g_free(world_image(world, "a.qcow2", 1));
    g_autofree char *clone = world_path(world, "clone.qcow2");
    world_define(world, "web", "a.qcow2", NULL);
    g_autoptr(Story) story = story_new(world);
    story_tell(story, "external s1; write vda 11; external s2; write vda 12; external s3; write vda 13");
    overlay(world, "clone.qcow2", below[_i], "cluster_size=64k");
    story_tell(story, "delete s2; merge; reopen; merge; delete s1; merge");
    g_autofree char *theirs = content_hash(clone, "qcow2", NULL);
    g_autofree char *expected = pattern_hash(_i == 0 ? 11 : 12, 1);
    ck_assert_str_eq(theirs, expected);
    assert_log(world, "not merged: ");
    assert_log(world, "an image that this domain does not know stands on '");
    unlink(clone);
    story_tell(story, "reopen; merge; files a.qcow2 a.s3; revert s3");
}
END_TEST

/* --- other formats --- */

START_TEST(raw_base)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autofree char *raw = world_raw(world, "a.img", 5);
    g_autofree char *xml = one_disk_document(world, "web", "raw", "a.img", "");
    world_assert_define_taken(world, xml);
    g_autoptr(Story) story = story_new(world);
    story_tell(story,
               "external s1; write vda 11; delete s1; merge; files a.img; write vda 12; reopen; external s1;"
               "write vda 13; external s2; write vda 14; delete s1; merge; revert s2; delete s2; merge;"
               "files a.img");
    ck_assert_str_eq(image_format(raw), "raw");
    ck_assert_uint_eq(file_mode(raw), 0644);
}
END_TEST

START_TEST(qed)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    g_autoptr(Story) story = story_new(world);
    story_tell(story,
               "create s1 vda,snapshot=external,driver=qed; write vda 11; external s2; write vda 12;"
               "create s3 vda,snapshot=external,driver=qed; write vda 13; external s4; write vda 14;"
               "delete s2; merge; files a.qcow2 a.s2 a.s3 a.s4; reopen; revert s3; undo; delete s3; merge;"
               "delete s1; merge; reopen; revert s4; delete s4; merge; files a.qcow2");
}
END_TEST

/* What the guest writes is qed, what goes below it is qcow2, and the other way round: the definition follows. */
START_TEST(qed_active)
{
    static const char *const modes[][2] = {{"qcow2", "qed"}, {"qed", "qcow2"}, {"qed", "qed"}};
    g_autoptr(World) world = world_new(PATH(_i == 0 ? "1" : _i == 1 ? "2" : "3"));
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    g_autoptr(Story) story = story_new(world);
    g_autofree char *steps = g_strdup_printf(
        "create s1 vda,snapshot=external,driver=%s; write vda 11; create s2 vda,snapshot=external,driver=%s;"
        "write vda 12; delete s2; merge; files a.qcow2 a.s2; reopen; write vda 13; external s3; write vda 14;"
        "external s4; write vda 15; delete s3; merge; files a.qcow2 a.s3 a.s4; revert s1; undo; delete s1; "
        "delete s4;"
        "merge; files a.qcow2",
        modes[_i][0], modes[_i][1]);
    story_tell(story, steps);
}
END_TEST

START_TEST(clusters)
{
    static const char *const options[] = {"cluster_size=2M", "cluster_size=64k,extended_l2=on",
                                          "cluster_size=512", "cluster_size=64k,compat=0.10"};
    g_autofree char *dir = g_strdup_printf("%d", _i);
    g_autoptr(World) world = world_new(PATH(dir));
    g_autofree char *a = world_path(world, "a.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", options[_i], a, "5M", NULL);
    world_define(world, "web", "a.qcow2", NULL);
    g_autoptr(Story) story = story_new(world);
    for (int i = 0; i < 4; i++) {
        g_autofree char *name = g_strdup_printf("external s%d", i);
        g_autofree char *where = g_strdup_printf("%dk %dk", 3 + i * 61, 130 - i * 9);
        story_tell(story, name);
        g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
        write_pattern(active, 40 + i, where);
        tool("qemu-io", "-f", "qcow2", "-c", "write -z 100k 9k", "-c", "discard 0 64k", active, NULL);
        story_learn(story, "vda");
    }
    story_tell(story,
               "delete s2; merge; revert s1; undo; delete s0; delete s3; merge; revert s1; delete s1; merge;"
               "files a.qcow2");
}
END_TEST

/* --- sizes --- */

static void resize(World *world, Story *story, const char *size, const char *where)
{
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    tool("qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", active, size, NULL);
    if (where)
        write_pattern(active, 99, where);
    story_learn(story, "vda");
}

/* The sizes of four layers, from the first image up; what is between the last and the first goes. */
START_TEST(sizes)
{
    static const char *const cases[][4] = {{"1M", "2M", "3M", "4M"}, {"1M", "2M", "2M", "1M"},
                                           {"3M", "1M", "2M", "3M"}, {"2M", "1M", "1M", "2M"},
                                           {"4M", "3M", "2M", "1M"}, {"1M", "3M", "1M", "3M"},
                                           {"2M", "2M", "1M", "2M"}};
    static const char *const deleted[] = {"s2", "s1", "s0", "s1 s2", "s0 s1 s2"};
    g_autofree char *dir = g_strdup_printf("%d", _i);
    g_autoptr(World) world = world_new(PATH(dir));
    const char *const *size = cases[_i / 5];
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    g_autoptr(Story) story = story_new(world);
    for (int i = 0; i < 4; i++) {
        g_autofree char *name = g_strdup_printf("external s%d", i);
        g_autofree char *where = g_strdup_printf("%dk 64k", (size[i][0] - '0') * 1024 - 64 * (i + 1));
        resize(world, story, size[i], where);
        if (i < 3)
            story_tell(story, name);
    }
    g_auto(GStrv) names = g_strsplit(deleted[_i % 5], " ", -1);
    for (guint i = 0; names[i]; i++) {
        g_autofree char *step = g_strdup_printf("delete %s", names[i]);
        story_tell(story, step);
    }
    story_tell(story, "merge; reopen; merge");
}
END_TEST

/* --- runs --- */

START_TEST(one_run)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    for (int i = 0; i <= 40; i++) {
        g_autofree char *name = g_strdup_printf("s%d", i);
        world_create(world, "web", name, "vda,snapshot=external");
        if (i % 10 == 5)
            world_write(world, "web", "vda", i + 1);
    }
    ASSERT_OK(world_try_delete(world, "web", "s0", DELETE_CHILDREN_ONLY, &error), error);
    g_autoptr(Story) story = story_new(world);
    g_autofree char *then = pattern_hash(1, 1);
    g_hash_table_insert(story->states, g_strdup("s0 vda"), g_strdup(then));
    story_tell(story, "merge; files a.qcow2 a.s40; revert s0; undo");
    ck_assert_uint_eq(count_in_log(world, "merge: "), 1);
}
END_TEST

/* The tags in the layer that a run is written into are states still. */
START_TEST(tags_below)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    g_autoptr(Story) story = story_new(world);
    story_tell(
        story,
        "external s0; write vda 10; internal t1; write vda 11; internal t2; write vda 12; external s3;"
        "write vda 13; external s4; write vda 14; external s5; write vda 15; delete s3; delete s4; merge;"
        "files a.qcow2 a.s4 a.s5");
    g_autofree char *layer = world_layer(world, "web", "t1", "vda", NULL);
    g_autofree char *joined = world_path(world, "a.s4");
    ck_assert_str_eq(layer, joined);
    story_tell(story,
               "revert t2; undo; delete t1; merge; reopen; delete s5; merge; revert t2; delete s0; merge");
}
END_TEST

/* --- devices --- */

#define NEED_LOOPS()                                                                                         \
    do {                                                                                                     \
        if (!loops_work() && skip("no loop devices here"))                                                   \
            return;                                                                                          \
    } while (0)

static World *world_on_device(char *dir, const char *device)
{
    World *world = world_new(dir);
    g_autofree char *disk = g_strdup_printf("    <disk type='block' device='disk'>\n"
                                            "      <driver name='qemu' type='raw'/>\n"
                                            "      <source dev='%s'/>\n"
                                            "      <target dev='vda' bus='virtio'/>\n"
                                            "    </disk>\n",
                                            device);
    g_autofree char *xml = domain_document("web", disk);
    world_assert_define_taken(world, xml);
    return world;
}

/* A raw device is the first image; when no state needs it any more, what stands on it is written into it. */
START_TEST(raw_device)
{
    NEED_LOOPS();
    g_autofree char *file = PATH("device");
    g_autofree char *device = loop_attach(file, MIB);
    g_autoptr(World) world = world_on_device(PATH("world"), device);
    g_autoptr(Story) story = story_new(world);
    g_autofree char *first = g_strdup_printf(
        "create s1 vda,file=%s/over.s1; write vda 11; external s2; write vda 12", world->images);
    story_tell(story, first);
    story_tell(story,
               "delete s1; merge; files over.s2; reopen; revert s2; undo; delete s2; merge; files; reopen");
    g_autofree char *layer = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert_str_eq(layer, device);
    struct stat st;
    ck_assert(stat(device, &st) == 0 && S_ISBLK(st.st_mode));
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    ck_assert_msg(strstr(xml, "<disk type='block'") && strstr(xml, "type='raw'"), "%s", xml);
}
END_TEST

/* The guest's disk has grown since: the device has no room for that. */
START_TEST(device_too_small)
{
    NEED_LOOPS();
    g_autofree char *file = PATH("device");
    g_autofree char *device = loop_attach(file, MIB);
    g_autoptr(World) world = world_on_device(PATH("world"), device);
    g_autoptr(Story) story = story_new(world);
    g_autofree char *first = g_strdup_printf("create s1 vda,file=%s/over.s1", world->images);
    story_tell(story, first);
    resize(world, story, "2M", "1536k 64k");
    g_autofree char *before = file_hash(device);
    story_tell(story, "delete s1; merge; files over.s1; reopen");
    g_autofree char *after = file_hash(device);
    ck_assert_str_eq(after, before);
    assert_log(world, "not merged: ");
    assert_log(world, "is too small");
}
END_TEST

/* An overlay placed on a device is never ours to replace, nor to be filled up: the chain stays as it is. */
START_TEST(overlay_on_device)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_image(world, "a.qcow2", 1));
    g_autofree char *path = g_strconcat(world->dir, "-device", NULL);
    g_autofree char *device = loop_attach(path, 8 * MIB);
    world_define(world, "web", "a.qcow2", NULL);
    g_autoptr(Story) story = story_new(world);
    g_autofree char *first = g_strdup_printf("create s1 vda,stype=block,file=%s; write vda 11;"
                                             "create s2 vda,file=%s/a.over; write vda 12",
                                             device, world->images);
    story_tell(story, first);
    g_autofree char *before = file_hash(device);
    story_tell(story, "delete s2; merge; reopen; delete s1; merge; files a.over a.qcow2");
    g_autofree char *after = file_hash(device);
    struct stat st;
    ck_assert(stat(device, &st) == 0 && S_ISBLK(st.st_mode));
    ck_assert_str_eq(after, before);
}
END_TEST

/* The overlay on the device is the active one, and its only snapshot goes. */
START_TEST(active_on_device)
{
    NEED_LOOPS();
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_image(world, "a.qcow2", 1));
    g_autofree char *path = g_strconcat(world->dir, "-device", NULL);
    g_autofree char *device = loop_attach(path, 8 * MIB);
    world_define(world, "web", "a.qcow2", NULL);
    g_autoptr(Story) story = story_new(world);
    g_autofree char *first = g_strdup_printf("create s1 vda,stype=block,file=%s; write vda 11", device);
    story_tell(story, first);
    story_tell(story,
               "delete s1; merge; reopen; files a.qcow2; write vda 12; internal s3; write vda 13; revert s3;"
               "delete s3; merge");
    struct stat st;
    ck_assert(stat(device, &st) == 0 && S_ISBLK(st.st_mode));
}
END_TEST

/* --- exports --- */

/* An overlay on an NBD export is not ours to replace: neither it nor what is below is written. */
START_TEST(on_export)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *image = PATH("export");
    g_autofree char *socket = PATH("socket");
    g_autoptr(NbdServer) server = nbd_start(image, 4 * MIB, socket);
    g_autofree char *a = world_image(world, "a.qcow2", 1);
    world_define(world, "web", "a.qcow2", NULL);
    g_autofree char *source = nbd_source(server);
    g_autofree char *xml = g_strdup_printf(
        "<domainsnapshot><name>s1</name><disks><disk name='vda' snapshot='external' type='network'>"
        "<driver type='qcow2'/>%s</disk></disks></domainsnapshot>",
        source);
    g_autoptr(CreateRequest) request = snapshot_parse_create(xml, strlen(xml), &error);
    ASSERT_OK(request && world_try_request(world, "web", request, &error), error);
    g_autofree char *before = file_hash(image);
    g_autofree char *below = untouched(a);
    world_delete(world, "web", "s1");
    world_merge(world, "web");
    world_reopen(world);
    world_merge(world, "web");
    g_autofree char *files = world_files(world);
    ck_assert_str_eq(files, "a.qcow2");
    g_autofree char *after = file_hash(image);
    ck_assert_str_eq(after, before);
    assert_untouched(a, below);
    /* nothing of ours can stand on it, so there is nothing to be merged above it */
    ck_assert(!world_try_create(world, "web", "s2", "vda,snapshot=external", &error));
    expect_error(&error, EOPNOTSUPP, "is of type 'network'");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("merge images");
    TCase *tcase = scratch_case(suite, "images");
    tcase_add_test(tcase, shared_template);
    tcase_add_test(tcase, first_image_is_a_template);
    tcase_add_loop_test(tcase, linked_clone, 0, 2);
    tcase_add_test(tcase, raw_base);
    tcase_add_test(tcase, qed);
    tcase_add_loop_test(tcase, qed_active, 0, 3);
    tcase_add_loop_test(tcase, clusters, 0, 4);
    tcase_add_loop_test(tcase, sizes, 0, 35);
    tcase_add_test(tcase, one_run);
    tcase_add_test(tcase, tags_below);
    tcase_add_test(tcase, on_export);
    TCase *loops = loops_case(suite, "devices");
    tcase_add_test(loops, raw_device);
    tcase_add_test(loops, device_too_small);
    tcase_add_test(loops, overlay_on_device);
    tcase_add_test(loops, active_on_device);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
