/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the QMP tests share: a real QEMU (TCG, a few MiB, no display) that ends with its test, and a server that says what a
 * test tells it to, for what QEMU cannot be made to do.
 */
#pragma once

#include "images.h"
#include "qmp.h"

#include <sys/types.h>

#define TEST_UUID "0d4f9c1e-7a55-4a0e-9a0c-1f2b3c4d5e6f"

typedef struct {
    pid_t pid;
    char *socket;
} Machine;

/* Start one with @words (NULL-terminated) on its command line, its monitor at @path; ready when this returns. */
Machine *machine_start(const char *path, const char *const *words);
/* The same with disks vda, vdb, ... on the qcow2 images, for whose node names "fmt" is put behind. */
Machine *machine_with_disks(const char *path, const char *const *images);
/* kill -9, and it is gone. */
void machine_kill(Machine *machine);
void machine_free(Machine *machine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Machine, machine_free)

/* SIGSTOP, and it does nothing more. */
void machine_freeze(Machine *machine);
/* Until QEMU has noticed that its client has gone. */
void machine_await_no_client(Machine *machine);

/* A connection to it; must succeed. 20 seconds for everything. */
Qmp *qmp_to(const char *path);
QmpWait seconds(guint n);
/* Run a command that must succeed; what it returned. @arguments as in json_loads(), NULL for none. */
json_t *must_run(Qmp *qmp, const char *command, const char *arguments);

/*
 * A server at @path: for each connection, one after the other, it plays the next script, then closes. A script is a text
 * of lines:
 *   > TEXT     send TEXT and a newline
 *   - TEXT     send TEXT and no newline
 *   < WORDS    read a line; it must have WORDS in it
 *   *N C       send the character C, N times
 *   .          read until the client closes
 */
typedef struct Server Server;
Server *server_start(const char *path, const char *const *scripts);
/* Ends it; says whether all scripts went as written. */
gboolean server_end(Server *server);

#define GREETING                                                                                             \
    "> {\"QMP\": {\"version\": {\"qemu\": {\"major\": 7, \"minor\": 2, \"micro\": 22}, \"package\": \"\"}, " \
    "\"capabilities\": [\"oob\"]}}\r\n"
/* ... and the agreement, as command 1. */
#define HELLO GREETING "< qmp_capabilities\n> {\"return\": {}, \"id\": \"1\"}\n"
