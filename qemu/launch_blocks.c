/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block nodes: every image of a chain, each with its driver and with what lies below it, down to the end.
 * QEMU opens nothing that is not named here, guesses no format and follows no name in a header.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"
#include "nbdnode.h"
#include "remote.h"

/* What <driver> says of all images of a disk. */
typedef struct {
    const char *cache, *io, *discard, *zeroes;
    guint64 table_cache; /* bytes; 0: not said */
} Options;

/* --- files --- */

static json_t *file_node(DiskType type, const char *path, GError **error)
{
    if (type == DISK_NETWORK)
        return nbd_node(path, error);
    return json_pack("{s:s,s:s}", "driver", type == DISK_BLOCK ? "host_device" : "file", "filename", path);
}

static void set_cache(json_t *node, const Options *options)
{
    static const struct {
        const char *mode;
        int direct, no_flush;
    } modes[] = {
        {"none", 1, 0}, {"directsync", 1, 0}, {"writethrough", 0, 0}, {"writeback", 0, 0}, {"unsafe", 0, 1}};
    for (guint i = 0; i < G_N_ELEMENTS(modes); i++)
        if (g_strcmp0(options->cache, modes[i].mode) == 0)
            json_object_set_new(
                node, "cache",
                json_pack("{s:b,s:b}", "direct", modes[i].direct, "no-flush", modes[i].no_flush));
}

/*
 * Writable only as long as something writes through it: a frozen layer is opened for reading, and a merge can
 * still ask for more.
 */
static gboolean add_file(LaunchBuild *build, const BackingDef *image, const char *name,
                         const Options *options, gboolean readonly, GError **error)
{
    json_t *node = file_node(image->type, image->path, error);
    if (!node)
        return FALSE;
    json_object_set_new(node, "node-name", json_string(name));
    json_object_set_new(node, readonly ? "read-only" : "auto-read-only", json_true());
    json_object_set_new(node, "discard", json_string("unmap")); /* the node above decides */
    if (options->io && image->type != DISK_NETWORK)
        json_object_set_new(node, "aio", json_string(options->io));
    set_cache(node, options);
    launch_add_json(build, "-blockdev", node);
    return TRUE;
}

/* --- images --- */

/* @below: node of what it stands on, or NULL. */
static void add_image(LaunchBuild *build, const BackingDef *image, const char *target, guint level,
                      const char *below, const Options *options, gboolean readonly, gboolean top)
{
    g_autofree char *name = launch_node_name(target, level), *file = launch_file_node_name(target, level);
    json_t *node = json_pack("{s:s,s:s,s:b}", "driver", image_format_to_string(image->format), "node-name",
                             name, "read-only", (int)readonly);
    json_object_set_new(node, "file", json_string(file));
    if (image->format != FORMAT_RAW)
        json_object_set_new(node, "backing", below ? json_string(below) : json_null());
    /* Of a layer below as well: joined with the one above, it is what the guest writes. */
    if (options->discard)
        json_object_set_new(node, "discard", json_string(options->discard));
    if (options->zeroes)
        json_object_set_new(node, "detect-zeroes", json_string(options->zeroes));
    if (image->format == FORMAT_QCOW2 && top && options->table_cache)
        json_object_set_new(node, "cache-size", json_integer((json_int_t)options->table_cache));
    set_cache(node, options);
    launch_add_json(build, "-blockdev", node);
}

/* From the bottom up: @images is nearest first. */
static gboolean add_chain(LaunchBuild *build, const DiskDef *disk, const GPtrArray *images,
                          const Options *options, GError **error)
{
    g_autofree char *below = NULL;
    g_autofree char *what = g_strdup_printf("disk '%s'", disk->target);
    for (guint level = 0; level < images->len; level++) {
        const BackingDef *image = images->pdata[images->len - 1 - level];
        gboolean top = level + 1 == images->len;
        g_autofree char *file = launch_file_node_name(disk->target, level);
        launch_image_path(build, image->path, what);
        if (!add_file(build, image, file, options, top && disk->readonly, error))
            return FALSE;
        add_image(build, image, disk->target, level, below, options, !top || disk->readonly, top);
        g_free(below);
        below = launch_node_name(disk->target, level);
    }
    return TRUE;
}

/* --- which images --- */

static gboolean check_image(const BackingDef *image, gboolean last, GError **error)
{
    if (!image->path ||
        (image->type != DISK_FILE && image->type != DISK_BLOCK && image->type != DISK_NETWORK))
        snap_set_error(error, EOPNOTSUPP, "an image of its chain is no file, block device or nbd export");
    else if (image->format == FORMAT_NONE)
        snap_set_error(error, EINVAL, "'%s': its format is not known", image->path);
    else if (image->format == FORMAT_RAW && !last)
        snap_set_error(error, EINVAL, "'%s' is raw and cannot stand on another image", image->path);
    else
        return TRUE;
    return FALSE;
}

static const char *source_of(const DiskDef *disk, GError **error)
{
    static const LaunchWord protocols[] = {{"nbd", ""}, {NULL, NULL}};
    const xmlNode *source = xml_child(disk->node, "source");
    const char *protocol = NULL;
    if (disk->type == DISK_FILE || disk->type == DISK_BLOCK)
        return disk->source;
    if (disk->type == DISK_NETWORK) {
        if (launch_word(source, "protocol", protocols, &protocol, error) && !disk->uri)
            g_free(remote_uri(source, error)); /* it says why */
        return protocol ? disk->uri : NULL;
    }
    xml_set_error(error, EOPNOTSUPP, disk->node, "type='%s' is not supported (file, block and network are)",
                  disk_type_to_string(disk->type));
    return NULL;
}

