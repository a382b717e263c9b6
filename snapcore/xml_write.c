/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing XML as libvirt does. Nearly everything there goes through its own printer: attributes in single
 * quotes, all five special characters escaped. The one exception is what stands in <metadata> of a domain,
 * which libvirt lets libxml2 print: double quotes, fewer escapes, namespaces in front of the attributes, CDATA
 * and xml:space honoured.
 */
#include <string.h>

#include "xml.h"

typedef struct {
    GString *out;
    gboolean dump;     /* inside <metadata>: as libxml2 prints */
    gboolean preserve; /* there, below xml:space='preserve': white space is text */
} Writer;

static const char *escape_common(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '\r':
        return "&#13;"; /* a bare one would be read back as a line feed */
    default:
        return NULL;
    }
}

static const char *escape_quote(char c)
{
    if (c == '\'')
        return "&apos;";
    return c == '"' ? "&quot;" : NULL;
}

/* In an attribute these would be read back as spaces. */
static const char *escape_blank(char c)
{
    if (c == '\n')
        return "&#10;";
    return c == '\t' ? "&#9;" : NULL;
}

void xml_write_escaped(GString *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        const char *escape = escape_common(*p);
        if (escape == NULL)
            escape = escape_quote(*p);
        if (escape != NULL)
            g_string_append(out, escape);
        else
            g_string_append_c(out, *p);
    }
}

void xml_write_attr(GString *out, const char *name, const char *value)
{
    g_string_append_printf(out, " %s='", name);
    for (const char *p = value; *p != '\0'; p++) {
        const char *escape = escape_common(*p);
        if (escape == NULL)
            escape = escape_quote(*p);
        if (escape == NULL)
            escape = escape_blank(*p);
        if (escape != NULL)
            g_string_append(out, escape);
        else
            g_string_append_c(out, *p);
    }
    g_string_append_c(out, '\'');
}

/* libxml2 prints an attribute's non-ASCII characters by number when the document does not state its encoding.
 */
static void dump_attr(GString *out, const char *name, const char *value)
{
    g_string_append_printf(out, " %s=\"", name);
    for (const char *p = value; *p != '\0'; p = g_utf8_next_char(p)) {
        const char *escape = *p == '"' ? "&quot;" : escape_common(*p);
        if (escape == NULL)
            escape = escape_blank(*p);
        if (escape != NULL)
            g_string_append(out, escape);
        else if ((*p & 0x80) != 0)
            g_string_append_printf(out, "&#x%X;", g_utf8_get_char(p));
        else
            g_string_append_c(out, *p);
    }
    g_string_append_c(out, '"');
}

static void dump_text(GString *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        const char *escape = escape_common(*p);
        if (escape != NULL)
            g_string_append(out, escape);
        else
            g_string_append_c(out, *p);
    }
}

static void write_attr(const Writer *writer, const char *name, const char *value)
{
    if (writer->dump)
        dump_attr(writer->out, name, value);
    else
        xml_write_attr(writer->out, name, value);
}

static void write_text(const Writer *writer, const xmlNode *node)
{
    const char *text = node->content != NULL ? (const char *)node->content : "";
    if (writer->dump && node->type == XML_CDATA_SECTION_NODE)
        g_string_append_printf(writer->out, "<![CDATA[%s]]>", text);
    else if (writer->dump)
        dump_text(writer->out, text);
    else
        xml_write_escaped(writer->out, text);
}

static char *qualified(const xmlNs *ns, const xmlChar *name)
{
    if (ns == NULL || ns->prefix == NULL)
        return g_strdup((const char *)name);
    return g_strconcat((const char *)ns->prefix, ":", (const char *)name, NULL);
}

static void write_attrs(const Writer *writer, const xmlNode *node)
{
    for (const xmlAttr *attr = node->properties; attr != NULL; attr = attr->next) {
        g_autofree char *name = qualified(attr->ns, attr->name);
        g_autofree char *value = xml_text((const xmlNode *)attr);
        write_attr(writer, name, value);
    }
}

/* libxml2 keeps an '&' in there as "&#38;". Caller frees. */
static char *namespace_uri(const xmlNs *ns)
{
    GString *uri = g_string_new((const char *)ns->href);
    g_string_replace(uri, "&#38;", "&", 0);
    return g_string_free(uri, FALSE);
}

/* And prints it like that, with nothing else escaped; what could not be read again is escaped all the same. */
static void dump_namespace(GString *out, const char *name, const char *uri)
{
    g_string_append_printf(out, " %s=\"", name);
    for (const char *p = uri; *p != '\0'; p++) {
        const char *escape = *p == '&' ? "&#38;" : *p == '"' ? "&quot;" : escape_blank(*p);
        if (escape == NULL && *p != '>')
            escape = escape_common(*p);
        if (escape != NULL)
            g_string_append(out, escape);
        else
            g_string_append_c(out, *p);
    }
    g_string_append_c(out, '"');
}

static void write_namespaces(const Writer *writer, const xmlNode *node)
{
    for (const xmlNs *ns = node->nsDef; ns != NULL; ns = ns->next) {
        g_autofree char *name =
            ns->prefix != NULL ? g_strconcat("xmlns:", (const char *)ns->prefix, NULL) : g_strdup("xmlns");
        g_autofree char *uri = namespace_uri(ns);
        if (writer->dump)
            dump_namespace(writer->out, name, uri);
        else
            xml_write_attr(writer->out, name, uri);
    }
}

