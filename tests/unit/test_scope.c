/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A scope of its own for a process: asked of a systemd that is played here, on a bus of the test's own. It really moves the
 * process where this machine lets us make control groups.
 */
#include "runner.h"
#include "scope.h"
#include "start_world.h"

#define MANAGER                                                                                              \
    "<node><interface name='org.freedesktop.systemd1.Manager'><method name='StartTransientUnit'>"            \
    "<arg type='s' direction='in'/><arg type='s' direction='in'/><arg type='a(sv)' direction='in'/>"         \
    "<arg type='a(sa(sv))' direction='in'/><arg type='o' direction='out'/></method></interface></node>"

typedef enum { MOVES, REFUSES, DOES_NOTHING } Manner;

typedef struct {
    Manner manner;
    GTestDBus *dbus;
    GThread *thread;
    GMainContext *context;
    GMainLoop *loop;
    GDBusConnection *bus;
    GDBusNodeInfo *node;
    gboolean ready;
    char *unit, *properties;
    char *group; /* that it made */
    guint32 pid;
} Manager;

/* Where control groups are made here; NULL: not by us. */
static const char *groups_root(void)
{
    static const char *const roots[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
    for (guint i = 0; i < G_N_ELEMENTS(roots); i++) {
        g_autofree char *file = g_build_filename(roots[i], "cgroup.procs", NULL);
        if (access(file, W_OK) == 0)
            return roots[i];
    }
    return NULL;
}

static void move(Manager *m)
{
    g_autofree char *text = g_strdup_printf("%u", m->pid);
    m->group = g_build_filename(groups_root(), m->unit, NULL);
    g_autofree char *file = g_build_filename(m->group, "cgroup.procs", NULL);
    int fd = mkdir(m->group, 0755) == 0 ? open(file, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        g_warning("%s: %s", file, g_strerror(errno));
    if (fd >= 0)
        close(fd);
}

static guint32 first_pid(GVariant *properties)
{
    GVariantIter iter;
    const char *name;
    GVariant *value;
    guint32 pid = 0;
    g_variant_iter_init(&iter, properties);
    while (g_variant_iter_next(&iter, "(&sv)", &name, &value)) {
        if (strcmp(name, "PIDs") == 0)
            g_variant_get_child(value, 0, "u", &pid);
        g_variant_unref(value);
    }
    return pid;
}

static void on_call(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                    const char *method, GVariant *arguments, GDBusMethodInvocation *call, gpointer user)
{
    Manager *m = user;
    g_autoptr(GVariant) properties = g_variant_get_child_value(arguments, 2);
    g_free(m->unit);
    g_free(m->properties);
    g_variant_get_child(arguments, 0, "s", &m->unit);
    m->properties = g_variant_print(properties, FALSE);
    m->pid = first_pid(properties);
    if (m->manner == REFUSES) {
        g_dbus_method_invocation_return_dbus_error(call, "org.freedesktop.DBus.Error.AccessDenied", "no");
        return;
    }
    /* systemd, too, answers first */
    g_dbus_method_invocation_return_value(call, g_variant_new("(o)", "/org/freedesktop/systemd1/job/1"));
    if (m->manner == MOVES)
        move(m);
}

static gpointer play(gpointer user)
{
    static const GDBusInterfaceVTable table = {.method_call = on_call};
    Manager *m = user;
    g_main_context_push_thread_default(m->context);
    g_dbus_connection_register_object(m->bus, "/org/freedesktop/systemd1", m->node->interfaces[0], &table, m,
                                      NULL, NULL);
    g_variant_unref(g_dbus_connection_call_sync(
        m->bus, "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName",
        g_variant_new("(su)", "org.freedesktop.systemd1", 0), NULL, G_DBUS_CALL_FLAGS_NONE, -1, NULL, NULL));
    g_atomic_int_set(&m->ready, TRUE);
    g_main_loop_run(m->loop);
    g_main_context_pop_thread_default(m->context);
    return NULL;
}

static Manager *manager_new(Manner manner)
{
    Manager *m = g_new0(Manager, 1);
    m->manner = manner;
    m->dbus = g_test_dbus_new(G_TEST_DBUS_NONE);
    g_test_dbus_up(m->dbus);
    g_setenv("DBUS_SYSTEM_BUS_ADDRESS", g_test_dbus_get_bus_address(m->dbus), TRUE);
    g_setenv("DBUS_SESSION_BUS_ADDRESS", g_test_dbus_get_bus_address(m->dbus), TRUE);
    m->bus = g_dbus_connection_new_for_address_sync(g_test_dbus_get_bus_address(m->dbus),
                                                    G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                                        G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                                                    NULL, NULL, NULL);
    ck_assert_ptr_nonnull(m->bus);
    m->node = g_dbus_node_info_new_for_xml(MANAGER, NULL);
    m->context = g_main_context_new();
    m->loop = g_main_loop_new(m->context, FALSE);
    m->thread = g_thread_new("systemd", play, m);
    while (!g_atomic_int_get(&m->ready))
        g_usleep(1000);
    return m;
}

/* After the processes that it moved have ended. */
static void manager_free(Manager *m)
{
    g_main_loop_quit(m->loop);
    g_thread_join(m->thread);
    g_main_loop_unref(m->loop);
    g_main_context_unref(m->context);
    g_dbus_node_info_unref(m->node);
    g_dbus_connection_close_sync(m->bus, NULL, NULL);
    g_object_unref(m->bus);
    g_test_dbus_stop(m->dbus);
    g_object_unref(m->dbus);
    for (int i = 0; m->group && rmdir(m->group) < 0 && errno == EBUSY && i < 1000; i++)
        g_usleep(5000);
    g_free(m->group);
    g_free(m->unit);
    g_free(m->properties);
    g_free(m);
}

static char *groups_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cgroup", (int)pid);
    char *groups = NULL;
    ck_assert(g_file_get_contents(path, &groups, NULL, NULL));
    return groups;
}

/* Before the QEMU is one, it is put where the end of the daemon's service does not reach it. */
START_TEST(test_a_machine_has_a_scope)
{
    if (!groups_root() && skip("no control groups can be made here"))
        return;
    Manager *m = manager_new(MOVES);
    {
        g_auto(StartWorld) w = WORLD("scope");
        world_start(&w);
        pid_t pid = qmp_pid(w.qmp);
        g_autofree char *groups = groups_of(pid), *mine = groups_of(getpid());
        g_autofree char *unit = g_strdup_printf("/domsnapfs-%s-%d.scope\n", w.def->uuid, (int)pid);
        ck_assert_msg(strstr(groups, unit) != NULL, "no %s in %s", unit, groups);
        ck_assert_ptr_null(strstr(mine, ".scope"));
        ck_assert_uint_eq(m->pid, (guint32)pid);
        ck_assert_ptr_nonnull(strstr(m->properties, "Virtual machine scope (domsnapfs)"));
        ck_assert_ptr_nonnull(strstr(m->properties, "inactive-or-failed"));
        ck_assert_int_eq(strstr(m->properties, "machine.slice") != NULL, geteuid() == 0);
    }
    manager_free(m);
}
END_TEST

/* Where none can be had, it runs all the same. */
START_TEST(test_without_one_it_runs)
{
    Manager *m = manager_new((Manner)_i);
    {
        g_autofree char *test = g_strdup_printf("without%d", _i);
        g_auto(StartWorld) w = start_world_new(test, test);
        world_start(&w);
        ck_assert_ptr_nonnull(m->unit); /* it was asked for */
        g_autoptr(Guest) guest = world_guest(&w);
        guest_wait(guest, 2);
    }
    manager_free(m);
}
END_TEST

START_TEST(test_no_bus)
{
    g_setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent", TRUE);
    g_setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent", TRUE);
    ck_assert(!scope_move(getpid(), "a.scope", "a", NULL));
    g_unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
    g_unsetenv("DBUS_SESSION_BUS_ADDRESS");
    g_setenv("XDG_RUNTIME_DIR", "/nonexistent", TRUE);
    if (access("/run/dbus/system_bus_socket", F_OK) != 0)
        ck_assert(!scope_move(getpid(), "a.scope", "a", NULL));
}
END_TEST

int main(void)
{
    g_autofree char *daemon = g_find_program_in_path("dbus-daemon");
    if (!daemon) {
        printf("1..0 # SKIP not installed: dbus-daemon\n");
        return EXIT_SUCCESS;
    }
    Suite *suite = suite_create("scope");
    TCase *tcase = machines_case(suite, "scope");
    tcase_add_test(tcase, test_a_machine_has_a_scope);
    tcase_add_loop_test(tcase, test_without_one_it_runs, REFUSES, DOES_NOTHING + 1);
    tcase_add_test(tcase, test_no_bus);
    return run_suite(suite);
}
