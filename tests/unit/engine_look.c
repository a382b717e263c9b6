/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking at a world: names, places, contents by hash, all of it as one text (engine_world.h). */
#include "engine_world.h"

#include <jansson.h>

/* The format by the file's first bytes: the tests' own images may be guessed. */
const char *image_format(const char *path)
{
    char magic[4] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0 && read(fd, magic, 4) == 4, "'%s' cannot be read", path);
    close(fd);
    return memcmp(magic, "QFI\xfb", 4) == 0 ? "qcow2" : memcmp(magic, "QED", 4) == 0 ? "qed" : "raw";
}

static gboolean is_qcow2(const char *path)
{
    return strcmp(image_format(path), "qcow2") == 0;
}

int compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Join and free. */
static char *join(GPtrArray *words, const char *separator)
{
    g_ptr_array_add(words, NULL);
    char *text = g_strjoinv(separator, (char **)words->pdata);
    g_ptr_array_unref(words);
    return text;
}

char *world_names(World *world, const char *domain)
{
    g_autoptr(GPtrArray) entries =
        world->engine->ops->list(world->engine, domain ? world_domain(world, domain) : 0);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < entries->len; i++)
        g_ptr_array_add(names, g_strdup(((EngineEntry *)entries->pdata[i])->name));
    if (!domain)
        g_ptr_array_sort(names, compare_texts);
    return join(names, " ");
}

static char *parent_name(World *world, EngineId id)
{
    EngineLook look;
    ck_assert(world->engine->ops->look(world->engine, id, &look));
    char *name = look.parent ? world->engine->ops->name(world->engine, look.parent) : NULL;
    return name ? name : g_strdup("-");
}

char *world_current(World *world, const char *domain)
{
    return parent_name(world, world_domain(world, domain));
}

char *world_parent(World *world, const char *domain, const char *snapshot)
{
    return parent_name(world, world_snapshot(world, domain, snapshot));
}

/* The store's own word on a snapshot's disk. */
static char *layer_of(World *world, const char *domain, const char *snapshot, const char *target,
                      char **ret_tag)
{
    const Core *core = (Core *)world->engine;
    g_autofree char *file = store_snapshot_file(snapshot, ".json");
    g_autofree char *path = store_domain_file(core->store, domain, file);
    char *layer = NULL;
    size_t i;
    json_t *disk, *json = json_load_file(path, 0, NULL);
    ck_assert_msg(json != NULL, "'%s' cannot be read", path);
    json_array_foreach (json_object_get(json, "disks"), i, disk)
        if (strcmp(json_string_value(json_object_get(disk, "target")), target) == 0) {
            layer = g_strdup(json_string_value(json_object_get(disk, "layer")));
            if (ret_tag)
                *ret_tag = g_strdup(json_string_value(json_object_get(disk, "tag")));
        }
    json_decref(json);
    ck_assert_msg(layer != NULL, "disk '%s' took no part in '%s'", target, snapshot);
    return layer;
}

static DomainDef *definition(World *world, const char *domain)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, domain));
    DomainDef *def = domain_def_parse(xml, strlen(xml), &error);
    ck_assert_msg(def != NULL, "%s", error ? error->message : "?");
    return def;
}

char *world_layer(World *world, const char *domain, const char *snapshot, const char *target, char **ret_tag)
{
    if (ret_tag)
        *ret_tag = NULL;
    if (snapshot)
        return layer_of(world, domain, snapshot, target, ret_tag);
    g_autoptr(DomainDef) def = definition(world, domain);
    const DiskDef *disk = domain_def_find_disk(def, target);
    ck_assert_msg(disk && disk->source, "'%s' has no disk '%s'", domain, target);
    return g_strdup(disk->source);
}

static void add_files(World *world, const char *below, GPtrArray *files)
{
    g_autofree char *path = world_path(world, below);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    ck_assert(dir != NULL);
    for (const char *entry = g_dir_read_name(dir); entry; entry = g_dir_read_name(dir)) {
        g_autofree char *file = *below ? g_build_filename(below, entry, NULL) : g_strdup(entry);
        g_autofree char *full = world_path(world, file);
        struct stat st;
        ck_assert_int_eq(lstat(full, &st), 0);
        if (S_ISDIR(st.st_mode))
            add_files(world, file, files);
        else if (S_ISREG(st.st_mode))
            g_ptr_array_add(files, g_steal_pointer(&file));
    }
}

/* The files below img/, sorted. */
static GPtrArray *image_files(World *world)
{
    GPtrArray *files = g_ptr_array_new_with_free_func(g_free);
    add_files(world, "", files);
    g_ptr_array_sort(files, compare_texts);
    return files;
}

