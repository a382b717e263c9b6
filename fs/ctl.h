/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command language of the two ctl files (DESIGN 2): from one line to a Command, and the help text. Both
 * come from one table, so the help lists exactly what works.
 */
#pragma once

#include "engine.h"

/* Whose ctl file. */
typedef enum { CTL_DOMAIN, CTL_MOUNT } CtlScope;

typedef enum {
    COMMAND_CREATE,
    COMMAND_REDEFINE,
    COMMAND_REVERT,
    COMMAND_DELETE,
    COMMAND_POWER, /* which: Command.power */
    COMMAND_WAIT,
    COMMAND_DEFINE,
    COMMAND_UNDEFINE,
    COMMAND_CANCEL,
} CommandKind;

typedef enum {
    OPTION_DISK_ONLY = 1 << 0,
    OPTION_MEMSPEC = 1 << 1,
    OPTION_DISKSPEC = 1 << 2,
    OPTION_DESCRIPTION = 1 << 3,
    OPTION_LIVE = 1 << 4,
    OPTION_QUIESCE = 1 << 5,
    OPTION_HALT = 1 << 6,
    OPTION_ATOMIC = 1 << 7,
    OPTION_CURRENT = 1 << 8,
    OPTION_RUNNING = 1 << 9,
    OPTION_PAUSED = 1 << 10,
    OPTION_FORCE = 1 << 11,
    OPTION_CHILDREN = 1 << 12,
    OPTION_CHILDREN_ONLY = 1 << 13,
    OPTION_METADATA = 1 << 14,
    OPTION_SNAPSHOTS_METADATA = 1 << 15,
    OPTION_REUSE_EXTERNAL = 1 << 16,
    OPTION_NO_METADATA = 1 << 17,
    OPTION_VALIDATE = 1 << 18,
    OPTION_UNDO = 1 << 19,
    OPTION_DISCARD = 1 << 20,
    OPTION_DELETE_CHILDREN = 1 << 21,
    OPTION_RESET_NVRAM = 1 << 22,
    OPTION_MANAGED_SAVE = 1 << 23,
} CommandOption;

typedef struct {
    CommandKind kind;
    PowerAction power;    /* of COMMAND_POWER; start is POWER_START, also with --paused */
    guint options;        /* set of CommandOption that were given */
    char *operand;        /* NAME, JOB or FILE; NULL: not given */
    char *description;    /* value of --description, or NULL */
    char *memspec;        /* value of --memspec, or NULL */
    GPtrArray *diskspecs; /* of char *: values of --diskspec, in order */
    gboolean document;    /* the line ended in " -": a document follows */
} Command;

void command_free(Command *command);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Command, command_free)

/*
 * Parse one line (no newline in it). *ret_command: the command (command_free), or NULL for a blank line or a
 * comment. EINVAL with a sentence that names the word: unknown command or option, missing or extra operand,
 * options that exclude each other, a document where none may follow or none where one must.
 */
gboolean ctl_parse(CtlScope scope, const char *line, Command **ret_command, GError **error);

/* What reading the ctl file prints. Caller frees. */
char *ctl_help(CtlScope scope);
