/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merger: when merges run. Work is due some idle seconds after the last change of a domain, several domains at once; a
 * merge that gave way to the user is due again later. One thread waits, a pool works. All state is under core->lock.
 */
#pragma once

#include "op.h"

/* @idle_ms: how long nothing may have happened to a domain before its merges start. */
Merger *merger_new(Core *core, guint idle_ms);

/* Cancel what runs, wait for its end, forget the rest: it is due again at the next start. */
void merger_free(Merger *merger);

/* Domain @id has changed: its merges are due when it has been idle for a while. Under the lock. NULL @merger: nothing. */
void merger_schedule(Merger *merger, EngineId id);

/* The user has cancelled what runs for domain @id: it is due again only when the domain changes. Under the lock. */
void merger_call_off(Merger *merger, EngineId id);

/* What somebody was in the way of is tried once more now. Under the lock. */
void merger_retry(Merger *merger, EngineId id);

/*
 * Do not wait any longer with the merges of domain @id. FALSE: none are due, and none run (or somebody is in the way
 * of those that are left). Under the lock.
 */
gboolean merger_hurry(Merger *merger, EngineId id);
