/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For how long the test guest stood still during something, measured twice: by the times of QEMU's STOP and RESUME
 * events, and by watching the counter in the guest's memory from outside, which needs nothing of QEMU and also sees a
 * guest that QEMU did not stop, but kept waiting for its disks. The counter's longest rest is never less than a step
 * (1/GUEST_HZ and a write to each disk), and on a busy host the scheduler is in it. On virtio each write waits for the
 * host's disk unless the cache mode is "unsafe" (guest_start() has that): with two disks that can be 20 ms a step.
 *
 *     GuestWatch *watch = guest_watch_begin(guest, &error);
 *     ...
 *     guest_watch_end(watch, &still, &error);
 *
 * Reading another process's memory wants the same user, and where Yama says so a parent or root.
 */
#pragma once

#include "guest.h"

typedef struct {
    gint64 longest_us; /* the counter's longest rest */
    gint64 stopped_us; /* from each STOP to its RESUME, together */
    guint stops;       /* how many; the last one may still last, and is not in stopped_us then */
    guint32 steps;     /* the guest made meanwhile */
    gint64 watched_us;
} GuestStill;

typedef struct GuestWatch GuestWatch;

/* NULL: its memory cannot be read. */
GuestWatch *guest_watch_begin(Guest *guest, GError **error);
/* Frees @watch. FALSE when QEMU ended meanwhile. */
gboolean guest_watch_end(GuestWatch *watch, GuestStill *ret_still, GError **error);
