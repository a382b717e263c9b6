/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks as the guest sees them. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

typedef struct {
    const char *bus;
    const char *disk, *cdrom, *floppy; /* drivers; NULL: no such thing on that bus */
} DiskDriver;

static const DiskDriver drivers[] = {
    {"virtio", "virtio-blk-pci", NULL, NULL},    {"ide", "ide-hd", "ide-cd", NULL},
    {"sata", "ide-hd", "ide-cd", NULL},          {"scsi", "scsi-hd", "scsi-cd", NULL},
    {"usb", "usb-storage", "usb-storage", NULL}, {"fdc", NULL, NULL, "floppy"},
};

static gboolean bus_is(const DiskDef *disk, const char *bus)
{
    return strcmp(disk->bus, bus) == 0;
}

/* A drive of IDE, whichever bus it is on. */
static gboolean is_ata(const DiskDef *disk)
{
    return bus_is(disk, "ide") || bus_is(disk, "sata");
}

static const char *choose_driver(const DiskDef *disk, GError **error)
{
    const xmlNode *target = xml_child(disk->node, "target");
    for (guint i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (!bus_is(disk, drivers[i].bus))
            continue;
        const char *driver = disk->device == DEVICE_DISK     ? drivers[i].disk
                             : disk->device == DEVICE_CDROM  ? drivers[i].cdrom
                             : disk->device == DEVICE_FLOPPY ? drivers[i].floppy
                                                             : NULL;
        if (!driver)
            xml_set_error(error, EOPNOTSUPP, disk->node, "device='%s' is not supported on bus='%s'",
                          disk_device_to_string(disk->device), disk->bus);
        return driver;
    }
    xml_set_error(error, EOPNOTSUPP, target,
                  "bus='%s' is not supported (virtio, ide, sata, scsi, usb, fdc are)", disk->bus);
    return NULL;
}

/* --- where it is --- */

/* Takes @bus. */
static void set_bus(json_t *object, char *bus)
{
    json_object_set_new(object, "bus", json_string(bus));
    g_free(bus);
}

static gboolean refuse_place(const DiskDef *disk, const char *attr, guint64 value, GError **error)
{
    xml_set_error(error, EINVAL, xml_child(disk->node, "address"), "%s='%u' is not possible on bus='%s'",
                  attr, (guint)value, disk->bus);
    return FALSE;
}

/* An IDE bus with two units; beyond the two buses of a pc, ports of another controller (launch_controllers.c). */
static gboolean place_ide(const DiskDef *disk, const LaunchDrive *at, json_t *object, GError **error)
{
    guint controller = (guint)launch_ide_controller(at), bus = (guint)at->bus % 2, unit = (guint)at->unit;
    if (at->target > 0 || at->unit > 1)
        return refuse_place(disk, at->target > 0 ? "target" : "unit", at->target > 0 ? at->target : at->unit,
                            error);
    if (controller == 0) {
        set_bus(object, g_strdup_printf("ide.%u", bus));
        json_object_set_new(object, "unit", json_integer(unit));
    } else {
        set_bus(object, g_strdup_printf("ide%u.%u", controller, 2 * bus + unit));
    }
    return TRUE;
}

/* What a q35 machine has itself is called ide.0 to ide.5. */
static gboolean place_sata(const LaunchBuild *build, const DiskDef *disk, const LaunchDrive *at,
                           json_t *object, GError **error)
{
    if (at->bus > 0 || at->target > 0 || at->unit > 5)
        return refuse_place(disk,
                            at->bus > 0      ? "bus"
                            : at->target > 0 ? "target"
                                             : "unit",
                            at->bus > 0      ? at->bus
                            : at->target > 0 ? at->target
                                             : at->unit,
                            error);
    if (build->q35 && at->controller == 0)
        set_bus(object, g_strdup_printf("ide.%u", (guint)at->unit));
    else
        set_bus(object, g_strdup_printf("sata%u.%u", (guint)at->controller, (guint)at->unit));
    return TRUE;
}

