/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine_world.h"

#include <jansson.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "chain.h"

/* --- opening and closing --- */

Backend *spy_new(Backend *real); /* engine_spy.c */

World *world_new(char *dir)
{
    World *world = g_new0(World, 1);
    world->dir = dir;
    world->images = g_build_filename(dir, "img", NULL);
    world->options.store = g_build_filename(dir, "store", NULL);
    ck_assert_int_eq(g_mkdir_with_parents(world->images, 0755), 0);
    world_open(world);
    return world;
}

void world_open(World *world)
{
    g_autoptr(GError) error = NULL;
    world->engine = core_engine_new(&world->options, spy_new(offline_backend_new(NULL)), &error);
    ck_assert_msg(world->engine != NULL, "open: %s", error ? error->message : "?");
}

void world_close(World *world)
{
    if (world->engine)
        world->engine->ops->free(world->engine);
    world->engine = NULL;
}

void world_reopen(World *world)
{
    world_close(world);
    world_open(world);
}

void world_free(World *world)
{
    world_close(world);
    remove_tree(world->dir);
    g_free((char *)world->options.store);
    g_free(world->images);
    g_free(world->dir);
    g_free(world);
}

char *world_store_file(World *world, const char *file)
{
    return g_build_filename(world->options.store, file, NULL);
}

/* --- images --- */

char *world_path(World *world, const char *file)
{
    return g_build_filename(world->images, file, NULL);
}

static void copy_file(const char *from, const char *to)
{
    g_autofree char *data = NULL;
    gsize len;
    ck_assert(g_file_get_contents(from, &data, &len, NULL));
    ck_assert(g_file_set_contents(to, data, (gssize)len, NULL));
    ck_assert_int_eq(chmod(to, 0644), 0);
}

char *world_image(World *world, const char *file, int pattern)
{
    char *path = world_path(world, file);
    g_autofree char *above = g_path_get_dirname(world->dir);
    g_autofree char *name = g_strdup_printf("template-%d.qcow2", pattern);
    g_autofree char *template = g_build_filename(above, name, NULL);
    if (access(template, F_OK) < 0) {
        tool("qemu-img", "create", "-q", "-f", "qcow2", template, "1M", NULL);
        write_pattern(template, pattern, "0 128k");
    }
    copy_file(template, path);
    return path;
}

char *world_raw(World *world, const char *file, int pattern)
{
    char *path = world_path(world, file);
    g_autofree char *data = g_malloc0(1024 * 1024);
    memset(data, pattern, 128 * 1024);
    ck_assert(g_file_set_contents(path, data, 1024 * 1024, NULL));
    ck_assert_int_eq(chmod(path, 0644), 0);
    return path;
}

/* The format by the file's first bytes: the tests' own images may be guessed. */
static const char *format_of(const char *path)
{
    char magic[4] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0 && read(fd, magic, 4) == 4, "'%s' cannot be read", path);
    close(fd);
    return memcmp(magic, "QFI\xfb", 4) == 0 ? "qcow2" : memcmp(magic, "QED", 4) == 0 ? "qed" : "raw";
}

static gboolean is_qcow2(const char *path)
{
    return strcmp(format_of(path), "qcow2") == 0;
}

void world_write(World *world, const char *domain, const char *target, int pattern)
{
    g_autofree char *path = world_layer(world, domain, NULL, target, NULL);
    g_autofree char *command = g_strdup_printf("write -P %d 0 64k", pattern);
    ck_assert_msg(file_mode(path) & 0222, "the active layer '%s' is frozen", path);
    g_autofree char *output = tool_output("qemu-io", "-f", format_of(path), "-c", command, path, NULL);
    ck_assert_msg(strstr(output, "wrote ") != NULL, "%s: %s", path, output);
}

struct Writer {
    GPid pid;
    int in;
};

Writer *writer_begin(World *world, const char *path)
{
    Writer *writer = g_new0(Writer, 1);
    const char *argv[] = {"qemu-io", "-f", format_of(path), path, NULL};
    ck_assert(g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                                       G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                                       NULL, NULL, &writer->pid, &writer->in, NULL, NULL, NULL));
    Backend *backend = offline_backend_new(NULL);
    ImageUse use = USE_NONE;
    for (guint i = 0; i < 1000 && use != USE_WRITER; i++) {
        g_usleep(10000);
        ck_assert(backend->ops->in_use(backend, path, &use, NULL));
    }
    backend->ops->free(backend);
    ck_assert_msg(use == USE_WRITER, "qemu-io does not open '%s'", path);
    return writer;
}

