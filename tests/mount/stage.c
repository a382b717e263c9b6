/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- save and restore --- */

typedef struct {
    char *name;
    char *kept; /* a second name for the same inode, out of everybody's way: it outlives a deletion */
    GBytes *content;
    struct stat st;
} Saved;

struct Stage {
    const World *w;
    GPtrArray *images;
};

static void saved_free(Saved *saved)
{
    g_free(saved->name);
    g_free(saved->kept);
    g_bytes_unref(saved->content);
    g_free(saved);
}

static Saved *save_image(const World *w, const char *name)
{
    char *content;
    gsize len;
    Saved *saved = g_new0(Saved, 1);
    saved->name = g_strdup(name);
    saved->kept = g_strdup(in_dir(w, "kept/%s", name));
    ck_works(lstat(image(w, name), &saved->st));
    ck_assert(S_ISREG(saved->st.st_mode));
    ck_works(link(image(w, name), saved->kept));
    ck_assert(g_file_get_contents(saved->kept, &content, &len, NULL));
    saved->content = g_bytes_new_take(content, len);
    return saved;
}

Stage *stage_save(const World *w)
{
    Stage *stage = g_new0(Stage, 1);
    stage->w = w;
    stage->images = g_ptr_array_new_with_free_func((GDestroyNotify)saved_free);
    sh_ok(w,
          keepf(w,
                "cd '%s' && rm -rf kept saved && mkdir kept && if [ -d store ]; then cp -a store saved; fi",
                w->dir));
    g_autoptr(GDir) dir = g_dir_open(w->images, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(dir)) != NULL)
        g_ptr_array_add(stage->images, save_image(w, name));
    return stage;
}

