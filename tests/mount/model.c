/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "model.h"

#include <unistd.h>

/* One disk in one state. */
typedef struct {
    const char *target;
    const char *mode; /* of a snapshot: internal, external, no */
    const char *file; /* internal: the image with the tag */
    const char *tag;
    GBytes *content;
} DiskState;

typedef struct {
    char *name;
    char *parent; /* NULL: a root */
    GPtrArray *disks;
} State;

struct Model {
    const World *w;
    const char *domain;
    GPtrArray *targets;
    GPtrArray *active; /* of guint8 *, DISK_SIZE each, by target */
    GPtrArray *states; /* of State, in order of creation */
    GHashTable *stale; /* "file\ntag" of deleted states: the tag may go later than the name */
    char *current;     /* NULL: none */
    guint steps;
};

static void disk_state_free(DiskState *disk)
{
    g_bytes_unref(disk->content);
    g_free(disk);
}

static void state_free(State *state)
{
    g_free(state->name);
    g_free(state->parent);
    g_ptr_array_unref(state->disks);
    g_free(state);
}

Model *model_new(const World *w, const char *domain, const char *disks)
{
    Model *m = g_new0(Model, 1);
    m->w = w;
    m->domain = domain;
    m->targets = g_ptr_array_new_with_free_func(g_free);
    m->active = g_ptr_array_new_with_free_func(g_free);
    m->states = g_ptr_array_new_with_free_func((GDestroyNotify)state_free);
    m->stale = g_hash_table_new(g_str_hash, g_str_equal);
    g_auto(GStrv) words = g_strsplit(disks, " ", -1);
    for (guint i = 0; words[i] != NULL; i++) {
        if (g_str_has_prefix(words[i], "sd"))
            continue;
        g_ptr_array_add(m->targets, g_strndup(words[i], strcspn(words[i], ":")));
        g_ptr_array_add(m->active, g_malloc0(DISK_SIZE));
    }
    return m;
}

void model_free(Model *m)
{
    g_ptr_array_unref(m->targets);
    g_ptr_array_unref(m->active);
    g_ptr_array_unref(m->states);
    g_hash_table_unref(m->stale);
    g_free(m->current);
    g_free(m);
}

static State *find(const Model *m, const char *name)
{
    for (guint i = 0; i < m->states->len; i++) {
        State *state = g_ptr_array_index(m->states, i);
        if (g_strcmp0(state->name, name) == 0)
            return state;
    }
    ck_abort_msg("the model knows no '%s'", name);
    return NULL;
}

static guint index_of(const Model *m, const char *target)
{
    for (guint i = 0; i < m->targets->len; i++)
        if (strcmp(g_ptr_array_index(m->targets, i), target) == 0)
            return i;
    ck_abort_msg("the model knows no disk '%s'", target);
    return 0;
}

const char *model_mode(const Model *m, const char *snapshot, const char *target)
{
    DiskState *disk = g_ptr_array_index(find(m, snapshot)->disks, index_of(m, target));
    return disk->mode;
}

guint model_count(const Model *m)
{
    return m->states->len;
}

void model_write(Model *m, const char *target, guint8 byte, guint offset, guint size)
{
    ck_assert_uint_le(offset + size, DISK_SIZE);
    image_write(m->w, active_path(m->w, m->domain, target), active_format(m->w, m->domain, target), byte,
                offset, size);
    guint8 *content = g_ptr_array_index(m->active, index_of(m, target));
    memset(content + offset, byte, size);
}

void model_touch(Model *m)
{
    m->steps++;
    for (guint i = 0; i < m->targets->len; i++) {
        guint8 byte = (guint8)(1 + (m->steps * 7 + i * 3) % 255);
        /* Places overlap between steps, do not align with clusters, and every step changes the common head. */
        guint offset = 4096 * ((m->steps * 37 + i * 11) % 200);
        model_write(m, g_ptr_array_index(m->targets, i), byte, offset, 12288);
        model_write(m, g_ptr_array_index(m->targets, i), byte, 900 * 1024, 512);
    }
}

static const char *tag_key(const Model *m, const char *file, const char *tag)
{
    return keepf(m->w, "%s\n%s", file, tag);
}

