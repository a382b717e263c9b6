/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * View: a store that lives as long as one mount (-o libvirt), below /run/domsnapfs, for a user below
 * $XDG_RUNTIME_DIR/domsnapfs or, without that, in a directory of his own in the temporary one. What a process that was
 * killed has left there goes when the next one is made.
 */
#pragma once

#include <glib.h>

typedef struct View View;

/* Make one (0700). Descriptors that fork closes must be made after it: this one holds a lock. */
View *view_new(GError **error);

/* The store's directory. */
const char *view_store(const View *view);

/* Remove it and all in it. */
void view_free(View *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(View, view_free)
