/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The text `changes` of a snapshot: in which bytes its disks differ from its parent's, for people and for awk.
 *
 *   # DISK START LENGTH: bytes that differ from 'base'; ...
 *   # vda: 21474836480 bytes
 *   vda 1048576 65536
 *
 * It may say too much, never too little (diskdiff.h). What cannot be told is said in a line that begins with '#', and then
 * the whole disk has changed. A disk that took no part in the parent, or the disks of a root, are compared with nothing: all
 * their data is listed. Beyond CHANGES_MAX lines for one disk near ranges are joined, which is said, too.
 */
#pragma once

#include "model.h"

#define CHANGES_MAX 250000

/* How the content of a disk is opened, by the id of a StateDisk. */
typedef struct {
    DiskReader *(*open)(gpointer user, EngineId state, GCancellable *cancel, GError **error);
    gpointer user;
} ChangesSource;

/* Caller frees. NULL: EINTR. */
char *changes_text(const Snapshot *snapshot, const ChangesSource *source, GCancellable *cancel,
                   GError **error);
