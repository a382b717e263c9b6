/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers are joined while the machine runs: every state reads the same, the guest goes on, and a QEMU can start from it. */
#include <sys/wait.h>

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

/* A daemon that has just begun is told soon; and one that has paused the machine for a moment. */
static void await_state(Web *web, const char *state)
{
    for (guint i = 0; i < 1000; i++, g_usleep(10000)) {
        g_autofree char *said = world_text(web->world, ENGINE_TEXT_STATE, world_domain(web->world, "web"));
        if (strcmp(said, state) == 0)
            return;
    }
    ck_abort_msg("the machine's state is not told");
}

static void goes_on(Web *web)
{
    await_state(web, "running\n");
    live_goes_on(web->live);
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
static char *states_of(World *world, gboolean present, guint disks)
{
    g_autofree char *names = world_names(world, "web");
    g_auto(GStrv) snapshots = g_strsplit(names, " ", -1);
    GString *text = g_string_new(NULL);
    for (guint i = 0; snapshots[i] || present; i++) {
        const char *name = snapshots[i];
        for (guint k = 0; k < disks && (!name || *name); k++) {
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

static char *states(World *world, gboolean present)
{
    return states_of(world, present, 2);
}

static char *one_disk_states(World *world, gboolean present)
{
    return states_of(world, present, 1);
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
    goes_on(web);
    power(web, POWER_PAUSE);
    live_agrees(web->live);
    power(web, POWER_RESUME);
    goes_on(web);
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
static void merge(Web *web, gboolean still, const char *commands, const char *files, const char *open)
{
    if (still)
        power(web, POWER_PAUSE);
    g_autofree char *before = states(web->world, still);
    g_free(live_commands(web->live));
    world_merge(web->world, "web");
    g_autofree char *all = live_commands(web->live);
    g_autoptr(GString) said = g_string_new(all);
    g_string_replace(said, " blockdev-del", "", 0); /* as many as there were layers: open_files() says it */
    ck_assert_str_eq(said->str, commands);
    expect_states(web->world, before, still);
    expect_files(web->world, files);
    g_autofree char *opened = open_files(web);
    ck_assert_str_eq(opened, open);
    if (still)
        power(web, POWER_RESUME);
}

#define FIRST_FILES "a.qcow2 b.qcow2"
#define MIDDLE_FILES "a.qcow2 a.s1 a.s3 b.qcow2 b.s1 b.s3"
#define DEEP_FILES "a.qcow2 a.s1 a.s3 a.s4 b.qcow2 b.s1 b.s3 b.s4"

#define MIDDLE "block-commit stop job-finalize"
#define ACTIVE "block-commit stop job-complete job-finalize"
#define UP "block-stream stop job-finalize"
#define TWICE(commands, after) commands after " " commands after

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
    if (_i == 0)
        merge(&web, TRUE, TWICE(MIDDLE, ""), MIDDLE_FILES, MIDDLE_FILES);
    else
        merge(&web, FALSE, TWICE(MIDDLE, " cont"), DEEP_FILES, DEEP_FILES);
    expect_sound(&web);
}
END_TEST

/* The last snapshot goes: what was the domain's first image is what the guest writes again. */
START_TEST(active)
{
    g_auto(Web) web = WEB();
    create_and_go(&web, "s1");
    world_delete(web.world, "web", "s1");
    if (_i == 0)
        merge(&web, TRUE, TWICE(ACTIVE, ""), FIRST_FILES, FIRST_FILES);
    else
        merge(&web, FALSE, TWICE(ACTIVE, " cont"), FIRST_FILES, FIRST_FILES);
    expect_sound(&web);
}
END_TEST

/* To vda. What it prints goes to QEMU's own output; what is left is an error. */
static void as_guest(Live *live, const char *command)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *line =
        g_strdup_printf("qemu-io -d /machine/peripheral/disk-vda/virtio-backend \"%s\"", command);
    g_autofree char *text = guest_monitor_human(live->guest->monitor, line, &error);
    ck_assert_msg(text && !*g_strstrip(text), "%s: %s", command, text ? text : error->message);
}

static void expect_pattern(const char *path, const char *command)
{
    g_autofree char *said = tool_output("qemu-io", "-f", "qcow2", "-c", command, path, NULL);
    ck_assert_msg(strstr(said, "read ") && !strstr(said, "failed"), "%s: %s", command, said);
}

/* What was a layer below when QEMU was started takes the guest's discards, once it is what the guest writes. */
START_TEST(discards)
{
    const LiveSetup setup = {.from = "cache='unsafe'", .to = "cache='unsafe' discard='unmap'"};
    g_auto(Web) web = {.world = running_world_new(in_scratch(__func__, "0"))};
    web.live = live_define(web.world, "web", FILES("a.qcow2", "b.qcow2"), &setup);
    world_create(web.world, "web", "s1", BOTH_EXTERNAL);
    live_start(web.live);
    world_delete(web.world, "web", "s1");
    world_merge(web.world, "web");
    g_autofree char *image = world_layer(web.world, "web", NULL, "vda", NULL);
    ck_assert_msg(g_str_has_suffix(image, "/a.qcow2"), "%s", image);
    as_guest(web.live, "write -P 7 3M 128k");
    as_guest(web.live, "discard 3M 64k");
    expect_sound(&web);
    expect_pattern(image, "read -P 0 3M 64k");
    expect_pattern(image, "read -P 7 3136k 64k");
}
END_TEST

/* There is less below the active layer than in it. */
START_TEST(up)
{
    g_auto(Web) web = WEB();
    static const char files[] = "a.qcow2 a.s1 a.s3 b.qcow2 b.s1 b.s3";
    create_and_go(&web, "s1");
    power(&web, POWER_PAUSE);
    create(&web, "s2");
    create(&web, "s3");
    power(&web, POWER_RESUME);
    guest_wait(web.live->guest, 20);
    world_delete(web.world, "web", "s3");
    if (_i == 0)
        merge(&web, TRUE, TWICE(UP, ""), files, files);
    else
        merge(&web, FALSE, TWICE(UP, " cont"), files, files);
    expect_sound(&web);
}
END_TEST

/* Another branch stands on the top, too: nobody has it open, and its header is written here. */
START_TEST(branch)
{
    g_auto(Web) web = WEB();
    create_and_go(&web, "s1");
    create_and_go(&web, "s2");
    create_and_go(&web, "s3");
    live_end(web.live);
    world_revert(web.world, "web", "s2");
    live_start(web.live);
    world_delete(web.world, "web", "s1");
    merge(&web, _i == 0, _i == 0 ? TWICE(MIDDLE, "") : TWICE(MIDDLE, " cont"),
          "a.qcow2 a.s2 a.s2-1 b.qcow2 b.s2 b.s2-1", "a.qcow2 a.s2-1 b.qcow2 b.s2-1");
    expect_sound(&web);
}
END_TEST

/* Ten layers become one, in one job a disk. */
START_TEST(deep)
{
    g_auto(Web) web = WEB();
    for (guint i = 1; i <= 10; i++) {
        g_autofree char *name = g_strdup_printf("s%u", i);
        create_and_go(&web, name);
    }
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_delete(web.world, "web", "s1", DELETE_CHILDREN, &error), error);
    merge(&web, TRUE, TWICE(ACTIVE, ""), FIRST_FILES, FIRST_FILES);
    expect_sound(&web);
}
END_TEST

/* --- crashes, at every step --- */

/* One disk, so that there is one merge. */
static Web small_web(const char *test, guint i)
{
    g_autofree char *name = g_strdup_printf("%u", i);
    Web web = {.world = running_world_new(in_scratch(test, name))};
    web.live = live_define(web.world, "web", FILES("a.qcow2"), NULL);
    live_start(web.live);
    return web;
}

static void create_small(Web *web, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = world_request(name, "vda,snapshot=external");
    request->disk_only = TRUE;
    ASSERT_OK(world_try_request(web->world, "web", request, &error), error);
}

static void go(Web *web)
{
    guest_wait(web->live->guest, 5);
}

/* From a domain without snapshots, whose guest runs, to one that has something to merge. */
static void work_active(Web *web)
{
    create_small(web, "s1");
    go(web);
    world_delete(web->world, "web", "s1");
}

static void work_middle(Web *web)
{
    create_small(web, "s1");
    go(web);
    create_small(web, "s2");
    go(web);
    world_delete(web->world, "web", "s1");
}

static void work_below_frozen(Web *web)
{
    create_small(web, "s1");
    go(web);
    create_small(web, "s2");
    go(web);
    create_small(web, "s3");
    go(web);
    world_delete(web->world, "web", "s1");
}

static void work_up(Web *web)
{
    power(web, POWER_PAUSE);
    create_small(web, "s1");
    create_small(web, "s2");
    power(web, POWER_RESUME);
    guest_wait(web->live->guest, 20);
    world_delete(web->world, "web", "s2");
}

static void work_branch(Web *web)
{
    create_small(web, "s1");
    go(web);
    create_small(web, "s2");
    go(web);
    create_small(web, "s3");
    go(web);
    live_end(web->live);
    world_revert(web->world, "web", "s2");
    live_start(web->live);
    world_delete(web->world, "web", "s1");
}

typedef struct {
    void (*work)(Web *web);
    guint first; /* point, when not all are tried */
} Kind;

static const Kind kinds[] = {
    {work_active, 3}, {work_middle, 9}, {work_below_frozen, 15}, {work_up, 21}, {work_branch, 27}};

typedef enum { DAEMON_DIES, BOTH_DIE, QEMU_DIES } Death;

static void kill_qemu(gpointer live)
{
    pid_t pid = live_pid(live);
    if (pid > 1)
        kill(pid, SIGKILL);
}

static void kill_both(gpointer live)
{
    kill_qemu(live);
    _exit(TRAP_EXIT_CODE);
}

/* Merge in a process that ends at point @at. FALSE: it came to its end before. */
static gboolean merge_and_die(Web *web, Death death, guint at)
{
    world_close(web->world);
    pid_t pid = fork();
    if (pid == 0) {
        world_open(web->world);
        if (death == BOTH_DIE)
            trap_call(at, kill_both, web->live);
        else
            trap_set(TRAP_EXIT, at, 0);
        world_merge(web->world, "web");
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == TRAP_EXIT_CODE),
                  "status %x at point %u", status, at);
    world_open(web->world);
    return WEXITSTATUS(status) != 0;
}

/* The same in this process, with QEMU killed there. */
static gboolean merge_and_kill(Web *web, guint at)
{
    trap_call(at, kill_qemu, web->live);
    world_merge(web->world, "web");
    gboolean died = trap_seen() >= at;
    trap_set(TRAP_OFF, 0, 0);
    return died;
}

/* What the guest wrote last is on its disk. */
static void expect_disk(Web *web)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = world_layer(web->world, "web", NULL, "vda", NULL);
    guint32 counter;
    ck_assert_msg(guest_look_disk(path, 0, NULL, &counter, &error), "%s", error ? error->message : "?");
}

