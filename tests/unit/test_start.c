/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines started: a real QEMU with the test guest; what it is, that it outlives us, and that nothing is left of a failure. */
#include "runner.h"
#include "saveimage.h"
#include "start_world.h"

/* --- a QEMU of its own --- */

static char *link_of(pid_t pid, const char *what)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, what);
    char *target = g_file_read_link(path, NULL);
    ck_assert_ptr_nonnull(target);
    return target;
}

/* None of the descriptors of this process has reached it: not the one that was opened for it to inherit. */
static void expect_no_descriptor(pid_t pid, const char *file)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    ck_assert_ptr_nonnull(dir);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *entry = g_strdup_printf("fd/%s", name), *target = link_of(pid, entry);
        ck_assert_str_ne(target, file);
    }
}

START_TEST(test_it_runs)
{
    g_auto(StartWorld) w = WORLD("runs");
    g_autofree char *inherited = PATH("inherited");
    int fd = open(inherited, O_RDWR | O_CREAT, 0600); /* not close-on-exec */
    world_start(&w);
    pid_t pid = qmp_pid(w.qmp);
    g_autoptr(Guest) guest = world_guest(&w);
    guest_wait(guest, 3);
    g_autofree char *cwd = link_of(pid, "cwd"), *in = link_of(pid, "fd/0"), *out = link_of(pid, "fd/2");
    g_autofree char *log = world_file(&w, ".log");
    ck_assert_str_eq(cwd, "/");
    ck_assert_str_eq(in, "/dev/null");
    ck_assert_str_eq(out, log);
    expect_no_descriptor(pid, inherited);
    ck_assert_int_ne(getsid(pid), getsid(0));
    ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), -1); /* no child of ours */
    close(fd);
}
END_TEST

START_TEST(test_the_definition_is_pinned)
{
    g_auto(StartWorld) w = WORLD("pinned");
    w.start.paused = TRUE;
    world_start(&w);
    g_autofree char *text = domain_def_format(w.given);
    ck_assert_ptr_null(strstr(text, "machine='pc'"));
    ck_assert_ptr_nonnull(strstr(text, "machine='pc-i440fx-"));
    ck_assert_ptr_nonnull(strstr(text, "<address type='pci'"));
    /* what was given starts the same machine again */
    world_edit(&w, "machine='pc'", "machine='pc'");
    g_autoptr(DomainDef) given = domain_def_copy(w.given);
    world_end(&w, TRUE);
    w.start.def = given;
    world_start(&w);
    g_autofree char *again = domain_def_format(w.given);
    ck_assert_str_eq(again, text);
}
END_TEST

START_TEST(test_paused_does_nothing)
{
    g_auto(StartWorld) w = WORLD("paused");
    w.start.paused = TRUE;
    g_autofree char *a = file_hash(w.disks.vda), *b = file_hash(w.disks.vdb);
    world_start(&w);
    g_autoptr(Guest) guest = world_guest(&w);
    g_autofree char *status = guest_monitor_status(guest->monitor, NULL);
    guint32 counter = 0;
    (void)guest_look_counter(guest, &counter, NULL);
    ck_assert_str_ne(status, "running");
    ck_assert_uint_eq(counter, 0);
    world_end(&w, TRUE);
    g_autofree char *after_a = file_hash(w.disks.vda), *after_b = file_hash(w.disks.vdb);
    ck_assert_str_eq(a, after_a);
    ck_assert_str_eq(b, after_b);
}
END_TEST

/* A process that starts the machine, says so, and waits to be killed. */
static pid_t start_in_child(StartWorld *w)
{
    int line[2];
    char ready = 0;
    ck_assert_int_eq(pipe(line), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        if (world_try(w, NULL))
            (void)!write(line[1], "r", 1);
        for (;;)
            pause();
    }
    close(line[1]);
    ck_assert_int_eq(read(line[0], &ready, 1), 1);
    close(line[0]);
    return child;
}

START_TEST(test_it_outlives_who_started_it)
{
    g_auto(StartWorld) w = WORLD("outlives");
    pid_t child = start_in_child(&w);
    g_autoptr(Guest) guest = world_guest(&w);
    guest_wait(guest, 2);
    ck_assert_int_eq(kill(-child, SIGKILL), 0); /* the whole group, as a terminal or systemd would */
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    guest_wait(guest, 5);
    guest_quit(guest);
}
END_TEST

