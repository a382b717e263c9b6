/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the name of an image goes, or becomes another file's, once what it held has been joined into that: for step.c. */
#pragma once

#include "step.h"

/*
 * Let step->path be the file step->source. Done already when another file than step->id has that name. EBUSY: somebody
 * writes it.
 */
gboolean step_replace(const Step *step, Backend *backend, GCancellable *cancel, GError **error);

/*
 * Remove step->path, by way of step->temp, unless an image in its directory has come to stand on it (somebody made a
 * linked clone just now): then it stays, read right, and is its user's. EBUSY as above.
 */
gboolean step_retire(const Step *step, Backend *backend, GCancellable *cancel, GError **error);
