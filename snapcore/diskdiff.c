/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diskdiff.h"

#include <errno.h>

#include "error.h"

/* What is joined first when there are too many ranges: what a disk reads at once anyway. */
#define FIRST_GAP 4096

void disk_diff_clear(DiskDiff *diff)
{
    g_clear_pointer(&diff->ranges, g_array_unref);
}

gboolean disk_extent_at(DiskReader *reader, guint64 offset, DiskExtent *ret_extent, GError **error)
{
    DiskExtent extent;
    if (!reader->ops->extent(reader, offset, &extent, error))
        return FALSE;
    extent.length = MIN(extent.length, reader->size - offset);
    if (extent.length == 0) {
        snap_set_error(error, EIO, "nothing is said about the disk's byte %" G_GUINT64_FORMAT, offset);
        return FALSE;
    }
    *ret_extent = extent;
    return TRUE;
}

static guint64 range_end(const DiskRange *range)
{
    return range->offset + range->length;
}

/* Append, or let the last one be longer. */
static void append(GArray *ranges, guint64 gap, DiskRange more)
{
    DiskRange *last = ranges->len > 0 ? &g_array_index(ranges, DiskRange, ranges->len - 1) : NULL;
    if (last && more.offset - range_end(last) < MAX(gap, 1))
        last->length = range_end(&more) - last->offset;
    else
        g_array_append_val(ranges, more);
}

/* Join what is near, until there is room for as many again. */
static void coarsen(DiskDiff *diff, guint max)
{
    while (diff->ranges->len > max / 2) {
        GArray *fewer = g_array_new(FALSE, FALSE, sizeof(DiskRange));
        diff->joined = diff->joined ? diff->joined * 2 : FIRST_GAP;
        for (guint i = 0; i < diff->ranges->len; i++)
            append(fewer, diff->joined, g_array_index(diff->ranges, DiskRange, i));
        g_array_unref(diff->ranges);
        diff->ranges = fewer;
    }
}

static void add(DiskDiff *diff, guint max, guint64 offset, guint64 length)
{
    append(diff->ranges, diff->joined, (DiskRange){offset, length});
    if (diff->ranges->len > max)
        coarsen(diff, max);
}

/* What is at @offset of a disk that may be none, or end before it. */
static gboolean extent_or_none(DiskReader *reader, guint64 offset, DiskExtent *ret_extent, GError **error)
{
    *ret_extent = (DiskExtent){.length = G_MAXUINT64};
    return !reader || offset >= reader->size || disk_extent_at(reader, offset, ret_extent, error);
}

/* Is there a byte of this disk at @offset? Where nothing was, every disk is all zeros. */
static gboolean has(const DiskReader *reader, guint64 offset)
{
    return !reader || offset < reader->size;
}

gboolean disk_diff(DiskReader *old, DiskReader *now, guint max_ranges, GCancellable *cancel,
                   DiskDiff *ret_diff, GError **error)
{
    guint64 size = old ? MAX(old->size, now->size) : now->size;
    g_auto(DiskDiff) diff = {.ranges = g_array_new(FALSE, FALSE, sizeof(DiskRange))};
    guint64 length;
    for (guint64 offset = 0; offset < size; offset += length) {
        DiskExtent before, after;
        if (g_cancellable_is_cancelled(cancel)) {
            snap_set_error(error, EINTR, "interrupted");
            return FALSE;
        }
        if (!extent_or_none(old, offset, &before, error) || !extent_or_none(now, offset, &after, error))
            return FALSE;
        length = MIN(MIN(before.length, after.length), size - offset);
        if (has(old, offset) != has(now, offset) || !disk_extent_same(&before, &after))
            add(&diff, max_ranges, offset, length);
        diff.guessed = diff.guessed || (before.data && !before.known) || (after.data && !after.known);
    }
    *ret_diff = diff;
    diff.ranges = NULL;
    return TRUE;
}
