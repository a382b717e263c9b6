/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines followed: what becomes of them is told, by whoever it is done, and soon. */
#include "run_dir.h"
#include "run_watch.h"
#include "runner.h"
#include "start_world.h"

#include <sys/resource.h>

/* --- who is told --- */

typedef struct {
    GMutex lock;
    GCond change;
    const char *uuid;
    RunState state; /* told last */
    guint n;
} Ear;

static void hear(gpointer user, const char *uuid, RunState state)
{
    Ear *ear = user;
    g_mutex_lock(&ear->lock);
    if (!ear->uuid || g_str_equal(uuid, ear->uuid)) {
        ear->state = state;
        ear->n++;
        g_cond_broadcast(&ear->change);
    }
    g_mutex_unlock(&ear->lock);
}

/* How long it took until the last that was told was @state, in milliseconds. */
static gint64 await_state(Ear *ear, RunState state, int ms)
{
    gint64 begin = g_get_monotonic_time();
    gboolean in_time = TRUE;
    g_mutex_lock(&ear->lock);
    while (in_time && (ear->n == 0 || ear->state != state))
        in_time = g_cond_wait_until(&ear->change, &ear->lock, begin + (gint64)ms * 1000);
    RunState last = ear->state;
    guint n = ear->n;
    g_mutex_unlock(&ear->lock);
    ck_assert_msg(in_time, "not told of state %d within %d ms, but %u times, last of %d", state, ms, n, last);
    return (g_get_monotonic_time() - begin) / 1000;
}

/* Until something was told @n times at least. */
static void await_times(Ear *ear, guint n)
{
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    g_mutex_lock(&ear->lock);
    while (ear->n < n && g_cond_wait_until(&ear->change, &ear->lock, end))
        continue;
    guint told = ear->n;
    g_mutex_unlock(&ear->lock);
    ck_assert_uint_ge(told, n);
}

/* Hear of @uuid only (NULL: of all): how much was told so far. */
static guint listen_for(Ear *ear, const char *uuid)
{
    g_mutex_lock(&ear->lock);
    ear->uuid = uuid;
    guint n = ear->n;
    g_mutex_unlock(&ear->lock);
    return n;
}

typedef struct {
    StartWorld world;
    RunWatcher *watcher;
    Ear ear;
} Watch;

enum { AT_ONCE = 1000, SOON = 10000, LATER = 3 * RUN_WATCH_MS + SOON };

static void watch(Watch *w)
{
    MachineDisk disks[] = {{"vda", w->world.disks.vda, FALSE}, {"vdb", w->world.disks.vdb, FALSE}};
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof *disks);
    g_array_append_vals(all, disks, 2);
    MachineSpec spec = {.name = w->world.name, .uuid = w->world.def->uuid, .disks = all};
    (void)listen_for(&w->ear, w->world.def->uuid);
    run_watcher_watch(w->watcher, &spec);
}

static Watch *watch_new(const char *test, const char *name)
{
    Watch *w = g_new0(Watch, 1);
    w->world = start_world_new(test, name);
    w->watcher = run_watcher_new(w->world.run);
    g_mutex_init(&w->ear.lock);
    g_cond_init(&w->ear.change);
    run_watcher_set_told(w->watcher, hear, &w->ear);
    return w;
}

static void watch_free(Watch *w)
{
    run_watcher_free(w->watcher);
    start_world_clear(&w->world);
    g_mutex_clear(&w->ear.lock);
    g_cond_clear(&w->ear.change);
    g_free(w);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Watch, watch_free)
#define WATCH(name) watch_new(__func__, name)

static void command(const Watch *w, const char *name)
{
    GError *error = NULL;
    QmpWait wait = qmp_wait(20000, NULL);
    ASSERT_OK(qmp_do(w->world.qmp, name, json_object(), &wait, &error), error);
}

/* --- ours --- */

