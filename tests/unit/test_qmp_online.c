/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Does a machine run: yes, no, and all the ways of neither, with real QEMUs. */
#include "qmp_block.h"
#include "qmp_disks.h"
#include "qmp_online.h"
#include "runner.h"

typedef enum { OFF, ON, NEITHER } State;

/* With the sentence of NEITHER, which must say @text. */
static State state_of(const char *socket, const char *uuid, const char *image, const char *text)
{
    const char *images[] = {image, NULL};
    QmpMachine machine = {uuid, images};
    QmpWait wait = qmp_wait(text ? 1000 : 20000, NULL);
    GError *error = NULL;
    Qmp *qmp = NULL;
    if (!qmp_online(socket, &machine, NULL, &wait, &qmp, &error)) {
        ck_assert_msg(text != NULL, "%s", error->message);
        expect_error(&error, EBUSY, text);
        return NEITHER;
    }
    if (!qmp)
        return OFF;
    json_decref(must_run(qmp, "query-status", NULL));
    qmp_close(qmp);
    return ON;
}

START_TEST(test_on_and_off)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    g_autofree char *nothing = PATH("nothing"), *link = PATH("link");
    g_autofree char *upper = g_ascii_strup(TEST_UUID, -1);
    g_clear_pointer(&world->qmp, qmp_close);
    ck_assert_int_eq(state_of(world->socket, TEST_UUID, world->top, NULL), ON);
    ck_assert_int_eq(symlink(world->top, link), 0);
    ck_assert_int_eq(state_of(world->socket, upper, link, NULL), ON);

    machine_kill(world->machine); /* its socket stays, and nobody listens */
    ck_assert_int_eq(state_of(world->socket, TEST_UUID, world->top, NULL), OFF);
    ck_assert_int_eq(state_of(nothing, TEST_UUID, world->top, NULL), OFF);
    ck_assert_int_eq(state_of(nothing, TEST_UUID, nothing, NULL), OFF); /* and no image */
}
END_TEST

START_TEST(test_other_machines)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    g_autofree char *nothing = PATH("nothing");
    g_clear_pointer(&world->qmp, qmp_close);
    ck_assert_int_eq(state_of(world->socket, "0d4f9c1e-7a55-4a0e-9a0c-1f2b3c4d5e60", world->top,
                              "another machine answers at its QMP socket, with uuid " TEST_UUID),
                     NEITHER);
    ck_assert_int_eq(state_of(world->socket, TEST_UUID, world->middle, "does not write its image"), NEITHER);
    ck_assert_int_eq(state_of(world->socket, TEST_UUID, world->middle, world->top), NEITHER);
    /* somebody runs it without our socket */
    ck_assert_int_eq(state_of(nothing, TEST_UUID, world->top, "a program writes its image"), NEITHER);
}
END_TEST

#define OUR_UUID "< query-uuid\n> {\"return\": {\"UUID\": \"" TEST_UUID "\"}, \"id\": \"2\"}\n"
#define NO_JOBS "< query-jobs\n> {\"return\": [], \"id\": \"3\"}\n"
#define NO_BLOCKS "< query-block\n> {\"return\": [], \"id\": \"4\"}\n"

/* QEMU's lock on what it writes (facts/qemu.md A3). */
static int open_and_lock(const char *path)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
    return fd;
}

/* Who is seen to write the image is not asked for a list that takes seconds. Here we are the QEMU. */
START_TEST(test_seen_to_write)
{
    g_autofree char *image = PATH("image"), *path = PATH("q");
    const char *scripts[] = {HELLO OUR_UUID NO_JOBS NO_BLOCKS ".\n", HELLO OUR_UUID NO_JOBS NO_BLOCKS ".\n",
                             HELLO OUR_UUID NO_JOBS "< query-status\n> {\"return\": {}, \"id\": \"4\"}\n.\n",
                             NULL};
    ck_assert(g_file_set_contents(image, "", 0, NULL));
    Server *server = server_start(path, scripts);
    ck_assert_int_eq(state_of(path, TEST_UUID, image, "QEMU has no disk"), NEITHER);
    int fd = open(image, O_RDWR | O_CLOEXEC); /* open, but not written */
    ck_assert_int_eq(state_of(path, TEST_UUID, image, "QEMU has no disk"), NEITHER);
    int locked = open_and_lock(image);
    ck_assert_int_eq(state_of(path, TEST_UUID, image, NULL), ON);
    ck_assert(server_end(server));
    close(fd);
    close(locked);
}
END_TEST

/* A layer that was opened for writing, and is only read. */
START_TEST(test_layer_open_for_writing)
{
    g_autofree char *socket = PATH("q"), *dir = g_path_get_dirname(socket);
    g_autofree char *base = layer(dir, "base.qcow2", NULL, 0x11, "0 1M");
    g_autofree char *top = layer(dir, "top.qcow2", "base.qcow2", 0x22, "0 2M");
    g_autofree char *below =
        g_strdup_printf("{\"driver\": \"qcow2\", \"node-name\": \"b\", \"file\": {\"driver\": "
                        "\"file\", \"filename\": \"%s\"}}",
                        base);
    g_autofree char *disk =
        g_strdup_printf("{\"driver\": \"qcow2\", \"node-name\": \"a\", \"backing\": \"b\", "
                        "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}",
                        top);
    const char *words[] = {"-blockdev", below, "-blockdev", disk, "-device", "virtio-blk-pci,drive=a", NULL};
    g_autoptr(Machine) machine = machine_start(socket, words);
    ck_assert_int_eq(state_of(socket, TEST_UUID, top, NULL), ON);
    ck_assert_int_eq(state_of(socket, TEST_UUID, base, "does not write its image"), NEITHER);
}
END_TEST

