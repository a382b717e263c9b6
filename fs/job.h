/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: FUSE requests that take time, worked on by threads of their own and answered from there, so that a
 * FUSE worker never waits (there are ten, facts/fuse.md 3.1). As many threads as jobs: each costs its caller
 * a thread too.
 */
#pragma once

#include <fuse_lowlevel.h>
#include <gio/gio.h>

struct Fs;
typedef struct Jobs Jobs;
typedef struct Job Job;

/* Does the work and answers: exactly one fuse_reply_*(job_finish(job), ...). */
typedef void (*JobRun)(Job *job);

struct Job {
    struct Fs *fs;
    fuse_req_t req;
    GCancellable *cancel; /* fires when the caller is interrupted */
    fuse_ino_t locked[2]; /* directories whose lock the kernel holds for this request; 0: none */
    GPtrArray *gone;      /* what the kernel is to be told once the request is answered (job_after) */
    JobRun run;
    gpointer data; /* what to do; freed with free_data */
    GDestroyNotify free_data;
};

Jobs *jobs_new(void);
/* Waits for all. */
void jobs_free(Jobs *jobs);

/* Does any job run that answers a request? */
gboolean jobs_busy(Jobs *jobs);

/* The file system is being unmounted: from now on job_start answers EBUSY, and nobody waits for what only reads. */
void jobs_close(Jobs *jobs);

/* Hand @req over to a thread. Takes @data; @locked0 and @locked1 as in Job. */
void job_start(struct Fs *fs, fuse_req_t req, JobRun run, gpointer data, GDestroyNotify free_data,
               fuse_ino_t locked0, fuse_ino_t locked1);

/* The same for one that changes nothing: it is interrupted when the file system is unmounted. */
void job_start_reading(struct Fs *fs, fuse_req_t req, JobRun run, gpointer data, GDestroyNotify free_data);

/* The work is done: an interrupt has no effect from here on. Returns the request, to be answered. */
fuse_req_t job_finish(Job *job);

/*
 * Tell the kernel that @entry is gone from the directory @dir: now, or, while the calling thread's job holds a
 * directory's lock in the kernel, once its request is answered (facts/fuse.md 3.5: telling takes that directory's
 * lock; a gesture in one directory may wait for a second one that waits for the first).
 */
void job_tell_gone(struct Fs *fs, fuse_ino_t dir, const char *entry);
