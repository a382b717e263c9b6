/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ledger: what the states of one domain must hold while its daemon may die at any moment. Unlike a Model it allows for
 * a gesture whose end nobody has seen: that has happened or has not, wholly, and ledger_settle finds out which.
 *
 * Disks are larger than a Model's, so that joining layers takes a while, and are written and compared in whole blocks
 * of one byte each. Everything can be read while merges go on: a reader that is kept out comes again.
 */
#pragma once

#include "machine.h"

enum { BLOCK_SIZE = 64 * 1024, BLOCKS = 512, MAX_DISKS = 2 };

typedef struct {
    guint8 block[MAX_DISKS][BLOCKS];
} Content;

typedef struct {
    char *name;
    char *parent; /* NULL: a root */
    char *tag;    /* in the images, of a disk that is internal */
    Content content;
} Entry;

typedef enum { NOTHING, CREATE, REVERT, UNDO, DELETE, DELETE_TREE, RENAME } Gesture;

typedef struct {
    const World *w; /* its strings may be cleared between two calls */
    const char *domain;
    GRand *rand;
    guint disks;
    char **formats;     /* of the first images */
    GPtrArray *entries; /* of Entry */
    char *current;      /* NULL: none */
    Content active;
    guint serial;  /* of names */
    gboolean kept; /* what the last revert threw away: it can be undone */
    Content kept_content;
    char *kept_current;
    Gesture gesture; /* begun, and its end not seen */
    char *subject;
    char *other; /* the name that RENAME gives */
} Ledger;

/* Make the images and define the domain. @formats: of vda, vdb: "qcow2 raw". */
Ledger *ledger_new(const World *w, const char *domain, const char *formats, guint32 seed);
void ledger_free(Ledger *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ledger, ledger_free)

/* The guest writes some MiB here and there, if it may open its disks within some seconds. */
void ledger_write(Ledger *l);

/* Do it. 0, or the errno with which it failed; what has become of it is for ledger_settle to find out. */
int ledger_do(Ledger *l, Gesture gesture, const char *subject);

/*
 * The gesture has happened, or not; @must: it said which (it must have happened if @err is 0, and must not otherwise).
 * FALSE: the mount died before that could be seen.
 */
gboolean ledger_settle(Ledger *l, gboolean must, int err);

Entry *ledger_any(Ledger *l); /* a snapshot by chance; NULL: there is none */

/* Names, links, all states; and let qemu-img check look at every image. */
void ledger_verify(Ledger *l);
void ledger_check_images(Ledger *l);

/*
 * Without a snapshot every disk is one file that stands on nothing and holds no tag: its first image, or, after a revert
 * to a tag in that, one of ours beside it: the first one is the user's.
 */
void ledger_end(Ledger *l);
