/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a <domain> document. Rules and defaults are libvirt's; elements it does not name are left alone. */
#include "domain.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "names.h"
#include "remote.h"

#define MAX_TARGET 64

BackingDef *backing_def_new(DiskType type, const char *path, ImageFormat format)
{
    BackingDef *backing = g_new0(BackingDef, 1);
    backing->type = type;
    backing->path = g_strdup(path);
    backing->format = format;
    return backing;
}

void backing_def_free(BackingDef *backing)
{
    if (backing == NULL)
        return;
    g_free(backing->path);
    g_free(backing);
}

static GPtrArray *backing_list_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
}

void disk_def_free(DiskDef *disk)
{
    if (disk == NULL)
        return;
    g_free(disk->target);
    g_free(disk->bus);
    g_free(disk->source);
    g_free(disk->uri);
    g_ptr_array_unref(disk->backing);
    g_free(disk);
}

void domain_def_free(DomainDef *def)
{
    if (def == NULL)
        return;
    g_free(def->name);
    g_free(def->uuid);
    g_free(def->type);
    g_free(def->nvram);
    g_ptr_array_unref(def->disks);
    xmlFreeDoc(def->doc);
    g_free(def);
}

char *domain_uuid_normalize(const char *text)
{
    GString *uuid = g_string_sized_new(36);
    const char *p = text;
    while (g_ascii_isspace(*p))
        p++;
    for (guint digits = 0; digits < 32; p++) {
        if (*p == '-' && digits % 2 == 0)
            continue; /* between bytes, anywhere */
        if (!g_ascii_isxdigit(*p))
            break;
        g_string_append_c(uuid, g_ascii_tolower(*p));
        if (++digits == 8 || digits == 12 || digits == 16 || digits == 20)
            g_string_append_c(uuid, '-');
    }
    while (g_ascii_isspace(*p))
        p++;
    gboolean good = uuid->len == 36 && *p == '\0';
    return g_string_free(uuid, !good);
}

static gboolean check_path(const char *path, const xmlNode *node, GError **error)
{
    if (image_path_check(path, error))
        return TRUE;
    xml_prefix_error(error, node);
    return FALSE;
}

/* file= or dev= of <source>; *ret_path is NULL when it is absent or empty, or the type has no local path. */
static gboolean read_path(const xmlNode *source, DiskType type, char **ret_path, GError **error)
{
    if (type != DISK_FILE && type != DISK_BLOCK) {
        *ret_path = NULL;
        return TRUE;
    }
    g_autofree char *path = xml_attr(source, type == DISK_FILE ? "file" : "dev");
    if (path != NULL && path[0] == '\0')
        g_clear_pointer(&path, g_free);
    if (path != NULL && !check_path(path, source, error))
        return FALSE;
    *ret_path = g_steal_pointer(&path);
    return TRUE;
}

/* The type= of a disk or backing store; libvirt takes a missing one as file. */
static gboolean read_type(const xmlNode *node, DiskType *ret_type, GError **error)
{
    g_autofree char *word = xml_attr(node, "type");
    *ret_type = DISK_FILE;
    if (word == NULL || disk_type_from_string(word, ret_type))
        return TRUE;
    xml_set_error(error, EINVAL, node, "unknown type '%s'", word);
    return FALSE;
}

/* The image format in @node's type=, for an image that we would have to open when @ours. */
static gboolean read_format(const xmlNode *node, gboolean ours, ImageFormat *ret_format, GError **error)
{
    g_autofree char *word = xml_attr(node, "type");
    *ret_format = FORMAT_NONE;
    if (word == NULL || image_format_from_string(word, ret_format) || !ours)
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, node, "image format '%s' is not supported (raw, qcow2, qed are)", word);
    return FALSE;
}

/* One level: its type, path and format. */
static gboolean read_level(const xmlNode *store, GPtrArray *list, GError **error)
{
    const xmlNode *source = xml_child(store, "source");
    const xmlNode *word = xml_child(store, "format");
    DiskType type;
    ImageFormat format;
    g_autofree char *path = NULL;
    if (source == NULL || word == NULL) {
        xml_set_error(error, EINVAL, store, "it has no <%s>", word == NULL ? "format" : "source");
        return FALSE;
    }
    if (!read_type(store, &type, error) || !read_path(source, type, &path, error) ||
        !read_format(word, path != NULL, &format, error))
        return FALSE;
    g_ptr_array_add(list, backing_def_new(type, path, format));
    return TRUE;
}

/* What <backingStore> in @node names. One without a type= ends the chain, whatever stands in it, and is not listed. */
static gboolean read_backing(const xmlNode *node, GPtrArray *list, GError **error)
{
    for (const xmlNode *store = xml_child(node, "backingStore"); store != NULL;
         store = xml_child(store, "backingStore")) {
        g_autofree char *type = xml_attr(store, "type");
        if (type == NULL)
            break;
        if (!read_level(store, list, error))
            return FALSE;
    }
    return TRUE;
}