/* As snapcore does it. */
START_TEST(test_as_a_machine)
{
    g_auto(StartWorld) w = WORLD("machine");
    g_autoptr(DomainDef) def = NULL;
    g_autoptr(GPtrArray) notes = NULL;
    GError *error = NULL;
    RunState state = RUN_UNKNOWN;
    Backend *backend = online_backend_new(NULL, w.run);
    Machine *machine = NULL;
    ASSERT_OK(backend->machines->start(backend, &w.start, NULL, &machine, &def, &notes, &error), error);
    ASSERT_OK(machine->ops->run_state(machine, &state, &error), error);
    ck_assert_int_eq(state, RUN_RUNNING);
    machine_free(machine); /* a connection, no more */
    g_autoptr(Guest) guest = world_guest(&w);
    guest_wait(guest, 2);
    g_clear_pointer(&guest, guest_free);
    MachineDisk disks[] = {{"vda", w.disks.vda, FALSE}, {"vdb", w.disks.vdb, FALSE}};
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof *disks);
    g_array_append_vals(all, disks, 2);
    MachineSpec spec = {.name = def->name, .uuid = def->uuid, .disks = all};
    ASSERT_OK(backend->machines->find(backend, &spec, NULL, &machine, &error), error);
    ck_assert_ptr_nonnull(machine);
    ASSERT_OK(machine->ops->destroy(machine, NULL, &error), error);
    machine_free(machine);
    backend->ops->free(backend);
    expect_nothing_left(&w);
}
END_TEST

/* --- memory --- */

/* As `save` does: the memory into a save image, the machine's end. */
static void save(StartWorld *w, const char *path)
{
    GError *error = NULL;
    QmpWait wait = qmp_wait(60000, NULL);
    guint64 seen = 0;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT_OK(qmp_do(w->qmp, "stop", json_object(), &wait, &error), error);
    ASSERT_OK(saveimage_begin(fd, w->given, TRUE, &error), error);
    ASSERT_OK(qmp_getfd(w->qmp, "out", fd, &wait, &error), error);
    ASSERT_OK(qmp_do(w->qmp, "migrate", json_pack("{s:s}", "uri", "fd:out"), &wait, &error), error);
    for (;;) {
        g_autoptr(json_t) status = qmp_run(w->qmp, "query-migrate", json_object(), &wait, &error);
        ASSERT_OK(status != NULL, error);
        if (g_strcmp0(json_string_value(json_object_get(status, "status")), "completed") == 0)
            break;
        ASSERT_OK(qmp_wait_event(w->qmp, &seen, 10, &wait, &error), error);
    }
    ASSERT_OK(saveimage_finish(fd, &error), error);
    close(fd);
}

static GuestMemory memory_of(const StartWorld *w)
{
    g_autoptr(Guest) guest = world_guest(w);
    g_autoptr(GError) error = NULL;
    GuestMemory memory;
    LOOK(guest_all_agree(guest, IMAGES(w->disks.vda, w->disks.vdb), &memory, &error));
    return memory;
}

static void run_and_save(StartWorld *w, const char *path, GuestMemory *memory)
{
    world_start(w);
    g_autoptr(Guest) guest = world_guest(w);
    guest_wait(guest, 5);
    g_clear_pointer(&guest, guest_free);
    save(w, path);
    if (memory)
        *memory = memory_of(w);
    world_end(w, TRUE);
}

START_TEST(test_memory_goes_on)
{
    g_auto(StartWorld) w = WORLD("memory");
    g_autofree char *path = PATH("image.save");
    GError *error = NULL;
    GuestMemory before, after;
    run_and_save(&w, path, &before);
    g_autoptr(SaveImage) image = saveimage_open(path, &error);
    ASSERT_OK(image != NULL, error);
    w.start.def = image->def;
    w.start.memory = image->fd;
    w.start.paused = _i;
    world_start(&w);
    if (_i) {
        after = memory_of(&w);
        ck_assert_uint_eq(after.counter, before.counter);
        return;
    }
    g_autoptr(Guest) guest = world_guest(&w);
    guest_wait(guest, 3);
    guest_monitor_do(guest->monitor, "stop", NULL);
    g_clear_pointer(&guest, guest_free);
    after = memory_of(&w);
    ck_assert_uint_eq(after.first, before.first); /* it has not booted */
    ck_assert_uint_gt(after.counter, before.counter);
}
END_TEST

