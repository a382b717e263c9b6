/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "live.h"

#include "error.h"
#include "text.h"

struct Live {
    Fs *fs;
    fuse_ino_t ino;
    GMutex lock;
    GBytes *text; /* NULL: not read yet */
};

Live *live_new(Fs *fs, fuse_ino_t ino)
{
    Live *live = g_new0(Live, 1);
    live->fs = fs;
    live->ino = ino;
    g_mutex_init(&live->lock);
    return live;
}

void live_free(Live *live)
{
    if (live == NULL)
        return;
    g_clear_pointer(&live->text, g_bytes_unref);
    g_mutex_clear(&live->lock);
    g_free(live);
}

static GBytes *kept(Live *live)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&live->lock);
    return live->text == NULL ? NULL : g_bytes_ref(live->text);
}

static void keep(Live *live, GBytes *text)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&live->lock);
    g_clear_pointer(&live->text, g_bytes_unref);
    live->text = g_bytes_ref(text);
}

typedef struct {
    Live *live;
    gsize size;
    off_t offset;
} Read;

static void run_read(Job *job)
{
    const Read *read = job->data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text = text_content(job->fs, read->live->ino, job->cancel, &error);
    if (text != NULL)
        keep(read->live, text);
    /* The answer is the last use of the open file: its release may come while it is still being given. */
    if (text != NULL)
        text_reply(job_finish(job), text, read->size, read->offset);
    else
        fuse_reply_err(job_finish(job), snap_errno(error));
}

void live_read(Live *live, fuse_req_t req, gsize size, off_t offset)
{
    g_autoptr(GBytes) text = offset == 0 ? NULL : kept(live);
    if (text != NULL) {
        text_reply(req, text, size, offset);
        return;
    }
    Read *read = g_new(Read, 1);
    *read = (Read){.live = live, .size = size, .offset = offset};
    job_start(live->fs, req, run_read, read, g_free, 0, 0);
}

guint64 live_size(Live *live)
{
    g_autoptr(GBytes) text = kept(live);
    guint64 size = 0;
    gint64 time;
    if (text != NULL)
        return g_bytes_get_size(text);
    return text_stat(live->fs, live->ino, &size, &time) ? size : 0;
}
