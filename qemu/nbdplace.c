/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbdplace.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "nbdlink.h"

#define PATIENCE (15 * G_USEC_PER_SEC) /* with a server that says nothing */
#define ALIGNMENT 4096u /* of reads: servers may have a smallest block, which is never larger */

typedef struct {
    Place base;
    NbdLink link;
} Export;

static gboolean usable(const Export *export, GError **error)
{
    if (export->link.lost)
        snap_set_error(error, EIO, "'%s': the connection is lost", export->base.path);
    return !export->link.lost;
}

static gboolean export_read(Place *place, guint64 offset, void *buffer, gsize len, GError **error)
{
    Export *export = (Export *)place;
    guint64 start = offset / ALIGNMENT * ALIGNMENT;
    guint64 end = MIN((offset + len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, place->size);
    if (len == 0 || !usable(export, error))
        return len == 0;
    g_autofree char *aligned = g_malloc(end - start);
    if (!nbd_link_complete(
            &export->link,
            nbd_aio_pread(export->link.nbd, aligned, end - start, start, NBD_NULL_COMPLETION, 0), error))
        return FALSE;
    memcpy(buffer, aligned + (offset - start), len);
    return TRUE;
}

static gboolean export_write(Place *place, guint64 offset, const void *buffer, gsize len, GError **error)
{
    Export *export = (Export *)place;
    return usable(export, error) &&
           nbd_link_complete(&export->link,
                             nbd_aio_pwrite(export->link.nbd, buffer, len, offset, NBD_NULL_COMPLETION, 0),
                             error);
}

static gboolean export_flush(Place *place, GError **error)
{
    Export *export = (Export *)place;
    return usable(export, error) &&
           nbd_link_complete(&export->link, nbd_aio_flush(export->link.nbd, NBD_NULL_COMPLETION, 0), error);
}

static void export_close(Place *place)
{
    Export *export = (Export *)place;
    nbd_link_close(&export->link);
    g_clear_object(&export->link.cancel);
}

static gboolean connect_to(Export *export, GError **error)
{
    struct nbd_handle *nbd = export->link.nbd;
    gboolean allowed =
        nbd_set_uri_allow_transports(nbd, LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) == 0 &&
        nbd_set_uri_allow_tls(nbd, LIBNBD_TLS_DISABLE) == 0 && nbd_set_uri_allow_local_file(nbd, false) == 0;
    return nbd_link_connect(&export->link, allowed ? nbd_aio_connect_uri(nbd, export->base.path) : -1, error);
}

static gboolean check_export(Export *export, PlaceAccess access, GError **error)
{
    int64_t size = nbd_get_size(export->link.nbd);
    if (size < 0) {
        nbd_link_set_error(&export->link, error);
        return FALSE;
    }
    export->base.size = (guint64)size;
    if (access == PLACE_READ)
        return TRUE;
    if (nbd_is_read_only(export->link.nbd) != 0)
        snap_set_error(error, EROFS, "'%s' is exported read-only", export->base.path);
    else if (nbd_can_flush(export->link.nbd) <= 0)
        snap_set_error(error, EOPNOTSUPP, "'%s': the server cannot flush: nothing would be sure to be stored",
                       export->base.path);
    else
        return TRUE;
    return FALSE;
}

Place *nbd_place_open(const char *uri, PlaceAccess access, GCancellable *cancel, GError **error)
{
    static const PlaceOps ops = {
        .read = export_read,
        .write = export_write,
        .flush = export_flush,
        .close = export_close,
    };
    Export *export = g_new0(Export, 1);
    export->base = (Place){.ops = &ops, .path = g_strdup(uri)};
    g_autoptr(Place) place = &export->base;
    if (!nbd_link_init(&export->link, place->path, PATIENCE, cancel, error))
        return NULL;
    if (cancel)
        g_object_ref(cancel);
    return connect_to(export, error) && check_export(export, access, error) ? g_steal_pointer(&place) : NULL;
}
