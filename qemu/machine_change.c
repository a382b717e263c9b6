/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One transaction over some disks (facts/qemu.md B2, B4).
 *
 * QEMU opens each overlay before, standing on nothing: what it shall stand on is still being written. The transaction then
 * puts it on top, all disks at one instant; the header of the overlay, made before, names what it stands on for others.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "launch.h"
#include "machine_parts.h"

typedef struct {
    Running *running;
    QmpWait wait;
    json_t *nodes;    /* that QEMU has */
    json_t *actions;  /* of the transaction */
    GPtrArray *added; /* names of the nodes of overlays that QEMU has opened for it */
} Change;

static void change_clear(Change *change)
{
    json_decref(change->nodes);
    json_decref(change->actions);
    g_ptr_array_unref(change->added);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Change, change_clear)

/* The next level whose names nobody has. */
static void name_nodes(const json_t *nodes, const char *target, char **ret_node, char **ret_file_node)
{
    for (guint level = 0;; level++) {
        g_autofree char *node = launch_node_name(target, level), *file = launch_file_node_name(target, level);
        if (json_object_get(nodes, node) || json_object_get(nodes, file))
            continue;
        *ret_node = g_steal_pointer(&node);
        *ret_file_node = g_steal_pointer(&file);
        return;
    }
}

/*
 * The overlay as the old top @old was opened, as far as QEMU tells: its cache mode, also for the file (QEMU hands it down),
 * and what becomes of zeroes.
 */
static json_t *overlay_node(const MachineChange *item, const char *node, const char *file, const json_t *old)
{
    struct stat st;
    gboolean block = stat(item->overlay, &st) == 0 && S_ISBLK(st.st_mode);
    const json_t *cache = json_object_get(old, "cache");
    const char *zeroes = json_string_value(json_object_get(old, "detect_zeroes"));
    json_t *options = json_pack("{s:s, s:s, s:n, s:{s:b, s:b}, s:{s:s, s:s, s:s}}", "driver",
                                image_format_to_string(item->format), "node-name", node, "backing", "cache",
                                "direct", json_is_true(json_object_get(cache, "direct")), "no-flush",
                                json_is_true(json_object_get(cache, "no-flush")), "file", "driver",
                                block ? "host_device" : "file", "node-name", file, "filename", item->overlay);
    if (options && zeroes)
        json_object_set_new(options, "detect-zeroes", json_string(zeroes));
    if (options && g_strcmp0(zeroes, "unmap") == 0) /* is only possible with this */
        json_object_set_new(options, "discard", json_string("unmap"));
    return options;
}

static gboolean add_overlay(Change *change, const MachineChange *item, const char *top, GError **error)
{
    g_autofree char *node = NULL, *file = NULL;
    name_nodes(change->nodes, item->target, &node, &file);
    json_t *options = overlay_node(item, node, file, json_object_get(change->nodes, top));
    if (!qmp_do(change->running->qmp, "blockdev-add", options, &change->wait, error))
        return FALSE;
    json_object_set_new(change->nodes, node, json_object());
    json_array_append_new(change->actions, json_pack("{s:s, s:{s:s, s:s}}", "type", "blockdev-snapshot",
                                                     "data", "node", top, "overlay", node));
    g_ptr_array_add(change->added, g_steal_pointer(&node));
    return TRUE;
}

static gboolean add_tag(Change *change, const MachineChange *item, const char *top, GError **error)
{
    json_t *action = json_pack("{s:s, s:{s:s, s:s}}", "type", "blockdev-snapshot-internal-sync", "data",
                               "device", top, "name", item->tag);
    if (!action)
        snap_set_error(error, EINVAL, "the tag is not UTF-8");
    else
        json_array_append_new(change->actions, action);
    return action != NULL;
}

static gboolean add_item(Change *change, const MachineChange *item, GError **error)
{
    RunningDisk *disk = running_disk(change->running, item->target, error);
    g_autofree char *top =
        disk ? running_top(change->running, disk, change->nodes, &change->wait, error) : NULL;
    if (!top)
        return FALSE;
    if (item->overlay ? add_overlay(change, item, top, error) : add_tag(change, item, top, error))
        return TRUE;
    g_prefix_error(error, "disk '%s': ", item->target);
    return FALSE;
}

/* Nothing was changed: let go of the overlays. If that cannot be, it is not known any more. */
static void take_back(Change *change, GError **why)
{
    for (guint i = 0; i < change->added->len && !is_unknown(*why); i++) {
        g_autoptr(GError) held = NULL;
        json_t *arguments = json_pack("{s:s}", "node-name", change->added->pdata[i]);
        if (qmp_do(change->running->qmp, "blockdev-del", arguments, &change->wait, &held))
            continue;
        if (!is_unknown(held))
            held->code = EPROTO;
        g_prefix_error(&held, "%s; and it has the new overlays open still: ", (*why)->message);
        g_error_free(*why);
        *why = g_steal_pointer(&held);
    }
}

static gboolean run_change(Change *change, const GArray *changes, GError **error)
{
    change->nodes = running_nodes(change->running, &change->wait, error);
    if (!change->nodes)
        return FALSE;
    for (guint i = 0; i < changes->len; i++)
        if (!add_item(change, &g_array_index(changes, MachineChange, i), error))
            return FALSE;
    return qmp_do(change->running->qmp, "transaction", json_pack("{s:O}", "actions", change->actions),
                  &change->wait, error);
}

gboolean running_change(Machine *machine, const GArray *changes, GError **error)
{
    Running *running = (Running *)machine;
    g_auto(Change) change = {running, qmp_wait(COMMAND_MS, NULL), NULL, json_array(),
                             g_ptr_array_new_with_free_func(g_free)};
    GError *why = NULL;
    if (!run_change(&change, changes, &why)) {
        take_back(&change, &why);
        g_propagate_error(error, why);
        return FALSE;
    }
    for (guint i = 0; i < changes->len; i++) {
        const MachineChange *item = &g_array_index(changes, MachineChange, i);
        RunningDisk *disk = item->overlay ? running_disk(running, item->target, NULL) : NULL;
        if (!disk)
            continue;
        g_free(disk->path);
        disk->path = g_strdup(item->overlay);
    }
    return TRUE;
}
