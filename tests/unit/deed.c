/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which moves there are, and what each comes to (moves.h). */
#include "deed.h"

static const struct {
    const char *name;
    guint weight;
    gboolean engine; /* the engine does it, and may die in between */
} kinds[N_MOVES] = {
    [MOVE_WRITE] = {"write", 20},         [MOVE_RESIZE] = {"resize", 2},
    [MOVE_CREATE] = {"create", 18, TRUE}, [MOVE_REVERT] = {"revert", 11, TRUE},
    [MOVE_UNDO] = {"undo", 5, TRUE},      [MOVE_DELETE] = {"delete", 10, TRUE},
    [MOVE_RENAME] = {"rename", 3, TRUE},  [MOVE_RENAME_DOMAIN] = {"rename the domain", 1, TRUE},
    [MOVE_MERGE] = {"merge", 10, TRUE},   [MOVE_REMOUNT] = {"remount", 3},
    [MOVE_CLONE] = {"clone", 5},          [MOVE_DROP_CLONE] = {"drop the clone", 2},
    [MOVE_ATTACH] = {"attach", 3, TRUE},  [MOVE_DETACH] = {"detach", 2, TRUE},
    [MOVE_REFUSED] = {"refused", 3},
};

gboolean move_is_engines(MoveKind kind)
{
    return kinds[kind].engine;
}

const char *move_name(MoveKind kind)
{
    return kinds[kind].name;
}

Move move_random(GRand *rand)
{
    Move move = {0};
    guint sum = 0;
    for (guint i = 0; i < N_MOVES; i++)
        sum += kinds[i].weight;
    guint at = (guint)g_rand_int_range(rand, 0, (gint32)sum);
    while (at >= kinds[move.kind].weight)
        at -= kinds[move.kind++].weight;
    for (guint i = 0; i < G_N_ELEMENTS(move.r); i++)
        move.r[i] = g_rand_int(rand);
    guint point = (guint)g_rand_int_range(rand, 1, 40);
    move.crash = g_rand_int_range(rand, 0, 6) == 0 ? point : 0;
    return move;
}

void deed_free(Deed *deed)
{
    if (!deed)
        return;
    g_free(deed->name);
    g_free(deed->to);
    g_free(deed->specs);
    g_free(deed->xml);
    g_free(deed->target);
    g_free(deed->path);
    g_free(deed->command);
    g_clear_pointer(&deed->content, g_bytes_unref);
    g_clear_pointer(&deed->left_out, g_hash_table_unref);
    g_clear_pointer(&deed->paths, g_hash_table_unref);
    g_free(deed);
}
/* --- choosing --- */

/* One of the keys, or NULL. */
static const char *pick(GHashTable *table, guint32 r)
{
    g_autoptr(GPtrArray) keys = mirror_keys(table);
    return keys->len ? keys->pdata[r % keys->len] : NULL;
}

static const MirrorState *pick_state(const Mirror *mirror, guint32 r)
{
    return mirror->states->len ? mirror->states->pdata[r % mirror->states->len] : NULL;
}

static GHashTable *present_paths(const Story *story)
{
    GHashTable *paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    GHashTableIter iter;
    gpointer target;
    g_hash_table_iter_init(&iter, story->mirror->now);
    while (g_hash_table_iter_next(&iter, &target, NULL))
        g_hash_table_insert(paths, g_strdup(target),
                            world_layer(story->world, story->mirror->domain, NULL, target, NULL));
    return paths;
}

/* Does a clone stand on it? Then its guest must not write: that would be the clone's loss, and nobody's fault. */
static gboolean is_cloned(const Mirror *mirror, const char *path)
{
    GHashTableIter iter;
    gpointer base;
    g_hash_table_iter_init(&iter, mirror->clones);
    while (g_hash_table_iter_next(&iter, NULL, &base))
        if (strcmp(base, path) == 0)
            return TRUE;
    return FALSE;
}

/* A name that no snapshot has; of the few that there are, some had it before. */
static char *free_name(const Mirror *mirror, guint32 r)
{
    const char *before = r % 5 == 0 ? "" : r % 7 == 0 ? "s " : "s"; /* digits only is a case of its own */
    for (guint i = r / 64 % 8;; i++) {
        char *name = g_strdup_printf("%s%u", before, i);
        if (!mirror_find(mirror, name))
            return name;
        g_free(name);
    }
}

/* --- what a move comes to; FALSE: nothing --- */

static gboolean decide_write(Story *story, const Move *move, Deed *deed)
{
    const char *target = pick(story->mirror->now, move->r[0]);
    const char *path = target ? g_hash_table_lookup(deed->paths, target) : NULL;
    if (!path || is_cloned(story->mirror, path))
        return FALSE;
    const guint32 r[] = {move->r[0] >> 8, move->r[1], move->r[2], move->r[3]};
    deed->target = g_strdup(target);
    deed->content = scribble(path, g_hash_table_lookup(story->mirror->now, target), r, &deed->command);
    return TRUE;
}

