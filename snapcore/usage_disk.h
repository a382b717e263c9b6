/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each state of one disk stores, alone or together with others. States are read one after the other; of a disk in very
 * many pieces several times, each time a part of it, so that what is remembered stays bounded.
 */
#pragma once

#include "usage.h"

typedef struct {
    guint line; /* the caller's */
    EngineId id;
    const Layer *layer;
    gboolean aside; /* nobody is to share with it: it goes with the next change (undo) */
    /* what is found: */
    guint64 exclusive;
    guint64 total;
    GError *why; /* it could not be read; NULL: it was */
} DiskUse;

/* An empty array of DiskUse, which clears them. Caller unrefs. */
GArray *disk_uses_new(void);

/* How many pieces are remembered at once, of one state and of all. Each takes some 30 bytes. */
#define USAGE_PIECES (1u << 19)

/*
 * Fill in @uses, remembering at most about @max pieces at once. @file: how many bytes of that file are anybody's are added up in *ret_in_file (both may be NULL). FALSE:
 * EINTR.
 */
gboolean disk_uses_read(GArray *uses, const UsageSource *source, guint max, const FileId *file,
                        guint64 *ret_in_file, GCancellable *cancel, GError **error);
