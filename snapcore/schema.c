/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libxml2 says of a document with a mistake in an interleave only which child of the root holds it. So the mistake is
 * looked for here: the document is cut down as long as it stays wrong.
 */
#include "schema.h"

#include <errno.h>
#include <gio/gio.h>
#include <libxml/relaxng.h>
#include <libxml/xmlschemastypes.h>

#include "error.h"
#include "snapcore-resources.h"
#include "xml.h"

#define GRAMMAR "/domsnapfs/domainsnapshot.rng"
#define MAX_QUOTE 200 /* bytes of the document in a sentence */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlRelaxNG, xmlRelaxNGFree)

/*
 * The resource that holds the grammar. libxml2 fills these tables when they are first needed, without a lock; GLib
 * registers a program's resources then, and a second thread that asks meanwhile gets NULL.
 */
static gpointer init(gpointer unused)
{
    xmlInitParser();
    xmlSchemaInitTypes();
    (void)xmlRelaxNGInitTypes();
    return snapcore_get_resource();
}

/* Compiled for each use (a millisecond): nothing is shared between threads. */
static xmlRelaxNG *compile_grammar(void)
{
    static GOnce once = G_ONCE_INIT;
    GResource *resource = g_once(&once, init, NULL);
    g_autoptr(GBytes) text = g_resource_lookup_data(resource, GRAMMAR, 0, NULL);
    gsize len;
    const char *data = g_bytes_get_data(text, &len);
    xmlRelaxNGParserCtxt *context = xmlRelaxNGNewMemParserCtxt(data, (int)len);
    xmlRelaxNG *grammar = xmlRelaxNGParse(context);
    xmlRelaxNGFreeParserCtxt(context);
    g_assert(grammar); /* it is a part of this program */
    return grammar;
}

#if LIBXML_VERSION >= 21200
typedef const xmlError *SchemaError;
#else
typedef xmlErrorPtr SchemaError;
#endif

/* Its errors would go to stderr. */
static void ignore_error(void *user, SchemaError problem)
{
}

static gboolean is_valid(xmlRelaxNG *grammar, xmlDoc *doc)
{
    xmlRelaxNGValidCtxt *context = xmlRelaxNGNewValidCtxt(grammar);
    xmlRelaxNGSetValidStructuredErrors(context, ignore_error, NULL);
    gboolean valid = xmlRelaxNGValidateDoc(context, doc) == 0;
    xmlRelaxNGFreeValidCtxt(context);
    return valid;
}

/* --- where is the mistake? --- */

static GPtrArray *elements_of(const xmlNode *node)
{
    GPtrArray *elements = g_ptr_array_new();
    for (xmlNode *child = xml_first_element(node); child; child = xml_next(child, NULL))
        g_ptr_array_add(elements, child);
    return elements;
}

/* Let @node hold the first @n of @elements, and no other element. */
static void keep_first(xmlNode *node, const GPtrArray *elements, guint n)
{
    for (guint i = 0; i < elements->len; i++) {
        xmlNode *element = elements->pdata[i];
        if (i >= n)
            xmlUnlinkNode(element);
        else if (!element->parent)
            xmlAddChild(node, element);
    }
}

static void free_rest(const GPtrArray *elements, guint from)
{
    for (guint i = from; i < elements->len; i++)
        xmlFreeNode(elements->pdata[i]);
}

/* A whole machine is always right, and it is most of the document. */
static void empty_machines(xmlNode *root)
{
    for (xmlNode *child = xml_first_element(root); child; child = xml_next(child, NULL))
        if ((xml_is(child, "domain") || xml_is(child, "inactiveDomain")) &&
            xmlHasProp(child, (const xmlChar *)"type"))
            xml_set_text(child, "");
}

/*
 * The first of @elements, the children of @node, with which the document is wrong; *ret_at is its index. NULL: it is
 * wrong without any of them. Afterwards the document ends with that element.
 */
static xmlNode *first_wrong(xmlRelaxNG *grammar, xmlNode *node, const GPtrArray *elements)
{
    guint right = 0, wrong = elements->len;
    keep_first(node, elements, 0);
    if (wrong == 0 || !is_valid(grammar, node->doc)) {
        free_rest(elements, 0);
        return NULL;
    }
    while (wrong - right > 1) {
        guint middle = right + (wrong - right) / 2;
        keep_first(node, elements, middle);
        if (is_valid(grammar, node->doc))
            right = middle;
        else
            wrong = middle;
    }
    keep_first(node, elements, wrong);
    free_rest(elements, wrong);
    return elements->pdata[wrong - 1];
}

/* The innermost element that is wrong by itself. */
static xmlNode *find_wrong(xmlRelaxNG *grammar, xmlDoc *doc)
{
    xmlNode *node = xmlDocGetRootElement(doc);
    empty_machines(node);
    for (;;) {
        g_autoptr(GPtrArray) elements = elements_of(node);
        xmlNode *inner = first_wrong(grammar, node, elements);
        if (!inner)
            return node;
        node = inner;
    }
}

static GPtrArray *attributes_of(const xmlNode *node)
{
    GPtrArray *attributes = g_ptr_array_new();
    for (xmlAttr *attribute = node->properties; attribute; attribute = attribute->next)
        g_ptr_array_add(attributes, attribute);
    return attributes;
}

/* The attribute without which @node is right, taken out of it; or NULL. */
static xmlAttr *find_wrong_attribute(xmlRelaxNG *grammar, xmlNode *node)
{
    g_autoptr(GPtrArray) attributes = attributes_of(node);
    for (guint i = 0; i < attributes->len; i++) {
        xmlNode *attribute = attributes->pdata[i];
        xmlUnlinkNode(attribute);
        if (is_valid(grammar, node->doc))
            return (xmlAttr *)attribute;
        xmlAddChild(node, attribute);
    }
    return NULL;
}

/* For a sentence. Takes @text. */
static char *shorten(char *text)
{
    g_autofree char *whole = text;
    g_autofree char *cut = g_strndup(g_strstrip(whole), MAX_QUOTE);
    return g_utf8_make_valid(cut, -1);
}

static void explain(xmlRelaxNG *grammar, xmlDoc *doc, GError **error)
{
    xmlNode *node = find_wrong(grammar, doc);
    xmlAttr *attribute = find_wrong_attribute(grammar, node);
    g_autofree char *text = shorten(xml_text(attribute ? (xmlNode *)attribute : node));
    if (attribute)
        xml_set_error(error, EINVAL, node, "%s='%s' is not allowed there", attribute->name, text);
    else if (*text)
        xml_set_error(error, EINVAL, node, "it is not allowed there, or not with the content '%s'", text);
    else
        xml_set_error(error, EINVAL, node, "it is not allowed there, or something is missing in it");
    g_prefix_error(error, "not valid: ");
    if (attribute)
        xmlFreeProp(attribute);
}

gboolean schema_check_snapshot(const char *text, gsize len, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_parse(text, len, "domainsnapshot", error);
    if (!doc)
        return FALSE;
    g_autoptr(xmlRelaxNG) grammar = compile_grammar();
    if (is_valid(grammar, doc))
        return TRUE;
    explain(grammar, doc, error);
    return FALSE;
}
