/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Overlays on NBD exports, served by real qemu-nbds. */
#include "engine_world.h"
#include "nbd.h"
#include "runner.h"

#define MIB (1024 * 1024)
#define EXPORT_SIZE (4 * MIB)

static NbdServer *serve(World *world, const char *file, gboolean tcp)
{
    g_autofree char *image = g_strdup_printf("%s-%s", world->dir, file); /* world_save is not to see it */
    g_autofree char *socket = g_strconcat(image, ".sock", NULL);
    return nbd_start(image, EXPORT_SIZE, tcp ? NULL : socket);
}

static char *disk_on(const char *target, const char *source)
{
    return g_strdup_printf("    <disk name='%s' snapshot='external' type='network'>\n"
                           "      <driver type='qcow2'/>\n      %s\n    </disk>\n",
                           target, source);
}

/* Create "web"'s snapshot @name: @disks are <disk> elements. */
static gboolean create(World *world, const char *name, const char *disks, gboolean reuse, GError **error)
{
    g_autofree char *xml = g_strdup_printf("<domainsnapshot>\n  <name>%s</name>\n  <disks>\n%s  </disks>\n"
                                           "</domainsnapshot>\n",
                                           name, disks);
    g_autoptr(CreateRequest) request = snapshot_parse_create(xml, strlen(xml), error);
    if (!request)
        return FALSE;
    request->reuse_external = reuse;
    return world_try_request(world, "web", request, error);
}

/* vda on the export, vdb not at all. */
static gboolean create_on(World *world, const char *name, const NbdServer *server, GError **error)
{
    g_autofree char *source = nbd_source(server);
    g_autofree char *disk = disk_on("vda", source);
    g_autofree char *disks = g_strconcat(disk, "    <disk name='vdb' snapshot='no'/>\n", NULL);
    return create(world, name, disks, FALSE, error);
}

static void must_create_on(World *world, const char *name, const NbdServer *server)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(create_on(world, name, server, &error), error);
}

/* What a guest would read of the export. */
static void assert_content(World *world, const NbdServer *server, int first, int second)
{
    g_autofree char *uri = nbd_uri(server);
    g_autofree char *raw = g_build_filename(world->dir, "content", NULL);
    tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", uri, raw, NULL);
    g_autofree char *is = file_hash(raw);
    g_autofree char *should = pattern_hash(first, second);
    ck_assert_str_eq(is, should);
    unlink(raw);
}

static void guest_writes(const NbdServer *server, int pattern)
{
    g_autofree char *uri = nbd_uri(server);
    write_pattern(uri, pattern, "0 64k");
}

static char *definition(World *world)
{
    return world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
}

static void assert_has(const char *xml, const char *text)
{
    ck_assert_msg(strstr(xml, text) != NULL, "no %s in:\n%s", text, xml);
}

/* Are the targets shown in active/ these? */
static void assert_active(World *world, const char *targets)
{
    g_autoptr(GPtrArray) disks = world->engine->ops->disks(world->engine, world_domain(world, "web"));
    g_autoptr(GString) shown = g_string_new(NULL);
    for (guint i = 0; i < disks->len; i++)
        g_string_append_printf(shown, "%s%s", i ? " " : "", ((EngineDisk *)disks->pdata[i])->target);
    ck_assert_str_eq(shown->str, targets);
}

static void make_hole(const NbdServer *server)
{
    ck_assert(truncate(server->image, 0) == 0 && truncate(server->image, EXPORT_SIZE) == 0);
}

