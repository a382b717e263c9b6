/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tempname: which files may be made beside a document. Editors, sed -i and rsync write a temporary file and rename it
 * onto the document; these are known by their names. Anything else that is created here would be taken and lost
 * (`mv precious MOUNT/web/` copies, then deletes the original), so it is refused.
 */
#pragma once

#include <fuse_lowlevel.h>
#include <glib.h>

/* Is @name one that a tool gives to a temporary file for a document of the directory @dir? */
gboolean tempname_known(fuse_ino_t dir, const char *name);
