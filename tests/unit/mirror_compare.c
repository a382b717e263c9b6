/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a world back, and comparing it with what its mirror says (mirror.h). Nothing is asserted here: after a crash
 * there are two mirrors, one of which must fit. */
#include "mirror.h"
#include "snapshot.h"

/* --- images --- */

char *mirror_backing(const char *path)
{
    guchar head[20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    gboolean read =
        fd >= 0 && pread(fd, head, sizeof head, 0) == sizeof head && memcmp(head, "QFI\xfb", 4) == 0;
    guint64 at = 0;
    guint32 len = 0;
    for (guint i = 0; read && i < 8; i++)
        at = at << 8 | head[8 + i];
    for (guint i = 0; read && i < 4; i++)
        len = len << 8 | head[16 + i];
    g_autofree char *name = g_malloc0(len + 1ul);
    gboolean named = read && len > 0 && pread(fd, name, len, (off_t)at) == (gssize)len;
    if (fd >= 0)
        close(fd);
    if (!named)
        return NULL;
    g_autofree char *dir = g_path_get_dirname(path);
    return g_canonicalize_filename(name, dir);
}

/* What tools said of files, by a key that is another one when a file was written since: asking again is slow. */
static GHashTable *known(void)
{
    static GHashTable *known;
    if (!known)
        known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
    return known;
}

static void add_identity(GString *key, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        st = (struct stat){0};
    g_string_append_printf(key, "%s %lu %ld %ld.%ld %ld.%ld\n", path, (gulong)st.st_ino, (glong)st.st_size,
                           (glong)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (glong)st.st_ctim.tv_sec,
                           st.st_ctim.tv_nsec);
}

static char *chain_key(const char *path, const char *tag)
{
    g_autoptr(GString) key = g_string_new(tag);
    g_autofree char *at = g_strdup(path);
    for (guint i = 0; at && i < 1000; i++) {
        add_identity(key, at);
        char *below = mirror_backing(at);
        g_free(at);
        at = below;
    }
    return g_strdup(key->str);
}

/* A byte a unit; 255 stands for one that is not all the same. */
static GBytes *units_of(const char *raw)
{
    g_autoptr(GMappedFile) file = g_mapped_file_new(raw, FALSE, NULL);
    const char *data = file ? g_mapped_file_get_contents(file) : NULL;
    gsize n = file ? g_mapped_file_get_length(file) / MIRROR_UNIT : 0;
    guchar *units = g_malloc(n + 1);
    for (gsize i = 0; i < n; i++) {
        const char *unit = data + i * MIRROR_UNIT;
        units[i] = memcmp(unit, unit + 1, MIRROR_UNIT - 1) == 0 ? (guchar)*unit : 255;
    }
    return g_bytes_new_take(units, n);
}

GBytes *mirror_read(World *world, const char *path, const char *tag, char **ret_why)
{
    if (access(path, R_OK) < 0) {
        *ret_why = g_strdup_printf("'%s' is not there", path);
        return NULL;
    }
    g_autofree char *key = chain_key(path, tag);
    GBytes *content = g_hash_table_lookup(known(), key);
    if (content)
        return g_bytes_ref(content);
    g_autofree char *raw = g_build_filename(world->dir, "content", NULL);
    g_autofree char *option = g_strconcat("snapshot.name=", tag, NULL);
    const char *format = image_format(path);
    const char *plain[] = {"qemu-img", "convert", "-f", format, "-O", "raw", path, raw, NULL};
    const char *tagged[] = {"qemu-img", "convert", "-f", format, "-l", option, "-O", "raw", path, raw, NULL};
    if (run_argv((char **)(tag ? tagged : plain), NULL) != 0) {
        *ret_why = g_strdup_printf("'%s' %s cannot be read", path, tag ? tag : "");
        return NULL;
    }
    content = units_of(raw);
    unlink(raw);
    g_hash_table_insert(known(), g_steal_pointer(&key), g_bytes_ref(content));
    return content;
}

/* NULL, or what is wrong. @what: whose content that is. */
static char *compare_content(World *world, const char *what, const char *path, const char *tag,
                             GBytes *should)
{
    char *why = NULL;
    g_autoptr(GBytes) is = mirror_read(world, path, tag, &why);
    if (!is) {
        char *text = g_strdup_printf("%s: %s", what, why);
        g_free(why);
        return text;
    }
    gsize n_is, n_should;
    const guchar *a = g_bytes_get_data(is, &n_is), *b = g_bytes_get_data(should, &n_should);
    if (n_is != n_should)
        return g_strdup_printf("%s: has %zu units, not %zu ('%s' %s)", what, n_is, n_should, path,
                               tag ? tag : "");
    for (gsize i = 0; i < n_is; i++)
        if (a[i] != b[i])
            return g_strdup_printf("%s: unit %zu is %d, not %d ('%s' %s)", what, i, a[i], b[i], path,
                                   tag ? tag : "");
    return NULL;
}

/* --- names --- */

static char *differ(const char *what, const char *is, const char *should)
{
    return strcmp(is, should) == 0 ? NULL : g_strdup_printf("%s: '%s', not '%s'", what, is, should);
}

static char *compare_names(const Mirror *mirror, World *world)
{
    g_autoptr(GString) should = g_string_new(NULL);
    for (guint i = 0; i < mirror->states->len; i++)
        g_string_append_printf(should, "%s%s", i ? " " : "", ((MirrorState *)mirror->states->pdata[i])->name);
    g_autofree char *domains = world_names(world, NULL);
    char *wrong = differ("domains", domains, mirror->domain);
    if (wrong)
        return wrong;
    g_autofree char *is = world_names(world, mirror->domain);
    wrong = differ("snapshots", is, should->str);
    if (wrong)
        return wrong;
    g_autofree char *current = world_current(world, mirror->domain);
    wrong = differ("current", current, mirror->current ? mirror->current : "-");
    for (guint i = 0; i < mirror->states->len && !wrong; i++) {
        const MirrorState *state = mirror->states->pdata[i];
        g_autofree char *parent = world_parent(world, mirror->domain, state->name);
        wrong = differ(state->name, parent, state->parent ? state->parent : "-");
    }
    return wrong;
}

/* "vda vdb": the keys, sorted. Caller frees. */
static char *keys_of(GHashTable *table)
{
    g_autoptr(GPtrArray) keys = mirror_keys(table);
    g_ptr_array_add(keys, NULL);
    return g_strjoinv(" ", (char **)keys->pdata);
}

static char *targets_of(const DomainDef *def)
{
    g_autoptr(GPtrArray) targets = g_ptr_array_new();
    for (guint i = 0; i < def->disks->len; i++)
        g_ptr_array_add(targets, ((DiskDef *)def->disks->pdata[i])->target);
    g_ptr_array_sort(targets, compare_texts);
    g_ptr_array_add(targets, NULL);
    return g_strjoinv(" ", (char **)targets->pdata);
}

/* --- documents --- */

static char *compare_definition(const Mirror *mirror, World *world)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, mirror->domain));
    g_autoptr(DomainDef) def = domain_def_parse(xml, strlen(xml), &error);
    if (!def)
        return g_strdup_printf("domain.xml: %s", error->message);
    g_autofree char *is = targets_of(def);
    g_autofree char *should = keys_of(mirror->now);
    return differ("disks in domain.xml", is, should);
}

