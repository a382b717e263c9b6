/* SPDX-License-Identifier: GPL-2.0-or-later */
/* State: where a document from outside says that a snapshot's states are. For redefine and import. */
#pragma once

#include "op.h"

/*
 * The layer that disk @target had as its image in @then, the definition in a snapshot's document: an external state is
 * its own content, an internal one a tag in it. Makes it known in @domain with its chain, and its path real in @then.
 * EOPNOTSUPP: @then names no local image for the disk.
 */
Layer *state_layer(Core *core, Domain *domain, DomainDef *then, const char *target, GError **error);

/*
 * Say where the states of @snapshot are whose document is from before libvirt stored the whole <domain>. They were all
 * internal then: what has its name in the images of today. A disk in whose chain there is none gets no state.
 */
void state_find_tags(Core *core, Snapshot *snapshot);
