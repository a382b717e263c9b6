/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The looking half of the engine: short reads of the shown domains under the lock, and texts. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "error.h"
#include "figures.h"
#include "machines.h"
#include "names.h"
#include "op.h"
#include "saveimage.h"

Domain *core_domain_of(Core *core, EngineId id)
{
    EngineId domain = id >> OBJECT_BITS << OBJECT_BITS;
    return g_hash_table_lookup(core->domains, &domain);
}

gpointer core_object(Core *core, EngineId id, EngineKind kind)
{
    Domain *domain = core_domain_of(core, id);
    if (!domain)
        return NULL;
    Object *object = id == domain->object.id ? &domain->object : g_hash_table_lookup(domain->objects, &id);
    return object && object->kind == kind ? object : NULL;
}

static void add_entry(GPtrArray *entries, EngineId id, const char *name)
{
    EngineEntry *entry = g_new0(EngineEntry, 1);
    entry->id = id;
    entry->name = g_strdup(name);
    g_ptr_array_add(entries, entry);
}

GPtrArray *core_list(Engine *engine, EngineId where)
{
    Core *core = (Core *)engine;
    GPtrArray *entries = g_ptr_array_new_with_free_func((GDestroyNotify)engine_entry_free);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    if (where == 0) {
        GHashTableIter iter;
        gpointer value;
        g_hash_table_iter_init(&iter, core->domains);
        while (g_hash_table_iter_next(&iter, NULL, &value))
            add_entry(entries, ((Domain *)value)->object.id, ((Domain *)value)->name);
        return entries;
    }
    const Domain *domain = core_object(core, where, ENGINE_DOMAIN);
    for (guint i = 0; domain && i < domain->snapshots->len; i++) {
        const Snapshot *snapshot = domain->snapshots->pdata[i];
        add_entry(entries, snapshot->object.id, snapshot->name);
    }
    return entries;
}

EngineId core_find(Engine *engine, EngineId where, const char *name)
{
    Core *core = (Core *)engine;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    if (where == 0) {
        const Domain *domain = g_hash_table_lookup(core->by_name, name);
        return domain ? domain->object.id : 0;
    }
    const Domain *domain = core_object(core, where, ENGINE_DOMAIN);
    const Snapshot *snapshot = domain ? domain_find_snapshot(domain, name) : NULL;
    return snapshot ? snapshot->object.id : 0;
}

gboolean core_look(Engine *engine, EngineId id, EngineLook *ret_look)
{
    Core *core = (Core *)engine;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const Domain *domain = core_object(core, id, ENGINE_DOMAIN);
    if (domain) {
        *ret_look = (EngineLook){.kind = ENGINE_DOMAIN,
                                 .domain = id,
                                 .parent = domain->current ? domain->current->object.id : 0,
                                 .time = domain->changed,
                                 .n_children = domain->snapshots->len,
                                 .secret = domain->def->secret};
        return TRUE;
    }
    const Snapshot *snapshot = core_object(core, id, ENGINE_SNAPSHOT);
    if (snapshot) {
        *ret_look = (EngineLook){.kind = ENGINE_SNAPSHOT,
                                 .domain = snapshot->domain->object.id,
                                 .parent = snapshot->parent ? snapshot->parent->object.id : 0,
                                 .time = snapshot->time,
                                 .secret = snapshot->secret};
        return TRUE;
    }
    const StateDisk *state = core_object(core, id, ENGINE_STATE);
    if (state) {
        *ret_look = (EngineLook){.kind = ENGINE_STATE,
                                 .domain = state->domain->object.id,
                                 .parent = state->snapshot->object.id,
                                 .time = state->snapshot->time};
        return TRUE;
    }
    if (!core_object(core, id, ENGINE_LAYER))
        return FALSE;
    *ret_look = (EngineLook){.kind = ENGINE_LAYER, .domain = core_domain_of(core, id)->object.id};
    return TRUE;
}

char *core_name(Engine *engine, EngineId id)
{
    Core *core = (Core *)engine;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const Domain *domain = core_object(core, id, ENGINE_DOMAIN);
    const Snapshot *snapshot = core_object(core, id, ENGINE_SNAPSHOT);
    return domain ? g_strdup(domain->name) : snapshot ? g_strdup(snapshot->name) : NULL;
}

