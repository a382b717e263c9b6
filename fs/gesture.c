/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "gesture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "node.h"
#include "target.h"
#include "writer.h"

/* A gesture handed over to a job. */
typedef struct {
    fuse_ino_t dir;
    fuse_ino_t ino; /* what is removed, renamed or renamed onto; 0: nothing yet */
    char *name;
    char *text; /* the new name, the text of a link, or why it is refused */
    int err;    /* of a refusal */
} Gesture;

static void gesture_free(Gesture *gesture)
{
    g_free(gesture->name);
    g_free(gesture->text);
    g_free(gesture);
}

static void start(Fs *fs, fuse_req_t req, JobRun run, fuse_ino_t dir, fuse_ino_t ino, const char *name,
                  const char *text)
{
    Gesture *gesture = g_new0(Gesture, 1);
    *gesture = (Gesture){.dir = dir, .ino = ino, .name = g_strdup(name), .text = g_strdup(text)};
    job_start(fs, req, run, gesture, (GDestroyNotify)gesture_free, dir, ino);
}

static void run_refuse(Job *job)
{
    const Gesture *gesture = job->data;
    g_autoptr(GError) error = NULL;
    snap_set_error(&error, gesture->err, "%s", gesture->text);
    fs_report(job->fs, node_domain(job->fs, gesture->dir), gesture->name, error);
    fuse_reply_err(job_finish(job), gesture->err);
}

/* Answer @err, and say why in the log. @what: what was asked for. */
static void refuse(Fs *fs, fuse_req_t req, fuse_ino_t dir, int err, const char *verb, const char *name,
                   const char *why)
{
    Gesture *gesture = g_new0(Gesture, 1);
    *gesture = (Gesture){.dir = dir, .text = g_strdup(why), .err = err};
    gesture->name = g_strdup_printf("%s '%s'", verb, name);
    job_start(fs, req, run_refuse, gesture, (GDestroyNotify)gesture_free, dir, 0);
}

static int report(Job *job, const char *what, const GError *error)
{
    const Gesture *gesture = job->data;
    return fs_report(job->fs, node_domain(job->fs, gesture->dir), what, error);
}

static void reply_entry(Job *job, fuse_ino_t ino)
{
    struct fuse_entry_param entry;
    if (node_entry(job->fs, ino, &entry))
        fuse_reply_entry(job_finish(job), &entry);
    else
        fuse_reply_err(job_finish(job), ENOENT);
}

/* --- mkdir: create --- */

static gboolean create(Job *job, EngineId *ret_snapshot, GError **error)
{
    const Gesture *gesture = job->data;
    g_autofree char *name = name_from_entry(gesture->name, NAME_SNAPSHOT);
    if (!name_check_new(name, NAME_SNAPSHOT, error))
        return FALSE;
    g_autoptr(CreateRequest) request = create_request_new();
    request->name = g_steal_pointer(&name);
    request->plain = TRUE;
    return job->fs->engine->ops->create(job->fs->engine, node_id(gesture->dir), request, job->cancel,
                                        ret_snapshot, error);
}

static void run_mkdir(Job *job)
{
    const Gesture *gesture = job->data;
    EngineId snapshot;
    g_autoptr(GError) error = NULL;
    if (create(job, &snapshot, &error)) {
        reply_entry(job, node_ino(NODE_SNAPSHOT, snapshot));
        return;
    }
    g_autofree char *what = g_strdup_printf("create '%s'", gesture->name);
    int err = report(job, what, error);
    fuse_reply_err(job_finish(job), err);
}

void gesture_mkdir(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name)
{
    if (node_kind(dir) == NODE_DOMAIN)
        start(fs, req, run_mkdir, dir, 0, name, NULL);
    else if (node_kind(dir) == NODE_ROOT)
        refuse(fs, req, dir, EPERM, "mkdir", name, "a domain is defined by writing its XML into ctl");
    else
        refuse(fs, req, dir, EPERM, "mkdir", name,
               "directories are made in a domain only: each is a snapshot");
}

/* --- rmdir: delete, undefine --- */

static void run_rmdir(Job *job)
{
    const Gesture *gesture = job->data;
    Engine *engine = job->fs->engine;
    g_autoptr(GError) error = NULL;
    gboolean domain = node_kind(gesture->ino) == NODE_DOMAIN;
    EngineId id = node_id(gesture->ino);
    gboolean done = domain ? engine->ops->undefine(engine, id, 0, job->cancel, &error)
                           : engine->ops->delete (engine, id, DELETE_ONE, job->cancel, &error);
    int err = 0;
    if (!done) {
        g_autofree char *what = g_strdup_printf("%s '%s'", domain ? "undefine" : "delete", gesture->name);
        /* What stands in the way of undefining a domain is read in the domain's own log. */
        err = fs_report(job->fs, node_domain(job->fs, gesture->ino), what, error);
    }
    fuse_reply_err(job_finish(job), err);
}

