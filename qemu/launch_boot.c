/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the machine starts from: firmware, kernel, devices in order. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

static const xmlNode *os_child(const LaunchBuild *build, const char *name)
{
    return xml_child(xml_child(build->root, "os"), name);
}

/* --- firmware --- */

/* A flash chip: its image is a raw or qcow2 file. */
static gboolean add_flash(LaunchBuild *build, const xmlNode *node, const char *name, const char *path,
                          gboolean readonly, GError **error)
{
    static const LaunchWord formats[] = {{"raw", "raw"}, {"qcow2", "qcow2"}, {NULL, NULL}};
    const char *format = "raw";
    g_autofree char *file_name = g_strconcat(name, "-file", NULL);
    launch_image_path(build, path, "the firmware");
    if (!launch_word(node, "format", formats, &format, error))
        return FALSE;
    json_t *file = json_pack("{s:s,s:s,s:s,s:b,s:s}", "driver", "file", "filename", path, "node-name",
                             file_name, "auto-read-only", 1, "discard", "unmap");
    json_t *image = json_pack("{s:s,s:b,s:s,s:s}", "node-name", name, "read-only", (int)readonly, "driver",
                              format, "file", file_name);
    if (strcmp(format, "qcow2") == 0)
        json_object_set_new(image, "backing", json_null());
    launch_add_json(build, "-blockdev", file);
    launch_add_json(build, "-blockdev", image);
    return TRUE;
}

static gboolean add_nvram(LaunchBuild *build, GString *machine, GError **error)
{
    const xmlNode *node = os_child(build, "nvram");
    static const LaunchWord files[] = {{"file", "file"}, {NULL, NULL}},
                            raw[] = {{"raw", "raw"}, {NULL, NULL}};
    const char *type = NULL;
    if (!build->launch->def->nvram) {
        xml_set_error(error, EOPNOTSUPP, node ? node : os_child(build, "loader"),
                      "the path of an image for <nvram> is missing, which the loader keeps its settings in");
        return FALSE;
    }
    g_autofree char *template = xml_attr(node, "template");
    if (!launch_word(node, "type", files, &type, error) ||
        !launch_word(node, "templateFormat", raw, &type, error) ||
        (template && !launch_path(node, template, error)) ||
        !add_flash(build, node, "nvram", build->launch->def->nvram, FALSE, error))
        return FALSE;
    g_string_append(machine, ",pflash1=nvram");
    build->launch->nvram = template ? g_strdup(build->launch->def->nvram) : NULL;
    build->launch->nvram_template = g_steal_pointer(&template);
    return TRUE;
}

static gboolean add_pflash(LaunchBuild *build, const xmlNode *loader, const char *path, GString *machine,
                           GError **error)
{
    const char *secure = "off", *stateless = "off", *readonly = "off";
    if (!launch_word(loader, "secure", launch_switch, &secure, error) ||
        !launch_word(loader, "stateless", launch_switch, &stateless, error) ||
        !launch_word(loader, "readonly", launch_switch, &readonly, error) ||
        !add_flash(build, loader, "loader", path, strcmp(readonly, "on") == 0, error))
        return FALSE;
    g_string_append(machine, ",pflash0=loader");
    if (strcmp(secure, "on") == 0)
        launch_add(build, "-global", "driver=cfi.pflash01,property=secure,value=on");
    return strcmp(stateless, "on") == 0 || add_nvram(build, machine, error);
}

/* Appends to the list of -machine. */
gboolean launch_firmware(LaunchBuild *build, GString *machine, GError **error)
{
    static const LaunchWord types[] = {{"rom", "rom"}, {"pflash", "pflash"}, {NULL, NULL}};
    static const LaunchWord smbios[] = {{"emulate", ""}, {NULL, NULL}};
    const xmlNode *loader = os_child(build, "loader");
    g_autofree char *path = launch_text(loader);
    const char *type = "rom", *mode = NULL;
    if (!launch_word(os_child(build, "smbios"), "mode", smbios, &mode, error))
        return FALSE;
    if (!loader)
        return TRUE;
    if (!launch_word(loader, "type", types, &type, error))
        return FALSE;
    if (!path) {
        xml_set_error(error, EINVAL, loader, "the path of the firmware is missing");
        return FALSE;
    }
    if (!launch_path(loader, path, error))
        return FALSE;
    if (strcmp(type, "pflash") == 0)
        return add_pflash(build, loader, path, machine, error);
    launch_add(build, "-bios", path);
    return TRUE;
}

/* --- a kernel of the host's --- */

static gboolean add_kernel(LaunchBuild *build, GError **error)
{
    static const char *const files[] = {"kernel", "initrd"};
    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        const xmlNode *node = os_child(build, files[i]);
        g_autofree char *path = launch_text(node);
        g_autofree char *option = g_strconcat("-", files[i], NULL);
        if (path && !launch_path(node, path, error))
            return FALSE;
        if (path)
            launch_add(build, option, path);
    }
    g_autofree char *line = launch_text(os_child(build, "cmdline"));
    if (line)
        launch_add(build, "-append", line);
    return TRUE;
}

