/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "turn.h"

#define TURN_SHIFT 8
#define TURN_MASK ((fuse_ino_t)0xff << TURN_SHIFT)

/* One ctl file that was written since the mount. */
typedef struct {
    guint64 ino;     /* without turn: the key */
    fuse_ino_t turn; /* what lookups give now, shifted */
    guint writes;    /* that go on in this turn */
} Turn;

struct Turns {
    GMutex lock;
    GHashTable *files; /* of Turn, by ino */
};

Turns *turns_new(void)
{
    Turns *turns = g_new0(Turns, 1);
    g_mutex_init(&turns->lock);
    turns->files = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    return turns;
}

void turns_free(Turns *turns)
{
    g_hash_table_unref(turns->files);
    g_mutex_clear(&turns->lock);
    g_free(turns);
}

/* With the lock held. */
static Turn *find(Turns *turns, fuse_ino_t ino)
{
    guint64 key = ino & ~TURN_MASK;
    return g_hash_table_lookup(turns->files, &key);
}

fuse_ino_t turns_lookup(Turns *turns, fuse_ino_t ino)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&turns->lock);
    Turn *turn = find(turns, ino);
    if (turn == NULL)
        return ino;
    if (turn->writes > 0) {
        turn->turn = (turn->turn + ((fuse_ino_t)1 << TURN_SHIFT)) & TURN_MASK;
        turn->writes = 0;
    }
    return ino | turn->turn;
}

void turns_begin(Turns *turns, fuse_ino_t ino)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&turns->lock);
    Turn *turn = find(turns, ino);
    if (turn == NULL) {
        turn = g_new0(Turn, 1);
        turn->ino = ino & ~TURN_MASK;
        g_hash_table_insert(turns->files, &turn->ino, turn);
    }
    if (turn->turn == (ino & TURN_MASK))
        turn->writes++;
}

void turns_end(Turns *turns, fuse_ino_t ino)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&turns->lock);
    Turn *turn = find(turns, ino);
    if (turn != NULL && turn->turn == (ino & TURN_MASK) && turn->writes > 0)
        turn->writes--;
}