static gboolean tag_is_named(const Model *m, const char *file, const char *tag)
{
    for (guint s = 0; s < m->states->len; s++) {
        GPtrArray *disks = ((State *)g_ptr_array_index(m->states, s))->disks;
        for (guint d = 0; d < disks->len; d++) {
            DiskState *disk = g_ptr_array_index(disks, d);
            if (disk->tag != NULL && strcmp(disk->tag, tag) == 0 && strcmp(disk->file, file) == 0)
                return TRUE;
        }
    }
    return FALSE;
}

/* The tag in @file that no state of the model has: the one that was made last. */
static const char *new_tag(const Model *m, const char *file)
{
    g_auto(GStrv) tags = g_strsplit(tags_of(m->w, file), "\n", -1);
    const char *found = NULL, *reused = NULL;
    for (guint i = 0; tags[i] != NULL && *tags[i] != '\0'; i++) {
        if (tag_is_named(m, file, tags[i]))
            continue;
        if (g_hash_table_contains(m->stale, tag_key(m, file, tags[i]))) {
            reused = keep(m->w, tags[i]);
            continue;
        }
        ck_assert_msg(found == NULL, "two tags that belong to nothing: '%s' and '%s'", found, tags[i]);
        found = keep(m->w, tags[i]);
    }
    ck_assert_msg(found != NULL || reused != NULL, "no new tag in %s", file);
    return found != NULL ? found : reused;
}

static DiskState *took_disk(const Model *m, const char *xml, guint i)
{
    DiskState *disk = g_new0(DiskState, 1);
    disk->target = g_ptr_array_index(m->targets, i);
    disk->content = g_bytes_new(g_ptr_array_index(m->active, i), DISK_SIZE);
    disk->mode =
        xpath(m->w, xml, keepf(m->w, "/domainsnapshot/disks/disk[@name='%s']/@snapshot", disk->target));
    if (strcmp(disk->mode, "internal") == 0) {
        disk->file =
            xpath(m->w, xml,
                  keepf(m->w, "/domainsnapshot/domain//disk[target/@dev='%s']/source/@file", disk->target));
        disk->tag = new_tag(m, disk->file);
    }
    return disk;
}

void model_took(Model *m, const char *snapshot)
{
    const char *xml = text_of(m->w, keepf(m->w, "%s/%s/snapshot.xml", m->domain, snapshot));
    State *state = g_new0(State, 1);
    state->name = g_strdup(snapshot);
    state->parent = m->current;
    state->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_state_free);
    for (guint i = 0; i < m->targets->len; i++)
        g_ptr_array_add(state->disks, took_disk(m, xml, i));
    g_ptr_array_add(m->states, state);
    m->current = g_strdup(snapshot);
}

void model_reverted(Model *m, const char *snapshot)
{
    State *state = find(m, snapshot);
    for (guint i = 0; i < m->targets->len; i++) {
        DiskState *disk = g_ptr_array_index(state->disks, i);
        if (strcmp(disk->mode, "internal") == 0 || strcmp(disk->mode, "external") == 0)
            memcpy(g_ptr_array_index(m->active, i), g_bytes_get_data(disk->content, NULL), DISK_SIZE);
    }
    g_free(m->current);
    m->current = g_strdup(snapshot);
}

void model_deleted(Model *m, const char *snapshot)
{
    State *gone = find(m, snapshot);
    for (guint i = 0; i < m->states->len; i++) {
        State *state = g_ptr_array_index(m->states, i);
        if (g_strcmp0(state->parent, snapshot) == 0) {
            g_free(state->parent);
            state->parent = g_strdup(gone->parent);
        }
    }
    if (g_strcmp0(m->current, snapshot) == 0) {
        g_free(m->current);
        m->current = g_strdup(gone->parent);
    }
    for (guint d = 0; d < gone->disks->len; d++) {
        DiskState *disk = g_ptr_array_index(gone->disks, d);
        if (disk->tag != NULL)
            g_hash_table_add(m->stale, (gpointer)tag_key(m, disk->file, disk->tag));
    }
    g_ptr_array_remove(m->states, gone);
}

