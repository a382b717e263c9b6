/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "changes.h"

#include <errno.h>

#include "diskdiff.h"
#include "error.h"
#include "names.h"

typedef struct {
    const Snapshot *snapshot;
    const ChangesSource *source;
    GCancellable *cancel;
    GString *text;
} Changes;

/* One line, whatever a path in it holds. */
static void remark(Changes *changes, const char *target, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void remark(Changes *changes, const char *target, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *said = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *line = name_one_line(said);
    g_string_append_printf(changes->text, "# %s: %s\n", target, line);
}

static DiskReader *open_state(Changes *changes, const StateDisk *disk, GError **error)
{
    return changes->source->open(changes->source->user, disk->object.id, changes->cancel, error);
}

/* The whole disk, as long as it is at least. */
static void tell_all(Changes *changes, const char *target, const DiskReader *old, const DiskReader *now)
{
    guint64 size = MAX(old ? old->size : 0, now ? now->size : 0);
    if (now)
        g_string_append_printf(changes->text, "%s 0 %" G_GUINT64_FORMAT "\n", target, size);
    else
        g_string_append_printf(changes->text, "%s 0 ?\n", target);
}

static void tell_ranges(Changes *changes, const char *target, const DiskDiff *diff)
{
    if (diff->guessed)
        remark(changes, target,
               "where some of its bytes are stored is not known here: all of these count as changed");
    if (diff->joined)
        remark(changes, target, "ranges less than %" G_GUINT64_FORMAT " bytes apart were joined",
               diff->joined);
    for (guint i = 0; i < diff->ranges->len; i++) {
        const DiskRange *range = &g_array_index(diff->ranges, DiskRange, i);
        g_string_append_printf(changes->text, "%s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\n", target,
                               range->offset, range->length);
    }
}

/* How long it is, and was. */
static void tell_size(Changes *changes, const char *target, const DiskReader *old, const DiskReader *now)
{
    if (old && old->size != now->size)
        remark(changes, target, "%" G_GUINT64_FORMAT " bytes, in the parent %" G_GUINT64_FORMAT, now->size,
               old->size);
    else
        remark(changes, target, "%" G_GUINT64_FORMAT " bytes", now->size);
}

/* @before: the disk in the parent, NULL: it took no part. FALSE: interrupted. */
static gboolean tell_disk(Changes *changes, const StateDisk *before, const StateDisk *after, GError **error)
{
    const char *target = after->target;
    g_autoptr(GError) why = NULL;
    g_auto(DiskDiff) diff = {0};
    g_autoptr(DiskReader) now = open_state(changes, after, &why);
    g_autoptr(DiskReader) old = now && before ? open_state(changes, before, &why) : NULL;
    if (now)
        tell_size(changes, target, old, now);
    if (!before && changes->snapshot->parent)
        remark(changes, target, "it took no part in the parent: all its data is listed");
    if (!why && disk_diff(old, now, CHANGES_MAX, changes->cancel, &diff, &why)) {
        tell_ranges(changes, target, &diff);
        return TRUE;
    }
    if (snap_errno(why) == EINTR) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    remark(changes, target, "%s%s: taken as changed as a whole",
           now && before && !old ? "in the parent: " : "", why->message);
    tell_all(changes, target, old, now);
    return TRUE;
}

static void tell_head(Changes *changes, const Snapshot *parent)
{
    g_autofree char *entry = parent ? name_to_entry(parent->name, NAME_SNAPSHOT) : NULL;
    if (entry)
        g_string_append_printf(changes->text, "# DISK START LENGTH: bytes that differ from '%s'\n", entry);
    else
        g_string_append(changes->text, "# DISK START LENGTH: all data, for there is no parent\n");
}

char *changes_text(const Snapshot *snapshot, const ChangesSource *source, GCancellable *cancel,
                   GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    Changes changes = {.snapshot = snapshot, .source = source, .cancel = cancel, .text = text};
    tell_head(&changes, snapshot->parent);
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *after = snapshot->disks->pdata[i];
        const StateDisk *before =
            snapshot->parent ? snapshot_find_disk(snapshot->parent, after->target) : NULL;
        if (!tell_disk(&changes, before, after, error))
            return NULL;
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}
