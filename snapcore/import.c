/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "import.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "admit.h"
#include "adopt.h"
#include "chain.h"
#include "error.h"
#include "import_tree.h"
#include "libvirt_dirs.h"
#include "overlay.h"
#include "state.h"

/* One domain on its way in. */
typedef struct {
    Core *core;
    Domain *domain;
    EngineId old;      /* the same from an earlier import; 0: none */
    GPtrArray *said;   /* what was left out */
    GPtrArray *writes; /* of StoreWrite */
} Import;

static void say(Import *import, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(Import *import, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(import->said, g_strdup_vprintf(format, args));
    va_end(args);
}

static void add_write(Import *import, const char *file, const char *text)
{
    g_ptr_array_add(import->writes, store_write_new(file, text));
}

/* --- is there room for it --- */

/* The domain of the store that has the uuid, or NULL. Nobody else uses the engine: no lock. */
static const Domain *find_uuid(Core *core, const char *uuid)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, core->domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (strcmp(((Domain *)value)->def->uuid, uuid) == 0)
            return value;
    return NULL;
}

static gboolean find_old(Core *core, const DomainDef *def, EngineId *ret_old, GError **error)
{
    const Domain *known = find_uuid(core, def->uuid);
    const Domain *namesake = g_hash_table_lookup(core->by_name, def->name);
    if (known && !known->libvirt)
        snap_set_error(error, EEXIST,
                       "the store has it already, as '%s', and not from libvirt: nothing was changed",
                       known->name);
    else if (known && known->stuck)
        snap_set_error(error, EROFS, "%s", known->broken);
    else if (namesake && namesake != known)
        snap_set_error(error, EEXIST, "the store has another domain of that name, with the uuid '%s'",
                       namesake->def->uuid);
    else {
        *ret_old = known ? known->object.id : 0;
        return TRUE;
    }
    return FALSE;
}

/* --- definition --- */

/* The images of the definition. None of them is touched; that a guest may write them matters once it is adopted. */
static gboolean take_definition(Import *import, DomainDef *def, GError **error)
{
    Core *core = import->core;
    import->domain->def = domain_def_copy(def);
    def = import->domain->def;
    for (guint i = 0; i < def->disks->len; i++) {
        DiskDef *disk = def->disks->pdata[i];
        if ((disk->type != DISK_FILE && disk->type != DISK_BLOCK) || !disk->source)
            continue;
        if (!admit_path(core, def, disk, error) ||
            (!disk->readonly && !admit_writing(core, import->old, FALSE, disk->source, error)) ||
            !chain_record(core, import->domain, disk, error)) {
            g_prefix_error(error, "disk '%s': ", disk->target);
            return FALSE;
        }
    }
    return TRUE;
}

/* --- snapshots --- */

static gboolean take_states(Import *import, Snapshot *snapshot, SnapshotDef *def, GError **error)
{
    for (guint i = 0; i < def->disks->len && def->domain; i++) {
        const SnapshotDisk *disk = def->disks->pdata[i];
        if (disk->mode != MODE_INTERNAL && disk->mode != MODE_EXTERNAL)
            continue;
        Layer *layer = state_layer(import->core, import->domain, def->domain, disk->name, error);
        if (!layer)
            return FALSE;
        snapshot_add_disk(snapshot, disk->name, layer, disk->mode == MODE_INTERNAL ? def->name : NULL);
        layer->frozen |=
            disk->mode == MODE_EXTERNAL; /* known: the chains that stand on it need not look again */
    }
    if (def->domain)
        return TRUE;
    state_find_tags(import->core, snapshot);
    if (snapshot->disks->len == 0)
        say(import, "snapshot '%s' has no whole <domain>, and no image has an internal snapshot of that name",
            snapshot->name);
    return TRUE;
}

static gboolean check_document(const Import *import, const SnapshotDef *def, const char *name, GError **error)
{
    const char *uuid = def->domain ? def->domain->uuid : def->domain_uuid;
    if (strcmp(def->name, name) != 0) /* it was read before, for the tree */
        snap_set_error(error, EBUSY, "its file changes at this moment");
    else if (g_strcmp0(uuid, import->domain->def->uuid) != 0)
        snap_set_error(error, EINVAL, "its document is about the domain with the uuid '%s'",
                       uuid ? uuid : "");
    else
        return TRUE;
    return FALSE;
}

