/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a document ends: the feed says the same however the text is cut, and what it says is what libxml2 finds. The first
 * byte of the input says how to cut, the rest is the text.
 */
#include <libxml/parser.h>
#include <string.h>

#include "fuzz.h"
#include "xml.h"

typedef struct {
    gboolean good;
    gboolean done;
    gsize end;
    char *error;
} Verdict;

static Verdict feed_text(const char *text, gsize len, gsize piece)
{
    g_autoptr(XmlFeed) feed = xml_feed_new();
    Verdict verdict = {.good = TRUE};
    for (gsize at = 0; at < len && verdict.good && !verdict.done; at += piece) {
        g_autoptr(GError) error = NULL;
        gsize used = 0, n = MIN(piece, len - at);
        verdict.good = xml_feed(feed, text + at, n, &used, &verdict.done, &error);
        must_be_either(verdict.good ? feed : NULL, error);
        MUST(used <= n && (!verdict.good || verdict.done || used == n));
        verdict.end = at + used;
        verdict.error = error != NULL ? g_strdup(error->message) : NULL;
    }
    return verdict;
}

static xmlDoc *parse_directly(const char *text, gsize len)
{
    return xmlReadMemory(text, (int)len, NULL, "UTF-8",
                         XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
}

static gsize count_attributes(const xmlNode *node)
{
    gsize n = 0;
    for (const xmlAttr *attr = node->properties; attr != NULL; attr = attr->next)
        n++;
    for (const xmlNs *ns = node->nsDef; ns != NULL; ns = ns->next)
        n++;
    return n;
}

/* Within our limits? */
static gboolean is_modest(const xmlNode *node)
{
    for (; node != NULL; node = node->next) {
        if (node->type == XML_ELEMENT_NODE && (count_attributes(node) > 200 || !is_modest(node->children)))
            return FALSE;
    }
    return TRUE;
}

/* What the parser takes, the feed takes, and up to the end of the root element: no less is a document. */
static void check_with_parser(const char *text, gsize len, const Verdict *verdict)
{
    g_autoptr(xmlDoc) whole = parse_directly(text, len);
    if (whole != NULL && whole->intSubset == NULL && len <= XML_MAX_BYTES && is_modest(whole->children)) {
        MUST(verdict->good && verdict->done);
        g_autoptr(xmlDoc) exact = parse_directly(text, verdict->end);
        g_autoptr(xmlDoc) less = parse_directly(text, verdict->end - 1);
        MUST(exact != NULL && less == NULL);
    }
    if (!verdict->done)
        return;
    g_autoptr(xmlDoc) less = parse_directly(text, verdict->end - 1);
    MUST(less == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const char *text = (const char *)data + 1;
    gsize len = size - 1;
    Verdict whole = feed_text(text, len, len);
    Verdict cut = feed_text(text, len, data[0] % 64 + 1u);
    MUST(whole.good == cut.good && whole.done == cut.done);
    MUST(!whole.done || whole.end == cut.end);
    MUST(g_strcmp0(whole.error, cut.error) == 0);
    check_with_parser(text, len, &whole);
    g_autoptr(xmlDoc) ours = xml_parse(text, len, "a", NULL);
    MUST(ours == NULL || whole.done);
    g_free(whole.error);
    g_free(cut.error);
    return 0;
}
