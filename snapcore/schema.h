/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Schema: the grammar of <domainsnapshot> in RELAX NG, domainsnapshot.rng, which is compiled in. It says which elements
 * there are and what may stand in them; whether they fit the domain is for others to say, and the <domain> itself may
 * hold anything. Everything that snapshot_def_format writes satisfies it. May be used from several threads at once.
 */
#pragma once

#include <glib.h>

/*
 * Does the document satisfy the grammar? EINVAL with line and element, and with the attribute or text when it is that,
 * of the first thing that does not; what xml_parse refuses is refused in its words.
 */
gboolean schema_check_snapshot(const char *text, gsize len, GError **error);
