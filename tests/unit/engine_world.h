/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the engine share: a world, that is a store and images in one directory, an engine over the real
 * backend, and ways to look at everything that a state consists of. (running_world.h: with machines that run.)
 *
 * Between the engine and the backend stands a spy that only passes calls on. It can be told to end the process, to
 * fail, or to wait at the n-th point; the file operations by which the store and new layers change (rename, link,
 * unlink, chmod, pwrite) and commands to a QEMU (sendmsg) are such points too, because this program's own definitions of
 * them come before the C library's.
 */
#pragma once

#include "checkup.h"
#include "core.h"
#include "images.h"
#include "offline.h"
#include "online.h"
#include "op.h"

typedef struct {
    char *dir;    /* everything is below it: store/, img/ */
    char *images; /* dir/img */
    char *run;    /* directory of the machines' sockets; NULL: the offline backend, no machine runs */
    CoreOptions options;
    Engine *engine; /* NULL: closed */
} World;

/* An empty world, open, in the directory @dir (made; the text is taken over). Asserts. */
World *world_new(char *dir);
void world_free(World *world);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

void world_open(World *world); /* asserts */
void world_close(World *world);
void world_reopen(World *world);
/* fork(): 0 in the child, which has the world open; here it is closed. What fails asserts. */
pid_t world_fork(World *world);
char *world_store_file(World *world, const char *file); /* below the store. Caller frees. */
/*
 * All files of a closed world, and back to them: the same bytes in the same inodes, with modes and times, so that every
 * recorded identity holds. Much faster than building the world anew.
 */
GPtrArray *world_save(World *world); /* caller unrefs */
void world_restore(World *world, const GPtrArray *saved);

/* --- images; all of 1 MiB. Paths: caller frees --- */

char *world_path(World *world, const char *file); /* in img/ */
/* A qcow2 image whose first 128 KiB are @pattern. Made once a directory and pattern, copied afterwards. */
char *world_image(World *world, const char *file, int pattern);
char *world_raw(World *world, const char *file, int pattern);
/* Write 64 KiB of @pattern at the beginning of what the guest of @domain writes as disk @target. */
void world_write(World *world, const char *domain, const char *target, int pattern);
/* Keep @path open for writing in a qemu-io child until writer_end. */
typedef struct Writer Writer;
Writer *writer_begin(World *world, const char *path);
void writer_end(Writer *writer);

/* --- definitions --- */

/* <disk> elements. Caller frees. @attributes: of <disk> ("" or " snapshot='no'"); @inside: further elements. */
char *disk_element(const char *target, const char *format, const char *path, const char *attributes,
                   const char *inside);
/* A whole document; the uuid is made from the name. @disks: its <disk> elements. Caller frees. */
char *domain_document(const char *name, const char *disks);
gboolean world_try_define(World *world, const char *xml, GError **error);
/* Define @name with qcow2 disks vda, vdb, ... : one for each file (in img/), NULL at the end. Asserts. */
void world_define(World *world, const char *name, ...) G_GNUC_NULL_TERMINATED;
/* The machine most tests have: "web" with vda (a.qcow2, pattern 1) and vdb (b.qcow2, pattern 2). */
World *world_web(char *dir);

/*
 * Import libvirt's directory @dir. What was told, a line each, those of what was left out after "! ". Caller frees. NULL:
 * it failed, with *error.
 */
char *world_try_import(World *world, const char *dir, GError **error);
/* The same; it must tell exactly @told. */
void world_import(World *world, const char *dir, const char *told);

/* --- gestures; the try_ ones say why not, the others assert --- */

EngineId world_domain(World *world, const char *name); /* 0: none */
EngineId world_snapshot(World *world, const char *domain, const char *name);
/* @specs: diskspecs, comma syntax, separated by blanks; NULL or "": none. @name NULL: generated. */
CreateRequest *world_request(const char *name, const char *specs); /* caller frees; asserts */
gboolean world_try_request(World *world, const char *domain, const CreateRequest *request, GError **error);
gboolean world_try_create(World *world, const char *domain, const char *name, const char *specs,
                          GError **error);
void world_create(World *world, const char *domain, const char *name, const char *specs);
gboolean world_try_revert(World *world, const char *domain, const char *name, GError **error);
void world_revert(World *world, const char *domain, const char *name);
gboolean world_try_delete(World *world, const char *domain, const char *name, DeleteFlags flags,
                          GError **error);
void world_delete(World *world, const char *domain, const char *name);
gboolean world_try_undo(World *world, const char *domain, GError **error);
void world_undo(World *world, const char *domain);
/* Let everything be merged that can be, now: without this nothing is. */
void world_merge(World *world, const char *domain);
gboolean world_try_rename(World *world, const char *domain, const char *name, const char *to, GError **error);
char *world_text(World *world, EngineText text, EngineId id);
char *world_tree(World *world, const char *domain);
char *world_log(World *world, const char *domain); /* NULL: the mount's */

/* --- what there is --- */

/* For g_ptr_array_sort of texts. */
int compare_texts(gconstpointer a, gconstpointer b);

