/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_online.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "lockprobe.h"
#include "qmp_block.h"

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

static gboolean same_file(const char *a, const char *b)
{
    struct stat one, other;
    if (strcmp(a, b) == 0)
        return TRUE;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

static gboolean writes(const GPtrArray *blocks, const char *image)
{
    for (guint i = 0; i < blocks->len; i++) {
        const QmpBlock *block = blocks->pdata[i];
        if (block->path && !block->read_only && same_file(block->path, image))
            return TRUE;
    }
    return FALSE;
}

static gboolean has_images(Qmp *qmp, const char *const *images, const QmpWait *wait, GError **error)
{
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

gboolean qmp_online(const char *socket, const QmpMachine *machine, const QmpListener *listener,
                    const QmpWait *wait, Qmp **ret_qmp, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(Qmp) qmp = qmp_connect(socket, listener, wait, &why);
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
