/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "badfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Opened before the mount covers it. */
static int root;
static BadControl *control;

/* The name below root; "." for the directory itself. */
static const char *below(const char *path)
{
    return path[1] != '\0' ? path + 1 : ".";
}

static int result_of(long result)
{
    return result < 0 ? -errno : (int)result;
}

/* The errno, negative, to fail with; or 0. */
static int bad(BadCall call)
{
    unsigned seen = ++control->seen[call];
    if (control->call != (int)call || (seen != control->at && !(control->onwards && seen > control->at)))
        return 0;
    return -control->code;
}

static int bad_getattr(const char *path, struct stat *st, struct fuse_file_info *info)
{
    return result_of(info ? fstat((int)info->fh, st) : fstatat(root, below(path), st, AT_SYMLINK_NOFOLLOW));
}

static int bad_open(const char *path, struct fuse_file_info *info)
{
    int fd = openat(root, below(path), (info->flags & ~O_NOFOLLOW) | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    info->fh = (uint64_t)fd;
    info->direct_io = 1; /* every call comes here, and none later */
    return 0;
}

static int bad_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    int err = bad(BAD_CREATE);
    int fd = err ? -1 : openat(root, below(path), info->flags | O_CREAT | O_CLOEXEC, mode);
    if (fd < 0)
        return err ? err : -errno;
    info->fh = (uint64_t)fd;
    info->direct_io = 1;
    return 0;
}

static int bad_release(const char *path, struct fuse_file_info *info)
{
    close((int)info->fh);
    return 0;
}

static int bad_read(const char *path, char *data, size_t size, off_t offset, struct fuse_file_info *info)
{
    int err = bad(BAD_READ);
    return err ? err : result_of(pread((int)info->fh, data, size, offset));
}

static int bad_write(const char *path, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *info)
{
    int err = bad(BAD_WRITE);
    return err ? err : result_of(pwrite((int)info->fh, data, size, offset));
}

static int bad_fsync(const char *path, int datasync, struct fuse_file_info *info)
{
    int err = bad(BAD_FSYNC);
    return err ? err : result_of(fsync((int)info->fh));
}

static int bad_fsyncdir(const char *path, int datasync, struct fuse_file_info *info)
{
    int err = bad(BAD_FSYNC);
    return err ? err : result_of(fsync(root));
}

static int bad_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
    int err = bad(BAD_TRUNCATE);
    if (err)
        return err;
    if (info)
        return result_of(ftruncate((int)info->fh, size));
    int fd = openat(root, below(path), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int result = result_of(ftruncate(fd, size));
    close(fd);
    return result;
}

static int bad_fallocate(const char *path, int mode, off_t offset, off_t size, struct fuse_file_info *info)
{
    int err = bad(BAD_WRITE);
    return err ? err : result_of(fallocate((int)info->fh, mode, offset, size));
}

static int bad_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
    return result_of(fchmodat(root, below(path), mode, 0));
}

static int bad_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *info)
{
    return result_of(fchownat(root, below(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int bad_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info)
{
    return result_of(utimensat(root, below(path), times, AT_SYMLINK_NOFOLLOW));
}

static int bad_unlink(const char *path)
{
    return result_of(unlinkat(root, below(path), 0));
}

static int bad_link(const char *from, const char *to)
{
    return result_of(linkat(root, below(from), root, below(to), 0));
}

static int bad_rename(const char *from, const char *to, unsigned flags)
{
    return result_of(renameat2(root, below(from), root, below(to), flags));
}

static int bad_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                       struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    int fd = openat(root, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    if (!dir)
        return -errno;
    while ((entry = readdir(dir)))
        fill(buffer, entry->d_name, NULL, 0, 0);
    closedir(dir);
    return 0;
}

static void *bad_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    config->use_ino = 1; /* images are known by them */
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
    config->hard_remove = 1;
    config->nullpath_ok = 0;
    return NULL;
}

static const struct fuse_operations operations = {
    .getattr = bad_getattr,
    .open = bad_open,
    .create = bad_create,
    .release = bad_release,
    .read = bad_read,
    .write = bad_write,
    .fsync = bad_fsync,
    .fsyncdir = bad_fsyncdir,
    .truncate = bad_truncate,
    .fallocate = bad_fallocate,
    .chmod = bad_chmod,
    .chown = bad_chown,
    .utimens = bad_utimens,
    .unlink = bad_unlink,
    .link = bad_link,
    .rename = bad_rename,
    .readdir = bad_readdir,
    .init = bad_init,
};

int main(int argc, char **argv)
{
    if (argc != 3)
        return 1;
    int fd = open(argv[2], O_RDWR | O_CLOEXEC);
    root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || root < 0 || control == MAP_FAILED) {
        perror("badfs");
        return 1;
    }
    char options[] = "-odefault_permissions,fsname=badfs,subtype=badfs", foreground[] = "-f";
    char *args[] = {argv[0], foreground, options, argv[1], NULL};
    return fuse_main(4, args, &operations, NULL);
}