void gesture_rmdir(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name)
{
    fuse_ino_t ino = node_lookup(fs, dir, name);
    NodeKind kind = node_kind(ino);
    if (ino == 0)
        fuse_reply_err(req, ENOENT);
    else if (guard_refuses(fs->guard, ino, fuse_req_ctx(req)->pid))
        refuse(fs, req, dir, ENOTEMPTY, "rmdir", name,
               "this process has just tried to remove files here: a recursive remove deletes nothing");
    else if (kind == NODE_DOMAIN || kind == NODE_SNAPSHOT)
        start(fs, req, run_rmdir, dir, ino, name, NULL);
    else
        fuse_reply_err(req, S_ISDIR(node_spec(kind)->mode) ? EPERM : ENOTDIR);
}

/* --- revert: a symlink that becomes current --- */

static gboolean revert(Job *job, const char *link, GError **error)
{
    const Gesture *gesture = job->data;
    EngineId domain = node_id(gesture->dir);
    EngineId snapshot = target_snapshot(job->fs, domain, link);
    g_autofree char *name = snapshot == 0 ? NULL : job->fs->engine->ops->name(job->fs->engine, snapshot);
    if (name == NULL) {
        snap_set_error(error, ENOENT, "there is no such snapshot");
        return FALSE;
    }
    RevertRequest request = {.name = name};
    return job->fs->engine->ops->revert(job->fs->engine, domain, &request, job->cancel, error);
}

/* Revert to what @link names; 0 or an errno. */
static int revert_reported(Job *job, const char *link)
{
    g_autoptr(GError) error = NULL;
    if (revert(job, link, &error))
        return 0;
    g_autofree char *what = g_strdup_printf("revert to '%s'", link);
    return report(job, what, error);
}

static void run_symlink_current(Job *job)
{
    const Gesture *gesture = job->data;
    int err = revert_reported(job, gesture->text);
    if (err != 0)
        fuse_reply_err(job_finish(job), err);
    else
        reply_entry(job, node_ino(NODE_CURRENT, node_id(gesture->dir)));
}

/* May a scratch symlink called @name be made in @dir? 0 or an errno. */
static int check_link(fuse_ino_t dir, const char *name)
{
    g_autoptr(GError) error = NULL;
    if (strlen(name) > NAME_MAX_BYTES)
        return ENAMETOOLONG;
    if (node_kind(dir) != NODE_DOMAIN)
        return EPERM;
    /* A reserved name that is not there (current, usage) is not for scratch; a dotted one is: emacs locks so. */
    if (*name != '.' && !name_check_new(name, NAME_SNAPSHOT, &error) && snap_errno(error) == EPERM)
        return EPERM;
    return 0;
}

static void add_scratch_link(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, const char *text)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct fuse_entry_param entry;
    if (node_lookup(fs, dir, name) != 0) {
        fuse_reply_err(req, EEXIST);
        return;
    }
    guint64 id = scratch_add(fs->scratch, dir, name, text, ctx->uid, ctx->gid);
    if (id == 0 || !node_entry(fs, node_ino(NODE_SCRATCH, id), &entry))
        fuse_reply_err(req, ENOSPC);
    else
        fuse_reply_entry(req, &entry);
}

void gesture_symlink(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, const char *text)
{
    struct fuse_entry_param entry;
    fuse_ino_t current = node_kind(dir) == NODE_DOMAIN ? node_ino(NODE_CURRENT, node_id(dir)) : 0;
    int err = check_link(dir, name);
    if (current != 0 && strcmp(name, "current") == 0) {
        /* `ln -sfn` where there is no current snapshot: no rename follows. */
        if (node_entry(fs, current, &entry))
            fuse_reply_err(req, EEXIST);
        else
            start(fs, req, run_symlink_current, dir, 0, name, text);
    } else if (err == EPERM && node_kind(dir) == NODE_SNAPSHOT) {
        refuse(fs, req, dir, EPERM, "symlink", name, "to revert use ln -sfn (with -n) onto current");
    } else if (err != 0) {
        fuse_reply_err(req, err);
    } else {
        add_scratch_link(fs, req, dir, name, text);
    }
}

/* --- unlink --- */

