/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The offline backend: images of machines that are off, through our own header readers and qemu-img. */
#pragma once

#include "backend.h"

/* @qemu_img: the program to run, NULL: "qemu-img" from PATH. Free with backend->ops->free. */
Backend *offline_backend_new(const char *qemu_img);
