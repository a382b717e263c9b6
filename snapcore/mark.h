/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mark: whose an image is (DESIGN 4). What a domain of a store writes, or has written, carries the extended attribute
 * user.domsnapfs.store = "UUID INODE": the store's uuid, and the number of the inode that was marked, so that a copy
 * (cp -a, a restored backup) is nobody's. To any other store the image is read-only. A safeguard, not a lock: where a
 * file system has no attributes, or does not let us set them, nothing is marked and nothing is refused. The attribute
 * changes neither the time nor the content of a file.
 */
#pragma once

#include "store.h"

/* EROFS when the file at @path is marked as another store's. */
gboolean mark_check(const Store *store, const char *path, GError **error);

/* Mark the regular file at @path as @store's, unless it is another store's. */
void mark_set(const Store *store, const char *path);

/* Mark what the disks of @domain write. */
void mark_active(const Store *store, const Domain *domain);

/* Take @store's mark away again. */
void mark_clear(const Store *store, const char *path);
