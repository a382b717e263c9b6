/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "job.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "fs.h"

struct Jobs {
    GThreadPool *pool;
    gint busy;   /* atomic */
    gint closed; /* atomic */
    GMutex lock;
    GHashTable *reading; /* of GCancellable: jobs that change nothing; under the lock */
};

/* The job of the thread: how the engine's callback learns which directories the kernel has locked. */
static GPrivate current = G_PRIVATE_INIT(NULL);

/* A name that is gone. */
typedef struct {
    fuse_ino_t dir;
    char *entry;
} Gone;

static void gone_free(gpointer data)
{
    g_free(((Gone *)data)->entry);
    g_free(data);
}

static void tell(const Fs *fs, fuse_ino_t dir, const char *entry)
{
    if (fs->session != NULL)
        fuse_lowlevel_notify_inval_entry(fs->session, dir, entry, strlen(entry));
}

void job_tell_gone(Fs *fs, fuse_ino_t dir, const char *entry)
{
    Job *job = g_private_get(&current);
    if (job == NULL || job->locked[0] == 0) {
        tell(fs, dir, entry);
        return;
    }
    Gone *gone = g_new(Gone, 1);
    *gone = (Gone){dir, g_strdup(entry)};
    g_ptr_array_add(job->gone, gone);
}

static void job_free(Job *job)
{
    if (job->free_data != NULL)
        job->free_data(job->data);
    g_object_unref(job->cancel);
    g_ptr_array_unref(job->gone);
    g_free(job);
}

/* Signals are for the main thread, which ends the session (libfuse masks them in its own threads only). */
static void mask_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
}

static void interrupted(fuse_req_t req, void *data)
{
    g_cancellable_cancel(data);
}

/* A job that only reads begins (TRUE) or has ended. */
static void note_reading(Jobs *jobs, GCancellable *cancel, gboolean begins)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&jobs->lock);
    if (!begins) {
        g_hash_table_remove(jobs->reading, cancel);
        return;
    }
    g_hash_table_add(jobs->reading, cancel);
    if (g_atomic_int_get(&jobs->closed))
        g_cancellable_cancel(cancel);
}

static void work(gpointer data, gpointer user)
{
    Job *job = data;
    Jobs *jobs = user;
    mask_signals();
    g_private_set(&current, job);
    fuse_req_interrupt_func(job->req, interrupted, job->cancel);
    job->run(job);
    note_reading(jobs, job->cancel, FALSE);
    g_private_set(&current, NULL);
    for (guint i = 0; i < job->gone->len; i++) {
        const Gone *gone = job->gone->pdata[i];
        tell(job->fs, gone->dir, gone->entry);
    }
    job_free(job);
    g_atomic_int_add(&jobs->busy, -1);
}

Jobs *jobs_new(void)
{
    Jobs *jobs = g_new0(Jobs, 1);
    /* A pool without a limit and without exclusive threads cannot fail to be made. */
    jobs->pool = g_thread_pool_new(work, jobs, -1, FALSE, NULL);
    g_mutex_init(&jobs->lock);
    jobs->reading = g_hash_table_new(NULL, NULL);
    return jobs;
}

void jobs_free(Jobs *jobs)
{
    g_thread_pool_free(jobs->pool, FALSE, TRUE);
    g_hash_table_unref(jobs->reading);
    g_mutex_clear(&jobs->lock);
    g_free(jobs);
}

gboolean jobs_busy(Jobs *jobs)
{
    return g_atomic_int_get(&jobs->busy) > 0;
}

void jobs_close(Jobs *jobs)
{
    GHashTableIter iter;
    gpointer cancel;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&jobs->lock);
    g_atomic_int_set(&jobs->closed, TRUE);
    g_hash_table_iter_init(&iter, jobs->reading);
    while (g_hash_table_iter_next(&iter, &cancel, NULL))
        g_cancellable_cancel(cancel);
}

/* @locked: NULL for one that only reads. */
static void start(Fs *fs, fuse_req_t req, JobRun run, gpointer data, GDestroyNotify free_data,
                  const fuse_ino_t *locked)
{
    if (g_atomic_int_get(&fs->jobs->closed)) {
        if (free_data != NULL)
            free_data(data);
        fuse_reply_err(req, EBUSY);
        return;
    }
    Job *job = g_new0(Job, 1);
    *job = (Job){.fs = fs, .req = req, .run = run, .data = data, .free_data = free_data};
    job->cancel = g_cancellable_new();
    job->gone = g_ptr_array_new_with_free_func(gone_free);
    if (locked != NULL)
        memcpy(job->locked, locked, sizeof job->locked);
    else
        note_reading(fs->jobs, job->cancel, TRUE);
    g_atomic_int_inc(&fs->jobs->busy);
    /* FALSE only says that no new thread could be made: the job then waits for one of those there are. */
    g_thread_pool_push(fs->jobs->pool, job, NULL);
    /* cppcheck-suppress memleak ; the pool owns it */
}

void job_start(Fs *fs, fuse_req_t req, JobRun run, gpointer data, GDestroyNotify free_data,
               fuse_ino_t locked0, fuse_ino_t locked1)
{
    const fuse_ino_t locked[] = {locked0, locked1};
    start(fs, req, run, data, free_data, locked);
}

void job_start_reading(Fs *fs, fuse_req_t req, JobRun run, gpointer data, GDestroyNotify free_data)
{
    start(fs, req, run, data, free_data, NULL);
}

fuse_req_t job_finish(Job *job)
{
    /* Waits for an interrupt that is being told; none is told to this job any more. */
    fuse_req_interrupt_func(job->req, NULL, NULL);
    return job->req;
}
