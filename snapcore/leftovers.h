/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leftovers: files of ours that should have gone with an operation that is done, and could not go yet; or that somebody's
 * clone stands on, or may stand on. Each operation and each mount tries again. The list is in the domain's domain.json.
 */
#pragma once

#include "backend.h"
#include "model.h"

/* May it go now: is it there, still the same file, and named by no image in its directory? */
gboolean leftover_is_due(Backend *backend, const Leftover *leftover);

/* Remove those that may go; TRUE: some are off the list. The caller owns @domain or is its operation; does I/O. */
gboolean leftovers_remove(Backend *backend, Domain *domain);
