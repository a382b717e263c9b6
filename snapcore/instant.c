/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "instant.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "error.h"
#include "saveimage.h"

typedef struct {
    Op *op;
    const Instant *instant;
    Machine *machine;
    gboolean frozen;
} Taking;

/* --- memory --- */

static void tell_progress(gpointer user, double part)
{
    op_progress(user, (guint64)(part * 1000), 1000);
}

static gboolean save_memory(const Taking *taking, GError **error)
{
    const Instant *instant = taking->instant;
    const BackendProgress progress = {tell_progress, taking->op};
    int fd = file_open_image(instant->memory_file, O_RDWR, error);
    if (fd < 0)
        return FALSE;
    gboolean ok = saveimage_begin(fd, instant->def, instant->before == RUN_RUNNING, error) &&
                  taking->machine->ops->memory_save(taking->machine, fd, instant->live, &progress,
                                                    taking->op->cancel, error) &&
                  saveimage_finish(fd, error);
    close(fd);
    if (!ok)
        g_prefix_error(error, "memory: ");
    return ok;
}

static gboolean save_checkpoint(const Taking *taking, GError **error)
{
    const Instant *instant = taking->instant;
    const MachineCheckpoint checkpoint = {instant->tag, (const char *const *)instant->targets->pdata,
                                          instant->memory_file};
    return taking->machine->ops->checkpoint_save(taking->machine, &checkpoint, error);
}

/* --- disks --- */

static gboolean outcome_is_known(const GError *why)
{
    int code = snap_errno(why);
    return code != ECONNRESET && code != EPROTO && code != EINTR && code != ETIMEDOUT;
}

static gboolean change_disks(Taking *taking, GError **error)
{
    g_autoptr(GError) why = NULL;
    Op *op = taking->op;
    gboolean happened = FALSE;
    if (!plan_ask(op->plan, error))
        return FALSE;
    if (taking->machine->ops->change(taking->machine, taking->instant->changes, &why))
        return TRUE;
    if (outcome_is_known(why)) {
        (void)plan_answer_no(op->plan, NULL); /* if that fails the plan is stuck, and asks later */
    } else {
        g_autoptr(GError) unknown = NULL;
        if (!op_ask_again(op, &happened, &unknown))
            g_prefix_error(&why, "whether it has happened is not known (%s): ", unknown->message);
        taking->machine = op->machine;
    }
    if (happened)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* --- all of it --- */

static gboolean stands_still(const Instant *instant)
{
    return instant->memory == MODE_INTERNAL && instant->changes->len > 0;
}

static gboolean take(Taking *taking, GError **error)
{
    const Instant *instant = taking->instant;
    Machine *machine = taking->machine;
    if (instant->quiesce) {
        if (!machine->ops->freeze(machine, taking->op->cancel, error))
            return FALSE;
        taking->frozen = TRUE;
    }
    if (stands_still(instant) && !machine->ops->pause(machine, error))
        return FALSE;
    if (instant->memory == MODE_EXTERNAL && !save_memory(taking, error))
        return FALSE;
    if (instant->memory == MODE_INTERNAL && !save_checkpoint(taking, error))
        return FALSE;
    return instant->changes->len == 0 || change_disks(taking, error);
}

/* As it was before, or ended. What fails here cannot take the snapshot back: the log says it. */
static void go_on(Taking *taking, gboolean ok)
{
    Machine *machine = taking->machine;
    Core *core = taking->op->core;
    const char *name = taking->op->job->domain;
    g_autoptr(GError) why = NULL;
    if (!machine)
        return;
    gboolean halt = ok && taking->instant->halt;
    if (halt ? !machine->ops->destroy(machine, NULL, &why)
             : taking->instant->before == RUN_RUNNING && !machine->ops->resume(machine, &why))
        core_log(core, name, "the machine %s: %s", halt ? "could not be ended" : "does not go on",
                 why->message);
    g_clear_error(&why);
    if (taking->frozen && !halt && !machine->ops->thaw(machine, &why))
        core_log(core, name, "the guest's file systems could not be thawed: %s", why->message);
    if (halt)
        op_forget_machine(taking->op);
}

gboolean instant_take(Op *op, const Instant *instant, GError **error)
{
    Taking taking = {.op = op, .instant = instant, .machine = op->machine};
    if (instant->quiesce && instant->before != RUN_RUNNING) {
        snap_set_error(error, EBUSY, "quiesce: the machine is paused, its agent cannot answer");
        return FALSE;
    }
    gboolean ok = take(&taking, error);
    go_on(&taking, ok);
    return ok;
}