void writer_end(Writer *writer)
{
    close(writer->in); /* end of input ends qemu-io */
    waitpid(writer->pid, NULL, 0);
    g_spawn_close_pid(writer->pid);
    g_free(writer);
}

/* --- definitions --- */

char *disk_element(const char *target, const char *format, const char *path, const char *attributes,
                   const char *inside)
{
    g_autofree char *source = path ? g_markup_printf_escaped("      <source file='%s'/>\n", path) : g_strdup("");
    return g_strdup_printf("    <disk type='file' device='disk'%s>\n"
                           "      <driver name='qemu' type='%s'/>\n"
                           "%s%s"
                           "      <target dev='%s' bus='virtio'/>\n"
                           "    </disk>\n",
                           attributes, format, source, inside, target);
}

char *domain_document(const char *name, const char *disks)
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_MD5, name, -1);
    g_autofree char *text = g_markup_escape_text(name, -1);
    return g_strdup_printf("<domain type='kvm'>\n"
                           "  <name>%s</name>\n"
                           "  <uuid>%.8s-%.4s-4%.3s-8%.3s-%.12s</uuid>\n"
                           "  <memory unit='KiB'>65536</memory>\n"
                           "  <os>\n"
                           "    <type arch='x86_64' machine='pc'>hvm</type>\n"
                           "  </os>\n"
                           "  <devices>\n"
                           "%s"
                           "  </devices>\n"
                           "</domain>\n",
                           text, sum, sum + 8, sum + 12, sum + 16, sum + 20, disks);
}

gboolean world_try_define(World *world, const char *xml, GError **error)
{
    return world->engine->ops->define(world->engine, 0, xml, strlen(xml), NULL, NULL, error);
}

void world_define(World *world, const char *name, ...)
{
    g_autoptr(GString) disks = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    va_list files;
    guint n = 0;
    va_start(files, name);
    for (const char *file = va_arg(files, const char *); file; file = va_arg(files, const char *)) {
        char target[] = {'v', 'd', (char)('a' + n++), '\0'};
        g_autofree char *path = world_path(world, file);
        g_autofree char *disk = disk_element(target, "qcow2", path, "", "");
        g_string_append(disks, disk);
    }
    va_end(files);
    g_autofree char *xml = domain_document(name, disks->str);
    ASSERT_OK(world_try_define(world, xml, &error), error);
}

World *world_web(char *dir)
{
    World *world = world_new(dir);
    g_free(world_image(world, "a.qcow2", 1));
    g_free(world_image(world, "b.qcow2", 2));
    world_define(world, "web", "a.qcow2", "b.qcow2", NULL);
    return world;
}

/* --- gestures --- */

EngineId world_domain(World *world, const char *name)
{
    return world->engine->ops->find(world->engine, 0, name);
}

EngineId world_snapshot(World *world, const char *domain, const char *name)
{
    EngineId id = world_domain(world, domain);
    return id ? world->engine->ops->find(world->engine, id, name) : 0;
}

gboolean world_try_create(World *world, const char *domain, const char *name, const char *specs, GError **error)
{
    g_autoptr(CreateRequest) request = create_request_new();
    g_auto(GStrv) words = g_strsplit(specs ? specs : "", " ", -1);
    request->name = g_strdup(name);
    for (guint i = 0; words[i]; i++) {
        if (!*words[i])
            continue;
        if (!request->disks)
            request->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_request_free);
        DiskRequest *disk = disk_request_parse(words[i], error);
        if (!disk)
            return FALSE;
        g_ptr_array_add(request->disks, disk);
    }
    return world->engine->ops->create(world->engine, world_domain(world, domain), request, NULL, NULL, error);
}

void world_create(World *world, const char *domain, const char *name, const char *specs)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_create(world, domain, name, specs, &error), error);
}

gboolean world_try_revert(World *world, const char *domain, const char *name, GError **error)
{
    RevertRequest request = {.name = (char *)name};
    return world->engine->ops->revert(world->engine, world_domain(world, domain), &request, NULL, error);
}

