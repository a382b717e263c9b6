/* SPDX-License-Identifier: GPL-2.0-or-later */
/* After merges: no file is there that nothing refers to, and none that should have been merged (mirror.h). */
#include "mirror.h"

/* Which files hold a state (own: as their own content), and what stands on what, by headers from there. */
typedef struct {
    GHashTable *own, *tagged; /* sets of paths */
    GHashTable *used;         /* path -> set of paths that stand on it */
} Uses;

/* @upper stands on it (NULL: it is used itself). */
static void use(Uses *uses, const char *path, const char *upper)
{
    GHashTable *uppers = g_hash_table_lookup(uses->used, path);
    g_autofree char *below = uppers ? NULL : mirror_backing(path);
    if (!uppers) {
        uppers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_hash_table_insert(uses->used, g_strdup(path), uppers);
    }
    if (upper)
        g_hash_table_add(uppers, g_strdup(upper));
    if (below)
        use(uses, below, path);
}

static void use_state(Uses *uses, const char *path, const char *tag)
{
    g_hash_table_add(tag ? uses->tagged : uses->own, g_strdup(path));
    use(uses, path, NULL);
}

static void use_table(Uses *uses, World *world, const char *domain, const char *name, GHashTable *disks)
{
    GHashTableIter iter;
    gpointer target;
    g_hash_table_iter_init(&iter, disks);
    while (g_hash_table_iter_next(&iter, &target, NULL)) {
        g_autofree char *tag = NULL;
        g_autofree char *path = world_layer(world, domain, name, target, &tag);
        use_state(uses, path, tag);
    }
}

/* What undo needs is seen nowhere: this is the engine's own word. */
static void use_undo(Uses *uses, World *world, const char *name)
{
    Core *core = (Core *)world->engine;
    EngineId id = world_domain(world, name);
    g_mutex_lock(&core->lock);
    const Domain *domain = g_hash_table_lookup(core->domains, &id);
    for (guint i = 0; domain->undo && i < domain->undo->disks->len; i++) {
        const StateDisk *disk = domain->undo->disks->pdata[i];
        use_state(uses, disk->layer->path, disk->tag);
    }
    g_mutex_unlock(&core->lock);
}

static void use_all(Uses *uses, const Mirror *mirror, World *world)
{
    use_table(uses, world, mirror->domain, NULL, mirror->now);
    for (guint i = 0; i < mirror->states->len; i++) {
        const MirrorState *state = mirror->states->pdata[i];
        use_table(uses, world, mirror->domain, state->name, state->disks);
    }
    use_undo(uses, world, mirror->domain);
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, mirror->kept);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_auto(GStrv) parts = g_strsplit(key, "\t", 2);
        use_state(uses, parts[0], parts[1]);
    }
}

/* May what is called @path stay, once merged is what can be? What holds tags is neither to go nor to be copied. */
static gboolean may_stay(const Mirror *mirror, const Uses *uses, const char *path, GHashTable *uppers)
{
    GHashTableIter iter;
    gpointer upper;
    g_hash_table_iter_init(&iter, uppers);
    return g_hash_table_contains(uses->own, path) || g_hash_table_contains(uses->tagged, path) ||
           g_hash_table_size(mirror->clones) > 0 || g_hash_table_size(uppers) != 1 ||
           (g_hash_table_iter_next(&iter, &upper, NULL) && g_hash_table_contains(uses->tagged, upper));
}

static char *compare_file(const Mirror *mirror, const Uses *uses, const char *path)
{
    GHashTable *uppers = g_hash_table_lookup(uses->used, path);
    if (g_hash_table_contains(mirror->mine, path) || (uppers && may_stay(mirror, uses, path, uppers)))
        return NULL;
    return g_strdup_printf(
        uppers ? "'%s' is no state and has one on it, and was not merged" : "nothing refers to '%s'", path);
}

char *mirror_compare_files(const Mirror *mirror, World *world)
{
    if (mirror->released)
        return NULL;
    Uses uses = {g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                 g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                 g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_hash_table_unref)};
    use_all(&uses, mirror, world);
    g_autoptr(GPtrArray) files = mirror_files(world);
    char *wrong = NULL;
    for (guint i = 0; i < files->len && !wrong; i++)
        wrong = compare_file(mirror, &uses, files->pdata[i]);
    if (wrong) {
        g_autofree char *log = world_log(world, mirror->domain);
        g_autofree char *what = wrong;
        wrong = g_strdup_printf("%s; log:\n%s", what, log);
    }
    g_hash_table_unref(uses.own);
    g_hash_table_unref(uses.tagged);
    g_hash_table_unref(uses.used);
    return wrong;
}
