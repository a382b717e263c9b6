/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plans and the journal by themselves: do, undo, commit, settle, recover; and journals that are damaged. */
#include <glib/gstdio.h>

#include "engine_world.h"
#include "runner.h"

/* A store with one domain "d", and images, without an engine. */
typedef struct {
    char *dir;
    Store *store;
    Backend *backend;
    char *a, *b; /* qcow2 images; with "plan" as their own content, and one tag "old" in a */
} Desk;

static char *desk_path(const Desk *desk, const char *file)
{
    return g_build_filename(desk->dir, file, NULL);
}

static char *desk_image(const Desk *desk, const char *file)
{
    char *path = desk_path(desk, file);
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL);
    write_pattern(path, 7, "0 64k");
    g_chmod(path, 0640);
    return path;
}

static Desk *desk_new(char *dir)
{
    Desk *desk = g_new0(Desk, 1);
    g_autoptr(GError) error = NULL;
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autoptr(GPtrArray) writes = g_ptr_array_new_with_free_func((GDestroyNotify)store_write_free);
    desk->dir = dir;
    g_mkdir_with_parents(dir, 0755);
    desk->store = store_open(store, &error);
    ck_assert_msg(desk->store != NULL, "%s", error ? error->message : "?");
    g_ptr_array_add(writes, store_write_new("domain.xml", "<domain/>"));
    g_ptr_array_add(writes, store_write_new("snapshots/old.xml", "old"));
    ASSERT_OK(store_add_domain(desk->store, "d", writes, &error), error);
    desk->backend = spy_new(offline_backend_new(NULL));
    desk->a = desk_image(desk, "a.qcow2");
    desk->b = desk_image(desk, "b.qcow2");
    tool("qemu-img", "snapshot", "-c", "old", desk->a, NULL);
    write_pattern(desk->a, 8, "0 64k");
    return desk;
}

static void desk_free(Desk *desk)
{
    desk->backend->ops->free(desk->backend);
    store_close(desk->store);
    g_free(desk->a);
    g_free(desk->b);
    remove_tree(desk->dir);
    g_free(desk->dir);
    g_free(desk);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Desk, desk_free)

#define DESK() desk_new(PATH("desk"))

