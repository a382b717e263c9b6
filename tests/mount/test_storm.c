/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kill -9 storm: several domains at work, each driven by a process of its own, layers being joined behind their
 * backs, and a killer that hits the daemon, its qemu-img, or both. After every death of the daemon it is started again
 * and every state of every snapshot is read back: a gesture that was under way has happened or not, and nothing else
 * has changed.
 *
 * STORM_KILLS=N: how many kills (120); STORM_SEED=N: the same choices again (the moments are the machine's).
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ledger.h"
#include "runner.h"

enum { MAX_SNAPSHOTS = 3, ANSWER_SECONDS = 120, DEFAULT_KILLS = 120 };
#define OPTIONS "merge_idle=5"

static guint from_environment(const char *name, guint otherwise)
{
    const char *text = g_getenv(name);
    return text != NULL ? (guint)g_ascii_strtoull(text, NULL, 10) : otherwise;
}

/* --- a driver --- */

typedef struct {
    pid_t pid;
    int fd; /* our end: 'g' go, 'e' come to an end; its answers: 'v' verified, 'd' the daemon is dead */
} Driver;

static Gesture choose(Ledger *l)
{
    static const Gesture often[] = {CREATE, CREATE, CREATE, REVERT, DELETE, DELETE, DELETE_TREE, RENAME};
    guint n = l->entries->len;
    if (l->kept && g_rand_int_range(l->rand, 0, 3) == 0)
        return UNDO;
    if (n == 0)
        return CREATE;
    Gesture gesture = often[g_rand_int_range(l->rand, 0, G_N_ELEMENTS(often))];
    return gesture == CREATE && n >= MAX_SNAPSHOTS ? DELETE : gesture;
}

/* Gestures and the guest's writes until the daemon dies. */
static void work(Ledger *l)
{
    while (world_is_mounted(l->w)) {
        ledger_write(l);
        Gesture gesture = choose(l);
        const char *subject = NULL;
        if (gesture == CREATE)
            subject = keepf(l->w, "n%u", l->serial++);
        else if (gesture != UNDO)
            subject = ledger_any(l)->name;
        int err = ledger_do(l, gesture, subject);
        if (err != 0 && !world_is_mounted(l->w))
            return;
        ck_assert_msg(err == 0 || err == EIO || err == EBUSY, "%s: gesture %d on '%s': %s; log: %s",
                      l->domain, gesture, subject, g_strerror(err),
                      text_of(l->w, keepf(l->w, "%s/log", l->domain)));
        if (!ledger_settle(l, TRUE, err))
            return;
        g_usleep((gulong)g_rand_int_range(l->rand, 0, 100000)); /* layers are joined when nothing happens */
    }
}

static void come_to_an_end(Ledger *l)
{
    while (l->entries->len > 0) {
        int err = ledger_do(l, DELETE, ledger_any(l)->name);
        ck_assert_msg(err == 0, "%s: delete: %s", l->domain, g_strerror(err));
        ck_assert(ledger_settle(l, TRUE, 0));
    }
    command(l->w, l->domain, "wait");
    ledger_verify(l);
    ledger_check_images(l);
    ledger_end(l);
}

static void tell(int fd, char word)
{
    ck_assert_int_eq(send(fd, &word, 1, MSG_NOSIGNAL), 1);
}

static G_GNUC_NORETURN void drive(Ledger *l, int fd)
{
    char word;
    while (recv(fd, &word, 1, 0) == 1) {
        g_string_chunk_clear(l->w->strings);
        ledger_settle(l, FALSE, 0);
        ledger_verify(l);
        ledger_check_images(l);
        if (word == 'e') {
            come_to_an_end(l);
            tell(fd, 'v');
            _exit(0);
        }
        tell(fd, 'v');
        work(l);
        tell(fd, 'd');
    }
    _exit(0); /* the test is gone */
}

static Driver driver_start(Ledger *l)
{
    int fds[2];
    ck_works(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        drive(l, fds[1]);
    }
    close(fds[1]);
    return (Driver){pid, fds[0]};
}

/* What it says; when it ends instead, it has said why, and this test ends too. */
static void expect(const Driver *driver, char word)
{
    struct pollfd wait = {.fd = driver->fd, .events = POLLIN};
    char answer;
    ck_assert_msg(poll(&wait, 1, ANSWER_SECONDS * 1000) == 1, "a driver does not answer");
    if (recv(driver->fd, &answer, 1, 0) != 1)
        exit(EXIT_FAILURE);
    ck_assert_int_eq(answer, word);
}

/* --- the killer --- */

typedef struct {
    World *w;
    GRand *rand;
    Driver drivers[3];
    guint n_drivers;
    GArray *orphans; /* of int: pidfds of what a dead daemon may have left at work */
    guint daemons, children, both, early, stopped; /* kills, by kind */
    guint commits;                                 /* of those, while layers were being joined */
    guint left;                                    /* starts that found something still at work */
} Storm;

/* The parent of process @pid, 0 when it is gone. */
static pid_t parent_of(pid_t pid)
{
    g_autofree char *file = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(file, &text, NULL, NULL))
        return 0;
    const char *end = strrchr(text, ')');
    int parent = 0;
    return end != NULL && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static gboolean joins_layers(pid_t pid)
{
    g_autofree char *file = g_strdup_printf("/proc/%d/cmdline", (int)pid);
    g_autofree char *text = NULL;
    gsize size = 0;
    if (!g_file_get_contents(file, &text, &size, NULL) || size == 0)
        return FALSE;
    gsize first = strlen(text) + 1;
    return first < size && strcmp(text + first, "commit") == 0;
}

/*
 * Between fork and exec a child is a copy of the daemon, with the daemon's end of the mount: stopped there it would keep
 * that, and with it everybody who waits for an answer, whatever becomes of the daemon.
 */
static gboolean is_copy(pid_t pid, pid_t daemon)
{
    g_autofree char *file = g_strdup_printf("/proc/%d/exe", (int)pid);
    g_autofree char *of_daemon = g_strdup_printf("/proc/%d/exe", (int)daemon);
    g_autofree char *program = g_file_read_link(file, NULL);
    g_autofree char *program_of_daemon = g_file_read_link(of_daemon, NULL);
    return program == NULL || g_strcmp0(program, program_of_daemon) == 0;
}

/* A child of the daemon: a pidfd, which stays that process's; -1: none is there. */
static int find_child(const Storm *s, gboolean joining, gboolean begun)
{
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(proc)) != NULL) {
        pid_t pid = (pid_t)atoi(name);
        if (pid <= 0 || parent_of(pid) != s->w->daemon || (joining && !joins_layers(pid)) ||
            (begun && is_copy(pid, s->w->daemon)))
            continue;
        int fd = pidfd_open(pid, 0);
        if (fd >= 0 && parent_of(pid) == s->w->daemon)
            return fd;
        if (fd >= 0)
            close(fd);
    }
    return -1;
}

