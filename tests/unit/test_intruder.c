/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Somebody else at the wrong moment of a merge: a guest that starts, at each point, on each image, while the daemon
 * works and after it has died there; a linked clone made just then; readers that are there already; and files that the
 * user has replaced or touched. What is accepted is not lost, what is read stays right, everything else is refused.
 *
 * INTRUDER_ALL=1 in the environment: every point. Without it every third one, from a random one of the first three on.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "engine_world.h"
#include "merge_job.h"
#include "runner.h"
#include "share.h"

enum { STRIDE = 3, LAYERS = 4, OWN_AT = 512, OWN_PATTERN = 70 };
static const char *const files[LAYERS] = {"a.qcow2", "a.s1", "a.s2", "a.s3"};

#define ALL "INTRUDER_ALL"

/* --- what is merged; the domain is "web", its only disk vda --- */

/* Four layers; each state begins with its own pattern. */
static void make_chain(World *world)
{
    g_free(world_image(world, files[0], 1));
    world_define(world, "web", files[0], NULL);
    for (int i = 1; i <= 3; i++) {
        g_autofree char *name = g_strdup_printf("s%d", i);
        world_write(world, "web", "vda", 10 + i);
        world_create(world, "web", name, "vda,snapshot=external");
    }
    world_write(world, "web", "vda", 20);
}

static void make_middle(World *world)
{
    make_chain(world);
    world_delete(world, "web", "s2");
}

static void make_active(World *world)
{
    make_chain(world);
    world_delete(world, "web", "s3");
}

static void make_root(World *world)
{
    make_chain(world);
    world_delete(world, "web", "s1");
}

static void make_everything(World *world)
{
    make_active(world);
    world_delete(world, "web", "s2");
    world_delete(world, "web", "s1");
}

/* The active layer is smaller than what it stands on: it is copied. */
static void make_smaller(World *world)
{
    make_chain(world);
    g_autofree char *path = world_path(world, files[3]);
    tool("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", path, "960K", NULL);
    world_delete(world, "web", "s3");
}

/* A layer on which nothing stands any more. */
static void make_leaf(World *world)
{
    make_chain(world);
    world_revert(world, "web", "s1");
    world_delete(world, "web", "s3");
    world_delete(world, "web", "s2");
}

typedef struct {
    const char *name;
    void (*make)(World *world);
} Scenario;

/* In the first ones the guest's layer is joined with others. */
enum { N_ACTIVE = 3 };
static const Scenario scenarios[] = {
    {"active", make_active},   {"everything", make_everything},
    {"smaller", make_smaller}, {"middle", make_middle},
    {"root", make_root},       {"leaf", make_leaf},
};

/* All that can be merged now is; what was in the way is in *ret_told (caller frees; "": nothing). */
static void merge_now(World *world, char **ret_told)
{
    g_autoptr(GHashTable) told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) why = NULL;
    GHashTableIter iter;
    gpointer line;
    if (!merge_domain((Core *)world->engine, world_domain(world, "web"), told, NULL, &why))
        g_string_append_printf(text, "%s\n", why->message);
    g_hash_table_iter_init(&iter, told);
    while (g_hash_table_iter_next(&iter, &line, NULL))
        g_string_append_printf(text, "%s\n", (char *)line);
    *ret_told = g_string_free(g_steal_pointer(&text), FALSE);
}

/* --- looking from outside --- */

/* qemu-io does @command; TRUE: it was done. */
static gboolean io(const char *path, gboolean look, const char *command)
{
    const char *argv[] = {
        "qemu-io",          "-f", image_format(path), "-c", command, look ? "-r" : path, look ? "-U" : NULL,
        look ? path : NULL, NULL};
    int status = 0;
    ck_assert(g_spawn_sync(NULL, (char **)argv, NULL,
                           TOOL_FLAGS | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                           NULL, NULL, &status, NULL));
    return status == 0;
}

/* The place that only the one who writes image @i writes. */
static gboolean own_write(World *world, guint i)
{
    g_autofree char *path = world_path(world, files[i]);
    g_autofree char *command = g_strdup_printf("write -q -P %u %uk 64k", OWN_PATTERN + i, OWN_AT + 64 * i);
    return access(path, F_OK) == 0 && io(path, FALSE, command);
}

