/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What has to be possible with a machine that was started here: merges, states of memory, disks that forget. */
#include "launch_run.h"
#include "runner.h"

static char *hash_of(Machine *machine, const char *name)
{
    g_autofree char *path = g_build_filename(machine->dir, name, NULL);
    return file_hash(path);
}

/* Write what a guest would, through the drive @device. */
static void write_drive(QmpPeer *peer, const char *device, int pattern)
{
    g_autofree char *command =
        g_strdup_printf("{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":"
                        "\"qemu-io -d %s \\\"write -P %d 64k 64k\\\"\"}}",
                        device, pattern);
    json_t *said = qmp_peer_must(peer, command);
    ck_assert_str_eq(json_string_value(said), "");
    json_decref(said);
}

/* Has QEMU written @times pieces? It says so on its standard output. */
static void assert_written(const Machine *machine, guint times)
{
    g_autofree char *said = NULL;
    ck_assert(g_file_get_contents(machine->log, &said, NULL, NULL));
    g_auto(GStrv) parts = g_strsplit(said, "wrote 65536", -1);
    ck_assert_msg(g_strv_length(parts) == times + 1, "%s", said);
}

static void begin(Machine *machine, const char *name, QmpPeer *peer)
{
    place_machine(machine, name, 0);
    ck_assert(load(machine));
    launch_machine(machine, machine->def);
    *peer = open_monitor(machine, machine->launch->monitor);
}

/* Wait until no job is left; one that failed says why. */
static void wait_for_jobs(QmpPeer *peer)
{
    gint64 end = g_get_monotonic_time() + SECONDS * G_USEC_PER_SEC;
    for (;;) {
        json_t *jobs = qmp_peer_must(peer, "{\"execute\":\"query-jobs\"}");
        json_t *job = json_array_get(jobs, 0);
        const char *status = job ? text_of(job, "status") : NULL;
        ck_assert_msg(!job || !text_of(job, "error"), "a job failed: %s", text_of(job, "error"));
        gboolean done = !job || strcmp(status, "concluded") == 0;
        if (job && done)
            json_decref(qmp_peer_must(peer, "{\"execute\":\"job-dismiss\",\"arguments\":{\"id\":\"j\"}}"));
        json_decref(jobs);
        if (done)
            return;
        ck_assert(g_get_monotonic_time() < end);
        g_usleep(5000);
    }
}

/*
 * A frozen layer was opened for reading; a merge may still write into it. The middle of the chain goes into
 * what is below it, and what the active one reads stays.
 */
START_TEST(merge)
{
    Machine machine;
    QmpPeer peer;
    begin(&machine, "disk-chain", &peer);
    write_drive(&peer, "/machine/peripheral/disk-vda/virtio-backend", 7);
    json_decref(qmp_peer_must(
        &peer, "{\"execute\":\"block-commit\",\"arguments\":{\"job-id\":\"j\",\"device\":\"disk-vda-2\","
               "\"top-node\":\"disk-vda-1\",\"base-node\":\"disk-vda-0\",\"auto-dismiss\":false}}"));
    wait_for_jobs(&peer);
    json_t *nodes =
        qmp_peer_must(&peer, "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}");
    size_t i;
    json_t *node;
    gboolean found = FALSE;
    json_array_foreach (nodes, i, node) {
        if (strcmp(text_of(node, "node-name"), "disk-vda-2") == 0)
            found = strstr(text_of(node, "backing_file"), "base.raw") != NULL;
    }
    ck_assert_msg(found, "the active layer does not stand on the base");
    json_decref(nodes);
    quit_machine(&machine, &peer);
    assert_written(&machine, 1);
    g_autofree char *top = g_build_filename(machine.dir, "top.qcow2", NULL);
    g_autofree char *read = tool_output("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 7 64k 64k", top, NULL);
    ck_assert_msg(strstr(read, "read 65536") && !strstr(read, "failed"), "%s", read);
    clear(&machine);
}
END_TEST

/* What was written to a transient disk is nowhere but in its overlay, which may have lost its name by then. */
START_TEST(transient)
{
    Machine machine;
    QmpPeer peer;
    begin(&machine, "disk-transient", &peer);
    g_autofree char *base = hash_of(&machine, "r.raw"), *image = hash_of(&machine, "t.qcow2");
    for (guint i = 0; i < machine.launch->overlays->len; i++) {
        const LaunchOverlay *overlay = machine.launch->overlays->pdata[i];
        ck_assert(unlink(overlay->path) == 0);
    }
    write_drive(&peer, "disk-sda", 5);
    write_drive(&peer, "/machine/peripheral/disk-vda/virtio-backend", 5);
    quit_machine(&machine, &peer);
    assert_written(&machine, 2);
    g_autofree char *base_after = hash_of(&machine, "r.raw"), *image_after = hash_of(&machine, "t.qcow2");
    ck_assert_str_eq(base, base_after);
    ck_assert_str_eq(image, image_after);
    ck_assert_uint_eq(machine.launch->overlays->len, 2); /* none for the disk that is read-only */
    clear(&machine);
}
END_TEST

/*
 * The header of an image names a file that the store does not know of. QEMU must not open it: what is in a
 * header, a guest may have written.
 */
