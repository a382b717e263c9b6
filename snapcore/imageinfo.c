/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backend.h"

void image_tag_free(ImageTag *tag)
{
    if (!tag)
        return;
    g_free(tag->id);
    g_free(tag->name);
    g_free(tag);
}

GPtrArray *image_tags_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)image_tag_free);
}

gboolean image_info_has_tag(const ImageInfo *info, const char *tag)
{
    for (guint i = 0; i < info->tags->len; i++)
        if (g_str_equal(((const ImageTag *)info->tags->pdata[i])->name, tag))
            return TRUE;
    return FALSE;
}

void image_info_free(ImageInfo *info)
{
    if (!info)
        return;
    g_free(info->backing_name);
    g_free(info->data_file);
    g_ptr_array_unref(info->tags);
    g_free(info);
}
