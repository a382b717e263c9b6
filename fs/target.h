/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which snapshot does the text of a symlink to current name? */
#pragma once

#include "fs.h"

/*
 * The snapshot of @domain that @link, the text of a symlink in its directory, leads to: s, ./s, s/, ../D/s,
 * or an absolute path below the mount. 0: none.
 */
EngineId target_snapshot(Fs *fs, EngineId domain, const char *link);
