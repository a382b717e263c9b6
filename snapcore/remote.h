/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Remote: images that are not on this host. An overlay may lie on an NBD export; of other protocols none is ever made.
 *
 * Such a layer is known by its canonical URI, where a local one has its path: "nbd://host:port/export", or
 * "nbd+unix:///export?socket=/path". No path begins like that, so the two are never taken for one another.
 */
#pragma once

#include <glib.h>
#include <libxml/tree.h>

/*
 * The URI of what a network <source> names. Caller frees. EOPNOTSUPP: another protocol, TLS, another transport, more
 * than one host; EINVAL: no host, no socket, a port that is none.
 */
char *remote_uri(const xmlNode *source, GError **error);

gboolean remote_is_uri(const char *path);
