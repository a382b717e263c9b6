/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "text.h"

#include <errno.h>
#include <string.h>

#include "ctl.h"
#include "error.h"
#include "node.h"

static const char *help_of(Fs *fs, fuse_ino_t ino)
{
    return fs->help[node_kind(ino) == NODE_CTL ? CTL_DOMAIN : CTL_MOUNT];
}

gboolean text_stat(Fs *fs, fuse_ino_t ino, guint64 *ret_size, gint64 *ret_time)
{
    const NodeSpec *spec = node_spec(node_kind(ino));
    if (node_is_ctl(ino)) {
        *ret_size = strlen(help_of(fs, ino));
        return TRUE;
    }
    return spec->is_text &&
           fs->engine->ops->text_size(fs->engine, spec->text, node_id(ino), ret_size, ret_time);
}

GBytes *text_content(Fs *fs, fuse_ino_t ino, GCancellable *cancel, GError **error)
{
    const NodeSpec *spec = node_spec(node_kind(ino));
    if (node_is_ctl(ino)) {
        const char *help = help_of(fs, ino);
        return g_bytes_new(help, strlen(help));
    }
    if (!spec->is_text) {
        snap_set_error(error, EACCES, "not a text");
        return NULL;
    }
    return fs->engine->ops->text(fs->engine, spec->text, node_id(ino), cancel, error);
}

void text_reply(fuse_req_t req, GBytes *bytes, gsize size, off_t offset)
{
    gsize len;
    const char *data = g_bytes_get_data(bytes, &len);
    gsize from = MIN((guint64)offset, len);
    fuse_reply_buf(req, data == NULL ? NULL : data + from, MIN(size, len - from));
}
