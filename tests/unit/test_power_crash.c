/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon is killed, or QEMU is, at every point of what is done to a machine as a whole: revert, start, save. Afterwards
 * there is the state before or the state after; memory that was saved is there, or the machine that it is of.
 *
 * A point is before and after each call of the backend, each change of a file, each command to a QEMU. A few of them, evenly
 * spread and others each day; CRASH_FROM is the first one, CRASH_STEP how far they are apart (1: all), CRASH_ONLY the scenario.
 */
#include <sys/wait.h>
#include <time.h>

#include "power_world.h"
#include "runner.h"

#define SAMPLES 3

typedef struct {
    const char *name;
    void (*setup)(World *world);                                    /* once */
    void (*again)(World *world);                                    /* before each trial: the state before */
    gboolean (*act)(World *world, GError **error);                  /* what is cut short */
    gboolean (*happened)(World *world);                             /* else it has not */
    void (*expect)(World *world, gboolean happened, gboolean died); /* died: QEMU was killed */
} Scenario;

static guint32 counter_before; /* of the machine, just before the act */

/* --- revert of a machine that runs --- */

/* s1: what is reverted to, of the life that began with 1. s2: off, to begin from. */
static void setup_snapshots(World *world, SnapMode memory, const char *specs)
{
    power_boot(world);
    power_create(world, "s1", memory, specs);
    power_moves(world, 3);
    power(world, POWER_DESTROY, NULL);
    power_create(world, "s2", MODE_DEFAULT, specs);
}

static void setup_internal(World *world)
{
    setup_snapshots(world, MODE_INTERNAL, BOTH_INTERNAL);
}

static void setup_external(World *world)
{
    setup_snapshots(world, MODE_EXTERNAL, BOTH_EXTERNAL);
}

static void setup_mixed(World *world)
{
    setup_snapshots(world, MODE_EXTERNAL, "vda,snapshot=internal vdb,snapshot=external");
}

static void again_running(World *world)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(try_revert(world, "s2", AS_RUNNING, TRUE, &error), error);
    power_moves(world, 2);
}

static gboolean act_revert(World *world, GError **error)
{
    return try_revert(world, "s1", AS_IT_WAS, FALSE, error);
}

static gboolean act_revert_paused(World *world, GError **error)
{
    return try_revert(world, "s1", AS_PAUSED, FALSE, error);
}

static gboolean happened_revert(World *world)
{
    g_autofree char *current = world_current(world, "web");
    ck_assert(strcmp(current, "s1") == 0 || strcmp(current, "s2") == 0);
    return strcmp(current, "s1") == 0;
}

static void expect_life(World *world, gboolean of_then)
{
    if (strcmp(power_state(world), "running") == 0)
        power(world, POWER_PAUSE, NULL);
    GuestMemory memory = power_agree(world);
    ck_assert_msg((memory.first == 1) == of_then, "a life that began with %u", memory.first);
    if (!of_then)
        ck_assert_uint_ge(memory.counter, counter_before);
}

static void expect_reverted(World *world, gboolean happened, const char *state, gboolean died)
{
    if (strcmp(power_state(world), "shutoff") == 0) {
        ck_assert_msg(!happened || died, "the machine that was begun is gone");
        guint32 now = power_disks(world);
        if (!happened)
            ck_assert_uint_ge(
                now, counter_before); /* the old one ended as with a power cut, with all it has written */
        return;
    }
    EXPECT_STATE(world, happened ? state : "running");
    if (strcmp(state, "running") == 0 || !happened)
        power_moves(world, 2);
    expect_life(world, happened);
}

static void expect_running(World *world, gboolean happened, gboolean died)
{
    expect_reverted(world, happened, "running", died);
}

static void expect_paused(World *world, gboolean happened, gboolean died)
{
    expect_reverted(world, happened, "paused", died);
}

/* --- start --- */

static void setup_off(World *world)
{
    power_boot(world);
    power(world, POWER_DESTROY, NULL);
}

static void again_off(World *world)
{
    if (strcmp(power_state(world), "shutoff") != 0)
        power(world, POWER_DESTROY, NULL);
}

static gboolean act_start(World *world, GError **error)
{
    return try_power(world, POWER_START, NULL, error);
}

static gboolean happened_start(World *world)
{
    return strcmp(power_state(world), "shutoff") != 0;
}

static void expect_started(World *world, gboolean happened, gboolean died)
{
    if (!happened)
        return;
    EXPECT_STATE(world, "running");
    power_moves(world, 2);
}

/* --- memory in a file --- */

static char *save_path(World *world)
{
    return g_build_filename(world->dir, "web.save", NULL);
}

static void again_alive(World *world)
{
    g_autofree char *file = save_path(world);
    if (strcmp(power_state(world), "paused") == 0)
        power(world, POWER_RESUME, NULL);
    else if (strcmp(power_state(world), "running") != 0)
        power(world, POWER_START, NULL);
    (void)unlink(file);
    power_moves(world, 2);
}

static gboolean act_save(World *world, GError **error)
{
    g_autofree char *file = save_path(world);
    return try_power(world, POWER_SAVE, file, error);
}

