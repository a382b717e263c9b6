/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scratch: the entries that tools make on their way to a gesture: the symlink that `ln -sfn` renames onto
 * current, the temporary files of editors, sed -i and rsync. They live in memory, no listing shows them, and
 * what is not open is dropped after a minute. At most 64 of them, 1 MiB each. Has its own lock; errors are
 * plain errnos.
 */
#pragma once

#include <fuse_lowlevel.h>
#include <glib.h>
#include <sys/stat.h>

typedef struct Scratch Scratch;

Scratch *scratch_new(void);
void scratch_free(Scratch *scratch);

/*
 * Make an entry in @dir: a symlink with text @link, or (NULL) an empty file that is open once. Where there
 * are too many, the one that was not open for longest goes. 0: all are open, or the name is taken.
 */
guint64 scratch_add(Scratch *scratch, fuse_ino_t dir, const char *name, const char *link, uid_t uid,
                    gid_t gid);

/* The entry called @name in @dir; 0: none. */
guint64 scratch_find(Scratch *scratch, fuse_ino_t dir, const char *name);

/* Take the entry out of its directory. An open file lives until it is closed. FALSE: there is none. */
gboolean scratch_unlink(Scratch *scratch, fuse_ino_t dir, const char *name);

/* Mode, owner, size, times, nlink. FALSE: it is gone. */
gboolean scratch_stat(Scratch *scratch, guint64 id, struct stat *ret_stat);

/* The text of a symlink (caller frees), NULL: gone, or no symlink. */
char *scratch_link(Scratch *scratch, guint64 id);

/* FALSE: gone, or no file. */
gboolean scratch_open(Scratch *scratch, guint64 id);
void scratch_close(Scratch *scratch, guint64 id);

/* Up to @size bytes from @offset; NULL: gone. Caller unrefs. */
GBytes *scratch_read(Scratch *scratch, guint64 id, guint64 offset, gsize size);

/* 0 or an errno: EFBIG over the limit, ENOENT gone. */
int scratch_write(Scratch *scratch, guint64 id, guint64 offset, const char *data, gsize len);
int scratch_truncate(Scratch *scratch, guint64 id, guint64 size);
