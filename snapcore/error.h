/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors: one GError per failure, its code the errno that says it best, its message a sentence a person can act on.
 *
 * The sentence is built from the bottom up: the lowest function says what failed ("qemu-img commit: No space left on
 * device"), each caller that knows more puts one prefix in front with g_prefix_error ("disk 'vda': "). Library code
 * never logs; whoever answers the user logs once and turns the error into an errno with snap_errno().
 */
#pragma once

#include <glib.h>

#define SNAP_ERROR (snap_error_quark())
GQuark snap_error_quark(void);

/* Set @error (may be NULL) to a SNAP_ERROR whose code is the errno @err (positive). */
void snap_set_error(GError **error, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* The same, with ": " and the system's text for @err appended: for failed system calls. */
void snap_set_errno(GError **error, int err, const char *format, ...) G_GNUC_PRINTF(3, 4);

/*
 * The errno for @error: a SNAP_ERROR's code; for GLib's own domains (file, io, spawn) the errno that they stand for;
 * EIO for anything else. Positive, never 0, never EXDEV, ENOSYS or EAGAIN (facts/fuse.md 4: tools misread these).
 */
int snap_errno(const GError *error);
