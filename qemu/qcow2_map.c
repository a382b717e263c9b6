/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qcow2_map.h"

#include <errno.h>

#define OFFSET_MASK 0x00fffffffffffe00ull
#define L1_RESERVED 0x7f000000000001ffull
#define L2_RESERVED 0x3f000000000001feull
#define L2_COMPRESSED ((guint64)1 << 62)
#define L2_ZERO ((guint64)1)

void qcow2_window_open(Qcow2Window *window, const ImageFile *file, const Qcow2Layout *layout, guint64 end)
{
    window->file = file;
    window->layout = layout;
    window->end = end;
    window->l1_count = 0;
    window->count = 0;
}

static gboolean read_words(const ImageFile *file, guint64 offset, guint64 *words, guint count,
                           const char *what, GError **error)
{
    if (!image_file_read(file, offset, words, count * sizeof *words, what, error))
        return FALSE;
    for (guint i = 0; i < count; i++)
        words[i] = GUINT64_FROM_BE(words[i]);
    return TRUE;
}

/* Where the L2 table for @index is; 0: there is none. */
static gboolean find_table(Qcow2Window *window, guint64 index, guint64 *ret_table, GError **error)
{
    const Qcow2Layout *layout = window->layout;
    if (index < window->l1_first || index - window->l1_first >= window->l1_count) {
        guint64 last = (window->end - 1) >> (layout->cluster_bits + layout->l2_bits);
        guint count = (guint)MIN(last - index + 1, MAP_L1_ENTRIES);
        window->l1_count = 0;
        if (!read_words(window->file, layout->l1_offset + index * 8, window->l1, count, "L1 table", error))
            return FALSE;
        window->l1_first = index;
        window->l1_count = count;
    }
    guint64 entry = window->l1[index - window->l1_first];
    guint64 table = entry & OFFSET_MASK;
    if ((entry & L1_RESERVED) || (table & (qcow2_cluster_size(layout) - 1))) {
        image_file_damaged(window->file, error,
                           "entry %" G_GUINT64_FORMAT " of its L1 table is 0x%" G_GINT64_MODIFIER "x", index,
                           entry);
        return FALSE;
    }
    *ret_table = table;
    return TRUE;
}

/* Have the L2 entry of @cluster, which is in @table, and those behind it. */
static gboolean load_entries(Qcow2Window *window, guint64 cluster, guint64 table, GError **error)
{
    const Qcow2Layout *layout = window->layout;
    guint words = qcow2_l2_entry_bytes(layout) / 8;
    guint64 index = cluster & (((guint64)1 << layout->l2_bits) - 1);
    guint64 last = (window->end - 1) >> layout->cluster_bits;
    guint64 count = MIN(last - cluster + 1, ((guint64)1 << layout->l2_bits) - index);
    count = MIN(count, MAP_L2_WORDS / words);
    window->count = 0;
    if (!read_words(window->file, table + index * words * 8, window->l2, (guint)count * words, "L2 table",
                    error))
        return FALSE;
    window->first = cluster;
    window->count = (guint)count;
    return TRUE;
}

static gboolean bad_entry(const Qcow2Window *window, guint64 offset, guint64 entry, const char *why,
                          GError **error)
{
    image_file_damaged(window->file, error,
                       "the L2 entry 0x%" G_GINT64_MODIFIER "x for the disk's byte %" G_GUINT64_FORMAT " %s",
                       entry, offset, why);
    return FALSE;
}

/* How many of the bits of @mask from @bit on are the same as that one. */
static guint run_of(guint32 mask, guint bit)
{
    guint32 rest = mask >> bit;
    if (rest & 1)
        rest = ~rest;
    guint run = rest ? (guint)__builtin_ctz(rest) : 32;
    return MIN(run, 32 - bit);
}

/* An extended entry: the 32 parts of the cluster have a bit each for "allocated" and for "reads as zeros". */
static gboolean map_parts(const Qcow2Window *window, guint64 offset, guint64 entry, guint64 bitmap,
                          MapPiece *piece, GError **error)
{
    const Qcow2Layout *layout = window->layout;
    guint64 into = offset & (qcow2_cluster_size(layout) - 1), host = entry & OFFSET_MASK;
    guint32 allocated = (guint32)bitmap, zero = (guint32)(bitmap >> 32);
    guint part = (guint)(into >> layout->unit_bits);
    if (allocated & zero)
        return bad_entry(window, offset, bitmap, "says of a part that it is both allocated and zeros", error);
    if (allocated && !host)
        return bad_entry(window, offset, bitmap, "says that a part is allocated, but not where", error);
    if (zero >> part & 1)
        piece->kind = MAP_ZERO;
    else
        piece->kind = allocated >> part & 1 ? MAP_DATA : MAP_BELOW;
    guint64 end = (guint64)(part + MIN(run_of(zero, part), run_of(allocated, part))) << layout->unit_bits;
    piece->length = end - into;
    piece->at = host + into;
    return TRUE;
}

