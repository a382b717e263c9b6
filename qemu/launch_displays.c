/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a person sees and touches: VNC, displays, input devices. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

enum { VNC_PORT = 5900, VNC_PORTS = 1000 };

static gboolean attr_is(const xmlNode *node, const char *attr, const char *value)
{
    g_autofree char *is = xml_attr(node, attr);
    return g_strcmp0(is, value) == 0;
}

/* --- VNC --- */

/* "ADDRESS:DISPLAY[,to=N]". Without a port of the document's, the first that is free. */
static gboolean append_port(const xmlNode *node, const char *address, GString *list, GError **error)
{
    const char *automatic = "off";
    guint64 port = VNC_PORT;
    g_autofree char *given = xml_attr(node, "port");
    gboolean any = !given || strcmp(given, "-1") == 0;
    if (!launch_word(node, "autoport", launch_switch, &automatic, error) ||
        (!any && !launch_number(node, "port", VNC_PORT, 65535, &port, error)))
        return FALSE;
    if (strcmp(automatic, "on") == 0)
        port = VNC_PORT;
    gboolean ipv6 = strchr(address, ':') != NULL;
    g_autofree char *escaped = launch_escape(address);
    g_string_append_printf(list, "%s%s%s:%u", ipv6 ? "[" : "", escaped, ipv6 ? "]" : "",
                           (guint)port - VNC_PORT);
    if (any || strcmp(automatic, "on") == 0)
        g_string_append_printf(list, ",to=%d", VNC_PORTS);
    return TRUE;
}

/* Only an address, no name: a name would be looked up. */
static gboolean check_address(const xmlNode *node, const char *address, GError **error)
{
    if (g_hostname_is_ip_address(address))
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, node, "'%s' is not an IP address", address);
    return FALSE;
}

static gboolean append_unix(LaunchBuild *build, const xmlNode *node, const char *path, GString *list,
                            GError **error)
{
    g_autofree char *own = path ? g_strdup(path) : launch_file(build, ".vnc");
    if (!launch_path(node, own, error) || !launch_socket(build, own, node, error))
        return FALSE;
    g_autofree char *escaped = launch_escape(own);
    g_string_append_printf(list, "unix:%s", escaped);
    return TRUE;
}

/* <listen>, or the older attributes listen= and socket=. */
static gboolean append_listen(LaunchBuild *build, const xmlNode *node, GString *list, GError **error)
{
    static const LaunchWord types[] = {
        {"address", "address"}, {"socket", "socket"}, {"none", "none"}, {NULL, NULL}};
    const xmlNode *listen = xml_child(node, "listen");
    const char *type = "address";
    g_autofree char *address = xml_attr(listen, "address"), *path = xml_attr(listen, "socket");
    g_autofree char *old_address = xml_attr(node, "listen"), *old_path = xml_attr(node, "socket");
    if (!launch_word(listen, "type", types, &type, error))
        return FALSE;
    if (strcmp(type, "none") == 0) {
        g_string_append(list, "none");
        return TRUE;
    }
    if (strcmp(type, "socket") == 0 || old_path)
        return append_unix(build, node, path ? path : old_path, list, error);
    const char *where = address ? address : old_address ? old_address : "127.0.0.1";
    return check_address(node, where, error) && append_port(node, where, list, error);
}

/* A password never stands on a command line, where everybody could read it. */
static gboolean set_password(LaunchBuild *build, const xmlNode *node, GString *list, GError **error)
{
    static const LaunchWord connected[] = {
        {"keep", "keep"}, {"disconnect", "disconnect"}, {"fail", "fail"}, {NULL, NULL}};
    const char *others = NULL;
    g_autofree char *password = xml_attr(node, "passwd"), *until = xml_attr(node, "passwdValidTo");
    if (!launch_word(node, "connected", connected, &others, error))
        return FALSE;
    if (!password)
        return TRUE;
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) date = until ? g_date_time_new_from_iso8601(until, utc) : NULL;
    if (until && !date) {
        xml_set_error(error, EINVAL, node, "passwdValidTo='%s' is not a date", until);
        return FALSE;
    }
    g_string_append(list, ",password=on");
    json_t *arguments = json_pack("{s:s,s:s}", "protocol", "vnc", "password", password);
    if (others)
        json_object_set_new(arguments, "connected", json_string(others));
    launch_command(build, "set_password", arguments);
    if (date) {
        g_autofree char *seconds = g_strdup_printf("%" G_GINT64_FORMAT, g_date_time_to_unix(date));
        launch_command(build, "expire_password", json_pack("{s:s,s:s}", "protocol", "vnc", "time", seconds));
    }
    return TRUE;
}

