/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI: which device is where. Addresses that the document gives stay; a device without one gets the next free
 * slot of bus 0, the display first, then controllers, then the others in order. Buses that are used and not
 * described become root ports (q35) or bridges (pc).
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

enum { SLOTS = 32, FUNCTIONS = 8, MAX_BUS = 255, BUILTIN_SLOT = 1, Q35_SLOT = 0x1f };

typedef struct {
    gboolean q35;
    GHashTable *used;  /* key() -> device element, or builtin */
    GHashTable *buses; /* number of a bus -> its controller, or builtin */
} Map;

typedef struct {
    guint64 bus, slot, function;
} Address;

static const char builtin[] = ""; /* stands for what the chipset has */

static gpointer key(guint64 bus, guint64 slot, guint64 function)
{
    return GUINT_TO_POINTER((guint)(bus << 8 | slot << 3 | function) + 1);
}

/* --- which devices are PCI devices --- */

static gboolean attr_is(const xmlNode *node, const char *attr, const char *value)
{
    g_autofree char *is = xml_attr(node, attr);
    return g_strcmp0(is, value) == 0;
}

static gboolean attr_among(const xmlNode *node, const char *attr, const char *const *words)
{
    g_autofree char *is = xml_attr(node, attr);
    return is && g_strv_contains(words, is);
}

/* Does the chipset have it already? */
static gboolean controller_is_builtin(const xmlNode *node, gboolean q35)
{
    static const char *const roots[] = {"pci-root", "pcie-root", NULL};
    guint64 index = 0;
    (void)launch_number(node, "index", 0, G_MAXUINT32, &index, NULL);
    return (attr_is(node, "type", "pci") && (index == 0 || attr_among(node, "model", roots))) ||
           (index == 0 && attr_is(node, "type", q35 ? "sata" : "ide"));
}

static gboolean controller_is_pci(const xmlNode *node, gboolean q35)
{
    static const char *const types[] = {"pci", "usb", "ide", "sata", "scsi", "virtio-serial", NULL};
    return attr_among(node, "type", types) && !attr_is(node, "model", "none") &&
           !controller_is_builtin(node, q35);
}

static gboolean is_pci(const xmlNode *node, gboolean q35)
{
    if (xml_is(node, "disk"))
        return attr_is(xml_child(node, "target"), "bus", "virtio");
    if (xml_is(node, "controller"))
        return controller_is_pci(node, q35);
    if (xml_is(node, "input"))
        return attr_is(node, "bus", "virtio");
    if (xml_is(node, "video"))
        return !attr_is(xml_child(node, "model"), "type", "none");
    if (xml_is(node, "memballoon"))
        return !attr_is(node, "model", "none");
    if (xml_is(node, "watchdog"))
        return attr_is(node, "model", "i6300esb");
    return xml_is(node, "interface") || xml_is(node, "rng");
}

/* --- addresses --- */

/* *ret_there: it has one. */
static gboolean read_address(const xmlNode *node, Address *ret_address, gboolean *ret_there, GError **error)
{
    const xmlNode *element = xml_child(node, "address");
    Address address = {0};
    guint64 domain = 0;
    *ret_there = FALSE;
    if (!element || !xml_is(element, "address") || element->properties == NULL)
        return TRUE;
    if (!attr_is(element, "type", "pci")) {
        xml_set_error(error, EINVAL, element, "the device needs an address of type='pci'");
        return FALSE;
    }
    g_autofree char *bus = xml_attr(element, "bus"), *slot = xml_attr(element, "slot");
    if (!bus && !slot)
        return TRUE; /* of that type, wherever it is */
    if (!launch_number(element, "domain", 0, 0, &domain, error) ||
        !launch_number(element, "bus", 0, MAX_BUS, &address.bus, error) ||
        !launch_number(element, "slot", 0, SLOTS - 1, &address.slot, error) ||
        !launch_number(element, "function", 0, FUNCTIONS - 1, &address.function, error))
        return FALSE;
    *ret_address = address;
    *ret_there = TRUE;
    return TRUE;
}

static void write_hex(xmlNode *node, const char *attr, int digits, guint64 value)
{
    g_autofree char *text = g_strdup_printf("0x%0*x", digits, (guint)value);
    xml_set_attr(node, attr, text);
}

static void write_address(Map *map, xmlNode *device, const Address *address)
{
    xmlNode *node = launch_new_address(device, "pci");
    write_hex(node, "domain", 4, 0);
    write_hex(node, "bus", 2, address->bus);
    write_hex(node, "slot", 2, address->slot);
    write_hex(node, "function", 1, address->function);
    g_hash_table_insert(map->used, key(address->bus, address->slot, address->function), device);
}

static gboolean slot_is_free(const Map *map, guint64 bus, guint64 slot)
{
    for (guint function = 0; function < FUNCTIONS; function++)
        if (g_hash_table_contains(map->used, key(bus, slot, function)))
            return FALSE;
    return TRUE;
}

