/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What moves.h's files share: what a move comes to, and the images that it is about. */
#pragma once

#include "moves.h"

/* What a move comes to. */
typedef struct {
    MoveKind kind;
    char *name, *to, *specs, *xml, *target, *path, *command;
    GBytes *content;
    GHashTable *left_out; /* of a create: set of targets */
    GHashTable *paths;    /* target -> path, of the disks there are */
    DeleteFlags flags;
    guint64 size;
    gboolean discard, delete_children; /* of a revert */
    gboolean refused;                  /* it must fail, and change nothing */
} Deed;

void deed_free(Deed *deed);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Deed, deed_free)

gboolean move_is_engines(MoveKind kind); /* the engine does it, and may die in between */

/* Decide what @move comes to, and do what is not the engine's part in it. NULL: nothing. */
Deed *deed_decide(Story *story, const Move *move);

/* --- images (deed_images.c) --- */

#define MIB_UNITS 256

/* Write one to three areas; the content that is there then. *ret_text (may be NULL) says what it was. */
GBytes *scribble(const char *path, GBytes *content, const guint32 *r, char **ret_text);
/* A file of the user's from now on. */
void own_file(Mirror *mirror, const char *path, GBytes *content);
/* An image of one kind or another with something in it, outside of the domain until it is attached as @target. */
char *make_image(Story *story, const char *target, const guint32 *r);
/* The domain with the disks @paths (target -> path). The uuid is that of the first name. */
char *document_of(const char *domain, GHashTable *paths);