static gboolean shows(const char *path, guint i, gboolean written)
{
    g_autofree char *command =
        g_strdup_printf("read -q -P %u %uk 64k", written ? OWN_PATTERN + i : 0, OWN_AT + 64 * i);
    return io(path, TRUE, command);
}

/* What "web" is at @snapshot (NULL: now) reads as: NULL when it cannot be read. Caller frees. */
static char *hash_of(const char *path)
{
    g_autofree char *raw = g_strconcat(path, ".look", NULL);
    const char *argv[] = {"qemu-img", "convert", "-U", "-f", image_format(path),
                          "-O",       "raw",     path, raw,  NULL};
    g_autofree char *data = NULL;
    gsize len = 0;
    int status = 0;
    ck_assert(g_spawn_sync(NULL, (char **)argv, NULL, TOOL_FLAGS | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                           NULL, NULL, &status, NULL));
    char *hash = NULL;
    if (status == 0 && g_file_get_contents(raw, &data, &len, NULL))
        hash = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (guchar *)data, len);
    (void)unlink(raw);
    return hash;
}

/* Of the file's own bytes. Caller frees. */
static char *hash_of_file(const char *path)
{
    g_autofree char *data = NULL;
    gsize len;
    ck_assert(g_file_get_contents(path, &data, &len, NULL));
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, (guchar *)data, len);
}

/* --- one world, used again and again --- */

typedef struct {
    const Scenario *scenario;
    World *world;
    GPtrArray *saved;
    char *states[LAYERS]; /* hashes of s1, s2, s3 (NULL: deleted) */
    guint n;              /* the point */
} Trial;

static const char *name_of(guint i)
{
    static const char *const names[LAYERS] = {NULL, "s1", "s2", "s3"};
    return names[i];
}

static Trial trial_new(const Scenario *scenario, char *dir)
{
    Trial trial = {.scenario = scenario, .world = world_new(dir)};
    scenario->make(trial.world);
    for (guint i = 1; i < LAYERS; i++)
        if (world_snapshot(trial.world, "web", name_of(i)))
            trial.states[i] = world_hash(trial.world, "web", name_of(i), "vda");
    world_close(trial.world);
    trial.saved = world_save(trial.world);
    return trial;
}

static void trial_clear(Trial *trial)
{
    world_free(trial->world);
    g_ptr_array_unref(trial->saved);
    for (guint i = 0; i < LAYERS; i++)
        g_free(trial->states[i]);
}

static void fresh(Trial *trial, guint n)
{
    world_close(trial->world);
    world_restore(trial->world, trial->saved);
    trial->n = n;
}

#define FAIL(trial, format, ...)                                                                             \
    ck_abort_msg("%s, point %u: " format, (trial)->scenario->name, (trial)->n, __VA_ARGS__)

/* The snapshots that are left read as they did. */
static void assert_states(const Trial *trial)
{
    for (guint i = 1; i < LAYERS; i++) {
        if (!trial->states[i])
            continue;
        g_autofree char *path = world_layer(trial->world, "web", name_of(i), "vda", NULL);
        g_autofree char *now = hash_of(path);
        if (g_strcmp0(now, trial->states[i]) != 0)
            FAIL(trial, "'%s' reads otherwise now", name_of(i));
    }
}

static gboolean is_read_only(World *world)
{
    g_autofree char *tree = world_tree(world, "web");
    return strstr(tree, "read-only") != NULL;
}

/* --- a guest that starts while the daemon is dead --- */

static gboolean dies_at(Trial *trial, guint n)
{
    int status = 0;
    pid_t pid = world_fork(trial->world);
    if (pid == 0) {
        g_autofree char *told = NULL;
        trap_set(TRAP_EXIT, n, 0);
        merge_now(trial->world, &told);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) /* a qemu-img that was left at work */
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) == TRAP_EXIT_CODE;
}

