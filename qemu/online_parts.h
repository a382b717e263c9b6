/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the online backend share: its object, and how a connection becomes a Machine. */
#pragma once

#include "online.h"
#include "qmp.h"

typedef struct RunWatcher RunWatcher; /* run_watch.h */

typedef struct {
    Backend backend; /* first; does with images what @offline does, by its functions */
    BackendOps ops;  /* the backend's */
    Backend *offline;
    char *directory;
    RunWatcher *watcher;
} Online;

/* The machine at the other end of @qmp, taken over. @spec is copied. machine.c */
Machine *qmp_machine_new(Online *online, Qmp *qmp, const MachineSpec *spec);

/* MachineBackend.find. machine_find.c */
gboolean online_find(Backend *backend, const MachineSpec *spec, GCancellable *cancel, Machine **ret_machine,
                     GError **error);

/* MachineBackend.check and start. machine_start.c */
gboolean online_check(Backend *backend, const MachineStart *start, GError **error);
gboolean online_start(Backend *backend, const MachineStart *start, GCancellable *cancel,
                      Machine **ret_machine, DomainDef **ret_def, GPtrArray **ret_notes, GError **error);
