/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that the kernel reads itself, past the daemon, and how far it reads ahead: the right bytes whoever reads them, in every
 * mixture of openings, and while the images are merged.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"

enum { MIB = 1024 * 1024, SIZE = 8 * MIB, SECONDS = 20, PATIENCE = 5000 /* ms */ };

/* Does the kernel have it, and give it to us? Linux 6.9, root. */
static gboolean offered(void)
{
    struct utsname name;
    unsigned major = 0, minor = 0;
    ck_assert_int_eq(uname(&name), 0);
    ck_assert_int_eq(sscanf(name.release, "%u.%u", &major, &minor), 2);
    if (geteuid() == 0 && (major > 6 || (major == 6 && minor >= 9)))
        return TRUE;
    fprintf(stderr, "passthrough: not with Linux %s as user %u\n", name.release, geteuid());
    return FALSE;
}

static const char *make_disk(const World *w, const char *path, guint8 byte)
{
    run_ok(w, "qemu-img", "create", "-q", "-f", "raw", path, "8M");
    for (guint i = 0; i < SIZE / MIB; i++)
        image_write(w, path, "raw", (guint8)(byte + i), i * MIB + 65536, 600 * 1024);
    return path;
}

/* A machine with one raw disk: its path. */
static const char *define_raw(const World *w)
{
    const char *path = make_disk(w, image(w, "web-vda.raw"), 1);
    int err = put(w, "ctl", machine_xml(w, "web", NULL, "vda:raw"));
    ck_assert_msg(err == 0, "define: %s: %s", g_strerror(err), text_of(w, "log"));
    return path;
}

/* Such a machine, and what it has is frozen in s1. */
static World *raw_machine(const char *options)
{
    World *w = world_new(options);
    define_raw(w);
    run_ok(w, "mkdir", "web/s1");
    return w;
}

static int open_read(const World *w, const char *name, int flags)
{
    int fd = open(at(w, "%s", name), O_RDONLY | O_CLOEXEC | flags, 0600);
    ck_assert_msg(fd >= 0, "%s: %s", name, g_strerror(errno));
    return fd;
}

/* All bytes that @fd gives must be these of the real file @path. */
static void same(int fd, const char *path)
{
    g_autofree char *want = NULL, *got = g_malloc(SIZE + 1);
    gsize size;
    gssize n = 0, done = 0;
    ck_assert(g_file_get_contents(path, &want, &size, NULL));
    while ((n = pread(fd, got + done, SIZE + 1 - (gsize)done, done)) > 0)
        done += n;
    ck_assert_msg(n == 0, "at %zd: %s", done, g_strerror(errno));
    ck_assert_uint_eq((gsize)done, size);
    ck_assert_int_eq(memcmp(got, want, size), 0);
}

/* The same while the daemon stands, by a process of its own: that tells when it is through, for its end asks the daemon. */
static gboolean same_without_daemon(const World *w, int fd, const char *path)
{
    int through[2], status;
    char byte = 0;
    ck_works(pipe(through));
    ck_works(kill(w->daemon, SIGSTOP));
    pid_t pid = fork();
    ck_works(pid);
    if (pid == 0) {
        same(fd, path);
        _exit(write(through[1], "y", 1) != 1);
    }
    struct pollfd wait = {.fd = through[0], .events = POLLIN};
    gboolean ok = poll(&wait, 1, PATIENCE) == 1 && read(through[0], &byte, 1) == 1;
    ck_works(kill(w->daemon, SIGCONT));
    ck_works(waitpid(pid, &status, 0));
    close(through[0]);
    close(through[1]);
    return ok && status == 0;
}

/* A raw layer, and the qcow2 file on it, by every kind of opening. */
START_TEST(read_by_the_kernel)
{
    if (!offered())
        return;
    g_autoptr(World) w = raw_machine("snapshot=external");
    const char *real = image(w, "web-vda.raw"), *overlay = active_path(w, "web", "vda");
    run_ok(w, "mkdir", "web/s2");
    int fds[] = {open_read(w, "web/s1/vda.raw", 0), open_read(w, "web/s1/vda.raw", O_CREAT),
                 open_read(w, "web/s2/vda.qcow2", 0)};
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        ck_assert_msg(same_without_daemon(w, fds[i], i < 2 ? real : overlay),
                      "opening %u: the daemon is asked", i);
    close(fds[0]); /* the others stay */
    int again = open_read(w, "web/s1/vda.raw", 0);
    ck_assert(same_without_daemon(w, again, real));
    ck_assert(same_without_daemon(w, fds[1], real));
    close(again);
    close(fds[1]);
    close(fds[2]);
}
END_TEST

