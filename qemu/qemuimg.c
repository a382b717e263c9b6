/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemuimg.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "process.h"

#define MEMORY_BYTES (4ull * 1024 * 1024 * 1024)
#define OUTPUT_BYTES (16u * 1024 * 1024)
#define SHORT_S (15 * 60)     /* work on metadata: a second, minutes on a huge image on a slow disk */
#define MAX_BACKING_NAME 1023 /* bytes, the format's */
#define LONG_S (24 * 60 * 60) /* work on data */

/* One run: what is run, and what its messages are about. */
typedef struct {
    const char *what;      /* "qemu-img create" */
    const char *path;      /* the image it is about: decides the identity */
    gboolean nameless;     /* it works on a file in memory of our own, as ourselves; path is for messages */
    const char *long_name; /* as which qemu-img got it (json:...), or NULL: as path */
    const char *source;    /* a second image, or NULL */
    const char *long_source;
    guint timeout_s;
    int pass_fd;
} Run;

static char *replace(const char *text, const char *from, const char *to)
{
    g_auto(GStrv) parts = g_strsplit(text, from, -1);
    return g_strjoinv(to, parts);
}

/* Name the image as a person would, on one line, where qemu-img said @long_name. */
static char *readable(const char *errors, const char *long_name, const char *path)
{
    g_autofree char *escaped = g_strescape(path, NULL);
    const char *plain = strpbrk(path, "\n\r") ? escaped : path;
    g_autofree char *first = replace(errors, long_name ? long_name : path, plain);
    return plain == path ? g_steal_pointer(&first) : replace(first, path, plain);
}

/* Run @argv as the owner of the image's directory; *ret_result: it ended, with whatever exit code. */
static gboolean run_raw(const Run *run, const GPtrArray *argv, GCancellable *cancel,
                        ProcessResult **ret_result, GError **error)
{
    ProcessSpec spec = {
        .argv = (const char *const *)argv->pdata,
        .what = run->what,
        .pass_fd = run->pass_fd,
        .timeout_s = run->timeout_s,
        .memory_bytes = MEMORY_BYTES,
        .output_bytes = OUTPUT_BYTES,
    };
    return (run->nameless || process_identity_for(run->path, &spec.identity, error)) &&
           process_run(&spec, cancel, ret_result, error);
}

static void set_error_from(const Run *run, const ProcessResult *result, GError **error)
{
    g_autofree char *errors = readable(result->errors->str, run->long_name, run->path);
    g_autofree char *both = run->source ? readable(errors, run->long_source, run->source) : NULL;
    process_set_error(run->what, "qemu-img", both ? both : errors, error);
}

static gboolean run_checked(const Run *run, const GPtrArray *argv, GCancellable *cancel, GError **error)
{
    g_autoptr(ProcessResult) result = NULL;
    if (!run_raw(run, argv, cancel, &result, error))
        return FALSE;
    if (result->status != 0 || process_complained("qemu-img", result->errors->str)) {
        set_error_from(run, result, error);
        return FALSE;
    }
    return TRUE;
}

/* A new argument vector of the given words; more are added with g_ptr_array_add, the NULL comes last. */
static GPtrArray *argv_new(const char *program, const char *first, ...) G_GNUC_NULL_TERMINATED;
static GPtrArray *argv_new(const char *program, const char *first, ...)
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

static void argv_add(GPtrArray *argv, const char *word)
{
    g_ptr_array_add(argv, (gpointer)word);
}

/*
 * {"driver":"file","filename":...}, or for a block device the driver that takes those. NULL (EILSEQ) when
 * JSON cannot say the path.
 */
static json_t *json_file(const char *path, GError **error)
{
    struct stat st;
    gboolean device = stat(path, &st) == 0 && S_ISBLK(st.st_mode);
    json_t *file = json_pack("{s:s, s:s}", "driver", device ? "host_device" : "file", "filename", path);
    if (!file)
        snap_set_error(error, EILSEQ, "the path '%s' is not UTF-8", path);
    return file;
}

/*
 * The file name that opens qcow2 image @path without probing and with @backing (taken over) instead of what
 * its header names. Caller frees.
 */
static char *json_qcow2(const char *path, json_t *backing, gboolean discard, GError **error)
{
    json_t *file = json_file(path, error);
    if (!file) {
        json_decref(backing);
        return NULL;
    }
    json_t *image = json_pack("{s:s, s:o, s:o}", "driver", "qcow2", "file", file, "backing", backing);
    if (discard)
        json_object_set_new(image, "discard", json_string("unmap"));
    char *text = json_dumps(image, JSON_COMPACT);
    char *name = g_strconcat("json:", text, NULL);
    free(text);
    json_decref(image);
    return name;
}

