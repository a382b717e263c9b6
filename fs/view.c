/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "rundir.h"

#define PREFIX "view-"

struct View {
    char *path;
    int lock; /* of the directory: held as long as this process lives */
};

/* Where views are. */
static char *base_path(void)
{
    g_autofree char *run = rundir_path();
    if (run != NULL)
        return g_build_filename(run, "views", NULL);
    g_autofree char *name = g_strdup_printf("domsnapfs-%u", (guint)geteuid());
    return g_build_filename(g_get_tmp_dir(), name, NULL);
}

/* A descriptor of the directory @path, which must be ours alone, with its lock if @how gets it; -1. */
static int open_dir(const char *path, int how, GError **error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        snap_set_errno(error, errno, "open '%s'", path);
    else if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        snap_set_error(error, EACCES, "'%s' is not a directory of this user alone (0700)", path);
    else if (flock(fd, how) < 0)
        snap_set_errno(error, errno, "lock '%s'", path);
    else
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Remove the directory @path. A store has three levels of directories; symlinks are not followed. */
static void remove_dir(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name = dir != NULL ? g_dir_read_name(dir) : NULL; name != NULL;
         name = g_dir_read_name(dir)) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        if (unlink(child) < 0 && errno == EISDIR)
            remove_dir(child);
    }
    (void)rmdir(path);
}

/* Views whose process is gone: nobody holds their lock. */
static void clear_stale(const char *base)
{
    g_autoptr(GDir) dir = g_dir_open(base, 0, NULL);
    for (const char *name = dir != NULL ? g_dir_read_name(dir) : NULL; name != NULL;
         name = g_dir_read_name(dir)) {
        if (!g_str_has_prefix(name, PREFIX))
            continue;
        g_autofree char *path = g_build_filename(base, name, NULL);
        int fd = open_dir(path, LOCK_EX | LOCK_NB, NULL);
        if (fd < 0)
            continue;
        remove_dir(path);
        close(fd);
    }
}

View *view_new(GError **error)
{
    g_autofree char *base = base_path();
    if (g_mkdir_with_parents(base, 0700) != 0) {
        snap_set_errno(error, errno, "make '%s'", base);
        return NULL;
    }
    /* While a view is made, nobody clears: it is not locked from its first moment on. */
    int all = open_dir(base, LOCK_EX, error);
    if (all < 0)
        return NULL;
    clear_stale(base);
    g_autofree char *path = g_build_filename(base, PREFIX "XXXXXX", NULL);
    int lock = -1;
    if (g_mkdtemp_full(path, 0700) == NULL)
        snap_set_errno(error, errno, "make a directory in '%s'", base);
    else
        lock = open_dir(path, LOCK_EX | LOCK_NB, error);
    close(all);
    if (lock < 0)
        return NULL;
    View *view = g_new0(View, 1);
    view->path = g_steal_pointer(&path);
    view->lock = lock;
    return view;
}

const char *view_store(const View *view)
{
    return view->path;
}

void view_free(View *view)
{
    if (view == NULL)
        return;
    remove_dir(view->path);
    close(view->lock);
    g_free(view->path);
    g_free(view);
}
