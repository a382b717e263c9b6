/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Story: what happens to the domain "web", told in steps, and a trivial model of what every state contains beside it.
 *
 * Steps are separated by semicolons, words by blanks:
 *
 *   write TARGET N            the guest writes
 *   internal NAME             a snapshot of all disks
 *   external NAME
 *   create NAME DISKSPEC...
 *   revert NAME [--discard] [--delete-children]
 *   undo
 *   delete NAME [--children|--children-only|--metadata]
 *   merge                     let everything be merged that can be
 *   reopen                    the daemon starts again
 *   detach TARGET             the definition without that disk
 *   attach TARGET FILE        ... and with one more, a file of img/
 *   files NAME...             these are all files in img/ now
 *   tree NAME:PARENT...       these are all snapshots now, in order, with their parents ("-": none)
 *   current NAME              ("-": none)
 *
 * After each step every state that there should be is read and compared by hash, every image passes qemu-img check,
 * nothing is left of an operation, and every document says what libvirt would have it say (story.c).
 */
#pragma once

#include "engine_world.h"

typedef struct {
    World *world;
    GHashTable *states; /* "SNAPSHOT TARGET" -> hash; " TARGET" is now */
    GHashTable *undo;   /* " TARGET" -> hash, before the last revert */
} Story;

/* A story about @world, which it only borrows, as it is at this moment. Asserts, as all here. */
Story *story_new(World *world);
void story_free(Story *story);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Story, story_free)

void story_tell(Story *story, const char *steps);

/* Look at everything, now. */
void story_check(Story *story);

/* The present state of @target is what it is: something outside the story wrote it. */
void story_learn(Story *story, const char *target);

/* The files in img/, sorted, "a b c". Caller frees. */
char *world_files(World *world);
/* Wait until world_files says @files; asserts. */
void world_await_files(World *world, const char *files);

/* For stories with one world: what web is made of, and what happens then. */
void story_of(char *dir, const char *steps);
