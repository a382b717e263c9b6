/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "command.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "mountpoint.h"
#include "request.h"
#include "schema.h"
#include "snapshot.h"

/*
 * Put @disk into the request, in the place of one that the document has under that name. Not of one of @line, what the
 * line has said before: a disk that it names twice stays there twice, and is refused. Takes @disk.
 */
static void put_disk(CreateRequest *request, GPtrArray *line, SnapshotDisk *disk)
{
    guint at = 0;
    while (at < request->disks->len &&
           (g_strcmp0(((SnapshotDisk *)request->disks->pdata[at])->name, disk->name) != 0 ||
            g_ptr_array_find(line, request->disks->pdata[at], NULL)))
        at++;
    if (at < request->disks->len)
        g_ptr_array_remove_index(request->disks, at);
    g_ptr_array_insert(request->disks, (int)at, disk);
    g_ptr_array_add(line, disk);
}

/* Lay what the line says over what the document says. */
static gboolean override(CreateRequest *request, const Command *command, GError **error)
{
    g_autoptr(GPtrArray) line = g_ptr_array_new();
    if (command->operand != NULL) {
        g_free(request->name);
        request->name = g_strdup(command->operand);
    }
    if (command->description != NULL) {
        g_free(request->description);
        request->description = g_strdup(command->description);
    }
    if (command->memspec != NULL && !create_request_parse_memspec(request, command->memspec, error))
        return FALSE;
    for (guint i = 0; i < command->diskspecs->len; i++) {
        SnapshotDisk *disk = create_request_parse_diskspec(command->diskspecs->pdata[i], error);
        if (disk == NULL)
            return FALSE;
        put_disk(request, line, disk);
    }
    request->disk_only = (command->options & OPTION_DISK_ONLY) != 0;
    request->live = (command->options & OPTION_LIVE) != 0;
    request->quiesce = (command->options & OPTION_QUIESCE) != 0;
    request->halt = (command->options & OPTION_HALT) != 0;
    request->reuse_external = (command->options & OPTION_REUSE_EXTERNAL) != 0;
    request->no_metadata = (command->options & OPTION_NO_METADATA) != 0;
    return TRUE;
}

/* Check the document against the schema if the command asks for it. */
static gboolean validate(const Command *command, const char *doc, gsize len, GError **error)
{
    return command == NULL || (command->options & OPTION_VALIDATE) == 0 ||
           schema_check_snapshot(doc, len, error);
}

static gboolean create(Fs *fs, EngineId domain, const Command *command, const char *doc, gsize len,
                       GCancellable *cancel, GError **error)
{
    if (!validate(command, doc, len, error))
        return FALSE;
    g_autoptr(CreateRequest) request =
        doc == NULL ? create_request_new() : snapshot_parse_create(doc, len, error);
    if (request == NULL || (command != NULL && !override(request, command, error)))
        return FALSE;
    return fs->engine->ops->create(fs->engine, domain, request, cancel, NULL, error);
}

static gboolean redefine(Fs *fs, EngineId domain, const Command *command, const char *doc, gsize len,
                         GCancellable *cancel, GError **error)
{
    RedefineFlags flags = 0;
    if ((command->options & OPTION_CURRENT) != 0)
        flags |= REDEFINE_CURRENT;
    if ((command->options & OPTION_DISK_ONLY) != 0)
        flags |= REDEFINE_DISK_ONLY;
    return validate(command, doc, len, error) &&
           fs->engine->ops->redefine(fs->engine, domain, 0, doc, len, flags, cancel, error);
}

static gboolean revert(Fs *fs, EngineId domain, const Command *command, GCancellable *cancel, GError **error)
{
    RevertRequest request = {
        .name = command->operand,
        .undo = (command->options & OPTION_UNDO) != 0,
        .discard = (command->options & OPTION_DISCARD) != 0,
        .delete_children = (command->options & OPTION_DELETE_CHILDREN) != 0,
        .force = (command->options & OPTION_FORCE) != 0,
        .running = (command->options & OPTION_RUNNING) != 0,
        .paused = (command->options & OPTION_PAUSED) != 0,
        .reset_nvram = (command->options & OPTION_RESET_NVRAM) != 0,
    };
    return fs->engine->ops->revert(fs->engine, domain, &request, cancel, error);
}

