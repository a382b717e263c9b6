/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Findings of a check as lines of text. */
#include <string.h>

#include "check_run.h"
#include "names.h"

static void append_place(GString *line, const CheckPlace *place, const char *what)
{
    g_autofree char *domain = place->domain ? name_to_entry(place->domain, NAME_DOMAIN) : NULL;
    if (domain)
        g_string_append_printf(line, "%s: ", domain);
    if (place->snapshot)
        g_string_append_printf(line, "snapshot '%s': ", place->snapshot);
    if (place->disk)
        g_string_append_printf(line, "disk '%s': ", place->disk);
    if (place->file && !strstr(what, place->file)) /* most sentences name it */
        g_string_append_printf(line, "'%s': ", place->file);
}

/* "web: disk 'vda': '/img/a.qcow2': WHAT; LABEL ADVICE" */
static void tell(Check *check, const CheckPlace *place, const char *what, const char *label,
                 const char *advice)
{
    g_autoptr(GString) line = g_string_new(NULL);
    append_place(line, place, what);
    g_string_append(line, what);
    if (advice)
        g_string_append_printf(line, "; %s%s", label, advice);
    g_autofree char *text = name_one_line(line->str);
    check->tell(check->user, text);
}

void check_problem(Check *check, const CheckPlace *place, const char *advice, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    check->counts.problems++;
    tell(check, place, what, "", advice);
}

/* What was done stands in the domain's log, as all that is done to it. */
static void log_mended(Check *check, const CheckPlace *place, const char *what, const char *how)
{
    g_autoptr(GString) line = g_string_new("repaired: ");
    const CheckPlace inside = {.snapshot = place->snapshot, .disk = place->disk, .file = place->file};
    append_place(line, &inside, what);
    g_string_append_printf(line, "%s; %s", what, how);
    core_log(check->core, place->domain, "%s", line->str);
}

gboolean check_mendable(Check *check, const CheckPlace *place, const char *how, CheckMend mend, gpointer data,
                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_autoptr(GError) why = NULL;
    check->counts.problems++;
    if (check->hands_off) {
        tell(check, place, what, "once its journal is in order, with --repair: ", how);
        return FALSE;
    }
    check->counts.mendable++;
    if (!check->repair) {
        tell(check, place, what, "with --repair: ", how);
        return FALSE;
    }
    if (!mend(check, data, &why)) {
        tell(check, place, what, "could not be mended: ", why->message);
        return FALSE;
    }
    check->counts.mended++;
    log_mended(check, place, what, how);
    tell(check, place, what, "mended: ", how);
    return TRUE;
}

void check_note(Check *check, const CheckPlace *place, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    check->counts.notes++;
    tell(check, place, what, "", NULL);
}
