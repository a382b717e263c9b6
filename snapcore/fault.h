/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fault: named points, just before or after something durable happens, at which a build for developers (meson
 * -Dfaults=true) can be told to fail or to die. In every other build they are nothing at all.
 *
 *   DOMSNAPFS_FAULT=NAME[:N[+]]=exit|ERRNO[,...]
 *
 * N: at the n-th passing, 1 if it is left out; N+: from then on. exit: at once, with status FAULT_EXIT, nothing flushed
 * or undone, as kill -9 would. ERRNO by its name: the call that the point stands before fails with it, or the one that
 * it stands behind did, it says. "list" instead of all that prints the names; a * in one stands for a word, a kind of
 * step. What cannot be read, or names no point, is refused at the start.
 *
 * DOMSNAPFS_FAULT_TRACE=FILE: the name of each point that is passed is appended to FILE, a line each.
 */
#pragma once

#include <glib.h>

#ifdef FAULTS

enum { FAULT_EXIT = 86 };

/* Before a system call: TRUE with errno set when it is to fail. `if (FAULT("files.link") || link(a, b) < 0)` */
#define FAULT(name) FAULT_AT(name, fault_hit(name, NULL))
/* In a chain of functions that take a GError: FALSE with @error set when it is to fail. */
#define FAULT_POINT(name, error) FAULT_AT(name, fault_pass(name, NULL, error))
/* The same, @word (a char *) in the place of the * in @name. */
#define FAULT_POINT_OF(name, word, error) FAULT_AT(name, fault_pass(name, word, error))

/* First of all, while there is one thread: read the environment. FALSE: EINVAL; "list" ends the program. */
#define FAULT_START(error) fault_start(error)

gboolean fault_start(GError **error);
gboolean fault_hit(const char *name, const char *word);
gboolean fault_pass(const char *name, const char *word, GError **error);

/* The linker puts all names together into an array. */
#define FAULT_AT(name, hit)                                                                                  \
    __extension__({                                                                                          \
        static const char *const fault_name_ __attribute__((section("domsnapfs_faults"), used)) = name;      \
        hit;                                                                                                 \
    })

#else

#define FAULT_START(error) TRUE
#define FAULT(name) FALSE
#define FAULT_POINT(name, error) TRUE
#define FAULT_POINT_OF(name, word, error) TRUE

#endif
