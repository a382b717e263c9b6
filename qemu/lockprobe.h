/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's image locks, from outside (facts/qemu.md A3). A QEMU program that has an image open holds OFD read
 * locks on byte 100+p for each permission p that it uses (0 consistent read, 1 write, 3 resize) and on byte
 * 200+p for each that it does not share.
 *
 * More bytes are our own, from 65536 on two for each name of an internal snapshot (some names share them): the first is
 * read-locked by who reads it, the second by who deletes it.
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

/* See that the internal snapshot @tag of @fd's file is not deleted by us as long as @fd is open. EBUSY when it is being. */
gboolean lockprobe_read_tag(int fd, const char *path, const char *tag, GError **error);

/* Keep readers of the internal snapshot @tag out as long as @fd is open. EBUSY when there is one. */
gboolean lockprobe_drop_tag(int fd, const char *path, const char *tag, GError **error);
