/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One image file in the place of others: what a merge does to documents that name them (facts/libvirt-snapshots.md 7.4). */
#include <string.h>

#include "domain.h"

static gboolean names(const xmlNode *source, const char *path)
{
    g_autofree char *file = xml_attr(source, "file");
    g_autofree char *dev = xml_attr(source, "dev");
    return g_strcmp0(file, path) == 0 || g_strcmp0(dev, path) == 0;
}

/* The image that comes in another one's place. */
typedef struct {
    const char *path;
    DiskType type;
    ImageFormat format;
} Image;

/* Let @holder, a <disk> or <backingStore>, its <source>, and its @format_element's type=, be about @to. */
static void point(xmlNode *holder, const char *format_element, const Image *to)
{
    xmlNode *source = xml_child(holder, "source");
    xmlNode *driver = xml_child(holder, format_element);
    gboolean block = to->type == DISK_BLOCK;
    xmlUnsetProp(source, BAD_CAST(block ? "file" : "dev"));
    xml_set_attr(source, block ? "dev" : "file", to->path);
    xml_set_attr(holder, "type", disk_type_to_string(to->type));
    if (driver)
        xml_set_attr(driver, "type", image_format_to_string(to->format));
}

/* Take @store out of the chain: what is below it comes in its place. */
static void splice(xmlNode *store)
{
    xmlNode *below = xml_child(store, "backingStore");
    if (below) {
        xmlUnlinkNode(below);
        xmlAddNextSibling(store, below);
    }
    xml_remove_node(store);
}

/* One disk: every level that names @from names @to; of two neighbours that do, the lower one goes. */
static gboolean replace_in_disk(xmlNode *disk, const char *from, const Image *to)
{
    gboolean changed = names(xml_child(disk, "source"), from);
    if (changed)
        point(disk, "driver", to);
    gboolean above = names(xml_child(disk, "source"), to->path);
    for (xmlNode *store = xml_child(disk, "backingStore"), *holder = disk; store;) {
        xmlNode *source = xml_child(store, "source");
        if (names(source, from)) {
            point(store, "format", to);
            changed = TRUE;
        }
        gboolean same = names(source, to->path);
        if (same && above) {
            splice(store);
            changed = TRUE;
        } else {
            holder = store;
            above = same;
        }
        store = xml_child(holder, "backingStore");
    }
    return changed;
}

gboolean domain_node_replace_image(xmlNode *root, const char *from, const char *path, DiskType type,
                                   ImageFormat format)
{
    const Image to = {path, type, format};
    gboolean changed = FALSE;
    for (xmlNode *devices = xml_child(root, "devices"); devices; devices = xml_next(devices, "devices"))
        for (xmlNode *disk = xml_child(devices, "disk"); disk; disk = xml_next(disk, "disk"))
            changed |= replace_in_disk(disk, from, &to);
    return changed;
}

DomainDef *domain_def_replace_image(const DomainDef *def, const char *from, const char *path, DiskType type,
                                    ImageFormat format)
{
    xmlDoc *doc = xmlCopyDoc(def->doc, 1);
    DomainDef *changed = NULL;
    if (domain_node_replace_image(xmlDocGetRootElement(doc), from, path, type, format))
        changed = domain_def_parse_node(xmlDocGetRootElement(doc), NULL);
    xmlFreeDoc(doc);
    return changed;
}
