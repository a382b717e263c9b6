/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Internal snapshots against the snapshots that name them, and images that more than one disk writes. */
#include "check_run.h"
#include "strays.h"

/* --- tags --- */

typedef struct {
    Check *check;
    const Domain *domain;
} TagCheck;

/* Does any domain name @tag in the file of @layer? */
static gboolean is_named(const Check *check, const Layer *layer, const char *tag)
{
    for (guint i = 0; i < check->domains->len; i++) {
        const Domain *other = check->domains->pdata[i];
        GHashTableIter iter;
        gpointer its;
        g_hash_table_iter_init(&iter, other->layers);
        while (g_hash_table_iter_next(&iter, NULL, &its))
            if (layer_is_same_file(its, layer->path, &layer->file) && domain_tag_named(other, its, tag))
                return TRUE;
    }
    return FALSE;
}

static void tell_stray(gpointer user, StrayKind kind, const Layer *layer, const char *tag, const char *line)
{
    const TagCheck *tags = user;
    const CheckPlace place = {.domain = tags->domain->name};
    switch (kind) {
    case STRAY_LOST:
        check_problem(
            tags->check, &place,
            "restore the image from a backup; deleting the snapshot works, reverting to it does not", "%s",
            line);
        return;
    case STRAY_TWICE:
        check_problem(
            tags->check, &place,
            "with the machine off, copy out what the wrong one holds if need be (qemu-img convert -l "
            "snapshot.id=ID), and delete both the tags and the snapshot",
            "%s", line);
        return;
    case STRAY_OWED:
        check_note(tags->check, &place, "%s", line);
        return;
    case STRAY_UNNAMED:
        if (!layer->released && !is_named(tags->check, layer, tag))
            check_problem(
                tags->check, &place,
                tags->check->unread
                    ? "a part of the store could not be read, and it may be named there: wait until "
                      "that is in order"
                    : "name it by a snapshot (redefine), or drop it with the machine off: qemu-img "
                      "snapshot -d TAG FILE",
                "%s", line);
        return;
    case STRAY_UNREADABLE: /* its header was found to be so */
    case STRAY_KINDS:
        return;
    }
}

void check_tags(Check *check, Domain *domain)
{
    TagCheck tags = {check, domain};
    GHashTableIter iter;
    gpointer layer;
    g_hash_table_iter_init(&iter, domain->layers);
    while (g_hash_table_iter_next(&iter, NULL, &layer))
        strays_look_layer(check->core->backend, layer);
    strays_each(domain, tell_stray, &tags);
}

/* --- clashes --- */

typedef struct {
    const Domain *domain;
    const DiskDef *disk;
    const Layer *layer;
} Written;

/* The disks of @domain that its guest writes. */
static void list_written(const Domain *domain, GArray *written)
{
    for (guint i = 0; i < domain->def->disks->len; i++) {
        const DiskDef *disk = domain->def->disks->pdata[i];
        const Written one = {domain, disk, domain_active_layer(domain, disk)};
        if (one.layer && !disk->readonly)
            g_array_append_val(written, one);
    }
}

static void compare_written(Check *check, const Written *a, const Written *b)
{
    const CheckPlace place = {.domain = b->domain->name, .disk = b->disk->target, .file = b->layer->path};
    if (!layer_is_same_file(a->layer, b->layer->path, &b->layer->file) ||
        (a->disk->shareable && b->disk->shareable))
        return;
    check_problem(check, &place,
                  "do not start them together; point one of the two at an image of its own (domain.xml)",
                  "its image is also written as disk '%s' of domain '%s'", a->disk->target, a->domain->name);
}

/* Do snapshots of another domain stand on what this one writes? */
static void check_stood_on(Check *check, const Written *one)
{
    const CheckPlace place = {
        .domain = one->domain->name, .disk = one->disk->target, .file = one->layer->path};
    for (guint i = 0; i < check->domains->len; i++) {
        const Domain *other = check->domains->pdata[i];
        GHashTableIter iter;
        gpointer value;
        g_hash_table_iter_init(&iter, other->layers);
        while (other != one->domain && g_hash_table_iter_next(&iter, NULL, &value)) {
            const Layer *layer = value;
            if (layer->frozen && layer_is_same_file(layer, one->layer->path, &one->layer->file))
                check_problem(check, &place, "point this disk at an image of its own (domain.xml)",
                              "the machine writes an image on which snapshots of domain '%s' stand",
                              other->name);
        }
    }
}

void check_clashes(Check *check)
{
    g_autoptr(GArray) written = g_array_new(FALSE, FALSE, sizeof(Written));
    for (guint i = 0; i < check->domains->len; i++)
        list_written(check->domains->pdata[i], written);
    for (guint i = 0; i < written->len; i++) {
        const Written *one = &g_array_index(written, Written, i);
        for (guint k = 0; k < i; k++)
            compare_written(check, &g_array_index(written, Written, k), one);
        check_stood_on(check, one);
    }
}