/* Refuse a backing file that QEMU would look for elsewhere, or probe, when the image is opened next. */
static gboolean check_backing(const char *name, ImageFormat format, GError **error)
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

/*
 * By descriptor, not by name: a qemu-img that outlives a killed daemon must not make the file again after recovery has
 * taken it away, and no other file can come in its place meanwhile.
 */
static gboolean create_on(Run *run, const char *program, const OverlaySpec *spec, QemuImgGeometry geometry,
                          GCancellable *cancel, GError **error)
{
    g_autofree char *by_fd = g_strdup_printf("/proc/self/fd/%d", PROCESS_PASSED_FD);
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, spec->size);
    g_autofree char *options = g_strdup_printf("cluster_size=%" G_GUINT32_FORMAT "%s", geometry.cluster_size,
                                               geometry.extended_l2 ? ",extended_l2=on" : "");
    /* -u: the backing file is not opened; it may be in use, deep, or not there yet */
    g_autoptr(GPtrArray) argv =
        argv_new(program, "create", "-q", "-u", "-f", image_format_to_string(spec->format), NULL);
    if (geometry.cluster_size) {
        argv_add(argv, "-o");
        argv_add(argv, options);
    }
    if (spec->backing_name) {
        argv_add(argv, "-b");
        argv_add(argv, spec->backing_name);
        argv_add(argv, "-F");
        argv_add(argv, image_format_to_string(spec->backing_format));
    }
    argv_add(argv, by_fd);
    argv_add(argv, size);
    argv_add(argv, NULL);
    run->long_name = by_fd;
    return check_backing(spec->backing_name, spec->backing_format, error) &&
           run_checked(run, argv, cancel, error);
}

gboolean qemuimg_create(const char *program, const OverlaySpec *spec, QemuImgGeometry geometry,
                        GCancellable *cancel, GError **error)
{
    int fd = open(spec->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        snap_set_errno(error, errno, "cannot open '%s'", spec->path);
        return FALSE;
    }
    Run run = {.what = "qemu-img create", .path = spec->path, .timeout_s = SHORT_S, .pass_fd = fd};
    gboolean ok = create_on(&run, program, spec, geometry, cancel, error);
    close(fd);
    return ok;
}

gboolean qemuimg_create_in(const char *program, const OverlaySpec *spec, int fd, GCancellable *cancel,
                           GError **error)
{
    Run run = {
        .what = "qemu-img create", .path = spec->path, .nameless = TRUE, .timeout_s = SHORT_S, .pass_fd = fd};
    return create_on(&run, program, spec, (QemuImgGeometry){0}, cancel, error);
}

gboolean qemuimg_snapshot(const char *program, QemuImgTag what, const char *path, const char *tag,
                          gboolean discard, GCancellable *cancel, GError **error)
{
    /* without its chain: safe for tags (facts/qemu.md E), and the cost does not grow with the depth */
    g_autofree char *name = json_qcow2(path, json_null(), discard, error);
    if (!name)
        return FALSE;
    Run run = {.what = "qemu-img snapshot",
               .path = path,
               .long_name = name,
               .timeout_s = SHORT_S,
               .pass_fd = PROCESS_NO_FD};
    const char option[] = {'-', (char)what, '\0'};
    g_autoptr(GPtrArray) argv = argv_new(program, "snapshot", "-q", option, tag, "--", name, NULL);
    argv_add(argv, NULL);
    return run_checked(&run, argv, cancel, error);
}

/* A sparse file in memory that reads as @size zeros, to stand where a backing file would. Caller closes. */
static int zeros_open(guint64 size, GError **error)
{
    int fd = memfd_create("domsnapfs-zeros", MFD_CLOEXEC);
    if (fd < 0) {
        snap_set_errno(error, errno, "cannot make a file in memory");
        return -1;
    }
    /* the child opens it by name, as whoever it is: nothing of ours is in it, and nobody else can name it */
    if (fchmod(fd, 0444) < 0 || ftruncate(fd, (off_t)size) < 0) {
        snap_set_errno(error, errno, "cannot make a file in memory");
        close(fd);
        return -1;
    }
    return fd;
}

static json_t *json_zeros(void)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", PROCESS_PASSED_FD);
    return json_pack("{s:s, s:{s:s, s:s}}", "driver", "raw", "file", "driver", "file", "filename", path);
}

