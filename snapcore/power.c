/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is done to the machine itself: start, stop, pause, save its memory. */
#include <errno.h>

#include "error.h"
#include "machine.h"
#include "op.h"

gboolean core_power(Engine *engine, EngineId id, PowerAction action, const char *file, GCancellable *cancel,
                    GError **error)
{
    snap_set_error(error, EOPNOTSUPP, "not yet");
    return FALSE;
}
