/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The spy between engine and backend, and this program's own rename, link, unlink, chmod and sendmsg (engine_world.h). */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "engine_world.h"
#include "machine.h"

static struct {
    GMutex lock;
    GCond changed;
    TrapKind kind;
    guint at, seen;
    int err;
    gboolean calling;
    void (*call)(gpointer user);
    gpointer call_user;
    guint failing; /* SpyCalls that fail, and about which path */
    const char *failing_path;
    int failing_err;
    guint gated; /* SpyCalls that wait */
    const char *gated_path;
    guint waiting;
} spy;

void trap_set(TrapKind kind, guint at, int err)
{
    g_mutex_lock(&spy.lock);
    spy.kind = kind;
    spy.at = at;
    spy.err = err;
    spy.seen = 0;
    g_mutex_unlock(&spy.lock);
}

void trap_call(guint at, void (*call)(gpointer user), gpointer user)
{
    trap_set(TRAP_CALL, at, 0);
    spy.call = call;
    spy.call_user = user;
}

guint trap_seen(void)
{
    g_mutex_lock(&spy.lock);
    guint seen = spy.seen;
    g_mutex_unlock(&spy.lock);
    return seen;
}

/* The errno to fail with at this point, or 0. */
static int point(void)
{
    g_mutex_lock(&spy.lock);
    guint n = spy.calling ? 0 : ++spy.seen;
    gboolean here = (n == spy.at && n > 0) || (spy.kind == TRAP_FAIL_FROM && n > spy.at);
    TrapKind kind = here ? spy.kind : TRAP_OFF;
    int err = kind == TRAP_FAIL || kind == TRAP_FAIL_FROM ? spy.err : 0;
    spy.calling |= kind == TRAP_CALL;
    g_mutex_unlock(&spy.lock);
    if (kind == TRAP_EXIT)
        _exit(TRAP_EXIT_CODE);
    if (kind == TRAP_CALL) {
        spy.call(spy.call_user);
        spy.calling = FALSE;
    }
    return err;
}

void spy_fail(guint calls, const char *path, int err)
{
    g_mutex_lock(&spy.lock);
    spy.failing = calls;
    spy.failing_path = path;
    spy.failing_err = err;
    g_mutex_unlock(&spy.lock);
}

void gate_close(guint calls, const char *path)
{
    g_mutex_lock(&spy.lock);
    spy.gated = calls;
    spy.gated_path = path;
    g_mutex_unlock(&spy.lock);
}

void gate_open(void)
{
    g_mutex_lock(&spy.lock);
    spy.gated = 0;
    g_cond_broadcast(&spy.changed);
    g_mutex_unlock(&spy.lock);
}

void gate_wait(guint n)
{
    gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    g_mutex_lock(&spy.lock);
    while (spy.waiting < n && g_cond_wait_until(&spy.changed, &spy.lock, end))
        ;
    guint waiting = spy.waiting;
    g_mutex_unlock(&spy.lock);
    ck_assert_msg(waiting >= n, "only %u calls reached the gate", waiting);
}

static gboolean is_about(const char *wanted, const char *path)
{
    return !wanted || strstr(path, wanted) != NULL;
}

/* Before a call: wait at the gate, then fail if told so. */
static gboolean enter(SpyCall call, const char *path, GError **error)
{
    int err = point();
    g_mutex_lock(&spy.lock);
    if ((spy.gated & call) && is_about(spy.gated_path, path)) {
        spy.waiting++;
        g_cond_broadcast(&spy.changed);
        while (spy.gated & call)
            g_cond_wait(&spy.changed, &spy.lock);
        spy.waiting--;
    }
    if (!err && (spy.failing & call) && is_about(spy.failing_path, path))
        err = spy.failing_err;
    g_mutex_unlock(&spy.lock);
    if (err)
        snap_set_errno(error, err, "'%s'", path);
    return !err;
}

/* After a changing call that succeeded: an error that comes late, as of a flush. */
static gboolean leave(gboolean ok, const char *path, GError **error)
{
    int err = ok ? point() : 0;
    if (err)
        snap_set_errno(error, err, "flush '%s'", path);
    return ok && !err;
}

/* --- the backend --- */

typedef struct {
    Backend base;
    MachineBackend machines;
    Backend *real;
} Spy;

static Backend *real_of(Backend *backend)
{
    return ((Spy *)backend)->real;
}

static gboolean spy_inspect(Backend *backend, const char *path, ImageFormat format, ImageInfo **ret_info,
                            GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_INSPECT, path, error) && real->ops->inspect(real, path, format, ret_info, error);
}

