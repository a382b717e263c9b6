/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diskread.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "clustercache.h"
#include "diskmap.h"
#include "error.h"

typedef struct {
    DiskReader base;
    GPtrArray *images; /* of DiskImage, the chain */
    DiskMap *map;
    ClusterCache *unpacked;
} DiskRead;

/* Bytes of one extent. */
typedef struct {
    const DiskImage *image;
    MapKind kind;
    guint64 at;     /* as in MapPiece: of data, where the first one of these is */
    guint64 into;   /* of compressed data: where in the cluster */
    guint64 length; /* to the extent's end */
    gboolean sparse;
} Piece;

static gboolean still_right(const DiskRead *disk, GError **error)
{
    return disk_image_check(g_ptr_array_index(disk->images, 0), error);
}

/* What is at @offset, in extent @index of @chunk. */
static Piece piece_at(const DiskRead *disk, const MapChunk *chunk, guint index, guint64 offset)
{
    const MapExtent *extent = &chunk->extents[index];
    Piece piece = {
        .image = g_ptr_array_index(disk->images, extent->image),
        .kind = extent->kind,
        .at = extent->at,
        .length = map_chunk_end(chunk, index) - offset,
    };
    if (extent->kind == MAP_COMPRESSED)
        piece.into = offset & (qcow2_cluster_size(&piece.image->layout) - 1);
    else
        piece.at += offset - (chunk->offset + extent->start);
    return piece;
}

/* What is not in the file reads as zeros, as QEMU has it. */
static gboolean read_data(const ImageFile *file, guint64 at, char *buffer, gsize len, GError **error)
{
    gsize got;
    if (!image_file_read_some(file, at, buffer, len, &got, error))
        return FALSE;
    memset(buffer + got, 0, len - got);
    return TRUE;
}

static gboolean read_piece(DiskRead *disk, const Piece *piece, char *buffer, gsize len, GError **error)
{
    if (piece->kind == MAP_DATA && piece->image->reader)
        return piece->image->reader->ops->read(piece->image->reader, buffer, len, piece->at, error);
    if (piece->kind == MAP_DATA)
        return read_data(piece->image->file, piece->at, buffer, len, error);
    if (piece->kind == MAP_ZERO) {
        memset(buffer, 0, len);
        return TRUE;
    }
    g_autoptr(GBytes) cluster = cluster_cache_get(disk->unpacked, piece->image, piece->at, error);
    if (cluster)
        memcpy(buffer, (const char *)g_bytes_get_data(cluster, NULL) + piece->into, len);
    return cluster != NULL;
}

/* Read what of @len bytes at @offset is in one chunk; *ret_done: so many. */
static gboolean read_chunk(DiskRead *disk, char *buffer, gsize len, guint64 offset, gsize *ret_done,
                           GError **error)
{
    g_autoptr(MapChunk) chunk = diskmap_chunk(disk->map, offset, error);
    gsize done = 0;
    if (!chunk)
        return FALSE;
    len = MIN(len, chunk->offset + chunk->length - offset);
    for (guint index = map_chunk_find(chunk, offset); done < len; index++) {
        Piece piece = piece_at(disk, chunk, index, offset + done);
        gsize part = MIN(len - done, piece.length);
        if (!read_piece(disk, &piece, buffer + done, part, error))
            return FALSE;
        done += part;
    }
    *ret_done = done;
    return TRUE;
}

static gboolean do_read(DiskReader *reader, void *buffer, gsize len, guint64 offset, GError **error)
{
    DiskRead *disk = (DiskRead *)reader;
    if (!disk_image_check_range(reader, len, offset, error) || !still_right(disk, error))
        return FALSE;
    for (gsize done = 0, part; done < len; done += part)
        if (!read_chunk(disk, (char *)buffer + done, len - done, offset + done, &part, error))
            return FALSE;
    return still_right(disk, error);
}