/* A fingerprint of the bytes of a file of ours. */
static guint64 fingerprint(const char *path)
{
    g_autoptr(GMappedFile) file = g_mapped_file_new(path, FALSE, NULL);
    ck_assert_msg(file != NULL, "'%s' cannot be read", path);
    const char *data = g_mapped_file_get_contents(file);
    gsize len = g_mapped_file_get_length(file);
    guint64 sum = 14695981039346656037ull ^ len;
    for (gsize i = 0; i + 8 <= len; i += 8) {
        guint64 word;
        memcpy(&word, data + i, 8);
        sum = (sum ^ word) * 1099511628211ull;
        sum ^= sum >> 29;
    }
    return sum;
}

/* What tools said about images, by a key that holds the bytes of all they looked at: asking again is slow. */
static GHashTable *known(void)
{
    static GHashTable *known;
    if (!known)
        known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return known;
}

static char *hash_by_tool(World *world, const char *path, const char *tag)
{
    g_autofree char *copy = g_build_filename(world->dir, "content", NULL);
    g_autofree char *option = g_strconcat("snapshot.name=", tag, NULL);
    if (tag)
        tool("qemu-img", "convert", "-f", image_format(path), "-l", option, "-O", "raw", path, copy, NULL);
    else
        tool("qemu-img", "convert", "-f", image_format(path), "-O", "raw", path, copy, NULL);
    g_autoptr(GMappedFile) content = g_mapped_file_new(copy, FALSE, NULL);
    ck_assert_ptr_nonnull(content);
    unlink(copy);
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)g_mapped_file_get_contents(content),
                                       g_mapped_file_get_length(content));
}

/* The path that the header of the image @path says lies below it. Caller frees. NULL: nothing, or no plain file. */
static char *path_below(const char *path, gboolean *ret_plain)
{
    Backend *backend = offline_backend_new(NULL);
    g_autoptr(ImageInfo) info = NULL;
    ImageFormat format;
    g_autofree char *dir = g_path_get_dirname(path);
    ck_assert(image_format_from_string(image_format(path), &format));
    gboolean ok = backend->ops->inspect(backend, path, format, &info, NULL);
    backend->ops->free(backend);
    *ret_plain = ok && (!info->backing_name || !strchr(info->backing_name, ':'));
    return *ret_plain && info->backing_name ? g_canonicalize_filename(info->backing_name, dir) : NULL;
}

/* A text that is another one when any file of the chain is. Caller frees. NULL: nobody can say. */
static char *chain_key(const char *top, const char *tag)
{
    g_autoptr(GString) key = g_string_new(tag);
    g_autofree char *path = g_strdup(top);
    gboolean plain = TRUE;
    while (path && plain) {
        struct stat st;
        if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
            return NULL;
        g_string_append_printf(key, " %s %" G_GINT64_MODIFIER "x", path, fingerprint(path));
        char *below = path_below(path, &plain);
        g_free(path);
        path = below;
    }
    return plain ? g_strdup(key->str) : NULL;
}

char *world_hash(World *world, const char *domain, const char *snapshot, const char *target)
{
    g_autofree char *tag = NULL;
    g_autofree char *path = world_layer(world, domain, snapshot, target, &tag);
    g_autofree char *key = chain_key(path, tag);
    const char *hash = key ? g_hash_table_lookup(known(), key) : NULL;
    if (hash)
        return g_strdup(hash);
    char *fresh = hash_by_tool(world, path, tag);
    if (key)
        g_hash_table_insert(known(), g_steal_pointer(&key), g_strdup(fresh));
    return fresh;
}

char *pattern_hash(int first, int second)
{
    g_autofree guchar *data = g_malloc0(1024 * 1024);
    memset(data, first, 64 * 1024);
    memset(data + 64 * 1024, second, 64 * 1024);
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, data, 1024 * 1024);
}

char *image_tags(const char *path)
{
    Backend *backend = offline_backend_new(NULL);
    g_autoptr(ImageInfo) info = NULL;
    g_autoptr(GError) error = NULL;
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    ASSERT_OK(backend->ops->inspect(backend, path, FORMAT_QCOW2, &info, &error), error);
    for (guint i = 0; i < info->tags->len; i++) {
        const char *name = ((ImageTag *)info->tags->pdata[i])->name;
        g_ptr_array_add(names, g_strdup(g_str_has_prefix(name, "domsnapfs-") ? "(hidden)" : name));
    }
    backend->ops->free(backend);
    g_ptr_array_sort(names, compare_texts);
    return join(names, " ");
}

guint file_mode(const char *path)
{
    struct stat st;
    ck_assert_msg(lstat(path, &st) == 0, "'%s' is not there", path);
    return st.st_mode & 07777;
}

