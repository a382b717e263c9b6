/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usage and changes: what deleting frees is what was said, and every byte that differs is in a range that was told. Against du,
 * and against the raw views read byte by byte.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "machine.h"

#define MIB ((guint64)1 << 20)
#define SIZE (64 * MIB)
#define SMALL (6 * MIB)
/* Tables, which usage does not count, in all images together. */
#define TABLES (3 * MIB / 4)

/* "web" with disks as machine() makes them, but larger. */
static World *web(const char *disks, const char *options, guint64 size)
{
    World *w = world_new(options);
    machine(w, "web", disks);
    g_auto(GStrv) words = g_strsplit(disks, " ", -1);
    for (guint i = 0; words[i] != NULL; i++) {
        const char *target = strtok(words[i], ":");
        run_ok(w, "qemu-img", "resize", "-q", "-f", active_format(w, "web", target),
               active_path(w, "web", target), keepf(w, "%" G_GUINT64_FORMAT, size));
    }
    return w;
}

/* The guest writes: @n MiB of @byte at @at MiB. */
static void guest(const World *w, const char *target, guint8 byte, guint at_mib, guint n)
{
    image_write(w, active_path(w, "web", target), active_format(w, "web", target), byte, at_mib * (guint)MIB,
                n * (guint)MIB);
}

/* Column @n of @state's line, as it stands there. */
static const char *column(const World *w, const char *state, guint n)
{
    g_auto(GStrv) lines = g_strsplit(text_of(w, "web/usage"), "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        gsize len = strlen(lines[i]), name = strlen(state);
        if (lines[i][0] == '#' || len < name + 2 || strcmp(lines[i] + len - name, state) != 0 ||
            strncmp(lines[i] + len - name - 2, "  ", 2) != 0)
            continue;
        g_auto(GStrv) words = g_strsplit_set(lines[i], " ", -1);
        for (guint k = 0; words[k] != NULL; k++)
            if (*words[k] != '\0' && n-- == 0)
                return keep(w, words[k]);
    }
    ck_abort_msg("no '%s' in\n%s", state, text_of(w, "web/usage"));
}

/* A figure that is exact. */
static guint64 figure(const World *w, const char *state, guint n)
{
    char *end;
    const char *word = column(w, state, n);
    guint64 value = strtoull(word, &end, 10);
    ck_assert_msg(end != word && *end == '\0', "%s: %s\n%s", state, word, text_of(w, "web/usage"));
    return value;
}

static guint64 exclusive(const World *w, const char *state)
{
    return figure(w, state, 0);
}

static guint64 shared(const World *w, const char *state)
{
    return figure(w, state, 1);
}

static guint64 occupied(const World *w)
{
    return strtoull(run_ok(w, "du", "-sB1", w->images), NULL, 10);
}

/* Delete it: what becomes free is what was said. */
static void free_one(const World *w, const char *state)
{
    guint64 said = exclusive(w, state), before = occupied(w);
    const char *usage = text_of(w, "web/usage");
    run_ok(w, "rmdir", keepf(w, "web/%s", state));
    command(w, "web", "wait");
    gint64 freed = (gint64)(before - occupied(w)), off = freed - (gint64)said;
    ck_assert_msg(off > -(gint64)TABLES && off < (gint64)TABLES,
                  "%s: %" G_GUINT64_FORMAT " said, %" G_GINT64_FORMAT " freed\n%s%s", state, said, freed,
                  usage, text_of(w, "web/log"));
}

static const struct {
    const char *disks;
    const char *options;
} machines[] = {
    {"vda:qcow2", NULL},
    {"vda:qcow2", "snapshot=external"},
    {"vda:raw", NULL}, /* the first is external, the others are internal to its overlay */
};

START_TEST(deleting_frees_what_was_said)
{
    g_autoptr(World) w = web(machines[_i].disks, machines[_i].options, SIZE);
    guest(w, "vda", 1, 0, 20);
    run_ok(w, "mkdir", "web/a");
    guest(w, "vda", 2, 0, 5);
    guest(w, "vda", 2, 30, 3);
    run_ok(w, "mkdir", "web/b");
    guest(w, "vda", 3, 2, 6);
    run_ok(w, "mkdir", "web/c");
    guest(w, "vda", 4, 30, 1);
    ck_assert_uint_eq(exclusive(w, "a"), 5 * MIB);
    ck_assert_uint_eq(exclusive(w, "b"), 3 * MIB); /* the other three are a's, and active */
    ck_assert_uint_eq(exclusive(w, "c"), 0);
    ck_assert_uint_eq(exclusive(w, "active"), 1 * MIB);
    ck_assert_uint_eq(shared(w, "a"), 15 * MIB);
    ck_assert_uint_eq(shared(w, "active"), 22 * MIB);
    free_one(w, "b");
    ck_assert_uint_eq(exclusive(w, "a"), 8 * MIB);
    ck_assert_uint_eq(exclusive(w, "c"), 1 * MIB);
    /* an image is not joined with what it stands on as long as tags in it are named */
    free_one(w, _i == 2 ? "c" : "a");
    free_one(w, _i == 2 ? "a" : "c");
    ck_assert_uint_eq(exclusive(w, "active"), 23 * MIB);
}
END_TEST

