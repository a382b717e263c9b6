/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disks opened by the backend, with chains of few images: what the tests of its readers share. */
#pragma once

#include "backend_calls.h"

#define LAYERS(...) ((const DiskLayer[]){__VA_ARGS__, {0}})
#define QCOW2(name)                                                                                          \
    {                                                                                                        \
        .path = (name), .format = FORMAT_QCOW2                                                               \
    }
#define RAW(name)                                                                                            \
    {                                                                                                        \
        .path = (name), .format = FORMAT_RAW                                                                 \
    }

/* @layers: LAYERS(). @tag: of DISK_TAG. */
static inline DiskReader *disk_try_open(const DiskLayer *layers, DiskState state, const char *tag,
                                        GError **error)
{
    DiskChain chain = {.layers = layers, .state = state, .tag = tag};
    while (layers[chain.n_layers].path)
        chain.n_layers++;
    return backend->ops->open_disk(backend, &chain, error);
}

static inline DiskReader *disk_open(const DiskLayer *layers, DiskState state, const char *tag)
{
    GError *error = NULL;
    DiskReader *reader = disk_try_open(layers, state, tag, &error);
    ASSERT_OK(reader != NULL, error);
    return reader;
}

static inline void disk_is_refused(const DiskLayer *layers, DiskState state, const char *tag, int code,
                                   const char *text)
{
    GError *error = NULL;
    ck_assert_ptr_null(disk_try_open(layers, state, tag, &error));
    expect_error(&error, code, text);
}

/* All @len bytes at @offset are @pattern. */
static inline gboolean disk_reads(DiskReader *reader, guint64 offset, gsize len, int pattern, GError **error)
{
    g_autofree guint8 *buffer = g_malloc(len);
    if (!reader->ops->read(reader, buffer, len, offset, error))
        return FALSE;
    for (gsize i = 0; i < len; i++)
        ck_assert_msg(buffer[i] == pattern, "byte %" G_GUINT64_FORMAT " is %d, not %d", offset + i, buffer[i],
                      pattern);
    return TRUE;
}

static inline void disk_holds(DiskReader *reader, guint64 offset, gsize len, int pattern)
{
    GError *error = NULL;
    ASSERT_OK(disk_reads(reader, offset, len, pattern, &error), error);
}
