/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model: domains, snapshots and layers in memory, and the tree they form.
 *
 * A Domain that the engine shows is never changed. A changing job makes a copy (domain_copy: same ids), changes that
 * as it likes, and, once the change is on stable storage, puts it in the place of the old one (op.h). So there is no
 * lock here: the engine's lock guards only which Domain is the shown one.
 *
 * Ids: the upper bits are the domain's number, the lower OBJECT_BITS count its things; 0 there is the domain itself.
 */
#pragma once

#include "domain.h"
#include "engine.h"
#include "files.h"

typedef struct Domain Domain;
typedef struct Snapshot Snapshot;

#define OBJECT_BITS 28

/* Every thing with an id begins with this. */
typedef struct {
    EngineKind kind;
    EngineId id;
} Object;

/*
 * One image file that the domain's states are made of. Known by its path within the domain. What a frozen layer
 * contains must never change: its write bits are off, and size and mtime are recorded.
 */
typedef struct {
    Object object;
    char *path; /* absolute and real, of a device its name in /dev; of a remote one its URI (remote.h) */
    DiskType
        type; /* file, block, or network: a remote one has no file here, and is never missing nor changed */
    ImageFormat format;
    char *backing; /* path of the layer below as the store recorded it, or NULL */
    ImageFormat backing_format;
    FileId file;       /* the file it was when last recorded; unknown for one that was missing */
    gboolean made;     /* domsnapfs made that very file: only such a one may ever be unlinked */
    gboolean released; /* the user keeps it by hand: see domain_release_layer */
    gboolean
        detached; /* the guest wrote it when its disk left the definition: the user's, until one names it again */
    gboolean template; /* lay below the domain's first image when that was defined: never written */
    gboolean
        mixed; /* a merge has begun to write into it: its own content is no state any more, and never will be */
    gboolean frozen;
    FileStamp stamp;  /* of a frozen layer */
    guint mode;       /* of a frozen layer: the permission bits of its active role */
    guint64 blocks;   /* of a frozen layer: what stat shows, so that looking needs no system call */
    char *stem;       /* overlays on this layer are named stem.SNAPSHOT; NULL: from its own path */
    GPtrArray *stale; /* tags (char *) that no snapshot names any more and that could not be dropped yet */
    GPtrArray *
        tags; /* of ImageTag: what the file had when last looked at (strays.h); shared by copies; NULL: not known */
    char *unreadable; /* why they are not known, if somebody looked */
    Snapshot *home;   /* whose sidecar file records this layer; NULL: the domain's */
    guint names;      /* how many snapshots' states are its own content */
    guint64 size;     /* virtual, bytes, when the guest's content was last looked at; as StateDisk.size */
} Layer;

/*
 * One disk of a snapshot that took part. Its id names bytes that never change: whatever becomes of the layers, and a snapshot
 * that is given other disks (redefine) has other states.
 */
typedef struct {
    Object object;
    Domain *domain;
    Snapshot *snapshot;
    char *target;
    Layer *layer; /* its own content is the state, unless there is a tag */
    char *tag;    /* the internal snapshot inside the layer that is the state, or NULL */
    guint64
        size; /* virtual, bytes; 0: not known yet. Of a domain that is shown the engine's lock guards it */
} StateDisk;

/* A file that goes with a snapshot and is no disk: who it was when it was made, and whether it was us who made it. */
typedef struct {
    char *path; /* absolute, or of a file in the store relative (store_side_file); NULL: there is none */
    FileId id;
    gboolean made;
} SideFile;

struct Snapshot {
    Object object;
    Domain *domain;
    char *name;
    char *description; /* NULL: none */
    Snapshot *parent;
    gint64 time;
    guint64 order; /* of creation, among those of one second */
    SnapState state;
    SnapMode memory;
    GPtrArray *disks; /* of StateDisk */
    SideFile
        memory_file; /* a save image of external memory; of internal memory the qcow2 file of its own that holds it */
    char *memory_tag; /* of internal memory: the checkpoint's tag; NULL: not known, it is looked for */
    SideFile nvram;   /* a copy of the NVRAM at that moment */
    SideFile screenshot;
    guint64 xml_size; /* bytes of the document */
    gint64 xml_time;  /* when it was last written */
    guint64
        changes_size; /* of the text, when it was last read; of a domain that is shown the engine's lock guards it */
    gboolean secret;
    gboolean reverted; /* the document has <revertDisks> */
};