static void add_disk(GPtrArray *disks, const char *target, const Layer *layer, gboolean own, EngineId content)
{
    EngineDisk *disk = g_new0(EngineDisk, 1);
    disk->target = g_strdup(target);
    disk->format = layer->format;
    disk->layer = own ? layer->object.id : 0;
    disk->content = content;
    g_ptr_array_add(disks, disk);
}

/* Missing images are not shown: tree and log say so. Nor are media that only read: they take no part in states. */
GPtrArray *core_disks(Engine *engine, EngineId node)
{
    Core *core = (Core *)engine;
    GPtrArray *disks = g_ptr_array_new_with_free_func((GDestroyNotify)engine_disk_free);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const Domain *domain = core_object(core, node, ENGINE_DOMAIN);
    const Snapshot *snapshot = core_object(core, node, ENGINE_SNAPSHOT);
    gboolean runs = domain && machines_runs(core, domain);
    for (guint i = 0; domain && i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        const Layer *layer = domain_active_layer(domain, disk);
        if (layer && !disk->readonly && file_id_known(&layer->file))
            add_disk(disks, disk->target, layer, TRUE, runs ? 0 : content_id(layer, NULL, 0));
    }
    for (guint i = 0; snapshot && i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        if (file_id_known(&disk->layer->file))
            add_disk(disks, disk->target, disk->layer, !disk->tag,
                     content_id(disk->layer, disk->tag, disk->object.id));
    }
    return disks;
}

/* Walk @layer's chain for a file of that name. A recorded chain has no loop, but the walk is bounded all the same. */
static EngineId find_in_chain(const Domain *domain, const Layer *layer, const char *file)
{
    for (guint i = 0; layer && i < g_hash_table_size(domain->layers); i++) {
        const char *slash = strrchr(layer->path, '/');
        if (layer_is_local(layer) && strcmp(slash + 1, file) == 0)
            return layer->object.id;
        layer = domain_find_layer(domain, layer->backing);
    }
    return 0;
}

EngineId core_chain_file(Engine *engine, EngineId node, const char *file)
{
    Core *core = (Core *)engine;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const Domain *domain = core_object(core, node, ENGINE_DOMAIN);
    const Snapshot *snapshot = core_object(core, node, ENGINE_SNAPSHOT);
    EngineId found = 0;
    for (guint i = 0; !found && domain && i < domain->def->disks->len; i++)
        found = find_in_chain(domain, domain_active_layer(domain, domain->def->disks->pdata[i]), file);
    for (guint i = 0; !found && snapshot && i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        if (!disk->tag) /* an internal state shows no layer, so nothing looks for what lies below it */
            found = find_in_chain(snapshot->domain, disk->layer, file);
    }
    return found;
}

gboolean core_stat_layer(Engine *engine, EngineId id, EngineStat *ret_stat)
{
    Core *core = (Core *)engine;
    g_mutex_lock(&core->lock);
    const Layer *layer = core_object(core, id, ENGINE_LAYER);
    g_autofree char *path = NULL;
    EngineStat stat = {0};
    if (layer) {
        stat.nlink = domain_layer_names(core_domain_of(core, id), layer);
        stat.size = layer->stamp.size;
        stat.blocks = layer->blocks;
        stat.mtime = (struct timespec){layer->stamp.mtime_sec, layer->stamp.mtime_nsec};
        path = layer->frozen && !layer->mixed ? NULL : g_strdup(layer->path);
    }
    g_mutex_unlock(&core->lock);
    if (!stat.nlink)
        return FALSE;
    FileLook look;
    if (path && file_look(path, &look, NULL)) { /* the guest writes it, or a merge did: only the file knows */
        stat.size = look.stamp.size;
        stat.blocks = look.blocks;
        stat.mtime = (struct timespec){look.stamp.mtime_sec, look.stamp.mtime_nsec};
    }
    *ret_stat = stat;
    return TRUE;
}

/*
 * May what was opened at the path of the layer @id be given out as that layer? A merge puts another file there before
 * it is shown as another layer; the bytes of two files must never meet in a cache.
 */
static gboolean check_opened(Core *core, EngineId id, const char *path, GError **error)
{
    FileLook look;
    gboolean looked = file_look(path, &look, NULL);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const Layer *layer = core_object(core, id, ENGINE_LAYER);
    if (layer && looked && file_id_equal(&layer->file, &look.id))
        return TRUE;
    if (!layer || strcmp(layer->path, path) != 0)
        snap_set_error(error, ENOENT, "the layer is gone");
    else if (layer->frozen)
        snap_set_error(error, EIO, "'%s' is not the file that was frozen", path);
    else if (g_hash_table_contains(core->busy, core_domain_of(core, id)->name))
        snap_set_error(error, EBUSY, "'%s' is being replaced", path);
    else
        return TRUE; /* the user put another file there */
    return FALSE;
}

