/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Admit: may an image that a document names become what a guest writes (DESIGN 3, 4, 9)? */
#pragma once

#include "op.h"

/*
 * Make the source of @disk (a local one) an absolute, real path, in @def too: image paths are resolved when a document
 * comes in, so a symlink that is pointed elsewhere later changes nothing. EINVAL inside the mount itself, EILSEQ.
 */
gboolean admit_path(Core *core, DomainDef *def, DiskDef *disk, GError **error);

/*
 * May a guest write the image at @path? EBUSY when it is a layer that a snapshot or another layer stands on, in any
 * domain of the store; the sentence names the active one. @own: the domain that asks; of its own layers only those
 * that snapshots need count, and without @judge_own none.
 */
gboolean admit_writing(Core *core, EngineId own, gboolean judge_own, const char *path, GError **error);
