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

/* Let @holder's <source>, and its @format element's type=, be about @to. */
static void point(xmlNode *holder, const char *format_element, const char *to, ImageFormat format)
{
    xmlNode *source = xml_child(holder, "source");
    xmlNode *type = xml_child(holder, format_element);
    g_autofree char *dev = xml_attr(source, "dev");
    xml_set_attr(source, dev ? "dev" : "file", to);
    if (type)
        xml_set_attr(type, "type", image_format_to_string(format));
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
static gboolean replace_in_disk(xmlNode *disk, const char *from, const char *to, ImageFormat format)
{
    gboolean changed = names(xml_child(disk, "source"), from);
    if (changed)
        point(disk, "driver", to, format);
    gboolean above = names(xml_child(disk, "source"), to);
    for (xmlNode *store = xml_child(disk, "backingStore"), *holder = disk; store;) {
        xmlNode *source = xml_child(store, "source");
        if (names(source, from)) {
            point(store, "format", to, format);
            changed = TRUE;
        }
        gboolean same = names(source, to);
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

gboolean domain_node_replace_image(xmlNode *root, const char *from, const char *to, ImageFormat format)
{
    gboolean changed = FALSE;
    for (xmlNode *devices = xml_child(root, "devices"); devices; devices = xml_next(devices, "devices"))
        for (xmlNode *disk = xml_child(devices, "disk"); disk; disk = xml_next(disk, "disk"))
            changed |= replace_in_disk(disk, from, to, format);
    return changed;
}

DomainDef *domain_def_replace_image(const DomainDef *def, const char *from, const char *to,
                                    ImageFormat format)
{
    xmlDoc *doc = xmlCopyDoc(def->doc, 1);
    DomainDef *changed = NULL;
    if (domain_node_replace_image(xmlDocGetRootElement(doc), from, to, format))
        changed = domain_def_parse_node(xmlDocGetRootElement(doc), NULL);
    xmlFreeDoc(doc);
    return changed;
}
