/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot_read.h"

#include <errno.h>
#include <string.h>

#include "error.h"

/* What <max_size unit='...'> may say; in front of B or iB, and libvirt takes the bare letter as iB. */
static const char size_letters[] = "KMGTPE";

/* The number of bytes one @unit has (NULL: a byte); 0: unknown. */
static guint64 unit_bytes(const char *unit)
{
    if (unit == NULL || g_ascii_strcasecmp(unit, "b") == 0 || g_ascii_strcasecmp(unit, "bytes") == 0)
        return 1;
    const char *letter = unit[0] != '\0' ? strchr(size_letters, g_ascii_toupper(unit[0])) : NULL;
    if (letter == NULL)
        return 0;
    gboolean decimal = g_ascii_strcasecmp(unit + 1, "b") == 0;
    if (!decimal && unit[1] != '\0' && g_ascii_strcasecmp(unit + 1, "ib") != 0)
        return 0;
    guint64 bytes = 1;
    for (const char *p = size_letters; p <= letter; p++)
        bytes *= decimal ? 1000 : 1024;
    return bytes;
}

/* Bring <max_size> into the form that is printed: in bytes. */
static gboolean settle_max_size(xmlNode *node, GError **error)
{
    g_autofree char *text = xml_text(node);
    g_autofree char *unit = xml_attr(node, "unit");
    guint64 scale = unit_bytes(unit);
    guint64 number = 0;
    if (text == NULL || scale == 0 ||
        !g_ascii_string_to_unsigned(g_strstrip(text), 10, 0, G_MAXUINT64 / scale, &number, NULL)) {
        xml_set_error(error, EINVAL, node, "is not a size");
        return FALSE;
    }
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, number * scale);
    xml_set_attr(node, "unit", "bytes");
    xml_set_text(node, bytes);
    return TRUE;
}

/* Leave of @node only the children called @child and the attribute @attr (NULL: none). */
static void reduce(xmlNode *node, const char *child, const char *attr)
{
    for (xmlNode *each = node->children, *next; each != NULL; each = next) {
        next = each->next;
        if (!xml_is(each, child))
            xml_remove_node(each);
    }
    for (xmlAttr *each = node->properties, *next; each != NULL; each = next) {
        next = each->next;
        if (attr == NULL || each->ns != NULL || strcmp((const char *)each->name, attr) != 0)
            xmlRemoveProp(each);
    }
}

static gboolean read_driver(SnapshotDisk *disk, xmlNode *node, GError **error)
{
    xmlNode *driver = xml_child(node, "driver");
    g_autofree char *word = xml_attr(driver, "type");
    if (word != NULL && !image_format_from_string(word, &disk->format)) {
        xml_set_error(error, EOPNOTSUPP, driver, "image format '%s' is not supported", word);
        return FALSE;
    }
    xmlNode *cache = xml_child(driver, "metadata_cache");
    xmlNode *size = xml_child(cache, "max_size");
    if (size == NULL)
        return TRUE;
    if (disk->format != FORMAT_QCOW2) {
        xml_set_error(error, EOPNOTSUPP, cache, "only a qcow2 image has one");
        return FALSE;
    }
    if (!settle_max_size(size, error))
        return FALSE;
    reduce(cache, "max_size", NULL);
    reduce(driver, "metadata_cache", "type");
    disk->driver = driver;
    return TRUE;
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

/* Of a local source libvirt keeps the path and the security labels. */
static gboolean read_source(SnapshotDisk *disk, xmlNode *node, GError **error)
{
    xmlNode *source = xml_child(node, "source");
    if (source == NULL)
        return TRUE;
    if (disk->type == DISK_NETWORK) {
        disk->source_node = source;
        return TRUE;
    }
    const char *attr = disk->type == DISK_BLOCK ? "dev" : "file";
    g_autofree char *path = xml_attr(source, attr);
    if (path == NULL || path[0] == '\0')
        return TRUE;
    if (path[0] != '/') {
        xml_set_error(error, EINVAL, source, "'%s' is not an absolute path", path);
        return FALSE;
    }
    reduce(source, "seclabel", attr);
    if (source->children != NULL)
        disk->source_node = source;
    disk->source = g_steal_pointer(&path);
    return TRUE;
}

static gboolean read_mode(SnapshotDisk *disk, const xmlNode *node, GError **error)
{
    gboolean named = disk->source != NULL || (disk->type == DISK_NETWORK && disk->source_node != NULL);
    g_autofree char *word = xml_attr(node, "snapshot");
    if (word != NULL && !snap_mode_from_string(word, &disk->mode)) {
        xml_set_error(error, EINVAL, node, "unknown snapshot='%s'", word);
        return FALSE;
    }
    if (word == NULL && (named || disk->format != FORMAT_NONE))
        disk->mode = MODE_EXTERNAL;
    if (!named || disk->mode == MODE_EXTERNAL)
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, node, "an image can only be given with snapshot='external'");
    return FALSE;
}

SnapshotDisk *snapshot_read_disk(xmlNode *node, GError **error)
{
    g_autofree char *name = xml_attr(node, "name");
    if (name == NULL || name[0] == '\0') {
        xml_set_error(error, EINVAL, node, "the disk has no name='...'");
        return NULL;
    }
    g_autoptr(SnapshotDisk) disk = snapshot_disk_new(name, MODE_DEFAULT);
    disk->delete_in_progress = xml_child(node, "snapshotDeleteInProgress") != NULL;
    if (!read_type(disk, node, error) || !read_driver(disk, node, error) || !read_source(disk, node, error) ||
        !read_mode(disk, node, error)) {
        g_prefix_error(error, "disk '%s': ", name);
        return NULL;
    }
    return g_steal_pointer(&disk);
}

gboolean snapshot_read_memory(const xmlNode *root, SnapMode *ret_mode, char **ret_file, GError **error)
{
    const xmlNode *node = xml_child(root, "memory");
    g_autofree char *word = xml_attr(node, "snapshot");
    g_autofree char *file = xml_attr(node, "file");
    SnapMode mode = MODE_DEFAULT;
    if (file != NULL && file[0] == '\0')
        g_clear_pointer(&file, g_free);
    if (word != NULL && !snap_mode_from_string(word, &mode)) {
        xml_set_error(error, EINVAL, node, "unknown snapshot='%s'", word);
        return FALSE;
    }
    if (!memory_mode_finish(&mode, file, error)) {
        g_prefix_error(error, "line %ld: ", xmlGetLineNo(node));
        return FALSE;
    }
    *ret_mode = mode;
    *ret_file = g_steal_pointer(&file);
    return TRUE;
}

char *snapshot_read_text(const xmlNode *root, const char *name)
{
    char *text = xml_text(xml_child(root, name));
    if (text != NULL && text[0] == '\0')
        g_clear_pointer(&text, g_free);
    return text;
}
