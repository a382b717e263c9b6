/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests with a running guest share: two disks with the guest on them, and QEMUs that start from images. */
#pragma once

#include "images.h"

#include "guest_look.h"
#include "guest_watch.h"

#define IMAGES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct {
    char *dir, *vda, *vdb;
} Disks;

/* Two fresh disks of the format that the ending says. */
static inline Disks disks_new(const char *test, const char *ending)
{
    g_autofree char *a = g_strconcat("vda.", ending, NULL), *b = g_strconcat("vdb.", ending, NULL);
    Disks disks = {.vda = in_scratch(test, a), .vdb = in_scratch(test, b)};
    disks.dir = g_path_get_dirname(disks.vda);
    guest_disk_make(disks.vda, 8);
    guest_disk_make(disks.vdb, 8);
    return disks;
}

static inline void disks_clear(Disks *disks)
{
    g_free(disks->dir);
    g_free(disks->vda);
    g_free(disks->vdb);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Disks, disks_clear)
#define DISKS(ending) disks_new(__func__, ending)

/* A guest on two images, with more words for its command line (or NULL). */
static inline Guest *start_on(const Disks *disks, const char *vda, const char *vdb, const char *const *extra)
{
    return guest_start(&(GuestSetup){.dir = disks->dir, .images = IMAGES(vda, vdb), .extra = extra});
}

static inline Guest *start_disks(const Disks *disks)
{
    return start_on(disks, disks->vda, disks->vdb, NULL);
}

/* Fail unless a look failed with @code and words that have @text in them. */
static inline void expect_look(gboolean ok, GError **error, int code, const char *text)
{
    ck_assert_msg(!ok, "this must not be taken for good: %s", text);
    ck_assert_msg(g_error_matches(*error, G_IO_ERROR, code) && strstr((*error)->message, text),
                  "'%s' instead of '%s'", (*error)->message, text);
    g_clear_error(error);
}

#define LOOK(call) ck_assert_msg((call), "%s", error ? error->message : "failed without an error")
#define LOOK_FAILS(call, code, text) expect_look((call), &error, (code), (text))
