/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk below is full, or breaks, for the daemon and its qemu-img alike: images on a file system whose n-th read, write,
 * fsync... fails (badfs.h), images or the store on one that is full. The errno is the disk's, the sentence says which
 * one; the state is the one before or the one after, and once the disk works again so does the domain.
 *
 * BADDISK_ALL=1 in the environment: every call of every gesture, not some of them.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "acts.h"
#include "badfs.h"
#include "stage.h"

static const char *const chosen[] = {"create external", "create mixed",    "revert in place",
                                     "revert by copy",  "rmdir in frozen", "revert a grown one",
                                     "rmdir with tags"};

typedef struct {
    World *w;
    const Gesture *gesture;
    const char *before, *after; /* digests */
    const char *what;           /* for messages */
    gboolean may_copy;          /* instead of working in place */
} Trial;

/* The digests, from a world of its own that nothing is wrong with. */
static void learn(Trial *trial)
{
    g_autoptr(World) w = world_new(NO_MERGES);
    trial->gesture->setup(w);
    trial->before = keep(trial->w, digest(w));
    int err = trial->gesture->act(w);
    ck_assert_msg(err == 0, "%s: %s", trial->gesture->name, g_strerror(err));
    trial->after = keep(trial->w, digest(w));
}

static void expect(const Trial *trial, const char *when, const char *now, const char *expected)
{
    ck_assert_msg(strcmp(now, expected) == 0, "%s: %s:\n%s---- instead of:\n%s", trial->what, when, now,
                  expected);
}

/* What of the digest @text must be the same: a state that was copied out has its name instead of the image's. */
static const char *what_counts(const Trial *trial, const char *text)
{
    if (!trial->may_copy)
        return essence(trial->w, text);
    g_autoptr(GRegex) copies = g_regex_new("^file web-vd.\\.s1\n", G_REGEX_MULTILINE, 0, NULL);
    g_autoptr(GRegex) names = g_regex_new("(web-vd.)\\.s1", 0, 0, NULL);
    g_autofree char *without = g_regex_replace_literal(copies, essence(trial->w, text), -1, 0, "", 0, NULL);
    g_autofree char *bare = g_regex_replace(names, without, -1, 0, "\\1.qcow2", 0, NULL);
    return keep(trial->w, bare);
}

/* The disk is in order again. */
static void expect_state(const Trial *trial, int err)
{
    const World *w = trial->w;
    const char *now = digest(w);
    if (err != 0) {
        expect(trial, "failed", now, trial->before);
        return;
    }
    expect(trial, "succeeded", what_counts(trial, now), what_counts(trial, trial->after));
    use_domain(w);
    expect(trial, "succeeded, and later", what_counts(trial, digest(w)), what_counts(trial, trial->after));
}

/* --- a disk that breaks --- */

static const char *const call_names[N_BAD] = {"read", "write", "fsync", "truncate", "create"};

typedef struct {
    BadControl *control;
    pid_t pid; /* 0: not mounted */
} Bad;

static void bad_mount(Bad *bad, const World *w)
{
    const char *argv[] = {g_getenv("BADFS"), w->images, in_dir(w, "control"), NULL};
    struct statfs fs;
    ck_assert_ptr_nonnull(argv[0]);
    bad->pid = background(w, argv, NULL);
    ck_eventually(statfs(w->images, &fs) == 0 && fs.f_type == 0x65735546, 20);
}

static void bad_unmount(Bad *bad, const World *w)
{
    ck_works(umount2(w->images, 0));
    ck_assert_int_eq(background_wait(bad->pid), 0);
    bad->pid = 0;
}

