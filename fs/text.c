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
    if (!spec->is_text ||
        !fs->engine->ops->text_size(fs->engine, spec->text, node_id(ino), ret_size, ret_time))
        return FALSE;
    if (spec->text == ENGINE_TEXT_DESCRIPTION && *ret_size > 0)
        *ret_size += 1;
    return TRUE;
}

/* A description is shown as a line of text: with a newline, which writing takes off again. */
static GBytes *with_newline(GBytes *text)
{
    gsize len;
    const char *data = g_bytes_get_data(text, &len);
    if (len == 0)
        return g_bytes_ref(text);
    char *line = g_malloc(len + 1);
    memcpy(line, data, len);
    line[len] = '\n';
    return g_bytes_new_take(line, len + 1);
}

GBytes *text_content(Fs *fs, fuse_ino_t ino, GError **error)
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
    g_autoptr(GBytes) text = fs->engine->ops->text(fs->engine, spec->text, node_id(ino), error);
    if (text == NULL)
        return NULL;
    return spec->text == ENGINE_TEXT_DESCRIPTION ? with_newline(text) : g_steal_pointer(&text);
}