static gboolean append_options(LaunchBuild *build, const xmlNode *node, GString *list, GError **error)
{
    static const LaunchWord policies[] = {{"allow-exclusive", "allow-exclusive"},
                                          {"force-shared", "force-shared"},
                                          {"ignore", "ignore"},
                                          {NULL, NULL}};
    const char *share = NULL;
    guint64 websocket = 0;
    g_autofree char *port = xml_attr(node, "websocket"), *keymap = xml_attr(node, "keymap");
    gboolean any = g_strcmp0(port, "-1") == 0;
    if (!launch_word(node, "sharePolicy", policies, &share, error) ||
        (!any && !launch_number(node, "websocket", 1, 65535, &websocket, error)) ||
        (keymap && !launch_plain(node, keymap, error)))
        return FALSE;
    if (share)
        g_string_append_printf(list, ",share=%s", share);
    if (any)
        g_string_append(list, ",websocket=on");
    else if (websocket)
        g_string_append_printf(list, ",websocket=%u", (guint)websocket);
    if (keymap)
        launch_add(build, "-k", keymap);
    return TRUE;
}

static gboolean add_graphics(LaunchBuild *build, const xmlNode *node, GError **error)
{
    static const LaunchWord types[] = {{"vnc", "vnc"}, {NULL, NULL}};
    const char *type = NULL;
    g_autoptr(GString) list = g_string_new(NULL);
    if (!launch_word(node, "type", types, &type, error) || !append_listen(build, node, list, error))
        return FALSE;
    if (strcmp(list->str, "none") == 0)
        return TRUE;
    if (!append_options(build, node, list, error) || !set_password(build, node, list, error))
        return FALSE;
    launch_add(build, "-vnc", list->str);
    return TRUE;
}

/* --- displays --- */

typedef struct {
    const char *type, *first, *other; /* drivers; NULL: it cannot be a further one */
    const char *options[6];           /* attribute, property, ... */
} Video;

static const Video videos[] = {
    {"vga", "VGA", NULL, {"vram", "vgamem_mb"}},
    {"cirrus", "cirrus-vga", NULL, {"vram", "vgamem_mb"}},
    {"bochs", "bochs-display", "bochs-display", {"vram", "vgamem"}},
    {"vmvga", "vmware-svga", NULL, {"vram", "vgamem_mb"}},
    {"virtio", "virtio-vga", "virtio-gpu-pci", {"heads", "max_outputs"}},
    {"qxl", "qxl-vga", "qxl", {"ram", "ram_size", "vram", "vram_size", "vgamem", "vgamem_mb"}},
};

/* KiB in the document; a property is in bytes, or in MiB when its name says so; heads are heads. */
static gboolean set_size(json_t *object, const xmlNode *model, const char *attr, const char *property,
                         GError **error)
{
    guint64 value = 0;
    if (!launch_number(model, attr, 1, G_MAXUINT32, &value, error))
        return FALSE;
    if (strcmp(attr, "heads") != 0 && value > 0)
        value = g_str_has_suffix(property, "_mb") ? MAX(value / 1024, 1) : value * 1024;
    if (value > 0)
        json_object_set_new(object, property, json_integer((json_int_t)value));
    return TRUE;
}

static gboolean set_video(json_t *object, const Video *video, const xmlNode *model, GError **error)
{
    const xmlNode *resolution = xml_child(model, "resolution");
    for (guint i = 0; i < G_N_ELEMENTS(video->options) && video->options[i]; i += 2)
        if (!set_size(object, model, video->options[i], video->options[i + 1], error))
            return FALSE;
    return launch_set_number(object, "xres", resolution, "x", 16384, error) &&
           launch_set_number(object, "yres", resolution, "y", 16384, error);
}

