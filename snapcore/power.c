/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is done to the machine itself: start, stop, pause, save its memory. */
#include "power.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "error.h"
#include "saveimage.h"

typedef struct {
    PowerAction action;
    const char *what;
    enum { OFF, ON, EITHER } needs;
    gboolean (*act)(Op *op, const char *file, GError **error);
    gboolean alone; /* it is about the machine alone: also of a domain that is read-only */
} Power;

/* --- starting --- */

static gboolean begin(Op *op, const PowerFrom *from, gboolean paused, GError **error)
{
    power_announce(op, paused);
    return plan_prepare(op->plan, op->cancel, error) && power_set_up(op, from, error);
}

static gboolean finish_start(Op *op, gboolean paused, GError **error)
{
    g_autofree char *what = g_strdup(op->job->what);
    return op_commit(op, error, "%s%s", what, paused ? ", paused" : "") && power_let_run(op, paused, error);
}

/* From the save image @file; @forget: it is the managed save, and goes. */
static gboolean start_from(Op *op, const char *file, gboolean forget, gboolean paused, GError **error)
{
    g_autoptr(SaveImage) image = saveimage_open(file, error);
    if (!image)
        return FALSE;
    if (g_strcmp0(image->def->uuid, op->domain->def->uuid) != 0) {
        snap_set_error(error, EPERM, "'%s' is the memory of another machine, '%s'", file, image->def->name);
        return FALSE;
    }
    const PowerFrom from = {.def = image->def, .memory = image->fd};
    paused = paused || !image->running;
    if (!begin(op, &from, paused, error))
        return FALSE;
    if (forget)
        power_forget_saved(op);
    return finish_start(op, paused, error);
}

static gboolean start_as(Op *op, gboolean paused, GError **error)
{
    const PowerFrom from = {.def = op->domain->def, .memory = -1};
    if (op->domain->saved.path) {
        g_autofree char *path = store_side_file(op->core->store, op->domain->name, &op->domain->saved);
        return start_from(op, path, TRUE, paused, error);
    }
    return begin(op, &from, paused, error) && finish_start(op, paused, error);
}

static gboolean start(Op *op, const char *file, GError **error)
{
    return start_as(op, FALSE, error);
}

static gboolean start_paused(Op *op, const char *file, GError **error)
{
    return start_as(op, TRUE, error);
}

static gboolean restore(Op *op, const char *file, GError **error)
{
    if (op->domain->saved.path) {
        snap_set_error(error, EPERM, "it has a managed save, which would be lost (managedsave-remove)");
        return FALSE;
    }
    return power_check_disks(op, file, error) && start_from(op, file, FALSE, FALSE, error);
}

/* --- a machine that runs --- */

static gboolean log_done(Op *op)
{
    core_log(op->core, op->domain->name, "%s", op->job->what);
    return TRUE;
}

static gboolean press(Op *op, const char *file, GError **error)
{
    return op->machine->ops->shutdown(op->machine, error) && log_done(op);
}

static gboolean end(Op *op, const char *file, GError **error)
{
    return power_end(op, error) && log_done(op);
}

static gboolean pause_it(Op *op, const char *file, GError **error)
{
    if (!op->machine->ops->pause(op->machine, error))
        return FALSE;
    machines_note(op->core, op->uuid, RUN_PAUSED);
    return log_done(op);
}

/* A managed save of a machine that goes on is worth nothing. */
static gboolean resume(Op *op, const char *file, GError **error)
{
    if (op->domain->saved.path) {
        power_forget_saved(op);
        if (!op_commit(op, error, "the managed save is forgotten: the machine goes on"))
            return FALSE;
    }
    if (!op->machine->ops->resume(op->machine, error))
        return FALSE;
    machines_note(op->core, op->uuid, RUN_RUNNING);
    core_log(op->core, op->job->domain, "%s", op->job->what);
    return TRUE;
}

static void tell_progress(gpointer user, double part)
{
    op_progress(user, (guint64)(part * 1000), 1000);
}

static gboolean write_memory(Op *op, const char *path, gboolean running, GError **error)
{
    const BackendProgress progress = {tell_progress, op};
    const DomainDef *def = op->domain->live ? op->domain->live : op->domain->def;
    Machine *machine = op->machine;
    int fd = file_open_image(path, O_RDWR, error);
    if (fd < 0)
        return FALSE;
    gboolean ok = saveimage_begin(fd, def, running, error) &&
                  machine->ops->memory_save(machine, fd, FALSE, &progress, op->cancel, error) &&
                  saveimage_finish(fd, error);
    close(fd);
    return ok;
}

