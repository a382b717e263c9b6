/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "error.h"
#include "fault.h"

#define COPY_BYTES (1024 * 1024) /* in one go */
#define LOOK_MASK (STATX_BASIC_STATS | STATX_BTIME)

/* A descriptor that closes itself. */
typedef int AutoFd;
static void auto_fd_close(AutoFd *fd)
{
    if (*fd >= 0)
        close(*fd);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AutoFd, auto_fd_close)

/* The descriptor, which then is the caller's to close. */
static int auto_fd_steal(AutoFd *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

gboolean file_in_dev(const char *path)
{
    return g_str_has_prefix(path, "/dev/");
}

/* In bytes; 0: not known. The kernel's word on it, so that the device need not be opened. */
static guint64 device_size(guint major, guint minor)
{
    char path[64];
    g_autofree char *text = NULL;
    guint64 sectors;
    g_snprintf(path, sizeof path, "/sys/dev/block/%u:%u/size", major, minor);
    if (!g_file_get_contents(path, &text, NULL, NULL) ||
        !g_ascii_string_to_unsigned(g_strchomp(text), 10, 0, G_MAXUINT64 / 512, &sectors, NULL))
        return 0;
    return sectors * 512;
}

static gboolean stat_image(const char *path, struct statx *ret_st, GError **error)
{
    int result = statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, LOOK_MASK, ret_st);
    gboolean link = result == 0 && S_ISLNK(ret_st->stx_mode) && file_in_dev(path);
    if (link)
        result = statx(AT_FDCWD, path, 0, LOOK_MASK, ret_st);
    if (result < 0)
        snap_set_errno(error, errno, "'%s'", path);
    else if (!S_ISBLK(ret_st->stx_mode) && (link || !S_ISREG(ret_st->stx_mode)))
        snap_set_error(error, EINVAL, "'%s' is neither a regular file nor a block device", path);
    else
        return TRUE;
    return FALSE;
}

static FileLook look_from(const struct statx *st)
{
    FileLook look = {
        .id = {.dev = makedev(st->stx_dev_major, st->stx_dev_minor), .ino = st->stx_ino},
        .stamp = {.size = st->stx_size, .mtime_sec = st->stx_mtime.tv_sec, .mtime_nsec = st->stx_mtime.tv_nsec},
        .blocks = st->stx_blocks,
        .mode = st->stx_mode & 07777,
        .uid = st->stx_uid,
        .gid = st->stx_gid,
        .block = S_ISBLK(st->stx_mode),
    };
    if (look.block) {
        look.id = (FileId){.dev = makedev(st->stx_rdev_major, st->stx_rdev_minor), .ino = FILE_ID_DEVICE};
        look.stamp.size = device_size(st->stx_rdev_major, st->stx_rdev_minor);
        look.blocks = look.stamp.size / 512;
    } else if (st->stx_mask & STATX_BTIME) {
        look.id.birth_sec = st->stx_btime.tv_sec;
        look.id.birth_nsec = st->stx_btime.tv_nsec;
    }
    return look;
}

gboolean file_look(const char *path, FileLook *ret_look, GError **error)
{
    struct statx st;
    if (!stat_image(path, &st, error))
        return FALSE;
    *ret_look = look_from(&st);
    return TRUE;
}

gboolean file_look_open(int fd, const char *path, FileLook *ret_look, GError **error)
{
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH, LOOK_MASK, &st) < 0) {
        snap_set_errno(error, errno, "cannot look at '%s'", path);
        return FALSE;
    }
    *ret_look = look_from(&st);
    return TRUE;
}

int file_open_image(const char *path, int flags, GError **error)
{
    /* O_NONBLOCK: a pipe that somebody put there must not hold us up; it means nothing to files and disks */
    const int safe = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    struct stat st;
    gboolean link = FALSE;
    g_auto(AutoFd) fd = open(path, flags | safe | O_NOFOLLOW);
    if (fd < 0 && errno == ELOOP && file_in_dev(path)) {
        link = TRUE;
        fd = open(path, flags | safe);
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        snap_set_errno(error, errno, "cannot open '%s'", path);
        return -1;
    }
    if (!S_ISBLK(st.st_mode) && (link || !S_ISREG(st.st_mode))) {
        snap_set_error(error, EINVAL, "'%s' is neither a regular file nor a block device", path);
        return -1;
    }
    return auto_fd_steal(&fd);
}