/* Which of files[] the guest writes before a merge: what its manager knows it by. */
static guint active_before(const Trial *trial)
{
    World *world = trial->world;
    world_open(world);
    g_autofree char *path = world_layer(world, "web", NULL, "vda", NULL);
    world_close(world);
    for (guint i = 0; i < LAYERS; i++)
        if (g_str_has_suffix(path, files[i]))
            return i;
    return LAYERS;
}

START_TEST(starts_when_the_daemon_is_dead)
{
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    Trial trial = trial_new(&scenarios[_i], PATH(scenarios[_i].name));
    guint active = active_before(&trial), accepted = 0;
    ck_assert_uint_lt(active, LAYERS);
    gboolean died = TRUE;
    for (guint n = share_first(ALL, STRIDE); died; n = share_next(ALL, STRIDE, n)) {
        fresh(&trial, n);
        died = dies_at(&trial, n);
        gboolean written = own_write(trial.world, active);
        accepted += written;
        world_open(trial.world);
        for (guint again = 0; again < 2; again++) {
            g_autofree char *path = world_layer(trial.world, "web", NULL, "vda", NULL);
            g_autofree char *log = world_log(trial.world, "web");
            if (!shows(path, active, written))
                FAIL(&trial, "the guest's write is lost; %s", log);
            if (is_read_only(trial.world))
                FAIL(&trial, "read-only: %s", log);
            assert_states(&trial);
            world_check_clean(trial.world, "web");
            world_merge(trial.world, "web");
        }
    }
    printf("# %s: dead at %u points, the guest could start at %u\n", trial.scenario->name, trial.n, accepted);
    trial_clear(&trial);
}
END_TEST

/* --- a writer at each point --- */

typedef struct {
    Trial *trial;
    gboolean accepted[LAYERS];
} Writes;

static void write_all(gpointer user)
{
    Writes *writes = user;
    for (guint i = 0; i < LAYERS; i++)
        writes->accepted[i] = own_write(writes->trial->world, i);
}

/* What stands on image @i shows what was written into it, and what lies below does not. */
static void assert_write(const Trial *trial, guint i, const char *told)
{
    g_autofree char *active = world_layer(trial->world, "web", NULL, "vda", NULL);
    g_autofree char *file = world_path(trial->world, files[i]);
    gboolean off = trial->scenario->make == make_leaf && i > 0; /* they are not below the active one */
    if (!off && !shows(active, i, TRUE))
        FAIL(trial, "what was written into '%s' is lost: %s", files[i], told);
    if (off && (access(file, F_OK) < 0 || !shows(file, i, TRUE)))
        FAIL(trial, "'%s', which was written, is gone: %s", files[i], told);
    for (guint k = 1; k <= i; k++) {
        g_autofree char *path =
            trial->states[k] ? world_layer(trial->world, "web", name_of(k), "vda", NULL) : NULL;
        if (path && !shows(path, i, FALSE))
            FAIL(trial, "'%s' shows what was written into '%s'", name_of(k), files[i]);
    }
}

START_TEST(writes_at_each_point)
{
    Trial trial = trial_new(&scenarios[_i], PATH(scenarios[_i].name));
    guint accepted = 0, refused = 0;
    gboolean reached = TRUE;
    for (guint n = share_first(ALL, STRIDE); reached; n = share_next(ALL, STRIDE, n)) {
        g_autofree char *told = NULL;
        Writes writes = {.trial = &trial};
        fresh(&trial, n);
        world_open(trial.world);
        trap_call(n, write_all, &writes);
        merge_now(trial.world, &told);
        reached = trap_seen() >= n;
        trap_set(TRAP_OFF, 0, 0);
        guint any = 0;
        for (guint i = 0; i < LAYERS; i++) {
            if (writes.accepted[i])
                assert_write(&trial, i, told);
            any += writes.accepted[i];
        }
        accepted += any;
        refused += reached ? LAYERS - any : 0;
        if (any == 0 && !is_read_only(trial.world))
            assert_states(&trial);
    }
    printf("# %s: %u points, %u writes accepted, %u refused\n", trial.scenario->name, trial.n - 1, accepted,
           refused);
    ck_assert_uint_gt(refused, 0);
    trial_clear(&trial);
}
END_TEST