static char *store_text(const Desk *desk, const char *file)
{
    g_autofree char *path = store_domain_file(desk->store, "d", file);
    char *text = NULL;
    (void)g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

static gboolean has_journal(const Desk *desk)
{
    g_autofree char *text = store_text(desk, "journal.json");
    return text != NULL;
}

static json_t *journal(const Desk *desk)
{
    g_autofree char *text = store_text(desk, "journal.json");
    ck_assert_ptr_nonnull(text);
    json_t *json = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(json);
    return json;
}

static void write_journal(const Desk *desk, const char *text)
{
    g_autofree char *path = store_domain_file(desk->store, "d", "journal.json");
    ck_assert(g_file_set_contents(path, text, -1, NULL));
}

/* Everything in the desk's directory that is not the store: names, modes, contents, tags. */
static char *desk_digest(const Desk *desk)
{
    GString *out = g_string_new(NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(desk->dir, 0, NULL);
    for (const char *entry = g_dir_read_name(dir); entry; entry = g_dir_read_name(dir))
        if (strcmp(entry, "store") != 0)
            g_ptr_array_add(names, g_strdup(entry));
    g_ptr_array_sort(names, compare_texts);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = desk_path(desk, names->pdata[i]);
        gboolean qcow2 = g_str_has_suffix(path, ".qcow2");
        g_autofree char *hash = qcow2 ? content_hash(path, "qcow2", NULL) : file_hash(path);
        g_autofree char *tags = qcow2 ? image_tags(path) : g_strdup("");
        g_string_append_printf(out, "%s %o %s %s\n", (char *)names->pdata[i], file_mode(path), hash, tags);
    }
    return g_string_free(out, FALSE);
}

static Step *overlay_step(Plan *plan, Desk *desk, const char *file)
{
    g_autofree char *path = desk_path(desk, file);
    Step *step = plan_step(plan, STEP_OVERLAY, 0, "vda", path);
    step->like = g_strdup(desk->a);
    step->mode = 0640;
    step->format = FORMAT_QCOW2;
    step->size = 1024 * 1024;
    step->backing_name = g_strdup("./a.qcow2");
    step->backing_format = FORMAT_QCOW2;
    return step;
}

/* A plan with a step of every kind, on a.qcow2 and b.qcow2. */
static Plan *big_plan(Desk *desk)
{
    Plan *plan = plan_new(desk->store, desk->backend, "d", "try everything");
    g_autofree char *copy = desk_path(desk, "copy.qcow2");
    overlay_step(plan, desk, "over.qcow2");
    Step *step = plan_step(plan, STEP_COPY_OUT, 0, "vda", copy);
    step->like = g_strdup(desk->a);
    step->mode = 0600;
    step->format = FORMAT_QCOW2;
    step->size = 1024 * 1024;
    step->source = g_strdup(desk->a);
    step->tag = g_strdup("old");
    step = plan_step(plan, STEP_TAG, 0, "vdb", desk->b);
    step->tag = g_strdup("new");
    step = plan_step(plan, STEP_KEEP, 1, "vda", desk->a);
    step->tag = g_strdup("kept");
    step = plan_step(plan, STEP_APPLY, 2, "vda", desk->a);
    step->tag = g_strdup("old");
    step->keep = g_strdup("kept");
    step = plan_step(plan, STEP_FREEZE, 3, "vda", desk->a);
    step->mode = 0640;
    step = plan_after(plan, STEP_DROP_TAG, "vda", desk->a);
    step->tag = g_strdup("old");
    step->mode = 0640;
    plan_write(plan, "snapshots/new.xml", "new");
    plan_write(plan, "snapshots/old.xml", NULL);
    return plan;
}

static void assert_undone(Desk *desk, const char *before)
{
    g_autofree char *now = desk_digest(desk);
    g_autofree char *new = store_text(desk, "snapshots/new.xml");
    g_autofree char *old = store_text(desk, "snapshots/old.xml");
    ck_assert_str_eq(now, before);
    ck_assert(!has_journal(desk));
    ck_assert_ptr_null(new);
    ck_assert_str_eq(old, "old");
}

static void assert_happened(Desk *desk)
{
    g_autofree char *over = desk_path(desk, "over.qcow2");
    g_autofree char *copy = desk_path(desk, "copy.qcow2");
    g_autofree char *then = pattern_hash(7, 0);
    g_autofree char *a = content_hash(desk->a, "qcow2", NULL);
    g_autofree char *of_copy = content_hash(copy, "qcow2", NULL);
    g_autofree char *of_over = content_hash(over, "qcow2", NULL);
    g_autofree char *a_tags = image_tags(desk->a);
    g_autofree char *b_tags = image_tags(desk->b);
    g_autofree char *new = store_text(desk, "snapshots/new.xml");
    g_autofree char *old = store_text(desk, "snapshots/old.xml");
    g_autofree char *digest = desk_digest(desk);
    ck_assert_str_eq(a, then);
    ck_assert_str_eq(of_copy, then);
    ck_assert_str_eq(of_over, then);
    ck_assert_str_eq(a_tags, "");
    ck_assert_str_eq(b_tags, "new");
    ck_assert_uint_eq(file_mode(desk->a), 0440);
    ck_assert_uint_eq(file_mode(over), 0640);
    ck_assert_uint_eq(file_mode(copy), 0600);
    ck_assert_str_eq(new, "new");
    ck_assert_ptr_null(old);
    ck_assert_ptr_null(strstr(digest, ".domsnapfs"));
    tool("qemu-img", "check", "-q", desk->a, NULL);
    tool("qemu-img", "check", "-q", desk->b, NULL);
}

START_TEST(whole_life)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    g_autoptr(Plan) plan = big_plan(desk);
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    ck_assert(!has_journal(desk));
    ASSERT_OK(plan_prepare(plan, NULL, &error), error);
    ck_assert(!plan_committed(plan));
    json_t *json = journal(desk);
    ck_assert_int_eq(json_integer_value(json_object_get(json, "version")), 1);
    ck_assert(json_is_false(json_object_get(json, "committed")));
    ck_assert_uint_eq(json_array_size(json_object_get(json, "steps")), 6);
    ck_assert_str_eq(json_string_value(json_object_get(json, "what")), "try everything");
    json_decref(json);
    g_autofree char *old = store_text(desk, "snapshots/old.xml");
    ck_assert_str_eq(old, "old"); /* nothing of the store changes before the commit */

    ASSERT_OK(plan_commit(plan, &error), error);
    ck_assert(plan_committed(plan));
    json = journal(desk);
    ck_assert(json_is_true(json_object_get(json, "committed")));
    ck_assert_uint_eq(json_array_size(json_object_get(json, "writes")), 2);
    ck_assert_uint_eq(json_array_size(json_object_get(json, "after")), 1);
    json_decref(json);

    ASSERT_OK(plan_settle(plan, failed, &error), error);
    ck_assert_uint_eq(failed->len, 0);
    ck_assert(has_journal(desk));
    ASSERT_OK(plan_settle(plan, failed, &error), error); /* may be repeated */
    ck_assert_uint_eq(failed->len, 0);
    ASSERT_OK(plan_close(plan, &error), error);
    ck_assert(!has_journal(desk));
    assert_happened(desk);
}
END_TEST

