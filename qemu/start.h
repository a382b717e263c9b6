/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Start: from a definition to a QEMU that runs, and lives on without us.
 *
 * Before anything runs it is made sure that nothing is lost by it: no socket of a machine that runs, no file where QEMU
 * makes sockets, no image that somebody writes. The QEMU is a session of its own (detach.h) in a scope of its own (scope.h)
 * and tells by the greeting of its monitor that it is there. It is stopped until everything is in place. When anything
 * fails it is killed, and what was made for it is removed: sockets, pid file, overlays of transient disks, the copy of the
 * NVRAM; its messages stay in NAME.log, and are in the error.
 */
#pragma once

#include "launch.h"
#include "online_parts.h"

/*
 * What online_start() does, up to the connection to the QEMU that was started. EOPNOTSUPP, EINVAL, ENOENT, ENAMETOOLONG: as
 * launch_new(); EBUSY, EEXIST: something is in the way; ENOENT: no image has the checkpoint; EINTR; and by QEMU's words.
 */
Qmp *start_machine(Backend *images, const char *directory, const MachineStart *start, GCancellable *cancel,
                   DomainDef **ret_def, GPtrArray **ret_notes, GError **error);

/* What online_check() does. */
gboolean start_check(const char *directory, const MachineStart *start, GError **error);
