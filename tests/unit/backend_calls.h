/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls of the offline backend that must succeed, and programs that hold images open: what its tests share.
 * Each test has a backend of its own.
 */
#pragma once

#include "images.h"
#include "offline.h"

#include <sys/wait.h>

#define MIB (1024 * 1024)

static Backend *backend;

static inline void backend_setup(void)
{
    backend = offline_backend_new(NULL);
}

static inline void backend_teardown(void)
{
    backend->ops->free(backend);
}

static inline void touch(const char *path, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

static inline ImageInfo *inspect(const char *path, ImageFormat format)
{
    ImageInfo *info = NULL;
    GError *error = NULL;
    ASSERT_OK(backend->ops->inspect(backend, path, format, &info, &error), error);
    return info;
}

static inline void create_ok(const OverlaySpec *spec)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->overlay_create(backend, spec, NULL, &error), error);
}

static inline void tag_ok(const char *path, const char *tag)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->tag_create(backend, path, tag, NULL, &error), error);
}

static inline void apply_ok(const char *path, const char *tag)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->tag_apply(backend, path, tag, NULL, &error), error);
}

static inline void delete_ok(const char *path, const char *tag)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->tag_delete(backend, path, tag, NULL, &error), error);
}

static inline void copy_out_ok(const char *path, const char *tag, const OverlaySpec *spec)
{
    GError *error = NULL;
    ASSERT_OK(backend->ops->copy_out(backend, path, tag, spec, NULL, &error), error);
}

static inline void assert_same(const char *path, const char *format, const char *hash)
{
    g_autofree char *now = content_hash(path, format, NULL);
    ck_assert_msg(strcmp(now, hash) == 0, "%s does not hold what it should", path);
}

static inline void assert_check_clean(const char *path)
{
    tool("qemu-img", "check", "-q", "-f", "qcow2", path, NULL);
}

static inline ImageUse use_of(const char *path)
{
    ImageUse use = USE_NONE;
    GError *error = NULL;
    ASSERT_OK(backend->ops->in_use(backend, path, &use, &error), error);
    return use;
}

/* A program that holds images open until it is told to go. libcheck ends it when the test fails. */
typedef struct {
    GPid pid;
    int in;
} Holder;

static inline Holder hold(const char *path, gboolean read_only)
{
    char *argv[] = {(char *)"qemu-io",
                    (char *)"-f",
                    (char *)"qcow2",
                    (char *)path,
                    (char *)(read_only ? "-r" : NULL),
                    NULL};
    Holder holder = {0};
    GError *error = NULL;
    ASSERT_OK(
        g_spawn_async_with_pipes(NULL, argv, NULL,
                                 G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                                 NULL, NULL, &holder.pid, &holder.in, NULL, NULL, &error),
        error);
    for (int i = 0; i < 1000 && use_of(path) == USE_NONE; i++)
        g_usleep(5000);
    g_usleep(50000); /* from the first lock to the last one */
    return holder;
}

static inline void let_go(Holder *holder)
{
    close(holder->in);
    ck_assert_int_eq(waitpid(holder->pid, NULL, 0), holder->pid);
}

/* A thread that fires a GCancellable in a moment. */
#define SOON_US 40000

static inline gpointer cancel_soon(gpointer cancel)
{
    g_usleep(SOON_US);
    g_cancellable_cancel(cancel);
    return NULL;
}

static inline TCase *backend_case(Suite *suite, const char *name)
{
    TCase *tcase = scratch_case(suite, name);
    tcase_add_checked_fixture(tcase, backend_setup, backend_teardown);
    return tcase;
}
