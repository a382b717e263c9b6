/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The native reader of disks: chains of qcow2 and raw images that are files or devices of this host, read by their tables
 * without any other program. See diskreader.h and diskmap.h.
 */
#pragma once

#include "backend.h"

/* As Backend.open_disk. EOPNOTSUPP: there is an image in the chain that only QEMU reads (nbdreader.h). */
DiskReader *diskopen(const DiskChain *chain, GError **error);
