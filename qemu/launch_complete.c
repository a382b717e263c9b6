/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Completing a document: what libvirt would fill in when it defines the machine, so that the same machine
 * comes out at every start. Only what is needed by something else is added.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

xmlNode *launch_new_address(xmlNode *device, const char *type)
{
    xmlNode *address = xml_child(device, "address");
    if (!address)
        address = xml_new_child(device, device->last, "address");
    xml_set_attr(address, "type", type);
    return address;
}

static void set_number(xmlNode *node, const char *attr, guint64 value)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, value);
    xml_set_attr(node, attr, text);
}

/* --- controllers --- */

static gboolean is_controller(const xmlNode *node, const char *type, guint64 index)
{
    g_autofree char *word = xml_attr(node, "type");
    guint64 number = 0;
    return g_strcmp0(word, type) == 0 && launch_number(node, "index", 0, G_MAXUINT32, &number, NULL) &&
           number == index;
}

const xmlNode *launch_find_controller(const xmlNode *root, const char *type, guint64 index)
{
    for (xmlNode *list = xml_child(root, "devices"); list; list = xml_next(list, "devices"))
        for (xmlNode *node = xml_child(list, "controller"); node; node = xml_next(node, "controller"))
            if (is_controller(node, type, index))
                return node;
    return NULL;
}

/* The list of devices, made where there is none. */
static xmlNode *devices_of(DomainDef *def)
{
    xmlNode *root = xmlDocGetRootElement(def->doc);
    xmlNode *devices = xml_child(root, "devices");
    return devices ? devices : xml_new_child(root, root->last, "devices");
}

xmlNode *launch_need_controller(DomainDef *def, const char *type, guint64 index, const char *model)
{
    xmlNode *node = (xmlNode *)launch_find_controller(xmlDocGetRootElement(def->doc), type, index);
    if (node)
        return node;
    xmlNode *devices = devices_of(def);
    node = xml_new_child(devices, devices->last, "controller");
    xml_set_attr(node, "type", type);
    set_number(node, "index", index);
    if (model)
        xml_set_attr(node, "model", model);
    return node;
}

const char *launch_usb_default(gboolean q35)
{
    return q35 ? "qemu-xhci" : "piix3-uhci";
}

/* A controller that does not say which one it is gets libvirt's choice, and index 0. */
static void complete_controllers(DomainDef *def, gboolean q35)
{
    g_autoptr(GPtrArray) all = launch_devices(xmlDocGetRootElement(def->doc), "controller");
    for (guint i = 0; i < all->len; i++) {
        g_autofree char *type = xml_attr(all->pdata[i], "type"), *model = xml_attr(all->pdata[i], "model");
        g_autofree char *index = xml_attr(all->pdata[i], "index");
        if (!index)
            set_number(all->pdata[i], "index", 0);
        if (model && !g_str_equal(model, "auto"))
            continue;
        if (g_strcmp0(type, "usb") == 0)
            xml_set_attr(all->pdata[i], "model", launch_usb_default(q35));
        else if (g_strcmp0(type, "scsi") == 0)
            xml_set_attr(all->pdata[i], "model", "lsilogic");
    }
}

/* --- places on buses that are not PCI --- */

gboolean launch_drive(const xmlNode *device, LaunchDrive *ret_drive, GError **error)
{
    const xmlNode *address = xml_child(device, "address");
    LaunchDrive drive = {0};
    if (!launch_number(address, "controller", 0, 255, &drive.controller, error) ||
        !launch_number(address, "bus", 0, 255, &drive.bus, error) ||
        !launch_number(address, "target", 0, 255, &drive.target, error) ||
        !launch_number(address, "unit", 0, 16383, &drive.unit, error))
        return FALSE;
    *ret_drive = drive;
    return TRUE;
}

guint64 launch_ide_controller(const LaunchDrive *drive)
{
    return drive->controller + drive->bus / 2;
}

