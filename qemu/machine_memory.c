/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's memory into a file, as a migration stream (facts/qemu.md B5). QEMU gets the descriptor: it may be one that
 * can open no file itself, and start no program.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "error.h"
#include "machine_parts.h"
#include "qmp_error.h"

#define FD_NAME "domsnapfs-memory"
#define EXPORT "domsnapfs-none"
#define BANDWIDTH                                                                                            \
    ((json_int_t)1 << 40) /* bytes a second; as it is, it is for a network that others use too */
#define LOOK_MS 20        /* between two looks when nothing is heard: progress has no events */
#define GRACE_MS 30000    /* for a cancelled one to end */

typedef struct {
    Running *running;
    const BackendProgress *progress;
    QmpWait wait;         /* for each command: none takes long, and it is to be known whether it was done */
    GCancellable *cancel; /* of the whole */
    int fd;
} Migration;

static gboolean read_bandwidth(Migration *migration, json_int_t *ret_bandwidth, GError **error)
{
    g_autoptr(json_t) answer =
        qmp_run(migration->running->qmp, "query-migrate-parameters", json_object(), &migration->wait, error);
    if (!answer)
        return FALSE;
    *ret_bandwidth = json_integer_value(json_object_get(answer, "max-bandwidth"));
    return TRUE;
}

static gboolean set_bandwidth(Running *running, json_int_t bandwidth, const QmpWait *wait, GError **error)
{
    return qmp_do(running->qmp, "migrate-set-parameters", json_pack("{s:I}", "max-bandwidth", bandwidth),
                  wait, error);
}

void running_restore_bandwidth(Running *running)
{
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    if (running->bandwidth > 0)
        (void)set_bandwidth(running, running->bandwidth, &wait, NULL);
    running->bandwidth = 0;
}

/* As fast as it goes, and its end is to be heard of. */
static gboolean hurry(Migration *migration, GError **error)
{
    json_int_t before = 0;
    json_t *events = json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "events", "state", TRUE);
    if (!qmp_do(migration->running->qmp, "migrate-set-capabilities", events, &migration->wait, error) ||
        !read_bandwidth(migration, &before, error) ||
        !set_bandwidth(migration->running, BANDWIDTH, &migration->wait, error))
        return FALSE;
    migration->running->bandwidth = before;
    return TRUE;
}

static void tell(const Migration *migration, const json_t *info)
{
    const json_t *ram = json_object_get(info, "ram");
    double total = json_number_value(json_object_get(ram, "total")),
           left = json_number_value(json_object_get(ram, "remaining"));
    if (migration->progress && total > 0)
        migration->progress->tell(migration->progress->user, CLAMP(1 - left / total, 0, 1));
}

typedef enum { AT_WORK, DONE, FAILED } Outcome;

static Outcome outcome_of(const json_t *info, GError **error)
{
    const char *status = json_string_value(json_object_get(info, "status"));
    const char *words = json_string_value(json_object_get(info, "error-desc"));
    if (g_strcmp0(status, "completed") == 0)
        return DONE;
    if (g_strcmp0(status, "failed") == 0)
        qmp_set_error(error, "QEMU migrate", NULL, words ? words : "it failed and does not say why");
    else if (g_strcmp0(status, "cancelled") == 0)
        snap_set_error(error, ECANCELED, "QEMU migrate: cancelled");
    else if (status)
        return AT_WORK;
    else
        snap_set_error(error, EPROTO, "QEMU query-migrate: its answer has no status");
    return FAILED;
}

static Outcome look(Migration *migration, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) info = qmp_run(migration->running->qmp, "query-migrate", json_object(), wait, error);
    if (!info)
        return FAILED;
    tell(migration, info);
    return outcome_of(info, error);
}

/*
 * What is in the file is on its way to the disk while QEMU writes the rest: the machine stands until all of it is there, and
 * by itself the kernel would begin only when it is told to end.
 */
