/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot.h"

#include <errno.h>

#include "error.h"

SnapshotDef *snapshot_def_new(void)
{
    SnapshotDef *def = g_new0(SnapshotDef, 1);
    def->disks = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_disk_free);
    def->revert_disks = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_disk_free);
    return def;
}

void snapshot_def_free(SnapshotDef *def)
{
    if (def == NULL)
        return;
    g_free(def->name);
    g_free(def->description);
    g_free(def->parent);
    g_free(def->memory_file);
    g_ptr_array_unref(def->disks);
    g_ptr_array_unref(def->revert_disks);
    domain_def_free(def->domain);
    g_free(def->domain_uuid);
    xmlFreeDoc(def->doc);
    g_free(def);
}

SnapshotDisk *snapshot_def_find_disk(const SnapshotDef *def, const char *target)
{
    for (guint i = 0; i < def->disks->len; i++) {
        SnapshotDisk *disk = g_ptr_array_index(def->disks, i);
        if (g_str_equal(disk->name, target))
            return disk;
    }
    return NULL;
}

/* Where disks go that nothing else decides for (facts/libvirt-snapshots.md 1.3). */
static SnapMode default_mode(const SnapshotDef *def)
{
    gboolean external = def->state == STATE_DISK_SNAPSHOT || def->memory == MODE_EXTERNAL;
    for (guint i = 0; i < def->disks->len && !external; i++) {
        const SnapshotDisk *disk = g_ptr_array_index(def->disks, i);
        external = disk->mode == MODE_EXTERNAL;
    }
    return external ? MODE_EXTERNAL : MODE_INTERNAL;
}

/* What the definition says of @disk, or @otherwise: readonly disks and empty drives take no part. */
static SnapMode domain_mode(const DiskDef *disk, SnapMode otherwise)
{
    if (!disk_def_has_media(disk))
        return MODE_NO;
    if (disk->snapshot != MODE_DEFAULT)
        return disk->snapshot;
    return disk->readonly ? MODE_NO : otherwise;
}

/* A disk listed without a mode. Where the default is internal, libvirt honours only the definition's "no". */
static SnapMode listed_mode(const DiskDef *disk, SnapMode otherwise)
{
    SnapMode mode = domain_mode(disk, otherwise);
    return otherwise == MODE_INTERNAL && mode != MODE_NO ? MODE_INTERNAL : mode;
}

static gboolean has_path(const DomainDef *domain, const char *path)
{
    for (guint i = 0; i < domain->disks->len; i++) {
        const DiskDef *disk = g_ptr_array_index(domain->disks, i);
        if (g_strcmp0(disk->source, path) == 0)
            return TRUE;
    }
    return FALSE;
}

/* The listed disks by target. Values belong to def->disks, keys to @domain. */
static GHashTable *index_listed(const SnapshotDef *def, const DomainDef *domain, GError **error)
{
    g_autoptr(GHashTable) listed = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < def->disks->len; i++) {
        SnapshotDisk *disk = g_ptr_array_index(def->disks, i);
        const DiskDef *origin = domain_def_find_disk(domain, disk->name);
        if (origin == NULL) {
            snap_set_error(
                error, EOPNOTSUPP, "disk '%s': line %ld: the domain has %s", disk->name, disk->line,
                has_path(domain, disk->name) ? "more than one disk of that path: name it by its target"
                                             : "no disk of that name");
            return NULL;
        }
        if (!g_hash_table_insert(listed, origin->target, disk)) {
            snap_set_error(error, EOPNOTSUPP, "disk '%s': line %ld: it is listed twice", origin->target,
                           disk->line);
            return NULL;
        }
    }
    return g_steal_pointer(&listed);
}

gboolean snapshot_def_align_disks(SnapshotDef *def, const DomainDef *domain, GError **error)
{
    SnapMode otherwise = default_mode(def);
    g_autoptr(GHashTable) listed = index_listed(def, domain, error);
    if (listed == NULL)
        return FALSE;
    GPtrArray *disks = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_disk_free);
    for (guint i = 0; i < domain->disks->len; i++) {
        const DiskDef *origin = g_ptr_array_index(domain->disks, i);
        SnapshotDisk *disk = g_hash_table_lookup(listed, origin->target);
        if (disk == NULL) {
            g_ptr_array_add(disks, snapshot_disk_new(origin->target, domain_mode(origin, otherwise)));
            continue;
        }
        if (disk->mode == MODE_DEFAULT)
            disk->mode = listed_mode(origin, otherwise);
        g_free(disk->name);
        disk->name = g_strdup(origin->target);
        g_ptr_array_add(disks, disk);
    }
    g_ptr_array_set_free_func(def->disks, NULL); /* all of them moved */
    g_ptr_array_unref(def->disks);
    def->disks = disks;
    return TRUE;
}

static gboolean replace_in_disks(GPtrArray *disks, const char *from, const char *to, DiskType type,
                                 ImageFormat format)
{
    gboolean changed = FALSE;
    for (guint i = 0; i < disks->len; i++) {
        SnapshotDisk *disk = g_ptr_array_index(disks, i);
        if (g_strcmp0(disk->source, from) != 0)
            continue;
        snapshot_disk_set_source(disk, type, to);
        disk->format = format;
        changed = TRUE;
    }
    return changed;
}

gboolean snapshot_def_replace_image(SnapshotDef *def, const char *from, const char *to, DiskType type,
                                    ImageFormat format)
{
    gboolean changed = replace_in_disks(def->disks, from, to, type, format);
    changed |= replace_in_disks(def->revert_disks, from, to, type, format);
    if (def->inactive_domain != NULL)
        changed |= domain_node_replace_image(def->inactive_domain, from, to, type, format);
    DomainDef *domain =
        def->domain != NULL ? domain_def_replace_image(def->domain, from, to, type, format) : NULL;
    if (domain == NULL)
        return changed;
    domain_def_free(def->domain);
    def->domain = domain;
    return TRUE;
}

gboolean snapshot_def_has_secret(const SnapshotDef *def)
{
    return (def->domain != NULL && def->domain->secret) ||
           (def->inactive_domain != NULL && domain_node_has_secret(def->inactive_domain));
}

void snapshot_def_strip_secrets(SnapshotDef *def)
{
    if (def->domain != NULL)
        domain_def_strip_secrets(def->domain);
    if (def->inactive_domain != NULL)
        domain_node_strip_secrets(def->inactive_domain);
}

void snapshot_def_restore_secrets(SnapshotDef *def, const SnapshotDef *old)
{
    if (def->domain != NULL && old->domain != NULL)
        domain_def_restore_secrets(def->domain, old->domain);
    if (def->inactive_domain != NULL && old->inactive_domain != NULL)
        domain_node_restore_secrets(def->inactive_domain, old->inactive_domain);
}

void snapshot_def_set_inactive(SnapshotDef *def, const DomainDef *inactive)
{
    if (!def->doc) {
        def->doc = xmlNewDoc(BAD_CAST "1.0");
        xmlDocSetRootElement(def->doc, xmlNewDocNode(def->doc, NULL, BAD_CAST "domainsnapshot", NULL));
    }
    xmlNode *copy = xmlDocCopyNode(xmlDocGetRootElement(inactive->doc), def->doc, 1);
    xmlNodeSetName(copy, BAD_CAST "inactiveDomain");
    if (def->inactive_domain)
        xml_remove_node(def->inactive_domain);
    def->inactive_domain = xmlAddChild(xmlDocGetRootElement(def->doc), copy);
}
