/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "copyup.h"

#include <errno.h>

#include "copyfile.h"
#include "error.h"
#include "qcow2.h"
#include "qemuimg.h"

/*
 * Never in place: a rebase that is killed at the wrong moment has lost the image (facts/qemu.md A4). So a copy of the
 * whole file first, which costs nothing where the file system can share blocks.
 */
gboolean copyup(const char *program, const char *path, const OverlaySpec *spec,
                const BackendProgress *progress, GCancellable *cancel, GError **error)
{
    g_autoptr(ImageFile) file = image_file_open(path, error);
    g_autoptr(Qcow2Image) image = file ? qcow2_read(file, error) : NULL;
    if (!image)
        return FALSE;
    if (image->info->tags->len > 0) { /* they would read through the new backing file */
        snap_set_error(error, EINVAL, "'%s' holds internal snapshots and cannot be copied up", path);
        return FALSE;
    }
    return copyfile(path, spec->path, cancel, error) &&
           qemuimg_rebase(program, spec->path, spec->backing_name, spec->backing_format, progress, cancel,
                          error);
}
