/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clones: images that stand on others by what their own headers say, whoever made them. What cannot be known (a file that
 * cannot be read, or is of a kind of qcow2 that we do not understand) is an error, never "no".
 */
#pragma once

#include "backend.h"
#include "files.h"

/*
 * The backing file's name in the header of @path, be it qcow2 or qed: *ret_name, NULL when it has none or is no such image.
 * Caller frees. Errors: EBUSY, it cannot be known.
 */
gboolean clones_backing_name(Backend *backend, const char *path, char **ret_name, GError **error);

/* Is @file, whose header names @name, one that is looked for? */
typedef gboolean (*ClonesMatch)(const char *file, const FileLook *look, const char *name, gconstpointer user);

/* The first image in the directory @dir that @match says yes to: *ret_clone, NULL when there is none. Caller frees. */
gboolean clones_find(Backend *backend, const char *dir, ClonesMatch match, gconstpointer user,
                     char **ret_clone, GError **error);

/* The same: whose header names @path, which need not exist, in its directory. */
gboolean clones_find_named(Backend *backend, const char *path, char **ret_clone, GError **error);

/*
 * Remove @path if it is the file @id and no image in its directory names it. TRUE: that file has no such name any more.
 * EBUSY: one does, or it cannot be known.
 */
gboolean clones_remove_unnamed(Backend *backend, const char *path, const FileId *id, GError **error);
