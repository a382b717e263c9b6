/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dir.h"

#include <errno.h>

#include "node.h"

typedef struct {
    char *name;
    fuse_ino_t ino;
} Item;

struct Dir {
    Handles *handles;
    GMutex lock; /* of items: threads that share a descriptor */
    fuse_ino_t ino;
    GPtrArray *items; /* of Item */
};

static void item_free(Item *item)
{
    g_free(item->name);
    g_free(item);
}

/* Takes @name. */
static void add(GPtrArray *items, char *name, fuse_ino_t ino)
{
    Item *item = g_new(Item, 1);
    *item = (Item){.name = name, .ino = ino};
    g_ptr_array_add(items, item);
}

static void add_fixed(Fs *fs, fuse_ino_t ino, GPtrArray *items)
{
    for (NodeKind kind = NODE_ROOT; kind < N_NODE_KINDS; kind++) {
        const NodeSpec *spec = node_spec(kind);
        if (spec->in != node_kind(ino) || spec->name == NULL)
            continue;
        fuse_ino_t child = node_ino(kind, node_id(ino));
        if (node_exists(fs, child))
            add(items, g_strdup(spec->name), child);
    }
}

static void add_children(Fs *fs, fuse_ino_t ino, GPtrArray *items)
{
    gboolean root = node_kind(ino) == NODE_ROOT;
    g_autoptr(GPtrArray) entries = fs->engine->ops->list(fs->engine, node_id(ino));
    for (guint i = 0; i < entries->len; i++) {
        const EngineEntry *entry = entries->pdata[i];
        add(items, name_to_entry(entry->name, root ? NAME_DOMAIN : NAME_SNAPSHOT),
            node_ino(root ? NODE_DOMAIN : NODE_SNAPSHOT, entry->id));
    }
}

static void add_disks(Fs *fs, fuse_ino_t ino, GPtrArray *items)
{
    g_autoptr(GPtrArray) disks = fs->engine->ops->disks(fs->engine, node_id(ino));
    for (guint i = 0; i < disks->len; i++) {
        const EngineDisk *disk = disks->pdata[i];
        char *entry = disk->layer == 0 ? NULL : node_disk_entry(disk);
        if (entry != NULL)
            add(items, entry, node_ino(NODE_LAYER, disk->layer));
        fuse_ino_t content = node_content_ino(node_kind(ino), disk->content);
        entry = content == 0 || !node_exists(fs, content) ? NULL : node_content_entry(disk);
        if (entry != NULL)
            add(items, entry, content);
    }
}

static GPtrArray *list(Fs *fs, fuse_ino_t ino)
{
    GPtrArray *items = g_ptr_array_new_with_free_func((GDestroyNotify)item_free);
    NodeKind kind = node_kind(ino);
    add(items, g_strdup("."), ino);
    add(items, g_strdup(".."), node_above(fs, ino));
    add_fixed(fs, ino, items);
    if (kind == NODE_ROOT || kind == NODE_DOMAIN)
        add_children(fs, ino, items);
    if (kind == NODE_ACTIVE || kind == NODE_SNAPSHOT)
        add_disks(fs, ino, items);
    return items;
}

Dir *dir_open(Fs *fs, fuse_ino_t ino)
{
    struct stat st;
    if (!node_attr(fs, ino, &st) || !S_ISDIR(st.st_mode))
        return NULL;
    Dir *dir = g_new0(Dir, 1);
    g_mutex_init(&dir->lock);
    dir->ino = ino;
    dir->handles = fs->handles;
    handles_add(fs->handles, dir, (GDestroyNotify)dir_free);
    return dir;
}

void dir_free(Dir *dir)
{
    if (dir == NULL)
        return;
    handles_remove(dir->handles, dir);
    g_clear_pointer(&dir->items, g_ptr_array_unref);
    g_mutex_clear(&dir->lock);
    g_free(dir);
}

/* Pack the item at @index; returns the bytes it takes, more than @room when it does not fit. */
static gsize pack(Fs *fs, const Dir *dir, guint index, fuse_req_t req, char *buffer, gsize room,
                  gboolean plus)
{
    const Item *item = dir->items->pdata[index];
    /* Without an inode number (".", "..", what is gone meanwhile) it is a name only and no lookup. */
    struct fuse_entry_param entry = {
        .attr = {.st_ino = item->ino, .st_mode = node_spec(node_kind(item->ino))->mode},
    };
    if (!plus)
        return fuse_add_direntry(req, buffer, room, item->name, &entry.attr, (off_t)index + 1);
    if (index > 1)
        node_entry(fs, item->ino, &entry);
    return fuse_add_direntry_plus(req, buffer, room, item->name, &entry, (off_t)index + 1);
}

/* Fill @buffer from the item at @offset on; returns the bytes used. */
static gsize fill(Fs *fs, Dir *dir, fuse_req_t req, char *buffer, gsize size, off_t offset, gboolean plus)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&dir->lock);
    if (offset == 0 || dir->items == NULL) {
        g_clear_pointer(&dir->items, g_ptr_array_unref);
        dir->items = list(fs, dir->ino);
    }
    gsize used = 0;
    for (guint i = (guint)MIN((guint64)offset, dir->items->len); i < dir->items->len; i++) {
        gsize more = pack(fs, dir, i, req, buffer + used, size - used, plus);
        if (more > size - used)
            break;
        used += more;
    }
    return used;
}

void dir_read(Fs *fs, Dir *dir, fuse_req_t req, gsize size, off_t offset, gboolean plus)
{
    g_autofree char *buffer = g_malloc(size);
    gsize used = fill(fs, dir, req, buffer, size, offset, plus);
    fuse_reply_buf(req, buffer, used); /* the last use of @dir: the answer to it may be its release */
}
