/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes: what stands behind an inode number. The number says it all, engine id << 16 | turn << 8 | kind, so
 * there is no table of nodes and nothing to forget; a number whose id is gone is ENOENT. Ids are never used
 * again, so neither are inode numbers. A layer's number is the layer's id wherever it is shown: one inode an
 * image.
 */
#pragma once

#include "fs.h"
#include "names.h"

typedef enum {
    NODE_NONE,
    NODE_ROOT, /* the mount's own nodes have id 0 */
    NODE_ROOT_CTL,
    NODE_ROOT_JOBS,
    NODE_ROOT_LOG,
    NODE_DOMAIN, /* these have the domain's id */
    NODE_DOMAIN_XML,
    NODE_STATE,
    NODE_CURRENT,
    NODE_TREE,
    NODE_USAGE,
    NODE_LOG,
    NODE_CTL,
    NODE_ACTIVE,
    NODE_ACTIVE_PARENT,
    NODE_SNAPSHOT, /* these the snapshot's */
    NODE_SNAPSHOT_XML,
    NODE_DESCRIPTION,
    NODE_CHANGES,
    NODE_PARENT,
    NODE_MEMORY,
    NODE_SCREENSHOT,
    NODE_CONTENT,        /* that of a state of a disk */
    NODE_LAYER,          /* the layer's */
    NODE_ACTIVE_CONTENT, /* the same */
    NODE_SCRATCH,        /* an id of scratch.h */
    N_NODE_KINDS,
} NodeKind;

/* What is the same for every node of a kind. */
typedef struct {
    NodeKind in;      /* kind of the directory it is in */
    const char *name; /* its name there; NULL: it has the name of what it shows */
    mode_t mode;      /* type and bits, before the mount's umask */
    double entry_timeout;
    double attr_timeout;
    gboolean is_text; /* its content is @text of the engine */
    EngineText text;
    gboolean is_live; /* and is made anew by each read from its beginning (live.h) */
    gboolean is_file; /* its content is @file of the engine, when there is one */
    EngineFile file;
} NodeSpec;

const NodeSpec *node_spec(NodeKind kind);

fuse_ino_t node_ino(NodeKind kind, EngineId id);
NodeKind node_kind(fuse_ino_t ino);
EngineId node_id(fuse_ino_t ino);

/* Is it shown at all? Some fixed names are not always there. */
gboolean node_exists(Fs *fs, fuse_ino_t ino);

/* Is its content read from a descriptor that the engine opens: a layer, or another file? */
gboolean node_is_image(fuse_ino_t ino);

/* Is it what a disk holds, as a raw file (rawview.h)? */
gboolean node_is_content(fuse_ino_t ino);

/* The node of a disk's content (EngineDisk.content) in a directory of kind @dir; 0: it has none. */
fuse_ino_t node_content_ino(NodeKind dir, EngineId content);

/* Is it a ctl file, and one that may be written at all? */
gboolean node_is_ctl(fuse_ino_t ino);
gboolean node_is_writable(fuse_ino_t ino);

/*
 * The domain or snapshot that the directory entry @entry shows in the root (@where 0) or in a domain; 0:
 * none. A name with '%' is found in its escaped form and as it is.
 */
EngineId node_find(Fs *fs, EngineId where, const char *entry);

/* Attributes. FALSE: it is gone. */
gboolean node_attr(Fs *fs, fuse_ino_t ino, struct stat *ret_stat);

/* The node called @name in @dir, 0: none. */
fuse_ino_t node_lookup(Fs *fs, fuse_ino_t dir, const char *name);

/* Attributes and timeouts, as the kernel wants them for a name. FALSE: it is gone. */
gboolean node_entry(Fs *fs, fuse_ino_t ino, struct fuse_entry_param *ret_entry);

/* The directory above a directory. */
fuse_ino_t node_above(Fs *fs, fuse_ino_t dir);

/* The domain in whose log a failure at @ino belongs; 0: the mount's. */
EngineId node_domain(Fs *fs, fuse_ino_t ino);

/* The text of a symlink, NULL: gone. Caller frees. */
char *node_link(Fs *fs, fuse_ino_t ino);

/* The entries under which a disk's layer, and its content, are shown, NULL when they cannot be. Caller frees. */
char *node_disk_entry(const EngineDisk *disk);
char *node_content_entry(const EngineDisk *disk);
