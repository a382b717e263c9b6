/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Something dies, or breaks, while a snapshot of a running machine is taken: the daemon, QEMU, both, or one call fails (which
 * for a command to QEMU is a broken connection). At each point: around each file operation and each command. Afterwards
 * there is the state before or the state after, every snapshot reads as it did, nothing temporary is left, the machine that
 * lives goes on, and the one that is dead starts.
 *
 * Some points of each kind are tried; with CRASH_ALL=1 in the environment all are (an hour). CRASH_ONLY=KIND: that one kind.
 */
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "end_machines.h"
#include "runner.h"
#include "running_world.h"

typedef struct {
    const char *name;
    const char *specs;
    SnapMode memory; /* MODE_NO: disk-only */
} Kind;

static const Kind kinds[] = {
    {"disks external", BOTH_EXTERNAL, MODE_NO},
    {"disks mixed", "vda,snapshot=internal vdb,snapshot=external", MODE_NO},
    {"checkpoint", "vda,snapshot=internal vdb,snapshot=internal", MODE_INTERNAL},
    {"memory external", BOTH_EXTERNAL, MODE_EXTERNAL},
    {"memory in a file of its own", BOTH_EXTERNAL, MODE_INTERNAL},
    {"memory external, disks internal", "vda,snapshot=internal vdb,snapshot=internal", MODE_EXTERNAL},
};

typedef enum { DAEMON, MACHINE, BOTH, A_CALL, VICTIMS } Victim;
static const char *const victims[] = {"the daemon", "QEMU", "both", "a call"};
static const guint samples[] = {5, 2, 2, 2};

typedef struct {
    const Kind *kind;
    Victim victim;
    World *world;
    Live *web;
    guint *shared;     /* with the child: how many points there were */
    GHashTable *taken; /* name -> counter of the guest in it */
} Trial;

/* --- in a child, which is the daemon --- */

/* What the child's exit code says, beside TRAP_EXIT_CODE. */
enum { CHILD_DONE = 78, CHILD_DISAGREES, CHILD_CANNOT_START };

static gboolean act(const Trial *trial, const char *name, GError **error)
{
    g_autoptr(CreateRequest) request = world_request(name, trial->kind->specs);
    request->disk_only = trial->kind->memory == MODE_NO;
    request->memory = request->disk_only ? MODE_DEFAULT : trial->kind->memory;
    return world_try_request(trial->world, "web", request, error);
}

static void kill_machine(gpointer data)
{
    const Trial *trial = data;
    pid_t pid = live_pid(trial->web);
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    kill(pid, SIGKILL);
    (void)poll(&end, 1, 20000);
    close(end.fd);
    if (trial->victim == BOTH)
        _exit(TRAP_EXIT_CODE);
}

static void set_trap(Trial *trial, guint n)
{
    if (n == 0)
        trap_set(TRAP_OFF, 0, 0);
    else if (trial->victim == DAEMON)
        trap_set(TRAP_EXIT, n, 0);
    else if (trial->victim == A_CALL)
        trap_set(TRAP_FAIL, n, n % 2 ? EIO : ENOSPC);
    else
        trap_call(n, kill_machine, trial);
}

/* What has succeeded is there, what has failed is not; and a dead machine starts at once. */
static int live_on(Trial *trial, const char *name, gboolean ok, const GError *why)
{
    g_autoptr(GError) error = NULL;
    gboolean there = world_snapshot(trial->world, "web", name) != 0;
    if (there != ok) {
        printf("# %s: %s, and it is %s\n", name, ok ? "taken" : why->message, there ? "there" : "not there");
        return CHILD_DISAGREES;
    }
    if (trial->victim != MACHINE || live_power(trial->web, POWER_START, &error))
        return CHILD_DONE;
    printf("# %s (%s): start: %s\n", name, why ? why->message : "taken", error->message);
    return CHILD_CANNOT_START;
}

static int be_the_daemon(Trial *trial, const char *name, guint n)
{
    g_autoptr(GError) error = NULL;
    world_open(trial->world);
    set_trap(trial, n);
    gboolean ok = act(trial, name, &error);
    *trial->shared = trap_seen();
    trap_set(TRAP_OFF, 0, 0);
    int code = live_on(trial, name, ok, error);
    fflush(NULL);
    return code;
}

static void run_child(Trial *trial, const char *name, guint n)
{
    int status = 0;
    world_close(trial->world);
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(be_the_daemon(trial, name, n));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) &&
                      (WEXITSTATUS(status) == CHILD_DONE || WEXITSTATUS(status) == TRAP_EXIT_CODE),
                  "%s, %s, point %u: status %d", trial->kind->name, victims[trial->victim], n, status);
    world_open(trial->world);
}

/* --- what must be true afterwards --- */

/* Of a snapshot that is not there, nothing is: no file, no tag. */
static void expect_no_trace(const Trial *trial, const char *name)
{
    g_autofree char *shape = live_shape(trial->web);
    g_auto(GStrv) lines = g_strsplit(shape, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        g_auto(GStrv) words = g_strsplit_set(lines[i], " .", -1);
        ck_assert_msg(!g_strv_contains((const char *const *)words, name), "%s is left: %s", name, lines[i]);
    }
}

