/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copying an internal state of a frozen qcow2 image out into an overlay of its own. */
#pragma once

#include "backend.h"

/* BackendOps.copy_out, without the flush. @program: qemu-img. */
gboolean copyout(const char *program, const char *path, const char *tag, const OverlaySpec *spec,
                 GCancellable *cancel, GError **error);
