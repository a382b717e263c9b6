/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Qcow2Layout: what of a qcow2 image's header is needed to find the clusters of one of its states, checked, so that no
 * arithmetic on it can go wrong.
 */
#pragma once

#include "qcow2.h"

typedef struct {
    guint version;
    guint cluster_bits; /* 9 to 21 */
    guint l2_bits;      /* entries of an L2 table */
    guint unit_bits;    /* what can be allocated for itself: a cluster, or a 32nd of one */
    gboolean extended;  /* an L2 entry has two words, the second one for the 32 parts */
    gboolean zstd;
    guint64 size; /* virtual, bytes: of whole sectors */
    guint64 l1_offset;
} Qcow2Layout;

/* The layout of @image in @state, which is one of its own. EIO: a number is wrong. */
gboolean qcow2_layout(const ImageFile *file, const Qcow2Image *image, const Qcow2State *state,
                      Qcow2Layout *ret_layout, GError **error);

static inline guint64 qcow2_cluster_size(const Qcow2Layout *layout)
{
    return (guint64)1 << layout->cluster_bits;
}

static inline guint qcow2_l2_entry_bytes(const Qcow2Layout *layout)
{
    return layout->extended ? 16 : 8;
}
