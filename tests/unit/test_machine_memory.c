/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory of a running machine: in checkpoints inside the images, and in a file. */
#include <sys/mount.h>

#include "machine_case.h"
#include "own_mounts.h"
#include "runner.h"

/* --- checkpoints --- */

static const char *const both[] = {"vda", "vdb", NULL};
static const char *const one[] = {"vda", NULL};
static const char *const none[] = {NULL};

static gboolean save(Vm *vm, const char *tag, const char *const *targets, const char *file, GError **error)
{
    MachineCheckpoint what = {tag, targets, file};
    return vm->machine->ops->checkpoint_save(vm->machine, &what, error);
}

/* Into the same QEMU, which no revert does: a load that fails leaves nothing to go back to. */
static void load(Vm *vm, const char *tag, const char *const *targets, const char *file)
{
    GuestMonitor *monitor = vm->guest->monitor;
    json_t *devices = json_array();
    g_autoptr(GError) error = NULL;
    if (file) {
        guest_monitor_do(monitor, "blockdev-add", "{s:s, s:s, s:{s:s, s:s}}", "driver", "qcow2", "node-name",
                         "own", "file", "driver", "file", "filename", file);
        json_array_append_new(devices, json_string("own"));
    }
    for (guint i = 0; targets[i]; i++)
        json_array_append_new(devices, json_string(targets[i]));
    const char *memory = json_string_value(json_array_get(devices, 0));
    LOOK(guest_monitor_job(monitor, &error, "load", "snapshot-load", "{s:s, s:s, s:s, s:o}", "job-id", "load",
                           "tag", tag, "vmstate", memory, "devices", devices));
    if (file)
        guest_monitor_do(monitor, "blockdev-del", "{s:s}", "node-name", "own");
}

static void do_pause(Vm *vm)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(vm->machine->ops->pause(vm->machine, &error), error);
}

static void do_resume(Vm *vm)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(vm->machine->ops->resume(vm->machine, &error), error);
}

/* Memory and disks come back together, into a machine that runs and into one that is paused, and the run state stays. */
START_TEST(checkpoint)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    guint32 before = 0, after = 0;
    GuestMemory memory;
    LOOK(guest_look_counter(vm->guest, &before, &error));
    ASSERT_OK(save(vm, "s1", both, NULL, &error), error);
    vm_expect_status(vm, "running");
    LOOK(guest_look_counter(vm->guest, &after, &error));
    guest_wait(vm->guest, 70);
    do_pause(vm);
    load(vm, "s1", both, NULL);
    vm_expect_status(vm, "paused");
    LOOK(guest_all_agree(vm->guest, IMAGES(vm->a, vm->b), &memory, &error));
    ck_assert(memory.counter >= before && memory.counter <= after && memory.first == 1);
    ASSERT_OK(save(vm, "s2", both, NULL, &error), error); /* of a paused one */
    do_resume(vm);
    guest_wait(vm->guest, 200);
    load(vm, "s2", both, NULL);
    vm_expect_status(vm, "running");
    vm_runs(vm);
    LOOK(guest_look_counter(vm->guest, &after, &error));
    ck_assert_uint_lt(after, memory.counter + 200);

    /* Deleted by the machine: it alone can. */
    Backend *backend = &vm->machine->backend;
    ASSERT_OK(backend->ops->tag_delete(backend, vm->a, "s2", NULL, &error), error);
    ASSERT_OK(backend->ops->tag_delete(backend, vm->a, "s2", NULL, &error), error); /* there is none */
    vm_runs(vm);
    guest_kill(vm->guest);
    g_autoptr(ImageInfo) a = NULL, b = NULL;
    ASSERT_OK(backend->ops->inspect(backend, vm->a, FORMAT_QCOW2, &a, &error), error);
    ASSERT_OK(backend->ops->inspect(backend, vm->b, FORMAT_QCOW2, &b, &error), error);
    ck_assert(image_info_has_tag(a, "s1") && !image_info_has_tag(a, "s2"));
    ck_assert(image_info_has_tag(b, "s1") && image_info_has_tag(b, "s2"));
    LOOK(guest_disks_agree(IMAGES(vm->a, vm->b), "s1", NULL, &error));
    LOOK(guest_disks_agree(IMAGES(vm->a, vm->b), NULL, NULL, &error));
}
END_TEST

