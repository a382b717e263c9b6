/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks that only QEMU reads, with real qemu-nbds: bytes and extents against qemu-img, and what becomes of the processes, and
 * of who reads, when they end, hang, are not there, or are not needed any more.
 */
#include "diskopen.h"
#include "nbd.h"
#include "runner.h"

#define MIB (1024u * 1024)
#define SIZE (8u * MIB)
#define IDLE_MS 60000
#define PATIENCE_MS 2000
#define SOON (30 * G_USEC_PER_SEC)

/* --- processes --- */

/* Which qemu-nbd children of ours there are. Caller unrefs. */
static GArray *children(void)
{
    GArray *pids = g_array_new(FALSE, FALSE, sizeof(pid_t));
    g_autofree char *path = g_strdup_printf("/proc/%d/task", getpid());
    GDir *tasks = g_dir_open(path, 0, NULL);
    for (const char *task = g_dir_read_name(tasks); task; task = g_dir_read_name(tasks)) {
        g_autofree char *list = g_strdup_printf("%s/%s/children", path, task);
        g_autofree char *text = NULL;
        if (!g_file_get_contents(list, &text, NULL, NULL))
            continue; /* the thread has ended */
        g_auto(GStrv) words = g_strsplit(text, " ", -1);
        for (guint i = 0; words[i]; i++) {
            pid_t pid = atoi(words[i]);
            if (pid > 0)
                g_array_append_val(pids, pid);
        }
    }
    g_dir_close(tasks);
    return pids;
}

static guint count_children(void)
{
    g_autoptr(GArray) pids = children();
    return pids->len;
}

static pid_t the_child(void)
{
    g_autoptr(GArray) pids = children();
    ck_assert_uint_eq(pids->len, 1);
    return g_array_index(pids, pid_t, 0);
}

static void until_children(guint n)
{
    for (gint64 end = g_get_monotonic_time() + SOON; count_children() != n; g_usleep(2000))
        ck_assert_msg(g_get_monotonic_time() < end, "%u children, not %u", count_children(), n);
}

/* --- images --- */

static void create(const char *path, const char *format, const char *below, const char *below_format)
{
    if (below)
        tool("qemu-img", "create", "-q", "-f", format, "-b", below, "-F", below_format, path, NULL);
    else
        tool("qemu-img", "create", "-q", "-f", format, path, "8M", NULL);
}

static void fill(const char *path, const char *format, int pattern, const char *where)
{
    g_autofree char *command = g_strdup_printf("write -P %d %s", pattern, where);
    g_autofree char *output = tool_output("qemu-io", "-f", format, "-c", command, path, NULL);
    ck_assert_msg(strstr(output, "wrote ") != NULL, "%s", output);
}

/* What qemu-img reads of @path, of @size bytes. Caller frees. */
static char *expected_of(const char *path, const char *format, gsize *ret_size)
{
    g_autofree char *raw = g_strconcat(scratch, "/expected.raw", NULL);
    char *data = NULL;
    tool("qemu-img", "convert", "-f", format, "-O", "raw", path, raw, NULL);
    ck_assert(g_file_get_contents(raw, &data, ret_size, NULL));
    unlink(raw);
    return data;
}

/* A qed image on a qed on a raw one: layers 0 to 2. */
typedef struct {
    DiskLayer layers[3];
    char *paths[3];
    char *expected;
    gsize size;
} Qed;

static Qed *qed_new(const char *test)
{
    Qed *qed = g_new0(Qed, 1);
    static const char *const names[] = {"top.qed", "middle.qed", "base.raw"};
    for (guint i = 0; i < 3; i++) {
        qed->paths[i] = in_scratch(test, names[i]);
        qed->layers[i] = (DiskLayer){.path = qed->paths[i], .format = i < 2 ? FORMAT_QED : FORMAT_RAW};
    }
    create(qed->paths[2], "raw", NULL, NULL);
    fill(qed->paths[2], "raw", 0x11, "0 2M");
    fill(qed->paths[2], "raw", 0x12, "7M 1M");
    create(qed->paths[1], "qed", qed->paths[2], "raw");
    fill(qed->paths[1], "qed", 0x22, "1M 300k");
    create(qed->paths[0], "qed", qed->paths[1], "qed");
    fill(qed->paths[0], "qed", 0x33, "1234k 77k");
    qed->expected = expected_of(qed->paths[0], "qed", &qed->size);
    return qed;
}

