/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copying a whole image file: shared blocks where the file system can, holes kept. */
#pragma once

#include <gio/gio.h>

/*
 * Copy everything in @source, which QEMU programs are kept from writing meanwhile (EBUSY), into @target, an
 * existing regular file, whose content is lost. The result is not flushed. EINTR: @cancel fired, @target
 * holds a part.
 */
gboolean copyfile(const char *source, const char *target, GCancellable *cancel, GError **error);
