/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qcow2_layout.h"

#include <errno.h>

#define MAX_L1_ENTRIES (32u * 1024 * 1024 / 8) /* as QEMU */
#define SUBCLUSTER_BITS 5

static gboolean check_l1(const ImageFile *file, const Qcow2Layout *layout, guint32 entries, GError **error)
{
    guint64 covers =
        layout->cluster_bits + layout->l2_bits; /* bits: what one entry is for, at most 2^39 bytes */
    guint64 needed = (layout->size >> covers) + ((layout->size & (((guint64)1 << covers) - 1)) != 0);
    if (entries > MAX_L1_ENTRIES)
        image_file_damaged(file, error, "its L1 table has %" G_GUINT32_FORMAT " entries", entries);
    else if (entries < needed)
        image_file_damaged(file, error,
                           "its L1 table has %" G_GUINT32_FORMAT " entries, but %" G_GUINT64_FORMAT
                           " are needed for %" G_GUINT64_FORMAT " bytes",
                           entries, needed, layout->size);
    else if (layout->l1_offset & (qcow2_cluster_size(layout) - 1))
        image_file_damaged(file, error,
                           "the offset %" G_GUINT64_FORMAT " of its L1 table is within a cluster",
                           layout->l1_offset);
    else if (needed > 0 && (layout->l1_offset > file->size || needed * 8 > file->size - layout->l1_offset))
        image_file_damaged(file, error,
                           "its L1 table at %" G_GUINT64_FORMAT
                           " is not within the file, which has %" G_GUINT64_FORMAT " bytes",
                           layout->l1_offset, file->size);
    else if (needed > 0 && layout->l1_offset == 0)
        image_file_damaged(file, error, "its L1 table is where the header is");
    else
        return TRUE;
    return FALSE;
}

gboolean qcow2_layout(const ImageFile *file, const Qcow2Image *image, const Qcow2State *state,
                      Qcow2Layout *ret_layout, GError **error)
{
    Qcow2Layout layout = {
        .version = image->version,
        .cluster_bits = image->cluster_bits,
        .l2_bits = image->cluster_bits - (image->extended_l2 ? 4 : 3),
        .unit_bits = image->cluster_bits - (image->extended_l2 ? SUBCLUSTER_BITS : 0),
        .extended = image->extended_l2,
        .zstd = image->zstd,
        .size = state->size & ~(guint64)511,
        .l1_offset = state->l1_offset,
    };
    if (image->corrupt) {
        image_file_damaged(file, error,
                           "QEMU has marked it as corrupt: it needs a repair (qemu-img check -r all)");
        return FALSE;
    }
    if (!check_l1(file, &layout, state->l1_entries, error))
        return FALSE;
    *ret_layout = layout;
    return TRUE;
}