/*
 * What the file itself has not stored, or what would be behind its end, is no data in a raw image. In a qcow2 image it still
 * has its place, which is what two states are compared by, and what the file stores of it may change without a write.
 */
static void found_hole(Piece *piece)
{
    if (piece->image->raw)
        piece->kind = MAP_ZERO;
    else
        piece->sparse = TRUE;
}

static void look_for_holes(Piece *piece)
{
    int fd = piece->image->file->fd;
    off_t at = (off_t)piece->at;
    off_t data = lseek(fd, at, SEEK_DATA);
    if (data > at || (data < 0 && errno == ENXIO)) {
        found_hole(piece);
        if (data > at)
            piece->length = MIN(piece->length, (guint64)(data - at));
        return;
    }
    off_t hole = data < 0 ? -1 : lseek(fd, at, SEEK_HOLE);
    if (hole > at)
        piece->length = MIN(piece->length, (guint64)(hole - at));
}

/* What another reader says of @piece, as far as that goes. */
static gboolean ask_reader(const Piece *piece, DiskExtent *ret_extent, GError **error)
{
    DiskReader *reader = piece->image->reader;
    if (!reader->ops->extent(reader, piece->at, ret_extent, error))
        return FALSE;
    if (ret_extent->length > piece->length) {
        ret_extent->stored = MIN(ret_extent->stored, piece->length);
        ret_extent->length = piece->length;
    }
    return TRUE;
}

static DiskExtent describe(const Piece *piece)
{
    DiskExtent extent = {.length = piece->length, .known = TRUE};
    if (piece->kind == MAP_ZERO)
        return extent;
    extent.data = TRUE;
    extent.dev = piece->image->id.dev;
    extent.ino = piece->image->id.ino;
    extent.at = piece->at;
    extent.stored = piece->length;
    extent.sparse = piece->sparse;
    if (piece->kind == MAP_COMPRESSED) {
        qcow2_compressed(&piece->image->layout, piece->at, &extent.at, &extent.stored);
        extent.into = piece->into;
    }
    return extent;
}

static gboolean do_extent(DiskReader *reader, guint64 offset, DiskExtent *ret_extent, GError **error)
{
    DiskRead *disk = (DiskRead *)reader;
    if (!disk_image_check_range(reader, 1, offset, error) || !still_right(disk, error))
        return FALSE;
    g_autoptr(MapChunk) chunk = diskmap_chunk(disk->map, offset, error);
    if (!chunk)
        return FALSE;
    Piece piece = piece_at(disk, chunk, map_chunk_find(chunk, offset), offset);
    if (piece.kind == MAP_DATA && piece.image->reader)
        return ask_reader(&piece, ret_extent, error) && still_right(disk, error);
    if (piece.kind == MAP_DATA)
        look_for_holes(&piece);
    if (piece.kind == MAP_ZERO && offset + piece.length == chunk->offset + chunk->length)
        piece.length = diskmap_zeros_until(disk->map, offset + piece.length) - offset;
    if (!still_right(disk, error))
        return FALSE;
    *ret_extent = describe(&piece);
    return TRUE;
}

static void do_free(DiskReader *reader)
{
    DiskRead *disk = (DiskRead *)reader;
    diskmap_free(disk->map);
    cluster_cache_free(disk->unpacked);
    g_ptr_array_unref(disk->images);
    g_free(disk);
}

DiskReader *diskread_new(GPtrArray *images)
{
    static const DiskReaderOps ops = {.read = do_read, .extent = do_extent, .free = do_free};
    DiskRead *disk = g_new0(DiskRead, 1);
    const DiskImage *first = g_ptr_array_index(images, 0), *last = g_ptr_array_index(images, images->len - 1);
    disk->base = (DiskReader){&ops, first->size, last->reader && last->reader->waits};
    disk->images = images;
    disk->map = diskmap_new((DiskImage *const *)images->pdata, images->len);
    disk->unpacked = cluster_cache_new();
    return &disk->base;
}