/* Wait for one, a moment. */
static int await_child(Storm *s, gboolean begun)
{
    gboolean joining = g_rand_int_range(s->rand, 0, 3) != 0;
    gint64 end = g_get_monotonic_time() + 250 * 1000;
    int fd = -1;
    while ((fd = find_child(s, joining, begun)) < 0 && g_get_monotonic_time() < end)
        g_usleep(500);
    return fd;
}

static gboolean send_to(int pidfd, int signal)
{
    return pidfd_send_signal(pidfd, signal, NULL, 0) == 0;
}

static void rest(Storm *s, gint32 most_ms)
{
    g_usleep((gulong)g_rand_int_range(s->rand, 0, most_ms * 1000));
}

static gboolean has_ended(int pidfd)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    return poll(&ended, 1, 0) == 1;
}

/* What is at work when the daemon dies becomes ours. */
static void kill_daemon(Storm *s)
{
    int joining = find_child(s, TRUE, FALSE);
    if (joining >= 0) {
        g_array_append_val(s->orphans, joining);
        s->commits++;
    }
    ck_works(kill(s->w->daemon, SIGKILL));
    ck_assert_int_eq(waitpid(s->w->daemon, NULL, 0), s->w->daemon);
    s->w->daemon = 0;
    s->daemons++;
}

static void strike(Storm *s)
{
    enum { DAEMON, CHILDREN, BOTH, STOPPED };
    static const int kinds[] = {DAEMON, DAEMON, CHILDREN, CHILDREN, BOTH, STOPPED};
    int kind = kinds[g_rand_int_range(s->rand, 0, G_N_ELEMENTS(kinds))];
    rest(s, kind == DAEMON ? 250 : 60);
    for (guint i = kind == CHILDREN ? 3 : kind == DAEMON ? 0 : 1; i > 0; i--) {
        int child = await_child(s, kind == STOPPED);
        if (child < 0)
            break;
        rest(s, 12);
        if (kind == STOPPED && send_to(child, SIGSTOP)) {
            s->stopped++;
            kill_daemon(s);
            g_array_append_val(s->orphans, child);
            return;
        }
        gboolean hit = !has_ended(child) && send_to(child, SIGKILL);
        s->children += hit;
        s->both += hit && kind == BOTH;
        close(child);
    }
    kill_daemon(s);
}

/* Also while it starts, and recovers what the last death left. */
static void kill_early(Storm *s)
{
    world_launch(s->w, OPTIONS);
    rest(s, 200);
    kill_daemon(s);
    s->early++;
}

/* How many are still at work. Those that have ended are reaped. */
static guint count_orphans(Storm *s)
{
    guint n = 0;
    for (guint i = s->orphans->len; i > 0; i--) {
        int fd = g_array_index(s->orphans, int, i - 1);
        if (!has_ended(fd)) {
            n++;
            continue;
        }
        waitid(P_PIDFD, (id_t)fd, &(siginfo_t){0}, WEXITED);
        close(fd);
        g_array_remove_index_fast(s->orphans, i - 1);
    }
    return n;
}

/* --- the test --- */

static void tell_all(Storm *s, char word, char answer)
{
    for (guint i = 0; i < s->n_drivers; i++)
        tell(s->drivers[i].fd, word);
    for (guint i = 0; i < s->n_drivers; i++)
        expect(&s->drivers[i], answer);
}

