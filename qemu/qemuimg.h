/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qemu-img's command lines, one function each: formats always given, chains never opened, nothing probed
 * (facts/qemu.md A). @program is the program to run; every path is absolute. Errors: "qemu-img create: ..."
 * with the errno its message stands for; EINTR, ETIMEDOUT.
 */
#pragma once

#include "backend.h"

/* Geometry of a new qcow2 image. {0}: qemu-img's own choice. */
typedef struct {
    guint32 cluster_size;
    gboolean extended_l2;
} QemuImgGeometry;

/* Write an empty image into the existing file @spec->path: it is truncated and keeps inode, owner and mode.
 */
gboolean qemuimg_create(const char *program, const OverlaySpec *spec, QemuImgGeometry geometry,
                        GCancellable *cancel, GError **error);

/* The same into the file @fd, of our own and without a name; @spec->path is only what it is for. */
gboolean qemuimg_create_in(const char *program, const OverlaySpec *spec, int fd, GCancellable *cancel,
                           GError **error);

typedef enum { QEMUIMG_TAG_CREATE = 'c', QEMUIMG_TAG_APPLY = 'a', QEMUIMG_TAG_DELETE = 'd' } QemuImgTag;

/*
 * qemu-img snapshot: CREATE and DELETE take a name, APPLY an id (which it would take for a name, were there
 * no such id). EILSEQ: @path is not UTF-8. The space that a deletion frees is given back to the file
 * system; when it fails because the disk does, the image may have no snapshot table any more (tagtable.h).
 */
gboolean qemuimg_snapshot(const char *program, QemuImgTag what, const char *path, const char *tag,
                          GCancellable *cancel, GError **error);

/*
 * Copy what the state with @id of the qcow2 image @source has allocated into @target, an empty image made by
 * qemuimg_create with the same virtual size and geometry; with_backing: both have a backing file. The backing
 * file is opened by neither side. Only @target is written. EILSEQ.
 */
gboolean qemuimg_convert_state(const char *program, const char *source, const char *id,
                               const OverlaySpec *target, guint32 cluster_size, GCancellable *cancel,
                               GError **error);

/*
 * Change what the header of qcow2 image @path says about its backing file, and nothing else. NULL: none. It takes no
 * lock: @path is a new file of ours, or the caller holds it.
 */
gboolean qemuimg_set_backing(const char *program, const char *path, const char *backing_name,
                             ImageFormat backing_format, GCancellable *cancel, GError **error);

/*
 * qemu-img commit of @spec->upper into @spec->lower, taken as its backing file whatever the header says; neither is
 * locked: @lock_fd, on which the caller holds the locks of the lower one, is handed on to the child. The upper one
 * keeps its data. EILSEQ.
 */
gboolean qemuimg_commit(const char *program, const MergeSpec *spec, int lock_fd,
                        const BackendProgress *progress, GCancellable *cancel, GError **error);

/*
 * qemu-img rebase, the safe way that copies: @path shall stand on @backing_name (NULL: on nothing) and read the same.
 * A kill may leave @path damaged (facts/qemu.md A4), so it must be a copy of its own.
 */
gboolean qemuimg_rebase(const char *program, const char *path, const char *backing_name,
                        ImageFormat backing_format, const BackendProgress *progress, GCancellable *cancel,
                        GError **error);

/* qemu-img check, which only reads. EBUSY; EIO: it cannot be checked at all. EILSEQ. */
gboolean qemuimg_check(const char *program, const char *path, ImageCheck *ret_check, GError **error);

/* qemu-img check -r all. Leaks that stay are no failure, corruptions are (EIO). EILSEQ. */
gboolean qemuimg_repair(const char *program, const char *path, GError **error);