START_TEST(test_memory_that_does_not_fit)
{
    g_auto(StartWorld) w = WORLD("misfit");
    g_autofree char *path = PATH("image.save");
    g_autoptr(GError) error = NULL;
    run_and_save(&w, path, NULL);
    g_autofree char *a = file_hash(w.disks.vda);
    g_autoptr(SaveImage) image = saveimage_open(path, &error);
    ASSERT_OK(image != NULL, error);
    world_edit(&w, "<memory unit='MiB'>32<", "<memory unit='MiB'>64<");
    w.start.memory = image->fd;
    ck_assert(!world_try(&w, &error));
    expect_error(&error, EINVAL, "Size mismatch: pc.ram");
    expect_nothing_left(&w);
    g_autofree char *after = file_hash(w.disks.vda);
    ck_assert_str_eq(a, after);
    /* and it can be started as if nothing had been */
    w.start.memory = -1;
    world_start(&w);
}
END_TEST

START_TEST(test_a_checkpoint)
{
    g_auto(StartWorld) w = WORLD("checkpoint");
    g_autofree char *a = launch_node_name("vda", 0), *b = launch_node_name("vdb", 0);
    g_autoptr(GError) error = NULL;
    world_start(&w);
    g_autoptr(Guest) guest = world_guest(&w);
    guest_wait(guest, 3);
    guest_monitor_do(guest->monitor, "stop", NULL);
    GuestMemory before;
    LOOK(guest_all_agree(guest, IMAGES(w.disks.vda, w.disks.vdb), &before, &error));
    ASSERT_OK(guest_monitor_job(guest->monitor, &error, "j", "snapshot-save", "{s:s,s:s,s:s,s:[s,s]}",
                                "job-id", "j", "tag", "here", "vmstate", a, "devices", a, b),
              error);
    guest_monitor_do(guest->monitor, "cont", NULL);
    guest_wait(guest, 3);
    g_clear_pointer(&guest, guest_free);
    world_end(&w, TRUE);
    static const char *const targets[] = {"vda", "vdb", NULL};
    w.start.tag = "here";
    w.start.tag_targets = targets;
    w.start.paused = TRUE;
    world_start(&w);
    GuestMemory after = memory_of(&w);
    ck_assert_uint_eq(after.counter, before.counter);
    ck_assert_uint_eq(after.first, before.first);
    world_end(&w, TRUE);
    w.start.tag = "there";
    ck_assert(!world_try(&w, &error));
    expect_error(&error, ENOENT, "'there'");
    expect_nothing_left(&w);
}
END_TEST

START_TEST(test_a_checkpoint_with_a_file_of_its_own)
{
    g_auto(StartWorld) w = WORLD("file");
    g_autofree char *file = PATH("memory.qcow2");
    g_autoptr(GError) error = NULL;
    GuestMemory before, after;
    tool("qemu-img", "create", "-q", "-f", "qcow2", file, "1M", NULL);
    tool("qemu-img", "snapshot", "-c", "here", w.disks.vdb, NULL); /* not of that checkpoint */
    world_start(&w);
    g_autoptr(Guest) guest = world_guest(&w);
    guest_wait(guest, 3);
    guest_monitor_do(guest->monitor, "stop", NULL);
    LOOK(guest_all_agree(guest, IMAGES(w.disks.vda, w.disks.vdb), &before, &error));
    guest_monitor_do(guest->monitor, "blockdev-add", "{s:s,s:s,s:{s:s,s:s}}", "driver", "qcow2", "node-name",
                     "m", "file", "driver", "file", "filename", file);
    ASSERT_OK(guest_monitor_job(guest->monitor, &error, "j", "snapshot-save", "{s:s,s:s,s:s,s:[s]}", "job-id",
                                "j", "tag", "here", "vmstate", "m", "devices", "m"),
              error);
    g_clear_pointer(&guest, guest_free);
    world_end(&w, TRUE);
    w.start.tag = "here";
    w.start.tag_file = file;
    world_start(&w);
    guest = world_guest(&w);
    guest_wait(guest, 2);
    guest_monitor_do(guest->monitor, "stop", NULL);
    g_clear_pointer(&guest, guest_free);
    after = memory_of(&w);
    ck_assert_uint_eq(after.first, before.first);
    ck_assert_uint_gt(after.counter, before.counter);
    /* nobody has the file any more */
    tool("qemu-img", "check", "-q", "-f", "qcow2", file, NULL);
}
END_TEST

