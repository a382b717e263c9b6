/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "usage.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "names.h"
#include "usage_disk.h"

/* What cannot be read is said so many times; more of it would hide the figures. */
#define REMARKS 20

#define LEGEND                                                                                               \
    "# bytes: EXCLUSIVE and MEMORY go with the snapshot, SHARED others need too; DEPTH in images; 12~ is "   \
    "at most 12, ? cannot be told\n"

/* A state of the whole machine. */
typedef struct {
    const Snapshot *snapshot; /* NULL: the active state */
    guint64 exclusive;
    guint64 shared;
    guint depth;
    gboolean most;      /* exclusive is at most that */
    gboolean unknown;   /* neither can be told */
    gboolean no_shared; /* shared cannot */
} Line;

/* The deepest chain of a disk. */
typedef struct {
    guint depth;
    guint line;
} Deepest;

typedef struct {
    const Domain *domain;
    const UsageSource *source;
    GCancellable *cancel;
    GArray *lines;      /* of Line: the snapshots, the active state, and what a revert keeps, if anything */
    guint active;       /* which is the active state's */
    GHashTable *depths; /* Layer -> how many images its chain has */
    GString *remarks;
    guint n_remarks;
} Usage;

static Line *line_of(Usage *usage, guint i)
{
    return &g_array_index(usage->lines, Line, i);
}

static char *line_name(Usage *usage, guint i)
{
    const Snapshot *snapshot = line_of(usage, i)->snapshot;
    return snapshot ? name_to_entry(snapshot->name, NAME_SNAPSHOT) : g_strdup("active");
}

