/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capture: what a snapshot holds besides disks: memory, NVRAM, a picture; and how all of a running machine is caught at one
 * instant. Used by create: plan, prepare the plan, record, take the instant, commit.
 */
#pragma once

#include "align.h"
#include "instant.h"

typedef struct {
    Op *op;
    Snapshot *snapshot; /* NULL: nothing is recorded */
    const char *name;
    Instant instant;
    GPtrArray *targets; /* of a checkpoint */
    GArray *changes;
    SideFile memory;
    SideFile nvram;
    SideFile screenshot;
    char *tag;
} Capture;

void capture_init(Capture *capture, Op *op, const char *name);
void capture_clear(Capture *capture);

/*
 * What becomes of the memory of the machine (op->machine; of one that is off: MODE_NO), as the combination table says; memory
 * omitted goes the way of @disks. EOPNOTSUPP, EINVAL.
 */
gboolean capture_decide(Capture *capture, const CreateRequest *request, const GArray *disks, GError **error);

/*
 * The tag that all disks of a checkpoint get: free in all @infos (of ImageInfo, NULL: takes no part), like the snapshot's name.
 * Only when memory is internal.
 */
void capture_choose_tag(Capture *capture, const GPtrArray *infos);

/* Disk @target gets the internal state @tag (with the memory, when that is internal), or @overlay as its active layer. */
void capture_internal(Capture *capture, const char *target, const Layer *layer, const char *tag);
void capture_external(Capture *capture, const char *target, const Layer *below, const Layer *overlay);

/* Plan the files. @file: where the user wants the memory, or NULL; EEXIST. @like: the first disk's image. */
gboolean capture_plan_files(Capture *capture, const char *file, Layer *like, GError **error);

/* After plan_prepare: take the picture, and record what files they are. */
gboolean capture_record(Capture *capture, GError **error);

/* After all has been said to the plan: the moment itself. @before: the definition until now. Nothing for a machine that is off. */
gboolean capture_take(Capture *capture, const DomainDef *before, GError **error);

/* And after the commit, or a commit that has failed. */
void capture_end(Capture *capture, gboolean committed);