/* After a death: all states are what they were, now and when everything has been merged. */
static void expect_recovered(Web *web, const char *before, gboolean still, gboolean lives, guint at)
{
    World *world = web->world;
    g_autoptr(GError) error = NULL;
    if (lives) { /* a job that was left keeps readers out until somebody finds the machine */
        ck_assert(!live_power(web->live, POWER_START, &error));
        expect_error(&error, EBUSY, "is running");
    }
    g_autofree char *now = one_disk_states(world, still);
    g_autofree char *log = world_log(world, "web");
    ck_assert_msg(strcmp(now, before) == 0, "point %u:\n%sinstead of\n%s\n%s", at, now, before, log);
    if (lives && !still) {
        goes_on(web);
    }
    world_merge(world, "web");
    world_merge(world, "web");
    g_autofree char *merged = one_disk_states(world, still);
    g_autofree char *said = world_log(world, "web");
    ck_assert_msg(strcmp(merged, before) == 0, "point %u, merged:\n%sinstead of\n%s\n%s", at, merged, before,
                  said);
    if (!lives) {
        expect_disk(web);
        world_check_clean(world, "web");
        live_leave(web->live);
        live_start(web->live);
    } else if (still) {
        await_state(web, "paused\n");
        live_stands(web->live);
        power(web, POWER_RESUME);
    }
    goes_on(web);
    g_free(open_files(web)); /* no job is left */
}

