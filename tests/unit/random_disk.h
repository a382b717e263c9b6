/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks made at random with qemu-img and qemu-io: chains of images of all geometries, written, compressed, zeroed, discarded
 * and resized, with internal snapshots taken on the way. Each state's content is kept as qemu-img saw it then.
 */
#pragma once

#include "diskreader.h"

typedef struct {
    DiskChain chain; /* chain.layers points into the disk's */
    char *expected;  /* a file with the content, raw */
} RandomState;

typedef struct {
    guint depth;
    DiskLayer *layers; /* the last one that was made first */
    guint *compressed; /* of each: the size of its clusters, if some may be compressed; else 0 */
    GArray *states;    /* of RandomState */
    GString *story;    /* how they were made */
    gboolean given_up; /* QEMU has damaged one: nothing can be expected of it */
} RandomDisk;

/* A new disk of @depth images below @directory, which is empty. */
RandomDisk *random_disk_new(guint32 seed, guint depth, const char *directory);
void random_disk_free(RandomDisk *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RandomDisk, random_disk_free)
