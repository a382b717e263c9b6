/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The native reader against qemu-img, over random disks (random_disk.h): every byte of every state, read in pieces by
 * several threads, and the extents. As many disks as fit in DISKREADER_SECONDS, or DISKREADER_CASES; the first has the seed
 * DISKREADER_SEED. A failure says which one it was.
 */
#include "images.h"
#include "offline.h"
#include "random_disk.h"
#include "runner.h"

#include <sys/mman.h>

#define THREADS 4
#define MAX_PIECE (256 * 1024)

static Backend *backend;

static void setup(void)
{
    backend = offline_backend_new(NULL);
}

static void teardown(void)
{
    backend->ops->free(backend);
}

static guint64 setting(const char *name, guint64 otherwise)
{
    const char *text = g_getenv(name);
    return text ? g_ascii_strtoull(text, NULL, 10) : otherwise;
}

/* A state opened, and what it must hold. */
typedef struct {
    DiskReader *reader;
    const guint8 *expected;
    guint32 seed;
} Reading;

static char *compare(const Reading *reading, guint8 *buffer, gsize len, guint64 offset)
{
    g_autoptr(GError) error = NULL;
    if (!reading->reader->ops->read(reading->reader, buffer, len, offset, &error))
        return g_strdup(error->message);
    for (gsize i = 0; i < len; i++)
        if (buffer[i] != reading->expected[offset + i])
            return g_strdup_printf("byte %" G_GUINT64_FORMAT
                                   " is %u, not %u (read of %zu at %" G_GUINT64_FORMAT ")",
                                   offset + i, buffer[i], reading->expected[offset + i], len, offset);
    return NULL;
}

/* NULL, or what is wrong. */
static gpointer read_at_random(gpointer data)
{
    const Reading *reading = data;
    g_autofree guint8 *buffer = g_malloc(MAX_PIECE);
    GRand *rand = g_rand_new_with_seed(reading->seed);
    char *wrong = NULL;
    for (guint i = 0; i < 100 && !wrong; i++) {
        guint64 offset = (guint64)g_rand_double_range(rand, 0, (double)reading->reader->size);
        gsize len = 1 + (gsize)g_rand_int_range(rand, 0, 1 << g_rand_int_range(rand, 0, 18));
        wrong = compare(reading, buffer, MIN(len, reading->reader->size - offset), offset);
    }
    g_rand_free(rand);
    return wrong;
}

static gpointer read_through(gpointer data)
{
    const Reading *reading = data;
    g_autofree guint8 *buffer = g_malloc(MAX_PIECE);
    char *wrong = NULL;
    for (guint64 offset = 0; offset < reading->reader->size && !wrong; offset += MAX_PIECE)
        wrong = compare(reading, buffer, MIN(MAX_PIECE, reading->reader->size - offset), offset);
    return wrong;
}

static char *read_by_threads(Reading *reading)
{
    GThread *threads[THREADS];
    Reading readings[THREADS];
    char *wrong = NULL;
    for (guint i = 0; i < THREADS; i++) {
        readings[i] = *reading;
        readings[i].seed += i;
        threads[i] = g_thread_new("read", i == 0 ? read_through : read_at_random, &readings[i]);
    }
    for (guint i = 0; i < THREADS; i++) {
        char *its = g_thread_join(threads[i]);
        if (wrong)
            g_free(its);
        else
            wrong = its;
    }
    return wrong;
}

/* Which image of the chain @extent is in; depth: none. (No assertions here: libcheck remembers each that holds.) */
static guint find_layer(const RandomDisk *disk, const DiskExtent *extent)
{
    guint i = 0;
    for (struct stat st; i < disk->depth; i++)
        if (stat(disk->layers[i].path, &st) == 0 && st.st_dev == extent->dev && st.st_ino == extent->ino)
            break;
    return i;
}

/* What lies in a file as it is can be read there. */
static char *compare_place(const RandomDisk *disk, const DiskExtent *extent, const guint8 *expected)
{
    g_autofree guint8 *buffer = g_malloc0(extent->length);
    guint at = find_layer(disk, extent);
    if (at == disk->depth)
        return g_strdup("the data is in a file that is none of the chain");
    if (extent->length <= disk->compressed[at])
        return NULL;
    int fd = open(disk->layers[at].path, O_RDONLY | O_CLOEXEC);
    gboolean same = pread(fd, buffer, extent->length, (off_t)extent->at) >= 0 &&
                    memcmp(buffer, expected, extent->length) == 0;
    close(fd);
    return same ? NULL : g_strdup("the place is not that of the data");
}

