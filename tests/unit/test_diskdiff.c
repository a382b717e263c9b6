/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which bytes of two disks differ, and which one of several disks alone stores: against counting unit by unit. */
#include <stdio.h>
#include <string.h>

#include "changes.h"
#include "diskdiff.h"
#include "fake_disk.h"
#include "placemap.h"
#include "runner.h"
#include "usage_disk.h"

static GRand *rand_of(const char *name, guint number)
{
    guint32 seed = g_str_hash(name) + number;
    printf("# %s: seed %u\n", name, seed);
    return g_rand_new_with_seed(seed);
}

/* Runs of all kinds of units; what is stored in file @own is nobody else's. */
static void scatter(FakeDisk *disk, GRand *rand, guint own)
{
    static guint next = 0; /* in the file: no place is given twice */
    for (guint i = 0; i < disk->n_units;) {
        guint n = (guint)g_rand_int_range(rand, 1, 20);
        n = MIN(n, disk->n_units - i);
        int kind = g_rand_int_range(rand, 0, 4);
        if (kind == 0)
            memset(&disk->units[i], 0, n * sizeof *disk->units);
        if (kind == 1)
            fake_put(disk, i, n, own, next);
        for (guint k = 0; kind == 2 && k < n; k++)
            disk->units[i + k] = (FakeUnit){own, next, k, n};
        next += n; /* of other kinds: what was there stays */
        i += n;
    }
}

static gboolean unit_same(const FakeUnit *a, const FakeUnit *b)
{
    if (a->file == 0 || b->file == 0)
        return a->file == b->file;
    return a->file != UNKNOWN && a->file == b->file && a->at == b->at && a->into == b->into;
}

static FakeUnit unit_of(const FakeDisk *disk, guint i)
{
    return disk && i < disk->n_units ? disk->units[i] : (FakeUnit){0};
}

/* Must unit @i be told? */
static gboolean differs(const FakeDisk *old, const FakeDisk *now, guint i)
{
    FakeUnit before = unit_of(old, i), after = unit_of(now, i);
    gboolean one = old && (i < old->n_units) != (i < now->n_units);
    return one || !unit_same(&before, &after);
}

static gboolean told(const DiskDiff *diff, guint i)
{
    for (guint k = 0; k < diff->ranges->len; k++) {
        const DiskRange *range = &g_array_index(diff->ranges, DiskRange, k);
        if ((guint64)i * UNIT >= range->offset && (guint64)i * UNIT < range->offset + range->length)
            return TRUE;
    }
    return FALSE;
}

static void assert_in_order(const DiskDiff *diff)
{
    for (guint k = 0; k + 1 < diff->ranges->len; k++) {
        const DiskRange *range = &g_array_index(diff->ranges, DiskRange, k);
        ck_assert_uint_gt(range->length, 0);
        ck_assert_uint_lt(range[0].offset + range[0].length, range[1].offset);
    }
}

static void compare(FakeDisk *old, FakeDisk *now, guint max, gboolean exact)
{
    GError *error = NULL;
    g_auto(DiskDiff) diff = {0};
    guint n = MAX(old ? old->n_units : 0, now->n_units);
    ck_assert_msg(disk_diff(old ? &old->base : NULL, &now->base, max, NULL, &diff, &error), "%s",
                  error ? error->message : "");
    assert_in_order(&diff);
    ck_assert_uint_le(diff.ranges->len, max);
    ck_assert_int_eq(diff.joined != 0, !exact);
    for (guint i = 0; i < n; i++) {
        gboolean must = differs(old, now, i), is = told(&diff, i);
        ck_assert_msg(is || !must, "unit %u differs and is not told", i);
        ck_assert_msg(must || !is || !exact, "unit %u is told and the same", i);
    }
}

