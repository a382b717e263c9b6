/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Op: one changing job on one domain, from "nobody else may" to "everybody sees it". The engine behind core.h.
 *
 *   op_begin     the domain is busy; op->domain is a private copy to change
 *   op->plan     steps and writes (plan.h)
 *   op_commit    commit, settle, show op->domain in the place of the old one, log
 *   op_free      without a commit: undo, nothing was changed
 *
 * Lock order: there is one lock, core->lock. It guards the tables of Core (which domain is shown, what is busy, jobs)
 * and is never held across I/O, a callback or a wait for a process. A Domain in core->domains is never changed, only
 * replaced, except for the fields log_size and tree and the sizes of states and of figures (figures.h), which the lock guards too.
 */
#pragma once

#include "core.h"
#include "machine.h"
#include "plan.h"

typedef struct Merger Merger; /* merger.h */

typedef struct {
    guint number;
    char *domain;
    char *what;     /* "create 's1'" */
    gint64 started; /* monotonic, microseconds */
    GCancellable *cancel;
    gboolean yields; /* it works behind the user's back, and gives way to whatever the user does next */
    gboolean off;    /* it knows that the machine is off: who writes its images now is the job itself */
    guint64 done;    /* bytes moved so far */
    guint64 total;   /* bytes to be moved; 0: not known */
    gint64 moving;   /* since when; monotonic, microseconds */
} Job;

typedef struct {
    Engine engine; /* first: an Engine * is a Core * */
    Store *store;
    Backend *backend;
    gboolean read_only;
    SnapMode snapshot;
    gboolean disk_only;
    char **backing_dirs;
    char *mountpoint;

    GMutex lock;
    GCond idle;          /* signalled when a name stops being busy */
    GHashTable *domains; /* id -> Domain */
    GHashTable *by_name; /* name -> Domain */
    GHashTable *busy;    /* name -> Job: also names that are about to appear */
    GPtrArray *jobs;     /* of Job, oldest first */
    Merger *merger;      /* NULL: nothing is ever merged (read-only) */
    GThreadPool *recoveries;
    guint recovering; /* domains whose recovery is still under way (recover.h) */
    guint last_job;
    GHashTable *states;  /* uuid -> RunState: of machines that are known not to be off */
    guint64 last_number; /* of domains */
    guint64 log_size;    /* of the mount's log */
    EngineGone gone;
    gpointer gone_user;
} Core;

typedef struct {
    Core *core;
    Job *job;
    EngineId id;      /* of the domain; 0 for a name */
    Domain *domain;   /* the private copy; NULL for a definition not yet parsed */
    GPtrArray *names; /* further names kept busy: of domains, and of images (they begin with a slash) */
    Plan *plan;
    GCancellable *cancel;
    char *uuid;        /* the domain's; NULL for a name */
    Machine *machine;  /* op_find_machine: the one that runs; NULL: it is off */
    GArray *holds;     /* descriptors that keep writers out of images */
    GPtrArray *gone;   /* names of snapshots that vanish with the commit */
    GPtrArray *unseen; /* layers of op->domain whose files are to be looked at once the steps are done */
} Op;

/*
 * Begin a job on the domain @id. ENOENT; EROFS: the mount or the domain is read-only (with the reason); EBUSY: another
 * job has it. The private copy's "changed" time is set. An imported domain is adopted first (adopt.h): EROFS, EBUSY.
 */
Op *op_begin(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *format, ...)
    G_GNUC_PRINTF(5, 6);

/* The same, but an imported domain stays what it is, whatever its images are: to take it out of the store. */
Op *op_begin_as_is(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *format, ...)
    G_GNUC_PRINTF(5, 6);

/* The same for what is done to a running machine and leaves its images alone: also where the domain is read-only. */
Op *op_begin_machine(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *what);

/*
 * The same for work that nobody asked for: any op_begin on that domain cancels it, waits for its end and goes first.
 * EROFS: the domain is an imported one and not ours yet.
 */
Op *op_begin_yielding(Core *core, EngineId id, GCancellable *cancel, GError **error, const char *what);

/*
 * After op_commit: go on with a further operation of the same job, with a fresh private copy and plan. EROFS: what was
 * committed could not be settled, and cannot be now.
 */
gboolean op_again(Op *op, GError **error);

