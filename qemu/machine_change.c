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

#define MAX_TAKEN 100 /* names that are not free */

typedef struct {
    Running *running;
    QmpWait wait;
    json_t *actions;  /* of the transaction */
    GPtrArray *added; /* names of the nodes of overlays that QEMU has opened for it */
} Change;

static void change_clear(Change *change)
{
    json_decref(change->actions);
    g_ptr_array_unref(change->added);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Change, change_clear)

/* @options: of what it will stand on. */
static json_t *overlay_node(const MachineChange *item, guint level, const json_t *options)
{
    struct stat st;
    gboolean block = stat(item->overlay, &st) == 0 && S_ISBLK(st.st_mode);
    g_autofree char *name = launch_node_name(item->target, level),
                    *file_name = launch_file_node_name(item->target, level);
    json_t *file = json_pack("{s:s, s:s, s:s}", "driver", block ? "host_device" : "file", "node-name",
                             file_name, "filename", item->overlay);
    json_t *node = file ? json_pack("{s:s, s:s, s:n, s:O}", "driver", image_format_to_string(item->format),
                                    "node-name", name, "backing", "file", file)
                        : NULL;
    if (file)
        json_object_update(file, json_object_get(options, "file"));
    if (node)
        json_object_update(node, json_object_get(options, "node"));
    json_decref(file);
    return node;
}

/* A name may be taken, by what was left of an earlier try: then the next one. */
static gboolean open_overlay(Change *change, const MachineChange *item, guint level, const json_t *options,
                             GError **error)
{
    for (guint last = level + MAX_TAKEN;; level++) {
        g_autoptr(GError) why = NULL;
        if (qmp_do(change->running->qmp, "blockdev-add", overlay_node(item, level, options), &change->wait,
                   &why)) {
            g_ptr_array_add(change->added, launch_node_name(item->target, level));
            return TRUE;
        }
        if (why->code != EEXIST || level == last) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
    }
}

static gboolean add_overlay(Change *change, const MachineChange *item, const RunningDisk *disk,
                            const char *top, GError **error)
{
    g_autoptr(json_t) options = running_options(change->running, disk, top, &change->wait, error);
    if (!options || !open_overlay(change, item, running_next_level(disk, top), options, error))
        return FALSE;
    const char *node = change->added->pdata[change->added->len - 1];
    json_array_append_new(change->actions, json_pack("{s:s, s:{s:s, s:s}}", "type", "blockdev-snapshot",
                                                     "data", "node", top, "overlay", node));
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
    g_autofree char *top = disk ? running_top(change->running, disk, &change->wait, error) : NULL;
    if (!top)
        return FALSE;
    if (item->overlay ? add_overlay(change, item, disk, top, error) : add_tag(change, item, top, error))
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
    for (guint i = 0; i < changes->len; i++)
        if (!add_item(change, &g_array_index(changes, MachineChange, i), error))
            return FALSE;
    return qmp_do(change->running->qmp, "transaction", json_pack("{s:O}", "actions", change->actions),
                  &change->wait, error);
}

gboolean running_change(Machine *machine, const GArray *changes, GError **error)
{
    Running *running = (Running *)machine;
    g_auto(Change)
        change = {running, qmp_wait(COMMAND_MS, NULL), json_array(), g_ptr_array_new_with_free_func(g_free)};
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
