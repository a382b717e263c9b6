/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <libxml/parser.h>
#include <string.h>

#include "error.h"
#include "fedora_xml.h"
#include "runner.h"
#include "xml.h"

static xmlDoc *parse(const char *text, GError **error)
{
    return xml_parse(text, strlen(text), "a", error);
}

static char *rewrite(const char *text, const char *root)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(xmlDoc) doc = xml_parse(text, strlen(text), root, &error);
    ck_assert_msg(doc != NULL, "%s: %s", text, error ? error->message : "?");
    GString *out = g_string_new(NULL);
    xml_write_node(out, xmlDocGetRootElement(doc), 0);
    return g_string_free(out, FALSE);
}

/* --- parsing --- */

static const struct {
    const char *text;
    const char *message; /* how it starts */
} refused[] = {
    {"", "the XML ends"},
    {"  \n ", "the XML ends"},
    {"<a>", "the XML ends"},
    {"<a><b></b>", "the XML ends"},
    {"text", "line 1: "},
    {"<a>\n<b>\n</a>", "line 3: the end tag is not that of <b>"},
    {"<a></ab>", "line 1: the end tag"},
    {"<ab></a>", "line 1: the end tag"},
    {"<a/><b/>", "line 1: "},
    {"<a/>tail", "line 1: "},
    {"<b/>", "line 1: <b>: the root element must be <a>"},
    {"\n<x:a xmlns:x='u'/>", "line 2: <a>: the root element must be <a> without a namespace"},
    {"<a xmlns='u'/>", "line 1: <a>: the root element must be <a> without a namespace"},
    {"<a>\n&nothing;</a>", "line 2: Entity 'nothing' not defined"},
    {"<a b='1' b='2'/>", "line 1: Attribute b redefined"},
    {"<a b=c/>", "line 1: "},
    {"<a>\x01</a>", "line 1: a control character"},
    {"<a>\n&#1;</a>", "line 2: "},
    {"<a>\n\xff</a>", "line 2: the text is not UTF-8"},
    {"<a b='\xc3'/>", "line 1: the text is not UTF-8"},
    {"<!DOCTYPE a><a/>", "line 1: a DOCTYPE is not allowed"},
    {"<?xml version='1.0'?>\n<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "line 2: a DOCTYPE is not allowed"},
    {"<!DOCTYPE a SYSTEM 'file:///etc/hostname'><a/>", "line 1: a DOCTYPE is not allowed"},
    {"<a/><!DOCTYPE a>", "line 1: "},
    {"<a><!-- -- --></a>", "line 1: '--' inside a comment"},
    {"<1/>", "line 1: '<' is not followed by a name"},
    {"<a b='<'/>", "line 1: '<' inside"},
    {"<?xml version='1.0' encoding='UTF-16'?><a>\xe9</a>", "line 1: "},
};

START_TEST(refuse)
{
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(parse(refused[_i].text, &error));
    ck_assert_int_eq(snap_errno(error), EINVAL);
    ck_assert_msg(g_str_has_prefix(error->message, refused[_i].message), "%s", error->message);
    ck_assert(g_utf8_validate(error->message, -1, NULL));
    ck_assert_ptr_null(strchr(error->message, '\n'));
}
END_TEST

START_TEST(refuse_nul_and_wide)
{
    static const char nul[] = "<a>\0</a>";
    static const char wide[] = "\xff\xfe<\0a\0/\0>\0";
    ck_assert_ptr_null(xml_parse(nul, sizeof(nul) - 1, "a", NULL));
    ck_assert_ptr_null(xml_parse(wide, sizeof(wide) - 1, "a", NULL));
}
END_TEST

static const char *const accepted[] = {
    "<a/>",
    "\xef\xbb\xbf<a/>",
    "<?xml version='1.0' encoding='UTF-8'?>\n<a></a >\n<!-- after -->\n",
    "<!-- before <a> --><?pi <a>?><a/>",
    "<a b='>' c=\"'/>\">]] ></a>",
    "<a><![CDATA[</a>]]]]></a>",
    "<a><!--></a>--></a>",
    "<a><!----></a>",
    "<a><?x ?\?></a>",
};

START_TEST(accept)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(xmlDoc) doc = parse(accepted[_i], &error);
    ck_assert_msg(doc != NULL, "%s: %s", accepted[_i], error ? error->message : "?");
}
END_TEST