START_TEST(random_disks)
{
    g_autoptr(GRand) rand = rand_of("random_disks", (guint)_i);
    FakeDisk *old = fake_disk_new(1000);
    scatter(old, rand, 1);
    FakeDisk *now = fake_disk_copy(old);
    scatter(now, rand, 2);
    compare(old, now, CHANGES_MAX, TRUE);
    compare(now, old, CHANGES_MAX, TRUE);
    compare(NULL, now, CHANGES_MAX, TRUE);
    compare(now, now, CHANGES_MAX, TRUE);
    FakeDisk *shorter = fake_disk_new(700);
    memcpy(shorter->units, now->units, 700 * sizeof *now->units);
    compare(now, shorter, CHANGES_MAX, TRUE);
    compare(shorter, now, CHANGES_MAX, TRUE);
    compare(old, shorter, CHANGES_MAX, TRUE);
    fake_free(&old->base);
    fake_free(&now->base);
    fake_free(&shorter->base);
}
END_TEST

/* Many ranges become few, and none is lost. */
START_TEST(too_many_ranges)
{
    FakeDisk *now = fake_disk_new(60000);
    for (guint i = 0; i < now->n_units; i += 3)
        fake_put(now, i, 1, 1, i);
    memset(&now->units[20000], 0, 20000 * sizeof *now->units);
    compare(NULL, now, 100, FALSE);
    compare(NULL, now, 2, FALSE);
    GError *error = NULL;
    g_auto(DiskDiff) diff = {0};
    ck_assert(disk_diff(NULL, &now->base, 100, NULL, &diff, &error));
    ck_assert_msg(!told(&diff, 30000), "what is far apart is not joined");
    fake_free(&now->base);
}
END_TEST

/* Where only the owner knows, all data counts as changed, and zeros do not. */
START_TEST(unknown_places)
{
    GError *error = NULL;
    g_auto(DiskDiff) diff = {0};
    FakeDisk *disk = fake_disk_new(100);
    fake_put(disk, 10, 5, UNKNOWN, 0);
    ck_assert(disk_diff(&disk->base, &disk->base, 10, NULL, &diff, &error));
    ck_assert(diff.guessed);
    ck_assert_uint_eq(diff.ranges->len, 1);
    ck_assert_uint_eq(g_array_index(diff.ranges, DiskRange, 0).offset, 10 * UNIT);
    ck_assert_uint_eq(g_array_index(diff.ranges, DiskRange, 0).length, 5 * UNIT);
    fake_free(&disk->base);
}
END_TEST

static gboolean says_nothing(DiskReader *reader, guint64 offset, DiskExtent *ret_extent, GError **error)
{
    *ret_extent = (DiskExtent){0};
    return TRUE;
}

static void assert_fails(gboolean ok, GError **error, int code)
{
    ck_assert(!ok);
    ck_assert_int_eq(snap_errno(*error), code);
    g_clear_error(error);
}

START_TEST(failures)
{
    GError *error = NULL;
    DiskDiff diff;
    Places places;
    FakeDisk *disk = fake_disk_new(100);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    fake_put(disk, 10, 5, 1, 0);
    disk->fails_at = 50;
    assert_fails(disk_diff(NULL, &disk->base, 10, NULL, &diff, &error), &error, EIO);
    assert_fails(places_read(&disk->base, 0, G_MAXUINT64, 10, NULL, &places, &error), &error, EIO);
    disk->fails_at = 0;
    const DiskReaderOps mute = {.extent = says_nothing};
    DiskReader silent = {&mute, 1000};
    assert_fails(disk_diff(NULL, &silent, 10, NULL, &diff, &error), &error, EIO);
    g_cancellable_cancel(cancel);
    assert_fails(disk_diff(NULL, &disk->base, 10, cancel, &diff, &error), &error, EINTR);
    assert_fails(places_read(&disk->base, 0, G_MAXUINT64, 10, cancel, &places, &error), &error, EINTR);
    fake_free(&disk->base);
}
END_TEST

/* --- who stores what --- */

enum { MAX_STATES = 12 };

