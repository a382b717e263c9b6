/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Secrets in a domain's definition: what libvirt shows only with --security-info, the passwd= of a <graphics>
 * and of whatever else may have one. passwdValidTo= goes with it. (<secret> and <auth> only name a secret.)
 */
#include "domain.h"

#define SECRET_ATTR "passwd"

/* The next node of the tree below @root in document order, NULL at its end. */
static xmlNode *walk(const xmlNode *root, const xmlNode *node)
{
    if (node->type == XML_ELEMENT_NODE && node->children != NULL)
        return node->children;
    while (node != root && node->next == NULL)
        node = node->parent;
    return node != root ? node->next : NULL;
}

static gboolean holds_secret(const xmlNode *node)
{
    g_autofree char *value = xml_attr(node, SECRET_ATTR);
    return value != NULL;
}

gboolean domain_node_has_secret(const xmlNode *root)
{
    for (const xmlNode *node = root; node != NULL; node = walk(root, node)) {
        if (holds_secret(node))
            return TRUE;
    }
    return FALSE;
}

void domain_node_strip_secrets(xmlNode *root)
{
    for (xmlNode *node = root; node != NULL; node = walk(root, node)) {
        if (node->type == XML_ELEMENT_NODE)
            xml_remove_attr(node, SECRET_ATTR);
    }
}

/* What tells an element from its siblings of the same name: a disk's target, else type= or name=. */
static char *identity(const xmlNode *node)
{
    g_autofree char *target = xml_is(node, "disk") ? xml_attr(xml_child(node, "target"), "dev") : NULL;
    g_autofree char *type = xml_attr(node, "type");
    g_autofree char *name = xml_attr(node, "name");
    return g_strjoin("\n", (const char *)node->name, target ? target : "", type ? type : "", name ? name : "",
                     NULL);
}

/* The child elements of @node, queued in order under their identity. */
static GHashTable *group_children(const xmlNode *node)
{
    GHashTable *groups = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_queue_free);
    for (xmlNode *child = xml_first_element(node); child != NULL; child = xml_next(child, NULL)) {
        char *id = identity(child);
        GQueue *queue = g_hash_table_lookup(groups, id);
        if (queue == NULL)
            g_hash_table_insert(groups, g_strdup(id), queue = g_queue_new());
        g_queue_push_tail(queue, child);
        g_free(id);
    }
    return groups;
}

static void restore_one(xmlNode *node, const xmlNode *old)
{
    g_autofree char *secret = xml_attr(old, SECRET_ATTR);
    if (secret != NULL && !holds_secret(node))
        xml_set_attr(node, SECRET_ATTR, secret);
}

/* Both trees side by side: the n-th of several that look the same belongs to the n-th. Linear, at most 256
 * deep. */
void domain_node_restore_secrets(xmlNode *root, const xmlNode *old)
{
    restore_one(root, old);
    if (xml_first_element(old) == NULL || xml_first_element(root) == NULL)
        return;
    g_autoptr(GHashTable) groups = group_children(root);
    for (const xmlNode *child = xml_first_element(old); child != NULL; child = xml_next(child, NULL)) {
        g_autofree char *id = identity(child);
        GQueue *queue = g_hash_table_lookup(groups, id);
        xmlNode *match = queue != NULL ? g_queue_pop_head(queue) : NULL;
        if (match != NULL)
            domain_node_restore_secrets(match, child);
    }
}

void domain_def_strip_secrets(DomainDef *def)
{
    domain_node_strip_secrets(xmlDocGetRootElement(def->doc));
    def->secret = FALSE;
}

void domain_def_restore_secrets(DomainDef *def, const DomainDef *old)
{
    xmlNode *root = xmlDocGetRootElement(def->doc);
    domain_node_restore_secrets(root, xmlDocGetRootElement(old->doc));
    def->secret = domain_node_has_secret(root);
}
