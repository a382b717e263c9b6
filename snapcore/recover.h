/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recovery: how the domains of a store come to be shown (DESIGN 5). One without a journal is loaded and checked at once.
 * One with a journal is shown as its documents say, busy with a job of its own, and brought to its end in a thread:
 * that may have to wait, for a qemu-img that a killed daemon left at work or for a server. Every other domain serves
 * meanwhile.
 */
#pragma once

#include "op.h"

/* Load all domains, begin all recoveries. What can be done in a moment is done when this returns. */
gboolean recovery_open(Core *core, GError **error);

/*
 * One domain, all of it at once: bring what a crash left to its end (unless the core is read-only), load it and show it.
 * What is wrong is in its log and makes it read-only; one that cannot be shown at all is in the mount's log.
 */
void recovery_load_domain(Core *core, const char *name);

/* After a rename that was cut short: the directory has the new name, the document not yet. */
gboolean recovery_complete_rename(Core *core, Domain *domain, GError **error);

/* Wait for the recoveries that still run. Fine when there never were any. */
void recovery_end(Core *core);
