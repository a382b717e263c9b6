/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store's own files: what belongs there, and whether documents and sidecars say the same. */
#include <string.h>

#include "check_run.h"
#include "error.h"
#include "names.h"

#define STRANGER "nothing of domsnapfs is called so: move it somewhere else"

/* --- what belongs there --- */

typedef enum { ENTRY_OURS, ENTRY_RUBBISH, ENTRY_STRANGE } EntryKind;
typedef EntryKind (*EntryJudge)(const char *path, const char *entry);

static gboolean mend_rubbish(Check *check, gpointer data, GError **error)
{
    store_remove_rubbish(data);
    if (file_exists(data))
        snap_set_error(error, EIO, "'%s' is still there", (const char *)data);
    return !file_exists(data);
}

int check_compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *check_entries_of(const char *path)
{
    GPtrArray *entries = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *entry;
    while (dir && (entry = g_dir_read_name(dir)))
        g_ptr_array_add(entries, g_strdup(entry));
    g_ptr_array_sort(entries, check_compare_texts);
    return entries;
}

static void check_entries(Check *check, const char *domain, const char *path, EntryJudge judge)
{
    g_autoptr(GPtrArray) entries = check_entries_of(path);
    for (guint i = 0; i < entries->len; i++) {
        g_autofree char *file = g_build_filename(path, entries->pdata[i], NULL);
        const CheckPlace place = {.domain = domain, .file = file};
        EntryKind kind = judge(file, entries->pdata[i]);
        if (kind == ENTRY_RUBBISH)
            (void)check_mendable(check, &place, "it is removed, as by the next mount", mend_rubbish, file,
                                 "a kill left it half done");
        else if (kind == ENTRY_STRANGE)
            check_problem(check, &place, STRANGER, "it does not belong into the store");
    }
}

static EntryKind judge_listed(const char *path, const char *entry, const char *const *ours)
{
    return g_strv_contains(ours, entry) ? ENTRY_OURS : store_is_rubbish(path) ? ENTRY_RUBBISH : ENTRY_STRANGE;
}

static EntryKind judge_root(const char *path, const char *entry)
{
    static const char *const ours[] = {"lock", "uuid", "log", "domains", NULL};
    return g_strv_contains(ours, entry) ? ENTRY_OURS : ENTRY_STRANGE;
}

/* A domain's directory, called as the domain is. */
static EntryKind judge_domains(const char *path, const char *entry)
{
    if (store_is_rubbish(path))
        return ENTRY_RUBBISH;
    g_autofree char *name = name_from_entry(entry, NAME_DOMAIN);
    g_autofree char *again = name_to_entry(name, NAME_DOMAIN);
    return strcmp(again, entry) == 0 && g_file_test(path, G_FILE_TEST_IS_DIR) ? ENTRY_OURS : ENTRY_STRANGE;
}

static EntryKind judge_domain(const char *path, const char *entry)
{
    static const char *const ours[] = {"domain.xml", "domain.json", "journal.json", "undo.xml", "live.xml",
                                       "log",        "snapshots",   STORE_FILES,    NULL};
    return judge_listed(path, entry, ours);
}

void check_store_files(Check *check)
{
    g_autofree char *domains = store_domains_dir(check->core->store);
    check_entries(check, NULL, check->core->store->path, judge_root);
    check_entries(check, NULL, domains, judge_domains);
}

/* --- a domain's snapshots --- */

/* Does the text in @path call itself by a name that belongs into another file? */
static char *proper_file(const char *path)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!file_load(path, STORE_TEXT_MAX, &text, &len, NULL))
        return NULL;
    g_autoptr(SnapshotDef) def = snapshot_def_parse_head(text, len, NULL);
    return def ? store_snapshot_file(def->name, ".xml") : NULL;
}

/* @entry of snapshots/, which no snapshot that was read has. Documents that cannot be read were told already. */
static void check_stray_file(Check *check, const CheckPlace *place, const char *entry)
{
    gboolean document = g_str_has_suffix(entry, ".xml");
    if (document) {
        g_autofree char *proper = proper_file(place->file);
        if (proper)
            check_problem(
                check, place,
                "call the two files so, or, if the snapshot is there twice, move these somewhere else",
                "the document of a snapshot that belongs into '%s'", proper);
        return;
    }
    g_autofree char *base = g_strndup(place->file, strlen(place->file) - strlen(".json"));
    g_autofree char *xml = g_strconcat(base, ".xml", NULL);
    if (!file_exists(xml))
        check_problem(check, place,
                      "restore the document from a backup of the store, or move this file somewhere else",
                      "it belongs to a snapshot without a document");
}

static void check_snapshot_files(Check *check, const Domain *domain)
{
    g_autofree char *dir = store_domain_file(check->core->store, domain->name, "snapshots");
    g_autoptr(GHashTable) ours = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) entries = check_entries_of(dir);
    for (guint i = 0; i < domain->snapshots->len; i++) {
        const Snapshot *snapshot = domain->snapshots->pdata[i];
        g_autofree char *xml = store_snapshot_file(snapshot->name, ".xml");
        g_autofree char *json = store_snapshot_file(snapshot->name, ".json");
        g_hash_table_add(ours, g_path_get_basename(xml));
        g_hash_table_add(ours, g_path_get_basename(json));
    }
    for (guint i = 0; i < entries->len; i++) {
        const char *entry = entries->pdata[i];
        g_autofree char *file = g_build_filename(dir, entry, NULL);
        const CheckPlace place = {.domain = domain->name, .file = file};
        if (g_hash_table_contains(ours, entry))
            continue;
        if (store_is_rubbish(file))
            (void)check_mendable(check, &place, "it is removed, as by the next mount", mend_rubbish, file,
                                 "a kill left it half done");
        else if (g_str_has_suffix(entry, ".xml") || g_str_has_suffix(entry, ".json"))
            check_stray_file(check, &place, entry);
        else
            check_problem(check, &place, STRANGER, "it does not belong into the store");
    }
}

