/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoints: memory and disks together, inside the images (facts/qemu.md B3), and the deletion of any tag of an image that
 * only this QEMU can write.
 *
 * QEMU takes a tag's id for its name, and replaces what is there already: so it is looked at here, before. The jobs have no
 * time limit: QEMU answers nobody while they work, however much memory there is.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "imagefile.h"
#include "lockprobe.h"
#include "machine_parts.h"
#include "qmp_job.h"

#define FILE_NODE "domsnapfs-memory" /* of a file of its own that holds the memory */

typedef struct {
    Running *running;
    const MachineCheckpoint *what;
    QmpWait wait;
    GPtrArray *paths; /* of the images that take part; borrowed */
    json_t *devices;  /* names of the nodes that take part, the first one holds the memory */
} Checkpoint;

static void checkpoint_clear(Checkpoint *checkpoint)
{
    g_ptr_array_unref(checkpoint->paths);
    json_decref(checkpoint->devices);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Checkpoint, checkpoint_clear)

static void remove_file_node(Checkpoint *checkpoint)
{
    (void)qmp_do(checkpoint->running->qmp, "blockdev-del", json_pack("{s:s}", "node-name", FILE_NODE),
                 &checkpoint->wait, NULL);
}

/* One that a daemon has left when it died would be in the way. */
static gboolean add_file_node(Checkpoint *checkpoint, GError **error)
{
    json_t *options = json_pack("{s:s, s:s, s:n, s:{s:s, s:s}}", "driver", "qcow2", "node-name", FILE_NODE,
                                "backing", "file", "driver", "file", "filename", checkpoint->what->file);
    remove_file_node(checkpoint);
    if (!qmp_do(checkpoint->running->qmp, "blockdev-add", options, &checkpoint->wait, error))
        return FALSE;
    json_array_append_new(checkpoint->devices, json_string(FILE_NODE));
    g_ptr_array_add(checkpoint->paths, (gpointer)checkpoint->what->file);
    return TRUE;
}

static gboolean add_disks(Checkpoint *checkpoint, GError **error)
{
    const char *const *targets = checkpoint->what->targets;
    for (guint i = 0; targets && targets[i]; i++) {
        RunningDisk *disk = running_disk(checkpoint->running, targets[i], error);
        g_autofree char *top = disk ? running_top(checkpoint->running, disk, &checkpoint->wait, error) : NULL;
        if (!top)
            return FALSE;
        json_array_append_new(checkpoint->devices, json_string(top));
        g_ptr_array_add(checkpoint->paths, disk->path);
    }
    if (json_array_size(checkpoint->devices) > 0)
        return TRUE;
    snap_set_error(error, EINVAL, "nothing takes part in the checkpoint");
    return FALSE;
}

static guint count_tags(const ImageInfo *info, const char *tag)
{
    guint n = 0;
    for (guint i = 0; i < info->tags->len; i++)
        n += strcmp(((const ImageTag *)info->tags->pdata[i])->name, tag) == 0;
    return n;
}

static gboolean has_id(const ImageInfo *info, const char *id)
{
    for (guint i = 0; i < info->tags->len; i++)
        if (strcmp(((const ImageTag *)info->tags->pdata[i])->id, id) == 0)
            return TRUE;
    return FALSE;
}

/* What the file itself says: QEMU keeps none back, and tells of them only together with all that is below. */
static ImageInfo *read_tags(Running *running, const char *path, GError **error)
{
    ImageInfo *info = NULL;
    (void)running->offline->ops->inspect(running->offline, path, FORMAT_QCOW2, &info, error);
    return info;
}

/* The image must not have the tag yet, nor one with that for its id. */
static gboolean check_image(Checkpoint *checkpoint, const char *path, GError **error)
{
    const char *tag = checkpoint->what->tag;
    g_autoptr(ImageInfo) info = read_tags(checkpoint->running, path, error);
    if (info && count_tags(info, tag) > 0)
        snap_set_error(error, EEXIST, "'%s' has an internal snapshot called '%s' already", path, tag);
    else if (info && has_id(info, tag))
        snap_set_error(error, EINVAL, "'%s' has an internal snapshot with the id '%s', which is no name",
                       path, tag);
    else
        return info != NULL;
    return FALSE;
}

