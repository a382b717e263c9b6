/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "story.h"

#include <jansson.h>

/* --- the model --- */

static char *key_of(const char *snapshot, const char *target)
{
    return g_strdup_printf("%s %s", snapshot ? snapshot : "", target);
}

static void remember(Story *story, const char *snapshot, const char *target, const char *hash)
{
    g_hash_table_insert(story->states, key_of(snapshot, target), g_strdup(hash));
}

static const char *remembered(const Story *story, const char *snapshot, const char *target)
{
    g_autofree char *key = key_of(snapshot, target);
    return g_hash_table_lookup(story->states, key);
}

void story_learn(Story *story, const char *target)
{
    g_autofree char *hash = world_hash(story->world, "web", NULL, target);
    remember(story, NULL, target, hash);
}

static DomainDef *definition_of(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    DomainDef *def = domain_def_parse(xml, strlen(xml), &error);
    ck_assert_msg(def != NULL, "%s", error ? error->message : "?");
    return def;
}

static gboolean has_image(const DiskDef *disk)
{
    return disk->source && (disk->type == DISK_FILE || disk->type == DISK_BLOCK);
}

Story *story_new(World *world)
{
    Story *story = g_new0(Story, 1);
    g_autoptr(DomainDef) def = definition_of(world);
    story->world = world;
    story->states = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    story->undo = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; i < def->disks->len; i++)
        if (has_image(def->disks->pdata[i]))
            story_learn(story, ((DiskDef *)def->disks->pdata[i])->target);
    return story;
}

void story_free(Story *story)
{
    g_hash_table_unref(story->states);
    g_hash_table_unref(story->undo);
    g_free(story);
}

/* --- what must be so after each step --- */

static void assert_state(Story *story, const char *snapshot, const char *target)
{
    const char *should = remembered(story, snapshot, target);
    g_autofree char *is = world_hash(story->world, "web", snapshot, target);
    ck_assert_msg(should != NULL, "nobody knows %s of '%s'", target, snapshot ? snapshot : "now");
    ck_assert_msg(strcmp(is, should) == 0, "%s of '%s' has changed", target, snapshot ? snapshot : "now");
}

/* Does any image that the domain knows stand on @path? */
static gboolean is_stood_on(World *world, const char *path)
{
    const Core *core = (Core *)world->engine;
    const Domain *domain = g_hash_table_lookup(core->by_name, "web");
    GHashTableIter iter;
    gpointer layer;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        if (g_strcmp0(((Layer *)layer)->backing, path) == 0 && access(((Layer *)layer)->path, F_OK) == 0)
            return TRUE;
    return FALSE;
}

/* What the header of the image @path says lies below it; caller frees. */
static char *backing_of(const char *path)
{
    g_autofree char *info =
        tool_output("qemu-img", "info", "--output=json", "-f", image_format(path), path, NULL);
    json_t *json = json_loads(info, 0, NULL);
    const char *full = json_string_value(json_object_get(json, "full-backing-filename"));
    char *real = full ? realpath(full, NULL) : NULL;
    json_decref(json);
    return real;
}

/* A document says of the image at @path what it really is. */
static void assert_image(const char *name, const char *path, DiskType type, ImageFormat format)
{
    struct stat st;
    ck_assert_msg(stat(path, &st) == 0, "'%s' names '%s', which is not there", name, path);
    const char *is = image_format(path);
    ck_assert_msg((type == DISK_BLOCK) == !!S_ISBLK(st.st_mode), "'%s' does not know what '%s' is", name,
                  path);
    ck_assert_msg(strcmp(is, image_format_to_string(format)) == 0, "'%s' says that '%s' is %s, but it is %s",
                  name, path, image_format_to_string(format), is);
}

/*
 * The overlay that a document names: what came after the snapshot. As long as anything did, it is there and stands on
 * the state.
 */
static void assert_overlay(World *world, const char *name, const SnapshotDisk *disk, const char *layer)
{
    if (disk->type == DISK_NETWORK || (access(disk->source, F_OK) < 0 && !is_stood_on(world, layer)))
        return;
    assert_image(name, disk->source, disk->type, disk->format);
    char *below = backing_of(disk->source);
    ck_assert_msg(g_strcmp0(below, layer) == 0, "'%s' names the overlay '%s', which stands on '%s'", name,
                  disk->source, below ? below : "nothing");
    free(below);
}

static void assert_chain(const char *name, const DiskDef *disk)
{
    assert_image(name, disk->source, disk->type, disk->format);
    for (guint i = 0; i < disk->backing->len; i++) {
        const BackingDef *below = disk->backing->pdata[i];
        if (below->path)
            assert_image(name, below->path, below->type, below->format);
    }
}