static void bad_new(Bad *bad, const World *w)
{
    int fd = open(in_dir(w, "control"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert(fd >= 0 && ftruncate(fd, sizeof *bad->control) == 0);
    bad->control = mmap(NULL, sizeof *bad->control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert(bad->control != MAP_FAILED);
    close(fd);
    bad->control->call = -1;
    bad_mount(bad, w);
}

static void bad_reset(Bad *bad)
{
    bad->control->call = -1;
    for (guint call = 0; call < N_BAD; call++)
        bad->control->seen[call] = 0;
}

static int act_with(Trial *trial, Bad *bad, BadCall call, guint n, gboolean onwards, int code)
{
    trial->what = keepf(trial->w, "%s, %s %u%s: %s", trial->gesture->name, call_names[call], n,
                        onwards ? " and after" : "", g_strerror(code));
    if (g_getenv("BADDISK_TELL") != NULL)
        fprintf(stderr, "%s\n", trial->what);
    bad_reset(bad);
    bad->control->at = n;
    bad->control->onwards = onwards;
    bad->control->code = code;
    bad->control->call = (int)call;
    int err = trial->gesture->act(trial->w);
    bad->control->call = -1;
    /* two qemu-img at once do not always make the same number of calls */
    ck_assert_msg(bad->control->seen[call] >= n || err == 0, "%s: fails before: %s", trial->what,
                  g_strerror(err));
    return err;
}

/* The last line of the log that says why something failed. */
static const char *last_reason(const World *w)
{
    const char *log = text_of(w, "web/log");
    const char *reason = g_strrstr(log, "FAILED");
    return reason != NULL ? reason : log;
}

static void expect_sentence(const Trial *trial, int err, int code)
{
    const char *reason = last_reason(trial->w);
    ck_assert_msg(err == code, "%s: fails with %s: %s", trial->what, g_strerror(err), reason);
    ck_assert_msg(strstr(reason, "disk 'vd") != NULL, "%s: no disk is named: %s", trial->what, reason);
}

static void restart(Trial *trial, Bad *bad, const Stage *stage)
{
    world_stop(trial->w);
    bad_unmount(bad, trial->w);
    if (stage != NULL)
        stage_restore(stage);
    bad_mount(bad, trial->w);
    world_start(trial->w, NO_MERGES);
}

static void break_at(Trial *trial, Bad *bad, const Stage *stage, BadCall call, guint n, gboolean onwards)
{
    int code = call == BAD_READ || call == BAD_FSYNC || n % 2 == 0 ? EIO : ENOSPC;
    /* An image that cannot be read may be one that stands on the disk's: then nothing is applied in place. */
    trial->may_copy = call == BAD_READ && strcmp(trial->gesture->name, "revert in place") == 0;
    int err = act_with(trial, bad, call, n, onwards, code);
    if (err != 0)
        expect_sentence(trial, err, code);
    if (err != 0 && onwards)
        use_domain(trial->w); /* undoing may have failed as well */
    expect_state(trial, err);
    if (err != 0 && n > 1)
        return;
    restart(trial, bad, err == 0 ? stage : NULL);
    if (err != 0)
        expect(trial, "mounted again", digest(trial->w), trial->before);
}

/* QEMU loses all tags when the disk fails for good at one certain fsync, and leaves a broken image at one certain read. */
static gboolean is_tried_at_each(const Gesture *gesture, BadCall call)
{
    gboolean deletes = strcmp(gesture->name, "rmdir with tags") == 0;
    return call == BAD_FSYNC ? deletes || strcmp(gesture->name, "revert in place") == 0
                             : call == BAD_READ && deletes;
}

START_TEST(breaks)
{
    g_autoptr(World) w = world_new_idle();
    Trial trial = {.w = w, .gesture = gesture_called(chosen[_i])};
    Bad bad;
    guint times[N_BAD], runs = 0;
    learn(&trial);
    bad_new(&bad, w);
    world_start(w, NO_MERGES);
    trial.gesture->setup(w);
    world_stop(w);
    bad_unmount(&bad, w);
    g_autoptr(Stage) stage = stage_save(w);
    bad_mount(&bad, w);
    world_start(w, NO_MERGES);
    trial.what = "nothing is wrong";
    bad_reset(&bad);
    ck_assert_int_eq(trial.gesture->act(w), 0);
    for (guint call = 0; call < N_BAD; call++)
        times[call] = bad.control->seen[call];
    expect(&trial, "succeeded", digest(w), trial.after);
    restart(&trial, &bad, stage);
    gboolean all = g_getenv("BADDISK_ALL") != NULL;
    for (guint call = 0; call < N_BAD; call++) {
        gboolean each = is_tried_at_each(trial.gesture, call);
        guint step = all || each ? 1 : MAX(1, times[call] / 3);
        for (guint n = 1; n <= times[call]; n += step, runs++)
            break_at(&trial, &bad, stage, call, n, each || (n / step) % 2 == 1);
    }
    restart(&trial, &bad, NULL);
    expect(&trial, "mounted again", digest(w), trial.before);
    world_stop(w);
    bad_unmount(&bad, w);
    printf("# %s: %u failures\n", trial.gesture->name, runs);
}
END_TEST

/* --- a disk that is full --- */

enum { SMALL_MIB = 16, PAGE = 4096 };

/* Leave room for @pages pages. */
static void fill(const char *dir, guint pages)
{
    static const char page[PAGE];
    g_autofree char *file = g_build_filename(dir, ".filler", NULL);
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    while (write(fd, page, PAGE) == PAGE)
        ;
    ck_assert_int_eq(errno, ENOSPC);
    off_t size = lseek(fd, 0, SEEK_END);
    ck_assert_int_ge(size, (off_t)pages * PAGE);
    ck_works(ftruncate(fd, size - (off_t)pages * PAGE));
    close(fd);
}

static void make_room(const char *dir)
{
    g_autofree char *file = g_build_filename(dir, ".filler", NULL);
    ck_works(g_unlink(file));
}

static const struct {
    const char *gesture;
    gboolean images; /* or the store */
} filling[] = {
    {"create mixed", FALSE},    {"create mixed", TRUE},
    {"create external", TRUE},  {"mkdir", TRUE},
    {"revert in place", FALSE}, {"revert in place", TRUE},
    {"revert by copy", FALSE},  {"revert by copy", TRUE},
    {"revert external", TRUE},  {"rmdir with tags", FALSE},
    {"rmdir with tags", TRUE},  {"mv a snapshot", FALSE},
    {"mv the domain", FALSE},   {"define", FALSE},
    {"snapshot.xml", FALSE},    {"undefine", FALSE},
};

/* With more room every time, until it is enough. How often it was not. */
static guint until_it_fits(Trial *trial, const char *dir)
{
    const World *w = trial->w;
    for (guint pages = 0, times = 0;; pages += 1 + pages / 2, times++) {
        trial->what = keepf(w, "%s, %u pages left on %s", trial->gesture->name, pages, dir);
        if (g_getenv("BADDISK_TELL") != NULL)
            fprintf(stderr, "%s\n", trial->what);
        fill(dir, pages);
        int err = trial->gesture->act(w);
        make_room(dir);
        if (err != 0 && dir == w->images)
            expect_sentence(trial, err, ENOSPC);
        ck_assert_msg(err == 0 || err == ENOSPC, "%s: %s", trial->what, g_strerror(err));
        if (exists(w, "web/tree") && strstr(text_of(w, "web/tree"), "read-only") != NULL)
            use_domain(w); /* what could not be completed or undone is so now */
        if (err == 0)
            return times;
        expect_state(trial, err);
    }
}

START_TEST(full)
{
    g_autoptr(World) w = world_new_idle();
    Trial trial = {.w = w, .gesture = gesture_called(filling[_i].gesture)};
    const char *dir = filling[_i].images ? w->images : w->store;
    ck_works(g_mkdir(w->store, 0700));
    if (geteuid() != 0) {
        printf("# not root: nothing can be mounted\n");
        return;
    }
    learn(&trial);
    g_autofree char *size = g_strdup_printf("size=%dm,mode=755", SMALL_MIB);
    ck_works(mount("small", dir, "tmpfs", MS_NOSUID | MS_NODEV, size));
    world_start(w, NO_MERGES);
    trial.gesture->setup(w);
    guint times = until_it_fits(&trial, dir);
    world_stop(w);
    world_start(w, NO_MERGES);
    expect_state(&trial, 0);
    world_stop(w);
    ck_works(umount2(dir, 0));
    printf("# %s: %u times too little room %s\n", trial.gesture->name, times,
           filling[_i].images ? "for the images" : "in the store");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("baddisk");
    TCase *breaking = add_case(suite, "breaks");
    tcase_set_timeout(breaking, g_getenv("BADDISK_ALL") != NULL ? 0 : 300);
    tcase_add_loop_test(breaking, breaks, 0, (int)G_N_ELEMENTS(chosen));
    tcase_add_loop_test(add_case(suite, "full"), full, 0, (int)G_N_ELEMENTS(filling));
    return mount_main(suite);
}