/* --- a linked clone at each point --- */

typedef struct {
    Trial *trial;
    char *reads[LAYERS]; /* NULL: it was refused */
} Clones;

static char *clone_path(World *world, guint i)
{
    g_autofree char *name = g_strdup_printf("clone-%u.qcow2", i);
    return world_path(world, name);
}

static void clone_all(gpointer user)
{
    Clones *clones = user;
    World *world = clones->trial->world;
    for (guint i = 0; i < LAYERS; i++) {
        g_autofree char *clone = clone_path(world, i);
        const char *argv[] = {"qemu-img", "create", "-q",    "-f",  "qcow2", "-b",
                              files[i],   "-F",     "qcow2", clone, NULL};
        int status = 0;
        ck_assert(g_spawn_sync(NULL, (char **)argv, NULL, TOOL_FLAGS | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                               NULL, NULL, &status, NULL));
        if (status == 0)
            clones->reads[i] = hash_of(clone);
    }
}

/* Is the layer's own content a snapshot's: that of the name that the next layer is called after? */
static gboolean is_named(const Trial *trial, guint i)
{
    return i + 1 < LAYERS && trial->states[i + 1] != NULL;
}

START_TEST(cloned_at_each_point)
{
    Trial trial = trial_new(&scenarios[_i], PATH(scenarios[_i].name));
    guint accepted = 0, stranded = 0;
    gboolean reached = TRUE;
    for (guint n = share_first(ALL, STRIDE); reached; n = share_next(ALL, STRIDE, n)) {
        g_autofree char *told = NULL;
        Clones clones = {.trial = &trial};
        fresh(&trial, n);
        world_open(trial.world);
        trap_call(n, clone_all, &clones);
        merge_now(trial.world, &told);
        reached = trap_seen() >= n;
        trap_set(TRAP_OFF, 0, 0);
        for (guint i = 0; i < LAYERS; i++) {
            g_autofree char *clone = clone_path(trial.world, i);
            g_autofree char *now = clones.reads[i] ? hash_of(clone) : NULL;
            if (clones.reads[i] && g_strcmp0(now, clones.reads[i]) != 0) {
                /* What no snapshot names any more may be written into; and it goes, after a last look. Nothing of
                 * QEMU's can refuse a clone then. */
                if (is_named(&trial, i) || (!now && strstr(told, files[i]) != NULL))
                    FAIL(&trial, "the clone of '%s' %s; %s", files[i],
                         now ? "reads otherwise" : "cannot be read", told);
                stranded++;
            }
            accepted += clones.reads[i] != NULL;
            g_free(clones.reads[i]);
        }
        assert_states(&trial);
    }
    printf("# %s: %u points, %u clones made, %u of them of layers that were going\n", trial.scenario->name,
           trial.n - 1, accepted, stranded);
    trial_clear(&trial);
}
END_TEST

/* --- readers that are there already --- */

/* A qemu-io that has an image open: one command, and all that it says up to the end of its answer. Caller frees. */
typedef struct {
    GPid pid;
    int in, out;
} Reader;

static char *reader_ask(const Reader *reader, const char *command)
{
    g_autoptr(GString) said = g_string_new(NULL);
    char buffer[4096];
    gssize got = write(reader->in, command, strlen(command));
    ck_assert_int_eq(got, (gssize)strlen(command));
    while (!strstr(said->str, "ops/sec") && (got = read(reader->out, buffer, sizeof buffer)) > 0)
        g_string_append_len(said, buffer, got);
    return g_string_free(g_steal_pointer(&said), FALSE);
}

static Reader reader_begin(const char *path)
{
    Reader reader;
    const char *argv[] = {"qemu-io", "-r", "-f", "qcow2", path, NULL};
    ck_assert(g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                                       G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                       &reader.pid, &reader.in, &reader.out, NULL, NULL));
    g_free(reader_ask(&reader, "read 900k 4k\n"));
    return reader;
}

static void reader_end(Reader *reader)
{
    close(reader->in);
    close(reader->out);
    waitpid(reader->pid, NULL, 0);
}

