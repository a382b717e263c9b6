/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qcow2.h"

#include <errno.h>
#include <string.h>

#include "error.h"

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */
#define HEADER_V2_BYTES 72
#define HEADER_V3_BYTES 104
#define HEADER_V3_COMPRESSION_BYTES 112
#define MIN_CLUSTER_BITS 9
#define MAX_CLUSTER_BITS 21
#define MIN_EXTENDED_L2_BITS 14
#define MAX_BACKING_NAME 1023
#define MAX_BACKING_FORMAT 15
#define MAX_EXTENSIONS 256 /* the format has five; more than this is an attack on our time */
#define MAX_REFCOUNT_ORDER 6
#define MAX_BITMAPS 65535
#define MAX_SNAPSHOTS 65536
#define MAX_SNAPSHOT_BYTES (64u * 1024 * 1024)
#define MAX_SNAPSHOT_EXTRA 1024
#define SNAPSHOT_ENTRY_BYTES 40

enum {
    INCOMPATIBLE_DIRTY = 1 << 0,
    INCOMPATIBLE_CORRUPT = 1 << 1,
    INCOMPATIBLE_DATA_FILE = 1 << 2,
    INCOMPATIBLE_COMPRESSION = 1 << 3,
    INCOMPATIBLE_EXTENDED_L2 = 1 << 4,
    INCOMPATIBLE_KNOWN = (1 << 5) - 1,
    AUTOCLEAR_BITMAPS = 1 << 0,
};

#define EXTENSION_END 0u
#define EXTENSION_BACKING_FORMAT 0xE2792ACAu
#define EXTENSION_DATA_FILE 0x44415441u
#define EXTENSION_BITMAPS 0x23852875u

/* The header's numbers, in our byte order. */
typedef struct {
    guint32 version;
    guint64 backing_offset;
    guint32 backing_size;
    guint32 cluster_bits;
    guint64 size;
    guint32 crypt_method;
    guint32 l1_entries;
    guint64 l1_offset;
    guint32 n_snapshots;
    guint64 snapshots_offset;
    guint64 incompatible;
    guint64 autoclear;
    guint32 refcount_order;
    guint32 length;
    guint8 compression;
} Header;

static guint16 get16(const guint8 *p)
{
    return (guint16)(p[0] << 8 | p[1]);
}

static guint32 get32(const guint8 *p)
{
    return (guint32)get16(p) << 16 | get16(p + 2);
}

static guint64 get64(const guint8 *p)
{
    return (guint64)get32(p) << 32 | get32(p + 4);
}

/* The fields that version 3 adds; version 2 has none of these features. */
static gboolean read_header_v3(const ImageFile *file, Header *header, GError **error)
{
    guint8 raw[HEADER_V3_BYTES];
    if (!image_file_read(file, 0, raw, sizeof raw, "header", error))
        return FALSE;
    header->incompatible = get64(raw + 72);
    header->autoclear = get64(raw + 88);
    header->refcount_order = get32(raw + 96);
    header->length = get32(raw + 100);
    if (header->length < HEADER_V3_BYTES || header->length > 1u << header->cluster_bits) {
        image_file_damaged(file, error, "the header says it is %" G_GUINT32_FORMAT " bytes long",
                           header->length);
        return FALSE;
    }
    if (header->length >= HEADER_V3_COMPRESSION_BYTES)
        return image_file_read(file, HEADER_V3_BYTES, &header->compression, 1, "header", error);
    return TRUE;
}

static gboolean read_header(const ImageFile *file, Header *header, GError **error)
{
    guint8 raw[HEADER_V2_BYTES] = {0};
    if (file->size >= 8 && !image_file_read(file, 0, raw, 8, "header", error))
        return FALSE; /* a disk that cannot be read, not a file that is something else */
    if (file->size < 8 || get32(raw) != QCOW2_MAGIC) {
        snap_set_error(error, EINVAL, "'%s' is not a qcow2 image", file->path);
        return FALSE;
    }
    header->version = get32(raw + 4);
    if (header->version != 2 && header->version != 3) {
        snap_set_error(error, EOPNOTSUPP,
                       "'%s' has qcow2 version %" G_GUINT32_FORMAT ", only 2 and 3 are known", file->path,
                       header->version);
        return FALSE;
    }
    if (!image_file_read(file, 0, raw, sizeof raw, "header", error))
        return FALSE;
    header->backing_offset = get64(raw + 8);
    header->backing_size = get32(raw + 16);
    header->cluster_bits = get32(raw + 20);
    header->size = get64(raw + 24);
    header->crypt_method = get32(raw + 32);
    header->l1_entries = get32(raw + 36);
    header->l1_offset = get64(raw + 40);
    header->n_snapshots = get32(raw + 60);
    header->snapshots_offset = get64(raw + 64);
    header->refcount_order = 4;
    header->length = HEADER_V2_BYTES;
    if (header->cluster_bits < MIN_CLUSTER_BITS || header->cluster_bits > MAX_CLUSTER_BITS) {
        image_file_damaged(file, error, "its clusters have 2^%" G_GUINT32_FORMAT " bytes",
                           header->cluster_bits);
        return FALSE;
    }
    return header->version == 2 || read_header_v3(file, header, error);
}

