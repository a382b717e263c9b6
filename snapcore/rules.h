/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules: libvirt's combination table as data (reference/external-checkpoint-and-combination-table.txt; DESIGN 6):
 * what a create request for memory, disks and disk-only means for a machine that is off or on, and by which means.
 */
#pragma once

#include "format.h"

/* What a request says of memory or of disks. OMIT: the element is not there. */
typedef enum { ASK_OMIT, ASK_NO, ASK_INTERNAL, ASK_EXTERNAL } RuleAsk;

/* How QEMU does it. */
typedef enum {
    MEANS_REFUSED,              /* the combination has no meaning: rule->refusal says why */
    MEANS_QEMU_IMG,             /* offline */
    MEANS_SAVE,                 /* snapshot-save jobs, memory and disks in one */
    MEANS_SAVE_OWN,             /* snapshot-save into a qcow2 of its own, the disks by transaction */
    MEANS_TRANSACTION,          /* one QMP transaction of overlays */
    MEANS_INTERNAL_TRANSACTION, /* one QMP transaction of internal snapshots */
    MEANS_MIGRATE,              /* memory by migration to a file */
    MEANS_MIGRATE_TRANSACTION,  /* the same, and the disks by a transaction at the same instant */
} RuleMeans;

typedef struct {
    gboolean online;
    guint memory;    /* set of 1 << RuleAsk this row covers */
    guint disks;     /* likewise */
    guint disk_only; /* bit 0: off, bit 1: on */
    SnapMode ret_memory;
    SnapMode ret_disks; /* MODE_DEFAULT: each disk its default */
    RuleMeans means;
    const char *refusal;
} Rule;

#define RULES_ROWS 25

/* The rows, in the table's order. */
const Rule *rules_row(guint index);

/* The one row that covers the cell. Every cell of the 64 has one. */
const Rule *rules_find(gboolean online, RuleAsk memory, RuleAsk disks, gboolean disk_only);

/*
 * May the request go ahead? FALSE with EOPNOTSUPP and the row's reason when the combination has no meaning.
 */
gboolean rules_check(gboolean online, RuleAsk memory, RuleAsk disks, gboolean disk_only,
                     const Rule **ret_rule, GError **error);

/* The table as text (--print-rules). Caller frees. */
char *rules_print(void);