START_TEST(limits)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) text = g_string_new("<a>");
    while (text->len < XML_MAX_BYTES - 4)
        g_string_append_c(text, 'x');
    g_string_append(text, "</a>");
    ck_assert_uint_eq(text->len, XML_MAX_BYTES);
    g_autoptr(xmlDoc) doc = xml_parse(text->str, text->len, "a", &error);
    ck_assert_ptr_nonnull(doc);
    g_string_append_c(text, '\n');
    ck_assert_ptr_null(xml_parse(text->str, text->len, "a", &error));
    ck_assert_int_eq(snap_errno(error), E2BIG);
}
END_TEST

static char *nested(int depth)
{
    GString *text = g_string_new(NULL);
    for (int i = 0; i < depth; i++)
        g_string_append(text, "<a>");
    for (int i = 0; i < depth; i++)
        g_string_append(text, "</a>");
    return g_string_free(text, FALSE);
}

START_TEST(depth)
{
    g_autofree char *deep = nested(256);
    g_autofree char *deeper = nested(257);
    g_autofree char *again = rewrite(deep, "a");
    ck_assert_ptr_nonnull(strstr(again, "<a/>"));
    ck_assert_ptr_null(parse(deeper, NULL));
}
END_TEST

/* libxml2 alone takes two minutes for this one. */
START_TEST(attribute_bomb)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) text = g_string_new("<a");
    for (int i = 0; text->len < XML_MAX_BYTES - 100; i++)
        g_string_append_printf(text, " a%x=''", i);
    g_string_append(text, "/>");
    gint64 start = g_get_monotonic_time();
    ck_assert_ptr_null(xml_parse(text->str, text->len, "a", &error));
    ck_assert_int_lt(g_get_monotonic_time() - start, G_USEC_PER_SEC);
    ck_assert_str_eq(error->message, "line 1: an element has too many attributes");
}
END_TEST

static gpointer parse_many(gpointer user)
{
    for (int i = 0; i < 200; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(xmlDoc) good = parse("<a><b c='d'>e</b></a>", NULL);
        if (good == NULL || parse("<a>\n&x;</a>", &error) != NULL ||
            !g_str_has_prefix(error->message, "line 2: "))
            return GINT_TO_POINTER(1);
    }
    return NULL;
}

START_TEST(many_threads)
{
    GThread *threads[8];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("parse", parse_many, NULL);
    int failed = 0;
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        failed += GPOINTER_TO_INT(g_thread_join(threads[i]));
    ck_assert_int_eq(failed, 0);
}
END_TEST

START_TEST(accessors)
{
    g_autoptr(xmlDoc) doc = parse(
        "<a x:k='no' k='v&amp;&#10;w' xmlns:x='u'>t<x:b/><b>1</b><c/><b> 2&lt;<![CDATA[&]]> </b></a>", NULL);
    xmlNode *root = xmlDocGetRootElement(doc);
    xmlNode *b = xml_child(root, "b");
    g_autofree char *k = xml_attr(root, "k");
    g_autofree char *none = xml_attr(root, "none");
    g_autofree char *first = xml_text(b);
    g_autofree char *second = xml_text(xml_next(b, "b"));
    g_autofree char *empty = xml_text(xml_next(b, NULL));
    ck_assert_str_eq(k, "v&\nw");
    ck_assert_ptr_null(none);
    ck_assert_str_eq(first, "1");
    ck_assert_str_eq(second, " 2<& ");
    ck_assert_str_eq(empty, "");
    ck_assert_ptr_null(xml_child(root, "k"));
    ck_assert_ptr_null(xml_child(NULL, "b"));
    ck_assert_ptr_null(xml_attr(NULL, "b"));
    ck_assert_ptr_null(xml_text(NULL));
    ck_assert(!xml_is(xml_first_element(root), "b")); /* x:b has a namespace */
    ck_assert(xml_is(xml_next(xml_first_element(root), NULL), "b"));
}
END_TEST

