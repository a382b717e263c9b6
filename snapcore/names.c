/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "names.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "xml.h"

static const char *const reserved_domain[] = {"ctl", "jobs", "log", NULL};
static const char *const reserved_snapshot[] = {"domain.xml", "state", "current", "tree", "usage",
                                                "log",        "ctl",   "active",  NULL};

static gboolean is_reserved(const char *name, NameKind kind)
{
    return g_strv_contains(kind == NAME_DOMAIN ? reserved_domain : reserved_snapshot, name);
}

static const char *kind_word(NameKind kind)
{
    return kind == NAME_DOMAIN ? "domain" : "snapshot";
}

/* C0, DEL and C1 (in UTF-8: C2 80 .. C2 9F). How many bytes the control character at @p has, 0 when it is
 * none. */
static int control_length(const unsigned char *p)
{
    if (p[0] < 0x20 || p[0] == 0x7f)
        return 1;
    if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
        return 2;
    return 0;
}

static gboolean has_control(const char *name)
{
    for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++) {
        if (control_length(p) > 0)
            return TRUE;
    }
    return FALSE;
}

/* The length as an entry: what the kernel and every tool limit. */
static gboolean check_entry_length(const char *name, NameKind kind, GError **error)
{
    g_autofree char *entry = name_to_entry(name, kind);
    if (strlen(entry) <= NAME_MAX_BYTES)
        return TRUE;
    snap_set_error(error, ENAMETOOLONG, "a %s's name is at most %d bytes long", kind_word(kind),
                   NAME_MAX_BYTES);
    return FALSE;
}

gboolean name_check_new(const char *name, NameKind kind, GError **error)
{
    const char *what = kind_word(kind);
    if (name == NULL || g_str_equal(name, "") || g_str_equal(name, ".") || g_str_equal(name, "..")) {
        snap_set_error(error, EINVAL, "a %s's name cannot be '%s'", what, name != NULL ? name : "");
        return FALSE;
    }
    if (strlen(name) > NAME_MAX_BYTES) {
        snap_set_error(error, ENAMETOOLONG, "a %s's name is at most %d bytes long", what, NAME_MAX_BYTES);
        return FALSE;
    }
    if (!xml_text_valid(name) || has_control(name)) {
        snap_set_error(error, EILSEQ, "a %s's name must be UTF-8 without control characters", what);
        return FALSE;
    }
    if (name[0] == '.' || strchr(name, '/') != NULL) {
        snap_set_error(error, EPERM, "'%s': a %s's name cannot start with '.' or contain '/'", name, what);
        return FALSE;
    }
    if (is_reserved(name, kind)) {
        snap_set_error(error, EPERM, "'%s' is a reserved name, a %s cannot be called so", name, what);
        return FALSE;
    }
    return check_entry_length(name, kind, error);
}

/* libvirt refuses these of a domain only: a line break, and nothing but white space. */
static gboolean check_domain_text(const char *name, GError **error)
{
    if (strchr(name, '\n') == NULL && name[strspn(name, " \t\r")] != '\0')
        return TRUE;
    snap_set_error(error, EINVAL, "a domain's name cannot be blank or contain a line break");
    return FALSE;
}

gboolean name_check_document(const char *name, NameKind kind, GError **error)
{
    const char *what = kind_word(kind);
    if (name == NULL || name[0] == '\0') {
        snap_set_error(error, EINVAL, "a %s's name cannot be empty", what);
        return FALSE;
    }
    if (!xml_text_valid(name)) {
        snap_set_error(error, EILSEQ, "a %s's name must be UTF-8 that XML can carry", what);
        return FALSE;
    }
    if (strchr(name, '/') != NULL) {
        snap_set_error(error, EINVAL, "'%s': a %s's name cannot contain '/'", name, what);
        return FALSE;
    }
    if (kind == NAME_SNAPSHOT && name[0] == '.') {
        snap_set_error(error, EINVAL, "'%s': a %s's name cannot start with '.'", name, what);
        return FALSE;
    }
    if (kind == NAME_DOMAIN && !check_domain_text(name, error))
        return FALSE;
    return check_entry_length(name, kind, error);
}

static void append_escaped(GString *out, const unsigned char *bytes, int n)
{
    for (int i = 0; i < n; i++)
        g_string_append_printf(out, "%%%02X", bytes[i]);
}

char *name_to_entry(const char *name, NameKind kind)
{
    GString *out = g_string_sized_new(strlen(name) + 8);
    const unsigned char *p = (const unsigned char *)name;
    if (*p != '\0' && (*p == '.' || is_reserved(name, kind)))
        append_escaped(out, p++, 1);
    while (*p != '\0') {
        int n = (*p == '%' || *p == '/') ? 1 : control_length(p);
        append_escaped(out, p, n);
        if (n == 0)
            g_string_append_c(out, (char)*p);
        p += MAX(n, 1);
    }
    return g_string_free(out, FALSE);
}

/* @entry with every %XX replaced, or NULL when a '%' is not followed by two hex digits or stands for NUL. */
static char *unescape(const char *entry)
{
    g_autoptr(GString) out = g_string_sized_new(strlen(entry) + 1);
    for (const char *p = entry; *p != '\0'; p++) {
        if (*p != '%') {
            g_string_append_c(out, *p);
            continue;
        }
        int high = g_ascii_xdigit_value(p[1]);
        int low = high < 0 ? -1 : g_ascii_xdigit_value(p[2]);
        if (low < 0 || high * 16 + low == 0)
            return NULL;
        g_string_append_c(out, (char)(high * 16 + low));
        p += 2;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

char *name_from_entry(const char *entry, NameKind kind)
{
    g_autofree char *name = unescape(entry);
    if (name == NULL)
        return g_strdup(entry);
    g_autofree char *again = name_to_entry(name, kind);
    return g_strdup(g_str_equal(again, entry) ? name : entry);
}

char *name_one_line(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *line = g_string_new(NULL);
    for (const char *p = valid; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(line, g_unichar_iscntrl(c) ? '?' : c);
    }
    return g_string_free(line, FALSE);
}
