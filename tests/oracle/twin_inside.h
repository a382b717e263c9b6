/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of Twin share. */
#pragma once

#include "twin.h"

/* A document or an option with our directory put in, for @DIR@ and for libvirt's. */
const char *twin_on_our_side(const Twin *t, const char *text);

/* The directory entry of a snapshot's name. */
const char *twin_entry(const Twin *t, const char *name);

/* SHA-256 of what the image holds, or its tag. */
const char *twin_hash(const Twin *t, const char *path, const char *format, const char *tag);
