/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What QEMU says of a failure, as an error of ours. */
#pragma once

#include <glib.h>

/*
 * @what ("QEMU blockdev-add") failed, QEMU says @text; @class is the QMP error class, NULL for the error of a job. The
 * sentence keeps both; the code:
 *   EOPNOTSUPP  CommandNotFound, KVMMissingCap; a node, format or driver that does not support it
 *   ENODEV      DeviceNotFound, DeviceNotActive (no such block job)
 *   EBUSY       a node is in use, an image is locked
 *   EAGAIN      a job is not in the state for this (users are shown EBUSY)
 *   EEXIST      a snapshot, node or job of that name is there already
 *   ENOENT      it is not there: a snapshot, a job, a node, a file
 *   ECANCELED   somebody has cancelled a job
 * and for the system's own words at the end what they stand for (process.h): ENOSPC, EACCES, ... EIO for the rest.
 */
void qmp_set_error(GError **error, const char *what, const char *class, const char *text);
