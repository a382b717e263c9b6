/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <glib.h>
#include <jansson.h>

/* QEMU's block node for the export @uri (remote.h). */
json_t *nbd_node(const char *uri, GError **error);
