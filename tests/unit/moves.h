/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moves: a story is a domain and its mirror (mirror.h), a move is something that its user, its guest or somebody else
 * does. A move is a kind and some random numbers; what it comes to is decided when it is played, by what there is then.
 * So any part of a list of moves is a list of moves, and a failing one can be made shorter by leaving some out.
 */
#pragma once

#include "mirror.h"

typedef enum {
    MOVE_WRITE,
    MOVE_RESIZE,
    MOVE_CREATE,
    MOVE_REVERT,
    MOVE_UNDO,
    MOVE_DELETE,
    MOVE_RENAME,
    MOVE_RENAME_DOMAIN,
    MOVE_MERGE,
    MOVE_REMOUNT,
    MOVE_CLONE,
    MOVE_DROP_CLONE,
    MOVE_ATTACH,
    MOVE_DETACH,
    MOVE_REFUSED,
    N_MOVES
} MoveKind;

typedef struct {
    MoveKind kind;
    guint32 r[4];
    guint crash; /* the process dies at that point; 0: it does not */
} Move;

typedef struct {
    World *world;
    Mirror *mirror;
    GString *text; /* what the last move was */
} Story;

const char *move_name(MoveKind kind);
Move move_random(GRand *rand);

/* A domain with one to three disks, of which none is like another. */
Story *story_new(char *dir, GRand *rand);
void story_free(Story *story);

typedef enum { PLAYED_NOTHING, PLAYED, PLAYED_CRASH } Played;

/* Play one move, and compare everything. What is wrong then (caller frees), or NULL; *ret_played and story->text are set. */
char *story_play(Story *story, const Move *move, Played *ret_played);
