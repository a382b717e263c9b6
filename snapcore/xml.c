/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <string.h>

#include "error.h"

/*
 * Never NOENT, DTDLOAD, XINCLUDE, HUGE or RECOVER. Not COMPACT either: such trees must not be changed, and
 * ours are. CDATA stays what it is: libvirt prints it again in <metadata>.
 */
#define PARSE_OPTIONS (XML_PARSE_NONET | XML_PARSE_NOWARNING | XML_PARSE_NOERROR | XML_PARSE_BIG_LINES)

#define MAX_MESSAGE 200

/* What the callbacks of one parse leave behind: the context's _private. */
typedef struct {
    gboolean doctype;
    long line;
    char *message; /* the first fatal error's, or NULL */
} ParseState;

#if LIBXML_VERSION >= 21200
typedef const xmlError *ParseError;
#else
typedef xmlErrorPtr ParseError;
#endif

/* Errors quote the document; the sentence must stay one line. */
static void make_one_line(char *text)
{
    for (char *p = text; *p != '\0'; p++)
        *p = g_ascii_iscntrl(*p) ? ' ' : *p;
}

/* Where libxml2's own words are for programmers. */
static const struct {
    int code;
    const char *message;
} plain_words[] = {
    {XML_ERR_NAME_REQUIRED, "a name is missing (a bare '&' is written &amp;)"},
    {XML_ERR_ENTITYREF_SEMICOL_MISSING, "a ';' is missing (a bare '&' is written &amp;)"},
    {XML_ERR_INVALID_CHARREF, "a number that is no character"},
    {XML_ERR_INVALID_HEX_CHARREF, "a number that is no character"},
    {XML_ERR_INVALID_DEC_CHARREF, "a number that is no character"},
    {XML_ERR_INVALID_CHAR, "a character that XML cannot hold"},
    {XML_ERR_UNSUPPORTED_ENCODING, "the text is not UTF-8"},
    {XML_ERR_ATTRIBUTE_NOT_STARTED, "an attribute's value is not in quotes"},
    {XML_ERR_MISPLACED_CDATA_END, "']]>' in a text (it is written ]]&gt;)"},
    {XML_ERR_DOCUMENT_END, "something stands behind the root element"},
};

static const char *words_of(ParseError problem)
{
    for (guint i = 0; i < G_N_ELEMENTS(plain_words); i++) {
        if (plain_words[i].code == problem->code)
            return plain_words[i].message;
    }
    return problem->message != NULL ? problem->message : "not well-formed";
}

static void on_error(void *user, ParseError problem)
{
    ParseState *state = ((xmlParserCtxt *)user)->_private;
    if (problem->level < XML_ERR_FATAL || state->message != NULL)
        return;
    /* Cut it, and mend what the cut or the document broke. */
    g_autofree char *cut = g_strndup(words_of(problem), MAX_MESSAGE);
    make_one_line(g_strchomp(cut));
    state->message = g_utf8_make_valid(cut, -1);
    state->line = problem->line;
}

/* The tree is built and well-formed all the same after xmlStopParser: only the flag tells (facts/styles.md).
 */
static void on_doctype(void *user, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
    xmlParserCtxt *context = user;
    ((ParseState *)context->_private)->doctype = TRUE;
    xmlStopParser(context);
}

static xmlDoc *read_document(const char *text, gsize len, ParseState *state)
{
    xmlInitParser();
    xmlParserCtxt *context = xmlNewParserCtxt();
    if (context == NULL)
        return NULL;
    context->_private = state;
    context->sax->serror = on_error;
    context->sax->internalSubset = on_doctype;
    g_autoptr(xmlDoc) doc = xmlCtxtReadMemory(context, text, (int)len, NULL, "UTF-8", PARSE_OPTIONS);
    gboolean good = context->wellFormed && !state->doctype;
    xmlFreeParserCtxt(context);
    return good ? g_steal_pointer(&doc) : NULL;
}

/*
 * One cheap pass in front: it refuses what would cost the real parser much (100,000 attributes in one element
 * take libxml2 two minutes), and finds the commonest mistakes.
 */
static gboolean pre_check(const char *text, gsize len, GError **error)
{
    g_autoptr(XmlFeed) feed = xml_feed_new();
    gsize used;
    gboolean done;
    if (!xml_feed(feed, text, len, &used, &done, error))
        return FALSE;
    if (done)
        return TRUE;
    snap_set_error(error, EINVAL, "the XML ends before its root element does");
    return FALSE;
}

/* Before libxml2 sees it: what it says of such bytes depends on where they stand. */
static gboolean check_utf8(const char *text, gsize len, GError **error)
{
    const char *end;
    if (g_utf8_validate_len(text, len, &end))
        return TRUE;
    long line = 1;
    for (const char *p = text; p < end; p++)
        line += *p == '\n';
    snap_set_error(error, EINVAL, "line %ld: the text is not UTF-8", line);
    return FALSE;
}

