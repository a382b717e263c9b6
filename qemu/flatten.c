/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "flatten.h"

/* A range of the chunk that no image has decided yet. */
typedef struct {
    guint32 start;
    guint32 end;
} Gap;

typedef struct {
    guint64 offset; /* of the chunk on the disk */
    guint image;    /* whose turn it is */
    GArray *found;  /* of MapExtent, each image's in order */
    GArray *gaps;   /* of Gap, in order: those for this image */
    GArray *left;   /* of Gap: those that it leaves to the next one */
    Qcow2Window *window;
} Flattening;

static void add_found(Flattening *f, guint32 start, MapKind kind, guint64 at)
{
    MapExtent extent = {.at = at, .start = start, .image = (guint16)f->image, .kind = (guint8)kind};
    g_array_append_val(f->found, extent);
}

static void add_gap(Flattening *f, guint32 start, guint32 end)
{
    Gap *last = f->left->len ? &g_array_index(f->left, Gap, f->left->len - 1) : NULL;
    Gap gap = {start, end};
    if (last && last->end == start)
        last->end = end;
    else
        g_array_append_val(f->left, gap);
}

static gboolean fill_gap(Flattening *f, const DiskImage *image, Gap gap, GError **error)
{
    MapPiece piece;
    for (guint32 start = gap.start; start < gap.end; start += (guint32)piece.length) {
        guint64 offset = f->offset + start;
        if (offset >= image->size) /* beyond an image's end are zeros, whatever is below it */
            piece = (MapPiece){.kind = MAP_ZERO, .length = gap.end - start};
        else if (image->raw)
            piece = (MapPiece){MAP_DATA, MIN(gap.end - start, image->size - offset), offset};
        else if (!qcow2_map(f->window, offset, MIN(f->offset + gap.end, image->size), &piece, error))
            return FALSE;
        if (piece.kind == MAP_BELOW)
            add_gap(f, start, start + (guint32)piece.length);
        else
            add_found(f, start, piece.kind, piece.at);
    }
    return TRUE;
}

static gboolean walk(Flattening *f, DiskImage *const *images, guint n_images, GError **error)
{
    for (f->image = 0; f->image < n_images && f->gaps->len > 0; f->image++) {
        const DiskImage *image = images[f->image];
        guint64 end = f->offset + g_array_index(f->gaps, Gap, f->gaps->len - 1).end;
        if (!image->raw)
            qcow2_window_open(f->window, image->file, &image->layout, MIN(end, image->size));
        for (guint i = 0; i < f->gaps->len; i++)
            if (!fill_gap(f, image, g_array_index(f->gaps, Gap, i), error))
                return FALSE;
        GArray *done = f->gaps;
        f->gaps = f->left;
        f->left = g_array_set_size(done, 0);
    }
    f->image = 0; /* what no image has decided */
    for (guint i = 0; i < f->gaps->len; i++)
        add_found(f, g_array_index(f->gaps, Gap, i).start, MAP_ZERO, 0);
    return TRUE;
}

static gint by_start(gconstpointer a, gconstpointer b)
{
    guint32 left = ((const MapExtent *)a)->start, right = ((const MapExtent *)b)->start;
    return (left > right) - (left < right);
}

static gboolean goes_on(const MapExtent *extent, const MapExtent *next)
{
    if (extent->kind != next->kind || extent->kind == MAP_COMPRESSED)
        return FALSE;
    return extent->kind == MAP_ZERO ||
           (extent->image == next->image && extent->at + (next->start - extent->start) == next->at);
}

/* All extents in order cover the range: each ends where the next one starts. */
static MapChunk *assemble(GArray *found, guint64 offset, guint64 length)
{
    g_array_sort(found, by_start);
    MapExtent *extents = (MapExtent *)found->data;
    guint n = 1;
    for (guint i = 1; i < found->len; i++)
        if (!goes_on(&extents[n - 1], &extents[i]))
            extents[n++] = extents[i];
    MapChunk *chunk = g_malloc(sizeof *chunk + n * sizeof *extents);
    chunk->references = 1;
    chunk->n_extents = n;
    chunk->offset = offset;
    chunk->length = length;
    memcpy(chunk->extents, extents, n * sizeof *extents);
    return chunk;
}

MapChunk *flatten(DiskImage *const *images, guint n_images, guint64 offset, guint64 length, GError **error)
{
    Gap whole = {0, (guint32)length};
    g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(MapExtent));
    g_autofree Qcow2Window *window = g_new0(Qcow2Window, 1);
    Flattening f = {
        .offset = offset,
        .found = found,
        .gaps = g_array_new(FALSE, FALSE, sizeof(Gap)),
        .left = g_array_new(FALSE, FALSE, sizeof(Gap)),
        .window = window,
    };
    g_array_append_val(f.gaps, whole);
    gboolean ok = walk(&f, images, n_images, error);
    g_array_unref(f.gaps);
    g_array_unref(f.left);
    return ok ? assemble(found, offset, length) : NULL;
}
