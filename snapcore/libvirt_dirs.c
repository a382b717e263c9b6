/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "libvirt_dirs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "files.h"

/* --- where --- */

static LibvirtDirs *dirs_new(const char *dir, const char *definitions, const char *snapshots)
{
    LibvirtDirs *dirs = g_new0(LibvirtDirs, 1);
    dirs->definitions = g_build_filename(dir, definitions, NULL);
    dirs->snapshots = g_build_filename(dir, snapshots, NULL);
    return dirs;
}

void libvirt_dirs_free(LibvirtDirs *dirs)
{
    if (!dirs)
        return;
    g_free(dirs->definitions);
    g_free(dirs->snapshots);
    g_free(dirs);
}

static gboolean is_dir(const char *path)
{
    return g_file_test(path, G_FILE_TEST_IS_DIR);
}

static const struct {
    const char *definitions, *snapshots;
    gboolean both; /* a host may well have an /etc/qemu of its own */
} layouts[] = {
    {"etc/libvirt/qemu", "var/lib/libvirt/qemu/snapshot", FALSE},
    {"etc/qemu", "lib/qemu/snapshot", TRUE},
    {"qemu", "qemu/snapshot", FALSE},
    {"", "snapshot", FALSE},
};

static LibvirtDirs *find_layout(const char *dir)
{
    for (gsize i = 0; i < G_N_ELEMENTS(layouts); i++) {
        g_autoptr(LibvirtDirs) dirs = dirs_new(dir, layouts[i].definitions, layouts[i].snapshots);
        if (is_dir(dirs->definitions) && (!layouts[i].both || is_dir(dirs->snapshots)))
            return g_steal_pointer(&dirs);
    }
    return dirs_new(dir, "", "snapshot");
}

static LibvirtDirs *default_dirs(void)
{
    if (geteuid() == 0)
        return dirs_new("/", layouts[0].definitions, layouts[0].snapshots);
    g_autofree char *config = g_build_filename(g_get_user_config_dir(), "libvirt", NULL);
    return dirs_new(config, "qemu", "qemu/snapshot");
}

LibvirtDirs *libvirt_dirs_find(const char *dir, GError **error)
{
    g_autofree char *absolute = dir ? g_canonicalize_filename(dir, NULL) : NULL;
    g_autoptr(LibvirtDirs) dirs = absolute ? find_layout(absolute) : default_dirs();
    if (is_dir(dirs->definitions))
        return g_steal_pointer(&dirs);
    snap_set_error(error, file_exists(dirs->definitions) ? ENOTDIR : ENOENT,
                   "there is no directory '%s' with libvirt's definitions", dirs->definitions);
    return NULL;
}

char *libvirt_dirs_snapshots_of(const LibvirtDirs *dirs, const char *domain)
{
    if (strcmp(domain, ".") == 0 || strcmp(domain, "..") == 0 || strchr(domain, '/'))
        return NULL;
    return g_build_filename(dirs->snapshots, domain, NULL);
}

/* --- files --- */

static void say(GPtrArray *said, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(GPtrArray *said, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(said, g_strdup_vprintf(format, args));
    va_end(args);
}

/* The names in @path in the directory's own order; NULL with the reason. */
static GPtrArray *read_dir(const char *path, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) dir = g_dir_open(path, 0, &why);
    const char *entry;
    if (!dir) {
        snap_set_error(error, snap_errno(why), "%s", why->message);
        return NULL;
    }
    GPtrArray *entries = g_ptr_array_new_with_free_func(g_free);
    while ((entry = g_dir_read_name(dir)))
        g_ptr_array_add(entries, g_strdup(entry));
    return entries;
}

static gboolean mentions(const char *text, const char *uuid)
{
    g_autofree char *lower = g_ascii_strdown(text, -1);
    return strstr(lower, uuid) != NULL;
}

/* Is the document @text the definition of the domain @uuid? One that cannot be parsed is if it mentions the uuid. */
static gboolean is_definition(const char *text, gsize len, const char *uuid)
{
    g_autoptr(xmlDoc) doc = xml_parse(text, len, "domain", NULL);
    if (!doc)
        return mentions(text, uuid);
    g_autofree char *said = xml_text(xml_child(xmlDocGetRootElement(doc), "uuid"));
    g_autofree char *plain = said ? domain_uuid_normalize(said) : NULL;
    return g_strcmp0(plain, uuid) == 0;
}