static gboolean spy_in_use(Backend *backend, const char *path, ImageUse *ret_use, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_IN_USE, path, error) && real->ops->in_use(real, path, ret_use, error);
}

static int spy_hold(Backend *backend, const char *path, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_HOLD, path, error) ? real->ops->hold(real, path, error) : -1;
}

static gboolean spy_overlay_create(Backend *backend, const OverlaySpec *spec, GCancellable *cancel,
                                   GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_OVERLAY, spec->path, error) &&
           leave(real->ops->overlay_create(real, spec, cancel, error), spec->path, error);
}

static gboolean spy_place_check(Backend *backend, const OverlaySpec *spec, GCancellable *cancel,
                                GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_PLACE, spec->path, error) && real->ops->place_check(real, spec, cancel, error);
}

static gboolean spy_place_format(Backend *backend, const OverlaySpec *spec, GCancellable *cancel,
                                 GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_PLACE, spec->path, error) &&
           leave(real->ops->place_format(real, spec, cancel, error), spec->path, error);
}

static gboolean spy_place_clear(Backend *backend, const OverlaySpec *spec, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_PLACE, spec->path, error) &&
           leave(real->ops->place_clear(real, spec, error), spec->path, error);
}

static gboolean spy_tag_create(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                               GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_TAG_CREATE, path, error) &&
           leave(real->ops->tag_create(real, path, tag, cancel, error), path, error);
}

static gboolean spy_tag_apply(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                              GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_TAG_APPLY, path, error) &&
           leave(real->ops->tag_apply(real, path, tag, cancel, error), path, error);
}

static gboolean spy_tag_delete(Backend *backend, const char *path, const char *tag, GCancellable *cancel,
                               GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_TAG_DELETE, path, error) &&
           leave(real->ops->tag_delete(real, path, tag, cancel, error), path, error);
}

static gboolean spy_copy_out(Backend *backend, const char *path, const char *tag, const OverlaySpec *spec,
                             GCancellable *cancel, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_COPY_OUT, path, error) &&
           leave(real->ops->copy_out(real, path, tag, spec, cancel, error), path, error);
}

static gboolean spy_check(Backend *backend, const char *path, ImageCheck *ret_check, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_CHECK, path, error) && real->ops->check(real, path, ret_check, error);
}

static gboolean spy_repair(Backend *backend, const char *path, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_REPAIR, path, error) && leave(real->ops->repair(real, path, error), path, error);
}

static int spy_open_reader(Backend *backend, const char *path, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_IN_USE, path, error) ? real->ops->open_reader(real, path, error) : -1;
}

static DiskReader *spy_open_disk(Backend *backend, const DiskChain *chain, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_OPEN_DISK, chain->layers[0].path, error) ? real->ops->open_disk(real, chain, error)
                                                               : NULL;
}

static gboolean spy_disk_size(Backend *backend, const DiskChain *chain, guint64 *ret_size, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_INSPECT, chain->layers[0].path, error) &&
           real->ops->disk_size(real, chain, ret_size, error);
}

static int spy_take(Backend *backend, const char *path, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_HOLD, path, error) ? real->ops->take(real, path, error) : -1;
}

static gboolean spy_commit(Backend *backend, const MergeSpec *spec, int lower_fd,
                           const BackendProgress *progress, GCancellable *cancel, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_COMMIT, spec->upper, error) &&
           leave(real->ops->commit(real, spec, lower_fd, progress, cancel, error), spec->upper, error);
}

static gboolean spy_copy_up(Backend *backend, const char *path, const OverlaySpec *spec,
                            const BackendProgress *progress, GCancellable *cancel, GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_COPY_UP, path, error) &&
           leave(real->ops->copy_up(real, path, spec, progress, cancel, error), path, error);
}

static gboolean spy_set_backing(Backend *backend, const char *path, const char *name, ImageFormat format,
                                GError **error)
{
    Backend *real = real_of(backend);
    return enter(CALL_SET_BACKING, path, error) &&
           leave(real->ops->set_backing(real, path, name, format, error), path, error);
}

static void spy_let_go(Backend *backend, int fd)
{
    Backend *real = real_of(backend);
    real->ops->let_go(real, fd);
}

static void spy_free(Backend *backend)
{
    Backend *real = real_of(backend);
    real->ops->free(real);
    g_free(backend);
}

/* --- machines: found and started by the real one, and used without the spy, but for what is sent to them --- */

