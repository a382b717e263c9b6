/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "instant.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "error.h"
#include "power.h"
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

/* Those of the changes that put an overlay on a disk, or those that take an internal state of it. */
static GArray *select_changes(const GArray *changes, gboolean overlays)
{
    GArray *selected = g_array_new(FALSE, FALSE, sizeof(MachineChange));
    for (guint i = 0; i < changes->len; i++)
        if ((g_array_index(changes, MachineChange, i).overlay != NULL) == overlays)
            g_array_append_val(selected, g_array_index(changes, MachineChange, i));
    return selected;
}

static gboolean outcome_is_known(const GError *why)
{
    int code = snap_errno(why);
    return code != ECONNRESET && code != EPROTO && code != EINTR && code != ETIMEDOUT;
}

/* It is recorded before that it may happen. */
static gboolean switch_disks(const Taking *taking, const GArray *changes, GError **error)
{
    Plan *plan = taking->op->plan;
    GError *why = NULL;
    if (changes->len == 0)
        return TRUE;
    if (!plan_ask(plan, error))
        return FALSE;
    if (taking->machine->ops->change(taking->machine, changes, &why))
        return TRUE;
    if (outcome_is_known(why))
        (void)plan_answer_no(plan, NULL); /* if that fails the plan is stuck, and asks later */
    g_propagate_error(error, why);
    return FALSE;
}

/*
 * The memory in a file, and the disks. A migration takes the images away from QEMU until it goes on, so internal states must be
 * taken before, by a machine that stands: as with a checkpoint, it is the plan that takes them back.
 */
static gboolean save_with_memory(const Taking *taking, GError **error)
{
    g_autoptr(GArray) tags = select_changes(taking->instant->changes, FALSE);
    g_autoptr(GArray) overlays = select_changes(taking->instant->changes, TRUE);
    return (tags->len == 0 || taking->machine->ops->change(taking->machine, tags, error)) &&
           save_memory(taking, error) && switch_disks(taking, overlays, error);
}

/* --- all of it --- */

static gboolean has_tags(const GArray *changes)
{
    for (guint i = 0; i < changes->len; i++)
        if (g_array_index(changes, MachineChange, i).tag)
            return TRUE;
    return FALSE;
}

/* For more than one thing to be of one instant. A migration stops the machine by itself, at its beginning or its end. */
static gboolean must_stand(const Instant *instant)
{
    if (instant->memory == MODE_EXTERNAL)
        return has_tags(instant->changes);
    return instant->halt || (instant->memory == MODE_INTERNAL && instant->changes->len > 0);
}

static gboolean take(Taking *taking, GError **error)
{
    const Instant *instant = taking->instant;
    Machine *machine = taking->machine;
    if (instant->quiesce) {
        taking->frozen = TRUE; /* or perhaps: who says no may have done it in part */
        if (!machine->ops->freeze(machine, taking->op->cancel, error))
            return FALSE;
    }
    if (must_stand(instant) && !machine->ops->pause(machine, error))
        return FALSE;
    if (instant->memory == MODE_EXTERNAL)
        return save_with_memory(taking, error);
    if (instant->memory == MODE_INTERNAL && !save_checkpoint(taking, error))
        return FALSE;
    return switch_disks(taking, instant->changes, error);
}

/* As it was before. What fails here cannot take the snapshot back: the log says it. */
static void go_on(Op *op, Machine *machine, const Instant *instant, gboolean frozen)
{
    g_autoptr(GError) why = NULL;
    if (instant->before == RUN_RUNNING && machine->ops->resume(machine, &why))
        machines_note(op->core, op->uuid, RUN_RUNNING); /* of the pause others may have been told */
    else if (why)
        core_log(op->core, op->job->domain, "the machine does not go on: %s", why->message);
    g_clear_error(&why);
    if (frozen && !machine->ops->thaw(machine, &why))
        core_log(op->core, op->job->domain, "the guest's file systems could not be thawed: %s", why->message);
}

gboolean instant_take(Op *op, const Instant *instant, GError **error)
{
    Taking taking = {.op = op, .instant = instant, .machine = op->machine};
    g_autoptr(GError) why = NULL;
    if (instant->quiesce && instant->before != RUN_RUNNING) {
        snap_set_error(error, EBUSY, "quiesce: the machine is paused, its agent cannot answer");
        return FALSE;
    }
    if (!op_ready(op, error))
        return FALSE;
    gboolean ok = take(&taking, &why);
    if (!ok && !outcome_is_known(why) && (plan_asked(op->plan) || why->code != EINTR)) {
        g_autoptr(GError) unknown = NULL;
        if (!op_ask_again(op, &ok, &unknown))
            g_prefix_error(&why, "what has happened is not known (%s): ", unknown->message);
        taking.machine = op->machine;
    }
    if (taking.machine && !(ok && instant->halt))
        go_on(op, taking.machine, instant, taking.frozen);
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&why));
    return ok;
}

void instant_end(Op *op, const Instant *instant, gboolean committed)
{
    g_autoptr(GError) why = NULL;
    if (!op->machine || !instant->halt)
        return;
    if (!committed)
        go_on(op, op->machine, instant, instant->quiesce);
    else if (!power_end(op, &why))
        core_log(op->core, op->job->domain, "the machine could not be ended: %s", why->message);
}
