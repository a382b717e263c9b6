/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virt: a real libvirtd for one test program. It is an unprivileged session daemon: all that it keeps lies in one
 * temporary directory, it runs as an ordinary user (nobody, when the tests run as root), and the system's own libvirt,
 * if there is one, never hears of it. virsh is run in the same environment.
 */
#pragma once

#include "tool.h"

/*
 * The main() of a program of tests that need libvirt: start libvirtd, run the suite, end libvirtd. Where its programs
 * are not installed or it ends by itself at once, the program is skipped and says why; one that is there but does not
 * answer is a failure.
 */
int virt_main(Suite *(*suite)(void));

/* Give @path (an image, a directory) to the user that libvirtd and its qemu-img are. */
void virt_own(const char *path);

/*
 * Run a program as ran_argv() does, but without copying this process, which costs more than all else where sanitizers have
 * filled it. A program that does not end is ended with the test, by the test's time limit.
 */
Ran quick_argv(const World *w, const char *const *argv);

/* virsh with these words, up to NULL. */
Ran virsh(const World *w, ...) G_GNUC_NULL_TERMINATED;
Ran virsh_argv(const World *w, const char *const *words);
#define virsh_ok(w, ...) ran_expect_ok(virsh(w, __VA_ARGS__, NULL), "virsh " #__VA_ARGS__)
#define virsh_fails(w, ...) ran_expect_failure(virsh(w, __VA_ARGS__, NULL), "virsh " #__VA_ARGS__)
