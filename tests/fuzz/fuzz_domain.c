/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <domain>: what is taken is printed, read and printed again the same; changes keep fields and document in step. */
#include <string.h>

#include "domain.h"
#include "fuzz.h"

static DomainDef *parse_again(const char *text)
{
    g_autoptr(GError) error = NULL;
    DomainDef *def = domain_def_parse(text, strlen(text), &error);
    must_be_either(def, error);
    MUST(def != NULL || strlen(text) > XML_MAX_BYTES);
    return def;
}

static void must_be_same_disk(const DiskDef *a, const DiskDef *b)
{
    MUST(strcmp(a->target, b->target) == 0 && a->type == b->type && a->device == b->device);
    MUST(a->format == b->format && a->snapshot == b->snapshot && a->has_source == b->has_source);
    MUST(g_strcmp0(a->source, b->source) == 0 && g_strcmp0(a->bus, b->bus) == 0);
    MUST(a->readonly == b->readonly && a->shareable == b->shareable && a->transient == b->transient);
    MUST(a->backing->len == b->backing->len);
    for (guint i = 0; i < a->backing->len; i++) {
        const BackingDef *x = a->backing->pdata[i];
        const BackingDef *y = b->backing->pdata[i];
        MUST(g_strcmp0(x->path, y->path) == 0 && x->format == y->format);
    }
}

/* The document says what the fields say. */
static void must_be_in_step(const DomainDef *def)
{
    g_autofree char *text = domain_def_format(def);
    g_autoptr(DomainDef) again = parse_again(text);
    if (again == NULL)
        return;
    g_autofree char *printed = domain_def_format(again);
    MUST(strcmp(text, printed) == 0);
    MUST(strcmp(def->name, again->name) == 0 && strcmp(def->uuid, again->uuid) == 0);
    MUST(strcmp(def->type, again->type) == 0 && g_strcmp0(def->nvram, again->nvram) == 0);
    MUST(def->secret == again->secret && def->disks->len == again->disks->len);
    for (guint i = 0; i < def->disks->len; i++)
        must_be_same_disk(def->disks->pdata[i], again->disks->pdata[i]);
}

static void check_secrets(const DomainDef *def)
{
    g_autoptr(DomainDef) bare = domain_def_copy(def);
    domain_def_strip_secrets(bare);
    MUST(!bare->secret);
    must_be_in_step(bare);
    g_autofree char *without = domain_def_format(bare);
    domain_def_restore_secrets(bare, def);
    MUST(bare->secret == def->secret);
    must_be_in_step(bare);
    domain_def_strip_secrets(bare);
    g_autofree char *again = domain_def_format(bare);
    MUST(strcmp(again, without) == 0);
}

static void check_changes(const DomainDef *def)
{
    g_autoptr(DomainDef) changed = domain_def_copy(def);
    domain_def_set_name(changed, "a <new> & 'odd' name");
    domain_def_set_uuid(changed, "00000000-0000-0000-0000-000000000001");
    for (guint i = 0; i < changed->disks->len; i++) {
        DiskDef *disk = changed->disks->pdata[i];
        const DiskDef *other = def->disks->pdata[changed->disks->len - 1 - i];
        MUST(domain_def_find_disk(changed, disk->target) == disk);
        if (i % 2 == 0)
            domain_def_set_source(changed, disk, i % 4 ? DISK_BLOCK : DISK_FILE, "/new & 'odd'", FORMAT_QCOW2,
                                  i % 3 ? disk->backing : NULL);
        else if (other->device == disk->device)
            domain_def_take_source(changed, disk, other);
    }
    must_be_in_step(changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = domain_def_parse((const char *)data, size, &error);
    must_be_either(def, error);
    if (def == NULL)
        return 0;
    g_autofree char *text = domain_def_format(def);
    g_autoptr(DomainDef) again = parse_again(text);
    if (again == NULL)
        return 0;
    must_be_in_step(def);
    check_secrets(def);
    check_changes(def);
    return 0;
}
