/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_block.h"

#include <errno.h>
#include <string.h>

#include "error.h"

#define JSON_NAME "json:"

void qmp_block_free(QmpBlock *block)
{
    if (!block)
        return;
    g_free(block->qdev);
    g_free(block->device);
    g_free(block->node);
    g_free(block->driver);
    g_free(block->filename);
    g_free(block->path);
    g_free(block);
}

/* {"driver": "qcow2", "file": {"driver": "file", "filename": PATH}}, the inner levels maybe as "file.filename". */
static const char *filename_in(const json_t *options)
{
    const char *flat = json_string_value(json_object_get(options, "file.filename"));
    while (json_object_get(options, "file"))
        options = json_object_get(options, "file");
    return flat ? flat : json_string_value(json_object_get(options, "filename"));
}

char *qmp_block_path(const char *filename)
{
    if (filename[0] == '/')
        return g_strdup(filename);
    if (!g_str_has_prefix(filename, JSON_NAME))
        return NULL;
    g_autoptr(json_t) options = json_loads(filename + strlen(JSON_NAME), JSON_REJECT_DUPLICATES, NULL);
    const char *path = options ? filename_in(options) : NULL;
    return path && path[0] == '/' ? g_strdup(path) : NULL;
}

/* *ret_block: NULL where the drive is empty. */
static gboolean read_block(const json_t *json, QmpBlock **ret_block)
{
    const char *device = NULL, *qdev = NULL, *node = NULL, *driver = NULL, *filename = NULL;
    int read_only = FALSE;
    *ret_block = NULL;
    if (json_is_object(json) && !json_object_get(json, "inserted"))
        return TRUE;
    if (json_unpack((json_t *)json, "{s:s, s?s, s:{s:s, s:s, s:b, s:{s:s}}}", "device", &device, "qdev",
                    &qdev, "inserted", "node-name", &node, "drv", &driver, "ro", &read_only, "image",
                    "filename", &filename) < 0)
        return FALSE;
    QmpBlock *block = g_new0(QmpBlock, 1);
    block->qdev = g_strdup(qdev);
    block->device = g_strdup(device);
    block->node = g_strdup(node);
    block->driver = g_strdup(driver);
    block->filename = g_strdup(filename);
    block->path = qmp_block_path(filename);
    block->read_only = read_only;
    *ret_block = block;
    return TRUE;
}

char *qmp_block_node(Qmp *qmp, const char *device, const QmpWait *wait, GError **error)
{
    json_t *arguments = json_pack("{s:s, s:s}", "path", device, "property", "drive");
    g_autoptr(json_t) answer = qmp_run(qmp, "qom-get", arguments, wait, error);
    const char *node = json_string_value(answer);
    if (answer && (!node || !node[0])) {
        snap_set_error(error, EIO, "QEMU qom-get: the device '%s' has no drive", device);
        return NULL;
    }
    return g_strdup(node);
}

GPtrArray *qmp_blocks(Qmp *qmp, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) list = qmp_run(qmp, "query-block", json_object(), wait, error);
    if (!list)
        return NULL;
    g_autoptr(GPtrArray) blocks = g_ptr_array_new_with_free_func((GDestroyNotify)qmp_block_free);
    size_t i;
    json_t *each;
    gboolean good = json_is_array(list);
    json_array_foreach (list, i, each) {
        QmpBlock *block = NULL;
        good = read_block(each, &block) && good;
        if (block)
            g_ptr_array_add(blocks, block);
    }
    if (!good) {
        snap_set_error(error, EPROTO, "QEMU query-block: its answer is no list of devices");
        return NULL;
    }
    return g_steal_pointer(&blocks);
}