START_TEST(freed_before_the_commit)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    g_autofree char *before = desk_digest(desk);
    Plan *plan = big_plan(desk);
    ASSERT_OK(plan_prepare(plan, NULL, &error), error);
    plan_free(plan);
    assert_undone(desk, before);
    plan = big_plan(desk); /* never prepared: nothing to do */
    plan_free(plan);
    assert_undone(desk, before);
    plan = big_plan(desk);
    ASSERT_OK(plan_prepare(plan, NULL, &error), error);
    plan_abort(plan);
    assert_undone(desk, before);
    plan_abort(plan);
    plan_free(plan);
    assert_undone(desk, before);
}
END_TEST

/* Each kind of call fails once: everything that was done before is taken back. */
START_TEST(failing_step)
{
    static const guint calls[] = {CALL_OVERLAY, CALL_COPY_OUT, CALL_TAG_CREATE, CALL_TAG_APPLY};
    g_autoptr(Desk) desk = DESK();
    g_autofree char *before = desk_digest(desk);
    for (gsize i = 0; i < G_N_ELEMENTS(calls); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Plan) plan = big_plan(desk);
        spy_fail(calls[i], NULL, ENOSPC);
        if (calls[i] == CALL_TAG_APPLY) /* its own undoing needs the call: the kept state is applied again */
            spy_fail(CALL_TAG_CREATE, "a.qcow2", ENOSPC);
        ck_assert(!plan_prepare(plan, NULL, &error));
        spy_fail(0, NULL, 0);
        expect_error(&error, ENOSPC, "disk 'vd");
        ck_assert_ptr_null(plan_stuck(plan));
        assert_undone(desk, before);
    }
}
END_TEST

/* Neither a file that was there nor one that somebody put there meanwhile is touched, and the sentence says why. */
START_TEST(not_ours)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    g_autofree char *there = desk_path(desk, "over.qcow2");
    g_free(desk_image(desk, "over.qcow2"));
    g_autofree char *before = desk_digest(desk);
    g_autoptr(Plan) plan = big_plan(desk);
    ck_assert(!plan_prepare(plan, NULL, &error));
    expect_error(&error, EEXIST, "disk 'vda': create '");
    assert_undone(desk, before);
    ck_assert_int_eq(access(there, F_OK), 0);
}
END_TEST