/* A file of ours that should have gone and could not be removed: tried again with each operation. */
typedef struct {
    char *path;
    FileId id;
} Leftover;

struct Domain {
    Object object;
    char *name;
    DomainDef *def;
    GPtrArray *snapshots; /* of Snapshot, in order of creation */
    GHashTable *by_name;  /* name -> Snapshot */
    GHashTable *layers;   /* path -> Layer */
    GHashTable *objects;  /* id -> Object, of its snapshots, their states, and layers */
    EngineId last_id;     /* the last one given to a thing of this domain */
    guint64 last_order;   /* of the snapshot added last */
    Snapshot *current;
    /*
     * The definition that the QEMU was started with which is that process (machine.h), completed and with today's disks; of
     * any other one it says nothing. NULL: none was started by us.
     */
    DomainDef *live;
    char *live_process;
    SideFile saved; /* its managed save */
    /*
     * What the last revert threw away, as a snapshot that nobody sees: its disks are the old active layers, or hidden
     * tags; its parent is what was current then. NULL: there is nothing to go back to. Owned; not among snapshots.
     */
    Snapshot *undo;
    GPtrArray *leftovers; /* of Leftover */
    gboolean stuck;       /* broken only by an operation that could not be brought to its end: tried again */
    char *broken;         /* why it is read-only, or NULL */
    char *libvirt; /* of an imported one: the file in which libvirt defined it; NULL: it is ours (adopt.h) */
    char *libvirt_snapshots; /* and the directory of its snapshots, or NULL */
    char *held;              /* why an imported one cannot be changed, when last asked */
    gint64 changed;          /* seconds */
    guint64 xml_size;
    guint64 log_size;
    guint64 usage_size; /* of the text, when it was last read; guarded likewise */
    char *tree;         /* drawn text, NULL: draw again */

    /* While store_load_all reads it: all that is wrong (of char *). Not its own; NULL otherwise. */
    GPtrArray *problems;
};

Domain *domain_new(EngineId id, const char *name);
Domain *domain_copy(const Domain *domain);
/* No QEMU that was started by us runs any more. */
void domain_forget_live(Domain *domain);
void domain_free(Domain *domain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Domain, domain_free)

/*
 * Add a snapshot of that name and time; the name must be free. Snapshots are kept in order of creation: of their
 * time, and in one second the one added last comes last. The result belongs to the domain.
 */
Snapshot *domain_add_snapshot(Domain *domain, const char *name, gint64 time);
/* Say that @layer's own content (@tag NULL) or an internal state in it is @snapshot's state of disk @target. */
void snapshot_add_disk(Snapshot *snapshot, const char *target, Layer *layer, const char *tag);
void snapshot_clear_disks(Snapshot *snapshot);
/* Let @file be the file at @path (NULL: none) with that identity. */
/* The memory state that the snapshot's document speaks of: @file NULL, or a save image that is there, or will be, and is its user's. */
void snapshot_set_memory(Snapshot *snapshot, SnapMode mode, const char *file);
void side_file_set(SideFile *file, const char *path, const FileId *id, gboolean made);
void domain_add_leftover(Domain *domain, const char *path, const FileId *id);
/* Make an empty undo state, in the place of another one; its disks are added with snapshot_add_disk. */
Snapshot *domain_new_undo(Domain *domain);
void domain_clear_undo(Domain *domain);
/* Take @snapshot out: its children get its parent, its layers' records move to the domain, and where it was current
 * its parent is. */
void domain_remove_snapshot(Domain *domain, Snapshot *snapshot);
/* Put the snapshots in order again after one's time has changed. */
void domain_sort_snapshots(Domain *domain);
void domain_rename_snapshot(Domain *domain, Snapshot *snapshot, const char *name);
Snapshot *domain_find_snapshot(const Domain *domain, const char *name);
Snapshot *domain_snapshot(const Domain *domain, EngineId id); /* NULL: no snapshot has that id */
StateDisk *snapshot_find_disk(const Snapshot *snapshot, const char *target);

