/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A check from its beginning to its end: journals, domains, and the order of the parts. */
#include "checkup.h"

#include <string.h>

#include "check_run.h"
#include "error.h"
#include "recover.h"

#define FROM_BACKUP                                                                                          \
    "restore the file from a backup of the store; as long as it is so, the domain is read-only (README, "    \
    "When "                                                                                                  \
    "something is broken)"

enum { JOURNAL_WAITS = 1, JOURNAL_UNREADABLE };

/* --- operations that a crash cut short --- */

static gboolean mend_journal(Check *check, gpointer data, GError **error)
{
    const char *name = data;
    Core *core = check->core;
    g_autoptr(GError) why = NULL;
    recovery_load_domain(core, name);
    g_autoptr(Plan) plan = plan_read_journal(core->store, core->backend, name, &why);
    if (!plan && !why)
        return TRUE;
    const Domain *shown = g_hash_table_lookup(core->by_name, name);
    snap_set_error(error, EIO, "%s",
                   shown && shown->broken ? shown->broken : "the reason is in the log of the store");
    return FALSE;
}

static char *describe_steps(const Plan *plan)
{
    GString *text = g_string_new(NULL);
    const GPtrArray *steps = plan_steps(plan);
    for (guint i = 0; i < steps->len; i++) {
        g_autofree char *step = step_describe(steps->pdata[i]);
        g_string_append_printf(text, "%s%s", i ? ", " : "", step);
    }
    return g_string_free(text, FALSE);
}

/* What the operation may have made, or be about to take away. */
static void expect_paths(Check *check, const GPtrArray *steps)
{
    for (guint i = 0; i < steps->len; i++) {
        const Step *step = steps->pdata[i];
        const char *const paths[] = {step->path, step->temp, step->source, step->keep};
        for (guint k = 0; k < G_N_ELEMENTS(paths); k++)
            if (paths[k])
                g_hash_table_add(check->expected, g_strdup(paths[k]));
    }
}

static void set_under_way(Check *check, const char *name, guint how)
{
    g_hash_table_insert(check->under_way, g_strdup(name), GUINT_TO_POINTER(how));
}

static guint is_under_way(const Check *check, const Domain *domain)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(check->under_way, domain->name));
}

static void check_journal(Check *check, const char *name)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *path = store_domain_file(check->core->store, name, "journal.json");
    const CheckPlace place = {.domain = name, .file = path};
    g_autoptr(Plan) plan = plan_read_journal(check->core->store, check->core->backend, name, &why);
    if (why) {
        check_problem(check, &place,
                      "restore it from a backup; without one, look into the domain's log and at its images, "
                      "and remove the file when every disk is what it should be",
                      "%s: what was under way is not known", why->message);
        set_under_way(check, name, JOURNAL_UNREADABLE);
        check->unread = TRUE;
    }
    if (!plan)
        return;
    gboolean forward = plan_committed(plan);
    g_autofree char *steps = describe_steps(plan);
    expect_paths(check, plan_steps(plan));
    expect_paths(check, plan_afters(plan));
    if (!check_mendable(
            check, &place,
            forward ? "it is brought to its end, as by the next mount; the domain's images are "
                      "checked after that"
                    : "it is undone, as by the next mount; the domain's images are checked after that",
            mend_journal, (gpointer)name, "\"%s\" was cut short %s its commit (%s)", plan_what(plan),
            forward ? "after" : "before", *steps ? steps : "no steps"))
        set_under_way(check, name, JOURNAL_WAITS);
}

/* --- one domain's records --- */

static gboolean mend_current(Check *check, gpointer data, GError **error)
{
    Domain *domain = data;
    g_autofree char *path = store_domain_file(check->core->store, domain->name, "domain.json");
    g_autofree char *text = store_domain_json(domain);
    return file_replace(path, text, strlen(text), error);
}

static gboolean mend_name(Check *check, gpointer data, GError **error)
{
    return recovery_complete_rename(check->core, data, error);
}

/* Things that are safe to mend when everything else could be read. */
static void check_whole(Check *check, Domain *domain)
{
    const CheckPlace place = {.domain = domain->name};
    if (domain->broken)
        (void)check_mendable(
            check, &place,
            "there is no current snapshot then; make one current again by its document (redefine --current)",
            mend_current, domain, "%s", domain->broken);
    if (strcmp(domain->def->name, domain->name) != 0)
        (void)check_mendable(check, &place, "the name goes into the document, as at the next mount",
                             mend_name, domain, "its document calls it '%s': a rename was cut short",
                             domain->def->name);
}

static void load_domain(Check *check, const char *name)
{
    Core *core = check->core;
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    check_journal(check, name);
    Domain *domain = store_load_all(core->store, name, core_next_domain_id(core), problems);
    g_ptr_array_add(check->domains, domain);
    check->counts.domains++;
    if (is_under_way(check, domain) == JOURNAL_WAITS)
        return; /* its files may be between before and after */
    const CheckPlace place = {.domain = name};
    for (guint i = 0; i < problems->len; i++)
        check_problem(check, &place, FROM_BACKUP, "%s", (const char *)problems->pdata[i]);
    check->unread |= problems->len > 0;
    check->hands_off = is_under_way(check, domain);
    if (problems->len == 0)
        check_whole(check, domain);
    check->hands_off = FALSE;
}

static gboolean load_domains(Check *check, GError **error)
{
    g_autoptr(GPtrArray) names = store_list(check->core->store, error);
    if (!names)
        return FALSE;
    g_ptr_array_sort(names, check_compare_texts);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *dir = store_domain_dir(check->core->store, names->pdata[i]);
        if (g_file_test(dir, G_FILE_TEST_IS_DIR))
            load_domain(check, names->pdata[i]);
    }
    return TRUE;
}

/* --- the whole --- */

static void check_domain(Check *check, Domain *domain)
{
    guint journal = is_under_way(check, domain);
    if (journal == JOURNAL_WAITS)
        return;
    check->hands_off = journal == JOURNAL_UNREADABLE;
    check_documents(check, domain);
    check_layers(check, domain);
    store_check_layers(domain); /* from here on as after a mount */
    check_tags(check, domain);
    check->hands_off = FALSE;
}

static gboolean run(Check *check, GError **error)
{
    check_store_files(check);
    if (!load_domains(check, error))
        return FALSE;
    check_identities(check);
    for (guint i = 0; i < check->domains->len; i++)
        check_domain(check, check->domains->pdata[i]);
    check_clashes(check);
    check_orphans(check);
    return TRUE;
}

static GHashTable *text_set(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

gboolean check_store(const char *path, gboolean repair, Backend *backend, CheckTell tell, gpointer user,
                     CheckCounts *ret_counts, GError **error)
{
    Store *store = store_open_existing(path, repair, error);
    if (!store) {
        backend->ops->free(backend);
        return FALSE;
    }
    const CoreOptions options = {.store = path, .read_only = !repair};
    Check check = {.core = core_new(&options, store, backend),
                   .repair = repair,
                   .domains = g_ptr_array_new_with_free_func((GDestroyNotify)domain_free),
                   .under_way = text_set(),
                   .expected = text_set(),
                   .known = text_set(),
                   .tell = tell,
                   .user = user};
    gboolean ok = run(&check, error);
    if (ok)
        *ret_counts = check.counts;
    g_ptr_array_unref(check.domains);
    g_hash_table_unref(check.under_way);
    g_hash_table_unref(check.expected);
    g_hash_table_unref(check.known);
    check.core->engine.ops->free(&check.core->engine);
    return ok;
}
