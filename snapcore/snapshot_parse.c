/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a <domainsnapshot>: to redefine and from the store (facts/libvirt-snapshots.md 1.3), and to create
 * (1.2). */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "names.h"
#include "snapshot.h"
#include "snapshot_source.h"

#define ROOT "domainsnapshot"

static gboolean is_off(SnapState state)
{
    return state == STATE_SHUTOFF || state == STATE_DISK_SNAPSHOT;
}

/* The text of @root's child @name; NULL when it is absent or empty. */
static char *read_text(const xmlNode *root, const char *name)
{
    char *text = xml_text(xml_child(root, name));
    if (text != NULL && text[0] == '\0')
        g_clear_pointer(&text, g_free);
    return text;
}

/* <memory> in @root. Writes MODE_DEFAULT and NULL when there is none. */
static gboolean read_memory_element(const xmlNode *root, SnapMode *ret_mode, char **ret_file, GError **error)
{
    const xmlNode *node = xml_child(root, "memory");
    g_autofree char *word = xml_attr(node, "snapshot");
    g_autofree char *file = xml_attr(node, "file");
    SnapMode mode = MODE_DEFAULT;
    if (word != NULL && !snap_mode_from_string(word, &mode)) {
        xml_set_error(error, EINVAL, node, "unknown snapshot='%s'", word);
        return FALSE;
    }
    if (!memory_mode_finish(&mode, file, error)) {
        xml_prefix_error(error, node);
        return FALSE;
    }
    *ret_mode = mode;
    *ret_file = g_steal_pointer(&file);
    return TRUE;
}

static gboolean read_name(SnapshotDef *def, const xmlNode *root, GError **error)
{
    const xmlNode *node = xml_child(root, "name");
    if (node == NULL) {
        xml_set_error(error, EINVAL, root, "the snapshot has no <name>");
        return FALSE;
    }
    def->name = xml_text(node);
    if (name_check_document(def->name, NAME_SNAPSHOT, error))
        return TRUE;
    xml_prefix_error(error, node);
    return FALSE;
}

/* Missing: EINVAL. Known to the format, but not of a machine that can be snapshot: EINVAL or EOPNOTSUPP, as
 * libvirt. */
static gboolean read_state(SnapshotDef *def, const xmlNode *root, GError **error)
{
    const xmlNode *node = xml_child(root, "state");
    g_autofree char *word = xml_text(node);
    if (word == NULL) {
        xml_set_error(error, EINVAL, root, "the snapshot has no <state>");
        return FALSE;
    }
    def->state_line = xmlGetLineNo(node);
    gboolean known = snap_state_from_string(word, &def->state);
    if (known && def->state != STATE_NOSTATE && def->state != STATE_BLOCKED &&
        def->state != STATE_PMSUSPENDED)
        return TRUE;
    xml_set_error(error, known && def->state == STATE_BLOCKED ? EINVAL : EOPNOTSUPP, node,
                  "a snapshot cannot have the state '%s'", word);
    return FALSE;
}

static gboolean read_time(SnapshotDef *def, const xmlNode *root, GError **error)
{
    const xmlNode *node = xml_child(root, "creationTime");
    if (node == NULL) {
        xml_set_error(error, EINVAL, root, "the snapshot has no <creationTime>");
        return FALSE;
    }
    g_autofree char *text = xml_text(node);
    if (!number_from_string(text, &def->creation_time)) {
        xml_set_error(error, EINVAL, node, "'%s' is not a number of seconds", text);
        return FALSE;
    }
    if (def->creation_time != 0)
        return TRUE;
    xml_set_error(error, EINVAL, node, "0 stands for no time, which cannot be stored");
    return FALSE;
}

static gboolean read_parent(SnapshotDef *def, const xmlNode *root, GError **error)
{
    const xmlNode *node = xml_child(root, "parent");
    while (node != NULL && xml_child(node, "name") == NULL)
        node = xml_next(node, "parent"); /* as libvirt: the first name in any */
    def->parent = read_text(node, "name");
    def->parent_line = node != NULL ? xmlGetLineNo(node) : 0;
    if (g_strcmp0(def->parent, def->name) != 0)
        return TRUE;
    xml_set_error(error, EINVAL, node, "the snapshot cannot be its own parent");
    return FALSE;
}

