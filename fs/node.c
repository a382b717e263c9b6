/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "node.h"

#include <string.h>

#include "ctl.h"
#include "format.h"
#include "text.h"

/* Entry and attribute timeouts in seconds. What can change without a gesture on its directory is asked for
 * each time. */
#define KEEP 1.0
#define ASK 0.0

#define DIRECTORY (S_IFDIR | 0777)
#define READABLE (S_IFREG | 0444)
#define WRITABLE (S_IFREG | 0666)
#define LINK (S_IFLNK | 0777)

static const NodeSpec specs[N_NODE_KINDS] = {
    [NODE_NONE] = {NODE_NONE, NULL, 0, ASK, ASK, FALSE, 0},
    [NODE_ROOT] = {NODE_NONE, NULL, DIRECTORY, KEEP, KEEP, FALSE, 0},
    [NODE_ROOT_CTL] = {NODE_ROOT, "ctl", WRITABLE, ASK, ASK, FALSE, 0},
    [NODE_ROOT_JOBS] = {NODE_ROOT, "jobs", READABLE, KEEP, ASK, TRUE, ENGINE_TEXT_JOBS},
    [NODE_ROOT_LOG] = {NODE_ROOT, "log", READABLE, KEEP, ASK, TRUE, ENGINE_TEXT_LOG},
    [NODE_DOMAIN] = {NODE_ROOT, NULL, DIRECTORY, KEEP, KEEP, FALSE, 0},
    [NODE_DOMAIN_XML] = {NODE_DOMAIN, "domain.xml", WRITABLE, KEEP, ASK, TRUE, ENGINE_TEXT_DOMAIN_XML},
    [NODE_STATE] = {NODE_DOMAIN, "state", READABLE, KEEP, ASK, TRUE, ENGINE_TEXT_STATE, .is_live = TRUE},
    [NODE_CURRENT] = {NODE_DOMAIN, "current", LINK, ASK, ASK, FALSE, 0},
    [NODE_USAGE] = {NODE_DOMAIN, "usage", READABLE, KEEP, ASK, TRUE, ENGINE_TEXT_USAGE, .is_live = TRUE},
    [NODE_TREE] = {NODE_DOMAIN, "tree", READABLE, KEEP, ASK, TRUE, ENGINE_TEXT_TREE},
    [NODE_LOG] = {NODE_DOMAIN, "log", READABLE, KEEP, ASK, TRUE, ENGINE_TEXT_LOG},
    [NODE_CTL] = {NODE_DOMAIN, "ctl", WRITABLE, ASK, ASK, FALSE, 0},
    [NODE_ACTIVE] = {NODE_DOMAIN, "active", DIRECTORY, KEEP, KEEP, FALSE, 0},
    [NODE_ACTIVE_PARENT] = {NODE_ACTIVE, "parent", LINK, ASK, ASK, FALSE, 0},
    [NODE_SNAPSHOT] = {NODE_DOMAIN, NULL, DIRECTORY, KEEP, KEEP, FALSE, 0},
    [NODE_SNAPSHOT_XML] = {NODE_SNAPSHOT, "snapshot.xml", WRITABLE, KEEP, ASK, TRUE,
                           ENGINE_TEXT_SNAPSHOT_XML},
    [NODE_DESCRIPTION] = {NODE_SNAPSHOT, "description", WRITABLE, KEEP, ASK, TRUE, ENGINE_TEXT_DESCRIPTION},
    [NODE_CHANGES] = {NODE_SNAPSHOT, "changes", READABLE, KEEP, ASK, TRUE, ENGINE_TEXT_CHANGES,
                      .is_live = TRUE},
    [NODE_PARENT] = {NODE_SNAPSHOT, "parent", LINK, ASK, ASK, FALSE, 0},
    [NODE_MEMORY] = {NODE_SNAPSHOT, "memory", READABLE, ASK, ASK, .is_file = TRUE,
                     .file = ENGINE_FILE_MEMORY},
    [NODE_SCREENSHOT] = {NODE_SNAPSHOT, "screenshot.png", READABLE, ASK, ASK, .is_file = TRUE,
                         .file = ENGINE_FILE_SCREENSHOT},
    /* The bytes of a state never change; its name may become another one's. */
    [NODE_CONTENT] = {NODE_NONE, NULL, READABLE, ASK, KEEP, FALSE, 0},
    /* active/vda.qcow2 is another file after each snapshot and revert, and whoever starts the machine writes
       it. */
    [NODE_LAYER] = {NODE_NONE, NULL, READABLE, ASK, ASK, FALSE, 0},
    [NODE_ACTIVE_CONTENT] = {NODE_NONE, NULL, READABLE, ASK, ASK, FALSE, 0},
    [NODE_SCRATCH] = {NODE_NONE, NULL, 0, ASK, ASK, FALSE, 0},
};

