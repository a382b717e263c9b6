/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Store: where domains and snapshots lie on disk, and in which form. This header is the format's documentation.
 *
 *   STORE/                      0700
 *     lock                      locked by the one process that uses the store; holds its pid
 *     log                       what concerns no domain that exists
 *     domains/ENTRY/            one a domain; ENTRY is the name as a directory entry (names.h) and decides the name
 *       domain.xml              its definition, libvirt's <domain>
 *       domain.json             {"version": 1, "current": NAME|null, "layers": [LAYER...], "libvirt"?: FROM,
 *                               "undo"?: {"current": NAME|null, "disks": [...]}, "leftovers"?: [{"path", "file"}...]};
 *                               undo: what the last revert threw away; leftovers: files of ours that could not be
 *                               removed yet
 *       undo.xml                the definition that goes with it
 *       snapshots/FILE.xml      one a snapshot: libvirt's <domainsnapshot>, exactly the text the mount shows
 *       snapshots/FILE.json     {"order": N, "disks": [{"target", "layer": PATH, "tag"?}...], "layers": [LAYER...]};
 *                               order: of creation, among snapshots of one second
 *       journal.json            an operation under way (plan.h); absent when there is none
 *       log                     what was done and why something failed
 *
 * FILE is the snapshot's name as an entry; one too long for that is cut and a checksum added. The name itself is read
 * from the document. What the XML says is the truth about names, parents, times and states; the JSON holds what
 * libvirt has no element for: which file and tag a state really is, and who that file is.
 *
 * LAYER: {"path", "type"?: "block"|"network", "format", "backing"?, "backing_format"?, "file"?: [ino, birth s, birth ns],
 * "made"?: true, "released"?: true, "template"?: true, "mixed"?: true, "stem"?,
 * "frozen"?: {"size", "mtime": [s, ns], "mode", "blocks", "tags"?: [[id, name, s]...]}, "stale"?: [TAG...]}. tags: the
 * internal snapshots in the file, so that a frozen one need not be opened at the start to know of them; without it, it
 * is. stale: of these, tags that no snapshot names any more and that are to go. A layer that a snapshot froze is
 * recorded with that snapshot, every other one in domain.json.
 *
 * FROM: {"definition": PATH, "snapshots"?: PATH}, of a domain that was imported and not adopted yet (adopt.h): the file
 * in which libvirt defines it, and the directory with its snapshots. Its layers that states need are recorded as frozen,
 * but their files are as libvirt made them.
 *
 * Every file is replaced as a whole, durably; files that belong together change by way of the journal. A definition
 * or snapshot that holds a secret is like all of them mode 0600.
 */
#pragma once

#include "model.h"
#include "snapshot.h"

#define STORE_TEXT_MAX (XML_MAX_BYTES * 2)
#define STORE_JSON_MAX (64 * 1024 * 1024)
#define STORE_LOG_MAX (1024 * 1024)

typedef struct {
    char *path;
    int lock; /* descriptor that holds the lock */
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

/* A snapshot's file below the domain's directory, with suffix ".xml" or ".json". Caller frees. */
char *store_snapshot_file(const char *name, const char *suffix);

/* The text of the sidecars, from the model. Caller frees. */
char *store_domain_json(const Domain *domain);
char *store_snapshot_json(const Snapshot *snapshot);

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
