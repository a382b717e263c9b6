/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Does a machine run? It has two sockets, so that one who stays at one of them keeps nobody out. */
#include <errno.h>

#include "error.h"
#include "machine_parts.h"
#include "qmp_online.h"
#include "run_dir.h"

#define FIND_MS 10000
#define LOOK_MS 20

static gboolean is_cancelled(const GError *error)
{
    return error && error->code == EINTR;
}

/* The image of each disk that is written, and the NVRAM. The strings are the spec's. */
static GPtrArray *images_of(const MachineSpec *spec)
{
    GPtrArray *images = g_ptr_array_new();
    for (guint i = 0; i < spec->disks->len; i++) {
        const MachineDisk *disk = &g_array_index(spec->disks, MachineDisk, i);
        if (!disk->read_only)
            g_ptr_array_add(images, (gpointer)disk->path);
    }
    if (spec->nvram)
        g_ptr_array_add(images, (gpointer)spec->nvram);
    g_ptr_array_add(images, NULL);
    return images;
}

static gboolean ask_at(const Online *online, const char *suffix, const MachineSpec *spec, const QmpWait *wait,
                       Qmp **ret_qmp, GError **error)
{
    g_autoptr(GPtrArray) images = images_of(spec);
    g_autofree char *socket = g_strdup_printf("%s/%s%s", online->directory, spec->name, suffix);
    QmpMachine machine = {spec->uuid, (const char *const *)images->pdata};
    return qmp_online(socket, &machine, NULL, wait, ret_qmp, error);
}

/*
 * Nobody listens, no image is open; but QEMU holds its log from before it listens until its process ends. One on its way out
 * is waited for.
 */
static gboolean await_log(const Online *online, const MachineSpec *spec, const QmpWait *wait, GError **error)
{
    QmpWait ending = qmp_wait_part(wait, QMP_ENDING_MS);
    g_autofree char *log = g_strdup_printf("%s/%s.log", online->directory, spec->name);
    while (run_log_is_held(log)) {
        if (qmp_wait_check(&ending, "waiting for its end", NULL)) {
            g_usleep(LOOK_MS * 1000);
            continue;
        }
        snap_set_error(error, g_cancellable_is_cancelled(wait->cancel) ? EINTR : EBUSY,
                       "a machine of this name is being started, or ends ('%s' is locked)", log);
        return FALSE;
    }
    return TRUE;
}

gboolean online_find(Backend *backend, const MachineSpec *spec, GCancellable *cancel, Machine **ret_machine,
                     GError **error)
{
    Online *online = (Online *)backend;
    QmpWait wait = qmp_wait(FIND_MS, cancel);
    g_autoptr(GError) first = NULL, second = NULL;
    Qmp *qmp = NULL;
    gboolean known = ask_at(online, ".qmp", spec, &wait, &qmp, &first);
    if (!qmp && !is_cancelled(first) && !ask_at(online, ".monitor", spec, &wait, &qmp, &second))
        known = FALSE;
    if (!qmp && !known) {
        g_propagate_error(error, is_cancelled(second) || !first ? g_steal_pointer(&second)
                                                                : g_steal_pointer(&first));
        return FALSE;
    }
    if (!qmp && !await_log(online, spec, &wait, error))
        return FALSE;
    *ret_machine = qmp ? qmp_machine_new(online, qmp, spec) : NULL;
    return TRUE;
}
