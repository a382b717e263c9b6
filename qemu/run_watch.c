/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The thread that follows all machines, and what others ask it for. */
#include "run_watch.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "error.h"
#include "run_watched.h"

enum { DIRECTORY_MS = 1000 }; /* one that is not there yet is looked for as often */

typedef enum { ASK_WATCH, ASK_UNWATCH, ASK_END } AskKind;

typedef struct {
    AskKind kind;
    RunWatched *machine; /* ASK_WATCH */
    char *uuid;          /* ASK_UNWATCH */
} Ask;

struct RunWatcher {
    char *directory;
    GThread *thread;
    GAsyncQueue *asks;
    int wake;
    GMutex lock; /* thread, told and user */
    MachineTold told;
    gpointer user;

    /* of the thread */
    int notify, place;    /* inotify, its watch of the directory or -1 */
    GHashTable *machines; /* uuid -> RunWatched */
    GHashTable *names;    /* name -> RunWatched */
    GHashTable *busy;     /* set of RunWatched: those with something to wait for */
};

/* --- telling --- */

static void tell(RunWatcher *watcher, const char *uuid, RunState state)
{
    g_mutex_lock(&watcher->lock);
    MachineTold told = watcher->told;
    gpointer user = watcher->user;
    g_mutex_unlock(&watcher->lock);
    if (told)
        told(user, uuid, state);
}

/* After anything was done with @machine, which knew @before: tell what is new, and note whether it waits. */
static void settle(RunWatcher *watcher, RunWatched *machine, gboolean knew, RunState before)
{
    if (machine->ear || machine->pidfd >= 0 || machine->next != G_MAXINT64)
        g_hash_table_add(watcher->busy, machine);
    else
        g_hash_table_remove(watcher->busy, machine);
    if (machine->known && (!knew || before != machine->state))
        tell(watcher, machine->uuid, machine->state);
}

static void act(RunWatcher *watcher, RunWatched *machine, void (*what)(RunWatched *machine))
{
    gboolean knew = machine->known;
    RunState before = machine->state;
    what(machine);
    settle(watcher, machine, knew, before);
}

/* --- what is asked --- */

static void drop(RunWatcher *watcher, const char *uuid)
{
    RunWatched *machine = g_hash_table_lookup(watcher->machines, uuid);
    if (!machine)
        return;
    if (g_hash_table_lookup(watcher->names, machine->name) == machine)
        g_hash_table_remove(watcher->names, machine->name);
    g_hash_table_remove(watcher->busy, machine);
    g_hash_table_remove(watcher->machines, uuid); /* frees it */
}

static void add(RunWatcher *watcher, RunWatched *machine)
{
    drop(watcher, machine->uuid);
    g_hash_table_replace(watcher->machines, machine->uuid, machine);
    g_hash_table_replace(watcher->names, machine->name, machine);
    act(watcher, machine, run_watched_look);
}

/* FALSE: it is over. */
static gboolean take_asks(RunWatcher *watcher)
{
    gboolean goes_on = TRUE;
    guint64 count;
    ssize_t ignored = read(watcher->wake, &count, sizeof count);
    (void)ignored;
    for (Ask *ask; goes_on && (ask = g_async_queue_try_pop(watcher->asks));) {
        if (ask->kind == ASK_WATCH)
            add(watcher, ask->machine);
        else if (ask->kind == ASK_UNWATCH)
            drop(watcher, ask->uuid);
        goes_on = ask->kind != ASK_END;
        g_free(ask->uuid);
        g_free(ask);
    }
    return goes_on;
}

/* --- the directory --- */

static void look_at_all(RunWatcher *watcher)
{
    GHashTableIter iter;
    gpointer machine;
    g_hash_table_iter_init(&iter, watcher->machines);
    while (g_hash_table_iter_next(&iter, NULL, &machine))
        act(watcher, machine, run_watched_look);
}

/* Machines may have been started before it was seen. */
static void find_directory(RunWatcher *watcher)
{
    if (watcher->place >= 0)
        return;
    watcher->place = inotify_add_watch(watcher->notify, watcher->directory,
                                       IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);
    if (watcher->place >= 0)
        look_at_all(watcher);
}

/* "NAME.qmp" and "NAME.monitor". */
static void take_name(RunWatcher *watcher, const char *file)
{
    const char *dot = strrchr(file, '.');
    if (!dot || (strcmp(dot, ".qmp") != 0 && strcmp(dot, ".monitor") != 0))
        return;
    g_autofree char *name = g_strndup(file, (gsize)(dot - file));
    RunWatched *machine = g_hash_table_lookup(watcher->names, name);
    if (!machine)
        return;
    machine->refused = 0;
    act(watcher, machine, run_watched_look);
}

static void take_notice(RunWatcher *watcher, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW) {
        look_at_all(watcher);
    } else if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) {
        if (watcher->place >= 0 && !(event->mask & IN_IGNORED))
            (void)inotify_rm_watch(watcher->notify, watcher->place);
        watcher->place = event->wd == watcher->place ? -1 : watcher->place;
    } else if (event->len > 0) {
        take_name(watcher, event->name);
    }
}

