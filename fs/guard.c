/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guard.h"

#include <stdio.h>
#include <stdlib.h>

/* "Some seconds": longer than a recursive remove takes from its last unlink in a directory to its rmdir. */
#define GUARD_USEC (10 * G_USEC_PER_SEC)

/* Stands for "any process" in a key; no process has this id. */
#define ANYBODY ((pid_t)-1)

typedef struct {
    fuse_ino_t dir;
    pid_t process; /* 0: one we cannot see; ANYBODY */
    gint64 until;  /* monotonic */
} Refused;

struct Guard {
    GMutex lock;
    GHashTable *refused; /* set of Refused, by dir and process */
    gint64 swept;        /* when what is over was last removed */
};

static guint refused_hash(gconstpointer key)
{
    const Refused *refused = key;
    guint64 dir = refused->dir;
    return g_int64_hash(&dir) * 31 + (guint)refused->process;
}

static gboolean refused_equal(gconstpointer a, gconstpointer b)
{
    const Refused *left = a;
    const Refused *right = b;
    return left->dir == right->dir && left->process == right->process;
}

Guard *guard_new(void)
{
    Guard *guard = g_new0(Guard, 1);
    g_mutex_init(&guard->lock);
    guard->refused = g_hash_table_new_full(refused_hash, refused_equal, g_free, NULL);
    return guard;
}

void guard_free(Guard *guard)
{
    g_hash_table_unref(guard->refused);
    g_mutex_clear(&guard->lock);
    g_free(guard);
}

/* FUSE tells the thread; its process from /proc. The thread is there: it waits for our answer. */
static pid_t process_of(pid_t thread)
{
    if (thread <= 0)
        return 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
    g_autofree char *status = NULL;
    if (!g_file_get_contents(path, &status, NULL, NULL))
        return thread;
    const char *line = g_strstr_len(status, -1, "\nTgid:");
    return line == NULL ? thread : (pid_t)strtol(line + 6, NULL, 10);
}

static gboolean is_over(gpointer key, gpointer value, gpointer now)
{
    return ((Refused *)key)->until < *(gint64 *)now;
}

static void note(Guard *guard, fuse_ino_t dir, pid_t process, gint64 now)
{
    Refused *refused = g_new(Refused, 1);
    *refused = (Refused){.dir = dir, .process = process, .until = now + GUARD_USEC};
    g_hash_table_replace(guard->refused, refused, refused);
}

void guard_note(Guard *guard, fuse_ino_t dir, fuse_ino_t above, pid_t pid)
{
    pid_t process = process_of(pid);
    gint64 now = g_get_monotonic_time();
    g_mutex_lock(&guard->lock);
    if (now - guard->swept > GUARD_USEC) {
        g_hash_table_foreach_remove(guard->refused, is_over, &now);
        guard->swept = now;
    }
    note(guard, dir, process, now);
    note(guard, dir, ANYBODY, now);
    note(guard, above, process, now);
    note(guard, above, ANYBODY, now);
    g_mutex_unlock(&guard->lock);
}

static gboolean knows(Guard *guard, fuse_ino_t dir, pid_t process, gint64 now)
{
    Refused key = {.dir = dir, .process = process};
    const Refused *refused = g_hash_table_lookup(guard->refused, &key);
    return refused != NULL && refused->until >= now;
}

gboolean guard_refuses(Guard *guard, fuse_ino_t dir, pid_t pid)
{
    pid_t process = process_of(pid);
    gint64 now = g_get_monotonic_time();
    g_mutex_lock(&guard->lock);
    gboolean refuses = process == 0 ? knows(guard, dir, ANYBODY, now)
                                    : knows(guard, dir, process, now) || knows(guard, dir, 0, now);
    g_mutex_unlock(&guard->lock);
    return refuses;
}