/* What needs the pages of the mount, and what asks the daemon: mapping, direct reading, data and holes, sizes. */
START_TEST(everything_else)
{
    g_autoptr(World) w = raw_machine(NULL);
    const char *real = image(w, "web-vda.raw");
    int fd = open_read(w, "web/s1/vda.raw", 0), direct = open_read(w, "web/s1/vda.raw", O_DIRECT);
    same(fd, real);
    struct stat st;
    ck_works(fstat(fd, &st));
    ck_assert_int_eq(st.st_size, SIZE);
    ck_assert_int_eq(lseek(fd, 5000, SEEK_DATA), 65536);
    ck_assert_int_eq(lseek(fd, 65536, SEEK_HOLE), 65536 + 600 * 1024);
    g_autofree char *want = NULL;
    void *block;
    ck_assert(g_file_get_contents(real, &want, NULL, NULL));
    ck_assert_int_eq(posix_memalign(&block, 4096, MIB), 0);
    ck_assert_int_eq(pread(direct, block, MIB, 2 * MIB), MIB);
    ck_assert_int_eq(memcmp(block, want + 2 * MIB, MIB), 0);
    free(block);
    const char *map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert(map != MAP_FAILED);
    ck_assert_int_eq(memcmp(map, want, SIZE), 0);
    munmap((void *)map, SIZE);
    ck_errno(open(at(w, "web/s1/vda.raw"), O_RDWR), EACCES);
    ck_errno(open(at(w, "web/s1/vda.raw"), O_RDONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    ck_errno(write(fd, "x", 1), EBADF);
    sh_ok(w, "cp --sparse=auto web/s1/vda.raw ../copy && cmp ../copy ../images/web-vda.raw");
    close(fd);
    close(direct);
}
END_TEST

/* The snapshot of a raw layer goes while it is read: the merge waits, or takes another way; the bytes stay right. */
START_TEST(deleted_while_read)
{
    g_autoptr(World) w = raw_machine("merge_idle=50");
    const char *copy = in_dir(w, "copy");
    run_ok(w, "cp", image(w, "web-vda.raw"), copy);
    image_write(w, active_path(w, "web", "vda"), "qcow2", 0xcc, 0, SIZE);
    run_ok(w, "mkdir", "web/s2");
    image_write(w, active_path(w, "web", "vda"), "qcow2", 0xdd, MIB, MIB);
    const char *now = in_dir(w, "now");
    run_ok(w, "qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", active_path(w, "web", "vda"), now);
    int fd = open_read(w, "web/s1/vda.raw", 0);
    sh_ok(w, "rmdir web/s1 web/s2");
    ck_eventually(strstr(text_of(w, "web/log"), "not merged") != NULL, SECONDS);
    same(fd, copy);
    close(fd);
    ck_eventually(strcmp(names_in(w, "../images"), "web-vda.raw") == 0 && exists(w, "web/active/vda.raw"),
                  SECONDS);
    int active = open_read(w, "web/active/vda.raw", 0);
    same(active, now);
    close(active);
}
END_TEST

/* The user puts another file there while it is read: nobody gets bytes of the wrong one, or an error that says nothing. */
START_TEST(replaced_while_read)
{
    g_autoptr(World) w = world_new(NULL);
    const char *real = define_raw(w), *old = in_dir(w, "old"), *name = at(w, "web/active/vda.raw");
    int first = open_read(w, "web/active/vda.raw", 0);
    same(first, real);
    run_ok(w, "mv", real, old);
    make_disk(w, real, 101);
    int second = open(name, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(second >= 0 || errno == EBUSY, "%s", g_strerror(errno));
    ck_assert_msg(second < 0 || !offered(), "not read by the kernel");
    if (second >= 0) {
        same(second, real);
        close(second);
    }
    same(first, old);
    close(first);
    ck_eventually((second = open(name, O_RDONLY | O_CLOEXEC)) >= 0, SECONDS); /* its release comes later */
    same(second, real);
    close(second);
}
END_TEST

/* Opened by many at once, all the time, while snapshots of it come and go: always what was frozen. */
START_TEST(opened_by_many)
{
    g_autoptr(World) w = raw_machine("merge_idle=1");
    const char *reader =
        keepf(w, "for i in $(seq 25); do cmp web/s1/vda.raw %s || exit 1; done", in_dir(w, "copy"));
    const char *const argv[] = {"sh", "-c", reader, NULL};
    pid_t readers[4];
    run_ok(w, "cp", image(w, "web-vda.raw"), in_dir(w, "copy"));
    for (guint i = 0; i < G_N_ELEMENTS(readers); i++)
        readers[i] = background(w, argv, NULL);
    for (guint i = 0; i < 6; i++)
        sh_ok(w, "mkdir web/t && rmdir web/t");
    for (guint i = 0; i < G_N_ELEMENTS(readers); i++)
        ck_assert_int_eq(background_wait(readers[i]), 0);
}
END_TEST

/* Images that lie on a stacked file system, which the kernel does not take: the daemon reads. */
START_TEST(not_on_a_stack)
{
    g_autoptr(World) w = world_new(NULL);
    const char *upper = in_dir(w, "upper"), *work = in_dir(w, "work"), *merged = in_dir(w, "merged");
    sh_ok(w, "mkdir ../upper ../work ../merged");
    const char *options = keepf(w, "lowerdir=%s,upperdir=%s,workdir=%s", w->images, upper, work);
    if (geteuid() != 0 || mount("overlay", merged, "overlay", 0, options) != 0) {
        fprintf(stderr, "passthrough: no overlay file system here: %s\n", g_strerror(errno));
        return;
    }
    const char *path = make_disk(w, keepf(w, "%s/o-vda.raw", merged), 7);
    const char *xml = machine_xml(w, "web", NULL, "vda:raw");
    g_autoptr(GString) there = g_string_new(xml);
    g_string_replace(there, image(w, "web-vda.raw"), path, 0);
    int err = put(w, "ctl", there->str);
    if (err == 0)
        run_ok(w, "mkdir", "web/s1");
    int fd = err == 0 ? open(at(w, "web/s1/vda.raw"), O_RDONLY | O_CLOEXEC) : -1;
    gboolean right = fd >= 0;
    if (right)
        same(fd, path);
    if (fd >= 0)
        close(fd);
    world_stop(w);
    ck_works(umount2(merged, MNT_DETACH));
    ck_assert_msg(right, "define or open: %s", g_strerror(err));
}
END_TEST

/* --- how far is read ahead --- */

static const char *read_ahead_file(const World *w)
{
    struct stat st;
    ck_works(stat(w->mnt, &st));
    return keepf(w, "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
}

static const char *read_ahead(const World *w)
{
    g_autofree char *text = NULL;
    ck_assert(g_file_get_contents(read_ahead_file(w), &text, NULL, NULL));
    return keep(w, g_strstrip(text));
}

/* From the first raw view on; what somebody has set higher stays. */
START_TEST(reads_ahead)
{
    g_autoptr(World) w = raw_machine("snapshot=external");
    if (geteuid() != 0)
        return;
    ck_assert_int_lt(atoi(read_ahead(w)), 1024);
    run_ok(w, "mkdir", "web/s2");
    close(open_read(w, "web/s2/vda.raw", 0));
    ck_assert_str_eq(read_ahead(w), "1024");
    world_stop(w);
    world_start(w, NULL);
    sh_ok(w, keepf(w, "echo 2048 >%s", read_ahead_file(w)));
    close(open_read(w, "web/s2/vda.raw", 0));
    ck_assert_str_eq(read_ahead(w), "2048");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("passthrough");
    TCase *kernel = add_case(s, "kernel");
    tcase_add_test(kernel, read_by_the_kernel);
    tcase_add_test(kernel, everything_else);
    tcase_add_test(kernel, deleted_while_read);
    tcase_add_test(kernel, replaced_while_read);
    tcase_add_test(kernel, opened_by_many);
    tcase_add_test(kernel, not_on_a_stack);
    TCase *ahead = add_case(s, "ahead");
    tcase_add_test(ahead, reads_ahead);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