/* One disk that took part: the document's <domain> names the file that holds the state. */
static void check_disk(Story *story, const char *name, const SnapshotDef *def, const char *target)
{
    g_autofree char *tag = NULL;
    g_autofree char *layer = world_layer(story->world, "web", name, target, &tag);
    const DiskDef *then = def->domain ? domain_def_find_disk(def->domain, target) : NULL;
    const SnapshotDisk *said = snapshot_def_find_disk(def, target);
    assert_state(story, name, target);
    ck_assert_msg(said && said->mode == (tag ? MODE_INTERNAL : MODE_EXTERNAL), "%s of '%s' is recorded wrong",
                  target, name);
    if (then) {
        ck_assert_msg(strcmp(then->source, layer) == 0, "'%s' says that %s was '%s', but it is in '%s'", name,
                      target, then->source, layer);
        assert_chain(name, then);
    }
    if (!tag)
        assert_overlay(story->world, name, said, layer);
}

static void check_snapshot(Story *story, const EngineEntry *entry)
{
    World *world = story->world;
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, entry->id);
    g_autoptr(SnapshotDef) def = snapshot_def_parse(xml, strlen(xml), &error);
    ck_assert_msg(def != NULL, "'%s': %s", entry->name, error ? error->message : "?");
    g_autofree char *parent = world_parent(world, "web", entry->name);
    ck_assert_str_eq(def->name, entry->name);
    ck_assert_str_eq(def->parent ? def->parent : "-", parent);
    g_autoptr(GPtrArray) disks = world->engine->ops->disks(world->engine, entry->id);
    for (guint i = 0; i < disks->len; i++)
        check_disk(story, entry->name, def, ((EngineDisk *)disks->pdata[i])->target);
}

void story_check(Story *story)
{
    World *world = story->world;
    g_autoptr(GPtrArray) entries = world->engine->ops->list(world->engine, world_domain(world, "web"));
    g_autoptr(DomainDef) def = definition_of(world);
    for (guint i = 0; i < entries->len; i++)
        check_snapshot(story, entries->pdata[i]);
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *disk = def->disks->pdata[i];
        if (!has_image(disk))
            continue;
        assert_state(story, NULL, disk->target);
        assert_chain("domain.xml", disk);
        ck_assert_msg(file_mode(disk->source) & 0200, "the guest cannot write '%s'", disk->source);
    }
    world_check_clean(world, "web");
}

/* --- steps --- */

static void take_snapshot(Story *story, const char *name, const char *specs)
{
    World *world = story->world;
    world_create(world, "web", name, specs);
    g_autoptr(GPtrArray) disks = world->engine->ops->disks(world->engine, world_snapshot(world, "web", name));
    for (guint i = 0; i < disks->len; i++) {
        const char *target = ((EngineDisk *)disks->pdata[i])->target;
        const char *now = remembered(story, NULL, target);
        ck_assert_msg(now != NULL, "%s is not known", target);
        remember(story, name, target, now);
    }
}

/* Specs that make every disk @mode. Caller frees. */
static char *all_disks(World *world, const char *mode)
{
    g_autoptr(DomainDef) def = definition_of(world);
    GString *specs = g_string_new(NULL);
    for (guint i = 0; i < def->disks->len; i++)
        g_string_append_printf(specs, "%s,snapshot=%s ", ((DiskDef *)def->disks->pdata[i])->target, mode);
    return g_string_free(specs, FALSE);
}

static void tell_write(Story *story, char **words)
{
    world_write(story->world, "web", words[1], atoi(words[2]));
    story_learn(story, words[1]);
}

static void tell_all(Story *story, char **words)
{
    g_autofree char *specs = all_disks(story->world, words[0]);
    take_snapshot(story, words[1], specs);
}

static void tell_create(Story *story, char **words)
{
    g_autofree char *specs = g_strjoinv(" ", words + 2);
    take_snapshot(story, words[1], specs);
}

/* The states " TARGET" of @from into @to, in their place. */
static void copy_present(GHashTable *from, GHashTable *to)
{
    GHashTableIter iter;
    gpointer key, hash;
    g_hash_table_iter_init(&iter, from);
    while (g_hash_table_iter_next(&iter, &key, &hash))
        if (*(char *)key == ' ')
            g_hash_table_insert(to, g_strdup(key), g_strdup(hash));
}

static void tell_revert(Story *story, char **words)
{
    World *world = story->world;
    g_autoptr(GError) error = NULL;
    RevertRequest request = {.name = words[1]};
    for (guint i = 2; words[i]; i++) {
        request.discard |= strcmp(words[i], "--discard") == 0;
        request.delete_children |= strcmp(words[i], "--delete-children") == 0;
    }
    ck_assert(!words[2] || request.discard || request.delete_children);
    copy_present(story->states, story->undo);
    ASSERT_OK(world->engine->ops->revert(world->engine, world_domain(world, "web"), &request, NULL, &error),
              error);
    g_autoptr(GPtrArray) disks =
        world->engine->ops->disks(world->engine, world_snapshot(world, "web", words[1]));
    for (guint i = 0; i < disks->len; i++) {
        const char *target = ((EngineDisk *)disks->pdata[i])->target;
        remember(story, NULL, target, remembered(story, words[1], target));
    }
}

static void tell_undo(Story *story, char **words)
{
    world_undo(story->world, "web");
    copy_present(story->undo, story->states);
}

