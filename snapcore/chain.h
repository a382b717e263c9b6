/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chain: images against what the store recorded of them (DESIGN 9: images are hostile until shown otherwise). Formats
 * come from the definition or from the header of the layer above, never from a guess.
 */
#pragma once

#include "op.h"

/*
 * Look at @layer's header and check that it is what is recorded: same backing file, no data file, not encrypted, not
 * marked dirty; that all files below it are there; and that no frozen one changed, which breaks the domain. EIO,
 * EINVAL, EOPNOTSUPP, ENOENT.
 */
gboolean chain_inspect(Core *core, const Domain *domain, const Layer *layer, ImageInfo **ret_info,
                       GError **error);

/* What no image of a chain may be: encrypted, dirty, with a data file. EOPNOTSUPP, EIO. */
gboolean chain_check_info(const char *path, const ImageInfo *info, GError **error);

/* Does the header of @layer, @info, name the backing file and format that are recorded? EPERM. */
gboolean chain_check_backing(Core *core, const Layer *layer, const ImageInfo *info, GError **error);

/* Where the header of @path, an image (qcow2, qed) or any other file, says that its backing file is: a real path (caller
 * frees). NULL: nowhere, or by a protocol. */
char *chain_backing_of(Core *core, const char *path);

/* Where the backing name @name in the header of @path leads: a real path (caller frees). EPERM: it names a protocol. */
char *chain_backing_path(const Core *core, const char *path, const char *name, GError **error);

/*
 * Make the chain below and including the image of @disk known in @domain. What lies below is taken only if the
 * definition's <backingStore> names it, if it is in the image's own directory (but not in /dev), or if it is under one of
 * the mount's backing directories; otherwise EPERM with a sentence that says so. An image that is not there is recorded as missing.
 */
gboolean chain_record(Core *core, Domain *domain, const DiskDef *disk, GError **error);

/*
 * An image (qcow2, qed), known to the store or not, that has @layer as its backing file (by device and inode), in one of
 * the directories that @layer and @domain's images lie in: *ret_clone, NULL when there is none. Caller frees. It would read
 * other bytes if @layer's content changed. Unless @known_too, those that @domain has recorded as standing on @layer do not
 * count. FALSE: it cannot be known; EBUSY, or the errno of a directory that cannot be read.
 */
gboolean chain_find_clone(Core *core, const Domain *domain, const Layer *layer, gboolean known_too,
                          char **ret_clone, GError **error);

/* Is there one at all? Yes, too, when that cannot be known. */
gboolean chain_has_clone(Core *core, const Domain *domain, const Layer *layer);

/*
 * @path made absolute and real: symlinks resolved as far as it exists, but the name of a block device in /dev is kept,
 * since that is what stays the same over a restart. EINVAL when it is inside the mount itself.
 * Caller frees.
 */
char *chain_real_path(const Core *core, const char *path, GError **error);