const NodeSpec *node_spec(NodeKind kind)
{
    return &specs[kind];
}

fuse_ino_t node_ino(NodeKind kind, EngineId id)
{
    return id << 16 | kind;
}

NodeKind node_kind(fuse_ino_t ino)
{
    guint kind = ino & 0xff;
    return kind < N_NODE_KINDS ? (NodeKind)kind : NODE_NONE;
}

EngineId node_id(fuse_ino_t ino)
{
    return ino >> 16;
}

gboolean node_is_ctl(fuse_ino_t ino)
{
    return node_kind(ino) == NODE_CTL || node_kind(ino) == NODE_ROOT_CTL;
}

gboolean node_is_image(fuse_ino_t ino)
{
    return node_kind(ino) == NODE_LAYER || specs[node_kind(ino)].is_file;
}

gboolean node_is_content(fuse_ino_t ino)
{
    return node_kind(ino) == NODE_CONTENT || node_kind(ino) == NODE_ACTIVE_CONTENT;
}

gboolean node_is_writable(fuse_ino_t ino)
{
    return specs[node_kind(ino)].mode == WRITABLE;
}

EngineId node_find(Fs *fs, EngineId where, const char *entry)
{
    NameKind kind = where == 0 ? NAME_DOMAIN : NAME_SNAPSHOT;
    if (strlen(entry) > NAME_MAX_BYTES || !g_utf8_validate(entry, -1, NULL))
        return 0;
    g_autofree char *name = name_from_entry(entry, kind);
    g_autofree char *shown = name_to_entry(name, kind);
    /* What has no '%' and is shown otherwise is reserved or dotted: only the escaped form is that name's
     * entry. */
    if (strchr(entry, '%') == NULL && strcmp(shown, entry) != 0)
        return 0;
    return fs->engine->ops->find(fs->engine, where, name);
}

static char *entry_of(const EngineDisk *disk, ImageFormat format)
{
    /* A target comes from a document: escaped like a name, it cannot leave the directory. */
    g_autofree char *target = name_to_entry(disk->target, NAME_SNAPSHOT);
    g_autofree char *entry = g_strdup_printf("%s.%s", target, image_format_to_string(format));
    return strlen(entry) > NAME_MAX_BYTES ? NULL : g_steal_pointer(&entry);
}

char *node_disk_entry(const EngineDisk *disk)
{
    return entry_of(disk, disk->format);
}

char *node_content_entry(const EngineDisk *disk)
{
    return entry_of(disk, FORMAT_RAW);
}

static EngineKind engine_kind(NodeKind kind)
{
    if (kind == NODE_LAYER || kind == NODE_ACTIVE_CONTENT)
        return ENGINE_LAYER;
    if (kind == NODE_CONTENT)
        return ENGINE_STATE;
    return kind >= NODE_SNAPSHOT ? ENGINE_SNAPSHOT : ENGINE_DOMAIN;
}

/* What the engine knows of the domain or snapshot of a node; of the root's nodes, nothing. FALSE: gone. */
static gboolean look(Fs *fs, fuse_ino_t ino, EngineLook *ret_look)
{
    if (node_kind(ino) < NODE_DOMAIN) {
        *ret_look = (EngineLook){.time = fs->started};
        return TRUE;
    }
    return fs->engine->ops->look(fs->engine, node_id(ino), ret_look) &&
           ret_look->kind == engine_kind(node_kind(ino));
}

char *node_link(Fs *fs, fuse_ino_t ino)
{
    EngineLook now;
    NodeKind kind = node_kind(ino);
    if (kind == NODE_SCRATCH)
        return scratch_link(fs->scratch, node_id(ino));
    if (!S_ISLNK(specs[kind].mode) || !look(fs, ino, &now) || now.parent == 0)
        return NULL;
    g_autofree char *name = fs->engine->ops->name(fs->engine, now.parent);
    if (name == NULL)
        return NULL;
    g_autofree char *entry = name_to_entry(name, NAME_SNAPSHOT);
    return g_strconcat(kind == NODE_CURRENT ? "" : "../", entry, NULL);
}

