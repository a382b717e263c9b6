/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compressed clusters of qcow2 images. What comes in is hostile; no memory is taken in proportion to what it says. */
#pragma once

#include <glib.h>

/* Fill @out exactly from the raw deflate stream, or the zstd frames, at the beginning of @in. FALSE: they do not give that. */
gboolean unpack_deflate(const void *in, gsize in_len, void *out, gsize out_len);
gboolean unpack_zstd(const void *in, gsize in_len, void *out, gsize out_len);
