/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merge: which layers no state needs any more, and what becomes of them (DESIGN 4). Pure functions of the model: no
 * file is looked at. merge_job.c does what is chosen here, after it has looked at the files too.
 *
 * A layer is *nameless* when its own content is no state: neither of a snapshot, nor what a guest writes, nor kept for
 * undo, nor the user's (released, or detached). A nameless layer that nothing stands on goes. A run of nameless layers, each with
 * exactly one layer on it, is joined with the one on top:
 *
 *   MERGE_DOWN  everything above the lowest of the run is written into that one, which then takes the top's place:
 *               also its name, if domsnapfs made it; otherwise (the domain's first image) it keeps its own name, and
 *               what pointed at the top is pointed at it
 *   MERGE_UP    a copy of the top, with the run in it, takes the top's name
 *
 * A running machine that has the layers open reopens them by name, so there nothing gets another one (merge_in_place):
 * MERGE_DOWN ends in the lowest layer's own file, and MERGE_UP writes the run into the top, which must be the active layer.
 *
 * Both leave the top's file as it is until one rename, and the states above and below are not touched. Only a file
 * that domsnapfs made ever goes, and what holds a tag that a snapshot names does not go either.
 */
#pragma once

#include "model.h"

typedef enum { MERGE_DROP, MERGE_DOWN, MERGE_UP } MergeKind;

typedef struct {
    MergeKind kind;
    GPtrArray
        *run;   /* of Layer, of the domain it was chosen for: nameless ones, the lowest first; never empty */
    Layer *top; /* what stands on the run; NULL for MERGE_DROP */
    gboolean may_up;   /* the rules allow MERGE_UP as well as the kind said */
    gboolean in_place; /* no file gets another name */
} Merge;

void merge_free(Merge *merge);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Merge, merge_free)

/*
 * All merges that the model of @domain allows (an array of Merge; no layer is in two of them). Carrying out one may
 * make another possible: choose again afterwards. Caller unrefs.
 */
GPtrArray *merge_choose(const Domain *domain);

/*
 * Let it be one in which no file gets another name, because the machine of @domain runs, and writes the top or what stands
 * on it. FALSE: there is no such way.
 */
gboolean merge_in_place(const Domain *domain, Merge *merge);

/* Under which name the joined layer lives: the top's path, or the lowest one's, if that is not ours or nothing is renamed. */
const char *merge_path(const Merge *merge);

/* "'a.s2' into 'a.s3'": file names, for the log and jobs. Caller frees. */
char *merge_describe(const Merge *merge);
