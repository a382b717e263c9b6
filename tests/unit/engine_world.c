/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine_world.h"

#include <sys/wait.h>

/* --- opening and closing --- */

World *world_new(char *dir)
{
    World *world = g_new0(World, 1);
    world->dir = dir;
    world->images = g_build_filename(dir, "img", NULL);
    world->options.merge_idle_ms = 24 * 3600 * 1000; /* only when a test says so */
    world->options.store = g_build_filename(dir, "store", NULL);
    ck_assert_int_eq(g_mkdir_with_parents(world->images, 0755), 0);
    world_open(world);
    return world;
}

void world_open(World *world)
{
    g_autoptr(GError) error = NULL;
    Backend *backend = world->run ? online_backend_new(NULL, world->run) : offline_backend_new(NULL);
    world->engine = core_engine_new(&world->options, spy_new(backend), &error);
    ck_assert_msg(world->engine != NULL, "open: %s", error ? error->message : "?");
    Core *core = (Core *)world->engine;
    g_mutex_lock(&core->lock);
    while (core->recovering > 0) /* those that take longer go on behind */
        g_cond_wait(&core->idle, &core->lock);
    g_mutex_unlock(&core->lock);
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

pid_t world_fork(World *world)
{
    world_close(world);
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        world_open(world);
    return pid;
}

void world_free(World *world)
{
    world_close(world);
    remove_tree(world->dir);
    g_free((char *)world->options.store);
    g_free(world->images);
    g_free(world->run);
    g_free(world->dir);
    g_free(world);
}

char *world_store_file(World *world, const char *file)
{
    return g_build_filename(world->options.store, file, NULL);
}

/* --- saving and restoring --- */

typedef struct {
    char *path;
    char *keep; /* another name of the same file, so that its inode stays whatever becomes of this one */
    char *data;
    gsize len;
    struct stat st;
} SavedFile;

static void saved_file_free(gpointer data)
{
    SavedFile *file = data;
    if (file->keep)
        (void)unlink(file->keep);
    g_free(file->keep);
    g_free(file->path);
    g_free(file->data);
    g_free(file);
}

/* Regular files below @path into @files (of SavedFile, without data). */
static void find_files(const char *path, GPtrArray *files)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *entry = dir ? g_dir_read_name(dir) : NULL; entry; entry = g_dir_read_name(dir)) {
        g_autofree char *child = g_build_filename(path, entry, NULL);
        struct stat st;
        ck_assert_int_eq(lstat(child, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            find_files(child, files);
            continue;
        }
        SavedFile *file = g_new0(SavedFile, 1);
        file->path = g_steal_pointer(&child);
        file->st = st;
        g_ptr_array_add(files, file);
    }
}

GPtrArray *world_save(World *world)
{
    GPtrArray *saved = g_ptr_array_new_with_free_func(saved_file_free);
    ck_assert_ptr_null(world->engine);
    find_files(world->dir, saved);
    g_autofree char *kept = g_strconcat(world->dir, ".kept", NULL);
    ck_assert_int_eq(g_mkdir_with_parents(kept, 0700), 0);
    for (guint i = 0; i < saved->len; i++) {
        SavedFile *file = saved->pdata[i];
        file->keep = g_strdup_printf("%s/%u", kept, i);
        ck_assert_int_eq(link(file->path, file->keep), 0);
        ck_assert(g_file_get_contents(file->path, &file->data, &file->len, NULL));
    }
    return saved;
}

static gboolean same_path(gconstpointer a, gconstpointer b)
{
    return strcmp(((const SavedFile *)a)->path, ((const SavedFile *)b)->path) == 0;
}

static void restore_file(const SavedFile *file)
{
    const struct timespec times[] = {file->st.st_atim, file->st.st_mtim};
    g_autofree char *dir = g_path_get_dirname(file->path);
    ck_assert_int_eq(g_mkdir_with_parents(dir, 0700), 0);
    struct stat st;
    if (lstat(file->path, &st) < 0 || st.st_ino != file->st.st_ino) {
        (void)unlink(file->path);
        ck_assert_int_eq(link(file->keep, file->path), 0);
    }
    int fd = open(file->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_msg(fd >= 0 && write(fd, file->data, file->len) == (gssize)file->len, "'%s' cannot be written",
                  file->path);
    ck_assert_int_eq(fchmod(fd, file->st.st_mode & 07777), 0);
    ck_assert_int_eq(futimens(fd, times), 0);
    close(fd);
}

/* A domain that has come since then is its directory too: its files are gone by now. */
static void remove_new_domains(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *entry = dir ? g_dir_read_name(dir) : NULL; entry; entry = g_dir_read_name(dir)) {
        g_autofree char *domain = g_build_filename(path, entry, NULL);
        g_autofree char *definition = g_build_filename(domain, "domain.xml", NULL);
        g_autofree char *snapshots = g_build_filename(domain, "snapshots", NULL);
        if (access(definition, F_OK) == 0)
            continue;
        (void)rmdir(snapshots);
        (void)rmdir(domain);
    }
}

