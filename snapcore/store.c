/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "fault.h"
#include "names.h"

/* Longest snapshot entry that is used as a file name as it is: ".json" and GLib's temporary suffix must still fit. */
#define FILE_MAX 200
#define FILE_CUT 150

/* How long a daemon that was killed may take to be gone. */
#define DYING_TRIES 40
#define DYING_PAUSE (G_USEC_PER_SEC / 20)

void store_write_free(StoreWrite *write)
{
    g_free(write->file);
    g_free(write->text);
    g_free(write);
}

StoreWrite *store_write_new(const char *file, const char *text)
{
    StoreWrite *write = g_new0(StoreWrite, 1);
    write->file = g_strdup(file);
    write->text = g_strdup(text);
    return write;
}

/* The process that wrote its number into the lock file @fd; 0: none. */
static pid_t who_locked(int fd)
{
    char text[32] = "";
    return pread(fd, text, sizeof text - 1, 0) > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

/*
 * Has the one that had @fd locked died? What it had just forked keeps the lock until it is another program, or ends: that is a
 * matter of moments.
 */
static gboolean is_dying(int fd)
{
    pid_t pid = who_locked(fd);
    return pid > 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

/* 0, or an errno. */
static int lock_now(int fd, int how)
{
    return !FAULT("store.lock") && flock(fd, how | LOCK_NB) == 0 ? 0 : errno;
}

/* Lock @fd, the lock file @file; its content tells a person who has it. Closes it on failure. */
static gboolean lock_file(int fd, const char *file, int how, GError **error)
{
    int err = lock_now(fd, how);
    for (int try = 0; err == EWOULDBLOCK && try < DYING_TRIES && is_dying(fd); try++) {
        g_usleep(DYING_PAUSE);
        err = lock_now(fd, how);
    }
    if (err == 0)
        return TRUE;
    g_autofree char *path = g_path_get_dirname(file);
    pid_t pid = who_locked(fd);
    if (err != EWOULDBLOCK)
        snap_set_errno(error, err, "lock '%s'", file);
    else if (pid == 0)
        snap_set_error(error, EBUSY, "store '%s' is in use by process ?", path);
    else
        snap_set_error(error, EBUSY, "store '%s' is in use by process %d", path, (int)pid);
    close(fd);
    return FALSE;
}

/* Take the lock file for this process alone. */
static int lock_store(const char *path, GError **error)
{
    g_autofree char *file = g_build_filename(path, "lock", NULL);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        snap_set_errno(error, errno, "open '%s'", file);
        return -1;
    }
    if (!lock_file(fd, file, LOCK_EX, error))
        return -1;
    char pid[32];
    int len = g_snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)len, 0) != len) {
        snap_set_errno(error, errno, "write '%s'", file);
        close(fd);
        return -1;
    }
    return fd;
}

/* Keep those who change it out; *ret_fd -1: nobody has ever used it. */
static gboolean lock_to_look(const char *path, int *ret_fd, GError **error)
{
    g_autofree char *file = g_build_filename(path, "lock", NULL);
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno != ENOENT) {
        snap_set_errno(error, errno, "open '%s'", file);
        return FALSE;
    }
    if (fd >= 0 && !lock_file(fd, file, LOCK_SH, error))
        return FALSE;
    *ret_fd = fd;
    return TRUE;
}

void store_close(Store *store)
{
    if (!store)
        return;
    if (store->lock >= 0)
        close(store->lock);
    g_free(store->path);
    g_free(store->uuid);
    g_free(store);
}

char *store_domains_dir(const Store *store)
{
    return g_build_filename(store->path, "domains", NULL);
}

char *store_domain_dir(const Store *store, const char *name)
{
    g_autofree char *entry = name_to_entry(name, NAME_DOMAIN);
    return g_build_filename(store->path, "domains", entry, NULL);
}

char *store_domain_file(const Store *store, const char *name, const char *file)
{
    g_autofree char *dir = store_domain_dir(store, name);
    return g_build_filename(dir, file, NULL);
}

