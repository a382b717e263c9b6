/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's counters, of its memory and of its disks, and whether they belong to one instant.
 *
 * Looking checks more than the one number: memory must hold the trail of the counters before it without a gap, a disk
 * must hold a sector of each of the last GUEST_SLOTS counters, whole, of this disk, and nothing newer. What does not
 * is an error (G_IO_ERROR_INVALID_DATA), with words that say what is where.
 *
 * A disk is read from its image files, by qemu-img. They must be at rest: nobody writes them, or the QEMU that has them
 * open is stopped (it has then written out all that it had in mind).
 */
#pragma once

#include "guest.h"

typedef struct {
    guint32 counter; /* the step it is in */
    guint32
        first; /* the step it began with: another number after a boot, the same after memory was restored */
    guint32 disks;  /* how many it writes to */
    guint32 errors; /* what they refused */
} GuestMemory;

/* The counter alone, quickly; 0: the guest has not begun. */
gboolean guest_look_counter(Guest *guest, guint32 *ret_counter, GError **error);
/* Where QEMU's process has the byte that is at @physical for the guest. */
gboolean guest_look_address(Guest *guest, guint64 physical, guint64 *ret_address, GError **error);
/* All of its memory. It may be running. NOT_FOUND: it has not begun. */
gboolean guest_look_memory(Guest *guest, GuestMemory *ret_memory, GError **error);

/*
 * The counter of the guest's disk number @index (0 the first) in @image, with its chain. @tag: of that internal
 * snapshot, or NULL: of the present. NOT_FOUND: the guest never wrote there.
 */
gboolean guest_look_disk(const char *image, guint index, const char *tag, guint32 *ret_counter,
                         GError **error);

/* Whether counters, in the order in which the guest writes them (memory, first disk, second...), are of one instant. */
gboolean guest_in_step(const guint32 *counters, gsize n, GError **error);

/* Whether the NULL-terminated @images are of one instant. *ret_counter (may be NULL): the first one's. */
gboolean guest_disks_agree(const char *const *images, const char *tag, guint32 *ret_counter, GError **error);

/*
 * Whether the memory of @guest, which must be stopped, and its disks are of one instant; it writes to just these disks
 * and none refused a write. *ret_memory may be NULL.
 */
gboolean guest_all_agree(Guest *guest, const char *const *images, GuestMemory *ret_memory, GError **error);

/* The counter that a picture (PPM, as `screendump` makes it) of the guest's text screen shows. */
gboolean guest_look_screen(const char *picture, guint32 *ret_counter, GError **error);