START_TEST(made)
{
    g_autoptr(World) world = world_web(PATH(_i ? "tcp" : "unix"));
    g_autoptr(NbdServer) server = serve(world, "export", _i);
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *uri = nbd_uri(server);
    g_autofree char *source = nbd_source(server);
    must_create_on(world, "s1", server);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *xml = definition(world);
        g_autofree char *document =
            world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
        g_autofree char *tree = world_tree(world, "web");
        assert_has(xml, "<disk type='network' device='disk'>");
        assert_has(xml, source);
        assert_has(document, "<disk name='vda' snapshot='external' type='network'>");
        assert_has(document, source);
        assert_has(document, "a.qcow2'/>"); /* what was */
        ck_assert_msg(!strstr(tree, "missing"), "%s", tree);
        assert_active(world, "vdb");
        assert_content(world, server, 1, 1);
        ck_assert_uint_eq(file_mode(a), 0444);
        world_assert_hash(world, "s1", "vda", 1, 1);
        tool("qemu-img", "check", "-q", "-f", "qcow2", uri, NULL);
    }
    g_autofree char *info = tool_output("qemu-img", "info", "--output=json", "-f", "qcow2", uri, NULL);
    g_autofree char *backing = g_strdup_printf("\"backing-filename\": \"%s\"", a);
    assert_has(info, backing);
    guest_writes(server, 61);
    assert_content(world, server, 61, 1);
    world_assert_hash(world, "s1", "vda", 1, 1);

    /* a further snapshot of that disk cannot be; without it it can */
    world_assert_create_refused(world, "no", NULL, EOPNOTSUPP, "vda,snapshot=no");
    g_autoptr(CreateRequest) plain = world_request("no", NULL);
    plain->plain = TRUE;
    ck_assert(!world_try_request(world, "web", plain, &error));
    expect_error(&error, EOPNOTSUPP, "disk 'vda' is of type 'network'");
    world_create(world, "web", "s2", "vda,snapshot=no");
    /* the server is not needed for anything else */
    nbd_stop(server);
    g_autofree char *xml = definition(world);
    ASSERT_OK(world_try_define(world, xml, &error), error);
    world_write(world, "web", "vdb", 62);
    world_revert(world, "web", "s2");
    g_autofree char *same = definition(world);
    ck_assert_str_eq(same, xml);
    world_revert(world, "web", "s1");
    g_autofree char *next = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *expected = world_path(world, "a.s1");
    ck_assert_str_eq(next, expected);
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_reopen(world);
    world_revert(world, "web", "s2"); /* vda took no part: it stays as it is now */
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_delete(world, "web", "s1");
    world_delete(world, "web", "s2");
    world_check_clean(world, "web");
    nbd_serve(server, FALSE);
    assert_content(world, server, 61, 1);
    ASSERT_OK(world->engine->ops->undefine(world->engine, world_domain(world, "web"), FALSE, NULL, &error),
              error);
}
END_TEST

/* What lies below an export is never given back: nobody can tell whether the overlay there still needs it. */
START_TEST(never_thawed)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(NbdServer) server = serve(world, "export", FALSE);
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *b = world_path(world, "b.qcow2");
    must_create_on(world, "s1", server);
    guest_writes(server, 61);
    world_delete(world, "web", "s1");
    g_autofree char *vdb = disk_element("vdb", "qcow2", b, "", "");
    g_autofree char *without = domain_document("web", vdb);
    ASSERT_OK(world_try_define(world, without, &error), error);
    world_reopen(world);
    world_create(world, "web", "s2", NULL);
    ck_assert_uint_eq(file_mode(a), 0444);
    g_autofree char *vda = disk_element("vda", "qcow2", a, "", "");
    g_autofree char *with = domain_document("web", vda);
    ck_assert(!world_try_define(world, with, &error));
    expect_error(&error, EBUSY, "is a frozen layer");
    assert_content(world, server, 61, 1);
    world_check_clean(world, "web");
}
END_TEST

/* The definition written by hand, with the overlay still in it, knows it again. */
START_TEST(labels_and_cache)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(NbdServer) server = serve(world, "export", FALSE);
    g_autoptr(GError) error = NULL;
    g_autofree char *label = g_strdup_printf("<source protocol='nbd' name='exp'>\n"
                                             "        <host transport='unix' socket='%s'/>\n"
                                             "        <reconnect delay='10'/>\n"
                                             "        <seclabel model='dac' relabel='no'/>\n"
                                             "      </source>",
                                             server->socket);
    g_autofree char *disk = disk_on("vda", label);
    g_autofree char *disks = g_strconcat(disk, "    <disk name='vdb' snapshot='no'/>\n", NULL);
    ASSERT_OK(create(world, "s1", disks, FALSE, &error), error);
    g_autofree char *xml = definition(world);
    g_autofree char *document =
        world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    assert_has(xml, "        <reconnect delay='10'/>\n");
    assert_has(document, "        <reconnect delay='10'/>\n");
    ck_assert_ptr_null(strstr(document, "seclabel")); /* as libvirt: only of what is local */
}
END_TEST

