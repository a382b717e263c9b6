/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Join: one merge under way. Only for merge_job.c and merge_look.c. */
#pragma once

#include "merge.h"
#include "op.h"

typedef struct {
    Op *op;
    Merge *merge;       /* its layers belong to op->domain */
    guint64 upper_size; /* virtual, bytes; of the top */
    int lower_fd;       /* what op_take gave for the lowest layer; belongs to op */
    guint64 done;       /* bytes of the layers that are written already */
    guint64 part;       /* bytes of the one that is being written */
    guint64 total;
} Join;

/* The layer that all others of the run are written into, if it is not copied up. */
Layer *join_lowest(const Join *join);

/* How much data there is in @layer, which is no device. */
guint64 join_bytes_of(const Layer *layer);

/*
 * Down or up? The way that moves fewer bytes. But written into one file, the largest layer would give the size, and what a
 * smaller one above hides would come to light again: only a copy is right then, or to join only
 * those from the smaller one on: the run is cut. EOPNOTSUPP when no way is.
 */
gboolean join_choose_way(Join *join, GError **error);

/* Lock all layers, and see that each is what is recorded and that nobody else stands on what changes. EBUSY, EIO. */
gboolean join_take_layers(Join *join, GError **error);

/* Does anybody stand on what changes or goes? Asked again right before names go: moving the data took its time. EBUSY. */
gboolean join_check_strangers(const Join *join, GError **error);