static Snapshot *add_snapshot(Import *import, const ImportNode *node, GError **error)
{
    Domain *domain = import->domain;
    g_autoptr(SnapshotDef) def = libvirt_read_snapshot(node->file->path, error);
    if (!def || !check_document(import, def, node->file->name, error))
        return NULL;
    Snapshot *snapshot = domain_add_snapshot(domain, def->name, def->creation_time);
    snapshot->description = g_strdup(def->description);
    snapshot->state = def->state;
    snapshot_set_memory(snapshot, def->memory, def->memory_file);
    snapshot->parent = import_node_parent(node);
    g_autofree char *xml =
        take_states(import, snapshot, def, error) ? op_snapshot_text(snapshot, def, error) : NULL;
    if (!xml) {
        domain_remove_snapshot(domain, snapshot);
        return NULL;
    }
    g_autofree char *file = store_snapshot_file(snapshot->name, ".xml");
    add_write(import, file, xml);
    return snapshot;
}

static void add_snapshots(Import *import, const LibvirtDirs *dirs)
{
    g_autoptr(GPtrArray) files = libvirt_dirs_snapshots(dirs, import->domain->name, import->said);
    g_autoptr(ImportTree) tree = import_tree_new(files, import->said);
    for (guint i = 0; i < tree->nodes->len; i++) {
        ImportNode *node = tree->nodes->pdata[i];
        g_autoptr(GError) why = NULL;
        node->snapshot = add_snapshot(import, node, &why);
        if (!node->snapshot)
            say(import, "snapshot '%s': %s: skipped", node->file->name, why->message);
    }
    const ImportNode *current = tree->current;
    import->domain->current = !current            ? NULL
                              : current->snapshot ? current->snapshot
                                                  : import_node_parent(current);
}

/* --- layers --- */

static gboolean is_written(const Domain *domain, const Layer *layer)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        if (!disk->readonly && domain_active_layer(domain, disk) == layer)
            return TRUE;
    }
    return FALSE;
}

/* The first snapshot that shows a layer records it. */
static void settle_homes(Domain *domain)
{
    for (guint i = 0; i < domain->snapshots->len; i++) {
        Snapshot *snapshot = domain->snapshots->pdata[i];
        for (guint k = 0; k < snapshot->disks->len; k++) {
            const StateDisk *disk = snapshot->disks->pdata[k];
            if (!disk->tag && disk->layer->frozen && !disk->layer->home)
                disk->layer->home = snapshot;
        }
    }
}

/* Record @layer as it must stay from now on. */
static gboolean freeze(Layer *layer)
{
    FileLook look;
    if (!file_id_known(&layer->file) || !file_look(layer->path, &look, NULL))
        return FALSE;
    layer->file = look.id;
    layer->stamp = look.stamp;
    layer->blocks = look.blocks;
    layer->mode = overlay_active_mode(look.mode);
    return TRUE;
}

/* The files stay as they are. */
static void record_frozen(Import *import)
{
    Domain *domain = import->domain;
    g_autoptr(GPtrArray) unused G_GNUC_UNUSED =
        domain_prune_layers(domain); /* of snapshots that were skipped */
    g_autoptr(GHashTable) needed = domain_needed_layers(domain);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Layer *layer = value;
        gboolean is_needed = g_hash_table_contains(needed, layer);
        gboolean written = is_needed && is_written(domain, layer);
        if (written)
            say(import,
                "states of snapshots stand on '%s', which the domain writes: it can only be looked at",
                layer->path);
        layer->frozen = is_needed && !written && freeze(layer);
    }
    settle_homes(domain);
}

/* Nothing that keeps the domain out, but better known before libvirt is told to forget it. */
static void say_missing(Import *import)
{
    g_autoptr(GPtrArray) missing = domain_missing_images(import->domain);
    for (guint i = 0; i < missing->len; i++)
        say(import, "missing image: '%s'", (const char *)missing->pdata[i]);
}

/* --- into the store --- */

static gboolean write_texts(Import *import, const char *old_name, GError **error)
{
    Domain *domain = import->domain;
    g_autofree char *xml = op_definition_text(domain->def, error);
    g_autofree char *json = store_domain_json(domain);
    if (!xml)
        return FALSE;
    domain->xml_size = strlen(xml);
    add_write(import, "domain.xml", xml);
    add_write(import, "domain.json", json);
    for (guint i = 0; i < domain->snapshots->len; i++) {
        const Snapshot *snapshot = domain->snapshots->pdata[i];
        g_autofree char *file = store_snapshot_file(snapshot->name, ".json");
        g_autofree char *text = store_snapshot_json(snapshot);
        add_write(import, file, text);
    }
    g_autofree char *log = NULL;
    g_autofree char *path = old_name ? store_log_path(import->core->store, old_name) : NULL;
    if (path && file_load(path, STORE_LOG_MAX * 2, &log, NULL, NULL))
        add_write(import, "log", log);
    return TRUE;
}

