/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The directories in which layers lie: overlays on our layers that nothing refers to, and files of operations that are
 * gone. By device and inode: what a file is called says nothing about what it is.
 */
#include <errno.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "chain.h"
#include "check_run.h"
#include "error.h"

#define MAX_DEPTH 1000 /* of a chain that nobody knows */

typedef struct {
    GHashTable *layers; /* file key -> Layer */
    GHashTable *owners; /* file key -> Domain: of these, and of images that a definition names */
    GHashTable *dirs;   /* paths of directories */
} Surroundings;

static void surroundings_clear(Surroundings *around)
{
    g_hash_table_unref(around->layers);
    g_hash_table_unref(around->owners);
    g_hash_table_unref(around->dirs);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Surroundings, surroundings_clear)

static GHashTable *text_table(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

/* The file behind a loop device: it begins with the device's qcow2 header, and is no image of its own. */
static void survey_loop(Surroundings *around, Domain *domain, const FileLook *device)
{
    g_autofree char *text = NULL;
    g_autofree char *attribute = g_strdup_printf("/sys/dev/block/%u:%u/loop/backing_file",
                                                 major(device->id.dev), minor(device->id.dev));
    FileLook look;
    if (g_file_get_contents(attribute, &text, NULL, NULL) && file_look(g_strchomp(text), &look, NULL))
        g_hash_table_insert(around->owners, check_file_key(&look), domain);
}

static void survey_layer(Surroundings *around, Domain *domain, Layer *layer)
{
    FileLook look;
    if (!layer_is_local(layer))
        return;
    if (!file_in_dev(layer->path))
        g_hash_table_add(around->dirs, g_path_get_dirname(layer->path));
    if (!file_look(layer->path, &look, NULL))
        return;
    if (look.block)
        survey_loop(around, domain, &look);
    g_hash_table_insert(around->layers, check_file_key(&look), layer);
    g_hash_table_insert(around->owners, check_file_key(&look), domain);
}

/* They are layers as well, but for a domain whose records cannot be read. */
static void survey_definition(Surroundings *around, Domain *domain)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        FileLook look;
        if (disk->source && file_look(disk->source, &look, NULL))
            g_hash_table_insert(around->owners, check_file_key(&look), domain);
    }
}

static Surroundings survey(const Check *check)
{
    Surroundings around = {text_table(), text_table(), text_table()};
    for (guint i = 0; i < check->domains->len; i++) {
        Domain *domain = check->domains->pdata[i];
        GHashTableIter iter;
        gpointer layer;
        g_hash_table_iter_init(&iter, domain->layers);
        while (g_hash_table_iter_next(&iter, NULL, &layer))
            survey_layer(&around, domain, layer);
        survey_definition(&around, domain);
    }
    return around;
}

static gpointer look_up(GHashTable *table, const FileLook *look)
{
    g_autofree char *key = check_file_key(look);
    return g_hash_table_lookup(table, key);
}

/* --- overlays that nothing refers to --- */

/* The first image of ours below @path: its path (caller frees), *ret_of whose it is. NULL: there is none. */
static char *ours_below(Check *check, const Surroundings *around, const char *path, const Domain **ret_of)
{
    g_autofree char *at = g_strdup(path);
    for (guint depth = 0; depth < MAX_DEPTH; depth++) {
        FileLook look;
        char *below = chain_backing_of(check->core, at);
        if (!below)
            return NULL;
        g_free(at);
        at = below;
        if (!file_look(at, &look, NULL) || look.block)
            return NULL;
        *ret_of = look_up(around->owners, &look);
        if (*ret_of)
            return g_steal_pointer(&at);
    }
    return NULL;
}

static void check_overlay(Check *check, const Surroundings *around, const char *path)
{
    const Domain *domain = NULL;
    g_autofree char *below = ours_below(check, around, path, &domain);
    if (!below)
        return;
    const CheckPlace place = {.domain = domain->name, .file = path};
    check_problem(check, &place,
                  check->unread ? "a part of the store could not be read, and it may be known there: wait "
                                  "until that is in order"
                                : "if it is a clone that you made, or what an NBD export serves, keep it; if "
                                  "nobody needs it, remove it. domsnapfs never does",
                  "orphan: an overlay on '%s' that nothing in the store refers to", below);
}

/* --- files of operations that are gone --- */

/* A second name of a layer that we made: its own name stays. */
static gboolean mend_second_name(Check *check, gpointer data, GError **error)
{
    const char *path = data;
    if (unlink(path) == 0)
        return file_sync_parent(path, error);
    snap_set_errno(error, errno, "remove '%s'", path);
    return FALSE;
}

/* Is the file there under its own name too, as the very file that domsnapfs made? */
static gboolean is_ours(const Layer *layer, const FileLook *look)
{
    FileLook own;
    return layer && layer->made && file_look(layer->path, &own, NULL) && file_id_equal(&own.id, &look->id) &&
           file_id_same(&layer->file, &look->id);
}

static void check_left_over(Check *check, const Surroundings *around, const char *path, const FileLook *look)
{
    const Layer *layer = look_up(around->layers, look);
    const Domain *domain = look_up(around->owners, look);
    const CheckPlace place = {.domain = domain ? domain->name : NULL, .file = path};
    check->hands_off = domain && g_hash_table_contains(check->under_way, domain->name);
    if (is_ours(layer, look))
        (void)check_mendable(check, &place, "this name is removed", mend_second_name, (gpointer)path,
                             "left over from an operation that is done: a second name of '%s'", layer->path);
    else
        check_problem(check, &place, "if no other store's daemon is at work in this directory, remove it",
                      "a temporary file of an operation that is gone, of this or of another store");
    check->hands_off = FALSE;
}

/* --- both --- */

static void check_file(Check *check, const Surroundings *around, const char *dir, const char *entry)
{
    g_autofree char *path = g_build_filename(dir, entry, NULL);
    FileLook look; /* regular files only: opening anything else may block or act */
    if (g_hash_table_contains(check->expected, path) || !file_look(path, &look, NULL) || look.block)
        return;
    if (step_is_temp_name(entry))
        check_left_over(check, around, path, &look);
    else if (!look_up(around->owners, &look))
        check_overlay(check, around, path);
}

void check_orphans(Check *check)
{
    g_auto(Surroundings) around = survey(check);
    g_autoptr(GPtrArray) dirs = g_ptr_array_new();
    GHashTableIter iter;
    gpointer dir;
    g_hash_table_iter_init(&iter, around.dirs);
    while (g_hash_table_iter_next(&iter, &dir, NULL))
        g_ptr_array_add(dirs, dir);
    g_ptr_array_sort(dirs, check_compare_texts);
    for (guint i = 0; i < dirs->len; i++) {
        g_autoptr(GPtrArray) entries = check_entries_of(dirs->pdata[i]);
        for (guint k = 0; k < entries->len; k++)
            check_file(check, &around, dirs->pdata[i], entries->pdata[k]);
    }
}