/* Memory in a file of its own, without disks and with one. */
START_TEST(checkpoint_file)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    g_autofree char *file = vm_path(vm, "memory.qcow2"), *before = vm_graph(vm);
    guint32 saved = 0, now = 0;
    const char *const *targets = _i ? one : none;
    tool("qemu-img", "create", "-q", "-f", "qcow2", file, "1M", NULL);
    ASSERT_OK(save(vm, "m1", targets, file, &error), error);
    LOOK(guest_look_counter(vm->guest, &saved, &error));
    if (!_i) {
        g_autofree char *after = vm_graph(vm);
        ck_assert_str_eq(before, after);
        tool("qemu-img", "check", "-q", file, NULL); /* nobody has it open */
    }
    guest_wait(vm->guest, 100);
    do_pause(vm);
    load(vm, "m1", targets, file);
    LOOK(guest_look_counter(vm->guest, &now, &error));
    ck_assert_uint_le(now, saved);
    do_resume(vm);
    vm_runs(vm);
    tool("qemu-img", "check", "-q", file, NULL);
    g_autoptr(ImageInfo) info = NULL, disk = NULL;
    ASSERT_OK(vm->backend->ops->inspect(vm->backend, file, FORMAT_QCOW2, &info, &error), error);
    ck_assert(image_info_has_tag(info, "m1"));
    ASSERT_OK(vm->backend->ops->inspect(vm->backend, vm->a, FORMAT_QCOW2, &disk, &error), error);
    ck_assert_int_eq(image_info_has_tag(disk, "m1"), _i);
}
END_TEST

static void expect_tags(Vm *vm, const char *a, const char *b)
{
    g_autofree char *graph = vm_graph(vm);
    g_autofree char *in_a = g_strdup_printf("%s ro=0 backing=(null) tags=%s", vm->a, a);
    g_autofree char *in_b = g_strdup_printf("%s ro=0 backing=(null) tags=%s", vm->b, b);
    ck_assert_msg(strstr(graph, in_a) && strstr(graph, in_b), "%s", graph);
}

START_TEST(checkpoint_fails)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    g_autofree char *missing = vm_path(vm, "missing"), *file = vm_path(vm, "file");
    tool("qemu-img", "create", "-q", "-f", "qcow2", file, "1M", NULL);
    ASSERT_OK(vm_change(vm, NULL, NULL, NULL, "there", &error), error);
    ck_assert(!save(vm, "there", both, NULL, &error));
    expect_error(&error, EEXIST, "'there'");
    ck_assert(!save(vm, "1", both, NULL, &error)); /* an id */
    expect_error(&error, EINVAL, "id");
    ck_assert(!save(vm, "t", none, missing, &error));
    expect_error(&error, ENOENT, NULL);
    ck_assert(!save(vm, "t", none, NULL, &error));
    expect_error(&error, EINVAL, "nothing takes part");
    ck_assert(!save(vm, "t", (const char *const[]){"vda", "vdz", NULL}, NULL, &error));
    expect_error(&error, ENODEV, "vdz");
    ck_assert(!save(vm, "there", (const char *const[]){"vdb", NULL}, file, &error));
    expect_error(&error, EEXIST, "'there'");
    expect_tags(vm, "0", "1");
    vm_runs(vm);
    tool("qemu-img", "check", "-q", file, NULL);
}
END_TEST

/* A file that takes all the room that is left below @dir. */
static void fill(const char *dir)
{
    static const char zeroes[4096];
    g_autofree char *path = g_build_filename(dir, "rest", NULL);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    while (write(fd, zeroes, sizeof zeroes) > 0)
        ;
    ck_assert_int_eq(errno, ENOSPC);
    close(fd);
}

