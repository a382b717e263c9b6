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

/* Wait for the recoveries that still run. Fine when there never were any. */
void recovery_end(Core *core);
