/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linger: locks that outlive the name of their file. A program opens an image first and asks for its locks then; had
 * the file lost its name in between, and its locks with it, that program would be given them, and write into a file that
 * nobody sees. So whoever removes an image's name keeps its locks for some seconds more: the program is refused.
 *
 * One thread, which lives as long as something lingers. Has its own lock.
 */
#pragma once

#include <glib.h>

typedef struct Linger Linger;

/* @seconds: how long. */
Linger *linger_new(guint seconds);
/* Everything is closed at once. */
void linger_free(Linger *linger);

/* Close @fd, which is taken over, when its time has come. */
void linger_add(Linger *linger, int fd);