static gboolean put_into_store(Import *import, GError **error)
{
    const Store *store = import->core->store;
    const char *name = import->domain->name;
    const Domain *old = g_hash_table_lookup(import->core->domains, &import->old);
    if (!write_texts(import, old ? old->name : NULL, error))
        return FALSE;
    if (!old)
        return store_add_domain(store, name, import->writes, error);
    /* libvirt calls it something else by now. A crash in between leaves what there was, under the new name. */
    if (strcmp(old->name, name) != 0 && !store_rename_domain(store, old->name, name, error))
        return FALSE;
    return store_replace_domain(store, name, import->writes, error);
}

static void log_import(Import *import, const char *name, const char *summary)
{
    core_log(import->core, name, "import from libvirt: %s", summary);
    for (guint i = 0; i < import->said->len; i++)
        core_log(import->core, name, "import from libvirt: %s", (const char *)import->said->pdata[i]);
}

static char *summary_of(const Domain *domain)
{
    guint n = domain->snapshots->len;
    g_autofree char *current = domain->current ? g_strdup_printf(", current '%s'", domain->current->name)
                                               : g_strdup(", no current one");
    return n == 0 ? g_strdup("no snapshots")
                  : g_strdup_printf("%u snapshot%s%s", n, n == 1 ? "" : "s", current);
}

/* *ret_summary: of what is in the store now. Caller frees. */
static gboolean import_domain(Import *import, const LibvirtDirs *dirs, const LibvirtDomain *file,
                              char **ret_summary, GError **error)
{
    Core *core = import->core;
    if (!find_old(core, file->def, &import->old, error))
        return FALSE;
    import->domain = domain_new(core_next_domain_id(core), file->def->name);
    import->domain->changed = time(NULL);
    import->domain->libvirt = g_strdup(file->path);
    import->domain->libvirt_snapshots = libvirt_dirs_snapshots_of(dirs, file->def->name);
    if (!take_definition(import, file->def, error))
        return FALSE;
    add_snapshots(import, dirs);
    record_frozen(import);
    say_missing(import);
    if (!put_into_store(import, error))
        return FALSE;
    *ret_summary = summary_of(import->domain);
    EngineId id = import->domain->object.id;
    g_autoptr(GError) held = NULL;
    core_hide(core, import->old);
    core_show(core, g_steal_pointer(&import->domain));
    log_import(import, file->def->name, *ret_summary);
    if (!adopt_check_released(g_hash_table_lookup(core->domains, &id), &held))
        core_note_held(core, id, held->message);
    return TRUE;
}

typedef struct {
    ImportTell tell;
    gpointer user;
} Teller;

/* One line a sentence, whatever names and paths hold. */
static void tell(const Teller *teller, gboolean bad, const char *name, const char *text)
{
    g_autofree char *sentence = g_strdup_printf("%s%s%s", name ? name : "", name ? ": " : "", text);
    g_autofree char *line = g_utf8_make_valid(sentence, -1);
    for (char *p = line; *p; p++)
        *p = g_ascii_iscntrl(*p) ? ' ' : *p;
    teller->tell(teller->user, bad, line);
}

static void import_one(Core *core, const LibvirtDirs *dirs, const LibvirtDomain *file, const Teller *teller)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *summary = NULL;
    Import import = {.core = core,
                     .said = g_ptr_array_new_with_free_func(g_free),
                     .writes = g_ptr_array_new_with_free_func((GDestroyNotify)store_write_free)};
    const char *name = file->def->name;
    gboolean ok = import_domain(&import, dirs, file, &summary, &why);
    for (guint i = 0; i < import.said->len; i++)
        tell(teller, TRUE, name, import.said->pdata[i]);
    if (!ok)
        core_log(core, NULL, "FAILED import from libvirt: %s: %s", name, why->message);
    tell(teller, !ok, name, ok ? summary : why->message);
    domain_free(import.domain);
    g_ptr_array_unref(import.said);
    g_ptr_array_unref(import.writes);
}

gboolean import_libvirt(Engine *engine, const char *dir, ImportTell function, gpointer user, GError **error)
{
    Core *core = (Core *)engine;
    const Teller teller = {function, user};
    g_autoptr(GPtrArray) said = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(LibvirtDirs) dirs = libvirt_dirs_find(dir, error);
    g_autoptr(GPtrArray) domains = dirs ? libvirt_dirs_domains(dirs, said, error) : NULL;
    if (!domains)
        return FALSE;
    for (guint i = 0; i < said->len; i++) {
        tell(&teller, TRUE, NULL, said->pdata[i]);
        core_log(core, NULL, "import from libvirt: %s", (const char *)said->pdata[i]);
    }
    for (guint i = 0; i < domains->len; i++)
        import_one(core, dirs, domains->pdata[i], &teller);
    g_autofree char *nothing = g_strdup_printf("no domain is defined in '%s'", dirs->definitions);
    if (domains->len == 0)
        tell(&teller, FALSE, NULL, nothing);
    return TRUE;
}
