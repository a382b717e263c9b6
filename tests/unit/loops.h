/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loop devices for tests of block devices. Each stands for a file below the scratch directory; those that a test left
 * attached, also one that died, are detached when its case ends.
 */
#pragma once

#include "images.h"

/* Loop devices need root, and a kernel that has them. */
static inline gboolean loops_work(void)
{
    return geteuid() == 0 && access("/dev/loop-control", F_OK) == 0;
}

/* The attached loop devices whose file is below @dir, in lines of "/dev/loopN PATH". Caller frees. */
static inline char *loops_below(const char *dir)
{
    g_autofree char *all = tool_output("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE", NULL);
    g_auto(GStrv) lines = g_strsplit(all, "\n", -1);
    g_autofree char *below = g_strconcat(" ", dir, "/", NULL);
    GString *ours = g_string_new(NULL);
    for (guint i = 0; lines[i]; i++)
        if (strstr(lines[i], below))
            g_string_append_printf(ours, "%s\n", lines[i]);
    return g_string_free(ours, FALSE);
}

/* Run "@program... NAME" for each loop device below the scratch directory. */
static inline void loops_each(const char *program, const char *option)
{
    g_autofree char *ours = loops_below(scratch);
    g_auto(GStrv) lines = g_strsplit(ours, "\n", -1);
    for (guint i = 0; lines[i] && *lines[i]; i++) {
        g_autofree char *name = g_strndup(lines[i], strcspn(lines[i], " "));
        tool(program, option, name, NULL);
    }
}

/* The files were changed underneath: what the devices have cached of them goes. */
static inline void loops_refresh(void)
{
    if (loops_work())
        loops_each("blockdev", "--flushbufs");
}

static inline void loops_teardown(void)
{
    if (loops_work())
        loops_each("losetup", "--detach");
    scratch_teardown();
}

/* A device of @size bytes of zeros in the file @path. Its name; caller frees. */
static inline char *loop_attach(const char *path, off_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ck_assert(fd >= 0 && ftruncate(fd, size) == 0);
    close(fd);
    return g_strchomp(tool_output("losetup", "--find", "--show", path, NULL));
}

static inline void loop_detach(const char *device)
{
    tool("losetup", "--detach", device, NULL);
}

static inline TCase *loops_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    tcase_add_unchecked_fixture(tcase, scratch_setup, loops_teardown);
    tcase_set_timeout(tcase, 120);
    suite_add_tcase(suite, tcase);
    return tcase;
}
