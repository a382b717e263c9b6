/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XmlFeed: a scanner that knows just enough of XML to find the end of the root element: text, tags, quoted
 * values, comments, CDATA, processing instructions. It is not a parser: what it lets pass is parsed for real
 * afterwards.
 *
 * libxml2's push parser is no help here: where it stops depends on how much it has read ahead.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "xml.h"

#define MAX_DEPTH 256      /* as libxml2 */
#define MAX_ATTRIBUTES 200 /* in one element; libxml2's time goes with the square of it */
#define SHOWN_NAME 64

typedef enum {
    IN_TEXT,
    AFTER_LT,      /* < */
    AFTER_BANG,    /* <!, and what follows of -- or [CDATA[ */
    IN_COMMENT,    /* <!-- */
    COMMENT_DASH,  /* - */
    COMMENT_END,   /* -- */
    IN_CDATA,      /* <![CDATA[ */
    CDATA_BRACKET, /* ] */
    CDATA_END,     /* ]] */
    IN_PI,         /* <? */
    PI_END,        /* ? */
    IN_NAME,       /* of a start tag */
    IN_TAG,        /* after its name */
    IN_VALUE,      /* of an attribute */
    AFTER_SLASH,   /* the / of an empty element's tag */
    IN_END_NAME,   /* </ */
    IN_END_TAG,    /* after its name */
    IS_DONE,
    IS_SPENT,
} FeedState;

struct XmlFeed {
    FeedState state;
    gsize total; /* bytes read */
    gsize mark;  /* of these, bytes of a byte order mark */
    long line;
    char quote;              /* that ends the value */
    const char *expect;      /* in AFTER_BANG: the rest of the keyword, NULL at its first byte */
    guint attributes;        /* of the tag at hand */
    guint depth;             /* open elements */
    GString *names;          /* of the open elements, one after the other */
    gsize starts[MAX_DEPTH]; /* where in names each begins */
    gsize matched;           /* in IN_END_NAME: bytes that agree */
};

XmlFeed *xml_feed_new(void)
{
    XmlFeed *feed = g_new0(XmlFeed, 1);
    feed->line = 1;
    feed->names = g_string_new(NULL);
    return feed;
}

void xml_feed_free(XmlFeed *feed)
{
    if (feed == NULL)
        return;
    g_string_free(feed->names, TRUE);
    g_free(feed);
}

static gboolean fail(XmlFeed *feed, GError **error, const char *why)
{
    snap_set_error(error, EINVAL, "line %ld: %s", feed->line, why);
    return FALSE;
}

static gboolean is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static gboolean to_state(XmlFeed *feed, FeedState state)
{
    feed->state = state;
    return TRUE;
}

static gboolean close_element(XmlFeed *feed)
{
    feed->depth--;
    g_string_truncate(feed->names, feed->starts[feed->depth]);
    return to_state(feed, feed->depth == 0 ? IS_DONE : IN_TEXT);
}

static gboolean open_element(XmlFeed *feed, char c, GError **error)
{
    if (!g_ascii_isalpha(c) && c != '_' && c != ':' && (c & 0x80) == 0)
        return fail(feed, error, "'<' is not followed by a name");
    if (feed->depth == MAX_DEPTH)
        return fail(feed, error, "elements are nested too deeply");
    feed->starts[feed->depth++] = feed->names->len;
    feed->attributes = 0;
    g_string_append_c(feed->names, c);
    return to_state(feed, IN_NAME);
}

/* Outside the root element only white space may stand, and a whole byte order mark at the very beginning. */
static gboolean step_text(XmlFeed *feed, char c, GError **error)
{
    static const char mark[] = "\xef\xbb\xbf";
    if (feed->mark == feed->total && feed->mark < 3 && c == mark[feed->mark]) {
        feed->mark++;
        return TRUE;
    }
    gboolean broken = feed->mark > 0 && feed->mark < 3;
    if (c == '<' && !broken)
        return to_state(feed, AFTER_LT);
    if (feed->depth > 0 || (is_space(c) && !broken))
        return TRUE;
    return fail(feed, error, "text outside the root element");
}

static gboolean step_lt(XmlFeed *feed, char c, GError **error)
{
    switch (c) {
    case '!':
        feed->expect = NULL;
        return to_state(feed, AFTER_BANG);
    case '?':
        return to_state(feed, IN_PI);
    case '/':
        if (feed->depth == 0)
            return fail(feed, error, "an end tag without a start tag");
        feed->matched = 0;
        return to_state(feed, IN_END_NAME);
    default:
        return open_element(feed, c, error);
    }
}

static gboolean step_bang(XmlFeed *feed, char c, GError **error)
{
    if (feed->expect == NULL) {
        if (c == 'D')
            return fail(feed, error, "a DOCTYPE is not allowed");
        feed->expect = c == '-' ? "-" : "CDATA[";
        if (c == '-' || (c == '[' && feed->depth > 0))
            return TRUE;
        return fail(feed, error, "'<!' is followed by neither a comment nor CDATA");
    }
    if (c != *feed->expect)
        return fail(feed, error, "'<!' is followed by neither a comment nor CDATA");
    feed->expect++;
    if (*feed->expect == '\0')
        feed->state = c == '-' ? IN_COMMENT : IN_CDATA;
    return TRUE;
}