typedef struct {
    FakeDisk *disks[MAX_STATES]; /* id - 1 */
    guint n;
    guint opened; /* at this time */
    guint opens;
} Pool;

/* A copy that says when it is closed. */
typedef struct {
    FakeDisk disk;
    Pool *pool;
} Pooled;

static void pooled_free(DiskReader *reader)
{
    Pooled *pooled = (Pooled *)reader;
    pooled->pool->opened--;
    g_free(pooled);
}

static DiskReader *pool_open(gpointer user, EngineId id, GCancellable *cancel, GError **error)
{
    static const DiskReaderOps ops = {.read = fake_read, .extent = fake_extent, .free = pooled_free};
    Pool *pool = user;
    if (!pool->disks[id - 1]) {
        snap_set_error(error, ENOENT, "it is gone");
        return NULL;
    }
    Pooled *pooled = g_new0(Pooled, 1);
    *pooled = (Pooled){*pool->disks[id - 1], pool};
    pooled->disk.base.ops = &ops;
    pool->opens++;
    pool->opened++;
    ck_assert_uint_eq(pool->opened, 1);
    return &pooled->disk.base;
}

static GArray *uses_of(const Pool *pool, guint aside)
{
    GArray *uses = disk_uses_new();
    for (guint i = 0; i < pool->n; i++) {
        DiskUse use = {.line = i, .id = i + 1, .aside = i == aside};
        g_array_append_val(uses, use);
    }
    return uses;
}

/* A tree of states, each a little different from one before it. */
static void grow(Pool *pool, GRand *rand, guint n_units)
{
    pool->n = MAX_STATES;
    for (guint i = 0; i < pool->n; i++) {
        pool->disks[i] = i == 0 ? fake_disk_new(n_units)
                                : fake_disk_copy(pool->disks[g_rand_int_range(rand, 0, (gint32)i)]);
        for (guint k = 0; k < 5; k++) {
            guint first = (guint)g_rand_int_range(rand, 0, (gint32)n_units - 50);
            guint n = (guint)g_rand_int_range(rand, 1, 50);
            fake_put(pool->disks[i], first, n, 1 + i % 3, i * 100000 + k * 1000);
        }
    }
}

static void pool_clear(Pool *pool)
{
    for (guint i = 0; i < pool->n; i++) {
        if (pool->disks[i])
            fake_free(&pool->disks[i]->base);
    }
}

/* In how many states that count is the place of @unit? */
static guint sharers(const Pool *pool, const FakeUnit *unit, guint at, guint aside)
{
    guint n = 0;
    for (guint i = 0; i < pool->n; i++) {
        if (i != aside && pool->disks[i] && at < pool->disks[i]->n_units)
            n += unit_same(&pool->disks[i]->units[at], unit);
    }
    return n;
}

static void assert_counted(const Pool *pool, const GArray *uses, guint aside)
{
    for (guint i = 0; i < pool->n; i++) {
        const DiskUse *use = &g_array_index(uses, DiskUse, i);
        guint64 alone = 0, total = 0;
        for (guint u = 0; pool->disks[i] && u < pool->disks[i]->n_units; u++) {
            const FakeUnit *unit = &pool->disks[i]->units[u];
            total += unit->file ? UNIT : 0;
            alone += unit->file && sharers(pool, unit, u, aside) == (i == aside ? 0 : 1) ? UNIT : 0;
        }
        ck_assert_int_eq(use->why != NULL, pool->disks[i] == NULL);
        ck_assert_msg(use->exclusive == alone && use->total == total,
                      "state %u: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT ", expected %" G_GUINT64_FORMAT
                      " of %" G_GUINT64_FORMAT,
                      i, use->exclusive, use->total, alone, total);
    }
}

