/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clones.h"
#include "error.h"

/* Longer chains than this are refused at define; ours never grow by themselves to it without being shown in tree. */
#define MAX_DEPTH 1000
#define MAX_LINKS 40 /* the kernel's own limit */

static gboolean is_under(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/*
 * The name in /dev by which @plain leads to a block device, or NULL. It is kept as it is: what it stands for now
 * ("/dev/dm-3" for "/dev/vg/root") may be another device after a restart.
 */
static char *device_name(const char *plain)
{
    struct stat st;
    g_autofree char *name = g_strdup(plain);
    if (stat(plain, &st) < 0 || !S_ISBLK(st.st_mode))
        return NULL;
    for (guint i = 0; i < MAX_LINKS && !file_in_dev(name); i++) {
        g_autofree char *target = g_file_read_link(name, NULL);
        g_autofree char *dir = g_path_get_dirname(name);
        if (!target)
            return NULL;
        g_free(name);
        name = g_canonicalize_filename(target, dir);
    }
    return file_in_dev(name) ? g_steal_pointer(&name) : NULL;
}

/* @plain with its symlinks resolved as far as it exists. */
static char *resolve(const char *plain)
{
    char *real = realpath(plain, NULL);
    if (real) {
        char *copy = g_strdup(real);
        free(real);
        return copy;
    }
    g_autofree char *dir = g_path_get_dirname(plain);
    g_autofree char *base = g_path_get_basename(plain);
    real = realpath(dir, NULL);
    char *copy = real ? g_build_filename(real, base, NULL) : g_strdup(plain);
    free(real);
    return copy;
}

char *chain_real_path(const Core *core, const char *path, GError **error)
{
    g_autofree char *plain = g_canonicalize_filename(path, "/");
    if (core->mountpoint && is_under(plain, core->mountpoint)) {
        snap_set_error(error, EINVAL, "'%s' lies in this mount itself", path);
        return NULL;
    }
    char *copy = device_name(plain);
    if (!copy)
        copy = resolve(plain);
    if (core->mountpoint && is_under(copy, core->mountpoint))
        snap_set_error(error, EINVAL, "'%s' lies in this mount itself", path);
    else if (!g_utf8_validate(copy, -1, NULL) || !xml_text_valid(copy))
        snap_set_error(error, EILSEQ, "'%s' really is a path that XML cannot hold", path);
    else
        return copy;
    g_free(copy);
    return NULL;
}

char *chain_backing_path(const Core *core, const char *path, const char *name, GError **error)
{
    size_t plain = strcspn(name, ":/");
    if (name[plain] == ':') {
        snap_set_error(error, EPERM, "'%s' has the backing file '%s': only plain files are taken", path,
                       name);
        return NULL;
    }
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *joined = g_path_is_absolute(name) ? g_strdup(name) : g_build_filename(dir, name, NULL);
    return chain_real_path(core, joined, error);
}

gboolean chain_check_info(const char *path, const ImageInfo *info, GError **error)
{
    if (info->data_file)
        snap_set_error(error, EOPNOTSUPP, "'%s' keeps its data in another file: not supported", path);
    else if (info->encrypted)
        snap_set_error(error, EOPNOTSUPP, "'%s' is encrypted: not supported", path);
    else if (info->dirty)
        snap_set_error(error, EIO, "'%s' is marked dirty: run qemu-img check on it", path);
    else
        return TRUE;
    return FALSE;
}

/* Is @backing (NULL: none) the file that is recorded below @layer, by this or by another name? */
static gboolean is_recorded(const Layer *layer, const char *backing)
{
    FileLook is, should;
    if (g_strcmp0(backing, layer->backing) == 0)
        return TRUE;
    return backing && layer->backing && file_look(backing, &is, NULL) &&
           file_look(layer->backing, &should, NULL) && file_id_equal(&is.id, &should.id);
}

gboolean chain_check_backing(Core *core, const Layer *layer, const ImageInfo *info, GError **error)
{
    g_autofree char *backing = NULL;
    if (info->backing_name) {
        backing = chain_backing_path(core, layer->path, info->backing_name, error);
        if (!backing)
            return FALSE;
    }
    if (!is_recorded(layer, backing) ||
        (backing && info->backing_format != FORMAT_NONE && info->backing_format != layer->backing_format)) {
        snap_set_error(error, EPERM,
                       "'%s' has the backing file '%s', the store knows '%s': redefine the domain",
                       layer->path, backing ? backing : "none", layer->backing ? layer->backing : "none");
        return FALSE;
    }
    return TRUE;
}

/*
 * Are the files of @layer's chain those that are recorded? One statx a layer. A frozen one that changed makes the
 * domain read-only: no state that stands on it can be trusted.
 */
static gboolean check_chain(Core *core, const Domain *domain, const Layer *layer, GError **error)
{
    for (guint i = 0; layer && i < g_hash_table_size(domain->layers); i++) {
        FileLook look;
        if (!layer_is_local(layer)) {
            layer = domain_find_layer(domain, layer->backing);
            continue;
        }
        if (!file_look(layer->path, &look, error))
            return FALSE;
        if (layer_changed(layer, &look)) {
            snap_set_error(error, EIO, "'%s' was changed from outside: snapshots stand on it", layer->path);
            core_break(core, domain->object.id, error ? (*error)->message : "a frozen layer changed");
            return FALSE;
        }
        layer = domain_find_layer(domain, layer->backing);
    }
    return TRUE;
}

gboolean chain_inspect(Core *core, const Domain *domain, const Layer *layer, ImageInfo **ret_info,
                       GError **error)
{
    g_autoptr(ImageInfo) info = NULL;
    if (!check_chain(core, domain, layer, error) ||
        !core->backend->ops->inspect(core->backend, layer->path, layer->format, &info, error) ||
        !chain_check_info(layer->path, info, error) || !chain_check_backing(core, layer, info, error))
        return FALSE;
    *ret_info = g_steal_pointer(&info);
    return TRUE;
}

/* The definition's own word on the layer at @depth below the disk's image, if it is this @path. */
static const BackingDef *named_backing(const Core *core, const DiskDef *disk, guint depth, const char *path)
{
    if (depth >= disk->backing->len)
        return NULL;
    const BackingDef *named = disk->backing->pdata[depth];
    g_autofree char *real = named->path ? chain_real_path(core, named->path, NULL) : NULL;
    return g_strcmp0(real, path) == 0 ? named : NULL;
}

/* In one directory are images of one owner and purpose; in /dev is everything. */
static gboolean may_take(const Core *core, const char *above, const char *path)
{
    g_autofree char *dir = g_path_get_dirname(above);
    g_autofree char *own = g_path_get_dirname(path);
    if (strcmp(dir, own) == 0 && !file_in_dev(path))
        return TRUE;
    for (guint i = 0; core->backing_dirs && core->backing_dirs[i]; i++)
        if (is_under(path, core->backing_dirs[i]))
            return TRUE;
    return FALSE;
}

/*
 * A "raw" image that is a qcow2 file: the guest would see, and overwrite, its tables. The definition is most likely
 * wrong. Asked once, at define; later the guest may write into its raw disk what it likes.
 */
static gboolean check_raw(Core *core, const Layer *layer, GError **error)
{
    g_autoptr(ImageInfo) info = NULL;
    if (layer->format != FORMAT_RAW ||
        !core->backend->ops->inspect(core->backend, layer->path, FORMAT_QCOW2, &info, NULL))
        return TRUE;
    snap_set_error(error, EINVAL, "'%s' is declared as raw but is a qcow2 image: correct <driver type=>",
                   layer->path);
    return FALSE;
}

/* One layer of the chain: record @layer from its header; *ret_next is the one below, NULL at the end. */
static gboolean record_layer(Core *core, Domain *domain, const DiskDef *disk, guint depth, Layer *layer,
                             Layer **ret_next, GError **error)
{
    FileLook look;
    g_autoptr(GError) why = NULL;
    *ret_next = NULL;
    if (!file_look(layer->path, &look, &why)) {
        layer->file = (FileId){0};
        if (snap_errno(why) == ENOENT)
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    g_autoptr(ImageInfo) info = NULL;
    if (!core->backend->ops->inspect(core->backend, layer->path, layer->format, &info, error) ||
        !chain_check_info(layer->path, info, error) || !check_raw(core, layer, error))
        return FALSE;
    layer->file = look.id;
    layer->type = look.block ? DISK_BLOCK : DISK_FILE;
    g_autofree char *known = g_steal_pointer(&layer->backing);
    if (!info->backing_name)
        return TRUE;

    g_autofree char *below = chain_backing_path(core, layer->path, info->backing_name, error);
    if (!below)
        return FALSE;
    const BackingDef *named = named_backing(core, disk, depth, below);
    gboolean recorded =
        g_strcmp0(known, below) == 0; /* taken before: an overlay that create was given, say */
    if (!named && !recorded && !may_take(core, layer->path, below)) {
        snap_set_error(
            error, EPERM,
            "'%s' has the backing file '%s' in another directory: name it in <backingStore>, move it next "
            "to the image, or mount with -o backing=DIR",
            layer->path, below);
        return FALSE;
    }
    ImageFormat format = info->backing_format != FORMAT_NONE ? info->backing_format
                         : named                             ? named->format
                         : recorded                          ? layer->backing_format
                                                             : FORMAT_NONE;
    if (format == FORMAT_NONE) {
        snap_set_error(
            error, EINVAL,
            "'%s' does not say which format its backing file '%s' has, and it is never guessed: name it in "
            "<backingStore>, or use qemu-img rebase -u -F FORMAT",
            layer->path, below);
        return FALSE;
    }
    layer->backing = g_strdup(below);
    layer->backing_format = format;
    gboolean is_new = domain_find_layer(domain, below) == NULL;
    *ret_next = domain_take_layer(domain, below, format);
    if (is_new)
        (*ret_next)->template = TRUE; /* whoever made it: others may stand on it too */
    return TRUE;
}

gboolean chain_record(Core *core, Domain *domain, const DiskDef *disk, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    Layer *layer =
        domain_take_layer(domain, disk->source, disk->format == FORMAT_NONE ? FORMAT_RAW : disk->format);
    for (guint depth = 0; layer; depth++) {
        Layer *next = domain_find_layer(domain, layer->backing);
        gboolean recorded = layer->frozen || layer->made; /* when it was made, and it may not have changed */
        if (!g_hash_table_add(seen, layer) || (depth >= MAX_DEPTH && !recorded)) {
            gboolean loop = g_hash_table_size(seen) <= depth;
            snap_set_error(error, ELOOP, "its backing chain %s", loop ? "is a loop" : "is too long");
            return FALSE;
        }
        if (!recorded && !record_layer(core, domain, disk, depth, layer, &next, error))
            return FALSE;
        layer = next;
    }
    return TRUE;
}

char *chain_backing_of(Core *core, const char *path)
{
    g_autofree char *name = NULL;
    return clones_backing_name(core->backend, path, &name, NULL) && name
               ? chain_backing_path(core, path, name, NULL)
               : NULL;
}

/* Whose clone is looked for. */
typedef struct {
    const Core *core;
    const Layer *below;
    const Domain *except; /* NULL: nobody's do not count */
} Sought;

/* Is the file @id a layer of @domain that is recorded as standing on @below? */
static gboolean knows_upper(const Domain *domain, const FileId *id, const Layer *below)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        if (g_strcmp0(layer->backing, below->path) == 0 && file_id_equal(&layer->file, id))
            return TRUE;
    }
    return FALSE;
}