/* While a job works QEMU is asked. */
START_TEST(test_with_a_job)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    json_t *arguments = stream_arguments(world, 1 << 20);
    QmpWait wait = seconds(60);
    GError *error = NULL;
    json_object_set_new(arguments, "job-id", json_string("j"));
    ASSERT_OK(qmp_do(world->qmp, "block-stream", arguments, &wait, &error), error);
    ck_assert_int_eq(qmp_pid(world->qmp), world->machine->pid);
    g_clear_pointer(&world->qmp, qmp_close);
    ck_assert_int_eq(state_of(socket, TEST_UUID, world->top, NULL), ON);
    ck_assert_int_eq(state_of(socket, TEST_UUID, world->middle, "does not write its image"), NEITHER);
}
END_TEST

START_TEST(test_no_answer)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    ck_assert_int_eq(state_of(world->socket, TEST_UUID, world->top, "another monitor client is connected"),
                     NEITHER);
    g_clear_pointer(&world->qmp, qmp_close);
    qmp_close(qmp_to(world->socket)); /* the one that gave up is out of its queue */
    machine_await_no_client(world->machine);
    machine_freeze(world->machine);
    ck_assert_int_eq(state_of(world->socket, TEST_UUID, world->top, "does not answer"), NEITHER);

    const char *scripts[] = {"> hello\n", HELLO "< query-uuid\n> {\"return\": 7, \"id\": \"2\"}\n.\n",
                             HELLO OUR_UUID
                             "< query-jobs\n> {\"return\": 1, \"id\": \"3\"}\n< query-block\n"
                             "> {\"return\": [{\"device\": \"a\", \"inserted\": {}}], \"id\": \"4\"}\n.\n",
                             NULL};
    g_autofree char *path = PATH("fake");
    Server *server = server_start(path, scripts);
    ck_assert_int_eq(state_of(path, TEST_UUID, world->top, "no QMP"), NEITHER);
    ck_assert_int_eq(state_of(path, TEST_UUID, world->top, "with uuid (none)"), NEITHER);
    ck_assert_int_eq(state_of(path, TEST_UUID, world->top, "no list of devices"), NEITHER);
    ck_assert(server_end(server));

    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_cancellable_cancel(cancel);
    QmpWait wait = qmp_wait(0, cancel);
    QmpMachine machine = {TEST_UUID, (const char *const[]){world->top, NULL}};
    GError *error = NULL;
    Qmp *qmp = NULL;
    ck_assert(!qmp_online(world->socket, &machine, NULL, &wait, &qmp, &error));
    expect_error(&error, EINTR, "cancelled");
}
END_TEST

/* QEMU takes its socket away after it has hung up. Who does that for good is neither on nor off. */
START_TEST(test_hangs_up)
{
    static const char *const twice[] = {"", "", NULL};
    const char *always[1001] = {NULL};
    for (guint i = 0; i < G_N_ELEMENTS(always) - 1; i++)
        always[i] = "";
    g_autofree char *path = PATH("fake"), *nothing = PATH("nothing");
    Server *server = server_start(path, twice);
    ck_assert_int_eq(state_of(path, TEST_UUID, nothing, NULL), OFF);
    ck_assert(server_end(server));
    server = server_start(path, always);
    QmpWait wait = qmp_wait(20000, NULL);
    QmpMachine machine = {TEST_UUID, (const char *const[]){nothing, NULL}};
    GError *error = NULL;
    Qmp *qmp = NULL;
    ck_assert(!qmp_online(path, &machine, NULL, &wait, &qmp, &error));
    expect_error(&error, EBUSY, "QEMU has ended, or closed its monitor");
    (void)server_end(server); /* it was not asked so often */
}
END_TEST

static QmpBlock *only_block(World *world, GPtrArray **ret_blocks)
{
    QmpWait wait = seconds(60);
    GError *error = NULL;
    *ret_blocks = qmp_blocks(world->qmp, &wait, &error);
    ASSERT_OK(*ret_blocks != NULL, error);
    ck_assert_uint_eq((*ret_blocks)->len, 1);
    return (*ret_blocks)->pdata[0];
}

