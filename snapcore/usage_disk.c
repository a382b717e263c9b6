/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "usage_disk.h"

#include <errno.h>

#include "error.h"
#include "placemap.h"

/* Parts of a disk begin where the largest clusters do: a compressed one cannot be cut. */
#define SMALLEST_PART ((guint64)2 << 20)

typedef struct {
    GArray *uses;
    const UsageSource *source;
    GCancellable *cancel;
    guint max;    /* pieces at once */
    guint64 from; /* the part of the disk that is looked at */
    guint64 end;
    guint64 size;  /* of the longest one seen so far */
    GArray *total; /* of guint64, of this part: of each state */
    PlaceMap *map; /* and who has what of it */
} Part;

static void use_clear(gpointer use)
{
    g_clear_error(&((DiskUse *)use)->why);
}

GArray *disk_uses_new(void)
{
    GArray *uses = g_array_new(FALSE, TRUE, sizeof(DiskUse));
    g_array_set_clear_func(uses, use_clear);
    return uses;
}

static gboolean can_halve(const Part *part)
{
    return MIN(part->end, part->size) - part->from > SMALLEST_PART;
}

/* The first half of it is enough for this time. */
static void halve(Part *part)
{
    guint64 length = (MIN(part->end, part->size) - part->from) / 2;
    part->end = part->from + (length + SMALLEST_PART - 1) / SMALLEST_PART * SMALLEST_PART;
}

/* EINTR; E2BIG: the part is too large; what else is wrong with the state is noted. */
static gboolean add_state(Part *part, guint i, GError **error)
{
    g_auto(Places) places = {0};
    g_autoptr(GError) why = NULL;
    DiskUse *use = &g_array_index(part->uses, DiskUse, i);
    g_autoptr(DiskReader) reader = part->source->open(part->source->user, use->id, part->cancel, &why);
    part->size = MAX(part->size, reader ? reader->size : 0);
    guint max = can_halve(part) ? part->max : G_MAXUINT;
    if (reader && places_read(reader, part->from, part->end, max, part->cancel, &places, &why)) {
        place_map_add(part->map, i, &places);
        g_array_index(part->total, guint64, i) = places_bytes(&places);
        if (places.unknown)
            snap_set_error(&use->why, EOPNOTSUPP, "where its bytes are stored is not known here");
        if (!can_halve(part) || place_map_size(part->map) <= part->max)
            return TRUE;
        snap_set_error(error, E2BIG, "too many pieces");
        return FALSE;
    }
    gboolean too_large = reader && can_halve(part) && snap_errno(why) == E2BIG;
    if (!too_large && snap_errno(why) != EINTR) {
        use->why = g_steal_pointer(&why);
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* All states that can be read and are aside, or are not. */
static gboolean add_states(Part *part, gboolean aside, GError **error)
{
    for (guint i = 0; i < part->uses->len; i++) {
        const DiskUse *use = &g_array_index(part->uses, DiskUse, i);
        if (use->aside == aside && !use->why && !add_state(part, i, error))
            return FALSE;
    }
    return TRUE;
}

static void part_begin(Part *part)
{
    g_clear_pointer(&part->map, place_map_free);
    part->map = place_map_new();
    g_array_set_size(part->total, 0);
    g_array_set_size(part->total, part->uses->len); /* of zeros */
}

/* What was found in this part: who is aside has alone what nobody else has. */
static gboolean part_count(Part *part, GError **error)
{
    g_autoptr(GArray) alone = g_array_new(FALSE, TRUE, sizeof(guint64));
    g_autoptr(GArray) aside = g_array_new(FALSE, TRUE, sizeof(guint64));
    g_array_set_size(alone, part->uses->len);
    g_array_set_size(aside, part->uses->len);
    place_map_count(part->map, alone);
    if (!add_states(part, TRUE, error))
        return FALSE;
    place_map_count(part->map, aside);
    for (guint i = 0; i < part->uses->len; i++) {
        DiskUse *use = &g_array_index(part->uses, DiskUse, i);
        use->exclusive += g_array_index(use->aside ? aside : alone, guint64, i);
        use->total += g_array_index(part->total, guint64, i);
    }
    return TRUE;
}

/* Look at one part, which gets smaller until it is small enough. */
static gboolean read_part(Part *part, const FileId *file, guint64 *in_file, GError **error)
{
    for (;;) {
        g_autoptr(GError) why = NULL;
        part_begin(part);
        gboolean read = add_states(part, FALSE, &why);
        guint64 there = read && file ? place_map_in_file(part->map, file->dev, file->ino) : 0;
        if (read && part_count(part, &why)) {
            *in_file += there;
            return TRUE;
        }
        if (snap_errno(why) != E2BIG) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        halve(part);
    }
}

gboolean disk_uses_read(GArray *uses, const UsageSource *source, guint max, const FileId *file,
                        guint64 *ret_in_file, GCancellable *cancel, GError **error)
{
    Part part = {.uses = uses, .source = source, .cancel = cancel, .max = max, .end = G_MAXUINT64};
    guint64 in_file = 0, length = G_MAXUINT64;
    gboolean ok = TRUE;
    part.total = g_array_new(FALSE, TRUE, sizeof(guint64));
    do {
        part.end = length < G_MAXUINT64 - part.from ? part.from + length : G_MAXUINT64;
        ok = read_part(&part, file, &in_file, error);
        length = part.end - part.from; /* what was small enough will be again */
        part.from = part.end;
    } while (ok && part.from < part.size);
    g_array_unref(part.total);
    place_map_free(part.map);
    if (ok && ret_in_file)
        *ret_in_file = in_file;
    return ok;
}