static gboolean happened_save(World *world)
{
    g_autofree char *file = save_path(world);
    return access(file, F_OK) == 0;
}

/* The life goes on: of the machine that stands still, or from what was saved. */
static void expect_lives(World *world, gboolean saved, gboolean died, PowerAction how, const char *file)
{
    if (!saved && died)
        return; /* it is QEMU that has lost it */
    if (saved) {
        ck_assert_int_eq(power_pid(world), 0);
        power(world, how, file);
    }
    EXPECT_STATE(world, "running");
    power_moves(world, 2);
    ck_assert_uint_gt(power_counter(world), counter_before);
    power(world, POWER_PAUSE, NULL);
    power_agree(world);
}

static void expect_saved(World *world, gboolean happened, gboolean died)
{
    g_autofree char *file = save_path(world);
    expect_lives(world, happened, died, POWER_RESTORE, file);
}

static gboolean act_managed_save(World *world, GError **error)
{
    return try_power(world, POWER_MANAGEDSAVE, NULL, error);
}

static gboolean happened_managed_save(World *world)
{
    return strcmp(power_state(world), "saved") == 0;
}

static void expect_managed(World *world, gboolean happened, gboolean died)
{
    expect_lives(world, happened, died, POWER_START, NULL);
}

static void again_saved(World *world)
{
    if (strcmp(power_state(world), "saved") == 0)
        return;
    again_alive(world);
    power(world, POWER_MANAGEDSAVE, NULL);
}

static gboolean happened_managed_start(World *world)
{
    return strcmp(power_state(world), "saved") != 0;
}

static void expect_managed_started(World *world, gboolean happened, gboolean died)
{
    if (happened && strcmp(power_state(world), "shutoff") == 0) {
        ck_assert_msg(died, "neither a machine nor a saved one");
        return;
    }
    expect_lives(world, !happened, FALSE, POWER_START, NULL);
}

/* --- a snapshot of a machine that runs --- */

static gboolean happened_create(World *world)
{
    g_autofree char *names = world_names(world, "web");
    return strcmp(names, "") != 0;
}

static void again_without(World *world)
{
    if (happened_create(world))
        world_delete(world, "web", "s1");
    again_alive(world);
}

static gboolean create(World *world, SnapMode memory, GError **error)
{
    g_autoptr(CreateRequest) request = world_request("s1", BOTH_INTERNAL);
    request->memory = memory;
    return world_try_request(world, "web", request, error);
}

static gboolean act_create(World *world, GError **error)
{
    return create(world, MODE_INTERNAL, error);
}

static gboolean act_create_external(World *world, GError **error)
{
    return create(world, MODE_EXTERNAL, error);
}

static void expect_created(World *world, gboolean happened, gboolean died)
{
    if (died)
        return;
    EXPECT_STATE(world, "running");
    power_moves(world, 2);
    power(world, POWER_PAUSE, NULL);
    ck_assert_uint_gt(power_agree(world).counter, counter_before);
}

static const Scenario scenarios[] = {
    {"create internal", setup_off, again_without, act_create, happened_create, expect_created},
    {"create, memory external", setup_off, again_without, act_create_external, happened_create,
     expect_created},
    {"revert internal", setup_internal, again_running, act_revert, happened_revert, expect_running},
    {"revert external", setup_external, again_running, act_revert_paused, happened_revert, expect_paused},
    {"revert mixed", setup_mixed, again_running, act_revert, happened_revert, expect_running},
    {"start", setup_off, again_off, act_start, happened_start, expect_started},
    {"save", setup_off, again_alive, act_save, happened_save, expect_saved},
    {"managed save", setup_off, again_alive, act_managed_save, happened_managed_save, expect_managed},
    {"start from it", setup_off, again_saved, act_start, happened_managed_start, expect_managed_started},
};

/* --- the runs --- */

static void note_counter(World *world)
{
    if (power_pid(world))
        counter_before = power_counter(world);
}

/* In a child of its own, with the machine that runs: TRUE when it died at point @n. *ret_seen: how many there were. */
static gboolean dies_at(World *world, const Scenario *scenario, guint n, guint *ret_seen)
{
    g_autofree char *told = g_build_filename(world->dir, "seen", NULL), *text = NULL;
    world_close(world);
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        g_random_set_seed((guint32)getpid()); /* else all of them make the same ids, some of which QEMU knows */
        world_open(world);
        trap_set(TRAP_EXIT, n, 0);
        g_autoptr(GError) error = NULL;
        gboolean ok = scenario->act(world, &error);
        if (!ok)
            printf("# %s, point %u: %s\n", scenario->name, n, error->message);
        fflush(stdout);
        g_autofree char *seen = g_strdup_printf("%u", trap_seen());
        trap_set(TRAP_OFF, 0, 0);
        _exit(g_file_set_contents(told, seen, -1, NULL) && ok ? 0 : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == TRAP_EXIT_CODE),
                  "%s, point %u: status %d", scenario->name, n, status);
    world_open(world);
    if (WEXITSTATUS(status) == TRAP_EXIT_CODE)
        return TRUE;
    ck_assert(g_file_get_contents(told, &text, NULL, NULL));
    *ret_seen = (guint)atoi(text);
    return FALSE;
}

