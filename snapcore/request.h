/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests: what a gesture or a command asks of the engine, as plain values. Names are not yet checked. */
#pragma once

#include "format.h"

/* What is wanted of one disk: an element of <disks>, or a --diskspec. */
typedef struct {
    char *name;         /* target, or an absolute source path */
    SnapMode mode;      /* MODE_DEFAULT: as the domain and the defaults say */
    DiskType type;      /* of the overlay */
    ImageFormat format; /* of the overlay; FORMAT_NONE: qcow2 */
    char *source;       /* path of the overlay, or NULL: generated */
} DiskRequest;

typedef struct {
    char *name;        /* NULL or empty: generated */
    char *description; /* NULL: none */
    SnapMode memory;   /* MODE_DEFAULT: omitted */
    char *memory_file;
    GPtrArray *disks; /* of DiskRequest (made with disk_request_free); NULL: <disks> omitted, or empty */
    gboolean disk_only;
    gboolean live;
    gboolean quiesce;
    gboolean halt;
    gboolean plain; /* made by mkdir: the mount's snapshot= option applies */
} CreateRequest;

typedef struct {
    char *name; /* the snapshot to revert to */
    gboolean force;
    gboolean running; /* end in that state instead of the snapshot's */
    gboolean paused;
} RevertRequest;

typedef enum {
    DELETE_ONE = 0,
    DELETE_CHILDREN = 1 << 0,      /* the snapshot and all its descendants */
    DELETE_CHILDREN_ONLY = 1 << 1, /* the descendants only */
    DELETE_METADATA = 1 << 2,      /* release: layers and tags stay, and are never merged or unlinked afterwards */
} DeleteFlags;

CreateRequest *create_request_new(void);
void create_request_free(CreateRequest *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CreateRequest, create_request_free)

DiskRequest *disk_request_new(const char *name);
void disk_request_free(DiskRequest *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DiskRequest, disk_request_free)

/*
 * --diskspec NAME[,snapshot=MODE][,driver=FORMAT][,stype=file|block][,file=PATH] and
 * --memspec [file=]PATH[,snapshot=MODE] as virsh reads them: a doubled comma is a comma of the value. EINVAL.
 * A memspec that names a file and no mode asks for external, as in the document.
 */
DiskRequest *disk_request_parse(const char *spec, GError **error);
gboolean create_request_parse_memspec(CreateRequest *request, const char *spec, GError **error);

/*
 * The rules that a document and the options share (facts/libvirt-snapshots.md 1.2): paths are absolute, a file or a
 * format without a mode asks for external, a file goes with external only. EINVAL; nothing is changed then.
 */
gboolean disk_request_finish(DiskRequest *disk, GError **error);
gboolean memory_mode_finish(SnapMode *mode, const char *file, GError **error);
