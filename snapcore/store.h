/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Store: where domains and snapshots lie on disk. The form of every file is described in STORE.md. Every file is replaced
 * as a whole, durably; files that belong together change by way of the journal (plan.h).
 */
#pragma once

#include "model.h"
#include "snapshot.h"

#define STORE_TEXT_MAX (XML_MAX_BYTES * 2)
#define STORE_JSON_MAX (64 * 1024 * 1024)
#define STORE_LOG_MAX (1024 * 1024)

typedef struct {
    char *path;
    char *uuid; /* NULL: it has none yet, and was opened only to look */
    int lock;   /* descriptor that holds the lock */
} Store;

/* Open, make if missing, and lock. EBUSY names the pid that has it. */
Store *store_open(const char *path, GError **error);
/*
 * Open one that is there, for a check. ENOENT: it is no store. Without @change nothing is written: the lock is shared with
 * others who only look, and there need not be any. EBUSY as above. What kills left is not cleared.
 */
Store *store_open_existing(const char *path, gboolean change, GError **error);
void store_close(Store *store);

/* What a kill leaves: is @path, in a directory of the store, such? store_open clears all of it. Take away the one. */
gboolean store_is_rubbish(const char *path);
void store_remove_rubbish(const char *path);

/* One file of a domain's directory to be written (or, text NULL, removed), relative to that directory. */
typedef struct {
    char *file;
    char *text;
} StoreWrite;
void store_write_free(StoreWrite *write);
StoreWrite *store_write_new(const char *file, const char *text);

/* Paths. Caller frees. */
char *store_domains_dir(const Store *store);
char *store_domain_dir(const Store *store, const char *name);
char *store_domain_file(const Store *store, const char *name, const char *file);
char *store_log_path(const Store *store, const char *domain); /* NULL: the mount's */

/* The directory of what is no document, below the domain's. A SideFile there is called by its path relative to the domain's. */
#define STORE_FILES "files"
char *store_side_file(const Store *store, const char *domain, const SideFile *file);

/* A snapshot's file below the domain's directory, with suffix ".xml" or ".json". Caller frees. */
char *store_snapshot_file(const char *name, const char *suffix);

/* The text of the sidecars, from the model. Caller frees. */
char *store_domain_json(const Domain *domain);
char *store_snapshot_json(const Snapshot *snapshot);

/* What brings the sidecar in which the layers of @home (NULL: of @domain itself) are recorded up to date. */
StoreWrite *store_sidecar_write(const Domain *domain, const Snapshot *home);

/* Carry out writes in the order given; idempotent. */
gboolean store_apply(const Store *store, const char *domain, const GPtrArray *writes, GError **error);

/*
 * A domain appears with its first files, gets another name, and goes: each is one rename(2) of its directory, and so
 * has happened or not. A directory under construction or on its way out is called .UUID; store_open clears such.
 */
gboolean store_add_domain(const Store *store, const char *name, const GPtrArray *writes, GError **error);
/* The same for a domain that is there: the whole directory is exchanged at once. */
gboolean store_replace_domain(const Store *store, const char *name, const GPtrArray *writes, GError **error);
gboolean store_rename_domain(const Store *store, const char *name, const char *to, GError **error);
gboolean store_remove_domain(const Store *store, const char *name, GError **error);

/* Names of the domains in the store: a GPtrArray of char *. */
GPtrArray *store_list(const Store *store, GError **error);

/*
 * Load the domain @name as number-id @id. What is damaged is said in domain->broken; only a definition that cannot be
 * read at all is an error. Single snapshots that cannot be read are left out, and said. The layers' files are not looked at (store_check_layers).
 */
Domain *store_load(const Store *store, const char *name, EngineId id, GError **error);

/*
 * The same for a check of the store: goes on past all that is wrong, each in a sentence added to @problems (of char *).
 * Never fails; a domain whose definition cannot be read has no disks and another uuid. That the current snapshot is
 * missing is said in domain->broken alone.
 */
Domain *store_load_all(const Store *store, const char *name, EngineId id, GPtrArray *problems);

/*
 * Compare every layer with its file: missing ones become unknown, made ones that are another file now are no longer
 * ours, and a frozen one that changed (size, mtime) breaks the domain: no state that stands on it can be trusted.
 */
void store_check_layers(Domain *domain);

/*
 * Of an imported domain: why @layer's file is not what was imported, @look saying what it is (NULL: not there). NULL: it
 * is, or it was not there then either. Caller frees.
 */
char *store_changed_since_import(const Domain *domain, const Layer *layer, const FileLook *look);

/* The stored document of a snapshot, parsed whole. */
SnapshotDef *store_read_snapshot(const Store *store, const char *domain, const char *name, GError **error);

/* Append lines to a log, bounded: the older half goes when it is over STORE_LOG_MAX. *ret_size: bytes afterwards. */
gboolean store_log(const Store *store, const char *domain, const char *line, guint64 *ret_size,
                   GError **error);
