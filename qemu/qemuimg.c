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
#include "qemuimg_run.h"

/*
 * The file name that opens qcow2 image @path without probing and with @backing (taken over) instead of what
 * its header names. @discard: "unmap" or "ignore", NULL: what the command does by itself. Caller frees.
 */
static char *json_qcow2(const char *path, json_t *backing, const char *discard, GError **error)
{
    json_t *file = qemuimg_json_file(path, error);
    if (!file) {
        json_decref(backing);
        return NULL;
    }
    json_t *image = json_pack("{s:s, s:o, s:o, s:s*}", "driver", "qcow2", "file", file, "backing", backing,
                              "discard", discard);
    if (discard)
        json_object_set_new(file, "discard", json_string(discard));
    return qemuimg_json_name(image);
}

/*
 * By descriptor, not by name: a qemu-img that outlives a killed daemon must not make the file again after recovery has
 * taken it away, and no other file can come in its place meanwhile.
 */
static gboolean create_on(QemuImgRun *run, const char *program, const OverlaySpec *spec,
                          QemuImgGeometry geometry, GCancellable *cancel, GError **error)
{
    g_autofree char *by_fd = g_strdup_printf("/proc/self/fd/%d", PROCESS_PASSED_FD);
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, spec->size);
    g_autofree char *options = g_strdup_printf("cluster_size=%" G_GUINT32_FORMAT "%s", geometry.cluster_size,
                                               geometry.extended_l2 ? ",extended_l2=on" : "");
    /* -u: the backing file is not opened; it may be in use, deep, or not there yet */
    g_autoptr(GPtrArray) argv =
        qemuimg_argv(program, "create", "-q", "-u", "-f", image_format_to_string(spec->format), NULL);
    if (geometry.cluster_size) {
        qemuimg_argv_add(argv, "-o");
        qemuimg_argv_add(argv, options);
    }
    if (spec->backing_name) {
        qemuimg_argv_add(argv, "-b");
        qemuimg_argv_add(argv, spec->backing_name);
        qemuimg_argv_add(argv, "-F");
        qemuimg_argv_add(argv, image_format_to_string(spec->backing_format));
    }
    qemuimg_argv_add(argv, by_fd);
    qemuimg_argv_add(argv, size);
    qemuimg_argv_add(argv, NULL);
    run->long_name = by_fd;
    return qemuimg_check_backing(spec->backing_name, spec->backing_format, error) &&
           qemuimg_run(run, argv, cancel, error);
}

gboolean qemuimg_create(const char *program, const OverlaySpec *spec, QemuImgGeometry geometry,
                        GCancellable *cancel, GError **error)
{
    int fd = open(spec->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        snap_set_errno(error, errno, "cannot open '%s'", spec->path);
        return FALSE;
    }
    QemuImgRun run = {
        .what = "qemu-img create", .path = spec->path, .timeout_s = QEMUIMG_SHORT_S, .pass_fd = fd};
    gboolean ok = create_on(&run, program, spec, geometry, cancel, error);
    close(fd);
    return ok;
}

gboolean qemuimg_create_in(const char *program, const OverlaySpec *spec, int fd, GCancellable *cancel,
                           GError **error)
{
    QemuImgRun run = {.what = "qemu-img create",
                      .path = spec->path,
                      .nameless = TRUE,
                      .timeout_s = QEMUIMG_SHORT_S,
                      .pass_fd = fd};
    return create_on(&run, program, spec, (QemuImgGeometry){0}, cancel, error);
}

gboolean qemuimg_snapshot(const char *program, QemuImgTag what, const char *path, const char *tag,
                          GCancellable *cancel, GError **error)
{
    /*
     * Without its chain: safe for tags (facts/qemu.md E), and the cost does not grow with the depth. When the disk fails right
     * after the header was written, QEMU takes that for not written and gives the new table of snapshots back to the file
     * system, although the header points there: all snapshots of the image are lost (tried). So only what frees much does so.
     */
    g_autofree char *name =
        json_qcow2(path, json_null(), what == QEMUIMG_TAG_DELETE ? "unmap" : "ignore", error);
    if (!name)
        return FALSE;
    QemuImgRun run = {.what = "qemu-img snapshot",
                      .path = path,
                      .long_name = name,
                      .timeout_s = QEMUIMG_SHORT_S,
                      .pass_fd = PROCESS_NO_FD};
    const char option[] = {'-', (char)what, '\0'};
    g_autoptr(GPtrArray) argv = qemuimg_argv(program, "snapshot", "-q", option, tag, "--", name, NULL);
    qemuimg_argv_add(argv, NULL);
    return qemuimg_run(&run, argv, cancel, error);
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
    g_autofree char *quoted = qemuimg_replace(id, ",", ",,");
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
    g_autofree char *from = json_qcow2(source, with_backing ? json_zeros() : json_null(), NULL, error);
    if (!from)
        return FALSE;
    g_autofree char *to = json_qcow2(target->path, with_backing ? json_zeros() : json_null(), NULL, error);
    if (!to)
        return FALSE;
    g_autofree char *state = state_option(id);
    g_autofree char *sparse = g_strdup_printf("%" G_GUINT32_FORMAT, MAX(cluster_size, 4096));
    g_autoptr(GPtrArray) argv = qemuimg_argv(program, "convert", "-q", "-n", "-S", sparse, "-l", state, NULL);
    if (with_backing) {
        qemuimg_argv_add(argv, "-B");
        qemuimg_argv_add(argv, target->backing_name);
        qemuimg_argv_add(argv, "-F");
        qemuimg_argv_add(argv, image_format_to_string(target->backing_format));
    } else {
        qemuimg_argv_add(argv, "--target-is-zero");
    }
    qemuimg_argv_add(argv, "-O");
    qemuimg_argv_add(argv, "qcow2");
    qemuimg_argv_add(argv, "--");
    qemuimg_argv_add(argv, from);
    qemuimg_argv_add(argv, to);
    qemuimg_argv_add(argv, NULL);
    int zeros = zeros_open(target->size, error);
    if (zeros < 0)
        return FALSE;
    QemuImgRun run = {.what = "qemu-img convert",
                      .path = target->path,
                      .long_name = to,
                      .source = source,
                      .long_source = from,
                      .timeout_s = QEMUIMG_LONG_S,
                      .pass_fd = zeros};
    gboolean ok = qemuimg_run(&run, argv, cancel, error);
    close(zeros);
    return ok;
}