static void write_behind(const Migration *migration)
{
    (void)sync_file_range(migration->fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* whoever needs it durable, says so */
}

/* Until it has ended; EINTR, ETIMEDOUT: it has not. */
static gboolean follow(Migration *migration, const QmpWait *wait, GError **error)
{
    guint64 seen = 0;
    do {
        Outcome outcome = look(migration, wait, error);
        if (outcome != AT_WORK)
            return outcome == DONE;
        write_behind(migration);
    } while (qmp_wait_event(migration->running->qmp, &seen, LOOK_MS, wait, error));
    return FALSE;
}

/* One that ends well although it was told to stop has done its work. */
static gboolean stop_migration(Migration *migration, GError *why, GError **error)
{
    QmpWait grace = qmp_wait(GRACE_MS, NULL);
    g_autoptr(GError) end = NULL;
    gboolean done = qmp_do(migration->running->qmp, "migrate_cancel", json_object(), &grace, &end) &&
                    follow(migration, &grace, &end);
    if (!done && end->code != ECANCELED)
        g_propagate_prefixed_error(error, g_steal_pointer(&end), "%s, but: ", why->message);
    else if (!done)
        g_propagate_error(error, g_error_copy(why));
    g_error_free(why);
    return done;
}

/* TRUE: there is none, or it has ended, one way or the other. */
static gboolean has_ended(Running *running, const QmpWait *wait, gboolean *ret_ended, GError **error)
{
    static const char *const ends[] = {"none", "completed", "failed", "cancelled", NULL};
    g_autoptr(json_t) info = qmp_run(running->qmp, "query-migrate", json_object(), wait, error);
    const char *status = json_string_value(json_object_get(info, "status"));
    *ret_ended = !status || g_strv_contains(ends, status);
    return info != NULL;
}

gboolean running_end_migration(Running *running, const QmpWait *wait, GError **error)
{
    guint64 seen = 0;
    gboolean ended;
    if (!has_ended(running, wait, &ended, error))
        return FALSE;
    if (!ended && !qmp_do(running->qmp, "migrate_cancel", json_object(), wait, error))
        return FALSE;
    while (!ended)
        if (!qmp_wait_event(running->qmp, &seen, LOOK_MS, wait, error) ||
            !has_ended(running, wait, &ended, error))
            return FALSE;
    return TRUE;
}

static gboolean start_migration(Migration *migration, GError **error)
{
    Qmp *qmp = migration->running->qmp;
    if (!qmp_getfd(qmp, FD_NAME, migration->fd, &migration->wait, error))
        return FALSE;
    if (qmp_do(qmp, "migrate", json_pack("{s:s}", "uri", "fd:" FD_NAME), &migration->wait, error))
        return TRUE;
    (void)qmp_do(qmp, "closefd", json_pack("{s:s}", "fdname", FD_NAME), &migration->wait, NULL);
    return FALSE;
}

static gboolean write_memory(Migration *migration, GError **error)
{
    QmpWait wait = qmp_wait(0, migration->cancel);
    GError *why = NULL;
    if (!start_migration(migration, error))
        return FALSE;
    if (follow(migration, &wait, &why))
        return TRUE;
    if (why->code == EINTR)
        return stop_migration(migration, why, error);
    g_propagate_error(error, why);
    return FALSE;
}

static gboolean save(Migration *migration, gboolean live, GError **error)
{
    return hurry(migration, error) &&
           (live || qmp_do(migration->running->qmp, "stop", json_object(), &migration->wait, error)) &&
           write_memory(migration, error);
}

/*
 * A migration takes the images away from QEMU until it goes on: anybody could write them meanwhile, and that may last, for a
 * machine that is paused. An image that is to be exported is taken back first; that nobody serves exports is what is
 * expected, and keeps it from being one.
 */
static void take_images_back(Running *running, const GPtrArray *nodes)
{
    Qmp *qmp = running->qmp;
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    for (guint i = 0; i < nodes->len; i++)
        if (qmp_do(qmp, "block-export-add",
                   json_pack("{s:s, s:s, s:s}", "type", "nbd", "id", EXPORT, "node-name", nodes->pdata[i]),
                   &wait, NULL))
            (void)qmp_do(qmp, "block-export-del", json_pack("{s:s, s:s}", "id", EXPORT, "mode", "hard"),
                         &wait, NULL);
}

/* Looked up while the machine still runs. */
static GPtrArray *written_nodes(Running *running, const QmpWait *wait)
{
    const GPtrArray *disks = running->disks;
    GPtrArray *nodes = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < disks->len; i++) {
        RunningDisk *disk = disks->pdata[i];
        char *node = disk->read_only ? NULL : running_node(running, disk, wait, NULL);
        if (node)
            g_ptr_array_add(nodes, node);
    }
    return nodes;
}

gboolean running_own_images(Running *running, GError **error)
{
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    g_autofree char *status = NULL;
    if (!running_end_migration(running, &wait, error) || !running_settled(running, &status, &wait, error))
        return FALSE;
    if (strcmp(status, "postmigrate") == 0) {
        g_autoptr(GPtrArray) nodes = written_nodes(running, &wait);
        take_images_back(running, nodes);
    }
    return TRUE;
}

gboolean running_memory_save(Machine *machine, int fd, gboolean live, const BackendProgress *progress,
                             GCancellable *cancel, GError **error)
{
    Migration migration = {.running = (Running *)machine,
                           .progress = progress,
                           .wait = qmp_wait(COMMAND_MS, NULL),
                           .cancel = cancel,
                           .fd = fd};
    GError *why = NULL;
    RunState before;
    if (g_cancellable_is_cancelled(cancel)) {
        snap_set_error(error, EINTR, "cancelled");
        return FALSE;
    }
    if (!machine->ops->run_state(machine, &before, error))
        return FALSE;
    g_autoptr(GPtrArray) nodes = written_nodes(migration.running, &migration.wait);
    gboolean ok = save(&migration, live, &why);
    if (ok)
        take_images_back(migration.running, nodes);
    if (!ok || before != RUN_RUNNING) /* else when it goes on: it stands for every command more */
        running_restore_bandwidth(migration.running);
    if (ok)
        return TRUE;
    g_autoptr(GError) stays = NULL;
    if (before == RUN_RUNNING && !running_resume(machine, &stays) && stays->code != why->code)
        g_prefix_error(&why, "%s, so the machine is stopped, after: ", stays->message);
    g_propagate_error(error, why);
    return FALSE;
}
