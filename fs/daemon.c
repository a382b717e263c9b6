/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define DRAIN_MSEC 20

/* The parent: exit as the child says, or, when it dies without a word, as it did. */
static void wait_for_child(int report, pid_t child)
{
    unsigned char code;
    gssize got;
    do {
        got = read(report, &code, 1);
    } while (got < 0 && errno == EINTR);
    if (got == 1)
        _exit(code);
    int status = 0;
    if (waitpid(child, &status, 0) == child && WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    _exit(EXIT_FAILURE);
}

int daemon_fork(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid_t child = fork();
    if (child > 0) {
        close(ends[1]);
        wait_for_child(ends[0], child);
    }
    close(ends[0]);
    if (child < 0) {
        close(ends[1]);
        return -1;
    }
    setsid();
    /* What the caller had open (a pipe that somebody reads to its end, say) is not ours to hold. */
    int report = STDERR_FILENO + 1;
    if (ends[1] != report && dup3(ends[1], report, O_CLOEXEC) < 0)
        return ends[1];
    close_range((unsigned)report + 1, ~0U, 0);
    return report;
}

void daemon_release(int report)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd <= 2; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
    unsigned char code = 0;
    gssize sent;
    do {
        sent = write(report, &code, 1);
    } while (sent < 0 && errno == EINTR);
    close(report);
}

void daemon_notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || (*path != '/' && *path != '@') || strlen(path) >= sizeof address.sun_path)
        return;
    gsize len = strlen(path);
    memcpy(address.sun_path, path, len);
    if (*path == '@')
        address.sun_path[0] = '\0'; /* the abstract name space */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    static const char ready[] = "READY=1";
    sendto(fd, ready, sizeof ready - 1, MSG_NOSIGNAL, (const struct sockaddr *)&address,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

void daemon_drain(Fs *fs)
{
    struct fuse_buf buffer = {0};
    struct pollfd wait = {.fd = fuse_session_fd(fs->session), .events = POLLIN};
    jobs_close(fs->jobs);
    fuse_session_reset(fs->session);
    while (jobs_busy(fs->jobs)) {
        if (poll(&wait, 1, DRAIN_MSEC) <= 0)
            continue;
        int got = fuse_session_receive_buf(fs->session, &buffer);
        if (got > 0)
            fuse_session_process_buf(fs->session, &buffer);
        else if (got != -EINTR && got != -EAGAIN)
            g_usleep(DRAIN_MSEC * 1000); /* unmounted meanwhile: nothing more comes */
    }
    free(buffer.mem);
}