/* --- files that go with a state --- */

static void add_side_file(GHashTable *ours, const SideFile *file)
{
    if (file->path)
        g_hash_table_add(ours, g_path_get_basename(file->path));
}

static void check_side_files(Check *check, const Domain *domain)
{
    g_autofree char *dir = store_domain_file(check->core->store, domain->name, STORE_FILES);
    g_autoptr(GHashTable) ours = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) entries = check_entries_of(dir);
    add_side_file(ours, &domain->saved);
    for (guint i = 0; i <= domain->snapshots->len; i++) {
        const Snapshot *of = i < domain->snapshots->len ? domain->snapshots->pdata[i] : domain->undo;
        if (!of)
            continue;
        add_side_file(ours, &of->nvram);
        add_side_file(ours, &of->screenshot);
    }
    for (guint i = 0; i < domain->leftovers->len; i++)
        g_hash_table_add(ours, g_path_get_basename(((Leftover *)domain->leftovers->pdata[i])->path));
    for (guint i = 0; i < entries->len; i++) {
        g_autofree char *file = g_build_filename(dir, entries->pdata[i], NULL);
        const CheckPlace place = {.domain = domain->name, .file = file};
        if (!g_hash_table_contains(ours, entries->pdata[i]) && !g_hash_table_contains(check->expected, file))
            check_problem(check, &place,
                          domain->broken
                              ? "a part of the store could not be read, and it may be known there: "
                                "wait until that is in order"
                              : "if nobody needs it, remove it. domsnapfs never does",
                          "orphan: a file beside the documents that no snapshot names");
    }
}

/* --- document and sidecar --- */

#define DISAGREE                                                                                             \
    "one of the two was changed by hand: restore both from a backup of the store, or redefine the snapshot " \
    "from the right document"

/* A disk's state as the sidecar has it, against what the document says of it. */
static void check_state(Check *check, const Snapshot *snapshot, const StateDisk *state,
                        const SnapshotDef *def)
{
    const CheckPlace place = {
        .domain = snapshot->domain->name, .snapshot = snapshot->name, .disk = state->target};
    const SnapshotDisk *disk = snapshot_def_find_disk(def, state->target);
    if (!disk)
        check_problem(check, &place, DISAGREE, "the sidecar knows its state, its document does not name it");
    else if (disk->mode != (state->tag ? MODE_INTERNAL : MODE_EXTERNAL))
        check_problem(check, &place, DISAGREE, "it is %s in its document, %s in the sidecar",
                      snap_mode_to_string(disk->mode), state->tag ? "internal" : "external");
}

/* A disk that took part, as the document says, and of which no state is recorded. */
static void check_recorded(Check *check, const Snapshot *snapshot, const SnapshotDef *def)
{
    for (guint i = 0; def->domain && i < def->disks->len; i++) {
        const SnapshotDisk *disk = def->disks->pdata[i];
        const CheckPlace place = {
            .domain = snapshot->domain->name, .snapshot = snapshot->name, .disk = disk->name};
        if ((disk->mode == MODE_INTERNAL || disk->mode == MODE_EXTERNAL) &&
            !snapshot_find_disk(snapshot, disk->name))
            check_problem(check, &place, DISAGREE,
                          "its document says that it took part, the sidecar does not");
    }
}

static void check_snapshot(Check *check, const Snapshot *snapshot)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *file = store_snapshot_file(snapshot->name, ".xml");
    g_autofree char *path = store_domain_file(check->core->store, snapshot->domain->name, file);
    const CheckPlace place = {.domain = snapshot->domain->name, .snapshot = snapshot->name, .file = path};
    if (!file_exists(path))
        return; /* it is in a file of another name, which is told */
    g_autoptr(SnapshotDef) def =
        store_read_snapshot(check->core->store, snapshot->domain->name, snapshot->name, &why);
    if (!def) {
        check_problem(check, &place, "restore it from a backup of the store, or redefine the snapshot",
                      "the document cannot be read to its end: %s", why->message);
        return;
    }
    for (guint i = 0; i < snapshot->disks->len; i++)
        check_state(check, snapshot, snapshot->disks->pdata[i], def);
    if (snapshot->disks->len > 0) /* none: it may be the sidecar that cannot be read */
        check_recorded(check, snapshot, def);
}

void check_documents(Check *check, const Domain *domain)
{
    g_autofree char *dir = store_domain_dir(check->core->store, domain->name);
    check_entries(check, domain->name, dir, judge_domain);
    check_snapshot_files(check, domain);
    check_side_files(check, domain);
    for (guint i = 0; i < domain->snapshots->len; i++)
        check_snapshot(check, domain->snapshots->pdata[i]);
}

void check_identities(Check *check)
{
    g_autoptr(GHashTable) uuids = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < check->domains->len; i++) {
        const Domain *domain = check->domains->pdata[i];
        const Domain *other = g_hash_table_lookup(uuids, domain->def->uuid);
        const CheckPlace place = {.domain = domain->name};
        if (other)
            check_problem(
                check, &place,
                "one of the two is a copy: undefine it (no image is touched), or give it another uuid",
                "its uuid %s is also that of domain '%s'", domain->def->uuid, other->name);
        g_hash_table_insert(uuids, domain->def->uuid, (gpointer)domain);
    }
}
