/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mark.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "error.h"

#define ATTRIBUTE "user.domsnapfs.store"
#define UUID_LEN 36
#define VALUE_MAX 64

static void format_value(char *value, const char *uuid, guint64 inode)
{
    g_snprintf(value, VALUE_MAX, "%s %" G_GUINT64_FORMAT, uuid, inode);
}

/* Whose mark the very file @inode at @path bears: the uuid is written to @ret_uuid. */
static gboolean read_mark(const char *path, guint64 inode, char ret_uuid[UUID_LEN + 1])
{
    char value[VALUE_MAX] = {0}, uuid[UUID_LEN + 1] = {0}, expected[VALUE_MAX];
    if (lgetxattr(path, ATTRIBUTE, value, sizeof value - 1) <= UUID_LEN)
        return FALSE;
    memcpy(uuid, value, UUID_LEN);
    format_value(expected, uuid, inode);
    if (!g_uuid_string_is_valid(uuid) || strcmp(value, expected) != 0)
        return FALSE;
    memcpy(ret_uuid, uuid, UUID_LEN + 1);
    return TRUE;
}

/* Is there a regular file, and has it a mark (*ret_uuid, "" when it has none)? */
static gboolean look_at(const char *path, FileLook *ret_look, char ret_uuid[UUID_LEN + 1])
{
    ret_uuid[0] = '\0';
    if (!file_look(path, ret_look, NULL) || ret_look->block)
        return FALSE;
    (void)read_mark(path, ret_look->id.ino, ret_uuid);
    return TRUE;
}

gboolean mark_check(const Store *store, const char *path, GError **error)
{
    FileLook look;
    char uuid[UUID_LEN + 1];
    if (!store->uuid || !look_at(path, &look, uuid) || uuid[0] == '\0' || strcmp(uuid, store->uuid) == 0)
        return TRUE;
    snap_set_error(
        error, EROFS,
        "'%s' belongs to the store %s, and only that one may change it; undefine its domain there, or, if "
        "that store is gone for good, setfattr -x " ATTRIBUTE " '%s'",
        path, uuid, path);
    return FALSE;
}

void mark_set(const Store *store, const char *path)
{
    FileLook look;
    char uuid[UUID_LEN + 1], value[VALUE_MAX];
    if (!store->uuid || !look_at(path, &look, uuid) || uuid[0] != '\0')
        return;
    format_value(value, store->uuid, look.id.ino);
    (void)lsetxattr(path, ATTRIBUTE, value, strlen(value), 0);
}

void mark_active(const Store *store, const Domain *domain)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        const Layer *layer = domain_active_layer(domain, disk);
        if (layer && layer_is_local(layer) && !disk->readonly)
            mark_set(store, layer->path);
    }
}

void mark_clear(const Store *store, const char *path)
{
    FileLook look;
    char uuid[UUID_LEN + 1];
    if (!store->uuid || !look_at(path, &look, uuid) || strcmp(uuid, store->uuid) != 0)
        return;
    if (lremovexattr(path, ATTRIBUTE) == 0 || errno != EACCES)
        return;
    if (!file_set_mode(path, look.mode | 0200,
                       NULL)) /* a frozen layer: its owner needs the write bit for this */
        return;
    (void)lremovexattr(path, ATTRIBUTE);
    (void)file_set_mode(path, look.mode, NULL);
}