static gboolean spy_find(Backend *backend, const MachineSpec *spec, GCancellable *cancel,
                         Machine **ret_machine, GError **error)
{
    Backend *real = real_of(backend);
    return real->machines->find(real, spec, cancel, ret_machine, error);
}

static gboolean spy_start_check(Backend *backend, const MachineStart *start, GError **error)
{
    Backend *real = real_of(backend);
    return real->machines->check(real, start, error);
}

static gboolean spy_start(Backend *backend, const MachineStart *start, GCancellable *cancel,
                          Machine **ret_machine, DomainDef **ret_def, GPtrArray **ret_notes, GError **error)
{
    Backend *real = real_of(backend);
    return real->machines->start(real, start, cancel, ret_machine, ret_def, ret_notes, error);
}

static void spy_watch(Backend *backend, const MachineSpec *spec)
{
    Backend *real = real_of(backend);
    real->machines->watch(real, spec);
}

static void spy_unwatch(Backend *backend, const char *uuid)
{
    Backend *real = real_of(backend);
    real->machines->unwatch(real, uuid);
}

static void spy_set_told(Backend *backend, MachineTold told, gpointer user)
{
    Backend *real = real_of(backend);
    real->machines->set_told(real, told, user);
}

static void pass_machines_on(Spy *made)
{
    const MachineBackend *real = made->real->machines;
    if (!real)
        return;
    made->machines = (MachineBackend){.find = spy_find,
                                      .check = spy_start_check,
                                      .start = spy_start,
                                      .watch = real->watch ? spy_watch : NULL,
                                      .unwatch = real->unwatch ? spy_unwatch : NULL,
                                      .set_told = real->set_told ? spy_set_told : NULL};
    made->base.machines = &made->machines;
}

Backend *spy_new(Backend *real)
{
    static const BackendOps ops = {
        .inspect = spy_inspect,
        .in_use = spy_in_use,
        .hold = spy_hold,
        .let_go = spy_let_go,
        .overlay_create = spy_overlay_create,
        .place_check = spy_place_check,
        .place_format = spy_place_format,
        .place_clear = spy_place_clear,
        .tag_create = spy_tag_create,
        .tag_apply = spy_tag_apply,
        .tag_delete = spy_tag_delete,
        .copy_out = spy_copy_out,
        .check = spy_check,
        .repair = spy_repair,
        .open_reader = spy_open_reader,
        .open_disk = spy_open_disk,
        .disk_size = spy_disk_size,
        .take = spy_take,
        .commit = spy_commit,
        .copy_up = spy_copy_up,
        .set_backing = spy_set_backing,
        .free = spy_free,
    };
    Spy *made = g_new0(Spy, 1);
    made->base.ops = &ops;
    made->real = real;
    pass_machines_on(made);
    return &made->base;
}

/* --- the file operations of this program; GLib's calls come here too --- */

static int file_point(void)
{
    int err = point();
    if (err)
        errno = err;
    return err ? -1 : 0;
}

/* A point before, and one after that only an exit can use: what has happened cannot fail. */
static int after(int result)
{
    if (result == 0)
        (void)point();
    return result;
}

int rename(const char *from, const char *to)
{
    return file_point() < 0 ? -1 : after((int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
    return file_point() < 0 ? -1 : after((int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags));
}

int link(const char *from, const char *to)
{
    return file_point() < 0 ? -1 : after((int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int unlink(const char *path)
{
    return file_point() < 0 ? -1 : after((int)syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int chmod(const char *path, mode_t mode)
{
    return file_point() < 0 ? -1 : after((int)syscall(SYS_fchmodat, AT_FDCWD, path, mode));
}

/* Places and copies are written with this; a write may be the last thing that happens, or fail. */
ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    if (file_point() < 0)
        return -1;
    ssize_t n = syscall(SYS_pwrite64, fd, data, len, offset);
    if (n >= 0)
        (void)point();
    return n;
}

/* Each command to a QEMU; not what GLib sends on sockets of its own. One that fails has broken the connection. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    static const char begin[] = "{\"execute\"";
    const struct iovec *first = message->msg_iovlen > 0 ? message->msg_iov : NULL;
    gboolean command =
        first && first->iov_len >= strlen(begin) && !memcmp(first->iov_base, begin, strlen(begin));
    int err = command ? point() : 0;
    if (err) {
        (void)shutdown(fd, SHUT_RDWR);
        errno = EPIPE;
        return -1;
    }
    ssize_t n = syscall(SYS_sendmsg, fd, message, flags);
    if (command && n >= 0)
        (void)point();
    return n;
}