static void digest_disks(World *world, GString *out, const char *domain, const char *snapshot, EngineId node)
{
    g_autoptr(GPtrArray) disks = world->engine->ops->disks(world->engine, node);
    for (guint i = 0; i < disks->len; i++) {
        const EngineDisk *disk = disks->pdata[i];
        g_autofree char *hash = world_hash(world, domain, snapshot, disk->target);
        g_string_append_printf(out, "%s %s %s %s\n", disk->target, disk->layer ? "own" : "internal",
                               image_format_to_string(disk->format), hash);
    }
}

/* Paths without the world's own directory, and without the times. */
static char *normalize(World *world, GString *text)
{
    g_autoptr(GRegex) time = g_regex_new("<creationTime>\\d+</creationTime>", 0, 0, NULL);
    g_string_replace(text, world->dir, "@", 0);
    g_autofree char *plain = g_string_free(text, FALSE);
    return g_regex_replace_literal(time, plain, -1, 0, "<creationTime/>", 0, NULL);
}

char *world_digest(World *world, const char *domain)
{
    GString *out = g_string_new(NULL);
    EngineId id = world_domain(world, domain);
    ck_assert_msg(id != 0, "there is no domain '%s'", domain);
    g_autofree char *current = world_current(world, domain);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, id);
    g_string_append_printf(out, "current %s\n%s", current, xml);
    digest_disks(world, out, domain, NULL, id);

    g_autoptr(GPtrArray) snapshots = world->engine->ops->list(world->engine, id);
    for (guint i = 0; i < snapshots->len; i++) {
        const EngineEntry *entry = snapshots->pdata[i];
        g_autofree char *parent = world_parent(world, domain, entry->name);
        g_autofree char *document = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, entry->id);
        g_autofree char *description = world_text(world, ENGINE_TEXT_DESCRIPTION, entry->id);
        g_string_append_printf(out, "snapshot %s on %s: %s\n%s", entry->name, parent, description, document);
        digest_disks(world, out, domain, entry->name, entry->id);
    }
    g_autoptr(GPtrArray) files = image_files(world);
    for (guint i = 0; i < files->len; i++) {
        g_autofree char *path = world_path(world, files->pdata[i]);
        g_autofree char *tags =
            is_qcow2(path) ? image_tags(path) : g_strdup_printf("%" G_GINT64_MODIFIER "x", fingerprint(path));
        g_string_append_printf(out, "file %s %o %s\n", (char *)files->pdata[i], file_mode(path), tags);
    }
    return normalize(world, out);
}

/* What qemu-img check answers when nothing is wrong but that clusters are lost. */
#define ONLY_LEAKS 3

static void check_images(World *world, gboolean may_leak)
{
    g_autoptr(GPtrArray) files = image_files(world);
    for (guint i = 0; i < files->len; i++) {
        const char *file = files->pdata[i];
        g_autofree char *path = world_path(world, file);
        ck_assert_msg(!strstr(file, TEMPORARY), "'%s' is left", file);
        g_autofree char *key = g_strdup_printf("check %" G_GINT64_MODIFIER "x", fingerprint(path));
        if (!is_qcow2(path) || g_hash_table_contains(known(), key))
            continue;
        const char *argv[] = {"qemu-img", "check", "-f", "qcow2", path, NULL};
        g_autofree char *told = NULL;
        int status = run_argv((char **)argv, &told);
        if (status == ONLY_LEAKS && may_leak)
            continue;
        ck_assert_msg(status == 0, "'%s' is not sound (%d): %s", file, status, told);
        g_hash_table_insert(known(), g_steal_pointer(&key), NULL);
    }
}

static void check_state(World *world, const char *domain)
{
    g_autofree char *tree = world_tree(world, domain);
    ck_assert_msg(!strstr(tree, "read-only"), "%s", tree);
    const Core *core = (Core *)world->engine;
    g_autofree char *journal = store_domain_file(core->store, domain, "journal.json");
    ck_assert_msg(access(journal, F_OK) < 0, "a journal is left");
}

void world_check_clean(World *world, const char *domain)
{
    check_state(world, domain);
    check_images(world, FALSE);
}

void world_check_sound(World *world, const char *domain)
{
    check_state(world, domain);
    check_images(world, TRUE);
}

static void tell_finding(gpointer user, const char *line)
{
    g_string_append_printf(user, "%s\n", line);
}

char *world_findings(World *world, gboolean repair, CheckCounts *ret_counts)
{
    g_autoptr(GError) error = NULL;
    GString *lines = g_string_new(NULL);
    CheckCounts counts;
    ck_assert_ptr_null(world->engine);
    ASSERT_OK(check_store(world->options.store, repair, spy_new(offline_backend_new(NULL)), tell_finding,
                          lines, &counts, &error),
              error);
    if (ret_counts)
        *ret_counts = counts;
    return g_string_free(lines, FALSE);
}
