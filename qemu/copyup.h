/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copying a layer up onto what lies below the layers between: the backend's copy_up. */
#pragma once

#include "backend.h"

gboolean copyup(const char *program, const char *path, const OverlaySpec *spec,
                const BackendProgress *progress, GCancellable *cancel, GError **error);
