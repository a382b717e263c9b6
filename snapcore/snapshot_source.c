/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "snapshot_source.h"

#include <errno.h>
#include <string.h>

#include "error.h"

#define MAX_PORT 65535

/* The protocols of the format, the port that libvirt fills in (0: none), and is an image called POOL/IMAGE? */
static const struct {
    const char *word;
    guint port;
    gboolean pooled;
} protocols[] = {
    {"nbd", 10809, FALSE},  {"rbd", 0, TRUE},    {"sheepdog", 7000, FALSE}, {"gluster", 24007, TRUE},
    {"iscsi", 3260, FALSE}, {"http", 80, FALSE}, {"https", 443, FALSE},     {"ftp", 21, FALSE},
    {"ftps", 990, FALSE},   {"tftp", 69, FALSE}, {"ssh", 22, FALSE},        {"vxhs", 9999, FALSE},
    {"nfs", 0, FALSE},
};

/* What is kept, in libvirt's order. */
static const char *const network_attrs[] = {"protocol", "name", "query", "tls", "tlsHostname", NULL};
static const char *const network_children[] = {"snapshot", "config",     "initiator", "ssl",
                                               "cookies",  "readahead",  "timeout",   "reconnect",
                                               "identity", "knownHosts", "slices",    NULL};
static const char *const image_children[] = {"auth", "encryption", "reservations", "dataStore", NULL};

const char *snapshot_source_path_attr(DiskType type)
{
    return type == DISK_BLOCK ? "dev" : "file";
}

static xmlNode *new_source(void)
{
    return xmlNewNode(NULL, (const xmlChar *)"source");
}

static xmlNode *add_child(xmlNode *parent, const char *name)
{
    return xml_new_child(parent, xmlGetLastChild(parent), name);
}

static void copy_attr(xmlNode *to, const xmlNode *from, const char *name)
{
    g_autofree char *value = xml_attr(from, name);
    if (value != NULL)
        xml_set_attr(to, name, value);
}

/* Verbatim, each name's elements together. An element without content says nothing. */
static void copy_children(xmlNode *to, const xmlNode *from, const char *const *names)
{
    for (; *names != NULL; names++) {
        for (xmlNode *node = xml_child(from, *names); node != NULL; node = xml_next(node, *names)) {
            if (node->properties != NULL || xml_first_element(node) != NULL)
                xmlAddChild(to, xmlDocCopyNode(node, NULL, 1));
        }
    }
}

/* --- security labels --- */

static gboolean read_relabel(const xmlNode *label, gboolean *ret_relabel, GError **error)
{
    g_autofree char *word = xml_attr(label, "relabel");
    *ret_relabel = word == NULL || g_str_equal(word, "yes");
    if (*ret_relabel || g_str_equal(word, "no"))
        return TRUE;
    xml_set_error(error, EINVAL, label, "unknown relabel='%s'", word);
    return FALSE;
}

static gboolean copy_label(xmlNode *to, const xmlNode *label, GError **error)
{
    g_autofree char *skip = xml_attr(label, "labelskip");
    g_autofree char *text = xml_text(xml_child(label, "label"));
    gboolean relabel;
    if (!read_relabel(label, &relabel, error))
        return FALSE;
    gboolean has_text = text != NULL && text[0] != '\0';
    if (has_text && !relabel) {
        xml_set_error(error, EINVAL, label, "relabel='no' and a <label> exclude each other");
        return FALSE;
    }
    xmlNode *copy = add_child(to, "seclabel");
    copy_attr(copy, label, "model");
    if (g_strcmp0(skip, "yes") == 0)
        xml_set_attr(copy, "labelskip", "yes");
    else
        xml_set_attr(copy, "relabel", relabel ? "yes" : "no");
    if (has_text)
        xml_set_text(add_child(copy, "label"), text);
    return TRUE;
}

/* At most one a model. */
static gboolean copy_labels(xmlNode *to, const xmlNode *from, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (xmlNode *label = xml_child(from, "seclabel"); label != NULL; label = xml_next(label, "seclabel")) {
        char *model = xml_attr(label, "model");
        if (model != NULL && !g_hash_table_add(seen, model)) {
            xml_set_error(error, EINVAL, label, "there are two for the model '%s'",
                          (const char *)g_hash_table_lookup(seen, model));
            return FALSE;
        }
        if (!copy_label(to, label, error))
            return FALSE;
    }
    return TRUE;
}

/* --- network --- */

static gboolean read_port(const xmlNode *host, guint otherwise, guint *ret_port, GError **error)
{
    g_autofree char *text = xml_attr(host, "port");
    gint64 port = 0;
    if (text != NULL && (!number_from_string(text, &port) || port < 0 || port > MAX_PORT)) {
        xml_set_error(error, EINVAL, host, "'%s' is not a port", text);
        return FALSE;
    }
    *ret_port = port != 0 ? (guint)port : otherwise;
    return TRUE;
}

static gboolean copy_unix_host(xmlNode *to, const xmlNode *host, GError **error)
{
    g_autofree char *socket = xml_attr(host, "socket");
    if (socket == NULL) {
        xml_set_error(error, EINVAL, host, "transport='unix' needs a socket='...'");
        return FALSE;
    }
    xmlNode *copy = add_child(to, "host");
    xml_set_attr(copy, "transport", "unix");
    xml_set_attr(copy, "socket", socket);
    return TRUE;
}

