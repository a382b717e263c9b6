/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of the room qemu/ share: a scratch directory, real tools, contents compared by hash.
 *
 * The directory is made by an unchecked fixture, which libcheck runs in its own process, so that it is
 * removed also when a test dies. libcheck ends what is left of a test's process group.
 */
#pragma once

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

static char *scratch; /* the directory of this test case */

static inline void remove_tree(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        if (unlink(child) < 0)
            remove_tree(child);
    }
    if (dir)
        g_dir_close(dir);
    (void)rmdir(path);
}

static inline void scratch_setup(void)
{
    g_autofree char *made = g_dir_make_tmp("domsnapfs-test-XXXXXX", NULL);
    /* real: some systems' temporary directory is a symlink */
    char *real = made ? realpath(made, NULL) : NULL;
    if (!real)
        g_error("no scratch directory");
    scratch = g_strdup(real);
    free(real);
}

static inline void scratch_teardown(void)
{
    remove_tree(scratch);
    g_clear_pointer(&scratch, g_free);
}

static inline TCase *scratch_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_add_unchecked_fixture(tcase, scratch_setup, scratch_teardown);
    tcase_set_timeout(tcase, 120);
    suite_add_tcase(suite, tcase);
    return tcase;
}

/* A path in a directory of its own for each test: "NAME" is the test function's. Caller frees. */
static inline char *in_scratch(const char *test, const char *name)
{
    g_autofree char *dir = g_build_filename(scratch, test, NULL);
    (void)mkdir(dir, 0755);
    return g_build_filename(dir, name, NULL);
}
#define PATH(name) in_scratch(__func__, name)

/*
 * For GLib's spawn. All our descriptors are close-on-exec; where GLib need not close them it does not copy the page tables of
 * this process either, which takes longer than most tools, with a sanitizer.
 */
#define TOOL_FLAGS (G_SPAWN_SEARCH_PATH | G_SPAWN_LEAVE_DESCRIPTORS_OPEN)

/* Run a tool to its end; its exit code. *ret_output may be NULL. */
static inline int run_argv(char **argv, char **ret_output)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *output = NULL, *errors = NULL;
    int status = 0;
    gboolean ok = g_spawn_sync(NULL, argv, NULL, TOOL_FLAGS, NULL, NULL, &output, &errors, &status, &error);
    ck_assert_msg(ok, "%s: %s", argv[0], ok ? "" : error->message);
    if (errors[0])
        printf("# %s: %s\n", argv[0], g_strdelimit(errors, "\n", ' '));
    if (ret_output)
        *ret_output = g_steal_pointer(&output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static inline int run_words(char **ret_output, const char *first, va_list args)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    for (const char *word = first; word; word = va_arg(args, const char *))
        g_ptr_array_add(argv, (gpointer)word);
    g_ptr_array_add(argv, NULL);
    return run_argv((char **)argv->pdata, ret_output);
}

/* Run a tool that must succeed. */
static inline void tool(const char *first, ...) G_GNUC_NULL_TERMINATED;
static inline void tool(const char *first, ...)
{
    va_list args;
    va_start(args, first);
    int status = run_words(NULL, first, args);
    va_end(args);
    ck_assert_msg(status == 0, "%s failed with %d", first, status);
}

/* The same, and what it printed. Caller frees. */
static inline char *tool_output(const char *first, ...) G_GNUC_NULL_TERMINATED;
static inline char *tool_output(const char *first, ...)
{
    char *output = NULL;
    va_list args;
    va_start(args, first);
    int status = run_words(&output, first, args);
    va_end(args);
    ck_assert_msg(status == 0, "%s failed with %d", first, status);
    return output;
}

/* Write @pattern bytes with qemu-io: "64k 4k" at an offset, a length. */
static inline void write_pattern(const char *path, int pattern, const char *where)
{
    g_autofree char *command = g_strdup_printf("write -P %d %s", pattern, where);
    g_autofree char *output = tool_output("qemu-io", "-f", "qcow2", "-c", command, path, NULL);
    /* qemu-io says "write failed" and exits with 0 in some versions */
    ck_assert_msg(strstr(output, "wrote ") != NULL, "%s: %s", command, output);
}

static inline char *file_hash(const char *path)
{
    g_autofree char *data = NULL;
    gsize len = 0;
    ck_assert_msg(g_file_get_contents(path, &data, &len, NULL), "cannot read %s", path);
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)data, len);
}

/*
 * The hash of all that a machine would read of @path, through its whole chain. @state: of that internal
 * snapshot (the image must still have the size it had), or NULL: the present. Caller frees.
 */
static inline char *content_hash(const char *path, const char *format, const char *state)
{
    g_autofree char *raw = g_strconcat(path, ".content", NULL);
    g_autofree char *option = g_strconcat("snapshot.name=", state, NULL);
    if (state)
        tool("qemu-img", "convert", "-f", format, "-l", option, "-O", "raw", path, raw, NULL);
    else
        tool("qemu-img", "convert", "-f", format, "-O", "raw", path, raw, NULL);
    char *hash = file_hash(raw);
    unlink(raw);
    return hash;
}

/* Overwrite @len bytes of @path at @offset. */
static inline void poke(const char *path, off_t offset, const void *bytes, gsize len)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, bytes, len, offset), (ssize_t)len);
    close(fd);
}

/* A condition that a run of this machine cannot meet; said in the output, so that nobody takes it for tested.
 */
static inline gboolean skip(const char *why)
{
    printf("# not tried: %s\n", why);
    return TRUE;
}

/* Assert that @error is set, has errno @code and says @text (may be NULL); then clear it. */
static inline void expect_error(GError **error, int code, const char *text)
{
    ck_assert_msg(*error != NULL, "no error, expected %s", g_strerror(code));
    ck_assert_msg((*error)->domain == SNAP_ERROR && (*error)->code == code, "expected %s, got %d: %s",
                  g_strerror(code), (*error)->code, (*error)->message);
    ck_assert_msg(!text || strstr((*error)->message, text) != NULL, "'%s' does not say '%s'",
                  (*error)->message, text);
    g_clear_error(error);
}

#define ASSERT_OK(call, error)                                                                               \
    ck_assert_msg((call), "%s", (error) ? (error)->message : "failed without an error")