static void domain_free_file(gpointer data)
{
    LibvirtDomain *file = data;
    domain_def_free(file->def);
    g_free(file->path);
    g_free(file);
}

static LibvirtDomain *read_domain(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!file_load(path, XML_MAX_BYTES, &text, &len, error))
        return NULL;
    g_autoptr(DomainDef) def = domain_def_parse(text, len, error);
    if (def && !is_definition(text, len, def->uuid)) { /* one was made up: nobody would know it again */
        snap_set_error(error, EINVAL, "the domain has no <uuid>");
        g_clear_pointer(&def, domain_def_free);
    }
    if (!def) {
        g_prefix_error(error, "'%s': ", path);
        return NULL;
    }
    LibvirtDomain *file = g_new0(LibvirtDomain, 1);
    file->path = g_strdup(path);
    file->def = g_steal_pointer(&def);
    return file;
}

/* Is the file called like its domain, as libvirt calls it? */
static gboolean well_named(const LibvirtDomain *file)
{
    g_autofree char *name = g_strconcat(file->def->name, ".xml", NULL);
    g_autofree char *base = g_path_get_basename(file->path);
    return strcmp(base, name) == 0;
}

/* Add @file (taken), unless it clashes with one that goes first. */
static void add_domain(GPtrArray *domains, LibvirtDomain *file, GPtrArray *said)
{
    for (guint i = 0; i < domains->len; i++) {
        LibvirtDomain *other = domains->pdata[i];
        if (strcmp(other->def->name, file->def->name) != 0 && strcmp(other->def->uuid, file->def->uuid) != 0)
            continue;
        gboolean swap = well_named(file) && !well_named(other);
        const LibvirtDomain *out = swap ? other : file;
        say(said, "'%s': name or uuid is that of '%s': skipped", out->path, swap ? file->path : other->path);
        if (swap) {
            domains->pdata[i] = file;
            domain_free_file(other);
        } else {
            domain_free_file(file);
        }
        return;
    }
    g_ptr_array_add(domains, file);
}

static int compare_domains(gconstpointer a, gconstpointer b)
{
    const LibvirtDomain *x = *(LibvirtDomain *const *)a, *y = *(LibvirtDomain *const *)b;
    return strcmp(x->def->name, y->def->name);
}

/* Directories of snapshots that no definition belongs to; empty ones are no news. */
static void say_strays(const LibvirtDirs *dirs, const GPtrArray *domains, GPtrArray *said)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) entries = read_dir(dirs->snapshots, &why);
    if (!entries)
        say(said, "no snapshots are read: %s", why->message);
    for (guint i = 0; entries && i < entries->len; i++) {
        const char *entry = entries->pdata[i];
        g_autofree char *path = g_build_filename(dirs->snapshots, entry, NULL);
        gboolean known = FALSE;
        for (guint k = 0; k < domains->len && !known; k++)
            known = strcmp(((LibvirtDomain *)domains->pdata[k])->def->name, entry) == 0;
        g_autoptr(GPtrArray) inside = known ? NULL : read_dir(path, NULL);
        if (inside && inside->len > 0)
            say(said, "'%s': no domain of that name is defined, %u file%s skipped", path, inside->len,
                inside->len == 1 ? "" : "s");
    }
}

GPtrArray *libvirt_dirs_domains(const LibvirtDirs *dirs, GPtrArray *said, GError **error)
{
    g_autoptr(GPtrArray) entries = read_dir(dirs->definitions, error);
    if (!entries)
        return NULL;
    GPtrArray *domains = g_ptr_array_new_with_free_func(domain_free_file);
    for (guint i = 0; i < entries->len; i++) {
        g_autofree char *path = g_build_filename(dirs->definitions, entries->pdata[i], NULL);
        g_autoptr(GError) why = NULL;
        if (!g_str_has_suffix(path, ".xml"))
            continue;
        LibvirtDomain *file = read_domain(path, &why);
        if (file)
            add_domain(domains, file, said);
        else
            say(said, "%s: skipped", why->message);
    }
    g_ptr_array_sort(domains, compare_domains);
    say_strays(dirs, domains, said);
    return domains;
}

/* --- snapshots --- */

static void snapshot_free_file(gpointer data)
{
    LibvirtSnapshot *file = data;
    g_free(file->path);
    g_free(file->name);
    g_free(file->parent);
    g_free(file);
}