xmlDoc *xml_parse(const char *text, gsize len, const char *root, GError **error)
{
    if (len > XML_MAX_BYTES) {
        snap_set_error(error, E2BIG, "the XML is longer than %d bytes", XML_MAX_BYTES);
        return NULL;
    }
    if (!pre_check(text, len, error) || !check_utf8(text, len, error))
        return NULL;
    ParseState state = {0};
    g_autoptr(xmlDoc) doc = read_document(text, len, &state);
    g_autofree char *message = state.message;
    if (state.doctype) {
        snap_set_error(error, EINVAL, "the XML has a DOCTYPE, which is not allowed");
        return NULL;
    }
    if (doc == NULL) {
        snap_set_error(error, EINVAL, "line %ld: %s", state.line,
                       message != NULL ? message : "not well-formed");
        return NULL;
    }
    const xmlNode *top = xmlDocGetRootElement(doc);
    if (!xml_is(top, root)) {
        gboolean other = top->ns != NULL && strcmp((const char *)top->name, root) == 0;
        xml_set_error(error, EINVAL, top, "the root element must be <%s>%s", root,
                      other ? " without a namespace" : "");
        return NULL;
    }
    return g_steal_pointer(&doc);
}

void xml_prefix_error(GError **error, const xmlNode *node)
{
    g_autofree char *cut = g_strndup((const char *)node->name, MAX_MESSAGE);
    g_autofree char *name = g_utf8_make_valid(cut, -1);
    g_prefix_error(error, "line %ld: <%s>: ", xmlGetLineNo(node), name);
}

void xml_set_error(GError **error, int err, const xmlNode *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    make_one_line(what);
    snap_set_error(error, err, "%s", what);
    xml_prefix_error(error, node);
}

gboolean xml_is(const xmlNode *node, const char *name)
{
    return node != NULL && node->type == XML_ELEMENT_NODE && node->ns == NULL &&
           strcmp((const char *)node->name, name) == 0;
}

/* The first of @node and its later siblings that is an element, called @name unless that is NULL. */
static xmlNode *seek(xmlNode *node, const char *name)
{
    for (; node != NULL; node = node->next) {
        if (node->type == XML_ELEMENT_NODE && (name == NULL || xml_is(node, name)))
            return node;
    }
    return NULL;
}

xmlNode *xml_child(const xmlNode *node, const char *name)
{
    return node != NULL ? seek(node->children, name) : NULL;
}

xmlNode *xml_next(const xmlNode *node, const char *name)
{
    return node != NULL ? seek(node->next, name) : NULL;
}

xmlNode *xml_first_element(const xmlNode *node)
{
    return node != NULL ? seek(node->children, NULL) : NULL;
}

/* The text of an element or attribute. Nearly always it is one text node, or none. */
static char *content_of(const xmlNode *node)
{
    const xmlNode *only = node->children;
    if (only == NULL)
        return g_strdup("");
    if (only->next == NULL && only->type == XML_TEXT_NODE)
        return g_strdup(only->content != NULL ? (const char *)only->content : "");
    xmlChar *all = xmlNodeGetContent(node);
    char *text = g_strdup(all != NULL ? (const char *)all : "");
    xmlFree(all);
    return text;
}

char *xml_attr(const xmlNode *node, const char *name)
{
    if (node == NULL || node->type != XML_ELEMENT_NODE)
        return NULL;
    for (const xmlAttr *attr = node->properties; attr != NULL; attr = attr->next) {
        if (attr->ns == NULL && strcmp((const char *)attr->name, name) == 0)
            return content_of((const xmlNode *)attr);
    }
    return NULL;
}

char *xml_text(const xmlNode *node)
{
    return node != NULL ? content_of(node) : NULL;
}

void xml_set_attr(xmlNode *node, const char *name, const char *value)
{
    xmlSetNsProp(node, NULL, (const xmlChar *)name, (const xmlChar *)value);
}

void xml_remove_attr(xmlNode *node, const char *name)
{
    xmlUnsetNsProp(node, NULL, (const xmlChar *)name);
}

void xml_set_text(xmlNode *node, const char *text)
{
    xmlNodeSetContent(node, NULL);
    xmlNodeAddContent(node, (const xmlChar *)text); /* unlike xmlNodeSetContent it takes & as it is */
}

void xml_remove_node(xmlNode *node)
{
    if (node == NULL)
        return;
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

xmlNode *xml_new_child(xmlNode *parent, xmlNode *after, const char *name)
{
    xmlNode *node = xmlNewDocNode(parent->doc, NULL, (const xmlChar *)name, NULL);
    if (after != NULL)
        return xmlAddNextSibling(after, node);
    if (parent->children != NULL)
        return xmlAddPrevSibling(parent->children, node);
    return xmlAddChild(parent, node);
}

/* XML 1.0's Char, without U+FFFE and U+FFFF; surrogates are no valid UTF-8. */
gboolean xml_text_valid(const char *text)
{
    if (!g_utf8_validate(text, -1, NULL))
        return FALSE;
    for (const char *p = text; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0xfffe || c == 0xffff)
            return FALSE;
    }
    return TRUE;
}