/* Names of @domain's snapshots (NULL: of the domains, sorted), "a b c". Caller frees. */
char *world_names(World *world, const char *domain);
/* Name of the current snapshot, or of @snapshot's parent; "-" when there is none. Caller frees. */
char *world_current(World *world, const char *domain);
char *world_parent(World *world, const char *domain, const char *snapshot);
/* Where the state of @target at @snapshot (NULL: now) is. *ret_tag NULL: the layer's own content. Callers free. */
char *world_layer(World *world, const char *domain, const char *snapshot, const char *target, char **ret_tag);
/* Hash of the content of that state. Caller frees. */
char *world_hash(World *world, const char *domain, const char *snapshot, const char *target);
/* Hash of 1 MiB whose first 64 KiB are @first, the next 64 KiB @second, the rest zero. Caller frees. */
char *pattern_hash(int first, int second);
/* Names of an image's internal snapshots, sorted, "a b"; those kept out of sight are "(hidden)". Caller frees. */
char *image_tags(const char *path);
guint file_mode(const char *path);
/* By the file's first bytes: the tests' own images may be guessed. Static text. */
const char *image_format(const char *path);
/*
 * All of @domain as text that is the same for two worlds that are the same but for directory, times and generated ids:
 * snapshots, parents, documents, definition, hashes of every state, every file in img/ with mode and tags.
 */
char *world_digest(World *world, const char *domain);
#define TEMPORARY ".domsnapfs-" /* what names of files begin with that only exist during an operation */

/* Nothing temporary is left, no journal, every image passes qemu-img check, the domain is not read-only. */
void world_check_clean(World *world, const char *domain);
/* The same, but clusters may be lost: of a qemu-img that was killed, recovery has been seen to leave one. No harm is done. */
void world_check_sound(World *world, const char *domain);

/*
 * Check the store of a world that is closed: every line that was told. *ret_counts may be NULL. Asserts that it could be
 * checked. Caller frees.
 */
char *world_findings(World *world, gboolean repair, CheckCounts *ret_counts);

/* --- what several programs assert (engine_assert.c) --- */

/* Diskspecs for world_create: both disks of "web" external. */
#define BOTH_EXTERNAL "vda,snapshot=external vdb,snapshot=external"

/* "web" with three snapshots, and a second domain "other" beside it, to see that nothing of it is touched. */
World *world_two_domains(char *dir);
void world_assert_other_works(World *world);
/* Changes are refused, and tree and log say @why (NULL: anything). */
void world_assert_read_only(World *world, const char *domain, const char *why);
/* The state of "web" holds these patterns (pattern_hash). */
void world_assert_hash(World *world, const char *snapshot, const char *target, int first, int second);
/* A create on "web" that fails, for that reason, and changes nothing. */
void world_assert_create_refused(World *world, const char *name, const char *specs, int code,
                                 const char *text);
/* A definition with one disk, vda, in the file @file of img/. Caller frees. */
char *one_disk_document(World *world, const char *name, const char *format, const char *file,
                        const char *inside);
void world_assert_define_refused(World *world, const char *xml, int code, const char *text);
void world_assert_define_taken(World *world, const char *xml);

/* --- the spy --- */

/* A backend that passes calls on to @real, which it takes over. World has one; for tests without a world. */
Backend *spy_new(Backend *real);

typedef enum { TRAP_OFF, TRAP_EXIT, TRAP_FAIL, TRAP_FAIL_FROM, TRAP_CALL } TrapKind;
#define TRAP_EXIT_CODE 77

/* At the @at-th point from now on: end the process, or fail with @err there, or there and ever after. */
void trap_set(TrapKind kind, guint at, int err);
/* At that point, call. Once: what is done there passes no points. */
void trap_call(guint at, void (*call)(gpointer user), gpointer user);
/* How many points were passed since. */
guint trap_seen(void);

typedef enum {
    CALL_INSPECT = 1 << 0,
    CALL_IN_USE = 1 << 1,
    CALL_HOLD = 1 << 2,
    CALL_OVERLAY = 1 << 3,
    CALL_TAG_CREATE = 1 << 4,
    CALL_TAG_APPLY = 1 << 5,
    CALL_TAG_DELETE = 1 << 6,
    CALL_COPY_OUT = 1 << 7,
    CALL_REPAIR = 1 << 8,
    CALL_PLACE = 1 << 9,
    CALL_COMMIT = 1 << 10,
    CALL_COPY_UP = 1 << 11,
    CALL_SET_BACKING = 1 << 12,
    CALL_CHECK = 1 << 13,
    CALL_OPEN_DISK = 1 << 14,
} SpyCall;

/* Calls of these kinds (about a path that contains @path, NULL: any) fail with @err until spy_fail(0, ...). */
void spy_fail(guint calls, const char *path, int err);
/* They wait until gate_open. */
void gate_close(guint calls, const char *path);
/* Wait until @n calls stand at the gate. Asserts after some seconds. */
void gate_wait(guint n);
void gate_open(void);
