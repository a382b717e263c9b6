/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A DiskReader over opened images. */
#pragma once

#include "diskimage.h"

/* Read the disk whose chain is @images (of DiskImage, at least one), given away. If the first one is watched, it is asked each time. */
DiskReader *diskread_new(GPtrArray *images);
