/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tools: run a real program in the mount point (paths may be relative to it), read and write the tree's files.
 * Everything returned lives as long as the world.
 */
#pragma once

#include "world.h"

typedef struct {
    int rc; /* exit status; 128 + signal when killed */
    const char *out;
    const char *err;
} Ran;

/* Run a program, arguments up to NULL, without stdin. A program that does not end in a minute fails the test. */
Ran ran(const World *w, const char *program, ...) G_GNUC_NULL_TERMINATED;
Ran ran_argv(const World *w, const char *const *argv);
/* `sh -c @script` */
Ran ran_sh(const World *w, const char *script);
/* The program must succeed: its output. Or must fail: its complaint. */
#define run_ok(w, ...) ran_expect_ok(ran(w, __VA_ARGS__, NULL), #__VA_ARGS__)
#define run_fails(w, ...) ran_expect_failure(ran(w, __VA_ARGS__, NULL), #__VA_ARGS__)
#define sh_ok(w, script) ran_expect_ok(ran_sh(w, script), script)
#define sh_fails(w, script) ran_expect_failure(ran_sh(w, script), script)
const char *ran_expect_ok(Ran result, const char *what);
const char *ran_expect_failure(Ran result, const char *what);

/* Start a program that goes on in the background, its stdin a pipe. It is killed with the test. */
pid_t background(const World *w, const char *const *argv, int *ret_stdin);
/* Wait for it: exit status, 128 + signal. */
int background_wait(pid_t pid);

/* The whole text of a file of the mount. */
const char *text_of(const World *w, const char *name);
/* The description of a snapshot (web/one), from its XML; the file must say the same, ended by a newline. */
const char *description_of(const World *w, const char *snapshot);
/* One open, one write(2) of the whole @text, close. The first errno met, 0 when all went well. */
int put(const World *w, const char *name, const char *text);
int put_bytes(const World *w, const char *name, const void *data, size_t size);
/* Write a command and its newline; must succeed. */
void command(const World *w, const char *domain, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The same, must fail with @want. */
void command_fails(const World *w, const char *domain, int want, const char *format, ...) G_GNUC_PRINTF(4, 5);

/* The names in a directory, sorted, joined by spaces. */
const char *names_in(const World *w, const char *dir);
const char *link_of(const World *w, const char *name);
gboolean exists(const World *w, const char *name);
struct stat stat_of(const World *w, const char *name);
/* XPath over an XML text, as a string ("" when nothing matches). */
const char *xpath(const World *w, const char *xml, const char *expression);
