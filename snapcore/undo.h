/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Undo: what a revert threw away waits until the next create, revert, delete or redefine (DESIGN 4). In the model it
 * is Domain.undo, in the store undo.xml (the definition) and "undo" in domain.json. Layers that were active then stay
 * as they are, neither frozen nor merged; of an internal state the one before is a tag of its own, kept out of sight. Of an
 * NVRAM that was exchanged a copy is in the store's files/.
 */
#pragma once

#include "op.h"

/* Begin to remember: the definition and the current snapshot of op->domain as they are now. What was kept before goes. */
Snapshot *undo_begin(Op *op, GError **error);

/* Nobody can go back any more: layers become nameless, hidden tags are dropped after the commit. Fine without any. */
void undo_forget(Op *op);

/*
 * The NVRAM is about to be another one: what it is now waits, too, copied in a stage 0. undo_record: once the plan is prepared.
 */
void undo_keep_nvram(Op *op, Snapshot *undo, const char *path);
gboolean undo_record(Op *op, GError **error);

/* The definition that undo brings back, under the domain's present name and uuid. ENOENT: there is nothing to undo. */
DomainDef *undo_definition(Op *op, GError **error);
