/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model: what a machine's states must hold, kept by the test alone. Every write to a disk is made twice: into the
 * image by qemu-io, and into the model's memory. model_verify() then reads every state back with qemu-img, byte for
 * byte, and compares names, links, modes and the present state too.
 */
#pragma once

#include "machine.h"

typedef struct Model Model;

/* A model of the machine that machine(w, name, disks) has just made (its disks are all zeros, cdroms left out). */
Model *model_new(const World *w, const char *domain, const char *disks);
void model_free(Model *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Model, model_free)

/* The guest writes: @size bytes of @byte at @offset of the disk's active layer. */
void model_write(Model *m, const char *target, guint8 byte, guint offset, guint size);
/* A fresh pattern at a place of its own, on every disk: what happens between two snapshots. */
void model_touch(Model *m);

/* Told of what happened. took: a snapshot that was created, with the modes its snapshot.xml says. */
void model_took(Model *m, const char *snapshot);
void model_reverted(Model *m, const char *snapshot);
void model_deleted(Model *m, const char *snapshot);
void model_renamed(Model *m, const char *from, const char *to);

/* The same, done by the gesture and told to the model: mkdir, create with options, ln -sfn, rmdir, mv. */
void model_mkdir(Model *m, const char *snapshot);
void model_create(Model *m, const char *snapshot, const char *options);
void model_revert(Model *m, const char *snapshot);
void model_rmdir(Model *m, const char *snapshot);
void model_mv(Model *m, const char *from, const char *to);

/* Compare everything. */
void model_verify(Model *m);
/* And let qemu-img check look at every image. */
void model_check_images(Model *m);

/* Mode of @target in @snapshot: "internal", "external", "no". */
const char *model_mode(const Model *m, const char *snapshot, const char *target);
guint model_count(const Model *m);
