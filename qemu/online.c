/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "online_parts.h"

#include "offline.h"
#include "run_watch.h"

static void online_free(Backend *backend)
{
    Online *online = (Online *)backend;
    run_watcher_free(online->watcher);
    online->offline->ops->free(online->offline);
    g_free(online->directory);
    g_free(online);
}

static void online_watch(Backend *backend, const MachineSpec *spec)
{
    run_watcher_watch(((Online *)backend)->watcher, spec);
}

static void online_unwatch(Backend *backend, const char *uuid)
{
    run_watcher_unwatch(((Online *)backend)->watcher, uuid);
}

static void online_set_told(Backend *backend, MachineTold told, gpointer user)
{
    run_watcher_set_told(((Online *)backend)->watcher, told, user);
}

Backend *online_backend_new(const char *qemu_img, const char *directory)
{
    static const MachineBackend machines = {.find = online_find,
                                            .check = online_check,
                                            .start = online_start,
                                            .watch = online_watch,
                                            .unwatch = online_unwatch,
                                            .set_told = online_set_told};
    Online *online = g_new0(Online, 1);
    online->offline = offline_backend_new(qemu_img);
    online->directory = g_strdup(directory);
    online->watcher = run_watcher_new(directory);
    online->ops = *online->offline->ops;
    online->ops.free = online_free;
    online->backend = (Backend){.ops = &online->ops, .machines = &machines, .self = online->offline->self};
    return &online->backend;
}
