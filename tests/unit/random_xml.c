/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "random_xml.h"

#include <stdarg.h>
#include <string.h>

Node *node_new(const char *name, NodeFlags flags)
{
    Node *node = g_new0(Node, 1);
    node->name = g_strdup(name);
    node->flags = flags;
    node->attrs = g_ptr_array_new_with_free_func(g_free);
    node->children = g_ptr_array_new_with_free_func((GDestroyNotify)node_free);
    return node;
}

void node_free(Node *node)
{
    if (node == NULL)
        return;
    g_free(node->name);
    g_free(node->text);
    g_ptr_array_unref(node->attrs);
    g_ptr_array_unref(node->children);
    g_free(node);
}

Node *node_add(Node *parent, const char *name, NodeFlags flags)
{
    Node *node = node_new(name, flags);
    g_ptr_array_add(parent->children, node);
    return node;
}

Node *node_add_text(Node *parent, const char *name, const char *text)
{
    Node *node = node_add(parent, name, parent->flags & NODE_KEEP);
    node->text = g_strdup(text);
    return node;
}

void node_attr(Node *node, const char *name, const char *value)
{
    g_ptr_array_add(node->attrs, g_strdup(name));
    g_ptr_array_add(node->attrs, g_strdup(value));
}

/* --- values --- */

gboolean one_in(GRand *rand, guint n)
{
    return g_rand_int_range(rand, 0, (gint32)n) == 0;
}

const char *one_of(GRand *rand, ...)
{
    const char *words[32];
    guint n = 0;
    va_list list;
    va_start(list, rand);
    for (const char *word = va_arg(list, const char *); word != NULL; word = va_arg(list, const char *))
        words[n++] = word;
    va_end(list);
    return words[g_rand_int_range(rand, 0, (gint32)n)];
}

static const char *odd_piece(GRand *rand)
{
    switch (g_rand_int_range(rand, 0, 4)) {
    case 0:
        return one_of(rand, "a", "Z", "vda", "0", "disk", "snapshot", "name", "x=y", NULL);
    case 1:
        return one_of(rand, "&", "<", ">", "'", "\"", "]]>", "&amp;", "&#10;", "<!--", "-->", "</name>",
                      "<![CDATA[", "\\", "%", NULL);
    case 2:
        return one_of(rand, " ", "\n", "\t", "\r", "  ", "\n\n", "\r\n", " \t", NULL);
    default:
        return one_of(rand, "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xcc\x81", "\xef\xbf\xbd",
                      "\xf4\x8f\xbf\xbf", "\xc2\xa0", "\xe2\x80\xa8", "\xee\x80\x80", NULL);
    }
}

char *random_text(GRand *rand, guint max, const char *without)
{
    GString *text = g_string_new(NULL);
    for (gint32 n = g_rand_int_range(rand, 0, (gint32)max + 1); n > 0; n--) {
        const char *piece = odd_piece(rand);
        if (strcspn(piece, without) == strlen(piece))
            g_string_append(text, piece);
    }
    return g_string_free(text, FALSE);
}

char *random_path(GRand *rand)
{
    g_autofree char *name = random_text(rand, 5, "\n\r\t");
    return g_strconcat(one_of(rand, "/", "/dev/", "/var/lib/libvirt/images/", "//", "/a b/", NULL), name,
                       one_of(rand, "", ".qcow2", ".s1", NULL), NULL);
}

char *random_uuid(GRand *rand)
{
    return g_strdup_printf("%08x-%04x-%04x-%04x-%04x%08x", g_rand_int(rand), g_rand_int(rand) & 0xffff,
                           g_rand_int(rand) & 0xffff, g_rand_int(rand) & 0xffff, g_rand_int(rand) & 0xffff,
                           g_rand_int(rand));
}

/* --- as libvirt prints --- */