/* The old adapter has targets only, which a document writes as units; virtio-scsi has both. */
static gboolean place_scsi(const LaunchBuild *build, const DiskDef *disk, const LaunchDrive *at,
                           json_t *object, GError **error)
{
    const xmlNode *controller = launch_find_controller(build->root, "scsi", at->controller);
    g_autofree char *model = xml_attr(controller, "model");
    gboolean virtio = g_strcmp0(model, "virtio-scsi") == 0;
    if (at->bus > 0 || (!virtio && (at->target > 0 || at->unit > 6)))
        return refuse_place(disk,
                            at->bus > 0      ? "bus"
                            : at->target > 0 ? "target"
                                             : "unit",
                            at->bus > 0      ? at->bus
                            : at->target > 0 ? at->target
                                             : at->unit,
                            error);
    set_bus(object, g_strdup_printf("scsi%u.0", (guint)at->controller));
    /* The name by which guests know a disk without a serial: libvirt's. */
    g_autofree char *name =
        virtio ? g_strdup_printf("drive-scsi%u-0-%u-%u", (guint)at->controller, (guint)at->target,
                                 (guint)at->unit)
               : g_strdup_printf("drive-scsi%u-0-%u", (guint)at->controller, (guint)at->unit);
    if (virtio) {
        json_object_set_new(object, "channel", json_integer(0));
        json_object_set_new(object, "scsi-id", json_integer((json_int_t)at->target));
        json_object_set_new(object, "lun", json_integer((json_int_t)at->unit));
    } else {
        json_object_set_new(object, "scsi-id", json_integer((json_int_t)at->unit));
    }
    if (!xml_child(disk->node, "serial"))
        json_object_set_new(object, "device_id", json_string(name));
    return TRUE;
}

static gboolean place(LaunchBuild *build, const DiskDef *disk, json_t *object, GError **error)
{
    LaunchDrive at;
    if (bus_is(disk, "virtio"))
        return launch_place(build, object, disk->node, error);
    if (bus_is(disk, "usb"))
        return launch_place_usb(object, disk->node, error);
    if (!launch_drive(disk->node, &at, error))
        return FALSE;
    if (bus_is(disk, "ide"))
        return place_ide(disk, &at, object, error);
    if (bus_is(disk, "sata"))
        return place_sata(build, disk, &at, object, error);
    if (bus_is(disk, "scsi"))
        return place_scsi(build, disk, &at, object, error);
    if (at.controller > 0 || at.bus > 0 || at.unit > 1)
        return refuse_place(disk, "unit", at.unit, error);
    json_object_set_new(object, "unit", json_integer((json_int_t)at.unit));
    return TRUE;
}

/* --- what it says of itself --- */

/* An element that only disks on some buses have. */
static gboolean check_has(const DiskDef *disk, const char *name, gboolean may, GError **error)
{
    const xmlNode *node = xml_child(disk->node, name);
    if (!node || may)
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, node, "a %s on bus='%s' has none", disk_device_to_string(disk->device),
                  disk->bus);
    return FALSE;
}

static void set_text(json_t *object, const char *key, const xmlNode *node)
{
    g_autofree char *text = launch_text(node);
    if (text)
        json_object_set_new(object, key, json_string(text));
}

static gboolean set_wwn(json_t *object, const xmlNode *node, GError **error)
{
    g_autofree char *text = launch_text(node);
    guint64 wwn;
    if (!node)
        return TRUE;
    const char *digits = text && g_str_has_prefix(text, "0x") ? text + 2 : text;
    if (!digits || strlen(digits) != 16 ||
        !g_ascii_string_to_unsigned(digits, 16, 1, G_MAXINT64, &wwn, NULL)) {
        xml_set_error(error, EINVAL, node, "'%s' is not a name of 16 hexadecimal digits", text ? text : "");
        return FALSE;
    }
    json_object_set_new(object, "wwn", json_integer((json_int_t)wwn));
    return TRUE;
}