void world_revert(World *world, const char *domain, const char *name)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_revert(world, domain, name, &error), error);
}

gboolean world_try_delete(World *world, const char *domain, const char *name, DeleteFlags flags, GError **error)
{
    return world->engine->ops->delete (world->engine, world_snapshot(world, domain, name), flags, NULL, error);
}

void world_delete(World *world, const char *domain, const char *name)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_delete(world, domain, name, DELETE_ONE, &error), error);
}

gboolean world_try_rename(World *world, const char *domain, const char *name, const char *to, GError **error)
{
    EngineId id = name ? world_snapshot(world, domain, name) : world_domain(world, domain);
    return world->engine->ops->rename(world->engine, id, to, NULL, error);
}

char *world_text(World *world, EngineText text, EngineId id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes = world->engine->ops->text(world->engine, text, id, &error);
    ck_assert_msg(bytes != NULL, "text %d: %s", text, error ? error->message : "?");
    return g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
}

char *world_tree(World *world, const char *domain)
{
    return world_text(world, ENGINE_TEXT_TREE, world_domain(world, domain));
}

char *world_log(World *world, const char *domain)
{
    return world_text(world, ENGINE_TEXT_LOG, domain ? world_domain(world, domain) : 0);
}

/* --- what there is --- */

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
static char *layer_of(World *world, const char *domain, const char *snapshot, const char *target, char **ret_tag)
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
        tool("qemu-img", "convert", "-f", format_of(path), "-l", option, "-O", "raw", path, copy, NULL);
    else
        tool("qemu-img", "convert", "-f", format_of(path), "-O", "raw", path, copy, NULL);
    g_autoptr(GMappedFile) content = g_mapped_file_new(copy, FALSE, NULL);
    ck_assert_ptr_nonnull(content);
    unlink(copy);
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)g_mapped_file_get_contents(content),
                                       g_mapped_file_get_length(content));
}

char *world_hash(World *world, const char *domain, const char *snapshot, const char *target)
{
    g_autofree char *tag = NULL;
    g_autofree char *path = world_layer(world, domain, snapshot, target, &tag);
    g_autoptr(GPtrArray) files = image_files(world);
    g_autoptr(GString) key = g_string_new(NULL);
    g_string_append_printf(key, "%s %s", path, tag ? tag : "");
    for (guint i = 0; i < files->len; i++) {
        g_autofree char *file = world_path(world, files->pdata[i]);
        g_string_append_printf(key, " %s %" G_GINT64_MODIFIER "x", file, fingerprint(file));
    }
    const char *hash = g_hash_table_lookup(known(), key->str);
    if (hash)
        return g_strdup(hash);
    char *fresh = hash_by_tool(world, path, tag);
    g_hash_table_insert(known(), g_strdup(key->str), g_strdup(fresh));
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
    for (guint i = 0; i < info->tags->len; i++)
        g_ptr_array_add(names, g_strdup(((ImageTag *)info->tags->pdata[i])->name));
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
        g_autofree char *tags = is_qcow2(path) ? image_tags(path) : g_strdup("-");
        g_string_append_printf(out, "file %s %o %s\n", (char *)files->pdata[i], file_mode(path), tags);
    }
    return normalize(world, out);
}

void world_check_clean(World *world, const char *domain)
{
    g_autofree char *tree = world_tree(world, domain);
    ck_assert_msg(!strstr(tree, "read-only"), "%s", tree);
    const Core *core = (Core *)world->engine;
    g_autofree char *journal = store_domain_file(core->store, domain, "journal.json");
    ck_assert_msg(access(journal, F_OK) < 0, "a journal is left");
    g_autoptr(GPtrArray) files = image_files(world);
    for (guint i = 0; i < files->len; i++) {
        const char *file = files->pdata[i];
        g_autofree char *path = world_path(world, file);
        ck_assert_msg(!strstr(file, TEMPORARY), "'%s' is left", file);
        g_autofree char *key = g_strdup_printf("check %" G_GINT64_MODIFIER "x", fingerprint(path));
        if (!is_qcow2(path) || g_hash_table_contains(known(), key))
            continue;
        tool("qemu-img", "check", "-q", "-f", "qcow2", path, NULL);
        g_hash_table_insert(known(), g_steal_pointer(&key), NULL);
    }
}
