/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stage: the world's store and images in one state, to come back to as often as a test likes, and a text that says all
 * that matters about the state they are in.
 */
#pragma once

#include "machine.h"

typedef struct Stage Stage;

/* Remember the store and the images. The daemon is not running, now or when the stage is restored. */
Stage *stage_save(const World *w);
/* Each image is the same file again, with the same content, mode and times; every other one is gone. */
void stage_restore(const Stage *stage);
void stage_free(Stage *stage);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stage, stage_free)

/*
 * Of the mounted tree: each domain's definition, each snapshot's document (but for the times of creation) and links, and a
 * hash of the content of each disk in each state, read with qemu-img; of the files: the names in the store and next to the images,
 * the images' modes, their tags with a hash of the content of each. Two worlds in the same state have the same.
 */
const char *digest(const World *w);

/*
 * A digest without what a cleaning up that failed may leave: tags and write bits that a later operation sees to, and the
 * temporary name of an image. All that it says of states, documents and definitions is still in it.
 */
const char *essence(const World *w, const char *text);
