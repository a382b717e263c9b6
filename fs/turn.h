/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Turns: one more number for a ctl file that is being written. The kernel locks an inode while it is written
 * and when it is opened with O_TRUNC, so with one number only, a command that takes long (wait) would make
 * the next command's caller wait too, beyond the reach of kill -9, instead of being told EBUSY. While nothing
 * is written the number stays: a new one means a new lookup, which would wait for a mkdir in that directory.
 * Has its own lock.
 */
#pragma once

#include <fuse_lowlevel.h>
#include <glib.h>

typedef struct Turns Turns;

Turns *turns_new(void);
void turns_free(Turns *turns);

/* The number that a lookup of the ctl file @ino (turn 0) gives now. */
fuse_ino_t turns_lookup(Turns *turns, fuse_ino_t ino);

/* A write into @ino (with its turn) begins and ends. */
void turns_begin(Turns *turns, fuse_ino_t ino);
void turns_end(Turns *turns, fuse_ino_t ino);
