/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "saveimage_devices.h"

#include <string.h>

static xmlNode *devices_of(const DomainDef *def)
{
    return xml_child(xmlDocGetRootElement(def->doc), "devices");
}

static gboolean has_usb_controller(const xmlNode *devices)
{
    for (xmlNode *node = xml_child(devices, "controller"); node; node = xml_next(node, "controller")) {
        g_autofree char *type = xml_attr(node, "type");
        if (g_strcmp0(type, "usb") == 0)
            return TRUE;
    }
    return FALSE;
}

static void add_usb_controller(xmlNode *devices, const char *model)
{
    xmlNode *node = xml_new_child(devices, xmlGetLastChild(devices), "controller");
    xml_set_attr(node, "type", "usb");
    xml_set_attr(node, "index", "0");
    xml_set_attr(node, "model", model);
}

/* The chipset of "pc", "pc-i440fx-7.2", "pc-1.3", and of a document that does not say. */
static gboolean is_i440fx(const DomainDef *def)
{
    const xmlNode *type = xml_child(xml_child(xmlDocGetRootElement(def->doc), "os"), "type");
    g_autofree char *machine = xml_attr(type, "machine");
    return type && (!machine || strcmp(machine, "pc") == 0 || g_str_has_prefix(machine, "pc-i440fx-") ||
                    (g_str_has_prefix(machine, "pc-") && g_ascii_isdigit(machine[3])));
}

void saveimage_say_none(DomainDef *def)
{
    xmlNode *devices = devices_of(def);
    if (!devices)
        return;
    if (!has_usb_controller(devices))
        add_usb_controller(devices, "none");
    if (!xml_child(devices, "memballoon"))
        xml_set_attr(xml_new_child(devices, xmlGetLastChild(devices), "memballoon"), "model", "none");
}

void saveimage_add_usual(DomainDef *def)
{
    xmlNode *devices = devices_of(def);
    if (devices && is_i440fx(def) && !has_usb_controller(devices))
        add_usb_controller(devices, "piix3-uhci");
}
