/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nbdimage.h"

#include <sys/stat.h>

#include "nbdnode.h"
#include "qemuimg_run.h"

/* The locks are ours: a qemu-nbd's own would hinder the machine of an active image, and be gone with it when it is idle. */
static json_t *local_file(int fd, guint index)
{
    struct stat st;
    gboolean device = fstat(fd, &st) == 0 && S_ISBLK(st.st_mode);
    g_autofree char *name = g_strdup_printf("/proc/self/fd/%u", NBDKEEPER_FIRST_FD + index);
    return json_pack("{s:s, s:s, s:s}", "driver", device ? "host_device" : "file", "filename", name,
                     "locking", "off");
}

/* Takes @below over; NULL: nothing lies below. */
static json_t *image_node(ImageFormat format, json_t *file, json_t *below)
{
    json_t *node = json_pack("{s:s, s:o}", "driver", image_format_to_string(format), "file", file);
    if (format != FORMAT_RAW)
        json_object_set_new(node, "backing", below ? below : json_null());
    return node;
}

static json_t *file_node(const DiskLayer *layer, const DiskImage *image, NbdServing *serving, GError **error)
{
    if (!image->file)
        return nbd_node(layer->path, error);
    serving->fds[serving->n_fds] = image->file->fd;
    serving->paths[serving->n_fds] = image->file->path;
    return local_file(image->file->fd, serving->n_fds++);
}

gboolean nbdimage_serving(const DiskChain *chain, const GPtrArray *images, NbdServing *ret_serving,
                          GError **error)
{
    json_t *node = NULL;
    NbdServing serving = {.fds = g_new0(int, images->len), .paths = g_new0(const char *, images->len)};
    for (guint i = images->len; i > 0; i--) {
        json_t *file = file_node(&chain->layers[i - 1], images->pdata[i - 1], &serving, error);
        if (!file) {
            json_decref(node);
            nbdimage_clear(&serving);
            return FALSE;
        }
        node = image_node(chain->layers[i - 1].format, file, node);
    }
    serving.image = qemuimg_json_name(node);
    serving.name = g_strdup(chain->layers[0].path);
    *ret_serving = serving;
    return TRUE;
}

void nbdimage_clear(NbdServing *serving)
{
    g_free(serving->image);
    g_free(serving->name);
    g_free(serving->fds);
    g_free(serving->paths);
}
