/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disk diff: in which bytes two disks differ, told from where their bytes are stored, not by reading them. What comes from
 * one place in both is the same; what does not is taken to differ, even if somebody wrote the same bytes again. So what is
 * found holds every byte that differs, and may hold some that do not.
 */
#pragma once

#include <gio/gio.h>

#include "diskreader.h"

typedef struct {
    guint64 offset;
    guint64 length;
} DiskRange;

typedef struct {
    GArray *ranges; /* of DiskRange, in order, none touching the next */
    guint64 joined; /* those less than so many bytes apart were made one, for there were too many; 0: none was */
    gboolean
        guessed; /* of some data only its owner knows the place (DiskExtent.known): counted as differing */
} DiskDiff;

void disk_diff_clear(DiskDiff *diff);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DiskDiff, disk_diff_clear)

/*
 * What is at @offset, which is inside the disk, never beyond its end. EIO, also when the reader says nothing sensible.
 */
gboolean disk_extent_at(DiskReader *reader, guint64 offset, DiskExtent *ret_extent, GError **error);

/*
 * What differs between @old (NULL: nothing was there; then all data differs, and zeros do not) and @now. Where only one of
 * them has bytes, for it is the longer one, those differ. At most @max_ranges (2 or more). EIO; EINTR.
 */
gboolean disk_diff(DiskReader *old, DiskReader *now, guint max_ranges, GCancellable *cancel,
                   DiskDiff *ret_diff, GError **error);