/* Targets become file names and words of commands: libvirt's schema allows no more than this either. */
static gboolean target_valid(const char *target)
{
    gsize n = strspn(target, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-:");
    return n > 0 && n <= MAX_TARGET && target[n] == '\0' && g_ascii_isalnum(target[0]);
}

static gboolean read_target(DiskDef *disk, GError **error)
{
    const xmlNode *target = xml_child(disk->node, "target");
    disk->target = xml_attr(target, "dev");
    disk->bus = xml_attr(target, "bus");
    if (target == NULL) {
        xml_set_error(error, EINVAL, disk->node, "the disk has no <target dev='...'/>");
        return FALSE;
    }
    if (disk->target == NULL) {
        xml_set_error(error, EINVAL, target, "it has no dev='...', the disk's name");
        return FALSE;
    }
    if (target_valid(disk->target))
        return TRUE;
    xml_set_error(error, EINVAL, target, "'%s' cannot be a disk's name", disk->target);
    return FALSE;
}

static gboolean read_words(DiskDef *disk, GError **error)
{
    g_autofree char *device = xml_attr(disk->node, "device");
    g_autofree char *snapshot = xml_attr(disk->node, "snapshot");
    if (!read_type(disk->node, &disk->type, error))
        return FALSE;
    if (device != NULL && !disk_device_from_string(device, &disk->device)) {
        xml_set_error(error, EINVAL, disk->node, "unknown device '%s'", device);
        return FALSE;
    }
    if (snapshot != NULL && !snap_mode_from_string(snapshot, &disk->snapshot)) {
        xml_set_error(error, EINVAL, disk->node, "unknown snapshot='%s'", snapshot);
        return FALSE;
    }
    disk->readonly = xml_child(disk->node, "readonly") != NULL || disk->device == DEVICE_CDROM;
    disk->shareable = xml_child(disk->node, "shareable") != NULL;
    disk->transient = xml_child(disk->node, "transient") != NULL;
    return TRUE;
}

static gboolean read_image(DiskDef *disk, GError **error)
{
    const xmlNode *source = xml_child(disk->node, "source");
    if (!read_path(source, disk->type, &disk->source, error))
        return FALSE;
    gboolean local = disk->type == DISK_FILE || disk->type == DISK_BLOCK;
    disk->has_source = local ? disk->source != NULL : source != NULL;
    if (!disk->has_source && disk->device != DEVICE_CDROM && disk->device != DEVICE_FLOPPY) {
        xml_set_error(error, EINVAL, disk->node,
                      "it has no <source>; only the drive of a cdrom or floppy can be empty");
        return FALSE;
    }
    if (disk->type == DISK_NETWORK && source != NULL)
        disk->uri = remote_uri(source, NULL);
    /* A slice is a part of a file; an overlay on the whole file would show another content. */
    const xmlNode *slices = disk->source != NULL ? xml_child(source, "slices") : NULL;
    if (slices != NULL) {
        xml_set_error(error, EOPNOTSUPP, slices, "an image that is a part of a file is not supported");
        return FALSE;
    }
    return read_format(xml_child(disk->node, "driver"), disk->source != NULL, &disk->format, error) &&
           read_backing(disk->node, disk->backing, error);
}

static DiskDef *read_disk(xmlNode *node, GError **error)
{
    g_autoptr(DiskDef) disk = g_new0(DiskDef, 1);
    disk->node = node;
    disk->line = xmlGetLineNo(node);
    disk->backing = backing_list_new();
    if (!read_target(disk, error))
        return NULL;
    if (!read_words(disk, error) || !read_image(disk, error)) {
        g_prefix_error(error, "disk '%s': ", disk->target);
        return NULL;
    }
    return g_steal_pointer(&disk);
}

static gboolean read_disks(DomainDef *def, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    const xmlNode *root = xmlDocGetRootElement(def->doc);
    for (xmlNode *devices = xml_child(root, "devices"); devices != NULL;
         devices = xml_next(devices, "devices")) {
        for (xmlNode *node = xml_child(devices, "disk"); node != NULL; node = xml_next(node, "disk")) {
            DiskDef *disk = read_disk(node, error);
            if (disk == NULL)
                return FALSE;
            g_ptr_array_add(def->disks, disk);
            if (!g_hash_table_add(seen, disk->target)) {
                xml_set_error(error, EINVAL, node, "two disks are called '%s'", disk->target);
                return FALSE;
            }
        }
    }
    return TRUE;
}

static gboolean read_name(DomainDef *def, const xmlNode *root, GError **error)
{
    const xmlNode *node = xml_child(root, "name");
    if (node == NULL) {
        xml_set_error(error, EINVAL, root, "the domain has no <name>");
        return FALSE;
    }
    def->name = xml_text(node);
    if (name_check_document(def->name, NAME_DOMAIN, error))
        return TRUE;
    xml_prefix_error(error, node);
    return FALSE;
}

/* As libvirt: a missing or empty uuid is made up. */
static gboolean read_uuid(DomainDef *def, xmlNode *root, GError **error)
{
    xmlNode *node = xml_child(root, "uuid");
    g_autofree char *text = node != NULL ? xml_text(node) : g_strdup("");
    def->uuid = text[0] != '\0' ? domain_uuid_normalize(text) : g_uuid_string_random();
    if (def->uuid == NULL) {
        xml_set_error(error, EINVAL, node, "malformed uuid");
        return FALSE;
    }
    def->uuid_made = text[0] == '\0';
    if (node == NULL)
        node = xml_new_child(root, xml_child(root, "name"), "uuid");
    if (!g_str_equal(text, def->uuid))
        xml_set_text(node, def->uuid);
    return TRUE;
}

/* <nvram>PATH</nvram>, or since libvirt 8.5 <nvram type='file'><source file='PATH'/></nvram>. */
static gboolean read_nvram(DomainDef *def, const xmlNode *root, GError **error)
{
    const xmlNode *node = xml_child(xml_child(root, "os"), "nvram");
    const xmlNode *source = xml_child(node, "source");
    g_autofree char *path = source != NULL ? xml_attr(source, "file") : xml_text(node);
    if (path == NULL || g_strstrip(path)[0] == '\0')
        return TRUE;
    if (!check_path(path, node, error))
        return FALSE;
    def->nvram = g_steal_pointer(&path);
    return TRUE;
}

/* Takes over @doc, also when it fails. */
static DomainDef *read_document(xmlDoc *doc, GError **error)
{
    g_autoptr(DomainDef) def = g_new0(DomainDef, 1);
    def->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_def_free);
    def->doc = doc;
    xmlNode *root = xmlDocGetRootElement(doc);
    def->type = xml_attr(root, "type");
    if (def->type == NULL || def->type[0] == '\0') {
        xml_set_error(error, EINVAL, root, "the domain has no type='...'");
        return NULL;
    }
    if (!read_name(def, root, error) || !read_uuid(def, root, error) || !read_nvram(def, root, error) ||
        !read_disks(def, error))
        return NULL;
    def->tpm = xml_child(xml_child(root, "devices"), "tpm") != NULL;
    def->secret = domain_node_has_secret(root);
    return g_steal_pointer(&def);
}

