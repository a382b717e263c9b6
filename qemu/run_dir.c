/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "files.h"
#include "qmp_socket.h"

#define FIRST_LINE "domsnapfs: the messages of a QEMU\n"

enum {
    LOOK_MS = 1000,
    LOCK_MS = 500,
    LOCK_LOOK_MS = 10,
    PID_BYTES = 32,
    WORDS_BYTES = 64 * 1024,
    SENTENCE_BYTES = 600
};

/* --- the directory --- */

gboolean run_dir_make(const char *directory, GError **error)
{
    struct stat st;
    if (g_mkdir_with_parents(directory, 0700) < 0 || stat(directory, &st) < 0) {
        snap_set_errno(error, errno, "the directory for sockets '%s'", directory);
        return FALSE;
    }
    if ((st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & (S_IWGRP | S_IWOTH)))
        return TRUE;
    snap_set_error(
        error, EACCES,
        "the directory for sockets '%s' can be written by others: chmod 0700 and chown it, or name "
        "another one (-o qmp=DIR)",
        directory);
    return FALSE;
}

/* --- sockets --- */

/* 0: nothing is there; ECONNREFUSED: a socket, but nobody listens; else why it is not free. */
static int look_at_socket(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : errno;
    if (!S_ISSOCK(st.st_mode))
        return EEXIST;
    g_autoptr(GError) why = NULL;
    QmpWait wait = qmp_wait(LOOK_MS, NULL);
    int fd = qmp_socket_connect(path, &wait, &why);
    if (fd < 0)
        return why->code == ENOENT ? 0 : why->code;
    close(fd);
    return EBUSY;
}

gboolean run_socket_is_free(const char *path, GError **error)
{
    int code = look_at_socket(path);
    if (code == 0 || code == ECONNREFUSED)
        return TRUE;
    if (code == EEXIST)
        snap_set_error(error, EEXIST,
                       "'%s' is where QEMU makes a socket, and it is no socket: it would be lost", path);
    else if (code == EBUSY)
        snap_set_error(error, EBUSY, "somebody listens at '%s' already: a machine of this name runs", path);
    else
        snap_set_errno(error, code, "the socket '%s'", path);
    return FALSE;
}

void run_socket_remove(const char *path)
{
    if (look_at_socket(path) == ECONNREFUSED)
        (void)unlink(path);
}

/* --- the pid file --- */

gboolean run_pid_file_is_free(const char *path, GError **error)
{
    struct stat st;
    g_autofree char *text = NULL;
    if (lstat(path, &st) < 0 && errno == ENOENT)
        return TRUE;
    if (file_load(path, PID_BYTES, &text, NULL, NULL) && strspn(text, "0123456789\n") == strlen(text))
        return TRUE;
    snap_set_error(error, EEXIST, "'%s' is where QEMU writes its process number, and it is something else",
                   path);
    return FALSE;
}

/* --- the log --- */

/* A new one is empty; one of ours has our first line. */
static gboolean is_ours(int fd)
{
    char line[sizeof FIRST_LINE - 1];
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return FALSE;
    return st.st_size == 0 || (pread(fd, line, sizeof line, 0) == (ssize_t)sizeof line &&
                               memcmp(line, FIRST_LINE, sizeof line) == 0);
}

/* The first line stays, whatever QEMU appends meanwhile. */
static gboolean begin_anew(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return FALSE;
    if (st.st_size > 0)
        return ftruncate(fd, (off_t)strlen(FIRST_LINE)) == 0;
    return write(fd, FIRST_LINE, strlen(FIRST_LINE)) == (ssize_t)strlen(FIRST_LINE);
}

/* A QEMU that has just ended keeps it for a moment. */
static gboolean lock(int fd)
{
    for (int left = LOCK_MS; flock(fd, LOCK_EX | LOCK_NB) < 0; left -= LOCK_LOOK_MS) {
        if (errno != EWOULDBLOCK || left <= 0)
            return FALSE;
        g_usleep(LOCK_LOOK_MS * 1000);
    }
    return TRUE;
}

int run_log_open(const char *path, GError **error)
{
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0) {
        snap_set_errno(error, errno, "QEMU's messages '%s'", path);
        return -1;
    }
    if (!is_ours(fd))
        snap_set_error(error, EEXIST, "'%s' is for QEMU's messages, and it is something else", path);
    else if (!lock(fd))
        snap_set_error(error, EBUSY, "a machine of this name runs, or is being started ('%s' is locked)",
                       path);
    else if (!begin_anew(fd))
        snap_set_errno(error, errno, "QEMU's messages '%s'", path);
    else
        return fd;
    close(fd);
    return -1;
}

gboolean run_log_is_held(const char *path)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    gboolean held = fd >= 0 && is_ours(fd) && !lock(fd);
    if (fd >= 0)
        close(fd);
    return held;
}

static char *load_end(const char *path)
{
    char *text = NULL;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        off_t at = MAX(st.st_size - WORDS_BYTES, 0);
        text = g_malloc0(WORDS_BYTES + 1);
        ssize_t n = pread(fd, text, WORDS_BYTES, at);
        text[MAX(n, 0)] = '\0';
    }
    if (fd >= 0)
        close(fd);
    return text;
}

char *run_log_words(const char *path, const char *program)
{
    g_autofree char *text = load_end(path), *prefix = g_strconcat(program, ": ", NULL);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    g_autoptr(GString) words = g_string_new(NULL);
    for (guint i = 0; lines[i] && words->len < SENTENCE_BYTES; i++) {
        const char *line = lines[i];
        if (g_str_has_prefix(line, prefix))
            line += strlen(prefix);
        if (*line == '\0' || g_str_has_prefix(line, "warning: ") || g_str_has_prefix(line, "domsnapfs: "))
            continue;
        g_string_append_printf(words, "%s%.*s", words->len > 0 ? "; " : "", SENTENCE_BYTES, line);
    }
    return words->len > 0 ? g_utf8_make_valid(words->str, (gssize)words->len) : NULL;
}

void run_log_trim(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && st.st_size > RUN_LOG_BYTES && is_ours(fd))
        (void)begin_anew(fd);
    close(fd);
}
