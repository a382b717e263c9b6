/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backend: how images are looked at and changed. Implemented by the room qemu/; snapcore only calls it.
 *
 * Every path is absolute and real (no symlink), every format given: an implementation never probes. All calls may
 * block and may run in several threads at once on different images; none logs. A call that changes something is
 * idempotent in the sense said at each, so that recovery can repeat it. When @cancel fires, a changing call ends its
 * work, leaves the image as a kill would, and fails with EINTR.
 */
#pragma once

#include <gio/gio.h>

#include "diskreader.h"
#include "format.h"

typedef struct {
    char *id;   /* qcow2 snapshot id: reused after deletion, never an identity by itself */
    char *name; /* bytes as in the file */
    guint64 date_sec;
    guint32 date_nsec;
    guint64 vm_state_size;
} ImageTag;

/* What an image's own header says. */
typedef struct {
    ImageFormat format;
    guint64 virtual_size;       /* bytes */
    guint32 cluster_size;       /* bytes; 0 for raw */
    char *backing_name;         /* as in the header, or NULL */
    ImageFormat backing_format; /* FORMAT_NONE: the header names none, or one we do not take */
    char
        *data_file; /* external data file's name, or NULL; "" when the header names none but the bit is set */
    gboolean encrypted;
    gboolean dirty; /* marked dirty or corrupt: needs a check before use */
    guint
        n_bitmaps; /* persistent dirty bitmaps: internal snapshots then cannot be applied (facts/qemu.md E) */
    GPtrArray *tags; /* of ImageTag, in the file's order */
} ImageInfo;

void image_info_free(ImageInfo *info);
gboolean image_info_has_tag(const ImageInfo *info, const char *tag);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImageInfo, image_info_free)
void image_tag_free(ImageTag *tag);
GPtrArray *image_tags_new(void); /* an empty list of ImageTag that frees them */

/* Who else has an image open, by QEMU's lock bytes (facts/qemu.md A3). */
typedef enum { USE_NONE, USE_READER, USE_WRITER } ImageUse;

typedef struct {
    /* An existing, empty file of ours: it is overwritten in place, so owner and mode stay. Or a place. */
    const char *path;
    ImageFormat format; /* qcow2 or qed */
    guint64 size;       /* virtual, bytes */
    const char
        *backing_name; /* as it goes into the header; relative names are relative to path's directory */
    ImageFormat backing_format;
} OverlaySpec;

/* Told now and then, in the calling thread, which part (0 to 1) of a long call is done. */
typedef struct {
    void (*tell)(gpointer user, double part);
    gpointer user;
} BackendProgress;

/* Two layers to be joined. */
typedef struct {
    const char *upper;
    ImageFormat upper_format; /* qcow2 or qed */
    const char *lower;
    ImageFormat lower_format;
} MergeSpec;

/* How many errors a check of an image's bookkeeping found. */
typedef struct {
    guint64 corruptions; /* to be repaired before anybody writes it */
    guint64 leaks;       /* clusters that nothing uses: lost space, no danger */
} ImageCheck;

typedef struct Backend Backend;

