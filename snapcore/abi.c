/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "abi.h"

#include <errno.h>
#include <string.h>

#include "error.h"

static gboolean report(GError **error, const char *what, const char *was, const char *is)
{
    snap_set_error(error, EOPNOTSUPP, "%s is %s%s%s, not %s%s%s", what, is ? "'" : "", is ? is : "absent",
                   is ? "'" : "", was ? "'" : "", was ? was : "absent", was ? "'" : "");
    return FALSE;
}

static gboolean same_text(GError **error, const char *what, const char *was, const char *is)
{
    return g_strcmp0(was, is) == 0 || report(error, what, was, is);
}

/*
 * The value at @path below @node: names of elements with slashes between, and last an element (its text), one with a
 * question mark (is there such a one?) or "@" and an attribute. NULL: there is none. Caller frees.
 */
static char *value_at(const xmlNode *node, const char *path)
{
    g_auto(GStrv) words = g_strsplit(path, "/", -1);
    for (guint i = 0; words[i] && node; i++) {
        char *word = words[i];
        if (word[0] == '@')
            return xml_attr(node, word + 1);
        gboolean presence = g_str_has_suffix(word, "?");
        word[strlen(word) - presence] = '\0';
        node = xml_child(node, word);
        if (presence)
            return node ? g_strdup("there") : NULL;
    }
    char *text = xml_text(node);
    return text ? g_strstrip(text) : NULL;
}

/* @path in words. */
static char *path_words(const char *path)
{
    GString *words = g_string_new(path);
    g_string_replace(words, "/@", " ", 0);
    g_string_replace(words, "/", " ", 0);
    g_string_replace(words, "@", "", 0);
    g_string_replace(words, "?", "", 0);
    return g_string_free(words, FALSE);
}

static const xmlNode *root_of(const DomainDef *def)
{
    return xmlDocGetRootElement(def->doc);
}

/* --- the machine as a whole --- */

/* <@name unit=''>, in bytes; as it is written when it is no size. NULL: absent. */
static char *size_at(const DomainDef *def, const char *name)
{
    const xmlNode *node = xml_child(root_of(def), name);
    g_autofree char *unit = xml_attr(node, "unit");
    g_autofree char *text = value_at(root_of(def), name);
    guint64 bytes;
    if (!text || !size_from_string(text, unit ? unit : "KiB", &bytes))
        return g_steal_pointer(&text);
    return g_strdup_printf("%" G_GUINT64_FORMAT " KiB", bytes / 1024);
}

static gboolean same_sizes(const DomainDef *was, const DomainDef *is, GError **error)
{
    static const char *const names[] = {"memory", "maxMemory"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *a = size_at(was, names[i]), *b = size_at(is, names[i]);
        g_autofree char *what = g_strdup_printf("<%s>", names[i]);
        if (!same_text(error, what, a, b))
            return FALSE;
    }
    g_autofree char *a = size_at(was, "currentMemory"), *b = size_at(is, "currentMemory");
    g_autofree char *all = size_at(is, "memory"); /* the same in both, and what they have now by default */
    return same_text(error, "<currentMemory>", a ? a : all, b ? b : all);
}

static gboolean same_vcpus(const DomainDef *was, const DomainDef *is, GError **error)
{
    g_autofree char *a = value_at(root_of(was), "vcpu"), *b = value_at(root_of(is), "vcpu");
    g_autofree char *a_now = value_at(root_of(was), "vcpu/@current");
    g_autofree char *b_now = value_at(root_of(is), "vcpu/@current");
    const char *all = a ? a : "1";
    return same_text(error, "<vcpu>", all, b ? b : "1") &&
           same_text(error, "current of <vcpu>", a_now ? a_now : all, b_now ? b_now : all);
}