static gboolean prepare(Checkpoint *checkpoint, GError **error)
{
    if ((checkpoint->what->file && !add_file_node(checkpoint, error)) || !add_disks(checkpoint, error))
        return FALSE;
    for (guint i = 0; i < checkpoint->paths->len; i++)
        if (!check_image(checkpoint, checkpoint->paths->pdata[i], error))
            return FALSE;
    return TRUE;
}

static gboolean run_job(Checkpoint *checkpoint, const char *command, gboolean memory, GError **error)
{
    g_autofree char *uuid = g_uuid_string_random(), *id = g_strconcat("domsnapfs-", uuid, NULL);
    QmpWait wait = qmp_wait(0, NULL);
    json_t *arguments = json_pack("{s:s, s:O}", "tag", checkpoint->what->tag, "devices", checkpoint->devices);
    if (arguments && memory)
        json_object_set(arguments, "vmstate", json_array_get(checkpoint->devices, 0));
    return qmp_job_run(checkpoint->running->qmp, command, arguments, &(QmpJobSpec){.id = id}, &wait, error);
}

/*
 * It was seen that no image had the tag, so whoever has it now got it from us. QEMU tries to take it back, too, and does not
 * say whether it could.
 */
static void take_back(Checkpoint *checkpoint, GError **why)
{
    g_autoptr(GError) left = NULL;
    if (!is_unknown(*why) && (*why)->code != EEXIST && !run_job(checkpoint, "snapshot-delete", FALSE, &left))
        g_prefix_error(why, "%s, after: ", left->message);
}

static gboolean save(Checkpoint *checkpoint, GError **error)
{
    GError *why = NULL;
    if (!prepare(checkpoint, error))
        return FALSE;
    if (run_job(checkpoint, "snapshot-save", TRUE, &why))
        return TRUE;
    take_back(checkpoint, &why);
    g_propagate_error(error, why);
    return FALSE;
}

gboolean running_checkpoint_save(Machine *machine, const MachineCheckpoint *what, GError **error)
{
    g_auto(Checkpoint)
        checkpoint = {(Running *)machine, what, qmp_wait(COMMAND_MS, NULL), g_ptr_array_new(), json_array()};
    gboolean ok = save(&checkpoint, error);
    checkpoint.wait = qmp_wait(COMMAND_MS, NULL);
    if (what->file)
        remove_file_node(&checkpoint);
    return ok;
}

static gboolean delete_tag(Running *running, RunningDisk *disk, const char *tag, GError **error)
{
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    /* What QEMU has been told before is done when it has answered. */
    g_autoptr(ImageInfo) info =
        running_own_images(running, error) ? read_tags(running, disk->path, error) : NULL;
    if (!info)
        return FALSE;
    guint found = count_tags(info, tag);
    if (found > 1)
        snap_set_error(error, EINVAL, "'%s' has more than one internal snapshot called '%s'", disk->path,
                       tag);
    if (found != 1)
        return found == 0;
    g_autoptr(ImageFile) file = image_file_open(disk->path, error); /* until the end: it keeps readers of tags out */
    if (!file || (file->fd >= 0 && !lockprobe_drop_tags(file->fd, disk->path, error)))
        return FALSE;
    g_autofree char *top = running_top(running, disk, &wait, error);
    return top && qmp_do(running->qmp, "blockdev-snapshot-delete-internal-sync",
                         json_pack("{s:s, s:s}", "device", top, "name", tag), &wait, error);
}

/* QEMU keeps the books of what it has open, whether or not somebody waits for its answer: nothing was cut short. */
gboolean running_repair(Backend *backend, const char *path, GError **error)
{
    const Running *running = (Running *)backend;
    return running_disk_of(running, path) || running->offline->ops->repair(running->offline, path, error);
}

gboolean running_tag_delete(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                            GError **error)
{
    Running *running = (Running *)backend;
    RunningDisk *disk = running_disk_of(running, path);
    if (disk)
        return delete_tag(running, disk, tag, error);
    return running->offline->ops->tag_delete(running->offline, path, tag, cancel, error);
}