/* Refuse what QEMU 7.2 would refuse, and sizes that no arithmetic should have to stand. */
static gboolean check_header(const ImageFile *file, const Header *header, GError **error)
{
    const char *unknown = NULL;
    if (header->incompatible & ~(guint64)INCOMPATIBLE_KNOWN)
        unknown = "an unknown incompatible feature";
    else if (header->crypt_method > 2)
        unknown = "an unknown encryption";
    else if (header->refcount_order > MAX_REFCOUNT_ORDER)
        unknown = "an unknown width of reference counts";
    else if (header->compression > 1)
        unknown = "an unknown compression";
    if (unknown) {
        snap_set_error(error, EOPNOTSUPP, "'%s' uses %s", file->path, unknown);
        return FALSE;
    }
    if (!!(header->incompatible & INCOMPATIBLE_COMPRESSION) != (header->compression != 0)) {
        image_file_damaged(file, error, "compression type and feature bit contradict each other");
        return FALSE;
    }
    if ((header->incompatible & INCOMPATIBLE_EXTENDED_L2) && header->cluster_bits < MIN_EXTENDED_L2_BITS) {
        image_file_damaged(file, error, "its clusters are too small for extended L2 entries");
        return FALSE;
    }
    if (header->size > (guint64)G_MAXINT64 - (1u << MAX_CLUSTER_BITS)) {
        image_file_damaged(file, error, "its virtual size is absurd");
        return FALSE;
    }
    return TRUE;
}

/* The backing name lies in the first cluster, behind the header and its extensions. */
static gboolean read_backing_name(const ImageFile *file, const Header *header, ImageInfo *info,
                                  GError **error)
{
    if (header->backing_offset == 0)
        return TRUE;
    guint64 cluster = 1u << header->cluster_bits;
    if (header->backing_offset < header->length || header->backing_offset > cluster ||
        header->backing_size > cluster - header->backing_offset || header->backing_size > MAX_BACKING_NAME) {
        image_file_damaged(file, error, "the backing file's name is misplaced or too long");
        return FALSE;
    }
    if (header->backing_size == 0)
        return TRUE; /* QEMU reads this as no backing file, too */
    info->backing_name = image_file_read_name(file, header->backing_offset, header->backing_size,
                                              "backing file's name", error);
    return info->backing_name != NULL;
}

static gboolean read_backing_format(const ImageFile *file, guint64 offset, guint32 len, ImageInfo *info,
                                    GError **error)
{
    if (len > MAX_BACKING_FORMAT) {
        image_file_damaged(file, error, "the backing file's format has %" G_GUINT32_FORMAT " bytes", len);
        return FALSE;
    }
    g_autofree char *word = image_file_read_name(file, offset, len, "backing file's format", error);
    if (!word)
        return FALSE;
    ImageFormat format;
    info->backing_format = image_format_from_string(word, &format) ? format : FORMAT_NONE;
    return TRUE;
}

/* Without its autoclear bit the extension is stale: a program that knows no bitmaps has written since. */
static gboolean read_bitmaps(const ImageFile *file, const Header *header, guint64 offset, guint32 len,
                             ImageInfo *info, GError **error)
{
    guint8 raw[4];
    if (!(header->autoclear & AUTOCLEAR_BITMAPS))
        return TRUE;
    if (len < 24) {
        image_file_damaged(file, error, "the bitmap extension is too short");
        return FALSE;
    }
    if (!image_file_read(file, offset, raw, sizeof raw, "bitmap extension", error))
        return FALSE;
    if (get32(raw) > MAX_BITMAPS) {
        image_file_damaged(file, error, "it says it has %" G_GUINT32_FORMAT " bitmaps", get32(raw));
        return FALSE;
    }
    info->n_bitmaps = get32(raw);
    return TRUE;
}

