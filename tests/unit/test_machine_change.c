/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks of a running machine, frozen at one instant. */
#include "machine_case.h"
#include "runner.h"

/* What was frozen is of one instant, and stays; the guest writes on, into the overlays. */
START_TEST(overlays)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    guint32 last = 0, now = 0;
    for (guint i = 1; i <= 4; i++, last = now) {
        g_autofree char *name_a = g_strdup_printf("a%u", i), *name_b = g_strdup_printf("b%u", i);
        g_autofree char *old_a = vm->a, *old_b = vm->b, *path = NULL;
        vm->a = vm_overlay(vm, name_a, old_a);
        vm->b = vm_overlay(vm, name_b, old_b);
        guest_wait(vm->guest, 10 + i);
        ASSERT_OK(vm_change(vm, vm->a, vm->b, NULL, NULL, &error), error);
        LOOK(guest_disks_agree(IMAGES(old_a, old_b), NULL, &now, &error));
        ck_assert_uint_gt(now, last);
        vm_runs(vm);
        ASSERT_OK(vm->machine->ops->active_path(vm->machine, "vda", &path, &error), error);
        ck_assert_str_eq(path, vm->a);
        if (i == 2)
            vm_find(vm); /* known as it is now, also to one who comes anew */
        g_autofree char *before = file_hash(old_a);
        vm_runs(vm);
        g_autofree char *after = file_hash(old_a);
        ck_assert_str_eq(before, after);
    }
    guest_kill(vm->guest);
    LOOK(guest_disks_agree(IMAGES(vm->a, vm->b), NULL, &now, &error));
    ck_assert_uint_gt(now, last);
    g_autoptr(ImageInfo) info = NULL;
    ASSERT_OK(vm->backend->ops->inspect(vm->backend, vm->a, FORMAT_QCOW2, &info, &error), error);
    ck_assert_str_eq(info->backing_name, "a3"); /* as it was made */
}
END_TEST

/* The disks alone, by tags; one by a tag, the other by an overlay. */
START_TEST(tags)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    g_autofree char *overlay = vm_overlay(vm, "b1", vm->b);
    guint32 then = 0, now = 0, disks[2];
    ASSERT_OK(vm_change(vm, NULL, NULL, "t1", "t1", &error), error);
    guest_wait(vm->guest, 70);
    ASSERT_OK(vm_change(vm, NULL, overlay, "t2", NULL, &error), error);
    guest_wait(vm->guest, 70);
    guest_kill(vm->guest);
    LOOK(guest_disks_agree(IMAGES(vm->a, vm->b), "t1", &then, &error));
    LOOK(guest_look_disk(vm->a, 0, "t2", &disks[0], &error));
    LOOK(guest_look_disk(vm->b, 1, NULL, &disks[1], &error));
    LOOK(guest_in_step(disks, 2, &error));
    ck_assert_uint_ge(disks[0], then + 70);
    LOOK(guest_disks_agree(IMAGES(vm->a, overlay), NULL, &now, &error));
    ck_assert_uint_ge(now, disks[0] + 70);
}
END_TEST

static void fails(Vm *vm, const char *a, const char *b, const char *tag_a, const char *tag_b, int code,
                  const char *text)
{
    GError *error = NULL;
    g_autofree char *before = vm_graph(vm);
    ck_assert(!vm_change(vm, a, b, tag_a, tag_b, &error));
    expect_error(&error, code, text);
    g_autofree char *after = vm_graph(vm);
    ck_assert_str_eq(before, after);
    vm_expect_status(vm, "running");
    vm_runs(vm);
}

/* All or nothing: whatever is wrong with the second one, the first one is as it was. */
START_TEST(failures)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    g_autofree char *a = vm_overlay(vm, "a1", vm->a), *b = vm_overlay(vm, "b1", vm->b);
    g_autofree char *missing = vm_path(vm, "missing"), *broken = vm_path(vm, "broken");
    g_autofree char *hash = file_hash(a), *text = g_strnfill(4096, 'x');
    ck_assert(g_file_set_contents(broken, text, 4096, NULL));
    fails(vm, a, missing, NULL, NULL, ENOENT, "disk 'vdb'");
    fails(vm, a, broken, NULL, NULL, EIO, "disk 'vdb'");
    fails(vm, a, a, NULL, NULL, EBUSY, NULL);     /* opened twice */
    fails(vm, a, vm->b, NULL, NULL, EBUSY, NULL); /* is written already */
    ASSERT_OK(vm_change(vm, NULL, NULL, NULL, "there", &error), error);
    fails(vm, NULL, NULL, "there", "there", EEXIST, "already exists"); /* the second action */
    fails(vm, a, NULL, NULL, "there", EEXIST, "already exists");
    fails(vm, a, NULL, NULL, "\xff", EINVAL, "UTF-8");
    g_autofree char *after = file_hash(a);
    ck_assert_str_eq(hash, after);
    ASSERT_OK(vm_change(vm, a, b, NULL, NULL, &error), error); /* and they are free for it */
    LOOK(guest_disks_agree(IMAGES(vm->a, vm->b), NULL, NULL, &error));
    vm_runs(vm);

    /* Somebody else changes the layers: what is below is not what we were told. */
    g_autofree char *other = vm_path(vm, "other"), *c = vm_overlay(vm, "c1", a);
    guest_monitor_do(vm->guest->monitor, "blockdev-snapshot-sync", "{s:s, s:s, s:s}", "node-name",
                     "disk-vda-0", "snapshot-file", other, "snapshot-node-name", "other");
    fails(vm, c, NULL, NULL, NULL, EBUSY, "and not");
}
END_TEST

