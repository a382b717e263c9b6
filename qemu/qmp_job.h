/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP's jobs, to their real end: snapshot-save, -load, -delete, block-commit, block-stream and their like return at once and
 * work on; how they end is known only from query-jobs, and only until the job is dismissed. Here a job is one call that
 * returns when it is over. query-jobs is what is believed; events only say when to look (not each change of a state has
 * one: the "pending" of an active block-commit has no JOB_STATUS_CHANGE).
 *
 * What a caller must know of the jobs themselves:
 *   - snapshot-save, -load and -delete stop QEMU altogether while they work, no command on any socket is answered, also not
 *     the one that cancels. A -delete of a tag that is not there succeeds; a -load that fails leaves the machine stopped.
 *   - block-commit and block-stream need `backing-file`, else an absolute name goes into the header. Their old files stay.
 *   - A cancelled or killed block-commit leaves in the base what it has copied: as part of its chain the base reads the
 *     same, by itself it is mixed.
 *   - block-stream with an idle guest leaves tables in QEMU's cache: killed then, the image is lost. So @before_end must
 *     `stop` (which flushes all), and `cont` comes after the job.
 *   - Nothing keeps a second job or a snapshot from starting on the same nodes' neighbours: ask qmp_jobs() first.
 */
#pragma once

#include "backend.h"
#include "qmp.h"

#define QMP_JOB_GRACE_MS 30000

typedef struct {
    char *id;
    char *type;   /* "commit", "stream", "snapshot-save", ... */
    char *status; /* as in JobStatus: "running", "ready", "pending", "concluded", ... */
    guint64 current, total;
    char *error; /* NULL: none (so far) */
} QmpJob;

void qmp_job_free(QmpJob *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpJob, qmp_job_free)

/* All jobs that QEMU has, of QmpJob; also those that have ended and were not dismissed. */
GPtrArray *qmp_jobs(Qmp *qmp, const QmpWait *wait, GError **error);

typedef struct {
    const char *id; /* letters, digits, '-', '.', '_', a letter first; one that no other job has or has had */
    /*
     * Block jobs only. Called once, in the calling thread, when all is copied and only the last step (which changes the
     * chain) is missing: the job is pending, or ready, if it copies until it is told to complete (then a machine that is
     * stopped here lets it come to an end, however much it writes); it may use the connection. FALSE: the job is
     * cancelled, and @error is what the call fails with. The job may fail or be cancelled after it: what it did (`stop`) is
     * to be undone whatever becomes of the job. NULL: nothing is to be done there.
     */
    gboolean (*before_end)(gpointer user, GError **error);
    gpointer user;
    const BackendProgress *progress; /* told, in the calling thread, which part is done; may be NULL */
    guint grace_ms;                  /* how long a cancelled job may take to end; 0: QMP_JOB_GRACE_MS */
} QmpJobSpec;

/*
 * Start a job by @command with @arguments (taken over; NULL: EINVAL as in qmp_run(); without job-id, auto-finalize and
 * auto-dismiss, which are put in) and see it to its end: a block-commit that is ready is completed, whatever waits for
 * finalize gets it. It is dismissed in every case.
 *
 * TRUE: it has done its work, maybe although it was told to stop. Else, when the job is over (or never was):
 *   QEMU's error      as qmp_error.h says: "QEMU COMMAND: its words"
 *   EINTR, ETIMEDOUT  we have cancelled it because @wait had run out, and nothing of it works any more
 *   ECANCELED         somebody else has
 *   EIO               it vanished: somebody else has dismissed it, and how it ended is not known
 *   @before_end's     it refused
 * and when it is *not* known whether it is over:
 *   EINPROGRESS       it was told to stop and has not, within the grace time: follow it, or cancel it, later
 *   ECONNRESET, EPROTO  the connection ended. When QEMU has died, so has the job, anywhere in the middle.
 */
gboolean qmp_job_run(Qmp *qmp, const char *command, json_t *arguments, const QmpJobSpec *spec,
                     const QmpWait *wait, GError **error);

/*
 * See the job @spec->id, which somebody (a daemon that died) has started, to its end in the same way. "QEMU job 'ID': its
 * words". ENOENT: there is no such job.
 */
gboolean qmp_job_follow(Qmp *qmp, const QmpJobSpec *spec, const QmpWait *wait, GError **error);

/*
 * Cancel the job @id and wait for its end, @wait at most. TRUE: there is none of that name any more; *ret_done (may be
 * NULL): it is known to have done its work all the same. EINPROGRESS: it does not end; ECONNRESET, EPROTO.
 */
gboolean qmp_job_cancel(Qmp *qmp, const char *id, const QmpWait *wait, gboolean *ret_done, GError **error);