static void qed_free(Qed *qed)
{
    for (guint i = 0; i < 3; i++)
        g_free(qed->paths[i]);
    g_free(qed->expected);
    g_free(qed);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qed, qed_free)

/* --- reading --- */

static DiskReader *open_ok(NbdKeeper *keeper, const DiskLayer *layers, guint n, DiskState state)
{
    GError *error = NULL;
    const DiskChain chain = {.layers = layers, .n_layers = n, .state = state};
    DiskReader *reader = diskopen(keeper, &chain, &error);
    ck_assert_msg(reader != NULL, "%s", error ? error->message : "");
    return reader;
}

static gboolean read_some(DiskReader *reader, void *buffer, gsize len, guint64 offset, GError **error)
{
    return reader->ops->read(reader, buffer, len, offset, error);
}

static void assert_piece(DiskReader *reader, const char *expected, gsize len, guint64 offset)
{
    GError *error = NULL;
    g_autofree char *buffer = g_malloc(len);
    ASSERT_OK(read_some(reader, buffer, len, offset, &error), error);
    ck_assert_msg(memcmp(buffer, expected + offset, len) == 0, "other bytes at %" G_GUINT64_FORMAT, offset);
}

/* A hole reads zeros; what is not zero lies in data. */
static guint assert_extents(DiskReader *reader, const char *expected)
{
    DiskExtent extent;
    guint n = 0;
    for (guint64 offset = 0; offset < reader->size; offset += extent.length, n++) {
        GError *error = NULL;
        ASSERT_OK(reader->ops->extent(reader, offset, &extent, &error), error);
        ck_assert(extent.length > 0 && extent.length <= reader->size - offset);
        const char *here = expected + offset;
        gboolean zeros = here[0] == 0 && memcmp(here, here + 1, extent.length - 1) == 0;
        ck_assert_msg(extent.data || zeros, "no hole at %" G_GUINT64_FORMAT, offset);
    }
    return n;
}

static void assert_reads(DiskReader *reader, const char *expected, gsize size)
{
    ck_assert_uint_eq(reader->size, size);
    assert_piece(reader, expected, size, 0);
    for (guint64 offset = 0; offset + 70000 < size; offset += 123457) /* and pieces that end anywhere */
        assert_piece(reader, expected, 70000, offset);
    assert_piece(reader, expected, 1, size - 1);
    ck_assert_uint_gt(assert_extents(reader, expected), 1);
}

START_TEST(test_qed)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    NbdKeeper *keeper = nbdkeeper_new(NULL, IDLE_MS, PATIENCE_MS);
    g_autoptr(DiskReader) reader = open_ok(keeper, qed->layers, 3, DISK_FROZEN);
    ck_assert_uint_eq(count_children(), 0); /* on demand */
    assert_reads(reader, qed->expected, qed->size);
    ck_assert_uint_eq(count_children(), 1);
    GError *error = NULL;
    char byte;
    ck_assert(!read_some(reader, &byte, 1, qed->size, &error));
    expect_error(&error, EINVAL, "beyond the end");
    g_clear_pointer(&reader, disk_reader_free);
    until_children(0);
    nbdkeeper_unref(keeper);
}
END_TEST

