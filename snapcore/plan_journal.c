/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The journal of a plan: to the store and from it (STORE.md has the form). */
#include "plan_parts.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "error.h"

typedef json_t *(*ToJson)(gconstpointer item);

/* NULL: one of them cannot be said in JSON. A journal without it would not undo it. */
static json_t *items_to_json(const GPtrArray *items, ToJson to_json)
{
    json_t *json = json_array();
    for (guint i = 0; i < items->len; i++) {
        if (json_array_append_new(json, to_json(items->pdata[i])) == 0)
            continue;
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *one_step(gconstpointer step)
{
    return step_to_json(step);
}

static json_t *one_write(gconstpointer item)
{
    const StoreWrite *write = item;
    return json_pack("{s:s, s:s?}", "file", write->file, "text", write->text);
}

static json_t *one_switch(gconstpointer item)
{
    const PlanSwitch *each = item;
    return json_pack("{s:s, s:s, s:s*}", "disk", each->disk, "from", each->from, "to", each->to);
}

static json_t *machine_to_json(const Plan *plan)
{
    const PlanMachine *machine = &plan->machine;
    if (!plan->has_machine)
        return json_null();
    return json_pack("{s:b, s:b, s:b, s:b}", "running", machine->running, "ends", machine->ends, "freezes",
                     machine->freezes, "begins", machine->begins);
}

static json_t *join_to_json(const PlanJoin *join)
{
    if (!join)
        return json_null();
    return json_pack("{s:s, s:s*, s:s, s:s*, s:s*}", "into", join->into, "path", join->path, "format",
                     image_format_to_string(join->format), "from", join->from, "to", join->to);
}

/* Caller frees, with free(). */
static char *journal_text(const Plan *plan, gboolean committed, gboolean asked, GError **error)
{
    json_t *json =
        json_pack("{s:i, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "version", 1, "what", plan->what,
                  "committed", (int)committed, "asked", (int)asked, "machine", machine_to_json(plan),
                  "switches", items_to_json(plan->switches, one_switch), "join", join_to_json(plan->join),
                  "steps", items_to_json(plan->steps, one_step), "after",
                  items_to_json(plan->after, one_step), "writes", items_to_json(plan->writes, one_write));
    if (!json) {
        snap_set_error(error, EILSEQ, "the journal: a name is not UTF-8");
        return NULL;
    }
    char *text = json_dumps(json, JSON_INDENT(1));
    json_decref(json);
    if (strlen(text) <= STORE_JSON_MAX)
        return text;
    snap_set_error(error, EFBIG, "the journal would be too large to be read again");
    free(text);
    return NULL;
}

static char *journal_path(const Plan *plan)
{
    return store_domain_file(plan->store, plan->domain, "journal.json");
}

gboolean plan_write_journal(const Plan *plan, GError **error)
{
    g_autofree char *path = journal_path(plan);
    char *text = journal_text(plan, plan->committed, plan->asked, error);
    gboolean ok = text && file_replace(path, text, strlen(text), error);
    free(text);
    return ok;
}

gboolean plan_ready_journal(Plan *plan, GError **error)
{
    g_autofree char *path = journal_path(plan);
    char *text = journal_text(plan, TRUE, FALSE, error);
    plan_forget_ready(plan);
    plan->ready = text ? file_replace_ready(path, text, strlen(text), error) : NULL;
    free(text);
    return plan->ready != NULL;
}

gboolean plan_take_ready(Plan *plan, GError **error)
{
    g_autofree char *path = journal_path(plan);
    return file_replace_now(path, plan->ready, error);
}

void plan_forget_ready(Plan *plan)
{
    if (plan->ready)
        (void)unlink(plan->ready);
    g_clear_pointer(&plan->ready, g_free);
}

static gboolean read_steps(GPtrArray *into, json_t *steps, GError **error)
{
    size_t i;
    json_t *json;
    json_array_foreach (steps, i, json) {
        Step *step = step_from_json(json, error);
        if (!step)
            return FALSE;
        g_ptr_array_add(into, step);
    }
    return TRUE;
}

/* Does the relative path @file stay below its directory? (a snapshot may well be called "a..b") */
static gboolean is_inside(const char *file)
{
    g_auto(GStrv) parts = g_strsplit(file, "/", -1);
    return !g_path_is_absolute(file) && !g_strv_contains((const char *const *)parts, "..");
}

static gboolean read_writes(GPtrArray *into, json_t *writes, GError **error)
{
    size_t i;
    json_t *json;
    json_array_foreach (writes, i, json) {
        const char *file;
        json_t *text = NULL;
        if (json_unpack(json, "{s:s, s:o}", "file", &file, "text", &text) < 0 || !is_inside(file) ||
            !(json_is_string(text) || json_is_null(text))) {
            snap_set_error(error, EINVAL, "a write that is not as the format says");
            return FALSE;
        }
        g_ptr_array_add(into, store_write_new(file, json_string_value(text)));
    }
    return TRUE;
}

static void read_machine(Plan *plan, json_t *json)
{
    int running = FALSE, ends = FALSE, freezes = FALSE, begins = FALSE;
    if (!json_is_object(json) || json_unpack(json, "{s:b, s:b, s:b, s?b}", "running", &running, "ends", &ends,
                                             "freezes", &freezes, "begins", &begins) < 0)
        return;
    plan_set_machine(plan, &(PlanMachine){running, ends, freezes, begins});
}

static gboolean is_path_or_null(const char *path)
{
    return !path || g_path_is_absolute(path);
}

static gboolean read_join(Plan *plan, json_t *json, GError **error)
{
    const char *into = NULL, *path = NULL, *format = NULL, *from = NULL, *to = NULL;
    PlanJoin join = {0};
    if (!json || json_is_null(json))
        return TRUE;
    if (json_unpack(json, "{s:s, s?s, s:s, s?s, s?s}", "into", &into, "path", &path, "format", &format,
                    "from", &from, "to", &to) < 0 ||
        !g_path_is_absolute(into) || !is_path_or_null(path) || !is_path_or_null(from) ||
        !is_path_or_null(to)) {
        snap_set_error(error, EINVAL, "a join that is not as the format says");
        return FALSE;
    }
    join = (PlanJoin){(char *)into, (char *)path, FORMAT_NONE, (char *)from, (char *)to};
    (void)image_format_from_string(format, &join.format);
    plan_set_join(plan, &join);
    return TRUE;
}

static gboolean read_switches(Plan *plan, json_t *switches, GError **error)
{
    size_t i;
    json_t *json;
    json_array_foreach (switches, i, json) {
        const char *disk, *from, *to = NULL;
        if (json_unpack(json, "{s:s, s:s, s?s}", "disk", &disk, "from", &from, "to", &to) < 0) {
            snap_set_error(error, EINVAL, "a switch that is not as the format says");
            return FALSE;
        }
        plan_add_switch(plan, disk, from, to);
    }
    return TRUE;
}

static Plan *parse_journal(const Store *store, Backend *backend, const char *domain, json_t *json,
                           GError **error)
{
    int version, committed, asked = FALSE;
    const char *what;
    json_t *steps, *after, *writes, *switches = NULL;
    if (json_unpack(json, "{s:i, s:s, s:b, s?b, s?o, s:o, s:o, s:o}", "version", &version, "what", &what,
                    "committed", &committed, "asked", &asked, "switches", &switches, "steps", &steps, "after",
                    &after, "writes", &writes) < 0 ||
        version != 1 || !json_is_array(steps) || !json_is_array(after) || !json_is_array(writes)) {
        snap_set_error(error, EINVAL, "not as the format says");
        return NULL;
    }
    g_autoptr(Plan) plan = plan_new(store, backend, domain, what);
    if (!read_steps(plan->steps, steps, error) || !read_steps(plan->after, after, error) ||
        !read_writes(plan->writes, writes, error) || !read_switches(plan, switches, error) ||
        !read_join(plan, json_object_get(json, "join"), error))
        return NULL;
    plan->committed = committed;
    plan->asked = plan->found_asked = asked && !committed;
    read_machine(plan, json_object_get(json, "machine"));
    return g_steal_pointer(&plan);
}

Plan *plan_read_journal(const Store *store, Backend *backend, const char *domain, GError **error)
{
    g_autofree char *path = store_domain_file(store, domain, "journal.json");
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    gsize len;
    if (!file_load(path, STORE_JSON_MAX, &text, &len, &why)) {
        if (snap_errno(why) != ENOENT)
            g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    json_error_t at;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
    if (!json) {
        snap_set_error(error, EINVAL, "journal '%s', line %d: %s", path, at.line, at.text);
        return NULL;
    }
    Plan *plan = parse_journal(store, backend, domain, json, error);
    if (!plan)
        g_prefix_error(error, "journal '%s': ", path);
    json_decref(json);
    return plan;
}
