/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel asks, to the functions that know. Operations that are not here are ENOSYS by libfuse, which
 * the kernel takes well and remembers: extended attributes, fsync, fallocate, locks.
 */
#include "ops.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "attr.h"
#include "daemon.h"
#include "dir.h"
#include "file.h"
#include "gesture.h"
#include "node.h"

static Fs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    daemon_notify_ready();
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    Fs *fs = fs_of(req);
    struct fuse_entry_param entry;
    fuse_ino_t ino = strlen(name) > NAME_MAX_BYTES ? 0 : node_lookup(fs, parent, name);
    if (ino != 0 && node_entry(fs, ino, &entry))
        fuse_reply_entry(req, &entry);
    else
        fuse_reply_err(req, strlen(name) > NAME_MAX_BYTES ? ENAMETOOLONG : ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    attr_get(fs_of(req), req, ino, fi);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
    attr_set(fs_of(req), req, ino, attr, to_set, fi);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    g_autofree char *text = node_link(fs_of(req), ino);
    if (text == NULL)
        fuse_reply_err(req, ENOENT);
    else
        fuse_reply_readlink(req, text);
}

/* Nodes and hard links are not of this file system. */
static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    fuse_reply_err(req, EPERM);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    gesture_mkdir(fs_of(req), req, parent, name);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    gesture_rmdir(fs_of(req), req, parent, name);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    gesture_unlink(fs_of(req), req, parent, name);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
    gesture_symlink(fs_of(req), req, parent, name, link);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                      const char *newname, unsigned int flags)
{
    gesture_rename(fs_of(req), req, parent, name, newparent, newname, flags);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    file_open(fs_of(req), req, ino, fi);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    file_create(fs_of(req), req, parent, name, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    file_read(fs_of(req), req, size, off, fi);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    file_write(fs_of(req), req, ino, buf, size, off, fi);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    file_flush(fs_of(req), req, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    file_release(fs_of(req), req, fi);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    file_seek(fs_of(req), req, off, whence, fi);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    Dir *dir = dir_open(fs_of(req), ino);
    if (dir == NULL) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    fi->fh = (uintptr_t)dir;
    if (fuse_reply_open(req, fi) == -ENOENT)
        dir_free(dir);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    dir_read(fs_of(req), (Dir *)(uintptr_t)fi->fh, req, size, off, FALSE);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    dir_read(fs_of(req), (Dir *)(uintptr_t)fi->fh, req, size, off, TRUE);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    dir_free((Dir *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

/* A store may lie on a disk that is slow or hangs. */
static void run_statfs(Job *job)
{
    struct statvfs st;
    if (statvfs(job->fs->store, &st) != 0) {
        int err = errno;
        fuse_reply_err(job_finish(job), err);
        return;
    }
    st.f_namemax = NAME_MAX_BYTES;
    fuse_reply_statfs(job_finish(job), &st);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    job_start_reading(fs_of(req), req, run_statfs, NULL, NULL);
}

const struct fuse_lowlevel_ops fs_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .link = op_link,
    .mkdir = op_mkdir,
    .rmdir = op_rmdir,
    .unlink = op_unlink,
    .symlink = op_symlink,
    .rename = op_rename,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write = op_write,
    .flush = op_flush,
    .release = op_release,
    .lseek = op_lseek,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .statfs = op_statfs,
};
