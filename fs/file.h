/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Open files: images, texts, scratch files. Each function answers @req; what acts does so from a job. */
#pragma once

#include "fs.h"

void file_open(Fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void file_create(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, struct fuse_file_info *fi);
void file_read(Fs *fs, fuse_req_t req, gsize size, off_t offset, const struct fuse_file_info *fi);
void file_write(Fs *fs, fuse_req_t req, fuse_ino_t ino, const char *data, gsize len, off_t offset,
                const struct fuse_file_info *fi);
void file_flush(Fs *fs, fuse_req_t req, const struct fuse_file_info *fi);
void file_release(Fs *fs, fuse_req_t req, const struct fuse_file_info *fi);
void file_seek(Fs *fs, fuse_req_t req, off_t offset, int whence, const struct fuse_file_info *fi);
