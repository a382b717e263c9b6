/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbdreader.h"

#include <errno.h>
#include <string.h>

#include "diskimage.h"
#include "error.h"
#include "nbdimage.h"
#include "remote.h"

#define MAX_IMAGES 128           /* what qemu-nbd takes to open a chain grows with its depth's third power */
#define MAX_PIECE (1024u * 1024) /* of one request */
#define MAX_STATUS (1024u << 20) /* the bytes that one extent is looked for in */
#define ALIGNMENT 4096u          /* of requests: an export may have a smallest block, which is never larger */
#define REFUSED_FOR                                                                                          \
    G_USEC_PER_SEC /* after a failed start, so that not everybody who waits for it tries again */
#define ATTEMPTS 2 /* one new start */

typedef struct {
    DiskReader base;
    NbdKeeper *keeper;
    GPtrArray *images; /* of DiskImage: the chain, locked */
    NbdServing serving;
    GMutex lock;     /* of what follows; held while a server is started: everybody waits for it */
    QemuNbd *server; /* NULL: none is needed yet */
    GError *refusal; /* why the last start failed */
    gint64 refused_until;
} NbdReader;

/* A connection that the calling thread has for itself. */
typedef struct {
    QemuNbd *server;
    NbdLink *link;
} Use;

/* --- the server --- */

static gboolean refused(NbdReader *reader, GError **error)
{
    if (!reader->refusal || g_get_monotonic_time() >= reader->refused_until)
        return FALSE;
    g_propagate_error(error, g_error_copy(reader->refusal));
    return TRUE;
}

static gboolean start_server(NbdReader *reader, GError **error)
{
    if (refused(reader, error))
        return FALSE;
    g_clear_error(&reader->refusal);
    reader->server = nbdkeeper_start(reader->keeper, &reader->serving, &reader->refusal);
    reader->refused_until = g_get_monotonic_time() + REFUSED_FOR;
    return reader->server || (refused(reader, error), FALSE);
}

static gboolean begin_use(NbdReader *reader, Use *ret_use, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&reader->lock);
    for (guint i = 0; i < ATTEMPTS; i++) {
        if (!reader->server && !start_server(reader, error))
            return FALSE;
        *ret_use = (Use){reader->server, nbdkeeper_take(reader->keeper, reader->server)};
        if (ret_use->link)
            return TRUE;
        nbdkeeper_end(reader->keeper, g_steal_pointer(&reader->server)); /* idle for a while, or broken */
    }
    snap_set_error(error, EIO, "'%s': qemu-nbd is busy, or ends at once", reader->serving.name);
    return FALSE;
}

/* --- requests --- */

typedef struct {
    void *buffer; /* of a read */
    guint64 offset;
    guint64 length;
    DiskExtent *extent; /* of a question for an extent; else NULL */
} Request;

static gboolean do_read(NbdLink *link, const Request *request, GError **error)
{
    return nbd_link_complete(
        link,
        nbd_aio_pread(link->nbd, request->buffer, request->length, request->offset, NBD_NULL_COMPLETION, 0),
        error);
}

/* The first extent that the server tells of. */
static int note_extent(void *user, const char *context, uint64_t offset, uint32_t *entries, size_t n,
                       int *error)
{
    DiskExtent *extent = user;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 && n >= 2 && extent->length == 0)
        *extent = (DiskExtent){.length = entries[0], .data = !(entries[1] & LIBNBD_STATE_ZERO)};
    return 0;
}