/* Where the snapshot that two stand on is gone, those two share what it had, and neither is the other's parent. */
START_TEST(branches_share)
{
    g_autoptr(World) w = web("vda:qcow2", machines[_i].options, SIZE);
    guest(w, "vda", 1, 0, 10);
    run_ok(w, "mkdir", "web/a");
    guest(w, "vda", 2, 0, 2);
    run_ok(w, "mkdir", "web/b");
    run_ok(w, "ln", "-sfn", "a", "web/current");
    guest(w, "vda", 3, 8, 2);
    run_ok(w, "mkdir", "web/c");
    ck_assert_uint_eq(exclusive(w, "a"), 0);
    run_ok(w, "rmdir", "web/a");
    command(w, "web", "wait");
    ck_assert_uint_eq(exclusive(w, "b"), 4 * MIB);
    ck_assert_uint_eq(shared(w, "b"), 6 * MIB);
    ck_assert_uint_eq(shared(w, "c"), 10 * MIB); /* with the active state */
    free_one(w, "b");
    ck_assert_uint_eq(shared(w, "c"), 10 * MIB);
}
END_TEST

/* A compressed cluster takes its place as long as anybody sees a byte of it: whom it is hidden from in part shares it. */
START_TEST(a_part_of_what_is_compressed)
{
    g_autoptr(World) w = world_new("snapshot=external");
    const char *path = image(w, "web-vda.qcow2"), *layer = in_dir(w, "layer.qcow2");
    make_image(w, "web-vda.raw", "raw");
    image_write(w, image(w, "web-vda.raw"), "raw", 1, 0, 1024 * 1024);
    run_ok(w, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=1M",
           image(w, "web-vda.raw"), path);
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, "-o", "cluster_size=64K",
           layer);
    ck_assert_int_eq(put(w, "ctl", machine_xml(w, "web", NULL, "vda:qcow2")), 0);
    command(w, "web", "create s1 --reuse-external --diskspec vda,file=%s", layer);
    guint64 all = shared(w, "s1");
    ck_assert_uint_gt(all, 0);
    image_write(w, layer, "qcow2", 2, 4 * 65536, 8 * 65536);
    ck_assert_uint_eq(exclusive(w, "s1"), 0);
    ck_assert_uint_eq(shared(w, "s1"), all);
    ck_assert_uint_eq(exclusive(w, "active"), 8 * 65536);
}
END_TEST

/* A disk that took no part goes its own way; what a revert threw away is said. */
START_TEST(some_disks)
{
    g_autoptr(World) w = web("vda:qcow2 vdb:qcow2", NULL, SIZE);
    guest(w, "vda", 1, 0, 4);
    guest(w, "vdb", 1, 0, 2);
    run_ok(w, "mkdir", "web/both");
    guest(w, "vda", 2, 0, 1);
    guest(w, "vdb", 2, 0, 1);
    command(w, "web", "create one --diskspec vdb,snapshot=no");
    guest(w, "vdb", 3, 1, 1);
    ck_assert_uint_eq(exclusive(w, "both"), 3 * MIB);
    ck_assert_uint_eq(shared(w, "one"), 4 * MIB);
    ck_assert_uint_eq(exclusive(w, "active"), 2 * MIB);
    guest(w, "vda", 9, 10, 3);
    run_ok(w, "ln", "-sfn", "one", "web/current");
    ck_has(text_of(w, "web/usage"), keepf(w, "# %u bytes are kept for revert --undo", 3 * (guint)MIB));
    ck_assert_uint_eq(exclusive(w, "active"), 2 * MIB);
    ck_has(text_of(w, "web/one/changes"), "vda 0 1048576\n");
    ck_has_not(text_of(w, "web/one/changes"), "vdb");
    run_ok(w, "mkdir", "web/again");
    ck_has(text_of(w, "web/again/changes"), "# vdb: it took no part in the parent: all its data is listed\n"
                                            "vdb 0 2097152\n");
}
END_TEST

