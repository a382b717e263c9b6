/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "error.h"
#include "live.h"
#include "node.h"
#include "open.h"
#include "readahead.h"
#include "tempname.h"
#include "text.h"
#include "writer.h"

void file_free(File *file)
{
    handles_remove(file->fs->handles, file);
    passthrough_close(file->fs->passthrough, file->passed);
    if (file->fd >= 0)
        close(file->fd);
    g_clear_pointer(&file->text, g_bytes_unref);
    live_free(file->live);
    rawview_free(file->view);
    writer_free(file->writer);
    if (file->scratch != 0)
        scratch_close(file->fs->scratch, file->scratch);
    g_free(file);
}

/* Nobody else finds it yet. */
static File *file_begin(Fs *fs)
{
    File *file = g_new0(File, 1);
    file->fs = fs;
    file->fd = -1;
    return file;
}

/* What others look for in it is there. */
static File *file_show(File *file)
{
    handles_add(file->fs->handles, file, (GDestroyNotify)file_free);
    return file;
}

static File *file_new(Fs *fs)
{
    return file_show(file_begin(fs));
}

static File *open_image(Fs *fs, fuse_ino_t ino, GError **error)
{
    const EngineOps *ops = fs->engine->ops;
    const NodeSpec *spec = node_spec(node_kind(ino));
    int fd = spec->is_file ? ops->open_file(fs->engine, node_id(ino), spec->file, error)
                           : ops->open_layer(fs->engine, node_id(ino), error);
    struct stat st;
    if (fd < 0)
        return NULL;
    if (!node_attr(fs, ino, &st)) {
        snap_set_error(error, ENOENT, "it is gone");
        close(fd);
        return NULL;
    }
    File *file = file_begin(fs);
    file->fd = fd;
    file->st = st;
    if (!passthrough_open(fs->passthrough, ino, fd, &file->passed, error)) {
        file_free(file);
        return NULL;
    }
    return file_show(file);
}

static File *open_text(Fs *fs, fuse_ino_t ino, int flags, GError **error)
{
    File *file = file_new(fs);
    gboolean truncate = (flags & O_TRUNC) != 0;
    if ((flags & O_ACCMODE) != O_RDONLY)
        file->writer = writer_new(fs, ino, truncate);
    if ((flags & O_ACCMODE) != O_WRONLY) {
        file->text = truncate ? g_bytes_new(NULL, 0) : text_content(fs, ino, NULL, error);
        if (file->text == NULL) {
            file_free(file);
            return NULL;
        }
    }
    return file;
}

static File *open_live(Fs *fs, fuse_ino_t ino, GError **error)
{
    struct stat st;
    if (!node_attr(fs, ino, &st)) {
        snap_set_error(error, ENOENT, "it is gone");
        return NULL;
    }
    File *file = file_new(fs);
    file->live = live_new(fs, ino);
    return file;
}

static File *open_scratch(Fs *fs, fuse_ino_t ino, int flags, GError **error)
{
    guint64 id = node_id(ino);
    if (!scratch_open(fs->scratch, id)) {
        snap_set_error(error, ENOENT, "the scratch file is gone");
        return NULL;
    }
    if ((flags & O_TRUNC) != 0)
        scratch_truncate(fs->scratch, id, 0);
    File *file = file_new(fs);
    file->scratch = id;
    return file;
}

static gboolean opens_to_read(const struct fuse_file_info *fi)
{
    return (fi->flags & O_ACCMODE) == O_RDONLY && (fi->flags & O_TRUNC) == 0;
}

static File *open_any(Fs *fs, fuse_ino_t ino, struct fuse_file_info *fi, GError **error)
{
    NodeKind kind = node_kind(ino);
    if (kind == NODE_SCRATCH) {
        fi->direct_io = 1;
        return open_scratch(fs, ino, fi->flags, error);
    }
    /* By ourselves: the modes shown do not stop root. */
    if (!opens_to_read(fi) && !node_is_writable(ino)) {
        snap_set_error(error, EACCES, "not writable");
        return NULL;
    }
    if (node_is_image(ino)) {
        /* What is written once stays in the page cache. The kernel asks at each read for size and time, and drops it when
           they have changed. Layers change their roles: none of what they held before may be seen then. */
        fi->keep_cache = kind != NODE_LAYER;
        return open_image(fs, ino, error);
    }
    /* Each open reads the text as it was then: nothing of it may come from another's cache. */
    fi->direct_io = 1;
    if (node_spec(kind)->is_live)
        return open_live(fs, ino, error);
    return open_text(fs, ino, fi->flags, error);
}