/* --- the order of devices --- */

static void set_place(LaunchBuild *build, const xmlNode *device, guint place)
{
    if (device && !g_hash_table_contains(build->boot, device))
        g_hash_table_insert(build->boot, (gpointer)device, GUINT_TO_POINTER(place));
}

static const xmlNode *first_disk(const LaunchBuild *build, DiskDevice device)
{
    const GPtrArray *disks = build->launch->def->disks;
    for (guint i = 0; i < disks->len; i++)
        if (((const DiskDef *)disks->pdata[i])->device == device)
            return ((const DiskDef *)disks->pdata[i])->node;
    return NULL;
}

static const xmlNode *first_of(const LaunchBuild *build, const char *word)
{
    if (strcmp(word, "network") == 0) {
        g_autoptr(GPtrArray) all = launch_devices(build->root, "interface");
        return all->len > 0 ? all->pdata[0] : NULL;
    }
    return first_disk(build, strcmp(word, "hd") == 0      ? DEVICE_DISK
                             : strcmp(word, "cdrom") == 0 ? DEVICE_CDROM
                                                          : DEVICE_FLOPPY);
}

/* <os><boot dev=>: the first device of that kind. */
static gboolean read_kinds(LaunchBuild *build, GError **error)
{
    static const LaunchWord kinds[] = {
        {"hd", "hd"}, {"cdrom", "cdrom"}, {"network", "network"}, {"fd", "fd"}, {NULL, NULL}};
    guint place = 0;
    for (const xmlNode *node = os_child(build, "boot"); node; node = xml_next(node, "boot")) {
        const char *kind = NULL;
        if (!launch_word(node, "dev", kinds, &kind, error))
            return FALSE;
        if (kind)
            set_place(build, first_of(build, kind), ++place);
    }
    return TRUE;
}

/* <boot order=> of the devices themselves; no two may have the same. */
static gboolean read_orders(LaunchBuild *build, gboolean *ret_any, GError **error)
{
    g_autoptr(GPtrArray) all = launch_devices(build->root, NULL);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    *ret_any = FALSE;
    for (guint i = 0; i < all->len; i++) {
        const xmlNode *boot = xml_child(all->pdata[i], "boot");
        guint64 order = 0;
        if (!boot)
            continue;
        if (!launch_number(boot, "order", 1, G_MAXINT, &order, error))
            return launch_name_disk(error, all->pdata[i]);
        if (order == 0 || !g_hash_table_add(seen, GUINT_TO_POINTER((guint)order))) {
            xml_set_error(error, EINVAL, boot,
                          order == 0 ? "order='...' is missing" : "two devices have that order");
            return launch_name_disk(error, all->pdata[i]);
        }
        set_place(build, all->pdata[i], (guint)order);
        *ret_any = TRUE;
    }
    return TRUE;
}

static gboolean read_order(LaunchBuild *build, GError **error)
{
    gboolean any;
    if (!read_orders(build, &any, error))
        return FALSE;
    if (any && os_child(build, "boot")) {
        xml_set_error(error, EINVAL, os_child(build, "boot"),
                      "it cannot stand beside a <boot order='...'/> of a device");
        return FALSE;
    }
    /* As libvirt: who says nothing boots from the disk. */
    if (!any && !os_child(build, "boot") && !os_child(build, "kernel"))
        set_place(build, first_disk(build, DEVICE_DISK), 1);
    return any || read_kinds(build, error);
}

guint launch_boot_place(const LaunchBuild *build, const xmlNode *device)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(build->boot, device));
}

void launch_set_boot(const LaunchBuild *build, json_t *object, const xmlNode *device)
{
    guint place = launch_boot_place(build, device);
    if (place > 0)
        json_object_set_new(object, "bootindex", json_integer(place));
}

gboolean launch_boot(LaunchBuild *build, GError **error)
{
    const xmlNode *menu = os_child(build, "bootmenu"), *bios = os_child(build, "bios");
    const char *enable = NULL, *console = "off";
    guint64 timeout = G_MAXUINT64;
    g_autofree char *reboot = xml_attr(bios, "rebootTimeout");
    g_autoptr(GString) list = g_string_new("strict=on");
    if (!read_order(build, error) || !add_kernel(build, error) ||
        !launch_word(menu, "enable", launch_switch, &enable, error) ||
        !launch_number(menu, "timeout", 0, 65535, &timeout, error) ||
        !launch_word(bios, "useserial", launch_switch, &console, error))
        return FALSE;
    if (enable)
        g_string_append_printf(list, ",menu=%s", enable);
    if (enable && timeout != G_MAXUINT64)
        g_string_append_printf(list, ",splash-time=%u", (guint)timeout);
    if (reboot && strcmp(reboot, "-1") != 0 &&
        !launch_number(bios, "rebootTimeout", 0, 65535, &timeout, error))
        return FALSE;
    if (reboot)
        g_string_append_printf(list, ",reboot-timeout=%s", reboot);
    launch_add(build, "-boot", list->str);
    if (strcmp(console, "on") == 0)
        launch_add(build, "-machine", "graphics=off");
    return TRUE;
}