static gboolean image_stat(Fs *fs, fuse_ino_t ino, EngineStat *ret_stat)
{
    const EngineOps *ops = fs->engine->ops;
    const NodeSpec *spec = &specs[node_kind(ino)];
    if (node_is_content(ino))
        return ops->stat_content(fs->engine, node_id(ino), ret_stat);
    return spec->is_file ? ops->stat_file(fs->engine, node_id(ino), spec->file, ret_stat)
                         : ops->stat_layer(fs->engine, node_id(ino), ret_stat);
}

/* Of a layer, a disk's content, or another file of a snapshot. */
static gboolean image_attr(Fs *fs, fuse_ino_t ino, struct stat *st)
{
    EngineStat image;
    if (!image_stat(fs, ino, &image))
        return FALSE;
    st->st_size = (off_t)image.size;
    st->st_blocks = (blkcnt_t)image.blocks;
    st->st_mtim = image.mtime;
    /* A layer that only lookups of backing files find has no listed name; 0 would mean a deleted file. */
    st->st_nlink = MAX(image.nlink, 1);
    return TRUE;
}

static gboolean text_attr(Fs *fs, fuse_ino_t ino, const EngineLook *now, struct stat *st)
{
    guint64 size;
    gint64 time = now->time;
    if (!text_stat(fs, ino, &size, &time))
        return FALSE;
    st->st_size = (off_t)size;
    st->st_mtim.tv_sec = time;
    NodeKind kind = node_kind(ino);
    if (now->secret && (kind == NODE_DOMAIN_XML || kind == NODE_SNAPSHOT_XML))
        st->st_mode &= ~(mode_t)077;
    return TRUE;
}

/* What differs by the node's type. */
static gboolean special_attr(Fs *fs, fuse_ino_t ino, const EngineLook *now, struct stat *st)
{
    if (S_ISDIR(st->st_mode)) {
        /* Of the root it would take a look at every domain; 1 means "not counted" to find and others. */
        st->st_nlink = node_kind(ino) == NODE_ROOT ? 1 : 2;
        if (node_kind(ino) == NODE_DOMAIN)
            st->st_nlink += 1 + now->n_children;
        return TRUE;
    }
    if (S_ISLNK(st->st_mode)) {
        g_autofree char *text = node_link(fs, ino);
        st->st_size = text == NULL ? 0 : (off_t)strlen(text);
        return text != NULL;
    }
    return text_attr(fs, ino, now, st);
}

gboolean node_attr(Fs *fs, fuse_ino_t ino, struct stat *ret_stat)
{
    NodeKind kind = node_kind(ino);
    struct stat st = {
        .st_mode = specs[kind].mode,
        .st_uid = fs->uid,
        .st_gid = fs->gid,
        .st_nlink = 1,
    };
    if (kind == NODE_NONE)
        return FALSE;
    if (kind == NODE_SCRATCH) {
        if (!scratch_stat(fs->scratch, node_id(ino), &st))
            return FALSE;
    } else if (node_is_image(ino) || node_is_content(ino)) {
        if (!image_attr(fs, ino, &st))
            return FALSE;
    } else {
        EngineLook now;
        if (!look(fs, ino, &now))
            return FALSE;
        st.st_mtim.tv_sec = now.time;
        if (!special_attr(fs, ino, &now, &st))
            return FALSE;
        st.st_blocks = (st.st_size + 511) / 512;
    }
    if (!S_ISLNK(st.st_mode) && kind != NODE_SCRATCH)
        st.st_mode &= ~fs->umask;
    st.st_ino = node_ino(kind, node_id(ino)); /* without the turn */
    st.st_ctim = st.st_atim = st.st_mtim;
    *ret_stat = st;
    return TRUE;
}

gboolean node_exists(Fs *fs, fuse_ino_t ino)
{
    const NodeSpec *spec = &specs[node_kind(ino)];
    EngineStat file;
    if (spec->is_file || node_is_content(ino))
        return image_stat(fs, ino, &file);
    g_autofree char *link = S_ISLNK(spec->mode) ? node_link(fs, ino) : NULL;
    return !S_ISLNK(spec->mode) || link != NULL;
}

