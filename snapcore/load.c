/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a domain from the store: documents and sidecars into the model. Whatever is wrong ends in domain->broken. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "backend.h"
#include "error.h"
#include "names.h"
#include "remote.h"
#include "store.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

/* A snapshot being loaded: parents are known only when all are read. */
typedef struct {
    Snapshot *snapshot;
    char *parent;
} Orphan;

static void orphan_clear(gpointer orphan)
{
    g_free(((Orphan *)orphan)->parent);
}

/* The first reason stays: later ones mostly follow from it. */
static void break_domain(Domain *domain, const char *where, const GError *why)
{
    g_autofree char *problem = where[0] == '/' && strstr(why->message, where)
                                   ? g_strdup(why->message)
                                   : g_strdup_printf("%s: %s", where, why->message);
    if (domain->problems)
        g_ptr_array_add(domain->problems, g_strdup(problem));
    if (!domain->broken)
        domain->broken = g_steal_pointer(&problem);
}

static json_t *read_json(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!file_load(path, STORE_JSON_MAX, &text, &len, error))
        return NULL;
    json_error_t why;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!json)
        snap_set_error(error, EINVAL, "'%s', line %d: %s", path, why.line, why.text);
    return json;
}

/* What is not as the format says is not known: it will be looked at. */
static GPtrArray *load_tags(json_t *json)
{
    g_autoptr(GPtrArray) tags = image_tags_new();
    size_t i;
    json_t *each;
    if (!json_is_array(json))
        return NULL;
    json_array_foreach (json, i, each) {
        const char *id, *name;
        json_int_t sec;
        if (json_unpack(each, "[s, s, I]", &id, &name, &sec) < 0)
            return NULL;
        ImageTag *tag = g_new0(ImageTag, 1);
        tag->id = g_strdup(id);
        tag->name = g_strdup(name);
        tag->date_sec = (guint64)sec;
        g_ptr_array_add(tags, tag);
    }
    return g_steal_pointer(&tags);
}

static gboolean load_frozen(Layer *layer, json_t *frozen)
{
    json_int_t size, sec, nsec, blocks;
    json_t *tags = NULL;
    int mode;
    if (json_unpack(frozen, "{s:I, s:[I, I], s:i, s:I, s?o}", "size", &size, "mtime", &sec, &nsec, "mode",
                    &mode, "blocks", &blocks, "tags", &tags) < 0)
        return FALSE;
    layer->tags = load_tags(tags);
    layer->frozen = TRUE;
    layer->stamp = (FileStamp){.size = (guint64)size, .mtime_sec = sec, .mtime_nsec = (guint32)nsec};
    layer->mode = (guint)mode & 07777;
    layer->blocks = (guint64)blocks;
    return TRUE;
}

static gboolean load_layer(Domain *domain, Snapshot *home, json_t *json)
{
    const char *path, *format_word, *type_word = "file", *backing = NULL, *backing_word = NULL, *stem = NULL;
    json_t *file = NULL, *frozen = NULL, *stale = NULL;
    int made = FALSE, released = FALSE, detached = FALSE, template = FALSE, mixed = FALSE;
    ImageFormat format, backing_format = FORMAT_NONE;
    DiskType type;
    if (json_unpack(json, "{s:s, s:s, s?s, s?s, s?s, s?o, s?b, s?b, s?b, s?b, s?b, s?s, s?o, s?o}", "path",
                    &path, "format", &format_word, "type", &type_word, "backing", &backing, "backing_format",
                    &backing_word, "file", &file, "made", &made, "released", &released, "detached", &detached,
                    "template", &template, "mixed", &mixed, "stem", &stem, "frozen", &frozen, "stale",
                    &stale) < 0 ||
        !image_format_from_string(format_word, &format) || !disk_type_from_string(type_word, &type) ||
        !(type == DISK_NETWORK ? remote_is_uri(path) : g_path_is_absolute(path)) ||
        (backing && !image_format_from_string(backing_word, &backing_format)))
        return FALSE;
    Layer *layer = domain_take_layer(domain, path, format);
    layer->type = type;
    layer->format = format;
    layer->backing = g_strdup(backing);
    layer->backing_format = backing_format;
    layer->made = made;
    layer->released = released;
    layer->detached = detached;
    layer->template = template;
    layer->mixed = mixed;
    layer->stem = g_strdup(stem);
    layer->home = home;
    json_int_t ino, sec, nsec;
    if (file && json_unpack(file, "[I, I, I]", &ino, &sec, &nsec) == 0)
        layer->file = (FileId){.ino = (guint64)ino, .birth_sec = sec, .birth_nsec = (guint32)nsec};
    for (size_t i = 0; i < json_array_size(stale); i++)
        if (json_is_string(json_array_get(stale, i)))
            g_ptr_array_add(layer->stale, g_strdup(json_string_value(json_array_get(stale, i))));
    return !frozen || load_frozen(layer, frozen);
}