START_TEST(random_states)
{
    GError *error = NULL;
    g_autoptr(GRand) rand = rand_of("random_states", (guint)_i);
    Pool pool = {0};
    grow(&pool, rand, 2000);
    guint aside = _i % 2 ? (guint)g_rand_int_range(rand, 0, MAX_STATES) : G_MAXUINT;
    if (_i % 3 == 0) { /* one that cannot be read */
        fake_free(&pool.disks[MAX_STATES / 2]->base);
        pool.disks[MAX_STATES / 2] = NULL;
    }
    const UsageSource source = {.open = pool_open, .user = &pool};
    g_autoptr(GArray) uses = uses_of(&pool, aside);
    guint64 in_file;
    const FileId file = {.dev = 7, .ino = 1};
    ck_assert(disk_uses_read(uses, &source, USAGE_PIECES, &file, &in_file, NULL, &error));
    assert_counted(&pool, uses, aside);
    ck_assert_uint_eq(pool.opened, 0);
    ck_assert_uint_le(pool.opens, pool.n);
    ck_assert_uint_gt(in_file, 0);
    pool_clear(&pool);
}
END_TEST

/* Compressed data takes what it takes, once. */
START_TEST(compressed)
{
    GError *error = NULL;
    Pool pool = {.n = 2};
    for (guint i = 0; i < 2; i++) {
        pool.disks[i] = fake_disk_new(100);
        for (guint k = 0; k < 64; k++)
            pool.disks[i]->units[k] = (FakeUnit){1, i * 10 + k / 32, k % 32, 32};
    }
    pool.disks[1]->units[99] = (FakeUnit){2, 5, 0, 0};
    const UsageSource source = {.open = pool_open, .user = &pool};
    g_autoptr(GArray) uses = uses_of(&pool, G_MAXUINT);
    ck_assert(disk_uses_read(uses, &source, 3000, NULL, NULL, NULL, &error));
    ck_assert_uint_eq(g_array_index(uses, DiskUse, 0).exclusive, 2 * UNIT);
    ck_assert_uint_eq(g_array_index(uses, DiskUse, 1).exclusive, 3 * UNIT);
    pool_clear(&pool);
}
END_TEST

/* So many pieces that they are not looked at all at once: the sums are the same. */
START_TEST(in_parts)
{
    enum { UNITS = 60000 };
    GError *error = NULL;
    Pool pool = {.n = 3};
    for (guint i = 0; i < 3; i++) {
        pool.disks[i] = fake_disk_new(UNITS);
        for (guint u = 0; u < UNITS; u += 2) /* a third of these are shared by two */
            fake_put(pool.disks[i], u, 1, u % 3 == 0 ? 1 + i / 2 : 10 + i, u);
    }
    const UsageSource source = {.open = pool_open, .user = &pool};
    g_autoptr(GArray) uses = uses_of(&pool, 2);
    ck_assert(disk_uses_read(uses, &source, 3000, NULL, NULL, NULL, &error));
    for (guint i = 0; i < 3; i++) {
        const DiskUse *use = &g_array_index(uses, DiskUse, i);
        ck_assert_uint_eq(use->total, (guint64)UNITS / 2 * UNIT);
        ck_assert_uint_eq(use->exclusive, (guint64)UNITS / 2 * UNIT * (i == 2 ? 3 : 2) / 3);
    }
    ck_assert_uint_gt(pool.opens, 6);
    pool_clear(&pool);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("diskdiff");
    TCase *diff = tcase_create("diff");
    tcase_add_loop_test(diff, random_disks, 0, 20);
    tcase_add_test(diff, too_many_ranges);
    tcase_add_test(diff, unknown_places);
    tcase_add_test(diff, failures);
    tcase_set_timeout(diff, 60);
    suite_add_tcase(suite, diff);
    TCase *stored = tcase_create("stored");
    tcase_add_loop_test(stored, random_states, 0, 12);
    tcase_add_test(stored, compressed);
    tcase_add_test(stored, in_parts);
    tcase_set_timeout(stored, 60);
    suite_add_tcase(suite, stored);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
