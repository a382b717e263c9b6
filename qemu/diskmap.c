/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diskmap.h"

#include "flatten.h"

#define MAX_CHUNK_BITS 26 /* 64 MiB */
#define UNITS_BITS 12     /* of a chunk: at most so many extents */
#define MAX_BYTES (2 * 1024 * 1024)

/* A chunk that is kept. */
typedef struct {
    guint64 offset; /* the key */
    MapChunk *chunk;
    gsize bytes;
    GList link; /* in the order of use */
} Kept;

struct DiskMap {
    DiskImage *const *images;
    guint n_images;
    guint chunk_bits;
    GMutex lock; /* of what follows: the look-up only, never held when an image is read */
    GHashTable *kept;
    GQueue used; /* of Kept, the last used first */
    gsize bytes;
};

static void kept_free(gpointer data)
{
    Kept *kept = data;
    map_chunk_unref(kept->chunk);
    g_free(kept);
}

DiskMap *diskmap_new(DiskImage *const *images, guint n_images)
{
    DiskMap *map = g_new0(DiskMap, 1);
    guint unit_bits = MAX_CHUNK_BITS;
    for (guint i = 0; i < n_images; i++)
        if (!images[i]->raw)
            unit_bits = MIN(unit_bits, images[i]->layout.unit_bits);
    map->images = images;
    map->n_images = n_images;
    map->chunk_bits = MIN(unit_bits + UNITS_BITS, MAX_CHUNK_BITS);
    map->kept = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, kept_free);
    g_mutex_init(&map->lock);
    return map;
}

void diskmap_free(DiskMap *map)
{
    if (!map)
        return;
    g_hash_table_unref(map->kept);
    g_mutex_clear(&map->lock);
    g_free(map);
}

void map_chunk_unref(MapChunk *chunk)
{
    if (g_atomic_int_dec_and_test(&chunk->references))
        g_free(chunk);
}

/* The kept chunk at @offset, or NULL. Under the lock. */
static MapChunk *look_up(DiskMap *map, guint64 offset)
{
    Kept *kept = g_hash_table_lookup(map->kept, &offset);
    if (!kept)
        return NULL;
    if (map->used.head != &kept->link) {
        g_queue_unlink(&map->used, &kept->link);
        g_queue_push_head_link(&map->used, &kept->link);
    }
    g_atomic_int_inc(&kept->chunk->references);
    return kept->chunk;
}

/* Under the lock. The one that is kept last stays, whatever its size. */
static void keep(DiskMap *map, MapChunk *chunk)
{
    Kept *kept = g_new0(Kept, 1);
    g_atomic_int_inc(&chunk->references);
    kept->offset = chunk->offset;
    kept->chunk = chunk;
    kept->bytes = sizeof *kept + sizeof *chunk + chunk->n_extents * sizeof *chunk->extents;
    kept->link.data = kept;
    g_hash_table_insert(map->kept, &kept->offset, kept);
    g_queue_push_head_link(&map->used, &kept->link);
    map->bytes += kept->bytes;
    while (map->bytes > MAX_BYTES && map->used.length > 1) {
        Kept *last = map->used.tail->data;
        map->bytes -= last->bytes;
        g_queue_unlink(&map->used, &last->link);
        g_hash_table_remove(map->kept, &last->offset);
    }
}

MapChunk *diskmap_chunk(DiskMap *map, guint64 offset, GError **error)
{
    offset = offset >> map->chunk_bits << map->chunk_bits;
    g_mutex_lock(&map->lock);
    MapChunk *chunk = look_up(map, offset);
    g_mutex_unlock(&map->lock);
    if (chunk)
        return chunk;

    guint64 length = MIN((guint64)1 << map->chunk_bits, map->images[0]->size - offset);
    chunk = flatten(map->images, map->n_images, offset, length, error);
    if (!chunk)
        return NULL;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&map->lock);
    MapChunk *other = look_up(map, offset); /* another thread's, made meanwhile: the same */
    if (other) {
        map_chunk_unref(chunk);
        return other;
    }
    keep(map, chunk);
    return chunk;
}

guint64 diskmap_zeros_until(const DiskMap *map, guint64 offset)
{
    guint64 until = map->images[0]->size;
    for (guint i = 0; i < map->n_images && until > offset; i++) {
        const DiskImage *image = map->images[i];
        if (offset >= image->size) /* nothing below it counts */
            break;
        if (image->raw)
            return offset;
        /* behind its end are zeros, but until there others decide */
        guint64 limit = MIN(until, image->size);
        guint64 nothing = qcow2_nothing_until(image->file, &image->layout, offset, limit);
        if (nothing < limit || i + 1 < map->n_images)
            until = nothing;
    }
    /* whole chunks: of one that begins so, the rest may be damaged, and then it has no reading at all */
    return until == map->images[0]->size ? until : until >> map->chunk_bits << map->chunk_bits;
}

guint map_chunk_find(const MapChunk *chunk, guint64 offset)
{
    guint32 in_chunk = (guint32)(offset - chunk->offset);
    guint low = 0, high = chunk->n_extents;
    while (high - low > 1) {
        guint middle = low + (high - low) / 2;
        if (chunk->extents[middle].start <= in_chunk)
            low = middle;
        else
            high = middle;
    }
    return low;
}

guint64 map_chunk_end(const MapChunk *chunk, guint index)
{
    return chunk->offset + (index + 1 < chunk->n_extents ? chunk->extents[index + 1].start : chunk->length);
}
