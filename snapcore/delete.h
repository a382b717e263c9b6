/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Delete: the part of it that other operations share. */
#pragma once

#include "op.h"

/*
 * Take the snapshots that @flags choose, from @snapshot on, out of op->domain: children get another parent, documents
 * are written, tags that nobody names any more are dropped after the commit. Nothing is committed, no layer pruned;
 * @snapshot is freed unless DELETE_CHILDREN_ONLY.
 */
gboolean delete_names(Op *op, Snapshot *snapshot, DeleteFlags flags, GError **error);
