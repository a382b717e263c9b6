/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The online backend: what the offline one does for images of machines that are off, and machines that run (machine.h),
 * found at their QMP sockets DIRECTORY/NAME.qmp and DIRECTORY/NAME.monitor, started as launch.h says, ended, followed.
 */
#pragma once

#include "machine.h"

/*
 * @qemu_img: NULL: "qemu-img" from PATH. @directory: absolute; made when a machine is started, mode 0700. Free with
 * backend->ops->free: no machine ends because of it.
 */
Backend *online_backend_new(const char *qemu_img, const char *directory);
