/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening disks to read them. qcow2 and raw images that are files or devices of this host are read natively, by their tables
 * (diskmap.h); from the first one of another kind on down, QEMU reads (nbdreader.h).
 */
#pragma once

#include "backend.h"
#include "nbdkeeper.h"

/* As Backend.open_disk. @keeper: NULL: none but the native reader. */
DiskReader *diskopen(NbdKeeper *keeper, const DiskChain *chain, GError **error);