static void expect_whole(Trial *trial, const char *name, guint n)
{
    guint32 counter = 0;
    live_snapshot_agrees(trial->web, name, &counter);
    g_hash_table_insert(trial->taken, g_strdup(name), GUINT_TO_POINTER(counter));
    if (trial->kind->memory == MODE_NO || n % 3 != 0)
        return;
    live_proves(trial->web, name, 0, counter + 1);
    live_resume(trial->web);
}

static void check(Trial *trial, const char *name, guint n)
{
    World *world = trial->world;
    gboolean dead = trial->victim == MACHINE || trial->victim == BOTH;
    if (trial->victim == BOTH)
        live_start(trial->web);
    else if (dead)
        live_join(trial->web);
    live_goes_on(trial->web);
    live_holds_images(trial->web);
    g_autofree char *tree = world_tree(world, "web");
    g_autofree char *journal = world_store_file(world, "domains/web/journal.json");
    ck_assert_msg(!strstr(tree, "read-only"), "point %u: %s", n, tree);
    ck_assert_msg(access(journal, F_OK) < 0, "a journal is left");
    if (world_snapshot(world, "web", name))
        expect_whole(trial, name, n);
    else
        expect_no_trace(trial, name);
}

/* Clusters that are lost are all that a killed QEMU may leave in its own images: whatever else is wrong stays. */
static void find_lost_clusters(World *world)
{
    g_autoptr(GDir) dir = g_dir_open(world->images, 0, NULL);
    const char *entry;
    while ((entry = g_dir_read_name(dir))) {
        g_autofree char *path = world_path(world, entry);
        const char *argv[] = {"qemu-img", "check", "-q", "-r", "leaks", "-f", "qcow2", path, NULL};
        if (strcmp(image_format(path), "qcow2") == 0)
            (void)run_argv((char **)argv, NULL);
    }
}

/* All that was taken reads as it did then, and the images are sound. */
static void check_all(Trial *trial)
{
    GHashTableIter iter;
    gpointer name, counter;
    live_end(trial->web);
    if (trial->victim == MACHINE || trial->victim == BOTH)
        find_lost_clusters(trial->world);
    world_check_clean(trial->world, "web");
    g_hash_table_iter_init(&iter, trial->taken);
    while (g_hash_table_iter_next(&iter, &name, &counter)) {
        guint32 now = 0;
        live_snapshot_agrees(trial->web, name, &now);
        ck_assert_uint_eq(now, GPOINTER_TO_UINT(counter));
    }
}

/* --- the runs --- */

static void try_point(Trial *trial, guint n)
{
    g_autofree char *name = g_strdup_printf("c%u", n);
    if (g_getenv("CRASH_ONLY"))
        printf("# point %u\n", n);
    run_child(trial, name, n);
    check(trial, name, n);
}

static guint count_points(Trial *trial)
{
    Victim victim = trial->victim;
    trial->victim = DAEMON;
    run_child(trial, "c0", 0);
    check(trial, "c0", 0);
    trial->victim = victim;
    ck_assert(world_snapshot(trial->world, "web", "c0") != 0);
    return *trial->shared;
}

START_TEST(dies)
{
    g_autofree char *dir = g_strdup_printf("world%d", _i);
    Trial trial = {.kind = &kinds[_i / VICTIMS],
                   .victim = _i % VICTIMS,
                   .world = running_world_new(PATH(dir)),
                   .taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL)};
    trial.shared =
        mmap(NULL, sizeof *trial.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    trial.web = live_define(trial.world, "web", FILES("a.qcow2", "b.qcow2"), NULL);
    live_start(trial.web);
    guint points = count_points(&trial), step = 1, first = 1;
    ck_assert_uint_gt(points, 20);
    if (!g_getenv("CRASH_ALL")) {
        step = MAX(points / samples[trial.victim], 1);
        first = 1 + (guint)(_i * 7 + 3) % step; /* other ones for each kind and victim */
    }
    for (guint n = first; n <= points; n += step)
        try_point(&trial, n);
    printf("# %s: %s at %u of %u points\n", trial.kind->name, victims[trial.victim],
           (points - first) / step + 1, points);
    check_all(&trial);
    munmap(trial.shared, sizeof *trial.shared);
    g_hash_table_unref(trial.taken);
    live_free(trial.web);
    world_free(trial.world);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("running_crash");
    TCase *tcase = machines_case(suite, "points");
    const char *only = g_getenv("CRASH_ONLY");
    guint first = only ? (guint)atoi(only) : 0, end = only                    ? first + 1
                                                      : g_getenv("CRASH_ALL") ? G_N_ELEMENTS(kinds)
                                                                              : 4;
    tcase_set_timeout(tcase, g_getenv("CRASH_ALL") ? 7200 : 300);
    tcase_add_loop_test(tcase, dies, (int)(first * VICTIMS), (int)(end * VICTIMS));
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
