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

/* The machine as it is now, the old connection being of no use; *ret_happened. */
static gboolean ask_again(Taking *taking, gboolean *ret_happened, GError **error)
{
    Op *op = taking->op;
    Core *core = op->core;
    Machine *machine = NULL;
    g_mutex_lock(&core->lock);
    g_autoptr(Domain) shown = domain_copy(g_hash_table_lookup(core->domains, &op->id));
    g_mutex_unlock(&core->lock);
    if (!machines_answer(core, shown, op->plan, &machine, error))
        return FALSE;
    machine_free(op->machine);
    op->machine = machine;
    taking->machine = machine;
    *ret_happened = plan_committed(op->plan);
    return TRUE;
}

/* Those of the changes that take internal snapshots; or, if not @tags, those that switch to overlays. */
static GArray *changes_of(const Instant *instant, gboolean tags)
{
    GArray *some = g_array_new(FALSE, FALSE, sizeof(MachineChange));
    for (guint i = 0; i < instant->changes->len; i++) {
        const MachineChange *change = &g_array_index(instant->changes, MachineChange, i);
        if ((change->tag != NULL) == tags)
            g_array_append_val(some, *change);
    }
    return some;
}

/* Tags alone can be taken back at any time: nothing is asked. */
static gboolean take_tags(const Taking *taking, GError **error)
{
    g_autoptr(GArray) tags = changes_of(taking->instant, TRUE);
    return tags->len == 0 || taking->machine->ops->change(taking->machine, tags, error);
}

static gboolean change_disks(Taking *taking, const GArray *changes, GError **error)
{
    g_autoptr(GError) why = NULL;
    Op *op = taking->op;
    gboolean happened = FALSE;
    if (changes->len == 0)
        return TRUE;
    if (!plan_ask(op->plan, error))
        return FALSE;
    if (taking->machine->ops->change(taking->machine, changes, &why))
        return TRUE;
    if (outcome_is_known(why)) {
        (void)plan_answer_no(op->plan, NULL); /* if that fails the plan is stuck, and asks later */
    } else {
        g_autoptr(GError) unknown = NULL;
        if (!ask_again(taking, &happened, &unknown))
            g_prefix_error(&why, "whether it has happened is not known (%s): ", unknown->message);
    }
    if (happened)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* --- all of it --- */

static gboolean freeze(Taking *taking, GError **error)
{
    if (taking->instant->quiesce && !taking->machine->ops->freeze(taking->machine, taking->op->cancel, error))
        return FALSE;
    taking->frozen = taking->instant->quiesce;
    return TRUE;
}

/* All disks in one transaction. */
static gboolean take_disks(Taking *taking, GError **error)
{
    return freeze(taking, error) && change_disks(taking, taking->instant->changes, error);
}

/* While the machine stands: memory and internal disks, then the others. */
static gboolean take_checkpoint(Taking *taking, GError **error)
{
    const GArray *changes = taking->instant->changes;
    return (changes->len == 0 || taking->machine->ops->pause(taking->machine, error)) &&
           save_checkpoint(taking, error) && change_disks(taking, changes, error);
}

/*
 * Once its memory is written the machine has given its images away and can take no internal snapshots any more, only switch
 * to overlays: those come first, and the machine stands from then on.
 */
static gboolean take_memory(Taking *taking, GError **error)
{
    Machine *machine = taking->machine;
    g_autoptr(GArray) overlays = changes_of(taking->instant, FALSE);
    gboolean has_tags = overlays->len < taking->instant->changes->len;
    if (has_tags && taking->instant->live) {
        snap_set_error(error, EOPNOTSUPP, "live: disks that are internal need a machine that stands");
        return FALSE;
    }
    return (!has_tags || (machine->ops->pause(machine, error) && take_tags(taking, error))) &&
           save_memory(taking, error) && change_disks(taking, overlays, error);
}

static gboolean take(Taking *taking, GError **error)
{
    switch (taking->instant->memory) {
    case MODE_EXTERNAL:
        return take_memory(taking, error);
    case MODE_INTERNAL:
        return take_checkpoint(taking, error);
    default:
        return take_disks(taking, error);
    }
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
    g_autoptr(GError) why = NULL;
    gboolean ok = take(&taking, &why);
    if (!ok && !outcome_is_known(why) && !plan_asked(op->plan)) {
        op_find_machine_again(op); /* what is to be undone is undone by who has the images now */
        taking.machine = op->machine;
    }
    go_on(&taking, ok);
    if (why)
        g_propagate_error(error, g_steal_pointer(&why));
    return ok;
}
