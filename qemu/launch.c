/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line as a whole: what comes in which order. */
#include "launch.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

enum { NAME_MAX_NODE = 16, NAME_MAX_ID = 40 };

/* --- names --- */

/*
 * @target as a part of an id or node name, of which QEMU takes letters, digits and "-._", and of a node's 31.
 * No two targets become the same: no target has a '.'.
 */
static char *short_target(const char *target, gsize max)
{
    GString *name = g_string_new(target);
    g_string_replace(name, ":", ".", 0);
    if (name->len <= max)
        return g_string_free(name, FALSE);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, target, -1);
    g_string_truncate(name, max - 9);
    g_string_append_printf(name, ".%.8s", hash);
    return g_string_free(name, FALSE);
}

char *launch_device_id(const char *target)
{
    g_autofree char *name = short_target(target, NAME_MAX_ID);
    return g_strdup_printf("disk-%s", name);
}

gboolean launch_is_device(const char *qdev, const char *id)
{
    static const char devices[] = "/machine/peripheral/";
    if (!g_str_has_prefix(qdev, devices))
        return strcmp(qdev, id) == 0;
    const char *name = qdev + strlen(devices);
    gsize len = strlen(id);
    return strncmp(name, id, len) == 0 && (name[len] == '/' || name[len] == '\0');
}

char *launch_node_name(const char *target, guint level)
{
    g_autofree char *name = short_target(target, NAME_MAX_NODE);
    return g_strdup_printf("disk-%s-%u", name, level);
}

char *launch_file_node_name(const char *target, guint level)
{
    g_autofree char *node = launch_node_name(target, level);
    return g_strconcat(node, "-file", NULL);
}

/* --- what is built --- */

static void disk_free(LaunchDisk *disk)
{
    g_free(disk->target);
    g_free(disk->device);
    g_free(disk->node);
    g_free(disk->file_node);
    g_free(disk);
}

static void overlay_free(LaunchOverlay *overlay)
{
    g_free(overlay->target);
    g_free(overlay->path);
    backing_def_free(overlay->below);
    g_free(overlay);
}

static Launch *new_empty(const DomainDef *def)
{
    Launch *launch = g_new0(Launch, 1);
    launch->def = domain_def_copy(def);
    launch->argv = g_ptr_array_new_with_free_func(g_free);
    launch->sockets = g_ptr_array_new_with_free_func(g_free);
    launch->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_free);
    launch->overlays = g_ptr_array_new_with_free_func((GDestroyNotify)overlay_free);
    launch->commands = g_ptr_array_new_with_free_func(g_free);
    launch->notes = g_ptr_array_new_with_free_func(g_free);
    return launch;
}

void launch_free(Launch *launch)
{
    if (!launch)
        return;
    g_ptr_array_unref(launch->argv);
    g_ptr_array_unref(launch->sockets);
    g_ptr_array_unref(launch->disks);
    g_ptr_array_unref(launch->overlays);
    g_ptr_array_unref(launch->commands);
    if (launch->notes)
        g_ptr_array_unref(launch->notes);
    domain_def_free(launch->def);
    g_free(launch->monitor);
    g_free(launch->second_monitor);
    g_free(launch->pid_file);
    g_free(launch->log);
    g_free(launch->agent);
    g_free(launch->nvram);
    g_free(launch->nvram_template);
    g_free(launch);
}

/* --- parts --- */

/* One socket for QMP. */
static gboolean add_monitor(LaunchBuild *build, const char *id, const char *path, GError **error)
{
    g_autofree char *escaped = launch_escape(path);
    g_autofree char *chardev = g_strdup_printf("socket,id=char-%s,path=%s,server=on,wait=off", id, escaped);
    g_autofree char *monitor = g_strdup_printf("chardev=char-%s,id=%s,mode=control", id, id);
    if (!launch_socket(build, path, NULL, error))
        return FALSE;
    launch_add(build, "-chardev", chardev);
    launch_add(build, "-mon", monitor);
    return TRUE;
}

