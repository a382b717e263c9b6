/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "online_parts.h"

#include "offline.h"

static void online_free(Backend *backend)
{
    Online *online = (Online *)backend;
    online->offline->ops->free(online->offline);
    g_free(online->directory);
    g_free(online);
}

Backend *online_backend_new(const char *qemu_img, const char *directory)
{
    static const MachineBackend machines = {
        .find = online_find, .check = online_check, .start = online_start};
    Online *online = g_new0(Online, 1);
    online->offline = offline_backend_new(qemu_img);
    online->directory = g_strdup(directory);
    online->ops = *online->offline->ops;
    online->ops.free = online_free;
    online->backend = (Backend){.ops = &online->ops, .machines = &machines, .self = online->offline->self};
    return &online->backend;
}