static json_t *node_info(Vm *vm, const char *name)
{
    g_autoptr(GError) error = NULL;
    json_t *nodes = guest_monitor_call(vm->guest->monitor, &error, "query-named-block-nodes", NULL), *each;
    size_t i;
    LOOK(nodes);
    json_array_foreach (nodes, i, each)
        if (g_str_equal(json_string_value(json_object_get(each, "node-name")), name)) {
            json_incref(each);
            json_decref(nodes);
            return each;
        }
    ck_abort_msg("no node '%s'", name);
}

static void expect_cache(Vm *vm, const char *node, gboolean direct, gboolean no_flush, const char *zeroes)
{
    json_t *info = node_info(vm, node), *cache = json_object_get(info, "cache");
    ck_assert_int_eq(json_is_true(json_object_get(cache, "direct")), direct);
    ck_assert_int_eq(json_is_true(json_object_get(cache, "no-flush")), no_flush);
    if (zeroes)
        ck_assert_str_eq(json_string_value(json_object_get(info, "detect_zeroes")), zeroes);
    json_decref(info);
}

/* I/O as the machine's third disk does it. What comes of it, QEMU prints. */
static void do_io(Vm *vm, const char *command)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *line =
        g_strdup_printf("qemu-io -d /machine/peripheral/disk-vdc/disk-vdc.0/legacy[0] \"%s\"", command);
    g_autofree char *text = guest_monitor_human(vm->guest->monitor, line, &error);
    LOOK(text);
    ck_assert_str_eq(text, "");
}

/* Look for it with a third disk, vdc, whose active layer is @c. */
static void find_three(Vm *vm, const char *c)
{
    g_autoptr(GError) error = NULL;
    MachineDisk disks[] = {{"vda", vm->a, FALSE}, {"vdb", vm->b, FALSE}, {"vdc", c, FALSE}};
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(MachineDisk));
    g_array_append_vals(list, disks, G_N_ELEMENTS(disks));
    MachineSpec spec = {.name = "vm", .uuid = VM_UUID, .disks = list};
    g_clear_pointer(&vm->machine, machine_free);
    ASSERT_OK(vm->backend->machines->find(vm->backend, &spec, NULL, &vm->machine, &error), error);
    ck_assert_ptr_nonnull(vm->machine);
}

/* A third disk on USB, called as launch.h says, with modes of its own. *ret_c: its image. */
static Vm *three_disks(const char *test, char **ret_c)
{
    char *c = in_scratch(test, "vdc.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", c, "8M", NULL);
    g_autofree char *file = g_strdup_printf("{\"driver\":\"file\",\"node-name\":\"disk-vdc-7-file\","
                                            "\"cache\":{\"direct\":true},\"filename\":\"%s\"}",
                                            c);
    const char *disk = "{\"driver\":\"qcow2\",\"node-name\":\"disk-vdc-7\",\"cache\":{\"direct\":true},"
                       "\"detect-zeroes\":\"unmap\",\"discard\":\"unmap\",\"file\":\"disk-vdc-7-file\"}";
    Vm *vm = vm_new(test, WORDS("-blockdev", file, "-blockdev", disk, "-device", "usb-ehci", "-device",
                                "usb-storage,drive=disk-vdc-7,id=disk-vdc"));
    find_three(vm, c);
    *ret_c = c;
    return vm;
}

static void change_one(Vm *vm, const char *target, const char *overlay)
{
    g_autoptr(GError) error = NULL;
    MachineChange change = {target, overlay, FORMAT_QCOW2, NULL};
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(MachineChange));
    g_array_append_val(list, change);
    ASSERT_OK(vm->machine->ops->change(vm->machine, list, &error), error);
}