static gboolean copy_host(xmlNode *to, const xmlNode *host, guint default_port, GError **error)
{
    g_autofree char *transport = xml_attr(host, "transport");
    g_autofree char *name = xml_attr(host, "name");
    g_autofree char *socket = xml_attr(host, "socket");
    guint port = 0;
    if (g_strcmp0(transport, "unix") == 0)
        return copy_unix_host(to, host, error);
    gboolean rdma = g_strcmp0(transport, "rdma") == 0;
    if (transport != NULL && !rdma && !g_str_equal(transport, "tcp"))
        xml_set_error(error, EINVAL, host, "unknown transport='%s'", transport);
    else if (socket != NULL)
        xml_set_error(error, EINVAL, host, "a socket='...' needs transport='unix'");
    else if (name == NULL)
        xml_set_error(error, EINVAL, host, "it has no name='...'");
    else if (read_port(host, rdma ? 0 : default_port, &port, error)) {
        xmlNode *copy = add_child(to, "host");
        xml_set_attr(copy, "name", name);
        if (port != 0) {
            g_autofree char *number = g_strdup_printf("%u", port);
            xml_set_attr(copy, "port", number);
        }
        if (rdma)
            xml_set_attr(copy, "transport", transport);
        return TRUE;
    }
    return FALSE;
}

static gboolean check_name(const xmlNode *source, gboolean pooled, GError **error)
{
    g_autofree char *name = xml_attr(source, "name");
    const char *slash = name != NULL ? strchr(name, '/') : NULL;
    if (name == NULL || name[0] == '\0')
        xml_set_error(error, EINVAL, source, "it has no name='...'");
    else if (pooled && (slash == NULL || slash == name || slash[1] == '\0'))
        xml_set_error(error, EINVAL, source, "'%s' is not a pool, '/' and an image", name);
    else
        return TRUE;
    return FALSE;
}

static gboolean check_tls(const xmlNode *source, GError **error)
{
    g_autofree char *word = xml_attr(source, "tls");
    if (word == NULL || g_str_equal(word, "yes") || g_str_equal(word, "no"))
        return TRUE;
    xml_set_error(error, EINVAL, source, "unknown tls='%s'", word);
    return FALSE;
}

static gboolean find_protocol(const xmlNode *source, guint *ret_protocol, GError **error)
{
    g_autofree char *word = xml_attr(source, "protocol");
    if (word == NULL) {
        xml_set_error(error, EINVAL, source, "it has no protocol='...'");
        return FALSE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(protocols); i++) {
        if (g_str_equal(protocols[i].word, word)) {
            *ret_protocol = i;
            return TRUE;
        }
    }
    xml_set_error(error, EINVAL, source, "unknown protocol='%s'", word);
    return FALSE;
}

static gboolean copy_network(xmlNode *to, const xmlNode *source, GError **error)
{
    guint protocol;
    if (!find_protocol(source, &protocol, error) || !check_name(source, protocols[protocol].pooled, error) ||
        !check_tls(source, error))
        return FALSE;
    for (const char *const *name = network_attrs; *name != NULL; name++)
        copy_attr(to, source, *name);
    for (xmlNode *host = xml_child(source, "host"); host != NULL; host = xml_next(host, "host")) {
        if (!copy_host(to, host, protocols[protocol].port, error))
            return FALSE;
    }
    copy_children(to, source, network_children);
    return TRUE;
}

/* --- all --- */

static gboolean copy_local(xmlNode *to, const xmlNode *source, GError **error)
{
    static const char *const first[] = {"slices", NULL};
    copy_attr(to, source, "fdgroup");
    copy_children(to, source, first);
    return copy_labels(to, source, error);
}

gboolean snapshot_source_read(const xmlNode *source, DiskType type, xmlNode **ret_node, GError **error)
{
    xmlNode *copy = new_source();
    gboolean local = type != DISK_NETWORK;
    if (local)
        copy_attr(copy, source, snapshot_source_path_attr(type));
    if (!(local ? copy_local(copy, source, error) : copy_network(copy, source, error))) {
        xmlFreeNode(copy);
        return FALSE;
    }
    copy_children(copy, source, image_children);
    g_autofree char *group = xml_attr(copy, "fdgroup");
    if (local && group == NULL && copy->children == NULL)
        g_clear_pointer(&copy, xmlFreeNode);
    *ret_node = copy;
    return TRUE;
}

xmlNode *snapshot_source_relabel(const xmlNode *from, DiskType type, const char *path)
{
    if (xml_child(from, "seclabel") == NULL)
        return NULL;
    xmlNode *copy = new_source();
    xml_set_attr(copy, snapshot_source_path_attr(type), path);
    for (xmlNode *label = xml_child(from, "seclabel"); label != NULL; label = xml_next(label, "seclabel"))
        xmlAddChild(copy, xmlDocCopyNode(label, NULL, 1));
    return copy;
}

gboolean snapshot_source_check_create(const xmlNode *source, GError **error)
{
    static const char *const refused[] = {"slices", "encryption", "reservations", "dataStore"};
    for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
        const xmlNode *node = xml_child(source, refused[i]);
        if (node != NULL) {
            snap_set_error(error, EOPNOTSUPP, "<%s>: an image with it cannot be created", refused[i]);
            return FALSE;
        }
    }
    g_autofree char *group = xml_attr(source, "fdgroup");
    if (group == NULL)
        return TRUE;
    snap_set_error(error, EOPNOTSUPP, "<source>: an image cannot be passed as fdgroup='%s'", group);
    return FALSE;
}
