/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random documents: trees of elements that can be written twice, as libvirt prints them (by a printer of our own, so that
 * the tests do not ask the printer under test), and as anybody else might write the same.
 */
#pragma once

#include <glib.h>

typedef enum {
    NODE_SHUFFLE = 1 << 0,  /* the order of the children does not matter, and what is unknown among them is dropped */
    NODE_KEEP = 1 << 1,     /* a document that is carried: order and comments do matter */
    NODE_RAW = 1 << 2,      /* not an element: text is markup on a line of its own */
    NODE_VERBATIM = 1 << 3, /* not an element: text is one or more whole lines, indented by nobody */
} NodeFlags;

typedef struct {
    char *name;
    char *text;          /* NULL: children, or none */
    GPtrArray *attrs;    /* of char *: name, value, name, value ... */
    GPtrArray *children; /* of Node */
    NodeFlags flags;
} Node;

Node *node_new(const char *name, NodeFlags flags);
void node_free(Node *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Node, node_free)

/* Add to @parent and return it. The text is copied. */
Node *node_add(Node *parent, const char *name, NodeFlags flags);
Node *node_add_text(Node *parent, const char *name, const char *text);
void node_attr(Node *node, const char *name, const char *value);

/* In libvirt's layout, without an XML declaration. Caller frees. */
char *node_print(const Node *root);

/*
 * In some other way: quotes, blanks, references, CDATA, comments, the order of what has none, elements and attributes that
 * mean nothing. *ret_end: where the root element ends (something may follow). Caller frees.
 */
char *node_scribble(const Node *root, GRand *rand, gsize *ret_end);

/* --- random values --- */

gboolean one_in(GRand *rand, guint n);
/* One of the words, NULL at the end. Static text. */
const char *one_of(GRand *rand, ...) G_GNUC_NULL_TERMINATED;
/* Text that XML can hold, up to @max odd pieces, without the characters of @without. Caller frees. */
char *random_text(GRand *rand, guint max, const char *without);
/* An absolute path without control characters. Caller frees. */
char *random_path(GRand *rand);
char *random_uuid(GRand *rand);