void model_renamed(Model *m, const char *from, const char *to)
{
    State *state = find(m, from);
    for (guint i = 0; i < m->states->len; i++) {
        State *other = g_ptr_array_index(m->states, i);
        if (g_strcmp0(other->parent, from) == 0) {
            g_free(other->parent);
            other->parent = g_strdup(to);
        }
    }
    if (g_strcmp0(m->current, from) == 0) {
        g_free(m->current);
        m->current = g_strdup(to);
    }
    g_free(state->name);
    state->name = g_strdup(to);
}

static const char *of(const Model *m, const char *name)
{
    return keepf(m->w, "%s/%s", m->domain, name);
}

void model_mkdir(Model *m, const char *snapshot)
{
    run_ok(m->w, "mkdir", "--", of(m, snapshot));
    model_took(m, snapshot);
}

void model_create(Model *m, const char *snapshot, const char *options)
{
    command(m->w, m->domain, "create %s %s", snapshot, options);
    model_took(m, snapshot);
}

void model_revert(Model *m, const char *snapshot)
{
    run_ok(m->w, "ln", "-sfn", "--", snapshot, of(m, "current"));
    model_reverted(m, snapshot);
}

void model_rmdir(Model *m, const char *snapshot)
{
    run_ok(m->w, "rmdir", "--", of(m, snapshot));
    model_deleted(m, snapshot);
}

void model_mv(Model *m, const char *from, const char *to)
{
    run_ok(m->w, "mv", "--", of(m, from), of(m, to));
    model_renamed(m, from, to);
}

static void compare(const char *file, const guint8 *want, const char *what)
{
    g_autofree char *got = NULL;
    gsize size = 0;
    ck_assert_msg(g_file_get_contents(file, &got, &size, NULL), "%s: cannot read", what);
    ck_assert_msg(size == DISK_SIZE, "%s: %zu bytes", what, size);
    gsize at = 0;
    while (at < size && (guint8)got[at] == want[at])
        at++;
    if (at < size)
        ck_abort_msg("%s: byte %zu is %02x, should be %02x", what, at, (guint8)got[at], want[at]);
}

/* @path, an image as @format (or its @tag), must hold @want. */
static void verify_image(const Model *m, const char *path, const char *format, const char *tag,
                         const guint8 *want, const char *what)
{
    const char *raw = in_dir(m->w, "look.raw");
    unlink(raw);
    g_auto(GStrv) parts = g_strsplit(tag != NULL ? tag : "", ",", -1);
    g_autofree char *doubled = g_strjoinv(",,", parts);
    Ran result = tag != NULL ? ran(m->w, "qemu-img", "convert", "-f", format, "-l",
                                   keepf(m->w, "snapshot.name=%s", doubled), "-O", "raw", path, raw, NULL)
                             : ran(m->w, "qemu-img", "convert", "-f", format, "-O", "raw", path, raw, NULL);
    ck_assert_msg(result.rc == 0, "%s: %s", what, result.err);
    compare(raw, want, what);
}

/* As what @target's layer is shown in directory @dir, "" when it is not. Where it is "raw", that may be the raw view alone. */
static const char *shown_format(const Model *m, const char *dir, const char *target)
{
    static const char *const formats[] = {"qcow2", "qed", "raw"};
    for (guint i = 0; i < G_N_ELEMENTS(formats); i++)
        if (exists(m->w, keepf(m->w, "%s/%s/%s.%s", m->domain, dir, target, formats[i])))
            return formats[i];
    return "";
}

/* What is read at random, without a copy. */
static void verify_view(const Model *m, const char *dir, const char *target, const guint8 *want,
                        const char *what)
{
    compare(at(m->w, "%s/%s/%s.raw", m->domain, dir, target), want, keepf(m->w, "raw view of %s", what));
}