static void restore_image(const World *w, const Saved *saved)
{
    struct stat st;
    ck_works(link(saved->kept, image(w, saved->name)));
    ck_works(lstat(saved->kept, &st));
    if (st.st_size == saved->st.st_size && st.st_mode == saved->st.st_mode &&
        st.st_mtim.tv_sec == saved->st.st_mtim.tv_sec && st.st_mtim.tv_nsec == saved->st.st_mtim.tv_nsec)
        return;
    ck_works(chmod(saved->kept, 0600));
    gsize len;
    const char *data = g_bytes_get_data(saved->content, &len);
    int fd = open(saved->kept, O_WRONLY | O_TRUNC | O_CLOEXEC);
    ck_assert(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    ck_works(fchmod(fd, saved->st.st_mode & 07777));
    ck_works(futimens(fd, (struct timespec[]){saved->st.st_atim, saved->st.st_mtim}));
    close(fd);
}

void stage_restore(const Stage *stage)
{
    const World *w = stage->w;
    sh_ok(w, keepf(w,
                   "cd '%s' && rm -rf store && if [ -d saved ]; then cp -a saved store; fi && rm -f images/* "
                   "images/.domsnapfs-*",
                   w->dir));
    for (guint i = 0; i < stage->images->len; i++)
        restore_image(w, stage->images->pdata[i]);
}

void stage_free(Stage *stage)
{
    g_ptr_array_unref(stage->images);
    g_free(stage);
}

/* --- digest --- */

/* The hash of what @path, a qcow2 image, or its @tag reads as; or why it cannot be read. */
static const char *hash_state(const World *w, const char *path, const char *tag)
{
    const char *raw = in_dir(w, "state.raw");
    unlink(raw);
    Ran result = tag == NULL ? ran(w, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw, NULL)
                             : ran(w, "qemu-img", "convert", "-f", "qcow2", "-l",
                                   keepf(w, "snapshot.name=%s", tag), "-O", "raw", path, raw, NULL);
    return result.rc == 0 ? hash_of(w, raw) : result.err;
}

static void add_document(const World *w, GString *text, const char *name)
{
    g_autoptr(GRegex) time = g_regex_new("<creationTime>[0-9]+<", 0, 0, NULL);
    g_autofree char *document =
        g_regex_replace_literal(time, text_of(w, name), -1, 0, "<creationTime>#<", 0, NULL);
    g_string_append_printf(text, "%s:\n%s", name, document);
}

/* A snapshot's directory, or active/. */
static void add_node(const World *w, GString *text, const char *node)
{
    g_autofree char *names = g_strdup(names_in(w, node));
    g_auto(GStrv) each = g_strsplit(names, " ", -1);
    g_string_append_printf(text, "%s -> %s\n", node, link_of(w, keepf(w, "%s/parent", node)));
    for (guint i = 0; each[i] != NULL; i++) {
        const char *name = keepf(w, "%s/%s", node, each[i]);
        if (g_str_has_suffix(each[i], ".qcow2"))
            g_string_append_printf(text, "%s %s\n", name, hash_state(w, at(w, "%s", name), NULL));
        else if (strcmp(each[i], "snapshot.xml") == 0)
            add_document(w, text, name);
    }
}

static void add_domain(const World *w, GString *text, const char *domain)
{
    g_auto(GStrv) names = g_strsplit(names_in(w, domain), " ", -1);
    const char *definition = keepf(w, "%s/domain.xml", domain);
    g_string_append_printf(text, "%s -> %s\n%s:\n%s", domain, link_of(w, keepf(w, "%s/current", domain)),
                           definition, text_of(w, definition));
    for (guint i = 0; names[i] != NULL; i++) {
        const char *name = keepf(w, "%s/%s", domain, names[i]);
        if (S_ISDIR(stat_of(w, name).st_mode))
            add_node(w, text, name);
    }
}

/* Or an empty file, which is to be one. */
static gboolean is_qcow2(const char *path)
{
    char magic[4];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ssize_t n = read(fd, magic, sizeof magic);
    close(fd);
    return n == 0 || (n == sizeof magic && memcmp(magic, "QFI\xfb", sizeof magic) == 0);
}

static void add_image(const World *w, GString *text, const char *name)
{
    struct stat st;
    const char *path = image(w, name);
    ck_works(lstat(path, &st));
    g_string_append_printf(text, "file %s %o", name, st.st_mode);
    if (!is_qcow2(path)) { /* NVRAM, perhaps under a temporary name */
        g_string_append_printf(text, "\ncontent %s\n", hash_of(w, path));
        return;
    }
    g_auto(GStrv) tags = g_strsplit(st.st_size > 0 ? tags_of(w, path) : "", "\n", -1);
    for (guint i = 0; tags[i] != NULL && *tags[i] != '\0'; i++)
        g_string_append_printf(text, " %s:%s", g_str_has_prefix(tags[i], "domsnapfs-") ? "HIDDEN" : tags[i],
                               hash_state(w, path, tags[i]));
    g_string_append_c(text, '\n');
}

static void add_lines(const World *w, GString *text, const char *script,
                      void (*add)(const World *w, GString *text, const char *line))
{
    g_auto(GStrv) lines = g_strsplit(sh_ok(w, script), "\n", -1);
    for (guint i = 0; lines[i] != NULL && *lines[i] != '\0'; i++)
        add(w, text, lines[i]);
}

static void add_stored(const World *w, GString *text, const char *name)
{
    g_autoptr(GRegex) generated = g_regex_new("[0-9a-f]{8}-[0-9a-f-]{27}", 0, 0, NULL);
    g_autofree char *same = g_regex_replace_literal(generated, name, -1, 0, "UUID", 0, NULL);
    g_string_append_printf(text, "stored %s\n", same);
}

const char *digest(const World *w)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_auto(GStrv) names = g_strsplit(names_in(w, ""), " ", -1);
    for (guint i = 0; names[i] != NULL; i++)
        if (S_ISDIR(stat_of(w, names[i]).st_mode))
            add_domain(w, text, names[i]);
    add_lines(w, text, keepf(w, "cd '%s' && ls -A", w->images), add_image);
    add_lines(w, text, keepf(w, "cd '%s' && find . -type f ! -name log ! -name lock | sort", w->store),
              add_stored);
    g_string_replace(text, w->dir, "DIR", 0);
    return keep(w, text->str);
}

const char *essence(const World *w, const char *text)
{
    g_autoptr(GRegex) temporary = g_regex_new(
        "^(?:file \\.domsnapfs-.*(?:\ncontent .*)?|stored .*/undo\\.xml)\n", G_REGEX_MULTILINE, 0, NULL);
    g_autoptr(GRegex) tags = g_regex_new("^(file \\S+).*$", G_REGEX_MULTILINE, 0, NULL);
    g_autofree char *kept = g_regex_replace_literal(temporary, text, -1, 0, "", 0, NULL);
    g_autofree char *bare = g_regex_replace(tags, kept, -1, 0, "\\1", 0, NULL);
    return keep(w, bare);
}
