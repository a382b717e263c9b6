/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "content.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "machines.h"

/* Whatever is done to a domain, its images are without the names that the model knows for a moment only. */
#define PATIENCE (5 * G_USEC_PER_SEC)
#define MAX_TRIES 20

/* One image, as the model had it. */
typedef struct {
    DiskLayer layer; /* owns the path */
    gboolean fixed;  /* it must be what it was when it was frozen */
    FileStamp stamp;
} Part;

/* What is to be read. */
typedef struct {
    GArray *parts; /* of Part; the first image first */
    DiskState state;
    char *tag;
} Content;

static void part_clear(gpointer data)
{
    g_free((char *)((Part *)data)->layer.path);
}

static void content_free(Content *content)
{
    if (!content)
        return;
    g_array_unref(content->parts);
    g_free(content->tag);
    g_free(content);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Content, content_free)

static gboolean part_equal(const Part *a, const Part *b)
{
    return strcmp(a->layer.path, b->layer.path) == 0 && a->layer.format == b->layer.format &&
           file_id_equal(&a->layer.id, &b->layer.id) && a->fixed == b->fixed &&
           file_stamp_equal(&a->stamp, &b->stamp);
}

static gboolean content_equal(const Content *a, const Content *b)
{
    gboolean same = a->parts->len == b->parts->len && a->state == b->state && !g_strcmp0(a->tag, b->tag);
    for (guint i = 0; same && i < a->parts->len; i++)
        same = part_equal(&g_array_index(a->parts, Part, i), &g_array_index(b->parts, Part, i));
    return same;
}

/* --- from the model; under the lock --- */

EngineId content_id(const Layer *layer, const char *tag, EngineId state)
{
    if (!layer_is_local(layer) || (!tag && layer->format == FORMAT_RAW))
        return 0;
    return state ? state : layer->object.id;
}

static void add_part(Content *content, const Layer *layer)
{
    Part part = {.layer = {g_strdup(layer->path), layer->format, layer->file}};
    if (layer->frozen && !layer->mixed) {
        part.fixed = TRUE;
        part.stamp = layer->stamp;
    }
    g_array_append_val(content->parts, part);
}

/* @layer and all below it, as recorded: what the images say themselves is not asked. */
static gboolean add_chain(Content *content, const Domain *domain, const Layer *layer, GError **error)
{
    for (guint left = g_hash_table_size(domain->layers); left > 0; left--) {
        if (layer_is_local(layer) && !file_id_known(&layer->file)) {
            snap_set_error(error, ENOENT, "the image '%s' is missing", layer->path);
            return FALSE;
        }
        add_part(content, layer);
        if (!layer->backing)
            return TRUE;
        const Layer *below = domain_find_layer(domain, layer->backing);
        if (!below) {
            snap_set_error(error, ENOENT, "'%s', which '%s' stands on, is not known", layer->backing,
                           layer->path);
            return FALSE;
        }
        layer = below;
    }
    snap_set_error(error, EIO, "what '%s' stands on is recorded as a loop", layer->path);
    return FALSE;
}

static Content *take_chain(const Domain *domain, const Layer *layer, DiskState state, const char *tag,
                           GError **error)
{
    g_autoptr(Content) content = g_new0(Content, 1);
    content->parts = g_array_new(FALSE, FALSE, sizeof(Part));
    g_array_set_clear_func(content->parts, part_clear);
    content->state = state;
    content->tag = g_strdup(tag);
    if (!add_chain(content, domain, layer, error))
        return NULL;
    if (state == DISK_ACTIVE) /* its user may have put another file there */
        g_array_index(content->parts, Part, 0).layer.id = (FileId){0};
    return g_steal_pointer(&content);
}

static gboolean is_written_layer(const Domain *domain, const Layer *layer)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        if (!disk->readonly && domain_active_layer(domain, disk) == layer)
            return TRUE;
    }
    return FALSE;
}

static Content *take_active(const Core *core, const Domain *domain, const Layer *layer, GError **error)
{
    if (!is_written_layer(domain, layer))
        snap_set_error(error, ENOENT, "it is gone");
    else if (!layer_is_local(layer))
        snap_set_error(error, EOPNOTSUPP, "'%s' is not on this host", layer->path);
    else if (!machines_is_off(core, domain))
        snap_set_error(error, EBUSY, "domain '%s' is running", domain->name);
    else
        return take_chain(domain, layer, DISK_ACTIVE, NULL, error);
    return NULL;
}

