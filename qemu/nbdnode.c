/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbdnode.h"

#include <string.h>

static json_t *inet_server(GUri *uri)
{
    g_autofree char *port = g_strdup_printf("%d", g_uri_get_port(uri));
    return json_pack("{s:s,s:s,s:s}", "type", "inet", "host", g_uri_get_host(uri), "port", port);
}

/* nbd://host:port/export or nbd+unix:///export?socket=path (remote.h). */
json_t *nbd_node(const char *text, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(text, G_URI_FLAGS_ENCODED_QUERY, error);
    if (!uri)
        return NULL;
    const char *query = g_uri_get_query(uri);
    gboolean local = strcmp(g_uri_get_scheme(uri), "nbd+unix") == 0;
    g_autofree char *socket =
        local && query && g_str_has_prefix(query, "socket=") ? g_uri_unescape_string(query + 7, NULL) : NULL;
    const char *path = g_uri_get_path(uri);
    json_t *server =
        local ? json_pack("{s:s,s:s}", "type", "unix", "path", socket ? socket : "") : inet_server(uri);
    return json_pack("{s:s,s:o,s:s}", "driver", "nbd", "server", server, "export",
                     path[0] == '/' ? path + 1 : path);
}