int core_open_layer(Engine *engine, EngineId id, GError **error)
{
    Core *core = (Core *)engine;
    g_mutex_lock(&core->lock);
    const Layer *layer = core_object(core, id, ENGINE_LAYER);
    g_autofree char *path = layer ? g_strdup(layer->path) : NULL;
    g_mutex_unlock(&core->lock);

    if (!path) {
        snap_set_error(error, ENOENT, "the layer is gone");
        return -1;
    }
    int fd = core->backend->ops->open_reader(core->backend, path, error);
    if (fd < 0 || check_opened(core, id, path, error))
        return fd;
    close(fd);
    return -1;
}

/* --- texts --- */

/* The drawn tree is kept until the domain changes. Under the lock. */
static const char *drawn_tree(Domain *domain)
{
    if (!domain->tree)
        domain->tree = tree_draw(domain);
    return domain->tree;
}

/* ", 1288490188/21474836480 bytes (6%), 325058560 bytes/s, 62 s left": figures that a script can use, too */
static void describe_progress(GString *out, const Job *job)
{
    gint64 elapsed = g_get_monotonic_time() - job->moving;
    double speed = elapsed > 0 ? (double)job->done * G_USEC_PER_SEC / (double)elapsed : 0;
    g_string_append_printf(out, ", %" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT " bytes (%u%%)", job->done,
                           job->total, (guint)(100 * ((double)job->done / (double)job->total)));
    if (speed >= 1)
        g_string_append_printf(out, ", %.0f bytes/s, %.0f s left", speed,
                               (double)(job->total - job->done) / speed);
}

static void describe_job(GString *out, const Job *job)
{
    g_autofree char *domain = name_to_entry(job->domain, NAME_DOMAIN);
    g_autofree char *what = name_to_entry(job->what, NAME_DOMAIN); /* one line each, whatever a name holds */
    gint64 seconds = (g_get_monotonic_time() - job->started) / G_USEC_PER_SEC;
    g_string_append_printf(out, "%u %s: %s, %" G_GINT64_FORMAT " s", job->number, domain, what, seconds);
    if (job->total > 0)
        describe_progress(out, job);
    g_string_append(out, g_cancellable_is_cancelled(job->cancel) ? ", being cancelled\n" : "\n");
}

/* Under the lock. */
static char *draw_jobs(const Core *core)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < core->jobs->len; i++)
        describe_job(out, core->jobs->pdata[i]);
    return g_string_free(out, FALSE);
}

/* Room for either word of state(5): reading it asks for the real one. */
#define STATE_SIZE strlen("shutoff\n")

static guint64 description_size(const Snapshot *snapshot)
{
    return snapshot->description && *snapshot->description ? strlen(snapshot->description) + 1 : 0;
}

static gboolean domain_text_size(Domain *domain, EngineText text, guint64 *ret_size)
{
    switch (text) {
    case ENGINE_TEXT_DOMAIN_XML:
        *ret_size = domain->xml_size;
        return TRUE;
    case ENGINE_TEXT_STATE:
        *ret_size = STATE_SIZE;
        return TRUE;
    case ENGINE_TEXT_TREE:
        *ret_size = strlen(drawn_tree(domain));
        return TRUE;
    case ENGINE_TEXT_LOG:
        *ret_size = domain->log_size;
        return TRUE;
    case ENGINE_TEXT_USAGE:
        *ret_size = domain->usage_size;
        return TRUE;
    default:
        return FALSE;
    }
}

static gboolean snapshot_text_size(const Snapshot *snapshot, EngineText text, guint64 *ret_size,
                                   gint64 *ret_time)
{
    *ret_time = text == ENGINE_TEXT_CHANGES ? snapshot->time : snapshot->xml_time;
    switch (text) {
    case ENGINE_TEXT_SNAPSHOT_XML:
        *ret_size = snapshot->xml_size;
        return TRUE;
    case ENGINE_TEXT_DESCRIPTION:
        *ret_size = description_size(snapshot);
        return TRUE;
    case ENGINE_TEXT_CHANGES:
        *ret_size = snapshot->changes_size;
        return TRUE;
    default:
        return FALSE;
    }
}

