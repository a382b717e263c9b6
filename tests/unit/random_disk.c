/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "random_disk.h"

#include "images.h"

#define SECTOR 512
#define MAX_SECTORS (6 * 1024 * 1024 / SECTOR)
#define NOISE_BYTES (1024 * 1024)

typedef struct {
    RandomDisk *disk;
    GRand *rand;
    const char *directory;
    char *noise; /* a file of bytes that do not compress */
    /* the image that is being made */
    guint index; /* of it, from the lowest on */
    char *path;
    gboolean raw;
    gboolean v3;
    guint cluster; /* bytes */
    guint sectors;
    guint n_tags;
    gboolean compressed;
    gboolean any_compressed; /* it, or an image below */
} Making;

static guint below(Making *m, guint n)
{
    return (guint)g_rand_int_range(m->rand, 0, (gint32)n);
}

static gboolean percent(Making *m, guint chance)
{
    return below(m, 100) < chance;
}

static void tell(Making *m, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void tell(Making *m, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_string_append_vprintf(m->disk->story, format, args);
    va_end(args);
    g_string_append_c(m->disk->story, '\n');
}

static char *new_path(Making *m, const char *what)
{
    return g_strdup_printf("%s/%s-%zu", m->directory, what, m->disk->story->len);
}

static void make_noise(Making *m)
{
    g_autofree guint32 *words = g_new(guint32, NOISE_BYTES / 4);
    for (guint i = 0; i < NOISE_BYTES / 4; i++)
        words[i] = g_rand_int(m->rand);
    m->noise = g_build_filename(m->directory, "noise", NULL);
    ck_assert(g_file_set_contents(m->noise, (const char *)words, NOISE_BYTES, NULL));
}

/*
 * Run a tool, which must succeed; but QEMU 7.2 at times damages images into which it has written compressed clusters, and fails
 * over them then: such a disk is given up.
 */
static void use(Making *m, const char *first, ...) G_GNUC_NULL_TERMINATED;
static void use(Making *m, const char *first, ...)
{
    va_list args;
    if (m->disk->given_up)
        return;
    va_start(args, first);
    int status = run_words(NULL, first, args);
    va_end(args);
    m->disk->given_up = status != 0 && m->any_compressed;
    ck_assert_msg(status == 0 || m->disk->given_up, "%s failed with %d\n%s", first, status,
                  m->disk->story->str);
}

/* --- geometry --- */

static guint random_size(Making *m)
{
    guint limit = percent(m, 70) ? MAX_SECTORS / 8 : MAX_SECTORS;
    guint sectors = 1 + below(m, limit);
    return percent(m, 50) ? sectors : MAX(sectors / 128, 1) * 128;
}

static char *random_options(Making *m)
{
    static const guint clusters[] = {512, 512, 1024, 4096, 4096, 16384, 65536, 65536, 262144, 2097152};
    GString *options = g_string_new(NULL);
    m->cluster = clusters[below(m, G_N_ELEMENTS(clusters))];
    m->v3 = !percent(m, 15);
    gboolean extended = m->v3 && m->cluster >= 16384 && percent(m, 40);
    g_string_printf(options, "cluster_size=%u,compat=%s", m->cluster, m->v3 ? "1.1" : "0.10");
    if (extended)
        g_string_append(options, ",extended_l2=on");
    if (m->v3 && percent(m, 40))
        g_string_append(options, ",compression_type=zstd");
    if (m->v3 && percent(m, 20))
        g_string_append(options, ",lazy_refcounts=on");
    if ((m->index == 0 || extended) && percent(m, 20))
        g_string_append_printf(options, ",preallocation=%s", percent(m, 50) ? "metadata" : "falloc");
    return g_string_free(options, FALSE);
}

static void create(Making *m, const char *below_it, gboolean below_is_raw)
{
    g_autofree char *size = g_strdup_printf("%u", m->sectors * SECTOR);
    m->raw = m->index == 0 && percent(m, 30);
    m->path = new_path(m, m->raw ? "raw" : "qcow2");
    m->n_tags = 0;
    m->compressed = FALSE;
    if (m->raw) {
        m->cluster = SECTOR;
        tell(m, "%s: raw, %u sectors", m->path, m->sectors);
        use(m, "qemu-img", "create", "-q", "-f", "raw", m->path, size, NULL);
        return;
    }
    g_autofree char *options = random_options(m);
    tell(m, "%s: %s, %u sectors", m->path, options, m->sectors);
    if (below_it)
        use(m, "qemu-img", "create", "-q", "-f", "qcow2", "-b", below_it, "-F",
            below_is_raw ? "raw" : "qcow2", "-o", options, m->path, size, NULL);
    else
        use(m, "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, m->path, size, NULL);
}

/* --- writing --- */

/* A range of the image: near what was written before as often as not, since all of it is small. */
static char *random_range(Making *m, guint max_sectors)
{
    guint start = below(m, m->sectors);
    guint n = 1 + below(m, MIN(m->sectors - start, max_sectors));
    return g_strdup_printf("%u %u", start * SECTOR, n * SECTOR);
}

static char *random_compressed(Making *m)
{
    guint clusters = m->sectors * SECTOR / m->cluster;
    g_autofree char *range =
        g_strdup_printf("%u %u", clusters ? below(m, clusters) * m->cluster : 0,
                        clusters ? m->cluster : m->sectors * SECTOR /* the end may be half a cluster */);
    return percent(m, 70) ? g_strdup_printf("write -c -P %u %s", 1 + below(m, 255), range)
                          : g_strdup_printf("write -c -s %s %s", m->noise, range);
}

static char *random_command(Making *m)
{
    guint what = below(m, m->raw ? 55 : 100);
    g_autofree char *range = random_range(m, percent(m, 60) ? 64 : 2048);
    if (what < 35)
        return g_strdup_printf("write -P %u %s", 1 + below(m, 255), range);
    if (what < 45)
        return g_strdup_printf("write -s %s %s", m->noise, range);
    if (what < 55)
        return g_strdup_printf("write -z%s %s", percent(m, 50) ? " -u" : "", range);
    if (what < 65)
        return g_strdup_printf("discard %s", range);
    return random_compressed(m);
}

static void add_command(Making *m, GPtrArray *argv, char *command)
{
    tell(m, "  %s", command);
    g_ptr_array_add(argv, g_strdup("-c"));
    g_ptr_array_add(argv, command);
}

static guint count(const char *text, const char *word)
{
    guint n = 0;
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word))
        n++;
    return n;
}

