/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disks of a running machine: which device, node and file is which. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "launch.h"
#include "machine_parts.h"
#include "qmp_block.h"
#include "qmp_online.h"

#define DEVICES "/machine/peripheral/"

static void disk_free(gpointer data)
{
    RunningDisk *disk = data;
    g_free(disk->target);
    g_free(disk->path);
    g_free(disk->device);
    g_free(disk);
}

GPtrArray *running_disks_new(const GArray *disks)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(disk_free);
    for (guint i = 0; i < disks->len; i++) {
        const MachineDisk *from = &g_array_index(disks, MachineDisk, i);
        RunningDisk *disk = g_new0(RunningDisk, 1);
        disk->target = g_strdup(from->target);
        disk->path = g_strdup(from->path);
        disk->read_only = from->read_only;
        g_ptr_array_add(list, disk);
    }
    return list;
}

const char **running_images(const Running *running)
{
    const char **images = g_new0(const char *, running->disks->len + 2);
    guint n = 0;
    for (guint i = 0; i < running->disks->len; i++) {
        const RunningDisk *disk = running->disks->pdata[i];
        if (!disk->read_only)
            images[n++] = disk->path;
    }
    images[n] = running->nvram;
    return images;
}

RunningDisk *running_disk(const Running *running, const char *target, GError **error)
{
    for (guint i = 0; i < running->disks->len; i++) {
        RunningDisk *disk = running->disks->pdata[i];
        if (strcmp(disk->target, target) == 0)
            return disk;
    }
    snap_set_error(error, ENODEV, "the running machine has no disk '%s' with a local image", target);
    return NULL;
}

static gboolean is_same_file(const char *path, const char *other)
{
    struct stat a, b;
    return strcmp(path, other) == 0 ||
           (stat(path, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

RunningDisk *running_disk_of(const Running *running, const char *path)
{
    for (guint i = 0; i < running->disks->len; i++) {
        RunningDisk *disk = running->disks->pdata[i];
        if (is_same_file(disk->path, path))
            return disk;
    }
    return NULL;
}

/* QOM path of what has @block as its `drive`. Caller frees; NULL: nothing has. */
static char *device_of(const QmpBlock *block)
{
    if (!block->qdev || block->qdev[0] == '/')
        return g_strdup(block->qdev);
    return g_strconcat(DEVICES, block->qdev, NULL);
}

/* The device that it is known to be, or that we would have made for it. */
static gboolean is_device_of(const QmpBlock *block, const RunningDisk *disk)
{
    g_autofree char *device = device_of(block), *id = launch_device_id(disk->target);
    return disk->device ? g_strcmp0(device, disk->device) == 0
                        : block->qdev && launch_is_device(block->qdev, id);
}

/* Else the one with its file. */
static const QmpBlock *find_block(const GPtrArray *blocks, const RunningDisk *disk)
{
    for (guint i = 0; i < blocks->len; i++)
        if (is_device_of(blocks->pdata[i], disk))
            return blocks->pdata[i];
    for (guint i = 0; i < blocks->len && !disk->device; i++) {
        const QmpBlock *block = blocks->pdata[i];
        if (block->qdev && block->path && is_same_file(block->path, disk->path))
            return block;
    }
    return NULL;
}

/* By the list of all, which takes long with deep chains: for devices in devices (usb), and machines that others started. */
static char *search_node(Running *running, RunningDisk *disk, const QmpWait *wait, GError **error)
{
    g_autoptr(GPtrArray) blocks = qmp_blocks(running->qmp, wait, error);
    if (!blocks)
        return NULL;
    const QmpBlock *block = find_block(blocks, disk);
    if (!block) {
        snap_set_error(error, ENODEV, "disk '%s': the running QEMU has no device with '%s'", disk->target,
                       disk->path);
        return NULL;
    }
    disk->device = device_of(block);
    return g_strdup(block->node);
}

char *running_node(Running *running, RunningDisk *disk, const QmpWait *wait, GError **error)
{
    if (disk->device)
        return qmp_block_node(running->qmp, disk->device, wait, error);
    g_autoptr(GError) why = NULL;
    g_autofree char *id = launch_device_id(disk->target), *device = g_strconcat(DEVICES, id, NULL);
    char *node = qmp_block_node(running->qmp, device, wait, &why);
    if (node)
        disk->device = g_steal_pointer(&device);
    else if (why->code == ENODEV || why->code == ENOENT || why->code == EIO)
        node = search_node(running, disk, wait, error);
    else
        g_propagate_error(error, g_steal_pointer(&why));
    return node;
}

char *running_file(Running *running, RunningDisk *disk, const QmpWait *wait, GError **error)
{
    const char *known[] = {disk->path, NULL};
    if (qmp_process_writes(qmp_pid(running->qmp), known))
        return g_strdup(disk->path);
    g_autoptr(GPtrArray) blocks = qmp_blocks(running->qmp, wait, error);
    const QmpBlock *block = blocks ? find_block(blocks, disk) : NULL;
    if (blocks && (!block || !block->path))
        snap_set_error(error, ENOENT, "disk '%s': the running QEMU has no local file for it", disk->target);
    return block ? g_strdup(block->path) : NULL;
}

char *running_top(Running *running, RunningDisk *disk, const QmpWait *wait, GError **error)
{
    g_autofree char *node = running_node(running, disk, wait, error);
    g_autofree char *path = node ? running_file(running, disk, wait, error) : NULL;
    if (!path)
        return NULL;
    if (is_same_file(path, disk->path))
        return g_steal_pointer(&node);
    snap_set_error(error, EBUSY, "disk '%s': the running QEMU writes '%s', and not '%s'", disk->target, path,
                   disk->path);
    return NULL;
}