START_TEST(change)
{
    g_autoptr(xmlDoc) doc = parse("<a><b>old<c/></b></a>", NULL);
    xmlNode *root = xmlDocGetRootElement(doc);
    xml_set_text(xml_child(root, "b"), "a &amp; <b>");
    xml_set_attr(root, "k", "'&lt;'");
    xml_set_attr(root, "k", "\"&lt;\"");
    xml_set_attr(root, "gone", "1");
    xml_remove_attr(root, "gone");
    xml_new_child(root, xml_child(root, "b"), "last");
    xml_new_child(root, NULL, "first");
    GString *out = g_string_new(NULL);
    xml_write_node(out, root, 0);
    ck_assert_str_eq(
        out->str,
        "<a k='&quot;&amp;lt;&quot;'>\n  <first/>\n  <b>a &amp;amp; &lt;b&gt;</b>\n  <last/>\n</a>\n");
    g_string_free(out, TRUE);
}
END_TEST

/* --- writing --- */

static const struct {
    const char *text, *written;
} layouts[] = {
    {"<a/>", "<a/>\n"},
    {"<a></a>", "<a/>\n"},
    {"<a> </a>", "<a> </a>\n"},
    {"<a><b/><c>x</c></a>", "<a>\n  <b/>\n  <c>x</c>\n</a>\n"},
    {"<a>\n\n\t<b  k = \"v\" >\n<c/></b>\n</a>", "<a>\n  <b k='v'>\n    <c/>\n  </b>\n</a>\n"},
    {"<a>x<b> <c/> </b>y</a>", "<a>x<b> <c/> </b>y</a>\n"},
    {"<a><!-- c --><b/><?p q?></a>", "<a>\n  <!-- c -->\n  <b/>\n  <?p q?>\n</a>\n"},
    {"<a k=\"a'b&quot;c&lt;d&gt;e&amp;f\"/>", "<a k='a&apos;b&quot;c&lt;d&gt;e&amp;f'/>\n"},
    {"<a>a'b\"c&lt;d>e&amp;f</a>", "<a>a&apos;b&quot;c&lt;d&gt;e&amp;f</a>\n"},
    {"<a>x\r\ny&#13;z</a>", "<a>x\ny&#13;z</a>\n"},
    {"<a k='x\n\ty&#10;&#9;&#13;z'/>", "<a k='x  y&#10;&#9;&#13;z'/>\n"},
    {"<a>caf\xc3\xa9 &#233; &#x1F600;</a>", "<a>caf\xc3\xa9 \xc3\xa9 \xf0\x9f\x98\x80</a>\n"},
    {"<a><![CDATA[<&>]]></a>", "<a>&lt;&amp;&gt;</a>\n"},
    {"<a xmlns:q='u?k=1&amp;l&#38;&lt;&amp;#38;&amp;amp;'/>",
     "<a xmlns:q='u?k=1&amp;l&amp;&lt;&amp;#38;&amp;amp;'/>\n"},
    {"<a xmlns:q='u' k='1'><q:b q:l='2'/></a>", "<a k='1' xmlns:q='u'>\n  <q:b q:l='2'/>\n</a>\n"},
    {"<a><b xmlns='u'><c/></b></a>", "<a>\n  <b xmlns='u'>\n    <c/>\n  </b>\n</a>\n"},
    {"<a><b xml:lang='de'>x</b></a>", "<a>\n  <b xml:lang='de'>x</b>\n</a>\n"},
};

