/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "scratch.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define SCRATCH_MAX 64
#define SCRATCH_MAX_BYTES (1024 * 1024)
#define SCRATCH_USEC (60 * G_USEC_PER_SEC)

typedef struct {
    guint64 id;
    fuse_ino_t dir;
    char *name; /* NULL: unlinked, lives until it is closed */
    char *link; /* text of a symlink; NULL: a file */
    GByteArray *data;
    uid_t uid;
    gid_t gid;
    guint open;
    gint64 idle; /* since when it is not open, monotonic */
    struct timespec mtime;
} Entry;

struct Scratch {
    GMutex lock;
    GPtrArray *entries; /* of Entry */
    guint64 last_id;
};

static void entry_free(Entry *entry)
{
    g_free(entry->name);
    g_free(entry->link);
    g_byte_array_unref(entry->data);
    g_free(entry);
}

Scratch *scratch_new(void)
{
    Scratch *scratch = g_new0(Scratch, 1);
    g_mutex_init(&scratch->lock);
    scratch->entries = g_ptr_array_new_with_free_func((GDestroyNotify)entry_free);
    return scratch;
}

void scratch_free(Scratch *scratch)
{
    g_ptr_array_unref(scratch->entries);
    g_mutex_clear(&scratch->lock);
    g_free(scratch);
}

/* The functions below that are not in the header are called with the lock held. */

static void drop_old(Scratch *scratch)
{
    gint64 now = g_get_monotonic_time();
    for (guint i = scratch->entries->len; i-- > 0;) {
        const Entry *entry = scratch->entries->pdata[i];
        if (entry->open == 0 && (entry->name == NULL || now - entry->idle > SCRATCH_USEC))
            g_ptr_array_remove_index_fast(scratch->entries, i);
    }
}

static Entry *by_id(Scratch *scratch, guint64 id)
{
    for (guint i = 0; i < scratch->entries->len; i++) {
        Entry *entry = scratch->entries->pdata[i];
        if (entry->id == id)
            return entry;
    }
    return NULL;
}

static Entry *by_name(Scratch *scratch, fuse_ino_t dir, const char *name)
{
    for (guint i = 0; i < scratch->entries->len; i++) {
        Entry *entry = scratch->entries->pdata[i];
        if (entry->dir == dir && g_strcmp0(entry->name, name) == 0)
            return entry;
    }
    return NULL;
}

/* Make room for one more: drop what has not been open for longest. FALSE: all are open. */
static gboolean make_room(Scratch *scratch)
{
    Entry *oldest = NULL;
    if (scratch->entries->len < SCRATCH_MAX)
        return TRUE;
    for (guint i = 0; i < scratch->entries->len; i++) {
        Entry *entry = scratch->entries->pdata[i];
        if (entry->open == 0 && (oldest == NULL || entry->idle < oldest->idle))
            oldest = entry;
    }
    return oldest != NULL && g_ptr_array_remove_fast(scratch->entries, oldest);
}

guint64 scratch_add(Scratch *scratch, fuse_ino_t dir, const char *name, const char *link, uid_t uid,
                    gid_t gid)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    drop_old(scratch);
    if (by_name(scratch, dir, name) != NULL || !make_room(scratch))
        return 0;
    Entry *entry = g_new0(Entry, 1);
    *entry = (Entry){.id = ++scratch->last_id, .dir = dir, .uid = uid, .gid = gid};
    entry->name = g_strdup(name);
    entry->link = g_strdup(link);
    entry->data = g_byte_array_new();
    entry->open = link == NULL ? 1 : 0;
    entry->idle = g_get_monotonic_time();
    clock_gettime(CLOCK_REALTIME, &entry->mtime);
    g_ptr_array_add(scratch->entries, entry);
    return entry->id;
}

guint64 scratch_find(Scratch *scratch, fuse_ino_t dir, const char *name)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    drop_old(scratch);
    const Entry *entry = by_name(scratch, dir, name);
    return entry == NULL ? 0 : entry->id;
}

gboolean scratch_unlink(Scratch *scratch, fuse_ino_t dir, const char *name)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    Entry *entry = by_name(scratch, dir, name);
    if (entry == NULL)
        return FALSE;
    g_clear_pointer(&entry->name, g_free);
    drop_old(scratch);
    return TRUE;
}

gboolean scratch_stat(Scratch *scratch, guint64 id, struct stat *ret_stat)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    const Entry *entry = by_id(scratch, id);
    if (entry == NULL)
        return FALSE;
    /* A file is its maker's alone: vim then writes in place instead of renaming this over the text. */
    *ret_stat = (struct stat){
        .st_mode = entry->link != NULL ? S_IFLNK | 0777 : S_IFREG | 0600,
        .st_nlink = entry->name == NULL ? 0 : 1,
        .st_uid = entry->uid,
        .st_gid = entry->gid,
        .st_size = (off_t)(entry->link != NULL ? strlen(entry->link) : entry->data->len),
        .st_mtim = entry->mtime,
        .st_ctim = entry->mtime,
        .st_atim = entry->mtime,
    };
    ret_stat->st_blocks = (ret_stat->st_size + 511) / 512;
    return TRUE;
}

char *scratch_link(Scratch *scratch, guint64 id)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    const Entry *entry = by_id(scratch, id);
    return entry == NULL ? NULL : g_strdup(entry->link);
}

gboolean scratch_open(Scratch *scratch, guint64 id)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    Entry *entry = by_id(scratch, id);
    if (entry == NULL || entry->link != NULL)
        return FALSE;
    entry->open++;
    return TRUE;
}

void scratch_close(Scratch *scratch, guint64 id)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    Entry *entry = by_id(scratch, id);
    if (entry != NULL) {
        entry->open--;
        entry->idle = g_get_monotonic_time();
    }
    drop_old(scratch);
}

GBytes *scratch_read(Scratch *scratch, guint64 id, guint64 offset, gsize size)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    const Entry *entry = by_id(scratch, id);
    if (entry == NULL)
        return NULL;
    guint64 from = MIN(offset, entry->data->len);
    return g_bytes_new(entry->data->data + from, MIN(size, entry->data->len - from));
}

/* Make a file @size bytes long; what is new reads as zeros. */
static void resize(Entry *entry, guint64 size)
{
    guint before = entry->data->len;
    g_byte_array_set_size(entry->data, (guint)size);
    if (size > before)
        memset(entry->data->data + before, 0, size - before);
}

int scratch_write(Scratch *scratch, guint64 id, guint64 offset, const char *data, gsize len)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    Entry *entry = by_id(scratch, id);
    if (entry == NULL)
        return ENOENT;
    if (offset > SCRATCH_MAX_BYTES || len > SCRATCH_MAX_BYTES - offset)
        return EFBIG;
    if (offset + len > entry->data->len)
        resize(entry, offset + len);
    if (len > 0)
        memcpy(entry->data->data + offset, data, len);
    clock_gettime(CLOCK_REALTIME, &entry->mtime);
    return 0;
}

int scratch_truncate(Scratch *scratch, guint64 id, guint64 size)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&scratch->lock);
    Entry *entry = by_id(scratch, id);
    if (entry == NULL)
        return ENOENT;
    if (size > SCRATCH_MAX_BYTES)
        return EFBIG;
    resize(entry, size);
    clock_gettime(CLOCK_REALTIME, &entry->mtime);
    return 0;
}
