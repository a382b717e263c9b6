/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format.h"

#include <errno.h>
#include <string.h>

#include "error.h"

/* A table of words: the index is the value. NULL: that value has no word. */
typedef struct {
    const char *const *words;
    guint n;
} WordTable;

static const char *const format_words[] = {NULL, "raw", "qcow2", "qed"};
static const char *const mode_words[] = {NULL, "no", "internal", "external", "manual"};
static const char *const type_words[] = {"file", "block", "network", "volume", NULL};
static const char *const device_words[] = {"disk", "cdrom", "floppy", "lun"};
static const char *const state_words[] = {NULL,       "nostate", "running", "blocked",     "paused",
                                          "shutdown", "shutoff", "crashed", "pmsuspended", "disk-snapshot"};

/* Disk types that libvirt knows and snapshots are never about: all are DISK_OTHER. */
static const char *const other_types[] = {"dir", "nvme", "vhostuser", "vhostvdpa"};

static const WordTable format_table = {format_words, G_N_ELEMENTS(format_words)};
static const WordTable mode_table = {mode_words, G_N_ELEMENTS(mode_words)};
static const WordTable type_table = {type_words, G_N_ELEMENTS(type_words)};
static const WordTable device_table = {device_words, G_N_ELEMENTS(device_words)};
static const WordTable state_table = {state_words, G_N_ELEMENTS(state_words)};

static const char *word_of(const WordTable *table, guint value, const char *otherwise)
{
    if (value >= table->n || table->words[value] == NULL)
        return otherwise;
    return table->words[value];
}

static gboolean value_of(const WordTable *table, const char *word, guint *ret_value)
{
    for (guint i = 0; i < table->n && word != NULL; i++) {
        if (g_strcmp0(table->words[i], word) == 0) {
            *ret_value = i;
            return TRUE;
        }
    }
    return FALSE;
}

const char *image_format_to_string(ImageFormat format)
{
    return word_of(&format_table, format, "none");
}

gboolean image_format_from_string(const char *word, ImageFormat *ret_format)
{
    guint value;
    if (!value_of(&format_table, word, &value))
        return FALSE;
    *ret_format = (ImageFormat)value;
    return TRUE;
}

const char *snap_mode_to_string(SnapMode mode)
{
    return word_of(&mode_table, mode, "default");
}

gboolean snap_mode_from_string(const char *word, SnapMode *ret_mode)
{
    guint value;
    if (!value_of(&mode_table, word, &value))
        return FALSE;
    *ret_mode = (SnapMode)value;
    return TRUE;
}

const char *disk_type_to_string(DiskType type)
{
    return word_of(&type_table, type, "other");
}

gboolean disk_type_from_string(const char *word, DiskType *ret_type)
{
    guint value = DISK_OTHER;
    gboolean known = value_of(&type_table, word, &value);
    for (guint i = 0; i < G_N_ELEMENTS(other_types) && !known; i++)
        known = g_strcmp0(word, other_types[i]) == 0;
    if (known)
        *ret_type = (DiskType)value;
    return known;
}

const char *disk_device_to_string(DiskDevice device)
{
    return word_of(&device_table, device, "disk");
}

gboolean disk_device_from_string(const char *word, DiskDevice *ret_device)
{
    guint value;
    if (!value_of(&device_table, word, &value))
        return FALSE;
    *ret_device = (DiskDevice)value;
    return TRUE;
}

const char *snap_state_to_string(SnapState state)
{
    return word_of(&state_table, state, "none");
}

gboolean snap_state_from_string(const char *word, SnapState *ret_state)
{
    guint value;
    if (!value_of(&state_table, word, &value))
        return FALSE;
    *ret_state = (SnapState)value;
    return TRUE;
}

gboolean number_from_string(const char *text, gint64 *ret_number)
{
    char *end;
    errno = 0;
    gint64 number = g_ascii_strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        return FALSE;
    *ret_number = number;
    return TRUE;
}

/* What a unit may begin with; in front of B or iB, and the bare letter is taken as iB. */
static const char size_letters[] = "KMGTPE";

/* The number of bytes one @unit has; 0: unknown. */
static guint64 unit_bytes(const char *unit)
{
    static const char *const bytes_words[] = {"", "b", "byte", "bytes"};
    for (guint i = 0; i < G_N_ELEMENTS(bytes_words); i++) {
        if (unit == NULL || g_ascii_strcasecmp(unit, bytes_words[i]) == 0)
            return 1;
    }
    const char *letter = strchr(size_letters, g_ascii_toupper(unit[0]));
    if (letter == NULL)
        return 0;
    gboolean decimal = g_ascii_strcasecmp(unit + 1, "b") == 0;
    if (!decimal && unit[1] != '\0' && g_ascii_strcasecmp(unit + 1, "ib") != 0)
        return 0;
    guint64 bytes = 1;
    for (const char *p = size_letters; p <= letter; p++)
        bytes *= decimal ? 1000 : 1024;
    return bytes;
}

gboolean size_from_string(const char *text, const char *unit, guint64 *ret_bytes)
{
    guint64 scale = unit_bytes(unit);
    char *end;
    errno = 0;
    guint64 number = g_ascii_strtoull(text, &end, 10);
    if (scale == 0 || end == text || *end != '\0' || errno != 0 || strchr(text, '-') != NULL ||
        number > G_MAXUINT64 / scale)
        return FALSE;
    *ret_bytes = number * scale;
    return TRUE;
}

gboolean image_path_check(const char *path, GError **error)
{
    for (const char *p = path; *p != '\0'; p = g_utf8_next_char(p)) {
        if (g_unichar_iscntrl(g_utf8_get_char(p))) {
            snap_set_error(error, EINVAL, "the path contains a control character");
            return FALSE;
        }
    }
    if (path[0] == '/')
        return TRUE;
    snap_set_error(error, EINVAL, "'%s' is not an absolute path", path);
    return FALSE;
}
