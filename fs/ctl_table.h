/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands of the two ctl files: what ctl.c parses by, and what the help is printed from. */
#pragma once

#include "ctl.h"

typedef enum { DOCUMENT_NEVER, DOCUMENT_MAY, DOCUMENT_MUST } DocumentRule;

typedef struct {
    const char *word;     /* without dashes */
    const char *value;    /* what its value is called; NULL: it takes none */
    CommandOption option; /* 0 ends a list */
    guint excludes;       /* set of CommandOption it cannot stand with */
    const char *help;
    gboolean document; /* it is about the document that follows */
} OptionSpec;

typedef struct {
    const char *word;
    CtlScope scope;
    CommandKind kind;
    const char *operand;     /* what its operand is called; NULL: it takes none */
    gboolean operand_needed; /* unless OPTION_UNDO stands in its place */
    DocumentRule document;
    const char *help;
    const char *example;
    OptionSpec options[13];
    PowerAction power;
    const char *alias; /* another word for the same; NULL: none */
} CommandSpec;

extern const CommandSpec ctl_commands[];
extern const gsize ctl_n_commands;
