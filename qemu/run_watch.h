/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RunWatch: follows whether machines run, in one thread for all of them; one that is off costs a file name in memory.
 *
 * A machine with DIRECTORY/NAME.monitor (all that we start) is listened to there, so that a change is told at once, and
 * NAME.qmp stays free for whoever has work. Where there is only NAME.qmp, or somebody else listens at the other, it is
 * asked every RUN_WATCH_MS, and let go again. The end of a process is noticed by itself, and so is a socket that appears in
 * the directory. When nobody listens, the images tell off from unknown (DESIGN 6); they are looked at then, and every
 * RUN_WATCH_MS while somebody writes them.
 */
#pragma once

#include "online_parts.h"

#define RUN_WATCH_MS 2000

RunWatcher *run_watcher_new(const char *directory);
/* Nothing is told afterwards. Not from what is told. */
void run_watcher_free(RunWatcher *watcher);

/* As MachineBackend says. A watch of one that is watched already replaces what it must be, and tells its state again. */
void run_watcher_watch(RunWatcher *watcher, const MachineSpec *spec);
/* May be told once more. */
void run_watcher_unwatch(RunWatcher *watcher, const char *uuid);
void run_watcher_set_told(RunWatcher *watcher, MachineTold told, gpointer user);