static void take_notices(RunWatcher *watcher)
{
    union {
        struct inotify_event first; /* for its alignment */
        char bytes[16384];
    } buffer;
    ssize_t n;
    while ((n = read(watcher->notify, buffer.bytes, sizeof buffer.bytes)) > 0) {
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *event = (const struct inotify_event *)(buffer.bytes + at);
            take_notice(watcher, event);
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
}

/* --- the thread --- */

static int milliseconds_to(gint64 when)
{
    if (when == G_MAXINT64)
        return -1;
    return (int)CLAMP((when - g_get_monotonic_time() + 999) / 1000, 0, G_MAXINT);
}

static void add_fd(GArray *fds, int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN}; /* one that is negative is passed over */
    g_array_append_val(fds, entry);
}

/* What to wait for: two of ours, then ear and process of each machine in @machines. Until when. */
static gint64 collect(const RunWatcher *watcher, GPtrArray *machines, GArray *fds)
{
    gint64 until = watcher->place >= 0 ? G_MAXINT64 : g_get_monotonic_time() + (gint64)DIRECTORY_MS * 1000;
    GHashTableIter iter;
    gpointer key;
    add_fd(fds, watcher->wake);
    add_fd(fds, watcher->notify);
    g_hash_table_iter_init(&iter, watcher->busy);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const RunWatched *machine = key;
        g_ptr_array_add(machines, key);
        add_fd(fds, machine->ear ? run_ear_fd(machine->ear) : -1);
        add_fd(fds, machine->pidfd);
        until = MIN(until, MIN(machine->next, machine->deadline));
    }
    return until;
}

static void serve(RunWatcher *watcher, RunWatched *machine, const struct pollfd *fds)
{
    if (fds[0].revents)
        act(watcher, machine, run_watched_hear);
    if (fds[1].revents)
        act(watcher, machine, run_watched_ended);
    else if (MIN(machine->next, machine->deadline) <= g_get_monotonic_time())
        act(watcher, machine, run_watched_due);
}

static gpointer follow(gpointer data)
{
    RunWatcher *watcher = data;
    g_autoptr(GPtrArray) machines = g_ptr_array_new();
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(struct pollfd));
    for (;;) {
        g_ptr_array_set_size(machines, 0);
        g_array_set_size(fds, 0);
        find_directory(watcher);
        gint64 until = collect(watcher, machines, fds);
        struct pollfd *ready = (struct pollfd *)fds->data;
        if (poll(ready, fds->len, milliseconds_to(until)) < 0)
            continue; /* a signal for another thread */
        for (guint i = 0; i < machines->len; i++)
            serve(watcher, machines->pdata[i], ready + 2 + 2 * i);
        take_notices(watcher);
        if (!take_asks(watcher)) /* last: it may free machines */
            return NULL;
    }
}

/* --- the outside --- */

/* The thread begins with the first machine: a daemon may fork before. */
static void ask(RunWatcher *watcher, AskKind kind, RunWatched *machine, const char *uuid)
{
    guint64 one = 1;
    Ask *ask = g_new(Ask, 1);
    *ask = (Ask){kind, machine, g_strdup(uuid)};
    g_async_queue_push(watcher->asks, ask);
    g_mutex_lock(&watcher->lock);
    if (!watcher->thread && kind == ASK_WATCH)
        watcher->thread = g_thread_new("machines", follow, watcher);
    g_mutex_unlock(&watcher->lock);
    ssize_t ignored = write(watcher->wake, &one, sizeof one);
    (void)ignored;
    /* cppcheck-suppress memleak ; the queue has it */
}

void run_watcher_watch(RunWatcher *watcher, const MachineSpec *spec)
{
    ask(watcher, ASK_WATCH, run_watched_new(watcher->directory, spec), NULL);
}

void run_watcher_unwatch(RunWatcher *watcher, const char *uuid)
{
    ask(watcher, ASK_UNWATCH, NULL, uuid);
}

void run_watcher_set_told(RunWatcher *watcher, MachineTold told, gpointer user)
{
    g_mutex_lock(&watcher->lock);
    watcher->told = told;
    watcher->user = user;
    g_mutex_unlock(&watcher->lock);
}

RunWatcher *run_watcher_new(const char *directory)
{
    RunWatcher *watcher = g_new0(RunWatcher, 1);
    watcher->directory = g_strdup(directory);
    watcher->asks = g_async_queue_new();
    watcher->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watcher->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    watcher->place = -1;
    g_mutex_init(&watcher->lock);
    watcher->machines =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)run_watched_free);
    watcher->names = g_hash_table_new(g_str_hash, g_str_equal);
    watcher->busy = g_hash_table_new(NULL, NULL);
    return watcher;
}

void run_watcher_free(RunWatcher *watcher)
{
    if (!watcher)
        return;
    ask(watcher, ASK_END, NULL, NULL);
    if (watcher->thread)
        g_thread_join(watcher->thread);
    for (Ask *left; (left = g_async_queue_try_pop(watcher->asks));) {
        if (left->machine)
            run_watched_free(left->machine);
        g_free(left->uuid);
        g_free(left);
    }
    g_async_queue_unref(watcher->asks);
    g_hash_table_unref(watcher->busy);
    g_hash_table_unref(watcher->names);
    g_hash_table_unref(watcher->machines);
    close(watcher->wake);
    close(watcher->notify);
    g_mutex_clear(&watcher->lock);
    g_free(watcher->directory);
    g_free(watcher);
}
