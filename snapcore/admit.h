/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Admit: may an image that a document names become what a guest writes, or a state (DESIGN 3, 4, 9)? */
#pragma once

#include "op.h"

/*
 * Make the source of @disk (a local one) an absolute, real path, in @def too: image paths are resolved when a document
 * comes in, so a symlink that is pointed elsewhere later changes nothing. EINVAL inside the mount itself, EILSEQ.
 */
gboolean admit_path(Core *core, DomainDef *def, DiskDef *disk, GError **error);

/* Is the own content of @layer still what it was when it was frozen? EIO: a merge has begun to write into it. */
gboolean admit_content(const Layer *layer, GError **error);

/*
 * May the content of @layer (@own: its own, else the state of a tag in it, or its content at this moment) be the state of
 * a snapshot of @domain for ever? EINVAL when the domain's guest may write it, or anything that it stands on. (What
 * another domain may write below it is a template's domain, as long as nobody starts that.)
 */
gboolean admit_state(const Domain *domain, const Layer *layer, gboolean own, GError **error);

/*
 * May a guest write the image at @path? EBUSY when it is a layer that a snapshot or another layer stands on, in any
 * domain of the store; the sentence names the active one. @own: the domain that asks; of its own layers only those
 * that snapshots need count, and without @judge_own none.
 */
gboolean admit_writing(Core *core, EngineId own, gboolean judge_own, const char *path, GError **error);
