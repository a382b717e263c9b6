/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qed.h"

#include <errno.h>
#include <string.h>

#include "error.h"

#define HEADER_BYTES 64
#define MIN_CLUSTER 4096u
#define MAX_CLUSTER (64u * 1024 * 1024)
#define MAX_TABLE_CLUSTERS 16
#define MAX_BACKING_NAME 1023

enum {
    FEATURE_BACKING = 1 << 0,
    FEATURE_NEED_CHECK = 1 << 1,
    FEATURE_BACKING_RAW = 1 << 2, /* "do not probe": the backing file is raw */
    FEATURE_KNOWN = (1 << 3) - 1,
};

static guint32 get32(const guint8 *p)
{
    return (guint32)p[0] | (guint32)p[1] << 8 | (guint32)p[2] << 16 | (guint32)p[3] << 24;
}

static guint64 get64(const guint8 *p)
{
    return get32(p) | (guint64)get32(p + 4) << 32;
}

static gboolean is_power_of_two(guint32 n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* Two levels of tables of @table clusters, 8 bytes an entry, reach no further than this. 0: no limit in 64
 * bits. */
static guint64 max_image_size(guint32 cluster, guint32 table)
{
    guint64 entries = (guint64)cluster * table / 8, size;
    if (!g_uint64_checked_mul(&size, entries, entries) || !g_uint64_checked_mul(&size, size, cluster))
        return G_MAXINT64;
    return MIN(size, (guint64)G_MAXINT64);
}

static gboolean check_header(const ImageFile *file, const guint8 *raw, GError **error)
{
    guint32 cluster = get32(raw + 4), table = get32(raw + 8);
    if (get64(raw + 16) & ~(guint64)FEATURE_KNOWN) {
        snap_set_error(error, EOPNOTSUPP, "'%s' uses an unknown feature", file->path);
        return FALSE;
    }
    if (!is_power_of_two(cluster) || cluster < MIN_CLUSTER || cluster > MAX_CLUSTER) {
        image_file_damaged(file, error, "its clusters have %" G_GUINT32_FORMAT " bytes", cluster);
        return FALSE;
    }
    if (!is_power_of_two(table) || table > MAX_TABLE_CLUSTERS) {
        image_file_damaged(file, error, "its tables have %" G_GUINT32_FORMAT " clusters", table);
        return FALSE;
    }
    if (get64(raw + 48) > max_image_size(cluster, table)) {
        image_file_damaged(file, error, "its virtual size is absurd");
        return FALSE;
    }
    return TRUE;
}

static gboolean read_backing(const ImageFile *file, const guint8 *raw, ImageInfo *info, GError **error)
{
    guint64 features = get64(raw + 16);
    if (!(features & FEATURE_BACKING))
        return TRUE;
    guint64 header_end = (guint64)get32(raw + 12) * get32(raw + 4);
    guint64 offset = get32(raw + 56), len = get32(raw + 60);
    if (offset + len > header_end || len == 0 || len > MAX_BACKING_NAME) {
        image_file_damaged(file, error, "the backing file's name is misplaced or too long");
        return FALSE;
    }
    info->backing_name = image_file_read_name(file, offset, len, "backing file's name", error);
    info->backing_format = features & FEATURE_BACKING_RAW ? FORMAT_RAW : FORMAT_NONE;
    return info->backing_name != NULL;
}

ImageInfo *qed_read(const ImageFile *file, GError **error)
{
    guint8 raw[HEADER_BYTES];
    if (file->size >= sizeof raw && !image_file_read(file, 0, raw, sizeof raw, "header", error))
        return NULL; /* a disk that cannot be read, not a file that is something else */
    if (file->size < sizeof raw || memcmp(raw, "QED", 4) != 0) {
        snap_set_error(error, EINVAL, "'%s' is not a qed image", file->path);
        return NULL;
    }
    if (!check_header(file, raw, error))
        return NULL;
    g_autoptr(ImageInfo) info = g_new0(ImageInfo, 1);
    info->format = FORMAT_QED;
    info->virtual_size = get64(raw + 48);
    info->cluster_size = get32(raw + 4);
    info->dirty = (get64(raw + 16) & FEATURE_NEED_CHECK) != 0;
    info->tags = image_tags_new();
    if (!read_backing(file, raw, info, error))
        return NULL;
    return g_steal_pointer(&info);
}
