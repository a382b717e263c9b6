/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Place map: which bytes of which files one state alone has, and which several have. States are told one after the other,
 * each with all its places; only who has a place is remembered: nobody, that state, or several.
 *
 * (Why not compare each state with its parent and its children: where a snapshot with two children was deleted, those two share
 * what only it had, and neither is the other's parent; and a disk that took no part in a revert goes its own way.)
 */
#pragma once

#include <gio/gio.h>

#include "diskreader.h"

/* Bytes [at, end) of a file. */
typedef struct {
    guint64 dev;
    guint64 ino;
    guint64 at;
    guint64 end;
} Place;

/* What a state stores. */
typedef struct {
    GArray *places; /* of Place, sorted, none touching the next */
    gboolean
        unknown; /* of some data only its owner knows the place (DiskExtent.known); it is not in places */
} Places;

void places_clear(Places *places);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Places, places_clear)

/*
 * All places of the bytes [@from, @end) of a disk. E2BIG: there are more than @max; EIO; EINTR.
 */
gboolean places_read(DiskReader *reader, guint64 from, guint64 end, guint max, GCancellable *cancel,
                     Places *ret_places, GError **error);
guint64 places_bytes(const Places *places);

typedef struct PlaceMap PlaceMap;

PlaceMap *place_map_new(void);
void place_map_free(PlaceMap *map);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PlaceMap, place_map_free)

/* The state @owner has these. */
void place_map_add(PlaceMap *map, guint owner, const Places *places);

/* How much there is to remember. */
guint place_map_size(const PlaceMap *map);

/* Add to @bytes (of guint64, one for each owner) how much each has alone. */
void place_map_count(const PlaceMap *map, GArray *bytes);

/* How many bytes of that file anybody has. */
guint64 place_map_in_file(const PlaceMap *map, guint64 dev, guint64 ino);