/* An overlay that is there already, on an export. */
START_TEST(reused)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(NbdServer) server = serve(world, "export", TRUE);
    g_autoptr(GError) error = NULL;
    g_autofree char *uri = nbd_uri(server);
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *source = nbd_source(server);
    g_autofree char *disk = disk_on("vda", source);
    g_autofree char *disks = g_strconcat(disk, "    <disk name='vdb' snapshot='no'/>\n", NULL);
    ck_assert(!create(world, "s1", disks, TRUE, &error));
    expect_error(&error, EINVAL, "is not a qcow2 image");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", b, "-F", "qcow2", uri, "1M", NULL);
    ck_assert(!create(world, "s1", disks, TRUE, &error));
    expect_error(&error, EINVAL, "an overlay of this disk must have '");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", a, "-F", "qcow2", uri, "1M", NULL);
    guest_writes(server, 63);
    ASSERT_OK(create(world, "s1", disks, TRUE, &error), error);
    assert_content(world, server, 63, 1);
    world_reopen(world);
    world_assert_hash(world, "s1", "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

/* --- refused --- */

typedef struct {
    const char *name;
    const char *source;
    int code;
    const char *text;
} BadSource;

static const BadSource bad_sources[] = {
    {"rbd", "<source protocol='rbd' name='p/i'><host name='h'/></source>", EOPNOTSUPP,
     "an overlay by protocol 'rbd' is not supported: of network targets only nbd exports are"},
    {"gluster", "<source protocol='gluster' name='v/i'><host name='h'/></source>", EOPNOTSUPP, "'gluster'"},
    {"iscsi", "<source protocol='iscsi' name='iqn'><host name='h'/></source>", EOPNOTSUPP, "'iscsi'"},
    {"ssh", "<source protocol='ssh' name='/i'><host name='h'/></source>", EOPNOTSUPP, "'ssh'"},
    {"http", "<source protocol='http' name='i'><host name='h' port='80'/></source>", EOPNOTSUPP, "'http'"},
    {"none", "<source name='i'><host name='h' port='80'/></source>", EINVAL, "has no protocol="},
    {"no-host", "<source protocol='nbd' name='i'/>", EINVAL, "exactly one <host>"},
    {"two-hosts", "<source protocol='nbd' name='i'><host name='h'/><host name='i'/></source>", EINVAL,
     "exactly one <host>"},
    {"no-name", "<source protocol='nbd' name='i'><host port='1'/></source>", EINVAL, "has no name"},
    {"no-socket", "<source protocol='nbd' name='i'><host transport='unix'/></source>", EINVAL,
     "needs a socket="},
    {"relative", "<source protocol='nbd' name='i'><host transport='unix' socket='s'/></source>", EINVAL,
     "needs socket="},
    {"vsock", "<source protocol='nbd' name='i'><host transport='vsock' name='3'/></source>", EINVAL,
     "transport='vsock'"},
    {"port", "<source protocol='nbd' name='i'><host name='h' port='65536'/></source>", EINVAL, "is not a port"},
    {"tls", "<source protocol='nbd' tls='yes' name='i'><host name='h'/></source>", EOPNOTSUPP, "TLS"},
    {"slices",
     "<source protocol='nbd' name='i'><host name='h'/><slices><slice type='storage' offset='0' "
     "size='9'/></slices></source>",
     EOPNOTSUPP, "<slices>"},
    {"nobody", "<source protocol='nbd' name='i'><host transport='unix' socket='/nowhere/s'/></source>",
     ENOENT, "nbd+unix:///i?socket=/nowhere/s"},
    {"refused", "<source protocol='nbd' name='i'><host name='127.0.0.1' port='1'/></source>", ECONNREFUSED,
     "nbd://127.0.0.1:1/i"},
};

START_TEST(each_bad_source)
{
    const BadSource *bad = &bad_sources[_i];
    g_autoptr(World) world = world_web(PATH(bad->name));
    g_autoptr(GError) error = NULL;
    g_autofree char *disk = disk_on("vda", bad->source);
    g_autofree char *before = world_digest(world, "web");
    ck_assert_msg(!create(world, "s1", disk, FALSE, &error), "%s: was taken", bad->name);
    ck_assert_ptr_nonnull(strstr(error->message, "disk 'vda': "));
    expect_error(&error, bad->code, bad->text);
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    world_check_clean(world, "web");
}
END_TEST

/* A refused create leaves the export as it was. */
static void assert_refused(World *world, const NbdServer *server, const char *disks, int code,
                           const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = world_digest(world, "web");
    g_autofree char *bytes = file_hash(server->image);
    ck_assert_msg(!create(world, "s1", disks, FALSE, &error), "%s", disks);
    expect_error(&error, code, text);
    g_autofree char *after = world_digest(world, "web");
    g_autofree char *same = file_hash(server->image);
    ck_assert_str_eq(after, before);
    ck_assert_str_eq(same, bytes);
}

START_TEST(bad_exports)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(NbdServer) server = serve(world, "export", FALSE);
    g_autofree char *source = nbd_source(server);
    g_autofree char *disk = disk_on("vda", source);
    g_autofree char *qed =
        g_strdup_printf("<disk name='vda' type='network'><driver type='qed'/>%s</disk>", source);
    g_autofree char *other = g_strdup_printf(
        "<disk name='vda' type='network'><driver type='qcow2'/><source protocol='nbd' name='other'>"
        "<host transport='unix' socket='%s'/></source></disk>",
        server->socket);
    assert_refused(world, server, other, ENOENT, "/other?socket=");
    assert_refused(world, server, qed, EOPNOTSUPP, "only a qcow2 overlay can be made on '");
    poke(server->image, MIB - 1, "x", 1);
    assert_refused(world, server, disk, EEXIST, "is not blank: there is something in its first 1 MiB");
    make_hole(server);
    nbd_stop(server);
    nbd_serve(server, TRUE);
    assert_refused(world, server, disk, EROFS, "is exported read-only");
    nbd_stop(server);
    ck_assert_int_eq(truncate(server->image, 100000), 0);
    nbd_serve(server, FALSE);
    assert_refused(world, server, disk, ENOSPC, "not even an empty overlay fits");
}
END_TEST