char *store_side_file(const Store *store, const char *domain, const SideFile *file)
{
    return g_path_is_absolute(file->path) ? g_strdup(file->path)
                                          : store_domain_file(store, domain, file->path);
}

char *store_log_path(const Store *store, const char *domain)
{
    return domain ? store_domain_file(store, domain, "log") : g_build_filename(store->path, "log", NULL);
}

char *store_snapshot_file(const char *name, const char *suffix)
{
    g_autofree char *entry = name_to_entry(name, NAME_SNAPSHOT);
    if (strlen(entry) <= FILE_MAX)
        return g_strconcat("snapshots/", entry, suffix, NULL);
    int cut = FILE_CUT; /* between characters: the journal names the file, and JSON is UTF-8 */
    while (((guchar)entry[cut] & 0xC0) == 0x80)
        cut--;
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, entry, -1);
    return g_strdup_printf("snapshots/%.*s~%.32s%s", cut, entry, sum, suffix);
}

static gboolean apply_in(const char *dir, const GPtrArray *writes, GError **error)
{
    for (guint i = 0; i < writes->len; i++) {
        const StoreWrite *write = writes->pdata[i];
        g_autofree char *path = g_build_filename(dir, write->file, NULL);
        if (write->text ? !file_replace(path, write->text, strlen(write->text), error)
                        : !file_remove(path, error))
            return FALSE;
    }
    return TRUE;
}

gboolean store_apply(const Store *store, const char *domain, const GPtrArray *writes, GError **error)
{
    g_autofree char *dir = store_domain_dir(store, domain);
    return apply_in(dir, writes, error);
}

/* --- whole domains --- */

/* Remove a directory of ours: files, and the one level of directories that the format has. */
static void remove_dir(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *entry;
    while (dir && (entry = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, entry, NULL);
        if (!FAULT("store.clear") && unlink(file) < 0 && errno == EISDIR)
            remove_dir(file);
    }
    if (dir)
        g_dir_close(dir);
    (void)rmdir(path); /* what stays is cleared at the next start */
}

static char *dotted_dir(const Store *store)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *name = g_strconcat(".", uuid, NULL);
    return g_build_filename(store->path, "domains", name, NULL);
}

/* rename(2) that does not overwrite, made durable. */
static gboolean move_dir(const char *from, const char *to, GError **error)
{
    if (FAULT("store.move") || renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) < 0) {
        snap_set_errno(error, errno, "rename '%s' to '%s'", from, to);
        return FALSE;
    }
    if (file_sync_parent(to, error))
        return TRUE;
    (void)renameat2(AT_FDCWD, to, AT_FDCWD, from, RENAME_NOREPLACE); /* not done, then */
    return FALSE;
}

/* From so many files on one sync of the whole file system is cheaper than one for each. */
#define MANY_FILES 64

static gboolean sync_file_system(const char *dir, GError **error)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gboolean ok = fd >= 0 && !FAULT("store.sync") && syncfs(fd) == 0;
    if (!ok)
        snap_set_errno(error, errno, "sync '%s'", dir);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Many new files in a directory that nobody sees yet. */
static gboolean fill_dir(const char *dir, const GPtrArray *writes, GError **error)
{
    for (guint i = 0; i < writes->len; i++) {
        const StoreWrite *write = writes->pdata[i];
        g_autofree char *path = g_build_filename(dir, write->file, NULL);
        g_autoptr(GError) why = NULL;
        if (!g_file_set_contents_full(path, write->text, -1, G_FILE_SET_CONTENTS_NONE, 0600, &why)) {
            snap_set_error(error, snap_errno(why), "write '%s': %s", path, why->message);
            return FALSE;
        }
    }
    return sync_file_system(dir, error);
}

