/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt's combination table as its author printed it (2012), row by row, and what a row of it covers. The
 * expectation of the tests: written from the reference, not from snapcore/rules.c.
 */
#pragma once

#include <glib.h>
#include <string.h>

#include "rules.h"

/* domain memory disk disk-only | result */
static const char *const reference_rows[] = {
    "offline omit omit any | memory=no disk=int, via qemu-img",
    "offline no omit any |+memory=no disk=int, via qemu-img",
    "offline omit/no no any | invalid combination (nothing to snapshot)",
    "offline omit/no int any |+memory=no disk=int, via qemu-img",
    "offline omit/no ext any |*memory=no disk=ext, via qemu-img",
    "offline int/ext any any | invalid combination (no memory to save)",
    "online omit omit off | memory=int disk=int, via savevm",
    "online omit omit on | memory=no disk=default, via transaction",
    "online omit no/ext off | unsupported for now",
    "online omit no on | invalid combination (nothing to snapshot)",
    "online omit ext on | memory=no disk=ext, via transaction",
    "online omit int off |+memory=int disk=int, via savevm",
    "online omit int on | unsupported for now",
    "online no omit any |+memory=no disk=default, via transaction",
    "online no no any | invalid combination (nothing to snapshot)",
    "online no int any | unsupported for now",
    "online no ext any |+memory=no disk=ext, via transaction",
    "online int/ext any on | invalid combination (disk-only vs. memory)",
    "online int omit off |+memory=int disk=int, via savevm",
    "online int no/ext off | unsupported for now",
    "online int int off |+memory=int disk=int, via savevm",
    "online ext omit off |*memory=ext disk=default, via migrate+trans",
    "online ext no off |+memory=ext disk=no, via migrate",
    "online ext int off | unsupported for now",
    "online ext ext off |*memory=ext disk=ext, via migrate+transaction",
};

typedef struct {
    gboolean online;
    RuleAsk memory, disks;
    gboolean disk_only;
} Cell;

#define CELLS 64

static inline Cell cell_at(int index)
{
    return (Cell){index & 32, (RuleAsk)(index >> 3 & 3), (RuleAsk)(index >> 1 & 3), index & 1};
}

static const char *const ask_words[] = {"omit", "no", "int", "ext"};

/* Is @word one of the slash-separated words of @column, or that "any"? */
static inline gboolean column_has(const char *column, const char *word)
{
    g_auto(GStrv) words = g_strsplit(column, "/", -1);
    return strcmp(column, "any") == 0 || g_strv_contains((const char *const *)words, word);
}

static inline gboolean row_covers(const char *row, Cell cell)
{
    g_auto(GStrv) columns = g_strsplit(row, " ", 5);
    return strcmp(columns[0], cell.online ? "online" : "offline") == 0 &&
           column_has(columns[1], ask_words[cell.memory]) && column_has(columns[2], ask_words[cell.disks]) &&
           column_has(columns[3], cell.disk_only ? "on" : "off");
}

/* What the row gives, without the author's marks for new code. */
static inline const char *row_result(const char *row)
{
    return strchr(row, '|') + 2;
}

/* The row for @cell; its index. -1: none, -2: several. */
static inline int reference_row(Cell cell)
{
    int found = -1;
    for (int i = 0; i < (int)G_N_ELEMENTS(reference_rows); i++)
        if (row_covers(reference_rows[i], cell))
            found = found == -1 ? i : -2;
    return found;
}
