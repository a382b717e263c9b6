/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon dies, or something fails, at every fault point (snapcore/fault.h) that a gesture passes: in the gesture, in
 * its undoing, in the recovery that the next mount begins with. Afterwards there is the state before or the state after,
 * never anything between, no file is left over, and the domain works.
 *
 * Each gesture is first done with the points written down. Every point is then tried with the first gesture that passes
 * it; FAULTS_ALL=1 in the environment: with every gesture, at every passing. FAULTS_MODE: "exit" or "error", else both.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "acts.h"
#include "stage.h"

enum { FAULT_EXIT = 86, EXIT_STORE = 2 };

/* --- one run with a fault --- */

/*
 * When the fault comes: in the gesture; in its undoing, also of one whose commit failed although the journal was written; in
 * the recovery backwards or forwards.
 */
typedef enum { IN_GESTURE, IN_UNDO, IN_DOUBT, IN_BACK, IN_FORWARD, N_ROUNDS } Round;
static const struct {
    const char *name;
    const char *first; /* the fault that leads there */
} rounds[] = {
    [IN_GESTURE] = {"in the gesture", NULL},
    [IN_UNDO] = {"undoing", "plan.commit=ENOSPC"},
    [IN_DOUBT] = {"undoing in doubt", "plan.commit.after=ENOSPC"},
    [IN_BACK] = {"recovering backwards", "plan.commit=exit"},
    [IN_FORWARD] = {"recovering forwards", "plan.commit.after=exit"},
};

typedef struct {
    World *w;
    const Gesture *gesture;
    Stage *stage;
    const char *before, *after; /* digests */
    const char *what;           /* the run, for messages */
} Trial;

#define trial_assert(trial, condition, ...)                                                                  \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            ck_abort_msg("%s: %s", (trial)->what, keepf((trial)->w, __VA_ARGS__));                           \
    } while (0)

static void set_fault(const char *fault, const char *trace)
{
    g_unsetenv("DOMSNAPFS_FAULT");
    g_unsetenv("DOMSNAPFS_FAULT_TRACE");
    if (fault != NULL)
        g_setenv("DOMSNAPFS_FAULT", fault, TRUE);
    if (trace != NULL)
        g_setenv("DOMSNAPFS_FAULT_TRACE", trace, TRUE);
}

/* Start with @fault. FALSE: the fault ended the start. */
static gboolean start(Trial *trial, const char *fault, const char *trace)
{
    int status = 0;
    set_fault(fault, trace);
    gboolean ok = world_try_start(trial->w, NO_MERGES, &status);
    set_fault(NULL, NULL);
    trial_assert(trial,
                 ok || (fault != NULL && WIFEXITED(status) &&
                        (WEXITSTATUS(status) == FAULT_EXIT || WEXITSTATUS(status) == EXIT_STORE)),
                 "status %x at the start", (unsigned)status);
    return ok;
}

static void expect_death(Trial *trial)
{
    int status = world_died(trial->w);
    trial_assert(trial, WIFEXITED(status) && WEXITSTATUS(status) == FAULT_EXIT, "status %x",
                 (unsigned)status);
}

static gboolean is_gone(int err)
{
    return err == ENOTCONN || err == ECONNABORTED;
}

static void expect_digest(Trial *trial, const char *when, const char *now, const char *expected)
{
    if (strcmp(now, expected) != 0)
        fprintf(stderr, "---- expected:\n%s---- but is:\n%s", expected, now);
    trial_assert(trial, strcmp(now, expected) == 0, "%s it is not in the state that it should be in", when);
}

/* The state that there is after a death. */
static void expect_one_of_both(Trial *trial)
{
    start(trial, NULL, NULL);
    const char *now = digest(trial->w);
    expect_digest(trial, "mounted again", now, strcmp(now, trial->after) == 0 ? trial->after : trial->before);
    use_domain(trial->w);
    world_stop(trial->w);
}

/* What failed has changed nothing; what succeeded has happened, and stays so. */
static void expect_what_was_said(Trial *trial, int err)
{
    const char *expected = err != 0 ? trial->before : trial->after;
    start(trial, NULL, NULL);
    const char *now = digest(trial->w);
    if (err != 0)
        expect_digest(trial, keepf(trial->w, "failed (%s) and mounted again", g_strerror(err)), now,
                      expected);
    else
        expect_digest(trial, "succeeded and mounted again", essence(trial->w, now),
                      essence(trial->w, expected));
    use_domain(trial->w);
    if (err == 0 && strcmp(now, expected) != 0)
        expect_digest(trial, "used", essence(trial->w, digest(trial->w)), essence(trial->w, expected));
    world_stop(trial->w);
}

