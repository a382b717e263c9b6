/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests: what a gesture or a command asks of the engine, as plain values. Names are not yet checked. */
#pragma once

#include "snapshot_disk.h"

typedef struct {
    char *name;        /* NULL or empty: generated */
    char *description; /* NULL: none */
    SnapMode memory;   /* MODE_DEFAULT: omitted */
    char *memory_file;
    GPtrArray *disks; /* of SnapshotDisk; empty: <disks> omitted, or empty */
    gboolean disk_only;
    gboolean live;
    gboolean quiesce;
    gboolean halt;
    gboolean reuse_external; /* external disks' overlays are there already */
    gboolean no_metadata;    /* the images are changed, the definition is switched, no snapshot is recorded */
    gboolean plain;          /* made by mkdir: the mount's snapshot= option applies */
} CreateRequest;

typedef struct {
    char *name;               /* the snapshot to revert to; NULL with undo */
    gboolean undo;            /* bring back what the last revert threw away */
    gboolean discard;         /* do not keep what is thrown away */
    gboolean delete_children; /* and delete what descends from it */
    gboolean force;
    gboolean running; /* end in that state instead of the snapshot's */
    gboolean paused;
    gboolean reset_nvram; /* the NVRAM as the template has it, not as the snapshot kept it */
} RevertRequest;

typedef enum {
    UNDEFINE_SNAPSHOTS = 1 << 0,    /* forget its snapshots with it */
    UNDEFINE_MANAGED_SAVE = 1 << 1, /* and remove its managed save */
} UndefineFlags;

typedef enum {
    REDEFINE_CURRENT = 1 << 0,   /* it becomes the current one */
    REDEFINE_DISK_ONLY = 1 << 1, /* it must be of the disks of a machine that ran: state disk-snapshot */
} RedefineFlags;

typedef enum {
    DELETE_ONE = 0,
    DELETE_CHILDREN = 1 << 0,      /* the snapshot and all its descendants */
    DELETE_CHILDREN_ONLY = 1 << 1, /* the descendants only */
    DELETE_METADATA = 1 << 2, /* release: layers and tags stay, and are never merged or unlinked afterwards */
} DeleteFlags;

CreateRequest *create_request_new(void);
void create_request_free(CreateRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CreateRequest, create_request_free)

/*
 * --diskspec NAME[,snapshot=MODE][,driver=FORMAT][,stype=file|block][,file=PATH] and
 * --memspec [file=]PATH[,snapshot=MODE] as virsh reads them: a doubled comma is a comma of the value. EINVAL.
 * A memspec that names a file and no mode asks for external, as in the document.
 */
SnapshotDisk *create_request_parse_diskspec(const char *spec, GError **error);
gboolean create_request_parse_memspec(CreateRequest *request, const char *spec, GError **error);

/*
 * What a document and a memspec have in common (facts/libvirt-snapshots.md 1.2): the path is absolute, a file without a
 * mode asks for external and goes with no other. EINVAL; nothing is changed then.
 */
gboolean memory_mode_finish(SnapMode *mode, const char *file, GError **error);