START_TEST(test_a_life)
{
    g_autoptr(Watch) w = WATCH("life");
    watch(w);
    await_state(&w->ear, RUN_OFF, SOON);
    world_start(&w->world); /* nobody tells the watcher */
    await_state(&w->ear, RUN_RUNNING, SOON);
    command(w, "stop");
    await_state(&w->ear, RUN_PAUSED, AT_ONCE);
    command(w, "cont");
    await_state(&w->ear, RUN_RUNNING, AT_ONCE);
    ck_assert_int_eq(kill(qmp_pid(w->world.qmp), SIGKILL), 0);
    await_state(&w->ear, RUN_OFF, AT_ONCE);
    world_end(&w->world, FALSE);
    world_start(&w->world);
    await_state(&w->ear, RUN_RUNNING, SOON);
    world_end(&w->world, TRUE);
    await_state(&w->ear, RUN_OFF, AT_ONCE);
}
END_TEST

START_TEST(test_one_that_runs_already)
{
    g_autoptr(Watch) w = WATCH("already");
    w->world.start.paused = TRUE;
    world_start(&w->world);
    watch(w);
    await_state(&w->ear, RUN_PAUSED, SOON);
    command(w, "cont");
    await_state(&w->ear, RUN_RUNNING, AT_ONCE);
    /* told again, when it is asked for again */
    watch(w);
    await_times(&w->ear, 3);
    await_state(&w->ear, RUN_RUNNING, SOON);
}
END_TEST

START_TEST(test_not_any_more)
{
    g_autoptr(Watch) w = WATCH("unwatched");
    g_autoptr(Watch) other = WATCH("other");
    world_start(&w->world);
    watch(w);
    await_state(&w->ear, RUN_RUNNING, SOON);
    run_watcher_unwatch(w->watcher, w->world.def->uuid);
    /* what is asked for after it is done after it */
    MachineSpec spec = {.name = "none", .uuid = other->world.def->uuid};
    (void)listen_for(&w->ear, spec.uuid);
    run_watcher_watch(w->watcher, &spec);
    await_state(&w->ear, RUN_OFF, SOON);
    guint n = listen_for(&w->ear, NULL);
    command(w, "stop");
    world_end(&w->world, TRUE);
    g_usleep(300000);
    ck_assert_uint_eq(listen_for(&w->ear, NULL), n);
}
END_TEST

/* --- others' --- */

/* The only monitor is let go again. */
START_TEST(test_one_socket_only)
{
    g_autoptr(Watch) w = WATCH("single");
    g_autofree char *socket = world_file(&w->world, ".qmp");
    g_autofree char *monitor = g_strdup_printf("socket,id=o,path=%s,server=on,wait=off", socket);
    ck_assert_int_eq(mkdir(w->world.run, 0700), 0);
    g_autoptr(Guest) guest =
        start_on(&w->world.disks, w->world.disks.vda, w->world.disks.vdb,
                 WORDS("-uuid", w->world.def->uuid, "-chardev", monitor, "-mon", "chardev=o,mode=control"));
    watch(w);
    await_state(&w->ear, RUN_RUNNING, SOON);
    guest_monitor_do(guest->monitor, "stop", NULL);
    await_state(&w->ear, RUN_PAUSED, LATER);
    for (int i = 0; i < 20; i++) { /* it is free, but for moments */
        g_autoptr(GError) error = NULL;
        QmpWait wait = qmp_wait(900, NULL);
        g_autoptr(Qmp) qmp = qmp_connect(socket, NULL, &wait, &error);
        ASSERT_OK(qmp != NULL, error);
    }
    guest_kill(guest);
    await_state(&w->ear, RUN_OFF, AT_ONCE);
}
END_TEST

/* Somebody else listens at the second socket. */
START_TEST(test_no_place_to_listen)
{
    g_autoptr(Watch) w = WATCH("crowded");
    world_start(&w->world);
    g_autoptr(Guest) guest = world_guest(&w->world);
    g_clear_pointer(&w->world.qmp, qmp_close);
    watch(w);
    await_state(&w->ear, RUN_RUNNING, SOON);
    guest_monitor_do(guest->monitor, "stop", NULL);
    await_state(&w->ear, RUN_PAUSED, LATER);
    guest_quit(guest);
    await_state(&w->ear, RUN_OFF, AT_ONCE);
}
END_TEST