/* QEMU 7.2 stumbles at times over what it has compressed itself, and takes the image for damaged. */
static gboolean stumbled(const Making *m, const char *output)
{
    guint8 header[80] = {0};
    int fd = open(m->path, O_RDONLY | O_CLOEXEC);
    gboolean marked = !m->raw && m->v3 && pread(fd, header, sizeof header, 0) > 0 && (header[79] & 2);
    close(fd);
    return marked || strstr(output, "No medium found");
}

/* A compressed cluster is never written over what is there: then such a write fails, and only it may. */
static void write_some(Making *m)
{
    static const char *const program[] = {"qemu-io", "-t", "unsafe", "-d", "unmap", "-f"};
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    guint compressed = 0;
    if (m->disk->given_up)
        return;
    for (guint i = 0; i < G_N_ELEMENTS(program); i++)
        g_ptr_array_add(argv, g_strdup(program[i]));
    g_ptr_array_add(argv, g_strdup(m->raw ? "raw" : "qcow2"));
    for (guint i = 1 + below(m, 8); i > 0; i--) {
        char *command = random_command(m);
        compressed += g_str_has_prefix(command, "write -c");
        add_command(m, argv, command);
    }
    g_ptr_array_add(argv, g_strdup(m->path));
    g_ptr_array_add(argv, NULL);
    m->compressed |= compressed > 0;
    m->any_compressed |= compressed > 0;
    g_autofree char *output = NULL;
    (void)run_argv((char **)argv->pdata, &output);
    if (stumbled(m, output)) {
        tell(m, "  repaired");
        use(m, "qemu-img", "check", "-q", "-r", "all", m->path, NULL);
        return;
    }
    if (count(output, "failed") > compressed)
        g_printerr("%s%s", m->disk->story->str, output);
    ck_assert_msg(count(output, "failed") <= compressed, "qemu-io did not write");
}

/* --- states --- */