/* What the entry at @index of the window says of the rest of its cluster from @offset on. */
static gboolean map_entry(const Qcow2Window *window, guint64 offset, MapPiece *piece, GError **error)
{
    const Qcow2Layout *layout = window->layout;
    guint64 size = qcow2_cluster_size(layout), into = offset & (size - 1);
    guint64 index = (offset >> layout->cluster_bits) - window->first;
    guint64 entry = window->l2[layout->extended ? 2 * index : index];
    guint64 bitmap = layout->extended ? window->l2[2 * index + 1] : 0;
    piece->length = size - into;
    if (entry & L2_COMPRESSED) {
        if (bitmap)
            return bad_entry(window, offset, bitmap, "has parts, but the cluster is compressed", error);
        piece->kind = MAP_COMPRESSED;
        piece->at = entry & (L2_COMPRESSED - 1);
        return TRUE;
    }
    if ((entry & L2_RESERVED) || ((layout->extended || layout->version < 3) && (entry & L2_ZERO)))
        return bad_entry(window, offset, entry, "has bits that mean nothing", error);
    if ((entry & OFFSET_MASK) & (size - 1))
        return bad_entry(window, offset, entry, "points into a cluster", error);
    if (layout->extended)
        return map_parts(window, offset, entry, bitmap, piece, error);
    if (entry & L2_ZERO)
        piece->kind = MAP_ZERO;
    else
        piece->kind = entry & OFFSET_MASK ? MAP_DATA : MAP_BELOW;
    piece->at = (entry & OFFSET_MASK) + into;
    return TRUE;
}

static gboolean goes_on(const MapPiece *piece, const MapPiece *next)
{
    return piece->kind == next->kind && piece->kind != MAP_COMPRESSED &&
           (piece->kind != MAP_DATA || piece->at + piece->length == next->at);
}

gboolean qcow2_map(Qcow2Window *window, guint64 offset, guint64 limit, MapPiece *ret_piece, GError **error)
{
    const Qcow2Layout *layout = window->layout;
    guint64 cluster = offset >> layout->cluster_bits;
    if (cluster < window->first || cluster - window->first >= window->count) {
        guint64 table, index = cluster >> layout->l2_bits;
        if (!find_table(window, index, &table, error))
            return FALSE;
        if (table == 0) {
            guint64 end = (index + 1) << (layout->cluster_bits + layout->l2_bits);
            *ret_piece = (MapPiece){.kind = MAP_BELOW, .length = MIN(end, limit) - offset};
            return TRUE;
        }
        if (!load_entries(window, cluster, table, error))
            return FALSE;
    }
    MapPiece piece, next;
    if (!map_entry(window, offset, &piece, error))
        return FALSE;
    guint64 known = (window->first + window->count) << layout->cluster_bits;
    while (offset + piece.length < MIN(known, limit)) {
        if (!map_entry(window, offset + piece.length, &next, error))
            return FALSE;
        if (!goes_on(&piece, &next))
            break;
        piece.length += next.length;
    }
    piece.length = MIN(piece.length, limit - offset);
    *ret_piece = piece;
    return TRUE;
}

guint64 qcow2_nothing_until(const ImageFile *file, const Qcow2Layout *layout, guint64 offset, guint64 limit)
{
    guint covers = layout->cluster_bits + layout->l2_bits;
    guint64 index = offset >> covers, until = offset;
    guint64 words[512];
    if (offset >= limit)
        return offset;
    guint count = (guint)MIN(((limit - 1) >> covers) - index + 1, G_N_ELEMENTS(words));
    if (!read_words(file, layout->l1_offset + index * 8, words, count, "L1 table", NULL))
        return offset; /* who asks for what is there is told */
    for (guint i = 0; i < count && words[i] == 0; i++)
        until = (index + i + 1) << covers;
    return MIN(until, limit);
}

void qcow2_compressed(const Qcow2Layout *layout, guint64 at, guint64 *ret_offset, guint64 *ret_length)
{
    guint shift = 62 - (layout->cluster_bits - 8);
    guint64 offset = at & (((guint64)1 << shift) - 1);
    *ret_length = ((at >> shift) + 1) * 512 - (offset & 511);
    *ret_offset = offset;
}