/* Which drive a name like "sdb" stands for: 1. -1: it does not end in letters behind two of them. */
static int drive_number(const char *target)
{
    int number = 0;
    const char *p = strlen(target) > 2 ? target + 2 : "";
    for (; g_ascii_islower(*p) && number < 1000; p++)
        number = number * 26 + (*p - 'a' + 1);
    return *p ? -1 : number - 1;
}

/* How many drives a controller has, on how many buses; the SCSI adapter has an id of its own, 7. */
typedef struct {
    const char *bus, *controller;
    guint64 buses, units;
} DriveBus;

static const DriveBus drive_buses[] = {
    {"ide", "ide", 2, 2}, {"sata", "sata", 1, 6}, {"scsi", "scsi", 1, 7}, {"fdc", "fdc", 1, 2}};

static char *drive_key(const DriveBus *bus, const LaunchDrive *at)
{
    guint64 controller = at->controller, channel = at->bus;
    if (strcmp(bus->bus, "ide") == 0) {
        controller = launch_ide_controller(at);
        channel = at->bus % 2;
    }
    return g_strdup_printf("%s:%u:%u:%u:%u", bus->bus, (guint)controller, (guint)channel, (guint)at->target,
                           (guint)at->unit);
}

static gboolean take_drive(GHashTable *used, const DriveBus *bus, const xmlNode *disk, const LaunchDrive *at,
                           GError **error)
{
    if (g_hash_table_add(used, drive_key(bus, at)))
        return TRUE;
    xml_set_error(error, EINVAL, xml_child(disk, "address"), "another disk has that place already");
    return FALSE;
}

/* *next: where those whose name tells no number go on to look. */
static void place_drive(GHashTable *used, const DriveBus *bus, int *next, DiskDef *disk)
{
    int number = drive_number(disk->target);
    LaunchDrive at;
    for (int n = number < 0 ? *next : number;; n++) {
        at = (LaunchDrive){(guint64)n / (bus->buses * bus->units), (guint64)n / bus->units % bus->buses, 0,
                           (guint64)n % bus->units};
        if (number < 0)
            *next = n + 1;
        if (g_hash_table_add(used, drive_key(bus, &at)))
            break;
    }
    xmlNode *address = launch_new_address(disk->node, "drive");
    set_number(address, "controller", at.controller);
    set_number(address, "bus", at.bus);
    set_number(address, "target", 0);
    set_number(address, "unit", at.unit);
}

static const DriveBus *drive_bus(const DiskDef *disk)
{
    for (guint i = 0; i < G_N_ELEMENTS(drive_buses); i++)
        if (strcmp(drive_buses[i].bus, disk->bus) == 0)
            return &drive_buses[i];
    return NULL;
}

/* Does it have an <address> of @type? EINVAL: one of another type. */
static gboolean has_address(const xmlNode *device, const char *type, gboolean *ret_has, GError **error)
{
    const xmlNode *address = xml_child(device, "address");
    g_autofree char *is = xml_attr(address, "type");
    *ret_has = address != NULL;
    if (!address || g_strcmp0(is, type) == 0)
        return TRUE;
    xml_set_error(error, EINVAL, address, "the device needs an address of type='%s'", type);
    return FALSE;
}

/* First those that say where, or not, they are. */
static gboolean complete_drives(DomainDef *def, GHashTable *used, gboolean explicit, GError **error)
{
    int next[G_N_ELEMENTS(drive_buses)] = {0};
    for (guint i = 0; i < def->disks->len; i++) {
        DiskDef *disk = def->disks->pdata[i];
        const DriveBus *bus = drive_bus(disk);
        LaunchDrive at;
        gboolean has;
        if (!bus)
            continue;
        if (!has_address(disk->node, "drive", &has, error) || !launch_drive(disk->node, &at, error) ||
            (has && explicit && !take_drive(used, bus, disk->node, &at, error)))
            return launch_name_disk(error, disk->node);
        if (!has && !explicit)
            place_drive(used, bus, &next[bus - drive_buses], disk);
    }
    return TRUE;
}

