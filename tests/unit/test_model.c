/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The model test: random sequences of everything that can be done to a domain that is off, compared after each move with
 * a table of what each state's disks should contain (mirror.h, moves.h).
 *
 * MODEL_SECONDS (default 40; hours if one likes): how long. MODEL_SEED: the first sequence (default: another one each
 * time); the next one has the next number. MODEL_MOVES (default 40): how long a sequence is. MODEL_CASES: how many.
 * MODEL_KEEP=1,4,9: of the sequence MODEL_SEED only these moves, told one by one.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "moves.h"
#include "runner.h"

#define SHRINK_SECONDS 90 /* for making a failing sequence shorter */
#define STUCK_SECONDS 300 /* no sequence takes that long */

/* What the processes that play say to the one that starts them. */
typedef struct {
    guint at; /* the move that is being played */
    guint64 played[N_MOVES], crashes, states;
} Tally;

static Tally *tally;

static guint64 setting(const char *name, guint64 otherwise)
{
    const char *text = g_getenv(name);
    return text ? g_ascii_strtoull(text, NULL, 10) : otherwise;
}

static guint n_moves(void)
{
    return (guint)setting("MODEL_MOVES", 40);
}

/* All moves of a sequence; those that are not kept have no part in it. */
static gboolean *keep_all(void)
{
    gboolean *keep = g_new0(gboolean, n_moves());
    g_auto(GStrv) words = g_strsplit(g_getenv("MODEL_KEEP") ? g_getenv("MODEL_KEEP") : "", ",", -1);
    for (guint i = 0; i < n_moves(); i++)
        keep[i] = !words[0];
    for (guint i = 0; words[i]; i++)
        if (g_ascii_strtoull(words[i], NULL, 10) < n_moves())
            keep[g_ascii_strtoull(words[i], NULL, 10)] = TRUE;
    return keep;
}

/* NULL, or what is wrong. Caller frees. */
static char *play_all(guint32 seed, const gboolean *keep, gboolean loud)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autofree char *name = g_strdup_printf("model-%u", seed);
    char *dir = g_build_filename(scratch, name, NULL);
    remove_tree(dir);
    tally->at = 0;
    Story *story = story_new(dir, rand);
    char *wrong = NULL;
    if (loud)
        printf("# a domain with %s\n", story->text->str);
    for (tally->at = 0; tally->at < n_moves() && !wrong; tally->at++) {
        Move move = move_random(rand);
        Played played;
        if (!keep[tally->at])
            continue;
        wrong = story_play(story, &move, &played);
        if (loud && played != PLAYED_NOTHING)
            printf("# %u: %s\n", tally->at, story->text->str);
        tally->played[move.kind] += played != PLAYED_NOTHING;
        tally->crashes += played == PLAYED_CRASH;
        tally->states += played != PLAYED_NOTHING ? story->mirror->states->len + 1 : 0;
        if (wrong)
            break;
    }
    story_free(story);
    return wrong;
}

/* In a process of its own: whatever happens to it, it only fails. */
static gboolean fails(guint32 seed, const gboolean *keep, gboolean loud)
{
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        alarm(STUCK_SECONDS);
        if (!loud)
            ck_assert_ptr_nonnull(freopen("/dev/null", "w", stdout));
        g_autofree char *wrong = play_all(seed, keep, loud);
        if (wrong)
            printf("# WRONG: %s\n", wrong);
        fflush(NULL);
        _exit(wrong ? 1 : 0);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* Leave out what is not needed for it to fail, first much at once, then less; as far as it goes in that time. */
static void shrink(guint32 seed, gboolean *keep)
{
    gint64 end = g_get_monotonic_time() + SHRINK_SECONDS * G_USEC_PER_SEC;
    Tally before = *tally;
    for (guint i = tally->at + 1; i < n_moves(); i++)
        keep[i] = FALSE;
    for (guint size = n_moves() / 4; size > 0; size /= 2)
        for (guint at = 0; at < n_moves() && g_get_monotonic_time() < end; at += size) {
            g_autofree gboolean *fewer = g_memdup2(keep, n_moves() * sizeof *keep);
            gboolean any = FALSE;
            for (guint i = at; i < at + size && i < n_moves(); i++) {
                any = any || fewer[i];
                fewer[i] = FALSE;
            }
            if (any && fails(seed, fewer, FALSE))
                memcpy(keep, fewer, n_moves() * sizeof *keep);
        }
    *tally = before;
}

static char *keep_text(const gboolean *keep)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < n_moves(); i++)
        if (keep[i])
            g_string_append_printf(text, "%s%u", text->len ? "," : "", i);
    return g_string_free(text, FALSE);
}

static void report(guint n)
{
    guint64 sum = 0;
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < N_MOVES; i++) {
        sum += tally->played[i];
        g_string_append_printf(text, "%s%s %" G_GUINT64_FORMAT, i ? ", " : "", move_name(i),
                               tally->played[i]);
    }
    printf("# %u sequences, %" G_GUINT64_FORMAT " moves (%s), %" G_GUINT64_FORMAT
           " of which died or might have, %" G_GUINT64_FORMAT " states compared\n",
           n, sum, text->str, tally->crashes, tally->states);
}

START_TEST(model)
{
    guint32 seed = (guint32)setting("MODEL_SEED", g_random_int());
    guint64 cases = setting("MODEL_CASES", g_getenv("MODEL_KEEP") ? 1 : G_MAXUINT64);
    gint64 end = g_get_monotonic_time() + (gint64)setting("MODEL_SECONDS", 40) * G_USEC_PER_SEC;
    guint n = 0;
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(tally != MAP_FAILED);
    printf("# the first sequence is MODEL_SEED=%u\n", seed);
    for (; n < cases && (n == 0 || g_get_monotonic_time() < end); n++, seed++) {
        g_autofree gboolean *keep = keep_all();
        if (!fails(seed, keep, cases == 1))
            continue;
        printf("# MODEL_SEED=%u fails at move %u; leaving out moves\n", seed, tally->at);
        shrink(seed, keep);
        g_autofree char *kept = keep_text(keep);
        gboolean again = fails(seed, keep, TRUE);
        report(n);
        fflush(stdout);
        ck_abort_msg("%s; to play it again: MODEL_SEED=%u MODEL_MOVES=%u MODEL_KEEP=%s",
                     again ? "see above" : "it failed, but not again", seed, n_moves(), kept);
    }
    report(n);
    ck_assert_uint_gt(n, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *tcase = scratch_case(suite, "model");
    tcase_set_timeout(tcase, 0); /* as long as it is told to; no sequence can hang */
    tcase_add_test(tcase, model);
    return run_suite(suite);
}
