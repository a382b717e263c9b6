/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Join: one merge under way. Only for merge_job.c, merge_look.c and merge_online.c. */
#pragma once

#include "merge.h"
#include "op.h"

typedef struct {
    Op *op;
    Merge *merge; /* its layers belong to op->domain */
    const DiskDef
        *disk; /* the one whose guest reads through the top now, of the domain as it was at first; or NULL */
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

/* The same without locks: the running machine has them open, and its own locks keep everybody else out. */
gboolean join_check_layers(const Join *join, GError **error);

/* --- merge_job.c --- */

/*
 * From here on the own content of the lowest layer, and of what stands on it up to the top, is nobody's, and this is on
 * record before the first byte is written. Like every active layer the lowest can be written then. The join's layers, and
 * the op's domain, are others afterwards.
 */
gboolean join_open_lowest(Join *join, GError **error);

/* Plan that what stands on the top (but @except, may be NULL) is pointed at @to. Both read the same, at every moment. */
gboolean join_plan_point(const Join *join, const Layer *to, const Layer *except, GError **error);

/* Plan that files go, after the commit: @layer's; those of the run that are not needed any more. */
Step *join_plan_unlink(Op *op, const Layer *layer);
void join_plan_unlink_run(const Join *join);

/* Before the model is changed: paths (char *) that name nothing afterwards, or another format; where the run was recorded. */
GPtrArray *join_gone_paths(const Merge *merge);
GHashTable *join_homes(const Merge *merge);

/* In the model the top is the joined file from now on: another image, so with another id. The run is gone. */
void join_replace_in_model(const Join *join);

/* How far the job is (a BackendProgress; the user is the Join). */
void join_tell(gpointer join, double part);
