/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_online.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "lockprobe.h"
#include "qmp_block.h"
#include "qmp_job.h"

#define LOOK_MS 20

/* Nobody listens: then nobody may write. An image that is not there is nobody's. */
static gboolean is_off(const QmpMachine *machine, GError **error)
{
    for (guint i = 0; machine->images[i]; i++) {
        g_autoptr(GError) why = NULL;
        ImageUse use = USE_NONE;
        if (!lockprobe_in_use(machine->images[i], &use, &why) && why->code != ENOENT) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        if (use == USE_WRITER) {
            snap_set_error(error, EBUSY,
                           "nobody listens at its QMP socket, but a program writes its image '%s'",
                           machine->images[i]);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean has_uuid(Qmp *qmp, const char *uuid, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) answer = qmp_run(qmp, "query-uuid", json_object(), wait, error);
    if (!answer)
        return FALSE;
    const char *other = json_string_value(json_object_get(answer, "UUID"));
    if (other && g_ascii_strcasecmp(other, uuid) == 0)
        return TRUE;
    snap_set_error(error, EBUSY, "another machine answers at its QMP socket, with uuid %s",
                   other ? other : "(none)");
    return FALSE;
}

static gboolean is_same_file(const struct stat *file, const char *path)
{
    struct stat other;
    return stat(path, &other) == 0 && file->st_dev == other.st_dev && file->st_ino == other.st_ino;
}

static gboolean is_named(const char *path, const char *image)
{
    struct stat file;
    return strcmp(path, image) == 0 || (stat(path, &file) == 0 && is_same_file(&file, image));
}

static gboolean writes(const GPtrArray *blocks, const char *image)
{
    for (guint i = 0; i < blocks->len; i++) {
        const QmpBlock *block = blocks->pdata[i];
        if (block->path && !block->read_only && is_named(block->path, image))
            return TRUE;
    }
    return FALSE;
}

/* Is what the link @entry of a descriptor leads to being written, by QEMU's locks? Also when it cannot be said. */
static gboolean may_be_written(const char *entry)
{
    gboolean written = TRUE;
    int fd = open(entry, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* the file itself, whatever name it has now */
    if (fd < 0)
        return TRUE;
    gboolean known = lockprobe_is_written(fd, entry, &written, NULL);
    close(fd);
    return !known || written;
}

/*
 * What process @pid does with @images: mark those in @found that it has open for writing. *ret_other: it writes another
 * image as well, or that cannot be seen. A descriptor's link says what it leads to, the link's mode how it was opened.
 */
static void look_at_files(pid_t pid, const char *const *images, gboolean *found, gboolean *ret_other)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name = NULL;
    struct stat file, link;
    gboolean other = !dir;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *entry = g_build_filename(path, name, NULL);
        if (lstat(entry, &link) < 0 || !(link.st_mode & S_IWUSR) || stat(entry, &file) < 0 ||
            !(S_ISREG(file.st_mode) || S_ISBLK(file.st_mode)))
            continue;
        gboolean ours = FALSE;
        for (guint i = 0; images[i]; i++)
            if (is_same_file(&file, images[i]))
                ours = found[i] = TRUE;
        other = other || (!ours && may_be_written(entry));
    }
    *ret_other = other;
}

gboolean qmp_process_writes(pid_t pid, const char *const *images)
{
    guint n = g_strv_length((char **)images);
    g_autofree gboolean *found = g_new0(gboolean, n + 1);
    gboolean other;
    look_at_files(pid, images, found, &other);
    for (guint i = 0; i < n; i++)
        if (!found[i])
            return FALSE;
    return n > 0;
}

/*
 * The cheap proof, at any depth of chain: the process that answers has open for writing, and locked for it, these images
 * and no other. A layer below that was opened for writing too is such another, and while a job works it may be right that
 * it is. FALSE: it cannot be seen from here, ask QEMU.
 */
static gboolean is_seen_to_write(Qmp *qmp, const char *const *images, const QmpWait *wait)
{
    guint n = g_strv_length((char **)images);
    g_autofree gboolean *found = g_new0(gboolean, n + 1);
    g_autoptr(GPtrArray) jobs = qmp_jobs(qmp, wait, NULL);
    gboolean other = TRUE;
    if (jobs && jobs->len == 0)
        look_at_files(qmp_pid(qmp), images, found, &other);
    if (other)
        return FALSE;
    for (guint i = 0; i < n; i++) {
        ImageUse use = USE_NONE;
        if (!found[i] || !lockprobe_in_use(images[i], &use, NULL) || use != USE_WRITER)
            return FALSE;
    }
    return TRUE;
}

static gboolean has_images(Qmp *qmp, const char *const *images, const QmpWait *wait, GError **error)
{
    if (is_seen_to_write(qmp, images, wait))
        return TRUE;
    g_autoptr(GPtrArray) blocks = qmp_blocks(qmp, wait, error);
    if (!blocks)
        return FALSE;
    for (guint i = 0; images[i]; i++) {
        if (writes(blocks, images[i]))
            continue;
        g_autoptr(GString) there = g_string_new(NULL);
        for (guint k = 0; k < blocks->len; k++)
            g_string_append_printf(there, "%s'%s'", k > 0 ? ", " : "",
                                   ((const QmpBlock *)blocks->pdata[k])->filename);
        snap_set_error(error, EBUSY, "it runs, but does not write its image '%s': QEMU has %s", images[i],
                       there->len > 0 ? there->str : "no disk");
        return FALSE;
    }
    return TRUE;
}

/* What cannot be asked is neither on nor off. */
static void make_busy(GError *error)
{
    if (error->domain == SNAP_ERROR && error->code != EINTR)
        error->code = EBUSY;
}

/*
 * A QEMU on its way out hangs up on its clients before it takes its socket away: who connects in between is cut off without
 * a word. It is asked again, until nobody listens.
 */
static Qmp *connect_or_see_it_end(const char *socket, const QmpListener *listener, const QmpWait *wait,
                                  GError **error)
{
    QmpWait ending = qmp_wait_part(wait, QMP_ENDING_MS);
    for (;;) {
        g_autoptr(GError) why = NULL;
        Qmp *qmp = qmp_connect(socket, listener, wait, &why);
        if (qmp)
            return qmp;
        if (why->code != ECONNRESET || !qmp_wait_check(&ending, "waiting for its end", NULL)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        g_usleep(LOOK_MS * 1000);
    }
}

gboolean qmp_online(const char *socket, const QmpMachine *machine, const QmpListener *listener,
                    const QmpWait *wait, Qmp **ret_qmp, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(Qmp) qmp = connect_or_see_it_end(socket, listener, wait, &why);
    if (!qmp && (why->code == ENOENT || why->code == ECONNREFUSED)) {
        if (!is_off(machine, error))
            return FALSE;
        *ret_qmp = NULL;
        return TRUE;
    }
    if (qmp && has_uuid(qmp, machine->uuid, wait, &why) && has_images(qmp, machine->images, wait, &why)) {
        *ret_qmp = g_steal_pointer(&qmp);
        return TRUE;
    }
    make_busy(why);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}