/* Nothing is left of it. */
static void start_again(Web *web)
{
    g_autofree char *names = world_names(web->world, "web");
    g_auto(GStrv) snapshots = g_strsplit(names, " ", -1);
    for (guint i = 0; snapshots[i] && *snapshots[i]; i++)
        world_delete(web->world, "web", snapshots[i]);
    world_merge(web->world, "web");
    expect_files(web->world, "a.qcow2");
    power(web, POWER_PAUSE);
    live_agrees(web->live);
    power(web, POWER_RESUME);
}

/*
 * Each point is one of the file operations by which journal, documents and images change, about 80 in all. Some of them here, other
 * ones for each death and kind; all, in hours, with MERGE_POINTS=all in the environment.
 */
static void die_everywhere(Web *web, const Kind *kind, Death death)
{
    guint step = g_getenv("MERGE_POINTS") ? 1 : 47;
    gboolean died = TRUE;
    for (guint at = step == 1 ? 1 : kind->first + death * 10; died; at += step) {
        gboolean still = at % 4 < 2;
        kind->work(web);
        if (still)
            power(web, POWER_PAUSE);
        g_autofree char *before = one_disk_states(web->world, still);
        died = death == QEMU_DIES ? merge_and_kill(web, at) : merge_and_die(web, death, at);
        expect_recovered(web, before, still, !died || death == DAEMON_DIES, at);
        start_again(web);
    }
}

