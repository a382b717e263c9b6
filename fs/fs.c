/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "ctl.h"
#include "error.h"
#include "node.h"

/* The engine says that a name is gone from a directory: the kernel may have it in its cache. */
static void name_gone(gpointer user, EngineId where, const char *name)
{
    fuse_ino_t dir = where == 0 ? FUSE_ROOT_ID : node_ino(NODE_DOMAIN, where);
    g_autofree char *entry = name_to_entry(name, where == 0 ? NAME_DOMAIN : NAME_SNAPSHOT);
    job_tell_gone(user, dir, entry);
}

Fs *fs_new(Engine *engine, const char *store, const char *mountpoint)
{
    Fs *fs = g_new0(Fs, 1);
    fs->engine = engine;
    fs->store = g_strdup(store);
    fs->mountpoint = g_strdup(mountpoint);
    fs->started = g_get_real_time() / G_USEC_PER_SEC;
    fs->help[CTL_DOMAIN] = ctl_help(CTL_DOMAIN);
    fs->help[CTL_MOUNT] = ctl_help(CTL_MOUNT);
    fs->scratch = scratch_new();
    fs->guard = guard_new();
    fs->handles = handles_new();
    fs->passthrough = passthrough_new();
    fs->jobs = jobs_new();
    fs->turns = turns_new();
    engine->ops->set_gone(engine, name_gone, fs);
    return fs;
}

void fs_free(Fs *fs)
{
    if (fs == NULL)
        return;
    jobs_free(fs->jobs);
    handles_free(fs->handles);
    passthrough_free(fs->passthrough);
    fs->engine->ops->free(fs->engine);
    guard_free(fs->guard);
    scratch_free(fs->scratch);
    turns_free(fs->turns);
    g_free(fs->help[CTL_DOMAIN]);
    g_free(fs->help[CTL_MOUNT]);
    g_free(fs->store);
    g_free(fs->mountpoint);
    g_free(fs);
}

void fs_log(const Fs *fs, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    /* Names and documents are hostile: no control character reaches a terminal or makes a second line. */
    for (char *c = line; *c != '\0'; c++)
        if (g_ascii_iscntrl(*c))
            *c = '?';
    if (fs->syslog)
        syslog(LOG_WARNING, "%s", line);
    else
        fprintf(stderr, "domsnapfs: %s\n", line);
}

int fs_report(Fs *fs, EngineId domain, const char *what, const GError *error)
{
    const EngineOps *ops = fs->engine->ops;
    ops->report(fs->engine, domain, what, error);
    g_autofree char *name = domain == 0 ? NULL : ops->name(fs->engine, domain);
    if (name == NULL)
        fs_log(fs, "%s: %s", what, error->message);
    else
        fs_log(fs, "%s: %s: %s", name, what, error->message);
    return snap_errno(error);
}