static Content *take_state(const StateDisk *state, GError **error)
{
    if (layer_is_local(state->layer))
        return take_chain(state->domain, state->layer, state->tag ? DISK_TAG : DISK_FROZEN, state->tag,
                          error);
    snap_set_error(error, EOPNOTSUPP, "'%s' is not on this host", state->layer->path);
    return NULL;
}

/* What @id is now. NULL: gone, or not to be read. */
static Content *take(Core *core, EngineId id, GError **error)
{
    const StateDisk *state = core_object(core, id, ENGINE_STATE);
    const Layer *layer = core_object(core, id, ENGINE_LAYER);
    if (state)
        return take_state(state, error);
    if (layer)
        return take_active(core, core_domain_of(core, id), layer, error);
    snap_set_error(error, ENOENT, "it is gone");
    return NULL;
}

static Content *take_locked(Core *core, EngineId id, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    return take(core, id, error);
}

/* --- the images --- */

/* What @content is to the backend. It points into it, and to @layers, which the caller frees. */
static DiskChain chain_of(const Content *content, DiskLayer **ret_layers)
{
    DiskLayer *layers = g_new(DiskLayer, content->parts->len);
    for (guint i = 0; i < content->parts->len; i++)
        layers[i] = g_array_index(content->parts, Part, i).layer;
    *ret_layers = layers;
    return (DiskChain){layers, content->parts->len, content->state, content->tag};
}

/* The frozen images, which are open now, so that QEMU does not write them: had somebody written them before? */
static gboolean check_frozen(const Content *content, GError **error)
{
    for (guint i = 0; i < content->parts->len; i++) {
        const Part *part = &g_array_index(content->parts, Part, i);
        FileLook look;
        if (!part->fixed || !file_id_known(&part->layer.id))
            continue;
        if (!file_look(part->layer.path, &look, error))
            return FALSE;
        if (!file_id_equal(&look.id, &part->layer.id)) {
            snap_set_error(error, ESTALE, "'%s' is not the file that was frozen", part->layer.path);
            return FALSE;
        }
        if (file_changed(&part->stamp, &look)) {
            snap_set_error(error, EIO, "'%s' is not what was frozen: it was changed from outside",
                           part->layer.path);
            return FALSE;
        }
    }
    return TRUE;
}

static DiskReader *open_now(const Core *core, const Content *content, GError **error)
{
    g_autofree DiskLayer *layers = NULL;
    const DiskChain chain = chain_of(content, &layers);
    g_autoptr(DiskReader) reader = core->backend->ops->open_disk(core->backend, &chain, error);
    return reader && check_frozen(content, error) ? g_steal_pointer(&reader) : NULL;
}

/* --- while others work on the domain --- */

/* The job at work on the domain of @id. Under the lock. */
static const Job *job_of(Core *core, EngineId id)
{
    const Domain *domain = core_domain_of(core, id);
    return domain ? g_hash_table_lookup(core->busy, domain->name) : NULL;
}

/* Who reads goes before a merge, which has begun to write what is to be read. Under the lock, which is let go meanwhile. */
static void push_aside(Core *core, const Job *job)
{
    g_autoptr(GCancellable) merge = g_object_ref(job->cancel);
    g_mutex_unlock(&core->lock);
    g_cancellable_cancel(merge);
    g_mutex_lock(&core->lock);
}

/*
 * @tried could not be opened (@why). TRUE: it is worth another try, because the model says something else now, or a job that
 * was at work has ended.
 */
static gboolean await_change(Core *core, EngineId id, const Content *tried, const GError *why,
                             GCancellable *cancel, gint64 end)
{
    gboolean waited = FALSE;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    for (;;) {
        g_autoptr(Content) now = take(core, id, NULL);
        const Job *job = job_of(core, id);
        if (!now || !content_equal(now, tried))
            return TRUE;
        if (!job)
            return waited;
        if (g_get_monotonic_time() > end || g_cancellable_is_cancelled(cancel))
            return FALSE;
        if (job->yields && snap_errno(why) == EBUSY)
            push_aside(core, job);
        waited = TRUE;
        g_cond_wait_until(&core->idle, &core->lock, g_get_monotonic_time() + G_USEC_PER_SEC / 20);
    }
}

