/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Step: one thing done to one file, that can be repeated, and undone until its operation has committed. A table in
 * step.c holds, for each kind, how to do it, to undo it and to finish it after the commit.
 */
#pragma once

#include <jansson.h>

#include "backend.h"
#include "files.h"

typedef enum {
    STEP_OVERLAY,  /* make the empty overlay path by way of temp; undo: take both away; finish: temp */
    STEP_COPY_OUT, /* the same, filled with the state tag of source */
    STEP_PLACE,  /* make the empty overlay on the device or export path; undo: blank again, if it was made */
    STEP_FREEZE, /* take the write bits of path; undo: set mode again */
    STEP_OPEN,   /* give path, which is frozen, write bits beside mode, for somebody else; undo: take them */
    STEP_FILE,   /* make the empty file path by way of temp; undo: take both away; finish: temp */
    STEP_COPY,   /* the same, with what is in source */
    STEP_PUT, /* let the content of path be that of source, by way of temp (NULL: remove it); keep: the old file, for the undo */
    STEP_CHECKPOINT, /* a running machine is going to take internal snapshot tag of path; undo: delete it */
    STEP_TAG,        /* take internal snapshot tag of path; undo: delete it */
    STEP_KEEP,       /* the same, only for the time of the operation: undo and finish delete it */
    STEP_APPLY,      /* make path's state that of tag; undo: that of keep, which a STEP_KEEP took before */
    STEP_DROP_TAG,   /* delete tag from path; only after the commit */
    STEP_COPY_UP,    /* make temp a copy of path that stands on backing_name; undo, finish: take it away */
    STEP_POINT,      /* let path's header say backing_name; undo: keep, backing_was, and the old time */
    STEP_UNLINK, /* remove path if it is the file id, and still has that stamp (0: whatever it has); only after the commit */
    /* path, the file id, has been joined into source. After the commit, and must succeed: */
    STEP_REPLACE, /* let path be the file that source is */
    STEP_RETIRE,  /* remove path */
    STEP_THAW,    /* give path, which no state needs any more, its mode back; only after the commit */
} StepKind;

typedef struct {
    StepKind kind;
    guint stage; /* steps of one stage run in parallel, stages one after the other */
    char *disk;  /* target, for messages */
    char *path;
    char *temp; /* OVERLAY, COPY_OUT, COPY_UP, RETIRE, FILE, COPY, PUT */
    char *like; /* image whose owner the new file gets */
    guint mode; /* bits: of the new file, or those FREEZE takes away from, or those DROP_TAG gives back */
    ImageFormat format;
    guint64 size; /* virtual, bytes */
    char *backing_name;
    ImageFormat backing_format;
    char *source; /* COPY_OUT, REPLACE, RETIRE, COPY, PUT */
    char *tag;
    char *keep;              /* APPLY: a tag; POINT: the backing name before; PUT: a name beside path */
    ImageFormat backing_was; /* POINT; REPLACE, RETIRE: source's format */
    FileId id;               /* UNLINK, REPLACE, RETIRE */
    FileStamp stamp;         /* POINT: before; REPLACE, RETIRE, UNLINK: when path was joined */
    gboolean
        doubtful; /* DROP_TAG, TAG, KEEP: path's bookkeeping may be broken, so it is repaired first; not in the journal */
} Step;

/* A name beside @path that nothing has: for what only exists during an operation. Caller frees. */
char *step_temp_name(const char *path);

Step *step_new(StepKind kind, guint stage, const char *disk, const char *path);
void step_free(Step *step);

gboolean step_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error);
gboolean step_undo(const Step *step, Backend *backend, GError **error);
gboolean step_finish(const Step *step, Backend *backend, GError **error);

/* One that comes after the commit and must succeed, for the rest to be true. */
gboolean step_is_needed(const Step *step);

/*
 * Did a step fail with @why in the middle of its work: a child of ours was ended (EIO: perhaps by somebody else), or the
 * disk failed or was full? QEMU may have written what it then takes for not written.
 */
gboolean step_was_cut_short(const GError *why);

/* Does the step change qcow2 bookkeeping in place, so that a kill in the middle asks for a repair first? */
gboolean step_needs_repair(const Step *step);

/* In a few words: "overlay vda '/img/a.s1'". Caller frees. */
char *step_describe(const Step *step);

/* Is @file, a name without its directory, one that steps give to what exists only during an operation? */
gboolean step_is_temp_name(const char *file);

json_t *step_to_json(const Step *step);
Step *step_from_json(json_t *json, GError **error);
