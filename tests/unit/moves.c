/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "moves.h"

#include <sys/wait.h>

#include "merge_job.h"

/* What a move comes to. */
typedef struct {
    MoveKind kind;
    char *name, *to, *specs, *xml, *target, *path, *command;
    GBytes *content;
    GHashTable *left_out; /* of a create: set of targets */
    GHashTable *paths;    /* target -> path, of the disks there are */
    DeleteFlags flags;
    guint64 size;
    gboolean discard;
    gboolean refused; /* it must fail, and change nothing */
} Deed;

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
    [MOVE_CLONE] = {"clone", 2},          [MOVE_DROP_CLONE] = {"drop the clone", 3},
    [MOVE_ATTACH] = {"attach", 3, TRUE},  [MOVE_DETACH] = {"detach", 2, TRUE},
    [MOVE_REFUSED] = {"refused", 3},
};

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

static void deed_free(Deed *deed)
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
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Deed, deed_free)

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

/* --- images --- */

#define MIB_UNITS 256

static GBytes *zeros(guint units)
{
    return g_bytes_new_take(g_malloc0(units), units);
}

/* Write one to three areas; the content that is there then. *ret_text says what it was. */
static GBytes *scribble(const char *path, GBytes *content, const guint32 *r, char **ret_text)
{
    static const char *const zero_options[] = {"-z", "-z -u"};
    gsize n;
    guchar *units = g_bytes_unref_to_data(g_bytes_ref(content), &n);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(argv, g_strdup("qemu-io"));
    g_ptr_array_add(argv, g_strdup("-f"));
    g_ptr_array_add(argv, g_strdup(image_format(path)));
    for (guint i = 0; i <= r[0] % 3; i++) {
        guint32 random = r[1] * (i + 1) ^ r[2] >> (i * 3);
        gsize at = random % n, len = 1 + (random >> 10) % ((random >> 8) % 4 ? 24 : 160);
        len = MIN(len, n - at);
        guint pattern = (r[3] >> (i * 5)) % 230;
        g_autofree char *how =
            pattern < 40 ? g_strdup(zero_options[pattern % 2]) : g_strdup_printf("-P %u", pattern);
        memset(units + at, pattern < 40 ? 0 : (int)pattern, len);
        g_ptr_array_add(argv, g_strdup("-c"));
        g_ptr_array_add(argv, g_strdup_printf("write %s %zuk %zuk", how, at * 4, len * 4));
    }
    g_ptr_array_add(argv, g_strdup(path));
    g_ptr_array_add(argv, NULL);
    g_autofree char *output = NULL;
    int status = run_argv((char **)argv->pdata, &output);
    ck_assert_msg(status == 0 && !strstr(output, "fail") && !strstr(output, "rror"), "qemu-io: %s", output);
    g_autofree char *words = g_strjoinv("; ", (char **)argv->pdata + 4);
    if (ret_text)
        *ret_text = g_steal_pointer(&words);
    return g_bytes_new_take(units, n);
}

/* What the kinds of images differ in. */
static const struct {
    const char *format, *options;
    guint units;
    gboolean template;
} looks[] = {
    {"qcow2", "cluster_size=64k", MIB_UNITS, FALSE},
    {"qcow2", "cluster_size=4k", MIB_UNITS, FALSE},
    {"qcow2", "cluster_size=2M", 2 * MIB_UNITS, FALSE},
    {"raw", NULL, MIB_UNITS + 9, FALSE},
    {"qcow2", "cluster_size=64k,extended_l2=on", MIB_UNITS + 44, FALSE},
    {"qcow2", "cluster_size=32k", MIB_UNITS, TRUE},
    {"raw", NULL, MIB_UNITS, FALSE},
    {"qcow2", "cluster_size=16k,preallocation=metadata", MIB_UNITS, FALSE},
};

static void create_image(const char *path, guint look, const char *base)
{
    g_autofree char *size = g_strdup_printf("%uk", looks[look].units * 4);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    const char *const words[] = {"qemu-img", "create", "-q", "-f", looks[look].format};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        g_ptr_array_add(argv, (gpointer)words[i]);
    if (looks[look].options) {
        g_ptr_array_add(argv, (gpointer) "-o");
        g_ptr_array_add(argv, (gpointer)looks[look].options);
    }
    const char *const backing[] = {"-F", "qcow2", "-b", base};
    for (guint i = 0; base && i < G_N_ELEMENTS(backing); i++)
        g_ptr_array_add(argv, (gpointer)backing[i]);
    g_ptr_array_add(argv, (gpointer)path);
    g_ptr_array_add(argv, size);
    g_ptr_array_add(argv, NULL);
    int status = run_argv((char **)argv->pdata, NULL);
    ck_assert_msg(status == 0, "qemu-img create '%s': %d", path, status);
}