static gboolean find(Fs *fs, EngineId where, const char *name, EngineId *ret_id, GError **error)
{
    EngineId id = fs->engine->ops->find(fs->engine, where, name);
    if (id == 0) {
        snap_set_error(error, ENOENT, "there is no %s '%s'", where == 0 ? "domain" : "snapshot", name);
        return FALSE;
    }
    *ret_id = id;
    return TRUE;
}

static gboolean delete_snapshot(Fs *fs, EngineId domain, const Command *command, GCancellable *cancel,
                                GError **error)
{
    EngineId snapshot;
    DeleteFlags flags = DELETE_ONE;
    if (!find(fs, domain, command->operand, &snapshot, error))
        return FALSE;
    if ((command->options & OPTION_CHILDREN) != 0)
        flags |= DELETE_CHILDREN;
    if ((command->options & OPTION_CHILDREN_ONLY) != 0)
        flags |= DELETE_CHILDREN_ONLY;
    if ((command->options & OPTION_METADATA) != 0)
        flags |= DELETE_METADATA;
    return fs->engine->ops->delete (fs->engine, snapshot, flags, cancel, error);
}

static gboolean undefine(Fs *fs, const Command *command, GCancellable *cancel, GError **error)
{
    EngineId domain;
    UndefineFlags flags = 0;
    if (!find(fs, 0, command->operand, &domain, error))
        return FALSE;
    if ((command->options & OPTION_SNAPSHOTS_METADATA) != 0)
        flags |= UNDEFINE_SNAPSHOTS;
    if ((command->options & OPTION_MANAGED_SAVE) != 0)
        flags |= UNDEFINE_MANAGED_SAVE;
    return fs->engine->ops->undefine(fs->engine, domain, flags, cancel, error);
}

/* The daemon has left its caller's directory, and never opens what it shows itself. Caller frees; NULL: refused. */
static char *outside_path(const Fs *fs, const char *path, GError **error)
{
    if (!g_path_is_absolute(path)) {
        snap_set_error(error, EINVAL,
                       "'%s' is not an absolute path: who reads this works in another directory", path);
        return NULL;
    }
    char *plain = g_canonicalize_filename(path, NULL);
    if (!mountpoint_holds(fs->mountpoint, plain))
        return plain;
    snap_set_error(error, EINVAL, "'%s' lies in this mount itself: no files are kept there", path);
    g_free(plain);
    return NULL;
}

static gboolean power(Fs *fs, EngineId domain, const Command *command, GCancellable *cancel, GError **error)
{
    g_autofree char *file = command->operand != NULL ? outside_path(fs, command->operand, error) : NULL;
    if (command->operand != NULL && file == NULL)
        return FALSE;
    PowerAction action = command->power;
    if (action == POWER_START && (command->options & OPTION_PAUSED) != 0)
        action = POWER_START_PAUSED;
    return fs->engine->ops->power(fs->engine, domain, action, file, cancel, error);
}

static gboolean cancel_job(Fs *fs, const Command *command, GError **error)
{
    guint64 job;
    if (!g_ascii_string_to_unsigned(command->operand, 10, 1, G_MAXUINT, &job, NULL)) {
        snap_set_error(error, EINVAL, "'%s' is no job number", command->operand);
        return FALSE;
    }
    return fs->engine->ops->cancel(fs->engine, (guint)job, error);
}

gboolean command_run(Fs *fs, EngineId domain, const Command *command, const char *doc, gsize len,
                     GCancellable *cancel, GError **error)
{
    const EngineOps *ops = fs->engine->ops;
    CommandKind bare = domain == 0 ? COMMAND_DEFINE : COMMAND_CREATE;
    switch (command == NULL ? bare : command->kind) {
    case COMMAND_CREATE:
        return create(fs, domain, command, doc, len, cancel, error);
    case COMMAND_REDEFINE:
        return redefine(fs, domain, command, doc, len, cancel, error);
    case COMMAND_REVERT:
        return revert(fs, domain, command, cancel, error);
    case COMMAND_DELETE:
        return delete_snapshot(fs, domain, command, cancel, error);
    case COMMAND_POWER:
        return power(fs, domain, command, cancel, error);
    case COMMAND_WAIT:
        return ops->wait(fs->engine, domain, cancel, error);
    case COMMAND_DEFINE:
        return ops->define(fs->engine, 0, doc, len, cancel, NULL, error);
    case COMMAND_UNDEFINE:
        return undefine(fs, command, cancel, error);
    case COMMAND_CANCEL:
        return cancel_job(fs, command, error);
    }
    g_assert_not_reached();
}
