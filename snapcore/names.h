/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names: what a snapshot or a domain may be called, and how a name looks as a directory entry.
 *
 * A *name* is what the XML says; an *entry* is what the directory shows. They differ only where the directory cannot
 * show the name: '%' itself, '/', control characters, a leading dot and the reserved names are percent-escaped (of a
 * leading dot or a reserved name only the first byte). Escapes are upper-case hex. An entry that is not the exact
 * escape of some name (a lone '%' typed by a person) stands for itself.
 */
#pragma once

#include <glib.h>

typedef enum {
    NAME_DOMAIN, /* an entry of the mount's root: ctl, jobs, log are reserved */
    NAME_SNAPSHOT, /* an entry of a domain: domain.xml, state, current, tree, usage, log, ctl, active are reserved */
} NameKind;

#define NAME_MAX_BYTES 255

/*
 * May a person give @name to something new? EINVAL when empty (also "." and ".."), ENAMETOOLONG when it (or its
 * entry) is over 255 bytes, EILSEQ when it is not UTF-8 or has control characters (C0, DEL, C1), EPERM when it starts
 * with a dot, holds a '/' or is reserved.
 */
gboolean name_check_new(const char *name, NameKind kind, GError **error);

/*
 * May @name come in from a document (redefine, import)? As libvirt: not empty, UTF-8, only characters XML can carry,
 * no '/', no leading dot (for a snapshot); and its entry must be at most 255 bytes. Reserved names are fine: they are
 * shown escaped.
 */
gboolean name_check_document(const char *name, NameKind kind, GError **error);

/* The directory entry that shows @name. Caller frees. */
char *name_to_entry(const char *name, NameKind kind);

/* The name that the directory entry @entry stands for. Caller frees. Never fails (see above). */
char *name_from_entry(const char *entry, NameKind kind);

/* Things in images are called what anybody likes; a line of text must stay one. Caller frees. */
char *name_one_line(const char *text);
