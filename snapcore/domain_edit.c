/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changing a domain's definition: document and fields in step. */
#include <string.h>

#include "domain.h"

static GPtrArray *copy_backing(const GPtrArray *backing)
{
    GPtrArray *copy = g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
    for (guint i = 0; backing != NULL && i < backing->len; i++) {
        const BackingDef *level = g_ptr_array_index(backing, i);
        g_ptr_array_add(copy, backing_def_new(level->path, level->format));
    }
    return copy;
}

static DiskDef *copy_disk(const DiskDef *disk, xmlNode *node)
{
    DiskDef *copy = g_memdup2(disk, sizeof(*disk));
    copy->target = g_strdup(disk->target);
    copy->bus = g_strdup(disk->bus);
    copy->source = g_strdup(disk->source);
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

/* What of <source> belongs to the disk and not to the image that it names. */
static gboolean stays_with_disk(const xmlAttr *attr)
{
    return attr->ns == NULL && strcmp((const char *)attr->name, "startupPolicy") == 0;
}

static void clear_source(xmlNode *source)
{
    for (xmlAttr *attr = source->properties, *next; attr != NULL; attr = next) {
        next = attr->next;
        if (!stays_with_disk(attr))
            xmlRemoveProp(attr);
    }
    for (xmlNode *child = source->children, *next; child != NULL; child = next) {
        next = child->next;
        if (!xml_is(child, "seclabel"))
            xml_remove_node(child);
    }
}

static void name_image(xmlNode *source, DiskType type, const char *path)
{
    xml_set_attr(source, type == DISK_BLOCK ? "dev" : "file", path);
}

static xmlNode *set_driver(xmlNode *disk, ImageFormat format)
{
    xmlNode *driver = xml_child(disk, "driver");
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

/* One level in @parent, behind @after. BackingDef has no type: devices are recognised by where they are. */
static xmlNode *add_level(xmlNode *parent, xmlNode *after, const BackingDef *level)
{
    DiskType type = g_str_has_prefix(level->path, "/dev/") ? DISK_BLOCK : DISK_FILE;
    xmlNode *store = xml_new_child(parent, after, "backingStore");
    xml_set_attr(store, "type", disk_type_to_string(type));
    xmlNode *format = xml_new_child(store, NULL, "format");
    /* The format is mandatory here; where none is said, libvirt takes an image as raw. */
    xml_set_attr(format, "type",
                 image_format_to_string(level->format != FORMAT_NONE ? level->format : FORMAT_RAW));
    name_image(xml_new_child(store, format, "source"), type, level->path);
    return store;
}

/* Replace <backingStore> of @disk, if it has one, by what @backing lists; @whole: and an empty one that ends the
 * chain. */
static void set_backing(xmlNode *disk, xmlNode *source, const GPtrArray *backing, gboolean whole)
{
    xmlNode *old = xml_child(disk, "backingStore");
    if (old == NULL)
        return;
    for (; old != NULL; old = xml_child(disk, "backingStore"))
        xml_remove_node(old);
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
        if (level->path == NULL)
            g_ptr_array_set_size(copy, (gint)i);
    }
    return copy;
}

void domain_def_set_source(DomainDef *def, DiskDef *disk, DiskType type, const char *path, ImageFormat format,
                           const GPtrArray *backing)
{
    /* The arguments may be the disk's own: copy before anything is freed. */
    char *source_path = g_strdup(path);
    GPtrArray *levels = copy_local_backing(backing);
    xmlNode *driver = set_driver(disk->node, format);
    xmlNode *source = xml_child(disk->node, "source");
    if (source == NULL)
        source = xml_new_child(disk->node, driver, "source");
    clear_source(source);
    name_image(source, type, source_path);
    xml_set_attr(disk->node, "type", disk_type_to_string(type));
    gboolean listed = xml_child(disk->node, "backingStore") != NULL;
    set_backing(disk->node, source, levels, backing == NULL || levels->len == backing->len);

    g_free(disk->source);
    g_ptr_array_unref(disk->backing);
    disk->type = type;
    disk->source = source_path;
    disk->has_source = TRUE;
    disk->format = format;
    disk->backing = listed ? levels : copy_backing(NULL);
    if (!listed)
        g_ptr_array_unref(levels);
}

/* Replace the children of @disk called @name by copies of those @from has. */
static void take_children(xmlNode *disk, const xmlNode *from, const char *name)
{
    xmlNode *old;
    xmlNode *after = xml_child(disk, "driver");
    while ((old = xml_child(disk, name)) != NULL)
        xml_remove_node(old);
    for (xmlNode *node = xml_child(from, name); node != NULL; node = xml_next(node, name)) {
        xmlNode *copy = xmlDocCopyNode(node, disk->doc, 1);
        if (after != NULL)
            after = xmlAddNextSibling(after, copy);
        else
            after =
                disk->children != NULL ? xmlAddPrevSibling(disk->children, copy) : xmlAddChild(disk, copy);
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

void domain_def_take_source(DomainDef *def, DiskDef *disk, const DiskDef *from)
{
    /* A drive can be empty, a disk cannot. */
    if (disk->device != from->device) {
        take_element(disk, from);
        return;
    }
    set_driver(disk->node, from->format);
    take_children(disk->node, from->node, "backingStore");
    take_children(disk->node, from->node, "source");
    g_autofree char *type = xml_attr(from->node, "type");
    xml_set_attr(disk->node, "type", type != NULL ? type : disk_type_to_string(from->type));

    g_free(disk->source);
    g_ptr_array_unref(disk->backing);
    disk->type = from->type;
    disk->format = from->format;
    disk->source = g_strdup(from->source);
    disk->has_source = from->has_source;
    disk->backing = copy_backing(from->backing);
}
