/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Joining layers. `commit` gets both images with QEMU's own locking off, because this daemon holds the locks that keep
 * everybody else out, and hands them on to the child: should the daemon be killed, they last as long as the child does.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "qemuimg_run.h"

gboolean qemuimg_commit(const char *program, const MergeSpec *spec, int lock_fd,
                        const BackendProgress *progress, GCancellable *cancel, GError **error)
{
    json_t *lower = qemuimg_json_unlocked(spec->lower, spec->lower_format, error);
    json_t *upper = lower ? qemuimg_json_unlocked(spec->upper, spec->upper_format, error) : NULL;
    if (!upper) {
        json_decref(lower);
        return FALSE;
    }
    json_object_set_new(upper, "backing", lower);
    g_autofree char *name = qemuimg_json_name(upper);
    QemuImgRun run = {.what = "qemu-img commit",
                      .path = spec->lower,
                      .source = spec->upper,
                      .long_source = name,
                      .timeout_s = QEMUIMG_LONG_S,
                      .pass_fd = lock_fd,
                      .progress = progress};
    /* -d: the upper one keeps its data, so that its view is right whatever happens */
    g_autoptr(GPtrArray) argv = qemuimg_argv(program, "commit", "-p", "-d", "--", name, NULL);
    qemuimg_argv_add(argv, NULL);
    return qemuimg_run(&run, argv, cancel, error);
}

gboolean qemuimg_rebase(const char *program, const char *path, const char *backing_name,
                        ImageFormat backing_format, const BackendProgress *progress, GCancellable *cancel,
                        GError **error)
{
    QemuImgRun run = {.what = "qemu-img rebase",
                      .path = path,
                      .timeout_s = QEMUIMG_LONG_S,
                      .pass_fd = PROCESS_NO_FD,
                      .progress = progress};
    g_autoptr(GPtrArray) argv =
        qemuimg_argv(program, "rebase", "-p", "-f", "qcow2", "-b", backing_name ? backing_name : "", NULL);
    if (backing_name) {
        qemuimg_argv_add(argv, "-F");
        qemuimg_argv_add(argv, image_format_to_string(backing_format));
    }
    qemuimg_argv_add(argv, "--");
    qemuimg_argv_add(argv, path);
    qemuimg_argv_add(argv, NULL);
    return qemuimg_check_backing(backing_name, backing_format, error) &&
           qemuimg_run(&run, argv, cancel, error);
}
