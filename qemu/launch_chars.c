/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Character devices: serial ports, consoles, channels, and what is at the host's end of each. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

enum { ISA_PORTS = 4 };
#define AGENT "org.qemu.guest_agent.0"

static gboolean attr_is(const xmlNode *node, const char *attr, const char *value)
{
    g_autofree char *is = xml_attr(node, attr);
    return g_strcmp0(is, value) == 0;
}

/* --- the host's end --- */

static void append_path(GString *list, const char *path)
{
    g_autofree char *escaped = launch_escape(path);
    g_string_append_printf(list, ",path=%s", escaped);
}

/* Is that a socket that libvirt makes for itself, in a directory of its own? */
static gboolean is_libvirt_socket(const char *path)
{
    return g_str_has_prefix(path, "/var/lib/libvirt/qemu/") || g_str_has_prefix(path, "/run/libvirt/") ||
           g_str_has_prefix(path, "/var/run/libvirt/") || strstr(path, "/libvirt/qemu/") != NULL;
}

/* Where a socket without a path of the user's is. Caller frees. */
static char *socket_path(LaunchBuild *build, const xmlNode *node)
{
    if (attr_is(xml_child(node, "target"), "name", AGENT) && !build->launch->agent)
        return launch_file(build, ".agent");
    g_autofree char *suffix = g_strdup_printf(".%u.channel", build->launch->sockets->len);
    return launch_file(build, suffix);
}

static gboolean append_socket(LaunchBuild *build, const xmlNode *node, GString *list, GError **error)
{
    static const LaunchWord modes[] = {
        {"bind", "server=on,wait=off"}, {"connect", "server=off"}, {NULL, NULL}};
    const xmlNode *source = xml_child(node, "source");
    const char *mode = "server=on,wait=off";
    g_autofree char *path = xml_attr(source, "path");
    if (!launch_word(source, "mode", modes, &mode, error) || (path && !launch_path(source, path, error)))
        return FALSE;
    if (!path || is_libvirt_socket(path)) {
        g_free(path);
        path = socket_path(build, node);
        mode = "server=on,wait=off";
    }
    if (g_str_has_prefix(mode, "server=on") && !launch_socket(build, path, source ? source : node, error))
        return FALSE;
    if (attr_is(xml_child(node, "target"), "name", AGENT) && !build->launch->agent)
        build->launch->agent = g_strdup(path);
    append_path(list, path);
    g_string_append_printf(list, ",%s", mode);
    return TRUE;
}

static gboolean append_file(LaunchBuild *build, const xmlNode *node, GString *list, GError **error)
{
    const xmlNode *source = xml_child(node, "source");
    const char *append = "off";
    g_autofree char *path = xml_attr(source, "path");
    if (!path) {
        xml_set_error(error, EINVAL, node, "<source path='...'/> is missing");
        return FALSE;
    }
    if (!launch_path(source, path, error) || !launch_word(source, "append", launch_switch, &append, error))
        return FALSE;
    launch_output_path(build, path, source);
    append_path(list, path);
    g_string_append_printf(list, ",append=%s", append);
    return TRUE;
}

static gboolean append_log(LaunchBuild *build, const xmlNode *node, GString *list, GError **error)
{
    const xmlNode *log = xml_child(node, "log");
    const char *append = "off";
    g_autofree char *path = xml_attr(log, "file");
    if (!log)
        return TRUE;
    if (!path) {
        xml_set_error(error, EINVAL, log, "file='...' is missing");
        return FALSE;
    }
    if (!launch_path(log, path, error) || !launch_word(log, "append", launch_switch, &append, error))
        return FALSE;
    launch_output_path(build, path, log);
    g_autofree char *escaped = launch_escape(path);
    g_string_append_printf(list, ",logfile=%s,logappend=%s", escaped, append);
    return TRUE;
}

static gboolean add_chardev(LaunchBuild *build, const xmlNode *node, const char *id, GError **error)
{
    static const LaunchWord types[] = {
        {"pty", "pty"}, {"file", "file"}, {"null", "null"}, {"unix", "socket"}, {NULL, NULL}};
    const char *type = "pty";
    if (!launch_word(node, "type", types, &type, error))
        return FALSE;
    g_autoptr(GString) list = g_string_new(type);
    g_string_append_printf(list, ",id=%s", id);
    if ((strcmp(type, "socket") == 0 && !append_socket(build, node, list, error)) ||
        (strcmp(type, "file") == 0 && !append_file(build, node, list, error)) ||
        !append_log(build, node, list, error))
        return FALSE;
    launch_add(build, "-chardev", list->str);
    return TRUE;
}

/* --- the guest's end --- */

/* The port it names, or the first that is free, of the four that there are; *used: those that are taken. */
static gboolean take_port(const xmlNode *node, guint *used, guint64 *ret_port, GError **error)
{
    const xmlNode *target = xml_child(node, "target");
    g_autofree char *given = xml_attr(target, "port");
    guint64 port = 0;
    if (!launch_number(target, "port", 0, ISA_PORTS - 1, &port, error))
        return FALSE;
    while (!given && port < ISA_PORTS && (*used & 1U << port) != 0)
        port++;
    if (port == ISA_PORTS || (*used & 1U << port) != 0) {
        xml_set_error(error, given ? EINVAL : EOPNOTSUPP, node,
                      given ? "another one has that port already" : "a machine has four serial ports");
        return FALSE;
    }
    *used |= 1U << port;
    *ret_port = port;
    return TRUE;
}