/* Inside comment, CDATA and processing instruction: look for the two or three bytes that end them. */
static gboolean step_opaque(XmlFeed *feed, char c, GError **error)
{
    switch (feed->state) {
    case IN_COMMENT:
        return to_state(feed, c == '-' ? COMMENT_DASH : IN_COMMENT);
    case COMMENT_DASH:
        return to_state(feed, c == '-' ? COMMENT_END : IN_COMMENT);
    case COMMENT_END:
        if (c != '>')
            return fail(feed, error, "'--' inside a comment");
        return to_state(feed, IN_TEXT);
    case IN_CDATA:
        return to_state(feed, c == ']' ? CDATA_BRACKET : IN_CDATA);
    case CDATA_BRACKET:
        return to_state(feed, c == ']' ? CDATA_END : IN_CDATA);
    case CDATA_END:
        if (c == ']')
            return TRUE;
        return to_state(feed, c == '>' ? IN_TEXT : IN_CDATA);
    case IN_PI:
        return to_state(feed, c == '?' ? PI_END : IN_PI);
    default: /* PI_END */
        if (c == '?')
            return TRUE;
        return to_state(feed, c == '>' ? IN_TEXT : IN_PI);
    }
}

static gboolean step_tag(XmlFeed *feed, char c, GError **error)
{
    if (c == '>')
        return to_state(feed, IN_TEXT);
    if (c == '/')
        return to_state(feed, AFTER_SLASH);
    if (c == '<')
        return fail(feed, error, "'<' inside a tag");
    if (c == '"' || c == '\'') {
        feed->quote = c;
        if (++feed->attributes > MAX_ATTRIBUTES)
            return fail(feed, error, "an element has too many attributes");
        return to_state(feed, IN_VALUE);
    }
    if (feed->state == IN_NAME && !is_space(c)) {
        g_string_append_c(feed->names, c);
        return TRUE;
    }
    return to_state(feed, IN_TAG);
}

static gboolean step_value(XmlFeed *feed, char c, GError **error)
{
    if (c == '<')
        return fail(feed, error, "'<' inside an attribute's value");
    return to_state(feed, c == feed->quote ? IN_TAG : IN_VALUE);
}

static gboolean mismatch(XmlFeed *feed, const char *name, GError **error)
{
    g_autofree char *cut = g_strndup(name, SHOWN_NAME);
    g_autofree char *shown = g_utf8_make_valid(cut, -1);
    g_autofree char *why = g_strdup_printf("the end tag is not that of <%s>, which is open", shown);
    return fail(feed, error, why);
}

static gboolean step_end_tag(XmlFeed *feed, char c, GError **error)
{
    const char *name = feed->names->str + feed->starts[feed->depth - 1];
    if (feed->state == IN_END_NAME && c != '>' && !is_space(c)) {
        if (name[feed->matched] != c)
            return mismatch(feed, name, error);
        feed->matched++;
        return TRUE;
    }
    if (name[feed->matched] != '\0')
        return mismatch(feed, name, error);
    if (c == '>')
        return close_element(feed);
    if (!is_space(c))
        return fail(feed, error, "an end tag holds more than a name");
    return to_state(feed, IN_END_TAG);
}

static gboolean step(XmlFeed *feed, char c, GError **error)
{
    unsigned char byte = (unsigned char)c;
    if (byte == 0 || byte >= 0xfe)
        return fail(feed, error, "the text is not UTF-8");
    if (byte < 0x20 && !is_space(c))
        return fail(feed, error, "a control character");
    switch (feed->state) {
    case IN_TEXT:
        return step_text(feed, c, error);
    case AFTER_LT:
        return step_lt(feed, c, error);
    case AFTER_BANG:
        return step_bang(feed, c, error);
    case IN_NAME:
    case IN_TAG:
        return step_tag(feed, c, error);
    case IN_VALUE:
        return step_value(feed, c, error);
    case AFTER_SLASH:
        return c == '>' ? close_element(feed) : fail(feed, error, "'/' inside a tag");
    case IN_END_NAME:
    case IN_END_TAG:
        return step_end_tag(feed, c, error);
    default:
        return step_opaque(feed, c, error);
    }
}

static gboolean read_bytes(XmlFeed *feed, const char *data, gsize len, gsize *ret_used, GError **error)
{
    gsize i = 0;
    for (; i < len && feed->state != IS_DONE; i++) {
        if (feed->total == XML_MAX_BYTES) {
            snap_set_error(error, E2BIG, "the XML is longer than %d bytes", XML_MAX_BYTES);
            return FALSE;
        }
        if (!step(feed, data[i], error))
            return FALSE;
        feed->total++;
        if (data[i] == '\n')
            feed->line++;
    }
    *ret_used = i;
    return TRUE;
}

gboolean xml_feed(XmlFeed *feed, const char *data, gsize len, gsize *ret_used, gboolean *ret_done,
                  GError **error)
{
    gsize used;
    if (feed->state == IS_SPENT)
        return fail(feed, error, "the XML was refused before");
    if (!read_bytes(feed, data, len, &used, error)) {
        feed->state = IS_SPENT;
        return FALSE;
    }
    *ret_used = used;
    *ret_done = feed->state == IS_DONE;
    return TRUE;
}
