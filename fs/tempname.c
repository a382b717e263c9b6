/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tempname.h"

#include "node.h"

#define RANDOM6 "[A-Za-z0-9]{6}"

/* DOC stands for the document's name. Each was seen with the tool (facts/fuse.md 2.5, 8;
 * tests/mount/test_tools.c). */
static const char *const patterns[] = {
    "sed" RANDOM6,               /* GNU sed -i */
    "DOC" RANDOM6,               /* busybox sed -i */
    "DOC\\." RANDOM6,            /* QSaveFile (KDE), mktemp DOC.XXXXXX */
    "\\.DOC\\." RANDOM6,         /* rsync */
    "\\.DOC\\.sw[a-z]x?",        /* vim, nano */
    "DOC~",                      /* backups of vim, emacs */
    "4913",                      /* vim tries what it may do */
    "\\.goutputstream-" RANDOM6, /* GIO: gedit */
    "tmp[a-z0-9_]{8}",           /* Python's tempfile */
    "#DOC#",                     /* emacs */
};

/* The documents of a directory, as a regular expression. NULL: it has none. */
static const char *documents(NodeKind kind)
{
    if (kind == NODE_DOMAIN)
        return "domain\\.xml";
    return kind == NODE_SNAPSHOT ? "(?:description|snapshot\\.xml)" : NULL;
}

gboolean tempname_known(fuse_ino_t dir, const char *name)
{
    const char *docs = documents(node_kind(dir));
    for (gsize i = 0; docs && i < G_N_ELEMENTS(patterns); i++) {
        g_autoptr(GString) pattern = g_string_new(patterns[i]);
        g_string_replace(pattern, "DOC", docs, 0);
        g_string_prepend(pattern, "^(?:");
        g_string_append(pattern, ")$");
        if (g_regex_match_simple(pattern->str, name, G_REGEX_DOLLAR_ENDONLY, 0))
            return TRUE;
    }
    return FALSE;
}
