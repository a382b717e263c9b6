/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkup (check.h is libcheck's): is a store what it was, and are the images what it says of them (DESIGN 5)? Works on a
 * store that no daemon uses.
 *
 * Looked at are: the store's files and documents, journals of operations that a crash cut short, every layer (there, the
 * file it was, unchanged where it is frozen, its header, its qcow2 bookkeeping), internal snapshots against the snapshots
 * that name them, images that two disks write, and, in the directories of the layers, overlays on them that nothing
 * refers to and files of operations that are gone. Formats come from the store; nothing is probed.
 *
 * With repair, what can be mended without a doubt is: an operation under way is brought to its end as at a mount, frozen
 * files lose write bits that came back, bookkeeping of a free active image is repaired, a current snapshot that is not
 * there is forgotten, second names of our own files and half-written files of the store go. No image and no orphan is ever
 * deleted. Without repair nothing is written at all.
 */
#pragma once

#include "backend.h"

typedef struct {
    guint domains;  /* looked at */
    guint images;   /* files, each once */
    guint problems; /* found */
    guint mendable; /* of these, those that repair mends, or would mend */
    guint mended;   /* of these, those that it did */
    guint notes;    /* told, but nothing is wrong: what could not be looked at now, say */
} CheckCounts;

/* Told for each finding, one line without its end: where, what is wrong, and what repair or the user can do. */
typedef void (*CheckTell)(gpointer user, const char *line);

/*
 * Check the store in the directory @path. FALSE: it could not be checked: EBUSY (a daemon uses it), ENOENT, EACCES. Takes
 * over @backend.
 */
gboolean check_store(const char *path, gboolean repair, Backend *backend, CheckTell tell, gpointer user,
                     CheckCounts *ret_counts, GError **error);
