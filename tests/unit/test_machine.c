/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A running machine: found or not, its state and power. */
#include <sys/un.h>
#include <sys/socket.h>

#include "machine_case.h"
#include "runner.h"

static void expect_busy(Vm *vm, const char *uuid, const char *a, const char *b, const char *nvram,
                        const char *text)
{
    GError *error = NULL;
    Machine *machine = NULL;
    ck_assert(!vm_look(vm, uuid, a, b, nvram, &machine, &error));
    expect_error(&error, EBUSY, text);
    ck_assert_ptr_null(machine);
}

static void expect_off(Vm *vm)
{
    g_autoptr(GError) error = NULL;
    Machine *machine = (Machine *)vm;
    ASSERT_OK(vm_look(vm, VM_UUID, vm->a, vm->b, NULL, &machine, &error), error);
    ck_assert_ptr_null(machine);
}

START_TEST(found)
{
    g_autoptr(Vm) vm = vm_prepare(__func__);
    g_autofree char *socket = vm_path(vm, "vm.qmp"), *second = vm_path(vm, "vm.monitor");
    expect_off(vm);
    vm->guest = vm_start(vm, vm->a, vm->b, NULL);
    vm_find(vm); /* it keeps the first monitor */
    Machine *first = g_steal_pointer(&vm->machine);
    vm_find(vm); /* by the second one */
    expect_busy(vm, VM_UUID, vm->a, vm->b, NULL, "another monitor client is connected");
    machine_free(g_steal_pointer(&first));
    g_clear_pointer(&vm->machine, machine_free);

    expect_busy(vm, "0d4f9c1e-7a55-4a0e-9a0c-1f2b3c4d5e60", vm->a, vm->b, NULL, "another machine answers");
    expect_busy(vm, VM_UUID, vm->a, vm->a, vm->guest->log, "does not write its image");
    expect_busy(vm, VM_UUID, vm->guest->log, vm->b, NULL, "does not write its image");

    ck_assert_int_eq(unlink(socket), 0);
    vm_find(vm); /* the second one is enough */
    g_clear_pointer(&vm->machine, machine_free);
    ck_assert_int_eq(unlink(second), 0);
    expect_busy(vm, VM_UUID, vm->a, vm->b, NULL, "a program writes its image");
    guest_kill(vm->guest);
    expect_off(vm);
}
END_TEST

static void expect_state(Vm *vm, RunState state)
{
    g_autoptr(GError) error = NULL;
    RunState now = RUN_UNKNOWN;
    ASSERT_OK(vm->machine->ops->run_state(vm->machine, &now, &error), error);
    ck_assert_int_eq(now, state);
}

START_TEST(state)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    g_autofree char *path = NULL;
    const MachineOps *ops = vm->machine->ops;
    GuestMemory memory;
    expect_state(vm, RUN_RUNNING);
    ASSERT_OK(ops->resume(vm->machine, &error), error);
    ck_assert_uint_eq(json_array_size(vm->guest->monitor->events), 0); /* nobody was told of a stop */
    for (guint i = 0; i < 2; i++) {
        ASSERT_OK(ops->pause(vm->machine, &error), error);
        expect_state(vm, RUN_PAUSED);
        LOOK(guest_all_agree(vm->guest, IMAGES(vm->a, vm->b), &memory, &error));
    }
    ASSERT_OK(ops->resume(vm->machine, &error), error);
    expect_state(vm, RUN_RUNNING);
    vm_runs(vm);
    ASSERT_OK(ops->active_path(vm->machine, "vdb", &path, &error), error);
    ck_assert_str_eq(path, vm->b);
    ck_assert(!ops->active_path(vm->machine, "vdc", &path, &error));
    expect_error(&error, ENODEV, "vdc");

    ASSERT_OK(ops->shutdown(vm->machine, &error), error);
    guest_wait_end(vm->guest);
    RunState now;
    ck_assert(!ops->run_state(vm->machine, &now, &error));
    expect_error(&error, ECONNRESET, "QEMU has ended");
    ck_assert(!ops->pause(vm->machine, &error));
    expect_error(&error, ECONNRESET, NULL);
    g_clear_pointer(&vm->machine, machine_free);
    expect_off(vm);
}
END_TEST

/* A Machine is a Backend: of the same images, and freed as one. */
START_TEST(as_a_backend)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    Backend *backend = &vm->machine->backend;
    ImageUse use = USE_NONE;
    ASSERT_OK(backend->ops->in_use(backend, vm->a, &use, &error), error);
    ck_assert_int_eq(use, USE_WRITER);
    g_autofree char *image = vm_path(vm, "image.qcow2");
    ck_assert(g_file_set_contents(image, "", 0, NULL));
    OverlaySpec spec = {image, FORMAT_QCOW2, 8 << 20, "vda.qcow2", FORMAT_QCOW2};
    ASSERT_OK(backend->ops->overlay_create(backend, &spec, NULL, &error), error);
    ASSERT_OK(vm->backend->ops->overlay_create(vm->backend, &spec, NULL, &error), error);
    g_autoptr(ImageInfo) info = NULL;
    ASSERT_OK(backend->ops->inspect(backend, image, FORMAT_QCOW2, &info, &error), error);
    ck_assert_str_eq(info->backing_name, "vda.qcow2");
    vm->machine = NULL;
    backend->ops->free(backend);
}
END_TEST

START_TEST(destroyed)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    if (_i == 1)
        kill(vm->guest->pid, SIGSTOP); /* it hears nothing */
    ASSERT_OK(vm->machine->ops->destroy(vm->machine, NULL, &error), error);
    int status = 0;
    ck_assert_int_eq(waitpid(vm->guest->pid, &status, WNOHANG), vm->guest->pid);
    vm->guest->pid = 0;
    ck_assert_int_eq(_i == 1 ? WTERMSIG(status) : WEXITSTATUS(status), _i == 1 ? SIGKILL : 0);
    ck_assert_int_eq(!!WIFSIGNALED(status), _i);
    LOOK(guest_disks_agree(IMAGES(vm->a, vm->b), NULL, NULL, &error));
    expect_off(vm);
}
END_TEST

START_TEST(destroy_cancelled)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_cancellable_cancel(cancel);
    ck_assert(!vm->machine->ops->destroy(vm->machine, cancel, &error));
    expect_error(&error, EINTR, "cancelled");
}
END_TEST

/* QEMU ends while it is asked something. */
START_TEST(dies)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    VmKiller killer = {vm, 200000};
    GThread *thread = vm_dies(&killer);
    RunState now;
    ck_assert(!vm->machine->ops->run_state(vm->machine, &now, &error));
    expect_error(&error, ECONNRESET, NULL);
    g_thread_join(thread);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("machine");
    TCase *tcase = scratch_case(suite, "machine");
    tcase_add_test(tcase, found);
    tcase_add_test(tcase, state);
    tcase_add_test(tcase, as_a_backend);
    tcase_add_loop_test(tcase, destroyed, 0, 2);
    tcase_add_test(tcase, destroy_cancelled);
    tcase_add_test(tcase, dies);
    return run_suite(suite);
}
