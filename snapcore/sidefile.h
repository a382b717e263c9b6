/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Side files: what goes with a state, lies in the store and is no document (STORE.md, files/): NVRAM, a picture.
 */
#pragma once

#include "op.h"

/* Plan a new one, "files/UUID.EXTENSION", into @file; what the step of @kind needs besides is the caller's to say. */
Step *sidefile_plan(Op *op, StepKind kind, const char *extension, SideFile *file);

/* After plan_prepare: let @to (may be @from) be the file of @from, and who it is. Nothing without a path. */
gboolean sidefile_record(const Op *op, const SideFile *from, SideFile *to, GError **error);

/* It goes once the op has committed. Nothing if we have not made it. */
void sidefile_plan_unlink(Op *op, const char *what, const SideFile *file);
