/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a kill, or somebody at the same file, has once done behind the engine's back: each was found by the storm. */
#include <sys/stat.h>

#include "engine_world.h"
#include "runner.h"
#include "step.h"

/* The active layer of "web" stands on two that are nobody's any more, the first image and one of ours. */
static World *world_to_merge(char *dir)
{
    World *world = world_new(dir);
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    world_create(world, "web", "s1", "vda,snapshot=external");
    world_write(world, "web", "vda", 11);
    world_delete(world, "web", "s1");
    return world;
}

/* A guest that had opened its image, and not asked for locks yet, when a merge took the image's name away. */
START_TEST(opened_before_its_name_went)
{
    g_autoptr(World) world = world_to_merge(PATH("world"));
    g_autofree char *top = world_layer(world, "web", NULL, "vda", NULL);
    int fd = open(top, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    world_merge(world, "web");
    ck_assert_int_lt(access(top, F_OK), 0);
    g_autofree char *late = g_strdup_printf("/proc/%d/fd/%d", (int)getpid(), fd);
    char *write[] = {(char *)"qemu-io",
                     (char *)"-f",
                     (char *)"qcow2",
                     (char *)"-c",
                     (char *)"write -P 9 0 64k",
                     late,
                     NULL};
    ck_assert_int_ne(run_argv(write, NULL), 0);
    close(fd);
    world_assert_hash(world, NULL, "vda", 11, 1);
}
END_TEST

/* Make "web"'s first image one that a merge has begun to write, and fail there. Its path; caller frees. */
static char *begin_to_merge(World *world)
{
    g_autoptr(GHashTable) told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    spy_fail(CALL_COMMIT, NULL, EIO);
    world_merge(world, "web");
    spy_fail(0, NULL, 0);
    g_autofree char *top = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert(g_str_has_suffix(top, "a.s1"));
    return world_path(world, "a.qcow2");
}

/* It has grown since it was frozen: who reads it through the mount must see all of it. */
START_TEST(grown_by_a_merge_cut_short)
{
    g_autoptr(World) world = world_to_merge(PATH("world"));
    g_autofree char *path = begin_to_merge(world);
    EngineId layer = world->engine->ops->chain_file(world->engine, world_domain(world, "web"), "a.qcow2");
    EngineStat before, after;
    struct stat st;
    ck_assert(layer != 0 && world->engine->ops->stat_layer(world->engine, layer, &before));
    write_pattern(path, 11, "0 64k");
    write_pattern(path, 1, "900k 64k");
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_gt(st.st_size, (off_t)before.size);
    ck_assert(world->engine->ops->stat_layer(world->engine, layer, &after));
    ck_assert_uint_eq(after.size, (guint64)st.st_size);
}
END_TEST

/* No state is made to stand on what somebody still writes data into that is only the active layer's. */
START_TEST(still_written_by_a_merge)
{
    g_autoptr(World) world = world_to_merge(PATH("world"));
    g_autofree char *path = begin_to_merge(world);
    g_autoptr(GError) error = NULL;
    Writer *writer = writer_begin(world, path);
    ck_assert(!world_try_create(world, "web", "s2", "vda,snapshot=internal", &error));
    expect_error(&error, EBUSY, "layers are still being joined into");
    writer_end(writer);
    world_create(world, "web", "s2", "vda,snapshot=internal");
    world_merge(world, "web");
    world_assert_hash(world, "s2", "vda", 11, 1);
    world_check_clean(world, "web");
}
END_TEST

/* As if killed when the tag was gone and the "copied" flags were not there yet (facts/qemu.md A4). */
static const char cut_off[] = "#!/bin/sh\n"
                              "PATH=${PATH#*:}\n"
                              "qemu-img \"$@\"; status=$?\n"
                              "[ \"$1$status\" = snapshot0 ] || exit $status\n"
                              "for image; do :; done\n"
                              "python3 - \"$image\" <<'EOF'\n"
                              "import sys\n"
                              "f = open(sys.argv[1], 'r+b')\n"
                              "f.seek(40)\n"
                              "l1 = int.from_bytes(f.read(8), 'big')\n"
                              "f.seek(l1)\n"
                              "entry = f.read(1)[0]\n"
                              "assert entry & 0x80\n"
                              "f.seek(l1)\n"
                              "f.write(bytes([entry & 0x7f]))\n"
                              "EOF\n"
                              "kill -9 $$\n";

/* Nobody looks at the image again once the tag is not in it. */
START_TEST(deleting_a_tag_cut_off)
{
    g_autofree char *image = PATH("image.qcow2");
    g_autofree char *program = PATH("qemu-img");
    g_autoptr(GError) error = NULL;
    tool("qemu-img", "create", "-q", "-f", "qcow2", image, "1M", NULL);
    write_pattern(image, 3, "0 300k");
    tool("qemu-img", "snapshot", "-c", "s1", image, NULL);
    ck_assert(g_file_set_contents(program, cut_off, -1, NULL));
    ck_assert_int_eq(chmod(program, 0755), 0);
    Backend *cutting = offline_backend_new(program);
    Step *step = step_new(STEP_DROP_TAG, 0, "vda", image);
    step->tag = g_strdup("s1");
    ck_assert(!step_do(step, cutting, NULL, &error));
    g_autofree char *tags = image_tags(image);
    ck_assert_str_eq(tags, "");
    tool("qemu-img", "check", "-q", image, NULL);
    ASSERT_OK(step_do(step, cutting, NULL, &error), error);
    step_free(step);
    cutting->ops->free(cutting);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("behind");
    TCase *tcase = scratch_case(suite, "behind");
    tcase_add_test(tcase, opened_before_its_name_went);
    tcase_add_test(tcase, grown_by_a_merge_cut_short);
    tcase_add_test(tcase, still_written_by_a_merge);
    tcase_add_test(tcase, deleting_a_tag_cut_off);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
