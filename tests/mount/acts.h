/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Acts: gestures as data, each with what comes before it, for the tests that let something go wrong in all of them. */
#pragma once

#include "machine.h"

/* For -o: no merge begins unless it is waited for. */
#define NO_MERGES "merge_idle=86400000"

typedef struct {
    const char *name; /* NULL: the end of the list */
    void (*setup)(const World *w);
    int (*act)(const World *w); /* an errno, or 0 */
    gboolean steps;             /* it has some, and so can be undone and recovered */
} Gesture;

/* The domain is "web", with two disks of two images, or made by the gesture. */
extern const Gesture gestures[];
guint n_gestures(void);
const Gesture *gesture_called(const char *name);

/* A later operation works, and leaves nothing behind. */
void use_domain(const World *w);
