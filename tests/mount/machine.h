/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines to test with: disk images that qemu-img makes, and definitions that point at them. */
#pragma once

#include "tool.h"

enum { DISK_SIZE = 1024 * 1024 };

/* Make the image file @name in images/, empty, @format raw or qcow2. Returns its path. */
const char *make_image(const World *w, const char *name, const char *format);

/*
 * A <domain> document. @disks: words "target:format[:snapshot=]" separated by spaces; target sdX is a SATA cdrom. The
 * image of vda is images/NAME-vda.FORMAT. @uuid NULL: the document has none.
 */
const char *machine_xml(const World *w, const char *name, const char *uuid, const char *disks);

/* Make the images and define it: @disks as above. */
void machine(const World *w, const char *name, const char *disks);

/* The path of the active layer of @target, a file or a device, as domain.xml says. */
const char *active_path(const World *w, const char *domain, const char *target);
const char *active_format(const World *w, const char *domain, const char *target);

/* Let @path (an image) hold @size bytes of @byte at @offset, through qemu-io. */
void image_write(const World *w, const char *path, const char *format, guint8 byte, guint offset, guint size);

/* Hold an image open as QEMU does, to read and write or only to read; end it with release(). */
typedef struct {
    pid_t pid;
    int in;
} Holder;
Holder hold(const World *w, const char *path, const char *format, gboolean read_only);
void release(Holder holder);

/* The names of the qcow2 tags in @path, sorted, joined by newlines; "" when there is none. */
const char *tags_of(const World *w, const char *path);
/* Backing file's name as in the header, or "". */
const char *backing_of(const World *w, const char *path, const char *format);
/* SHA-256 of a real file (absolute path). */
const char *hash_of(const World *w, const char *path);
/* Names, sizes, modes and hashes of all files in a real directory: "nothing changed" is one comparison. */
const char *fingerprint(const World *w, const char *dir);
/* The same of the images, qcow2 files by the content and the tags that they hold: an undone tag may leave a file longer. */
const char *contents(const World *w);
