/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine as a whole: opening a store, recovering, what is shown, logs, jobs. */
#include "core.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "error.h"
#include "machines.h"
#include "merger.h"
#include "op.h"
#include "recover.h"
#include "strays.h"

/* Long enough for a script's next step, short enough that nobody wonders why nothing gets smaller. */
#define MERGE_IDLE_MS 3000

/* --- what is shown; under the lock --- */

void core_show(Core *core, Domain *domain)
{
    machines_watch(core, domain);
    g_mutex_lock(&core->lock);
    Domain *old = g_hash_table_lookup(core->domains, &domain->object.id);
    if (old) {
        g_hash_table_remove(core->by_name, old->name);
        g_hash_table_steal(core->domains, &old->object.id);
    }
    g_hash_table_insert(core->domains, &domain->object.id, domain);
    g_hash_table_insert(core->by_name, domain->name, domain);
    g_mutex_unlock(&core->lock);
    domain_free(old);
}

void core_hide(Core *core, EngineId id)
{
    g_mutex_lock(&core->lock);
    Domain *old = g_hash_table_lookup(core->domains, &id);
    if (old) {
        g_hash_table_remove(core->by_name, old->name);
        g_hash_table_steal(core->domains, &id);
    }
    g_mutex_unlock(&core->lock);
    if (old)
        machines_unwatch(core, old->def->uuid);
    domain_free(old);
}

EngineId core_next_domain_id(Core *core)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    return ++core->last_number << OBJECT_BITS;
}

void core_break(Core *core, EngineId id, const char *why)
{
    g_mutex_lock(&core->lock);
    Domain *domain = g_hash_table_lookup(core->domains, &id);
    gboolean news = domain && !domain->broken;
    g_autofree char *name = news ? g_strdup(domain->name) : NULL;
    if (news) {
        domain->broken = g_strdup(why);
        g_clear_pointer(&domain->tree, g_free);
    }
    g_mutex_unlock(&core->lock);
    if (news)
        core_log(core, name, "read-only: %s", why);
}

void core_note_held(Core *core, EngineId id, const char *why)
{
    g_mutex_lock(&core->lock);
    Domain *domain = g_hash_table_lookup(core->domains, &id);
    gboolean news = domain && g_strcmp0(domain->held, why) != 0;
    g_autofree char *name = news ? g_strdup(domain->name) : NULL;
    if (news) {
        g_free(domain->held);
        domain->held = g_strdup(why);
        g_clear_pointer(&domain->tree, g_free);
    }
    g_mutex_unlock(&core->lock);
    if (news)
        core_log(core, name, "read-only: %s", why);
}

/* Another domain that uses the image, or NULL. Under the lock. */
static const Domain *other_user(const Core *core, EngineId id, const char *path, const FileId *file,
                                gboolean active_only)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, core->domains);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Domain *domain = value;
        if (domain->object.id != id && domain_names_image(domain, path, file, active_only))
            return domain;
    }
    return NULL;
}

gboolean core_used_elsewhere(Core *core, EngineId id, const char *path, const FileId *file,
                             gboolean active_only, char **ret_domain)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    const Domain *other = other_user(core, id, path, file, active_only);
    if (other)
        *ret_domain = g_strdup(other->name);
    return other != NULL;
}

gboolean core_owes_tags(const Core *core, const Domain *domain)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        if (layer->stale->len > 0 && !layer_keeps_tags(layer) &&
            !other_user(core, domain->object.id, layer->path, &layer->file, FALSE))
            return TRUE;
    }
    return FALSE;
}

/* --- logs --- */

/* One line a message: what comes from outside may hold anything. */
static char *log_line(const char *text)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *stamp = g_date_time_format(now, "%Y-%m-%d %H:%M:%S %z");
    GString *line = g_string_new(stamp);
    g_string_append_c(line, ' ');
    for (const char *c = text; *c; c++)
        g_string_append_c(line, (guchar)*c < ' ' || *c == 127 ? ' ' : *c);
    g_string_append_c(line, '\n');
    return g_string_free(line, FALSE);
}

void core_log(Core *core, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *line = log_line(text);
    guint64 size;
    if (!store_log(core->store, name, line, &size, NULL))
        return; /* a full disk must not turn a failure's report into another failure */
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    Domain *domain = name ? g_hash_table_lookup(core->by_name, name) : NULL;
    if (domain)
        domain->log_size = size;
    else if (!name)
        core->log_size = size;
}

static void core_report(Engine *engine, EngineId id, const char *what, const GError *why)
{
    Core *core = (Core *)engine;
    g_mutex_lock(&core->lock);
    const Domain *domain = g_hash_table_lookup(core->domains, &id);
    g_autofree char *name = domain ? g_strdup(domain->name) : NULL;
    g_mutex_unlock(&core->lock);
    core_log(core, name, "FAILED %s: %s", what, why->message);
}

/* --- jobs --- */

/* No job at work on the domain, and nothing left to merge: what is due need not wait while somebody does. */
static gboolean is_quiet(Core *core, const Domain *domain)
{
    const Job *job = g_hash_table_lookup(core->busy, domain->name);
    gboolean merging = (!job || job->yields) && merger_hurry(core->merger, domain->object.id);
    return !job && !merging;
}

