/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "strays.h"

#include <string.h>

#include "names.h"

/* A name of a tag is kept up to this: no snapshot's is longer, and images may hold thousands of them. */
#define MAX_NAME 300

/* --- looking --- */

static gboolean holds_tags(const Layer *layer)
{
    return layer->format == FORMAT_QCOW2 && file_id_known(&layer->file);
}

static void shorten(char *text)
{
    if (text && strlen(text) > MAX_NAME)
        text[MAX_NAME] = '\0';
}

void strays_look_layer(Backend *backend, Layer *layer)
{
    g_autoptr(ImageInfo) info = NULL;
    g_autoptr(GError) why = NULL;
    g_clear_pointer(&layer->tags, g_ptr_array_unref);
    g_clear_pointer(&layer->unreadable, g_free);
    if (!holds_tags(layer))
        return;
    if (!backend->ops->inspect(backend, layer->path, layer->format, &info, &why)) {
        layer->unreadable = g_strdup(why->message);
        return;
    }
    for (guint i = 0; i < info->tags->len; i++) {
        ImageTag *tag = info->tags->pdata[i];
        shorten(tag->id);
        shorten(tag->name);
    }
    layer->tags = g_ptr_array_ref(info->tags);
}

/* The layers that a guest may write, or that hold a snapshot's internal state. */
static GHashTable *changing_layers(const Domain *domain)
{
    GHashTable *layers = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < domain->def->disks->len; i++) {
        Layer *layer = domain_active_layer(domain, domain->def->disks->pdata[i]);
        if (layer)
            g_hash_table_add(layers, layer);
    }
    for (guint i = 0; i < domain->snapshots->len; i++) {
        const Snapshot *snapshot = domain->snapshots->pdata[i];
        for (guint k = 0; k < snapshot->disks->len; k++) {
            const StateDisk *disk = snapshot->disks->pdata[k];
            if (disk->tag)
                g_hash_table_add(layers, disk->layer);
        }
    }
    return layers;
}

void strays_look(Backend *backend, Domain *domain)
{
    g_autoptr(GHashTable) changing = changing_layers(domain);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Layer *layer = value;
        /* Of a block device nothing tells that it did not change: it has no size. */
        gboolean may_change = !layer->frozen || layer->stamp.size == 0;
        if (!layer->tags || !holds_tags(layer) || (may_change && g_hash_table_contains(changing, layer)))
            strays_look_layer(backend, layer);
    }
}

/* --- comparing --- */

static const char *const kind_words[STRAY_KINDS] = {"no tag", "several tags", "unreadable", "owed",
                                                    "unnamed"};

typedef struct {
    StrayKind kind;
    const Layer *layer;
    const StateDisk *disk; /* of LOST and TWICE */
    const Snapshot *snapshot;
    const ImageTag *tag; /* of OWED and UNNAMED */
    guint count;         /* of TWICE */
} Stray;

/* What snapshots say of one image: tag -> how often it is there. The keys are the snapshots' or the image's. */
typedef struct {
    GHashTable *named; /* tags that snapshots name */
    GHashTable *there; /* tag -> count */
} Compared;

static void compared_free(gpointer data)
{
    Compared *compared = data;
    g_hash_table_unref(compared->named);
    g_hash_table_unref(compared->there);
    g_free(compared);
}

static Compared *compared_new(const Layer *layer)
{
    Compared *compared = g_new0(Compared, 1);
    compared->named = g_hash_table_new(g_str_hash, g_str_equal);
    compared->there = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; layer->tags && i < layer->tags->len; i++) {
        char *name = ((ImageTag *)layer->tags->pdata[i])->name;
        guint count = GPOINTER_TO_UINT(g_hash_table_lookup(compared->there, name));
        g_hash_table_insert(compared->there, name, GUINT_TO_POINTER(count + 1));
    }
    return compared;
}

static void add_stray(GArray *strays, Stray stray)
{
    g_array_append_val(strays, stray);
}

/* A snapshot's internal states. @images: layer -> Compared, filled. */
static void compare_snapshot(const Snapshot *snapshot, GHashTable *images, GArray *strays)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        const Layer *layer = disk->layer;
        if (!disk->tag)
            continue;
        Compared *compared = g_hash_table_lookup(images, layer);
        if (!compared) {
            compared = compared_new(layer);
            g_hash_table_insert(images, disk->layer, compared);
        }
        g_hash_table_add(compared->named, disk->tag);
        gboolean known = layer->tags || (file_id_known(&layer->file) && layer->format != FORMAT_QCOW2);
        guint count = GPOINTER_TO_UINT(g_hash_table_lookup(compared->there, disk->tag));
        if (known && count != 1)
            add_stray(strays, (Stray){.kind = count ? STRAY_TWICE : STRAY_LOST,
                                      .layer = layer,
                                      .disk = disk,
                                      .snapshot = snapshot,
                                      .count = count});
    }
}

static void compare_layer(const Layer *layer, const Compared *compared, GArray *strays)
{
    if (layer->unreadable)
        add_stray(strays, (Stray){.kind = STRAY_UNREADABLE, .layer = layer});
    for (guint i = 0; layer->tags && i < layer->tags->len; i++) {
        const ImageTag *tag = layer->tags->pdata[i];
        if (compared && g_hash_table_contains(compared->named, tag->name))
            continue;
        gboolean owed = g_ptr_array_find_with_equal_func(layer->stale, tag->name, g_str_equal, NULL);
        add_stray(strays, (Stray){.kind = owed ? STRAY_OWED : STRAY_UNNAMED, .layer = layer, .tag = tag});
    }
}