/* The native reader on top of it: overlays, one that is larger than what it stands on, and a tag. */
START_TEST(test_qcow2_on_qed)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    NbdKeeper *keeper = nbdkeeper_new(NULL, IDLE_MS, PATIENCE_MS);
    g_autofree char *one = PATH("one.qcow2"), *two = PATH("two.qcow2");
    const DiskLayer layers[] = {
        {two, FORMAT_QCOW2}, {one, FORMAT_QCOW2}, qed->layers[0], qed->layers[1], qed->layers[2]};
    gsize size, tag_size;
    create(one, "qcow2", qed->paths[0], "qed");
    write_pattern(one, 0x44, "1200k 100k");
    create(two, "qcow2", one, "qcow2");
    write_pattern(two, 0x55, "6M 5000");
    g_autofree char *then = expected_of(two, "qcow2", &tag_size);
    tool("qemu-img", "snapshot", "-c", "then", two, NULL);
    write_pattern(two, 0x66, "0 3M");
    tool("qemu-img", "resize", "-q", "-f", "qcow2", two, "9M", NULL);
    g_autofree char *now = expected_of(two, "qcow2", &size);

    g_autoptr(DiskReader) frozen = open_ok(keeper, layers, 5, DISK_FROZEN);
    g_autoptr(DiskReader) active = open_ok(keeper, layers, 5, DISK_ACTIVE);
    const DiskChain chain = {.layers = layers, .n_layers = 5, .state = DISK_TAG, .tag = "then"};
    g_autoptr(GError) error = NULL;
    g_autoptr(DiskReader) tag = diskopen(keeper, &chain, &error);
    ck_assert_msg(tag != NULL, "%s", error ? error->message : "");
    assert_reads(frozen, now, size);
    assert_reads(active, now, size);
    assert_reads(tag, then, tag_size);
    ck_assert_uint_eq(count_children(), 3);
    g_clear_pointer(&frozen, disk_reader_free);
    g_clear_pointer(&active, disk_reader_free);
    g_clear_pointer(&tag, disk_reader_free);
    nbdkeeper_unref(keeper);
    ck_assert_uint_eq(count_children(), 0); /* when that returns, none is left */
}
END_TEST

/* Reads fail, with EIO, and before long. */
static void until_gone(DiskReader *reader)
{
    g_autofree char *buffer = g_malloc(SIZE);
    g_autoptr(GError) error = NULL;
    gint64 start = g_get_monotonic_time();
    ck_assert(!read_some(reader, buffer, SIZE, 0, &error));
    ck_assert_int_eq(error->code, EIO);
    ck_assert_int_lt(g_get_monotonic_time() - start, SOON);
}

/* A qcow2 image in an export, on a local one; by a socket (0), by TCP (1). The server takes one client at a time. */
START_TEST(test_export)
{
    g_autofree char *base = PATH("base.qcow2"), *over = PATH("over.qcow2"), *socket = PATH("sock");
    NbdKeeper *keeper = nbdkeeper_new(NULL, IDLE_MS, PATIENCE_MS);
    gsize size;
    create(base, "qcow2", NULL, NULL);
    write_pattern(base, 1, "0 1M");
    create(over, "qcow2", base, "qcow2");
    write_pattern(over, 2, "512k 1M");
    g_autofree char *expected = expected_of(over, "qcow2", &size);
    struct stat st;
    ck_assert_int_eq(stat(over, &st), 0);
    g_autoptr(NbdServer) export = nbd_start(over, st.st_size, _i ? NULL : socket);
    g_autofree char *uri = nbd_uri(export);
    const DiskLayer layers[] = {{uri, FORMAT_QCOW2}, {base, FORMAT_QCOW2}};
    g_autoptr(DiskReader) reader = open_ok(keeper, layers, 2, DISK_FROZEN);
    assert_reads(reader, expected, size);
    const DiskLayer raw = {uri, FORMAT_RAW};
    gsize raw_size;
    g_autofree char *file = NULL;
    ck_assert(g_file_get_contents(over, &file, &raw_size, NULL));
    g_autoptr(DiskReader) plain = open_ok(keeper, &raw, 1, DISK_FROZEN);
    assert_piece(plain, file, MIN(raw_size, MIB), 0);

    nbd_stop(export); /* and now there is nobody: what QEMU has not read yet it cannot read */
    until_gone(reader);
    g_clear_pointer(&reader, disk_reader_free);
    g_clear_pointer(&plain, disk_reader_free);
    nbdkeeper_unref(keeper);
}
END_TEST

/* --- processes that end --- */

typedef struct {
    DiskReader *reader;
    const char *expected;
    gint stop;
    gint reads;
} Load;