static void weather(Storm *s, guint kills)
{
    while (s->daemons + s->children < kills) {
        tell_all(s, 'g', 'v');
        strike(s);
        for (guint i = 0; i < s->n_drivers; i++)
            expect(&s->drivers[i], 'd');
        if (g_rand_int_range(s->rand, 0, 6) == 0)
            kill_early(s);
        world_start(s->w, OPTIONS);
        s->left += count_orphans(s) > 0;
    }
    tell_all(s, 'e', 'v');
}

static void no_temporary_file_is_left(const Storm *s)
{
    g_autoptr(GDir) dir = g_dir_open(s->w->images, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(dir)) != NULL)
        ck_assert_msg(name[0] != '.', "'%s' is left", name);
}

START_TEST(storm)
{
    static const char *const machines[][2] = {{"one", "qcow2"}, {"two", "qcow2 raw"}, {"raw", "raw"}};
    guint seed = from_environment("STORM_SEED", g_random_int());
    guint kills = from_environment("STORM_KILLS", DEFAULT_KILLS);
    gint64 began = g_get_monotonic_time();
    printf("# storm: STORM_SEED=%u STORM_KILLS=%u\n", seed, kills);
    fflush(NULL);
    ck_works(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    g_autoptr(World) w = world_new(OPTIONS);
    Storm s = {.w = w, .rand = g_rand_new_with_seed(seed), .orphans = g_array_new(FALSE, FALSE, sizeof(int))};
    for (guint i = 0; i < G_N_ELEMENTS(machines); i++) {
        g_autoptr(Ledger) l = ledger_new(w, machines[i][0], machines[i][1], seed + i + 1);
        s.drivers[s.n_drivers++] = driver_start(l);
    }
    weather(&s, kills);
    for (guint i = 0; i < s.n_drivers; i++)
        ck_assert_int_eq(background_wait(s.drivers[i].pid), 0);
    no_temporary_file_is_left(&s);
    printf("# storm: survived %u kills: %u of the daemon (%u while it joined layers, %u while it started), "
           "%u of its "
           "children (%u of both); %u children stopped before, %u starts with one still at work; %.0f s\n",
           s.daemons + s.children, s.daemons, s.commits, s.early, s.children, s.both, s.stopped, s.left,
           (double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC);
    for (guint i = 0; i < s.n_drivers; i++)
        close(s.drivers[i].fd);
    g_rand_free(s.rand);
    g_array_free(s.orphans, TRUE);
}
END_TEST

/* --- what was at work when the daemon died --- */

/* Layers are being joined, and the qemu-img that does it is stopped in the middle. Its pidfd. */
static int stop_in_the_middle(Storm *s, Ledger *l)
{
    for (guint i = 0; i < 50; i++) {
        int err = ledger_do(l, CREATE, keepf(s->w, "m%u", i));
        ck_assert(err == 0 && ledger_settle(l, TRUE, 0));
        for (guint n = 0; n < 4; n++)
            ledger_write(l);
        err = ledger_do(l, DELETE, ledger_any(l)->name);
        ck_assert(err == 0 && ledger_settle(l, TRUE, 0));
        gint64 end = g_get_monotonic_time() + G_USEC_PER_SEC;
        int child = -1;
        while ((child = find_child(s, TRUE, TRUE)) < 0 && g_get_monotonic_time() < end)
            g_usleep(200);
        if (child >= 0 && send_to(child, SIGSTOP) && !has_ended(child))
            return child;
        if (child >= 0)
            close(child);
    }
    ck_abort_msg("no qemu-img could be stopped in time");
}

/* The daemon dies, and its qemu-img with it, even one that is stopped: nobody works behind the next daemon's back. */
START_TEST(dies_with_it)
{
    ck_works(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    g_autoptr(World) w = world_new(OPTIONS);
    Storm s = {.w = w, .rand = g_rand_new_with_seed(1), .orphans = g_array_new(FALSE, FALSE, sizeof(int))};
    const char *format = _i == 0 ? "qcow2" : "raw";
    g_autoptr(Ledger) l = ledger_new(w, "web", format, (guint32)_i);
    int child = stop_in_the_middle(&s, l);
    kill_daemon(&s);
    ck_eventually(has_ended(child), 60);
    world_start(w, OPTIONS);
    command(w, "web", "wait");
    ck_assert_str_eq(active_path(w, "web", "vda"), image(w, keepf(w, "web-vda.%s", format)));
    ledger_verify(l);
    ledger_end(l);
    ck_assert_uint_eq(count_orphans(&s), 0);
    g_array_free(s.orphans, TRUE);
    g_rand_free(s.rand);
    close(child);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("storm");
    TCase *tcase = add_case(suite, "storm");
    tcase_set_timeout(tcase, 300 + 5 * from_environment("STORM_KILLS", DEFAULT_KILLS));
    tcase_add_loop_test(tcase, dies_with_it, 0, 2);
    tcase_add_test(tcase, storm);
    return suite;
}

int main(void)
{
    return mount_main(suite());
}
