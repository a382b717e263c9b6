/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Network interfaces: QEMU's own user network, or a bridge of the host. */
#include <errno.h>
#include <gio/gio.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

static const LaunchWord models[] = {
    {"virtio", "virtio-net-pci"}, {"e1000", "e1000"}, {"e1000e", "e1000e"}, {"rtl8139", "rtl8139"},
    {"ne2k_pci", "ne2k_pci"},     {"pcnet", "pcnet"}, {NULL, NULL}};

/* The bridge that the machine joins, or NULL. libvirt tells it of its own networks while a machine runs. */
static char *bridge_of(const xmlNode *node, const char *type, GError **error)
{
    const xmlNode *source = xml_child(node, "source");
    g_autofree char *bridge = xml_attr(source, "bridge");
    g_autofree char *network = xml_attr(source, "network");
    if (bridge && *bridge && !strpbrk(bridge, "/ \t\n") && strlen(bridge) < 16)
        return g_steal_pointer(&bridge);
    if (strcmp(type, "network") == 0)
        xml_set_error(
            error, EOPNOTSUPP, source ? source : node,
            "network='%s' is one of libvirt's; type='bridge' with <source bridge='...'/>, or type='user', is "
            "supported",
            network ? network : "");
    else
        xml_set_error(error, EINVAL, source ? source : node, "bridge='...' names no network device");
    return NULL;
}

/* <ip> of a user network: which addresses it gives. */
static gboolean set_ip(json_t *netdev, const xmlNode *node, GError **error)
{
    static const LaunchWord families[] = {{"ipv4", "ipv4"}, {NULL, NULL}};
    const xmlNode *ip = xml_child(node, "ip");
    const char *family = "ipv4";
    guint64 prefix = 24;
    g_autofree char *address = xml_attr(ip, "address");
    if (!ip)
        return TRUE;
    g_autoptr(GInetAddress) parsed = address ? g_inet_address_new_from_string(address) : NULL;
    if (!launch_word(ip, "family", families, &family, error) ||
        !launch_number(ip, "prefix", 4, 27, &prefix, error))
        return FALSE;
    if (!parsed || xml_next(ip, "ip")) {
        xml_set_error(error, EINVAL, ip, "one IPv4 address of a network is needed");
        return FALSE;
    }
    g_autofree char *net = g_strdup_printf("%s/%u", address, (guint)prefix);
    json_object_set_new(netdev, "net", json_string(net));
    return TRUE;
}

static gboolean add_netdev(LaunchBuild *build, const xmlNode *node, const char *id, GError **error)
{
    static const LaunchWord types[] = {
        {"user", "user"}, {"bridge", "bridge"}, {"network", "network"}, {NULL, NULL}};
    const char *type = NULL;
    if (!launch_word(node, "type", types, &type, error))
        return FALSE;
    if (!type) {
        xml_set_error(error, EINVAL, node, "type='...' is missing");
        return FALSE;
    }
    g_autofree char *bridge = strcmp(type, "user") == 0 ? NULL : bridge_of(node, type, error);
    if (strcmp(type, "user") != 0 && !bridge)
        return FALSE;
    if (bridge && xml_child(node, "ip")) {
        xml_set_error(error, EOPNOTSUPP, xml_child(node, "ip"), "it is supported of type='user' only");
        return FALSE;
    }
    json_t *netdev = json_pack("{s:s,s:s}", "type", bridge ? "bridge" : "user", "id", id);
    if (bridge)
        json_object_set_new(netdev, "br", json_string(bridge));
    build->helper |= bridge != NULL;
    if (!set_ip(netdev, node, error)) {
        json_decref(netdev);
        return FALSE;
    }
    launch_add_json(build, "-netdev", netdev);
    return TRUE;
}

/* Six bytes, the first of them even: the address of one, not of a group. */
static gboolean is_mac(const char *text)
{
    for (guint i = 0; i < 17; i++)
        if (i % 3 == 2 ? text[i] != ':' : !g_ascii_isxdigit(text[i]))
            return FALSE;
    return text[17] == '\0' && g_ascii_xdigit_value(text[1]) % 2 == 0;
}

static gboolean set_mac(json_t *object, const xmlNode *node, GError **error)
{
    const xmlNode *mac = xml_child(node, "mac");
    g_autofree char *text = xml_attr(mac, "address");
    if (text && is_mac(text)) {
        json_object_set_new(object, "mac", json_string(text));
        return TRUE;
    }
    xml_set_error(error, EINVAL, mac, "'%s' is not the address of one interface", text ? text : "");
    return FALSE;
}

static gboolean set_rom(json_t *object, const xmlNode *node, GError **error)
{
    const xmlNode *rom = xml_child(node, "rom");
    const char *bar = NULL, *enabled = "on";
    g_autofree char *file = xml_attr(rom, "file");
    if (!launch_word(rom, "bar", launch_switch, &bar, error) ||
        !launch_word(rom, "enabled", launch_switch, &enabled, error) ||
        (file && *file && !launch_path(rom, file, error)))
        return FALSE;
    if (bar)
        json_object_set_new(object, "rombar", json_integer(strcmp(bar, "on") == 0));
    if (strcmp(enabled, "off") == 0)
        json_object_set_new(object, "romfile", json_string(""));
    else if (file)
        json_object_set_new(object, "romfile", json_string(file));
    return TRUE;
}

static gboolean set_link(LaunchBuild *build, const xmlNode *node, const char *id, GError **error)
{
    static const LaunchWord states[] = {{"up", "up"}, {"down", "down"}, {NULL, NULL}};
    const char *state = "up";
    if (!launch_word(xml_child(node, "link"), "state", states, &state, error))
        return FALSE;
    if (strcmp(state, "down") == 0)
        launch_command(build, "set_link", json_pack("{s:s,s:b}", "name", id, "up", 0));
    return TRUE;
}

static gboolean set_mtu(json_t *object, const xmlNode *node, gboolean virtio, GError **error)
{
    const xmlNode *mtu = xml_child(node, "mtu");
    if (!mtu || virtio)
        return launch_set_number(object, "host_mtu", mtu, "size", 65535, error);
    xml_set_error(error, EOPNOTSUPP, mtu, "it is supported of model virtio only");
    return FALSE;
}

/* libvirt's choice where the document has none. */
static gboolean add_device(LaunchBuild *build, const xmlNode *node, const char *id, const char *host,
                           GError **error)
{
    const char *driver = "rtl8139";
    if (!launch_word(xml_child(node, "model"), "type", models, &driver, error))
        return FALSE;
    json_t *object = launch_object(driver, id);
    json_object_set_new(object, "netdev", json_string(host));
    if (set_mac(object, node, error) && launch_place(build, object, node, error) &&
        set_rom(object, node, error) && set_mtu(object, node, strcmp(driver, "virtio-net-pci") == 0, error)) {
        launch_set_boot(build, object, node);
        launch_add_json(build, "-device", object);
        return set_link(build, node, id, error);
    }
    json_decref(object);
    return FALSE;
}

gboolean launch_networks(LaunchBuild *build, GError **error)
{
    g_autoptr(GPtrArray) all = launch_devices(build->root, "interface");
    for (guint i = 0; i < all->len; i++) {
        g_autofree char *id = g_strdup_printf("net%u", i), *host = g_strdup_printf("host-net%u", i);
        if (!add_netdev(build, all->pdata[i], host, error) ||
            !add_device(build, all->pdata[i], id, host, error))
            return FALSE;
    }
    return TRUE;
}