START_TEST(header)
{
    Machine machine;
    place_machine(&machine, "fedora-example", 0);
    ck_assert(load(&machine));
    g_autofree char *image = g_build_filename(machine.dir, "fedora.qcow2", NULL);
    g_autofree char *secret = g_build_filename(machine.dir, "secret", NULL);
    make_file(secret, IMAGE_BYTES);
    tool("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", secret, "-F", "raw", image, NULL);
    launch_machine(&machine, machine.def);
    QmpPeer peer = open_monitor(&machine, machine.launch->monitor);
    json_t *nodes =
        qmp_peer_must(&peer, "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}");
    ck_assert_uint_eq(json_array_size(nodes), 2);
    json_decref(nodes);
    quit_machine(&machine, &peer);
    clear(&machine);
}
END_TEST

static const char *const saved[] = {"pc-everything", "q35-everything", "fedora-example"};

static void ask_state(QmpPeer *peer, const char *command)
{
    g_autofree char *text = g_strdup_printf(
        "{\"execute\":\"%s\",\"arguments\":{\"job-id\":\"j\",\"tag\":\"t\",\"vmstate\":\"disk-vda-0\","
        "\"devices\":[\"disk-vda-0\"]}}",
        command);
    json_decref(qmp_peer_must(peer, text));
    wait_for_jobs(peer);
}

/*
 * The state of memory of a machine fits into the one that its completed document describes, read as if from a
 * file.
 */
START_TEST(memory)
{
    Machine machine;
    QmpPeer peer;
    begin(&machine, saved[_i], &peer);
    json_decref(qmp_peer_must(&peer, "{\"execute\":\"cont\"}"));
    json_decref(qmp_peer_must(&peer, "{\"execute\":\"stop\"}"));
    ask_state(&peer, "snapshot-save");
    quit_machine(&machine, &peer);
    g_autofree char *completed = domain_def_format(machine.launch->def);
    g_autoptr(DomainDef) pinned = launch_case_parse(saved[_i], completed);
    launch_machine(&machine, pinned);
    peer = open_monitor(&machine, machine.launch->monitor);
    ask_state(&peer, "snapshot-load");
    json_decref(qmp_peer_must(&peer, "{\"execute\":\"cont\"}"));
    check_status(&machine, &peer, "running");
    quit_machine(&machine, &peer);
    clear(&machine);
}
END_TEST

/* A machine of type kvm has KVM, where the host has it. */
START_TEST(with_kvm)
{
    Machine machine;
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0 && skip("there is no KVM"))
        return;
    close(fd);
    place_machine(&machine, "reference-page", 0);
    ck_assert(load(&machine));
    LaunchSpec spec = {.def = machine.def, .backing = machine.backing, .directory = machine.dir, .kvm = TRUE};
    machine.launch = launch_new(&spec, NULL);
    ck_assert_ptr_nonnull(machine.launch);
    ck_assert_uint_eq(machine.launch->notes->len, 0);
    start(&machine);
    QmpPeer peer = open_monitor(&machine, machine.launch->monitor);
    json_t *kvm = qmp_peer_must(&peer, "{\"execute\":\"query-kvm\"}");
    ck_assert(json_is_true(json_object_get(kvm, "enabled")));
    json_decref(kvm);
    json_decref(qmp_peer_must(&peer, "{\"execute\":\"cont\"}"));
    check_status(&machine, &peer, "running");
    quit_machine(&machine, &peer);
    clear(&machine);
}
END_TEST

/* Of a machine in the background that a failed test left; before its directory goes. */
static void end_background(void)
{
    g_autofree char *file = g_build_filename(scratch, "0/d.pid", NULL);
    g_autofree char *pid = NULL, *words = NULL;
    gsize len = 0;
    if (g_file_get_contents(file, &pid, NULL, NULL)) {
        g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", g_strstrip(pid));
        if (g_file_get_contents(path, &words, &len, NULL) && memmem(words, len, scratch, strlen(scratch)))
            kill((pid_t)g_ascii_strtoll(pid, NULL, 10), SIGKILL);
    }
    loops_teardown();
}

/* In the background: the one who starts it gets an exit code once everything is set up, and finds the machine. */
START_TEST(background)
{
    Machine machine;
    place_machine(&machine, "smallest", 0);
    ck_assert(load(&machine) && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    LaunchSpec spec = {
        .def = machine.def, .backing = machine.backing, .directory = machine.dir, .daemonize = TRUE};
    machine.launch = launch_new(&spec, NULL);
    ck_assert_ptr_nonnull(machine.launch);
    ck_assert_int_eq(run_argv((char **)machine.launch->argv->pdata, NULL), 0);
    g_autofree char *pid = NULL;
    ck_assert(g_file_get_contents(machine.launch->pid_file, &pid, NULL, NULL));
    machine.pid = (pid_t)g_ascii_strtoll(pid, NULL, 10);
    ck_assert_int_gt(machine.pid, 1);
    QmpPeer peer = open_monitor(&machine, machine.launch->monitor);
    check_status(&machine, &peer, "prelaunch");
    quit_machine(&machine, &peer);
    clear(&machine);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("launch_use");
    tcase_add_test(loops_case(suite, "merge"), merge);
    tcase_add_test(loops_case(suite, "transient"), transient);
    tcase_add_test(loops_case(suite, "header"), header);
    for (int i = 0; i < (int)G_N_ELEMENTS(saved); i++)
        tcase_add_loop_test(loops_case(suite, saved[i]), memory, i, i + 1);
    tcase_add_test(loops_case(suite, "kvm"), with_kvm);
    TCase *tcase = tcase_create("background");
    tcase_add_unchecked_fixture(tcase, scratch_setup, end_background);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, background);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    g_autofree char *program = g_find_program_in_path("qemu-system-x86_64");
    if (!program) {
        printf("1..0 # SKIP not installed: qemu-system-x86_64\n");
        return EXIT_SUCCESS;
    }
    return run_suite(suite());
}