static fuse_ino_t find_fixed(Fs *fs, NodeKind in, EngineId id, const char *name)
{
    for (NodeKind kind = NODE_ROOT; kind < N_NODE_KINDS; kind++) {
        if (specs[kind].in != in || g_strcmp0(specs[kind].name, name) != 0)
            continue;
        /* Where there is no memory, an image of a chain may be called so. */
        fuse_ino_t ino = node_ino(kind, id);
        return !specs[kind].is_file || node_exists(fs, ino) ? ino : 0;
    }
    return 0;
}

fuse_ino_t node_content_ino(NodeKind dir, EngineId content)
{
    return content == 0 ? 0 : node_ino(dir == NODE_ACTIVE ? NODE_ACTIVE_CONTENT : NODE_CONTENT, content);
}

/* A layer, by the name it is listed under or by its own file name (DESIGN 1: so that backing files are
 * found); or a disk's content. */
static fuse_ino_t find_image(Fs *fs, fuse_ino_t dir, const char *name)
{
    EngineId id = node_id(dir);
    const EngineOps *ops = fs->engine->ops;
    g_autoptr(GPtrArray) disks = ops->disks(fs->engine, id);
    for (guint i = 0; i < disks->len; i++) {
        const EngineDisk *disk = disks->pdata[i];
        g_autofree char *entry = node_disk_entry(disk);
        g_autofree char *content = node_content_entry(disk);
        /* An internal state has no file of its own, a machine that runs no content that stays: no other file may pass
           for it. */
        if (g_strcmp0(entry, name) == 0)
            return disk->layer == 0 ? 0 : node_ino(NODE_LAYER, disk->layer);
        if (g_strcmp0(content, name) == 0)
            return node_content_ino(node_kind(dir), disk->content);
    }
    EngineId layer = ops->chain_file(fs->engine, id, name);
    return layer == 0 ? 0 : node_ino(NODE_LAYER, layer);
}

static fuse_ino_t find_scratch(Fs *fs, fuse_ino_t dir, const char *name)
{
    guint64 id = scratch_find(fs->scratch, dir, name);
    return id == 0 ? 0 : node_ino(NODE_SCRATCH, id);
}

fuse_ino_t node_lookup(Fs *fs, fuse_ino_t dir, const char *name)
{
    NodeKind in = node_kind(dir);
    EngineId id = node_id(dir);
    fuse_ino_t found = find_fixed(fs, in, id, name);
    if (found != 0)
        return node_is_ctl(found) ? turns_lookup(fs->turns, found) : found;
    if (in == NODE_ROOT || in == NODE_DOMAIN) {
        EngineId child = node_find(fs, id, name);
        if (child != 0)
            return node_ino(in == NODE_ROOT ? NODE_DOMAIN : NODE_SNAPSHOT, child);
    }
    if (in == NODE_SNAPSHOT || in == NODE_ACTIVE)
        found = find_image(fs, dir, name);
    return found != 0 ? found : find_scratch(fs, dir, name);
}

gboolean node_entry(Fs *fs, fuse_ino_t ino, struct fuse_entry_param *ret_entry)
{
    const NodeSpec *spec = &specs[node_kind(ino)];
    struct fuse_entry_param entry = {
        .ino = ino,
        .generation = 1,
        .entry_timeout = spec->entry_timeout,
        .attr_timeout = spec->attr_timeout,
    };
    if (!node_attr(fs, ino, &entry.attr))
        return FALSE;
    *ret_entry = entry;
    return TRUE;
}

EngineId node_domain(Fs *fs, fuse_ino_t ino)
{
    EngineLook now;
    if (node_id(ino) == 0 || node_kind(ino) >= NODE_CONTENT || !look(fs, ino, &now))
        return 0;
    return now.domain;
}

fuse_ino_t node_above(Fs *fs, fuse_ino_t dir)
{
    NodeKind kind = node_kind(dir);
    if (kind == NODE_ACTIVE)
        return node_ino(NODE_DOMAIN, node_id(dir));
    EngineId domain = kind == NODE_SNAPSHOT ? node_domain(fs, dir) : 0;
    return domain == 0 ? FUSE_ROOT_ID : node_ino(NODE_DOMAIN, domain);
}
