/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DiskReader: a disk's content in one state, read without a machine and without a copy. Made by a backend
 * (backend.h, open_disk). All functions may be called by several threads at once, but for free.
 *
 * What a reader gives is the state's content to its end, or an error, never other bytes:
 *   - the images below the first, and the first too when its own content is a frozen state, are locked as a QEMU program
 *     that reads them would do it, so that no merge writes into them; an image that loses its name stays open
 *   - an internal state has a lock of our own on its image, for which the tag stays (EBUSY for who deletes it);
 *     the image itself may be written by its machine, and is not hindered
 *   - the active content is not locked at all: as soon as somebody has it open for writing, or it was written, all fails
 *     with EIO
 */
#pragma once

#include "files.h"
#include "format.h"

typedef struct DiskReader DiskReader;

/* One image of a chain. */
typedef struct {
    const char *path; /* absolute and real, a device, or a URI */
    ImageFormat format;
    FileId
        id; /* who it must be (device, inode and birth), as far as it is known: ESTALE when it is another file */
} DiskLayer;

/* Which state of the first image of a chain. */
typedef enum {
    DISK_FROZEN, /* its own content, which nobody may write */
    DISK_TAG,    /* an internal snapshot in it */
    DISK_ACTIVE, /* its own content, until somebody writes it */
} DiskState;

typedef struct {
    const DiskLayer *layers; /* the first one first, then what it stands on, as the store recorded it */
    guint n_layers;
    DiskState state;
    const char *tag; /* of DISK_TAG: its name */
} DiskChain;

/* Bytes of a disk that come from one place. */
typedef struct {
    guint64 length; /* bytes for which this is so, from the offset asked for on: never 0 */
    gboolean data;  /* FALSE: zeros, for which nothing is stored */
    gboolean
        sparse; /* data that has a place, but its file stores nothing there at this moment: zeros all the same */
    gboolean known; /* where the data is; FALSE: only its owner can tell (another kind of image, a network) */
    guint64 dev;    /* of the file, and where in it */
    guint64 ino;
    guint64 at;     /* of compressed data: where the compressed cluster begins */
    guint64 into;   /* of compressed data: the offset in what is unpacked; else 0 */
    guint64 stored; /* bytes that these take in the file; of compressed data the whole cluster's */
} DiskExtent;

typedef struct {
    /* Read exactly @len bytes at @offset, all inside the disk. EIO. */
    gboolean (*read)(DiskReader *reader, void *buffer, gsize len, guint64 offset, GError **error);
    /* What is at @offset, which is inside the disk. Made from the tables; the data is not read. EIO. */
    gboolean (*extent)(DiskReader *reader, guint64 offset, DiskExtent *ret_extent, GError **error);
    void (*free)(DiskReader *reader);
} DiskReaderOps;

struct DiskReader {
    const DiskReaderOps *ops;
    guint64 size;   /* virtual, bytes */
    gboolean waits; /* for another process or a network, at each call: not for who must answer at once */
};

static inline void disk_reader_free(DiskReader *reader)
{
    if (reader)
        reader->ops->free(reader);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DiskReader, disk_reader_free)

/* Do @a and @b, each at its beginning, say the same place (or both zeros)? Then the bytes are the same, without a look at them. */
static inline gboolean disk_extent_same(const DiskExtent *a, const DiskExtent *b)
{
    if (a->data != b->data)
        return FALSE;
    return !a->data || (a->known && b->known && a->dev == b->dev && a->ino == b->ino && a->at == b->at &&
                        a->into == b->into);
}
