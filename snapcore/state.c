/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "state.h"

#include <errno.h>

#include "admit.h"
#include "chain.h"
#include "error.h"

Layer *state_layer(Core *core, Domain *domain, DomainDef *then, const char *target, GError **error)
{
    DiskDef *disk = domain_def_find_disk(then, target);
    if (!disk || !disk->source) {
        snap_set_error(error, EOPNOTSUPP, "disk '%s': the document names no local image for it", target);
        return NULL;
    }
    if (!admit_path(core, then, disk, error) || !chain_record(core, domain, disk, error)) {
        g_prefix_error(error, "disk '%s': ", target);
        return NULL;
    }
    return domain_find_layer(domain, disk->source);
}