static void verify_snapshot_disk(const Model *m, const State *state, const DiskState *disk)
{
    const char *what = keepf(m->w, "%s of snapshot '%s' (%s)", disk->target, state->name, disk->mode);
    const guint8 *want = g_bytes_get_data(disk->content, NULL);
    const char *shown = shown_format(m, state->name, disk->target);
    if (strcmp(disk->mode, "external") == 0) {
        ck_assert_msg(*shown != '\0', "%s: no layer is shown", what);
        verify_image(m, at(m->w, "%s/%s/%s.%s", m->domain, state->name, disk->target, shown), shown, NULL,
                     want, what);
        verify_view(m, state->name, disk->target, want, what);
        return;
    }
    gboolean internal = strcmp(disk->mode, "internal") == 0;
    ck_assert_msg(strcmp(shown, internal ? "raw" : "") == 0, "%s: shows a .%s", what, shown);
    if (internal) {
        verify_image(m, disk->file, "qcow2", disk->tag, want, what);
        verify_view(m, state->name, disk->target, want, what);
    } else
        ck_assert_msg(strcmp(disk->mode, "no") == 0, "%s: what mode is that?", what);
}

static void verify_active_disk(const Model *m, guint i)
{
    const char *target = g_ptr_array_index(m->targets, i);
    const char *path = active_path(m->w, m->domain, target);
    const char *format = active_format(m->w, m->domain, target);
    const guint8 *want = g_ptr_array_index(m->active, i);
    const char *shown = shown_format(m, "active", target);
    verify_image(m, path, format, NULL, want, keepf(m->w, "%s now, in %s", target, path));
    ck_assert_str_eq(shown, format);
    verify_image(m, at(m->w, "%s/active/%s.%s", m->domain, target, shown), shown, NULL, want,
                 keepf(m->w, "%s now, in active/", target));
    verify_view(m, "active", target, want, keepf(m->w, "%s now", target));
    struct stat st;
    ck_works(stat(path, &st));
    ck_assert_msg(st.st_mode & S_IWUSR, "the active layer %s is not writable", path);
}

static void verify_names(const Model *m)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(at(m->w, "%s", m->domain), 0, &error);
    ck_assert_msg(dir != NULL, "%s", error != NULL ? error->message : "");
    const char *name;
    guint n = 0;
    while ((name = g_dir_read_name(dir)) != NULL)
        if (S_ISDIR(stat_of(m->w, of(m, name)).st_mode) && strcmp(name, "active") != 0) {
            find(m, name);
            ck_assert_msg(g_hash_table_add(names, (gpointer)keep(m->w, name)), "'%s' is listed twice", name);
            n++;
        }
    ck_assert_msg(n == m->states->len, "%u snapshots are shown, there should be %u", n, m->states->len);
}

static void verify_links(const Model *m)
{
    for (guint i = 0; i < m->states->len; i++) {
        State *state = g_ptr_array_index(m->states, i);
        const char *want = state->parent != NULL ? keepf(m->w, "../%s", state->parent) : "";
        const char *xml = text_of(m->w, keepf(m->w, "%s/%s/snapshot.xml", m->domain, state->name));
        ck_assert_str_eq(link_of(m->w, keepf(m->w, "%s/%s/parent", m->domain, state->name)), want);
        ck_assert_str_eq(xpath(m->w, xml, "/domainsnapshot/name"), state->name);
        ck_assert_str_eq(xpath(m->w, xml, "/domainsnapshot/parent/name"),
                         state->parent != NULL ? state->parent : "");
    }
    ck_assert_str_eq(link_of(m->w, of(m, "current")), m->current != NULL ? m->current : "");
    ck_assert_str_eq(link_of(m->w, of(m, "active/parent")),
                     m->current != NULL ? keepf(m->w, "../%s", m->current) : "");
}

void model_verify(Model *m)
{
    verify_names(m);
    verify_links(m);
    for (guint i = 0; i < m->states->len; i++) {
        State *state = g_ptr_array_index(m->states, i);
        for (guint d = 0; d < state->disks->len; d++)
            verify_snapshot_disk(m, state, g_ptr_array_index(state->disks, d));
    }
    for (guint i = 0; i < m->targets->len; i++)
        verify_active_disk(m, i);
}

void model_check_images(Model *m)
{
    command(m->w, m->domain, "wait"); /* no merge takes a file away meanwhile */
    g_autoptr(GDir) dir = g_dir_open(m->w->images, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(dir)) != NULL) {
        if (g_str_has_suffix(name, ".raw"))
            continue;
        run_ok(m->w, "qemu-img", "check", "-q", "-f", "qcow2", image(m->w, name));
    }
}
