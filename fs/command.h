/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands done: from what the ctl files parsed to what the engine is asked. */
#pragma once

#include "ctl.h"
#include "fs.h"

/*
 * Run a command of @domain's ctl file (0: the mount's). @command NULL: the bare document @doc of @len bytes,
 * which creates or defines. May take long.
 */
gboolean command_run(Fs *fs, EngineId domain, const Command *command, const char *doc, gsize len,
                     GCancellable *cancel, GError **error);
