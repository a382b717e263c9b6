/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's memory into a file, as a migration stream (facts/qemu.md B5). QEMU gets the descriptor: it may be one that
 * can open no file itself, and start no program.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "machine_parts.h"
#include "qmp_error.h"

#define FD_NAME "domsnapfs-memory"
#define EXPORT "domsnapfs-none"
#define BANDWIDTH                                                                                            \
    ((json_int_t)1 << 40) /* bytes a second; as it is, it is for a network that others use too */
#define LOOK_MS 100       /* between two looks when nothing is heard: progress has no events */
#define GRACE_MS 30000    /* for a cancelled one to end */

typedef struct {
    Running *running;
    const BackendProgress *progress;
    QmpWait wait;         /* for each command: none takes long, and it is to be known whether it was done */
    GCancellable *cancel; /* of the whole */
    json_int_t bandwidth; /* as it was; 0: not changed */
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

static gboolean set_bandwidth(Migration *migration, json_int_t bandwidth, const QmpWait *wait, GError **error)
{
    return qmp_do(migration->running->qmp, "migrate-set-parameters",
                  json_pack("{s:I}", "max-bandwidth", bandwidth), wait, error);
}

/* As fast as it goes, and its end is to be heard of. */
static gboolean hurry(Migration *migration, GError **error)
{
    json_int_t before = 0;
    json_t *events = json_pack("{s:[{s:s, s:b}]}", "capabilities", "capability", "events", "state", TRUE);
    if (!qmp_do(migration->running->qmp, "migrate-set-capabilities", events, &migration->wait, error) ||
        !read_bandwidth(migration, &before, error) ||
        !set_bandwidth(migration, BANDWIDTH, &migration->wait, error))
        return FALSE;
    migration->bandwidth = before;
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

/* Until it has ended; EINTR, ETIMEDOUT: it has not. */
static gboolean follow(Migration *migration, const QmpWait *wait, GError **error)
{
    guint64 seen = 0;
    do {
        Outcome outcome = look(migration, wait, error);
        if (outcome != AT_WORK)
            return outcome == DONE;
    } while (qmp_wait_event(migration->running->qmp, &seen, LOOK_MS, wait, error));
    return FALSE;
}

/* TRUE: it has ended well all the same; ECANCELED: not, as it was told. */
static gboolean cancel_migration(Migration *migration, GError **error)
{
    QmpWait grace = qmp_wait(GRACE_MS, NULL);
    return qmp_do(migration->running->qmp, "migrate_cancel", json_object(), &grace, error) &&
           follow(migration, &grace, error);
}

/* One that ends well although it was told to stop has done its work. */
static gboolean stop_migration(Migration *migration, GError *why, GError **error)
{
    g_autoptr(GError) end = NULL;
    gboolean done = cancel_migration(migration, &end);
    if (!done && end->code != ECANCELED)
        g_propagate_prefixed_error(error, g_steal_pointer(&end), "%s, but: ", why->message);
    else if (!done)
        g_propagate_error(error, g_error_copy(why));
    g_error_free(why);
    return done;
}

static gboolean start_migration(Migration *migration, int fd, GError **error)
{
    Qmp *qmp = migration->running->qmp;
    if (!qmp_getfd(qmp, FD_NAME, fd, &migration->wait, error))
        return FALSE;
    if (qmp_do(qmp, "migrate", json_pack("{s:s}", "uri", "fd:" FD_NAME), &migration->wait, error))
        return TRUE;
    (void)qmp_do(qmp, "closefd", json_pack("{s:s}", "fdname", FD_NAME), &migration->wait, NULL);
    return FALSE;
}

static gboolean write_memory(Migration *migration, int fd, GError **error)
{
    QmpWait wait = qmp_wait(0, migration->cancel);
    GError *why = NULL;
    if (!start_migration(migration, fd, error))
        return FALSE;
    if (follow(migration, &wait, &why))
        return TRUE;
    if (why->code == EINTR)
        return stop_migration(migration, why, error);
    g_propagate_error(error, why);
    return FALSE;
}

static gboolean save(Migration *migration, int fd, gboolean live, GError **error)
{
    return hurry(migration, error) &&
           (live || qmp_do(migration->running->qmp, "stop", json_object(), &migration->wait, error)) &&
           write_memory(migration, fd, error);
}

/*
 * A migration takes the images away from QEMU until it goes on: anybody could write them meanwhile, and that may last, for a
 * machine that is paused. An image that is to be exported is taken back first; that nobody serves exports is what is
 * expected, and keeps it from being one.
 */
static void take_images_back(Running *running)
{
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    for (guint i = 0; i < running->disks->len; i++) {
        RunningDisk *disk = running->disks->pdata[i];
        g_autofree char *node = disk->read_only ? NULL : running_node(running, disk, &wait, NULL);
        if (node &&
            qmp_do(running->qmp, "block-export-add",
                   json_pack("{s:s, s:s, s:s}", "type", "nbd", "id", EXPORT, "node-name", node), &wait, NULL))
            (void)qmp_do(running->qmp, "block-export-del",
                         json_pack("{s:s, s:s}", "id", EXPORT, "mode", "hard"), &wait, NULL);
    }
}

/* *ret_works: there is one that has not ended. */
static gboolean is_at_work(Migration *migration, gboolean *ret_works, GError **error)
{
    g_autoptr(json_t) info =
        qmp_run(migration->running->qmp, "query-migrate", json_object(), &migration->wait, error);
    if (!info)
        return FALSE;
    const char *status = json_string_value(json_object_get(info, "status"));
    *ret_works = status && strcmp(status, "none") != 0 && outcome_of(info, NULL) == AT_WORK;
    return TRUE;
}

gboolean running_memory_stop(Machine *machine, GError **error)
{
    Migration migration = {.running = (Running *)machine, .wait = qmp_wait(COMMAND_MS, NULL)};
    g_autofree char *status = NULL;
    g_autoptr(GError) why = NULL;
    gboolean works;
    if (!is_at_work(&migration, &works, error))
        return FALSE;
    if (works && !cancel_migration(&migration, &why) && why->code != ECANCELED) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    if (!running_settled(migration.running, &status, &migration.wait, error))
        return FALSE;
    if (strcmp(status, "postmigrate") == 0)
        take_images_back(migration.running);
    return TRUE;
}

gboolean running_memory_save(Machine *machine, int fd, gboolean live, const BackendProgress *progress,
                             GCancellable *cancel, GError **error)
{
    Migration migration = {(Running *)machine, progress, qmp_wait(COMMAND_MS, NULL), cancel};
    GError *why = NULL;
    RunState before;
    if (g_cancellable_is_cancelled(cancel)) {
        snap_set_error(error, EINTR, "cancelled");
        return FALSE;
    }
    if (!machine->ops->run_state(machine, &before, error))
        return FALSE;
    gboolean ok = save(&migration, fd, live, &why);
    QmpWait rest = qmp_wait(COMMAND_MS, NULL);
    if (migration.bandwidth > 0)
        (void)set_bandwidth(&migration, migration.bandwidth, &rest, NULL);
    if (ok) {
        take_images_back(migration.running);
        return TRUE;
    }
    g_autoptr(GError) stays = NULL;
    if (before == RUN_RUNNING && !running_resume(machine, &stays) && stays->code != why->code)
        g_prefix_error(&why, "%s, so the machine is stopped, after: ", stays->message);
    g_propagate_error(error, why);
    return FALSE;
}