static gpointer read_on(gpointer data)
{
    Load *load = data;
    GRand *rand = g_rand_new();
    char buffer[40000];
    char *wrong = NULL;
    while (!wrong && !g_atomic_int_get(&load->stop)) {
        g_autoptr(GError) error = NULL;
        guint64 offset = (guint64)g_rand_int_range(rand, 0, SIZE - (int)sizeof buffer);
        if (!read_some(load->reader, buffer, sizeof buffer, offset, &error))
            wrong = g_strdup(error->message);
        else if (memcmp(buffer, load->expected + offset, sizeof buffer) != 0)
            wrong = g_strdup_printf("other bytes at %" G_GUINT64_FORMAT, offset);
        g_atomic_int_inc(&load->reads);
    }
    g_rand_free(rand);
    return wrong;
}

static void until_reads(Load *load, gint n)
{
    gint from = g_atomic_int_get(&load->reads);
    for (gint64 end = g_get_monotonic_time() + SOON; g_atomic_int_get(&load->reads) - from < n;
         g_usleep(1000))
        ck_assert_msg(g_get_monotonic_time() < end, "no reads any more");
}

/* Killed (0) or stopped (1) in the middle of the reads of six threads: nobody sees it. */
START_TEST(test_dies_while_read)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    NbdKeeper *keeper = nbdkeeper_new(NULL, IDLE_MS, _i ? 300 : PATIENCE_MS);
    g_autoptr(DiskReader) reader = open_ok(keeper, qed->layers, 3, DISK_FROZEN);
    Load load = {.reader = reader, .expected = qed->expected};
    GThread *threads[6];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("read", read_on, &load);
    for (guint i = 0; i < 5; i++) {
        until_reads(&load, 50);
        pid_t pid = the_child();
        ck_assert_int_eq(kill(pid, _i ? SIGSTOP : SIGKILL), 0);
        until_reads(&load, 50);
        until_children(1); /* the next may serve before the one that died is buried */
        ck_assert_int_ne(the_child(), pid);
    }
    g_atomic_int_set(&load.stop, 1);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_autofree char *wrong = g_thread_join(threads[i]);
        ck_assert_msg(wrong == NULL, "%s", wrong);
    }
    g_clear_pointer(&reader, disk_reader_free);
    nbdkeeper_unref(keeper);
    ck_assert_uint_eq(count_children(), 0);
}
END_TEST

/* One that nobody uses ends, the next read starts another; and one that does not end then is killed. */
START_TEST(test_idle)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    NbdKeeper *keeper = nbdkeeper_new(NULL, 100, PATIENCE_MS);
    g_autoptr(DiskReader) reader = open_ok(keeper, qed->layers, 3, DISK_FROZEN);
    for (guint i = 0; i < 3; i++) {
        assert_piece(reader, qed->expected, 100, 1234567);
        if (i == 2)
            ck_assert_int_eq(kill(the_child(), SIGSTOP), 0);
        until_children(0);
    }
    g_clear_pointer(&reader, disk_reader_free);
    assert_piece(reader = open_ok(keeper, qed->layers, 3, DISK_FROZEN), qed->expected, 100, 0);
    nbdkeeper_unref(keeper); /* the reader has its own */
    g_clear_pointer(&reader, disk_reader_free);
    ck_assert_uint_eq(count_children(), 0);
}
END_TEST

/* Names are needed at open only: the images may go, or be others, before a qemu-nbd is started. */
START_TEST(test_names_that_go)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    NbdKeeper *keeper = nbdkeeper_new(NULL, 50, PATIENCE_MS);
    g_autoptr(DiskReader) reader = open_ok(keeper, qed->layers, 3, DISK_FROZEN);
    ck_assert(unlink(qed->paths[0]) == 0 && unlink(qed->paths[1]) == 0 && unlink(qed->paths[2]) == 0);
    create(qed->paths[2], "raw", NULL, NULL);
    assert_reads(reader, qed->expected, qed->size);
    until_children(0);
    assert_piece(reader, qed->expected, 100, 0);
    g_clear_pointer(&reader, disk_reader_free);
    nbdkeeper_unref(keeper);
}
END_TEST

