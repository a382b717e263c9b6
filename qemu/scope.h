/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scope: a place of its own in systemd's tree for a process that is to live on. What a service has started ends with the
 * service (KillMode=control-group, mixed), however well it has detached itself: it is in the service's control group.
 */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

/*
 * Ask systemd, of the system when we are root and else of the user, to put process @pid into a new scope @unit
 * ("NAME.scope", letters, digits and ":-_.") described by @text, and wait until it is there. FALSE: there is no systemd to
 * be asked, it refuses, or it takes more than some seconds: the process is where it was.
 */
gboolean scope_move(pid_t pid, const char *unit, const char *text, GCancellable *cancel);