/* What was written is read back as the same: writing it again gives the same bytes. */
START_TEST(layout)
{
    g_autofree char *written = rewrite(layouts[_i].text, "a");
    ck_assert_str_eq(written, layouts[_i].written);
    g_autofree char *again = rewrite(written, "a");
    ck_assert_str_eq(again, written);
}
END_TEST

/* Deep and wide: indented it would be 130 MB. What is written is not much more than what can be read, and is not read. */
START_TEST(indentation_bomb)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (int i = 0; i < 250; i++)
        g_string_append(text, "<a>");
    while (text->len < XML_MAX_BYTES - 2000)
        g_string_append(text, "<b/>");
    for (int i = 0; i < 250; i++)
        g_string_append(text, "</a>");
    g_autofree char *written = rewrite(text->str, "a");
    gsize len = strlen(written);
    ck_assert_uint_gt(len, XML_MAX_BYTES);
    ck_assert_uint_lt(len, 2 * XML_MAX_BYTES);
    ck_assert_ptr_null(xml_parse(written, len, "a", NULL));
}
END_TEST

/* As libvirt 9.0 printed it: <metadata> goes through libxml2's printer, everything else does not. */
START_TEST(metadata)
{
    static const char text[] =
        "<domain>\n"
        "  <metadata>\n"
        "    <m:a xmlns:m=\"urn:x\" m:b=\"&#xE9; &quot;q&quot; 's' &#10;nl &#9;tab &lt;\" c=\"d\">\n"
        "      <m:t>text 'x' \"y\" &lt; &gt; &amp; \xc3\xa9 &#13;</m:t>\n"
        "      <m:e/>\n"
        "      <!-- hi -->\n"
        "      <m:mixed>a<m:b/> c </m:mixed>\n"
        "      <m:data>a<![CDATA[<&>]]>b<![CDATA[ ]]></m:data>\n"
        "      <m:none><![CDATA[]]></m:none>\n"
        "    </m:a>\n"
        "    <m:uri xmlns:m=\"http://x/?a=1&#38;b=&#38;#38;>'\xc3\xa9\"/>\n"
        "    <m:kept xmlns:m=\"urn:x\" xml:space=\"preserve\"> <m:c/>\n"
        " <m:d xml:space=\"default\"><m:e/> </m:d></m:kept>\n"
        "  </metadata>\n"
        "  <other>\n"
        "    <metadata k='&apos;'/>\n"
        "  </other>\n"
        "</domain>\n";
    g_autofree char *written = rewrite(text, "domain");
    ck_assert_str_eq(written, text);
}
END_TEST

START_TEST(write_as)
{
    g_autoptr(xmlDoc) doc = parse("<a k='1'><a/></a>", NULL);
    GString *out = g_string_new(NULL);
    xml_write_node_as(out, xmlDocGetRootElement(doc), "b", 2);
    ck_assert_str_eq(out->str, "  <b k='1'>\n    <a/>\n  </b>\n");
    g_string_free(out, TRUE);
}
END_TEST

START_TEST(valid_text)
{
    ck_assert(xml_text_valid("a\t\n\r\x7f\xc2\x80\xee\x80\x80\xf0\x9f\x98\x80"));
    static const char *const bad[] = {"\x01",         "\x1f",         "\xff",         "\xc0\x80",
                                      "\xed\xa0\x80", "\xef\xbf\xbe", "\xef\xbf\xbf", "a\x0b"};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
        ck_assert_msg(!xml_text_valid(bad[i]), "bad %u", i);
}
END_TEST

/* --- XmlFeed --- */

