/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of a check share: the run, how a finding is told, and the parts themselves. */
#pragma once

#include "checkup.h"
#include "op.h"

typedef struct {
    Core *core; /* its store and its backend; no domain is shown; read-only without repair */
    gboolean repair;
    GPtrArray *domains; /* of Domain: all of the store */
    GHashTable
        *under_way; /* names of domains whose journal waits to be brought to its end, or cannot be read */
    GHashTable *expected; /* paths that journals name: what lies there is accounted for */
    GHashTable *known;    /* files that are layers: keys (check_file_key) */
    gboolean unread;      /* a part of the store could not be read: it may know more files */
    gboolean hands_off;   /* the domain at hand must not be touched: what its journal says is not known */
    CheckTell tell;
    gpointer user;
    CheckCounts counts;
} Check;

/* Where something was found; NULL for what does not apply. */
typedef struct {
    const char *domain;
    const char *snapshot;
    const char *disk;
    const char *file;
} CheckPlace;

/* --- telling (check_report.c) --- */

/* Something is wrong, and no repair is safe. @advice: what the user can do. The format says what is wrong. */
void check_problem(Check *check, const CheckPlace *place, const char *advice, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/*
 * Something is wrong that @mend, called only with repair, can put right; @how says it ("its write bits are taken away").
 * TRUE: it is right now.
 */
typedef gboolean (*CheckMend)(Check *check, gpointer data, GError **error);
gboolean check_mendable(Check *check, const CheckPlace *place, const char *how, CheckMend mend, gpointer data,
                        const char *format, ...) G_GNUC_PRINTF(6, 7);

/* Nothing is wrong, but the user should know. */
void check_note(Check *check, const CheckPlace *place, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* --- what several parts need --- */

/* For g_ptr_array_sort of texts. */
int check_compare_texts(gconstpointer a, gconstpointer b);
/* The names in the directory @path, sorted; empty when it cannot be read. Caller unrefs. */
GPtrArray *check_entries_of(const char *path);
/* Which file it is, as a key for sets. Caller frees. */
char *check_file_key(const FileLook *look);

/* --- the parts --- */

/* The store's directories: what does not belong there. */
void check_store_files(Check *check);
/* A domain's directory: what does not belong there, documents that cannot be read whole or do not fit their sidecars. */
void check_documents(Check *check, const Domain *domain);
/* Names and uuids that two domains claim. */
void check_identities(Check *check);

/* Every layer of @domain, which has been read and nothing more: its records still say what every file was. */
void check_layers(Check *check, const Domain *domain);
/* Header and bookkeeping of a local layer whose file is there. @fresh: that file was not met before in this check. */
void check_image(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                 gboolean fresh);

/* Internal snapshots against what names them. */
void check_tags(Check *check, Domain *domain);
/* Images that two disks write, or that one writes while snapshots stand on it. */
void check_clashes(Check *check);
/* The directories in which layers lie: overlays that nothing refers to, files of operations that are gone. */
void check_orphans(Check *check);
