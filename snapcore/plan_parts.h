/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a plan is, for plan.c and plan_journal.c alone. */
#pragma once

#include "plan.h"

struct Plan {
    const Store *store;
    Backend *backend;
    char *domain;
    char *what;
    GPtrArray *steps;
    GPtrArray *after;
    GPtrArray *writes;   /* of StoreWrite */
    GPtrArray *switches; /* of PlanSwitch */
    gboolean has_machine;
    PlanMachine machine;
    PlanJoin *join;
    gboolean asked; /* a machine may have been told to switch */
    gboolean
        found_asked; /* so it was when the journal was read: what the store said then is not what it is going to say */
    gboolean prepared;  /* the journal is there, steps may have been done */
    gboolean cut_short; /* a child, or the machine, was ended in the middle of a step */
    gboolean committed;
    gboolean in_doubt; /* a commit failed, but not before its journal was there */
    char *stuck;
    char *
        ready; /* the journal that says that it has committed, written while nothing had happened yet; or NULL */
};

/* Replace the journal, durably, by what the plan says now. EILSEQ, EFBIG, and whatever writing it fails with. */
gboolean plan_write_journal(const Plan *plan, GError **error);

/* Write it beside the journal, with what the commit is to say, into plan->ready; that takes its place without needing room. */
gboolean plan_ready_journal(Plan *plan, GError **error);
gboolean plan_take_ready(Plan *plan, GError **error);
void plan_forget_ready(Plan *plan);
