/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clones: images that stand on others by what their own headers say, whoever made them. */
#pragma once

#include "backend.h"

/* The backing file's name in the header of @path, be it qcow2 or qed; NULL: none, or it is no such image. Caller frees. */
char *clones_backing_name(Backend *backend, const char *path);

/*
 * An image in the directory of @path (which need not exist) whose header names @path, absolute or relative: *ret_clone,
 * or NULL when there is none. Caller frees. FALSE: the directory cannot be read.
 */
gboolean clones_find_named(Backend *backend, const char *path, char **ret_clone, GError **error);
