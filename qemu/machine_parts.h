/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a Machine, for its own files machine*.c. All of it works on a Running; the operations have the meaning that
 * machine.h gives them.
 */
#pragma once

#include "online_parts.h"

/* For a QEMU that hangs: one that works on something long, and answers nobody meanwhile, is to have its time. */
#define COMMAND_MS 120000

typedef struct {
    char *target;
    char *path; /* of the active layer, as far as we know */
    gboolean read_only;
    char *device; /* QOM path of what has it as its `drive`; NULL: not looked for yet */
} RunningDisk;

typedef struct {
    Machine machine; /* first */
    BackendOps ops;  /* the machine's, as a Backend */
    Backend *offline;
    Qmp *qmp;
    GPtrArray *disks; /* of RunningDisk */
    char *nvram;
    char *agent;          /* socket of the guest agent, if there is one */
    gboolean thawed;      /* it is known that the agent has frozen nothing */
    json_int_t bandwidth; /* of migrations, as it was before ours; 0: it is so */
} Running;

/* --- machine_disks.c --- */

GPtrArray *running_disks_new(const GArray *disks);

/* All that the machine writes, NULL-terminated. Caller frees the array alone. */
const char **running_images(const Running *running);

/* ENODEV: the machine has no such disk. */
RunningDisk *running_disk(const Running *running, const char *target, GError **error);

/* The disk with the active layer @path; NULL: none. */
RunningDisk *running_disk_of(const Running *running, const char *path);

/* Name of the node on top of @disk now. Caller frees. */
char *running_node(Running *running, RunningDisk *disk, const QmpWait *wait, GError **error);

/*
 * The local file that @disk writes now. Caller frees. Cheap while it is the one that we know, because this is seen in QEMU's
 * process; else as qmp_blocks().
 */
char *running_file(Running *running, RunningDisk *disk, const QmpWait *wait, GError **error);

/* running_node(), if it writes the file that we know. EBUSY: somebody else has changed the disk's layers. */
char *running_top(Running *running, RunningDisk *disk, const QmpWait *wait, GError **error);

/* --- machine_options.c --- */

/*
 * With which options the image of node @top was opened that an overlay on it should have, too: {"node": {...}, "file":
 * {...}}, both maybe empty.
 */
json_t *running_options(Running *running, const RunningDisk *disk, const char *top, const QmpWait *wait,
                        GError **error);

/* The level (launch.h) of what is put on @top. */
guint running_next_level(const RunningDisk *disk, const char *top);

/* --- the operations --- */

/* Was something sent that may have been done or not? machine.c */
gboolean is_unknown(const GError *error);

/* *ret_status: QEMU's word ("running", "paused", "postmigrate", ...); caller frees. machine.c */
gboolean running_status(Running *running, char **ret_status, const QmpWait *wait, GError **error);

/* The same once a migration that has ended in name, and takes some moments to let go, has done so. machine.c */
gboolean running_settled(Running *running, char **ret_status, const QmpWait *wait, GError **error);

/*
 * Before anything is written into an image other than by the guest: a migration that somebody began and did not see to its end
 * is cancelled, and if one has taken the images away from QEMU it gets them back. QEMU would abort. machine_memory.c
 */
gboolean running_own_images(Running *running, GError **error);

gboolean running_pause(Machine *machine, GError **error);
gboolean running_resume(Machine *machine, GError **error);

/* One that a daemon has left at work when it died would stop the machine at its end. machine_memory.c */
gboolean running_end_migration(Running *running, const QmpWait *wait, GError **error);
gboolean running_change(Machine *machine, const GArray *changes, GError **error);
gboolean running_destroy(Machine *machine, GCancellable *cancel, GError **error);
gboolean running_checkpoint_save(Machine *machine, const MachineCheckpoint *what, GError **error);
gboolean running_memory_save(Machine *machine, int fd, gboolean live, const BackendProgress *progress,
                             GCancellable *cancel, GError **error);
gboolean running_memory_stop(Machine *machine, GError **error);
gboolean running_repair(Backend *backend, const char *path, GError **error);
gboolean running_tag_delete(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                            GError **error);
/* Nothing when it is as it was. machine_memory.c */
void running_restore_bandwidth(Running *running);
gboolean running_freeze(Machine *machine, GCancellable *cancel, GError **error);
gboolean running_thaw(Machine *machine, GError **error);
gboolean running_screenshot(Machine *machine, const char *path, GError **error);
gboolean running_merge(Machine *machine, const MachineMerge *merge, GCancellable *cancel, GError **error);
gboolean running_merge_stop(Machine *machine, GError **error);
gboolean running_close_images(Machine *machine, const GPtrArray *paths, GError **error);

/* Nobody else has worked on what this QEMU has open, and it is alive: there is nothing to mend. */
gboolean running_repair(Backend *backend, const char *path, GError **error);
