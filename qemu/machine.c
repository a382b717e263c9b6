/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A Machine: its life, its state, its power. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "machine_parts.h"

#define SETTLE_MS 20

static Running *running_of(Machine *machine)
{
    return (Running *)machine;
}

gboolean is_unknown(const GError *error)
{
    return error->code == ECONNRESET || error->code == EPROTO || error->code == EINTR ||
           error->code == ETIMEDOUT;
}

gboolean running_status(Running *running, char **ret_status, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) answer = qmp_run(running->qmp, "query-status", json_object(), wait, error);
    const char *status = json_string_value(json_object_get(answer, "status"));
    if (answer && !status)
        snap_set_error(error, EPROTO, "QEMU query-status: its answer has no status");
    if (!status)
        return FALSE;
    *ret_status = g_strdup(status);
    return TRUE;
}

static gboolean do_run_state(Machine *machine, RunState *ret_state, GError **error)
{
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    g_autofree char *status = NULL;
    if (!running_status(running_of(machine), &status, &wait, error))
        return FALSE;
    *ret_state = strcmp(status, "running") == 0 ? RUN_RUNNING : RUN_PAUSED;
    return TRUE;
}

static gboolean command(Machine *machine, const char *name, GError **error)
{
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    return qmp_do(running_of(machine)->qmp, name, json_object(), &wait, error);
}

gboolean running_pause(Machine *machine, GError **error)
{
    return command(machine, "stop", error);
}

/* QEMU's word when a migration has ended in name, and takes some moments to let go. */
gboolean running_settled(Running *running, char **ret_status, const QmpWait *wait, GError **error)
{
    guint64 seen = 0;
    g_autofree char *status = NULL;
    do {
        g_clear_pointer(&status, g_free);
        if (!running_status(running, &status, wait, error))
            return FALSE;
        if (strcmp(status, "finish-migrate") != 0) {
            *ret_status = g_steal_pointer(&status);
            return TRUE;
        }
    } while (qmp_wait_event(running->qmp, &seen, SETTLE_MS, wait, error));
    return FALSE;
}

/* `cont` to one that runs would tell others of a stop. */
gboolean running_resume(Machine *machine, GError **error)
{
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    g_autofree char *status = NULL;
    if (!running_end_migration(running_of(machine), &wait, error) ||
        !running_settled(running_of(machine), &status, &wait, error) ||
        (strcmp(status, "running") != 0 && !command(machine, "cont", error)))
        return FALSE;
    running_restore_bandwidth(running_of(machine));
    return TRUE;
}

static gboolean do_shutdown(Machine *machine, GError **error)
{
    return command(machine, "system_powerdown", error);
}

static gboolean do_active_path(Machine *machine, const char *target, char **ret_path, GError **error)
{
    Running *running = running_of(machine);
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    RunningDisk *disk = running_disk(running, target, error);
    char *path = disk ? running_file(running, disk, &wait, error) : NULL;
    if (!path)
        return FALSE;
    *ret_path = path;
    return TRUE;
}

/* When process @pid began, as the kernel counts: field 22 of its stat, whose second one may hold anything. NULL: not known. */
static char *begin_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid), *text = NULL;
    const char *end = g_file_get_contents(path, &text, NULL, NULL) ? strrchr(text, ')') : NULL;
    g_auto(GStrv) fields = g_strsplit(end ? end : "", " ", 22);
    return g_strv_length(fields) > 20 ? g_strdup(fields[20]) : NULL;
}

/* Numbers of processes come again, and all of it after a restart of the host. */
static char *do_process(Machine *machine)
{
    pid_t pid = qmp_pid(running_of(machine)->qmp);
    g_autofree char *begin = pid > 0 ? begin_of(pid) : NULL;
    g_autofree char *boot = NULL;
    if (!begin || !g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL))
        return NULL;
    return g_strdup_printf("%d %s %s", (int)pid, begin, g_strchomp(boot));
}

static void do_free(Machine *machine)
{
    Running *running = running_of(machine);
    qmp_close(running->qmp);
    g_ptr_array_unref(running->disks);
    g_free(running->nvram);
    g_free(running->agent);
    g_free(running);
}

static void free_backend(Backend *backend)
{
    do_free((Machine *)backend);
}

Machine *qmp_machine_new(Online *online, Qmp *qmp, const MachineSpec *spec)
{
    static const MachineOps ops = {
        .run_state = do_run_state,
        .pause = running_pause,
        .resume = running_resume,
        .shutdown = do_shutdown,
        .destroy = running_destroy,
        .process = do_process,
        .active_path = do_active_path,
        .freeze = running_freeze,
        .thaw = running_thaw,
        .change = running_change,
        .memory_save = running_memory_save,
        .memory_stop = running_memory_stop,
        .checkpoint_save = running_checkpoint_save,
        .merge = running_merge,
        .merge_stop = running_merge_stop,
        .close_images = running_close_images,
        .screenshot = running_screenshot,
        .free = do_free,
    };
    Running *running = g_new0(Running, 1);
    running->offline = online->offline;
    running->ops = *online->offline->ops;
    running->ops.free = free_backend;
    running->ops.tag_delete = running_tag_delete;
    running->ops.repair = running_repair;
    running->machine.backend = (Backend){.ops = &running->ops, .self = online->offline->self};
    running->machine.ops = &ops;
    running->qmp = qmp;
    running->disks = running_disks_new(spec->disks);
    running->nvram = g_strdup(spec->nvram);
    running->agent = g_strdup_printf("%s/%s.agent", online->directory, spec->name);
    return &running->machine;
}
