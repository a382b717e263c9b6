/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "remote.h"

#include <errno.h>
#include <string.h>

#include "xml.h"

#define NBD_PORT 10809

gboolean remote_is_uri(const char *path)
{
    return g_str_has_prefix(path, "nbd://") || g_str_has_prefix(path, "nbd+unix://");
}

static char *escape(const char *text, const char *allowed)
{
    return g_uri_escape_string(text, allowed, FALSE);
}

static char *tcp_uri(const xmlNode *host, const char *name, GError **error)
{
    g_autofree char *address = xml_attr(host, "name");
    g_autofree char *port_text = xml_attr(host, "port");
    guint64 port = NBD_PORT;
    if (!address || !*address) {
        xml_set_error(error, EINVAL, host, "the host has no name='...'");
        return NULL;
    }
    if (port_text && !g_ascii_string_to_unsigned(port_text, 10, 1, 65535, &port, NULL)) {
        xml_set_error(error, EINVAL, host, "'%s' is no port", port_text);
        return NULL;
    }
    gboolean ipv6 = strchr(address, ':') != NULL;
    g_autofree char *lower = g_ascii_strdown(address, -1);
    g_autofree char *quoted = escape(lower, ipv6 ? ":" : NULL);
    return g_strdup_printf("nbd://%s%s%s:%u/%s", ipv6 ? "[" : "", quoted, ipv6 ? "]" : "", (guint)port, name);
}

static char *unix_uri(const xmlNode *host, const char *name, GError **error)
{
    g_autofree char *socket = xml_attr(host, "socket");
    if (!socket || socket[0] != '/') {
        xml_set_error(error, EINVAL, host, "transport='unix' needs socket='/...'");
        return NULL;
    }
    g_autofree char *plain = g_canonicalize_filename(socket, "/");
    g_autofree char *quoted = escape(plain, "/");
    return g_strdup_printf("nbd+unix:///%s?socket=%s", name, quoted);
}

/* What <source> says besides must not change what is at the other end. */
static gboolean check_source(const xmlNode *source, GError **error)
{
    g_autofree char *protocol = xml_attr(source, "protocol");
    g_autofree char *tls = xml_attr(source, "tls");
    if (g_strcmp0(protocol, "nbd") != 0)
        xml_set_error(error, EOPNOTSUPP, source,
                      "an overlay by protocol '%s' is not supported: of network targets only nbd exports are",
                      protocol ? protocol : "");
    else if (g_strcmp0(tls, "yes") == 0)
        xml_set_error(error, EOPNOTSUPP, source, "an nbd export with TLS is not supported");
    else {
        for (const xmlNode *child = xml_first_element(source); child; child = xml_next(child, NULL)) {
            if (xml_is(child, "host") || xml_is(child, "seclabel") || xml_is(child, "reconnect"))
                continue;
            xml_set_error(error, EOPNOTSUPP, child, "is not supported for an nbd export");
            return FALSE;
        }
        return TRUE;
    }
    return FALSE;
}

char *remote_uri(const xmlNode *source, GError **error)
{
    const xmlNode *host = xml_child(source, "host");
    if (!check_source(source, error))
        return NULL;
    if (!host || xml_next(host, "host")) {
        xml_set_error(error, EINVAL, source, "an nbd export has exactly one <host>");
        return NULL;
    }
    g_autofree char *export = xml_attr(source, "name");
    g_autofree char *name = escape(export ? export : "", "/");
    g_autofree char *transport = xml_attr(host, "transport");
    if (!transport || strcmp(transport, "tcp") == 0)
        return tcp_uri(host, name, error);
    if (strcmp(transport, "unix") == 0)
        return unix_uri(host, name, error);
    xml_set_error(error, EOPNOTSUPP, host, "transport='%s' is not supported (tcp and unix are)", transport);
    return NULL;
}