static const char *escape(char c)
{
    static const struct {
        char c;
        const char *escape;
    } escapes[] = {{'&', "&amp;"},   {'<', "&lt;"},   {'>', "&gt;"},
                   {'\'', "&apos;"}, {'"', "&quot;"}, {'\r', "&#13;"}};
    for (guint i = 0; i < G_N_ELEMENTS(escapes); i++) {
        if (escapes[i].c == c)
            return escapes[i].escape;
    }
    return NULL;
}

static void print_text(GString *out, const char *text, gboolean attribute)
{
    for (; *text != '\0'; text++) {
        const char *as = escape(*text);
        if (as == NULL && attribute && (*text == '\n' || *text == '\t'))
            as = *text == '\n' ? "&#10;" : "&#9;";
        if (as != NULL)
            g_string_append(out, as);
        else
            g_string_append_c(out, *text);
    }
}

static void print_node(GString *out, const Node *node, int indent)
{
    if (node->flags & NODE_VERBATIM) {
        g_string_append(out, node->text);
        return;
    }
    g_string_append_printf(out, "%*s", indent, "");
    if (node->flags & NODE_RAW) {
        g_string_append_printf(out, "%s\n", node->text);
        return;
    }
    g_string_append_printf(out, "<%s", node->name);
    for (guint i = 0; i < node->attrs->len; i += 2) {
        g_string_append_printf(out, " %s='", (char *)node->attrs->pdata[i]);
        print_text(out, node->attrs->pdata[i + 1], TRUE);
        g_string_append_c(out, '\'');
    }
    if (node->text != NULL && node->text[0] != '\0') {
        g_string_append_c(out, '>');
        print_text(out, node->text, FALSE);
        g_string_append_printf(out, "</%s>\n", node->name);
    } else if (node->children->len == 0) {
        g_string_append(out, "/>\n");
    } else {
        g_string_append(out, ">\n");
        for (guint i = 0; i < node->children->len; i++)
            print_node(out, node->children->pdata[i], indent + 2);
        g_string_append_printf(out, "%*s</%s>\n", indent, "", node->name);
    }
}

char *node_print(const Node *root)
{
    GString *out = g_string_new(NULL);
    print_node(out, root, 0);
    return g_string_free(out, FALSE);
}

/* --- as others write --- */

static void scribble_blank(GString *out, GRand *rand, gboolean some)
{
    if (some || !one_in(rand, 3))
        g_string_append(out, one_of(rand, " ", "\n", "\t", "  ", "\n    ", "\r\n", NULL));
}

static void scribble_reference(GString *out, GRand *rand, gunichar c)
{
    g_string_append_printf(out, one_in(rand, 2) ? "&#%u;" : "&#x%X;", c);
}

/* @quote: that of the attribute's value, 0 in text. */
static void scribble_char(GString *out, GRand *rand, gunichar c, char quote)
{
    gboolean blank = c == '\r' || (quote != 0 && (c == '\n' || c == '\t'));
    if (blank || one_in(rand, 20))
        scribble_reference(out, rand, c);
    else if (c == '&' || c == '<' || c == '>' || (c == (gunichar)quote && quote != 0))
        g_string_append(out, escape((char)c));
    else
        g_string_append_unichar(out, c);
}

static void scribble_attrs(GString *out, const Node *node, GRand *rand)
{
    gboolean keep = (node->flags & NODE_KEEP) != 0;
    guint n = node->attrs->len / 2;
    guint first = n > 0 && !keep ? (guint)g_rand_int_range(rand, 0, (gint32)n) : 0;
    for (guint i = 0; i < n; i++) {
        guint at = (first + i) % n * 2;
        char quote = one_in(rand, 2) ? '"' : '\'';
        scribble_blank(out, rand, TRUE);
        g_string_append(out, node->attrs->pdata[at]);
        g_string_append(out, one_of(rand, "=", " = ", "=\n", NULL));
        g_string_append_c(out, quote);
        for (const char *p = node->attrs->pdata[at + 1]; *p != '\0'; p = g_utf8_next_char(p))
            scribble_char(out, rand, g_utf8_get_char(p), quote);
        g_string_append_c(out, quote);
    }
    if (!keep && one_in(rand, 10))
        g_string_append(out, " unknown='attribute'");
    if (one_in(rand, 4))
        g_string_append_c(out, ' ');
}

