/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Domains come, change, get another name and go. Images are looked at, never touched. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "admit.h"
#include "chain.h"
#include "error.h"
#include "machines.h"
#include "mark.h"
#include "names.h"
#include "strays.h"
#include "undo.h"

/* --- images of a definition --- */

/* The format of a layer whose content is recorded is no matter of opinion. */
static gboolean check_format(const Domain *domain, const DiskDef *disk, GError **error)
{
    Layer *layer = domain_active_layer(domain, disk);
    ImageFormat said = disk->format == FORMAT_NONE ? FORMAT_RAW : disk->format;
    if (!layer || layer->format == said)
        return TRUE;
    if (!layer->made && !layer->frozen) {
        layer->format = said; /* corrected by hand; looked at again in a moment */
        return TRUE;
    }
    snap_set_error(error, EINVAL, "'%s' is of type %s, not %s", layer->path,
                   image_format_to_string(layer->format), image_format_to_string(said));
    return FALSE;
}

/* Take the images of @def into @domain, whose definition it becomes. */
static gboolean take_definition(Op *op, Domain *domain, DomainDef *def, GError **error)
{
    Core *core = op->core;
    domain_def_free(domain->def);
    domain->def = def;
    for (guint i = 0; i < def->disks->len; i++) {
        DiskDef *disk = def->disks->pdata[i];
        if ((disk->type != DISK_FILE && disk->type != DISK_BLOCK) || !disk->source)
            continue;
        if (!admit_path(core, def, disk, error) ||
            (!disk->readonly && !op_reserve_image(op, disk->source, error)) ||
            (!disk->readonly && !admit_writing(core, domain->object.id, TRUE, disk->source, error)) ||
            !check_format(domain, disk, error) || !chain_record(core, domain, disk, error)) {
            g_prefix_error(error, "disk '%s': ", disk->target);
            return FALSE;
        }
    }
    return TRUE;
}

/* --- define --- */

/* Which domain the document is about: 0, a new one. EEXIST when name and uuid do not belong together. */
static gboolean find_domain(Core *core, const DomainDef *def, EngineId redefine, EngineId *ret_id,
                            GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const Domain *by_name = g_hash_table_lookup(core->by_name, def->name);
    const Domain *by_uuid = NULL;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, core->domains);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (strcmp(((Domain *)value)->def->uuid, def->uuid) == 0)
            by_uuid = value;
    EngineId id = by_uuid ? by_uuid->object.id : 0;
    if (redefine && id != redefine)
        snap_set_error(error, EINVAL, "the document's uuid '%s' is not this domain's", def->uuid);
    else if (redefine && by_name != by_uuid)
        snap_set_error(error, EINVAL, "the name is changed with mv, not in the document");
    else if (by_name != by_uuid && by_name)
        snap_set_error(error, EEXIST, "domain '%s' exists already with the uuid '%s'", def->name,
                       by_name->def->uuid);
    else if (by_name != by_uuid)
        snap_set_error(error, EEXIST, "the uuid '%s' is that of the domain '%s'", def->uuid, by_uuid->name);
    else {
        *ret_id = id;
        return TRUE;
    }
    return FALSE;
}

/* Fine to look at; its snapshots will be refused. */
static void log_foreign(Core *core, const Domain *domain)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        g_autoptr(GError) why = NULL;
        if (disk->source && !disk->readonly && !mark_check(core->store, disk->source, &why))
            core_log(core, domain->name, "disk '%s': %s", disk->target, why->message);
    }
}

/* Nobody's any more: another store may take them. What another domain of this one has stays. */
static void clear_marks(Core *core, const Domain *domain)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        g_autofree char *other = NULL;
        if (layer_is_local(layer) &&
            !core_used_elsewhere(core, domain->object.id, layer->path, &layer->file, FALSE, &other))
            mark_clear(core->store, layer->path);
    }
}