gboolean file_id_known(const FileId *id)
{
    return id->ino != 0;
}

gboolean file_id_equal(const FileId *a, const FileId *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->birth_sec == b->birth_sec &&
           a->birth_nsec == b->birth_nsec;
}

gboolean file_id_same(const FileId *a, const FileId *b)
{
    return a->ino == b->ino && a->birth_sec == b->birth_sec && a->birth_nsec == b->birth_nsec;
}

gboolean file_stamp_equal(const FileStamp *a, const FileStamp *b)
{
    return a->size == b->size && a->mtime_sec == b->mtime_sec && a->mtime_nsec == b->mtime_nsec;
}

gboolean file_changed(const FileStamp *stamp, const FileLook *look)
{
    if (!look->block)
        return !file_stamp_equal(stamp, &look->stamp);
    return stamp->size != 0 && look->stamp.size != 0 && stamp->size != look->stamp.size;
}

gboolean file_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 || errno != ENOENT;
}

gboolean file_make_like(const char *temp, const char *like, guint mode, GError **error)
{
    FileLook look;
    if (!file_look(like, &look, error))
        return FALSE;
    g_auto(AutoFd) fd =
        FAULT("files.make") ? -1 : open(temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        snap_set_errno(error, errno, "create '%s'", temp);
        return FALSE;
    }
    if (geteuid() == 0 && fchown(fd, look.uid, look.gid) < 0 && errno != EPERM) {
        snap_set_errno(error, errno, "set the owner of '%s'", temp);
        return FALSE;
    }
    if (fchmod(fd, (mode & 0666) | 0600) < 0) {
        snap_set_errno(error, errno, "set the mode of '%s'", temp);
        return FALSE;
    }
    return TRUE;
}

static gboolean sync_fd(int fd, const char *path, GError **error)
{
    if (fd >= 0 && fsync(fd) == 0)
        return TRUE;
    snap_set_errno(error, errno, "fsync '%s'", path);
    return FALSE;
}

gboolean file_sync(const char *path, GError **error)
{
    g_auto(AutoFd) fd = file_open_image(path, O_RDONLY, error);
    return fd >= 0 && FAULT_POINT("files.sync", error) && sync_fd(fd, path, error);
}

gboolean file_sync_parent(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_auto(AutoFd) fd = FAULT("files.sync-dir") ? -1 : open(dir, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    return sync_fd(fd, dir, error);
}

gboolean file_copy_into(const char *source, const char *path, GError **error)
{
    g_auto(AutoFd) from = file_open_image(source, O_RDONLY, error);
    g_auto(AutoFd) to = from < 0 ? -1 : file_open_image(path, O_WRONLY, error);
    ssize_t n;
    if (to < 0)
        return FALSE;
    do
        n = FAULT("files.copy") ? -1 : sendfile(to, from, NULL, COPY_BYTES);
    while (n > 0 || (n < 0 && errno == EINTR));
    if (n == 0)
        return sync_fd(to, path, error);
    snap_set_errno(error, errno, "copy '%s' to '%s'", source, path);
    return FALSE;
}

gboolean file_publish(const char *temp, const char *path, GError **error)
{
    if (FAULT("files.link") || link(temp, path) < 0) {
        snap_set_errno(error, errno, "create '%s'", path);
        return FALSE;
    }
    return file_sync_parent(path, error);
}

gboolean file_withdraw(const char *temp, const char *path, GError **error)
{
    struct stat a, b;
    if (lstat(temp, &a) < 0) {
        if (errno == ENOENT)
            return TRUE; /* never made, or already taken back: @path is not ours */
        snap_set_errno(error, errno, "'%s'", temp);
        return FALSE;
    }
    if (lstat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino && !file_remove(path, error))
        return FALSE;
    return file_remove(temp, error);
}

gboolean file_rename_over(const char *from, const char *to, GError **error)
{
    if (rename(from, to) < 0) {
        snap_set_errno(error, errno, "rename '%s' to '%s'", from, to);
        return FALSE;
    }
    return file_sync_parent(to, error);
}

gboolean file_copies_for_free(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int from = file_open_image(path, O_RDONLY, NULL);
    int to = from < 0 ? -1 : open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    gboolean shared = to >= 0 && ioctl(to, FICLONE, from) == 0;
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return shared;
}

gboolean file_remove_if(const char *path, const FileId *id, GError **error)
{
    FileLook look;
    return !file_look(path, &look, NULL) || !file_id_same(&look.id, id) || file_remove(path, error);
}

gboolean file_set_mtime(const char *path, const FileStamp *stamp, GError **error)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = stamp->mtime_sec, .tv_nsec = stamp->mtime_nsec}};
    if (utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) == 0)
        return TRUE;
    snap_set_errno(error, errno, "set the time of '%s'", path);
    return FALSE;
}

