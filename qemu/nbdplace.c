/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbdplace.h"

#include <errno.h>
#include <libnbd.h>
#include <string.h>

#include "error.h"

#define PATIENCE (15 * G_USEC_PER_SEC) /* with a server that says nothing */
#define FAREWELL G_USEC_PER_SEC
#define POLL_MS 100
#define ALIGNMENT 4096u /* of reads: servers may have a smallest block, which is never larger */

typedef struct {
    Place base;
    struct nbd_handle *nbd;
    GCancellable *cancel;
    gboolean lost; /* the connection cannot be used any more */
} Export;

static void set_nbd_error(const Export *export, GError **error)
{
    const char *text = nbd_get_error();
    int code = nbd_get_errno();
    snap_set_error(error, code > 0 ? code : EIO, "'%s': %s", export->base.path, text ? text : "NBD failed");
}

/* Let the connection go on a little. FALSE: it has failed, is cancelled, or nothing happens until @deadline. */
static gboolean go_on(Export *export, gint64 deadline, GError **error)
{
    if (g_cancellable_is_cancelled(export->cancel))
        snap_set_error(error, EINTR, "'%s': cancelled", export->base.path);
    else if (g_get_monotonic_time() > deadline)
        snap_set_error(error, ETIMEDOUT, "'%s': the server does not answer", export->base.path);
    else if (nbd_poll(export->nbd, POLL_MS) < 0)
        set_nbd_error(export, error);
    else
        return TRUE;
    export->lost = TRUE;
    return FALSE;
}

static gboolean usable(const Export *export, GError **error)
{
    if (export->lost)
        snap_set_error(error, EIO, "'%s': the connection is lost", export->base.path);
    return !export->lost;
}

/*
 * Wait for the command @cookie (negative: it could not even be sent). One that is given up may still use its buffer as
 * long as there is a connection: so there is none any more.
 */
static gboolean complete(Export *export, int64_t cookie, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE;
    int done = 0;
    while (cookie >= 0 && done == 0) {
        done = nbd_aio_command_completed(export->nbd, (uint64_t)cookie);
        if (done == 0 && !go_on(export, deadline, error)) {
            g_clear_pointer(&export->nbd, nbd_close);
            return FALSE;
        }
    }
    if (done <= 0)
        set_nbd_error(export, error);
    return done > 0;
}

static gboolean export_read(Place *place, guint64 offset, void *buffer, gsize len, GError **error)
{
    Export *export = (Export *)place;
    guint64 start = offset / ALIGNMENT * ALIGNMENT;
    guint64 end = MIN((offset + len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, place->size);
    if (len == 0 || !usable(export, error))
        return len == 0;
    g_autofree char *aligned = g_malloc(end - start);
    if (!complete(export, nbd_aio_pread(export->nbd, aligned, end - start, start, NBD_NULL_COMPLETION, 0),
                  error))
        return FALSE;
    memcpy(buffer, aligned + (offset - start), len);
    return TRUE;
}

static gboolean export_write(Place *place, guint64 offset, const void *buffer, gsize len, GError **error)
{
    Export *export = (Export *)place;
    return usable(export, error) &&
           complete(export, nbd_aio_pwrite(export->nbd, buffer, len, offset, NBD_NULL_COMPLETION, 0), error);
}

static gboolean export_flush(Place *place, GError **error)
{
    Export *export = (Export *)place;
    return usable(export, error) &&
           complete(export, nbd_aio_flush(export->nbd, NBD_NULL_COMPLETION, 0), error);
}

/* A server is told (facts/qemu.md C: qemu-nbd hangs when a client just vanishes), but not waited for for long. */
static void export_close(Place *place)
{
    Export *export = (Export *)place;
    gint64 deadline = g_get_monotonic_time() + FAREWELL;
    gboolean told =
        !export->lost && nbd_aio_is_ready(export->nbd) > 0 && nbd_aio_disconnect(export->nbd, 0) == 0;
    while (told && nbd_aio_is_closed(export->nbd) == 0 && nbd_aio_is_dead(export->nbd) == 0 &&
           go_on(export, deadline, NULL))
        ;
    if (export->nbd)
        nbd_close(export->nbd);
    g_clear_object(&export->cancel);
}

static gboolean connect_to(Export *export, GError **error)
{
    struct nbd_handle *nbd = export->nbd;
    gint64 deadline = g_get_monotonic_time() + PATIENCE;
    if (nbd_set_uri_allow_transports(nbd, LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) < 0 ||
        nbd_set_uri_allow_tls(nbd, LIBNBD_TLS_DISABLE) < 0 || nbd_set_uri_allow_local_file(nbd, false) < 0 ||
        nbd_aio_connect_uri(nbd, export->base.path) < 0) {
        set_nbd_error(export, error);
        return FALSE;
    }
    while (nbd_aio_is_ready(nbd) == 0)
        if (!go_on(export, deadline, error))
            return FALSE;
    return TRUE;
}

static gboolean check_export(Export *export, PlaceAccess access, GError **error)
{
    int64_t size = nbd_get_size(export->nbd);
    if (size < 0) {
        set_nbd_error(export, error);
        return FALSE;
    }
    export->base.size = (guint64)size;
    if (access == PLACE_READ)
        return TRUE;
    if (nbd_is_read_only(export->nbd) != 0)
        snap_set_error(error, EROFS, "'%s' is exported read-only", export->base.path);
    else if (nbd_can_flush(export->nbd) <= 0)
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
    struct nbd_handle *nbd = nbd_create();
    if (!nbd) {
        snap_set_error(error, EIO, "'%s': %s", uri, nbd_get_error());
        return NULL;
    }
    Export *export = g_new0(Export, 1);
    export->base = (Place){.ops = &ops, .path = g_strdup(uri)};
    export->nbd = nbd;
    export->cancel = cancel ? g_object_ref(cancel) : NULL;
    g_autoptr(Place) place = &export->base;
    return connect_to(export, error) && check_export(export, access, error) ? g_steal_pointer(&place) : NULL;
}
