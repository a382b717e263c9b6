/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TagTable: where a qcow2 image's table of internal snapshots is, remembered while qemu-img deletes one. When the disk fails
 * at the moment at which the header says where the new table is, QEMU takes that for not written and frees the new table:
 * the header then points at nothing, and all snapshots of the image are lost. The table of before is there still.
 */
#pragma once

#include "qcow2.h"

typedef struct TagTable TagTable;

/* Of @file, whose snapshots are @image's (belongs to the caller, and must live as long). */
TagTable *tag_table_new(const ImageFile *file, const Qcow2Image *image, GError **error);
void tag_table_free(TagTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TagTable, tag_table_free)

/*
 * After a deletion of @tag that failed: when snapshots other than that one are not there, let the header say again what it
 * said. The image needs a repair afterwards, as after each command that failed. EBUSY: somebody writes it; EIO.
 */
gboolean tag_table_put_back(const TagTable *table, const char *tag, GError **error);