gboolean file_set_mode(const char *path, guint mode, GError **error)
{
    g_auto(AutoFd) fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        snap_set_errno(error, errno, "'%s'", path);
        return FALSE;
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & 07777) == mode)
        return TRUE;
    char self[64];
    g_snprintf(self, sizeof self, "/proc/self/fd/%d", fd); /* fchmod does not take an O_PATH descriptor */
    if (FAULT("files.chmod") || chmod(self, mode) < 0) {
        snap_set_errno(error, errno, "set the mode of '%s'", path);
        return FALSE;
    }
    return TRUE;
}

gboolean file_remove(const char *path, GError **error)
{
    if ((FAULT("files.unlink") || unlink(path) < 0) && errno != ENOENT) {
        snap_set_errno(error, errno, "remove '%s'", path);
        return FALSE;
    }
    return file_sync_parent(path, error);
}

gboolean file_load(const char *path, gsize max, char **ret_text, gsize *ret_len, GError **error)
{
    /* Not to be kept waiting by a pipe. */
    g_auto(AutoFd) fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        snap_set_errno(error, errno, "read '%s'", path);
        return FALSE;
    }
    if (!S_ISREG(st.st_mode)) {
        snap_set_error(error, EINVAL, "read '%s': not a regular file", path);
        return FALSE;
    }
    if ((guint64)st.st_size > max) {
        snap_set_error(error, E2BIG, "read '%s': more than %" G_GSIZE_FORMAT " bytes", path, max);
        return FALSE;
    }
    g_autofree char *text = g_malloc((gsize)st.st_size + 1);
    gsize len = 0;
    while (len < (gsize)st.st_size) {
        ssize_t n = pread(fd, text + len, (gsize)st.st_size - len, (off_t)len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            snap_set_errno(error, errno, "read '%s'", path);
            return FALSE;
        }
        if (n == 0)
            break;
        len += (gsize)n;
    }
    text[len] = '\0';
    *ret_text = g_steal_pointer(&text);
    if (ret_len)
        *ret_len = len;
    return TRUE;
}

static gboolean write_all(int fd, const char *text, gsize len)
{
    for (gsize done = 0; done < len;) {
        ssize_t n = write(fd, text + done, len - done);
        if (n < 0 && errno != EINTR)
            return FALSE;
        done += (gsize)MAX(n, 0);
    }
    return TRUE;
}

char *file_replace_ready(const char *path, const char *text, gsize len, GError **error)
{
    g_autofree char *temp = g_strconcat(path, ".XXXXXX", NULL);
    g_auto(AutoFd) fd = g_mkstemp_full(temp, O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 && !FAULT("files.write") && write_all(fd, text, len) && !FAULT("files.fsync") &&
        fsync(fd) == 0)
        return g_steal_pointer(&temp);
    snap_set_errno(error, errno, "write '%s'", path);
    if (fd >= 0)
        (void)unlink(temp);
    return NULL;
}

gboolean file_replace_now(const char *path, const char *ready, GError **error)
{
    if (!FAULT("files.rename") && rename(ready, path) == 0)
        return file_sync_parent(path, error);
    snap_set_errno(error, errno, "write '%s'", path);
    return FALSE;
}

/* Not GLib's: that does not say when the directory could not be synced. */
gboolean file_replace(const char *path, const char *text, gsize len, GError **error)
{
    g_autofree char *ready = file_replace_ready(path, text, len, error);
    if (!ready)
        return FALSE;
    if (file_replace_now(path, ready, error))
        return TRUE;
    (void)unlink(ready); /* not there any more where only the directory could not be synced */
    return FALSE;
}