static void expect_reason(Trial *trial)
{
    const World *w = trial->w;
    const char *log = exists(w, "web/log") ? text_of(w, "web/log") : text_of(w, "log");
    trial_assert(trial,
                 strstr(log, "FAILED") != NULL || strstr(log, " not merged: ") != NULL ||
                     strstr(trial->what, "store.log") != NULL,
                 "no reason in the log: %s", log);
}

/* After an undo that failed, in the same process: the next operation undoes what is left. */
static void expect_repair_without_restart(Trial *trial)
{
    use_domain(trial->w);
    expect_digest(trial, "after a failed undo and a later operation", digest(trial->w), trial->before);
}

/* The gesture with @fault, which may be several; the daemon dies of it or stays. */
static void run_gesture(Trial *trial, Round round, const char *fault, gboolean dies)
{
    const World *w = trial->w;
    if (!start(trial, fault, NULL)) {
        expect_one_of_both(trial);
        return;
    }
    int err = trial->gesture->act(w);
    if (dies) {
        trial_assert(trial, is_gone(err), "alive: %s", g_strerror(err));
        expect_death(trial);
        expect_one_of_both(trial);
        return;
    }
    trial_assert(trial, !is_gone(err), "it died");
    if (err != 0)
        expect_reason(trial);
    if (err != 0 && round == IN_GESTURE)
        expect_digest(trial, keepf(w, "failed (%s),", g_strerror(err)), digest(w), trial->before);
    gboolean open =
        err != 0 && exists(w, "web/tree") && strstr(text_of(w, "web/tree"), "the next start decides") != NULL;
    if (err != 0 && !open && (round == IN_UNDO || round == IN_DOUBT))
        expect_repair_without_restart(trial);
    world_stop(trial->w);
    if (open)
        expect_one_of_both(trial);
    else
        expect_what_was_said(trial, err);
}

static void die_first(Trial *trial, Round round)
{
    start(trial, rounds[round].first, NULL);
    int err = trial->gesture->act(trial->w);
    trial_assert(trial, is_gone(err), "alive: %s", g_strerror(err));
    expect_death(trial);
}

/* The recovery with @fault. When it only fails, the mount is there all the same. */
static void run_recovery(Trial *trial, Round round, const char *fault)
{
    die_first(trial, round);
    if (start(trial, fault, NULL))
        world_stop(trial->w);
    else if (world_is_mounted(trial->w))
        ck_abort_msg("mounted, and ended");
    start(trial, NULL, NULL);
    expect_digest(trial, "mounted a second time", digest(trial->w),
                  round == IN_BACK ? trial->before : trial->after);
    use_domain(trial->w);
    world_stop(trial->w);
}

static void run(Trial *trial, Round round, const char *name, guint n, gboolean dies)
{
    const World *w = trial->w;
    const char *code = dies ? "exit" : n % 2 ? "ENOSPC" : "EIO";
    const char *fault = keepf(w, "%s:%u=%s", name, n, code);
    trial->what = keepf(w, "%s, %s, %s", trial->gesture->name, rounds[round].name, fault);
    if (g_getenv("FAULTS_TELL") != NULL)
        fprintf(stderr, "%s\n", trial->what);
    stage_restore(trial->stage);
    if (round == IN_BACK || round == IN_FORWARD)
        run_recovery(trial, round, fault);
    else
        run_gesture(trial, round, round == IN_GESTURE ? fault : keepf(w, "%s,%s", rounds[round].first, fault),
                    dies);
}

/* --- which runs --- */

/* The names that are passed, as often as they are. */
static const char *trace_round(Trial *trial, Round round)
{
    const World *w = trial->w;
    const char *file = in_dir(w, "trace");
    g_autofree char *text = NULL;
    trial->what = keepf(w, "%s, %s, traced", trial->gesture->name, rounds[round].name);
    g_unlink(file);
    stage_restore(trial->stage);
    if (round == IN_BACK || round == IN_FORWARD) {
        die_first(trial, round);
        start(trial, NULL, file);
    } else {
        start(trial, rounds[round].first, file);
        int err = trial->gesture->act(w);
        trial_assert(trial, err == (round == IN_GESTURE ? 0 : ENOSPC), "%s", g_strerror(err));
    }
    ck_assert(g_file_get_contents(file, &text, NULL, NULL));
    expect_digest(trial, "at once", digest(w),
                  round == IN_GESTURE || round == IN_FORWARD ? trial->after : trial->before);
    world_stop(trial->w);
    return keep(w, text);
}

