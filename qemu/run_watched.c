/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "run_watched.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lockprobe.h"
#include "run_dir.h"
#include "run_watch.h"

/*
 * SOON: who has ended, or has made a socket and does not listen yet, is looked at again; REFUSALS: so often, because what a
 * QEMU that was killed leaves is a socket, too. TAKEN: after so long it is asked whether another client is served.
 */
enum { SOON_MS = 100, REFUSALS = 5, TAKEN_MS = 500, TRIM_MS = 30000 };

RunWatched *run_watched_new(const char *directory, const MachineSpec *spec)
{
    RunWatched *machine = g_new0(RunWatched, 1);
    machine->uuid = g_strdup(spec->uuid);
    machine->name = g_strdup(spec->name);
    machine->qmp = g_strdup_printf("%s/%s.qmp", directory, spec->name);
    machine->monitor = g_strdup_printf("%s/%s.monitor", directory, spec->name);
    machine->log = g_strdup_printf("%s/%s.log", directory, spec->name);
    machine->images = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; spec->disks && i < spec->disks->len; i++) {
        const MachineDisk *disk = &g_array_index(spec->disks, MachineDisk, i);
        if (!disk->read_only)
            g_ptr_array_add(machine->images, g_strdup(disk->path));
    }
    if (spec->nvram)
        g_ptr_array_add(machine->images, g_strdup(spec->nvram));
    machine->pidfd = -1;
    machine->next = machine->deadline = G_MAXINT64;
    return machine;
}

static void hang_up(RunWatched *machine)
{
    g_clear_pointer(&machine->ear, run_ear_close);
    machine->deadline = G_MAXINT64;
}

static void forget_process(RunWatched *machine)
{
    if (machine->pidfd >= 0)
        close(machine->pidfd);
    machine->pidfd = -1;
}

void run_watched_free(RunWatched *machine)
{
    hang_up(machine);
    forget_process(machine);
    g_ptr_array_unref(machine->images);
    g_free(machine->uuid);
    g_free(machine->name);
    g_free(machine->qmp);
    g_free(machine->monitor);
    g_free(machine->log);
    g_free(machine);
}

static void found(RunWatched *machine, RunState state)
{
    machine->known = TRUE;
    machine->state = state;
}

static void look_again_in(RunWatched *machine, int ms)
{
    machine->next = g_get_monotonic_time() + (gint64)ms * 1000;
}

/* --- nobody listens --- */

static gboolean are_written(const RunWatched *machine)
{
    for (guint i = 0; i < machine->images->len; i++) {
        ImageUse use = USE_NONE;
        g_autoptr(GError) error = NULL;
        if (!lockprobe_in_use(machine->images->pdata[i], &use, &error) && error->code != ENOENT)
            return TRUE; /* who cannot look does not know */
        if (use == USE_WRITER)
            return TRUE;
    }
    return FALSE;
}

static void look_at_images(RunWatched *machine, gboolean refused)
{
    gboolean written = are_written(machine);
    gboolean soon = refused && machine->refused < REFUSALS;
    machine->refused = refused ? machine->refused + 1 : 0;
    machine->taken = FALSE;
    machine->next = G_MAXINT64;
    if (soon)
        look_again_in(machine, SOON_MS);
    else if (written)
        look_again_in(machine, RUN_WATCH_MS);
    if (!written || !soon) /* one that is just ending may still have them for a moment */
        found(machine, written ? RUN_UNKNOWN : RUN_OFF);
}

/* --- somebody does --- */

static void know_process(RunWatched *machine)
{
    pid_t pid = run_ear_pid(machine->ear);
    forget_process(machine);
    if (pid > 0)
        machine->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
}

/* FALSE: nobody listens at @path. *refused: there is a socket, though. */
static gboolean connect_to(RunWatched *machine, const char *path, gboolean brief, gboolean *refused)
{
    g_autoptr(GError) error = NULL;
    machine->ear = run_ear_open(path, machine->uuid, &error);
    if (machine->ear) {
        machine->brief = brief;
        machine->refused = 0;
        machine->next = G_MAXINT64;
        machine->deadline = g_get_monotonic_time() + TAKEN_MS * 1000;
        know_process(machine);
        return TRUE;
    }
    *refused = *refused || error->code == ECONNREFUSED;
    machine->taken = machine->taken || (error->code == EBUSY && !brief);
    if (error->code == ENOENT || error->code == ECONNREFUSED || (error->code == EBUSY && !brief))
        return FALSE;
    if (!machine->known || error->code != EBUSY) /* busy: it goes on as it was */
        found(machine, RUN_UNKNOWN);
    look_again_in(machine, RUN_WATCH_MS);
    return TRUE;
}

void run_watched_look(RunWatched *machine)
{
    gboolean refused = FALSE;
    if (machine->ear)
        return;
    if (!machine->taken && connect_to(machine, machine->monitor, FALSE, &refused))
        return;
    if (connect_to(machine, machine->qmp, TRUE, &refused))
        return;
    look_at_images(machine, refused);
}

/* Another client is served there: it is the second monitor, or one that somebody works at. */
static void give_way(RunWatched *machine)
{
    gboolean brief = machine->brief;
    hang_up(machine);
    machine->taken = machine->taken || !brief;
    if (brief && !machine->known)
        found(machine, RUN_UNKNOWN);
    look_again_in(machine, brief ? RUN_WATCH_MS : 0);
}

/* The first answer has not come in time: QEMU serves another one, or nobody at the moment. */
static void check_deadline(RunWatched *machine)
{
    if (g_get_monotonic_time() < machine->deadline)
        return;
    if (run_ear_is_taken(machine->ear)) {
        give_way(machine);
        return;
    }
    machine->deadline = g_get_monotonic_time() + RUN_WATCH_MS * 1000;
    if (!machine->known)
        found(machine, RUN_UNKNOWN);
}

/* It has answered. */
static void take_state(RunWatched *machine, RunState state)
{
    found(machine, state);
    machine->deadline = G_MAXINT64;
    if (machine->brief || state == RUN_UNKNOWN) {
        machine->taken = FALSE; /* maybe not any more, next time */
        hang_up(machine);
        look_again_in(machine, RUN_WATCH_MS);
    } else if (machine->next == G_MAXINT64) {
        look_again_in(machine, TRIM_MS);
    }
}

void run_watched_hear(RunWatched *machine)
{
    RunState state;
    if (!run_ear_hear(machine->ear)) {
        /* It ends, or has closed the socket: the process tells which, at once. */
        hang_up(machine);
        look_again_in(machine, SOON_MS);
    } else if (run_ear_state(machine->ear, &state)) {
        take_state(machine, state);
    }
}

void run_watched_ended(RunWatched *machine)
{
    forget_process(machine);
    hang_up(machine);
    run_watched_look(machine);
}

void run_watched_due(RunWatched *machine)
{
    if (machine->ear && machine->next <= g_get_monotonic_time()) {
        run_log_trim(machine->log);
        look_again_in(machine, TRIM_MS);
    }
    if (machine->ear) {
        check_deadline(machine);
        return;
    }
    machine->next = G_MAXINT64;
    run_watched_look(machine);
}
