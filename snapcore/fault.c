/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Only in builds with fault points: the one place with a state of its own, set up before the first thread. */
#ifndef FAULTS
#define FAULTS 1
#endif
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"

/* The linker's names for the ends of the section. */
extern const char *const __start_domsnapfs_faults[];
extern const char *const __stop_domsnapfs_faults[];

typedef struct {
    char *name;
    guint64 at;
    gboolean onwards;
    int code; /* 0: exit */
    guint64 seen;
} Fault;

static struct {
    GMutex lock;
    GArray *faults;
    int trace; /* descriptor; valid when tracing */
    gboolean tracing;
} state;

static const struct {
    const char *name;
    int code;
} codes[] = {
    {"exit", 0},        {"EACCES", EACCES}, {"EAGAIN", EAGAIN}, {"EBUSY", EBUSY},   {"EDQUOT", EDQUOT},
    {"EFBIG", EFBIG},   {"EINTR", EINTR},   {"EIO", EIO},       {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM},
    {"ENOSPC", ENOSPC}, {"EPERM", EPERM},   {"EROFS", EROFS},
};

/* --- names --- */

static char *name_with(const char *pattern, const char *word)
{
    const char *star = word ? strchr(pattern, '*') : NULL;
    if (!star)
        return g_strdup(pattern);
    return g_strdup_printf("%.*s%s%s", (int)(star - pattern), pattern, word, star + 1);
}

static gboolean is_known(const char *name)
{
    for (const char *const *known = __start_domsnapfs_faults; known != __stop_domsnapfs_faults; known++)
        if (g_pattern_match_simple(*known, name))
            return TRUE;
    return FALSE;
}

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_names(void)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (const char *const *name = __start_domsnapfs_faults; name != __stop_domsnapfs_faults; name++)
        if (!g_ptr_array_find_with_equal_func(names, *name, g_str_equal, NULL))
            g_ptr_array_add(names, (gpointer)*name);
    g_ptr_array_sort(names, by_text);
    for (guint i = 0; i < names->len; i++)
        puts(names->pdata[i]);
}

/* --- what is asked for --- */

static gboolean parse_code(const char *text, int *ret_code)
{
    for (guint i = 0; i < G_N_ELEMENTS(codes); i++)
        if (strcmp(codes[i].name, text) == 0) {
            *ret_code = codes[i].code;
            return TRUE;
        }
    return FALSE;
}

/* NAME[:N[+]]=WHAT */
static gboolean parse_fault(const char *text, Fault *ret_fault)
{
    g_autoptr(GRegex) regex = g_regex_new("^([a-z.-]+)(?::([0-9]+)(\\+)?)?=([A-Za-z0-9]+)$", 0, 0, NULL);
    g_autoptr(GMatchInfo) match = NULL;
    if (!g_regex_match(regex, text, 0, &match))
        return FALSE;
    g_autofree char *name = g_match_info_fetch(match, 1);
    g_autofree char *number = g_match_info_fetch(match, 2);
    g_autofree char *plus = g_match_info_fetch(match, 3);
    g_autofree char *code = g_match_info_fetch(match, 4);
    Fault fault = {.at = 1, .onwards = plus[0] != '\0'};
    if (!is_known(name) || !parse_code(code, &fault.code) ||
        (number[0] && !g_ascii_string_to_unsigned(number, 10, 1, G_MAXUINT32, &fault.at, NULL)))
        return FALSE;
    fault.name = g_steal_pointer(&name);
    *ret_fault = fault;
    return TRUE;
}

static gboolean parse_faults(const char *text, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    state.faults = g_array_new(FALSE, FALSE, sizeof(Fault));
    for (guint i = 0; parts[i]; i++) {
        Fault fault;
        if (!parse_fault(parts[i], &fault)) {
            snap_set_error(error, EINVAL,
                           "DOMSNAPFS_FAULT: '%s' is not NAME[:N[+]]=exit|ERRNO, or there is no such point",
                           parts[i]);
            return FALSE;
        }
        g_array_append_val(state.faults, fault);
    }
    return TRUE;
}

gboolean fault_start(GError **error)
{
    const char *faults = g_getenv("DOMSNAPFS_FAULT"), *trace = g_getenv("DOMSNAPFS_FAULT_TRACE");
    if (trace) {
        state.trace = open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        state.tracing = state.trace >= 0;
        if (!state.tracing) {
            snap_set_errno(error, errno, "DOMSNAPFS_FAULT_TRACE: open '%s'", trace);
            return FALSE;
        }
    }
    if (g_strcmp0(faults, "list") != 0)
        return !faults || parse_faults(faults, error);
    print_names();
    exit(EXIT_SUCCESS);
}

/* --- passing a point --- */

/* TRUE: the point is to fail, with *ret_code. Does not come back when it is to be the end. */
static gboolean pass(const char *name, int *ret_code)
{
    gboolean hit = FALSE;
    g_mutex_lock(&state.lock);
    for (guint i = 0; state.faults && i < state.faults->len; i++) {
        Fault *fault = &g_array_index(state.faults, Fault, i);
        if (strcmp(fault->name, name) != 0)
            continue;
        fault->seen++;
        if (fault->seen != fault->at && !(fault->onwards && fault->seen > fault->at))
            continue;
        if (fault->code == 0)
            _exit(FAULT_EXIT);
        *ret_code = fault->code;
        hit = TRUE;
    }
    g_mutex_unlock(&state.lock);
    return hit;
}

gboolean fault_hit(const char *pattern, const char *word)
{
    if (!state.tracing && !state.faults)
        return FALSE;
    g_autofree char *name = name_with(pattern, word);
    int code = 0;
    if (state.tracing) {
        g_autofree char *line = g_strconcat(name, "\n", NULL);
        ssize_t ignored = write(state.trace, line, strlen(line));
        (void)ignored;
    }
    if (!pass(name, &code))
        return FALSE;
    errno = code;
    return TRUE;
}

gboolean fault_pass(const char *pattern, const char *word, GError **error)
{
    if (!fault_hit(pattern, word))
        return TRUE;
    snap_set_errno(error, errno, "fault point '%s'", pattern);
    return FALSE;
}
