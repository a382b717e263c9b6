/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers are joined while the machine runs: every state reads the same, the guest goes on, and a QEMU can start from it. */
#include "runner.h"
#include "story.h"

#include "end_machines.h"
#include "running_world.h"

/* "web" with the guest on two disks; it runs. */
typedef struct {
    World *world;
    Live *live;
} Web;

static Web web_new(const char *test, guint i)
{
    g_autofree char *name = g_strdup_printf("%u", i);
    Web web = {.world = running_world_new(in_scratch(test, name))};
    web.live = live_define(web.world, "web", FILES("a.qcow2", "b.qcow2"), NULL);
    live_start(web.live);
    return web;
}

static void web_clear(Web *web)
{
    live_free(web->live);
    world_free(web->world);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Web, web_clear)
#define WEB() web_new(__func__, (guint)_i)

static void create(Web *web, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = world_request(name, BOTH_EXTERNAL);
    request->disk_only = TRUE;
    ASSERT_OK(world_try_request(web->world, "web", request, &error), error);
}

/* A snapshot, and then the guest makes some steps. */
static void create_and_go(Web *web, const char *name)
{
    create(web, name);
    guest_wait(web->live->guest, 5);
}

static void power(Web *web, PowerAction action)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(live_power(web->live, action, &error), error);
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

/* QEMU has these image files open, sorted, and no job. Caller frees. */
static char *open_files(Web *web)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);
    const char *images = web->world->images;
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)web->live->guest->pid);
    json_t *jobs = guest_monitor_call(web->live->guest->monitor, &error, "query-jobs", NULL);
    ck_assert_msg(jobs && json_array_size(jobs) == 0, "%s", error ? error->message : "there are jobs");
    json_decref(jobs);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name = g_dir_read_name(dir); name; name = g_dir_read_name(dir)) {
        g_autofree char *entry = g_build_filename(path, name, NULL), *file = g_file_read_link(entry, NULL);
        if (file && g_str_has_prefix(file, images) &&
            !g_ptr_array_find_with_equal_func(files, file + strlen(images) + 1, g_str_equal, NULL))
            g_ptr_array_add(files, g_strdup(file + strlen(images) + 1));
    }
    g_ptr_array_sort(files, compare_texts);
    g_ptr_array_add(files, NULL);
    return g_strjoinv(" ", (char **)files->pdata);
}

/* The end of every test: the guest goes on, can be ended, its images are whole, and it starts from them again. */
static void expect_sound(Web *web)
{
    World *world = web->world;
    g_autofree char *before = states(world, FALSE);
    live_goes_on(web->live);
    power(web, POWER_PAUSE);
    live_agrees(web->live);
    power(web, POWER_RESUME);
    live_goes_on(web->live);
    live_end(web->live);
    world_check_clean(world, "web");
    expect_states(world, before, FALSE);
    world_close(world);
    g_autofree char *findings = world_findings(world, FALSE, NULL);
    ck_assert_str_eq(findings, "");
    world_open(world);
    live_start(web->live);
    expect_states(world, before, FALSE);
    live_end(web->live);
}

/* --- every kind --- */

/* Merge, with the guest standing if @still: then its present state is compared, too. */
static void merge(Web *web, gboolean still, const char *commands, const char *files)
{
    if (still)
        power(web, POWER_PAUSE);
    g_autofree char *before = states(web->world, still);
    g_free(live_commands(web->live));
    world_merge(web->world, "web");
    g_autofree char *said = live_commands(web->live);
    ck_assert_str_eq(said, commands);
    expect_states(web->world, before, still);
    expect_files(web->world, files);
    g_autofree char *open = open_files(web);
    expect_files(web->world, open);
    if (still)
        power(web, POWER_RESUME);
}

/* s2 goes: its layer is joined with that of s3, the header above is written by QEMU. */
START_TEST(middle)
{
    g_auto(Web) web = WEB();
    create_and_go(&web, "s1");
    create_and_go(&web, "s2");
    create_and_go(&web, "s3");
    if (_i == 1)
        create_and_go(&web, "s4"); /* what is above is frozen, too */
    world_delete(web.world, "web", "s2");
    merge(&web, _i == 0, "",
          _i == 1 ? "a.qcow2 a.s1 a.s3 a.s4 b.qcow2 b.s1 b.s3 b.s4" : "a.qcow2 a.s1 a.s3 b.qcow2 b.s1 b.s3");
    expect_sound(&web);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("merge-online");
    TCase *tcase = machines_case(suite, "kinds");
    tcase_add_loop_test(tcase, middle, 0, 2);
    return run_suite(suite);
}