/* Points that earlier tests of this program, processes of their own, have tried: a file of "NAME exit" and "NAME error". */
static char *tried_file(void)
{
    g_autofree char *prefix = world_prefix();
    return g_strconcat(prefix, "tried", NULL);
}

static gboolean note_tried(const char *name, gboolean dies)
{
    g_autofree char *file = tried_file();
    g_autofree char *text = NULL;
    g_autofree char *line = g_strdup_printf("%s %s\n", name, dies ? "exit" : "error");
    if (!g_file_get_contents(file, &text, NULL, NULL))
        text = g_strdup("\n");
    g_autofree char *whole = g_strconcat("\n", line, NULL);
    if (strstr(text, whole) != NULL)
        return FALSE;
    g_autofree char *longer = g_strconcat(text, line, NULL);
    ck_assert(g_file_set_contents(file, longer, -1, NULL));
    return TRUE;
}

static gboolean mode_wanted(gboolean dies)
{
    const char *mode = g_getenv("FAULTS_MODE");
    return mode == NULL || strcmp(mode, dies ? "exit" : "error") == 0;
}

/* Is it worth a run of its own? */
static gboolean is_new(const Trial *trial, Round round, const char *name, gboolean dies)
{
    if (round != IN_DOUBT || strcmp(name, "plan.revoke") == 0)
        return note_tried(name, dies);
    return strstr(name, "undo") != NULL && note_tried(keepf(trial->w, "%s in doubt", name), dies);
}

/* @name, which is passed @times, the first @before of them before what the round is about. */
static guint try_point(Trial *trial, Round round, const char *name, guint before, guint times)
{
    gboolean all = g_getenv("FAULTS_ALL") != NULL;
    guint some = before + 1 + g_str_hash(name) % (times - before), runs = 0;
    for (int dies = FALSE; dies <= TRUE; dies++) {
        if (!mode_wanted(dies) || (!is_new(trial, round, name, dies) && !all))
            continue;
        for (guint n = all ? before + 1 : some; n <= (all ? times : some); n++, runs++)
            run(trial, round, name, n, dies);
    }
    return runs;
}

/* How often each name is among the first @len lines. */
static GHashTable *count_lines(char **lines, guint len)
{
    GHashTable *times = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < len && *lines[i] != '\0'; i++) {
        guint seen = GPOINTER_TO_UINT(g_hash_table_lookup(times, lines[i]));
        g_hash_table_insert(times, lines[i], GUINT_TO_POINTER(seen + 1));
    }
    return times;
}

/* The line of the fault that leads to the round, and so is not to be replaced by another one; 0: none. */
static guint first_fault(char **lines, Round round)
{
    g_autofree char *name = NULL;
    if (round == IN_UNDO || round == IN_DOUBT)
        name = g_strndup(rounds[round].first, strcspn(rounds[round].first, "="));
    for (guint i = 0; name != NULL && lines[i] != NULL; i++)
        if (strcmp(lines[i], name) == 0)
            return i + 1;
    return 0;
}

static guint try_round(Trial *trial, Round round)
{
    g_auto(GStrv) passed = g_strsplit(trace_round(trial, round), "\n", -1);
    g_autoptr(GHashTable) before = count_lines(passed, first_fault(passed, round));
    g_autoptr(GHashTable) times = count_lines(passed, g_strv_length(passed));
    guint runs = 0;
    GHashTableIter iter;
    gpointer name, n;
    g_hash_table_iter_init(&iter, times);
    while (g_hash_table_iter_next(&iter, &name, &n)) {
        guint earlier = GPOINTER_TO_UINT(g_hash_table_lookup(before, name));
        if (earlier < GPOINTER_TO_UINT(n))
            runs += try_point(trial, round, name, earlier, GPOINTER_TO_UINT(n));
    }
    return runs;
}

START_TEST(every_point)
{
    g_autoptr(World) w = world_new(NO_MERGES);
    Trial trial = {.w = w, .gesture = &gestures[_i]};
    trial.gesture->setup(w);
    world_stop(w);
    g_autoptr(Stage) stage = stage_save(w);
    trial.stage = stage;
    trial.what = trial.gesture->name;
    start(&trial, NULL, NULL);
    trial.before = digest(w);
    int err = trial.gesture->act(w);
    trial_assert(&trial, err == 0, "%s", g_strerror(err));
    trial.after = digest(w);
    ck_assert_str_ne(trial.before, trial.after);
    world_stop(w);
    guint runs = 0;
    for (Round round = 0; round < (trial.gesture->steps ? N_ROUNDS : 1); round++)
        runs += try_round(&trial, round);
    printf("# %s: %u runs\n", trial.gesture->name, runs);
}
END_TEST

/* --- nothing is forgotten --- */