gboolean qemuimg_set_backing(const char *program, const char *path, const char *backing_name,
                             ImageFormat backing_format, GCancellable *cancel, GError **error)
{
    json_t *image = qemuimg_json_unlocked(path, FORMAT_QCOW2, error);
    if (!image)
        return FALSE;
    g_autofree char *name = qemuimg_json_name(image);
    QemuImgRun run = {.what = "qemu-img rebase",
                      .path = path,
                      .long_name = name,
                      .timeout_s = QEMUIMG_SHORT_S,
                      .pass_fd = PROCESS_NO_FD};
    g_autoptr(GPtrArray) argv =
        qemuimg_argv(program, "rebase", "-q", "-u", "-b", backing_name ? backing_name : "", NULL);
    if (backing_name) {
        qemuimg_argv_add(argv, "-F");
        qemuimg_argv_add(argv, image_format_to_string(backing_format));
    }
    qemuimg_argv_add(argv, "--");
    qemuimg_argv_add(argv, name);
    qemuimg_argv_add(argv, NULL);
    return qemuimg_check_backing(backing_name, backing_format, error) &&
           qemuimg_run(&run, argv, cancel, error);
}

/* qemu-img check with @options: its exit code is 0 (clean), 2 (corruptions) or 3 (only leaks). */
static gboolean run_check(const char *program, const char *path, const char *const *options,
                          ProcessResult **ret_result, GError **error)
{
    g_autofree char *name = json_qcow2(path, json_null(), NULL, error);
    if (!name)
        return FALSE;
    QemuImgRun run = {.what = "qemu-img check",
                      .path = path,
                      .long_name = name,
                      .timeout_s = QEMUIMG_LONG_S,
                      .pass_fd = PROCESS_NO_FD};
    g_autoptr(GPtrArray) argv = qemuimg_argv(program, "check", NULL);
    for (; *options; options++)
        qemuimg_argv_add(argv, *options);
    qemuimg_argv_add(argv, "--");
    qemuimg_argv_add(argv, name);
    qemuimg_argv_add(argv, NULL);
    g_autoptr(ProcessResult) result = NULL;
    if (!qemuimg_run_raw(&run, argv, NULL, &result, error))
        return FALSE;
    if ((result->status != 0 && result->status != 2 && result->status != 3) ||
        process_complained("qemu-img", result->errors->str)) {
        qemuimg_set_error_from(&run, result, error);
        return FALSE;
    }
    *ret_result = g_steal_pointer(&result);
    return TRUE;
}

/* What one pass mends may be seen to leak by the next one. Leaks that stay all the same are a waste, not a danger. */
#define REPAIR_PASSES 3

gboolean qemuimg_repair(const char *program, const char *path, GError **error)
{
    static const char *const options[] = {"-q", "-r", "all", NULL};
    int status = 3;
    for (guint i = 0; i < REPAIR_PASSES && status == 3; i++) {
        g_autoptr(ProcessResult) result = NULL;
        if (!run_check(program, path, options, &result, error))
            return FALSE;
        status = result->status;
    }
    if (status != 2)
        return TRUE;
    snap_set_error(error, EIO, "qemu-img check: '%s' has corruptions that cannot be repaired", path);
    return FALSE;
}

gboolean qemuimg_check(const char *program, const char *path, ImageCheck *ret_check, GError **error)
{
    static const char *const options[] = {"--output=json", NULL}; /* with -q it would say nothing at all */
    json_int_t errors = 0, corruptions = 0, leaks = 0;            /* counts of 0 are left out there */
    g_autoptr(ProcessResult) result = NULL;
    if (!run_check(program, path, options, &result, error))
        return FALSE;
    json_t *json = json_loads(result->output->str, 0, NULL);
    gboolean ok = json && json_unpack(json, "{s:I, s?I, s?I}", "check-errors", &errors, "corruptions",
                                      &corruptions, "leaks", &leaks) == 0;
    json_decref(json);
    if (!ok || errors != 0) {
        snap_set_error(error, EIO, "qemu-img check: '%s' could not be read to its end", path);
        return FALSE;
    }
    *ret_check = (ImageCheck){.corruptions = (guint64)corruptions, .leaks = (guint64)leaks};
    return TRUE;
}
