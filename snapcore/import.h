/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Import: domains and their snapshots from libvirt's directories (libvirt_dirs.h) into the store.
 *
 * One domain is one rename: its model is built in memory, and its directory appears, or is exchanged for the one of an
 * earlier import, with all files in it. libvirt's files and the images are only read. Afterwards the domain is read-only
 * until libvirt does not define it any more (adopt.h).
 *
 * As libvirt does: of several current snapshots the last one read is it; a snapshot whose parent is missing, or that is
 * in a loop, is a root, and there is no current one then. What is refused here but not by libvirt is left out as if it
 * were deleted: its children get its parent, and if it was current, so does the domain.
 */
#pragma once

#include "engine.h"

/* A domain is done ("web: 3 snapshots, current 's3'"); or, @bad, something was left out, and why. */
typedef void (*ImportTell)(gpointer user, gboolean bad, const char *sentence);

/*
 * Import all that is in @dir (NULL: this host's, see libvirt_dirs_find) into @engine, which core_engine_new gave and
 * nobody else uses meanwhile. A domain that an earlier import brought is brought up to date; one that has become ours is
 * left alone, and that is told. FALSE when there is nothing to read in @dir.
 */
gboolean import_libvirt(Engine *engine, const char *dir, ImportTell function, gpointer user, GError **error);
