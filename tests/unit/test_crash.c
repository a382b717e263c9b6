/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon dies, or something fails, at every point of every kind of operation: before and after each call of the
 * backend, each rename, link, unlink and chmod. Afterwards there is the state before or the state after, never
 * anything between, and the domain works.
 *
 * CRASH_ALL=1 in the environment: every point. Without it every second one.
 */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "engine_world.h"
#include "loops.h"
#include "merge_job.h"
#include "runner.h"
#include "share.h"

enum { STRIDE = 2 };
#define ALL "CRASH_ALL"

typedef struct {
    const char *name;
    void (*setup)(World *world);
    gboolean (*act)(World *world, GError **error);
    gboolean device;   /* needs loop devices */
    gboolean in_place; /* or by a copy, when it cannot be known whether anybody stands on the image */
} Scenario;

/* --- scenarios; the domain is "web" --- */

static void setup_three(World *world)
{
    g_free(world_image(world, "a.qcow2", 1));
    g_free(world_image(world, "b.qcow2", 2));
    g_free(world_image(world, "c.qcow2", 3));
    world_define(world, "web", "a.qcow2", "b.qcow2", "c.qcow2", NULL);
}

static gboolean act_external(World *world, GError **error)
{
    return world_try_create(world, "web", "s1",
                            "vda,snapshot=external vdb,snapshot=external vdc,snapshot=external", error);
}

static gboolean act_internal(World *world, GError **error)
{
    return world_try_create(world, "web", "s1", NULL, error);
}

static gboolean act_mixed(World *world, GError **error)
{
    return world_try_create(world, "web", "s1", "vda,snapshot=external vdb,snapshot=internal vdc,snapshot=no",
                            error);
}

static void setup_two(World *world)
{
    g_free(world_image(world, "a.qcow2", 1));
    g_free(world_image(world, "b.qcow2", 2));
    world_define(world, "web", "a.qcow2", "b.qcow2", NULL);
}

static void setup_internal(World *world)
{
    setup_two(world);
    world_create(world, "web", "s1", NULL);
    world_write(world, "web", "vda", 11);
    world_write(world, "web", "vdb", 12);
}

static void setup_one_external(World *world)
{
    setup_two(world);
    world_create(world, "web", "s1", "vda,snapshot=external vdb,snapshot=external");
    world_write(world, "web", "vda", 11);
}

/* Internal states in files that are frozen by now. */
static void setup_frozen(World *world)
{
    setup_internal(world);
    world_create(world, "web", "s2", "vda,snapshot=external vdb,snapshot=external");
    world_write(world, "web", "vda", 21);
}

static gboolean act_revert(World *world, GError **error)
{
    return world_try_revert(world, "web", "s1", error);
}

static gboolean act_delete(World *world, GError **error)
{
    return world_try_delete(world, "web", "s1", DELETE_ONE, error);
}

static gboolean act_delete_all(World *world, GError **error)
{
    return world_try_delete(world, "web", "s1", DELETE_CHILDREN, error);
}

static gboolean act_rename(World *world, GError **error)
{
    return world_try_rename(world, "web", "s1", "other", error);
}

static gboolean act_describe(World *world, GError **error)
{
    return world->engine->ops->describe(world->engine, world_snapshot(world, "web", "s1"), "a text", NULL,
                                        error);
}

/* The definition without its second disk. */
static gboolean act_define(World *world, GError **error)
{
    g_autofree char *path = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *disk = disk_element("vda", "qcow2", path, "", "");
    g_autofree char *xml = domain_document("web", disk);
    return world_try_define(world, xml, error);
}

/* --- merges --- */

/* A chain of four layers on one disk. */
static void setup_chain(World *world)
{
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    for (int i = 1; i <= 3; i++) {
        g_autofree char *name = g_strdup_printf("s%d", i);
        world_write(world, "web", "vda", 10 + i);
        world_create(world, "web", name, "vda,snapshot=external");
    }
    world_write(world, "web", "vda", 20);
}

static void setup_middle(World *world)
{
    setup_chain(world);
    world_delete(world, "web", "s2");
}

static void setup_run(World *world)
{
    setup_middle(world);
    world_delete(world, "web", "s3");
}

