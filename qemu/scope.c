/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scope.h"

#include <string.h>
#include <unistd.h>

enum { ANSWER_MS = 5000, MOVE_MS = 2000, LOOK_MS = 5 };

/* Never GLib's own search, which may start a bus where there is none. NULL: we have none. Caller frees. */
static char *bus_address(gboolean system)
{
    const char *said = g_getenv(system ? "DBUS_SYSTEM_BUS_ADDRESS" : "DBUS_SESSION_BUS_ADDRESS");
    g_autofree char *socket = system ? g_strdup("/run/dbus/system_bus_socket")
                                     : g_build_filename(g_get_user_runtime_dir(), "bus", NULL);
    if (said && *said)
        return g_strdup(said);
    if (access(socket, F_OK) != 0)
        return NULL;
    g_autofree char *escaped = g_dbus_address_escape_value(socket);
    return g_strconcat("unix:path=", escaped, NULL);
}

static GVariant *request(pid_t pid, const char *unit, const char *text, gboolean system)
{
    GVariantBuilder all;
    guint32 pids[] = {(guint32)pid};
    g_variant_builder_init(&all, G_VARIANT_TYPE("a(sv)"));
    g_variant_builder_add(&all, "(sv)", "Description", g_variant_new_string(text));
    g_variant_builder_add(&all, "(sv)", "PIDs",
                          g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, pids, 1, sizeof *pids));
    g_variant_builder_add(&all, "(sv)", "CollectMode", g_variant_new_string("inactive-or-failed"));
    if (system)
        g_variant_builder_add(&all, "(sv)", "Slice", g_variant_new_string("machine.slice"));
    return g_variant_new("(ssa(sv)a(sa(sv)))", unit, "fail", &all, NULL);
}

/* systemd answers when it has made a note of it: the move comes after. */
static gboolean is_in(pid_t pid, const char *unit)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cgroup", (int)pid);
    for (int left = MOVE_MS; left > 0; left -= LOOK_MS) {
        g_autofree char *groups = NULL;
        if (!g_file_get_contents(path, &groups, NULL, NULL))
            return FALSE;
        if (strstr(groups, unit))
            return TRUE;
        g_usleep(LOOK_MS * 1000);
    }
    return FALSE;
}

gboolean scope_move(pid_t pid, const char *unit, const char *text, GCancellable *cancel)
{
    gboolean system = geteuid() == 0;
    g_autofree char *address = bus_address(system);
    g_autoptr(GDBusConnection) bus =
        address ? g_dbus_connection_new_for_address_sync(address,
                                                         G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                                             G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                                                         NULL, cancel, NULL)
                : NULL;
    if (!bus)
        return FALSE;
    g_autoptr(GVariant) answer = g_dbus_connection_call_sync(
        bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
        "StartTransientUnit", request(pid, unit, text, system), G_VARIANT_TYPE("(o)"),
        G_DBUS_CALL_FLAGS_NO_AUTO_START, ANSWER_MS, cancel, NULL);
    g_dbus_connection_close_sync(bus, NULL, NULL);
    return answer && is_in(pid, unit);
}
