/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attributes: what stat, chmod, chown, utimens and truncate are answered. */
#pragma once

#include "fs.h"

/* @fi: of the open file, or NULL. An open image is told of as it was opened, also when it is gone. */
void attr_get(Fs *fs, fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi);

/* chmod, chown, utimens, truncate. @fi: of the open file, or NULL. */
void attr_set(Fs *fs, fuse_req_t req, fuse_ino_t ino, const struct stat *attr, int to_set,
              const struct fuse_file_info *fi);