/* The domain in the document has the disks of then, and those that took part at the image that holds their state. */
static char *compare_document(const Mirror *mirror, World *world, const MirrorState *state)
{
    g_autoptr(GError) error = NULL;
    EngineId id = world_snapshot(world, mirror->domain, state->name);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, id);
    g_autoptr(SnapshotDef) def = snapshot_def_parse(xml, strlen(xml), &error);
    if (!def || !def->domain)
        return g_strdup_printf("document of '%s': %s", state->name, error ? error->message : "no <domain>");
    g_autofree char *is = targets_of(def->domain);
    g_autofree char *should = keys_of(state->attached);
    char *wrong = differ("disks in the document", is, should);
    GHashTableIter iter;
    gpointer target;
    g_hash_table_iter_init(&iter, state->disks);
    while (!wrong && g_hash_table_iter_next(&iter, &target, NULL)) {
        g_autofree char *path = world_layer(world, mirror->domain, state->name, target, NULL);
        g_autofree char *what =
            g_strdup_printf("document of '%s', source of %s", state->name, (char *)target);
        const DiskDef *disk = domain_def_find_disk(def->domain, target);
        wrong = differ(what, disk->source ? disk->source : "", path);
    }
    return wrong;
}

static char *compare_shown(World *world, EngineId node, GHashTable *should)
{
    g_autoptr(GPtrArray) disks = world->engine->ops->disks(world->engine, node);
    g_autoptr(GHashTable) is = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < disks->len; i++)
        g_hash_table_add(is, ((EngineDisk *)disks->pdata[i])->target);
    g_autofree char *a = keys_of(is);
    g_autofree char *b = keys_of(should);
    return differ("disks shown", a, b);
}

/* --- states --- */