/* Names follow launch.h, also on a disk that is named so; an overlay is opened in the modes of what it stands on. */
START_TEST(names_and_modes)
{
    g_autofree char *c = NULL;
    g_autoptr(Vm) vm = three_disks(__func__, &c);
    g_autofree char *a = vm_overlay(vm, "a1", vm->a), *c1 = vm_overlay(vm, "c1", c),
                    *c2 = vm_overlay(vm, "c2", c1);
    change_one(vm, "vda", a);
    expect_cache(vm, "disk-vda-0", FALSE, TRUE, "off");
    expect_cache(vm, "disk-vda-0-file", FALSE, TRUE, NULL);
    change_one(vm, "vdc", c1);
    change_one(vm, "vdc", c2);
    for (guint level = 8; level <= 9; level++) {
        g_autofree char *node = g_strdup_printf("disk-vdc-%u", level),
                        *file = g_strconcat(node, "-file", NULL);
        expect_cache(vm, node, TRUE, FALSE, "unmap");
        expect_cache(vm, file, TRUE, FALSE, NULL);
    }
    do_io(vm, "write -P 5 0 1M");
    do_io(vm, "discard 0 1M");
    do_io(vm, "read -P 0 0 1M"); /* it was 5 without discard=unmap */
    vm_runs(vm);
    g_autofree char *log = NULL;
    guest_quit(vm->guest);
    ck_assert(g_file_get_contents(vm->guest->log, &log, NULL, NULL));
    ck_assert_msg(strstr(log, "wrote 1048576") && strstr(log, "discard 1048576") &&
                      strstr(log, "read 1048576") && !strstr(log, "failed"),
                  "%s", log);
}
END_TEST

/* The overlay number @i on vdc, *c. How long it took, in microseconds. */
static gint64 timed_change(Vm *vm, char **c, guint i)
{
    g_autofree char *name = g_strdup_printf("c%u", i), *old = *c;
    *c = vm_overlay(vm, name, old);
    gint64 begin = g_get_monotonic_time();
    change_one(vm, "vdc", *c);
    return g_get_monotonic_time() - begin;
}

/*
 * As it is after many snapshots: QEMU tells the name of an image together with all that is below it, cut off somewhere, and
 * needs minutes for it. Nothing may depend on that.
 */
START_TEST(deep)
{
    GError *error = NULL;
    g_autofree char *c = NULL, *path = NULL;
    g_autoptr(Vm) vm = vm_prepare(__func__);
    gint64 first = 0, last = 0;
    c = in_scratch(__func__, "vdc.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", c, "8M", NULL);
    g_autofree char *disk = g_strdup_printf("{\"driver\":\"qcow2\",\"node-name\":\"disk-vdc-0\",\"file\":"
                                            "{\"driver\":\"file\",\"filename\":\"%s\"}}",
                                            c);
    vm->guest = vm_start(vm, vm->a, vm->b,
                         WORDS("-blockdev", disk, "-device", "virtio-blk-pci,drive=disk-vdc-0,id=disk-vdc"));
    find_three(vm, c);
    for (guint i = 1; i <= 100; i++) {
        last = timed_change(vm, &c, i);
        first = i == 1 ? last : first;
    }
    gint64 begin = g_get_monotonic_time();
    find_three(vm, c);
    ASSERT_OK(vm->machine->ops->active_path(vm->machine, "vdc", &path, &error), error);
    gint64 found = g_get_monotonic_time() - begin;
    printf("# the first change took %.1f ms, the hundredth %.1f ms, to find the machine %.1f ms\n",
           (double)first / 1000, (double)last / 1000, (double)found / 1000);
    ck_assert_str_eq(path, c);
    ck_assert_int_lt(last, 2 * G_USEC_PER_SEC);
    ck_assert_int_lt(found, 2 * G_USEC_PER_SEC);

    /* After its memory was saved QEMU writes no image. */
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ASSERT_OK(vm->machine->ops->memory_save(vm->machine, null, FALSE, NULL, NULL, &error), error);
    close(null);
    ck_assert_int_lt(timed_change(vm, &c, 101), 2 * G_USEC_PER_SEC);
    ASSERT_OK(vm->machine->ops->resume(vm->machine, &error), error);
    vm_runs(vm);
}
END_TEST

START_TEST(dies)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    g_autofree char *a = vm_overlay(vm, "a1", vm->a), *b = vm_overlay(vm, "b1", vm->b);
    VmKiller killer = {vm, 200000};
    GThread *thread = vm_dies(&killer);
    ck_assert(!vm_change(vm, a, b, NULL, NULL, &error));
    expect_error(&error, ECONNRESET, NULL);
    g_thread_join(thread);
    guest_kill(vm->guest);
    LOOK(guest_disks_agree(IMAGES(a, b), NULL, NULL, &error)); /* before or after */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("machine_change");
    TCase *tcase = scratch_case(suite, "change");
    tcase_add_test(tcase, overlays);
    tcase_add_test(tcase, tags);
    tcase_add_test(tcase, failures);
    tcase_add_test(tcase, names_and_modes);
    tcase_add_test(tcase, deep);
    tcase_add_test(tcase, dies);
    return run_suite(suite);
}
