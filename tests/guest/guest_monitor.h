/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tests' own, small conversation with a QEMU through QMP, so that what the product says through its client is
 * measured by something else. Not for threads. Every answer has a deadline, one that does not come is an error.
 *
 * Arguments are given as for json_pack(): guest_monitor_do(m, "pmemsave", "{s:I, s:I, s:s}", "val", ...), or NULL.
 * Errors are of G_IO_ERROR: CLOSED when QEMU has gone, TIMED_OUT when it is silent, FAILED with QEMU's own words.
 */
#pragma once

#include <gio/gio.h>
#include <jansson.h>

typedef struct {
    int fd;
    pid_t pid;      /* of the QEMU that listens there */
    GString *input; /* read, not yet a whole line */
    json_t *events; /* all that came, oldest first */
    guint last_id;
} GuestMonitor;

/* Connect to @socket and greet; a QEMU that is just being started is waited for. */
GuestMonitor *guest_monitor_open(const char *socket, GError **error);
void guest_monitor_close(GuestMonitor *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GuestMonitor, guest_monitor_close)

/* What a command returned: a new reference, or NULL. */
json_t *guest_monitor_call(GuestMonitor *m, GError **error, const char *command, const char *format, ...);
/* A command whose answer nobody needs, and which must succeed. */
void guest_monitor_do(GuestMonitor *m, const char *command, const char *format, ...);
/* What a command of the human monitor printed. Caller frees. */
char *guest_monitor_human(GuestMonitor *m, const char *line, GError **error);
/* A command that begins the job @id (it is among the arguments): to that job's end, and dismissed. */
gboolean guest_monitor_job(GuestMonitor *m, GError **error, const char *id, const char *command,
                           const char *format, ...);
/* Hand QEMU the open file @fd, by the name @name. */
gboolean guest_monitor_give(GuestMonitor *m, int fd, const char *name, GError **error);
/* "running", "paused", ... Caller frees. */
char *guest_monitor_status(GuestMonitor *m, GError **error);

/* Wait for an event with this name that is not among the first @seen ones. Borrowed until the next call. */
json_t *guest_monitor_event(GuestMonitor *m, const char *name, gsize seen, GError **error);
/* When QEMU says an event was, in microseconds of the wall clock. */
gint64 guest_monitor_time(json_t *event);