gboolean core_text_size(Engine *engine, EngineText text, EngineId id, guint64 *ret_size, gint64 *ret_time)
{
    Core *core = (Core *)engine;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    if (id == 0 && (text == ENGINE_TEXT_JOBS || text == ENGINE_TEXT_LOG)) {
        g_autofree char *jobs = text == ENGINE_TEXT_JOBS ? draw_jobs(core) : NULL;
        *ret_size = jobs ? strlen(jobs) : core->log_size;
        *ret_time = g_get_real_time() / G_USEC_PER_SEC;
        return TRUE;
    }
    Domain *domain = core_object(core, id, ENGINE_DOMAIN);
    if (domain) {
        *ret_time = domain->changed;
        return domain_text_size(domain, text, ret_size);
    }
    const Snapshot *snapshot = core_object(core, id, ENGINE_SNAPSHOT);
    return snapshot && snapshot_text_size(snapshot, text, ret_size, ret_time);
}

/* The file of the store that is the text, or NULL when the text is made here (into *ret_text). Under the lock. */
static char *text_file(Core *core, EngineText text, EngineId id, char **ret_text)
{
    Domain *domain = core_object(core, id, ENGINE_DOMAIN);
    const Snapshot *snapshot = core_object(core, id, ENGINE_SNAPSHOT);
    if (id == 0 && text == ENGINE_TEXT_JOBS)
        *ret_text = draw_jobs(core);
    else if (id == 0 && text == ENGINE_TEXT_LOG)
        return store_log_path(core->store, NULL);
    else if (domain && text == ENGINE_TEXT_TREE)
        *ret_text = g_strdup(drawn_tree(domain));
    else if (domain && text == ENGINE_TEXT_LOG)
        return store_log_path(core->store, domain->name);
    else if (domain && text == ENGINE_TEXT_DOMAIN_XML)
        return store_domain_file(core->store, domain->name, "domain.xml");
    else if (snapshot && text == ENGINE_TEXT_DESCRIPTION)
        *ret_text =
            description_size(snapshot) ? g_strconcat(snapshot->description, "\n", NULL) : g_strdup("");
    else if (snapshot && text == ENGINE_TEXT_SNAPSHOT_XML) {
        g_autofree char *file = store_snapshot_file(snapshot->name, ".xml");
        return store_domain_file(core->store, snapshot->domain->name, file);
    }
    return NULL;
}

static const char *state_word(RunState state)
{
    return state == RUN_RUNNING ? "running\n" : "paused\n";
}

/* Does somebody write an active layer of @domain? */
static gboolean is_written(Core *core, const Domain *domain)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        const Layer *layer = domain_active_layer(domain, disk);
        ImageUse use;
        if (layer && layer_is_local(layer) && !disk->readonly &&
            core->backend->ops->in_use(core->backend, layer->path, &use, NULL) && use == USE_WRITER)
            return TRUE;
    }
    return FALSE;
}

/*
 * The state of a machine that runs is told; until it is, as long as somebody writes its images, and not we, its monitor is asked.
 * That may take a moment: whoever reads it is in a thread of its own.
 */
static char *read_state(Core *core, EngineId id)
{
    g_autoptr(Machine) machine = NULL;
    g_mutex_lock(&core->lock);
    const Domain *shown = core_object(core, id, ENGINE_DOMAIN);
    RunState state = shown ? GPOINTER_TO_INT(g_hash_table_lookup(core->states, shown->def->uuid)) : RUN_OFF;
    const Job *job = shown ? g_hash_table_lookup(core->busy, shown->name) : NULL;
    gboolean busy = job != NULL, off = job && job->off;
    g_autoptr(Domain) domain = shown ? domain_copy(shown) : NULL;
    g_mutex_unlock(&core->lock);
    if (state == RUN_RUNNING || state == RUN_PAUSED)
        return g_strdup(state_word(state));
    if (state == RUN_UNKNOWN && !off)
        return g_strdup("unknown\n"); /* whoever asks may be waiting for an answer */
    if (domain && !busy && is_written(core, domain))
        return g_strdup(machines_find(core, domain, NULL, &machine, NULL) && machine &&
                                machine->ops->run_state(machine, &state, NULL)
                            ? state_word(state)
                            : "unknown\n");
    return g_strdup(domain && domain->saved.path ? "saved\n" : "shutoff\n");
}

