/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ports of USB and of virtio-serial controllers: who is at which. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

static gboolean attr_is(const xmlNode *node, const char *attr, const char *value)
{
    g_autofree char *is = xml_attr(node, attr);
    return g_strcmp0(is, value) == 0;
}

/* One port each of numbered controllers: @type of the address, and the attributes that name controller and port. */
typedef struct {
    const char *type, *controller, *port;
    const char *what; /* in errors */
} Ports;

static const Ports usb_ports = {"usb", "bus", "port", "USB"};
static const Ports serial_ports = {"virtio-serial", "controller", "port", "virtio-serial"};

enum { MAX_PORTS = 31, MAX_CONTROLLER = 255 };

static gpointer port_key(guint64 controller, guint64 port)
{
    return GUINT_TO_POINTER((guint)(controller << 16 | port) + 1);
}

static gboolean read_port(const Ports *ports, const xmlNode *device, guint64 *ret_controller,
                          guint64 *ret_port, gboolean *ret_there, GError **error)
{
    const xmlNode *address = xml_child(device, "address");
    g_autofree char *port = xml_attr(address, ports->port);
    *ret_controller = *ret_port = 0;
    *ret_there = port != NULL;
    if (!address)
        return TRUE;
    if (!attr_is(address, "type", ports->type)) {
        xml_set_error(error, EINVAL, address, "the device needs an address of type='%s'", ports->type);
        return FALSE;
    }
    return launch_number(address, ports->controller, 0, MAX_CONTROLLER, ret_controller, error) &&
           launch_number(address, ports->port, 0, MAX_PORTS, ret_port, error);
}

static gboolean take_ports(const Ports *ports, const GPtrArray *devices, GHashTable *used, GError **error)
{
    for (guint i = 0; i < devices->len; i++) {
        guint64 controller, port;
        gboolean there;
        if (!read_port(ports, devices->pdata[i], &controller, &port, &there, error))
            return FALSE;
        if (!there || g_hash_table_add(used, port_key(controller, port)))
            continue;
        xml_set_error(error, EINVAL, xml_child(devices->pdata[i], "address"),
                      "another device has that port already");
        return launch_name_disk(error, devices->pdata[i]);
    }
    return TRUE;
}

static void write_port(const Ports *ports, xmlNode *device, guint64 controller, guint64 port)
{
    xmlNode *address = launch_new_address(device, ports->type);
    g_autofree char *number = g_strdup_printf("%u", (guint)controller);
    g_autofree char *port_number = g_strdup_printf("%u", (guint)port);
    xml_set_attr(address, ports->controller, number);
    if (ports == &serial_ports)
        xml_set_attr(address, "bus", "0");
    xml_set_attr(address, ports->port, port_number);
}

/* Give @device the first port from @first to @last of the controller it names (0 when it names none). */
static gboolean assign_port(const Ports *ports, xmlNode *device, GHashTable *used, guint64 first,
                            guint64 last, GError **error)
{
    guint64 controller, port;
    gboolean there;
    if (!read_port(ports, device, &controller, &port, &there, error))
        return FALSE;
    for (port = first; !there && port <= last; port++) {
        if (!g_hash_table_add(used, port_key(controller, port)))
            continue;
        write_port(ports, device, controller, port);
        return TRUE;
    }
    if (there)
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, device, "no port of %s controller %u is free", ports->what,
                  (guint)controller);
    return FALSE;
}

/* --- USB --- */

static GPtrArray *usb_devices(const DomainDef *def)
{
    g_autoptr(GPtrArray) all = launch_devices(xmlDocGetRootElement(def->doc), NULL);
    GPtrArray *list = g_ptr_array_new();
    for (guint i = 0; i < all->len; i++)
        if ((xml_is(all->pdata[i], "input") && attr_is(all->pdata[i], "bus", "usb")) ||
            (xml_is(all->pdata[i], "disk") && attr_is(xml_child(all->pdata[i], "target"), "bus", "usb")))
            g_ptr_array_add(list, all->pdata[i]);
    return list;
}