static void tell_delete(Story *story, char **words)
{
    g_autoptr(GError) error = NULL;
    DeleteFlags flags = g_strcmp0(words[2], "--children") == 0        ? DELETE_CHILDREN
                        : g_strcmp0(words[2], "--children-only") == 0 ? DELETE_CHILDREN_ONLY
                        : g_strcmp0(words[2], "--metadata") == 0      ? DELETE_METADATA
                                                                      : DELETE_ONE;
    ck_assert(!words[2] || flags != DELETE_ONE);
    ASSERT_OK(world_try_delete(story->world, "web", words[1], flags, &error), error);
}

static void tell_merge(Story *story, char **words)
{
    world_merge(story->world, "web");
}

static void tell_reopen(Story *story, char **words)
{
    world_reopen(story->world);
}

/* Define "web" with the disks it has but @without, and @added. */
static void redefine(World *world, const char *without, const char *added)
{
    g_autoptr(DomainDef) def = definition_of(world);
    g_autoptr(GString) disks = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *disk = def->disks->pdata[i];
        g_autofree char *element =
            disk_element(disk->target, image_format_to_string(disk->format), disk->source, "", "");
        if (g_strcmp0(disk->target, without) != 0)
            g_string_append(disks, element);
    }
    g_string_append(disks, added);
    g_autofree char *xml = domain_document("web", disks->str);
    ASSERT_OK(world_try_define(world, xml, &error), error);
}

static void tell_detach(Story *story, char **words)
{
    redefine(story->world, words[1], "");
}

static void tell_attach(Story *story, char **words)
{
    g_autofree char *path = world_path(story->world, words[2]);
    g_autofree char *disk = disk_element(words[1], image_format(path), path, "", "");
    redefine(story->world, NULL, disk);
    story_learn(story, words[1]);
}

char *world_files(World *world)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(world->images, 0, NULL);
    for (const char *entry = g_dir_read_name(dir); entry; entry = g_dir_read_name(dir))
        g_ptr_array_add(names, g_strdup(entry));
    g_ptr_array_sort(names, compare_texts);
    g_ptr_array_add(names, NULL);
    return g_strjoinv(" ", (char **)names->pdata);
}

void world_await_files(World *world, const char *files)
{
    g_autofree char *now = NULL;
    for (guint i = 0; i < 2000; i++, g_usleep(5000)) {
        g_free(now);
        now = world_files(world);
        if (strcmp(now, files) == 0)
            return;
    }
    ck_abort_msg("the files are %s, not %s", now, files);
}

static void tell_files(Story *story, char **words)
{
    g_autofree char *should = g_strjoinv(" ", words + 1);
    g_autofree char *are = world_files(story->world);
    g_autofree char *log = world_log(story->world, "web");
    ck_assert_msg(strcmp(are, should) == 0, "the files are\n%s\nnot\n%s\n%s", are, should, log);
}

static void tell_tree(Story *story, char **words)
{
    g_autofree char *should = g_strjoinv(" ", words + 1);
    g_autofree char *names = world_names(story->world, "web");
    g_auto(GStrv) list = g_strsplit(names, " ", -1);
    g_autoptr(GString) is = g_string_new(NULL);
    for (guint i = 0; list[i] && *list[i]; i++) {
        g_autofree char *parent = world_parent(story->world, "web", list[i]);
        g_string_append_printf(is, "%s%s:%s", i ? " " : "", list[i], parent);
    }
    ck_assert_str_eq(is->str, should);
}

static void tell_current(Story *story, char **words)
{
    g_autofree char *current = world_current(story->world, "web");
    ck_assert_str_eq(current, words[1]);
}

static const struct {
    const char *word;
    guint n_words; /* at least */
    void (*act)(Story *story, char **words);
} verbs[] = {{"write", 3, tell_write},   {"internal", 2, tell_all},   {"external", 2, tell_all},
             {"create", 3, tell_create}, {"revert", 2, tell_revert},  {"undo", 1, tell_undo},
             {"delete", 2, tell_delete}, {"merge", 1, tell_merge},    {"reopen", 1, tell_reopen},
             {"detach", 2, tell_detach}, {"attach", 3, tell_attach},  {"files", 1, tell_files},
             {"tree", 1, tell_tree},     {"current", 2, tell_current}};

static void tell_one(Story *story, char **words)
{
    for (gsize i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(verbs[i].word, words[0]) != 0)
            continue;
        ck_assert_uint_ge(g_strv_length(words), verbs[i].n_words);
        verbs[i].act(story, words);
        return;
    }
    ck_abort_msg("no step is called '%s'", words[0]);
}

void story_tell(Story *story, const char *steps)
{
    g_auto(GStrv) list = g_strsplit(steps, ";", -1);
    for (guint i = 0; list[i]; i++) {
        g_auto(GStrv) words = g_strsplit(g_strstrip(list[i]), " ", -1);
        if (!*list[i])
            continue;
        printf("# %s\n", list[i]); /* where it was, should it fail */
        tell_one(story, words);
        story_check(story);
    }
}

void story_of(char *dir, const char *steps)
{
    g_autoptr(World) world = world_web(dir);
    g_autoptr(Story) story = story_new(world);
    story_tell(story, steps);
}