static void remark(Usage *usage, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void remark(Usage *usage, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *said = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *line = name_one_line(said);
    if (usage->n_remarks++ < REMARKS)
        g_string_append_printf(usage->remarks, "# %s\n", line);
}

/* --- one disk --- */

static guint depth_of(Usage *usage, const Layer *layer)
{
    g_autoptr(GPtrArray) above = g_ptr_array_new(); /* of Layer whose depth is not known yet */
    guint depth = 0;
    while (layer && above->len < g_hash_table_size(usage->domain->layers)) {
        depth = GPOINTER_TO_UINT(g_hash_table_lookup(usage->depths, layer));
        if (depth > 0)
            break;
        g_ptr_array_add(above, (gpointer)layer);
        layer = domain_find_layer(usage->domain, layer->backing);
    }
    for (guint i = above->len; i > 0; i--)
        g_hash_table_insert(usage->depths, above->pdata[i - 1], GUINT_TO_POINTER(++depth));
    return depth;
}

static void add_use(GArray *uses, guint line, EngineId id, const Layer *layer, gboolean aside)
{
    DiskUse use = {.line = line, .id = id, .layer = layer, .aside = aside};
    g_array_append_val(uses, use);
}

static const Layer *active_layer(const Usage *usage, const char *target)
{
    const GPtrArray *disks = usage->domain->def->disks;
    for (guint i = 0; i < disks->len; i++) {
        const DiskDef *disk = disks->pdata[i];
        if (strcmp(disk->target, target) == 0)
            return disk->readonly ? NULL : domain_active_layer(usage->domain, disk);
    }
    return NULL;
}

/* All states of the disk. */
static GArray *uses_of(Usage *usage, const char *target)
{
    GArray *uses = disk_uses_new();
    for (guint i = 0; i < usage->lines->len; i++) {
        const Snapshot *snapshot = line_of(usage, i)->snapshot;
        const StateDisk *state = snapshot ? snapshot_find_disk(snapshot, target) : NULL;
        const Layer *layer = i == usage->active ? active_layer(usage, target) : NULL;
        if (state)
            add_use(uses, i, state->object.id, state->layer, i > usage->active);
        else if (layer)
            add_use(uses, i, layer->object.id, layer, FALSE);
    }
    return uses;
}

/* The deepest chain of a disk, if that is deep. */
static void measure_depth(Usage *usage, const char *target, const GArray *uses)
{
    Deepest deepest = {0};
    for (guint i = 0; i < uses->len; i++) {
        const DiskUse *use = &g_array_index(uses, DiskUse, i);
        guint depth = depth_of(usage, use->layer);
        Line *line = line_of(usage, use->line);
        line->depth = MAX(line->depth, depth);
        if (depth >= deepest.depth)
            deepest = (Deepest){depth, use->line};
    }
    if (deepest.depth <= USAGE_DEEP)
        return;
    g_autofree char *name = line_name(usage, deepest.line);
    remark(
        usage,
        "%s: %s is %u images deep: a guest on it reads at half the speed of a single image or less, and its "
        "QEMU needs more memory and time to start; delete what is not needed",
        target, name, deepest.depth);
}

/* The line of the state that the active one of this disk stands on; usage->active: there is none, or not a plain one. */
static guint below_active(Usage *usage, const char *target, const Layer *active)
{
    const Snapshot *snapshot = usage->domain->current;
    while (snapshot && !snapshot_find_disk(snapshot, target))
        snapshot = snapshot->parent;
    const StateDisk *state = snapshot ? snapshot_find_disk(snapshot, target) : NULL;
    gboolean inside = state && state->tag && state->layer == active;
    gboolean below = state && !state->tag && !g_strcmp0(active->backing, state->layer->path);
    for (guint i = 0; (inside || below) && i < usage->active; i++) {
        if (line_of(usage, i)->snapshot == snapshot)
            return i;
    }
    return usage->active;
}

/* What @use, of the active state that could not be read, has at most of its own: @used bytes of its file are others'. */
static gboolean bound_active(Usage *usage, const DiskUse *use, guint64 used, guint64 *ret_bytes)
{
    FileLook look;
    if (!layer_is_local(use->layer) || !file_look(use->layer->path, &look, NULL) || look.block)
        return FALSE;
    guint64 occupied = look.blocks * 512;
    used += usage->source->memory_inside(usage->source->user, use->layer);
    *ret_bytes = occupied > used ? occupied - used : 0;
    return TRUE;
}

/* The states that have bytes alone perhaps only because @failed could not be read. */
static void doubt(Usage *usage, GArray *uses, guint only, guint64 most)
{
    for (guint i = 0; i < uses->len; i++) {
        DiskUse *use = &g_array_index(uses, DiskUse, i);
        if (use->aside || (only != usage->active && use->line != only))
            continue;
        line_of(usage, use->line)->most = TRUE;
        use->exclusive = MIN(use->exclusive, most);
    }
}

/* A state of the disk that could not be read. */
static void count_unread(Usage *usage, const char *target, GArray *uses, const DiskUse *use, guint64 used)
{
    guint64 most = G_MAXUINT64;
    Line *line = line_of(usage, use->line);
    gboolean active = use->line == usage->active;
    guint below = active ? below_active(usage, target, use->layer) : usage->active;
    g_autofree char *name = line_name(usage, use->line);
    if (use->aside) {
        line->unknown = TRUE;
        return;
    }
    remark(usage, "%s: %s: %s", name, target, use->why->message);
    if (active && bound_active(usage, use, used, &most)) {
        line->exclusive += most;
        line->most = line->no_shared = TRUE;
    } else {
        line->unknown = TRUE;
    }
    doubt(usage, uses, below, below != usage->active ? most : G_MAXUINT64);
}

static gboolean measure_disk(Usage *usage, const char *target, GArray *uses, GError **error)
{
    guint64 used = 0;
    FileLook look;
    const Layer *active = active_layer(usage, target);
    gboolean looked = active && layer_is_local(active) && file_look(active->path, &look, NULL);
    if (!disk_uses_read(uses, usage->source, USAGE_PIECES, looked ? &look.id : NULL, &used, usage->cancel,
                        error))
        return FALSE;
    for (guint i = 0; i < uses->len; i++) {
        const DiskUse *use = &g_array_index(uses, DiskUse, i);
        if (use->why)
            count_unread(usage, target, uses, use, used);
    }
    for (guint i = 0; i < uses->len; i++) {
        const DiskUse *use = &g_array_index(uses, DiskUse, i);
        Line *line = line_of(usage, use->line);
        line->exclusive += use->why ? 0 : use->exclusive;
        line->shared += use->why ? 0 : use->total - use->exclusive;
    }
    return TRUE;
}

/* --- all of them --- */

static void take_targets(GPtrArray *targets, GHashTable *seen, const Snapshot *snapshot)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const char *target = ((const StateDisk *)snapshot->disks->pdata[i])->target;
        if (g_hash_table_add(seen, (gpointer)target))
            g_ptr_array_add(targets, (gpointer)target);
    }
}

