/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merge jobs: doing what merge.h chooses, as work in the background (DESIGN 4).
 *
 * Before anything is written, and until the end, the daemon holds QEMU's locks on every image that is involved, and
 * has seen that each is the file that is recorded, that nobody outside the domain stands on what changes or goes, and
 * (for what is written) that nobody has it open. MERGE_DOWN first records that the lowest layer's own content is
 * nobody's (Layer.mixed); from then on the data may be moved as often as it takes: killed or cancelled in between, the
 * view through the layers above is right at every moment. Only then one journalled operation lets the joined file take
 * its place, in the model, in every document that named one of them, and in the headers.
 */
#pragma once

#include "op.h"

/*
 * Carry out all merges of domain @id that are possible now, one after the other, and drop the tags that deleted snapshots
 * have left. What stands in the way of one is
 * logged, unless it is in @told already (a set of char *, which is added to), and the others go on. Errors: EINTR, it
 * gave way; EBUSY: somebody else has the domain, or an image that a merge needs; ENOSPC: there is no room; EROFS, ENOENT.
 */
gboolean merge_domain(Core *core, EngineId id, GHashTable *told, GCancellable *cancel, GError **error);

/* Did it fail with @why (NULL: it did not) for something that may be otherwise later, whatever we do? */
gboolean merge_may_work_later(const GError *why);

/*
 * merge_docs.c: say how the store changes when @joined, in op->domain, has taken the place of the images called @gone
 * (of char *), of which some were recorded with the snapshots @homes_of_gone.
 */
gboolean merge_write_documents(Op *op, const GPtrArray *gone, const Layer *joined, GHashTable *homes_of_gone,
                               GError **error);

/* Likewise of the layer called @path, which is gone: documents that name it name something else, if there is anything. */
gboolean merge_write_dropped(Op *op, const char *path, GError **error);