/*
 * The memory is written, then known, and only then the machine is ended: a crash on the way leaves the machine, which stands,
 * or what can be started from.
 */
static gboolean save_to(Op *op, const char *path, GError **error)
{
    g_autofree char *what = g_strdup(op->job->what);
    Step *step = plan_step(op->plan, STEP_FILE, 0, "memory", path);
    RunState state;
    FileLook look;
    if (!op->machine->ops->run_state(op->machine, &state, error))
        return FALSE;
    step->like = store_domain_file(op->core->store, op->domain->name, "domain.xml");
    step->mode = 0600;
    plan_set_machine(op->plan, &(PlanMachine){.running = state == RUN_RUNNING, .ends = TRUE});
    if (!plan_prepare(op->plan, op->cancel, error))
        return FALSE;
    gboolean ok = file_look(path, &look, error) && write_memory(op, path, state == RUN_RUNNING, error);
    if (ok && op->domain->saved.path) {
        op->domain->saved.id = look.id;
        op_write_sidecar(op);
    }
    gboolean stranger = !op->domain->live;
    if (ok && op_commit(op, error, "%s", what)) {
        if (stranger)
            power_note_stranger(op, path);
        return !op->machine || power_end(op, error);
    }
    if (state == RUN_RUNNING &&
        !plan_in_doubt(op->plan)) /* else the next start may say that it has been saved */
        (void)op->machine->ops->resume(op->machine, NULL);
    return FALSE;
}

static gboolean save(Op *op, const char *file, GError **error)
{
    if (!file_exists(file))
        return save_to(op, file, error);
    snap_set_error(error, EEXIST, "'%s' exists already", file);
    return FALSE;
}

static gboolean managed_save(Op *op, const char *file, GError **error)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *name = g_strdup_printf(STORE_FILES "/%s.save", uuid);
    g_autofree char *path = store_domain_file(op->core->store, op->domain->name, name);
    g_autofree char *dir = g_path_get_dirname(path);
    (void)g_mkdir_with_parents(dir, 0700);
    power_forget_saved(op);
    side_file_set(&op->domain->saved, name, NULL, TRUE);
    return save_to(op, path, error);
}

/* --- all --- */

static gboolean remove_saved(Op *op, const char *file, GError **error)
{
    if (op->domain->saved.path) {
        power_forget_saved(op);
        return op_commit(op, error, "managedsave-remove");
    }
    snap_set_error(error, ENOENT, "it has no managed save");
    return FALSE;
}

static const Power powers[] = {
    {POWER_START, "start", OFF, start},
    {POWER_START_PAUSED, "start", OFF, start_paused},
    {POWER_RESTORE, "restore", OFF, restore},
    {POWER_SHUTDOWN, "shutdown", ON, press, TRUE},
    {POWER_DESTROY, "destroy", ON, end, TRUE},
    {POWER_PAUSE, "pause", ON, pause_it, TRUE},
    {POWER_RESUME, "resume", ON, resume},
    {POWER_SAVE, "save", ON, save},
    {POWER_MANAGEDSAVE, "managedsave", ON, managed_save},
    {POWER_MANAGEDSAVE_REMOVE, "managedsave-remove", EITHER, remove_saved},
};

static gboolean check_runs(const Op *op, const Power *power, GError **error)
{
    if (power->needs == EITHER || power->needs == (op->machine ? ON : OFF))
        return TRUE;
    if (power->needs == ON)
        snap_set_error(error, ESRCH, "domain is not running");
    else
        snap_set_error(error, EBUSY, "domain is running");
    return FALSE;
}

gboolean core_power(Engine *engine, EngineId id, PowerAction action, const char *file, GCancellable *cancel,
                    GError **error)
{
    const Power *power = powers;
    while (power->action != action)
        power++;
    Core *core = (Core *)engine;
    g_autofree char *what = file ? g_strdup_printf("%s '%s'", power->what, file) : g_strdup(power->what);
    g_autoptr(Op) op = power->alone ? op_begin_machine(core, id, cancel, error, what)
                                    : op_begin(core, id, cancel, error, "%s", what);
    return op && op_find_machine(op, error) && check_runs(op, power, error) && power->act(op, file, error);
}