/* Say in jobs what the job is about. */
void op_rename(Op *op, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Say how far the job is. */
void op_progress(Op *op, guint64 done, guint64 total);

/* Begin a job on a name that no domain has yet; op->domain and op->plan are NULL. EEXIST, EBUSY. */
Op *op_begin_name(Core *core, const char *name, GCancellable *cancel, GError **error, const char *format, ...)
    G_GNUC_PRINTF(5, 6);

/* Keep a second name busy as well. EEXIST, EBUSY. */
gboolean op_take_name(Op *op, const char *name, GError **error);

/* Keep the image at @path for this op alone, to be changed. As below, and EROFS: it is another store's. */
gboolean op_take_image(Op *op, const char *path, GError **error);

/*
 * Keep the image at @path for this op alone, by device and inode: two jobs of two domains that each check what the
 * other is about to do must not both succeed. EBUSY. Fine when the op has it already.
 */
gboolean op_reserve_image(Op *op, const char *path, GError **error);

/* Nothing after success; everything undone after anything else. */
void op_free(Op *op);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Op, op_free)

/* EBUSY "domain is running: ..." when somebody writes one of the active layers, or still joins layers below them. */
gboolean op_require_unwritten(Op *op, GError **error);

/* EBUSY when @layer, of disk @target, is another disk's too, of this or of another domain. */
gboolean op_require_sole(Op *op, const char *target, const Layer *layer, GError **error);

/* Another disk of the domain than @target that has @layer as its image, as long as no disk is pointed elsewhere; NULL. */
const char *op_other_disk(const Op *op, const Layer *layer, const char *target);

/* Does another domain have @layer's file too, as its own or below it? */
gboolean op_is_shared(Op *op, const Layer *layer);

/* Keep writers out of @layer until the op is freed. op_take: readers too; *ret_fd belongs to the op. */
gboolean op_hold(Op *op, const Layer *layer, GError **error);
gboolean op_take(Op *op, const Layer *layer, int *ret_fd, GError **error);

/* The text of domain.xml, known to be readable again (DESIGN 9: re-read). NULL: it would not be. Caller frees. */
char *op_definition_text(const DomainDef *def, GError **error);

/*
 * The text of @snapshot's document, which is @def with name and parent from the model; what the model knows of the text
 * is set. NULL: it would not be readable again. Caller frees.
 */
char *op_snapshot_text(Snapshot *snapshot, SnapshotDef *def, GError **error);

/* Say how the store changes: definition, sidecars, one snapshot's files. Texts are made from op->domain. */
gboolean op_write_definition(Op *op, GError **error);
void op_write_sidecar(Op *op);
/* live.xml; removed where nothing is known. */
gboolean op_write_live(Op *op, GError **error);
gboolean op_write_snapshot(Op *op, Snapshot *snapshot, SnapshotDef *def, GError **error);
void op_write_snapshot_sidecar(Op *op, const Snapshot *snapshot);
void op_remove_snapshot(Op *op, const char *name);
/* The sidecar that records @layer: the domain's, or that of the snapshot that froze it. */
void op_write_home(Op *op, const Layer *layer);

/*
 * op->domain's definition was @before until now. The images that left it keep what the guest wrote, in the user's hands;
 * those that are in it again are the domain's. @replaced: also the images of disks that have another one now.
 */
void op_note_detached(Op *op, const DomainDef *before, gboolean replaced);

/* The sidecars of snapshots that record released layers: any of these may have been released just now. */
void op_write_released(Op *op);

/* Rewrite the stored document of @snapshot, whose parent has another name now. */
gboolean op_rewrite_snapshot(Op *op, Snapshot *snapshot, GError **error);

/*
 * Delete @tag of @layer once the op has committed. If that fails, or another domain has the file too (then nothing is
 * written into it), it is remembered as stale and tried again with a later operation, or by the merger. A released frozen layer keeps it:
 * the file is in its user's hands.
 */
void op_drop_tag(Op *op, const char *disk, Layer *layer, const char *tag);

/*
 * Make @tag in @layer's file, a step of @kind (TAG, KEEP). Where a tag could not be dropped before, the file is repaired first: its
 * header may point at clusters that count as free, and what is written then takes them from other tags.
 */
void op_add_tag(Op *op, StepKind kind, const char *disk, const Layer *layer, const char *tag);

/*
 * Forget the layers that nothing refers to any more (domain_prune_layers). A frozen one gets its write bits back once
 * the op has committed, unless another domain has the file.
 */
void op_prune(Op *op);

/* All has been said to the plan: plan_ready. For what is done to a machine that runs: from then on there is room for the commit. */
gboolean op_ready(Op *op, GError **error);