DomainDef *domain_def_parse(const char *text, gsize len, GError **error)
{
    xmlDoc *doc = xml_parse(text, len, "domain", error);
    return doc != NULL ? read_document(doc, error) : NULL;
}

DomainDef *domain_def_parse_node(const xmlNode *node, GError **error)
{
    xmlDoc *doc = xmlNewDoc((const xmlChar *)"1.0");
    xmlNode *root = xmlDocCopyNode((xmlNode *)node, doc, 1);
    xmlNodeSetName(root, (const xmlChar *)"domain");
    xmlDocSetRootElement(doc, root);
    return read_document(doc, error);
}

char *domain_def_format(const DomainDef *def)
{
    GString *out = g_string_new(NULL);
    xml_write_node(out, xmlDocGetRootElement(def->doc), 0);
    return g_string_free(out, FALSE);
}

DiskDef *domain_def_find_disk(const DomainDef *def, const char *name)
{
    DiskDef *found = NULL;
    guint n = 0;
    for (guint i = 0; i < def->disks->len; i++) {
        DiskDef *disk = g_ptr_array_index(def->disks, i);
        if (g_str_equal(disk->target, name))
            return disk;
        if (name[0] == '/' && g_strcmp0(disk->source, name) == 0) {
            found = disk;
            n++;
        }
    }
    return n == 1 ? found : NULL;
}

const char *disk_def_bus(const DiskDef *disk)
{
    static const struct {
        const char *start, *bus;
    } usual[] = {{"vd", "virtio"}, {"hd", "ide"},  {"sd", "scsi"},
                 {"fd", "fdc"},    {"xvd", "xen"}, {"ubd", "uml"}};
    for (guint i = 0; i < G_N_ELEMENTS(usual) && !disk->bus; i++)
        if (g_str_has_prefix(disk->target, usual[i].start))
            return usual[i].bus;
    return disk->bus;
}

gboolean disk_def_has_media(const DiskDef *disk)
{
    return disk->has_source;
}