static gboolean add_monitors(LaunchBuild *build, GError **error)
{
    Launch *launch = build->launch;
    launch->monitor = launch_file(build, ".qmp");
    launch->second_monitor = launch_file(build, ".monitor");
    launch->pid_file = launch_file(build, ".pid");
    launch->log = launch_file(build, ".log");
    return add_monitor(build, "qmp", launch->monitor, error) &&
           add_monitor(build, "monitor", launch->second_monitor, error);
}

/* How it runs: what the machine is does not depend on this. */
static void add_manner(LaunchBuild *build)
{
    launch_add(build, "-pidfile", build->launch->pid_file);
    launch_output_path(build, build->launch->pid_file, NULL);
    launch_output_path(build, build->launch->log, NULL);
    if (build->spec->incoming)
        launch_add(build, "-incoming", build->spec->incoming);
    if (build->spec->daemonize)
        launch_add(build, "-daemonize", NULL);
    /*
     * Bridges are joined through a program that needs rights of its own; and QEMU forks, and leaves its
     * session, only after it has closed that door behind itself (tried: it is killed).
     */
    gboolean open = build->helper || build->spec->daemonize;
    launch_add(build, "-sandbox",
               open ? "on,obsolete=deny,resourcecontrol=deny"
                    : "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
}

/* "pc", "pc-i440fx-7.2", "pc-1.3" or "q35", "pc-q35-7.2". */
static gboolean read_chipset(LaunchBuild *build, GError **error)
{
    const xmlNode *type = xml_child(xml_child(build->root, "os"), "type");
    g_autofree char *machine = xml_attr(type, "machine");
    if (!machine || strcmp(machine, "pc") == 0)
        return TRUE;
    if (!launch_plain(type, machine, error))
        return FALSE;
    build->q35 = strcmp(machine, "q35") == 0 || g_str_has_prefix(machine, "pc-q35-");
    if (build->q35 || g_str_has_prefix(machine, "pc-i440fx-") ||
        (g_str_has_prefix(machine, "pc-") && g_ascii_isdigit(machine[3])))
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, type, "machine='%s' is not supported (pc and q35 of any version are)",
                  machine);
    return FALSE;
}

static gboolean read_accelerator(LaunchBuild *build, GError **error)
{
    static const LaunchWord types[] = {{"kvm", "kvm"}, {"qemu", "tcg"}, {"tcg", "tcg"}, {NULL, NULL}};
    const char *type = "tcg";
    if (!launch_word(build->root, "type", types, &type, error))
        return FALSE;
    build->kvm = strcmp(type, "kvm") == 0 && build->spec->kvm;
    if (strcmp(type, "kvm") == 0 && !build->kvm)
        launch_note(build, "KVM cannot be used here: the machine is emulated (tcg), which is much slower");
    return TRUE;
}

static gboolean build_all(LaunchBuild *build, GError **error)
{
    if (!launch_known_check(build, error) || !read_chipset(build, error) || !read_accelerator(build, error) ||
        !launch_complete(build->launch->def, build->q35, error))
        return FALSE;
    if (!launch_machine(build, error) || !launch_cpu(build, error) || !launch_clock(build, error) ||
        !launch_actions(build, error) || !launch_boot(build, error) || !add_monitors(build, error))
        return FALSE;
    if (!launch_controllers(build, error) || !launch_disks(build, error) || !launch_networks(build, error) ||
        !launch_chars(build, error) || !launch_displays(build, error) || !launch_others(build, error))
        return FALSE;
    add_manner(build);
    return launch_paths_check(build, error);
}

Launch *launch_new(const LaunchSpec *spec, GError **error)
{
    g_autoptr(Launch) launch = new_empty(spec->def);
    LaunchBuild build = {.spec = spec, .launch = launch, .root = xmlDocGetRootElement(launch->def->doc)};
    build.boot = g_hash_table_new(NULL, NULL);
    build.images = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    build.outputs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    gboolean ok = build_all(&build, error);
    g_clear_pointer(&build.slots, g_hash_table_unref);
    g_hash_table_unref(build.boot);
    g_hash_table_unref(build.images);
    g_hash_table_unref(build.outputs);
    if (!ok)
        return NULL;
    g_ptr_array_add(launch->argv, NULL);
    return g_steal_pointer(&launch);
}
