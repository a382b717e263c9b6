/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diskopen.h"

#include <errno.h>

#include "diskread.h"
#include "error.h"

#define MAX_LAYERS 65535 /* diskmap.h */

DiskReader *diskopen(const DiskChain *chain, GError **error)
{
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func((GDestroyNotify)disk_image_free);
    if (chain->n_layers == 0 || chain->n_layers > MAX_LAYERS) {
        snap_set_error(error, EINVAL, "a chain of %u images", chain->n_layers);
        return NULL;
    }
    for (guint i = 0; i < chain->n_layers; i++) {
        DiskState state = i == 0 ? chain->state : DISK_FROZEN;
        DiskImage *image =
            disk_image_open(&chain->layers[i], state, chain->tag, i + 1 < chain->n_layers, error);
        if (!image)
            return NULL;
        g_ptr_array_add(images, image);
    }
    return diskread_new(g_steal_pointer(&images));
}
