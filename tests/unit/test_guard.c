/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frozen layers: what guards them, and how layers are looked at. */
#include <sys/syscall.h>

#include "engine_world.h"
#include "runner.h"

/* --- frozen layers --- */

START_TEST(write_bits)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *b = world_path(world, "b.qcow2");
    ck_assert_int_eq(chmod(a, 0660), 0);
    world_create(world, "web", "s1", "vda,snapshot=external vdb,snapshot=internal");
    ck_assert_uint_eq(file_mode(a), 0440);
    ck_assert_uint_eq(file_mode(b), 0644);
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert_uint_eq(file_mode(active), 0660);
    world_reopen(world);
    world_check_clean(world, "web");
}
END_TEST

START_TEST(changed_from_outside)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *data = NULL;
    gsize len;
    ck_assert(g_file_get_contents(a, &data, &len, NULL));
    world_close(world);
    int fd = open(a, O_WRONLY | O_CLOEXEC); /* root may */
    ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)len - 1), 1);
    close(fd);
    world_open(world);
    world_assert_read_only(world, "web", "a.qcow2' was changed from outside");
    g_autofree char *names = world_names(world, "web");
    ck_assert_str_eq(names, "s1 s2 s3"); /* still to be looked at */
    world_assert_other_works(world);
    world_reopen(world);
    world_assert_read_only(world, "web", "was changed from outside");
}
END_TEST

/* While the daemon runs: what stands on the changed file is refused. */
START_TEST(changed_meanwhile)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    ck_assert_int_eq(utimensat(AT_FDCWD, a, NULL, 0), 0);
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EIO, "was changed from outside");
}
END_TEST

START_TEST(definition_at_a_frozen_layer)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *link = world_path(world, "hard link");
    g_autofree char *symbolic = world_path(world, "symlink");
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *between = world_layer(world, "web", "s2", "vda", NULL);
    ck_assert_int_eq(syscall(SYS_link, a, link), 0);
    ck_assert_int_eq(symlink("a.qcow2", symbolic), 0);
    const char *const paths[] = {a, between, link, symbolic};
    g_autofree char *before = world_digest(world, "web");
    for (gsize i = 0; i < 2 * G_N_ELEMENTS(paths); i++) {
        g_autofree char *disk = disk_element("vda", "qcow2", paths[i / 2], "", "");
        g_autofree char *xml = domain_document(i % 2 ? "new" : "web", disk);
        ck_assert_msg(!world_try_define(world, xml, &error), "'%s' was taken", paths[i / 2]);
        expect_error(&error, EBUSY, "is a frozen layer: ");
        ck_assert(!world_try_define(world, xml, &error));
        expect_error(&error, EBUSY, active); /* told the active one */
    }
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    /* to read only is fine */
    g_autofree char *disk = disk_element("vda", "qcow2", a, "", "<readonly/>");
    g_autofree char *xml = domain_document("reader", disk);
    ASSERT_OK(world_try_define(world, xml, &error), error);
}
END_TEST

/* --- looking at layers --- */

START_TEST(layers)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    const EngineOps *ops = world->engine->ops;
    g_autoptr(GPtrArray) now = ops->disks(world->engine, world_domain(world, "web"));
    g_autoptr(GPtrArray) then = ops->disks(world->engine, world_snapshot(world, "web", "s1"));
    const EngineDisk *active = now->pdata[0], *frozen = then->pdata[0];
    ck_assert_uint_ne(active->layer, frozen->layer);
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *overlay = world_layer(world, "web", NULL, "vda", NULL);
    const char *const paths[] = {overlay, a};
    for (guint i = 0; i < 2; i++) {
        struct stat st, by_fd;
        EngineStat is;
        EngineId layer = i ? frozen->layer : active->layer;
        ck_assert_int_eq(stat(paths[i], &st), 0);
        ck_assert(ops->stat_layer(world->engine, layer, &is));
        ck_assert_uint_eq(is.size, (guint64)st.st_size);
        ck_assert_uint_eq(is.blocks, (guint64)st.st_blocks);
        ck_assert_int_eq(is.mtime.tv_sec, st.st_mtim.tv_sec);
        ck_assert_int_eq(is.mtime.tv_nsec, st.st_mtim.tv_nsec);
        ck_assert_uint_eq(is.nlink, 1);
        int fd = ops->open_layer(world->engine, layer, &error);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(fstat(fd, &by_fd), 0);
        ck_assert_uint_eq(by_fd.st_ino, st.st_ino);
        ck_assert_int_lt(write(fd, "x", 1), 0);
        close(fd);
    }
    Writer *writer = writer_begin(world, overlay);
    int busy = ops->open_layer(world->engine, active->layer, &error);
    int fine = ops->open_layer(world->engine, frozen->layer, NULL);
    writer_end(writer);
    ck_assert_int_lt(busy, 0);
    ck_assert_int_ge(fine, 0);
    close(fine);
    expect_error(&error, EBUSY, "is open for writing in another process");

    g_autofree char *copy = world_image(world, "copy", 1);
    ck_assert_int_eq(rename(copy, a), 0); /* another file in its place */
    ck_assert_int_lt(ops->open_layer(world->engine, frozen->layer, &error), 0);
    expect_error(&error, EIO, "is not the file that was frozen");
    ck_assert_int_eq(unlink(overlay), 0);
    ck_assert_int_lt(ops->open_layer(world->engine, active->layer, &error), 0);
    expect_error(&error, ENOENT, NULL);
    EngineStat stat_of;
    ck_assert(!ops->stat_layer(world->engine, 12345, &stat_of));
    ck_assert(!ops->stat_layer(world->engine, world_domain(world, "web"), &stat_of));
    ck_assert_int_lt(ops->open_layer(world->engine, 12345, &error), 0);
    expect_error(&error, ENOENT, NULL);
}
END_TEST

START_TEST(names_of_a_layer)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    world_create(world, "web", "s2", "vda,snapshot=external"); /* b.s1 stays active */
    world_revert(world, "web", "s1");
    world_create(world, "web", "s3", "vdb,snapshot=no");
    const EngineOps *ops = world->engine->ops;
    g_autoptr(GPtrArray) disks = ops->disks(world->engine, world_snapshot(world, "web", "s1"));
    EngineStat stat_of;
    ck_assert(ops->stat_layer(world->engine, ((EngineDisk *)disks->pdata[0])->layer, &stat_of));
    ck_assert_uint_eq(stat_of.nlink, 1);
    EngineLook look;
    ck_assert(ops->look(world->engine, ((EngineDisk *)disks->pdata[0])->layer, &look));
    ck_assert_int_eq(look.kind, ENGINE_LAYER);
    ck_assert_uint_eq(look.domain, world_domain(world, "web"));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("guard");
    TCase *frozen = scratch_case(suite, "frozen layers");
    tcase_add_test(frozen, write_bits);
    tcase_add_test(frozen, changed_from_outside);
    tcase_add_test(frozen, changed_meanwhile);
    tcase_add_test(frozen, definition_at_a_frozen_layer);
    tcase_add_test(frozen, layers);
    tcase_add_test(frozen, names_of_a_layer);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
