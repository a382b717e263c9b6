/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine_nodes.h"

#include <errno.h>
#include <sys/stat.h>

#include "error.h"
#include "qmp_block.h"

static gboolean is_same_file(const char *path, const char *other)
{
    struct stat a, b;
    return strcmp(path, other) == 0 ||
           (stat(path, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

json_t *running_nodes(Running *running, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) list =
        qmp_run(running->qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", TRUE), wait, error);
    if (!list)
        return NULL;
    g_autoptr(json_t) nodes = json_object();
    size_t i;
    json_t *each;
    json_array_foreach (list, i, each) {
        const char *name = json_string_value(json_object_get(each, "node-name"));
        if (name)
            json_object_set(nodes, name, each);
    }
    return g_steal_pointer(&nodes);
}

char *node_path(const json_t *info)
{
    const char *filename = json_string_value(json_object_get(info, "file"));
    return filename ? qmp_block_path(filename) : NULL;
}

gboolean node_has_file(const json_t *info, const char *path)
{
    g_autofree char *file = node_path(info);
    return file && is_same_file(file, path);
}

gboolean node_is_file(const json_t *info)
{
    static const char *const drivers[] = {"file", "host_device", NULL};
    const char *driver = json_string_value(json_object_get(info, "drv"));
    return driver && g_strv_contains(drivers, driver);
}

const char *running_layer(json_t *nodes, const char *path, GError **error)
{
    const char *found = NULL, *name;
    json_t *info;
    json_object_foreach (nodes, name, info) {
        if (node_is_file(info) || !node_has_file(info, path))
            continue;
        if (found) {
            snap_set_error(error, EBUSY, "the running QEMU has '%s' open more than once", path);
            return NULL;
        }
        found = name;
    }
    if (!found)
        snap_set_error(error, ENODEV, "the running QEMU does not have '%s' open", path);
    return found;
}
