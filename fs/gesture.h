/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gestures (DESIGN 2): what mkdir, rmdir, rename, symlink and unlink ask for. Each answers @req, most from a
 * job. */
#pragma once

#include "fs.h"

void gesture_mkdir(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name);
void gesture_rmdir(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name);
void gesture_rename(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t new_dir,
                    const char *new_name, unsigned flags);
void gesture_symlink(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, const char *text);
void gesture_unlink(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name);
