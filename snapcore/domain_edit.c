/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changing a domain's definition: document and fields in step. */
#include <string.h>

#include "domain.h"
#include "remote.h"

static GPtrArray *copy_backing(const GPtrArray *backing)
{
    GPtrArray *copy = g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
    for (guint i = 0; backing != NULL && i < backing->len; i++) {
        const BackingDef *level = g_ptr_array_index(backing, i);
        g_ptr_array_add(copy, backing_def_new(level->type, level->path, level->format));
    }
    return copy;
}

static DiskDef *copy_disk(const DiskDef *disk, xmlNode *node)
{
    DiskDef *copy = g_memdup2(disk, sizeof(*disk));
    copy->target = g_strdup(disk->target);
    copy->bus = g_strdup(disk->bus);
    copy->source = g_strdup(disk->source);
    copy->uri = g_strdup(disk->uri);
    copy->backing = copy_backing(disk->backing);
    copy->node = node;
    return copy;
}

DomainDef *domain_def_copy(const DomainDef *def)
{
    DomainDef *copy = g_memdup2(def, sizeof(*def));
    copy->name = g_strdup(def->name);
    copy->uuid = g_strdup(def->uuid);
    copy->type = g_strdup(def->type);
    copy->nvram = g_strdup(def->nvram);
    copy->doc = xmlCopyDoc(def->doc, 1);
    copy->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_def_free);
    /* The disks stand in the copied document in the same order. */
    const xmlNode *root = xmlDocGetRootElement(copy->doc);
    guint i = 0;
    for (xmlNode *devices = xml_child(root, "devices"); devices != NULL;
         devices = xml_next(devices, "devices")) {
        for (xmlNode *node = xml_child(devices, "disk"); node != NULL; node = xml_next(node, "disk"), i++)
            g_ptr_array_add(copy->disks, copy_disk(g_ptr_array_index(def->disks, i), node));
    }
    return copy;
}

void domain_def_set_name(DomainDef *def, const char *name)
{
    char *copy = g_strdup(name); /* @name may be def->name */
    g_free(def->name);
    def->name = copy;
    xml_set_text(xml_child(xmlDocGetRootElement(def->doc), "name"), copy);
}

void domain_def_set_uuid(DomainDef *def, const char *uuid)
{
    char *copy = g_strdup(uuid);
    g_free(def->uuid);
    def->uuid = copy;
    xml_set_text(xml_child(xmlDocGetRootElement(def->doc), "uuid"), copy);
}

static void name_image(xmlNode *source, DiskType type, const char *path)
{
    xml_set_attr(source, type == DISK_BLOCK ? "dev" : "file", path);
}

/* Let <source> name another image: of what it says, startupPolicy= alone is the disk's. In libvirt's order. */
static void rename_image(xmlNode *source, DiskType type, const char *path)
{
    g_autofree char *policy = xml_attr(source, "startupPolicy");
    while (source->properties != NULL)
        xmlRemoveProp(source->properties);
    while (source->children != NULL)
        xml_remove_node(source->children);
    name_image(source, type, path);
    if (policy != NULL)
        xml_set_attr(source, "startupPolicy", policy);
}

/* An element that loses its last child element loses the line breaks in it too. */
static void remove_only_child(xmlNode *node, const char *name)
{
    xmlNode *child = xml_child(node, name);
    if (child == NULL)
        return;
    xml_remove_node(child);
    if (xml_first_element(node) == NULL)
        while (node->children != NULL)
            xml_remove_node(node->children);
}

/* Type and cache size of <driver> are the image's, all else is the disk's. */
static xmlNode *set_driver(xmlNode *disk, ImageFormat format)
{
    xmlNode *driver = xml_child(disk, "driver");
    remove_only_child(driver, "metadata_cache");
    if (driver == NULL && format == FORMAT_NONE)
        return NULL;
    if (driver == NULL) {
        driver = xml_new_child(disk, NULL, "driver");
        xml_set_attr(driver, "name", "qemu");
    }
    if (format == FORMAT_NONE)
        xml_remove_attr(driver, "type");
    else
        xml_set_attr(driver, "type", image_format_to_string(format));
    return driver;
}

/* One level in @parent, behind @after. */
static xmlNode *add_level(xmlNode *parent, xmlNode *after, const BackingDef *level)
{
    xmlNode *store = xml_new_child(parent, after, "backingStore");
    xml_set_attr(store, "type", disk_type_to_string(level->type));
    xmlNode *format = xml_new_child(store, NULL, "format");
    /* The format is mandatory here; where none is said, libvirt takes an image as raw. */
    xml_set_attr(format, "type",
                 image_format_to_string(level->format != FORMAT_NONE ? level->format : FORMAT_RAW));
    name_image(xml_new_child(store, format, "source"), level->type, level->path);
    return store;
}

/*
 * Replace <backingStore> of @disk, if it has one, by what @backing lists and, if that is the @whole of it, an empty one that
 * ends the chain. As libvirt: where it said only that there is nothing below, and now there is, the disk gets none.
 */
static void set_backing(xmlNode *disk, xmlNode *source, gboolean was_empty, const GPtrArray *backing,
                        gboolean whole)
{
    xmlNode *old = xml_child(disk, "backingStore");
    if (old == NULL)
        return;
    for (; old != NULL; old = xml_child(disk, "backingStore"))
        xml_remove_node(old);
    if (was_empty && backing->len > 0)
        return;
    xmlNode *parent = disk;
    xmlNode *after = source;
    for (guint i = 0; i < backing->len; i++) {
        const BackingDef *level = g_ptr_array_index(backing, i);
        parent = add_level(parent, after, level);
        after = parent->last;
    }
    if (whole)
        xml_new_child(parent, after, "backingStore");
}

