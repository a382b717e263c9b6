/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "diskimage.h"
#include "nbdkeeper.h"

/*
 * What qemu-nbd has to be told to serve the chain @images (of DiskImage), told of @chain. The images must stay; the identity
 * is ours. EINVAL.
 */
gboolean nbdimage_serving(const DiskChain *chain, const GPtrArray *images, NbdServing *ret_serving,
                          GError **error);
void nbdimage_clear(NbdServing *serving);