/* One export for two disks: by one name, by two names, and as another domain's disk. */
START_TEST(taken_already)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(NbdServer) server = serve(world, "export", FALSE);
    g_autoptr(GError) error = NULL;
    g_autofree char *source = nbd_source(server);
    g_autofree char *link = g_strconcat(server->socket, ".link", NULL);
    ck_assert_int_eq(symlink(server->socket, link), 0);
    g_autofree char *linked = g_strdup_printf(
        "<source protocol='nbd' name='exp'><host transport='unix' socket='%s'/></source>", link);
    g_autofree char *vda = disk_on("vda", source);
    g_autofree char *vdb = disk_on("vdb", source);
    g_autofree char *vdb_linked = disk_on("vdb", linked);
    g_autofree char *twice = g_strconcat(vda, vdb, NULL);
    g_autofree char *by_link = g_strconcat(vda, vdb_linked, NULL);
    assert_refused(world, server, twice, EEXIST, "disk 'vdb': 'nbd+unix:///exp?socket=");
    assert_refused(world, server, by_link, EEXIST,
                   "disk 'vdb': 'nbd+unix:///exp?socket="); /* found while done */
    world_check_clean(world, "web");

    g_autofree char *network =
        g_strdup_printf("    <disk type='network' device='disk'>\n      <driver name='qemu' type='raw'/>\n"
                        "      %s\n      <target dev='vda' bus='virtio'/>\n    </disk>\n",
                        source);
    g_autofree char *xml = domain_document("other", network);
    ASSERT_OK(world_try_define(world, xml, &error), error);
    assert_refused(world, server, vda, EEXIST, "is an image of domain 'other' already");
    ck_assert(world->engine->ops->undefine(world->engine, world_domain(world, "other"), FALSE, NULL, &error));
    must_create_on(world, "s1", server);
    assert_content(world, server, 1, 1);
}
END_TEST