static int compare_paths(gconstpointer a, gconstpointer b)
{
    return strcmp((*(Layer *const *)a)->path, (*(Layer *const *)b)->path);
}

/* The layers that there is something to say of: mostly none of thousands. By path. */
static GPtrArray *tagged_layers(const Domain *domain)
{
    GPtrArray *layers = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Layer *layer = value;
        if (layer->unreadable || (layer->tags && layer->tags->len > 0))
            g_ptr_array_add(layers, value);
    }
    g_ptr_array_sort(layers, compare_paths);
    return layers;
}

static GArray *find_strays(const Domain *domain)
{
    g_autoptr(GHashTable) images = g_hash_table_new_full(NULL, NULL, NULL, compared_free);
    g_autoptr(GPtrArray) layers = tagged_layers(domain);
    GArray *strays = g_array_new(FALSE, FALSE, sizeof(Stray));
    for (guint i = 0; i < domain->snapshots->len; i++)
        compare_snapshot(domain->snapshots->pdata[i], images, strays);
    for (guint i = 0; i < layers->len; i++)
        compare_layer(layers->pdata[i], g_hash_table_lookup(images, layers->pdata[i]), strays);
    return strays;
}

/* --- telling --- */

/* "'y' (id 3, 2026-11-21 10:00:00)" */
static char *describe_tag(const ImageTag *tag)
{
    g_autofree char *name = name_one_line(tag->name);
    g_autofree char *id = name_one_line(tag->id);
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_local((gint64)tag->date_sec);
    g_autofree char *when = date ? g_date_time_format(date, "%Y-%m-%d %H:%M:%S") : g_strdup("?");
    return g_strdup_printf("'%s' (id %s, %s)", name, id, when);
}

/* LOST, TWICE */
static char *describe_state(const Stray *stray)
{
    g_autofree char *name = name_one_line(stray->snapshot->name);
    g_autofree char *tag = name_one_line(stray->disk->tag);
    g_autofree char *count = stray->kind == STRAY_LOST
                                 ? g_strdup("no internal snapshot")
                                 : g_strdup_printf("%u internal snapshots", stray->count);
    return g_strdup_printf("%s: snapshot '%s' of %s: '%s' has %s '%s'", kind_words[stray->kind], name,
                           stray->disk->target, stray->layer->path, count, tag);
}

/* OWED, UNNAMED */
static char *describe_unnamed(const Stray *stray)
{
    g_autofree char *tag = describe_tag(stray->tag);
    if (stray->kind == STRAY_OWED)
        return g_strdup_printf(
            "%s: '%s' still has the internal snapshot %s of a deleted snapshot: it goes when it can",
            kind_words[stray->kind], stray->layer->path, tag);
    return g_strdup_printf("%s: '%s' has the internal snapshot %s, which no snapshot of this domain names",
                           kind_words[stray->kind], stray->layer->path, tag);
}

/* Caller frees. */
static char *describe_stray(const Stray *stray)
{
    if (stray->disk)
        return describe_state(stray);
    if (stray->tag)
        return describe_unnamed(stray);
    g_autofree char *why = name_one_line(stray->layer->unreadable);
    return g_strdup_printf("%s: '%s': %s", kind_words[stray->kind], stray->layer->path, why);
}

/* The same stray in another copy of the domain has the same key. Caller frees. */
static char *key_of(const Stray *stray)
{
    return g_strdup_printf("%u %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %s %s %s", stray->kind,
                           stray->layer->object.id, stray->snapshot ? stray->snapshot->object.id : 0,
                           stray->disk ? stray->disk->target : "", stray->tag ? stray->tag->id : "",
                           stray->tag ? stray->tag->name : "");
}

static GHashTable *known_keys(const Domain *domain)
{
    g_autoptr(GArray) strays = find_strays(domain);
    GHashTable *keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < strays->len; i++)
        g_hash_table_add(keys, key_of(&g_array_index(strays, Stray, i)));
    return keys;
}

static gboolean is_news(const Stray *stray, GHashTable *known)
{
    g_autofree char *key = known ? key_of(stray) : NULL;
    return !key || !g_hash_table_contains(known, key);
}

GPtrArray *strays_tell(const Domain *domain, const Domain *before)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) strays = find_strays(domain);
    if (strays->len == 0)
        return lines;
    g_autoptr(GHashTable) known = before ? known_keys(before) : NULL;
    for (StrayKind kind = 0; kind < STRAY_KINDS; kind++) {
        guint n = 0;
        for (guint i = 0; i < strays->len; i++) {
            const Stray *stray = &g_array_index(strays, Stray, i);
            if (stray->kind == kind && is_news(stray, known) && n++ < STRAYS_TOLD)
                g_ptr_array_add(lines, describe_stray(stray));
        }
        if (n > STRAYS_TOLD)
            g_ptr_array_add(lines, g_strdup_printf("%s: %u more", kind_words[kind], n - STRAYS_TOLD));
    }
    return lines;
}

void strays_each(const Domain *domain, StrayTell tell, gpointer user)
{
    g_autoptr(GArray) strays = find_strays(domain);
    for (guint i = 0; i < strays->len; i++) {
        const Stray *stray = &g_array_index(strays, Stray, i);
        g_autofree char *line = describe_stray(stray);
        tell(user, stray->kind, stray->layer, stray->tag ? stray->tag->name : NULL, line);
    }
}
