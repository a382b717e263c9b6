/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does a machine run? Three answers, as DESIGN 6 says: yes, no, and EBUSY with the reason for everything that is neither,
 * because both a snapshot by qemu-img and one by QMP would do harm there.
 */
#pragma once

#include "qmp.h"

#define QMP_ENDING_MS 2000 /* how long a QEMU on its way out is waited for */

typedef struct {
    const char *uuid; /* with dashes, in any case */
    /*
     * NULL-terminated: all that it writes when it runs, the active layers and the NVRAM file. With one left out the
     * answer is as good, but takes as long as qmp_blocks().
     */
    const char *const *images;
} QmpMachine;

/*
 * *ret_qmp: a connection to the QEMU that runs @machine, which is online: it listens at @socket, has this uuid and writes
 * each of the images. NULL: it is off: nobody listens, and nobody writes the images. @listener: as in qmp_connect().
 *
 * One that hangs up before its greeting is on its way out: it is asked again, for QMP_ENDING_MS at most.
 *
 * What it was is known for the moment of the look only. Online it stays true for the connection, which ends with the QEMU;
 * who goes on because it is off must hold the images (Backend.hold).
 *
 * EBUSY: neither; "the machine's QMP socket: why". EINTR: cancelled. Whatever keeps us from looking at an image.
 */
gboolean qmp_online(const char *socket, const QmpMachine *machine, const QmpListener *listener,
                    const QmpWait *wait, Qmp **ret_qmp, GError **error);

/* Does process @pid have each of @images (NULL-terminated, one at least) open for writing? FALSE: no, or it cannot be seen. */
gboolean qmp_process_writes(pid_t pid, const char *const *images);