static gboolean load_layers(Domain *domain, Snapshot *home, json_t *layers)
{
    size_t i;
    json_t *layer;
    json_array_foreach (layers, i, layer)
        if (!load_layer(domain, home, layer))
            return FALSE;
    return TRUE;
}

/* The head of a snapshot's document. */
static Snapshot *load_document(Domain *domain, const char *path, GArray *orphans, GError **error)
{
    g_autofree char *text = NULL;
    gsize len;
    FileLook look;
    if (!file_look(path, &look, error) || !file_load(path, STORE_TEXT_MAX, &text, &len, error))
        return NULL;
    g_autoptr(SnapshotDef) def = snapshot_def_parse_head(text, len, error);
    if (!def)
        return NULL;
    if (domain_find_snapshot(domain, def->name)) {
        snap_set_error(error, EEXIST, "a second snapshot is called '%s'", def->name);
        return NULL;
    }
    Snapshot *snapshot = domain_add_snapshot(domain, def->name, def->creation_time);
    snapshot->description = g_strdup(def->description);
    snapshot->state = def->state;
    snapshot->memory = def->memory;
    snapshot->xml_size = len;
    snapshot->xml_time = look.stamp.mtime_sec;
    snapshot->reverted = strstr(text, "<revertDisks>") != NULL;
    snapshot->secret = strstr(text, " passwd=") != NULL; /* the definition itself is not parsed here */
    Orphan orphan = {snapshot, g_strdup(def->parent)};
    g_array_append_val(orphans, orphan);
    return snapshot;
}

/* What is not as the format says is not there: whoever needs the file says so. */
static void load_side_file(SideFile *file, json_t *json)
{
    const char *path;
    int made;
    json_int_t ino, sec, nsec;
    if (!json ||
        json_unpack(json, "{s:s, s:[I, I, I], s:b}", "path", &path, "file", &ino, &sec, &nsec, "made",
                    &made) < 0 ||
        !(g_path_is_absolute(path) ||
          (g_str_has_prefix(path, STORE_FILES "/") && !strchr(path + strlen(STORE_FILES "/"), '/'))))
        return;
    const FileId id = {.ino = (guint64)ino, .birth_sec = sec, .birth_nsec = (guint32)nsec};
    side_file_set(file, path, &id, made);
}

static void load_side_files(Snapshot *snapshot, json_t *json)
{
    load_side_file(&snapshot->memory_file, json_object_get(json, "memory"));
    load_side_file(&snapshot->nvram, json_object_get(json, "nvram"));
    load_side_file(&snapshot->screenshot, json_object_get(json, "screenshot"));
    snapshot->memory_tag = g_strdup(json_string_value(json_object_get(json, "memory_tag")));
}

/* Its sidecar: layers first (they may be referred to by others), the references in a second pass. */
static gboolean load_snapshot_layers(Domain *domain, Snapshot *snapshot, json_t *json, GError **error)
{
    json_t *layers = json_object_get(json, "layers");
    snapshot->order = (guint64)json_integer_value(json_object_get(json, "order"));
    domain->last_order = MAX(domain->last_order, snapshot->order);
    load_side_files(snapshot, json);
    if (json_is_array(layers) && load_layers(domain, snapshot, layers))
        return TRUE;
    snap_set_error(error, EINVAL, "its layers are not as the format says");
    return FALSE;
}