static void keep_size(Core *core, EngineId id, guint64 size)
{
    StateDisk *state = core_object(core, id, ENGINE_STATE);
    Layer *layer = core_object(core, id, ENGINE_LAYER);
    if (state)
        state->size = size;
    if (layer)
        layer->size = size;
}

/* Is what was opened as @content still that? A state is the same, whichever images it is in. */
static gboolean confirm(Core *core, EngineId id, const Content *content, guint64 size, gboolean *ret_gone)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    g_autoptr(Content) now = take(core, id, NULL);
    *ret_gone = !now;
    if (!now || (content->state == DISK_ACTIVE && !content_equal(now, content)))
        return FALSE;
    keep_size(core, id, size);
    return TRUE;
}

DiskReader *content_open(Core *core, EngineId id, gint64 end, GCancellable *cancel, GError **error)
{
    for (guint tries = 1;; tries++) {
        gboolean gone = FALSE;
        g_autoptr(GError) why = NULL;
        g_autoptr(Content) content = take_locked(core, id, error);
        g_autoptr(DiskReader) reader = content ? open_now(core, content, &why) : NULL;
        if (!content)
            return NULL;
        if (reader && confirm(core, id, content, reader->size, &gone))
            return g_steal_pointer(&reader);
        if (gone)
            continue; /* to say so */
        if (tries < MAX_TRIES && (reader || await_change(core, id, content, why, cancel, end)))
            continue;
        if (reader)
            snap_set_error(error, EBUSY, "its images change all the time");
        else
            g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
}

DiskReader *core_open_content(Engine *engine, EngineId id, GCancellable *cancel, GError **error)
{
    return content_open((Core *)engine, id, g_get_monotonic_time() + PATIENCE, cancel, error);
}

/* --- what it looks like --- */

/* A file of no blocks is taken for one of zeros by tools (DESIGN 1). */
#define BLOCKS 8

/* From the first image's header. */
static gboolean look_at_size(Core *core, EngineId id, guint64 *ret_size)
{
    g_autofree DiskLayer *layers = NULL;
    g_autoptr(Content) content = take_locked(core, id, NULL);
    if (!content)
        return FALSE;
    const DiskChain chain = chain_of(content, &layers);
    if (!core->backend->ops->disk_size(core->backend, &chain, ret_size, NULL))
        return FALSE;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    keep_size(core, id, *ret_size);
    return TRUE;
}

/* Under the lock, which is let go to look at files. */
static gboolean stat_state(Core *core, EngineId id, const StateDisk *state, EngineStat *ret_stat)
{
    guint64 size = state->size;
    gint64 time = state->snapshot->time;
    gboolean shown = content_id(state->layer, state->tag, id) && file_id_known(&state->layer->file);
    g_mutex_unlock(&core->lock);
    gboolean known = shown && (size > 0 || look_at_size(core, id, &size));
    g_mutex_lock(&core->lock);
    if (known)
        *ret_stat = (EngineStat){.size = size, .blocks = BLOCKS, .mtime = {time, 0}, .nlink = 1};
    return known;
}

/* While a merge puts a file in the place of another, nothing has its name for a moment: it is then as it was. */
static gboolean stat_active(Core *core, EngineId id, const Layer *layer, EngineStat *ret_stat)
{
    FileLook look = {.stamp = {.mtime_sec = core_domain_of(core, id)->changed}};
    guint64 size = layer->size;
    g_autoptr(Content) content = take(core, id, NULL);
    if (!content)
        return FALSE;
    g_mutex_unlock(&core->lock);
    (void)file_look(g_array_index(content->parts, Part, 0).layer.path, &look, NULL);
    gboolean known = look_at_size(core, id, &size) || size > 0;
    g_mutex_lock(&core->lock);
    if (known)
        *ret_stat = (EngineStat){.size = size,
                                 .blocks = BLOCKS,
                                 .mtime = {look.stamp.mtime_sec, look.stamp.mtime_nsec},
                                 .nlink = 1};
    return known;
}

gboolean core_stat_content(Engine *engine, EngineId id, EngineStat *ret_stat)
{
    Core *core = (Core *)engine;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const StateDisk *state = core_object(core, id, ENGINE_STATE);
    const Layer *layer = core_object(core, id, ENGINE_LAYER);
    if (state)
        return stat_state(core, id, state, ret_stat);
    return layer && stat_active(core, id, layer, ret_stat);
}
