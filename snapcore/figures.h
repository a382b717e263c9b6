/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Figures: the texts that are made from the tables of images, usage and changes. That takes a while: they are made anew each
 * time, without the engine's lock, and of their size only that is known which they had the last time. They never wait for
 * who works on the images, nor stand in anybody's way.
 */
#pragma once

#include "op.h"

gboolean figures_is_one(EngineText text);

/* The text of the domain or snapshot @id. Caller frees. ENOENT: it is gone; EINTR. */
char *figures_text(Core *core, EngineText text, EngineId id, GCancellable *cancel, GError **error);
