/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XML in and out, the only file that configures libxml2.
 *
 * In: documents are hostile. At most XML_MAX_BYTES, UTF-8, 256 levels, 200 attributes an element, no DOCTYPE (so no
 * entity of its own), no network, no XInclude. A document that fails any of this is an EINVAL error that names the line.
 * Out: exactly libvirt's layout (facts/libvirt-snapshots.md 1.1): two spaces a level, LF, attributes in single quotes,
 * & < > ' " escaped in text and attributes, \r as &#13;, no XML declaration, an element without content as <x/>. Only
 * what stands in a domain's <metadata> looks as libvirt lets libxml2 print it: double quotes.
 */
#pragma once

#include <glib.h>
#include <libxml/tree.h>

#define XML_MAX_BYTES (1024 * 1024)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

/* Parse @len bytes of @text whose root element must be called @root. Caller frees with xmlFreeDoc. E2BIG: too long. */
xmlDoc *xml_parse(const char *text, gsize len, const char *root, GError **error);

/* The first child element called @name (no namespace), or NULL. @node may be NULL. */
xmlNode *xml_child(const xmlNode *node, const char *name);

/* The next sibling element called @name, or of any name when @name is NULL. xml_first_element: the first child one. */
xmlNode *xml_next(const xmlNode *node, const char *name);
xmlNode *xml_first_element(const xmlNode *node);

/* TRUE when @node is an element called @name without a namespace. */
gboolean xml_is(const xmlNode *node, const char *name);

/* Attribute @name of @node, or NULL. Caller frees with g_free. @node may be NULL. */
char *xml_attr(const xmlNode *node, const char *name);

/* The text in @node, byte for byte, or NULL when @node is NULL. Caller frees with g_free. */
char *xml_text(const xmlNode *node);

/* Set @error to "line N: <element>: ..." about @node. */
void xml_set_error(GError **error, int err, const xmlNode *node, const char *format, ...) G_GNUC_PRINTF(4, 5);

/* Put "line N: <element>: " about @node in front of what @error says. */
void xml_prefix_error(GError **error, const xmlNode *node);

/* Set attribute or text; libxml2 escapes on output, the values here are plain. */
void xml_set_attr(xmlNode *node, const char *name, const char *value);
void xml_set_text(xmlNode *node, const char *text);
void xml_remove_attr(xmlNode *node, const char *name);

/* A new, empty element called @name in @parent, behind its child @after (NULL: as the first). Belongs to the document. */
xmlNode *xml_new_child(xmlNode *parent, xmlNode *after, const char *name);

/* Take @node (may be NULL) out of its document and free it. */
void xml_remove_node(xmlNode *node);

/*
 * Append @node to @out in libvirt's layout, its first line indented by @indent spaces, ended by LF. Elements that hold
 * only elements and comments are laid out afresh, one a line; mixed content is kept verbatim. Comments, processing
 * instructions, namespaces and prefixes are carried. Writing what was parsed from the output gives the output again.
 * Lines that begin behind XML_MAX_BYTES are left out: such a text is refused by xml_parse in any case, and the indentation
 * could make a hundred times as much of a document.
 */
void xml_write_node(GString *out, const xmlNode *node, int indent);

/* The same, with the element called @name instead (the body unchanged): <inactiveDomain> is a <domain> under another name. */
void xml_write_node_as(GString *out, const xmlNode *node, const char *name, int indent);

/* Append @text escaped for the text of an element. */
void xml_write_escaped(GString *out, const char *text);

/* Append " @name='@value'", escaped: in attributes line breaks and tabs too, so that they are read back as such. */
void xml_write_attr(GString *out, const char *name, const char *value);

/* TRUE when every character of the UTF-8 @text may stand in an XML document. */
gboolean xml_text_valid(const char *text);

/*
 * XmlFeed: where does a document end that arrives in pieces? It looks at each byte once, keeps nothing of the text.
 */
typedef struct XmlFeed XmlFeed;
XmlFeed *xml_feed_new(void);
void xml_feed_free(XmlFeed *feed);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XmlFeed, xml_feed_free)

/*
 * Feed the next @len bytes. *ret_used: how many of them belong to the document. *ret_done: the root element has ended
 * with the last of these; whatever follows is not part of the document. EINVAL when it cannot be well-formed XML any
 * more or has a DOCTYPE, E2BIG when over XML_MAX_BYTES; the feed is then spent.
 */
gboolean xml_feed(XmlFeed *feed, const char *data, gsize len, gsize *ret_used, gboolean *ret_done,
                  GError **error);