/* A snapshot of the running machine: what it writes is another image then, and its name is odd. */
START_TEST(test_after_a_snapshot)
{
    g_autofree char *socket = PATH("q");
    g_autoptr(World) world = world_new(socket);
    g_autofree char *overlay = PATH("overlay.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", "./top.qcow2", overlay, "16M",
         NULL);
    g_autofree char *add =
        g_strdup_printf("{\"driver\": \"qcow2\", \"node-name\": \"new\", \"backing\": null, "
                        "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}",
                        overlay);
    g_autoptr(GPtrArray) before = NULL, after = NULL;
    const QmpBlock *block = only_block(world, &before);
    ck_assert_str_eq(block->path, world->top);
    ck_assert_str_eq(block->node, "vdafmt");
    ck_assert_str_eq(block->driver, "qcow2");
    ck_assert_str_eq(block->device, "");
    ck_assert_str_eq(block->qdev, "/machine/peripheral/vda/virtio-backend");
    ck_assert(!block->read_only);
    json_decref(must_run(world->qmp, "blockdev-add", add));
    json_decref(must_run(world->qmp, "blockdev-snapshot", "{\"node\": \"vdafmt\", \"overlay\": \"new\"}"));
    block = only_block(world, &after);
    ck_assert_str_eq(block->path, overlay);
    ck_assert_str_eq(block->node, "new");
    QmpWait wait = seconds(60);
    GError *error = NULL;
    g_autofree char *node = qmp_block_node(world->qmp, "/machine/peripheral/vda", &wait, &error);
    ck_assert_pstr_eq(node, "new");
    ck_assert_ptr_null(qmp_block_node(world->qmp, "/machine/peripheral/vdb", &wait, &error));
    expect_error(&error, ENODEV, "vdb");
    ck_assert_ptr_null(qmp_block_node(world->qmp, "/machine", &wait, &error));
    expect_error(&error, ENOENT, "drive");
    g_clear_pointer(&world->qmp, qmp_close);
    ck_assert_int_eq(state_of(world->socket, TEST_UUID, overlay, NULL), ON);
    ck_assert_int_eq(state_of(world->socket, TEST_UUID, world->top, "does not write its image"), NEITHER);
}
END_TEST

/* QEMU names an image by all its options when its chain is not what the header says. */
START_TEST(test_image_without_its_chain)
{
    g_autofree char *socket = PATH("q"), *dir = g_path_get_dirname(socket);
    g_autofree char *base = layer(dir, "base.qcow2", NULL, 0x11, "0 1M");
    g_autofree char *top = layer(dir, "a \"top\".qcow2", "base.qcow2", 0x22, "0 2M");
    g_autofree char *disk =
        g_strdup_printf("{\"driver\": \"qcow2\", \"node-name\": \"vdafmt\", \"backing\": null, "
                        "\"file\": {\"driver\": \"file\", \"filename\": \"%s/a \\\"top\\\".qcow2\"}}",
                        dir);
    const char *words[] = {"-blockdev", disk, "-device", "virtio-blk-pci,drive=vdafmt", NULL};
    g_autoptr(Machine) machine = machine_start(socket, words);
    g_autoptr(Qmp) qmp = qmp_to(socket);
    QmpWait wait = seconds(60);
    GError *error = NULL;
    g_autoptr(GPtrArray) blocks = qmp_blocks(qmp, &wait, &error);
    ASSERT_OK(blocks != NULL, error);
    const QmpBlock *block = blocks->pdata[0];
    ck_assert(g_str_has_prefix(block->filename, "json:"));
    ck_assert_str_eq(block->path, top);
}
END_TEST

static const struct {
    const char *filename;
    const char *path;
} names[] = {
    {"/a/b", "/a/b"},
    {"relative", NULL},
    {"", NULL},
    {"nbd://h/x", NULL},
    {"json:", NULL},
    {"json:[]", NULL},
    {"json:{\"driver\": \"qcow2\"}", NULL},
    {"json:{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": \"/a\"}}", "/a"},
    {"json:{\"driver\": \"qcow2\", \"file.driver\": \"file\", \"file.filename\": \"/a\"}", "/a"},
    {"json:{\"file\": {\"driver\": \"raw\", \"file\": {\"driver\": \"host_device\", \"filename\": "
     "\"/dev/x\"}}}",
     "/dev/x"},
    {"json:{\"file\": {\"driver\": \"nbd\", \"server\": {\"path\": \"/a\"}}}", NULL},
    {"json:{\"backing\": {\"file\": {\"filename\": \"/b\"}}, \"file\": {\"filename\": \"/a\"}}", "/a"},
    {"json:{\"file\": \"/a\"}", NULL},
};

START_TEST(test_names)
{
    g_autofree char *path = qmp_block_path(names[_i].filename);
    ck_assert_pstr_eq(path, names[_i].path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp_online");
    TCase *tcase = scratch_case(suite, "qmp_online");
    tcase_add_test(tcase, test_on_and_off);
    tcase_add_test(tcase, test_other_machines);
    tcase_add_test(tcase, test_seen_to_write);
    tcase_add_test(tcase, test_layer_open_for_writing);
    tcase_add_test(tcase, test_with_a_job);
    tcase_add_test(tcase, test_no_answer);
    tcase_add_test(tcase, test_hangs_up);
    tcase_add_test(tcase, test_after_a_snapshot);
    tcase_add_test(tcase, test_image_without_its_chain);
    tcase_add_loop_test(tcase, test_names, 0, (int)G_N_ELEMENTS(names));
    return run_suite(suite);
}
