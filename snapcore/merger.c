/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "merger.h"

#include <errno.h>

#include "error.h"
#include "merge.h"
#include "merge_job.h"

/* What is due, or runs, for one domain. */
typedef struct {
    EngineId id;
    gint64 due;            /* monotonic, microseconds */
    GCancellable *running; /* NULL: it waits */
    gboolean again;        /* the domain changed while it ran */
    gboolean called_off;   /* the user cancelled it */
    guint blocked;         /* how often in a row somebody had an image that a merge needs */
    GHashTable *told;      /* what of that was logged */
} Due;

struct Merger {
    Core *core;
    gint64 idle; /* microseconds */
    gboolean stopping;
    GHashTable *dues; /* id -> Due */
    GCond changed;
    GThread *thread;
    GThreadPool *pool;
};

/* Who is in the way is asked again after 2, 4, ... 256 times the idle time. */
#define MAX_DELAY 8

static void due_free(Due *due)
{
    g_clear_object(&due->running);
    g_hash_table_unref(due->told);
    g_free(due);
}

/* Is there anything to do at all? Asked before a copy of the domain is made. Under the lock. */
static gboolean has_work(Core *core, EngineId id)
{
    const Domain *domain = g_hash_table_lookup(core->domains, &id);
    if (!domain || domain->broken || domain->libvirt)
        return FALSE;
    g_autoptr(GPtrArray) merges = merge_choose(domain);
    return merges->len > 0 || core_owes_tags(core, domain);
}

/* In a thread of the pool. */
static void work(gpointer data, gpointer user)
{
    Merger *merger = user;
    Core *core = merger->core;
    Due *due = data;
    g_autoptr(GError) why = NULL;
    gboolean gave_way =
        !merge_domain(core, due->id, due->told, due->running, &why) && snap_errno(why) == EINTR;
    gboolean blocked = merge_may_work_later(why);
    g_mutex_lock(&core->lock);
    due->blocked = blocked ? due->blocked + 1 : 0;
    /* It gave way, or must wait for somebody, or for room: later. Anything else does not get better by itself. */
    gboolean later = due->again || ((gave_way || blocked) && !due->called_off);
    if (later && !merger->stopping) {
        g_clear_object(&due->running);
        due->again = due->called_off = FALSE;
        due->due = g_get_monotonic_time() + (merger->idle << MIN(due->blocked, MAX_DELAY));
    } else {
        g_hash_table_remove(merger->dues, &due->id);
    }
    g_cond_broadcast(&merger->changed);
    g_cond_broadcast(&core->idle); /* somebody may wait for the merges' end */
    g_mutex_unlock(&core->lock);
}

/* Start what is due; the time when the next is. Under the lock. */
static gint64 start_due(Merger *merger)
{
    gint64 now = g_get_monotonic_time(), next = G_MAXINT64;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, merger->dues);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Due *due = value;
        if (due->running)
            continue;
        if (due->due > now) {
            next = MIN(next, due->due);
        } else if (has_work(merger->core, due->id)) {
            due->running = g_cancellable_new();
            g_thread_pool_push(merger->pool, due, NULL);
        } else {
            g_hash_table_iter_remove(&iter);
            g_cond_broadcast(&merger->core->idle);
        }
    }
    return next;
}

static gpointer wait_for_work(gpointer data)
{
    Merger *merger = data;
    Core *core = merger->core;
    g_mutex_lock(&core->lock);
    while (!merger->stopping) {
        gint64 next = start_due(merger);
        if (next == G_MAXINT64)
            g_cond_wait(&merger->changed, &core->lock);
        else
            g_cond_wait_until(&merger->changed, &core->lock, next);
    }
    g_mutex_unlock(&core->lock);
    return NULL;
}

Merger *merger_new(Core *core, guint idle_ms)
{
    Merger *merger = g_new0(Merger, 1);
    merger->core = core;
    merger->idle = (gint64)idle_ms * 1000;
    merger->dues = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, (GDestroyNotify)due_free);
    g_cond_init(&merger->changed);
    merger->pool = g_thread_pool_new(work, merger, (int)g_get_num_processors(), FALSE, NULL);
    merger->thread = g_thread_new("merger", wait_for_work, merger);
    return merger;
}

void merger_free(Merger *merger)
{
    if (!merger)
        return;
    g_mutex_lock(&merger->core->lock);
    merger->stopping = TRUE;
    g_cond_broadcast(&merger->changed);
    g_autoptr(GPtrArray) running = g_ptr_array_new_with_free_func(g_object_unref);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, merger->dues);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((Due *)value)->running)
            g_ptr_array_add(running, g_object_ref(((Due *)value)->running));
    g_mutex_unlock(&merger->core->lock);
    for (guint i = 0; i < running->len; i++)
        g_cancellable_cancel(running->pdata[i]);
    g_thread_join(merger->thread);
    g_thread_pool_free(merger->pool, FALSE, TRUE);
    g_hash_table_unref(merger->dues);
    g_cond_clear(&merger->changed);
    g_free(merger);
}

static Due *take_due(Merger *merger, EngineId id)
{
    Due *due = g_hash_table_lookup(merger->dues, &id);
    if (due)
        return due;
    due = g_new0(Due, 1);
    due->id = id;
    due->told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_insert(merger->dues, &due->id, due);
    return due;
}

void merger_schedule(Merger *merger, EngineId id)
{
    if (!merger || merger->stopping)
        return;
    Due *due = take_due(merger, id);
    due->due = g_get_monotonic_time() + merger->idle;
    due->again = due->running != NULL;
    due->blocked = 0;
    g_cond_broadcast(&merger->changed);
}

void merger_call_off(Merger *merger, EngineId id)
{
    Due *due = merger ? g_hash_table_lookup(merger->dues, &id) : NULL;
    if (due)
        due->called_off = TRUE;
}

void merger_retry(Merger *merger, EngineId id)
{
    Due *due = merger ? g_hash_table_lookup(merger->dues, &id) : NULL;
    if (due)
        due->blocked = 0;
}

gboolean merger_hurry(Merger *merger, EngineId id)
{
    Due *due = merger ? g_hash_table_lookup(merger->dues, &id) : NULL;
    if (!due || (due->blocked > 0 && !due->running))
        return FALSE;
    due->due = 0;
    g_cond_broadcast(&merger->changed);
    return TRUE;
}