/* --- what is in the way --- */

START_TEST(test_what_is_no_socket_stays)
{
    static const struct {
        const char *suffix, *words;
    } places[] = {{".qmp", "no socket"},
                  {".monitor", "no socket"},
                  {".pid", "something else"},
                  {".log", "something else"}};
    g_auto(StartWorld) w = WORLD("occupied");
    g_autofree char *path = world_file(&w, places[_i].suffix), *text = NULL;
    GError *error = NULL;
    ck_assert_int_eq(g_mkdir_with_parents(w.run, 0700), 0);
    ck_assert(g_file_set_contents(path, "precious\n", -1, NULL));
    ck_assert(!world_try(&w, &error));
    expect_error(&error, EEXIST, places[_i].words);
    ck_assert(g_file_get_contents(path, &text, NULL, NULL));
    ck_assert_str_eq(text, "precious\n");
    ck_assert(g_file_test(path, G_FILE_TEST_IS_REGULAR));
    ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(test_a_directory_of_others)
{
    g_auto(StartWorld) w = WORLD("others");
    GError *error = NULL;
    ck_assert_int_eq(mkdir(w.run, 0700), 0);
    ck_assert_int_eq(chmod(w.run, 0777), 0);
    ck_assert(!world_try(&w, &error));
    expect_error(&error, EACCES, "can be written by others");
}
END_TEST

START_TEST(test_twice)
{
    g_auto(StartWorld) w = WORLD("twice");
    GError *error = NULL;
    DomainDef *given = NULL;
    GPtrArray *notes = NULL;
    world_start(&w);
    ck_assert_ptr_null(start_machine(w.images, w.run, &w.start, NULL, &given, &notes, &error));
    expect_error(&error, EBUSY, "runs");
    /* under another name, it is the images that are in use */
    world_edit(&w, "<name>twice<", "<name>other<");
    ck_assert_ptr_null(start_machine(w.images, w.run, &w.start, NULL, &given, &notes, &error));
    expect_error(&error, EBUSY, "disk 'vda'");
    g_autoptr(Guest) guest = world_guest(&w);
    guest_wait(guest, 2);
}
END_TEST

/* A QEMU that was killed leaves its sockets and its pid file: they are in nobody's way. */
START_TEST(test_after_a_crash)
{
    g_auto(StartWorld) w = WORLD("crashed");
    g_autofree char *socket = world_file(&w, ".qmp");
    world_start(&w);
    int pidfd = watch_end(qmp_pid(w.qmp));
    ck_assert_int_eq(kill(qmp_pid(w.qmp), SIGKILL), 0);
    ck_assert(wait_gone(pidfd));
    world_end(&w, FALSE);
    ck_assert(g_file_test(socket, G_FILE_TEST_EXISTS));
    world_start(&w);
    g_autoptr(Guest) guest = world_guest(&w);
    guest_wait(guest, 2);
}
END_TEST

START_TEST(test_qemus_own_words)
{
    g_auto(StartWorld) w = WORLD("words");
    GError *error = NULL;
    poke(w.disks.vdb, 0, "none", 4);
    ck_assert(!world_try(&w, &error));
    expect_error(&error, EIO, "Image is not in qcow2 format");
    expect_nothing_left(&w);
}
END_TEST

START_TEST(test_cancelled)
{
    g_auto(StartWorld) w = WORLD("cancelled");
    GError *error = NULL;
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_cancellable_cancel(cancel);
    w.qmp = start_machine(w.images, w.run, &w.start, cancel, &w.given, &w.notes, &error);
    ck_assert_ptr_null(w.qmp);
    expect_error(&error, EINTR, "cancelled");
    expect_nothing_left(&w);
}
END_TEST

/* --- what is made for it --- */

static void make_transient(StartWorld *w)
{
    world_edit(w, "<target dev='vdb' bus='virtio'/>", "<target dev='vdb' bus='virtio'/>\n      <transient/>");
}

START_TEST(test_a_transient_disk)
{
    g_auto(StartWorld) w = WORLD("transient");
    g_autofree char *before = file_hash(w.disks.vdb), *first = file_hash(w.disks.vda);
    make_transient(&w);
    world_start(&w);
    g_autoptr(Guest) guest = world_guest(&w);
    guest_wait(guest, 3);
    GuestMemory memory;
    g_autoptr(GError) error = NULL;
    LOOK(guest_look_memory(guest, &memory, &error));
    ck_assert_uint_eq(memory.errors, 0); /* it could write */
    ck_assert_uint_eq(memory.disks, 2);
    world_end(&w, TRUE);
    g_autofree char *after = file_hash(w.disks.vdb), *changed = file_hash(w.disks.vda);
    ck_assert_str_eq(before, after);
    ck_assert_str_ne(first, changed);
    expect_nothing_left(&w);
}
END_TEST

START_TEST(test_nothing_is_left_of_a_transient_disk)
{
    g_auto(StartWorld) w = WORLD("leftover");
    GError *error = NULL;
    make_transient(&w);
    w.start.tag = "no-such-checkpoint";
    ck_assert(!world_try(&w, &error));
    expect_error(&error, ENOENT, "no-such-checkpoint");
    expect_nothing_left(&w);
}
END_TEST

START_TEST(test_nvram)
{
    g_auto(StartWorld) w = WORLD("nvram");
    g_autofree char *code = PATH("code.fd"), *template = PATH("vars.fd"), *nvram = PATH("my.nvram");
    g_autofree char *bytes = g_strnfill(512 * 1024, 'v');
    g_autofree char *os =
        g_strdup_printf("hvm</type>\n<loader readonly='yes' type='pflash'>%s</loader>\n<nvram "
                        "template='%s'>%s</nvram>",
                        code, template, nvram);
    GError *error = NULL;
    ck_assert(g_file_set_contents(code, bytes, 512 * 1024, NULL));
    ck_assert(g_file_set_contents(template, bytes, 512 * 1024, NULL));
    world_edit(&w, "hvm</type>", os);
    w.start.paused = TRUE;
    w.start.tag = "none";
    ck_assert(!world_try(&w, &error)); /* made in vain */
    expect_error(&error, ENOENT, "'none'");
    expect_nothing_left(&w);
    w.start.tag = NULL;
    world_start(&w);
    world_end(&w, TRUE);
    g_autofree char *is = file_hash(nvram), *was = file_hash(template);
    ck_assert_str_eq(is, was);
    /* the one that is there is the machine's */
    poke(nvram, 0, "mine", 4);
    world_start(&w);
    world_end(&w, TRUE);
    g_autofree char *kept = NULL;
    ck_assert(g_file_get_contents(nvram, &kept, NULL, NULL) && g_str_has_prefix(kept, "mine"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("start");
    TCase *tcase = machines_case(suite, "start");
    tcase_add_test(tcase, test_it_runs);
    tcase_add_test(tcase, test_the_definition_is_pinned);
    tcase_add_test(tcase, test_paused_does_nothing);
    tcase_add_test(tcase, test_it_outlives_who_started_it);
    tcase_add_test(tcase, test_as_a_machine);
    tcase_add_loop_test(tcase, test_memory_goes_on, 0, 2);
    tcase_add_test(tcase, test_memory_that_does_not_fit);
    tcase_add_test(tcase, test_a_checkpoint);
    tcase_add_test(tcase, test_a_checkpoint_with_a_file_of_its_own);
    tcase_add_loop_test(tcase, test_what_is_no_socket_stays, 0, 4);
    tcase_add_test(tcase, test_a_directory_of_others);
    tcase_add_test(tcase, test_twice);
    tcase_add_test(tcase, test_after_a_crash);
    tcase_add_test(tcase, test_qemus_own_words);
    tcase_add_test(tcase, test_cancelled);
    tcase_add_test(tcase, test_a_transient_disk);
    tcase_add_test(tcase, test_nothing_is_left_of_a_transient_disk);
    tcase_add_test(tcase, test_nvram);
    return run_suite(suite);
}
