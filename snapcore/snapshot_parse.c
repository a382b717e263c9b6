/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a <domainsnapshot>: to redefine and from the store (facts/libvirt-snapshots.md 1.3), and to create
 * (1.2). */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "names.h"
#include "snapshot_read.h"

#define ROOT "domainsnapshot"

static gboolean is_off(SnapState state)
{
    return state == STATE_SHUTOFF || state == STATE_DISK_SNAPSHOT;
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
    g_prefix_error(error, "line %ld: <name>: ", xmlGetLineNo(node));
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
    if (!g_ascii_string_to_signed(g_strstrip(text), 10, G_MININT64, G_MAXINT64, &def->creation_time, NULL)) {
        xml_set_error(error, EINVAL, node, "'%s' is not a number of seconds", text);
        return FALSE;
    }
    if (def->creation_time != 0)
        return TRUE;
    xml_set_error(error, EINVAL, node, "0 cannot be stored");
    return FALSE;
}

static gboolean read_parent(SnapshotDef *def, const xmlNode *root, GError **error)
{
    const xmlNode *node = xml_child(root, "parent");
    def->parent = snapshot_read_text(node, "name");
    if (g_strcmp0(def->parent, def->name) != 0)
        return TRUE;
    xml_set_error(error, EINVAL, node, "the snapshot cannot be its own parent");
    return FALSE;
}

/* Absent: what the state implies. A machine that was off had no memory. */
static gboolean read_memory(SnapshotDef *def, const xmlNode *root, GError **error)
{
    if (!snapshot_read_memory(root, &def->memory, &def->memory_file, error))
        return FALSE;
    if (def->memory == MODE_DEFAULT)
        def->memory = is_off(def->state) ? MODE_NO : MODE_INTERNAL;
    if (def->memory == MODE_NO || !is_off(def->state))
        return TRUE;
    xml_set_error(error, EINVAL, xml_child(root, "memory"), "in the state '%s' there is no memory to save",
                  snap_state_to_string(def->state));
    return FALSE;
}

static gboolean read_disks(const xmlNode *list, GPtrArray *disks, GError **error)
{
    for (xmlNode *node = xml_first_element(list); node != NULL; node = xml_next(node, NULL)) {
        SnapshotDisk *disk = snapshot_read_disk(node, error);
        if (disk == NULL)
            return FALSE;
        g_ptr_array_add(disks, disk);
    }
    return TRUE;
}

/* Carried as they are; read once to be sure that they can be. */
static gboolean read_revert_disks(SnapshotDef *def, const xmlNode *root, GError **error)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_disk_free);
    xmlNode *node = xml_child(root, "revertDisks");
    if (!read_disks(node, disks, error))
        return FALSE;
    if (disks->len > 0)
        def->revert_disks = node;
    return TRUE;
}

static gboolean read_head(SnapshotDef *def, const xmlNode *root, GError **error)
{
    def->description = snapshot_read_text(root, "description");
    return read_name(def, root, error) && read_state(def, root, error) && read_time(def, root, error) &&
           read_parent(def, root, error) && read_memory(def, root, error) &&
           read_disks(xml_child(root, "disks"), def->disks, error) && read_revert_disks(def, root, error);
}

/* A <domain> without type= is the old form that holds just the uuid. */
static gboolean read_domain(SnapshotDef *def, const xmlNode *root, GError **error)
{
    const xmlNode *node = xml_child(root, "domain");
    g_autofree char *type = xml_attr(node, "type");
    if (type != NULL) {
        def->domain = domain_def_parse_node(node, error);
        return def->domain != NULL;
    }
    g_autofree char *uuid = snapshot_read_text(node, "uuid");
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
    return domain != NULL;
}

static gboolean read_tail(SnapshotDef *def, const xmlNode *root, GError **error)
{
    if (!is_off(def->state))
        def->cookie = xml_child(root, "cookie");
    g_autofree char *active = snapshot_read_text(root, "active");
    def->has_active = active != NULL;
    def->active = g_strcmp0(active, "1") == 0;
    return read_domain(def, root, error) && read_inactive_domain(def, root, error);
}

static gboolean needs_document(const SnapshotDef *def)
{
    if (def->revert_disks != NULL || def->inactive_domain != NULL || def->cookie != NULL)
        return TRUE;
    for (guint i = 0; i < def->disks->len; i++) {
        const SnapshotDisk *disk = g_ptr_array_index(def->disks, i);
        if (disk->driver != NULL || disk->source_node != NULL)
            return TRUE;
    }
    return FALSE;
}

/* Keep of @doc what @def points into: thousands of snapshots are held at a time. */
static void keep_document(SnapshotDef *def, xmlDoc *doc)
{
    if (!needs_document(def)) {
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
    gsize head = head_length(text, len);
    SnapshotDef *def = head > 0 ? parse_head(text, head) : NULL;
    return def != NULL ? def : snapshot_def_parse(text, len, error);
}

static DiskRequest *request_from(const SnapshotDisk *disk)
{
    DiskRequest *request = disk_request_new(disk->name);
    request->mode = disk->mode;
    request->type = disk->type;
    request->format = disk->format;
    request->source = g_strdup(disk->source);
    return request;
}

static gboolean read_disk_requests(CreateRequest *request, const xmlNode *list, GError **error)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_disk_free);
    if (!read_disks(list, disks, error))
        return FALSE;
    if (disks->len == 0)
        return TRUE; /* as if omitted */
    request->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_request_free);
    for (guint i = 0; i < disks->len; i++)
        g_ptr_array_add(request->disks, request_from(g_ptr_array_index(disks, i)));
    return TRUE;
}

CreateRequest *snapshot_parse_create(const char *text, gsize len, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_parse(text, len, ROOT, error);
    if (doc == NULL)
        return NULL;
    const xmlNode *root = xmlDocGetRootElement(doc);
    g_autoptr(CreateRequest) request = create_request_new();
    request->name = snapshot_read_text(root, "name");
    request->description = snapshot_read_text(root, "description");
    if (!snapshot_read_memory(root, &request->memory, &request->memory_file, error) ||
        !read_disk_requests(request, xml_child(root, "disks"), error))
        return NULL;
    return g_steal_pointer(&request);
}