/* @name NULL: now. */
static char *compare_state(const Mirror *mirror, World *world, const char *name, GHashTable *disks)
{
    char *wrong = NULL;
    GHashTableIter iter;
    gpointer target, content;
    g_hash_table_iter_init(&iter, disks);
    while (!wrong && g_hash_table_iter_next(&iter, &target, &content)) {
        g_autofree char *tag = NULL;
        g_autofree char *path = world_layer(world, mirror->domain, name, target, &tag);
        g_autofree char *what = g_strdup_printf("%s of %s", (char *)target, name ? name : "now");
        wrong = compare_content(world, what, path, tag, content);
        if (!wrong && !name && !(file_mode(path) & 0200))
            wrong = g_strdup_printf("%s: '%s' cannot be written", what, path);
        if (!wrong && name && !tag && (file_mode(path) & 0222))
            wrong = g_strdup_printf("%s: '%s' can be written", what, path);
    }
    return wrong;
}

static char *compare_kept(const Mirror *mirror, World *world)
{
    char *wrong = NULL;
    GHashTableIter iter;
    gpointer key, content;
    g_hash_table_iter_init(&iter, mirror->kept);
    while (!wrong && g_hash_table_iter_next(&iter, &key, &content)) {
        g_auto(GStrv) parts = g_strsplit(key, "\t", 2);
        wrong = compare_content(world, "the user's own", parts[0], parts[1], content);
    }
    return wrong;
}

static char *compare_told(const Mirror *mirror, World *world)
{
    static const char *const never[] = {"read-only", "no tag: ", "missing", NULL};
    g_autofree char *tree = world_tree(world, mirror->domain);
    for (guint i = 0; never[i]; i++)
        if (strstr(tree, never[i]))
            return g_strdup_printf("the tree says '%s':\n%s", never[i], tree);
    if (!mirror->released && strstr(tree, "unnamed: "))
        return g_strdup_printf("the tree tells of a stray:\n%s", tree);
    return strstr(tree, "(you are here)") ? NULL : g_strdup_printf("the tree is\n%s", tree);
}

/* --- files --- */

GPtrArray *mirror_files(World *world)
{
    GPtrArray *files = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(world->images, 0, NULL);
    for (const char *name = g_dir_read_name(dir); name; name = g_dir_read_name(dir))
        g_ptr_array_add(files, g_build_filename(world->images, name, NULL));
    g_ptr_array_sort(files, compare_texts);
    return files;
}

static char *check_image(const char *path)
{
    g_autoptr(GString) key = g_string_new("check ");
    add_identity(key, path);
    if (strcmp(image_format(path), "qcow2") != 0 || g_hash_table_contains(known(), key->str))
        return NULL;
    const char *argv[] = {"qemu-img", "check", "-q", "-f", "qcow2", path, NULL};
    int status = run_argv((char **)argv, NULL);
    if (status != 0)
        return g_strdup_printf("qemu-img check of '%s': %d", path, status);
    g_hash_table_insert(known(), g_strdup(key->str), g_bytes_new(NULL, 0));
    return NULL;
}

static char *check_files(const Mirror *mirror, World *world)
{
    const Core *core = (Core *)world->engine;
    g_autofree char *journal = store_domain_file(core->store, mirror->domain, "journal.json");
    if (access(journal, F_OK) == 0)
        return g_strdup("a journal is left");
    g_autoptr(GPtrArray) files = mirror_files(world);
    char *wrong = NULL;
    for (guint i = 0; i < files->len && !wrong; i++)
        wrong = strstr(files->pdata[i], TEMPORARY) ? g_strdup_printf("'%s' is left", (char *)files->pdata[i])
                                                   : check_image(files->pdata[i]);
    return wrong;
}

char *mirror_compare(const Mirror *mirror, World *world)
{
    char *wrong = compare_names(mirror, world);
    wrong = wrong ? wrong : compare_definition(mirror, world);
    wrong = wrong ? wrong : compare_told(mirror, world);
    wrong = wrong ? wrong : compare_shown(world, world_domain(world, mirror->domain), mirror->now);
    wrong = wrong ? wrong : compare_state(mirror, world, NULL, mirror->now);
    for (guint i = 0; i < mirror->states->len && !wrong; i++) {
        const MirrorState *state = mirror->states->pdata[i];
        wrong = compare_shown(world, world_snapshot(world, mirror->domain, state->name), state->disks);
        wrong = wrong ? wrong : compare_state(mirror, world, state->name, state->disks);
        wrong = wrong ? wrong : compare_document(mirror, world, state);
    }
    wrong = wrong ? wrong : compare_kept(mirror, world);
    return wrong ? wrong : check_files(mirror, world);
}