static void setup_root(World *world)
{
    setup_chain(world);
    world_delete(world, "web", "s1");
}

static void setup_everything(World *world)
{
    setup_root(world);
    world_delete(world, "web", "s2");
    world_delete(world, "web", "s3");
}

/* The active layer is smaller than what it stands on. */
static void setup_smaller(World *world)
{
    setup_chain(world);
    g_autofree char *path = world_layer(world, "web", NULL, "vda", NULL);
    tool("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", path, "960K", NULL);
    world_delete(world, "web", "s3");
}

static void setup_leaf(World *world)
{
    setup_chain(world);
    world_revert(world, "web", "s1");
    world_create(world, "web", "s4", "vda,snapshot=external");
}

/* All that can be merged has been, or why not. */
static gboolean act_merge(World *world, GError **error)
{
    g_autoptr(GHashTable) told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Core *core = (Core *)world->engine;
    EngineId id = world_domain(world, "web");
    if (!merge_domain(core, id, told, NULL, error))
        return FALSE;
    GHashTableIter iter;
    gpointer line;
    g_hash_table_iter_init(&iter, told);
    if (!g_hash_table_iter_next(&iter, &line, NULL))
        return TRUE;
    snap_set_error(error, EIO, "%s", (char *)line);
    return FALSE;
}

static gboolean act_undo(World *world, GError **error)
{
    return world_try_undo(world, "web", error);
}

static void setup_reverted(World *world)
{
    setup_internal(world);
    world_revert(world, "web", "s1");
    world_write(world, "web", "vda", 13);
}

static void setup_reverted_external(World *world)
{
    setup_one_external(world);
    world_revert(world, "web", "s1");
    world_write(world, "web", "vda", 13);
}

static gboolean act_no_metadata(World *world, GError **error)
{
    g_autoptr(CreateRequest) request =
        world_request("kept/x", "vda,snapshot=external vdb,snapshot=internal vdc,snapshot=external");
    request->no_metadata = TRUE;
    return world_try_request(world, "web", request, error);
}

/* An overlay that is there already, and another one to be made. */
static void setup_prepared(World *world)
{
    setup_two(world);
    g_autofree char *over = world_path(world, "over");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "./a.qcow2", "-F", "qcow2", over, NULL);
}

static gboolean act_reuse(World *world, GError **error)
{
    g_autofree char *over = world_path(world, "over");
    g_autofree char *specs = g_strdup_printf("vda,file=%s vdb,snapshot=internal", over);
    g_autoptr(CreateRequest) request = world_request("s1", specs);
    request->reuse_external = TRUE;
    return world_try_request(world, "web", request, error);
}

static char device_specs[256];

static void setup_device(World *world)
{
    setup_three(world);
    g_autofree char *path = world_path(world, "dev.img");
    g_autofree char *device = loop_attach(path, 2 * 1024 * 1024);
    g_snprintf(device_specs, sizeof device_specs,
               "vda,stype=block,file=%s vdb,snapshot=external vdc,snapshot=internal", device);
}

static gboolean act_device(World *world, GError **error)
{
    return world_try_create(world, "web", "s1", device_specs, error);
}

static void setup_elsewhere(World *world)
{
    setup_frozen(world);
    g_free(world_image(world, "c.qcow2", 3));
}

/* The snapshot s2 under another name, and its state of vda in another image. */
static gboolean act_replace(World *world, GError **error)
{
    EngineId id = world_snapshot(world, "web", "s2");
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, id);
    g_autoptr(GString) document = g_string_new(xml);
    g_string_replace(document, "<name>s2</name>", "<name>other</name>", 1);
    g_string_replace(document, "a.qcow2", "c.qcow2", 0);
    return world->engine->ops->redefine(world->engine, world_domain(world, "web"), id, document->str,
                                        document->len, REDEFINE_CURRENT, NULL, error);
}

