/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An empty overlay on a place (place.h). qemu-img makes it in memory, and what it made is copied: so nothing of a
 * qemu-img that outlives a killed daemon can write there later, and it is known byte for byte what was written.
 *
 * The *area* is the beginning of the place, 1 MiB, or more where the metadata of a huge disk need it. A place is taken
 * only if its area is blank, that is all zeros: every file system, volume, partition table and image has something
 * there. The header is written last, so a place that was written in part is no image.
 */
#pragma once

#include "backend.h"

/* May @spec->path be taken? EEXIST: it is not blank; EBUSY; ENOSPC: too small; EOPNOTSUPP: not a qcow2 overlay. */
gboolean place_image_check(const OverlaySpec *spec, GCancellable *cancel, GError **error);

/* Check once more, and make it. On stable storage when it succeeds. */
gboolean place_image_format(const char *program, const OverlaySpec *spec, GCancellable *cancel,
                            GError **error);

/*
 * Make the area blank again where it holds nothing but what place_image_format writes, in whole or in part. Anything
 * else there is not ours: it is left alone, and that is no failure. Nor is a place that cannot be opened: at the worst
 * it keeps an empty overlay that nothing refers to.
 */
gboolean place_image_clear(const char *program, const OverlaySpec *spec, GError **error);
