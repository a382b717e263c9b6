/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guard: a process whose unlink was just refused does not get its rmdir. `find -delete`, python's
 * rmtree(ignore_errors) and perl's remove_tree go on to rmdir after unlinks that failed, which would delete
 * snapshots (facts/fuse.md 2.6). Has its own lock.
 */
#pragma once

#include <fuse_lowlevel.h>
#include <glib.h>

typedef struct Guard Guard;

Guard *guard_new(void);
void guard_free(Guard *guard);

/* An unlink by thread @pid was refused in directory @dir, which lies in @above. */
void guard_note(Guard *guard, fuse_ino_t dir, fuse_ino_t above, pid_t pid);

/* Must an rmdir of @dir by thread @pid be refused? @pid 0 (of another pid namespace) always counts as the
 * same. */
gboolean guard_refuses(Guard *guard, fuse_ino_t dir, pid_t pid);