static gboolean read_extension(const ImageFile *file, const Header *header, guint32 type, guint64 offset,
                               guint32 len, ImageInfo *info, GError **error)
{
    switch (type) {
    case EXTENSION_BACKING_FORMAT:
        return read_backing_format(file, offset, len, info, error);
    case EXTENSION_BITMAPS:
        return read_bitmaps(file, header, offset, len, info, error);
    case EXTENSION_DATA_FILE:
        g_clear_pointer(&info->data_file, g_free);
        info->data_file = image_file_read_name(file, offset, len, "data file's name", error);
        return info->data_file != NULL;
    default:
        return TRUE;
    }
}

/* Extensions fill the space between the header and the backing name, or the rest of the first cluster. */
static gboolean read_extensions(const ImageFile *file, const Header *header, ImageInfo *info, GError **error)
{
    guint64 end = header->backing_offset != 0 ? header->backing_offset : 1u << header->cluster_bits;
    guint64 offset = header->length;
    for (guint i = 0; offset + 8 <= end; i++) {
        guint8 raw[8];
        if (!image_file_read(file, offset, raw, sizeof raw, "header extension", error))
            return FALSE;
        guint32 type = get32(raw), len = get32(raw + 4);
        offset += 8;
        if (type == EXTENSION_END)
            return TRUE;
        if (len > end - offset || i == MAX_EXTENSIONS) {
            image_file_damaged(file, error, "its header extensions are too long or too many");
            return FALSE;
        }
        if (!read_extension(file, header, type, offset, len, info, error))
            return FALSE;
        offset += ((guint64)len + 7) & ~(guint64)7;
    }
    return TRUE;
}

/* The numbers of one entry of the snapshot table. */
typedef struct {
    guint16 id_len;
    guint16 name_len;
    guint32 extra_len;
    Qcow2State state;
} Entry;

/* Read the fixed and the extra part of the entry at @offset into @entry and @tag. */
static gboolean read_entry(const ImageFile *file, guint64 offset, Entry *entry, ImageTag *tag, GError **error)
{
    guint8 raw[SNAPSHOT_ENTRY_BYTES], extra[16] = {0};
    if (!image_file_read(file, offset, raw, sizeof raw, "snapshot table", error))
        return FALSE;
    entry->state.l1_offset = get64(raw);
    entry->state.l1_entries = get32(raw + 8);
    entry->id_len = get16(raw + 12);
    entry->name_len = get16(raw + 14);
    tag->date_sec = get32(raw + 16);
    tag->date_nsec = get32(raw + 20);
    tag->vm_state_size = get32(raw + 32);
    entry->extra_len = get32(raw + 36);
    if (entry->extra_len > MAX_SNAPSHOT_EXTRA) {
        image_file_damaged(file, error, "an entry of the snapshot table is too long");
        return FALSE;
    }
    gsize known = MIN(entry->extra_len, sizeof extra);
    if (!image_file_read(file, offset + sizeof raw, extra, known, "snapshot table", error))
        return FALSE;
    if (known >= 8)
        tag->vm_state_size = get64(extra);
    if (known >= 16)
        entry->state.size = get64(extra + 8);
    if (entry->state.size > (guint64)G_MAXINT64) {
        image_file_damaged(file, error, "a snapshot's virtual size is absurd");
        return FALSE;
    }
    return TRUE;
}

/* Read the entry at @offset and append it; *ret_len is how long it is, without the padding behind it. */
static gboolean read_tag(const ImageFile *file, guint64 offset, Qcow2Image *image, guint64 *ret_len,
                         GError **error)
{
    ImageTag *tag = g_new0(ImageTag, 1);
    g_ptr_array_add(image->info->tags, tag);
    /* An image without the extra field cannot have been resized since: version 2 forbids it */
    Entry entry = {.state.size = image->info->virtual_size};
    if (!read_entry(file, offset, &entry, tag, error))
        return FALSE;
    guint64 id_offset = offset + SNAPSHOT_ENTRY_BYTES + entry.extra_len;
    tag->id = image_file_read_name(file, id_offset, entry.id_len, "snapshot's id", error);
    if (!tag->id)
        return FALSE;
    tag->name =
        image_file_read_name(file, id_offset + entry.id_len, entry.name_len, "snapshot's name", error);
    if (!tag->name)
        return FALSE;
    g_array_append_val(image->states, entry.state);
    *ret_len = SNAPSHOT_ENTRY_BYTES + (guint64)entry.extra_len + entry.id_len + entry.name_len;
    return TRUE;
}

