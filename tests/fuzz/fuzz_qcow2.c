/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A qcow2 image, alone and on a raw one, in its own state and at each of its internal snapshots: what opens is read through
 * the reader of disks to bytes or an error. The extents cover it, and a hole reads as zeros.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "diskopen.h"
#include "fuzz.h"
#include "qcow2.h"

#define MAX_EXTENTS 200 /* of a disk that may say it has exabytes */
#define MAX_READ 65536
#define MAX_TAGS 4

static char *input, *base; /* files, for as long as the program runs */

static char *make_file(const char *name, gsize size)
{
    char *path = g_strdup_printf("%s/domsnapfs-fuzz-%d-%s", g_get_tmp_dir(), (int)getpid(), name);
    g_autofree char *text = g_strnfill(size, 'b');
    MUST(g_file_set_contents(path, text, (gssize)size, NULL));
    return path;
}

static void remove_files(void)
{
    unlink(input);
    unlink(base);
}

static void read_extent(DiskReader *reader, guint64 offset, const DiskExtent *extent)
{
    static char buffer[MAX_READ];
    gsize len = MIN(extent->length, MAX_READ);
    g_autoptr(GError) error = NULL;
    gboolean read = reader->ops->read(reader, buffer, len, offset, &error);
    must_be_either(read ? reader : NULL, error);
    if (!extent->data) {
        MUST(read);
        for (gsize i = 0; i < len; i++)
            MUST(buffer[i] == 0);
    }
}

static void look_at(DiskReader *reader)
{
    guint64 offset = 0;
    for (guint i = 0; i < MAX_EXTENTS && offset < reader->size; i++) {
        g_autoptr(GError) error = NULL;
        DiskExtent extent;
        gboolean known = reader->ops->extent(reader, offset, &extent, &error);
        must_be_either(known ? reader : NULL, error);
        if (!known)
            return;
        MUST(extent.length > 0 && extent.length <= reader->size - offset);
        read_extent(reader, offset, &extent);
        offset += extent.length;
    }
    if (reader->size > 0) { /* the end, which so many extents may not reach */
        char last;
        (void)reader->ops->read(reader, &last, 1, reader->size - 1, NULL);
    }
}

static void open_as(const DiskChain *chain)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DiskReader) reader = diskopen(NULL, chain, &error);
    must_be_either(reader, error);
    if (reader)
        look_at(reader);
}

static void open_tags(DiskChain chain)
{
    g_autoptr(ImageFile) file = image_file_open(input, NULL);
    g_autoptr(Qcow2Image) image = qcow2_read(file, NULL);
    chain.state = DISK_TAG;
    for (guint i = 0; image && i < MIN(image->info->tags->len, MAX_TAGS); i++) {
        chain.tag = ((const ImageTag *)g_ptr_array_index(image->info->tags, i))->name;
        if (g_utf8_validate(chain.tag, -1, NULL)) /* no snapshot is called otherwise */
            open_as(&chain);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!input) {
        input = make_file("input", 0);
        base = make_file("base", 70000);
        atexit(remove_files);
    }
    g_autoptr(GError) error = NULL;
    FILE *file = fopen(input, "we");
    MUST(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
    const DiskLayer layers[] = {{.path = input, .format = FORMAT_QCOW2},
                                {.path = base, .format = FORMAT_RAW}};
    for (guint n = 1; n <= 2; n++) {
        DiskChain chain = {.layers = layers, .n_layers = n, .state = DISK_FROZEN};
        open_as(&chain);
        open_tags(chain);
    }
    return 0;
}