/* A part that is compared as a whole, as text. What does not matter in it is taken out. Caller frees. */
static char *part_text(const DomainDef *def, const char *name)
{
    const xmlNode *node = xml_child(root_of(def), name);
    if (!node)
        return NULL;
    xmlNode *copy = xmlDocCopyNode((xmlNode *)node, NULL, 1);
    xml_remove_attr(copy, "check");
    xmlNode *model = xml_child(copy, "model");
    if (model)
        xml_remove_attr(model, "fallback");
    GString *text = g_string_new(NULL);
    xml_write_node(text, copy, 0);
    xmlFreeNode(copy);
    return g_string_free(text, FALSE);
}

static gboolean same_parts(const DomainDef *was, const DomainDef *is, GError **error)
{
    static const char *const names[] = {"cpu", "vcpus", "features"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *a = part_text(was, names[i]), *b = part_text(is, names[i]);
        if (g_strcmp0(a, b) == 0)
            continue;
        snap_set_error(error, EOPNOTSUPP, "<%s> is another one", names[i]);
        return FALSE;
    }
    return TRUE;
}

static gboolean same_machine(const DomainDef *was, const DomainDef *is, GError **error)
{
    static const char *const paths[] = {
        "@type",           "uuid", "os/type", "os/type/@arch", "os/type/@machine", "os/smbios/@mode",
        "maxMemory/@slots"};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *a = value_at(root_of(was), paths[i]), *b = value_at(root_of(is), paths[i]);
        g_autofree char *words = path_words(paths[i]);
        if (!same_text(error, words, a, b))
            return FALSE;
    }
    return same_sizes(was, is, error) && same_vcpus(was, is, error) && same_parts(was, is, error);
}

/* --- devices --- */

/* A kind of device, and what the guest sees of one besides its address. */
typedef struct {
    const char *kind;
    const char *seen[8];
} DeviceKind;

static const DeviceKind kinds[] = {
    {"channel", {"target/@type", "target/@name", "target/@address", "target/@port"}},
    {"console", {"target/@type", "target/@port"}},
    {"controller", {"@type", "@index", "@model", "@ports", "@vectors", "model/@name", "target/@chassis"}},
    {"crypto", {"@model"}},
    {"filesystem", {"target/@dir", "readonly?"}},
    {"hostdev", {"@mode", "@type"}},
    {"hub", {"@type"}},
    {"input", {"@type", "@bus", "@model"}},
    {"interface", {"mac/@address", "model/@type"}},
    {"iommu", {"@model"}},
    {"memballoon", {"@model"}},
    {"memory", {"@model", "target/size", "target/node"}},
    {"nvram", {NULL}},
    {"panic", {"@model"}},
    {"parallel", {"target/@port"}},
    {"redirdev", {"@bus"}},
    {"rng", {"@model"}},
    {"serial", {"target/@type", "target/@port", "target/model/@name"}},
    {"shmem", {"@name", "model/@type", "size"}},
    {"smartcard", {"@mode"}},
    {"sound", {"@model", "codec/@type"}},
    {"tpm", {"@model", "backend/@version"}},
    {"video", {"model/@type", "model/@vram", "model/@ram", "model/@vgamem", "model/@heads"}},
    {"vsock", {"@model", "cid/@address"}},
    {"watchdog", {"@model"}},
};

/* What of <devices> is no device of its own, is the host's, or is compared elsewhere. */
static const char *const no_devices[] = {"audio", "disk", "emulator", "graphics", "lease"};

/* Devices that are not listed above. */
static const DeviceKind others = {"other device", {"@type", "@model", "@bus"}};

static gboolean is_of_kind(const xmlNode *node, const DeviceKind *kind)
{
    if (kind != &others)
        return xml_is(node, kind->kind);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (xml_is(node, kinds[i].kind))
            return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(no_devices); i++)
        if (xml_is(node, no_devices[i]))
            return FALSE;
    return TRUE;
}

static GPtrArray *devices_of(const DomainDef *def, const DeviceKind *kind)
{
    GPtrArray *devices = g_ptr_array_new();
    for (xmlNode *list = xml_child(root_of(def), "devices"); list; list = xml_next(list, "devices"))
        for (xmlNode *node = xml_first_element(list); node; node = xml_next(node, NULL))
            if (is_of_kind(node, kind))
                g_ptr_array_add(devices, node);
    return devices;
}

