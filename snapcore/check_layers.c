/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layers: is each there, the file it was, unchanged where snapshots stand on it, and kept from being written? */
#include <errno.h>
#include <string.h>

#include "check_run.h"
#include "error.h"

/* So many snapshots are named, of which states are concerned. */
#define NAMED_MAX 5

char *check_file_key(const FileLook *look)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, look->id.dev, look->id.ino);
}

/* --- whose is it --- */

/* Is @layer @top or below it? */
static gboolean is_in_chain(const Domain *domain, const Layer *top, const Layer *layer)
{
    for (guint i = 0; top && i < g_hash_table_size(domain->layers); i++) {
        if (top == layer)
            return TRUE;
        top = domain_find_layer(domain, top->backing);
    }
    return FALSE;
}

/* The disk of @snapshot that @layer is the state of (@below: or that stands on it), or NULL. */
static const char *disk_of_state(const Snapshot *snapshot, const Layer *layer, gboolean below)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const StateDisk *disk = snapshot->disks->pdata[i];
        if (below ? is_in_chain(snapshot->domain, disk->layer, layer) : disk->layer == layer && !disk->tag)
            return disk->target;
    }
    return NULL;
}

/* Which disk's it is, and whose state. The texts are @domain's. */
static CheckPlace layer_place(const Domain *domain, const Layer *layer)
{
    CheckPlace place = {.domain = domain->name, .file = layer->path};
    for (guint i = 0; !place.disk && i < domain->snapshots->len; i++) {
        const Snapshot *snapshot = domain->snapshots->pdata[i];
        place.disk = disk_of_state(snapshot, layer, FALSE);
        if (place.disk)
            place.snapshot = snapshot->name;
    }
    for (guint i = 0; !place.disk && i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        if (is_in_chain(domain, domain_active_layer(domain, disk), layer))
            place.disk = disk->target;
    }
    for (guint i = 0; !place.disk && i < domain->snapshots->len; i++)
        place.disk = disk_of_state(domain->snapshots->pdata[i], layer, TRUE);
    return place;
}

/* "the states of 's1', 's2' and 3 more snapshots need it", or "no snapshot needs it". Caller frees. */
static char *describe_need(const Domain *domain, const Layer *layer)
{
    GString *text = g_string_new(NULL);
    guint n = 0;
    for (guint i = 0; i < domain->snapshots->len; i++) {
        const Snapshot *snapshot = domain->snapshots->pdata[i];
        if (!disk_of_state(snapshot, layer, TRUE) || n++ >= NAMED_MAX)
            continue;
        g_string_append_printf(text, "%s'%s'", n > 1 ? ", " : "", snapshot->name);
    }
    if (n == 0)
        g_string_assign(text, "no snapshot needs it");
    else if (n > NAMED_MAX)
        g_string_append_printf(text, " and %u more snapshots need it", n - NAMED_MAX);
    else
        g_string_append(text, n == 1 ? " needs it" : " need it");
    return g_string_free(text, FALSE);
}

/* --- the file --- */

static void check_missing(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                          const GError *why)
{
    g_autofree char *need = describe_need(domain, layer);
    if (snap_errno(why) != ENOENT)
        check_problem(check, place, "make it a file that this user may look at, or restore it", "%s",
                      why->message);
    else if (file_id_known(&layer->file))
        check_problem(check, place, "restore it from a backup together with its time (cp -p)",
                      "the image is gone; %s", need);
    else
        check_problem(check, place, "bring it there, or redefine the domain without it",
                      "the image is not there, nor was it when it was recorded; %s", need);
}

/* A disc in a drive may be changed at any time; and only what is told to be a file was compared at all. */
static gboolean may_be_replaced(const Domain *domain, const Layer *layer)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        if (disk->readonly && domain_active_layer(domain, disk) == layer)
            return TRUE;
    }
    return !file_id_known(&layer->file);
}

static void check_identity(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                           const FileLook *look)
{
    if (may_be_replaced(domain, layer) || file_id_same(&layer->file, &look->id))
        return;
    check_problem(check, place,
                  layer->frozen ? "if it was restored from a backup, with its time, it is used as it is, but "
                                  "domsnapfs will never remove it"
                                : "if you replaced it on purpose, nothing need be done: the next snapshot "
                                  "records it",
                  "it is another file than the one that was recorded");
}