SnapshotDef *libvirt_read_snapshot(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!file_load(path, XML_MAX_BYTES, &text, &len, error))
        return NULL;
    SnapshotDef *def = snapshot_def_parse(text, len, error);
    if (def && def->has_active)
        return def;
    if (def)
        snap_set_error(error, EINVAL, "it has no <active>, libvirt does not take it either");
    snapshot_def_free(def);
    g_prefix_error(error, "'%s': ", path);
    return NULL;
}

static LibvirtSnapshot *look_at_snapshot(const char *path, GError **error)
{
    g_autoptr(SnapshotDef) def = libvirt_read_snapshot(path, error);
    if (!def)
        return NULL;
    LibvirtSnapshot *file = g_new0(LibvirtSnapshot, 1);
    file->path = g_strdup(path);
    file->name = g_strdup(def->name);
    file->parent = g_strdup(def->parent);
    file->time = def->creation_time;
    file->active = def->active;
    return file;
}

GPtrArray *libvirt_dirs_snapshots(const LibvirtDirs *dirs, const char *domain, GPtrArray *said)
{
    GPtrArray *files = g_ptr_array_new_with_free_func(snapshot_free_file);
    g_autofree char *dir = libvirt_dirs_snapshots_of(dirs, domain);
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GError) why = NULL;
    if (!dir || !file_exists(dir))
        return files;
    gboolean link = g_file_test(dir, G_FILE_TEST_IS_SYMLINK);
    g_autoptr(GPtrArray) entries = link ? NULL : read_dir(dir, &why);
    if (!entries)
        say(said, "its snapshots are not read: %s%s", link ? dir : why->message, link ? " is a symlink" : "");
    for (guint i = 0; entries && i < entries->len; i++) {
        g_autofree char *path = g_build_filename(dir, entries->pdata[i], NULL);
        g_clear_error(&why);
        LibvirtSnapshot *file = look_at_snapshot(path, &why);
        if (!file) {
            say(said, "%s: skipped", why->message);
        } else if (!g_hash_table_add(names, file->name)) {
            say(said, "'%s': a second snapshot is called '%s': skipped", path, file->name);
            snapshot_free_file(file);
        } else {
            g_ptr_array_add(files, file);
        }
    }
    return files;
}

/* --- does libvirt still have it --- */

/* The text of @path, through symlinks: here it is only compared. NULL without an error: libvirt cannot read it either. */
static char *load_any(const char *path, gsize *ret_len, GError **error)
{
    g_autoptr(GError) why = NULL;
    char *real = realpath(path, NULL);
    char *text = NULL;
    if (!real)
        snap_set_errno(&why, errno, "'%s'", path);
    else
        (void)file_load(real, XML_MAX_BYTES, &text, ret_len, &why);
    free(real);
    int code = why ? snap_errno(why) : 0;
    if (code != 0 && code != ENOENT && code != ELOOP &&
        code != EINVAL) /* gone, a dead link, no regular file */
        snap_set_error(error, EROFS, "whether libvirt still defines it cannot be known: %s", why->message);
    return text;
}

/* The first file in @dir that is about the domain. FALSE: it cannot be known. */
static gboolean search(const char *dir, gboolean definitions, const char *uuid, char **ret_by, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) entries = read_dir(dir, &why);
    if (why) {
        if (!definitions && snap_errno(why) == ENOENT)
            return TRUE;
        snap_set_error(error, EROFS, "whether libvirt still defines it cannot be known: %s", why->message);
        return FALSE;
    }
    for (guint i = 0; i < entries->len && !*ret_by; i++) {
        g_autofree char *path = g_build_filename(dir, entries->pdata[i], NULL);
        gsize len = 0;
        if (definitions && !g_str_has_suffix(path, ".xml"))
            continue;
        g_autofree char *text = load_any(path, &len, &why);
        if (why) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        if (text && (definitions ? is_definition(text, len, uuid) : mentions(text, uuid)))
            *ret_by = g_steal_pointer(&path);
    }
    return TRUE;
}

gboolean libvirt_defines(const char *definition, const char *snapshots, const char *uuid, char **ret_by,
                         GError **error)
{
    g_autofree char *dir = g_path_get_dirname(definition);
    g_autofree char *text = NULL;
    gsize len = 0;
    *ret_by = NULL;
    text = load_any(definition, &len, NULL);
    if (text && is_definition(text, len, uuid)) {
        *ret_by = g_strdup(definition);
        return TRUE;
    }
    return search(dir, TRUE, uuid, ret_by, error) &&
           (*ret_by || !snapshots || search(snapshots, FALSE, uuid, ret_by, error));
}
