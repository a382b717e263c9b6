/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's image locks, from outside (facts/qemu.md A3). A QEMU program that has an image open holds OFD read
 * locks on byte 100+p for each permission p that it uses (0 consistent read, 1 write, 3 resize) and on byte
 * 200+p for each that it does not share.
 *
 * Two more bytes are our own: 6500 is read-locked by who reads internal snapshots of an image, 6501 by who deletes one.
 * Each first locks its own, then looks for the other's. QEMU never asks for them.
 */
#pragma once

#include "backend.h"

/* Who has @path open? Never takes a lock. Bytes 200.. are not looked at: this daemon itself may hold those.
 */
gboolean lockprobe_in_use(const char *path, ImageUse *ret_use, GError **error);

/* Does anybody have @fd's file open for writing? @path is for messages. */
gboolean lockprobe_is_written(int fd, const char *path, gboolean *ret_written, GError **error);

/*
 * Be seen as a reader of @fd's file as long as @fd is open, as a QEMU program that reads it would. EBUSY when somebody
 * writes it.
 */
gboolean lockprobe_read(int fd, const char *path, GError **error);

/*
 * Keep QEMU programs from opening @fd's file at all as long as @fd, or a copy of it in a child, is open. EBUSY when
 * one has it open already. @fd must be open for reading.
 */
gboolean lockprobe_take(int fd, const char *path, GError **error);

/*
 * Keep QEMU programs from opening @fd's file for writing as long as @fd is open: byte 201 and 203. EBUSY when
 * one has it open already. @fd must be open for reading.
 */
gboolean lockprobe_keep_writers_out(int fd, const char *path, GError **error);

/* See that no internal snapshot of @fd's file is deleted by us as long as @fd is open. EBUSY when one is being deleted. */
gboolean lockprobe_read_tags(int fd, const char *path, GError **error);

/* Keep readers of internal snapshots out as long as @fd is open. EBUSY when there is one. */
gboolean lockprobe_drop_tags(int fd, const char *path, GError **error);
