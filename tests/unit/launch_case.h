/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The documents of tests/golden/launch/, for the tests that read their command lines and for those that run them. */
#pragma once

#include <string.h>

#include "images.h"
#include "launch.h"

#define LAUNCH_DIR GOLDEN_DIR "/launch"

static inline gint compare_strings(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the cases, sorted: files that end in ".xml". Caller unrefs. */
static inline GPtrArray *launch_cases(guint *ret_files)
{
    g_autoptr(GDir) dir = g_dir_open(LAUNCH_DIR, 0, NULL);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const char *file;
    *ret_files = 0;
    while (dir && (file = g_dir_read_name(dir))) {
        (*ret_files)++;
        if (g_str_has_suffix(file, ".xml"))
            g_ptr_array_add(names, g_strndup(file, strlen(file) - 4));
    }
    g_ptr_array_sort(names, compare_strings);
    return names;
}

static inline char *launch_case_text(const char *name, const char *suffix)
{
    g_autofree char *path = g_strconcat(LAUNCH_DIR "/", name, suffix, NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;
    gboolean ok = g_file_get_contents(path, &text, NULL, &error);
    ck_assert_msg(ok, "%s", ok ? "" : error->message);
    return text;
}

static inline DomainDef *launch_case_parse(const char *name, const char *text)
{
    g_autoptr(GError) error = NULL;
    DomainDef *def = domain_def_parse(text, strlen(text), &error);
    ck_assert_msg(def != NULL, "%s: %s", name, def ? "" : error->message);
    return def;
}

/* What a store would say lies below: here, what the document lists. Caller unrefs; belongs to @def. */
static inline GHashTable *launch_case_backing(const DomainDef *def)
{
    GHashTable *backing = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < def->disks->len; i++) {
        DiskDef *disk = def->disks->pdata[i];
        g_hash_table_insert(backing, disk->target, disk->backing);
    }
    return backing;
}