/* Secrets are not for a read-only mount's readers (DESIGN 3). */
static char *without_secrets(char *text, gsize len)
{
    g_autoptr(DomainDef) def = domain_def_parse(text, len, NULL);
    g_autoptr(SnapshotDef) snapshot = def ? NULL : snapshot_def_parse(text, len, NULL);
    if (snapshot)
        snapshot_def_strip_secrets(snapshot);
    else if (def)
        domain_def_strip_secrets(def);
    g_free(text);
    return snapshot ? snapshot_def_format(snapshot) : def ? domain_def_format(def) : g_strdup("");
}

GBytes *core_text(Engine *engine, EngineText text, EngineId id, GCancellable *cancel, GError **error)
{
    Core *core = (Core *)engine;
    EngineLook look;
    char *made = text == ENGINE_TEXT_STATE ? read_state(core, id) : NULL;
    gsize len;
    if (figures_is_one(text)) {
        made = figures_text(core, text, id, cancel, error);
        return made ? g_bytes_new_take(made, strlen(made)) : NULL;
    }
    g_mutex_lock(&core->lock);
    g_autofree char *path = made ? NULL : text_file(core, text, id, &made);
    g_mutex_unlock(&core->lock);
    if (path && !file_load(path, STORE_LOG_MAX * 2, &made, &len, error)) {
        if (text != ENGINE_TEXT_LOG || file_exists(path))
            return NULL;
        g_clear_error(error); /* nothing was ever logged */
        made = g_strdup("");
    }
    if (!made) {
        snap_set_error(error, ENOENT, "it is gone");
        return NULL;
    }
    if (core->read_only && (text == ENGINE_TEXT_DOMAIN_XML || text == ENGINE_TEXT_SNAPSHOT_XML) &&
        core_look(engine, id, &look) && look.secret)
        made = without_secrets(made, len);
    return g_bytes_new_take(made, strlen(made));
}

/* Which file that is now, and who it was when it was made. Under the lock. NULL: there is none. */
static char *side_file_of(Core *core, EngineId id, EngineFile file, FileId *ret_id)
{
    const Snapshot *snapshot = core_object(core, id, ENGINE_SNAPSHOT);
    const SideFile *side = !snapshot                    ? NULL
                           : file == ENGINE_FILE_MEMORY ? &snapshot->memory_file
                                                        : &snapshot->screenshot;
    if (!side || !side->path || (file == ENGINE_FILE_MEMORY && snapshot->memory != MODE_EXTERNAL))
        return NULL;
    *ret_id = side->id;
    return store_side_file(core->store, snapshot->domain->name, side);
}

/* A picture is ours, or none. Memory may have been restored from a backup: a revert takes it then, so it is here as well. */
static gboolean is_it(EngineFile file, const char *path, const FileLook *look, const FileId *was)
{
    if (file_id_same(&look->id, was))
        return TRUE;
    g_autoptr(SaveImage) image = file == ENGINE_FILE_MEMORY ? saveimage_open(path, NULL) : NULL;
    return image != NULL;
}

static char *find_side_file(Core *core, EngineId id, EngineFile file, FileLook *ret_look)
{
    FileId was;
    g_mutex_lock(&core->lock);
    g_autofree char *path = side_file_of(core, id, file, &was);
    g_mutex_unlock(&core->lock);
    return path && file_look(path, ret_look, NULL) && is_it(file, path, ret_look, &was)
               ? g_steal_pointer(&path)
               : NULL;
}

gboolean core_stat_file(Engine *engine, EngineId id, EngineFile file, EngineStat *ret_stat)
{
    FileLook look;
    g_autofree char *path = find_side_file((Core *)engine, id, file, &look);
    if (!path)
        return FALSE;
    *ret_stat = (EngineStat){.size = look.stamp.size,
                             .blocks = look.blocks,
                             .mtime = {look.stamp.mtime_sec, look.stamp.mtime_nsec},
                             .nlink = 1};
    return TRUE;
}

int core_open_file(Engine *engine, EngineId id, EngineFile file, GError **error)
{
    FileLook look;
    g_autofree char *path = find_side_file((Core *)engine, id, file, &look);
    if (path)
        return file_open_image(path, O_RDONLY, error);
    snap_set_error(error, ENOENT, "it is gone");
    return -1;
}