static gboolean load_snapshot_disks(Domain *domain, Snapshot *snapshot, json_t *json, GError **error)
{
    size_t i;
    json_t *disk;
    json_array_foreach (json_object_get(json, "disks"), i, disk) {
        const char *target, *path, *tag = NULL;
        Layer *layer;
        if (json_unpack(disk, "{s:s, s:s, s?s}", "target", &target, "layer", &path, "tag", &tag) < 0 ||
            !(layer = domain_find_layer(domain, path))) {
            snap_set_error(error, EINVAL, "disk %zu refers to a layer that is not recorded", i);
            return FALSE;
        }
        snapshot_add_disk(snapshot, target, layer, tag);
    }
    return TRUE;
}

static void load_undo(Domain *domain, json_t *json, const char *where)
{
    json_t *undo = json_object_get(json, "undo");
    g_autoptr(GError) why = NULL;
    if (!undo)
        return;
    const char *current = json_string_value(json_object_get(undo, "current"));
    domain_new_undo(domain)->parent = current ? domain_find_snapshot(domain, current) : NULL;
    load_side_file(&domain->undo->nvram, json_object_get(undo, "nvram"));
    if (!load_snapshot_disks(domain, domain->undo, undo, &why))
        break_domain(domain, where, why);
}

/* What is not as the format says is passed over: it is rubbish at worst. */
static void load_leftovers(Domain *domain, json_t *json)
{
    size_t i;
    json_t *leftover;
    json_array_foreach (json_object_get(json, "leftovers"), i, leftover) {
        const char *path;
        json_int_t ino, sec, nsec;
        if (json_unpack(leftover, "{s:s, s:[I, I, I]}", "path", &path, "file", &ino, &sec, &nsec) < 0)
            continue;
        const FileId id = {.ino = (guint64)ino, .birth_sec = sec, .birth_nsec = (guint32)nsec};
        domain_add_leftover(domain, path, &id);
    }
}

/* One snapshot of the list: its document, and its sidecar kept for the second pass in @sidecars. */
static void load_snapshot(Domain *domain, const char *base, GArray *orphans, GHashTable *sidecars)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = g_strconcat(base, ".xml", NULL);
    g_autofree char *side = g_strconcat(base, ".json", NULL);
    Snapshot *snapshot = load_document(domain, xml, orphans, &why);
    if (!snapshot) {
        break_domain(domain, xml, why);
        return;
    }
    json_t *json = read_json(side, &why);
    if (json && load_snapshot_layers(domain, snapshot, json, &why)) {
        g_hash_table_insert(sidecars, snapshot, json);
        return;
    }
    break_domain(domain, side, why);
    json_decref(json);
}

/* Parents by name; a missing one or a loop leaves roots and a read-only domain. */
static void join_tree(Domain *domain, GArray *orphans)
{
    for (guint i = 0; i < orphans->len; i++) {
        const Orphan *orphan = &g_array_index(orphans, Orphan, i);
        if (!orphan->parent)
            continue;
        Snapshot *parent = domain_find_snapshot(domain, orphan->parent);
        if (parent && !snapshot_descends(parent, orphan->snapshot)) {
            orphan->snapshot->parent = parent;
            continue;
        }
        g_autoptr(GError) why = NULL;
        snap_set_error(&why, EINVAL, "its parent '%s' %s", orphan->parent,
                       parent ? "descends from it" : "is missing");
        break_domain(domain, orphan->snapshot->name, why);
    }
}