START_TEST(death)
{
    guint n = G_N_ELEMENTS(kinds);
    g_thread_pool_set_max_unused_threads(0); /* a child would think that it has them */
    g_auto(Web) web = small_web(__func__, (guint)_i);
    die_everywhere(&web, &kinds[(guint)_i % n], (Death)((guint)_i / n));
    live_end(web.live);
    world_check_clean(web.world, "web");
}
END_TEST

/* --- whoever comes in between --- */

typedef struct {
    Web *web;
    GThread *thread;
    gboolean cancelled;
} Between;

static gpointer create_between(gpointer web)
{
    create_small(web, "between");
    return NULL;
}

static void begin_create(gpointer user)
{
    Between *between = user;
    between->thread = g_thread_new("user", create_between, between->web);
    for (guint i = 0; i < 2000 && !between->cancelled; i++, g_usleep(1000)) {
        g_autofree char *jobs = world_text(between->web->world, ENGINE_TEXT_JOBS, 0);
        between->cancelled = strstr(jobs, "being cancelled") != NULL;
    }
}

/* The user's command cancels the merge, is done, and the merge comes later. */
START_TEST(user_goes_first)
{
    static const guint points[] = {4, 12, 24, 36};
    g_auto(Web) web = small_web(__func__, (guint)_i);
    for (guint i = 0; i < G_N_ELEMENTS(points); i++) {
        Between between = {.web = &web};
        kinds[_i].work(&web);
        g_autofree char *before = one_disk_states(web.world, FALSE);
        trap_call(points[i], begin_create, &between);
        world_merge(web.world, "web");
        trap_set(TRAP_OFF, 0, 0);
        ck_assert_ptr_nonnull(between.thread);
        g_thread_join(between.thread);
        ck_assert(between.cancelled);
        world_merge(web.world, "web");
        g_autofree char *after = one_disk_states(web.world, FALSE);
        ck_assert_msg(g_str_has_prefix(after, before) && strstr(after, "between vda"), "%s%s", before, after);
        g_autofree char *log = world_log(web.world, "web");
        ck_assert_msg(!strstr(log, "not merged") && !strstr(log, "FAILED"), "%s", log);
        goes_on(&web);
        start_again(&web);
    }
    live_end(web.live);
    world_check_clean(web.world, "web");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("merge-online");
    TCase *tcase = machines_case(suite, "kinds");
    tcase_add_loop_test(tcase, middle, 0, 2);
    tcase_add_loop_test(tcase, active, 0, 2);
    tcase_add_test(tcase, discards);
    tcase_add_loop_test(tcase, up, 0, 2);
    tcase_add_loop_test(tcase, branch, 0, 2);
    tcase_add_loop_test(tcase, deep, 0, 1);
    tcase = machines_case(suite, "between");
    tcase_add_loop_test(tcase, user_goes_first, 0, 4);
    tcase = machines_case(suite, "deaths");
    tcase_set_timeout(tcase, g_getenv("MERGE_POINTS") ? 7200 : 300);
    tcase_add_loop_test(tcase, death, 0, 3 * G_N_ELEMENTS(kinds));
    return run_suite(suite);
}