/* --- a disk's content: it is opened in a job, for it may be in hundreds of images --- */

typedef struct {
    fuse_ino_t ino;
    struct fuse_file_info fi;
} Open;

static File *open_view(Fs *fs, fuse_ino_t ino, GCancellable *cancel, GError **error)
{
    struct stat st;
    g_autoptr(RawView) view = rawview_new(fs, ino, cancel, error);
    if (view == NULL)
        return NULL;
    if (!node_attr(fs, ino, &st)) {
        snap_set_error(error, ENOENT, "it is gone");
        return NULL;
    }
    st.st_size = (off_t)rawview_size(view);
    File *file = file_begin(fs);
    file->view = g_steal_pointer(&view);
    file->st = st;
    return file_show(file);
}

static void run_open(Job *job)
{
    Open *open = job->data;
    g_autoptr(GError) error = NULL;
    if (g_once_init_enter(&job->fs->read_ahead)) {
        readahead_widen(job->fs->mountpoint);
        g_once_init_leave(&job->fs->read_ahead, TRUE);
    }
    File *file = open_view(job->fs, open->ino, job->cancel, &error);
    if (file == NULL) {
        fuse_reply_err(job_finish(job), snap_errno(error));
        return;
    }
    /* What a machine writes next must not be taken from a cache; a state never changes. */
    open->fi.direct_io = node_kind(open->ino) == NODE_ACTIVE_CONTENT;
    open->fi.keep_cache = !open->fi.direct_io;
    open->fi.fh = (uintptr_t)file;
    if (fuse_reply_open(job_finish(job), &open->fi) == -ENOENT)
        file_free(file);
}

void file_open(Fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    g_autoptr(GError) error = NULL;
    if (node_is_content(ino) && opens_to_read(fi)) {
        const Open open = {.ino = ino, .fi = *fi};
        job_start_reading(fs, req, run_open, g_memdup2(&open, sizeof open), g_free);
        return;
    }
    File *file = open_any(fs, ino, fi, &error);
    if (file == NULL) {
        fuse_reply_err(req, snap_errno(error));
        return;
    }
    fi->fh = (uintptr_t)file;
    int answered = file->fd >= 0 ? passthrough_reply_open(file->passed, req, fi) : fuse_reply_open(req, fi);
    if (answered == -ENOENT) /* interrupted: no release will come */
        file_free(file);
}

/* The file that CREATE is about: a text that is there (the kernel did not know), or a new scratch file. */
static File *create_any(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, struct fuse_file_info *fi,
                        fuse_ino_t *ret_ino, GError **error)
{
    struct fuse_entry_param entry;
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    fuse_ino_t ino = node_lookup(fs, dir, name);
    if (ino != 0 && node_entry(fs, ino, &entry)) {
        if ((fi->flags & O_EXCL) != 0) {
            snap_set_error(error, EEXIST, "it is there");
            return NULL;
        }
        if (node_is_content(ino) || node_is_image(ino)) { /* the kernel looks again, and opens it */
            snap_set_error(error, ESTALE, "it is there");
            return NULL;
        }
        *ret_ino = ino;
        return open_any(fs, ino, fi, error);
    }
    if (!tempname_known(dir, name)) {
        snap_set_error(error, strlen(name) > NAME_MAX_BYTES ? ENAMETOOLONG : EPERM, "no files are made here");
        return NULL;
    }
    guint64 id = scratch_add(fs->scratch, dir, name, NULL, ctx->uid, ctx->gid);
    if (id == 0) {
        snap_set_error(error, ENOSPC, "too many scratch files");
        return NULL;
    }
    File *file = file_new(fs);
    file->scratch = id;
    fi->direct_io = 1;
    *ret_ino = node_ino(NODE_SCRATCH, id);
    return file;
}

void file_create(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, struct fuse_file_info *fi)
{
    g_autoptr(GError) error = NULL;
    fuse_ino_t ino;
    struct fuse_entry_param entry;
    File *file = create_any(fs, req, dir, name, fi, &ino, &error);
    if (file == NULL) {
        fuse_reply_err(req, snap_errno(error));
        return;
    }
    if (!node_entry(fs, ino, &entry)) {
        file_free(file);
        fuse_reply_err(req, ENOENT);
        return;
    }
    fi->fh = (uintptr_t)file;
    if (fuse_reply_create(req, &entry, fi) == -ENOENT)
        file_free(file);
}