START_TEST(test_images_that_somebody_writes)
{
    g_autoptr(Watch) w = WATCH("locked");
    g_autoptr(Guest) guest = start_disks(&w->world.disks);
    watch(w);
    await_state(&w->ear, RUN_UNKNOWN, SOON);
    guest_quit(guest);
    await_state(&w->ear, RUN_OFF, LATER);
}
END_TEST

START_TEST(test_another_machine)
{
    g_autoptr(Watch) w = WATCH("stranger");
    world_start(&w->world);
    g_autofree char *old = g_strdup(w->world.def->uuid);
    domain_def_set_uuid(w->world.def, "00000000-1111-2222-3333-444444444444");
    watch(w);
    await_state(&w->ear, RUN_UNKNOWN, SOON);
    world_end(&w->world, TRUE);
    await_state(&w->ear, RUN_OFF, LATER);
}
END_TEST

/* --- on_poweroff, on_crash --- */

static guint32 boots_with(const Watch *w)
{
    g_autoptr(Guest) guest = world_guest(&w->world);
    g_autoptr(GError) error = NULL;
    GuestMemory memory;
    guest_wait(guest, 2);
    LOOK(guest_look_memory(guest, &memory, &error));
    return memory.first;
}

static void await_status(const Watch *w, const char *expected)
{
    QmpWait wait = qmp_wait(SOON, NULL);
    for (guint64 seen = 0;;) {
        GError *error = NULL;
        g_autoptr(json_t) status = qmp_run(w->world.qmp, "query-status", json_object(), &wait, &error);
        ASSERT_OK(status != NULL, error);
        if (g_str_equal(json_string_value(json_object_get(status, "status")), expected))
            return;
        ASSERT_OK(qmp_wait_event(w->world.qmp, &seen, 100, &wait, &error), error);
    }
}

/* Until the guest has begun with another step than @first; it is looked at through the socket at which nobody listens. */
static void await_boot(Watch *w, guint32 first)
{
    g_autofree char *socket = world_file(&w->world, ".qmp");
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    GuestMemory memory = {.first = first};
    g_clear_pointer(&w->world.qmp, qmp_close);
    g_autoptr(Guest) guest = guest_join(socket);
    while (!guest_look_memory(guest, &memory, NULL) || memory.first == first) {
        ck_assert_msg(g_get_monotonic_time() < end, "it does not boot again");
        g_usleep(10000);
    }
}

START_TEST(test_restart)
{
    g_autofree char *test = g_strdup_printf("restart%d", _i);
    g_autoptr(Watch) w = watch_new(test, test);
    gboolean crash = _i & 1, late = _i & 2;
    world_edit(&w->world, "  <devices>",
               crash ? "  <on_crash>restart</on_crash>\n  <devices>\n    <panic model='isa'/>"
                     : "  <on_poweroff>restart</on_poweroff>\n  <devices>");
    world_start(&w->world);
    guint32 first = boots_with(w);
    if (!late) {
        watch(w);
        await_state(&w->ear, RUN_RUNNING, SOON);
    }
    QmpWait wait = qmp_wait(SOON, NULL);
    GError *error = NULL;
    if (crash)
        ASSERT_OK(qmp_do(w->world.qmp, "send-key",
                         json_pack("{s:[{s:s,s:s}]}", "keys", "type", "qcode", "data", "p"), &wait, &error),
                  error);
    else
        command(w, "system_powerdown");
    if (late) {
        await_status(w, crash ? "guest-panicked" : "shutdown");
        watch(w);
    }
    await_boot(w, first);
    await_state(&w->ear, RUN_RUNNING, SOON);
    end_machines(w->world.disks.dir);
    await_state(&w->ear, RUN_OFF, AT_ONCE);
}
END_TEST