/* A domain's directory under construction. Caller frees its path. */
static char *build_dir(const Store *store, const GPtrArray *writes, GError **error)
{
    g_autofree char *temp = dotted_dir(store);
    g_autofree char *snapshots = g_build_filename(temp, "snapshots", NULL);
    if (FAULT("store.build") || g_mkdir_with_parents(snapshots, 0700) < 0)
        snap_set_errno(error, errno, "make '%s'", snapshots);
    else if (writes->len < MANY_FILES ? apply_in(temp, writes, error) : fill_dir(temp, writes, error))
        return g_steal_pointer(&temp);
    remove_dir(temp);
    return NULL;
}

gboolean store_add_domain(const Store *store, const char *name, const GPtrArray *writes, GError **error)
{
    g_autofree char *temp = build_dir(store, writes, error);
    g_autofree char *dir = store_domain_dir(store, name);
    if (!temp)
        return FALSE;
    if (move_dir(temp, dir, error))
        return TRUE;
    remove_dir(temp);
    return FALSE;
}

gboolean store_replace_domain(const Store *store, const char *name, const GPtrArray *writes, GError **error)
{
    g_autofree char *temp = build_dir(store, writes, error);
    g_autofree char *dir = store_domain_dir(store, name);
    if (!temp)
        return FALSE;
    gboolean ok = !FAULT("store.exchange") && renameat2(AT_FDCWD, temp, AT_FDCWD, dir, RENAME_EXCHANGE) == 0;
    if (!ok)
        snap_set_errno(error, errno, "exchange '%s' and '%s'", temp, dir);
    else if (!file_sync_parent(dir, error)) {
        (void)renameat2(AT_FDCWD, temp, AT_FDCWD, dir, RENAME_EXCHANGE); /* not done, then */
        ok = FALSE;
    }
    remove_dir(temp); /* the one that was there, or ours */
    return ok;
}

gboolean store_rename_domain(const Store *store, const char *name, const char *to, GError **error)
{
    g_autofree char *from_dir = store_domain_dir(store, name);
    g_autofree char *to_dir = store_domain_dir(store, to);
    return move_dir(from_dir, to_dir, error);
}

gboolean store_remove_domain(const Store *store, const char *name, GError **error)
{
    g_autofree char *dir = store_domain_dir(store, name);
    g_autofree char *temp = dotted_dir(store);
    if (!move_dir(dir, temp, error))
        return FALSE;
    remove_dir(temp);
    return TRUE;
}

/* A replacement that a kill cut short: GLib's temporary name, "domain.json.A1B2C3". */
static gboolean is_cut_short(const char *file)
{
    return g_regex_match_simple("(?:^log|\\.json|\\.xml)\\.[A-Za-z0-9]{6}$", file, G_REGEX_DOLLAR_ENDONLY, 0);
}

static gboolean is_dotted(const char *file)
{
    return file[0] == '.' && g_uuid_string_is_valid(file + 1);
}

gboolean store_is_rubbish(const char *path)
{
    g_autofree char *file = g_path_get_basename(path);
    struct stat st; /* a domain may well be called "web.xml.backup", but that is a directory */
    return is_dotted(file) || (is_cut_short(file) && lstat(path, &st) == 0 && S_ISREG(st.st_mode));
}

void store_remove_rubbish(const char *path)
{
    g_autofree char *file = g_path_get_basename(path);
    if (is_dotted(file))
        remove_dir(path);
    else
        (void)unlink(path);
}

/* Take away what kills have left behind in @path and, @depth levels down, below it. (What is no directory ends there.) */
static void clear_rubbish(const char *path, guint depth)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *entry;
    while (dir && (entry = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, entry, NULL);
        if (store_is_rubbish(file))
            store_remove_rubbish(file);
        else if (depth > 0 && entry[0] != '.')
            clear_rubbish(file, depth - 1);
    }
}

static Store *store_new(const char *path, int lock)
{
    Store *store = g_new0(Store, 1);
    store->path = g_strdup(path);
    store->lock = lock;
    return store;
}