static char *check_extents(const Reading *reading, const RandomDisk *disk)
{
    DiskReader *reader = reading->reader;
    DiskExtent extent;
    char *wrong = NULL;
    for (guint64 offset = 0; offset < reader->size && !wrong; offset += extent.length) {
        g_autoptr(GError) error = NULL;
        if (!reader->ops->extent(reader, offset, &extent, &error))
            return g_strdup(error->message);
        const guint8 *expected = reading->expected + offset;
        if (extent.length == 0 || extent.length > reader->size - offset || !extent.known)
            return g_strdup_printf("an extent of %" G_GUINT64_FORMAT " bytes", extent.length);
        gboolean stored = extent.data && !extent.sparse;
        if (!stored && (expected[0] != 0 || memcmp(expected, expected + 1, extent.length - 1) != 0))
            wrong = g_strdup_printf("no hole at %" G_GUINT64_FORMAT, offset);
        if (stored)
            wrong = compare_place(disk, &extent, expected);
    }
    return wrong;
}

static char *check_state(const RandomDisk *disk, const RandomState *state, guint32 seed)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GMappedFile) expected = g_mapped_file_new(state->expected, FALSE, &error);
    ck_assert_ptr_nonnull(expected);
    guint64 size;
    g_autoptr(DiskReader) reader = backend->ops->open_disk(backend, &state->chain, &error);
    if (!reader || !backend->ops->disk_size(backend, &state->chain, &size, &error))
        return g_strdup(error->message);
    if (reader->size != size || size != g_mapped_file_get_length(expected))
        return g_strdup_printf("it has %" G_GUINT64_FORMAT " or %" G_GUINT64_FORMAT " bytes, not %zu",
                               reader->size, size, g_mapped_file_get_length(expected));
    Reading reading = {reader, (const guint8 *)g_mapped_file_get_contents(expected), seed};
    char *wrong = read_by_threads(&reading);
    return wrong ? wrong : check_extents(&reading, disk);
}

/* FALSE: it was given up. */
static gboolean check_disk(guint32 seed, guint depth)
{
    g_autofree char *name = g_strdup_printf("%u-%u", seed, depth);
    g_autofree char *directory = g_build_filename(scratch, name, NULL);
    ck_assert_int_eq(mkdir(directory, 0755), 0);
    printf("# DISKREADER_SEED=%u: %u images\n", seed, depth);
    g_autoptr(RandomDisk) disk = random_disk_new(seed, depth, directory);
    for (guint i = 0; i < disk->states->len && !disk->given_up; i++) {
        const RandomState *state = &g_array_index(disk->states, RandomState, i);
        g_autofree char *wrong = check_state(disk, state, seed);
        ck_assert_msg(wrong == NULL, "%s: %s\n%s\nDISKREADER_SEED=%u DISKREADER_CASES=1", state->expected,
                      wrong, disk->story->str, seed);
    }
    remove_tree(directory);
    return !disk->given_up;
}

static guint depth_of(guint32 seed)
{
    GRand *rand = g_rand_new_with_seed(seed);
    guint depth = (guint)g_rand_int_range(rand, 1, g_rand_boolean(rand) ? 4 : 9);
    if (g_rand_int_range(rand, 0, 40) == 0)
        depth = (guint)g_rand_int_range(rand, 11, 101);
    g_rand_free(rand);
    return depth;
}

START_TEST(test_random_disks)
{
    guint64 cases = setting("DISKREADER_CASES", G_MAXUINT64);
    gint64 end = g_get_monotonic_time() + (gint64)setting("DISKREADER_SECONDS", 12) * G_USEC_PER_SEC;
    guint32 seed = (guint32)setting("DISKREADER_SEED", g_random_int());
    guint64 given_up = 0, n = 0;
    for (; n < cases && (n == 0 || g_get_monotonic_time() < end); n++, seed++)
        given_up += !check_disk(seed, depth_of(seed));
    ck_assert_msg(given_up <= 2 + n / 10,
                  "%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " disks were damaged by QEMU", given_up, n);
}
END_TEST

START_TEST(test_deep)
{
    guint32 seed = (guint32)setting("DISKREADER_SEED", g_random_int());
    for (guint tries = 3; tries > 0 && !check_disk(seed, 100); tries--)
        seed++;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("diskreader");
    TCase *random = scratch_case(suite, "random");
    tcase_add_checked_fixture(random, setup, teardown);
    tcase_set_timeout(random, (double)setting("DISKREADER_SECONDS", 12) + 120);
    tcase_add_test(random, test_random_disks);
    tcase_add_test(random, test_deep);
    return run_suite(suite);
}