static void own_file(Mirror *mirror, const char *path, GBytes *content)
{
    g_hash_table_insert(mirror->mine, g_strdup(path), NULL);
    g_hash_table_insert(mirror->kept, g_strdup(path), g_bytes_ref(content));
}

/* A file of the user's: an image with something in it, outside of the domain until it is attached as @target. */
static char *make_image(Story *story, const char *target, const guint32 *r)
{
    guint look = r[0] % G_N_ELEMENTS(looks);
    Mirror *mirror = story->mirror;
    g_autofree char *name = g_strdup_printf("%s%u.img", target, g_hash_table_size(mirror->mine));
    char *path = world_path(story->world, name);
    g_autoptr(GBytes) below = zeros(looks[look].units);
    g_autofree char *base = g_strconcat(path, ".below", NULL);
    if (looks[look].template) {
        create_image(base, 0, NULL);
        g_autoptr(GBytes) content = scribble(base, below, r, NULL);
        own_file(mirror, base, content);
        g_bytes_unref(below);
        below = g_bytes_ref(content);
    }
    g_autofree char *relative = g_strconcat("./", strrchr(base, '/') + 1, NULL);
    create_image(path, look, looks[look].template ? relative : NULL);
    const guint32 other[] = {r[1], r[2], r[3], r[0]};
    g_autoptr(GBytes) content = scribble(path, below, other, NULL);
    own_file(mirror, path, content);
    g_hash_table_insert(mirror->outside, g_strdup(path), g_strdup(target));
    return path;
}

/* --- definitions --- */

/* The domain with the disks @paths. The uuid is that of the first name. */
static char *document_of(const char *domain, GHashTable *paths)
{
    g_autoptr(GString) disks = g_string_new(NULL);
    g_autoptr(GPtrArray) targets = mirror_keys(paths);
    for (guint i = 0; i < targets->len; i++) {
        const char *path = g_hash_table_lookup(paths, targets->pdata[i]);
        g_autofree char *disk = disk_element(targets->pdata[i], image_format(path), path, "", "");
        g_string_append(disks, disk);
    }
    g_autofree char *plain = domain_document("web", disks->str);
    g_autoptr(GString) xml = g_string_new(plain);
    g_autofree char *name = g_strdup_printf("<name>%s</name>", domain);
    g_string_replace(xml, "<name>web</name>", name, 1);
    return g_strdup(xml->str);
}

Story *story_new(char *dir, GRand *rand)
{
    Story *story = g_new0(Story, 1);
    story->world = world_new(dir);
    story->mirror = mirror_new("web");
    story->text = g_string_new(NULL);
    g_autoptr(GHashTable) paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    guint n = (guint)g_rand_int_range(rand, 1, 4), first = g_rand_int(rand) % G_N_ELEMENTS(looks);
    for (guint i = 0; i < n; i++) {
        const char target[] = {'v', 'd', (char)('a' + i), '\0'};
        const guint32 r[] = {first + i * 3, g_rand_int(rand), g_rand_int(rand), g_rand_int(rand)};
        char *path = make_image(story, target, r);
        g_autoptr(GBytes) content = g_bytes_ref(g_hash_table_lookup(story->mirror->kept, path));
        mirror_attach(story->mirror, target, path, content);
        g_hash_table_insert(paths, g_strdup(target), path);
        g_string_append_printf(
            story->text, "%s%s: %s %s", i ? ", " : "", target, looks[r[0] % G_N_ELEMENTS(looks)].format,
            looks[r[0] % G_N_ELEMENTS(looks)].options ? looks[r[0] % G_N_ELEMENTS(looks)].options : "");
    }
    g_autofree char *xml = document_of("web", paths);
    world_assert_define_taken(story->world, xml);
    return story;
}