void gesture_unlink(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name)
{
    fuse_ino_t ino = node_lookup(fs, dir, name);
    if (ino == 0) {
        fuse_reply_err(req, ENOENT);
    } else if (node_kind(ino) == NODE_SCRATCH) {
        scratch_unlink(fs->scratch, dir, name);
        fuse_reply_err(req, 0);
    } else {
        guard_note(fs->guard, dir, node_above(fs, dir), fuse_req_ctx(req)->pid);
        fuse_reply_err(req, EPERM);
    }
}

/* --- rename --- */

/*
 * Never what makes mv copy and delete, or say something strange: EXDEV, ENOSYS (snap_errno knows) and EINVAL,
 * which it prints as "cannot move to a subdirectory of itself". A document that does not parse is a bad
 * message here.
 */
static int rename_errno(int err)
{
    return err == EINVAL ? EBADMSG : err;
}

static gboolean rename_child(Job *job, GError **error)
{
    const Gesture *gesture = job->data;
    Engine *engine = job->fs->engine;
    NameKind kind = node_kind(gesture->dir) == NODE_ROOT ? NAME_DOMAIN : NAME_SNAPSHOT;
    g_autofree char *name = name_from_entry(gesture->text, kind);
    if (!name_check_new(name, kind, error))
        return FALSE;
    return engine->ops->rename(engine, node_id(gesture->ino), name, job->cancel, error);
}

static void run_rename(Job *job)
{
    const Gesture *gesture = job->data;
    g_autoptr(GError) error = NULL;
    int err = 0;
    if (!rename_child(job, &error)) {
        g_autofree char *what = g_strdup_printf("rename '%s' to '%s'", gesture->name, gesture->text);
        err = rename_errno(fs_report(job->fs, node_domain(job->fs, gesture->ino), what, error));
    }
    fuse_reply_err(job_finish(job), err);
}

static void run_rename_to_current(Job *job)
{
    const Gesture *gesture = job->data;
    int err = revert_reported(job, gesture->text);
    if (err == 0)
        scratch_unlink(job->fs->scratch, gesture->dir, gesture->name);
    fuse_reply_err(job_finish(job), rename_errno(err));
}

static void run_rename_to_text(Job *job)
{
    const Gesture *gesture = job->data;
    fuse_ino_t from = node_lookup(job->fs, gesture->dir, gesture->name);
    g_autoptr(GBytes) content = scratch_read(job->fs->scratch, node_id(from), 0, G_MAXUINT32);
    int err = content == NULL ? ENOENT : writer_replace(job->fs, gesture->ino, content, job->cancel);
    if (err == 0)
        scratch_unlink(job->fs->scratch, gesture->dir, gesture->name);
    fuse_reply_err(job_finish(job), rename_errno(err));
}

static void rename_scratch(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t from,
                           const char *new_name, gboolean replace)
{
    struct fuse_entry_param entry;
    fuse_ino_t onto = node_lookup(fs, dir, new_name);
    gboolean there = onto != 0 && node_entry(fs, onto, &entry);
    g_autofree char *link = scratch_link(fs->scratch, node_id(from));
    if (there && !replace)
        fuse_reply_err(req, EEXIST);
    else if (link != NULL && node_kind(onto) == NODE_CURRENT)
        start(fs, req, run_rename_to_current, dir, 0, name, link);
    else if (link == NULL && there && node_is_writable(onto) && !node_is_ctl(onto))
        start(fs, req, run_rename_to_text, dir, onto, name, NULL);
    else
        fuse_reply_err(req, EPERM);
}

void gesture_rename(Fs *fs, fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t new_dir,
                    const char *new_name, unsigned flags)
{
    struct fuse_entry_param entry;
    if ((flags & ~(unsigned)RENAME_NOREPLACE) != 0) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    if (dir != new_dir) { /* at once: the kernel holds a lock of the whole file system */
        fuse_reply_err(req, EPERM);
        return;
    }
    fuse_ino_t from = node_lookup(fs, dir, name);
    fuse_ino_t onto = node_lookup(fs, dir, new_name);
    NodeKind kind = node_kind(from);
    if (from == 0)
        fuse_reply_err(req, ENOENT);
    else if (kind == NODE_SCRATCH)
        rename_scratch(fs, req, dir, name, from, new_name, flags == 0);
    else if (kind != NODE_DOMAIN && kind != NODE_SNAPSHOT)
        fuse_reply_err(req, EPERM);
    else if (onto != 0 && onto != from && node_entry(fs, onto, &entry))
        fuse_reply_err(req, EEXIST);
    else
        start(fs, req, run_rename, dir, from, name, new_name);
}
