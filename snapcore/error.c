/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "error.h"

#include <errno.h>
#include <gio/gio.h>

/* Without a static of our own, as G_DEFINE_QUARK has it, that threads would write at the same time. */
GQuark snap_error_quark(void)
{
    return g_quark_from_static_string("snap_error_quark");
}

/* What an error of one of GLib's domains stands for. */
typedef struct {
    int code;
    int err;
} ErrorMap;

static const ErrorMap file_map[] = {
    {G_FILE_ERROR_EXIST, EEXIST}, {G_FILE_ERROR_ISDIR, EISDIR},
    {G_FILE_ERROR_ACCES, EACCES}, {G_FILE_ERROR_NAMETOOLONG, ENAMETOOLONG},
    {G_FILE_ERROR_NOENT, ENOENT}, {G_FILE_ERROR_NOTDIR, ENOTDIR},
    {G_FILE_ERROR_NXIO, ENXIO},   {G_FILE_ERROR_NODEV, ENODEV},
    {G_FILE_ERROR_ROFS, EROFS},   {G_FILE_ERROR_TXTBSY, ETXTBSY},
    {G_FILE_ERROR_FAULT, EFAULT}, {G_FILE_ERROR_LOOP, ELOOP},
    {G_FILE_ERROR_NOSPC, ENOSPC}, {G_FILE_ERROR_NOMEM, ENOMEM},
    {G_FILE_ERROR_MFILE, EMFILE}, {G_FILE_ERROR_NFILE, ENFILE},
    {G_FILE_ERROR_BADF, EBADF},   {G_FILE_ERROR_INVAL, EINVAL},
    {G_FILE_ERROR_PIPE, EPIPE},   {G_FILE_ERROR_AGAIN, EAGAIN},
    {G_FILE_ERROR_INTR, EINTR},   {G_FILE_ERROR_IO, EIO},
    {G_FILE_ERROR_PERM, EPERM},   {G_FILE_ERROR_NOSYS, ENOSYS},
    {G_FILE_ERROR_FAILED, EIO},
};

static const ErrorMap io_map[] = {
    {G_IO_ERROR_NOT_FOUND, ENOENT},
    {G_IO_ERROR_EXISTS, EEXIST},
    {G_IO_ERROR_IS_DIRECTORY, EISDIR},
    {G_IO_ERROR_NOT_DIRECTORY, ENOTDIR},
    {G_IO_ERROR_NOT_EMPTY, ENOTEMPTY},
    {G_IO_ERROR_NOT_REGULAR_FILE, EINVAL},
    {G_IO_ERROR_NOT_SYMBOLIC_LINK, EINVAL},
    {G_IO_ERROR_FILENAME_TOO_LONG, ENAMETOOLONG},
    {G_IO_ERROR_INVALID_FILENAME, EINVAL},
    {G_IO_ERROR_TOO_MANY_LINKS, EMLINK},
    {G_IO_ERROR_NO_SPACE, ENOSPC},
    {G_IO_ERROR_INVALID_ARGUMENT, EINVAL},
    {G_IO_ERROR_INVALID_DATA, EINVAL},
    {G_IO_ERROR_PERMISSION_DENIED, EACCES},
    {G_IO_ERROR_NOT_SUPPORTED, EOPNOTSUPP},
    {G_IO_ERROR_CANCELLED, EINTR},
    {G_IO_ERROR_READ_ONLY, EROFS},
    {G_IO_ERROR_TIMED_OUT, ETIMEDOUT},
    {G_IO_ERROR_BUSY, EBUSY},
    {G_IO_ERROR_WOULD_BLOCK, EAGAIN},
    {G_IO_ERROR_TOO_MANY_OPEN_FILES, EMFILE},
    {G_IO_ERROR_ADDRESS_IN_USE, EADDRINUSE},
    {G_IO_ERROR_CONNECTION_REFUSED, ECONNREFUSED},
    {G_IO_ERROR_BROKEN_PIPE, EPIPE},
    {G_IO_ERROR_NOT_CONNECTED, ENOTCONN},
    {G_IO_ERROR_MESSAGE_TOO_LARGE, EMSGSIZE},
};

static const ErrorMap spawn_map[] = {
    {G_SPAWN_ERROR_CHDIR, ENOENT},    {G_SPAWN_ERROR_ACCES, EACCES},
    {G_SPAWN_ERROR_PERM, EPERM},      {G_SPAWN_ERROR_TOO_BIG, E2BIG},
    {G_SPAWN_ERROR_NOEXEC, ENOEXEC},  {G_SPAWN_ERROR_NAMETOOLONG, ENAMETOOLONG},
    {G_SPAWN_ERROR_NOENT, ENOENT},    {G_SPAWN_ERROR_NOMEM, ENOMEM},
    {G_SPAWN_ERROR_NOTDIR, ENOTDIR},  {G_SPAWN_ERROR_LOOP, ELOOP},
    {G_SPAWN_ERROR_TXTBUSY, ETXTBSY}, {G_SPAWN_ERROR_IO, EIO},
    {G_SPAWN_ERROR_NFILE, ENFILE},    {G_SPAWN_ERROR_MFILE, EMFILE},
    {G_SPAWN_ERROR_INVAL, EINVAL},    {G_SPAWN_ERROR_ISDIR, EISDIR},
};

void snap_set_error(GError **error, int err, const char *format, ...)
{
    if (error == NULL)
        return;
    va_list args;
    va_start(args, format);
    g_autoptr(GError) made = g_error_new_valist(SNAP_ERROR, err, format, args);
    va_end(args);
    g_propagate_error(error, g_steal_pointer(&made));
}

void snap_set_errno(GError **error, int err, const char *format, ...)
{
    if (error == NULL)
        return;
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, SNAP_ERROR, err, "%s: %s", what, g_strerror(err));
}

static int look_up(const ErrorMap *map, gsize n, int code)
{
    for (gsize i = 0; i < n; i++) {
        if (map[i].code == code)
            return map[i].err;
    }
    return EIO;
}

static int raw_errno(const GError *error)
{
    if (error == NULL)
        return EIO;
    if (error->domain == SNAP_ERROR)
        return error->code;
    if (error->domain == G_FILE_ERROR)
        return look_up(file_map, G_N_ELEMENTS(file_map), error->code);
    if (error->domain == G_IO_ERROR)
        return look_up(io_map, G_N_ELEMENTS(io_map), error->code);
    if (error->domain == G_SPAWN_ERROR)
        return look_up(spawn_map, G_N_ELEMENTS(spawn_map), error->code);
    return EIO;
}

int snap_errno(const GError *error)
{
    int err = raw_errno(error);
    if (err <= 0)
        return EIO;
    if (err == EXDEV)
        return EIO; /* mv would copy and delete */
    if (err == ENOSYS)
        return EOPNOTSUPP; /* the kernel would never ask again */
    if (err == EAGAIN)
        return EBUSY; /* callers would spin or wait for poll */
    return err;
}
