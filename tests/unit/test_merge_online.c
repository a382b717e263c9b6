/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers are joined while the machine runs: every state reads the same, the guest goes on, and a QEMU can start from it. */
#include "runner.h"
#include "story.h"

#include "start_world.h"

/* --- the machine --- */

static Guest *join(World *world)
{
    g_autofree char *socket = g_build_filename(world->run, "web.monitor", NULL);
    return guest_join(socket);
}

static void moves(World *world, guint steps)
{
    g_autoptr(Guest) guest = join(world);
    guest_wait(guest, steps);
}

/* "web" with the guest on two disks; it runs. */
static World *running_web(const char *test, guint i)
{
    g_autofree char *name = g_strdup_printf("%u", i);
    World *world = world_new_online(in_scratch(test, name));
    g_autofree char *a = world_path(world, "a.qcow2"), *b = world_path(world, "b.qcow2");
    guest_disk_make(a, 8);
    guest_disk_make(b, 8);
    g_autofree char *xml = guest_domain_xml("web", "qemu", IMAGES(a, b), NULL);
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_define(world, xml, &error), error);
    world_power(world, "web", POWER_START);
    moves(world, 2);
    return world;
}

static void create(World *world, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = world_request(name, BOTH_EXTERNAL);
    request->disk_only = TRUE;
    ASSERT_OK(world_try_request(world, "web", request, &error), error);
}

/* A snapshot, and then the guest makes some steps. */
static void create_and_go(World *world, const char *name)
{
    create(world, name);
    moves(world, 5);
}

/* --- what there is --- */

/* Of an image with its chain, whoever writes it. Caller frees. */
static char *content(World *world, const char *path)
{
    g_autofree char *copy = g_build_filename(world->dir, "content", NULL);
    tool("qemu-img", "convert", "-U", "-f", image_format(path), "-O", "raw", path, copy, NULL);
    char *hash = file_hash(copy);
    unlink(copy);
    return hash;
}

/* "SNAPSHOT TARGET HASH", a line each; the present state only when the machine stands. Caller frees. */
static char *states(World *world, gboolean present)
{
    g_autofree char *names = world_names(world, "web");
    g_auto(GStrv) snapshots = g_strsplit(names, " ", -1);
    GString *text = g_string_new(NULL);
    for (guint i = 0; snapshots[i] || present; i++) {
        const char *name = snapshots[i];
        for (guint k = 0; k < 2 && (!name || *name); k++) {
            const char *target = k ? "vdb" : "vda";
            g_autofree char *path = world_layer(world, "web", name, target, NULL);
            g_autofree char *hash = content(world, path);
            g_string_append_printf(text, "%s %s %s\n", name ? name : "-", target, hash);
        }
        if (!name)
            break;
    }
    return g_string_free(text, FALSE);
}

static void expect_states(World *world, const char *before, gboolean present)
{
    g_autofree char *now = states(world, present);
    ck_assert_str_eq(now, before);
}

static void expect_files(World *world, const char *files)
{
    g_autofree char *now = world_files(world);
    g_autofree char *log = world_log(world, "web");
    ck_assert_msg(strcmp(now, files) == 0, "%s instead of %s\n%s", now, files, log);
}

/* Memory and disks are of one instant; the machine stands afterwards. */
static void all_agree(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *a = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *b = world_layer(world, "web", NULL, "vdb", NULL);
    world_power(world, "web", POWER_PAUSE);
    g_autoptr(Guest) guest = join(world);
    LOOK(guest_all_agree(guest, IMAGES(a, b), NULL, &error));
}

/* QEMU has these image files open, sorted, and no job. Caller frees. */
static char *open_files(World *world)
{
    g_autoptr(Guest) guest = join(world);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)guest->pid);
    json_t *jobs = guest_monitor_call(guest->monitor, &error, "query-jobs", NULL);
    LOOK(jobs);
    ck_assert_uint_eq(json_array_size(jobs), 0);
    json_decref(jobs);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name = g_dir_read_name(dir); name; name = g_dir_read_name(dir)) {
        g_autofree char *entry = g_build_filename(path, name, NULL), *file = g_file_read_link(entry, NULL);
        if (file && g_str_has_prefix(file, world->images) &&
            !g_ptr_array_find_with_equal_func(files, file + strlen(world->images) + 1, g_str_equal, NULL))
            g_ptr_array_add(files, g_strdup(file + strlen(world->images) + 1));
    }
    g_ptr_array_sort(files, compare_texts);
    g_ptr_array_add(files, NULL);
    return g_strjoinv(" ", (char **)files->pdata);
}

/* The end of every test: the guest goes on, can be ended, its images are whole, and it starts from them again. */
static void expect_sound(World *world)
{
    g_autofree char *before = states(world, FALSE);
    moves(world, 5);
    all_agree(world);
    world_power(world, "web", POWER_RESUME);
    moves(world, 2);
    world_power(world, "web", POWER_DESTROY);
    world_check_clean(world, "web");
    expect_states(world, before, FALSE);
    g_autofree char *findings = NULL;
    world_close(world);
    findings = world_findings(world, FALSE, NULL);
    ck_assert_str_eq(findings, "");
    world_open(world);
    world_power(world, "web", POWER_START);
    moves(world, 2);
    expect_states(world, before, FALSE);
    world_power(world, "web", POWER_DESTROY);
}

/* --- every kind --- */

/* s2 goes: its layer is joined with that of s3, the header above is written by QEMU. */
START_TEST(middle)
{
    g_autoptr(World) world = running_web(__func__, _i);
    create_and_go(world, "s1");
    create_and_go(world, "s2");
    create_and_go(world, "s3");
    if (_i == 1)
        create_and_go(world, "s4"); /* what is above is frozen, too */
    world_delete(world, "web", "s2");
    g_autofree char *before = states(world, FALSE);
    world_merge(world, "web");
    expect_states(world, before, FALSE);
    expect_files(world, _i == 1 ? "a.qcow2 a.s1 a.s3 a.s4 b.qcow2 b.s1 b.s3 b.s4"
                                : "a.qcow2 a.s1 a.s3 b.qcow2 b.s1 b.s3");
    g_autofree char *open = open_files(world);
    expect_files(world, open);
    expect_sound(world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("merge-online");
    TCase *tcase = start_case(suite, "kinds");
    tcase_add_loop_test(tcase, middle, 0, 2);
    return run_suite(suite);
}
