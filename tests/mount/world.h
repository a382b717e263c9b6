/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * World: what one whole-mount test has for itself: a temporary directory with images, a store and a mount point, and
 * the real daemon working on them.
 *
 * A test starts with `g_autoptr(World) w = world_new(NULL)`. When it succeeds, leaving the scope unmounts, requires the
 * daemon to exit 0 with nothing reported by a sanitizer, and removes the directory. When it fails, libcheck ends its
 * process: the daemon is told by the kernel (PDEATHSIG), and the program's mount_main() sweeps up and prints the
 * daemon's log. Machines that the daemon started end with the world.
 *
 * Strings that these functions return live as long as the world.
 */
#pragma once

#include <check.h>
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef struct {
    char *dir;    /* everything below is in here; also run/, where the sockets of its machines are */
    char *images; /* disk images */
    char *store;
    char *mnt;
    char *program; /* the daemon */
    pid_t daemon;  /* 0: not running */
    GStringChunk *strings;
} World;

/* A world with its daemon mounted. @options: for -o, or NULL. */
World *world_new(const char *options);
/* The same without starting the daemon. */
World *world_new_idle(void);
void world_free(World *w);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

/* Start the daemon and wait for the mount. */
void world_start(World *w, const char *options);
/* Start it, and do not wait. */
void world_launch(World *w, const char *options);
/* Start it, but do not expect it to mount: its exit code. *ret_log (may be NULL): what it said. */
int world_start_fails(World *w, const char *options, const char **ret_log);
/* Start it: FALSE when it ends instead of mounting. *ret_status: its wait status then. */
gboolean world_try_start(World *w, const char *options, int *ret_status);
/* It ends by itself, at once: its wait status. The mount point that is left behind is freed. */
int world_died(World *w);
/* Unmount; the daemon must exit 0 and be clean. */
void world_stop(World *w);
/* Send @signal instead of unmounting; then the same must be true. */
void world_signal(World *w, int signal);
/* kill -9, and free the mount point that is left behind. */
void world_kill(World *w);
/* Fail if a sanitizer reported anything. */
void world_check_clean(const World *w);
gboolean world_is_mounted(const World *w);

/* Paths: absolute, of something in the mount; of something in the world's directory. */
const char *at(const World *w, const char *format, ...) G_GNUC_PRINTF(2, 3);
const char *in_dir(const World *w, const char *format, ...) G_GNUC_PRINTF(2, 3);
const char *image(const World *w, const char *name);
const char *keep(const World *w, const char *text);
const char *keepf(const World *w, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Has the process @pid ended? Who has it as a child need not have taken note. */
gboolean process_gone(pid_t pid);

/* What the paths of the worlds of this program begin with. Caller frees. */
char *world_prefix(void);

/* The main() of a program of whole-mount tests. */
int mount_main(Suite *suite);

/* A test case whose tests are slow in sanitizer builds. */
TCase *add_case(Suite *suite, const char *name);

/* The system call @call must fail with @want, or must succeed. */
#define ck_errno(call, want)                                                                                 \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        long ck_r_ = (long)(call);                                                                           \
        int ck_e_ = errno;                                                                                   \
        ck_assert_msg(ck_r_ == -1 && ck_e_ == (want), "%s: %ld, %s; expected %s", #call, ck_r_,              \
                      g_strerror(ck_e_), g_strerror(want));                                                  \
    } while (0)
#define ck_works(call)                                                                                       \
    do {                                                                                                     \
        errno = 0;                                                                                           \
        long ck_r_ = (long)(call);                                                                           \
        ck_assert_msg(ck_r_ >= 0, "%s: %s", #call, g_strerror(errno));                                       \
    } while (0)
#define ck_has(text, part)                                                                                   \
    do {                                                                                                     \
        const char *ck_t_ = (text), *ck_p_ = (part);                                                         \
        ck_assert_msg(strstr(ck_t_, ck_p_) != NULL, "no '%s' in '%s'", ck_p_, ck_t_);                        \
    } while (0)
#define ck_has_not(text, part)                                                                               \
    do {                                                                                                     \
        const char *ck_t_ = (text), *ck_p_ = (part);                                                         \
        ck_assert_msg(strstr(ck_t_, ck_p_) == NULL, "'%s' in '%s'", ck_p_, ck_t_);                           \
    } while (0)
/* Wait until @condition is true, at most @seconds. */
#define ck_eventually(condition, seconds)                                                                    \
    do {                                                                                                     \
        gint64 ck_end_ = g_get_monotonic_time() + (gint64)(seconds)*G_USEC_PER_SEC;                          \
        while (!(condition)) {                                                                               \
            ck_assert_msg(g_get_monotonic_time() < ck_end_, "not within %d s: %s", (int)(seconds),           \
                          #condition);                                                                       \
            g_usleep(5000);                                                                                  \
        }                                                                                                    \
    } while (0)