typedef struct {
    /*
     * Read the header of @path as @format, natively, in one open: no child process, cost independent of chain
     * depth. ENOENT; EINVAL: it is not of that format; EIO; EOPNOTSUPP: a version or feature that
     * qemu-img 7.2 would refuse. Works on images others have open.
     */
    gboolean (*inspect)(Backend *backend, const char *path, ImageFormat format, ImageInfo **ret_info,
                        GError **error);

    /* Does another process have @path open? One open and two fcntl; never blocks on the lock. */
    gboolean (*in_use)(Backend *backend, const char *path, ImageUse *ret_use, GError **error);

    /*
     * Keep writers out of @path: hold QEMU's "no writers" lock bytes until the returned descriptor is closed
     * (facts/qemu.md E). Readers and new overlays are not hindered. -1 with EBUSY when somebody writes
     * already.
     */
    int (*hold)(Backend *backend, const char *path, GError **error);

    /*
     * The file that hold() gave @fd of has no name any more: keep its locks for some seconds longer, for a program that
     * has opened it and not asked for them yet, then close @fd.
     */
    void (*let_go)(Backend *backend, int fd);

    /*
     * Make @spec->path an empty overlay. The backing file is not opened. On success the file's content is on
     * stable storage (not its directory entry). May be repeated.
     */
    gboolean (*overlay_create)(Backend *backend, const OverlaySpec *spec, GCancellable *cancel,
                               GError **error);

    /*
     * An overlay on a place that is there already: @spec->path is a block device. check: may it be taken? It
     * must be blank at its beginning, large enough, and nobody's; EEXIST, EBUSY, ENOSPC, EOPNOTSUPP (only
     * qcow2). format checks again and makes the overlay, which is then on stable storage. clear makes the place
     * blank again, whatever format did of it; what is not from there is left alone. May be repeated.
     */
    gboolean (*place_check)(Backend *backend, const OverlaySpec *spec, GCancellable *cancel, GError **error);
    gboolean (*place_format)(Backend *backend, const OverlaySpec *spec, GCancellable *cancel, GError **error);
    gboolean (*place_clear)(Backend *backend, const OverlaySpec *spec, GError **error);

    /*
     * Take internal snapshot @tag of the qcow2 image @path. The caller has made sure that no tag has that
     * name. The chain is not opened. On stable storage when it succeeds.
     */
    gboolean (*tag_create)(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                           GError **error);

    /* Make the active state of @path that of the tag called @tag: found by name (exactly one), applied by id.
     * May be repeated. ENOENT. */
    gboolean (*tag_apply)(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                          GError **error);

    /* Delete the tag called @tag; succeeds when there is none. Refuses (EINVAL) when several have that name; EBUSY: a
     * DiskReader reads it.
     */
    gboolean (*tag_delete)(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                           GError **error);

    /*
     * Copy the state @tag of qcow2 @path into @spec->path (an existing, empty file), an overlay on the same
     * backing
     * (@spec->backing_name; NULL: @path has none), never larger than needed. @path is only read. A state with memory keeps
     * its tag in the copy, from which the memory can be loaded. On stable storage.
     */
    gboolean (*copy_out)(Backend *backend, const char *path, const char *tag, const OverlaySpec *spec,
                         GCancellable *cancel, GError **error);

    /*
     * Open @path to read it: a descriptor that take() of any process sees as a reader until it is closed. -1 with
     * EBUSY when somebody writes it.
     */
    int (*open_reader)(Backend *backend, const char *path, GError **error);

    /*
     * Read the content of a disk (diskreader.h). ENOENT: an image or the tag is not there; ESTALE: an image is another file
     * than it was; EBUSY: somebody writes what must not be written; EIO: damaged, or hostile; EOPNOTSUPP: nobody can read
     * it without a key.
     */
    DiskReader *(*open_disk)(Backend *backend, const DiskChain *chain, GError **error);

    /* The virtual size of the first image of @chain in that state: its header alone is read. Errors as above. */
    gboolean (*disk_size)(Backend *backend, const DiskChain *chain, guint64 *ret_size, GError **error);

    /*
     * Have @path to ourselves: keep readers and writers out until the returned descriptor is closed. -1 with EBUSY
     * when anybody has it open already; programs that take no locks are not seen.
     */
    int (*take)(Backend *backend, const char *path, GError **error);

    /*
     * Write everything that @spec->upper has of its own into @spec->lower, which is taken for its backing file,
     * whatever its header says. @lower_fd: the descriptor that take() of the lower one gave; the upper one is held.
     * The upper one keeps its data, so its view is right at every moment, and the call can be repeated from the
     * beginning. The lower one grows to the upper one's size and is on stable storage when it succeeds.
     */
    gboolean (*commit)(Backend *backend, const MergeSpec *spec, int lower_fd, const BackendProgress *progress,
                       GCancellable *cancel, GError **error);

    /*
     * Make @spec->path (an existing, empty file in the same directory) a copy of the qcow2 image @path that reads the
     * same and stands on @spec->backing_name (NULL: on nothing) instead. @path, which has no tags, is only read. On
     * stable storage.
     */
    gboolean (*copy_up)(Backend *backend, const char *path, const OverlaySpec *spec,
                        const BackendProgress *progress, GCancellable *cancel, GError **error);

    /* Change what the header of the qcow2 image @path says it stands on (NULL: nothing), and nothing else. Durable. */
    gboolean (*set_backing)(Backend *backend, const char *path, const char *backing_name,
                            ImageFormat backing_format, GError **error);

    /* Compare refcounts and tables of the qcow2 image @path, its own alone; only reads. EBUSY: somebody writes it. */
    gboolean (*check)(Backend *backend, const char *path, ImageCheck *ret_check, GError **error);

    /* Mend qcow2 bookkeeping (refcounts, flags) after a killed snapshot operation (facts/qemu.md A4). */
    gboolean (*repair)(Backend *backend, const char *path, GError **error);

    void (*free)(Backend *backend);
} BackendOps;

struct Backend {
    const BackendOps *ops;
    const struct MachineBackend *machines; /* machine.h; NULL: it knows of no machine that runs */
    gpointer
        self; /* the implementation's own: a Backend that has its functions, too, lends them the same one */
};