/* A daemon that is killed leaves nothing. */
START_TEST(test_parent_killed)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    int told[2];
    pid_t pid = 0;
    ck_assert_int_eq(pipe2(told, O_CLOEXEC), 0);
    pid_t daemon = fork();
    ck_assert_int_ge(daemon, 0);
    if (daemon == 0) {
        NbdKeeper *keeper = nbdkeeper_new(NULL, IDLE_MS, PATIENCE_MS);
        DiskReader *reader = open_ok(keeper, qed->layers, 3, DISK_FROZEN);
        assert_piece(reader, qed->expected, 100, 0);
        pid = the_child();
        if (write(told[1], &pid, sizeof pid) != sizeof pid)
            _exit(1);
        pause();
        _exit(1);
    }
    ck_assert_int_eq(read(told[0], &pid, sizeof pid), sizeof pid);
    ck_assert_int_eq(kill(pid, SIGSTOP), 0); /* it cannot see by itself that its clients are gone */
    ck_assert_int_eq(kill(daemon, SIGKILL), 0);
    ck_assert_int_eq(waitpid(daemon, NULL, 0), daemon);
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    for (gint64 end = g_get_monotonic_time() + SOON;; g_usleep(2000)) {
        g_autofree char *stat = NULL;
        if (!g_file_get_contents(path, &stat, NULL, NULL) || strstr(stat, ") Z"))
            break;
        ck_assert_msg(g_get_monotonic_time() < end, "qemu-nbd %d lives on: %s", pid, stat);
    }
    close(told[0]);
    close(told[1]);
}
END_TEST

/* --- what cannot be read --- */

static char *read_refused(DiskReader *reader)
{
    g_autoptr(GError) error = NULL;
    char byte;
    ck_assert(!read_some(reader, &byte, 1, 0, &error));
    ck_assert_msg(error->domain == SNAP_ERROR && error->code == EIO, "%s", error->message);
    return g_strdup(error->message);
}

/* A program that is not there, that fails, that does nothing. */
START_TEST(test_no_server)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    g_autofree char *sleeper = PATH("sleeper");
    ck_assert(g_file_set_contents(sleeper, "#!/bin/sh\nexec sleep 60\n", -1, NULL) &&
              chmod(sleeper, 0755) == 0);
    const struct {
        const char *program, *says;
    } cases[] = {
        {"/nonexistent/qemu-nbd", "No such file"}, {"false", "qemu-nbd: "}, {sleeper, "does not answer"}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        NbdKeeper *keeper = nbdkeeper_new(cases[i].program, IDLE_MS, 300);
        g_autoptr(DiskReader) reader = open_ok(keeper, qed->layers, 3, DISK_FROZEN);
        g_autofree char *why = read_refused(reader);
        ck_assert_msg(strstr(why, cases[i].says) != NULL, "'%s' does not say '%s'", why, cases[i].says);
        ck_assert_uint_eq(count_children(), 0);
        g_clear_pointer(&reader, disk_reader_free);
        nbdkeeper_unref(keeper);
    }
}
END_TEST

/* Damage that only QEMU sees: its own words. */
START_TEST(test_damaged)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    NbdKeeper *keeper = nbdkeeper_new(NULL, IDLE_MS, PATIENCE_MS);
    static const guint8 beyond[] = {0, 0, 0, 0, 1, 0, 0, 0};
    poke(qed->paths[0], 40, beyond, sizeof beyond); /* where the L1 table is */
    g_autoptr(GError) error = NULL;
    const DiskChain chain = {.layers = qed->layers, .n_layers = 3};
    g_autoptr(DiskReader) reader = diskopen(keeper, &chain, &error);
    g_autofree char *why = reader ? read_refused(reader) : g_strdup(error->message);
    ck_assert_msg(strstr(why, qed->paths[0]) != NULL, "%s", why);
    g_clear_pointer(&reader, disk_reader_free);
    nbdkeeper_unref(keeper);
}
END_TEST

