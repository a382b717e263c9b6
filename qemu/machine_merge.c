/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers that a running machine has open are joined by a block job of its own (facts/qemu.md B6). */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "machine_nodes.h"
#include "qmp_job.h"

#define JOB_PREFIX "domsnapfs-merge-" /* and a uuid */
#define STOP_MS 30000

/* --- one merge --- */

typedef struct {
    const MachineMerge *merge;
    json_t *nodes;    /* that QEMU has */
    char *root;       /* the node that the device writes */
    const char *top;  /* nodes; the strings are those of nodes */
    const char *base; /* NULL: nothing */
} Nodes;

static void nodes_clear(Nodes *nodes)
{
    json_decref(nodes->nodes);
    g_free(nodes->root);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Nodes, nodes_clear)

static gboolean find_nodes(Running *running, Nodes *nodes, const QmpWait *wait, GError **error)
{
    const MachineMerge *merge = nodes->merge;
    RunningDisk *disk = running_disk(running, merge->target, error);
    nodes->nodes = disk ? running_nodes(running, wait, error) : NULL;
    nodes->root = nodes->nodes ? running_top(running, disk, wait, error) : NULL;
    nodes->top = nodes->root ? running_layer(nodes->nodes, merge->top, error) : NULL;
    if (!nodes->top)
        return FALSE;
    nodes->base = merge->base ? running_layer(nodes->nodes, merge->base, error) : NULL;
    return !merge->base || nodes->base;
}

static gboolean is_active(const Nodes *nodes)
{
    return strcmp(nodes->top, nodes->root) == 0;
}

/* NULL: a name is not UTF-8. */
static json_t *arguments_of(const Nodes *nodes)
{
    const MachineMerge *merge = nodes->merge;
    if (merge->up)
        return json_pack("{s:s, s:s*, s:s*}", "device", nodes->top, "base-node", nodes->base, "backing-file",
                         nodes->base ? merge->backing_name : NULL);
    if (is_active(nodes))
        return json_pack("{s:s, s:s}", "device", nodes->root, "base-node", nodes->base);
    return json_pack("{s:s, s:s, s:s, s:s*}", "device", nodes->root, "top-node", nodes->top, "base-node",
                     nodes->base, "backing-file", merge->backing_name);
}

gboolean running_merge(Machine *machine, const MachineMerge *merge, GCancellable *cancel, GError **error)
{
    Running *running = (Running *)machine;
    QmpWait wait = qmp_wait(0, cancel); /* there may be much to move */
    g_auto(Nodes) nodes = {.merge = merge};
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *id = g_strconcat(JOB_PREFIX, uuid, NULL);
    const QmpJobSpec spec = {
        .id = id, .before_end = merge->before_end, .user = merge->user, .progress = merge->progress};
    if (!find_nodes(running, &nodes, &wait, error) ||
        !qmp_job_run(running->qmp, merge->up ? "block-stream" : "block-commit", arguments_of(&nodes), &spec,
                     &wait, error))
        return FALSE;
    if (!merge->up && is_active(&nodes)) {
        RunningDisk *disk = running_disk(running, merge->target, NULL);
        g_free(disk->path);
        disk->path = g_strdup(merge->base);
    }
    (void)running_close_images(machine, merge->gone, NULL); /* it has happened all the same */
    return TRUE;
}

/* --- what a merge leaves --- */

gboolean running_merge_stop(Machine *machine, GError **error)
{
    Running *running = (Running *)machine;
    QmpWait wait = qmp_wait(STOP_MS, NULL);
    g_autoptr(GPtrArray) jobs = qmp_jobs(running->qmp, &wait, error);
    if (!jobs)
        return FALSE;
    for (guint i = 0; i < jobs->len; i++) {
        const QmpJob *job = jobs->pdata[i];
        g_autoptr(GError) why = NULL;
        if (!g_str_has_prefix(job->id, JOB_PREFIX) ||
            qmp_job_cancel(running->qmp, job->id, &wait, NULL, &why))
            continue;
        if (why->code == EINPROGRESS)
            why->code = EBUSY;
        g_propagate_prefixed_error(error, g_steal_pointer(&why), "a merge that was begun earlier: ");
        return FALSE;
    }
    return TRUE;
}

static gboolean delete_node(Running *running, const char *node, const QmpWait *wait, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (qmp_do(running->qmp, "blockdev-del", json_pack("{s:s}", "node-name", node), wait, &why))
        return TRUE;
    if (!is_unknown(why)) /* in use, or one that QEMU made and has taken away itself */
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* The image's node, then the one of its file, which may have been given by itself. */
static gboolean close_image(Running *running, json_t *nodes, const char *path, const QmpWait *wait,
                            GError **error)
{
    for (guint file = 0; file < 2; file++) {
        const char *name;
        json_t *info;
        json_object_foreach (nodes, name, info)
            if (node_has_file(info, path) && node_is_file(info) == (file == 1) &&
                !delete_node(running, name, wait, error))
                return FALSE;
    }
    return TRUE;
}

gboolean running_close_images(Machine *machine, const GPtrArray *paths, GError **error)
{
    Running *running = (Running *)machine;
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    g_autoptr(json_t) nodes = running_nodes(running, &wait, error);
    if (!nodes)
        return FALSE;
    for (guint i = 0; i < paths->len; i++)
        if (!close_image(running, nodes, paths->pdata[i], &wait, error))
            return FALSE;
    return TRUE;
}