static const Scenario scenarios[] = {
    {"create external", setup_three, act_external},
    {"create internal", setup_three, act_internal},
    {"create mixed", setup_three, act_mixed},
    {"revert in place", setup_internal, act_revert, .in_place = TRUE},
    {"revert external", setup_one_external, act_revert},
    {"revert by copy", setup_frozen, act_revert},
    {"delete with tags", setup_internal, act_delete},
    {"delete in frozen", setup_frozen, act_delete},
    {"delete the tree", setup_frozen, act_delete_all},
    {"rename", setup_frozen, act_rename},
    {"describe", setup_internal, act_describe},
    {"redefine", setup_internal, act_define},
    {"create without metadata", setup_three, act_no_metadata},
    {"reuse", setup_prepared, act_reuse},
    {"device", setup_device, act_device, TRUE},
    {"replace", setup_elsewhere, act_replace},
    {"merge middle", setup_middle, act_merge},
    {"merge run", setup_run, act_merge},
    {"merge root", setup_root, act_merge},
    {"merge everything", setup_everything, act_merge},
    {"merge up", setup_smaller, act_merge},
    {"drop", setup_leaf, act_merge},
    {"undo internal", setup_reverted, act_undo, .in_place = TRUE},
    {"undo external", setup_reverted_external, act_undo},
};

/* --- the runs --- */

typedef struct {
    const Scenario *scenario;
    char *before, *after; /* digests */
    World *world;
    GPtrArray *saved; /* the files of the state before */
    gboolean used;    /* the world is not in that state any more */
} Trial;

/* Have the world in the state before, open. */
static void fresh(Trial *trial)
{
    if (!trial->used)
        return;
    world_close(trial->world);
    world_restore(trial->world, trial->saved);
    if (trial->scenario->device)
        loops_refresh();
    world_open(trial->world);
    trial->used = FALSE;
}

static Trial trial_new(const Scenario *scenario, char *dir)
{
    g_autoptr(GError) error = NULL;
    Trial trial = {.scenario = scenario, .world = world_new(dir)};
    scenario->setup(trial.world);
    world_close(trial.world);
    trial.saved = world_save(trial.world);
    world_open(trial.world);
    trial.before = world_digest(trial.world, "web");
    ASSERT_OK(scenario->act(trial.world, &error), error);
    world_check_clean(trial.world, "web");
    trial.after = world_digest(trial.world, "web");
    ck_assert_msg(strcmp(trial.before, trial.after) != 0, "%s changes nothing", scenario->name);
    trial.used = TRUE;
    fresh(&trial);
    g_autofree char *restored = world_digest(trial.world, "web");
    ck_assert_msg(strcmp(restored, trial.before) == 0, "%s: the world before cannot be restored",
                  scenario->name);
    return trial;
}

static void trial_clear(Trial *trial)
{
    world_free(trial->world);
    g_ptr_array_unref(trial->saved);
    g_free(trial->before);
    g_free(trial->after);
}

/* A later operation of each kind works, and gives what it should. */
static void use(World *world)
{
    g_autofree char *now = world_hash(world, "web", NULL, "vda");
    world_create(world, "web", "later", NULL);
    world_write(world, "web", "vda", 99);
    world_revert(world, "web", "later");
    g_autofree char *again = world_hash(world, "web", NULL, "vda");
    ck_assert_str_eq(again, now);
    world_delete(world, "web", "later");
}

/* The world is open again: the state before or the one after. */
static void check(Trial *trial, guint n)
{
    World *world = trial->world;
    g_autofree char *now = world_digest(world, "web");
    if (g_getenv("CRASH_ONLY"))
        printf("# point %u\n", n);
    world_check_sound(world, "web");
    gboolean before = strcmp(now, trial->before) == 0;
    if (!before && strcmp(now, trial->after) != 0) {
        printf("# before:\n%s\n# after:\n%s\n# now:\n%s\n", trial->before, trial->after, now);
        fflush(stdout);
        ck_abort_msg("%s, point %u: something between", trial->scenario->name, n);
    }
    gboolean use_it = n / 2 % 4 == 0;
    if (use_it) {
        use(world);
        world_check_sound(world, "web");
    }
    trial->used = use_it || !before;
}

/*
 * Wait for a qemu-img that the dead one left at work: it became a child of ours. (What a start does that finds one
 * still there is left_at_work's business.)
 */
static void reap(void)
{
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
}