/* A QEMU that is killed leaves clusters that nothing uses: lost space, no error. */
static void expect_sound(World *world)
{
    const char *const *images = power_images(world);
    for (guint i = 0; images[i]; i++) {
        const char *argv[] = {"qemu-img", "check", "-q", "-f", "qcow2", images[i], NULL};
        int status = run_argv((char **)argv, NULL);
        ck_assert_msg(status == 0 || status == 3, "'%s' is damaged (%d)", images[i], status);
    }
}

/* As soon as all is known that comes late: the state of a machine, an end that takes a moment. */
static void settle(World *world)
{
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    for (guint same = 0; same < 10 && g_get_monotonic_time() < end; same++) {
        g_autofree char *state = g_strdup(power_state(world));
        gboolean alive = strcmp(state, "running") == 0 || strcmp(state, "paused") == 0;
        if (alive != (power_pid(world) != 0) || strcmp(state, "unknown") == 0)
            same = 0;
        g_usleep(20000);
        if (strcmp(state, power_state(world)) != 0)
            same = 0;
    }
    g_autofree char *tree = world_tree(world, "web");
    ck_assert_msg(!strstr(tree, "read-only"), "%s", tree);
}

static void check(World *world, const Scenario *scenario, guint n, gboolean died)
{
    settle(world);
    gboolean happened = scenario->happened(world);
    printf("# %s, point %u: %s, %s\n", scenario->name, n, happened ? "after" : "before", power_state(world));
    fflush(stdout);
    scenario->expect(world, happened, died);
    if (strcmp(power_state(world), "shutoff") != 0)
        return;
    if (died)
        expect_sound(world);
    else
        world_check_clean(world, "web");
}

static guint number_from(const char *name, guint otherwise)
{
    const char *text = g_getenv(name);
    return text ? (guint)MAX(atoi(text), 1) : otherwise;
}

/* How far apart the points are that are tried, and the first one. */
static guint first_point(guint seen, guint *ret_step)
{
    *ret_step = number_from("CRASH_STEP", MAX(seen / SAMPLES, 1));
    return number_from("CRASH_FROM", 1 + (guint)(time(NULL) / 86400) % *ret_step);
}

START_TEST(the_daemon_is_killed)
{
    const Scenario *scenario = &scenarios[_i];
    g_autofree char *number = g_strdup_printf("d%d", _i);
    g_autoptr(PowerWorld) world = power_world_new(PATH(number), NULL);
    guint seen = 0, step;
    scenario->setup(world);
    scenario->again(world);
    note_counter(world);
    ck_assert(!dies_at(world, scenario, G_MAXUINT, &seen));
    check(world, scenario, seen, FALSE);
    ck_assert(seen > 8);
    for (guint n = first_point(seen, &step); n <= seen; n += step) {
        guint now = 0;
        scenario->again(world);
        note_counter(world);
        (void)dies_at(world, scenario, n, &now);
        check(world, scenario, n, FALSE);
    }
}
END_TEST

static void kill_it(gpointer user)
{
    World *world = user;
    if (power_pid(world))
        power_kill(world);
}

START_TEST(qemu_is_killed)
{
    const Scenario *scenario = &scenarios[_i];
    g_autofree char *number = g_strdup_printf("q%d", _i);
    g_autoptr(PowerWorld) world = power_world_new(PATH(number), NULL);
    guint seen, step;
    scenario->setup(world);
    scenario->again(world);
    trap_set(TRAP_OFF, 0, 0);
    ck_assert(scenario->act(world, NULL));
    seen = trap_seen();
    for (guint n = first_point(seen, &step); n <= seen; n += step) {
        g_autoptr(GError) error = NULL;
        scenario->again(world);
        note_counter(world);
        trap_call(n, kill_it, world);
        gboolean ok = scenario->act(world, &error);
        trap_set(TRAP_OFF, 0, 0);
        if (!ok)
            ck_assert_msg(error && error->message[0], "%s, point %u: no reason", scenario->name, n);
        check(world, scenario, n, TRUE);
        if (ok) /* what it says is so */
            ck_assert(scenario->happened(world) || strcmp(power_state(world), "shutoff") == 0 ||
                      scenario->act == act_start || scenario->act == act_save ||
                      scenario->act == act_managed_save);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("power_crash");
    TCase *daemon = machines_case(suite, "daemon");
    TCase *qemu = machines_case(suite, "qemu");
    const char *only = g_getenv("CRASH_ONLY");
    int from = only ? atoi(only) : 0;
    int to = only ? from + 1 : (int)G_N_ELEMENTS(scenarios);
    tcase_add_loop_test(daemon, the_daemon_is_killed, from, to);
    tcase_add_loop_test(qemu, qemu_is_killed, from, to);
    tcase_set_timeout(daemon, g_getenv("CRASH_STEP") ? 7200 : 300);
    tcase_set_timeout(qemu, g_getenv("CRASH_STEP") ? 7200 : 300);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