/* chain.n_layers says which image it is until all are made. */
static void keep_state(Making *m, DiskState state, const char *tag)
{
    RandomState made = {.expected = new_path(m, "expected")};
    made.chain.state = state;
    made.chain.tag = g_strdup(tag);
    made.chain.n_layers = m->index + 1;
    tell(m, "  kept as %s", made.expected);
    use(m, "qemu-img", "convert", "-t", "unsafe", "-f", m->raw ? "raw" : "qcow2", "-O", "raw", m->path,
        made.expected, NULL);
    g_array_append_val(m->disk->states, made); /* without a file, if it was given up */
}

static void take_tag(Making *m)
{
    g_autofree char *tag = g_strdup_printf("tag%u", m->n_tags++);
    tell(m, "  snapshot %s", tag);
    use(m, "qemu-img", "snapshot", "-c", tag, m->path, NULL);
    keep_state(m, DISK_TAG, tag);
}

/* A tag that nobody looks at is taken and dropped: its clusters are used again. */
static void take_and_drop(Making *m)
{
    tell(m, "  snapshot that is dropped");
    use(m, "qemu-img", "snapshot", "-c", "dropped", m->path, NULL);
    write_some(m);
    use(m, "qemu-img", "snapshot", "-d", "dropped", m->path, NULL);
}

/* Version 2 has no sizes of its own for tags, and no image with tags shrinks. */
static void resize(Making *m)
{
    if (m->n_tags && !m->v3)
        return;
    guint sectors = random_size(m);
    m->sectors = m->n_tags ? MAX(m->sectors, sectors) : sectors;
    g_autofree char *size = g_strdup_printf("%u", m->sectors * SECTOR);
    tell(m, "  resized to %u sectors", m->sectors);
    use(m, "qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", m->path, size, NULL);
}

static void live(Making *m)
{
    guint rounds = 1 + below(m, 4);
    for (guint i = 0; i < rounds; i++) {
        write_some(m);
        if (m->raw)
            continue;
        if (percent(m, 25))
            take_tag(m);
        if (percent(m, 10))
            take_and_drop(m);
        if (percent(m, 15))
            resize(m);
    }
}

/* --- the disk --- */

static void make_image(Making *m, guint depth)
{
    g_autofree char *lower = g_steal_pointer(&m->path);
    gboolean lower_raw = m->raw, last = m->index + 1 == depth;
    if (!lower || percent(m, 40))
        m->sectors = random_size(m);
    create(m, lower, lower_raw);
    if (depth > 10)
        write_some(m);
    else
        live(m);
    if (last || depth <= 10 || percent(m, 3))
        keep_state(m, last && percent(m, 30) ? DISK_ACTIVE : DISK_FROZEN, NULL);
    DiskLayer *layer = &m->disk->layers[depth - 1 - m->index];
    layer->path = g_strdup(m->path);
    layer->format = m->raw ? FORMAT_RAW : FORMAT_QCOW2;
    m->disk->compressed[depth - 1 - m->index] = m->compressed ? m->cluster : 0;
}

RandomDisk *random_disk_new(guint32 seed, guint depth, const char *directory)
{
    RandomDisk *disk = g_new0(RandomDisk, 1);
    disk->depth = depth;
    disk->layers = g_new0(DiskLayer, depth);
    disk->compressed = g_new0(guint, depth);
    disk->states = g_array_new(FALSE, FALSE, sizeof(RandomState));
    disk->story = g_string_new(NULL);
    Making m = {.disk = disk, .rand = g_rand_new_with_seed(seed), .directory = directory};
    make_noise(&m);
    for (; m.index < depth; m.index++)
        make_image(&m, depth);
    for (guint i = 0; i < disk->states->len; i++) {
        DiskChain *chain = &g_array_index(disk->states, RandomState, i).chain;
        chain->layers = &disk->layers[depth - chain->n_layers];
    }
    g_free(m.noise);
    g_free(m.path);
    g_rand_free(m.rand);
    return disk;
}

void random_disk_free(RandomDisk *disk)
{
    for (guint i = 0; i < disk->depth; i++)
        g_free((char *)disk->layers[i].path);
    for (guint i = 0; i < disk->states->len; i++) {
        g_free((char *)g_array_index(disk->states, RandomState, i).chain.tag);
        g_free(g_array_index(disk->states, RandomState, i).expected);
    }
    g_free(disk->layers);
    g_free(disk->compressed);
    g_array_unref(disk->states);
    g_string_free(disk->story, TRUE);
    g_free(disk);
}
