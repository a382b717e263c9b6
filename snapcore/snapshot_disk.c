/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot_disk.h"

#include <errno.h>

#include "error.h"
#include "snapshot_source.h"

SnapshotDisk *snapshot_disk_new(const char *name, SnapMode mode)
{
    SnapshotDisk *disk = g_new0(SnapshotDisk, 1);
    disk->name = g_strdup(name);
    disk->mode = mode;
    return disk;
}

void snapshot_disk_free(SnapshotDisk *disk)
{
    if (disk == NULL)
        return;
    g_free(disk->name);
    g_free(disk->source);
    g_clear_pointer(&disk->source_node, xmlFreeNode);
    g_free(disk);
}

gboolean snapshot_disk_names_image(const SnapshotDisk *disk)
{
    return disk->source != NULL || (disk->type == DISK_NETWORK && disk->source_node != NULL);
}

static gboolean read_cache_size(SnapshotDisk *disk, const xmlNode *driver, GError **error)
{
    const xmlNode *node = xml_child(xml_child(driver, "metadata_cache"), "max_size");
    g_autofree char *text = xml_text(node);
    g_autofree char *unit = xml_attr(node, "unit");
    if (text == NULL || text[0] == '\0' || size_from_string(text, unit, &disk->cache_size))
        return TRUE;
    xml_set_error(error, EINVAL, node, "is not a size");
    return FALSE;
}

static gboolean read_driver(SnapshotDisk *disk, const xmlNode *node, GError **error)
{
    const xmlNode *driver = xml_child(node, "driver");
    g_autofree char *word = xml_attr(driver, "type");
    if (word != NULL && word[0] != '\0' && !image_format_from_string(word, &disk->format)) {
        xml_set_error(error, EOPNOTSUPP, driver, "image format '%s' is not supported (raw, qcow2, qed are)",
                      word);
        return FALSE;
    }
    return read_cache_size(disk, driver, error);
}

static gboolean read_type(SnapshotDisk *disk, const xmlNode *node, GError **error)
{
    g_autofree char *word = xml_attr(node, "type");
    if (word == NULL)
        return TRUE;
    gboolean known = disk_type_from_string(word, &disk->type);
    if (known && (disk->type == DISK_FILE || disk->type == DISK_BLOCK || disk->type == DISK_NETWORK))
        return TRUE;
    xml_set_error(error, EINVAL, node, "type '%s' cannot be used for a snapshot", word);
    return FALSE;
}

static gboolean read_source(SnapshotDisk *disk, const xmlNode *node, GError **error)
{
    const xmlNode *source = xml_child(node, "source");
    if (source == NULL)
        return TRUE;
    g_autofree char *path =
        disk->type != DISK_NETWORK ? xml_attr(source, snapshot_source_path_attr(disk->type)) : NULL;
    if (path != NULL && path[0] != '\0') {
        if (!image_path_check(path, error)) {
            xml_prefix_error(error, source);
            return FALSE;
        }
        disk->source = g_steal_pointer(&path);
    }
    return snapshot_source_read(source, disk->type, &disk->source_node, error);
}

static gboolean read_mode(SnapshotDisk *disk, const xmlNode *node, GError **error)
{
    g_autofree char *word = xml_attr(node, "snapshot");
    if (word != NULL && !snap_mode_from_string(word, &disk->mode)) {
        xml_set_error(error, EINVAL, node, "unknown snapshot='%s'", word);
        return FALSE;
    }
    if (snapshot_disk_finish(disk, error))
        return TRUE;
    xml_prefix_error(error, node);
    return FALSE;
}

gboolean snapshot_disk_finish(SnapshotDisk *disk, GError **error)
{
    gboolean named = snapshot_disk_names_image(disk);
    if (disk->source != NULL && !image_path_check(disk->source, error))
        return FALSE;
    if (named && disk->mode != MODE_DEFAULT && disk->mode != MODE_EXTERNAL) {
        snap_set_error(error, EOPNOTSUPP, "an image can only be given with snapshot='external'");
        return FALSE;
    }
    if (disk->mode == MODE_DEFAULT && (named || disk->format != FORMAT_NONE))
        disk->mode = MODE_EXTERNAL;
    return TRUE;
}