/* Something fails, also after the export was written: it is blank again, every byte of it. */
START_TEST(blank_again)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_autoptr(NbdServer) server = serve(world, "export", TRUE);
    g_autofree char *source = nbd_source(server);
    g_autofree char *disk = disk_on("vda", source);
    g_autofree char *blank = file_hash(server->image);
    guint failures = 0, n = 1;
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    world_close(world);
    g_autoptr(GPtrArray) saved = world_save(world);
    for (gboolean reached = TRUE; reached; n++) {
        g_autoptr(GError) error = NULL;
        world_restore(world, saved);
        make_hole(server);
        world_open(world);
        trap_set(TRAP_FAIL, n, EIO);
        gboolean ok = create(world, "s1", disk, FALSE, &error);
        reached = trap_seen() >= n;
        trap_set(TRAP_OFF, 0, 0);
        failures += !ok;
        g_autofree char *now = file_hash(server->image);
        ck_assert_msg(ok || strcmp(now, blank) == 0, "point %u: %s", n, error->message);
        world_reopen(world); /* a failure behind the commit is made good */
        if (ok)
            assert_content(world, server, 1, 1);
        world_check_clean(world, "web");
        world_close(world);
    }
    ck_assert_uint_gt(failures, 6);
    world_open(world);
}
END_TEST

/*
 * The process dies at each point; the next start brings the state before or after. The export, too; and where the
 * server is gone by then, the domain works all the same.
 */
START_TEST(killed)
{
    g_autoptr(World) world = world_web(PATH(_i ? "without-server" : "with-server"));
    g_autoptr(NbdServer) server = serve(world, "export", FALSE);
    g_autofree char *blank = file_hash(server->image);
    world_close(world);
    g_autoptr(GPtrArray) saved = world_save(world);
    guint n = 1;
    for (gboolean died = TRUE; died; n++) {
        pid_t pid = world_fork(world);
        if (pid == 0) {
            trap_set(TRAP_EXIT, n, 0);
            _exit(create_on(world, "s1", server, NULL) ? 0 : 1);
        }
        int status = 0;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        died = WIFEXITED(status) && WEXITSTATUS(status) == TRAP_EXIT_CODE;
        ck_assert(died || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        if (_i)
            nbd_stop(server);
        world_open(world);
        world_check_clean(world, "web");
        g_autofree char *names = world_names(world, "web");
        g_autofree char *xml = definition(world);
        gboolean after = strcmp(names, "s1") == 0;
        ck_assert_int_eq(strstr(xml, "type='network'") != NULL, after);
        world_assert_hash(world, after ? "s1" : NULL, "vda", 1, 1);
        if (_i)
            nbd_serve(server, FALSE);
        g_autofree char *bytes = file_hash(server->image);
        if (after)
            assert_content(world, server, 1, 1);
        else
            ck_assert_msg(_i || strcmp(bytes, blank) == 0, "point %u", n);
        world_close(world);
        world_restore(world, saved);
        make_hole(server);
        nbd_stop(server);
        nbd_serve(server, FALSE);
    }
    printf("# killed at each of %u points\n", n - 2);
    ck_assert_uint_gt(n, 10);
}
END_TEST

/* A server that takes connections and says nothing: given up, and cancelled at once. */
static gpointer cancel_soon(gpointer cancel)
{
    g_usleep(G_USEC_PER_SEC / 2);
    g_cancellable_cancel(cancel);
    return NULL;
}

START_TEST(silent_server)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *path = g_build_filename(world->dir, "silent", NULL);
    g_autofree char *source = g_strdup_printf(
        "<source protocol='nbd' name='exp'><host transport='unix' socket='%s'/></source>", path);
    g_autofree char *disk = disk_on("vda", source);
    g_autofree char *xml = g_strdup_printf("<domainsnapshot><disks>%s</disks></domainsnapshot>", disk);
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = snapshot_parse_create(xml, strlen(xml), &error);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 5) == 0);
    GThread *thread = g_thread_new("cancel", cancel_soon, cancel);
    ck_assert(!world->engine->ops->create(world->engine, world_domain(world, "web"), request, cancel, NULL,
                                          &error));
    expect_error(&error, EINTR, "cancelled");
    g_thread_join(thread);
    close(fd);
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("network");
    TCase *tcase = scratch_case(suite, "network");
    tcase_add_loop_test(tcase, made, 0, 2);
    tcase_add_test(tcase, never_thawed);
    tcase_add_test(tcase, labels_and_cache);
    tcase_add_test(tcase, reused);
    tcase_add_loop_test(tcase, each_bad_source, 0, G_N_ELEMENTS(bad_sources));
    tcase_add_test(tcase, bad_exports);
    tcase_add_test(tcase, taken_already);
    tcase_add_test(tcase, blank_again);
    tcase_add_loop_test(tcase, killed, 0, 2);
    tcase_add_test(tcase, silent_server);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
