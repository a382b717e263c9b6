/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rawview.h"

#include <errno.h>
#include <unistd.h>

#include "error.h"
#include "node.h"

struct RawView {
    Fs *fs;
    EngineId domain; /* in whose log failures go */
    char *what;      /* "read 's1/vda.raw'" */
    DiskReader *reader;
    gint told; /* atomic: a failure was reported */
};

/* What reading it is called in the log. Caller frees. */
static char *name_of(Fs *fs, EngineId id, const EngineLook *look)
{
    const EngineOps *ops = fs->engine->ops;
    gboolean state = look->kind == ENGINE_STATE;
    g_autoptr(GPtrArray) disks = ops->disks(fs->engine, state ? look->parent : look->domain);
    g_autofree char *entry = NULL;
    for (guint i = 0; i < disks->len && entry == NULL; i++)
        if (((EngineDisk *)disks->pdata[i])->content == id)
            entry = node_content_entry(disks->pdata[i]);
    g_autofree char *snapshot = state ? ops->name(fs->engine, look->parent) : NULL;
    return g_strdup_printf("read '%s/%s'", snapshot != NULL ? snapshot : "active",
                           entry != NULL ? entry : "?");
}

static void report(RawView *view, const GError *error)
{
    if (g_atomic_int_compare_and_exchange(&view->told, FALSE, TRUE))
        fs_report(view->fs, view->domain, view->what, error);
}

RawView *rawview_new(Fs *fs, fuse_ino_t ino, GCancellable *cancel, GError **error)
{
    EngineLook look;
    g_autoptr(GError) why = NULL;
    if (!fs->engine->ops->look(fs->engine, node_id(ino), &look)) {
        snap_set_error(error, ENOENT, "it is gone");
        return NULL;
    }
    g_autoptr(RawView) view = g_new0(RawView, 1);
    view->fs = fs;
    view->domain = look.domain;
    view->what = name_of(fs, node_id(ino), &look);
    view->reader = fs->engine->ops->open_content(fs->engine, node_id(ino), cancel, &why);
    if (view->reader != NULL)
        return g_steal_pointer(&view);
    if (snap_errno(why) != ENOENT)
        report(view, why);
    g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
}

void rawview_free(RawView *view)
{
    if (view == NULL)
        return;
    disk_reader_free(view->reader);
    g_free(view->what);
    g_free(view);
}

guint64 rawview_size(const RawView *view)
{
    return view->reader->size;
}

/* --- reading --- */

typedef struct {
    RawView *view;
    gsize size;
    off_t offset;
} Read;

/* Into @buffer; the bytes there are, or -1. */
static gssize read_some(const Read *read, void *buffer)
{
    RawView *view = read->view;
    DiskReader *reader = view->reader;
    guint64 at = (guint64)read->offset;
    gsize len = at >= reader->size ? 0 : (gsize)MIN(read->size, reader->size - at);
    g_autoptr(GError) error = NULL;
    if (len == 0 || reader->ops->read(reader, buffer, len, at, &error))
        return (gssize)len;
    report(view, error);
    return -1;
}

static void reply(fuse_req_t req, const void *buffer, gssize got)
{
    if (got < 0)
        fuse_reply_err(req, EIO);
    else
        fuse_reply_buf(req, buffer, (gsize)got);
}

static void run_read(Job *job)
{
    const Read *read = job->data;
    g_autofree char *buffer = g_malloc(read->size);
    gssize got = read_some(read, buffer);
    reply(job_finish(job), buffer, got);
}

void rawview_read(RawView *view, fuse_req_t req, gsize size, off_t offset)
{
    const Read read = {.view = view, .size = size, .offset = offset};
    if (view->reader->waits) {
        job_start_reading(view->fs, req, run_read, g_memdup2(&read, sizeof read), g_free);
        return;
    }
    /* Files of this host, like the images that are shown as they are: as fast as this. */
    g_autofree char *buffer = g_malloc(size);
    gssize got = read_some(&read, buffer);
    reply(req, buffer, got);
}

/* --- data and holes --- */

typedef struct {
    RawView *view;
    off_t offset;
    int whence;
} Seek;

/*
 * The first byte from @offset on that is data, or (@data FALSE) is in a hole or the end; or a negative errno. The kernel
 * interrupts for each signal, and for some that no program has asked for. What was not looked at then may be called data: who
 * comes back from there goes on. It must not be called a hole.
 */
static off_t find(RawView *view, guint64 offset, gboolean data, GCancellable *cancel)
{
    DiskReader *reader = view->reader;
    while (offset < reader->size) {
        DiskExtent extent;
        g_autoptr(GError) error = NULL;
        if (!reader->ops->extent(reader, offset, &extent, &error)) {
            report(view, error);
            return -EIO;
        }
        if ((extent.data && !extent.sparse) == !!data)
            return (off_t)offset;
        offset += extent.length;
        if (offset < reader->size && g_cancellable_is_cancelled(cancel))
            return data ? (off_t)offset : -EINTR;
    }
    return data ? -ENXIO : (off_t)reader->size;
}

static void run_seek(Job *job)
{
    const Seek *seek = job->data;
    off_t at = find(seek->view, (guint64)seek->offset, seek->whence == SEEK_DATA, job->cancel);
    if (at < 0)
        fuse_reply_err(job_finish(job), (int)-at);
    else
        fuse_reply_lseek(job_finish(job), at);
}

void rawview_seek(RawView *view, fuse_req_t req, off_t offset, int whence)
{
    if (offset < 0 || (guint64)offset >= view->reader->size) {
        fuse_reply_err(req, ENXIO);
        return;
    }
    const Seek seek = {.view = view, .offset = offset, .whence = whence};
    job_start_reading(view->fs, req, run_seek, g_memdup2(&seek, sizeof seek), g_free);
}