static const char *const documents[] = {
    "<a/>",
    "<a />",
    "<a></a>",
    "<a>\n</a\n>",
    " \n<a k='/>' l=\"/a>\"><b/>x</a>",
    "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<a/>",
    "<?pi <a/> ?\?><!-- <a/> > - -> --><a>\xe2\x82\xac\xf0\x9f\x98\x80</a>",
    "<a><!----><!-- </a> --><![CDATA[</a>]]]]><![CDATA[]]>]&gt;<?x?></a>",
    "<a.b-c:d\xc3\xa9 k=\"'\"><e></e ></a.b-c:d\xc3\xa9>",
    "<aa><a><aa/></a><aaa></aaa></aa>",
    "<a><![CDATA[]]x</a>]x]]></a>",
};

/* Feed @text in pieces of @piece bytes; where did the document end? 0: it did not. */
static gsize find_end(const char *text, gsize len, gsize piece, GError **error)
{
    g_autoptr(XmlFeed) feed = xml_feed_new();
    for (gsize at = 0; at < len; at += piece) {
        gsize used = 0;
        gboolean done = FALSE;
        gsize n = MIN(piece, len - at);
        if (!xml_feed(feed, text + at, n, &used, &done, error))
            return 0;
        if (done)
            return at + used;
        ck_assert_uint_eq(used, n);
    }
    return 0;
}

/* The judge is the real parser: the document ends with the first prefix that it takes. */
static gsize real_end(const char *text)
{
    for (gsize n = 1; n <= strlen(text); n++) {
        xmlDoc *doc = xmlReadMemory(text, (int)n, NULL, NULL, XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
        xmlFreeDoc(doc);
        if (doc != NULL)
            return n;
    }
    return 0;
}

START_TEST(feed_end)
{
    g_autofree char *text = g_strconcat(documents[_i], "\n<a/> --> ' \" ]]>", NULL);
    gsize end = strlen(documents[_i]);
    ck_assert_uint_eq(real_end(documents[_i]), end);
    for (gsize piece = 1; piece <= strlen(text); piece++) {
        g_autoptr(GError) error = NULL;
        ck_assert_uint_eq(find_end(text, strlen(text), piece, &error), end);
        ck_assert_ptr_null(error);
    }
    /* Nothing that is cut off is taken for whole. */
    for (gsize len = 1; len < end; len++)
        ck_assert_uint_eq(find_end(text, len, 3, NULL), 0);
}
END_TEST

static const char *const hopeless[] = {
    "x",
    "<a>\n<b></a>",
    "</a>",
    "<!DOCTYPE a><a/>",
    "<a b='<'",
    "<a <",
    "<a / >",
    "<!x",
    "<!-x",
    "<a><![CDX",
    "<![CDATA[x]]>",
    "< a",
    "<a></b",
    "<a></a b",
    "<a></ab",
    "<a><!-- -- ",
    "<a>\x02",
    "\xef\xbb<a/>",
    " \xef\xbb\xbf<a/>",
    "<-a",
    "\xff\xfe<",
};

START_TEST(feed_refuse)
{
    for (gsize piece = 1; piece <= 16; piece++) {
        g_autoptr(GError) error = NULL;
        ck_assert_uint_eq(find_end(hopeless[_i], strlen(hopeless[_i]), piece, &error), 0);
        ck_assert_msg(error != NULL, "%s", hopeless[_i]);
        ck_assert_int_eq(snap_errno(error), EINVAL);
    }
    g_autoptr(XmlFeed) feed = xml_feed_new();
    gsize used;
    gboolean done;
    ck_assert(!xml_feed(feed, hopeless[_i], strlen(hopeless[_i]), &used, &done, NULL));
    ck_assert(!xml_feed(feed, "<a/>", 4, &used, &done, NULL)); /* it is spent */
}
END_TEST

START_TEST(feed_after_end)
{
    g_autoptr(XmlFeed) feed = xml_feed_new();
    gsize used = 99;
    gboolean done = FALSE;
    ck_assert(xml_feed(feed, "<a/>b", 5, &used, &done, NULL));
    ck_assert(done && used == 4);
    ck_assert(xml_feed(feed, "<b/>", 4, &used, &done, NULL));
    ck_assert(done && used == 0);
}
END_TEST

/* A mebibyte in pieces of a shell's lines; each kind of content that may be long. */
static const struct {
    const char *before, *filler, *after;
} bulky[] = {
    {"<a>", "some text without end, line by line\n", "</a>"},
    {"<a><!--", "a comment with > and < in it - ", "--></a>"},
    {"<a k='", "an attribute > with much in it ", "'/>"},
    {"<a><![CDATA[", "]] > data & ", "]]></a>"},
    {"<a>", "<disk type='file'/>", "</a>"},
    {"<a", "a", "></a>"}, /* the end tag cannot match */
};

START_TEST(feed_linear)
{
    g_autoptr(GString) text = g_string_new(bulky[_i].before);
    while (text->len < XML_MAX_BYTES - 100)
        g_string_append(text, bulky[_i].filler);
    g_string_append(text, bulky[_i].after);
    gint64 start = g_get_monotonic_time();
    gsize end = find_end(text->str, text->len, 40, NULL);
    ck_assert_int_lt(g_get_monotonic_time() - start, G_USEC_PER_SEC);
    ck_assert_uint_eq(end, g_str_equal(bulky[_i].after, "></a>") ? 0 : text->len);
}
END_TEST

START_TEST(feed_limit)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strnfill(XML_MAX_BYTES + 1, ' ');
    ck_assert_uint_eq(find_end(text, XML_MAX_BYTES, 4096, &error), 0);
    ck_assert_ptr_null(error);
    ck_assert_uint_eq(find_end(text, XML_MAX_BYTES + 1, 4096, &error), 0);
    ck_assert_int_eq(snap_errno(error), E2BIG);
}
END_TEST