void world_restore(World *world, const GPtrArray *saved)
{
    g_autoptr(GPtrArray) now = g_ptr_array_new_with_free_func(saved_file_free);
    ck_assert_ptr_null(world->engine);
    find_files(world->dir, now);
    for (guint i = 0; i < now->len; i++)
        if (!g_ptr_array_find_with_equal_func((GPtrArray *)saved, now->pdata[i], same_path, NULL))
            ck_assert_int_eq(unlink(((SavedFile *)now->pdata[i])->path), 0);
    g_autofree char *domains = world_store_file(world, "domains");
    remove_new_domains(domains);
    for (guint i = 0; i < saved->len; i++)
        restore_file(saved->pdata[i]);
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

void world_write(World *world, const char *domain, const char *target, int pattern)
{
    g_autofree char *path = world_layer(world, domain, NULL, target, NULL);
    g_autofree char *command = g_strdup_printf("write -P %d 0 64k", pattern);
    ck_assert_msg(file_mode(path) & 0222, "the active layer '%s' is frozen", path);
    g_autofree char *output = tool_output("qemu-io", "-f", image_format(path), "-c", command, path, NULL);
    ck_assert_msg(strstr(output, "wrote ") != NULL, "%s: %s", path, output);
}

struct Writer {
    GPid pid;
    int in;
};

Writer *writer_begin(World *world, const char *path)
{
    Writer *writer = g_new0(Writer, 1);
    const char *argv[] = {"qemu-io", "-f", image_format(path), path, NULL};
    ck_assert(
        g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
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
    g_autofree char *source =
        path ? g_markup_printf_escaped("      <source file='%s'/>\n", path) : g_strdup("");
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

CreateRequest *world_request(const char *name, const char *specs)
{
    CreateRequest *request = create_request_new();
    g_auto(GStrv) words = g_strsplit(specs ? specs : "", " ", -1);
    request->name = g_strdup(name);
    for (guint i = 0; words[i]; i++) {
        g_autoptr(GError) error = NULL;
        SnapshotDisk *disk = *words[i] ? create_request_parse_diskspec(words[i], &error) : NULL;
        ck_assert_msg(!error, "%s", error ? error->message : "");
        if (disk)
            g_ptr_array_add(request->disks, disk);
    }
    return request;
}

gboolean world_try_request(World *world, const char *domain, const CreateRequest *request, GError **error)
{
    return world->engine->ops->create(world->engine, world_domain(world, domain), request, NULL, NULL, error);
}

gboolean world_try_create(World *world, const char *domain, const char *name, const char *specs,
                          GError **error)
{
    g_autoptr(CreateRequest) request = world_request(name, specs);
    return world_try_request(world, domain, request, error);
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

gboolean world_try_delete(World *world, const char *domain, const char *name, DeleteFlags flags,
                          GError **error)
{
    return world->engine->ops->delete (world->engine, world_snapshot(world, domain, name), flags, NULL,
                                       error);
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
    g_autoptr(GBytes) bytes = world->engine->ops->text(world->engine, text, id, NULL, &error);
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

gboolean world_try_undo(World *world, const char *domain, GError **error)
{
    const RevertRequest request = {.undo = TRUE};
    return world->engine->ops->revert(world->engine, world_domain(world, domain), &request, NULL, error);
}

void world_undo(World *world, const char *domain)
{
    g_autoptr(GError) error = NULL;
    ck_assert_msg(world_try_undo(world, domain, &error), "undo: %s", error ? error->message : "?");
}

void world_merge(World *world, const char *domain)
{
    g_autoptr(GError) error = NULL;
    ck_assert_msg(world->engine->ops->wait(world->engine, world_domain(world, domain), NULL, &error),
                  "wait: %s", error ? error->message : "?");
}
