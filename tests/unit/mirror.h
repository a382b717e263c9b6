/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mirror: what the disks of one domain should contain, now and at each of its snapshots, in the simplest form there is:
 * a table of contents for each, nothing of layers, tags or files. It is kept by saying to it what was done (and only
 * that); the engine is never asked. mirror_compare then reads everything back and says what is different.
 *
 * A content is an array of bytes (GBytes, never changed): one for each unit of the disk, all of whose bytes are that.
 */
#pragma once

#include "engine_world.h"

#define MIRROR_UNIT 4096

/* A snapshot, or what undo brings back. */
typedef struct {
    char *name;
    char *parent;         /* NULL: none; of undo: what was current */
    GHashTable *disks;    /* target -> content: the disks that took part */
    GHashTable *attached; /* target -> path: the disks that the domain had, and what they wrote to */
} MirrorState;

typedef struct {
    char *domain;       /* its name now */
    GPtrArray *states;  /* of MirrorState, in order of creation */
    char *current;      /* NULL: none */
    GHashTable *now;    /* target -> content */
    MirrorState *undo;  /* NULL: nothing to go back to */
    gboolean undo_open; /* a crash left it open whether there is something to undo */
    GHashTable
        *kept; /* path, or path TAB tag -> content: what is the user's, and must stay whatever happens */
    GHashTable *mine;    /* set of paths: files that the user made */
    GHashTable *clones;  /* path -> path of what it was made on */
    GHashTable *outside; /* path -> target: taken out of the domain by the user, or by a revert */
    gboolean
        released; /* files that the engine made are the user's by now: it cannot tidy up everything any more */
} Mirror;

Mirror *mirror_new(const char *domain);
Mirror *mirror_copy(const Mirror *mirror);
void mirror_free(Mirror *mirror);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Mirror, mirror_free)

MirrorState *mirror_find(const Mirror *mirror, const char *name); /* NULL: none */

/* The keys of @table, sorted. Caller unrefs the array. */
GPtrArray *mirror_keys(GHashTable *table);

/* --- what was done --- */

void mirror_attach(Mirror *mirror, const char *target, const char *path, GBytes *content);
/* @path: what it wrote to. */
void mirror_detach(Mirror *mirror, const char *target, const char *path);
/* @content: what disk @target reads as now. */
void mirror_write(Mirror *mirror, const char *target, GBytes *content);
/* @left_out: set of targets that take no part; @paths: target -> path, of all disks. */
void mirror_create(Mirror *mirror, const char *name, GHashTable *left_out, GHashTable *paths);
/* @paths: target -> path, of all disks there are now. FALSE: a disk that comes back has a content that nobody knows;
 * nothing is changed then. */
gboolean mirror_revert(Mirror *mirror, const char *name, gboolean discard, gboolean delete_children,
                       GHashTable *paths);
gboolean mirror_undo(Mirror *mirror, GHashTable *paths);
void mirror_delete(Mirror *mirror, const char *name, DeleteFlags flags);
void mirror_rename(Mirror *mirror, const char *name, const char *to);

/* --- is it so? --- */

/* The content of an image, or of its internal snapshot @tag. NULL: it cannot be read, with a sentence. */
GBytes *mirror_read(World *world, const char *path, const char *tag, char **ret_why);

/* The path of what @path stands on, as its header says; NULL: nothing. Caller frees. */
char *mirror_backing(const char *path);
/* The paths of all files in img/, sorted. Caller unrefs. */
GPtrArray *mirror_files(World *world);

/* NULL, or a sentence that says what is different. Caller frees. */
char *mirror_compare(const Mirror *mirror, World *world);

/* The same of the files (mirror_files.c): none is there that nothing refers to, and none that a merge should have taken. */
char *mirror_compare_files(const Mirror *mirror, World *world);