/* The commit point and all after it. The format makes the line of the log; NULL: none. */
gboolean op_commit(Op *op, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* --- for the other files of the engine --- */

/* A core that shows nothing yet. Takes over @store and @backend; free with engine.ops->free. */
Core *core_new(const CoreOptions *options, Store *store, Backend *backend);

/* Tell that @name is gone from the directory @where. */
void core_tell_gone(Core *core, EngineId where, const char *name);

/*
 * Bring a plan that has committed to its end: cleaning up, then the sidecars of layers that it touched. *domain is what the
 * store says; where that was not yet what it is going to say (plan_owes), another one takes its place.
 */
gboolean op_settle(Core *core, Domain **domain, Plan *plan, GError **error);

/* A domain whose images are not what is recorded: read-only from now on, with the reason. */
void core_break(Core *core, EngineId id, const char *why);

/* An imported domain that cannot be adopted: the reason, into tree and, when it is news, log. */
void core_note_held(Core *core, EngineId id, const char *why);

/* Show @domain (taken over) in the place of one with the same id, under the lock. */
void core_show(Core *core, Domain *domain);
/* Stop showing the domain. */
void core_hide(Core *core, EngineId id);
EngineId core_next_domain_id(Core *core);

/* Append a line, with the time before it, to the log of domain @name (NULL: the mount's). Never fails visibly. */
void core_log(Core *core, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Images that are not there (domain_missing_images), and what is in the others (strays_tell): into the log. */
void core_log_missing(Core *core, const char *name, const GPtrArray *missing);
void core_log_strays(Core *core, const char *name, const GPtrArray *strays);

/*
 * Does another domain use the image at @path? *ret_domain its name (caller frees). @active_only: only as the layer its
 * guest writes; otherwise also as a layer below.
 */
gboolean core_used_elsewhere(Core *core, EngineId domain, const char *path, const FileId *file,
                             gboolean active_only, char **ret_domain);

/* A domain by its own id or that of one of its things. Under the lock. */
Domain *core_domain_of(Core *core, EngineId id);
/* The thing with that id, if it is of that kind, or NULL. Under the lock. */
gpointer core_object(Core *core, EngineId id, EngineKind kind);

/* Does @domain have tags of deleted snapshots that nothing but who uses the image just now keeps from going? Under the lock. */
gboolean core_owes_tags(const Core *core, const Domain *domain);

/* The functions of the EngineOps table, by file. */
gboolean core_create(Engine *engine, EngineId domain, const CreateRequest *request, GCancellable *cancel,
                     EngineId *ret_snapshot, GError **error);
gboolean core_revert(Engine *engine, EngineId domain, const RevertRequest *request, GCancellable *cancel,
                     GError **error);
gboolean core_delete(Engine *engine, EngineId snapshot, DeleteFlags flags, GCancellable *cancel,
                     GError **error);
gboolean core_define(Engine *engine, EngineId redefine, const char *xml, gsize len, GCancellable *cancel,
                     EngineId *ret_domain, GError **error);
gboolean core_undefine(Engine *engine, EngineId domain, UndefineFlags flags, GCancellable *cancel,
                       GError **error);
gboolean core_rename(Engine *engine, EngineId id, const char *name, GCancellable *cancel, GError **error);
gboolean core_redefine(Engine *engine, EngineId domain, EngineId snapshot, const char *xml, gsize len,
                       RedefineFlags flags, GCancellable *cancel, GError **error);
gboolean core_describe(Engine *engine, EngineId snapshot, const char *description, GCancellable *cancel,
                       GError **error);

gboolean core_power(Engine *engine, EngineId domain, PowerAction action, const char *file,
                    GCancellable *cancel, GError **error);

/* look.c: the looking half. */
gboolean core_stat_file(Engine *engine, EngineId snapshot, EngineFile file, EngineStat *ret_stat);
int core_open_file(Engine *engine, EngineId snapshot, EngineFile file, GError **error);
GPtrArray *core_list(Engine *engine, EngineId where);
EngineId core_find(Engine *engine, EngineId where, const char *name);
gboolean core_look(Engine *engine, EngineId id, EngineLook *ret_look);
char *core_name(Engine *engine, EngineId id);
GPtrArray *core_disks(Engine *engine, EngineId node);
EngineId core_chain_file(Engine *engine, EngineId node, const char *file);
gboolean core_stat_layer(Engine *engine, EngineId id, EngineStat *ret_stat);
int core_open_layer(Engine *engine, EngineId id, GError **error);
gboolean core_text_size(Engine *engine, EngineText text, EngineId id, guint64 *ret_size, gint64 *ret_time);
GBytes *core_text(Engine *engine, EngineText text, EngineId id, GCancellable *cancel, GError **error);

/* content.c */
gboolean core_stat_content(Engine *engine, EngineId id, EngineStat *ret_stat);
DiskReader *core_open_content(Engine *engine, EngineId id, GCancellable *cancel, GError **error);