/* The second disk has no room for its part of it: the first one does not keep its own. */
START_TEST(checkpoint_no_room)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = vm_prepare(__func__);
    g_autofree char *small = vm_path(vm, "small"), *b = g_build_filename(small, "b.qcow2", NULL);
    ck_assert_int_eq(mkdir(small, 0700), 0);
    if (!own_tmpfs(small, "size=20m") && skip("a file system of our own cannot be mounted here"))
        return;
    guest_disk_make(b, 8);
    g_free(vm->b);
    vm->b = g_strdup(b);
    vm->guest = vm_start(vm, vm->a, vm->b, NULL);
    guest_wait(vm->guest, 2 * GUEST_SLOTS); /* it needs no more room */
    vm_find(vm);
    fill(small);
    ck_assert(!save(vm, "t", both, NULL, &error));
    ck_assert_msg(strstr(error->message, "vdb") != NULL, "%s", error->message);
    g_clear_error(&error);
    expect_tags(vm, "0", "0");
    vm_expect_status(vm, "running");
    vm_runs(vm);
    guest_kill(vm->guest);
    LOOK(guest_disks_agree(IMAGES(vm->a, vm->b), NULL, NULL, &error));
}
END_TEST

/* --- memory in a file --- */

typedef struct {
    Vm *vm;
    guint told;
    double last;
    gboolean kill; /* QEMU, as soon as we hear of it */
    GCancellable *cancel;
} Watch;

static void told(gpointer user, double part)
{
    Watch *watch = user;
    ck_assert(part >= 0 && part <= 1);
    watch->told++;
    watch->last = part;
    if (watch->kill)
        kill(watch->vm->guest->pid, SIGKILL);
    if (watch->cancel)
        g_cancellable_cancel(watch->cancel);
}

static int new_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* live or not, of a running machine or a paused one: what was saved and the disks of that instant agree. */
START_TEST(memory_saved)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    gboolean live = _i & 1, paused = _i & 2;
    g_autofree char *file = vm_path(vm, "memory"), *a = vm_overlay(vm, "a1", vm->a),
                    *b = vm_overlay(vm, "b1", vm->b), *next_a = vm_overlay(vm, "a2", vm->a),
                    *next_b = vm_overlay(vm, "b2", vm->b);
    GuestMemory before, memory;
    Watch watch = {vm};
    BackendProgress progress = {told, &watch};
    int fd = new_file(file);
    LOOK(guest_look_memory(vm->guest, &before, &error));
    if (paused)
        do_pause(vm);
    ASSERT_OK(vm->machine->ops->memory_save(vm->machine, fd, live, &progress, NULL, &error), error);
    close(fd);
    ck_assert(watch.told > 0 && watch.last > 0.99);
    if (paused)
        vm_find(vm);                                           /* as one does whose daemon died there */
    ASSERT_OK(vm_change(vm, a, b, NULL, NULL, &error), error); /* the same instant */
    do_resume(vm);
    vm_runs(vm);
    json_t *parameters = guest_monitor_call(vm->guest->monitor, &error, "query-migrate-parameters", NULL);
    ck_assert_int_eq(json_integer_value(json_object_get(parameters, "max-bandwidth")), 128 << 20);
    json_decref(parameters);
    guest_kill(vm->guest);
    LOOK(guest_disks_agree(IMAGES(a, b), NULL, NULL, &error));

    guest_free(vm->guest);
    vm->guest = vm_start(vm, next_a, next_b, WORDS("-S", "-incoming", "defer"));
    LOOK(guest_load_memory(vm->guest, file, &error));
    LOOK(guest_all_agree(vm->guest, IMAGES(next_a, next_b), &memory, &error));
    ck_assert(memory.counter >= before.counter && memory.first == 1);
    guest_monitor_do(vm->guest->monitor, "cont", NULL);
    vm_runs(vm);
}
END_TEST

/* Twice in a row, from where the file stands: the second one's success is its own. */
START_TEST(memory_again)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    g_autofree char *file = vm_path(vm, "memory"), *content = NULL;
    gsize len = 0;
    off_t end = 0;
    int fd = new_file(file);
    ck_assert_int_eq(write(fd, "head", 4), 4);
    for (guint i = 0; i < 2; i++) {
        off_t begin = lseek(fd, 0, SEEK_CUR);
        ASSERT_OK(vm->machine->ops->memory_save(vm->machine, fd, i, NULL, NULL, &error), error);
        end = lseek(fd, 0, SEEK_END);
        ck_assert_int_gt(end, begin + 100000);
        do_resume(vm);
        vm_runs(vm);
    }
    close(fd);
    ck_assert(g_file_get_contents(file, &content, &len, NULL));
    ck_assert(memcmp(content, "headQEVM", 8) == 0);
}
END_TEST