static gboolean take_explicit(Map *map, xmlNode *device, GError **error)
{
    Address at;
    gboolean there;
    if (!read_address(device, &at, &there, error))
        return FALSE;
    if (!there)
        return TRUE;
    const void *other = g_hash_table_lookup(map->used, key(at.bus, at.slot, at.function));
    if (other) {
        const char *what = other == builtin ? NULL : (const char *)((const xmlNode *)other)->name;
        xml_set_error(error, EINVAL, xml_child(device, "address"), "%02x:%02x.%x is taken by %s%s%s",
                      (guint)at.bus, (guint)at.slot, (guint)at.function,
                      what ? "another <" : "the machine itself", what ? what : "", what ? ">" : "");
        return FALSE;
    }
    g_hash_table_insert(map->used, key(at.bus, at.slot, at.function), device);
    return TRUE;
}

static gboolean assign(Map *map, xmlNode *device, guint64 first, GError **error)
{
    Address at = {0};
    gboolean there;
    if (!read_address(device, &at, &there, error))
        return FALSE;
    if (there)
        return TRUE;
    for (at.slot = first; at.slot < SLOTS; at.slot++) {
        if (!slot_is_free(map, 0, at.slot))
            continue;
        write_address(map, device, &at);
        return TRUE;
    }
    if (xmlGetLineNo(device) > 0)
        xml_set_error(error, EOPNOTSUPP, device,
                      "no slot of PCI bus 0 is free for it: give it an <address> on another bus");
    else /* it does not stand in the document that the user knows */
        snap_set_error(
            error, EOPNOTSUPP,
            "no slot of PCI bus 0 is free for a <%s> that other devices need: give some of them an "
            "<address> on another bus",
            (const char *)device->name);
    return FALSE;
}

/* Slot 2 of a pc stays for a display, as libvirt leaves it. */
static guint64 first_slot(const Map *map)
{
    return map->q35 ? 1 : 3;
}

/* --- buses --- */

static gboolean take_bus(Map *map, const xmlNode *controller, GError **error)
{
    guint64 index = 0;
    if (!attr_is(controller, "type", "pci"))
        return TRUE;
    if (!launch_number(controller, "index", 0, MAX_BUS, &index, error))
        return FALSE;
    if (index > 0 && g_hash_table_contains(map->buses, GUINT_TO_POINTER((guint)index))) {
        xml_set_error(error, EINVAL, controller, "there are two of type='pci' with index='%u'", (guint)index);
        return FALSE;
    }
    g_hash_table_insert(map->buses, GUINT_TO_POINTER((guint)index), (gpointer)controller);
    return TRUE;
}

/* A bus that devices are on and no controller makes. */
static gboolean add_bus(Map *map, DomainDef *def, guint64 bus, GError **error)
{
    xmlNode *port = launch_need_controller(def, "pci", bus, map->q35 ? "pcie-root-port" : "pci-bridge");
    g_hash_table_insert(map->buses, GUINT_TO_POINTER((guint)bus), port);
    if (!assign(map, port, first_slot(map), error))
        return FALSE;
    Address at = {0};
    gboolean there;
    if (!read_address(port, &at, &there, error))
        return FALSE;
    xmlNode *target = xml_new_child(port, NULL, "target");
    g_autofree char *number = g_strdup_printf("%u", (guint)bus);
    xml_set_attr(target, map->q35 ? "chassis" : "chassisNr", number);
    if (map->q35)
        write_hex(target, "port", 1, at.slot << 3 | at.function);
    return TRUE;
}

static gboolean add_buses(Map *map, DomainDef *def, const GPtrArray *list, GError **error)
{
    gboolean wanted[MAX_BUS + 1] = {FALSE};
    for (guint i = 0; i < list->len; i++) {
        Address at;
        gboolean there;
        if (!read_address(list->pdata[i], &at, &there, error))
            return FALSE;
        if (there)
            wanted[at.bus] = TRUE;
    }
    for (guint bus = 1; bus <= MAX_BUS; bus++)
        if (wanted[bus] && !g_hash_table_contains(map->buses, GUINT_TO_POINTER(bus)) &&
            !add_bus(map, def, bus, error))
            return FALSE;
    return TRUE;
}

/* What the chipset itself has. */
static void take_chipset(Map *map)
{
    static const guint8 pc[] = {0, 1, 3}, q35[] = {0, 2, 3};
    g_hash_table_insert(map->used, key(0, 0, 0), (gpointer)builtin);
    for (guint i = 0; i < G_N_ELEMENTS(pc); i++)
        g_hash_table_insert(map->used, map->q35 ? key(0, Q35_SLOT, q35[i]) : key(0, BUILTIN_SLOT, pc[i]),
                            (gpointer)builtin);
}

/* The PCI devices: @controllers, or all but these. Caller unrefs. */
static GPtrArray *pci_devices(const Map *map, const DomainDef *def, gboolean controllers)
{
    g_autoptr(GPtrArray) all = launch_devices(xmlDocGetRootElement(def->doc), NULL);
    GPtrArray *list = g_ptr_array_new();
    for (guint i = 0; i < all->len; i++) {
        const xmlNode *node = all->pdata[i];
        if (is_pci(node, map->q35) && xml_is(node, "controller") == controllers)
            g_ptr_array_add(list, all->pdata[i]);
    }
    return list;
}

