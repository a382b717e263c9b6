/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A picture of the machine's display. QEMU gets the open file: it may have no access to where it is, and is not to be
 * told to write to a path that somebody else may have changed meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "machine_parts.h"

static gboolean dump(Running *running, int fd, const QmpWait *wait, GError **error)
{
    gint64 set = 0;
    if (!qmp_add_fd(running->qmp, fd, &set, wait, error))
        return FALSE;
    g_autofree char *name = g_strdup_printf("/dev/fdset/%" G_GINT64_FORMAT, set);
    gboolean ok = qmp_do(running->qmp, "screendump",
                         json_pack("{s:s, s:s}", "filename", name, "format", "png"), wait, error);
    (void)qmp_do(running->qmp, "remove-fd", json_pack("{s:I}", "fdset-id", (json_int_t)set), wait, NULL);
    return ok;
}

/* QEMU does not notice when the last of a picture could not be written. */
static gboolean is_whole(int fd)
{
    static const guint8 head[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const guint8 tail[] = {0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xae, 0x42, 0x60, 0x82};
    guint8 begin[sizeof head], end[sizeof tail];
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_size > (off_t)(sizeof head + sizeof tail) &&
           pread(fd, begin, sizeof begin, 0) == (ssize_t)sizeof begin &&
           pread(fd, end, sizeof end, st.st_size - (off_t)sizeof end) == (ssize_t)sizeof end &&
           memcmp(begin, head, sizeof head) == 0 && memcmp(end, tail, sizeof tail) == 0;
}

static gboolean take_picture(Running *running, const char *path, int fd, GError **error)
{
    QmpWait wait = qmp_wait(COMMAND_MS, NULL);
    int look = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    gboolean whole = look >= 0 && dump(running, fd, &wait, error) && is_whole(look);
    if (look >= 0)
        close(look);
    if (!whole && error && !*error)
        snap_set_error(error, EIO, "the picture '%s' was not written to its end", path);
    return whole;
}

gboolean running_screenshot(Machine *machine, const char *path, GError **error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600); /* QEMU takes no other mode */
    if (fd < 0) {
        snap_set_errno(error, errno, "cannot make '%s'", path);
        return FALSE;
    }
    gboolean ok = take_picture((Running *)machine, path, fd, error);
    if (!ok)
        (void)unlink(path);
    close(fd);
    return ok;
}
