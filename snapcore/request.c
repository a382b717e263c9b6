/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "request.h"

#include <errno.h>
#include <string.h>

#include "error.h"

CreateRequest *create_request_new(void)
{
    CreateRequest *request = g_new0(CreateRequest, 1);
    request->disks = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_disk_free);
    return request;
}

void create_request_free(CreateRequest *request)
{
    if (request == NULL)
        return;
    g_free(request->name);
    g_free(request->description);
    g_free(request->memory_file);
    g_ptr_array_unref(request->disks);
    g_free(request);
}

gboolean memory_mode_finish(SnapMode *mode, const char *file, GError **error)
{
    if (file != NULL && !image_path_check(file, error))
        return FALSE;
    SnapMode wanted = *mode == MODE_DEFAULT && file != NULL ? MODE_EXTERNAL : *mode;
    if (wanted == MODE_MANUAL) {
        snap_set_error(error, EINVAL, "snapshot='manual' is for disks only");
        return FALSE;
    }
    if ((wanted == MODE_EXTERNAL) != (file != NULL)) {
        snap_set_error(error, EINVAL, "a file and snapshot='external' belong together");
        return FALSE;
    }
    *mode = wanted;
    return TRUE;
}

/* Split @spec at its single commas; a doubled one is a comma of the value. Free with g_strfreev. */
static char **split_spec(const char *spec)
{
    g_autoptr(GStrvBuilder) parts = g_strv_builder_new();
    g_autoptr(GString) part = g_string_new(NULL);
    for (const char *p = spec; *p != '\0'; p++) {
        if (*p == ',' && p[1] != ',') {
            g_strv_builder_add(parts, part->str);
            g_string_truncate(part, 0);
            continue;
        }
        if (*p == ',')
            p++;
        g_string_append_c(part, *p);
    }
    g_strv_builder_add(parts, part->str);
    return g_strv_builder_end(parts);
}

/* The value when @part is "@key=VALUE" and @key was not seen before; NULL otherwise. */
static const char *option_value(const char *part, const char *key, gboolean *seen)
{
    gsize n = strlen(key);
    if (*seen || strncmp(part, key, n) != 0 || part[n] != '=')
        return NULL;
    *seen = TRUE;
    return part + n + 1;
}

/* Which options of a spec were there already: each may come once. */
typedef struct {
    gboolean snapshot, driver, stype, file;
} SeenOptions;

static gboolean bad_value(const char *part, GError **error)
{
    snap_set_error(error, EINVAL, "unknown value in '%s'", part);
    return FALSE;
}

static gboolean read_disk_option(SnapshotDisk *disk, const char *part, SeenOptions *seen, GError **error)
{
    const char *value;
    if ((value = option_value(part, "snapshot", &seen->snapshot)) != NULL)
        return snap_mode_from_string(value, &disk->mode) || bad_value(part, error);
    if ((value = option_value(part, "driver", &seen->driver)) != NULL)
        return image_format_from_string(value, &disk->format) || bad_value(part, error);
    if ((value = option_value(part, "file", &seen->file)) != NULL) {
        disk->source = g_strdup(value);
        return TRUE;
    }
    if ((value = option_value(part, "stype", &seen->stype)) == NULL) {
        snap_set_error(error, EINVAL,
                       "'%s' is unknown or given twice; a diskspec is "
                       "NAME[,snapshot=MODE][,driver=FORMAT][,stype=file|block][,file=PATH]",
                       part);
        return FALSE;
    }
    if (!disk_type_from_string(value, &disk->type) || (disk->type != DISK_FILE && disk->type != DISK_BLOCK))
        return bad_value(part, error);
    return TRUE;
}

static SnapshotDisk *read_diskspec(const char *spec, GError **error)
{
    g_auto(GStrv) parts = split_spec(spec);
    if (parts[0][0] == '\0') {
        snap_set_error(error, EINVAL, "the disk's name is missing");
        return NULL;
    }
    g_autoptr(SnapshotDisk) disk = snapshot_disk_new(parts[0], MODE_DEFAULT);
    SeenOptions seen = {0};
    for (char **part = parts + 1; *part != NULL; part++) {
        if (!read_disk_option(disk, *part, &seen, error))
            return NULL;
    }
    if (!snapshot_disk_finish(disk, error))
        return NULL;
    return g_steal_pointer(&disk);
}

SnapshotDisk *create_request_parse_diskspec(const char *spec, GError **error)
{
    SnapshotDisk *disk = read_diskspec(spec, error);
    if (disk == NULL)
        g_prefix_error(error, "diskspec '%s': ", spec);
    return disk;
}

static gboolean read_memspec(const char *spec, SnapMode *ret_mode, char **ret_file, GError **error)
{
    g_auto(GStrv) parts = split_spec(spec);
    g_autofree char *file = NULL;
    SnapMode mode = MODE_DEFAULT;
    SeenOptions seen = {0};
    for (char **part = parts; *part != NULL; part++) {
        const char *value = option_value(*part, "snapshot", &seen.snapshot);
        if (value != NULL) {
            if (!snap_mode_from_string(value, &mode))
                return bad_value(*part, error);
            continue;
        }
        value = option_value(*part, "file", &seen.file);
        if (value == NULL && !seen.file && (*part)[0] == '/') {
            seen.file = TRUE;
            value = *part;
        }
        if (value == NULL) {
            snap_set_error(error, EINVAL,
                           "'%s' is unknown or given twice; a memspec is [file=]PATH[,snapshot=MODE]", *part);
            return FALSE;
        }
        file = g_strdup(value);
    }
    if (!memory_mode_finish(&mode, file, error))
        return FALSE;
    *ret_mode = mode;
    *ret_file = g_steal_pointer(&file);
    return TRUE;
}

gboolean create_request_parse_memspec(CreateRequest *request, const char *spec, GError **error)
{
    SnapMode mode;
    char *file;
    if (!read_memspec(spec, &mode, &file, error)) {
        g_prefix_error(error, "memspec '%s': ", spec);
        return FALSE;
    }
    request->memory = mode;
    g_free(request->memory_file);
    request->memory_file = file;
    return TRUE;
}