START_TEST(for_awk)
{
    g_autoptr(World) w = web("vda:qcow2", NULL, SIZE);
    guest(w, "vda", 1, 0, 4);
    run_ok(w, "mkdir", "web/with two blanks");
    guest(w, "vda", 2, 0, 1);
    run_ok(w, "mkdir", "web/next");
    ck_assert_str_eq(sh_ok(w, "awk '!/^#/ {bytes += $1} END {print bytes}' web/usage"), "1048576\n");
    ck_assert_str_eq(sh_ok(w, "awk '!/^#/ {n += $3} END {print n}' web/next/changes"), "1048576\n");
    ck_assert_str_eq(sh_ok(w, "grep -v '^#' web/usage | cut -c 60-"), "with two blanks\nnext\nactive\n");
    ck_assert_str_eq(sh_ok(w, "sort -rn web/usage | head -1 | awk '{print $NF}'"), "blanks\n");
    ck_assert_uint_eq(figure(w, "next", 3), 1);
    ck_errno(open(at(w, "web/usage"), O_WRONLY | O_CLOEXEC), EACCES);
    ck_errno(open(at(w, "web/next/changes"), O_RDWR | O_CLOEXEC), EACCES);
    run_ok(w, "cat", "web/next/changes");
    const char *copy = in_dir(w, "copy");
    run_ok(w, "cp", "web/next/changes", copy);
    run_ok(w, "cmp", "web/next/changes", copy);
}
END_TEST

/* The active state of a machine that runs is not read: what can be said without is, and nobody waits for anybody. */
START_TEST(while_it_runs)
{
    g_autoptr(World) w = web("vda:qcow2", machines[_i].options, SIZE);
    guest(w, "vda", 1, 0, 8);
    run_ok(w, "mkdir", "web/a");
    guest(w, "vda", 2, 0, 2);
    run_ok(w, "mkdir", "web/b");
    guest(w, "vda", 3, 1, 1);
    Holder holder = hold(w, active_path(w, "web", "vda"), "qcow2", FALSE);
    ck_assert_uint_eq(exclusive(w, "a"), 2 * MIB);
    ck_assert(g_str_has_suffix(column(w, "b", 0), "~"));
    ck_assert(g_str_has_suffix(column(w, "active", 0), "~"));
    ck_assert_str_eq(column(w, "active", 1), "?");
    for (guint i = 0; i < 2; i++) {
        guint64 most = strtoull(column(w, i ? "b" : "active", 0), NULL, 10);
        ck_assert_uint_ge(most, MIB);
        ck_assert_uint_le(most, MIB + TABLES);
    }
    ck_has(text_of(w, "web/b/changes"), "vda 0 2097152\n");
    release(holder);
    ck_assert_uint_eq(exclusive(w, "b"), MIB);
    ck_assert_uint_eq(exclusive(w, "active"), MIB);
}
END_TEST

/* --- changes --- */

typedef struct {
    guint8 *bytes;
    gsize size;
} Raw;

/* The disk of a snapshot, as its raw view shows it. */
static Raw raw_of(const World *w, const char *snapshot, const char *target)
{
    Raw raw = {0};
    const char *path = at(w, "web/%s/%s.raw", snapshot, target);
    ck_assert_msg(g_file_get_contents(path, (char **)&raw.bytes, &raw.size, NULL), "cannot read %s", path);
    return raw;
}

/* Take the ranges told of @target out of @told, which has a byte for each of the disk's. Returns how long they are. */
static guint64 mark(const char *text, const char *target, guint8 *told, gsize size)
{
    guint64 sum = 0, last = 0;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        unsigned long long start, length;
        g_auto(GStrv) words = g_strsplit(lines[i], " ", 3);
        if (words[0] == NULL || strcmp(words[0], target) != 0)
            continue;
        ck_assert_int_eq(sscanf(lines[i] + strlen(target), " %llu %llu", &start, &length), 2);
        ck_assert_uint_ge(start, last);
        ck_assert_uint_gt(length, 0);
        ck_assert_uint_le(start + length, size);
        memset(told + start, 1, length);
        last = start + length;
        sum += length;
    }
    return sum;
}

/* All that differs from @parent (NULL: from zeros) is told; and of what is the same not more than @more. */
static void compare(const World *w, const char *parent, const char *snapshot, const char *target,
                    guint64 more)
{
    const char *text = text_of(w, keepf(w, "web/%s/changes", snapshot));
    Raw now = raw_of(w, snapshot, target), old = {0};
    if (parent)
        old = raw_of(w, parent, target);
    gsize size = MAX(old.size, now.size);
    guint8 *told = g_malloc0(size);
    guint64 sum = mark(text, target, told, size), differ = 0;
    for (gsize i = 0; i < size; i++) {
        guint8 before = i < old.size ? old.bytes[i] : 0, after = i < now.size ? now.bytes[i] : 0;
        gboolean is = before != after || (parent && (i < old.size) != (i < now.size));
        if (is && !told[i]) /* not an assertion for each byte: those that hold cost, too */
            ck_abort_msg("%s, %s: byte %zu differs\n%s", snapshot, target, i, text);
        differ += is;
    }
    ck_assert_msg(sum <= differ + more,
                  "%s, %s: %" G_GUINT64_FORMAT " told, %" G_GUINT64_FORMAT " differ\n%s", snapshot, target,
                  sum, differ, text);
    g_free(told);
    g_free(now.bytes);
    g_free(old.bytes);
}

