/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine with a chain of three layers, for tests of jobs and of what they leave behind. */
#pragma once

#include "qmp_job.h"
#include "qmp_world.h"

/* 8 MiB of data in each layer, that overlap; the machine writes the top. */
typedef struct {
    char *base, *middle, *top, *socket;
    char *content; /* hash of what the top reads */
    Machine *machine;
    Qmp *qmp;
} World;

/* Its monitor at @socket, its images in the same directory. */
World *world_new(const char *socket);
void world_free(World *world);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* A qcow2 image in @dir, on @below there or on nothing, with @pattern written @where. Caller frees. */
char *layer(const char *dir, const char *name, const char *below, int pattern, const char *where);

/* QEMU has no job. */
void no_jobs(World *world);

/* QEMU is killed, if it still runs: @path reads what the top did. */
void content_is_the_same(World *world, const char *path);

/* Of the image's header; NULL: none. Caller frees. */
char *backing_of(const char *path);

/* `qemu-img snapshot -l`, also while QEMU has it open. Caller frees. */
char *tags_of(const char *path);

/* For snapshot-save and -load; for block-stream of the middle layer into the top, @speed bytes a second (0: any). */
json_t *save_arguments(const char *tag, const char *node);
json_t *stream_arguments(World *world, int speed);

/* A QmpJobSpec.before_end that does what the manual asks for: all is on disk before the chain changes. */
typedef struct {
    World *world;
    guint n; /* calls */
    gboolean refuse;
} Hook;

gboolean stop_machine(gpointer hook, GError **error);
