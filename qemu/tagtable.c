/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tagtable.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "files.h"
#include "lockprobe.h"

/* The header's fields nb_snapshots and snapshots_offset (QEMU's docs/interop/qcow2.txt). */
#define FIELDS_OFFSET 60
#define FIELDS_BYTES 12

struct TagTable {
    char *path;
    const Qcow2Image *image;
    guint8 fields[FIELDS_BYTES];
};

TagTable *tag_table_new(const ImageFile *file, const Qcow2Image *image, GError **error)
{
    g_autoptr(TagTable) table = g_new0(TagTable, 1);
    table->path = g_strdup(file->path);
    table->image = image;
    if (!image_file_read(file, FIELDS_OFFSET, table->fields, sizeof table->fields, "header", error))
        return NULL;
    return g_steal_pointer(&table);
}

void tag_table_free(TagTable *table)
{
    if (!table)
        return;
    g_free(table->path);
    g_free(table);
}

/* Has the image as it is now each snapshot of before, but for those called @tag? */
static gboolean has_all_but(const TagTable *table, const char *tag)
{
    g_autoptr(ImageFile) file = image_file_open(table->path, NULL);
    g_autoptr(Qcow2Image) now = file ? qcow2_read(file, NULL) : NULL;
    const GPtrArray *before = table->image->info->tags;
    for (guint i = 0; now && i < before->len; i++) {
        const ImageTag *was = before->pdata[i];
        if (strcmp(was->name, tag) != 0 && !image_info_has_tag(now->info, was->name))
            return FALSE;
    }
    return now != NULL;
}

static gboolean write_fields(const TagTable *table, int fd, GError **error)
{
    if (!lockprobe_keep_writers_out(fd, table->path, error))
        return FALSE;
    if (pwrite(fd, table->fields, FIELDS_BYTES, FIELDS_OFFSET) == FIELDS_BYTES)
        return TRUE;
    snap_set_errno(error, errno, "cannot write the header of '%s'", table->path);
    return FALSE;
}

gboolean tag_table_put_back(const TagTable *table, const char *tag, GError **error)
{
    if (has_all_but(table, tag))
        return TRUE;
    int fd = file_open_image(table->path, O_RDWR, error);
    if (fd < 0)
        return FALSE;
    gboolean written = write_fields(table, fd, error);
    close(fd);
    if (!written)
        return FALSE;
    if (has_all_but(table, tag))
        return file_sync(table->path, error);
    snap_set_error(error, EIO, "the internal snapshots of '%s' cannot be read any more", table->path);
    return FALSE;
}