static gboolean add_isa(LaunchBuild *build, const xmlNode *node, guint number, guint *used, GError **error)
{
    static const LaunchWord types[] = {{"isa-serial", ""}, {"serial", ""}, {NULL, NULL}};
    static const LaunchWord names[] = {{"isa-serial", ""}, {NULL, NULL}};
    const xmlNode *target = xml_child(node, "target");
    const char *type = NULL;
    guint64 port;
    g_autofree char *id = g_strdup_printf("serial%u", number), *chardev = g_strconcat("char-", id, NULL);
    if (!launch_word(target, "type", types, &type, error) ||
        !launch_word(xml_child(target, "model"), "name", names, &type, error) ||
        !take_port(node, used, &port, error) || !add_chardev(build, node, chardev, error))
        return FALSE;
    json_t *object = launch_object("isa-serial", id);
    json_object_set_new(object, "chardev", json_string(chardev));
    json_object_set_new(object, "index", json_integer((json_int_t)port));
    const xmlNode *address = xml_child(node, "address");
    gboolean ok = launch_set_number(object, "iobase", address, "iobase", 0xffff, error) &&
                  launch_set_number(object, "irq", address, "irq", 15, error);
    if (ok)
        launch_add_json(build, "-device", object);
    else
        json_decref(object);
    return ok;
}

/* A port of a virtio-serial controller. */
static gboolean add_virtio(LaunchBuild *build, const xmlNode *node, const char *driver, const char *id,
                           GError **error)
{
    const xmlNode *target = xml_child(node, "target"), *address = xml_child(node, "address");
    g_autofree char *name = xml_attr(target, "name"), *chardev = g_strconcat("char-", id, NULL);
    guint64 controller = 0;
    if (!launch_number(address, "controller", 0, 255, &controller, error) ||
        !add_chardev(build, node, chardev, error))
        return FALSE;
    json_t *object = launch_object(driver, id);
    g_autofree char *bus = g_strdup_printf("virtio-serial%u.0", (guint)controller);
    json_object_set_new(object, "bus", json_string(bus));
    json_object_set_new(object, "chardev", json_string(chardev));
    if (name)
        json_object_set_new(object, "name", json_string(name));
    gboolean ok = launch_set_number(object, "nr", address, "port", 31, error);
    if (ok)
        launch_add_json(build, "-device", object);
    else
        json_decref(object);
    return ok;
}

static gboolean add_channel(LaunchBuild *build, const xmlNode *node, guint number, GError **error)
{
    static const LaunchWord types[] = {{"virtio", ""}, {NULL, NULL}};
    const xmlNode *target = xml_child(node, "target");
    const char *type = NULL;
    g_autofree char *id = g_strdup_printf("channel%u", number), *name = xml_attr(target, "name");
    if (!launch_word(target, "type", types, &type, error))
        return FALSE;
    if (type && name)
        return add_virtio(build, node, "virtserialport", id, error);
    xml_set_error(error, EINVAL, node, "<target type='virtio' name='...'/> is missing");
    return FALSE;
}

/* The first console of type serial is the first serial port under another name. */
static gboolean add_console(LaunchBuild *build, const xmlNode *node, guint number, gboolean has_serial,
                            GError **error)
{
    static const LaunchWord types[] = {{"serial", "serial"}, {"virtio", "virtio"}, {NULL, NULL}};
    const char *type = "serial";
    g_autofree char *id = g_strdup_printf("console%u", number);
    if (!launch_word(xml_child(node, "target"), "type", types, &type, error))
        return FALSE;
    if (strcmp(type, "virtio") == 0)
        return add_virtio(build, node, "virtconsole", id, error);
    if (number == 0)
        return has_serial || add_isa(build, node, 0, &(guint){0}, error);
    xml_set_error(error, EOPNOTSUPP, node, "only the first console can be a serial port");
    return FALSE;
}

gboolean launch_chars(LaunchBuild *build, GError **error)
{
    g_autoptr(GPtrArray) serials = launch_devices(build->root, "serial");
    g_autoptr(GPtrArray) consoles = launch_devices(build->root, "console");
    g_autoptr(GPtrArray) channels = launch_devices(build->root, "channel");
    guint used = 0;
    for (guint i = 0; i < serials->len; i++)
        if (!add_isa(build, serials->pdata[i], i, &used, error))
            return FALSE;
    for (guint i = 0; i < consoles->len; i++)
        if (!add_console(build, consoles->pdata[i], i, serials->len > 0, error))
            return FALSE;
    for (guint i = 0; i < channels->len; i++)
        if (!add_channel(build, channels->pdata[i], i, error))
            return FALSE;
    return TRUE;
}
