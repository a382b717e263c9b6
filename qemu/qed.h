/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A qed image's header, read natively (QEMU's docs/interop/qed_spec.txt). The format has no internal
 * snapshots. */
#pragma once

#include "backend.h"
#include "imagefile.h"

/*
 * Read @file. EINVAL: not qed; EIO: damaged; EOPNOTSUPP: an unknown feature. The header can name only one
 * backing format, raw: backing_format is FORMAT_NONE for every other backing file.
 */
ImageInfo *qed_read(const ImageFile *file, GError **error);
