/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of FUSE operations. Its user data is the Fs. */
#pragma once

#include <fuse_lowlevel.h>

extern const struct fuse_lowlevel_ops fs_ops;
