/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzz targets share. A target checks what must hold of any input and aborts when it does not; the fuzzer (clang)
 * finds inputs, replay.c runs those that were kept, in the ordinary test suite.
 */
#pragma once

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Abort with the condition and the line unless @condition holds. */
#define MUST(condition) g_assert_true(condition)

/* @result and @error after a call: one or the other; an error is text. */
static inline void must_be_either(const void *result, const GError *error)
{
    MUST((result == NULL) == (error != NULL));
    MUST(error == NULL || (error->code > 0 && g_utf8_validate(error->message, -1, NULL)));
}
