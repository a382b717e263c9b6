/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diskwatch.h"

#include <errno.h>

#include "error.h"
#include "lockprobe.h"

static gboolean look(const ImageFile *file, struct stat *ret_st, gboolean *ret_writer, GError **error)
{
    if (!lockprobe_is_written(file->fd, file->path, ret_writer, error))
        return FALSE;
    /* only now: what a writer that has closed it already did shows in the times */
    if (fstat(file->fd, ret_st) == 0)
        return TRUE;
    snap_set_errno(error, errno, "cannot look at '%s'", file->path);
    return FALSE;
}

gboolean disk_watch_begin(DiskWatch *watch, const ImageFile *file, GError **error)
{
    gboolean writer;
    watch->file = file;
    watch->written = FALSE;
    if (!look(file, &watch->was, &writer, error))
        return FALSE;
    if (writer)
        snap_set_error(error, EBUSY, "'%s' is open for writing", file->path);
    return !writer;
}

static gboolean same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* A device's times say nothing of its content. */
static gboolean same(const struct stat *a, const struct stat *b)
{
    return !S_ISREG(a->st_mode) || (a->st_size == b->st_size && same_time(&a->st_mtim, &b->st_mtim) &&
                                    same_time(&a->st_ctim, &b->st_ctim));
}

gboolean disk_watch_check(DiskWatch *watch, GError **error)
{
    struct stat st;
    gboolean writer = FALSE;
    if (!g_atomic_int_get(&watch->written)) {
        if (!look(watch->file, &st, &writer, error))
            return FALSE;
        if (!writer && same(&watch->was, &st))
            return TRUE;
        g_atomic_int_set(&watch->written, TRUE);
    }
    snap_set_error(error, EIO, "'%s' was opened for writing: it is no longer what was opened here",
                   watch->file->path);
    return FALSE;
}