/* <address>: whatever attributes it has. NULL: there is none. Caller frees. */
static char *address_of(const xmlNode *device)
{
    const xmlNode *address = xml_child(device, "address");
    if (!address)
        return NULL;
    GString *text = g_string_new(NULL);
    for (const xmlAttr *attr = address->properties; attr; attr = attr->next) {
        g_autofree char *value = xml_attr(address, (const char *)attr->name);
        g_string_append_printf(text, "%s%s %s", text->len ? ", " : "", attr->name, value ? value : "");
    }
    return g_string_free(text, FALSE);
}

static gboolean same_address(const xmlNode *was, const xmlNode *is, GError **error)
{
    g_autofree char *a = address_of(was), *b = address_of(is);
    return same_text(error, "its address", a, b);
}

static gboolean same_device(const DeviceKind *kind, const xmlNode *was, const xmlNode *is, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(kind->seen) && kind->seen[i]; i++) {
        g_autofree char *a = value_at(was, kind->seen[i]), *b = value_at(is, kind->seen[i]);
        g_autofree char *words = path_words(kind->seen[i]);
        if (!same_text(error, words, a, b))
            return FALSE;
    }
    return same_address(was, is, error);
}

static gboolean same_devices(const DeviceKind *kind, const DomainDef *was, const DomainDef *is,
                             GError **error)
{
    g_autoptr(GPtrArray) a = devices_of(was, kind), b = devices_of(is, kind);
    if (a->len != b->len) {
        snap_set_error(error, EOPNOTSUPP, "%s: there are %u of that kind, not %u", kind->kind, b->len,
                       a->len);
        return FALSE;
    }
    for (guint i = 0; i < a->len; i++) {
        if (same_device(kind, a->pdata[i], b->pdata[i], error))
            continue;
        g_prefix_error(error, "%s %u: ", kind->kind, i + 1);
        return FALSE;
    }
    return TRUE;
}

/* --- disks --- */

static gboolean same_disk(const DiskDef *was, const DiskDef *is, GError **error)
{
    static const char *const paths[] = {"serial", "wwn", "vendor", "product"};
    if (!same_text(error, "its device", disk_device_to_string(was->device),
                   disk_device_to_string(is->device)) ||
        !same_text(error, "its bus", disk_def_bus(was), disk_def_bus(is)) ||
        !same_text(error, "<readonly/>", was->readonly ? "there" : NULL, is->readonly ? "there" : NULL))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *a = value_at(was->node, paths[i]), *b = value_at(is->node, paths[i]);
        if (!same_text(error, paths[i], a, b))
            return FALSE;
    }
    return same_address(was->node, is->node, error);
}

/* The first disk of @def that @other does not have. */
static const DiskDef *missing_disk(const DomainDef *def, const DomainDef *other)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *disk = def->disks->pdata[i];
        if (!domain_def_find_disk(other, disk->target))
            return disk;
    }
    return NULL;
}

static gboolean same_disks(const DomainDef *was, const DomainDef *is, GError **error)
{
    const DiskDef *gone = missing_disk(was, is), *new = missing_disk(is, was);
    if (gone || new) {
        snap_set_error(error, EOPNOTSUPP, "disk '%s' is %s", gone ? gone->target : new->target,
                       gone ? "missing" : "one more");
        return FALSE;
    }
    for (guint i = 0; i < was->disks->len; i++) {
        const DiskDef *disk = was->disks->pdata[i];
        if (same_disk(disk, domain_def_find_disk(is, disk->target), error))
            continue;
        g_prefix_error(error, "disk '%s': ", disk->target);
        return FALSE;
    }
    return TRUE;
}

gboolean abi_check(const DomainDef *was, const DomainDef *is, GError **error)
{
    if (!same_machine(was, is, error) || !same_disks(was, is, error))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (!same_devices(&kinds[i], was, is, error))
            return FALSE;
    return same_devices(&others, was, is, error);
}
