/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <domainsnapshot>: to redefine, the quick look, to create. What is taken is printed, and read and printed again the same. */
#include <string.h>

#include "fuzz.h"
#include "snapshot.h"

/* NULL: too long to be read again, which escaping and indentation can make of anything. */
static SnapshotDef *parse_again(const char *text)
{
    g_autoptr(GError) error = NULL;
    SnapshotDef *def = snapshot_def_parse(text, strlen(text), &error);
    must_be_either(def, error);
    MUST(def != NULL || strlen(text) > XML_MAX_BYTES);
    return def;
}

/* Everything but what stands behind <disks>. */
static char *head_text(SnapshotDef *def)
{
    g_clear_pointer(&def->domain, domain_def_free);
    g_clear_pointer(&def->domain_uuid, g_free);
    def->inactive_domain = def->cookie = NULL;
    return snapshot_def_format(def);
}

/* @printed: by us, with every disk; another document may leave disks to be filled in. */
static void check_head(const char *text, size_t size, SnapshotDef *whole, gboolean printed)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SnapshotDef) head = snapshot_def_parse_head(text, size, &error);
    must_be_either(head, error);
    if (whole == NULL)
        return;
    MUST(head != NULL);
    MUST(head->active == whole->active);
    if (!printed) {
        g_ptr_array_set_size(head->disks, 0);
        g_ptr_array_set_size(whole->disks, 0);
    }
    g_autofree char *is = head_text(head);
    g_autofree char *should = head_text(whole);
    MUST(strcmp(is, should) == 0);
}

/* Without its secrets it has none, and gets them back. */
static void check_secrets(SnapshotDef *def, const SnapshotDef *old)
{
    gboolean had = snapshot_def_has_secret(def);
    snapshot_def_strip_secrets(def);
    MUST(!snapshot_def_has_secret(def));
    g_autofree char *without = snapshot_def_format(def);
    g_autoptr(SnapshotDef) bare = parse_again(without);
    if (bare == NULL)
        return;
    snapshot_def_restore_secrets(bare, old);
    MUST(snapshot_def_has_secret(bare) == had);
    snapshot_def_strip_secrets(bare);
    g_autofree char *again = snapshot_def_format(bare);
    MUST(strcmp(again, without) == 0);
}

static void check_redefine(const char *text, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SnapshotDef) def = snapshot_def_parse(text, size, &error);
    must_be_either(def, error);
    g_autofree char *first = def != NULL ? snapshot_def_format(def) : NULL;
    check_head(text, size, def, FALSE);
    g_autoptr(SnapshotDef) old = first != NULL ? parse_again(first) : NULL;
    if (old == NULL)
        return;
    g_autofree char *second = snapshot_def_format(old);
    MUST(strcmp(first, second) == 0);
    g_autoptr(SnapshotDef) other = parse_again(first);
    check_secrets(other, old);
    check_head(first, strlen(first), old, TRUE);
}

static void check_create(const char *text, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = snapshot_parse_create(text, size, &error);
    must_be_either(request, error);
    g_autoptr(GString) out = g_string_new(NULL);
    for (guint i = 0; request != NULL && i < request->disks->len; i++)
        snapshot_disk_write(out, request->disks->pdata[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_redefine((const char *)data, size);
    check_create((const char *)data, size);
    return 0;
}
