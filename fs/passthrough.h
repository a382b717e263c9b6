/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Passthrough: images that are shown as they are (a raw layer is its own raw view) are read by the kernel itself, at the speed
 * of the file below and from its page cache, not through the daemon. Linux 6.9 offers it, to a daemon with CAP_SYS_ADMIN and for
 * files that lie on no stacked file system; whatever is missing, the daemon reads, as ever. libfuse offers it from 3.17 on only:
 * done here is what the kernel's protocol asks for, whichever libfuse there is (facts/fuse.md 5.3).
 *
 * All openings of one inode at a time must agree: either the kernel reads one file, or the daemon reads. Has its own lock.
 */
#pragma once

#include <fuse_lowlevel.h>
#include <glib.h>

typedef struct Passthrough Passthrough;

/* An image's inode that is open. */
typedef struct PassedFile PassedFile;

Passthrough *passthrough_new(void);
/* After the last passthrough_close. */
void passthrough_free(Passthrough *passthrough);

/* Offer it in the answer to the first request of @session, whose user data is an Fs, and which is mounted, not yet served. */
void passthrough_offer(Passthrough *passthrough, struct fuse_session *session);
/* The session ends: its descriptor is not used any more. After the last request. */
void passthrough_stop(Passthrough *passthrough);

/*
 * @ino is being opened, of which @fd, only to be read, is the file: how? *ret_file NULL: past the kernel's cache, for who opened
 * it before and has it still reads another file. FALSE (EBUSY): the kernel itself reads that other file for them, and would answer
 * EIO to any other way of opening it. Each needs a passthrough_close.
 */
gboolean passthrough_open(Passthrough *passthrough, fuse_ino_t ino, int fd, PassedFile **ret_file,
                          GError **error);
void passthrough_close(Passthrough *passthrough, PassedFile *file);

/* Answer OPEN so, as fuse_reply_open does it with @fi. */
int passthrough_reply_open(const PassedFile *file, fuse_req_t req, struct fuse_file_info *fi);
