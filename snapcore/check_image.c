/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of layers: headers against what is recorded, and qcow2's bookkeeping. */
#include <errno.h>
#include <string.h>

#include "chain.h"
#include "check_run.h"
#include "error.h"

/* --- may we repair it --- */

static gboolean is_running(Backend *backend, const Domain *domain)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        const Layer *layer = domain_active_layer(domain, disk);
        ImageUse use;
        if (layer && layer_is_local(layer) && !disk->readonly &&
            backend->ops->in_use(backend, layer->path, &use, NULL) && use == USE_WRITER)
            return TRUE;
    }
    return FALSE;
}

/* Has another domain this file, too? */
static gboolean is_shared(const Check *check, const Domain *domain, const Layer *layer)
{
    FileLook look;
    if (!file_look(layer->path, &look, NULL))
        return TRUE;
    for (guint i = 0; i < check->domains->len; i++) {
        const Domain *other = check->domains->pdata[i];
        GHashTableIter iter;
        gpointer value;
        g_hash_table_iter_init(&iter, other->layers);
        while (other != domain && g_hash_table_iter_next(&iter, NULL, &value)) {
            const Layer *its = value;
            if (strcmp(its->path, layer->path) == 0 ||
                (file_id_known(&its->file) && file_id_same(&its->file, &look.id)))
                return TRUE;
        }
    }
    return FALSE;
}

/* Why a repair may not write into @layer; NULL: it may. Static text. */
static const char *why_not(const Check *check, const Domain *domain, const Layer *layer)
{
    if (layer->frozen)
        return "snapshots stand on it, so it is never written: if it cannot be read, restore it from a "
               "backup";
    if (domain_layer_is_stood_on(domain, layer))
        return "other images stand on it, so it is not written: see qemu-img check";
    if (domain->libvirt)
        return "it is libvirt's: see qemu-img check";
    if (layer->released || !domain_layer_is_active(domain, layer))
        return "it is yours to keep: see qemu-img check";
    if (is_shared(check, domain, layer))
        return "another domain has it too: see qemu-img check";
    return NULL;
}

/* --- qcow2's bookkeeping --- */

typedef struct {
    const Domain *domain;
    const Layer *layer;
} Patient;

static gboolean mend_bookkeeping(Check *check, gpointer data, GError **error)
{
    const Patient *patient = data;
    Backend *backend = check->core->backend;
    const char *path = patient->layer->path;
    ImageUse use;
    ImageCheck after;
    if (!backend->ops->in_use(backend, path, &use, error))
        return FALSE;
    if (use != USE_NONE || is_running(backend, patient->domain)) {
        snap_set_error(error, EBUSY, "the machine runs, or somebody has '%s' open", path);
        return FALSE;
    }
    if (!backend->ops->repair(backend, path, error) || !backend->ops->check(backend, path, &after, error))
        return FALSE;
    if (after.corruptions + after.leaks > 0)
        snap_set_error(error, EIO, "qemu-img check still finds errors in it");
    return after.corruptions + after.leaks == 0;
}

static void tell_bookkeeping(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                             const ImageCheck *found, gboolean dirty)
{
    const char *hands_off = why_not(check, domain, layer);
    g_autofree char *what =
        found->corruptions
            ? g_strdup_printf("qemu-img check finds %" G_GUINT64_FORMAT
                              " errors in its bookkeeping, as after a kill in the middle of a write",
                              found->corruptions)
        : dirty ? g_strdup("it is marked dirty: whoever wrote it last was ended in the middle")
                : g_strdup_printf("%" G_GUINT64_FORMAT
                                  " of its clusters are used by nothing: lost space, no danger",
                                  found->leaks);
    Patient patient = {domain, layer};
    if (hands_off && found->corruptions == 0 && !dirty)
        check_note(check, place, "%s", what);
    else if (hands_off)
        check_problem(check, place, hands_off, "%s", what);
    else
        (void)check_mendable(check, place, "qemu-img check -r all", mend_bookkeeping, &patient, "%s", what);
}

static void check_bookkeeping(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                              gboolean dirty)
{
    Backend *backend = check->core->backend;
    g_autoptr(GError) why = NULL;
    ImageCheck found;
    if (!backend->ops->check(backend, layer->path, &found, &why)) {
        if (snap_errno(why) == EBUSY)
            check_note(check, place, "in use, not checked");
        else
            check_problem(check, place, "see what the disk's and the system's logs say", "%s", why->message);
    } else if (found.corruptions || found.leaks || dirty) {
        tell_bookkeeping(check, domain, layer, place, &found, dirty);
    }
}

/* --- the header --- */

/* An overlay that we made is as large as what it stands on. */
static void check_size(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                       const ImageInfo *info)
{
    Backend *backend = check->core->backend;
    const Layer *below = domain_find_layer(domain, layer->backing);
    g_autoptr(ImageInfo) base = NULL;
    if (layer->made && below && layer_is_local(below) &&
        backend->ops->inspect(backend, below->path, below->format, &base, NULL) &&
        info->virtual_size < base->virtual_size)
        check_problem(check, place,
                      "if nobody shrunk the disk on purpose: qemu-img resize, with the machine off",
                      "the disk has %" G_GUINT64_FORMAT " bytes, the layer below it %" G_GUINT64_FORMAT
                      ": its end is out of reach",
                      info->virtual_size, base->virtual_size);
}

/* FALSE: it is no image that could be looked into further. */
static gboolean check_header(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                             gboolean *ret_dirty)
{
    Core *core = check->core;
    g_autoptr(ImageInfo) info = NULL;
    g_autoptr(GError) unreadable = NULL, unfit = NULL, wrong = NULL;
    if (!core->backend->ops->inspect(core->backend, layer->path, layer->format, &info, &unreadable)) {
        check_problem(check, place, "restore it from a backup together with its time (cp -p)",
                      "it is not the %s image that is recorded: %s", image_format_to_string(layer->format),
                      unreadable->message);
        return FALSE;
    }
    *ret_dirty = info->dirty;
    info->dirty = FALSE; /* that is its bookkeeping's business */
    gboolean fit = chain_check_info(layer->path, info, &unfit);
    if (!fit)
        check_problem(check, place, "restore it from a backup", "%s", unfit->message);
    if (!chain_check_backing(core, layer, info, &wrong))
        check_problem(check, place, "or put the name right: qemu-img rebase -u", "%s", wrong->message);
    check_size(check, domain, layer, place, info);
    return fit;
}

void check_image(Check *check, const Domain *domain, const Layer *layer, const CheckPlace *place,
                 gboolean fresh)
{
    Backend *backend = check->core->backend;
    g_autoptr(GError) why = NULL;
    gboolean dirty = FALSE;
    ImageUse use;
    if (!check_header(check, domain, layer, place, &dirty))
        return;
    if (!backend->ops->in_use(backend, layer->path, &use, &why))
        check_problem(check, place, "see to it that this user may read it", "%s", why->message);
    else if (use == USE_WRITER && layer->frozen)
        check_problem(check, place, "end that process, and compare the image with a backup",
                      "another process has it open for writing, though it is frozen");
    else if (use == USE_WRITER && fresh)
        check_note(check, place, "in use, not checked");
    else if (use != USE_WRITER && fresh && layer->format == FORMAT_QCOW2)
        check_bookkeeping(check, domain, layer, place, dirty);
}