static gboolean count_usb_ports(const xmlNode *controller, guint64 *ret_count, GError **error)
{
    static const LaunchWord counts[] = {{"ehci", "6"},     {"ich9-ehci1", "6"}, {"qemu-xhci", "4"},
                                        {"nec-xhci", "4"}, {"pci-ohci", "3"},   {NULL, NULL}};
    const char *count = "2";
    if (attr_is(controller, "model", "none")) {
        xml_set_error(error, EINVAL, controller, "model='none': there is no USB, but a device that needs it");
        return FALSE;
    }
    (void)launch_word(controller, "model", counts, &count, NULL);
    *ret_count = g_ascii_strtoull(count, NULL, 10);
    return launch_number(controller, "ports", 1, 15, ret_count, error);
}

gboolean launch_usb_complete(DomainDef *def, gboolean q35, GError **error)
{
    g_autoptr(GPtrArray) devices = usb_devices(def);
    g_autoptr(GHashTable) used = g_hash_table_new(NULL, NULL);
    if (!take_ports(&usb_ports, devices, used, error))
        return FALSE;
    for (guint i = 0; i < devices->len; i++) {
        guint64 bus, port, count;
        gboolean there;
        if (!read_port(&usb_ports, devices->pdata[i], &bus, &port, &there, error))
            return FALSE;
        const xmlNode *controller = launch_need_controller(def, "usb", bus, launch_usb_default(q35));
        if (!count_usb_ports(controller, &count, error) ||
            !assign_port(&usb_ports, devices->pdata[i], used, 1, count, error))
            return launch_name_disk(error, devices->pdata[i]);
    }
    return TRUE;
}

gboolean launch_place_usb(json_t *object, const xmlNode *device, GError **error)
{
    guint64 bus, port;
    gboolean there;
    if (!read_port(&usb_ports, device, &bus, &port, &there, error))
        return FALSE;
    g_autofree char *name = g_strdup_printf("usb%u.0", (guint)bus);
    g_autofree char *number = g_strdup_printf("%u", (guint)port);
    json_object_set_new(object, "bus", json_string(name));
    json_object_set_new(object, "port", json_string(number));
    return TRUE;
}

/* --- virtio-serial --- */

gboolean launch_is_virtio_char(const xmlNode *device)
{
    return (xml_is(device, "console") || xml_is(device, "channel")) &&
           attr_is(xml_child(device, "target"), "type", "virtio");
}

static GPtrArray *serial_devices(const DomainDef *def)
{
    g_autoptr(GPtrArray) all = launch_devices(xmlDocGetRootElement(def->doc), NULL);
    GPtrArray *list = g_ptr_array_new();
    for (guint i = 0; i < all->len; i++)
        if (launch_is_virtio_char(all->pdata[i]))
            g_ptr_array_add(list, all->pdata[i]);
    return list;
}

/* Port 0 is a console's; QEMU gives it to nothing else. */
gboolean launch_serial_complete(DomainDef *def, GError **error)
{
    g_autoptr(GPtrArray) devices = serial_devices(def);
    g_autoptr(GHashTable) used = g_hash_table_new(NULL, NULL);
    if (!take_ports(&serial_ports, devices, used, error))
        return FALSE;
    for (guint i = 0; i < devices->len; i++) {
        guint64 controller, port, ports = MAX_PORTS;
        gboolean there;
        if (!read_port(&serial_ports, devices->pdata[i], &controller, &port, &there, error))
            return FALSE;
        const xmlNode *node = launch_need_controller(def, "virtio-serial", controller, NULL);
        if (!launch_number(node, "ports", 1, MAX_PORTS, &ports, error) ||
            !assign_port(&serial_ports, devices->pdata[i], used, xml_is(devices->pdata[i], "console") ? 0 : 1,
                         ports - 1, error))
            return FALSE;
    }
    return TRUE;
}