/* Absent: what the state implies. A machine that was off had no memory. */
static gboolean read_memory(SnapshotDef *def, const xmlNode *root, GError **error)
{
    if (!read_memory_element(root, &def->memory, &def->memory_file, error))
        return FALSE;
    if (def->memory == MODE_DEFAULT)
        def->memory = is_off(def->state) ? MODE_NO : MODE_INTERNAL;
    if (def->memory == MODE_NO || !is_off(def->state))
        return TRUE;
    xml_set_error(error, EINVAL, xml_child(root, "memory"), "in the state '%s' there is no memory to save",
                  snap_state_to_string(def->state));
    return FALSE;
}

/* Every child of every @root/@name is a disk, whatever it is called. */
static gboolean read_disks(const xmlNode *root, const char *name, GPtrArray *disks, GError **error)
{
    for (xmlNode *list = xml_child(root, name); list != NULL; list = xml_next(list, name)) {
        for (xmlNode *node = xml_first_element(list); node != NULL; node = xml_next(node, NULL)) {
            SnapshotDisk *disk = snapshot_disk_read(node, error);
            if (disk == NULL)
                return FALSE;
            g_ptr_array_add(disks, disk);
        }
    }
    return TRUE;
}

static gboolean read_head(SnapshotDef *def, const xmlNode *root, GError **error)
{
    g_autofree char *active = read_text(root, "active");
    def->has_active = active != NULL;
    def->active = g_strcmp0(active, "1") == 0;
    def->description = read_text(root, "description");
    return read_name(def, root, error) && read_state(def, root, error) && read_time(def, root, error) &&
           read_parent(def, root, error) && read_memory(def, root, error) &&
           read_disks(root, "disks", def->disks, error) &&
           read_disks(root, "revertDisks", def->revert_disks, error);
}

/* A <domain> without type= is the old form that holds just the uuid. */
static gboolean read_domain(SnapshotDef *def, const xmlNode *root, GError **error)
{
    const xmlNode *node = xml_child(root, "domain");
    g_autofree char *type = xml_attr(node, "type");
    def->domain_line = node != NULL ? xmlGetLineNo(node) : 0;
    if (type != NULL && type[0] != '\0') {
        def->domain = domain_def_parse_node(node, error);
        return def->domain != NULL;
    }
    g_autofree char *uuid = read_text(node, "uuid");
    if (uuid == NULL)
        return TRUE;
    def->domain_uuid = domain_uuid_normalize(uuid);
    if (def->domain_uuid != NULL)
        return TRUE;
    xml_set_error(error, EINVAL, xml_child(node, "uuid"), "malformed uuid");
    return FALSE;
}

static gboolean read_inactive_domain(SnapshotDef *def, const xmlNode *root, GError **error)
{
    def->inactive_domain = xml_child(root, "inactiveDomain");
    if (def->inactive_domain == NULL)
        return TRUE;
    g_autoptr(DomainDef) domain = domain_def_parse_node(def->inactive_domain, error);
    if (domain == NULL)
        g_prefix_error(error, "<inactiveDomain>: ");
    return domain != NULL;
}

static gboolean read_tail(SnapshotDef *def, const xmlNode *root, GError **error)
{
    if (!is_off(def->state))
        def->cookie = xml_child(root, "cookie");
    return read_domain(def, root, error) && read_inactive_domain(def, root, error);
}

/* Keep of @doc what @def points into: thousands of snapshots are held at a time. */
static void keep_document(SnapshotDef *def, xmlDoc *doc)
{
    if (def->inactive_domain == NULL && def->cookie == NULL) {
        xmlFreeDoc(doc);
        return;
    }
    xml_remove_node(xml_child(xmlDocGetRootElement(doc), "domain"));
    def->doc = doc;
}

SnapshotDef *snapshot_def_parse(const char *text, gsize len, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_parse(text, len, ROOT, error);
    if (doc == NULL)
        return NULL;
    const xmlNode *root = xmlDocGetRootElement(doc);
    g_autoptr(SnapshotDef) def = snapshot_def_new();
    if (!read_head(def, root, error) || !read_tail(def, root, error))
        return NULL;
    if (def->domain != NULL && !snapshot_def_align_disks(def, def->domain, error))
        return NULL;
    keep_document(def, g_steal_pointer(&doc));
    return g_steal_pointer(&def);
}