static gboolean set_identity(json_t *object, const DiskDef *disk, GError **error)
{
    gboolean scsi = bus_is(disk, "scsi");
    if (!check_has(disk, "serial", !bus_is(disk, "fdc"), error) || !check_has(disk, "vendor", scsi, error) ||
        !check_has(disk, "product", scsi, error) || !check_has(disk, "wwn", is_ata(disk) || scsi, error) ||
        !check_has(disk, "blockio", disk->device == DEVICE_DISK, error))
        return FALSE;
    set_text(object, "serial", xml_child(disk->node, "serial"));
    set_text(object, "vendor", xml_child(disk->node, "vendor"));
    set_text(object, "product", xml_child(disk->node, "product"));
    const xmlNode *blocks = xml_child(disk->node, "blockio");
    return set_wwn(object, xml_child(disk->node, "wwn"), error) &&
           launch_set_number(object, "logical_block_size", blocks, "logical_block_size", 1 << 21, error) &&
           launch_set_number(object, "physical_block_size", blocks, "physical_block_size", 1 << 21, error) &&
           launch_set_number(object, "discard_granularity", blocks, "discard_granularity", G_MAXUINT32,
                             error);
}

/* --- how it works --- */

/* The guest's write cache is the other half of a cache mode. */
static gboolean set_policies(json_t *object, const DiskDef *disk, GError **error)
{
    static const LaunchWord writes[] = {
        {"none", "on"},        {"writeback", "on"}, {"unsafe", "on"}, {"writethrough", "off"},
        {"directsync", "off"}, {"default", NULL},   {NULL, NULL}};
    static const LaunchWord on_write[] = {
        {"stop", "stop"}, {"report", "report"}, {"ignore", "ignore"}, {"enospace", "enospc"}, {NULL, NULL}};
    static const LaunchWord on_read[] = {
        {"stop", "stop"}, {"report", "report"}, {"ignore", "ignore"}, {NULL, NULL}};
    const xmlNode *driver = xml_child(disk->node, "driver");
    const char *write = NULL, *werror = NULL, *rerror = NULL;
    if (!launch_word(driver, "cache", writes, &write, error) ||
        !launch_word(driver, "error_policy", on_write, &werror, error))
        return FALSE;
    rerror = g_strcmp0(werror, "enospc") == 0 ? "report" : werror;
    if (!launch_word(driver, "rerror_policy", on_read, &rerror, error))
        return FALSE;
    /* It is part of a cdrom's drive, and there is nothing to be written. */
    if (write && disk->device == DEVICE_DISK)
        json_object_set_new(object, "write-cache", json_string(write));
    if (werror)
        json_object_set_new(object, "werror", json_string(werror));
    if (rerror)
        json_object_set_new(object, "rerror", json_string(rerror));
    return TRUE;
}

/* Attributes of <driver> or <target> that only some drives have. */
static gboolean check_attr(const DiskDef *disk, const char *element, const char *attr, gboolean may,
                           GError **error)
{
    const xmlNode *node = xml_child(disk->node, element);
    g_autofree char *value = xml_attr(node, attr);
    if (!value || may)
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, node, "%s='%s' is not supported on bus='%s'", attr, value, disk->bus);
    return FALSE;
}

static gboolean set_virtio(json_t *object, const DiskDef *disk, GError **error)
{
    static const char *const attrs[] = {"ioeventfd", "event_idx", "queues", "queue_size", "packed"};
    const xmlNode *driver = xml_child(disk->node, "driver");
    gboolean virtio = bus_is(disk, "virtio");
    for (guint i = 0; i < G_N_ELEMENTS(attrs); i++)
        if (!check_attr(disk, "driver", attrs[i], virtio, error))
            return FALSE;
    return launch_set_switch(object, "ioeventfd", driver, "ioeventfd", error) &&
           launch_set_switch(object, "event_idx", driver, "event_idx", error) &&
           launch_set_switch(object, "packed", driver, "packed", error) &&
           launch_set_number(object, "num-queues", driver, "queues", 65535, error) &&
           launch_set_number(object, "queue-size", driver, "queue_size", 32768, error);
}

static gboolean set_target(json_t *object, const DiskDef *disk, GError **error)
{
    static const LaunchWord trays[] = {{"closed", ""}, {NULL, NULL}};
    const xmlNode *target = xml_child(disk->node, "target");
    const char *tray = NULL;
    gboolean usb = bus_is(disk, "usb");
    if (usb) /* a stick, unless it says that it is one that can be taken out */
        json_object_set_new(object, "removable", json_boolean(disk->device == DEVICE_CDROM));
    return launch_word(target, "tray", trays, &tray, error) &&
           check_attr(disk, "target", "removable", usb, error) &&
           launch_set_switch(object, "removable", target, "removable", error) &&
           check_attr(disk, "target", "rotation_rate",
                      disk->device == DEVICE_DISK && (is_ata(disk) || bus_is(disk, "scsi")), error) &&
           launch_set_number(object, "rotation_rate", target, "rotation_rate", 65534, error);
}

