/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handles: every open file and directory. At an unmount the kernel does not wait for their releases to be read, so
 * what is still open then is freed here. Has its own lock.
 */
#pragma once

#include <glib.h>

typedef struct Handles Handles;

Handles *handles_new(void);
/* Frees what is still open: after the last request. */
void handles_free(Handles *handles);

/* @open is open; @free_open frees it, and calls handles_remove itself. */
void handles_add(Handles *handles, gpointer open, GDestroyNotify free_open);
/* Ask @match, under the lock, about each that @free_open frees, until it says TRUE. */
gboolean handles_find(Handles *handles, GDestroyNotify free_open,
                      gboolean (*match)(gpointer open, gpointer user), gpointer user);
void handles_remove(Handles *handles, gpointer open);
