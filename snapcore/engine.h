/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Engine: all that a file system (or another front end) may see and ask of domains and their snapshots.
 * Another engine, such as a connection to libvirt, can stand behind the same table of functions.
 *
 * Looking functions answer from memory and never wait for a job, a process or a socket; text(), stat_content() and
 * open_layer() open one local file; open_content() may wait. Changing functions may take long: call them from a job thread. They fail
 * with EBUSY when another changing job has the domain. Each takes a GCancellable (may be NULL): when it
 * fires, the job undoes what it did and fails with EINTR, or, when it is too late, succeeds. Success means:
 * it is on stable storage. A failure's sentence says why, not what was tried: whoever reports it knows that.
 *
 * Ids name domains, snapshots, layers, and states of disks. They are unique among all of these while the process lives and
 * are never used again, so an id that is kept too long simply is not found (FALSE, 0 or ENOENT). All functions
 * may be called from any thread; no lock of the engine is held while a callback runs.
 */
#pragma once

#include <gio/gio.h>
#include <sys/stat.h>

#include "diskreader.h"
#include "request.h"

typedef guint64 EngineId; /* 0: nothing, or the root */
typedef struct Engine Engine;

typedef enum {
    ENGINE_DOMAIN = 1,
    ENGINE_SNAPSHOT,
    ENGINE_LAYER,
    ENGINE_STATE, /* of a disk, in a snapshot: its bytes never change */
} EngineKind;

/* A directory entry: what list() gives. */
typedef struct {
    EngineId id;
    char *name; /* the name, not the entry (names.h) */
} EngineEntry;

typedef struct {
    EngineKind kind;
    EngineId domain; /* a snapshot's domain; a domain's own id */
    EngineId
        parent;  /* a snapshot's parent snapshot; a domain's current snapshot; a state's snapshot; 0: none */
    gint64 time; /* a snapshot's creation, also a state's; a domain's last change; seconds since the epoch */
    guint n_children; /* of a domain: how many snapshots */
    gboolean secret;  /* its document holds a secret: not for everybody's eyes */
} EngineLook;

/* One disk in a snapshot or in the active state (of a domain's id). */
typedef struct {
    char *target;
    ImageFormat format; /* of the layer */
    EngineId layer; /* the layer whose own content is that state; 0: an internal state, no file of its own */
    /*
     * Under which the content can be read as a raw disk: a state's, or (of a machine that is off) the active layer's. 0: the
     * layer is raw, and its own raw view; or the content cannot be shown now.
     */
    EngineId content;
} EngineDisk;

typedef struct {
    guint64 size;   /* bytes */
    guint64 blocks; /* of 512 bytes, as stat says */
    struct timespec mtime;
    guint nlink; /* under how many names the tree shows it */
} EngineStat;

/* A file of text. The id it takes is that of the domain, the snapshot, or 0 for the mount's own. */
typedef enum {
    ENGINE_TEXT_DOMAIN_XML, /* domain */
    ENGINE_TEXT_STATE, /* domain: shutoff, running, paused, saved; "unknown" when its images are locked by others */
    ENGINE_TEXT_TREE,         /* domain */
    ENGINE_TEXT_LOG,          /* domain; 0: what concerns no domain that exists (a refused define) */
    ENGINE_TEXT_SNAPSHOT_XML, /* snapshot */
    ENGINE_TEXT_DESCRIPTION,  /* snapshot; ends with a newline unless it is empty */
    ENGINE_TEXT_JOBS,         /* 0 */
    ENGINE_TEXT_USAGE,   /* domain; this and the next are made from the images' tables, which takes a while */
    ENGINE_TEXT_CHANGES, /* snapshot */
} EngineText;

/* A file of a snapshot that is no disk: binary, and may be large. */
typedef enum {
    ENGINE_FILE_MEMORY,     /* the memory state, when it is external */
    ENGINE_FILE_SCREENSHOT, /* PNG: what the machine showed at that moment, if it had a display */
} EngineFile;

/* What is done to the machine itself. */
typedef enum {
    POWER_START, /* from its managed save, if there is one */
    POWER_START_PAUSED,
    POWER_SHUTDOWN, /* press the power button; returns at once */
    POWER_DESTROY,
    POWER_PAUSE,
    POWER_RESUME,
    POWER_SAVE,               /* memory into a file, then end it */
    POWER_RESTORE,            /* start it from such a file */
    POWER_MANAGEDSAVE,        /* the same into a file of the store's */
    POWER_MANAGEDSAVE_REMOVE, /* ENOENT: there is none */
} PowerAction;

/* Told after a change that a name is gone from a directory (@where: 0 for the root, else the domain). Called in the
 * thread of the changing call, before that returns. */
typedef void (*EngineGone)(gpointer user, EngineId where, const char *name);