/* Pieces as they are, as references, as CDATA, with comments between. */
static void scribble_text(GString *out, const Node *node, GRand *rand)
{
    for (const char *p = node->text; *p != '\0';) {
        gunichar c = g_utf8_get_char(p);
        if (!(node->flags & NODE_KEEP) && one_in(rand, 20))
            g_string_append(out, one_of(rand, "<!-- comment -->", "<?instruction?>", "<![CDATA[]]>", NULL));
        if (one_in(rand, 8) && c != '\r' && c != ']') {
            g_string_append(out, "<![CDATA[");
            g_string_append_unichar(out, c);
            g_string_append(out, "]]>");
        } else {
            scribble_char(out, rand, c, 0);
        }
        p = g_utf8_next_char(p);
    }
}

static void scribble_noise(GString *out, GRand *rand)
{
    g_string_append(out, one_of(rand, "<!-- <name>no</name> -->", "<?pi <?>",
                                "<unknown a='1'><name>no</name></unknown>",
                                "<x:name xmlns:x='urn:x'>no</x:name>", "<!---->", "<Name/>", NULL));
}

static void scribble_node(GString *out, const Node *node, GRand *rand);

static void scribble_children(GString *out, const Node *node, GRand *rand)
{
    guint n = node->children->len;
    gboolean shuffle = (node->flags & NODE_SHUFFLE) != 0;
    g_autofree guint *order = g_new(guint, n + 1);
    for (guint i = 0; i < n; i++)
        order[i] = i;
    for (guint i = n; shuffle && i > 1; i--) {
        guint other = (guint)g_rand_int_range(rand, 0, (gint32)i);
        guint swap = order[i - 1];
        order[i - 1] = order[other];
        order[other] = swap;
    }
    for (guint i = 0; i < n; i++) {
        scribble_blank(out, rand, FALSE);
        if (shuffle && g_strcmp0(node->name, "disks") != 0 && one_in(rand, 6))
            scribble_noise(out, rand);
        scribble_node(out, node->children->pdata[order[i]], rand);
    }
    scribble_blank(out, rand, FALSE);
}

static void scribble_node(GString *out, const Node *node, GRand *rand)
{
    if (node->flags & (NODE_RAW | NODE_VERBATIM)) {
        g_string_append(out, node->text);
        return;
    }
    g_string_append_printf(out, "<%s", node->name);
    scribble_attrs(out, node, rand);
    gboolean text = node->text != NULL && node->text[0] != '\0';
    if (!text && node->children->len == 0 && !one_in(rand, 3)) {
        g_string_append(out, "/>");
        return;
    }
    g_string_append_c(out, '>');
    if (text)
        scribble_text(out, node, rand);
    else if (node->children->len > 0)
        scribble_children(out, node, rand);
    g_string_append_printf(out, "</%s%s>", node->name, one_of(rand, "", "", " ", "\n", NULL));
}

char *node_scribble(const Node *root, GRand *rand, gsize *ret_end)
{
    GString *out = g_string_new(one_in(rand, 8) ? "\xef\xbb\xbf" : "");
    if (one_in(rand, 4))
        g_string_append(out, one_of(rand, "<?xml version='1.0'?>",
                                    "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n", NULL));
    if (one_in(rand, 4))
        g_string_append(out,
                        one_of(rand, "<!-- <a> -->", "\n", "<?x <domainsnapshot/>?>", "<!-->-->\n", NULL));
    scribble_node(out, root, rand);
    *ret_end = out->len;
    if (one_in(rand, 2))
        g_string_append(out, one_of(rand, "\n", "<!-- after -->", "<?x?>\n", NULL));
    return g_string_free(out, FALSE);
}