/* In a child of its own: TRUE when it died at point @n, FALSE when it ran through before that. */
static gboolean dies_at(Trial *trial, guint n)
{
    pid_t pid = world_fork(trial->world);
    if (pid == 0) {
        trap_set(TRAP_EXIT, n, 0);
        _exit(trial->scenario->act(trial->world, NULL) ? 0 : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    reap();
    ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == TRAP_EXIT_CODE),
                  "%s, point %u: status %d", trial->scenario->name, n, status);
    world_open(trial->world);
    return WEXITSTATUS(status) == TRAP_EXIT_CODE;
}

static gboolean cannot(const Scenario *scenario)
{
    return scenario->device && !loops_work() && skip("no loop devices here");
}

START_TEST(killed)
{
    if (cannot(&scenarios[_i]))
        return;
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    Trial trial = trial_new(&scenarios[_i], PATH(scenarios[_i].name));
    guint points = 0;
    gboolean died = TRUE;
    for (guint n = share_first(ALL, STRIDE); died; n = share_next(ALL, STRIDE, n), points++) {
        fresh(&trial);
        died = dies_at(&trial, n);
        check(&trial, n);
    }
    printf("# %s: killed at %u points\n", trial.scenario->name, points - 1);
    ck_assert_uint_gt(points, 4);
    trial_clear(&trial);
}
END_TEST

/*
 * A digest without what a failed cleaning up may leave: temporary names; and tags and write bits that the next
 * operation takes away. What it says of states, documents and definition stays.
 */
static char *essence(const char *digest)
{
    g_autoptr(GRegex) temporary = g_regex_new("^file \\" TEMPORARY ".*\n", G_REGEX_MULTILINE, 0, NULL);
    g_autoptr(GRegex) tags = g_regex_new("^(file \\S+).*$", G_REGEX_MULTILINE, 0, NULL);
    g_autofree char *kept = g_regex_replace_literal(temporary, digest, -1, 0, "", 0, NULL);
    return g_regex_replace(tags, kept, -1, 0, "\\1", 0, NULL);
}

/* Two digests that should be one: the message of a libcheck assertion cannot hold them. */
static void assert_same(const Trial *trial, guint n, const char *when, const char *is, const char *should)
{
    if (strcmp(is, should) == 0)
        return;
    printf("# %s:\n%s\n# not:\n%s\n", when, is, should);
    fflush(stdout);
    ck_abort_msg("%s, point %u: %s", trial->scenario->name, n, when);
}

/* What a digest says of states alone, wherever they lie. */
static char *states_of(const char *digest)
{
    g_autoptr(GRegex) places = g_regex_new("^(file |.*<source file=).*\n", G_REGEX_MULTILINE, 0, NULL);
    return g_regex_replace_literal(places, digest, -1, 0, "", 0, NULL);
}

static gboolean is_copied(const Scenario *scenario, const char *digest)
{
    return scenario->in_place && g_regex_match_simple("^file .\\.(s1|undo)", digest, G_REGEX_MULTILINE, 0);
}

static void assert_essence(const Trial *trial, guint n, const char *digest, const char *expected)
{
    gboolean copied = is_copied(trial->scenario, digest);
    g_autofree char *is = copied ? states_of(digest) : essence(digest);
    g_autofree char *should = copied ? states_of(expected) : essence(expected);
    assert_same(trial, n, "after a restart", is, should);
}

/* Every image that the operation leaves has, a later operation on, the mode and the tags that it should have. */
static void assert_files(const Trial *trial, guint n, const char *digest)
{
    g_auto(GStrv) lines = g_strsplit(trial->after, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        g_autofree char *line = g_strconcat("\n", lines[i], "\n", NULL);
        if (g_str_has_prefix(lines[i], "file ") && !strstr(digest, line))
            assert_same(trial, n, "a file", digest, lines[i]);
    }
}