/* --- all --- */

/* What QEMU's drives cannot be: its ATA disks read-only, its USB drives empty. And what must not be shared. */
static gboolean check_kind(const DiskDef *disk, GError **error)
{
    if (disk->readonly && disk->device == DEVICE_DISK && is_ata(disk)) {
        xml_set_error(error, EOPNOTSUPP, xml_child(disk->node, "readonly"),
                      "a disk on bus='%s' is never read-only", disk->bus);
        return FALSE;
    }
    if (!disk->has_source && bus_is(disk, "usb")) {
        xml_set_error(error, EOPNOTSUPP, disk->node, "a drive on bus='usb' cannot be empty");
        return FALSE;
    }
    if (disk->shareable && disk->transient) {
        xml_set_error(error, EINVAL, xml_child(disk->node, "transient"),
                      "what is written to a <shareable/> disk stays");
        return FALSE;
    }
    if (disk->shareable && disk->has_source && !disk->readonly && disk->format != FORMAT_RAW &&
        disk->format != FORMAT_NONE) {
        xml_set_error(error, EOPNOTSUPP, xml_child(disk->node, "shareable"),
                      "two machines would destroy an image of format %s: only a raw one can be shared",
                      image_format_to_string(disk->format));
        return FALSE;
    }
    return TRUE;
}

static LaunchDisk *new_disk(const DiskDef *disk, guint levels)
{
    LaunchDisk *known = g_new0(LaunchDisk, 1);
    known->target = g_strdup(disk->target);
    known->device = launch_device_id(disk->target);
    known->levels = levels;
    if (levels > 0) {
        known->node = launch_node_name(disk->target, levels - 1);
        known->file_node = launch_file_node_name(disk->target, levels - 1);
    }
    return known;
}

static gboolean fill(LaunchBuild *build, json_t *object, const DiskDef *disk, GError **error)
{
    if (!place(build, disk, object, error) || !set_identity(object, disk, error) ||
        !set_policies(object, disk, error) || !set_virtio(object, disk, error) ||
        !set_target(object, disk, error))
        return FALSE;
    if (disk->shareable)
        json_object_set_new(object, "share-rw", json_true());
    if (!bus_is(disk, "fdc"))
        launch_set_boot(build, object, disk->node);
    return TRUE;
}

/* A floppy's place in the order is said of its controller. */
static void add_floppy_boot(LaunchBuild *build, const DiskDef *disk)
{
    LaunchDrive at;
    guint place = launch_boot_place(build, disk->node);
    if (!bus_is(disk, "fdc") || place == 0 || !launch_drive(disk->node, &at, NULL))
        return;
    g_autofree char *global = g_strdup_printf("isa-fdc.bootindex%c=%u", at.unit == 0 ? 'A' : 'B', place);
    launch_add(build, "-global", global);
}

static gboolean add_disk(LaunchBuild *build, const DiskDef *disk, GError **error)
{
    const char *driver = choose_driver(disk, error);
    guint levels;
    if (!driver || !check_kind(disk, error) || !launch_blocks(build, disk, &levels, error))
        return FALSE;
    LaunchDisk *known = new_disk(disk, levels);
    g_ptr_array_add(build->launch->disks, known);
    json_t *object = launch_object(driver, known->device);
    if (known->node)
        json_object_set_new(object, "drive", json_string(known->node));
    if (fill(build, object, disk, error)) {
        add_floppy_boot(build, disk);
        launch_add_json(build, "-device", object);
        return TRUE;
    }
    json_decref(object);
    return FALSE;
}

gboolean launch_disks(LaunchBuild *build, GError **error)
{
    const GPtrArray *disks = build->launch->def->disks;
    for (guint i = 0; i < disks->len; i++) {
        const DiskDef *disk = disks->pdata[i];
        if (!add_disk(build, disk, error))
            return launch_name_disk(error, disk->node);
    }
    return TRUE;
}
