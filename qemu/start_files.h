/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What has to be there before a QEMU is started (launch.h): the copy of the NVRAM, the overlays of transient disks. */
#pragma once

#include "backend.h"
#include "launch.h"

typedef struct {
    GPtrArray *made;     /* of char *: files that are new, to be removed when the start fails */
    GPtrArray *overlays; /* of char *: those of them that no longer need a name once QEMU has opened them */
} StartFiles;

StartFiles *start_files_new(void);
void start_files_free(StartFiles *files);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StartFiles, start_files_free)

/* EBUSY: somebody writes an image that the machine is to have for itself. */
gboolean start_images_are_free(Backend *images, const DomainDef *def, GError **error);

/* ENOENT, EACCES: what the machine boots from, its firmware or kernel, cannot be read. */
gboolean start_files_check(const DomainDef *def, GError **error);

/* Make them all. On failure nothing is left. EEXIST: an overlay's name is taken. */
gboolean start_files_make(StartFiles *files, Backend *images, const Launch *launch, GCancellable *cancel,
                          GError **error);

/* QEMU has them open. */
void start_files_unlink_overlays(StartFiles *files);
/* It has failed, and no QEMU has them open any more. */
void start_files_remove(StartFiles *files);
