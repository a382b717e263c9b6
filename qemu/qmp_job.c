/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_job.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "qmp_error.h"

#define LOOK_MS 200 /* between two looks when nothing is heard: progress has no events */

/* A job that is being followed, by one call. */
typedef struct {
    Qmp *qmp;
    const QmpJobSpec *spec;
    char *what;         /* "QEMU block-commit" */
    QmpWait wait;       /* the caller's; once it is told to stop, that of the grace time */
    GError *stopping;   /* why it was told to stop */
    guint64 seen;       /* events */
    gboolean known;     /* it was there once */
    gboolean over;      /* it is not at work any more */
    gboolean asked;     /* before_end was */
    gboolean completed; /* was told to */
    gboolean finalized;
} Follow;

void qmp_job_free(QmpJob *job)
{
    if (!job)
        return;
    g_free(job->id);
    g_free(job->type);
    g_free(job->status);
    g_free(job->error);
    g_free(job);
}

static guint64 count_of(const json_t *json, const char *key)
{
    double count = json_number_value(json_object_get(json, key));
    return count > 0 && count < 9e18 ? (guint64)count : 0;
}

static QmpJob *read_job(const json_t *json)
{
    const char *id = NULL, *type = NULL, *status = NULL, *error = NULL;
    if (json_unpack((json_t *)json, "{s:s, s:s, s:s, s?s}", "id", &id, "type", &type, "status", &status,
                    "error", &error) < 0)
        return NULL;
    QmpJob *job = g_new0(QmpJob, 1);
    job->id = g_strdup(id);
    job->type = g_strdup(type);
    job->status = g_strdup(status);
    job->error = g_strdup(error);
    job->current = count_of(json, "current-progress");
    job->total = count_of(json, "total-progress");
    return job;
}

GPtrArray *qmp_jobs(Qmp *qmp, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) list = qmp_run(qmp, "query-jobs", json_object(), wait, error);
    if (!list)
        return NULL;
    g_autoptr(GPtrArray) jobs = g_ptr_array_new_with_free_func((GDestroyNotify)qmp_job_free);
    size_t i;
    json_t *each;
    gboolean good = json_is_array(list);
    json_array_foreach (list, i, each) {
        QmpJob *job = read_job(each);
        good = good && job;
        if (job)
            g_ptr_array_add(jobs, job);
    }
    if (!good) {
        snap_set_error(error, EPROTO, "QEMU query-jobs: its answer is no list of jobs");
        return NULL;
    }
    return g_steal_pointer(&jobs);
}

/* *ret_job: as QEMU has it now; NULL: it has not. */
static gboolean look(Follow *follow, QmpJob **ret_job, GError **error)
{
    g_autoptr(GPtrArray) jobs = qmp_jobs(follow->qmp, &follow->wait, error);
    if (!jobs)
        return FALSE;
    *ret_job = NULL;
    for (guint i = 0; i < jobs->len && !*ret_job; i++) {
        QmpJob *job = jobs->pdata[i];
        if (strcmp(job->id, follow->spec->id) == 0)
            *ret_job = g_ptr_array_steal_index(jobs, i);
    }
    return TRUE;
}

static gboolean job_verb(Follow *follow, const char *verb, GError **error)
{
    return qmp_do(follow->qmp, verb, json_pack("{s:s}", "id", follow->spec->id), &follow->wait, error);
}

/* We do not know what became of it, or QEMU does not: nothing can be done over this connection any more. */
static gboolean is_end(const GError *error)
{
    return error->code == ECONNRESET || error->code == EPROTO;
}

static gboolean is_impatience(const GError *error)
{
    return error->code == EINTR || error->code == ETIMEDOUT;
}

/*
 * Tell it to stop, because of @why (taken over). It may be in a state in which it takes no orders, or not be there at all:
 * the next look says so.
 */
static void stop_within(Follow *follow, const QmpWait *wait, GError *why)
{
    follow->stopping = why;
    follow->wait = *wait;
    (void)job_verb(follow, "job-cancel", NULL);
}

static void stop(Follow *follow, GError *why)
{
    QmpWait grace = qmp_wait(follow->spec->grace_ms ? follow->spec->grace_ms : QMP_JOB_GRACE_MS, NULL);
    stop_within(follow, &grace, why);
}