static gboolean add_domain(Core *core, DomainDef *taken, GCancellable *cancel, EngineId *ret_domain,
                           GError **error)
{
    g_autoptr(DomainDef) def = taken;
    g_autofree char *name = g_strdup(def->name);
    g_autoptr(GPtrArray) writes = g_ptr_array_new_with_free_func((GDestroyNotify)store_write_free);
    if (!name_check_new(name, NAME_DOMAIN, error))
        return FALSE;
    g_autoptr(Op) op = op_begin_name(core, name, cancel, error, "define '%s'", name);
    /* The uuid is taken too (a name has no slash): two at once with one uuid must not both appear. */
    g_autofree char *uuid = g_strconcat("/", def->uuid, NULL);
    EngineId known;
    if (!op || !op_take_name(op, uuid, error) || !find_domain(core, def, 0, &known, error))
        return FALSE;
    g_autoptr(Domain) domain = domain_new(core_next_domain_id(core), name);
    if (!take_definition(op, domain, g_steal_pointer(&def), error))
        return FALSE;
    g_autofree char *xml = op_definition_text(domain->def, error);
    g_autofree char *json = store_domain_json(domain);
    if (!xml)
        return FALSE;
    g_ptr_array_add(writes, store_write_new("domain.xml", xml));
    g_ptr_array_add(writes, store_write_new("domain.json", json));
    if (!store_add_domain(core->store, name, writes, error))
        return FALSE;
    domain->xml_size = strlen(xml);
    domain->changed = time(NULL);
    EngineId id = domain->object.id;
    mark_active(core->store, domain);
    log_foreign(core, domain);
    strays_look(core->backend, domain);
    g_autoptr(GPtrArray) missing = domain_missing_images(domain);
    g_autoptr(GPtrArray) strays = strays_tell(domain, NULL);
    core_show(core, g_steal_pointer(&domain));
    core_log(core, name, "define");
    core_log_missing(core, name, missing);
    core_log_strays(core, name, strays);
    if (ret_domain)
        *ret_domain = id;
    return TRUE;
}

static gboolean change_domain(Core *core, EngineId id, DomainDef *taken, GCancellable *cancel,
                              EngineId *ret_domain, GError **error)
{
    g_autoptr(DomainDef) def = taken;
    g_autoptr(Op) op = op_begin(core, id, cancel, error, "redefine");
    if (!op)
        return FALSE;
    domain_def_restore_secrets(def, op->domain->def);
    g_autoptr(DomainDef) before = domain_def_copy(op->domain->def);
    if (!op_require_off(op, error) || !take_definition(op, op->domain, g_steal_pointer(&def), error))
        return FALSE;
    undo_forget(op);
    op_note_detached(op, before, TRUE);
    op_prune(op);
    g_autoptr(GPtrArray) missing = domain_missing_images(op->domain);
    g_autofree char *name = g_strdup(op->domain->name);
    if (!op_write_definition(op, error))
        return FALSE;
    op_write_sidecar(op);
    if (!op_commit(op, error, "redefine"))
        return FALSE;
    core_log_missing(core, name, missing);
    if (ret_domain)
        *ret_domain = id;
    return TRUE;
}

gboolean core_define(Engine *engine, EngineId redefine, const char *xml, gsize len, GCancellable *cancel,
                     EngineId *ret_domain, GError **error)
{
    Core *core = (Core *)engine;
    EngineId id;
    g_autoptr(DomainDef) def = domain_def_parse(xml, len, error);
    if (!def || !find_domain(core, def, redefine, &id, error))
        return FALSE;
    if (id)
        return change_domain(core, id, g_steal_pointer(&def), cancel, ret_domain, error);
    return add_domain(core, g_steal_pointer(&def), cancel, ret_domain, error);
}

/* --- undefine, rename --- */