void story_free(Story *story)
{
    world_free(story->world);
    mirror_free(story->mirror);
    g_string_free(story->text, TRUE);
    g_free(story);
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

/* --- doing it --- */

/* What is in the way of a merge: of a clone we know, and a disk that was made smaller need not be mended. */
static gboolean merge_all(World *world, const Mirror *mirror, GError **error)
{
    g_autoptr(GHashTable) told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GError) why = NULL;
    gboolean ok = merge_domain((Core *)world->engine, world_domain(world, mirror->domain), told, NULL, &why);
    if (!ok && !(why->code == EBUSY && g_hash_table_size(mirror->clones) > 0)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    GHashTableIter iter;
    gpointer line;
    g_hash_table_iter_init(&iter, told);
    while (g_hash_table_iter_next(&iter, &line, NULL))
        if (g_hash_table_size(mirror->clones) == 0 && !strstr(line, "is smaller than")) {
            snap_set_error(error, EIO, "%s", (char *)line);
            return FALSE;
        }
    return TRUE;
}

static gboolean revert(World *world, const Mirror *mirror, const Deed *deed, GError **error)
{
    const RevertRequest request = {.name = deed->name, .discard = deed->discard};
    return world->engine->ops->revert(world->engine, world_domain(world, mirror->domain), &request, NULL,
                                      error);
}

static gboolean act(World *world, const Mirror *mirror, const Deed *deed, GError **error)
{
    switch (deed->kind) {
    case MOVE_CREATE:
        return world_try_create(world, mirror->domain, deed->name, deed->specs, error);
    case MOVE_REVERT:
        return revert(world, mirror, deed, error);
    case MOVE_UNDO:
        return world_try_undo(world, mirror->domain, error);
    case MOVE_DELETE:
        return world_try_delete(world, mirror->domain, deed->name, deed->flags, error);
    case MOVE_RENAME:
        return world_try_rename(world, mirror->domain, deed->name, deed->to, error);
    case MOVE_RENAME_DOMAIN:
        return world_try_rename(world, mirror->domain, NULL, deed->to, error);
    case MOVE_MERGE:
        return merge_all(world, mirror, error);
    case MOVE_REMOUNT:
        world_reopen(world);
        return TRUE;
    case MOVE_ATTACH:
    case MOVE_DETACH:
        return world_try_define(world, deed->xml, error);
    default:
        return TRUE; /* was done when it was decided */
    }
}

/* Deleted with its metadata only: its layers and tags are the user's. */
static void keep_states(const Story *story, Mirror *mirror, const Deed *deed)
{
    g_autoptr(Mirror) after = mirror_copy(mirror);
    mirror_delete(after, deed->name, deed->flags);
    for (guint i = 0; i < mirror->states->len; i++) {
        const MirrorState *state = mirror->states->pdata[i];
        GHashTableIter iter;
        gpointer target, content;
        g_hash_table_iter_init(&iter, state->disks);
        while (!mirror_find(after, state->name) && g_hash_table_iter_next(&iter, &target, &content)) {
            g_autofree char *tag = NULL;
            char *path = world_layer(story->world, mirror->domain, state->name, target, &tag);
            char *key = tag ? g_strconcat(path, "\t", tag, NULL) : g_strdup(path);
            g_hash_table_insert(mirror->kept, key, g_bytes_ref(content));
            g_free(path);
        }
    }
    mirror->released = TRUE;
}

/* Say it to @mirror; FALSE: nobody knows what should come of it. Before it is done. */
static gboolean tell(const Story *story, Mirror *mirror, const Deed *deed)
{
    switch (deed->kind) {
    case MOVE_WRITE:
    case MOVE_RESIZE:
        mirror_write(mirror, deed->target, deed->content);
        return TRUE;
    case MOVE_CREATE:
        mirror_create(mirror, deed->name, deed->left_out, deed->paths);
        return TRUE;
    case MOVE_REVERT:
        return mirror_revert(mirror, deed->name, deed->discard, deed->paths);
    case MOVE_UNDO:
        return mirror_undo(mirror, deed->paths);
    case MOVE_DELETE:
        if (deed->flags & DELETE_METADATA)
            keep_states(story, mirror, deed);
        mirror_delete(mirror, deed->name, deed->flags);
        return TRUE;
    case MOVE_RENAME:
        mirror_rename(mirror, deed->name, deed->to);
        return TRUE;
    case MOVE_RENAME_DOMAIN:
        g_free(mirror->domain);
        mirror->domain = g_strdup(deed->to);
        return TRUE;
    case MOVE_ATTACH:
        mirror_attach(mirror, deed->target, deed->path, g_hash_table_lookup(mirror->kept, deed->path));
        return TRUE;
    case MOVE_DETACH:
        mirror_detach(mirror, deed->target, deed->path);
        return TRUE;
    default:
        return TRUE;
    }
}

static void describe(Story *story, const Move *move, const Deed *deed)
{
    g_string_assign(story->text, kinds[deed->kind].name);
    const char *const words[] = {deed->name,   deed->to,
                                 deed->target, deed->path ? strrchr(deed->path, '/') + 1 : NULL,
                                 deed->specs,  deed->command};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (words[i])
            g_string_append_printf(story->text, " '%s'", words[i]);
    if (deed->flags)
        g_string_append_printf(story->text, "%s%s%s", deed->flags & DELETE_CHILDREN ? " --children" : "",
                               deed->flags & DELETE_CHILDREN_ONLY ? " --children-only" : "",
                               deed->flags & DELETE_METADATA ? " --metadata" : "");
    g_string_append(story->text, deed->discard ? " --discard" : "");
    g_string_append(story->text, deed->refused ? " (to be refused)" : "");
    if (move->crash && kinds[deed->kind].engine && !deed->refused)
        g_string_append_printf(story->text, " (dies at point %u)", move->crash);
}

/* --- dying --- */

/* Do it in a process that dies at that point. FALSE: it failed instead. */
static gboolean act_and_die(Story *story, const Deed *deed, guint point)
{
    world_close(story->world);
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        g_autoptr(GError) error = NULL;
        world_open(story->world);
        trap_set(TRAP_EXIT, point, 0);
        gboolean ok = act(story->world, story->mirror, deed, &error);
        trap_set(TRAP_OFF, 0, 0);
        if (!ok)
            printf("# %s\n", error->message);
        fflush(stdout);
        _exit(ok ? 0 : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) /* a qemu-img that it left at work */
        ;
    world_open(story->world);
    return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == TRAP_EXIT_CODE);
}