static void save_fails(Vm *vm, int fd, gboolean live, Watch *watch, int code, const char *text)
{
    GError *error = NULL;
    BackendProgress progress = {told, watch};
    ck_assert(!vm->machine->ops->memory_save(vm->machine, fd, live, watch ? &progress : NULL,
                                             watch ? watch->cancel : NULL, &error));
    expect_error(&error, code, text);
}

typedef struct {
    Vm *vm;
    int fd;
} Reader;

/* Takes nothing until the migration is told to stop: it cannot have ended before. */
static gpointer read_when_cancelled(gpointer data)
{
    const Reader *reader = data;
    g_autofree char *buffer = g_malloc(65536);
    gboolean told_so = FALSE;
    while (!told_so) {
        json_t *info = guest_monitor_call(reader->vm->guest->monitor, NULL, "query-migrate", NULL);
        told_so = !info || g_strcmp0(json_string_value(json_object_get(info, "status")), "cancelling") == 0;
        json_decref(info);
    }
    while (read(reader->fd, buffer, 65536) > 0)
        ;
    return NULL;
}

static void cancelled(Vm *vm, gboolean live)
{
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    Watch watch = {vm, .cancel = cancel};
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    Reader reader = {vm, ends[0]};
    GThread *thread = g_thread_new("reader", read_when_cancelled, &reader);
    save_fails(vm, ends[1], live, &watch, EINTR, "cancelled");
    close(ends[1]);
    g_thread_join(thread);
    close(ends[0]);
}

/* No room, cancelled, a descriptor for reading: the guest is as before. */
START_TEST(memory_fails)
{
    g_autoptr(Vm) vm = VM(NULL);
    gboolean live = _i & 1, paused = _i & 2;
    g_autofree char *graph = vm_graph(vm);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    Watch before = {vm, .cancel = cancel};
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (paused)
        do_pause(vm);
    save_fails(vm, full, live, NULL, ENOSPC, "No space left on device");
    save_fails(vm, closed, live, NULL, EIO, "Bad file descriptor");
    cancelled(vm, live);
    g_cancellable_cancel(cancel);
    save_fails(vm, full, live, &before, EINTR, "cancelled");
    if (!paused) {
        vm_expect_status(vm, "running");
        vm_runs(vm);
    }
    do_resume(vm);
    vm_runs(vm);
    g_autofree char *after = vm_graph(vm);
    ck_assert_str_eq(graph, after);
    close(full);
    close(closed);
}
END_TEST

START_TEST(memory_dies)
{
    g_autoptr(Vm) vm = VM(NULL);
    Watch watch = {vm, .kill = TRUE};
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    save_fails(vm, ends[1], _i, &watch, ECONNRESET, NULL);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

START_TEST(checkpoint_dies)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    VmKiller killer = {vm, 200000};
    GThread *thread = vm_dies(&killer);
    ck_assert(!save(vm, "t", both, NULL, &error));
    expect_error(&error, ECONNRESET, NULL);
    g_thread_join(thread);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("machine_memory");
    TCase *tcase = scratch_case(suite, "memory");
    tcase_add_test(tcase, checkpoint);
    tcase_add_loop_test(tcase, checkpoint_file, 0, 2);
    tcase_add_test(tcase, checkpoint_fails);
    tcase_add_test(tcase, checkpoint_no_room);
    tcase_add_test(tcase, checkpoint_dies);
    tcase_add_loop_test(tcase, memory_saved, 0, 4);
    tcase_add_test(tcase, memory_again);
    tcase_add_loop_test(tcase, memory_fails, 0, 4);
    tcase_add_loop_test(tcase, memory_dies, 0, 2);
    return run_suite(suite);
}
