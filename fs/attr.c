/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "attr.h"

#include <errno.h>

#include "node.h"
#include "open.h"

/*
 * Of an image, as it is in the file that was opened: its name may have become another's since, or be gone, and the
 * kernel asks before each read how long it is. A disk's content is as long as it was when it was opened.
 */
static gboolean image_attr(const File *file, struct stat *ret_stat)
{
    struct stat now;
    if (file->view != NULL) {
        *ret_stat = file->st;
        return TRUE;
    }
    if (file->fd < 0 || fstat(file->fd, &now) < 0)
        return FALSE;
    *ret_stat = file->st;
    if (!S_ISREG(now.st_mode)) /* of a device it says nothing */
        return TRUE;
    ret_stat->st_size = now.st_size;
    ret_stat->st_blocks = now.st_blocks;
    ret_stat->st_mtim = now.st_mtim;
    return TRUE;
}

static gboolean has_own_attr(fuse_ino_t ino)
{
    return node_is_image(ino) || node_is_content(ino);
}

typedef struct {
    fuse_ino_t ino;
    struct stat st;
} Wanted;

static gboolean is_wanted(gpointer open, gpointer user)
{
    Wanted *wanted = user;
    const File *file = open;
    return file->st.st_ino == wanted->ino && image_attr(file, &wanted->st);
}

/* An image that is gone but still open: fstat comes without the handle. */
static gboolean gone_attr(Fs *fs, fuse_ino_t ino, struct stat *ret_stat)
{
    Wanted wanted = {.ino = ino};
    if (!has_own_attr(ino) || !handles_find(fs->handles, (GDestroyNotify)file_free, is_wanted, &wanted))
        return FALSE;
    *ret_stat = wanted.st;
    return TRUE;
}

/* For how long what a handle says is true: what an image's file says changes, the bytes of a state do not. */
static double handle_timeout(fuse_ino_t ino)
{
    return node_is_content(ino) ? node_spec(node_kind(ino))->attr_timeout : 0;
}

void attr_get(Fs *fs, fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi)
{
    struct fuse_entry_param entry;
    struct stat st;
    if (fi != NULL && has_own_attr(ino) && image_attr(file_of(fi), &st))
        fuse_reply_attr(req, &st, handle_timeout(ino)); /* what has run out is asked for before each read */
    else if (node_entry(fs, ino, &entry))
        fuse_reply_attr(req, &entry.attr, entry.attr_timeout);
    else if (gone_attr(fs, ino, &st))
        fuse_reply_attr(req, &st, 0);
    else
        fuse_reply_err(req, ENOENT);
}

/* Does it ask for nothing but what is so already? */
static gboolean changes_nothing(const struct stat *attr, const struct stat *now, int to_set)
{
    if ((to_set & FUSE_SET_ATTR_MODE) != 0 && (attr->st_mode & 07777) != (now->st_mode & 07777))
        return FALSE;
    if ((to_set & FUSE_SET_ATTR_UID) != 0 && attr->st_uid != now->st_uid)
        return FALSE;
    if ((to_set & FUSE_SET_ATTR_GID) != 0 && attr->st_gid != now->st_gid)
        return FALSE;
    if ((to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) == 0)
        return TRUE;
    return (to_set & FUSE_SET_ATTR_MTIME_NOW) == 0 && attr->st_mtim.tv_sec == now->st_mtim.tv_sec &&
           attr->st_mtim.tv_nsec == now->st_mtim.tv_nsec;
}

typedef struct {
    File *file; /* NULL: by name, which never acts and changes nothing */
    fuse_ino_t ino;
    guint64 size;
} Truncate;

static void run_truncate(Job *job)
{
    const Truncate *truncate = job->data;
    struct fuse_entry_param entry;
    int err = 0;
    if (truncate->file != NULL)
        err = writer_truncate(truncate->file->writer, truncate->size);
    if (err == 0 && !node_entry(job->fs, truncate->ino, &entry))
        err = ENOENT;
    if (err != 0) {
        fuse_reply_err(job_finish(job), err);
        return;
    }
    entry.attr.st_size =
        (off_t)truncate->size; /* as this open sees it; the next stat shows the text that is */
    fuse_reply_attr(job_finish(job), &entry.attr, 0);
}

void attr_set(Fs *fs, fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set,
              const struct fuse_file_info *fi)
{
    struct fuse_entry_param now;
    gboolean scratch = node_kind(ino) == NODE_SCRATCH;
    gboolean resize = (to_set & FUSE_SET_ATTR_SIZE) != 0;
    int err = 0;
    if (!node_entry(fs, ino, &now))
        err = ENOENT;
    else if (!scratch && !node_is_writable(ino) && (resize || !changes_nothing(attr, &now.attr, to_set)))
        err = EPERM;
    else if (resize && !scratch && (fi == NULL || file_of(fi)->writer == NULL) && attr->st_size > 0)
        err = EPERM;
    else if (resize && scratch)
        err = scratch_truncate(fs->scratch, node_id(ino), (guint64)attr->st_size);
    if (err != 0) {
        fuse_reply_err(req, err);
    } else if (resize && !scratch) {
        Truncate *truncate = g_new(Truncate, 1);
        File *file = fi == NULL || file_of(fi)->writer == NULL ? NULL : file_of(fi);
        *truncate = (Truncate){.file = file, .ino = ino, .size = (guint64)attr->st_size};
        job_start(fs, req, run_truncate, truncate, g_free, 0, 0);
    } else {
        node_entry(fs, ino, &now);
        fuse_reply_attr(req, &now.attr, now.attr_timeout);
    }
}
