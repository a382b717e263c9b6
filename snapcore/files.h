/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files on the host: who a file is, and how files appear and disappear without ever hitting somebody else's.
 *
 * New files are made under a temporary name (exclusive, no symlink followed) and published with link(2), which never
 * overwrites. The temporary name stays until the operation has committed: while it does, that both names lead to one
 * inode proves that the published file is ours (DESIGN 9; plan.h).
 */
#pragma once

#include <glib.h>
#include <sys/stat.h>

/*
 * Which file: device, inode and birth time. All zero: not known. Birth time 0 where the file system has none. Of a block
 * device: its own number and FILE_ID_DEVICE, whatever its node is called and however often that is made again.
 */
#define FILE_ID_DEVICE ((guint64)G_MAXINT64)
typedef struct {
    guint64 dev;
    guint64 ino;
    gint64 birth_sec;
    guint32 birth_nsec;
} FileId;

/* Whether its content may have changed. */
typedef struct {
    guint64 size;
    gint64 mtime_sec;
    guint32 mtime_nsec;
} FileStamp;

typedef struct {
    FileId id;
    FileStamp stamp;
    guint64 blocks; /* of 512 bytes */
    guint mode;
    guint uid;
    guint gid;
    gboolean block; /* a block device: the size is its real one, the mtime says nothing about its content */
} FileLook;

/*
 * statx of @path. No symlink is followed, but for the names in /dev that udev makes for block devices: those are what
 * stays the same over a restart. FALSE with the errno of statx; EINVAL: neither a regular file nor a block device.
 */
gboolean file_look(const char *path, FileLook *ret_look, GError **error);

/* The same of the image @fd, which is open; @path is for messages. */
gboolean file_look_open(int fd, const char *path, FileLook *ret_look, GError **error);

/* Open an image by the same rule; never waits. @flags: of open(2). -1 on failure. */
int file_open_image(const char *path, int flags, GError **error);

/* Is @path a name in /dev? */
gboolean file_in_dev(const char *path);

/* Can a frozen image that was recorded with @stamp be another one now? Of a block device only the size tells. */
gboolean file_changed(const FileStamp *stamp, const FileLook *look);

gboolean file_id_known(const FileId *id);
gboolean file_id_equal(const FileId *a, const FileId *b);
/* The same but for the device, whose number is another one after a restart. */
gboolean file_id_same(const FileId *a, const FileId *b);
gboolean file_stamp_equal(const FileStamp *a, const FileStamp *b);

/* Write what the regular file @source holds into the empty file @path; durable. */
gboolean file_copy_into(const char *source, const char *path, GError **error);

/* TRUE when there is anything at all called @path. */
gboolean file_exists(const char *path);

/*
 * Make the empty file @temp (exclusive) with the owner of the image @like and the permission bits @mode, that is those
 * @like has or had in its active role; the owner may always write. The owner is only set where we may. EEXIST.
 */
gboolean file_make_like(const char *temp, const char *like, guint mode, GError **error);

/* Does a copy of @path in its own directory cost nothing, because the file system lets files share blocks? */
gboolean file_copies_for_free(const char *path);

/* fsync an image, or the directory that holds @path. */
gboolean file_sync(const char *path, GError **error);
gboolean file_sync_parent(const char *path, GError **error);

/* Publish @temp as @path; both names exist afterwards; the directory is synced. EEXIST when there is a @path. */
gboolean file_publish(const char *temp, const char *path, GError **error);

/* Take @path away if it is the same file as @temp, then @temp; what is not there is fine. Nothing else is touched. */
gboolean file_withdraw(const char *temp, const char *path, GError **error);

/* Let @to be the file that @from is, whatever it was; the directory is synced. */
gboolean file_rename_over(const char *from, const char *to, GError **error);

/* Remove @path if it is the file @id (whatever device that is on now); anything else is left alone, and fine. */
gboolean file_remove_if(const char *path, const FileId *id, GError **error);

/* Set the time of the last change of @path. */
gboolean file_set_mtime(const char *path, const FileStamp *stamp, GError **error);

/* Set the permission bits of the regular file @path; fine when it has them. */
gboolean file_set_mode(const char *path, guint mode, GError **error);

/* Remove @path; fine when there is none; the directory is synced. */
gboolean file_remove(const char *path, GError **error);

/* The whole text of a small regular file (EINVAL, ELOOP: a symlink): at most @max bytes (E2BIG). Never waits. */
gboolean file_load(const char *path, gsize max, char **ret_text, gsize *ret_len, GError **error);

/* Replace @path durably (temporary file, fsync, rename, fsync of the directory). */
gboolean file_replace(const char *path, const char *text, gsize len, GError **error);

/*
 * The same in two halves. file_replace_ready: all that needs room: the temporary file with @text, durable; its name, which the
 * caller frees, NULL on failure. file_replace_now: it takes the place of @path; on failure it is still there.
 */
char *file_replace_ready(const char *path, const char *text, gsize len, GError **error);
gboolean file_replace_now(const char *path, const char *ready, GError **error);
