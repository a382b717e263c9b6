/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the harness of the test guest says that it cannot go on: a test fails, a program that has its own such ends. */
#pragma once

#include <glib.h>

G_GNUC_NORETURN void guest_fail(const char *format, ...) G_GNUC_PRINTF(1, 2);