/* Undoing that fails leaves the journal, and says so; the next process brings it to its end. */
START_TEST(stuck)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    g_autofree char *before = desk_digest(desk);
    Plan *plan = big_plan(desk);
    ASSERT_OK(plan_prepare(plan, NULL, &error), error);
    spy_fail(CALL_TAG_DELETE, NULL, EIO);
    plan_abort(plan);
    spy_fail(0, NULL, 0);
    ck_assert_ptr_nonnull(plan_stuck(plan));
    ck_assert_ptr_nonnull(strstr(plan_stuck(plan), "'try everything' could not be undone"));
    plan_free(plan);
    ck_assert(has_journal(desk));

    plan = plan_read_journal(desk->store, desk->backend, "d", &error);
    ck_assert_msg(plan != NULL, "%s", error ? error->message : "?");
    ck_assert(!plan_committed(plan));
    ck_assert_str_eq(plan_what(plan), "try everything");
    ASSERT_OK(plan_recover(plan, failed, &error), error);
    plan_free(plan);
    assert_undone(desk, before);
}
END_TEST

/* A journal left after the commit: forward, as often as it takes. */
START_TEST(recovered_forward)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    Plan *plan = big_plan(desk);
    ASSERT_OK(plan_prepare(plan, NULL, &error), error);
    ASSERT_OK(plan_commit(plan, &error), error);
    plan_free(plan); /* a crash: committed plans are not undone */
    ck_assert(has_journal(desk));
    for (guint i = 0; i < 2; i++) {
        plan = plan_read_journal(desk->store, desk->backend, "d", &error);
        ck_assert(plan && plan_committed(plan));
        ck_assert_str_eq(plan_domain(plan), "d");
        ASSERT_OK(plan_recover(plan, failed, &error), error);
        ck_assert_uint_eq(failed->len, 0);
        ck_assert(has_journal(desk)); /* until the sidecars are written */
        if (i == 1)
            ASSERT_OK(plan_close(plan, &error), error);
        plan_free(plan);
    }
    ck_assert(!has_journal(desk));
    assert_happened(desk);
}
END_TEST

/* After the commit nothing fails the operation: what could not be cleaned up is told. */
START_TEST(cleaning_up_fails)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) failed = g_ptr_array_new();
    g_autoptr(Plan) plan = big_plan(desk);
    ASSERT_OK(plan_prepare(plan, NULL, &error), error);
    ASSERT_OK(plan_commit(plan, &error), error);
    spy_fail(CALL_TAG_DELETE, NULL, EBUSY);
    ASSERT_OK(plan_settle(plan, failed, &error), error);
    spy_fail(0, NULL, 0);
    ck_assert_uint_eq(failed->len, 2); /* the kept state, the dropped tag */
    ck_assert_uint_eq(file_mode(desk->a), 0440);
    g_ptr_array_set_size(failed, 0);
    ASSERT_OK(plan_settle(plan, failed, &error), error);
    ck_assert_uint_eq(failed->len, 0);
    ASSERT_OK(plan_close(plan, &error), error);
    assert_happened(desk);
}
END_TEST

START_TEST(cancelled)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_autofree char *before = desk_digest(desk);
    g_autoptr(Plan) plan = big_plan(desk);
    g_cancellable_cancel(cancel);
    ck_assert(!plan_prepare(plan, cancel, &error));
    expect_error(&error, EINTR, NULL);
    assert_undone(desk, before);
}
END_TEST

/* The journal must be able to hold every step: one that it cannot say is refused before anything is done. */
START_TEST(not_utf8)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    g_autofree char *before = desk_digest(desk);
    Plan *plan = plan_new(desk->store, desk->backend, "d", "bytes");
    overlay_step(plan, desk, "over\xff");
    ck_assert(!plan_prepare(plan, NULL, &error));
    expect_error(&error, EILSEQ, NULL);
    plan_free(plan);
    assert_undone(desk, before);
    plan = plan_new(desk->store, desk->backend, "d", "bytes");
    Step *step = plan_step(plan, STEP_TAG, 0, "vda", desk->a);
    step->tag = g_strdup("t\xff");
    ck_assert(!plan_prepare(plan, NULL, &error));
    expect_error(&error, EILSEQ, NULL);
    plan_free(plan);
    assert_undone(desk, before);
}
END_TEST

START_TEST(no_journal)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(plan_read_journal(desk->store, desk->backend, "d", &error));
    ck_assert_ptr_null(error);
}
END_TEST