/* Some bytes here and there, zeros, and what is thrown away. */
enum { WRITES = 8 };

static void scribble(const World *w, GRand *rand, const char *target, guint8 byte)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_ptr_array_add(argv, (gpointer) "qemu-io");
    g_ptr_array_add(argv, (gpointer) "-f");
    g_ptr_array_add(argv, (gpointer)active_format(w, "web", target));
    for (guint i = 0; i < WRITES; i++) {
        guint at_byte = (guint)g_rand_int_range(rand, 0, (gint32)SMALL - (1 << 17));
        guint length = (guint)g_rand_int_range(rand, 1024, 1 << 17);
        g_ptr_array_add(argv, (gpointer) "-c");
        g_ptr_array_add(argv,
                        (gpointer)(i % 4 == 3 ? keepf(w, "write -q -z %u %u", at_byte & ~511u, length & ~511u)
                                   : i % 4 == 2 ? keepf(w, "discard -q %u %u", at_byte & ~65535u, 65536)
                                                : keepf(w, "write -q -P %u %u %u", byte, at_byte, length)));
    }
    g_ptr_array_add(argv, (gpointer)active_path(w, "web", target));
    g_ptr_array_add(argv, NULL);
    ran_expect_ok(ran_argv(w, (const char *const *)argv->pdata), "qemu-io");
}

START_TEST(every_byte_that_differs_is_told)
{
    static const char *const names[] = {"a", "b", "c"};
    g_autoptr(World) w = web("vda:qcow2 vdb:raw", machines[_i].options, SMALL);
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i + 1);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        scribble(w, rand, "vda", (guint8)(i + 1));
        scribble(w, rand, "vdb", (guint8)(i + 1));
        if (i == 2)
            run_ok(w, "qemu-img", "resize", "-q", "-f", "qcow2", active_path(w, "web", "vda"), "+1M");
        run_ok(w, "mkdir", keepf(w, "web/%s", names[i]));
    }
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        for (guint k = 0; k < 2; k++) /* whole clusters, at most two more for each write */
            compare(w, i ? names[i - 1] : NULL, names[i], k ? "vdb" : "vda",
                    WRITES * (2 * 65536 + (1 << 16)));
    }
    run_ok(w, "rmdir", "web/b");
    command(w, "web", "wait");
    ck_has(text_of(w, "web/c/changes"), "differ from 'a'");
    compare(w, "a", "c", "vda", 2 * WRITES * (2 * 65536 + (1 << 16)));
    compare(w, "a", "c", "vdb", 2 * WRITES * (2 * 65536 + (1 << 16)));
}
END_TEST

/* What cannot be read is said, and the rest is right. */
START_TEST(an_image_that_is_damaged)
{
    g_autoptr(World) w = web("vda:qcow2 vdb:qcow2", "snapshot=external", SIZE);
    guest(w, "vda", 1, 0, 2);
    guest(w, "vdb", 1, 0, 2);
    run_ok(w, "mkdir", "web/a");
    guest(w, "vdb", 2, 0, 1);
    run_ok(w, "mkdir", "web/b");
    run_ok(w, "touch", image(w, "web-vda.qcow2")); /* frozen, and now somebody may have written it */
    ck_has(text_of(w, "web/b/changes"), "# vda: ");
    ck_has(text_of(w, "web/b/changes"), "changed as a whole\nvda 0 ");
    ck_has(text_of(w, "web/b/changes"), "\nvdb 0 1048576\n");
    ck_assert_str_eq(column(w, "a", 0), "?");
    ck_has(text_of(w, "web/usage"), "# a: vda: '");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("usage");
    TCase *usage = add_case(suite, "usage");
    tcase_add_loop_test(usage, deleting_frees_what_was_said, 0, G_N_ELEMENTS(machines));
    tcase_add_loop_test(usage, branches_share, 0, 2);
    tcase_add_test(usage, a_part_of_what_is_compressed);
    tcase_add_test(usage, some_disks);
    tcase_add_test(usage, for_awk);
    tcase_add_loop_test(usage, while_it_runs, 0, 2);
    TCase *changes = add_case(suite, "changes");
    tcase_add_loop_test(changes, every_byte_that_differs_is_told, 0, 2);
    tcase_add_test(changes, an_image_that_is_damaged);
    return suite;
}

int main(void)
{
    return mount_main(suite());
}