/* One call fails. What failed has changed nothing, at once; what succeeded has happened, and stays so. */
static void fail_at(Trial *trial, guint n, TrapKind kind, int err, gboolean *ret_reached)
{
    World *world = trial->world;
    g_autoptr(GError) error = NULL;
    trap_set(kind, n, err);
    gboolean ok = trial->scenario->act(world, &error);
    *ret_reached = trap_seen() >= n;
    trap_set(TRAP_OFF, 0, 0);
    g_autofree char *tree = world_tree(world, "web");
    gboolean broken = strstr(tree, "read-only") != NULL;
    if (!ok)
        ck_assert_msg(error != NULL && error->message[0] && snap_errno(error) > 0, "%s, point %u: no reason",
                      trial->scenario->name, n);
    if (!ok && kind == TRAP_FAIL) {
        g_autofree char *now = world_digest(world, "web");
        ck_assert_msg(!broken, "%s, point %u: %s", trial->scenario->name, n, tree);
        assert_same(trial, n, error->message, now, trial->before);
    }
    world_reopen(world);
    g_autofree char *then = world_digest(world, "web");
    if (!ok) {
        assert_same(trial, n, "failed, and a restart", then, trial->before);
        return;
    }
    assert_essence(trial, n, then, trial->after);
    if (strcmp(then, trial->after) != 0 && !is_copied(trial->scenario, then)) {
        use(world);
        g_autofree char *later = world_digest(world, "web");
        assert_files(trial, n, later);
    }
    trial->used = TRUE;
}

static void fail_everywhere(Trial *trial, TrapKind kind, int err)
{
    gboolean reached = TRUE;
    for (guint n = share_first(ALL, STRIDE); reached; n = share_next(ALL, STRIDE, n)) {
        fresh(trial);
        fail_at(trial, n, kind, err, &reached);
    }
}

START_TEST(fails_once)
{
    if (cannot(&scenarios[_i]))
        return;
    Trial trial = trial_new(&scenarios[_i], PATH(scenarios[_i].name));
    fail_everywhere(&trial, TRAP_FAIL, _i % 2 ? ENOSPC : EIO);
    trial_clear(&trial);
}
END_TEST

/* From some point on nothing works any more: undoing does not either, until the next start. */
START_TEST(fails_from_then_on)
{
    static const guint which[] = {2, 3, 5, 7};
    const Scenario *scenario = &scenarios[which[_i]];
    Trial trial = trial_new(scenario, PATH(scenario->name));
    fail_everywhere(&trial, TRAP_FAIL_FROM, EIO);
    trial_clear(&trial);
}
END_TEST

/* A qemu-img that the dead process left at work still writes the image: the start waits for it. */
typedef struct {
    Writer *writer;
} Late;

static gpointer end_later(gpointer data)
{
    g_usleep(G_USEC_PER_SEC / 2);
    writer_end(((Late *)data)->writer);
    return NULL;
}

START_TEST(left_at_work)
{
    static const guint points[] = {8, 12, 18};
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    g_autofree char *number = g_strdup_printf("%d", _i);
    Trial trial = trial_new(&scenarios[3], PATH(number));
    fresh(&trial);
    g_autofree char *a = world_path(trial.world, "a.qcow2");
    pid_t pid = world_fork(trial.world);
    if (pid == 0) {
        trap_set(TRAP_EXIT, points[_i], 0);
        _exit(trial.scenario->act(trial.world, NULL) ? 0 : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), TRAP_EXIT_CODE);
    reap();
    Late late = {writer_begin(trial.world, a)};
    GThread *thread = g_thread_new("late", end_later, &late);
    world_open(trial.world);
    g_thread_join(thread);
    check(&trial, points[_i]);
    trial_clear(&trial);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("crash");
    TCase *tcase = loops_case(suite, "every point");
    const char *only = g_getenv("CRASH_ONLY");
    if (only) {
        tcase_add_loop_test(tcase, killed, atoi(only), atoi(only) + 1);
        tcase_add_loop_test(tcase, fails_once, atoi(only), atoi(only) + 1);
        return suite;
    }
    tcase_add_loop_test(tcase, killed, 0, G_N_ELEMENTS(scenarios));
    tcase_add_loop_test(tcase, fails_once, 0, G_N_ELEMENTS(scenarios));
    tcase_add_loop_test(tcase, fails_from_then_on, 0, 4);
    tcase_add_loop_test(tcase, left_at_work, 0, 3);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
