/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemuimg_run.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"

#define MEMORY_BYTES (4ull * 1024 * 1024 * 1024)
#define OUTPUT_BYTES (16u * 1024 * 1024)
#define MAX_BACKING_NAME 1023 /* bytes, the format's */

char *qemuimg_replace(const char *text, const char *from, const char *to)
{
    g_auto(GStrv) parts = g_strsplit(text, from, -1);
    return g_strjoinv(to, parts);
}

/* Name the image as a person would, on one line, where qemu-img said @long_name. */
static char *readable(const char *errors, const char *long_name, const char *path)
{
    g_autofree char *escaped = g_strescape(path, NULL);
    const char *plain = strpbrk(path, "\n\r") ? escaped : path;
    g_autofree char *first = qemuimg_replace(errors, long_name ? long_name : path, plain);
    return plain == path ? g_steal_pointer(&first) : qemuimg_replace(first, path, plain);
}

/* "    (12.34/100%)\r": the last of these in a piece counts; one that is cut in two is passed over. */
static void tell_progress(gpointer user, const char *data, gsize len)
{
    const BackendProgress *progress = user;
    g_autofree char *text = g_strndup(data, len);
    const char *end = g_strrstr(text, "/100%)");
    if (!end)
        return;
    while (text < end && end[-1] != '(')
        end--;
    if (text < end)
        progress->tell(progress->user, CLAMP(g_ascii_strtod(end, NULL) / 100, 0, 1));
}

gboolean qemuimg_run_raw(const QemuImgRun *run, const GPtrArray *argv, GCancellable *cancel,
                         ProcessResult **ret_result, GError **error)
{
    ProcessSpec spec = {
        .argv = (const char *const *)argv->pdata,
        .on_output = run->progress ? tell_progress : NULL,
        .on_output_user = (gpointer)run->progress,
        .what = run->what,
        .pass_fd = run->pass_fd,
        .timeout_s = run->timeout_s,
        .memory_bytes = MEMORY_BYTES,
        .output_bytes = OUTPUT_BYTES,
    };
    return (run->nameless || process_identity_for(run->path, &spec.identity, error)) &&
           process_run(&spec, cancel, ret_result, error);
}

void qemuimg_set_error_from(const QemuImgRun *run, const ProcessResult *result, GError **error)
{
    g_autofree char *errors = readable(result->errors->str, run->long_name, run->path);
    g_autofree char *both = run->source ? readable(errors, run->long_source, run->source) : NULL;
    process_set_error(run->what, "qemu-img", both ? both : errors, error);
}

gboolean qemuimg_run(const QemuImgRun *run, const GPtrArray *argv, GCancellable *cancel, GError **error)
{
    g_autoptr(ProcessResult) result = NULL;
    if (!qemuimg_run_raw(run, argv, cancel, &result, error))
        return FALSE;
    if (result->status != 0 || process_complained("qemu-img", result->errors->str)) {
        qemuimg_set_error_from(run, result, error);
        return FALSE;
    }
    return TRUE;
}

GPtrArray *qemuimg_argv(const char *program, const char *first, ...)
{
    GPtrArray *argv = g_ptr_array_new();
    g_ptr_array_add(argv, (gpointer)program);
    va_list args;
    va_start(args, first);
    for (const char *word = first; word; word = va_arg(args, const char *))
        g_ptr_array_add(argv, (gpointer)word);
    va_end(args);
    return argv;
}

void qemuimg_argv_add(GPtrArray *argv, const char *word)
{
    g_ptr_array_add(argv, (gpointer)word);
}

json_t *qemuimg_json_file(const char *path, GError **error)
{
    struct stat st;
    gboolean device = stat(path, &st) == 0 && S_ISBLK(st.st_mode);
    json_t *file = json_pack("{s:s, s:s}", "driver", device ? "host_device" : "file", "filename", path);
    if (!file)
        snap_set_error(error, EILSEQ, "the path '%s' is not UTF-8", path);
    return file;
}

json_t *qemuimg_json_unlocked(const char *path, ImageFormat format, GError **error)
{
    json_t *file = qemuimg_json_file(path, error);
    if (!file)
        return NULL;
    json_object_set_new(file, "locking", json_string("off"));
    return json_pack("{s:s, s:o}", "driver", image_format_to_string(format), "file", file);
}

char *qemuimg_json_name(json_t *image)
{
    char *text = image ? json_dumps(image, JSON_COMPACT) : NULL;
    char *name = text ? g_strconcat("json:", text, NULL) : NULL;
    free(text);
    json_decref(image);
    return name;
}

gboolean qemuimg_check_backing(const char *name, ImageFormat format, GError **error)
{
    if (!name)
        return TRUE;
    const char *colon = strchr(name, ':'), *slash = strchr(name, '/');
    if (name[0] == '\0' || (colon && (!slash || colon < slash))) {
        snap_set_error(error, EINVAL,
                       "'%s' cannot be the name of a backing file: QEMU reads a protocol in it", name);
        return FALSE;
    }
    if (strlen(name) > MAX_BACKING_NAME) {
        snap_set_error(error, ENAMETOOLONG, "the backing file's name is over %d bytes long",
                       MAX_BACKING_NAME);
        return FALSE;
    }
    if (format == FORMAT_NONE) {
        snap_set_error(error, EINVAL, "the format of backing file '%s' is not given", name);
        return FALSE;
    }
    return TRUE;
}