static gboolean do_status(NbdLink *link, const Request *request, GError **error)
{
    nbd_extent_callback told = {.callback = note_extent, .user_data = request->extent};
    *request->extent = (DiskExtent){0};
    if (nbd_can_meta_context(link->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0 &&
        !nbd_link_complete(link,
                           nbd_aio_block_status(link->nbd, request->length, request->offset, told,
                                                NBD_NULL_COMPLETION, LIBNBD_CMD_FLAG_REQ_ONE),
                           error))
        return FALSE;
    if (request->extent->length == 0)
        *request->extent = (DiskExtent){.length = request->length, .data = TRUE};
    return TRUE;
}

static gboolean check_size(const NbdReader *reader, NbdLink *link, GError **error)
{
    int64_t size = nbd_get_size(link->nbd);
    if (size >= 0 && (guint64)size >= reader->base.size)
        return TRUE;
    snap_set_error(error, EIO,
                   "'%s': qemu-nbd says that it has %" G_GINT64_FORMAT " bytes, not %" G_GUINT64_FORMAT,
                   reader->serving.name, (gint64)size, reader->base.size);
    return FALSE;
}

/* Once; *ret_again: it failed in a way that another server might not. */
static gboolean try_request(NbdReader *reader, const Request *request, gboolean *ret_again, GError **error)
{
    Use use;
    *ret_again = TRUE;
    if (!begin_use(reader, &use, error))
        return FALSE;
    gboolean ok = check_size(reader, use.link, error) &&
                  (request->extent ? do_status : do_read)(use.link, request, error);
    *ret_again = use.link->lost;
    nbdkeeper_give(reader->keeper, use.server, use.link);
    return ok;
}

static gboolean still_right(const NbdReader *reader, GError **error)
{
    return disk_image_check(reader->images->pdata[0], error);
}

static gboolean ask(NbdReader *reader, const Request *request, GError **error)
{
    g_autoptr(GError) why = NULL;
    gboolean again = TRUE;
    for (guint i = 0; i < ATTEMPTS && again; i++) {
        g_clear_error(&why);
        if (try_request(reader, request, &again, &why))
            return TRUE;
    }
    snap_set_error(error, EIO, "%s", why->message);
    return FALSE;
}

/* --- the reader --- */

/* The range of whole blocks that @len bytes at @offset are in. */
static Request around(const NbdReader *reader, guint64 offset, guint64 len)
{
    guint64 start = offset / ALIGNMENT * ALIGNMENT;
    guint64 end = MIN((offset + len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, reader->base.size);
    return (Request){.offset = start, .length = end - start};
}

static gboolean read_piece(NbdReader *reader, char *buffer, gsize len, guint64 offset, GError **error)
{
    Request request = around(reader, offset, len);
    g_autofree char *aligned = request.length == len ? NULL : g_malloc(request.length);
    request.buffer = aligned ? aligned : buffer;
    if (!ask(reader, &request, error))
        return FALSE;
    if (aligned)
        memcpy(buffer, aligned + (offset - request.offset), len);
    return TRUE;
}

static gboolean nbdreader_read(DiskReader *base, void *buffer, gsize len, guint64 offset, GError **error)
{
    NbdReader *reader = (NbdReader *)base;
    if (!disk_image_check_range(base, len, offset, error) || !still_right(reader, error))
        return FALSE;
    for (gsize done = 0, part; done < len; done += part) {
        part = MIN(len - done, MAX_PIECE);
        if (!read_piece(reader, (char *)buffer + done, part, offset + done, error))
            return FALSE;
    }
    return still_right(reader, error);
}

static gboolean nbdreader_extent(DiskReader *base, guint64 offset, DiskExtent *ret_extent, GError **error)
{
    NbdReader *reader = (NbdReader *)base;
    DiskExtent extent;
    if (!disk_image_check_range(base, 1, offset, error) || !still_right(reader, error))
        return FALSE;
    Request request = around(reader, offset, MIN(base->size - offset, MAX_STATUS));
    request.extent = &extent;
    if (!ask(reader, &request, error) || !still_right(reader, error))
        return FALSE;
    guint64 end = MIN(request.offset + extent.length, base->size);
    if (end <= offset) {
        snap_set_error(error, EIO, "'%s': qemu-nbd does not say what is at %" G_GUINT64_FORMAT,
                       reader->serving.name, offset);
        return FALSE;
    }
    extent.length = end - offset;
    extent.stored = extent.data ? extent.length : 0;
    *ret_extent = extent;
    return TRUE;
}

static void nbdreader_free(DiskReader *base)
{
    NbdReader *reader = (NbdReader *)base;
    if (reader->server)
        nbdkeeper_end(reader->keeper, reader->server);
    nbdkeeper_unref(reader->keeper);
    g_clear_error(&reader->refusal);
    g_ptr_array_unref(reader->images);
    nbdimage_clear(&reader->serving);
    g_mutex_clear(&reader->lock);
    g_free(reader);
}

/* All images, opened and locked. */
static GPtrArray *hold_images(const DiskChain *chain, GError **error)
{
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func((GDestroyNotify)disk_image_free);
    for (guint i = 0; i < chain->n_layers; i++) {
        DiskImage *image = disk_image_hold(&chain->layers[i], i == 0 ? chain->state : DISK_FROZEN,
                                           i + 1 < chain->n_layers, error);
        if (!image)
            return NULL;
        g_ptr_array_add(images, image);
    }
    return g_steal_pointer(&images);
}

/* Who has images that only he can read lets his own identity read them: the owner of the first one's directory. */
static gboolean choose_identity(const DiskChain *chain, ProcessIdentity *ret_identity, GError **error)
{
    for (guint i = 0; i < chain->n_layers; i++)
        if (!remote_is_uri(chain->layers[i].path))
            return process_identity_for(chain->layers[i].path, ret_identity, error);
    *ret_identity = (ProcessIdentity){0};
    return TRUE;
}

static gboolean check_chain(const DiskChain *chain, GError **error)
{
    if (chain->n_layers == 0)
        snap_set_error(error, EINVAL, "a chain of no images");
    else if (chain->state == DISK_TAG)
        snap_set_error(error, EOPNOTSUPP, "'%s' has no internal snapshots that can be read",
                       chain->layers[0].path);
    else if (chain->state == DISK_ACTIVE && remote_is_uri(chain->layers[0].path))
        snap_set_error(error, EOPNOTSUPP,
                       "'%s' is not on this host: nobody can tell whether somebody writes it",
                       chain->layers[0].path);
    else if (chain->n_layers > MAX_IMAGES)
        snap_set_error(error, EOPNOTSUPP, "'%s' stands on %u images: qemu-nbd cannot be given more than %d",
                       chain->layers[0].path, chain->n_layers - 1, MAX_IMAGES - 1);
    else
        return TRUE;
    return FALSE;
}

DiskReader *nbdreader_open(NbdKeeper *keeper, const DiskChain *chain, GError **error)
{
    static const DiskReaderOps ops = {
        .read = nbdreader_read, .extent = nbdreader_extent, .free = nbdreader_free};
    ProcessIdentity identity;
    NbdServing serving;
    if (!check_chain(chain, error) || !choose_identity(chain, &identity, error))
        return NULL;
    g_autoptr(GPtrArray) images = hold_images(chain, error);
    if (!images || !nbdimage_serving(chain, images, &serving, error))
        return NULL;
    NbdReader *reader = g_new0(NbdReader, 1);
    reader->base =
        (DiskReader){.ops = &ops, .size = ((const DiskImage *)images->pdata[0])->size, .waits = TRUE};
    reader->keeper = nbdkeeper_ref(keeper);
    reader->images = g_steal_pointer(&images);
    reader->serving = serving;
    reader->serving.identity = identity;
    g_mutex_init(&reader->lock);
    return &reader->base;
}