/* Not of an image with tags: qemu-img reads them as large as the image is now. */
static gboolean decide_resize(Story *story, const Move *move, Deed *deed)
{
    static const guint sizes[] = {MIB_UNITS, MIB_UNITS - 20, MIB_UNITS + 44, MIB_UNITS + 128};
    const char *target = pick(story->mirror->now, move->r[0]);
    const char *path = target ? g_hash_table_lookup(deed->paths, target) : NULL;
    gboolean raw = path && strcmp(image_format(path), "raw") == 0;
    g_autofree char *tags = path && !raw ? image_tags(path) : g_strdup("");
    if (!path || is_cloned(story->mirror, path) || *tags)
        return FALSE;
    guint units = sizes[move->r[1] % G_N_ELEMENTS(sizes)];
    g_autofree char *size = g_strdup_printf("%uk", units * 4);
    tool("qemu-img", "resize", "-q", "-f", raw ? "raw" : "qcow2", "--shrink", path, size, NULL);
    gsize n;
    const guchar *old = g_bytes_get_data(g_hash_table_lookup(story->mirror->now, target), &n);
    guchar *now = g_malloc0(units);
    memcpy(now, old, MIN(n, units));
    deed->target = g_strdup(target);
    deed->command = g_strdup_printf("to %u units", units);
    deed->content = g_bytes_new_take(now, units);
    return TRUE;
}

static gboolean decide_create(Story *story, const Move *move, Deed *deed)
{
    static const char *const modes[] = {NULL, "external", "internal", "external", "no"};
    const Mirror *mirror = story->mirror;
    g_autoptr(GPtrArray) targets = mirror_keys(mirror->now);
    g_autoptr(GString) specs = g_string_new(NULL);
    deed->left_out = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < targets->len; i++) {
        const char *target = targets->pdata[i], *mode = modes[(move->r[1] >> (4 * i)) % 16 % 5];
        if (move->r[0] % 6 == 0)
            mode = NULL; /* as mkdir does it */
        if (g_strcmp0(mode, "no") == 0)
            g_hash_table_add(deed->left_out, g_strdup(target));
        if (g_strcmp0(mode, "internal") == 0 &&
            strcmp(image_format(g_hash_table_lookup(deed->paths, target)), "qcow2") != 0)
            deed->refused = TRUE;
        if (mode)
            g_string_append_printf(specs, "%s%s,snapshot=%s", specs->len ? " " : "", target, mode);
    }
    deed->name = free_name(mirror, move->r[2]);
    deed->specs = g_strdup(specs->str);
    deed->refused = deed->refused || g_hash_table_size(deed->left_out) == targets->len;
    return TRUE;
}

static gboolean decide_revert(Story *story, const Move *move, Deed *deed)
{
    const MirrorState *state = pick_state(story->mirror, move->r[0]);
    deed->name = g_strdup(state ? state->name : NULL);
    deed->discard = move->r[1] % 5 == 0;
    deed->delete_children = move->r[2] % 6 == 0;
    return state != NULL;
}

static gboolean decide_undo(Story *story, const Move *move, Deed *deed)
{
    (void)move;
    deed->refused = !story->mirror->undo;
    return !story->mirror->undo_open;
}

static gboolean decide_delete(Story *story, const Move *move, Deed *deed)
{
    static const DeleteFlags flags[] = {DELETE_ONE, DELETE_ONE, DELETE_ONE, DELETE_CHILDREN,
                                        DELETE_CHILDREN_ONLY};
    const MirrorState *state = pick_state(story->mirror, move->r[0]);
    deed->name = g_strdup(state ? state->name : NULL);
    deed->flags = flags[move->r[1] % G_N_ELEMENTS(flags)] | (move->r[2] % 16 == 0 ? DELETE_METADATA : 0);
    return state != NULL;
}

static gboolean decide_rename(Story *story, const Move *move, Deed *deed)
{
    const MirrorState *state = pick_state(story->mirror, move->r[0]);
    deed->name = g_strdup(state ? state->name : NULL);
    deed->to = free_name(story->mirror, move->r[1]);
    return state != NULL;
}

static gboolean decide_rename_domain(Story *story, const Move *move, Deed *deed)
{
    static const char *const names[] = {"web", "other", "7"};
    deed->to = g_strdup(names[move->r[0] % G_N_ELEMENTS(names)]);
    return strcmp(deed->to, story->mirror->domain) != 0;
}

