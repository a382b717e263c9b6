/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disks of a running machine as QEMU has them: which file it writes, and by which node to name it. */
#pragma once

#include "qmp.h"

typedef struct {
    char *qdev;     /* the device: "/machine/peripheral/vda/virtio-backend", or an id; NULL: none uses it */
    char *device;   /* the old-style name of -drive, "" where there is none (all that -blockdev made) */
    char *node;     /* the node that is on top now; changes with each snapshot: ask again before each use */
    char *driver;   /* of that node: "qcow2", "raw", ... */
    char *filename; /* as QEMU says it, maybe "json:..." */
    char *
        path; /* the local file or device below the top node; NULL: there is none, or its name is not absolute */
    gboolean read_only;
} QmpBlock;

void qmp_block_free(QmpBlock *block);

/*
 * The node on top of the device whose QOM path is @device ("/machine/peripheral/vda"), which must have a `drive`. Caller
 * frees. ENODEV: there is no such device; ENOENT: it is of a kind without drives; EIO: it
 * has none; and as qmp_run(). Costs the same at any depth of chain.
 */
char *qmp_block_node(Qmp *qmp, const char *device, const QmpWait *wait, GError **error);

/*
 * Every device with something in it, of QmpBlock. Errors as qmp_run(), and EPROTO: QEMU's answer has not the form that we
 * know. What QEMU does for it grows with the square of the depth of a chain: 1.2 seconds at 500.
 */
GPtrArray *qmp_blocks(Qmp *qmp, const QmpWait *wait, GError **error);

/* The local path in a file name as QEMU shows it: absolute as it stands, or inside "json:{...}". NULL: none. */
char *qmp_block_path(const char *filename);