/* The disks that any state has (char *, the model's), those of the definition first. */
static GPtrArray *all_targets(const Usage *usage)
{
    const Domain *domain = usage->domain;
    GPtrArray *targets = g_ptr_array_new();
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const char *target = ((const DiskDef *)domain->def->disks->pdata[i])->target;
        if (g_hash_table_add(seen, (gpointer)target))
            g_ptr_array_add(targets, (gpointer)target);
    }
    for (guint i = 0; i < domain->snapshots->len; i++)
        take_targets(targets, seen, domain->snapshots->pdata[i]);
    if (domain->undo)
        take_targets(targets, seen, domain->undo);
    return targets;
}

static void add_lines(Usage *usage)
{
    const Domain *domain = usage->domain;
    for (guint i = 0; i < domain->snapshots->len; i++) {
        Line line = {.snapshot = domain->snapshots->pdata[i]};
        g_array_append_val(usage->lines, line);
    }
    Line active = {0}, undo = {.snapshot = domain->undo};
    usage->active = usage->lines->len;
    g_array_append_val(usage->lines, active);
    if (domain->undo)
        g_array_append_val(usage->lines, undo);
}

static char *figure(guint64 bytes, gboolean unknown, gboolean most)
{
    return unknown ? g_strdup("?") : g_strdup_printf("%" G_GUINT64_FORMAT "%s", bytes, most ? "~" : "");
}

static void tell_line(Usage *usage, GString *text, guint i)
{
    guint64 bytes = 0;
    const Line *line = line_of(usage, i);
    gboolean known = usage->source->memory(usage->source->user, line->snapshot, &bytes);
    g_autofree char *exclusive = figure(line->exclusive, line->unknown, line->most);
    g_autofree char *shared = figure(line->shared, line->unknown || line->no_shared, FALSE);
    g_autofree char *memory = figure(bytes, !known, FALSE);
    g_autofree char *name = line_name(usage, i);
    g_string_append_printf(text, "%16s %16s %16s %6u  %s\n", exclusive, shared, memory, line->depth, name);
}

/* It goes with the next change, and not by itself. */
static void tell_undo(Usage *usage)
{
    const Line *line = line_of(usage, usage->active + 1);
    g_autofree char *bytes = figure(line->exclusive, line->unknown, FALSE);
    g_string_append_printf(usage->remarks, "# %s bytes are kept for revert --undo, until the next change\n",
                           bytes);
}

static char *tell(Usage *usage)
{
    GString *text = g_string_new(LEGEND);
    if (usage->n_remarks > REMARKS)
        g_string_append_printf(usage->remarks, "# %u more\n", usage->n_remarks - REMARKS);
    if (usage->active + 1 < usage->lines->len)
        tell_undo(usage);
    g_string_append_printf(text, "#%15s %16s %16s %6s  %s\n", "EXCLUSIVE", "SHARED", "MEMORY", "DEPTH",
                           "NAME");
    for (guint i = 0; i <= usage->active; i++)
        tell_line(usage, text, i);
    g_string_append(text, usage->remarks->str);
    return g_string_free(text, FALSE);
}

char *usage_text(const Domain *domain, const UsageSource *source, GCancellable *cancel, GError **error)
{
    gboolean ok = TRUE;
    g_autoptr(GArray) lines = g_array_new(FALSE, FALSE, sizeof(Line));
    g_autoptr(GHashTable) depths = g_hash_table_new(NULL, NULL);
    g_autoptr(GString) remarks = g_string_new(NULL);
    Usage usage = {.domain = domain,
                   .source = source,
                   .cancel = cancel,
                   .lines = lines,
                   .depths = depths,
                   .remarks = remarks};
    add_lines(&usage);
    g_autoptr(GPtrArray) targets = all_targets(&usage);
    for (guint i = 0; ok && i < targets->len; i++) {
        g_autoptr(GArray) uses = uses_of(&usage, targets->pdata[i]);
        measure_depth(&usage, targets->pdata[i], uses);
        ok = measure_disk(&usage, targets->pdata[i], uses, error);
    }
    return ok ? tell(&usage) : NULL;
}