typedef struct {
    /* --- looking --- */
    /* Domains (@where 0) or a domain's snapshots, in order of creation: a GPtrArray of EngineEntry
     * (engine_entry_free). */
    GPtrArray *(*list)(Engine *engine, EngineId where);
    EngineId (*find)(Engine *engine, EngineId where, const char *name);
    gboolean (*look)(Engine *engine, EngineId id, EngineLook *ret_look);
    char *(*name)(Engine *engine, EngineId id); /* of a domain or snapshot; NULL when it is gone */

    /* The disks shown in a snapshot, or in active/ (a domain's id), in the domain's order. Array of
     * EngineDisk (engine_disk_free); empty when @node is gone. */
    GPtrArray *(*disks)(Engine *engine, EngineId node);
    /* The layer of @node's chains whose file is called @file (for lookups of backing files); 0: none. */
    EngineId (*chain_file)(Engine *engine, EngineId node, const char *file);
    gboolean (*stat_layer)(Engine *engine, EngineId layer, EngineStat *ret_stat);
    /* Open a layer to read: a descriptor the caller closes, or -1. EBUSY: somebody has it open for writing.
     */
    int (*open_layer)(Engine *engine, EngineId layer, GError **error);

    /*
     * The content of a disk, by EngineDisk.content: what stat shows of it (of a state that is looked at for the first time, a
     * header is read; FALSE: gone, or the header says nothing), and to read it. That may wait, for images that are just
     * being replaced; a merge that writes them gives way. ENOENT: gone; EBUSY: somebody writes an image; EIO: an image is not
     * what was frozen, or damaged; EOPNOTSUPP: nobody can read it. The caller frees the reader.
     */
    gboolean (*stat_content)(Engine *engine, EngineId content, EngineStat *ret_stat);
    DiskReader *(*open_content)(Engine *engine, EngineId content, GCancellable *cancel, GError **error);

    /* Is there such a file in the snapshot? One lstat; and a descriptor to read it, which the caller closes, or -1. */
    gboolean (*stat_file)(Engine *engine, EngineId snapshot, EngineFile file, EngineStat *ret_stat);
    int (*open_file)(Engine *engine, EngineId snapshot, EngineFile file, GError **error);

    /* Length in bytes and time of last change of a text, from memory (of usage and changes as they were last read, 0: they
     * were not). FALSE: there is no such text. */
    gboolean (*text_size)(Engine *engine, EngineText text, EngineId id, guint64 *ret_size, gint64 *ret_time);
    /* The text itself. Caller unrefs. EINTR: only of those that take a while. */
    GBytes *(*text)(Engine *engine, EngineText text, EngineId id, GCancellable *cancel, GError **error);

    /* --- changing --- */
    /* Define from a <domain> document. @redefine: the domain whose domain.xml was written, or 0; then the
     * document's uuid must be that domain's. A known uuid redefines; @ret_domain (may be NULL) is the domain.
     */
    gboolean (*define)(Engine *engine, EngineId redefine, const char *xml, gsize len, GCancellable *cancel,
                       EngineId *ret_domain, GError **error);
    /* ENOTEMPTY while it has snapshots, EPERM while it has a managed save, unless @flags allow that. Images are never touched. Also of a domain that was
     * imported and is not ours to change yet: it drops the copy. */
    gboolean (*undefine)(Engine *engine, EngineId domain, UndefineFlags flags, GCancellable *cancel,
                         GError **error);
    /* Rename a domain or a snapshot. EEXIST. */
    gboolean (*rename)(Engine *engine, EngineId id, const char *name, GCancellable *cancel, GError **error);
    /* @ret_snapshot (may be NULL): 0 when none was recorded (no_metadata). */
    gboolean (*create)(Engine *engine, EngineId domain, const CreateRequest *request, GCancellable *cancel,
                       EngineId *ret_snapshot, GError **error);
    /* Or, with @request->undo, back from the last revert: ENOENT when nothing of it is kept. */
    gboolean (*revert)(Engine *engine, EngineId domain, const RevertRequest *request, GCancellable *cancel,
                       GError **error);
    gboolean (*delete)(Engine *engine, EngineId snapshot, DeleteFlags flags, GCancellable *cancel,
                       GError **error);
    /* Redefine @snapshot from a <domainsnapshot> document (a new name in it renames); 0: by the name in it,
     * making it when there is none. */
    gboolean (*redefine)(Engine *engine, EngineId domain, EngineId snapshot, const char *xml, gsize len,
                         RedefineFlags flags, GCancellable *cancel, GError **error);
    gboolean (*describe)(Engine *engine, EngineId snapshot, const char *description, GCancellable *cancel,
                         GError **error);
    /*
     * @file: absolute, for save and restore; else NULL. EBUSY: it runs, and should not, or it is not known whether it runs;
     * ESRCH: it does not run; EEXIST: the file is there; EPERM: memory that does not fit the disks any more.
     */
    gboolean (*power)(Engine *engine, EngineId domain, PowerAction action, const char *file,
                      GCancellable *cancel, GError **error);
    /* Wait until no job works on the domain, and no merge is due that could begin. EINTR. */
    gboolean (*wait)(Engine *engine, EngineId domain, GCancellable *cancel, GError **error);
    /* Cancel the job with that number (column 1 of jobs). ENOENT. */
    gboolean (*cancel)(Engine *engine, guint job, GError **error);

    /* Put a failure into the log of @domain (0, or a domain that is gone: the mount's): @what, and why. The
     * engine itself logs what succeeded, never what failed: the caller does, once. */
    void (*report)(Engine *engine, EngineId domain, const char *what, const GError *why);

    void (*set_gone)(Engine *engine, EngineGone gone, gpointer user);
    void (*free)(Engine *engine);
} EngineOps;

struct Engine {
    const EngineOps *ops;
};

static inline void engine_entry_free(EngineEntry *entry)
{
    g_free(entry->name);
    g_free(entry);
}

static inline void engine_disk_free(EngineDisk *disk)
{
    g_free(disk->target);
    g_free(disk);
}
