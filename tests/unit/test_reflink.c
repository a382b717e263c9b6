/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a file system lets files share blocks, a merge goes the way that moves fewer bytes: a large top is copied for free. */
#include <glib/gstdio.h>
#include <sys/mount.h>

#include "engine_world.h"
#include "loops.h"
#include "runner.h"

#define XFS_MIN (320 * 1024 * 1024) /* mkfs.xfs wants no less */

static void teardown(void)
{
    g_autofree char *dir = g_build_filename(scratch, "xfs", NULL);
    (void)umount2(dir, MNT_DETACH);
    loops_teardown();
}

/* An XFS of our own below the scratch directory. Its path; caller frees. NULL: there is none here. */
static char *mount_xfs(void)
{
    g_autofree char *mkfs = g_find_program_in_path("mkfs.xfs");
    if (!mkfs || !loops_work())
        return NULL;
    char *dir = g_build_filename(scratch, "xfs", NULL);
    if (g_file_test(dir, G_FILE_TEST_IS_DIR))
        return dir; /* the first of the cases made it */
    g_autofree char *file = g_build_filename(scratch, "xfs.img", NULL);
    g_autofree char *device = loop_attach(file, XFS_MIN);
    tool("mkfs.xfs", "-q", "-m", "reflink=1", device, NULL);
    ck_assert_int_eq(g_mkdir(dir, 0700), 0);
    ck_assert_msg(mount(device, dir, "xfs", 0, NULL) == 0 || errno == ENODEV, "%s", g_strerror(errno));
    return dir;
}

/* The top is larger than the layer that is nobody's any more (_i 1: smaller). */
START_TEST(cheaper_way)
{
    g_autofree char *dir = mount_xfs();
    if (!dir && skip("no XFS here"))
        return;
    g_autoptr(World) world = world_new(g_build_filename(dir, _i ? "down" : "up", NULL));
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    world_create(world, "web", "s1", "vda,snapshot=external");
    g_autofree char *first = world_layer(world, "web", NULL, "vda", NULL);
    tool("qemu-io", "-f", "qcow2", "-c", _i ? "write -P 7 256K 512K" : "write -P 7 256K 64K", first, NULL);
    world_create(world, "web", "s2", "vda,snapshot=external");
    g_autofree char *top = world_layer(world, "web", NULL, "vda", NULL);
    tool("qemu-io", "-f", "qcow2", "-c", _i ? "write -P 8 512K 64K" : "write -P 8 300K 512K", top, NULL);
    g_autofree char *before = world_hash(world, "web", NULL, "vda");
    world_delete(world, "web", "s2");
    if (!file_copies_for_free(top) && skip("this file system shares no blocks"))
        return;
    spy_fail(_i ? CALL_COPY_UP : CALL_COMMIT, NULL, EIO); /* the other way would fail */
    world_merge(world, "web");
    spy_fail(0, NULL, 0);
    g_autofree char *log = world_log(world, "web");
    ck_assert_msg(!file_exists(first), "%s", log);
    g_autofree char *after = world_hash(world, "web", NULL, "vda");
    ck_assert_str_eq(after, before);
    world_assert_hash(world, "s1", "vda", 1, 1);
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("reflink");
    TCase *tcase = tcase_create("reflink");
    tcase_add_unchecked_fixture(tcase, scratch_setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, cheaper_way, 0, 2);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