static void write_start(const Writer *writer, const xmlNode *node, const char *name)
{
    g_string_append_printf(writer->out, "<%s", name);
    if (writer->dump)
        write_namespaces(writer, node);
    write_attrs(writer, node);
    if (!writer->dump)
        write_namespaces(writer, node);
}

static void write_comment(GString *out, const xmlNode *node)
{
    g_string_append_printf(out, "<!--%s-->", node->content != NULL ? (const char *)node->content : "");
}

static void write_instruction(GString *out, const xmlNode *node)
{
    g_string_append_printf(out, "<?%s", (const char *)node->name);
    if (node->content != NULL)
        g_string_append_printf(out, " %s", (const char *)node->content);
    g_string_append(out, "?>");
}

static gboolean is_text(const xmlNode *node)
{
    return node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE;
}

/* How the children of an element are laid out. */
typedef enum { BODY_EMPTY, BODY_LINES, BODY_VERBATIM } Body;

static Body body_of(const Writer *writer, const xmlNode *node)
{
    gboolean markup = FALSE, text = FALSE, visible = FALSE;
    for (const xmlNode *child = node->children; child != NULL; child = child->next) {
        if (!is_text(child)) {
            markup = TRUE;
            continue;
        }
        gboolean section = writer->dump && child->type == XML_CDATA_SECTION_NODE;
        text = text || section || (child->content != NULL && child->content[0] != '\0');
        visible = visible || section || writer->preserve || !xmlIsBlankNode(child);
    }
    if (!markup)
        return text ? BODY_VERBATIM : BODY_EMPTY; /* white space alone is an element's value */
    return visible ? BODY_VERBATIM : BODY_LINES;
}

static void write_verbatim(const Writer *writer, const xmlNode *node);

static void write_inline(const Writer *writer, const xmlNode *node, const char *name)
{
    write_start(writer, node, name);
    if (body_of(writer, node) == BODY_EMPTY) {
        g_string_append(writer->out, "/>");
        return;
    }
    g_string_append_c(writer->out, '>');
    for (const xmlNode *child = node->children; child != NULL; child = child->next)
        write_verbatim(writer, child);
    g_string_append_printf(writer->out, "</%s>", name);
}

static void write_verbatim(const Writer *writer, const xmlNode *node)
{
    if (node->type == XML_ELEMENT_NODE) {
        g_autofree char *name = qualified(node->ns, node->name);
        write_inline(writer, node, name);
    } else if (is_text(node)) {
        write_text(writer, node);
    } else if (node->type == XML_COMMENT_NODE) {
        write_comment(writer->out, node);
    } else if (node->type == XML_PI_NODE) {
        write_instruction(writer->out, node);
    }
}

static gboolean is_domain_metadata(const xmlNode *node)
{
    return xml_is(node, "metadata") &&
           (xml_is(node->parent, "domain") || xml_is(node->parent, "inactiveDomain"));
}

/* xml:space of @node, or what holds around it. */
static gboolean preserves_space(const xmlNode *node, gboolean around)
{
    for (const xmlAttr *attr = node->type == XML_ELEMENT_NODE ? node->properties : NULL; attr != NULL;
         attr = attr->next) {
        if (attr->ns != NULL && g_strcmp0((const char *)attr->ns->prefix, "xml") == 0 &&
            strcmp((const char *)attr->name, "space") == 0) {
            g_autofree char *value = xml_text((const xmlNode *)attr);
            return g_str_equal(value, "preserve");
        }
    }
    return around;
}

/* @name: what an element is called, NULL: as it is. */
static void write_line(const Writer *outer, const xmlNode *node, const char *name, int indent)
{
    if (outer->out->len > XML_MAX_BYTES)
        return;
    Writer writer = {.out = outer->out, .dump = outer->dump || is_domain_metadata(node)};
    writer.preserve = writer.dump && preserves_space(node, outer->preserve);
    g_string_append_printf(writer.out, "%*s", indent, "");
    if (node->type != XML_ELEMENT_NODE || body_of(&writer, node) != BODY_LINES) {
        if (name != NULL)
            write_inline(&writer, node, name);
        else
            write_verbatim(&writer, node);
        g_string_append_c(writer.out, '\n');
        return;
    }
    g_autofree char *own = name != NULL ? g_strdup(name) : qualified(node->ns, node->name);
    write_start(&writer, node, own);
    g_string_append(writer.out, ">\n");
    for (const xmlNode *child = node->children; child != NULL; child = child->next) {
        if (!is_text(child))
            write_line(&writer, child, NULL, indent + 2);
    }
    g_string_append_printf(writer.out, "%*s</%s>\n", indent, "", own);
}

void xml_write_node(GString *out, const xmlNode *node, int indent)
{
    Writer writer = {.out = out};
    write_line(&writer, node, NULL, indent);
}

void xml_write_node_as(GString *out, const xmlNode *node, const char *name, int indent)
{
    Writer writer = {.out = out};
    write_line(&writer, node, name, indent);
}
