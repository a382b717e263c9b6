/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words and numbers of the format that several modules share. */
#pragma once

#include <glib.h>

/* An image's driver type. Nothing else is ever accepted, and nothing is ever probed. */
typedef enum { FORMAT_NONE, FORMAT_RAW, FORMAT_QCOW2, FORMAT_QED } ImageFormat;

/* The snapshot= attribute of a domain's disk, of a snapshot's disk and of <memory>. */
typedef enum { MODE_DEFAULT, MODE_NO, MODE_INTERNAL, MODE_EXTERNAL, MODE_MANUAL } SnapMode;

/* The type= attribute of a disk. */
typedef enum { DISK_FILE, DISK_BLOCK, DISK_NETWORK, DISK_VOLUME, DISK_OTHER } DiskType;

/* The device= attribute of a disk. */
typedef enum { DEVICE_DISK, DEVICE_CDROM, DEVICE_FLOPPY, DEVICE_LUN } DiskDevice;

/* <state> of a snapshot (facts/libvirt-snapshots.md 4). STATE_NONE: the element is absent. */
typedef enum {
    STATE_NONE,
    STATE_NOSTATE,
    STATE_RUNNING,
    STATE_BLOCKED,
    STATE_PAUSED,
    STATE_SHUTDOWN,
    STATE_SHUTOFF,
    STATE_CRASHED,
    STATE_PMSUSPENDED,
    STATE_DISK_SNAPSHOT,
} SnapState;

/*
 * For each: the word in the XML, and back. The _to_string functions return static text, never NULL ("none", "default"
 * for the zero values). The _from_string functions return FALSE for an unknown word and for NULL; the zero value is
 * not a word of the format and is not recognised. (A disk's type and device have no such zero value. DISK_OTHER stands
 * for several words, "other" is none of them.)
 */
const char *image_format_to_string(ImageFormat format);
gboolean image_format_from_string(const char *word, ImageFormat *ret_format);
const char *snap_mode_to_string(SnapMode mode);
gboolean snap_mode_from_string(const char *word, SnapMode *ret_mode);
const char *disk_type_to_string(DiskType type);
gboolean disk_type_from_string(const char *word, DiskType *ret_type);
const char *disk_device_to_string(DiskDevice device);
gboolean disk_device_from_string(const char *word, DiskDevice *ret_device);
const char *snap_state_to_string(SnapState state);
gboolean snap_state_from_string(const char *word, SnapState *ret_state);

/* A decimal number as libvirt reads it: blanks in front and a sign may stand there, nothing behind. */
gboolean number_from_string(const char *text, gint64 *ret_number);

/* "NUMBER unit='UNIT'" in bytes: B, KB, KiB (or K) and so on; an empty or missing unit (NULL) is bytes. */
gboolean size_from_string(const char *text, const char *unit, guint64 *ret_bytes);

/* Can @path name an image: is it absolute, and fit for a line of text? */
gboolean image_path_check(const char *path, GError **error);