/* Which store it is; a new one becomes one. */
static gboolean read_uuid(Store *store, gboolean change, GError **error)
{
    g_autofree char *file = g_build_filename(store->path, "uuid", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    gsize len;
    if (file_load(file, 64, &text, &len, &why)) {
        g_strchomp(text);
        if (!g_uuid_string_is_valid(text)) {
            snap_set_error(error, EINVAL, "'%s' holds no uuid", file);
            return FALSE;
        }
        store->uuid = g_steal_pointer(&text);
        return TRUE;
    }
    if (snap_errno(why) != ENOENT) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    if (!change)
        return TRUE;
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *line = g_strconcat(uuid, "\n", NULL);
    if (!file_replace(file, line, strlen(line), error))
        return FALSE;
    store->uuid = g_steal_pointer(&uuid);
    return TRUE;
}

static Store *store_new_checked(const char *path, int lock, gboolean change, GError **error)
{
    Store *store = store_new(path, lock);
    if (read_uuid(store, change, error))
        return store;
    store_close(store);
    return NULL;
}

Store *store_open(const char *path, GError **error)
{
    g_autofree char *domains = g_build_filename(path, "domains", NULL);
    if (g_mkdir_with_parents(domains, 0700) < 0) {
        snap_set_errno(error, errno, "make '%s'", domains);
        return NULL;
    }
    int lock = lock_store(path, error);
    if (lock < 0)
        return NULL;
    clear_rubbish(domains, 2);
    return store_new_checked(path, lock, TRUE, error);
}

Store *store_open_existing(const char *path, gboolean change, GError **error)
{
    g_autofree char *domains = g_build_filename(path, "domains", NULL);
    struct stat st;
    int lock;
    if (stat(domains, &st) < 0) {
        snap_set_errno(error, errno, "'%s' is not a store: '%s'", path, domains);
        return NULL;
    }
    if (!S_ISDIR(st.st_mode)) {
        snap_set_error(error, ENOTDIR, "'%s' is not a store: '%s' is not a directory", path, domains);
        return NULL;
    }
    if (change ? (lock = lock_store(path, error)) < 0 : !lock_to_look(path, &lock, error))
        return NULL;
    return store_new_checked(path, lock, change, error);
}

GPtrArray *store_list(const Store *store, GError **error)
{
    g_autofree char *path = store_domains_dir(store);
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) dir = g_dir_open(path, 0, &why);
    if (!dir) {
        snap_set_error(error, snap_errno(why), "%s", why->message);
        return NULL;
    }
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const char *entry;
    while ((entry = g_dir_read_name(dir)))
        if (entry[0] != '.') /* a leading dot: a definition that was never completed */
            g_ptr_array_add(names, name_from_entry(entry, NAME_DOMAIN));
    return names;
}

SnapshotDef *store_read_snapshot(const Store *store, const char *domain, const char *name, GError **error)
{
    g_autofree char *file = store_snapshot_file(name, ".xml");
    g_autofree char *path = store_domain_file(store, domain, file);
    g_autofree char *text = NULL;
    gsize len;
    if (!file_load(path, STORE_TEXT_MAX, &text, &len, error))
        return NULL;
    return snapshot_def_parse(text, len, error);
}

/* Keep the younger half of a log that has grown too long, from a line's beginning on. */
static gboolean shorten_log(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!file_load(path, STORE_LOG_MAX * 2, &text, &len, error))
        return FALSE;
    const char *from = memchr(text + len / 2, '\n', len - len / 2);
    from = from ? from + 1 : text + len;
    return file_replace(path, from, len - (gsize)(from - text), error);
}

gboolean store_log(const Store *store, const char *domain, const char *line, guint64 *ret_size,
                   GError **error)
{
    g_autofree char *path = store_log_path(store, domain);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;
    if (fd < 0 || FAULT("store.log") || write(fd, line, strlen(line)) < 0 || fstat(fd, &st) < 0) {
        snap_set_errno(error, errno, "write '%s'", path);
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    close(fd);
    if (st.st_size > STORE_LOG_MAX) {
        if (!shorten_log(path, error))
            return FALSE;
        if (stat(path, &st) < 0)
            st.st_size = 0;
    }
    *ret_size = (guint64)st.st_size;
    return TRUE;
}