/* "snapshot.id=ID" as qemu-img reads it: a comma is doubled. */
static char *state_option(const char *id)
{
    g_autofree char *quoted = replace(id, ",", ",,");
    return g_strconcat("snapshot.id=", quoted, NULL);
}

/*
 * convert -n -B copies exactly the clusters that the state has of its own (data and zeros), judged by the
 * source's top layer alone. Neither real backing file is opened: in the place of both stands a file of zeros,
 * which keeps "unallocated" apart from "zero" on the source's side. What makes this safe on the target's
 * side, where copy-on-write would fill up clusters with zeros (facts/qemu.md E): with the same geometry every
 * cluster (or part of one, with extended L2) that is touched is written whole. The virtual size must be the
 * same, too: `-l` shows an old state with the *present* size, cut off or with a tail (tried).
 */
gboolean qemuimg_convert_state(const char *program, const char *source, const char *id,
                               const OverlaySpec *target, guint32 cluster_size, GCancellable *cancel,
                               GError **error)
{
    gboolean with_backing = target->backing_name != NULL;
    g_autofree char *from = json_qcow2(source, with_backing ? json_zeros() : json_null(), FALSE, error);
    if (!from)
        return FALSE;
    g_autofree char *to = json_qcow2(target->path, with_backing ? json_zeros() : json_null(), FALSE, error);
    if (!to)
        return FALSE;
    g_autofree char *state = state_option(id);
    g_autofree char *sparse = g_strdup_printf("%" G_GUINT32_FORMAT, MAX(cluster_size, 4096));
    g_autoptr(GPtrArray) argv = argv_new(program, "convert", "-q", "-n", "-S", sparse, "-l", state, NULL);
    if (with_backing) {
        argv_add(argv, "-B");
        argv_add(argv, target->backing_name);
        argv_add(argv, "-F");
        argv_add(argv, image_format_to_string(target->backing_format));
    } else {
        argv_add(argv, "--target-is-zero");
    }
    argv_add(argv, "-O");
    argv_add(argv, "qcow2");
    argv_add(argv, "--");
    argv_add(argv, from);
    argv_add(argv, to);
    argv_add(argv, NULL);
    int zeros = zeros_open(target->size, error);
    if (zeros < 0)
        return FALSE;
    Run run = {.what = "qemu-img convert",
               .path = target->path,
               .long_name = to,
               .source = source,
               .long_source = from,
               .timeout_s = LONG_S,
               .pass_fd = zeros};
    gboolean ok = run_checked(&run, argv, cancel, error);
    close(zeros);
    return ok;
}

gboolean qemuimg_set_backing(const char *program, const char *path, const char *backing_name,
                             ImageFormat backing_format, GCancellable *cancel, GError **error)
{
    Run run = {.what = "qemu-img rebase", .path = path, .timeout_s = SHORT_S, .pass_fd = PROCESS_NO_FD};
    g_autoptr(GPtrArray) argv =
        argv_new(program, "rebase", "-q", "-u", "-f", "qcow2", "-b", backing_name ? backing_name : "", NULL);
    if (backing_name) {
        argv_add(argv, "-F");
        argv_add(argv, image_format_to_string(backing_format));
    }
    argv_add(argv, "--");
    argv_add(argv, path);
    argv_add(argv, NULL);
    return check_backing(backing_name, backing_format, error) && run_checked(&run, argv, cancel, error);
}

/* check's exit codes after a repair: 0 clean, 3 only leaks are left (a waste, not a danger), 2 still corrupt.
 */
gboolean qemuimg_repair(const char *program, const char *path, GError **error)
{
    g_autofree char *name = json_qcow2(path, json_null(), FALSE, error);
    if (!name)
        return FALSE;
    Run run = {.what = "qemu-img check",
               .path = path,
               .long_name = name,
               .timeout_s = LONG_S,
               .pass_fd = PROCESS_NO_FD};
    g_autoptr(GPtrArray) argv = argv_new(program, "check", "-q", "-r", "all", "--", name, NULL);
    argv_add(argv, NULL);
    g_autoptr(ProcessResult) result = NULL;
    if (!run_raw(&run, argv, NULL, &result, error))
        return FALSE;
    gboolean complained = process_complained("qemu-img", result->errors->str);
    if ((result->status == 0 || result->status == 3) && !complained)
        return TRUE;
    if (result->status == 2)
        snap_set_error(error, EIO, "%s: '%s' has corruptions that cannot be repaired", run.what, path);
    else
        set_error_from(&run, result, error);
    return FALSE;
}
