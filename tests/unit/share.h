/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Share: a test that tries one thing at each of many points takes every n-th of them, from a random one of the first n on: other
 * ones in each run. With a variable in the environment it takes all.
 */
#pragma once

#include <glib.h>

/* The first point of those from 1 on, and the one after @point. @all: the variable. */
static inline guint share_first(const char *all, guint n)
{
    return g_getenv(all) ? 1 : (guint)g_random_int_range(1, (gint)n + 1);
}

static inline guint share_next(const char *all, guint n, guint point)
{
    return point + (g_getenv(all) ? 1 : n);
}