/* Where libvirt, and QEMU by itself, have the first display. */
static gboolean assign_display(Map *map, const DomainDef *def, GError **error)
{
    g_autoptr(GPtrArray) videos = launch_devices(xmlDocGetRootElement(def->doc), "video");
    guint64 slot = map->q35 ? 1 : 2;
    if (videos->len == 0 || !is_pci(videos->pdata[0], map->q35))
        return TRUE;
    return assign(map, videos->pdata[0], slot, error);
}

static gboolean assign_all(Map *map, const GPtrArray *list, GError **error)
{
    for (guint i = 0; i < list->len; i++)
        if (!assign(map, list->pdata[i], first_slot(map), error))
            return launch_name_disk(error, list->pdata[i]);
    return TRUE;
}

/* The USB controller of the chipset of a pc has its place there. */
static void place_piix_usb(Map *map, const GPtrArray *controllers)
{
    static const char *const models[] = {"piix3-uhci", "piix4-uhci", NULL};
    static const Address at = {0, BUILTIN_SLOT, 2};
    for (guint i = 0; !map->q35 && i < controllers->len; i++) {
        xmlNode *node = controllers->pdata[i];
        if (!attr_is(node, "type", "usb") || !attr_among(node, "model", models) ||
            xml_child(node, "address") || g_hash_table_contains(map->used, key(at.bus, at.slot, at.function)))
            continue;
        write_address(map, node, &at);
    }
}

static gboolean fill(Map *map, DomainDef *def, GError **error)
{
    g_autoptr(GPtrArray) controllers = pci_devices(map, def, TRUE), others = pci_devices(map, def, FALSE);
    for (guint i = 0; i < controllers->len; i++)
        if (!take_bus(map, controllers->pdata[i], error) || !take_explicit(map, controllers->pdata[i], error))
            return FALSE;
    for (guint i = 0; i < others->len; i++)
        if (!take_explicit(map, others->pdata[i], error))
            return launch_name_disk(error, others->pdata[i]);
    place_piix_usb(map, controllers);
    return assign_display(map, def, error) && add_buses(map, def, controllers, error) &&
           add_buses(map, def, others, error) && assign_all(map, controllers, error) &&
           assign_all(map, others, error);
}

gboolean launch_pci_complete(DomainDef *def, gboolean q35, GError **error)
{
    Map map = {q35, g_hash_table_new(NULL, NULL), g_hash_table_new(NULL, NULL)};
    take_chipset(&map);
    gboolean ok = fill(&map, def, error);
    g_hash_table_unref(map.used);
    g_hash_table_unref(map.buses);
    return ok;
}

/* --- on the command line --- */

char *launch_pci_bus(gboolean q35, guint64 bus)
{
    return bus == 0 && q35 ? g_strdup("pcie.0") : g_strdup_printf("pci.%u", (guint)bus);
}

/* How many devices of the document are in each slot, by the key of its first function. */
static GHashTable *count_slots(const LaunchBuild *build)
{
    g_autoptr(GPtrArray) all = launch_devices(build->root, NULL);
    GHashTable *slots = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < all->len; i++) {
        Address at;
        gboolean there;
        if (!is_pci(all->pdata[i], build->q35) || !read_address(all->pdata[i], &at, &there, NULL) || !there)
            continue;
        gpointer slot = key(at.bus, at.slot, 0);
        guint n = GPOINTER_TO_UINT(g_hash_table_lookup(slots, slot));
        g_hash_table_insert(slots, slot, GUINT_TO_POINTER(n + 1));
    }
    return slots;
}

/* Does another device share the slot? Then the first function has to say so. */
static gboolean shares_slot(LaunchBuild *build, const Address *at)
{
    if (!build->slots)
        build->slots = count_slots(build);
    return GPOINTER_TO_UINT(g_hash_table_lookup(build->slots, key(at->bus, at->slot, 0))) > 1;
}

gboolean launch_place(LaunchBuild *build, json_t *object, const xmlNode *device, GError **error)
{
    Address at;
    gboolean there;
    if (!read_address(device, &at, &there, error))
        return FALSE;
    g_assert(there); /* the document is complete */
    g_autofree char *bus = launch_pci_bus(build->q35, at.bus);
    g_autofree char *addr = at.function == 0
                                ? g_strdup_printf("0x%x", (guint)at.slot)
                                : g_strdup_printf("0x%x.0x%x", (guint)at.slot, (guint)at.function);
    json_object_set_new(object, "bus", json_string(bus));
    if (at.function == 0 && shares_slot(build, &at))
        json_object_set_new(object, "multifunction", json_true());
    json_object_set_new(object, "addr", json_string(addr));
    return launch_set_switch(object, "multifunction", xml_child(device, "address"), "multifunction", error);
}