static gboolean read_tags(const ImageFile *file, const Header *header, Qcow2Image *image, GError **error)
{
    if (header->n_snapshots == 0)
        return TRUE;
    guint64 cluster = 1u << header->cluster_bits;
    if (header->n_snapshots > MAX_SNAPSHOTS || header->snapshots_offset == 0 ||
        header->snapshots_offset % cluster != 0 || header->snapshots_offset > file->size) {
        image_file_damaged(file, error, "the snapshot table is misplaced or too long");
        return FALSE;
    }
    guint64 offset = header->snapshots_offset;
    for (guint i = 0; i < header->n_snapshots; i++) {
        guint64 len;
        if (!read_tag(file, offset, image, &len, error))
            return FALSE;
        offset += (len + 7) & ~(guint64)7;
        if (offset - header->snapshots_offset > MAX_SNAPSHOT_BYTES) {
            image_file_damaged(file, error, "the snapshot table is over %u bytes long", MAX_SNAPSHOT_BYTES);
            return FALSE;
        }
    }
    return TRUE;
}

/* An external data file without a name in the header is still one: "" says so. */
static void settle_data_file(const Header *header, ImageInfo *info)
{
    if (!(header->incompatible & INCOMPATIBLE_DATA_FILE))
        g_clear_pointer(&info->data_file, g_free);
    else if (!info->data_file)
        info->data_file = g_strdup("");
}

static ImageInfo *info_from_header(const Header *header)
{
    ImageInfo *info = g_new0(ImageInfo, 1);
    info->format = FORMAT_QCOW2;
    info->virtual_size = header->size & ~(guint64)511; /* as QEMU: whole sectors, and what is over is lost */
    info->cluster_size = 1u << header->cluster_bits;
    info->encrypted = header->crypt_method != 0;
    info->dirty = (header->incompatible & (INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT)) != 0;
    info->tags = image_tags_new();
    return info;
}

static Qcow2Image *image_from_header(const Header *header)
{
    Qcow2Image *image = g_new0(Qcow2Image, 1);
    image->info = info_from_header(header);
    image->version = header->version;
    image->cluster_bits = header->cluster_bits;
    image->extended_l2 = (header->incompatible & INCOMPATIBLE_EXTENDED_L2) != 0;
    image->zstd = header->compression != 0;
    image->corrupt = (header->incompatible & INCOMPATIBLE_CORRUPT) != 0;
    image->active = (Qcow2State){image->info->virtual_size, header->l1_offset, header->l1_entries};
    image->states = g_array_new(FALSE, FALSE, sizeof(Qcow2State));
    return image;
}

Qcow2Image *qcow2_read(const ImageFile *file, GError **error)
{
    Header header = {0};
    if (!read_header(file, &header, error) || !check_header(file, &header, error))
        return NULL;
    g_autoptr(Qcow2Image) image = image_from_header(&header);
    if (!read_backing_name(file, &header, image->info, error) ||
        !read_extensions(file, &header, image->info, error) || !read_tags(file, &header, image, error))
        return NULL;
    settle_data_file(&header, image->info);
    return g_steal_pointer(&image);
}

void qcow2_image_free(Qcow2Image *image)
{
    if (!image)
        return;
    image_info_free(image->info);
    g_array_unref(image->states);
    g_free(image);
}

guint qcow2_count_tags(const Qcow2Image *image, const char *name)
{
    guint n = 0;
    for (guint i = 0; i < image->info->tags->len; i++) {
        const ImageTag *tag = g_ptr_array_index(image->info->tags, i);
        n += strcmp(tag->name, name) == 0;
    }
    return n;
}

const ImageTag *qcow2_only_tag(const Qcow2Image *image, const char *path, const char *name, GError **error)
{
    const ImageTag *found = NULL;
    for (guint i = 0; i < image->info->tags->len && !found; i++) {
        const ImageTag *tag = g_ptr_array_index(image->info->tags, i);
        if (strcmp(tag->name, name) == 0)
            found = tag;
    }
    if (!found) {
        snap_set_error(error, ENOENT, "'%s' has no tag '%s'", path, name);
        return NULL;
    }
    for (guint i = 0; i < image->info->tags->len; i++) {
        const ImageTag *tag = g_ptr_array_index(image->info->tags, i);
        if (tag != found && (strcmp(tag->name, name) == 0 || strcmp(tag->id, found->id) == 0)) {
            snap_set_error(error, EINVAL, "'%s' has several tags with the name '%s' or its id", path, name);
            return NULL;
        }
    }
    return found;
}

const Qcow2State *qcow2_tag_state(const Qcow2Image *image, const ImageTag *tag)
{
    guint index = 0;
    while (index + 1 < image->info->tags->len && g_ptr_array_index(image->info->tags, index) != tag)
        index++;
    return &g_array_index(image->states, Qcow2State, index);
}
