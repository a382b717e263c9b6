/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the command lines of qemu-img have in common. Only for qemuimg*.c. */
#pragma once

#include <jansson.h>

#include "process.h"
#include "qemuimg.h"

#define QEMUIMG_SHORT_S (15 * 60)     /* work on metadata: a second, minutes on a huge image on a slow disk */
#define QEMUIMG_LONG_S (24 * 60 * 60) /* work on data */

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
    const BackendProgress *progress; /* told what `-p` prints; NULL: nobody is */
} QemuImgRun;

/* A new argument vector of the given words; more are added with qemuimg_argv_add, the NULL comes last. */
GPtrArray *qemuimg_argv(const char *program, const char *first, ...) G_GNUC_NULL_TERMINATED;
void qemuimg_argv_add(GPtrArray *argv, const char *word);

/* Run @argv as the owner of the image's directory; *ret_result: it ended, with whatever exit code. */
gboolean qemuimg_run_raw(const QemuImgRun *run, const GPtrArray *argv, GCancellable *cancel,
                         ProcessResult **ret_result, GError **error);
void qemuimg_set_error_from(const QemuImgRun *run, const ProcessResult *result, GError **error);

/* The same; an exit code other than 0 is an error. */
gboolean qemuimg_run(const QemuImgRun *run, const GPtrArray *argv, GCancellable *cancel, GError **error);

/* A copy of @text with @to for each @from. */
char *qemuimg_replace(const char *text, const char *from, const char *to);

/*
 * {"driver":"file","filename":...}, or for a block device the driver that takes those. NULL (EILSEQ) when
 * JSON cannot say the path.
 */
json_t *qemuimg_json_file(const char *path, GError **error);

/* An image of @format to be opened without locks, so by somebody who holds them already. NULL (EILSEQ). */
json_t *qemuimg_json_unlocked(const char *path, ImageFormat format, GError **error);

/* "json:..." for @image, which is taken over (NULL: NULL). Caller frees. */
char *qemuimg_json_name(json_t *image);

/* Refuse a backing file that QEMU would look for elsewhere, or probe, when the image is opened next. */
gboolean qemuimg_check_backing(const char *name, ImageFormat format, GError **error);