static gboolean load_snapshots(Domain *domain, const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "snapshots", NULL);
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) entries = g_dir_open(path, 0, &why);
    if (!entries) {
        if (snap_errno(why) == ENOENT)
            return TRUE;
        snap_set_error(error, snap_errno(why), "%s", why->message);
        return FALSE;
    }
    g_autoptr(GArray) orphans = g_array_new(FALSE, FALSE, sizeof(Orphan));
    g_array_set_clear_func(orphans, orphan_clear);
    g_autoptr(GHashTable) sidecars = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)json_decref);
    const char *entry;
    while ((entry = g_dir_read_name(entries))) {
        if (!g_str_has_suffix(entry, ".xml"))
            continue;
        g_autofree char *base = g_build_filename(path, entry, NULL);
        base[strlen(base) - strlen(".xml")] = '\0';
        load_snapshot(domain, base, orphans, sidecars);
    }
    domain_sort_snapshots(domain); /* readdir's order is no order */
    join_tree(domain, orphans);

    GHashTableIter iter;
    gpointer snapshot, json;
    g_hash_table_iter_init(&iter, sidecars);
    while (g_hash_table_iter_next(&iter, &snapshot, &json)) {
        g_clear_error(&why);
        if (!load_snapshot_disks(domain, snapshot, json, &why))
            break_domain(domain, ((Snapshot *)snapshot)->name, why);
    }
    return TRUE;
}

/* What cannot be read, or is of another machine, is as good as nothing: a machine that runs may do without. */
static void load_live(Domain *domain, const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "live.xml", NULL);
    g_autofree char *text = NULL;
    gsize len;
    g_autoptr(DomainDef) live =
        file_load(path, STORE_TEXT_MAX, &text, &len, NULL) ? domain_def_parse(text, len, NULL) : NULL;
    if (live && strcmp(live->uuid, domain->def->uuid) == 0)
        domain->live = g_steal_pointer(&live);
}

static gboolean load_definition(Domain *domain, const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "domain.xml", NULL);
    g_autofree char *text = NULL;
    gsize len;
    FileLook look;
    if (!file_look(path, &look, error) || !file_load(path, STORE_TEXT_MAX, &text, &len, error))
        return FALSE;
    domain->def = domain_def_parse(text, len, error);
    if (!domain->def) {
        g_prefix_error(error, "'%s': ", path);
        return FALSE;
    }
    domain->xml_size = len;
    domain->changed = look.stamp.mtime_sec;
    load_live(domain, dir);
    return TRUE;
}

/* A disc in a drive may be changed at any time. */
static gboolean is_medium(const Domain *domain, const Layer *layer)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        if (disk->readonly && domain_active_layer(domain, disk) == layer)
            return TRUE;
    }
    return FALSE;
}

char *store_changed_since_import(const Domain *domain, const Layer *layer, const FileLook *look)
{
    const char *how = NULL;
    if (!domain->libvirt || !file_id_known(&layer->file) || (!layer->frozen && is_medium(domain, layer)))
        return NULL;
    if (!look)
        how = "is gone";
    else if (!file_id_same(&layer->file, &look->id))
        how = "is another file";
    else if (layer->frozen && !look->block && !file_stamp_equal(&layer->stamp, &look->stamp))
        how = "was changed";
    return how ? g_strdup_printf("'%s' %s since the import: import it again", layer->path, how) : NULL;
}

/* What the file of @layer is now, against what is recorded. */
static void check_layer(Domain *domain, Layer *layer)
{
    FileLook look;
    if (!layer_is_local(layer))
        return;
    gboolean there = file_look(layer->path, &look, NULL);
    if (!domain->broken)
        domain->broken = store_changed_since_import(domain, layer, there ? &look : NULL);
    if (!there) {
        layer->file = (FileId){0}; /* missing: said in log and tree */
        return;
    }
    if (layer->made && !file_id_same(&layer->file, &look.id))
        layer->made = FALSE; /* restored from a backup, say: not the file we made, so not ours to unlink */
    layer->file = look.id;
    layer->type = look.block ? DISK_BLOCK : DISK_FILE;
    if (layer_changed(layer, &look) && !domain->broken)
        domain->broken = g_strdup_printf("'%s' was changed from outside: snapshots stand on it", layer->path);
}

