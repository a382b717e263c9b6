/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reader of disks that only QEMU reads: qed images, and images on NBD exports, with all that lies below. A qemu-nbd reads
 * them, which is started when it is needed (nbdkeeper.h); it gets the images as open descriptors, with the driver of each,
 * and follows no name in a header. Images on this host are locked here, for the reader's whole life.
 *
 * Of a remote image nobody can tell who writes it: who opens it as DISK_ACTIVE has to know that nobody does.
 */
#pragma once

#include "backend.h"
#include "nbdkeeper.h"

/*
 * As Backend.open_disk, without a process. EOPNOTSUPP: an image is encrypted or has a data file; an internal snapshot is
 * asked for (qed has none, and of a remote image none is ever taken), or the active content of a remote image (nobody can
 * tell whether somebody writes it); or there are too many images for qemu-nbd.
 */
DiskReader *nbdreader_open(NbdKeeper *keeper, const DiskChain *chain, GError **error);
