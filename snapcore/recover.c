/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "recover.h"

#include <errno.h>
#include <string.h>

#include "adopt.h"
#include "error.h"
#include "leftovers.h"
#include "machines.h"
#include "merger.h"
#include "strays.h"

/* A mount that is used at once by a script shall find everything in order, if that takes no longer. */
#define GRACE (2 * G_USEC_PER_SEC)

#define PARALLEL 8

/* A domain whose journal is being brought to its end. */
typedef struct {
    Core *core;
    Op *op; /* keeps the name busy */
    char *name;
    Domain *domain; /* what will be shown */
    Plan *plan;
} Recovery;

static void recovery_free(Recovery *recovery)
{
    plan_free(recovery->plan);
    domain_free(recovery->domain);
    op_free(recovery->op);
    g_free(recovery->name);
    g_free(recovery);
}

gboolean recovery_complete_rename(Core *core, Domain *domain, GError **error)
{
    if (strcmp(domain->def->name, domain->name) == 0)
        return TRUE;
    domain_def_set_name(domain->def, domain->name);
    g_autofree char *text = domain_def_format(domain->def);
    g_autofree char *path = store_domain_file(core->store, domain->name, "domain.xml");
    if (core->read_only)
        return TRUE;
    if (!file_replace(path, text, strlen(text), error))
        return FALSE;
    domain->xml_size = strlen(text);
    return TRUE;
}

/* What a crash, or a failure, left behind: files that should have gone, write bits that a merge needed. */
static void clean_up(Core *core, Domain *domain)
{
    GHashTableIter iter;
    gpointer value;
    if (leftovers_remove(core->backend, domain)) {
        g_autofree char *path = store_domain_file(core->store, domain->name, "domain.json");
        g_autofree char *text = store_domain_json(domain);
        (void)file_replace(path, text, strlen(text), NULL);
    }
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        if (layer->mixed && layer->frozen)
            (void)file_set_mode(layer->path, layer->mode & ~0222u, NULL);
    }
}

/* Look at the images of @domain (taken over), show it, and say what is wrong. @why: with its journal, or NULL. */
static void check_and_show(Core *core, Domain *domain, const GError *why, gboolean stuck)
{
    EngineId id = domain->object.id;
    g_autofree char *name = g_strdup(domain->name);
    if (!core->read_only && !why)
        clean_up(core, domain);
    if (!stuck) /* else files are not yet what the documents say */
        store_check_layers(domain);
    if (why && !domain->broken) {
        domain->broken = g_strdup(why->message);
        domain->stuck = stuck; /* the next operation tries again */
    }
    strays_look(core->backend, domain);
    g_autofree char *broken = g_strdup(domain->broken);
    g_autoptr(GPtrArray) missing = domain_missing_images(domain);
    g_autoptr(GPtrArray) strays = strays_tell(domain, NULL);
    core_show(core, domain);
    g_mutex_lock(&core->lock);
    merger_schedule(core->merger, id);
    g_mutex_unlock(&core->lock);
    if (broken)
        core_log(core, name, "read-only: %s", broken);
    core_log_missing(core, name, missing);
    core_log_strays(core, name, strays);
}

/* Take an imported domain over if libvirt has let go of it; if not, say why. */
static void try_adopt(Core *core, const char *name)
{
    g_mutex_lock(&core->lock);
    const Domain *shown = g_hash_table_lookup(core->by_name, name);
    g_autoptr(Domain) domain = shown && shown->libvirt && !shown->broken ? domain_copy(shown) : NULL;
    g_mutex_unlock(&core->lock);
    if (!domain)
        return;
    EngineId id = domain->object.id;
    g_autoptr(GError) why = NULL;
    if (!core->read_only) {
        g_autoptr(Op) op G_GNUC_UNUSED = op_begin(core, id, NULL, &why, "adopt");
    } else if (!adopt_check_released(domain, &why)) {
        core_note_held(core, id, why->message);
    } else {
        core_note_held(core, id, "libvirt does not define it any more: mount once without -o ro");
    }
}

/* Bring the journal to its end, forward or back. Takes @recovery. */
static void recover(Recovery *recovery)
{
    Core *core = recovery->core;
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    g_autoptr(GError) why = NULL;
    g_autofree char *what = g_strdup(plan_what(recovery->plan));
    gboolean known =
        machines_answer_soon(core, recovery->domain, recovery->plan, &recovery->op->machine, &why);
    gboolean forward = plan_committed(recovery->plan);
    if (!known || !plan_recover(recovery->plan, failed, &why) ||
        (forward && !op_settle(core, &recovery->domain, recovery->plan, &why)))
        g_prefix_error(&why, "'%s', cut short by a crash, could not be brought to an end: ", what);
    else if (recovery->op->machine)
        machines_bring_back(core, recovery->domain, recovery->plan, recovery->op->machine);
    check_and_show(core, g_steal_pointer(&recovery->domain), why, why != NULL);
    if (!why)
        core_log(core, recovery->name, "recovered: %s %s", what, forward ? "completed" : "undone");
    recovery_free(recovery);
}

