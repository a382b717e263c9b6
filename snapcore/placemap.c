/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "placemap.h"

#include <errno.h>

#include "diskdiff.h"
#include "error.h"

#define SEVERAL G_MAXUINT

/* Bytes [at, end) of a file that @owner has. */
typedef struct {
    guint64 at;
    guint64 end;
    guint owner; /* or SEVERAL */
} Mark;

typedef struct {
    guint64 dev;
    guint64 ino;
    GArray *marks; /* of Mark, sorted, none overlapping the next */
} Marked;

struct PlaceMap {
    GHashTable *files; /* set of Marked */
    guint n_marks;     /* of all */
};

/* --- the places of a disk --- */

void places_clear(Places *places)
{
    g_clear_pointer(&places->places, g_array_unref);
}

static gint compare_places(gconstpointer a, gconstpointer b)
{
    const Place *x = a, *y = b;
    if (x->dev != y->dev)
        return x->dev < y->dev ? -1 : 1;
    if (x->ino != y->ino)
        return x->ino < y->ino ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* Sort, and join what touches or overlaps: pieces of one compressed cluster do. */
static void tidy(GArray *places)
{
    guint n = 0;
    g_array_sort(places, compare_places);
    for (guint i = 0; i < places->len; i++) {
        const Place *next = &g_array_index(places, Place, i);
        Place *last = n > 0 ? &g_array_index(places, Place, n - 1) : NULL;
        if (last && last->dev == next->dev && last->ino == next->ino && next->at <= last->end)
            last->end = MAX(last->end, next->end);
        else
            g_array_index(places, Place, n++) = *next;
    }
    g_array_set_size(places, n);
}

gboolean places_read(DiskReader *reader, guint64 from, guint64 end, guint max, GCancellable *cancel,
                     Places *ret_places, GError **error)
{
    DiskExtent extent;
    g_auto(Places) found = {.places = g_array_new(FALSE, FALSE, sizeof(Place))};
    end = MIN(end, reader->size);
    for (guint64 offset = from; offset < end; offset += extent.length) {
        if (g_cancellable_is_cancelled(cancel)) {
            snap_set_error(error, EINTR, "interrupted");
            return FALSE;
        }
        if (!disk_extent_at(reader, offset, &extent, error))
            return FALSE;
        found.unknown = found.unknown || (extent.data && !extent.known);
        if (!extent.data || !extent.known)
            continue;
        /* What is not compressed can be cut. */
        guint64 stored = extent.stored == extent.length ? MIN(extent.stored, end - offset) : extent.stored;
        Place place = {extent.dev, extent.ino, extent.at, extent.at + MIN(stored, G_MAXUINT64 - extent.at)};
        g_array_append_val(found.places, place);
        if (found.places->len > max) {
            snap_set_error(error, E2BIG, "it is in too many pieces");
            return FALSE;
        }
    }
    tidy(found.places);
    *ret_places = found;
    found.places = NULL;
    return TRUE;
}

guint64 places_bytes(const Places *places)
{
    guint64 bytes = 0;
    for (guint i = 0; i < places->places->len; i++) {
        const Place *place = &g_array_index(places->places, Place, i);
        bytes += place->end - place->at;
    }
    return bytes;
}

/* --- who has them --- */

static guint marked_hash(gconstpointer key)
{
    const Marked *file = key;
    return (guint)(file->ino ^ file->ino >> 32 ^ file->dev * 31);
}

static gboolean marked_equal(gconstpointer a, gconstpointer b)
{
    const Marked *x = a, *y = b;
    return x->dev == y->dev && x->ino == y->ino;
}

static void marked_free(gpointer data)
{
    g_array_unref(((Marked *)data)->marks);
    g_free(data);
}

PlaceMap *place_map_new(void)
{
    PlaceMap *map = g_new0(PlaceMap, 1);
    map->files = g_hash_table_new_full(marked_hash, marked_equal, marked_free, NULL);
    return map;
}

void place_map_free(PlaceMap *map)
{
    if (!map)
        return;
    g_hash_table_unref(map->files);
    g_free(map);
}

static void emit(GArray *marks, guint64 at, guint64 end, guint owner)
{
    Mark *last = marks->len > 0 ? &g_array_index(marks, Mark, marks->len - 1) : NULL;
    Mark more = {at, end, owner};
    if (at >= end)
        return;
    if (last && last->end == at && last->owner == owner)
        last->end = end;
    else
        g_array_append_val(marks, more);
}

/* @old, and beside them @n places of @owner: both sorted, so is what comes of it. */
static GArray *merge_marks(const GArray *old, const Place *places, guint n, guint owner)
{
    GArray *merged = g_array_sized_new(FALSE, FALSE, sizeof(Mark), old->len + n);
    guint next_mark = 0, next_place = 0;
    guint64 done = 0; /* everything below is in @merged */
    while (next_mark < old->len || next_place < n) {
        const Mark none = {G_MAXUINT64, G_MAXUINT64, SEVERAL};
        const Mark *mark = next_mark < old->len ? &g_array_index(old, Mark, next_mark) : &none;
        const Place *place = next_place < n ? &places[next_place] : NULL;
        guint64 mark_at = MAX(mark->at, done), place_at = place ? MAX(place->at, done) : G_MAXUINT64;
        if (mark_at < place_at) {
            done = MIN(mark->end, place_at);
            emit(merged, mark_at, done, mark->owner);
        } else if (place_at < mark_at) {
            done = MIN(place->end, mark_at);
            emit(merged, place_at, done, owner);
        } else {
            done = MIN(mark->end, place ? place->end : G_MAXUINT64);
            emit(merged, mark_at, done, mark->owner == owner ? owner : SEVERAL);
        }
        next_mark += next_mark < old->len && mark->end <= done;
        next_place += place && place->end <= done;
    }
    return merged;
}

static Marked *take_file(PlaceMap *map, const Place *place)
{
    Marked key = {place->dev, place->ino, NULL};
    Marked *file = g_hash_table_lookup(map->files, &key);
    if (file)
        return file;
    file = g_new(Marked, 1);
    *file = (Marked){place->dev, place->ino, g_array_new(FALSE, FALSE, sizeof(Mark))};
    g_hash_table_add(map->files, file);
    return file;
}

void place_map_add(PlaceMap *map, guint owner, const Places *places)
{
    guint n;
    for (guint i = 0; i < places->places->len; i += n) {
        const Place *first = &g_array_index(places->places, Place, i);
        for (n = 1; i + n < places->places->len && first[n].dev == first->dev && first[n].ino == first->ino;)
            n++;
        Marked *file = take_file(map, first);
        GArray *merged = merge_marks(file->marks, first, n, owner);
        map->n_marks = map->n_marks - file->marks->len + merged->len;
        g_array_unref(file->marks);
        file->marks = merged;
    }
}

guint place_map_size(const PlaceMap *map)
{
    return map->n_marks;
}

void place_map_count(const PlaceMap *map, GArray *bytes)
{
    GHashTableIter iter;
    gpointer file;
    g_hash_table_iter_init(&iter, map->files);
    while (g_hash_table_iter_next(&iter, &file, NULL)) {
        const GArray *marks = ((Marked *)file)->marks;
        for (guint i = 0; i < marks->len; i++) {
            const Mark *mark = &g_array_index(marks, Mark, i);
            if (mark->owner != SEVERAL)
                g_array_index(bytes, guint64, mark->owner) += mark->end - mark->at;
        }
    }
}

guint64 place_map_in_file(const PlaceMap *map, guint64 dev, guint64 ino)
{
    guint64 bytes = 0;
    Marked key = {dev, ino, NULL};
    const Marked *file = g_hash_table_lookup(map->files, &key);
    for (guint i = 0; file && i < file->marks->len; i++)
        bytes += g_array_index(file->marks, Mark, i).end - g_array_index(file->marks, Mark, i).at;
    return bytes;
}