static gboolean core_wait(Engine *engine, EngineId id, GCancellable *cancel, GError **error)
{
    Core *core = (Core *)engine;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&core->lock);
    merger_retry(core->merger, id);
    for (;;) {
        const Domain *domain = g_hash_table_lookup(core->domains, &id);
        if (!domain || is_quiet(core, domain))
            return TRUE;
        if (g_cancellable_is_cancelled(cancel)) {
            snap_set_error(error, EINTR, "wait for '%s': interrupted", domain->name);
            return FALSE;
        }
        g_cond_wait_until(&core->idle, &core->lock, g_get_monotonic_time() + G_USEC_PER_SEC / 5);
    }
}

static gboolean core_cancel(Engine *engine, guint number, GError **error)
{
    Core *core = (Core *)engine;
    g_autoptr(GCancellable) cancel = NULL;
    g_autofree char *about = NULL, *what = NULL; /* of work that nobody asked for: nobody else will say it */
    g_mutex_lock(&core->lock);
    for (guint i = 0; i < core->jobs->len; i++) {
        const Job *job = core->jobs->pdata[i];
        if (job->number != number)
            continue;
        const Domain *domain = g_hash_table_lookup(core->by_name, job->domain);
        cancel = g_object_ref(job->cancel);
        if (!job->yields || !domain)
            continue;
        merger_call_off(core->merger, domain->object.id);
        about = g_strdup(job->domain);
        what = g_strdup(job->what);
    }
    g_mutex_unlock(&core->lock);
    if (about)
        core_log(core, about, "%s: cancelled, until something else is done here", what);
    if (!cancel) {
        snap_set_error(error, ENOENT, "there is no job %u", number);
        return FALSE;
    }
    g_cancellable_cancel(cancel);
    return TRUE;
}

static void core_set_gone(Engine *engine, EngineGone gone, gpointer user)
{
    Core *core = (Core *)engine;
    core->gone = gone;
    core->gone_user = user;
}

void core_log_missing(Core *core, const char *name, const GPtrArray *missing)
{
    for (guint i = 0; i < MIN(missing->len, STRAYS_TOLD); i++)
        core_log(core, name, "missing image: '%s'", (const char *)missing->pdata[i]);
    if (missing->len > STRAYS_TOLD)
        core_log(core, name, "missing images: %u more", missing->len - STRAYS_TOLD);
}

void core_log_strays(Core *core, const char *name, const GPtrArray *strays)
{
    for (guint i = 0; i < strays->len; i++)
        core_log(core, name, "%s", (const char *)strays->pdata[i]);
}

/* --- opening --- */

static void core_free(Engine *engine)
{
    Core *core = (Core *)engine;
    recovery_end(core);
    merger_free(core->merger);
    machines_stop(core);
    core->backend->ops->free(
        core->backend); /* and with it a thread that may still be telling us of a machine */
    g_hash_table_unref(core->by_name);
    g_hash_table_unref(core->domains);
    g_hash_table_unref(core->busy);
    g_hash_table_unref(core->states);
    g_ptr_array_unref(core->jobs);
    store_close(core->store);
    g_strfreev(core->backing_dirs);
    g_free(core->mountpoint);
    g_mutex_clear(&core->lock);
    g_cond_clear(&core->idle);
    g_free(core);
}

static const EngineOps core_ops = {
    .list = core_list,
    .find = core_find,
    .look = core_look,
    .name = core_name,
    .disks = core_disks,
    .chain_file = core_chain_file,
    .stat_layer = core_stat_layer,
    .open_layer = core_open_layer,
    .stat_content = core_stat_content,
    .open_content = core_open_content,
    .stat_file = core_stat_file,
    .open_file = core_open_file,
    .text_size = core_text_size,
    .text = core_text,
    .define = core_define,
    .undefine = core_undefine,
    .rename = core_rename,
    .create = core_create,
    .revert = core_revert,
    .delete = core_delete,
    .redefine = core_redefine,
    .describe = core_describe,
    .power = core_power,
    .wait = core_wait,
    .cancel = core_cancel,
    .report = core_report,
    .set_gone = core_set_gone,
    .free = core_free,
};

Core *core_new(const CoreOptions *options, Store *store, Backend *backend)
{
    Core *core = g_new0(Core, 1);
    core->engine.ops = &core_ops;
    core->store = store;
    core->backend = backend;
    core->read_only = options->read_only;
    core->snapshot = options->snapshot;
    core->disk_only = options->disk_only;
    core->backing_dirs = g_strdupv(options->backing_dirs);
    core->mountpoint = g_strdup(options->mountpoint);
    g_mutex_init(&core->lock);
    g_cond_init(&core->idle);
    core->domains = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, (GDestroyNotify)domain_free);
    core->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    core->busy = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    core->states = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    core->jobs = g_ptr_array_new();
    g_autofree char *log = store_log_path(store, NULL);
    FileLook look;
    core->log_size = file_look(log, &look, NULL) ? look.stamp.size : 0;
    return core;
}

Engine *core_engine_new(const CoreOptions *options, Backend *backend, GError **error)
{
    Store *store = store_open(options->store, error);
    if (!store) {
        backend->ops->free(backend);
        return NULL;
    }
    Core *core = core_new(options, store, backend);
    if (!core->read_only)
        core->merger = merger_new(core, options->merge_idle_ms ? options->merge_idle_ms : MERGE_IDLE_MS);
    machines_start(core);
    if (recovery_open(core, error))
        return &core->engine;
    core_free(&core->engine);
    return NULL;
}
