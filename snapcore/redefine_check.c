/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redefine_check.h"

#include <errno.h>
#include <string.h>

#include "abi.h"
#include "chain.h"
#include "error.h"

static gboolean check_uuid(const Domain *domain, const SnapshotDef *def, GError **error)
{
    const char *uuid = def->domain ? def->domain->uuid : def->domain_uuid;
    if (def->domain && def->domain->uuid_made)
        snap_set_error(error, EINVAL, "line %ld: <domain>: it has no <uuid>: that of '%s' is '%s'",
                       def->domain_line, domain->name, domain->def->uuid);
    else if (uuid && strcmp(uuid, domain->def->uuid) != 0)
        snap_set_error(error, EINVAL,
                       "line %ld: <domain>: the document is about the domain with the uuid '%s'",
                       def->domain_line, uuid);
    else
        return TRUE;
    return FALSE;
}

/* A document of old, with the uuid alone, is completed by the existing snapshot's. */
static gboolean check_machine(const SnapshotDef *def, const SnapshotDef *old, GError **error)
{
    if (!def->domain && !old) {
        snap_set_error(
            error, EINVAL,
            "%s a new snapshot's document needs the whole <domain type='...'>, an existing one's would be "
            "kept",
            def->domain_line ? "<domain>: it has only a uuid:" : "there is no <domain>:");
        if (def->domain_line)
            g_prefix_error(error, "line %ld: ", def->domain_line);
        return FALSE;
    }
    if (!def->domain || !old || !old->domain || abi_check(old->domain, def->domain, error))
        return TRUE;
    g_prefix_error(
        error, "line %ld: <domain>: it is not the machine of the snapshot that is there: ", def->domain_line);
    return FALSE;
}

static gboolean check_parent(const Domain *domain, const SnapshotDef *def, const Snapshot *existing,
                             GError **error)
{
    const Snapshot *parent = def->parent ? domain_find_snapshot(domain, def->parent) : NULL;
    if (def->parent && !parent)
        snap_set_error(error, EINVAL, "line %ld: <parent>: there is no snapshot '%s'", def->parent_line,
                       def->parent);
    else if (existing && parent == existing)
        snap_set_error(error, EINVAL, "line %ld: <parent>: '%s' is the snapshot itself", def->parent_line,
                       def->parent);
    else if (existing && snapshot_descends(parent, existing))
        snap_set_error(error, EINVAL, "line %ld: <parent>: '%s' descends from it", def->parent_line,
                       def->parent);
    else
        return TRUE;
    return FALSE;
}

/* Memory, disks alone, or neither: what a snapshot is of cannot change. */
static guint class_of(SnapState state)
{
    return state == STATE_RUNNING || state == STATE_PAUSED ? 0 : state == STATE_DISK_SNAPSHOT ? 1 : 2;
}

static gboolean check_state(const SnapshotDef *def, const SnapshotDef *old, RedefineFlags flags,
                            GError **error)
{
    const char *state = snap_state_to_string(def->state);
    if ((flags & REDEFINE_DISK_ONLY) && def->state != STATE_DISK_SNAPSHOT)
        snap_set_error(error, EINVAL, "line %ld: <state>: it is '%s': disk-only asks for 'disk-snapshot'",
                       def->state_line, state);
    else if (old && class_of(old->state) != class_of(def->state))
        snap_set_error(error, EINVAL,
                       "line %ld: <state>: it cannot become '%s', that of the snapshot that is there is '%s'",
                       def->state_line, state, snap_state_to_string(old->state));
    else
        return TRUE;
    return FALSE;
}

gboolean redefine_check(const Domain *domain, const SnapshotDef *def, const Snapshot *existing,
                        const SnapshotDef *old, RedefineFlags flags, GError **error)
{
    return check_uuid(domain, def, error) && check_parent(domain, def, existing, error) &&
           check_state(def, old, flags, error) && check_machine(def, old, error);
}

/* --- overlays --- */

/* As libvirt cuts it: at the last dot, if that is in the last component. */
static char *overlay_path(const char *image, const char *name)
{
    const char *dot = strrchr(image, '.');
    gsize stem = dot && !strchr(dot, '/') ? (gsize)(dot - image) : strlen(image);
    return g_strdup_printf("%.*s.%s", (int)stem, image, name);
}

static gboolean name_overlay(Core *core, const SnapshotDef *def, SnapshotDisk *disk, GError **error)
{
    const DiskDef *then = def->domain ? domain_def_find_disk(def->domain, disk->name) : NULL;
    const char *image = then ? then->source : NULL;
    g_autofree char *real = image ? chain_real_path(core, image, error) : NULL;
    FileLook look;
    if (image && !real)
        return FALSE;
    if (disk->type != DISK_FILE)
        snap_set_error(error, EOPNOTSUPP, "it has no <source>, and for type='%s' none can be made up",
                       disk_type_to_string(disk->type));
    else if (!image)
        snap_set_error(error, EOPNOTSUPP,
                       "it has no <source>, and its <domain> names no image to call it after");
    else if (!file_look(real, &look, NULL) || look.block)
        snap_set_error(error, EOPNOTSUPP,
                       "it has no <source>, and '%s', which it would be called after, is no file", image);
    else {
        g_autofree char *path = overlay_path(image, def->name);
        snapshot_disk_set_source(disk, DISK_FILE, path);
        return TRUE;
    }
    return FALSE;
}

/* The images that hold the states of disks that take part, as the document names them: path -> target. */
static GHashTable *index_states(const SnapshotDef *def)
{
    GHashTable *states = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < def->disks->len && def->domain; i++) {
        const SnapshotDisk *disk = def->disks->pdata[i];
        const DiskDef *then = def->domain->disks->pdata[i]; /* aligned: one each, in its order */
        if ((disk->mode == MODE_INTERNAL || disk->mode == MODE_EXTERNAL) && then->source)
            g_hash_table_insert(states, then->source, disk->name);
    }
    return states;
}

/* Would writing the overlay of @disk write another disk's, or a state? */
static gboolean check_overlay(const SnapshotDisk *disk, GHashTable *overlays, GHashTable *states,
                              GError **error)
{
    const char *other = disk->source ? g_hash_table_lookup(overlays, disk->source) : NULL;
    const char *held = disk->source ? g_hash_table_lookup(states, disk->source) : NULL;
    if (other)
        snap_set_error(error, EINVAL, "'%s' is the overlay of disk '%s' too", disk->source, other);
    else if (held)
        snap_set_error(error, EINVAL,
                       "'%s' holds the state of disk '%s', it cannot be what is written after it",
                       disk->source, held);
    else if (disk->source)
        g_hash_table_insert(overlays, disk->source, disk->name);
    return !other && !held;
}

gboolean redefine_name_overlays(Core *core, SnapshotDef *def, GError **error)
{
    g_autoptr(GHashTable) states = index_states(def);
    g_autoptr(GHashTable) overlays = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < def->disks->len; i++) {
        SnapshotDisk *disk = def->disks->pdata[i];
        if (disk->mode != MODE_EXTERNAL)
            continue;
        if ((snapshot_disk_names_image(disk) || name_overlay(core, def, disk, error)) &&
            check_overlay(disk, overlays, states, error))
            continue;
        if (disk->line)
            g_prefix_error(error, "line %ld: ", disk->line);
        g_prefix_error(error, "disk '%s': ", disk->name);
        return FALSE;
    }
    return TRUE;
}
