/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machines that the product has started outlive who started them: each is ended when its test case is over, also when the
 * test has died, by the pid files in the scratch directory.
 */
#pragma once

#include "images.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static inline pid_t read_pid(const char *path)
{
    g_autofree char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? (pid_t)atoi(text) : 0;
}

/* Is it a QEMU with something in @dir? */
static inline gboolean is_qemu_in(pid_t pid, const char *dir)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid), *line = NULL;
    gsize len = 0;
    return pid > 1 && g_file_get_contents(path, &line, &len, NULL) && memmem(line, len, dir, strlen(dir));
}

static inline void end_machines(const char *path)
{
    g_assert(scratch);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        if (g_file_test(child, G_FILE_TEST_IS_DIR) && !g_file_test(child, G_FILE_TEST_IS_SYMLINK))
            end_machines(child);
        pid_t pid = g_str_has_suffix(name, ".pid") ? read_pid(child) : 0;
        if (is_qemu_in(pid, scratch))
            kill(pid, SIGKILL);
    }
}

/* Should this program itself be killed, nobody would be left to end them: one waits for that. */
static pid_t guardian;

static inline void guard(void)
{
    pid_t parent = getpid();
    sigset_t end;
    int signal = 0;
    fflush(NULL);
    guardian = fork();
    if (guardian != 0)
        return;
    setpgid(0, 0);
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent)
        sigwait(&end, &signal);
    end_machines(scratch);
    _exit(0);
}

static inline void end_all_machines(void)
{
    end_machines(scratch);
    if (guardian > 0 && kill(guardian, SIGKILL) == 0)
        waitpid(guardian, NULL, 0);
}

static inline TCase *machines_case(Suite *suite, const char *name)
{
    TCase *tcase = scratch_case(suite, name);
    tcase_add_unchecked_fixture(tcase, guard, end_all_machines); /* before the directory goes */
    return tcase;
}