/* A name that is more than a path ("json:...") counts when it holds the file's name. */
static gboolean stands_on(const char *file, const FileLook *look, const char *name, gconstpointer user)
{
    const Sought *sought = user;
    const Layer *below = sought->below;
    FileLook under;
    if (sought->except && knows_upper(sought->except, &look->id, below))
        return FALSE;
    g_autofree char *backing = chain_backing_path(sought->core, file, name, NULL);
    if (!backing)
        return strstr(name, strrchr(below->path, '/') + 1) != NULL;
    return file_look(backing, &under, NULL) && file_id_same(&under.id, &below->file);
}

/* The directories that @layer and the images of @domain lie in, a set of paths. */
static GHashTable *directories(const Domain *domain, const Layer *layer)
{
    GHashTable *dirs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_add(dirs, g_path_get_dirname(layer->path));
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *each = value;
        if (layer_is_local(each) && each->type == DISK_FILE && file_id_known(&each->file))
            g_hash_table_add(dirs, g_path_get_dirname(each->path));
    }
    return dirs;
}

gboolean chain_find_clone(Core *core, const Domain *domain, const Layer *layer, gboolean known_too,
                          char **ret_clone, GError **error)
{
    const Sought sought = {core, layer, known_too ? NULL : domain};
    g_autoptr(GHashTable) dirs = directories(domain, layer);
    g_autofree char *clone = NULL;
    GHashTableIter iter;
    gpointer dir;
    g_hash_table_iter_init(&iter, dirs);
    while (!clone && g_hash_table_iter_next(&iter, &dir, NULL))
        if (!clones_find(core->backend, dir, stands_on, &sought, &clone, error))
            return FALSE;
    *ret_clone = g_steal_pointer(&clone);
    return TRUE;
}

gboolean chain_has_clone(Core *core, const Domain *domain, const Layer *layer)
{
    g_autofree char *clone = NULL;
    return !chain_find_clone(core, domain, layer, TRUE, &clone, NULL) || clone;
}