/* Only local levels can be named; what is below another one is left to that image. */
static GPtrArray *copy_local_backing(const GPtrArray *backing)
{
    GPtrArray *copy = copy_backing(backing);
    for (guint i = 0; i < copy->len; i++) {
        const BackingDef *level = g_ptr_array_index(copy, i);
        if (level->path == NULL || level->type == DISK_NETWORK)
            g_ptr_array_set_size(copy, (gint)i);
    }
    return copy;
}

void domain_def_set_path(DiskDef *disk, const char *path)
{
    char *copy = g_strdup(path); /* @path may be disk->source */
    g_free(disk->source);
    disk->source = copy;
    name_image(xml_child(disk->node, "source"), disk->type, copy);
}

/* The fields of @disk after its document was changed. Takes @path and @uri. */
static void set_fields(DiskDef *disk, DiskType type, char *path, char *uri, ImageFormat format,
                       const GPtrArray *backing)
{
    gboolean listed = xml_child(disk->node, "backingStore") != NULL;
    g_free(disk->source);
    g_free(disk->uri);
    g_ptr_array_unref(disk->backing);
    disk->type = type;
    disk->source = path;
    disk->uri = uri;
    disk->has_source = TRUE;
    disk->format = format;
    disk->backing = copy_backing(listed ? backing : NULL);
}

void domain_def_set_source(DomainDef *def, DiskDef *disk, DiskType type, const char *path, ImageFormat format,
                           const GPtrArray *backing)
{
    /* The arguments may be the disk's own: copy before anything is freed. */
    char *source_path = g_strdup(path);
    g_autoptr(GPtrArray) levels = copy_local_backing(backing);
    xmlNode *driver = set_driver(disk->node, format);
    xmlNode *source = xml_child(disk->node, "source");
    if (source == NULL)
        source = xml_new_child(disk->node, driver, "source");
    rename_image(source, type, source_path);
    xml_set_attr(disk->node, "type", disk_type_to_string(type));
    set_backing(disk->node, source, disk->backing->len == 0, levels,
                backing == NULL || levels->len == backing->len);
    set_fields(disk, type, source_path, NULL, format, levels);
}

void domain_def_set_network_source(DomainDef *def, DiskDef *disk, const xmlNode *source, ImageFormat format,
                                   const GPtrArray *backing)
{
    xmlNode *driver = set_driver(disk->node, format);
    xmlNode *old = xml_child(disk->node, "source");
    xmlNode *copy = xmlDocCopyNode((xmlNode *)source, disk->node->doc, 1);
    if (old != NULL)
        xml_remove_node(xmlReplaceNode(old, copy));
    else
        xmlAddNextSibling(driver, copy);
    xml_set_attr(disk->node, "type", disk_type_to_string(DISK_NETWORK));
    g_autoptr(GPtrArray) levels = copy_local_backing(backing);
    set_backing(disk->node, copy, disk->backing->len == 0, levels, levels->len == backing->len);
    set_fields(disk, DISK_NETWORK, NULL, remote_uri(copy, NULL), format, levels);
}

/* Replace the children of @node called @name by copies of those @from has, behind its child @after (NULL: as the first). */
static void take_children(xmlNode *node, xmlNode *after, const xmlNode *from, const char *name)
{
    xmlNode *old;
    while ((old = xml_child(node, name)) != NULL)
        xml_remove_node(old);
    for (xmlNode *child = xml_child(from, name); child != NULL; child = xml_next(child, name)) {
        xmlNode *copy = xmlDocCopyNode(child, node->doc, 1);
        if (after != NULL)
            after = xmlAddNextSibling(after, copy);
        else
            after =
                node->children != NULL ? xmlAddPrevSibling(node->children, copy) : xmlAddChild(node, copy);
    }
}

/* Put a copy of the whole element of @from in the place of @disk's. */
static void take_element(DiskDef *disk, const DiskDef *from)
{
    DiskDef *copy = copy_disk(from, xmlDocCopyNode(from->node, disk->node->doc, 1));
    xmlFreeNode(xmlReplaceNode(disk->node, copy->node));
    DiskDef old = *disk;
    *disk = *copy;
    *copy = old;
    disk_def_free(copy);
}

void domain_def_describe_image(DiskDef *disk, guint64 cache_size, const xmlNode *source)
{
    take_children(xml_child(disk->node, "source"), NULL, source, "seclabel");
    xmlNode *driver = xml_child(disk->node, "driver");
    if (driver == NULL || cache_size == 0)
        return;
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, cache_size);
    xmlNode *size = xml_new_child(xml_new_child(driver, NULL, "metadata_cache"), NULL, "max_size");
    xml_set_attr(size, "unit", "bytes");
    xml_set_text(size, bytes);
}

void domain_def_take_source(DomainDef *def, DiskDef *disk, const DiskDef *from)
{
    /* A drive can be empty, a disk cannot. */
    if (disk->device != from->device) {
        take_element(disk, from);
        return;
    }
    xmlNode *driver = set_driver(disk->node, from->format);
    if (driver != NULL)
        take_children(driver, NULL, xml_child(from->node, "driver"), "metadata_cache");
    take_children(disk->node, driver, from->node, "backingStore");
    take_children(disk->node, driver, from->node, "source");
    g_autofree char *type = xml_attr(from->node, "type");
    xml_set_attr(disk->node, "type", type != NULL ? type : disk_type_to_string(from->type));

    g_free(disk->source);
    g_free(disk->uri);
    g_ptr_array_unref(disk->backing);
    disk->type = from->type;
    disk->format = from->format;
    disk->source = g_strdup(from->source);
    disk->uri = g_strdup(from->uri);
    disk->has_source = from->has_source;
    disk->backing = copy_backing(from->backing);
}
