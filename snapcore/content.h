/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Content: what a disk holds in a state, found by an id: from the model to images that are opened (diskreader.h). The images
 * are opened without the engine's lock; if a merge, or whatever else is done to the domain, has changed the chain meanwhile,
 * it is begun again.
 */
#pragma once

#include "op.h"

/*
 * The id under which the content of @layer (@tag NULL: its own), in a state @state or the active one (@state 0), is shown;
 * 0: the layer itself is what the user wants to see, or nobody could tell whether it changes. Under the lock.
 */
EngineId content_id(const Layer *layer, const char *tag, EngineId state);

/*
 * Open the content of a state, or of an active layer: also of a raw one, which is not shown under an id of its own. As
 * open_content (engine.h), but it only waits for others, and has merges give way, until @end (monotonic; 0: not at all).
 */
DiskReader *content_open(Core *core, EngineId id, gint64 end, GCancellable *cancel, GError **error);