static const char *const kinds_and_phases[] = {
    "overlay do undo finish",
    "copy-out do undo finish",
    "copy do undo finish",
    "put do undo finish",
    "freeze do undo",
    "tag do undo",
    "keep do undo finish",
    "apply do undo",
    "drop-tag do",
    "thaw do",
    "copy-up do finish",
    "point do",
    "replace do",
    "retire do",
    "unlink do",
};

/* The names of all points; instead of those with a star the ones of each kind of step. */
static GPtrArray *all_points(const World *w)
{
    GPtrArray *all = g_ptr_array_new();
    set_fault("list", NULL);
    g_auto(GStrv) names = g_strsplit(run_ok(w, w->program), "\n", -1);
    set_fault(NULL, NULL);
    for (guint i = 0; names[i] != NULL && *names[i] != '\0'; i++)
        if (strchr(names[i], '*') == NULL)
            g_ptr_array_add(all, (gpointer)keep(w, names[i]));
    for (guint i = 0; i < G_N_ELEMENTS(kinds_and_phases); i++) {
        g_auto(GStrv) words = g_strsplit(kinds_and_phases[i], " ", -1);
        for (guint p = 1; words[p] != NULL; p++) {
            g_ptr_array_add(all, (gpointer)keepf(w, "step.%s.%s", words[0], words[p]));
            g_ptr_array_add(all, (gpointer)keepf(w, "step.%s.%s.after", words[0], words[p]));
        }
    }
    return all;
}

/* Passed only by what is tried elsewhere: an import (store.exchange, store.sync), a block device, a machine that runs. */
static const char *const elsewhere[] = {"place.write", "store.exchange", "store.sync",  "plan.ready",
                                        "plan.ask",    "plan.ask.after", "plan.answer", NULL};

START_TEST(none_forgotten)
{
    g_autoptr(World) w = world_new_idle();
    g_autoptr(GPtrArray) all = all_points(w);
    ck_assert_uint_gt(all->len, 30);
    for (guint i = 0; i < all->len; i++)
        for (int dies = FALSE; dies <= TRUE; dies++)
            ck_assert_msg(g_strv_contains(elsewhere, all->pdata[i]) || !mode_wanted(dies) ||
                              !note_tried(all->pdata[i], dies),
                          "no gesture passed '%s'", (const char *)all->pdata[i]);
    g_autofree char *file = tried_file();
    g_unlink(file);
}
END_TEST

/* The commit is written but fails, and cannot be taken back: nothing more is done before the store is read anew. */
START_TEST(decided_at_the_next_start)
{
    g_autoptr(World) w = world_new(NO_MERGES);
    Trial trial = {.w = w, .what = "in doubt"};
    gesture_called("create mixed")->setup(w);
    world_stop(w);
    start(&trial, "plan.commit.after=EIO,plan.revoke=ENOSPC", NULL);
    ck_assert_int_eq(gesture_called("create mixed")->act(w), EIO);
    ck_assert(!exists(w, "web/s1"));
    ck_has(text_of(w, "web/tree"), "read-only: the next start decides whether 'create 's1'' has happened: ");
    ck_errno(g_mkdir(at(w, "web/s2"), 0755), EROFS);
    ck_errno(g_rmdir(at(w, "web")), EROFS);
    world_stop(w);
    world_start(w, NO_MERGES);
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log s1 state tree usage");
    ck_has_not(text_of(w, "web/tree"), "read-only");
    use_domain(w);
}
END_TEST

START_TEST(refused)
{
    static const char *const bad[] = {
        "plan.commit",      "plan.comit=EIO",    "plan.commit=",  "files.link=EWHAT", "files.link:0=EIO",
        "files.link:x=EIO", "files.link:1-=EIO", "step.*.do=EIO", "plan.commit=EIO,"};
    g_autoptr(World) w = world_new_idle();
    set_fault(bad[_i], NULL);
    const char *said = NULL;
    ck_assert_int_eq(world_start_fails(w, NULL, &said), 1);
    ck_has(said, "DOMSNAPFS_FAULT: '");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faults");
    TCase *tcase = add_case(suite, "faults");
    tcase_set_timeout(tcase, g_getenv("FAULTS_ALL") != NULL ? 0 : 300);
    tcase_add_loop_test(tcase, every_point, 0, (int)n_gestures());
    if (g_getenv("FAULTS_ALL") == NULL)
        tcase_add_test(tcase, none_forgotten);
    if (mode_wanted(FALSE))
        tcase_add_test(tcase, decided_at_the_next_start);
    tcase_add_loop_test(tcase, refused, 0, 9);
    return mount_main(suite);
}