gboolean core_undefine(Engine *engine, EngineId id, UndefineFlags flags, GCancellable *cancel, GError **error)
{
    Core *core = (Core *)engine;
    g_autoptr(Op) op = op_begin_as_is(core, id, cancel, error, "undefine");
    if (!op)
        return FALSE;
    g_autofree char *name = g_strdup(op->domain->name);
    guint n = op->domain->snapshots->len;
    if (n > 0 && !(flags & UNDEFINE_SNAPSHOTS))
        snap_set_error(error, ENOTEMPTY, "it has %u snapshot%s", n, n == 1 ? "" : "s");
    else if (op->domain->saved.path && !(flags & UNDEFINE_MANAGED_SAVE))
        snap_set_error(error, EPERM,
                       "its managed save would be lost (undefine --managed-save, managedsave-remove)");
    else if (op->domain->libvirt || op_require_off(op, error)) {
        clear_marks(core, op->domain);
        if (!store_remove_domain(core->store, name, error))
            return FALSE;
        core_hide(core, id);
        core_log(core, NULL, "undefine '%s'", name);
        core_tell_gone(core, 0, name);
        return TRUE;
    }
    return FALSE;
}

/* The definition under another name; it must be readable again. */
static char *renamed_text(const DomainDef *def, const char *name, GError **error)
{
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    domain_def_set_name(copy, name);
    return op_definition_text(copy, error);
}

static gboolean rename_domain(Op *op, const char *name, GError **error)
{
    Core *core = op->core;
    g_autofree char *old = g_strdup(op->domain->name);
    if (!name_check_new(name, NAME_DOMAIN, error) || !op_take_name(op, name, error) ||
        !op_require_off(op, error))
        return FALSE;
    g_autofree char *text = renamed_text(op->domain->def, name, error);
    if (!text || !store_rename_domain(core->store, old, name, error))
        return FALSE;
    Domain *domain = g_steal_pointer(&op->domain);
    g_free(domain->name);
    domain->name = g_strdup(name);
    domain_def_set_name(domain->def, name);
    /* The directory has the new name: that is the commit. A document that cannot be written is mended at the
     * start. */
    g_autofree char *path = store_domain_file(core->store, name, "domain.xml");
    g_autoptr(GError) why = NULL;
    if (file_replace(path, text, strlen(text), &why))
        domain->xml_size = strlen(text);
    core_show(core, domain);
    core_log(core, name, "rename from '%s'%s%s", old, why ? ": " : "", why ? why->message : "");
    core_tell_gone(core, 0, old);
    return TRUE;
}

static gboolean rename_snapshot(Op *op, EngineId id, const char *name, GError **error)
{
    Snapshot *snapshot = g_hash_table_lookup(op->domain->objects, &id);
    if (!snapshot || snapshot->object.kind != ENGINE_SNAPSHOT) {
        snap_set_error(error, ENOENT, "it is gone");
        return FALSE;
    }
    if (!name_check_new(name, NAME_SNAPSHOT, error))
        return FALSE;
    if (domain_find_snapshot(op->domain, name)) {
        snap_set_error(error, EEXIST, "there is a snapshot '%s' already", name);
        return FALSE;
    }
    g_autofree char *old = g_strdup(snapshot->name);
    g_autoptr(SnapshotDef) def = store_read_snapshot(op->core->store, op->domain->name, old, error);
    g_autoptr(GPtrArray) children = domain_children(op->domain, snapshot);
    if (!def)
        return FALSE;
    domain_rename_snapshot(op->domain, snapshot, name);
    if (!op_write_snapshot(op, snapshot, def, error))
        return FALSE;
    for (guint i = 0; i < children->len; i++)
        if (!op_rewrite_snapshot(op, children->pdata[i], error))
            return FALSE;
    op_remove_snapshot(op, old);
    op_write_sidecar(op);
    g_ptr_array_add(op->gone, g_strdup(old));
    return op_commit(op, error, "rename '%s' to '%s'", old, name);
}

gboolean core_rename(Engine *engine, EngineId id, const char *name, GCancellable *cancel, GError **error)
{
    EngineId domain = id >> OBJECT_BITS << OBJECT_BITS;
    g_autofree char *old = core_name(engine, id);
    g_autoptr(Op) op =
        op_begin((Core *)engine, domain, cancel, error, "rename '%s' to '%s'", old ? old : "?", name);
    if (op && (id == domain ? rename_domain(op, name, error) : rename_snapshot(op, id, name, error)))
        return TRUE;
    return FALSE;
}