void file_read(Fs *fs, fuse_req_t req, gsize size, off_t offset, const struct fuse_file_info *fi)
{
    const File *file = file_of(fi);
    if (file->scratch != 0) {
        g_autoptr(GBytes) bytes = scratch_read(fs->scratch, file->scratch, (guint64)offset, size);
        if (bytes == NULL)
            fuse_reply_err(req, ENOENT);
        else
            text_reply(req, bytes, size, 0);
        return;
    }
    if (file->view != NULL) {
        rawview_read(file->view, req, size, offset);
        return;
    }
    if (file->live != NULL) {
        live_read(file->live, req, size, offset);
        return;
    }
    if (file->text != NULL) {
        /* Held over the answer: its release may come while the answer is still being given. */
        g_autoptr(GBytes) text = g_bytes_ref(file->text);
        text_reply(req, text, size, offset);
        return;
    }
    g_autofree char *buffer = g_malloc(size);
    gssize got = pread(file->fd, buffer, size, offset);
    if (got < 0)
        fuse_reply_err(req, EIO);
    else
        fuse_reply_buf(req, buffer, (gsize)got);
}

/* --- writing: in jobs --- */

typedef struct {
    Writer *writer;
    fuse_ino_t ino;
    GBytes *data;
    guint64 offset;
} Write;

static void write_free(Write *write)
{
    g_bytes_unref(write->data);
    g_free(write);
}

static void run_write(Job *job)
{
    const Write *write = job->data;
    gsize len;
    const char *data = g_bytes_get_data(write->data, &len);
    int err = 0;
    gsize taken = writer_write(write->writer, write->offset, data, len, job->cancel, &err);
    if (node_is_ctl(write->ino))
        turns_end(job->fs->turns, write->ino);
    if (err != 0)
        fuse_reply_err(job_finish(job), err);
    else
        fuse_reply_write(job_finish(job), taken);
}

void file_write(Fs *fs, fuse_req_t req, fuse_ino_t ino, const char *data, gsize len, off_t offset,
                const struct fuse_file_info *fi)
{
    const File *file = file_of(fi);
    if (file->scratch != 0) {
        int err = scratch_write(fs->scratch, file->scratch, (guint64)offset, data, len);
        if (err != 0)
            fuse_reply_err(req, err);
        else
            fuse_reply_write(req, len);
        return;
    }
    Write *write = g_new(Write, 1);
    *write = (Write){
        .writer = file->writer, .ino = ino, .data = g_bytes_new(data, len), .offset = (guint64)offset};
    if (node_is_ctl(ino))
        turns_begin(fs->turns, ino);
    job_start(fs, req, run_write, write, (GDestroyNotify)write_free, 0, 0);
}

static void run_flush(Job *job)
{
    int err = writer_flush(job->data, job->cancel);
    fuse_reply_err(job_finish(job), err);
}

void file_flush(Fs *fs, fuse_req_t req, const struct fuse_file_info *fi)
{
    const File *file = file_of(fi);
    if (file->writer != NULL)
        job_start(fs, req, run_flush, file->writer, NULL, 0, 0);
    else
        fuse_reply_err(req, 0);
}

static void run_release(Job *job)
{
    const File *file = job->data;
    writer_end(file->writer);
    fuse_reply_err(job_finish(job), 0);
}

void file_release(Fs *fs, fuse_req_t req, const struct fuse_file_info *fi)
{
    File *file = file_of(fi);
    if (file->writer != NULL) {
        job_start(fs, req, run_release, file, (GDestroyNotify)file_free, 0, 0);
        return;
    }
    file_free(file);
    fuse_reply_err(req, 0);
}

/* Where data and holes are in what is held in memory: it is all data. */
static off_t seek_in_memory(off_t size, off_t offset, int whence)
{
    if (offset < 0 || offset >= size)
        return -ENXIO;
    return whence == SEEK_DATA ? offset : size;
}

void file_seek(Fs *fs, fuse_req_t req, off_t offset, int whence, const struct fuse_file_info *fi)
{
    const File *file = file_of(fi);
    struct stat st = {0};
    off_t at;
    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        at = -EINVAL;
    } else if (file->view != NULL) {
        rawview_seek(file->view, req, offset, whence);
        return;
    } else if (file->fd >= 0) {
        at = lseek(file->fd, offset, whence);
        at = at < 0 ? -errno : at;
    } else {
        if (file->scratch != 0)
            scratch_stat(fs->scratch, file->scratch, &st);
        else if (file->live != NULL)
            st.st_size = (off_t)live_size(file->live);
        else if (file->text != NULL)
            st.st_size = (off_t)g_bytes_get_size(file->text);
        at = seek_in_memory(st.st_size, offset, whence);
    }
    if (at < 0)
        fuse_reply_err(req, (int)-at);
    else
        fuse_reply_lseek(req, at);
}
