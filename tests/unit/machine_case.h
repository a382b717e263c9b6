/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest as a Machine: a QEMU with two disks, found through the online backend. The tests look through a monitor
 * of their own (DIR/guest.qmp, always busy therefore), the product has DIR/vm.qmp and DIR/vm.monitor.
 */
#pragma once

#include "guest_case.h"
#include "online.h"

#include <signal.h>
#include <sys/wait.h>

#define VM_UUID "0d4f9c1e-7a55-4a0e-9a0c-1f2b3c4d5e6f"

typedef struct {
    Disks disks;
    char *a, *b; /* the active layers, as far as the test has made them */
    Guest *guest;
    Backend *backend;
    Machine *machine;
} Vm;

/* DIR/NAME. Caller frees. */
static inline char *vm_path(const Vm *vm, const char *name)
{
    return g_build_filename(vm->disks.dir, name, NULL);
}

static inline Guest *vm_start(const Vm *vm, const char *a, const char *b, const char *const *more)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    g_autofree char *one = g_strdup_printf("unix:%s/vm.qmp,server=on,wait=off", vm->disks.dir);
    g_autofree char *two = g_strdup_printf("unix:%s/vm.monitor,server=on,wait=off", vm->disks.dir);
    const char *first[] = {"-uuid", VM_UUID, "-qmp", one, "-qmp", two};
    for (guint i = 0; i < G_N_ELEMENTS(first); i++)
        g_ptr_array_add(words, (gpointer)first[i]);
    for (guint i = 0; more && more[i]; i++)
        g_ptr_array_add(words, (gpointer)more[i]);
    g_ptr_array_add(words, NULL);
    return start_on(&vm->disks, a, b, (const char *const *)words->pdata);
}

/* Look for machine @uuid with the active layers @a and @b, and the NVRAM file @nvram (or NULL). */
static inline gboolean vm_look(const Vm *vm, const char *uuid, const char *a, const char *b,
                               const char *nvram, Machine **ret_machine, GError **error)
{
    MachineDisk list[] = {{"vda", a, FALSE}, {"vdb", b, FALSE}};
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(MachineDisk));
    g_array_append_vals(disks, list, G_N_ELEMENTS(list));
    MachineSpec spec = {.name = "vm", .uuid = uuid, .disks = disks, .nvram = nvram};
    return vm->backend->machines->find(vm->backend, &spec, NULL, ret_machine, error);
}

/* Find it (again), with the active layers as they are now. */
static inline void vm_find(Vm *vm)
{
    g_autoptr(GError) error = NULL;
    g_clear_pointer(&vm->machine, machine_free);
    ASSERT_OK(vm_look(vm, VM_UUID, vm->a, vm->b, NULL, &vm->machine, &error), error);
    ck_assert_msg(vm->machine != NULL, "it runs, and was not found");
}

/* Without a QEMU. */
static inline Vm *vm_prepare(const char *test)
{
    Vm *vm = g_new0(Vm, 1);
    vm->disks = disks_new(test, "qcow2");
    vm->a = g_strdup(vm->disks.vda);
    vm->b = g_strdup(vm->disks.vdb);
    vm->backend = online_backend_new(NULL, vm->disks.dir);
    return vm;
}

/* A guest that has made some steps, and the machine that was found there. @words: more for its command line, or NULL. */
static inline Vm *vm_new(const char *test, const char *const *words)
{
    Vm *vm = vm_prepare(test);
    vm->guest = vm_start(vm, vm->a, vm->b, words);
    guest_wait(vm->guest, 20);
    vm_find(vm);
    return vm;
}

static inline void vm_free(Vm *vm)
{
    machine_free(vm->machine);
    vm->backend->ops->free(vm->backend);
    guest_free(vm->guest);
    g_free(vm->a);
    g_free(vm->b);
    disks_clear(&vm->disks);
    g_free(vm);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vm, vm_free)
#define VM(words) vm_new(__func__, (words))

/* An empty overlay DIR/NAME on @below, whose name is in its header without a directory. Caller frees. */
static inline char *vm_overlay(const Vm *vm, const char *name, const char *below)
{
    char *path = vm_path(vm, name);
    g_autofree char *base = g_path_get_basename(below);
    tool("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", "qcow2", path, "8M", NULL);
    return path;
}

/* One transaction: an overlay, or a tag, for each disk that has one. */
static inline gboolean vm_change(Vm *vm, const char *a, const char *b, const char *tag_a, const char *tag_b,
                                 GError **error)
{
    MachineChange list[] = {{"vda", a, FORMAT_QCOW2, tag_a}, {"vdb", b, FORMAT_QCOW2, tag_b}};
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(MachineChange));
    for (guint i = 0; i < G_N_ELEMENTS(list); i++)
        if (list[i].overlay || list[i].tag)
            g_array_append_val(changes, list[i]);
    return vm->machine->ops->change(vm->machine, changes, error);
}

/* The guest makes steps, and QEMU has a command for us. */
static inline void vm_runs(Vm *vm)
{
    guest_wait(vm->guest, 5);
}

static inline void vm_expect_status(Vm *vm, const char *status)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *now = guest_monitor_status(vm->guest->monitor, &error);
    LOOK(now);
    ck_assert_str_eq(now, status);
}

/* Which nodes QEMU has, with their files: to see that nothing was changed. Caller frees. */
static inline char *vm_graph(Vm *vm)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    json_t *nodes = guest_monitor_call(vm->guest->monitor, &error, "query-named-block-nodes", NULL), *each;
    size_t i;
    LOOK(nodes);
    json_array_foreach (nodes, i, each)
        g_string_append_printf(
            text, "%s %s ro=%d backing=%s tags=%zu\n", json_string_value(json_object_get(each, "node-name")),
            json_string_value(json_object_get(each, "file")), json_is_true(json_object_get(each, "ro")),
            json_string_value(json_object_get(each, "backing_file")),
            json_array_size(json_object_get(json_object_get(each, "image"), "snapshots")));
    json_decref(nodes);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* kill -9 for a QEMU that was stopped while @work was waiting for its answer. */
typedef struct {
    Vm *vm;
    gint64 after_us;
} VmKiller;

static inline gpointer vm_kill_later(gpointer data)
{
    VmKiller *killer = data;
    g_usleep((gulong)killer->after_us);
    kill(killer->vm->guest->pid, SIGKILL);
    return NULL;
}

/* QEMU is stopped, does nothing that it is asked for, and is killed while one waits for that. Join the thread. */
static inline GThread *vm_dies(VmKiller *killer)
{
    kill(killer->vm->guest->pid, SIGSTOP);
    return g_thread_new("killer", vm_kill_later, killer);
}