#define JOURNAL(version, committed, steps, after, writes)                                                    \
    "{\"version\": " version ", \"what\": \"w\", \"committed\": " committed ", \"steps\": " steps            \
    ", \"after\": " after ", \"writes\": " writes "}"

/* One key twice: which of them counts? */
#define TWICE                                                                                                \
    "{\"version\": 1, \"version\": 1, \"what\": \"w\", \"committed\": true, \"steps\": [], \"after\": [], "  \
    "\"writes\": []}"

static const char *const damaged[] = {
    "",
    "{",
    "[]",
    "null",
    "{}",
    "\xff\xfe",
    JOURNAL("2", "false", "[]", "[]", "[]"),
    JOURNAL("1", "\"no\"", "[]", "[]", "[]"),
    JOURNAL("1", "false", "{}", "[]", "[]"),
    JOURNAL("1", "false", "[]", "[]", "5"),
    JOURNAL("1", "false", "[]", "null", "[]"),
    JOURNAL("1", "false", "[{}]", "[]", "[]"),
    JOURNAL("1", "false", "[1]", "[]", "[]"),
    JOURNAL("1", "true", "[]", "[{\"kind\": \"drop-tag\"}]", "[]"),
    JOURNAL("1", "true", "[]", "[]", "[{\"file\": \"../../x\", \"text\": \"t\"}]"),
    JOURNAL("1", "true", "[]", "[]", "[{\"file\": \"snapshots/../../x\", \"text\": \"t\"}]"),
    JOURNAL("1", "true", "[]", "[]", "[{\"file\": \"/etc/x\", \"text\": \"t\"}]"),
    JOURNAL("1", "true", "[]", "[]", "[{\"file\": 5}]"),
    JOURNAL("1", "true", "[]", "[]", "[{\"text\": \"t\"}]"),
    JOURNAL("1", "true", "[]", "[]", "[{\"file\": \"domain.xml\", \"text\": 5}]"),
    TWICE,
};

START_TEST(damaged_journal)
{
    g_autoptr(Desk) desk = DESK();
    g_autofree char *before = desk_digest(desk);
    for (gsize i = 0; i < G_N_ELEMENTS(damaged); i++) {
        g_autoptr(GError) error = NULL;
        write_journal(desk, damaged[i]);
        g_autoptr(Plan) plan = plan_read_journal(desk->store, desk->backend, "d", &error);
        ck_assert_msg(plan == NULL, "journal %zu was taken: %s", i, damaged[i]);
        expect_error(&error, EINVAL, "journal '");
    }
    g_autofree char *after = desk_digest(desk);
    ck_assert_str_eq(after, before);
}
END_TEST

/* A journal cut off anywhere is a damaged one, never half a plan. */
START_TEST(cut_journal)
{
    g_autoptr(Desk) desk = DESK();
    g_autoptr(GError) error = NULL;
    Plan *plan = big_plan(desk);
    ASSERT_OK(plan_prepare(plan, NULL, &error), error);
    ASSERT_OK(plan_commit(plan, &error), error);
    plan_free(plan);
    g_autofree char *text = store_text(desk, "journal.json");
    for (gsize len = 0; len < strlen(text) - 1; len += 7) {
        g_autofree char *cut = g_strndup(text, len);
        write_journal(desk, cut);
        ck_assert_ptr_null(plan_read_journal(desk->store, desk->backend, "d", &error));
        expect_error(&error, EINVAL, NULL);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("journal");
    TCase *plans = scratch_case(suite, "plans");
    tcase_add_test(plans, whole_life);
    tcase_add_test(plans, freed_before_the_commit);
    tcase_add_test(plans, failing_step);
    tcase_add_test(plans, not_ours);
    tcase_add_test(plans, stuck);
    tcase_add_test(plans, recovered_forward);
    tcase_add_test(plans, cleaning_up_fails);
    tcase_add_test(plans, cancelled);
    tcase_add_test(plans, not_utf8);
    tcase_add_test(plans, no_journal);
    tcase_add_test(plans, damaged_journal);
    tcase_add_test(plans, cut_journal);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
