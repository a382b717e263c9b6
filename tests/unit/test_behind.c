/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a kill, or somebody at the same file, has once done behind the engine's back: each was found by the storm. */
#include <sys/stat.h>
#include <sys/wait.h>

#include "engine_world.h"
#include "merge_job.h"
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

/* A merge that fails when it has begun to write. */
static void cut_merge_short(World *world)
{
    spy_fail(CALL_COMMIT, NULL, EIO);
    world_merge(world, "web");
    spy_fail(0, NULL, 0);
}

/* Make "web"'s first image one that a merge has begun to write, and fail there. Its path; caller frees. */
static char *begin_to_merge(World *world)
{
    cut_merge_short(world);
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

/* --- somebody else's images --- */

/* A clone of the first image, wherever it lies and whoever understands it, keeps that from being written. */
static const struct {
    const char *dir, *format;
} clones[] = {{"img", "qcow2"}, {"elsewhere", "qcow2"}, {"img", "qcow"}, {"elsewhere", "qed"}};

START_TEST(cloned)
{
    g_autofree char *number = g_strdup_printf("%d", _i);
    g_autoptr(World) world = world_new(PATH(number));
    g_autofree char *base = world_image(world, "a.qcow2", 1);
    g_autofree char *dir = g_build_filename(world->dir, clones[_i].dir, NULL);
    g_autofree char *clone = g_build_filename(dir, "clone", NULL);
    g_autofree char *spec = g_strdup_printf("vda,file=%s/a.s1", dir);
    ck_assert_int_eq(g_mkdir_with_parents(dir, 0755), 0);
    world_define(world, "web", "a.qcow2", NULL);
    world_create(world, "web", "s1", spec);
    world_write(world, "web", "vda", 11);
    tool("qemu-img", "create", "-q", "-f", clones[_i].format, "-b", base, "-F", "qcow2", clone, NULL);
    g_autofree char *before = content_hash(clone, clones[_i].format, NULL);
    world_delete(world, "web", "s1");
    world_merge(world, "web");
    g_autofree char *after = content_hash(clone, clones[_i].format, NULL);
    ck_assert_str_eq(after, before);
    world_assert_hash(world, NULL, "vda", 11, 1);
    ck_assert_int_eq(unlink(clone), 0);
    world_merge(world, "web");
    ck_assert_int_lt(access(spec + strlen("vda,file="), F_OK), 0);
    world_assert_hash(world, NULL, "vda", 11, 1);
}
END_TEST

/* What the user has taken with qemu-img goes with no file. */
START_TEST(tagged_by_hand)
{
    g_autoptr(World) world = world_to_merge(PATH("world"));
    g_autofree char *top = world_layer(world, "web", NULL, "vda", NULL);
    tool("qemu-img", "snapshot", "-c", "mine", top, NULL);
    world_merge(world, "web");
    g_autofree char *tags = image_tags(top);
    ck_assert_str_eq(tags, "mine");
    g_autofree char *log = world_log(world, "web");
    ck_assert(strstr(log, "has the internal snapshot 'mine', which no snapshot names") != NULL);
    tool("qemu-img", "snapshot", "-d", "mine", top, NULL);
    world_merge(world, "web");
    ck_assert_int_lt(access(top, F_OK), 0);
    world_assert_hash(world, NULL, "vda", 11, 1);
}
END_TEST

/* --- states that are gone --- */

/* All that is written over, or seen through what is, can be named no more. */
START_TEST(named_again_too_late)
{
    g_autoptr(World) world = world_to_merge(PATH("world"));
    world_create(world, "web", "s2", "vda,snapshot=external");
    world_write(world, "web", "vda", 12);
    g_autofree char *document =
        world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s2"));
    world_delete(world, "web", "s2");
    cut_merge_short(world);
    g_autoptr(GError) error = NULL;
    ck_assert(!world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, document,
                                            strlen(document), 0, NULL, &error));
    expect_error(&error, EIO, "does not hold that state any more");
    world_merge(world, "web");
    world_assert_hash(world, NULL, "vda", 12, 1);
}
END_TEST

/* --- a guest between death and recovery --- */

static gboolean merge_dies_at(World *world, guint n)
{
    int status = 0;
    pid_t pid = world_fork(world);
    if (pid == 0) {
        g_autoptr(GHashTable) told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        trap_set(TRAP_EXIT, n, 0); /* not by the merger: GLib's threads do not outlive a fork */
        (void)merge_domain((Core *)world->engine, world_domain(world, "web"), told, NULL, NULL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status) == TRAP_EXIT_CODE;
}

/*
 * At each point: a guest is started from the old name and runs while the daemon recovers. What is shown then is where it
 * writes, and nothing that it, or the next guest, has written is lost.
 */
START_TEST(guest_runs_at_recovery)
{
    World *world = world_to_merge(PATH("world"));
    g_autofree char *top = world_layer(world, "web", NULL, "vda", NULL);
    world_close(world);
    g_autoptr(GPtrArray) saved = world_save(world);
    guint stuck = 0;
    for (guint n = 1;; n++) {
        if (!merge_dies_at(world, n))
            break;
        Writer *writer = access(top, F_OK) == 0 ? writer_begin(world, top) : NULL;
        world_open(world);
        g_autofree char *shown = world_layer(world, "web", NULL, "vda", NULL);
        g_autofree char *tree = world_tree(world, "web");
        if (writer) {
            ck_assert_str_eq(shown, top);
            writer_end(writer);
            write_pattern(top, 77, "256k 64k");
        }
        stuck += strstr(tree, "read-only") != NULL;
        world_create(world, "web", "later", "vda,snapshot=internal"); /* brings it to its end */
        g_autofree char *now = world_layer(world, "web", NULL, "vda", NULL);
        if (writer)
            tool("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 77 256k 64k", now, NULL);
        tool("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 11 0 64k", "-c", "read -P 1 64k 64k", now, NULL);
        world_check_clean(world, "web");
        world_close(world);
        world_restore(world, saved);
    }
    ck_assert_uint_gt(stuck, 0);
    world_free(world);
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
    TCase *else_ = scratch_case(suite, "somebody else");
    tcase_add_loop_test(else_, cloned, 0, G_N_ELEMENTS(clones));
    tcase_add_test(else_, tagged_by_hand);
    tcase_add_test(else_, named_again_too_late);
    tcase_add_test(else_, guest_runs_at_recovery);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
