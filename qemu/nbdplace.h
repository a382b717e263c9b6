/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Places that are NBD exports, by libnbd. Without TLS. A server that says nothing for a while is given up; cancelling
 * works meanwhile.
 */
#pragma once

#include "place.h"

/* @uri: a canonical one (remote.h). ETIMEDOUT, EROFS, EINTR, EOPNOTSUPP (it cannot flush), what connecting says. */
Place *nbd_place_open(const char *uri, PlaceAccess access, GCancellable *cancel, GError **error);