/* The children of @parent (NULL: the roots), oldest first. Caller unrefs the array. */
GPtrArray *domain_children(const Domain *domain, const Snapshot *parent);
/* Is @ancestor @snapshot itself or above it? */
gboolean snapshot_descends(const Snapshot *snapshot, const Snapshot *ancestor);

/* Is it on this host? */
gboolean layer_is_local(const Layer *layer);

/* Is frozen @layer, whose file is @look now, not what it was when it was frozen? */
gboolean layer_changed(const Layer *layer, const FileLook *look);

/* Is @layer the file at @path, or (may be NULL, or not known) the file @file by another name? */
gboolean layer_is_same_file(const Layer *layer, const char *path, const FileId *file);

/* The layer of @path, made known if it is not yet (with @format and nothing else said). */
Layer *domain_take_layer(Domain *domain, const char *path, ImageFormat format);
Layer *domain_find_layer(const Domain *domain, const char *path);
/* Let @layer be known as @path, which no other layer has; the layers that stand on it follow. */
void domain_move_layer(Domain *domain, Layer *layer, const char *path);
/* Give @layer another id: it is another file now. */
void domain_renew_layer(Domain *domain, Layer *layer);
/* Forget @layer, to which nothing refers. */
void domain_forget_layer(Domain *domain, Layer *layer);
/* The layer that the guest writes of @disk, or NULL: an empty drive, or an image that is not known. */
Layer *domain_active_layer(const Domain *domain, const DiskDef *disk);
gboolean domain_layer_is_active(const Domain *domain, const Layer *layer);
/* Does the domain know the image, as a layer (@active_only: as one that the guest writes) or as an export of a disk? */
gboolean domain_names_image(const Domain *domain, const char *path, const FileId *file, gboolean active_only);
/* @layer (may be NULL) and all below it, as BackingDefs, nearest first; bounded even if records were a loop. */
GPtrArray *domain_backing_list(const Domain *domain, const Layer *layer);
/* Does any layer of the domain have @layer as its backing file? */
gboolean domain_layer_is_stood_on(const Domain *domain, const Layer *layer);
/* The layers (a set, caller unrefs) whose own content the states of snapshots need: as such a state, or below it. */
GHashTable *domain_needed_layers(const Domain *domain);
gboolean domain_layer_is_needed(const Domain *domain, const Layer *layer);
/*
 * The user keeps @layer's content, or an internal state in it, by hand from now on, and with it all that lies below. A
 * released layer is never unlinked, merged, or merged into, and it is not ours any more. One that is frozen stays so as
 * long as it is known, and no tag is dropped from it.
 */
void domain_release_layer(Domain *domain, Layer *layer);
/* Does its file belong to the user, whatever snapshots there are: released, or detached? */
gboolean layer_is_kept(const Layer *layer);
/* Is the file with all its tags the user's, so that none is ever dropped? */
gboolean layer_keeps_tags(const Layer *layer);
/* Does a snapshot name the tag in @layer? */
gboolean domain_tag_named(const Domain *domain, const Layer *layer, const char *tag);
/* Paths (char *) of layers that are not there, sorted. Caller unrefs. */
GPtrArray *domain_missing_images(const Domain *domain);
/* Under how many names the tree shows @layer (at least 1). */
guint domain_layer_names(const Domain *domain, const Layer *layer);
/* Layers that something refers to (a set; caller unrefs): those that domain_prune_layers does not forget. */
GHashTable *domain_used_layers(const Domain *domain);

/*
 * Forget layers that nothing refers to: neither active, nor named, nor below such a one, nor made by us. A remote one is
 * never forgotten: nobody can tell whether it is still there and needs what lies below it. Returns them (of Layer);
 * caller unrefs.
 */
GPtrArray *domain_prune_layers(Domain *domain);

/* The tree drawn as text, with the present state marked. Caller frees. */
char *tree_draw(const Domain *domain);
