/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine of this project: libvirt's snapshot system over a store of its own and a backend. */
#pragma once

#include "backend.h"
#include "engine.h"

typedef struct {
    const char *store;  /* directory; made (0700) when missing */
    gboolean read_only; /* every change fails with EROFS */
    SnapMode snapshot;  /* what a plain create does where the domain is silent: MODE_DEFAULT is "auto" */
    gboolean disk_only; /* a plain create of a machine that runs leaves its memory out */
    guint
        merge_idle_ms; /* how long a domain must have been left alone before its merges start; 0: 3 seconds */
    char **backing_dirs;    /* NULL-terminated: directories whose files may be backing files; NULL: none */
    const char *mountpoint; /* absolute: no image may lie under it; NULL: not known */
} CoreOptions;

/*
 * Open the store (one process at a time: EBUSY names the other), recover what a crash left, load every domain. What
 * is damaged takes one domain read-only with the reason in its log, never the store. Takes over @backend, also when
 * it fails. Free with engine->ops->free.
 */
Engine *core_engine_new(const CoreOptions *options, Backend *backend, GError **error);