/* Each layer is open in a qemu-io when it is to be joined or to go: refused, or what it reads stays right to its end. */
START_TEST(read_from_before)
{
    Trial trial = trial_new(&scenarios[_i], PATH(scenarios[_i].name));
    for (guint i = 0; i < LAYERS; i++) {
        g_autofree char *told = NULL;
        fresh(&trial, i);
        g_autofree char *path = world_path(trial.world, files[i]);
        Reader reader = reader_begin(path);
        world_open(trial.world);
        merge_now(trial.world, &told);
        g_autofree char *command = g_strdup_printf("read -P %u 0 64k\n", i == 3 ? 20 : 11 + i);
        g_autofree char *first = reader_ask(&reader, command);
        g_autofree char *second = reader_ask(&reader, "read -P 1 64k 64k\n");
        g_autofree char *rest = reader_ask(&reader, "read -P 0 128k 800k\n");
        g_autofree char *said = g_strconcat(first, second, rest, NULL);
        reader_end(&reader);
        if (strstr(said, "verification failed") || !strstr(said, "offset 131072"))
            FAIL(&trial, "a reader of '%s' sees something else: %s; %s", files[i], said, told);
        assert_states(&trial);
        world_merge(trial.world, "web");
        assert_states(&trial);
        world_check_clean(trial.world, "web");
    }
    trial_clear(&trial);
}
END_TEST

/* --- files that are not those any more --- */

static void move_over(const char *path)
{
    g_autofree char *other = g_strconcat(path, ".other", NULL);
    tool("cp", path, other, NULL);
    tool("mv", other, path, NULL);
}

static void copy_over(const char *path)
{
    g_autofree char *other = g_strconcat(path, ".other", NULL);
    g_autofree char *to = g_strconcat("of=", other, NULL);
    tool("cp", path, other, NULL);
    tool("dd", "if=/dev/urandom", to, "bs=4k", "count=1", "seek=60", "conv=notrunc", "status=none", NULL);
    tool("cp", other, path, NULL);
    (void)unlink(other);
}

static void touch(const char *path)
{
    tool("touch", path, NULL);
}

static void cut(const char *path)
{
    tool("truncate", "-s", "196608", path, NULL);
}

/* The layer that is to be joined with the one on it is another file now, or was changed: it is left alone. */
static void assert_left_alone(Trial *trial, void (*change)(const char *path), gboolean running)
{
    g_autofree char *told = NULL;
    g_autofree char *path = world_path(trial->world, files[1]);
    if (running)
        world_open(trial->world);
    change(path);
    if (!running)
        world_open(trial->world);
    g_autofree char *before = hash_of_file(path);
    merge_now(trial->world, &told);
    g_autofree char *after = hash_of_file(path);
    ck_assert_str_eq(after, before);
    if (!strstr(told, files[1]))
        FAIL(trial, "nothing is said of '%s': '%s'", files[1], told);
    for (guint i = 0; i < LAYERS; i++) {
        g_autofree char *file = world_path(trial->world, files[i]);
        if (access(file, F_OK) < 0)
            FAIL(trial, "'%s' is gone", files[i]);
    }
}

START_TEST(replaced_before)
{
    static void (*const ways[])(const char *path) = {move_over, copy_over, touch, cut};
    Trial trial = trial_new(&scenarios[N_ACTIVE], PATH("replaced"));
    for (guint way = 0; way < G_N_ELEMENTS(ways); way++)
        for (guint running = 0; running < 2; running++) {
            fresh(&trial, way);
            assert_left_alone(&trial, ways[way], running);
        }
    trial_clear(&trial);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("intruder");
    TCase *tcase = scratch_case(suite, "intruder");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, replaced_before);
    tcase_add_loop_test(tcase, read_from_before, 0, G_N_ELEMENTS(scenarios) - 1);
    tcase_add_loop_test(tcase, cloned_at_each_point, 0, G_N_ELEMENTS(scenarios));
    tcase_add_loop_test(tcase, starts_when_the_daemon_is_dead, 0, N_ACTIVE);
    tcase_add_loop_test(tcase, writes_at_each_point, 0, G_N_ELEMENTS(scenarios));
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
