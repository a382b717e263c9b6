/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text `usage` of a domain: what each state costs, for people and for awk. A line for each snapshot, in order of
 * creation, and one for the active state; lines that begin with '#' explain.
 *
 *   EXCLUSIVE  stored bytes of its disks that no other state has: what deleting it frees, once layers are merged
 *   SHARED     stored bytes that others have too
 *   MEMORY     bytes of its memory state, in a file of its own or inside an image
 *   DEPTH      how many images the deepest of its chains has
 *   NAME       as its directory is called: last, for it may hold blanks
 *
 * All are of the images' data; tables and headers are not counted. N~ means at most N (what is not EXCLUSIVE is SHARED:
 * that is at least then). ? cannot be told. Of a machine that runs, the active state is not read, for its tables are in its
 * QEMU: what it has of its own is at most what its image occupies beyond the snapshots in it, and what the state that it
 * stands on has alone is at most that, for all else the active state still sees.
 */
#pragma once

#include "model.h"

/* Through more images than this QEMU reads at half the speed (a random 4 KiB: 73 us for one image, 97 for 10, 227 for 100). */
#define USAGE_DEEP 50

typedef struct {
    /* Open the content of a disk, by the id of a StateDisk, or of an active layer. */
    DiskReader *(*open)(gpointer user, EngineId id, GCancellable *cancel, GError **error);
    /* How many bytes the memory state of @snapshot, or (NULL) the managed save, takes. FALSE: it cannot be told. */
    gboolean (*memory)(gpointer user, const Snapshot *snapshot, guint64 *ret_bytes);
    /* And how many all the memory states inside @layer take. */
    guint64 (*memory_inside)(gpointer user, const Layer *layer);
    gpointer user;
} UsageSource;

/* Caller frees. NULL: EINTR. One disk is open at a time. */
char *usage_text(const Domain *domain, const UsageSource *source, GCancellable *cancel, GError **error);
