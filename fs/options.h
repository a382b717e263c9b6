/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options: the command line, the words behind -o, and the config file that has the same words. */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "format.h"

typedef enum {
    ACTION_MOUNT,
    ACTION_HELP,
    ACTION_VERSION,
    ACTION_RULES,
    ACTION_IMPORT,
    ACTION_CHECK,
} OptionsAction;

typedef struct {
    OptionsAction action;
    char *store;      /* as given, or NULL: the default one */
    char *mountpoint; /* as given */
    gboolean repair;  /* what the check finds */
    gboolean foreground;
    gboolean debug;
    gboolean read_only;
    gboolean libvirt;  /* what is shown, or imported, is libvirt's */
    char *libvirt_dir; /* absolute; NULL: this host's, or this user's */
    gboolean allow_other;
    SnapMode snapshot;  /* MODE_DEFAULT: auto */
    char **backing;     /* absolute directories, or NULL */
    gboolean disk_only; /* mkdir of a running machine leaves its memory out */
    char *qmp;          /* absolute: where machines' sockets are; NULL: the default place */
    guint merge_idle;   /* milliseconds; 0: the engine's own default */
    uid_t uid;
    gid_t gid;
    mode_t umask;
    char *config;
    GString *mount_words; /* what libfuse and the kernel are told, separated by commas; may be empty */
} Options;

/*
 * EINVAL (or what reading the config file fails with) with a sentence. Caller frees with options_free. @ret_action (may be
 * NULL) is what was asked for, also when it fails: exit codes differ.
 */
Options *options_parse(int argc, char **argv, OptionsAction *ret_action, GError **error);
void options_free(Options *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Options, options_free)

/* What --help prints. */
const char *options_help(void);

/* The store's directory, absolute: as given, or the default one of this user. Caller frees. */
char *options_store(const Options *options);

/* The directory of the machines' sockets, absolute: as given, or the default one of this user. Caller frees. */
char *options_qmp(const Options *options);