static const Video *find_video(const xmlNode *model, GError **error)
{
    g_autofree char *type = xml_attr(model, "type");
    for (guint i = 0; i < G_N_ELEMENTS(videos); i++)
        if (g_strcmp0(type, videos[i].type) == 0)
            return &videos[i];
    xml_set_error(error, EOPNOTSUPP, model,
                  "type='%s' is not supported (vga, cirrus, bochs, vmvga, virtio, qxl, none are)",
                  type ? type : "");
    return NULL;
}

static gboolean add_video(LaunchBuild *build, const xmlNode *node, guint number, GError **error)
{
    static const LaunchWord names[] = {{"qemu", ""}, {NULL, NULL}};
    const xmlNode *model = xml_child(node, "model");
    const char *name = NULL;
    if (!model) {
        xml_set_error(error, EINVAL, node, "<model type='...'/> is missing");
        return FALSE;
    }
    if (attr_is(model, "type", "none"))
        return TRUE;
    const Video *video = find_video(model, error);
    if (!video || !launch_word(xml_child(node, "driver"), "name", names, &name, error))
        return FALSE;
    const char *driver = number == 0 ? video->first : video->other;
    if (!driver) {
        xml_set_error(error, EOPNOTSUPP, model, "type='%s' can only be the first display", video->type);
        return FALSE;
    }
    g_autofree char *id = g_strdup_printf("video%u", number);
    json_t *object = launch_object(driver, id);
    gboolean ok = set_video(object, video, model, error) && launch_place(build, object, node, error);
    if (ok)
        launch_add_json(build, "-device", object);
    else
        json_decref(object);
    return ok;
}

/* --- input --- */

static gboolean add_input(LaunchBuild *build, const xmlNode *node, guint number, GError **error)
{
    static const LaunchWord usb[] = {
        {"mouse", "usb-mouse"}, {"tablet", "usb-tablet"}, {"keyboard", "usb-kbd"}, {NULL, NULL}};
    static const LaunchWord virtio[] = {{"mouse", "virtio-mouse-pci"},
                                        {"tablet", "virtio-tablet-pci"},
                                        {"keyboard", "virtio-keyboard-pci"},
                                        {NULL, NULL}};
    static const LaunchWord ps2[] = {{"mouse", ""}, {"keyboard", ""}, {NULL, NULL}};
    static const LaunchWord buses[] = {{"ps2", "ps2"}, {"usb", "usb"}, {"virtio", "virtio"}, {NULL, NULL}};
    const char *bus = NULL, *driver = NULL;
    if (!launch_word(node, "bus", buses, &bus, error))
        return FALSE;
    gboolean is_usb = g_strcmp0(bus, "usb") == 0, is_virtio = g_strcmp0(bus, "virtio") == 0;
    if (!launch_word(node, "type", is_usb ? usb : is_virtio ? virtio : ps2, &driver, error))
        return FALSE;
    if (!driver) {
        xml_set_error(error, EINVAL, node, "type='...' is missing");
        return FALSE;
    }
    if (*driver == '\0')
        return TRUE; /* every pc has them */
    g_autofree char *id = g_strdup_printf("input%u", number);
    json_t *object = launch_object(driver, id);
    gboolean ok = is_usb ? launch_place_usb(object, node, error) : launch_place(build, object, node, error);
    if (ok)
        launch_add_json(build, "-device", object);
    else
        json_decref(object);
    return ok;
}

gboolean launch_displays(LaunchBuild *build, GError **error)
{
    g_autoptr(GPtrArray) inputs = launch_devices(build->root, "input");
    g_autoptr(GPtrArray) graphics = launch_devices(build->root, "graphics");
    g_autoptr(GPtrArray) displays = launch_devices(build->root, "video");
    launch_add(build, "-display", "none");
    for (guint i = 0; i < inputs->len; i++)
        if (!add_input(build, inputs->pdata[i], i, error))
            return FALSE;
    for (guint i = 0; i < graphics->len; i++)
        if (!add_graphics(build, graphics->pdata[i], error))
            return FALSE;
    for (guint i = 0; i < displays->len; i++)
        if (!add_video(build, displays->pdata[i], i, error))
            return FALSE;
    return TRUE;
}