SnapshotDisk *snapshot_disk_read(const xmlNode *node, GError **error)
{
    g_autofree char *name = xml_attr(node, "name");
    if (name == NULL || name[0] == '\0') {
        xml_set_error(error, EINVAL, node, "the disk has no name='...'");
        return NULL;
    }
    g_autoptr(SnapshotDisk) disk = snapshot_disk_new(name, MODE_DEFAULT);
    disk->line = xmlGetLineNo(node);
    disk->delete_in_progress = xml_child(node, "snapshotDeleteInProgress") != NULL;
    if (!read_type(disk, node, error) || !read_driver(disk, node, error) || !read_source(disk, node, error) ||
        !read_mode(disk, node, error)) {
        g_prefix_error(error, "disk '%s': ", name);
        return NULL;
    }
    return g_steal_pointer(&disk);
}

void snapshot_disk_set_source(SnapshotDisk *disk, DiskType type, const char *path)
{
    xmlNode *labels = NULL;
    if (disk->type != DISK_NETWORK && path != NULL)
        labels = snapshot_source_relabel(disk->source_node, type, path);
    g_clear_pointer(&disk->source_node, xmlFreeNode);
    g_free(disk->source);
    disk->source = g_strdup(path);
    disk->source_node = labels;
    disk->type = type;
}

void snapshot_disk_take_image(SnapshotDisk *disk, const SnapshotDisk *asked)
{
    disk->cache_size = asked->cache_size;
    if (asked->source_node == NULL)
        return;
    g_clear_pointer(&disk->source_node, xmlFreeNode);
    disk->source_node = asked->type == DISK_NETWORK || disk->source == NULL
                            ? xmlDocCopyNode(asked->source_node, NULL, 1)
                            : snapshot_source_relabel(asked->source_node, disk->type, disk->source);
    if (asked->type == DISK_NETWORK)
        disk->type = DISK_NETWORK;
}

/* --- writing --- */

static void write_driver(GString *out, const SnapshotDisk *disk)
{
    if (disk->format == FORMAT_NONE && disk->cache_size == 0)
        return;
    g_string_append(out, "      <driver");
    if (disk->format != FORMAT_NONE)
        xml_write_attr(out, "type", image_format_to_string(disk->format));
    if (disk->cache_size == 0) {
        g_string_append(out, "/>\n");
        return;
    }
    g_string_append_printf(out,
                           ">\n"
                           "        <metadata_cache>\n"
                           "          <max_size unit='bytes'>%" G_GUINT64_FORMAT "</max_size>\n"
                           "        </metadata_cache>\n"
                           "      </driver>\n",
                           disk->cache_size);
}

static void write_source(GString *out, const SnapshotDisk *disk)
{
    if (!snapshot_disk_names_image(disk))
        return;
    if (disk->source_node != NULL) {
        xml_write_node(out, disk->source_node, 6);
    } else {
        g_string_append(out, "      <source");
        xml_write_attr(out, snapshot_source_path_attr(disk->type), disk->source);
        g_string_append(out, "/>\n");
    }
}

void snapshot_disk_write(GString *out, const SnapshotDisk *disk)
{
    gboolean has_image = snapshot_disk_names_image(disk) || disk->format != FORMAT_NONE;
    g_string_append(out, "    <disk");
    xml_write_attr(out, "name", disk->name);
    if (disk->mode != MODE_DEFAULT)
        xml_write_attr(out, "snapshot", snap_mode_to_string(disk->mode));
    if (has_image)
        xml_write_attr(out, "type", disk_type_to_string(disk->type));
    if (!has_image && !disk->delete_in_progress) {
        g_string_append(out, "/>\n");
        return;
    }
    g_string_append(out, ">\n");
    if (disk->delete_in_progress)
        g_string_append(out, "      <snapshotDeleteInProgress/>\n");
    write_driver(out, disk);
    write_source(out, disk);
    g_string_append(out, "    </disk>\n");
}