static gboolean need_drive_controllers(DomainDef *def, GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *disk = def->disks->pdata[i];
        const DriveBus *bus = drive_bus(disk);
        LaunchDrive at;
        if (!bus)
            continue;
        if (!launch_drive(disk->node, &at, error))
            return FALSE;
        gboolean ide = strcmp(bus->bus, "ide") == 0, scsi = strcmp(bus->bus, "scsi") == 0;
        launch_need_controller(def, bus->controller, ide ? launch_ide_controller(&at) : at.controller,
                               scsi ? "lsilogic" : NULL);
    }
    return TRUE;
}

/* libvirt's rule, and without it nothing could be placed. */
static gboolean complete_buses(DomainDef *def, gboolean q35, GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        DiskDef *disk = def->disks->pdata[i];
        const char *bus = disk_def_bus(disk);
        if (!bus) {
            xml_set_error(error, EINVAL, xml_child(disk->node, "target"),
                          "bus='...' is missing, and '%s' does not tell it", disk->target);
            return launch_name_disk(error, disk->node);
        }
        if (q35 && strcmp(bus, "ide") == 0) {
            xml_set_error(error, EOPNOTSUPP, disk->node,
                          "disk '%s': a q35 machine has no bus='ide' (it has sata)", disk->target);
            return FALSE;
        }
        if (disk->bus)
            continue;
        disk->bus = g_strdup(bus);
        xml_set_attr(xml_child(disk->node, "target"), "bus", bus);
    }
    return TRUE;
}

/* --- other devices --- */

/* libvirt makes one up and keeps it. This one is always the same for one machine, and no two have the same. */
static void complete_macs(DomainDef *def)
{
    g_autoptr(GPtrArray) all = launch_devices(xmlDocGetRootElement(def->doc), "interface");
    for (guint i = 0; i < all->len; i++) {
        g_autofree char *seed = g_strdup_printf("%s/%u", def->uuid, i);
        g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, seed, -1);
        g_autofree char *mac = g_strdup_printf("52:54:00:%.2s:%.2s:%.2s", hash, hash + 2, hash + 4);
        if (!xml_child(all->pdata[i], "mac"))
            xml_set_attr(xml_new_child(all->pdata[i], NULL, "mac"), "address", mac);
    }
}

static void complete_inputs(DomainDef *def)
{
    g_autoptr(GPtrArray) all = launch_devices(xmlDocGetRootElement(def->doc), "input");
    for (guint i = 0; i < all->len; i++) {
        g_autofree char *bus = xml_attr(all->pdata[i], "bus"), *type = xml_attr(all->pdata[i], "type");
        if (!bus)
            xml_set_attr(all->pdata[i], "bus", g_strcmp0(type, "tablet") == 0 ? "usb" : "ps2");
    }
}

/* Something to be seen on the display. */
static void complete_video(DomainDef *def)
{
    const xmlNode *root = xmlDocGetRootElement(def->doc);
    g_autoptr(GPtrArray) graphics = launch_devices(root, "graphics"), videos = launch_devices(root, "video");
    if (graphics->len == 0 || videos->len > 0)
        return;
    xmlNode *devices = devices_of(def);
    xmlNode *video = xml_new_child(devices, devices->last, "video");
    xml_set_attr(xml_new_child(video, NULL, "model"), "type", "vga");
}

gboolean launch_complete(DomainDef *def, gboolean q35, GError **error)
{
    g_autoptr(GHashTable) used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    complete_controllers(def, q35);
    if (!complete_buses(def, q35, error) || !complete_drives(def, used, TRUE, error) ||
        !complete_drives(def, used, FALSE, error) || !need_drive_controllers(def, error))
        return FALSE;
    complete_macs(def);
    complete_inputs(def);
    complete_video(def);
    return launch_usb_complete(def, q35, error) && launch_serial_complete(def, error) &&
           launch_pci_complete(def, q35, error);
}