/* Somebody else makes an image on the active layer, or on that of a snapshot. */
static gboolean decide_clone(Story *story, const Move *move, Deed *deed)
{
    Mirror *mirror = story->mirror;
    const MirrorState *state = move->r[0] % 3 ? pick_state(mirror, move->r[1]) : NULL;
    GHashTable *disks = state ? state->disks : mirror->now;
    const char *target = pick(disks, move->r[2]);
    g_autofree char *tag = NULL;
    if (!target)
        return FALSE;
    g_autofree char *base =
        world_layer(story->world, mirror->domain, state ? state->name : NULL, target, &tag);
    if (tag)
        return FALSE;
    g_autofree char *name = g_strdup_printf("clone%u.img", g_hash_table_size(mirror->mine));
    g_autofree char *relative = g_strconcat("./", strrchr(base, '/') + 1, NULL);
    deed->path = world_path(story->world, name);
    deed->command = g_strdup_printf("'%s' on '%s'", name, relative);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", image_format(base), "-b", relative, deed->path,
         NULL);
    g_autoptr(GBytes) content = scribble(deed->path, g_hash_table_lookup(disks, target), move->r, NULL);
    own_file(mirror, deed->path, content);
    g_hash_table_insert(mirror->clones, g_strdup(deed->path), g_steal_pointer(&base));
    return TRUE;
}

static gboolean decide_drop_clone(Story *story, const Move *move, Deed *deed)
{
    Mirror *mirror = story->mirror;
    deed->path = g_strdup(pick(mirror->clones, move->r[0]));
    if (!deed->path)
        return FALSE;
    ck_assert_int_eq(unlink(deed->path), 0);
    g_hash_table_remove(mirror->clones, deed->path);
    g_hash_table_remove(mirror->kept, deed->path);
    return TRUE;
}

/* An image that was taken out, under the target that it had, or a new one. */
static gboolean decide_attach(Story *story, const Move *move, Deed *deed)
{
    Mirror *mirror = story->mirror;
    const char target[] = {'v', 'd', (char)('a' + move->r[0] % 5), '\0'};
    deed->path = move->r[1] % 2 ? g_strdup(pick(mirror->outside, move->r[2])) : NULL;
    deed->target = g_strdup(deed->path ? g_hash_table_lookup(mirror->outside, deed->path) : target);
    if (g_hash_table_contains(mirror->now, deed->target) ||
        (!deed->path && g_hash_table_size(mirror->now) >= 3))
        return FALSE;
    if (!deed->path)
        deed->path = make_image(story, target, move->r);
    g_hash_table_insert(deed->paths, g_strdup(deed->target), g_strdup(deed->path));
    deed->xml = document_of(mirror->domain, deed->paths);
    return TRUE;
}

static gboolean decide_detach(Story *story, const Move *move, Deed *deed)
{
    const char *target = pick(story->mirror->now, move->r[0]);
    if (g_hash_table_size(story->mirror->now) < 2)
        return FALSE;
    deed->target = g_strdup(target);
    deed->path = g_strdup(g_hash_table_lookup(deed->paths, target));
    g_hash_table_remove(deed->paths, target);
    deed->xml = document_of(story->mirror->domain, deed->paths);
    return TRUE;
}

static gboolean decide_always(Story *story, const Move *move, Deed *deed)
{
    (void)story;
    (void)move;
    (void)deed;
    return TRUE;
}

/* Something that must be refused. */
static gboolean decide_refused(Story *story, const Move *move, Deed *deed)
{
    static const MoveKind words[] = {MOVE_REVERT, MOVE_CREATE, MOVE_RENAME};
    const Mirror *mirror = story->mirror;
    const MirrorState *state = pick_state(mirror, move->r[1]);
    deed->refused = TRUE;
    deed->kind = words[move->r[0] % G_N_ELEMENTS(words)];
    deed->name = g_strdup(state ? state->name : "nobody");
    if (deed->kind == MOVE_REVERT)
        *deed->name = '%';
    if (deed->kind == MOVE_CREATE && !state)
        *deed->name = '.';
    deed->to =
        g_strdup(deed->kind == MOVE_RENAME && state ? ((MirrorState *)mirror->states->pdata[0])->name : NULL);
    return deed->kind != MOVE_RENAME || state;
}

static gboolean (*const decisions[N_MOVES])(Story *story, const Move *move, Deed *deed) = {
    [MOVE_WRITE] = decide_write,     [MOVE_RESIZE] = decide_resize,
    [MOVE_CREATE] = decide_create,   [MOVE_REVERT] = decide_revert,
    [MOVE_UNDO] = decide_undo,       [MOVE_DELETE] = decide_delete,
    [MOVE_RENAME] = decide_rename,   [MOVE_RENAME_DOMAIN] = decide_rename_domain,
    [MOVE_MERGE] = decide_always,    [MOVE_REMOUNT] = decide_always,
    [MOVE_CLONE] = decide_clone,     [MOVE_DROP_CLONE] = decide_drop_clone,
    [MOVE_ATTACH] = decide_attach,   [MOVE_DETACH] = decide_detach,
    [MOVE_REFUSED] = decide_refused,
};

Deed *deed_decide(Story *story, const Move *move)
{
    g_autoptr(Deed) deed = g_new0(Deed, 1);
    deed->kind = move->kind;
    deed->paths = present_paths(story);
    return decisions[move->kind](story, move, deed) ? g_steal_pointer(&deed) : NULL;
}