/* Whatever one byte of a real document turns into: the feed never takes it for longer or shorter than the
 * parser. */
START_TEST(feed_damage)
{
    static const char bytes[] = "<>/'\"!-[]?&D \n\x01\xff";
    g_autofree char *whole = fedora_document();
    gsize len = strlen(whole);
    int agreed = 0;
    for (gsize at = 0; at < len; at += 3) {
        g_autofree char *text = g_strdup(whole);
        text[at] = bytes[at % (sizeof(bytes) - 1)];
        gsize end = find_end(text, len, 64, NULL);
        xmlDoc *real = xmlReadMemory(text, (int)len, NULL, NULL, XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
        xmlFreeDoc(real);
        if (real == NULL)
            continue;
        ck_assert_msg(end >= len - 2, "damage at %zu: %zu of %zu", at, end, len);
        agreed++;
    }
    ck_assert_int_gt(agreed, 100);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("xml");
    TCase *tcase = tcase_create("xml");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, refuse, 0, G_N_ELEMENTS(refused));
    tcase_add_test(tcase, refuse_nul_and_wide);
    tcase_add_loop_test(tcase, accept, 0, G_N_ELEMENTS(accepted));
    tcase_add_test(tcase, limits);
    tcase_add_test(tcase, depth);
    tcase_add_test(tcase, attribute_bomb);
    tcase_add_test(tcase, many_threads);
    tcase_add_test(tcase, accessors);
    tcase_add_test(tcase, change);
    tcase_add_loop_test(tcase, layout, 0, G_N_ELEMENTS(layouts));
    tcase_add_test(tcase, indentation_bomb);
    tcase_add_test(tcase, metadata);
    tcase_add_test(tcase, write_as);
    tcase_add_test(tcase, valid_text);
    tcase_add_loop_test(tcase, feed_end, 0, G_N_ELEMENTS(documents));
    tcase_add_loop_test(tcase, feed_refuse, 0, G_N_ELEMENTS(hopeless));
    tcase_add_test(tcase, feed_after_end);
    tcase_add_loop_test(tcase, feed_linear, 0, G_N_ELEMENTS(bulky));
    tcase_add_test(tcase, feed_limit);
    tcase_add_test(tcase, feed_damage);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