/* FALSE: following it makes no more sense. A refusal for the state it is in means that the state has just changed. */
static gboolean order(Follow *follow, const char *verb, gboolean *done, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (job_verb(follow, verb, &why)) {
        *done = TRUE;
        return TRUE;
    }
    if (why->code == EAGAIN)
        return TRUE;
    if (is_end(why)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    stop(follow, g_steal_pointer(&why));
    return TRUE;
}

/* Its last step is next. FALSE: it is not to take that, and was told to stop. */
static gboolean may_end(Follow *follow)
{
    GError *why = NULL;
    gboolean ask = follow->spec->before_end && !follow->asked;
    follow->asked = TRUE;
    if (!ask || follow->spec->before_end(follow->spec->user, &why))
        return TRUE;
    stop(follow, why);
    return FALSE;
}

static void tell(const Follow *follow, double current, double total)
{
    const BackendProgress *progress = follow->spec->progress;
    if (progress && total > 0)
        progress->tell(progress->user, MIN(1.0, current / total));
}

/* What it waits for. */
static gboolean push(Follow *follow, const QmpJob *job, GError **error)
{
    follow->known = TRUE;
    tell(follow, (double)job->current, (double)job->total);
    if (follow->stopping)
        return TRUE;
    if (!follow->completed && strcmp(job->status, "ready") == 0)
        return !may_end(follow) || order(follow, "job-complete", &follow->completed, error);
    if (!follow->finalized && strcmp(job->status, "pending") == 0)
        return !may_end(follow) || order(follow, "job-finalize", &follow->finalized, error);
    return TRUE;
}

/* It is not there. */
static gboolean absent(Follow *follow, GError **error)
{
    follow->over = TRUE;
    if (follow->known)
        snap_set_error(error, EIO, "%s: somebody else has dismissed it, and how it ended is not known",
                       follow->what);
    else if (follow->stopping)
        g_propagate_error(error, g_steal_pointer(&follow->stopping));
    else
        snap_set_error(error, ENOENT, "%s: there is none", follow->what);
    return FALSE;
}

/* How it ended is known from here on; a QEMU that dies before it was dismissed needs no more dismissing. */
static gboolean concluded(Follow *follow, const QmpJob *job, GError **error)
{
    follow->over = TRUE;
    follow->wait = qmp_wait(QMP_JOB_GRACE_MS, NULL);
    (void)job_verb(follow, "job-dismiss", NULL);
    if (!job->error) {
        tell(follow, 1, 1);
        return TRUE;
    }
    g_autoptr(GError) why = NULL;
    qmp_set_error(&why, follow->what, NULL, job->error);
    if (follow->stopping && why->code == ECANCELED)
        g_propagate_error(error, g_steal_pointer(&follow->stopping));
    else
        g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* @why we could not look or wait: FALSE when that is the end of it. Takes @why over. */
static gboolean impatient(Follow *follow, GError *why, GError **error)
{
    if (is_impatience(why) && !follow->stopping) {
        stop(follow, why);
        return TRUE;
    }
    if (is_impatience(why))
        snap_set_error(error, EINPROGRESS, "%s: it was told to stop and does not (%s)", follow->what,
                       follow->stopping->message);
    else
        g_propagate_error(error, g_error_copy(why));
    g_error_free(why);
    return FALSE;
}

static gboolean follow_to_end(Follow *follow, GError **error)
{
    for (;;) {
        g_autoptr(QmpJob) job = NULL;
        GError *why = NULL;
        gboolean looked = look(follow, &job, &why);
        if (looked && !job)
            return absent(follow, error);
        if (looked && strcmp(job->status, "concluded") == 0)
            return concluded(follow, job, error);
        if (looked && !push(follow, job, error))
            return FALSE;
        if (looked)
            looked = qmp_wait_event(follow->qmp, &follow->seen, LOOK_MS, &follow->wait, &why);
        if (!looked && !impatient(follow, why, error))
            return FALSE;
    }
}

static char *name_of(const char *id)
{
    return g_strdup_printf("QEMU job '%s'", id);
}

static void follow_clear(Follow *follow)
{
    g_clear_error(&follow->stopping);
    g_free(follow->what);
}

/* auto-dismiss would take the error away with the job; the snapshot jobs never do it, and never wait for finalize. */
static gboolean complete_arguments(const char *command, json_t *arguments, const QmpJobSpec *spec,
                                   GError **error)
{
    gboolean block = !g_str_has_prefix(command, "snapshot-");
    if (!arguments || (!block && spec->before_end)) {
        snap_set_error(error, EINVAL, "QEMU %s: %s", command,
                       arguments ? "it does not stop before its end" : "its arguments are not UTF-8");
        json_decref(arguments);
        return FALSE;
    }
    json_object_set_new(arguments, "job-id", json_string(spec->id));
    if (block) {
        json_object_set_new(arguments, "auto-dismiss", json_false());
        json_object_set_new(arguments, "auto-finalize", json_boolean(!spec->before_end));
    }
    return TRUE;
}

gboolean qmp_job_run(Qmp *qmp, const char *command, json_t *arguments, const QmpJobSpec *spec,
                     const QmpWait *wait, GError **error)
{
    GError *why = NULL;
    if (!complete_arguments(command, arguments, spec, error))
        return FALSE;
    gboolean started = qmp_do(qmp, command, arguments, wait, &why);
    if (!started && !is_impatience(why)) {
        g_propagate_error(error, why);
        return FALSE;
    }
    Follow follow = {qmp, spec, g_strconcat("QEMU ", command, NULL), *wait, .known = started};
    if (!started) /* it may have been sent, and be done before we are asked to stop */
        stop(&follow, why);
    gboolean ok = follow_to_end(&follow, error);
    follow_clear(&follow);
    return ok;
}

gboolean qmp_job_follow(Qmp *qmp, const QmpJobSpec *spec, const QmpWait *wait, GError **error)
{
    Follow follow = {qmp, spec, name_of(spec->id), *wait};
    gboolean ok = follow_to_end(&follow, error);
    follow_clear(&follow);
    return ok;
}

gboolean qmp_job_cancel(Qmp *qmp, const char *id, const QmpWait *wait, gboolean *ret_done, GError **error)
{
    QmpJobSpec spec = {.id = id};
    Follow follow = {qmp, &spec, name_of(id)};
    g_autoptr(GError) why = NULL;
    stop_within(&follow, wait, g_error_new(SNAP_ERROR, EINTR, "cancelled"));
    gboolean done = follow_to_end(&follow, &why);
    follow_clear(&follow);
    if (!follow.over) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    if (ret_done)
        *ret_done = done;
    return TRUE;
}