/* "2026-11-21 10:00:00.123456789 UTC" Caller frees. */
static char *describe_time(const FileStamp *stamp)
{
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_utc(stamp->mtime_sec);
    g_autofree char *text = date ? g_date_time_format(date, "%Y-%m-%d %H:%M:%S") : g_strdup("?");
    return g_strdup_printf("%s.%09u UTC", text, stamp->mtime_nsec);
}

static void check_stamp(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                        const FileLook *look)
{
    g_autofree char *need = describe_need(domain, layer);
    g_autofree char *now = describe_time(&look->stamp);
    g_autofree char *then = describe_time(&layer->stamp);
    g_autofree char *accept =
        g_strdup_printf("if you know that its content is what it was (it equals a backup, say), give it its "
                        "time back: touch -d @%" G_GINT64_FORMAT ".%09u; otherwise restore it from a backup "
                        "together with its time (cp -p)",
                        layer->stamp.mtime_sec, layer->stamp.mtime_nsec);
    if (look->stamp.size == layer->stamp.size)
        check_problem(check, place, accept,
                      "it was frozen and has been written or touched at %s (recorded: %s); %s", now, then,
                      need);
    else
        check_problem(check, place, "restore it from a backup together with its time (cp -p)",
                      "it was frozen and has been written: %" G_GUINT64_FORMAT
                      " bytes, recorded are %" G_GUINT64_FORMAT "; %s",
                      look->stamp.size, layer->stamp.size, need);
}

/* --- write bits --- */

static gboolean mend_write_bits(Check *check, gpointer data, GError **error)
{
    const Layer *layer = data;
    Backend *backend = check->core->backend;
    FileLook look;
    ImageUse use;
    if (!backend->ops->in_use(backend, layer->path, &use, error) || !file_look(layer->path, &look, error))
        return FALSE;
    if (use == USE_WRITER || layer_changed(layer, &look)) {
        snap_set_error(error, EBUSY, "'%s' is being written", layer->path);
        return FALSE;
    }
    return file_set_mode(layer->path, look.mode & ~0222u, error);
}

static void check_write_bits(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                             const FileLook *look)
{
    if (look->block || !(look->mode & 0222))
        return;
    g_autofree char *need = describe_need(domain, layer);
    (void)check_mendable(check, place, "they are taken away", mend_write_bits, (gpointer)layer,
                         "it is frozen but has write bits (mode %04o); %s", look->mode, need);
}

/* --- one after the other --- */

static void check_layer(Check *check, const Domain *domain, const Layer *layer)
{
    FileLook look;
    g_autoptr(GError) why = NULL;
    if (!layer_is_local(layer))
        return;
    const CheckPlace place = layer_place(domain, layer);
    if (!file_look(layer->path, &look, &why)) {
        check_missing(check, domain, layer, &place, why);
        return;
    }
    gboolean fresh = g_hash_table_add(check->known, check_file_key(&look));
    check->counts.images += fresh;
    g_autofree char *imported = store_changed_since_import(domain, layer, &look);
    if (imported)
        check_problem(check, &place, NULL, "%s", imported);
    else if (!domain->libvirt) { /* until it is ours, its files are as libvirt keeps them */
        check_identity(check, domain, layer, &place, &look);
        if (layer_changed(layer, &look))
            check_stamp(check, domain, layer, &place, &look);
        else if (layer->frozen)
            check_write_bits(check, domain, layer, &place, &look);
    }
    check_image(check, domain, layer, &place, fresh);
}

/* Sorted; they belong to the domain. Caller unrefs the array. */
static GPtrArray *layer_paths(GHashTable *layers)
{
    GPtrArray *paths = g_ptr_array_new();
    GHashTableIter iter;
    gpointer path;
    g_hash_table_iter_init(&iter, layers);
    while (g_hash_table_iter_next(&iter, &path, NULL))
        g_ptr_array_add(paths, path);
    g_ptr_array_sort(paths, check_compare_texts);
    return paths;
}

void check_layers(Check *check, const Domain *domain)
{
    g_autoptr(GPtrArray) paths = layer_paths(domain->layers);
    for (guint i = 0; i < paths->len; i++)
        check_layer(check, domain, domain_find_layer(domain, paths->pdata[i]));
}
