/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unpack.h"

#include <zlib.h>
#include <zstd.h>

#define WINDOW_BITS 12 /* what QEMU writes; negative in the call: no header */

gboolean unpack_deflate(const void *in, gsize in_len, void *out, gsize out_len)
{
    z_stream stream = {
        .next_in = (Bytef *)in,
        .avail_in = (uInt)in_len,
        .next_out = out,
        .avail_out = (uInt)out_len,
    };
    if (inflateInit2(&stream, -WINDOW_BITS) != Z_OK)
        return FALSE;
    int result = inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    /* Z_BUF_ERROR: the end mark does not fit any more, the bytes are all there */
    return stream.avail_out == 0 && (result == Z_STREAM_END || result == Z_BUF_ERROR);
}

/* A frame at a time and each in one go: then zstd needs no window of its own, however large a one the frame asks for. */
gboolean unpack_zstd(const void *in, gsize in_len, void *out, gsize out_len)
{
    const char *from = in;
    char *to = out;
    while (out_len > 0) {
        gsize frame = ZSTD_findFrameCompressedSize(from, in_len);
        if (ZSTD_isError(frame))
            return FALSE;
        gsize got = ZSTD_decompress(to, out_len, from, frame);
        if (ZSTD_isError(got) || frame == 0)
            return FALSE;
        from += frame;
        in_len -= frame;
        to += got;
        out_len -= got;
    }
    return TRUE;
}
