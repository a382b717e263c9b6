/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "start_load.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "qmp_job.h"

#define MEMORY "domsnapfs-memory" /* a descriptor, and a node */

enum { LOOK_MS = 20 };

gboolean start_load_memory(Qmp *qmp, int fd, const QmpWait *wait, GError **error)
{
    guint64 seen = 0;
    if (!qmp_getfd(qmp, MEMORY, fd, wait, error) ||
        !qmp_do(qmp, "migrate-incoming", json_pack("{s:s}", "uri", "fd:" MEMORY), wait, error))
        return FALSE;
    do {
        g_autoptr(json_t) status = qmp_run(qmp, "query-status", json_object(), wait, error);
        if (!status)
            return FALSE;
        const char *word = json_string_value(json_object_get(status, "status"));
        if (g_strcmp0(word, "inmigrate") != 0)
            return TRUE;
    } while (qmp_wait_event(qmp, &seen, LOOK_MS, wait, error));
    return FALSE;
}

/* --- a checkpoint --- */

typedef struct {
    json_t *devices; /* nodes */
    char *memory;    /* the one that holds the memory */
} Checkpoint;

static void checkpoint_clear(Checkpoint *checkpoint)
{
    json_decref(checkpoint->devices);
    g_free(checkpoint->memory);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Checkpoint, checkpoint_clear)

static void add_node(Checkpoint *checkpoint, const char *node, gboolean has_memory)
{
    json_array_append_new(checkpoint->devices, json_string(node));
    if (has_memory && !checkpoint->memory)
        checkpoint->memory = g_strdup(node);
}

/* The image of @disk, which took part, has the state still, or has it no more because it was copied out. */
static gboolean look_at_disk(Checkpoint *checkpoint, Backend *images, const LaunchDisk *disk,
                             const DiskDef *def, const char *tag, GError **error)
{
    g_autoptr(ImageInfo) info = NULL;
    if (!disk->node || !def || !def->source || def->readonly || def->format != FORMAT_QCOW2)
        return TRUE;
    if (!images->ops->inspect(images, def->source, def->format, &info, error)) {
        g_prefix_error(error, "disk '%s': ", disk->target);
        return FALSE;
    }
    for (guint i = 0; i < info->tags->len; i++) {
        const ImageTag *there = info->tags->pdata[i];
        if (strcmp(there->name, tag) == 0)
            add_node(checkpoint, disk->node, there->vm_state_size > 0);
    }
    return TRUE;
}

static gboolean add_file(Checkpoint *checkpoint, Qmp *qmp, const char *path, const QmpWait *wait,
                         GError **error)
{
    json_t *node = json_pack("{s:s,s:s,s:n,s:{s:s,s:s}}", "driver", "qcow2", "node-name", MEMORY, "backing",
                             "file", "driver", "file", "filename", path);
    if (!qmp_do(qmp, "blockdev-add", node, wait, error))
        return FALSE;
    add_node(checkpoint, MEMORY, TRUE);
    return TRUE;
}

static gboolean find_nodes(Checkpoint *checkpoint, Qmp *qmp, Backend *images, const Launch *launch,
                           const MachineStart *start, const QmpWait *wait, GError **error)
{
    if (start->tag_file && !add_file(checkpoint, qmp, start->tag_file, wait, error))
        return FALSE;
    for (guint i = 0; i < launch->disks->len; i++) {
        const LaunchDisk *disk = launch->disks->pdata[i];
        const DiskDef *def = domain_def_find_disk(launch->def, disk->target);
        if (!start->tag_targets || !g_strv_contains(start->tag_targets, disk->target))
            continue;
        if (!look_at_disk(checkpoint, images, disk, def, start->tag, error))
            return FALSE;
    }
    if (checkpoint->memory)
        return TRUE;
    snap_set_error(error, ENOENT, "no image of the machine has memory of the checkpoint '%s'", start->tag);
    return FALSE;
}

gboolean start_load_checkpoint(Qmp *qmp, Backend *images, const Launch *launch, const MachineStart *start,
                               const QmpWait *wait, GError **error)
{
    g_auto(Checkpoint) checkpoint = {.devices = json_array()};
    if (!find_nodes(&checkpoint, qmp, images, launch, start, wait, error))
        return FALSE;
    QmpJobSpec spec = {.id = "domsnapfs-start"};
    json_t *arguments = json_pack("{s:s,s:s,s:O}", "tag", start->tag, "vmstate", checkpoint.memory, "devices",
                                  checkpoint.devices);
    if (!qmp_job_run(qmp, "snapshot-load", arguments, &spec, wait, error))
        return FALSE;
    return !start->tag_file ||
           qmp_do(qmp, "blockdev-del", json_pack("{s:s}", "node-name", MEMORY), wait, error);
}