START_TEST(test_preserve)
{
    g_autoptr(Watch) w = WATCH("preserve");
    world_edit(&w->world, "  <devices>", "  <on_poweroff>preserve</on_poweroff>\n  <devices>");
    world_start(&w->world);
    (void)boots_with(w);
    watch(w);
    await_state(&w->ear, RUN_RUNNING, SOON);
    command(w, "system_powerdown");
    await_state(&w->ear, RUN_PAUSED, SOON);
    await_status(w, "shutdown");
}
END_TEST

/* --- many --- */

static gint64 processor_us(void)
{
    struct rusage usage;
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &usage), 0);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * G_USEC_PER_SEC + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
}

START_TEST(test_ten_thousand_that_are_off)
{
    enum { MANY = 10000 };
    g_autoptr(Watch) w = WATCH("many");
    ck_assert_int_eq(mkdir(w->world.run, 0700), 0);
    for (guint i = 0; i < MANY; i++) {
        g_autofree char *name = g_strdup_printf("vm%u", i);
        g_autofree char *uuid = g_strdup_printf("00000000-0000-0000-0000-%012u", i);
        MachineSpec spec = {.name = name, .uuid = uuid};
        run_watcher_watch(w->watcher, &spec);
    }
    await_times(&w->ear, MANY);
    gint64 before = processor_us();
    g_usleep(500000);
    ck_assert_int_lt(processor_us() - before, 20000);
    watch(w); /* and among them one is still noticed */
    world_start(&w->world);
    await_state(&w->ear, RUN_RUNNING, SOON);
}
END_TEST

/* --- the log --- */

START_TEST(test_the_log_is_bounded)
{
    g_autofree char *path = PATH("a.log"), *noise = g_strnfill(RUN_LOG_BYTES, 'x'), *precious = PATH("b.log");
    GError *error = NULL;
    int fd = run_log_open(path, &error);
    ck_assert_int_ge(fd, 0);
    ck_assert_ptr_null(run_log_words(path, "qemu-system-x86_64"));
    ck_assert_int_eq(dprintf(fd, "qemu-system-x86_64: warning: hot\nqemu-system-x86_64: no\n: way\n"),
                     64 - 2);
    g_autofree char *words = run_log_words(path, "qemu-system-x86_64");
    ck_assert_str_eq(words, "no; : way");
    run_log_trim(path);
    g_autofree char *kept = run_log_words(path, "qemu-system-x86_64");
    ck_assert_str_eq(kept, words);
    ck_assert_int_eq(write(fd, noise, RUN_LOG_BYTES), RUN_LOG_BYTES);
    run_log_trim(path);
    ck_assert_ptr_null(run_log_words(path, "qemu-system-x86_64"));
    ck_assert_int_eq(dprintf(fd, "qemu-system-x86_64: new\n"), 24);
    g_autofree char *after = run_log_words(path, "qemu-system-x86_64");
    ck_assert_str_eq(after, "new");
    close(fd);
    /* one that is not ours stays as it is */
    ck_assert(g_file_set_contents(precious, noise, RUN_LOG_BYTES, NULL));
    fd = open(precious, O_WRONLY | O_APPEND | O_CLOEXEC);
    ck_assert_int_eq(write(fd, noise, RUN_LOG_BYTES), RUN_LOG_BYTES);
    close(fd);
    g_autofree char *before = file_hash(precious);
    run_log_trim(precious);
    g_autofree char *still = file_hash(precious);
    ck_assert_str_eq(before, still);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_watch");
    TCase *tcase = start_case(suite, "run_watch");
    tcase_add_test(tcase, test_a_life);
    tcase_add_test(tcase, test_one_that_runs_already);
    tcase_add_test(tcase, test_not_any_more);
    tcase_add_test(tcase, test_one_socket_only);
    tcase_add_test(tcase, test_no_place_to_listen);
    tcase_add_test(tcase, test_images_that_somebody_writes);
    tcase_add_test(tcase, test_another_machine);
    tcase_add_loop_test(tcase, test_restart, 0, 4);
    tcase_add_test(tcase, test_preserve);
    tcase_add_test(tcase, test_ten_thousand_that_are_off);
    tcase_add_test(tcase, test_the_log_is_bounded);
    return run_suite(suite);
}
