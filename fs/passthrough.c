/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "passthrough.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "error.h"
#include "fs.h"

/* Of the kernel's protocol 7.40, which headers of before do not have. */
enum {
    OPEN_PASSTHROUGH = 1 << 7,  /* FOPEN_PASSTHROUGH */
    INIT_EXTENDED = 1 << 30,    /* FUSE_INIT_EXT: flags2 counts */
    INIT2_PASSTHROUGH = 1 << 5, /* FUSE_PASSTHROUGH, bit 37 */
    STACK_DEPTH = 1,            /* what is read lies on a file system that stands on no other */
    DEPTH_AT = offsetof(struct fuse_init_out, flags2) + sizeof(guint32), /* max_stack_depth */
};

typedef struct {
    gint32 fd;
    guint32 flags;
    guint64 padding;
} BackingMap;

#define BACKING_OPEN _IOW(229, 1, BackingMap)
#define BACKING_CLOSE _IOW(229, 2, guint32)

struct PassedFile {
    gint64 node; /* the inode that the mount shows */
    guint32 id;  /* of its file, with the kernel; 0: the daemon reads */
    dev_t dev;   /* that file */
    ino_t ino;
    guint opens; /* under the lock; all else stays */
};

struct Passthrough {
    int fuse;     /* the session's descriptor, or -1; does not change while requests are served */
    gint offered; /* atomic */
    GMutex lock;
    GHashTable *files; /* under the lock: inode -> PassedFile, what is open */
};

Passthrough *passthrough_new(void)
{
    Passthrough *passthrough = g_new0(Passthrough, 1);
    passthrough->fuse = -1;
    g_mutex_init(&passthrough->lock);
    passthrough->files = g_hash_table_new(g_int64_hash, g_int64_equal);
    return passthrough;
}

void passthrough_free(Passthrough *passthrough)
{
    g_hash_table_unref(passthrough->files);
    g_mutex_clear(&passthrough->lock);
    g_free(passthrough);
}

/* --- the offer --- */

/* Is this the answer to INIT? The first answer is; what is no answer (a notification) has no number. */
static gboolean answers_init(const struct iovec *iov, int count)
{
    const struct fuse_out_header *header = iov[0].iov_base;
    return count == 2 && iov[0].iov_len == sizeof *header && header->unique != 0 && header->error == 0 &&
           iov[1].iov_len == sizeof(struct fuse_init_out);
}

static ssize_t send_init(int fd, const struct iovec *iov)
{
    struct fuse_init_out init;
    const guint32 depth = STACK_DEPTH;
    const struct iovec parts[] = {iov[0], {&init, sizeof init}};
    memcpy(&init, iov[1].iov_base, sizeof init);
    init.flags |= INIT_EXTENDED;
    init.flags2 |= INIT2_PASSTHROUGH;
    memcpy((char *)&init + DEPTH_AT, &depth, sizeof depth);
    return writev(fd, parts, G_N_ELEMENTS(parts));
}

static ssize_t send_answer(int fd, struct iovec *iov, int count, void *userdata)
{
    Passthrough *passthrough = ((Fs *)userdata)->passthrough;
    if (!g_atomic_int_get(&passthrough->offered) && answers_init(iov, count)) {
        g_atomic_int_set(&passthrough->offered, TRUE);
        return send_init(fd, iov);
    }
    return writev(fd, iov, count);
}

static ssize_t receive(int fd, void *buffer, size_t len, void *userdata)
{
    return read(fd, buffer, len);
}

void passthrough_offer(Passthrough *passthrough, struct fuse_session *session)
{
    static const struct fuse_custom_io io = {.writev = send_answer, .read = receive};
    int fd = fuse_session_fd(session);
    if (fuse_session_custom_io(session, &io, fd) == 0)
        passthrough->fuse = fd;
}

void passthrough_stop(Passthrough *passthrough)
{
    passthrough->fuse = -1;
}

/* --- opening --- */

/* The id under which the kernel has @fd, or 0: it does not read it. */
static guint32 hand_over(const Passthrough *passthrough, int fd)
{
    const BackingMap map = {.fd = fd};
    int id = passthrough->fuse < 0 ? -1 : ioctl(passthrough->fuse, BACKING_OPEN, &map);
    return id > 0 ? (guint32)id : 0;
}

static PassedFile *file_new(const Passthrough *passthrough, fuse_ino_t node, int fd, const struct stat *st)
{
    PassedFile *file = g_new0(PassedFile, 1);
    file->node = (gint64)node;
    file->id = hand_over(passthrough, fd);
    file->dev = st->st_dev;
    file->ino = st->st_ino;
    return file;
}

gboolean passthrough_open(Passthrough *passthrough, fuse_ino_t ino, int fd, PassedFile **ret_file,
                          GError **error)
{
    struct stat st;
    gint64 node = (gint64)ino;
    if (fstat(fd, &st) != 0) {
        snap_set_errno(error, errno, "fstat");
        return FALSE;
    }
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&passthrough->lock);
    PassedFile *file = g_hash_table_lookup(passthrough->files, &node);
    if (file == NULL) {
        file = file_new(passthrough, ino, fd, &st);
        g_hash_table_insert(passthrough->files, &file->node, file);
    } else if (file->dev != st.st_dev || file->ino != st.st_ino) {
        if (file->id != 0) {
            snap_set_error(error, EBUSY, "the file that was there before is still open");
            return FALSE;
        }
        file = NULL;
    }
    if (file != NULL)
        file->opens++;
    *ret_file = file;
    return TRUE;
}

void passthrough_close(Passthrough *passthrough, PassedFile *file)
{
    if (file == NULL)
        return;
    g_mutex_lock(&passthrough->lock);
    gboolean last = --file->opens == 0;
    if (last)
        g_hash_table_remove(passthrough->files, &file->node);
    g_mutex_unlock(&passthrough->lock);
    if (!last)
        return;
    if (file->id != 0 && passthrough->fuse >= 0)
        (void)ioctl(passthrough->fuse, BACKING_CLOSE, &file->id);
    g_free(file);
}

int passthrough_reply_open(const PassedFile *file, fuse_req_t req, struct fuse_file_info *fi)
{
    if (file == NULL || file->id == 0) {
        fi->direct_io = file == NULL;
        return fuse_reply_open(req, fi);
    }
    const struct fuse_open_out out = {.fh = fi->fh, .open_flags = OPEN_PASSTHROUGH, .padding = file->id};
    return fuse_reply_buf(req, (const char *)&out, sizeof out);
}
