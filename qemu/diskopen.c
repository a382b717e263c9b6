/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diskopen.h"

#include <errno.h>

#include "diskread.h"
#include "error.h"
#include "nbdreader.h"
#include "remote.h"

#define MAX_LAYERS 65535 /* diskmap.h */

static gboolean is_native(const DiskLayer *layer)
{
    return !remote_is_uri(layer->path) && (layer->format == FORMAT_RAW || layer->format == FORMAT_QCOW2);
}

/* The chain from image @index on. */
static DiskChain rest_of(const DiskChain *chain, guint index)
{
    DiskChain rest = *chain;
    rest.layers += index;
    rest.n_layers -= index;
    if (index > 0)
        rest.state = DISK_FROZEN;
    return rest;
}

/* One that QEMU reads, with all below it. */
static DiskReader *open_foreign(NbdKeeper *keeper, const DiskChain *rest, GError **error)
{
    if (keeper)
        return nbdreader_open(keeper, rest, error);
    snap_set_error(error, EOPNOTSUPP, "'%s' is not a raw or qcow2 image on this host", rest->layers[0].path);
    return NULL;
}

DiskReader *diskopen(NbdKeeper *keeper, const DiskChain *chain, GError **error)
{
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func((GDestroyNotify)disk_image_free);
    gboolean foreign = FALSE;
    if (chain->n_layers == 0 || chain->n_layers > MAX_LAYERS) {
        snap_set_error(error, EINVAL, "a chain of %u images", chain->n_layers);
        return NULL;
    }
    for (guint i = 0; i < chain->n_layers && !foreign; i++) {
        DiskChain rest = rest_of(chain, i);
        foreign = !is_native(&rest.layers[0]);
        DiskReader *reader = foreign ? open_foreign(keeper, &rest, error) : NULL;
        if (foreign && (!reader || i == 0))
            return reader;
        DiskImage *image =
            reader ? disk_image_of(reader)
                   : disk_image_open(&rest.layers[0], rest.state, rest.tag, rest.n_layers > 1, error);
        if (!image)
            return NULL;
        g_ptr_array_add(images, image);
    }
    return diskread_new(g_steal_pointer(&images));
}