/* What the chain says must be what the headers say; what needs a key is refused; so are tags. */
START_TEST(test_refused)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    NbdKeeper *keeper = nbdkeeper_new(NULL, IDLE_MS, PATIENCE_MS);
    g_autofree char *luks = PATH("luks.qcow2"), *data = PATH("data.qcow2"), *file = PATH("data.raw");
    g_autofree char *option = g_strdup_printf("data_file=%s", file);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o",
         "encrypt.format=aes,encrypt.key-secret=s", luks, "1M", NULL);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", option, data, "1M", NULL);
    const DiskLayer wrong_id = {.path = qed->paths[0], .format = FORMAT_QED, .id = {.dev = 1, .ino = 1}};
    const DiskLayer encrypted[] = {{qed->paths[0], FORMAT_QED}, {luks, FORMAT_QCOW2}};
    const DiskLayer raw[] = {{qed->paths[2], FORMAT_RAW}, qed->layers[1]};
    const DiskLayer remote = {"nbd://127.0.0.1:1/none", FORMAT_QCOW2};
    const DiskLayer lonely_luks = {luks, FORMAT_QCOW2}, with_data = {data, FORMAT_QCOW2};
    const struct {
        const DiskLayer *layers;
        guint n;
        DiskState state;
        int code;
        const char *says;
    } cases[] = {
        {qed->layers, 1, DISK_FROZEN, EIO, "should stand alone"},
        {encrypted, 2, DISK_FROZEN, EOPNOTSUPP, "is encrypted"},
        {&lonely_luks, 1, DISK_FROZEN, EOPNOTSUPP, "is encrypted"},
        {&with_data, 1, DISK_FROZEN, EOPNOTSUPP, "has a data file"},
        {raw, 2, DISK_FROZEN, EIO, "stands on nothing"},
        {qed->layers, 3, DISK_TAG, EOPNOTSUPP, "no internal snapshots"},
        {&remote, 1, DISK_ACTIVE, EOPNOTSUPP, "nobody can tell"},
        {&wrong_id, 1, DISK_FROZEN, ESTALE, "another file"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const DiskChain chain = {cases[i].layers, cases[i].n, cases[i].state, "tag"};
        GError *error = NULL;
        ck_assert_msg(diskopen(keeper, &chain, &error) == NULL, "%s", cases[i].says);
        expect_error(&error, cases[i].code, cases[i].says);
    }
    nbdkeeper_unref(keeper);
}
END_TEST

/* --- locks --- */

static gboolean can_write(const char *path, const char *format)
{
    g_autofree char *output = tool_output(
        "sh", "-c", "qemu-io -f \"$1\" -c 'write -P 9 0 512' \"$0\" 2>&1 || true", path, format, NULL);
    return strstr(output, "wrote ") != NULL;
}

/* Frozen images cannot be written as long as there is a reader, with or without a process; an active one can. */
START_TEST(test_locks)
{
    g_autoptr(Qed) qed = qed_new(__func__);
    NbdKeeper *keeper = nbdkeeper_new(NULL, 50, PATIENCE_MS);
    g_autoptr(DiskReader) frozen = open_ok(keeper, qed->layers, 3, DISK_FROZEN);
    for (guint i = 0; i < 2; i++) {
        ck_assert(!can_write(qed->paths[0], "qed"));
        assert_piece(frozen, qed->expected, 100, 0);
        ck_assert(!can_write(qed->paths[0], "qed"));
        until_children(0);
    }
    g_clear_pointer(&frozen, disk_reader_free);
    g_autoptr(DiskReader) active = open_ok(keeper, qed->layers, 3, DISK_ACTIVE);
    assert_piece(active, qed->expected, 100, 0);
    ck_assert_uint_eq(count_children(), 1);
    ck_assert(can_write(qed->paths[0], "qed"));
    for (guint i = 0; i < 2; i++) {
        g_autofree char *why = read_refused(active);
        ck_assert_msg(strstr(why, "opened for writing") != NULL, "%s", why);
    }
    g_clear_pointer(&active, disk_reader_free);
    nbdkeeper_unref(keeper);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nbdreader");
    TCase *tcase = scratch_case(suite, "content");
    tcase_add_test(tcase, test_qed);
    tcase_add_test(tcase, test_qcow2_on_qed);
    tcase_add_loop_test(tcase, test_export, 0, 2);
    tcase = scratch_case(suite, "processes");
    tcase_add_loop_test(tcase, test_dies_while_read, 0, 2);
    tcase_add_test(tcase, test_idle);
    tcase_add_test(tcase, test_names_that_go);
    tcase_add_test(tcase, test_parent_killed);
    tcase = scratch_case(suite, "refused");
    tcase_add_test(tcase, test_no_server);
    tcase_add_test(tcase, test_damaged);
    tcase_add_test(tcase, test_refused);
    tcase_add_test(tcase, test_locks);
    return run_suite(suite);
}