void store_check_layers(Domain *domain)
{
    GHashTableIter iter;
    gpointer layer;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        check_layer(domain, layer);
}

/* Where an imported domain came from; @json NULL: it was not imported. */
static gboolean load_libvirt(Domain *domain, json_t *json)
{
    const char *definition, *snapshots = NULL;
    if (!json)
        return TRUE;
    if (json_unpack(json, "{s:s, s?s}", "definition", &definition, "snapshots", &snapshots) < 0 ||
        !g_path_is_absolute(definition) || (snapshots && !g_path_is_absolute(snapshots)))
        return FALSE;
    domain->libvirt = g_strdup(definition);
    domain->libvirt_snapshots = g_strdup(snapshots);
    return TRUE;
}

/* The domain's sidecar. What another version means by it is not known. */
static json_t *read_sidecar(const char *path, GError **error)
{
    json_t *json = read_json(path, error);
    if (!json || json_integer_value(json_object_get(json, "version")) == 1)
        return json;
    snap_set_error(error, EINVAL, "its version is not one that this program knows");
    json_decref(json);
    return NULL;
}

static void load_current(Domain *domain, json_t *current, const char *where)
{
    g_autoptr(GError) why = NULL;
    if (!current || json_is_null(current))
        return;
    if (!json_is_string(current)) {
        snap_set_error(&why, EINVAL, "its current snapshot is not as the format says");
        break_domain(domain, where, why);
        return;
    }
    domain->current = domain_find_snapshot(domain, json_string_value(current));
    if (!domain->current && !domain->broken)
        domain->broken =
            g_strdup_printf("'%s': the current snapshot '%s' is missing", where, json_string_value(current));
}

/* All but the definition, into @domain. */
static gboolean load_rest(Domain *domain, const char *dir, GError **error)
{
    g_autofree char *side = g_build_filename(dir, "domain.json", NULL);
    g_autofree char *log = g_build_filename(dir, "log", NULL);
    g_autoptr(GError) why = NULL;
    g_autoptr(json_t) json = read_sidecar(side, &why);
    json_t *layers = json_object_get(json, "layers");
    if (json && !(json_is_array(layers) && load_layers(domain, NULL, layers)))
        snap_set_error(&why, EINVAL, "its layers are not as the format says");
    else if (json && !load_libvirt(domain, json_object_get(json, "libvirt")))
        snap_set_error(&why, EINVAL, "what it says of libvirt is not as the format says");
    if (why)
        break_domain(domain, side, why);
    if (!load_snapshots(domain, dir, error))
        return FALSE;

    load_undo(domain, json, side);
    load_leftovers(domain, json);
    load_side_file(&domain->saved, json_object_get(json, "saved"));
    domain->live_process = g_strdup(json_string_value(json_object_get(json, "process")));
    load_current(domain, json_object_get(json, "current"), side);
    FileLook look;
    if (file_look(log, &look, NULL))
        domain->log_size = look.stamp.size;
    return TRUE;
}

Domain *store_load(const Store *store, const char *name, EngineId id, GError **error)
{
    g_autofree char *dir = store_domain_dir(store, name);
    g_autoptr(Domain) domain = domain_new(id, name);
    return load_definition(domain, dir, error) && load_rest(domain, dir, error) ? g_steal_pointer(&domain)
                                                                                : NULL;
}

Domain *store_load_all(const Store *store, const char *name, EngineId id, GPtrArray *problems)
{
    static const char nothing[] = "<domain type='kvm'><name>nothing</name></domain>";
    g_autofree char *dir = store_domain_dir(store, name);
    g_autoptr(GError) why = NULL, unlisted = NULL;
    Domain *domain = domain_new(id, name);
    domain->problems = problems;
    if (!load_definition(domain, dir, &why)) {
        break_domain(domain, dir, why);
        domain->def = domain_def_parse(nothing, strlen(nothing), NULL);
        domain_def_set_name(domain->def, name);
    }
    if (!load_rest(domain, dir, &unlisted))
        break_domain(domain, dir, unlisted);
    domain->problems = NULL;
    return domain;
}