/* In a thread. */
static void work(gpointer data, gpointer user)
{
    Core *core = user;
    g_autofree char *name = g_strdup(((Recovery *)data)->name);
    recover(data);
    try_adopt(core, name);
    g_mutex_lock(&core->lock);
    core->recovering--;
    g_cond_broadcast(&core->idle);
    g_mutex_unlock(&core->lock);
}

/* Show @domain (taken over) as its documents say, and have @plan (taken over) brought to its end in a thread later. */
static void put_off(Core *core, Domain *domain, Plan *plan, GPtrArray *recoveries)
{
    Recovery *recovery = g_new0(Recovery, 1);
    recovery->core = core;
    recovery->name = g_strdup(domain->name);
    recovery->op = op_begin_name(core, domain->name, NULL, NULL, "recover from a crash: %s", plan_what(plan));
    recovery->domain = domain_copy(domain);
    recovery->plan = plan;
    core_show(core, domain);
    g_ptr_array_add(recoveries, recovery);
}

static void load_domain(Core *core, const char *name, GPtrArray *recoveries)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GError) unreadable = NULL;
    g_autoptr(Plan) plan = plan_read_journal(core->store, core->backend, name, &why);
    gboolean committed = plan && plan_committed(plan);
    if (plan && core->read_only)
        snap_set_error(&why, EROFS, "'%s' was cut short by a crash; mount once without -o ro",
                       plan_what(plan));
    else if (committed &&
             !plan_owes(plan)) /* else a guest may still have to be started as the old ones say */
        (void)plan_write_files(plan, &why);

    Domain *domain = store_load(core->store, name, core_next_domain_id(core), &unreadable);
    if (!domain || (committed && core->read_only)) { /* files between before and after */
        core_log(core, NULL, "domain '%s' cannot be shown: %s", name,
                 domain ? why->message : unreadable->message);
        domain_free(domain);
        return;
    }
    (void)recovery_complete_rename(core, domain, NULL);
    if (plan && !why)
        put_off(core, domain, g_steal_pointer(&plan), recoveries);
    else
        check_and_show(core, domain, why, FALSE);
}

/* Begin, and give what is quickly done the time for it. */
static void begin(Core *core, const GPtrArray *recoveries)
{
    if (recoveries->len == 0)
        return;
    core->recoveries = g_thread_pool_new(work, core, PARALLEL, FALSE, NULL);
    core->recovering = recoveries->len;
    for (guint i = 0; i < recoveries->len; i++)
        g_thread_pool_push(core->recoveries, recoveries->pdata[i], NULL);
    gint64 end = g_get_monotonic_time() + GRACE;
    g_mutex_lock(&core->lock);
    while (core->recovering > 0 && g_cond_wait_until(&core->idle, &core->lock, end))
        ;
    g_mutex_unlock(&core->lock);
}

void recovery_load_domain(Core *core, const char *name)
{
    g_autoptr(GPtrArray) recoveries = g_ptr_array_new();
    load_domain(core, name, recoveries);
    for (guint i = 0; i < recoveries->len; i++)
        recover(recoveries->pdata[i]);
}

gboolean recovery_open(Core *core, GError **error)
{
    g_autoptr(GPtrArray) names = store_list(core->store, error);
    g_autoptr(GPtrArray) recoveries = g_ptr_array_new();
    g_autoptr(GHashTable) later = g_hash_table_new(g_str_hash, g_str_equal);
    if (!names)
        return FALSE;
    for (guint i = 0; i < names->len; i++)
        load_domain(core, names->pdata[i], recoveries);
    for (guint i = 0; i < recoveries->len; i++)
        g_hash_table_add(later, ((Recovery *)recoveries->pdata[i])->name);
    for (guint i = 0; i < names->len; i++) /* when all are known: they may share images */
        if (!g_hash_table_contains(later, names->pdata[i]))
            try_adopt(core, names->pdata[i]);
    begin(core, recoveries);
    return TRUE;
}

void recovery_end(Core *core)
{
    if (core->recoveries)
        g_thread_pool_free(core->recoveries, FALSE, TRUE);
    core->recoveries = NULL;
}
