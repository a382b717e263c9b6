/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machines of tests/golden/launch/, started: a real QEMU with each command line, stopped before its first
 * instruction, asked through QMP whether it is what was described. Emulated, so that it needs nothing of the
 * host. A document that cannot be started says why in a comment "not started: REASON".
 */
#include "launch_run.h"
#include "runner.h"

static GPtrArray *names;

/* --- what it is --- */

static json_t *find_drive(json_t *drives, const char *device)
{
    size_t i;
    json_t *drive;
    json_array_foreach (drives, i, drive) {
        if (text_of(drive, "qdev") && launch_is_device(text_of(drive, "qdev"), device))
            return drive;
    }
    return NULL;
}

/* Each disk is there under its name, with its node, or is empty. */
static void check_disks(Machine *machine, QmpPeer *peer)
{
    json_t *drives = qmp_peer_must(peer, "{\"execute\":\"query-block\"}");
    for (guint i = 0; i < machine->launch->disks->len; i++) {
        const LaunchDisk *disk = machine->launch->disks->pdata[i];
        json_t *drive = find_drive(drives, disk->device);
        ck_assert_msg(drive != NULL, "%s: there is no drive '%s'", machine->name, disk->device);
        const char *node = text_of(json_object_get(drive, "inserted"), "node-name");
        ck_assert_msg(g_strcmp0(node, disk->node) == 0, "%s: '%s' has node %s, not %s", machine->name,
                      disk->target, node ? node : "none", disk->node ? disk->node : "none");
    }
    json_decref(drives);
}

/* Exactly the nodes that were named: QEMU has opened nothing else. */
static void check_nodes(Machine *machine, QmpPeer *peer)
{
    json_t *nodes =
        qmp_peer_must(peer, "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}");
    g_autoptr(GHashTable) named = g_hash_table_new(g_str_hash, g_str_equal);
    size_t i;
    json_t *node;
    guint expected = 0;
    for (guint n = 0; n < machine->launch->argv->len - 1; n++)
        expected += strcmp(machine->launch->argv->pdata[n], "-blockdev") == 0;
    json_array_foreach (nodes, i, node) {
        ck_assert_msg(text_of(node, "node-name")[0] != '#', "%s: QEMU opened %s by itself", machine->name,
                      text_of(node, "file"));
        g_hash_table_add(named, (gpointer)text_of(node, "node-name"));
    }
    ck_assert_uint_eq(g_hash_table_size(named), expected);
    for (guint n = 0; n < machine->launch->disks->len; n++) {
        const LaunchDisk *disk = machine->launch->disks->pdata[n];
        ck_assert(!disk->file_node || g_hash_table_contains(named, disk->file_node));
        for (guint level = 0; level < disk->levels; level++) {
            g_autofree char *name = launch_node_name(disk->target, level);
            ck_assert_msg(g_hash_table_contains(named, name), "%s: no node %s", machine->name, name);
        }
    }
    json_decref(nodes);
}

static json_t *get_property(QmpPeer *peer, const char *id, const char *property)
{
    g_autofree char *command = g_strdup_printf(
        "{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"/machine/peripheral/%s\",\"property\":\"%s\"}}",
        id, property);
    return qmp_peer_must(peer, command);
}

/* A PCI device is on the bus and in the slot that the document, completed, says. */
static void check_place(Machine *machine, QmpPeer *peer, const char *id, const char *bus, const char *addr)
{
    guint slot = 0, function = 0;
    ck_assert_int_ge(sscanf(addr, "0x%x.0x%x", &slot, &function), 1);
    json_t *is = get_property(peer, id, "addr"), *parent = get_property(peer, id, "parent_bus");
    const char *path = json_string_value(parent);
    ck_assert_msg(json_integer_value(is) == (slot << 3 | function) && path && g_str_has_suffix(path, bus),
                  "%s: %s is at %x of %s, not at %s of %s", machine->name, id, (guint)json_integer_value(is),
                  path, addr, bus);
    json_decref(is);
    json_decref(parent);
}

static void check_devices(Machine *machine, QmpPeer *peer)
{
    const GPtrArray *argv = machine->launch->argv;
    for (guint i = 0; i + 2 < argv->len; i++) {
        if (strcmp(argv->pdata[i], "-device") != 0)
            continue;
        json_t *device = json_loads(argv->pdata[i + 1], 0, NULL);
        ck_assert_ptr_nonnull(device);
        json_decref(get_property(peer, text_of(device, "id"), "type"));
        if (text_of(device, "addr"))
            check_place(machine, peer, text_of(device, "id"), text_of(device, "bus"),
                        text_of(device, "addr"));
        json_decref(device);
    }
}

static void check_machine(Machine *machine)
{
    /* One for us, and one for somebody else at the same time. */
    QmpPeer peer = open_monitor(machine, machine->launch->monitor);
    QmpPeer other = open_monitor(machine, machine->launch->second_monitor);
    check_status(machine, &peer, "prelaunch");
    check_status(machine, &other, "prelaunch");
    check_disks(machine, &peer);
    check_nodes(machine, &peer);
    check_devices(machine, &peer);
    for (guint i = 0; i < machine->launch->commands->len; i++)
        json_decref(qmp_peer_must(&peer, machine->launch->commands->pdata[i]));
    for (guint i = 0; i < machine->launch->sockets->len; i++)
        ck_assert_msg(access(machine->launch->sockets->pdata[i], F_OK) == 0, "%s: no socket '%s'",
                      machine->name, (char *)machine->launch->sockets->pdata[i]);
    json_decref(qmp_peer_must(&peer, "{\"execute\":\"cont\"}"));
    check_status(machine, &other, "running");
    quit_machine(machine, &peer);
    fclose(other.in);
}

START_TEST(machines)
{
    Machine machine;
    place_machine(&machine, names->pdata[_i], _i);
    if (load(&machine)) {
        launch_machine(&machine, machine.def);
        check_machine(&machine);
    }
    clear(&machine);
}
END_TEST

static Suite *suite(void)
{
    guint files;
    Suite *suite = suite_create("launch_start");
    TCase *tcase = loops_case(suite, "launch_start");
    names = launch_cases(&files);
    tcase_add_loop_test(tcase, machines, 0, (int)names->len);
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
