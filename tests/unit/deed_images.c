/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The images and documents of the model test (deed.h). */
#include "deed.h"

static GBytes *zeros(guint units)
{
    return g_bytes_new_take(g_malloc0(units), units);
}

GBytes *scribble(const char *path, GBytes *content, const guint32 *r, char **ret_text)
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

void own_file(Mirror *mirror, const char *path, GBytes *content)
{
    g_hash_table_insert(mirror->mine, g_strdup(path), NULL);
    g_hash_table_insert(mirror->kept, g_strdup(path), g_bytes_ref(content));
}

char *make_image(Story *story, const char *target, const guint32 *r)
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

char *document_of(const char *domain, GHashTable *paths)
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