static gboolean starts_with(const char *text, gsize len, const char *prefix)
{
    return len >= strlen(prefix) && memcmp(text, prefix, strlen(prefix)) == 0;
}

/* In the layout we write, a child of the root is the only thing that stands two spaces in. */
#define CHILD "\n  <"

/* May the element at @text stand behind <domain> in our layout, or end one that does? */
static gboolean belongs_to_tail(const char *text, gsize len)
{
    static const char *const tail[] = {"/domain>", "inactiveDomain", "/inactiveDomain>", "cookie",
                                       "/cookie>"};
    for (guint i = 0; i < G_N_ELEMENTS(tail); i++) {
        if (starts_with(text, len, tail[i]))
            return TRUE;
    }
    return FALSE;
}

/* How much of @text stands before <domain>; 0: it is not laid out as we do. */
static gsize head_length(const char *text, gsize len)
{
    const char *end = text + len;
    const char *cut = memmem(text, len, CHILD "domain", strlen(CHILD "domain"));
    if (cut == NULL)
        return 0;
    for (const char *p = cut + strlen(CHILD "domain");;) {
        p = memmem(p, (gsize)(end - p), CHILD, strlen(CHILD));
        if (p == NULL)
            break;
        p += strlen(CHILD);
        if (!belongs_to_tail(p, (gsize)(end - p)))
            return 0;
    }
    const char *name_end = cut + strlen(CHILD "domain");
    gboolean whole = name_end < end && (*name_end == ' ' || *name_end == '>');
    return whole ? (gsize)(cut - text) : 0;
}

static SnapshotDef *parse_head(const char *text, gsize len)
{
    g_autoptr(GString) head = g_string_sized_new(len + sizeof("</" ROOT ">"));
    g_string_append_len(head, text, (gssize)len);
    g_string_append(head, "</" ROOT ">");
    g_autoptr(xmlDoc) doc = xml_parse(head->str, head->len, ROOT, NULL);
    g_autoptr(SnapshotDef) def = snapshot_def_new();
    if (doc == NULL || !read_head(def, xmlDocGetRootElement(doc), NULL))
        return NULL;
    for (guint i = 0; i < def->disks->len; i++) {
        const SnapshotDisk *disk = g_ptr_array_index(def->disks, i);
        if (disk->mode == MODE_DEFAULT)
            return NULL; /* the <domain> would have to say */
    }
    keep_document(def, g_steal_pointer(&doc));
    return g_steal_pointer(&def);
}

SnapshotDef *snapshot_def_parse_head(const char *text, gsize len, GError **error)
{
    gsize head = len <= XML_MAX_BYTES ? head_length(text, len) : 0;
    SnapshotDef *def = head > 0 ? parse_head(text, head) : NULL;
    return def != NULL ? def : snapshot_def_parse(text, len, error);
}

/* What can be recorded of an image that is there already, but not asked for of a new one. */
static gboolean check_creatable(const GPtrArray *disks, GError **error)
{
    for (guint i = 0; i < disks->len; i++) {
        const SnapshotDisk *disk = g_ptr_array_index(disks, i);
        gboolean cache_fits =
            disk->cache_size == 0 || disk->format == FORMAT_NONE || disk->format == FORMAT_QCOW2;
        if (!cache_fits)
            snap_set_error(error, EOPNOTSUPP, "<metadata_cache>: only a qcow2 image has one");
        if (!cache_fits || !snapshot_source_check_create(disk->source_node, error)) {
            g_prefix_error(error, "disk '%s': line %ld: ", disk->name, disk->line);
            return FALSE;
        }
    }
    return TRUE;
}

CreateRequest *snapshot_parse_create(const char *text, gsize len, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_parse(text, len, ROOT, error);
    if (doc == NULL)
        return NULL;
    const xmlNode *root = xmlDocGetRootElement(doc);
    g_autoptr(CreateRequest) request = create_request_new();
    request->name = read_text(root, "name");
    request->description = read_text(root, "description");
    if (!read_memory_element(root, &request->memory, &request->memory_file, error) ||
        !read_disks(root, "disks", request->disks, error) || !check_creatable(request->disks, error))
        return NULL;
    return g_steal_pointer(&request);
}