static void adopt(Story *story, Mirror **after)
{
    mirror_free(story->mirror);
    story->mirror = g_steal_pointer(after);
}

/* The state before or the one after; never anything between. */
static char *compare_either(Story *story, Mirror **after)
{
    g_autofree char *not_before = mirror_compare(story->mirror, story->world);
    g_autofree char *not_after = mirror_compare(*after, story->world);
    if (not_before && not_after)
        return g_strdup_printf("neither before (%s) nor after (%s)", not_before, not_after);
    gboolean open = !not_before && !not_after && (story->mirror->undo || (*after)->undo);
    if (!not_after)
        adopt(story, after);
    story->mirror->undo_open = story->mirror->undo_open || open;
    return NULL;
}

/* --- playing --- */

static char *play(Story *story, const Move *move, const Deed *deed, Mirror **after, Played *ret_played)
{
    g_autoptr(GError) error = NULL;
    if (move->crash && kinds[deed->kind].engine && !deed->refused) {
        *ret_played = PLAYED_CRASH;
        return act_and_die(story, deed, move->crash) ? compare_either(story, after) : g_strdup("it failed");
    }
    *ret_played = PLAYED;
    gboolean ok = act(story->world, story->mirror, deed, &error);
    if (ok == deed->refused)
        return g_strdup(ok ? "it was taken" : error->message);
    if (ok)
        adopt(story, after);
    char *wrong = mirror_compare(story->mirror, story->world);
    return wrong || deed->kind != MOVE_MERGE ? wrong : mirror_compare_files(story->mirror, story->world);
}

char *story_play(Story *story, const Move *move, Played *ret_played)
{
    g_autoptr(Deed) deed = g_new0(Deed, 1);
    *ret_played = PLAYED_NOTHING;
    g_string_truncate(story->text, 0);
    deed->kind = move->kind;
    deed->paths = present_paths(story);
    if (!decisions[move->kind](story, move, deed))
        return NULL;
    g_autoptr(Mirror) after = mirror_copy(story->mirror);
    if (!deed->refused && !tell(story, after, deed))
        return NULL;
    describe(story, move, deed);
    return play(story, move, deed, &after, ret_played);
}