/* Of BackingDef, the active one first. Caller unrefs. NULL: error. */
static GPtrArray *chain_of(const LaunchBuild *build, const DiskDef *disk, GError **error)
{
    const char *path = source_of(disk, error);
    const GPtrArray *below = g_hash_table_lookup(build->spec->backing, disk->target);
    /* libvirt reads a missing driver type as raw. */
    ImageFormat format = disk->format != FORMAT_NONE ? disk->format : FORMAT_RAW;
    if (!path)
        return NULL;
    if (!below && format != FORMAT_RAW) {
        snap_set_error(error, EINVAL, "what lies below '%s' is not known", path);
        return NULL;
    }
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
    g_ptr_array_add(images, backing_def_new(disk->type, path, format));
    for (guint i = 0; below && i < below->len; i++) {
        const BackingDef *image = below->pdata[i];
        g_ptr_array_add(images, backing_def_new(image->type, image->path, image->format));
    }
    for (guint i = 0; i < images->len; i++)
        if (!check_image(images->pdata[i], i + 1 == images->len, error))
            return NULL;
    return g_steal_pointer(&images);
}

/* What is written goes into an overlay of its own, beside the image where that is a file. */
static void add_overlay(LaunchBuild *build, const DiskDef *disk, GPtrArray *images)
{
    const BackingDef *image = images->pdata[0];
    g_autofree char *dir =
        image->type == DISK_FILE ? g_path_get_dirname(image->path) : g_strdup(build->spec->directory);
    LaunchOverlay *overlay = g_new0(LaunchOverlay, 1);
    overlay->target = g_strdup(disk->target);
    overlay->path = g_strdup_printf("%s/%s.%s.transient", dir, disk->target, build->launch->def->name);
    overlay->below = backing_def_new(image->type, image->path, image->format);
    g_ptr_array_insert(images, 0, backing_def_new(DISK_FILE, overlay->path, FORMAT_QCOW2));
    g_ptr_array_add(build->launch->overlays, overlay);
}

/* --- what <driver> says --- */

static gboolean read_options(const DiskDef *disk, Options *ret_options, GError **error)
{
    static const LaunchWord caches[] = {{"default", NULL},
                                        {"none", "none"},
                                        {"writethrough", "writethrough"},
                                        {"writeback", "writeback"},
                                        {"directsync", "directsync"},
                                        {"unsafe", "unsafe"},
                                        {NULL, NULL}};
    static const LaunchWord ios[] = {
        {"threads", "threads"}, {"native", "native"}, {"io_uring", "io_uring"}, {NULL, NULL}};
    static const LaunchWord discards[] = {{"unmap", "unmap"}, {"ignore", "ignore"}, {NULL, NULL}};
    static const LaunchWord zeroes[] = {{"off", "off"}, {"on", "on"}, {"unmap", "unmap"}, {NULL, NULL}};
    static const LaunchWord names[] = {{"qemu", ""}, {NULL, NULL}};
    const xmlNode *driver = xml_child(disk->node, "driver");
    const xmlNode *size = xml_child(xml_child(driver, "metadata_cache"), "max_size");
    const char *name = NULL;
    Options options = {0};
    if (!launch_word(driver, "name", names, &name, error) ||
        !launch_word(driver, "cache", caches, &options.cache, error) ||
        !launch_word(driver, "io", ios, &options.io, error) ||
        !launch_word(driver, "discard", discards, &options.discard, error) ||
        !launch_word(driver, "detect_zeroes", zeroes, &options.zeroes, error))
        return FALSE;
    if (g_strcmp0(options.zeroes, "unmap") == 0 && g_strcmp0(options.discard, "unmap") != 0)
        options.zeroes = "on"; /* as libvirt: what may not be given back is written */
    g_autofree char *text = launch_text(size), *unit = xml_attr(size, "unit");
    if (size && (!text || !size_from_string(text, unit, &options.table_cache))) {
        xml_set_error(error, EINVAL, size, "'%s' is not a size", text ? text : "");
        return FALSE;
    }
    gboolean direct = g_strcmp0(options.cache, "none") == 0 || g_strcmp0(options.cache, "directsync") == 0;
    if (g_strcmp0(options.io, "native") == 0 && !direct) {
        xml_set_error(error, EINVAL, driver, "io='native' needs cache='none' or cache='directsync'");
        return FALSE;
    }
    *ret_options = options;
    return TRUE;
}

static gboolean check_source(const DiskDef *disk, GError **error)
{
    static const LaunchWord no[] = {{"no", ""}, {NULL, NULL}};
    const xmlNode *source = xml_child(disk->node, "source");
    const char *word = NULL;
    return launch_word(source, "tls", no, &word, error) &&
           launch_word(xml_child(source, "reconnect"), "enabled", no, &word, error);
}

gboolean launch_blocks(LaunchBuild *build, const DiskDef *disk, guint *ret_levels, GError **error)
{
    Options options;
    if (!read_options(disk, &options, error) || !check_source(disk, error))
        return FALSE;
    *ret_levels = 0;
    if (!disk_def_has_media(disk))
        return TRUE;
    g_autoptr(GPtrArray) images = chain_of(build, disk, error);
    if (!images)
        return FALSE;
    if (disk->transient && !disk->readonly)
        add_overlay(build, disk, images);
    *ret_levels = images->len;
    return add_chain(build, disk, images, &options, error);
}
