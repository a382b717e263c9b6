/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vda.raw: what a disk holds in a state, read by everyday tools, and while all the things are done that could take the images
 * away from under it. The truth is what `qemu-img convert` makes of the images themselves.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "machine.h"

enum { MIB = 1024 * 1024, SECONDS = 20 };

/* What @path, as @format, or its @tag, holds: a raw file. */
static const char *truth(const World *w, const char *name, const char *path, const char *format,
                         const char *tag)
{
    const char *raw = in_dir(w, "%s.truth", name);
    if (tag != NULL)
        run_ok(w, "qemu-img", "convert", "-U", "-f", format, "-l", keepf(w, "snapshot.name=%s", tag), "-O",
               "raw", path, raw);
    else
        run_ok(w, "qemu-img", "convert", "-U", "-f", format, "-O", "raw", path, raw);
    return raw;
}

/* The image of vda of the machine web, of @size; @more: options of `qemu-img create`, or NULL. Not yet defined. */
static const char *new_image(const World *w, const char *disk, const char *size, const char *more)
{
    const char *path = image(w, keepf(w, "web-%s.qcow2", disk));
    if (more != NULL)
        run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-o", more, path, size);
    else
        run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", path, size);
    return path;
}

static void define(const World *w, const char *disks)
{
    int err = put(w, "ctl", machine_xml(w, "web", NULL, disks));
    ck_assert_msg(err == 0, "define: %s: %s", g_strerror(err), text_of(w, "log"));
}

static void write_active(const World *w, const char *disk, guint8 byte, guint offset, guint size)
{
    image_write(w, active_path(w, "web", disk), active_format(w, "web", disk), byte, offset, size);
}

/* A machine of one disk of @mib MiB with something here and there. */
static World *web_of(const char *options, guint mib)
{
    World *w = world_new(options);
    const char *path = new_image(w, "vda", keepf(w, "%uM", mib), NULL);
    for (guint i = 0; i < mib; i += 3)
        image_write(w, path, "qcow2", (guint8)(i + 1), i * MIB + 12345 / 512 * 512, 700 * 1024);
    define(w, "vda:qcow2");
    return w;
}

static int view_open(const World *w, const char *name)
{
    int fd = open(at(w, "%s", name), O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "%s: %s: %s", name, g_strerror(errno), text_of(w, "web/log"));
    return fd;
}

/* From where it is on to the end @fd must hold what @raw does. */
static void same_to_the_end(int fd, const char *raw)
{
    int want = open(raw, O_RDONLY | O_CLOEXEC);
    static char a[256 * 1024], b[256 * 1024];
    off_t at = lseek(fd, 0, SEEK_CUR);
    gssize n;
    ck_works(want);
    do {
        n = pread(fd, a, sizeof a, at);
        ck_assert_msg(n >= 0, "at %ld: %s", (long)at, g_strerror(errno));
        ck_assert_int_eq(pread(want, b, sizeof b, at), n);
        ck_assert_msg(memcmp(a, b, (gsize)n) == 0, "other bytes in the %zd at %ld", n, (long)at);
        at += n;
    } while (n > 0);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), at);
    close(want);
}

static void same(const World *w, const char *view, const char *raw)
{
    int fd = view_open(w, view);
    same_to_the_end(fd, raw);
    close(fd);
    struct stat real, shown = stat_of(w, view);
    ck_works(stat(raw, &real));
    ck_assert_int_eq(shown.st_size, real.st_size);
    ck_assert_int_eq(shown.st_blocks, 8);
    ck_assert_uint_eq(shown.st_mode & 07333, 0);
}

/* --- every kind of state --- */

START_TEST(states_of_every_kind)
{
    g_autoptr(World) w = world_new("merge_idle=600000");
    new_image(w, "vda", "12M", NULL);
    new_image(w, "vdb", "5M", "compat=0.10,cluster_size=4k");
    make_image(w, "web-vdc.raw", "raw");
    define(w, "vda:qcow2 vdb:qcow2 vdc:raw");
    write_active(w, "vda", 1, 0, 3 * MIB);
    write_active(w, "vdb", 2, 4 * MIB, 70000);
    write_active(w, "vdc", 3, 4096, 512);
    command(w, "web", "create in --diskspec vdc,snapshot=no");
    write_active(w, "vda", 4, MIB, MIB);
    write_active(w, "vdb", 5, 0, 4096);
    command(w, "web",
            "create mixed --diskspec vda,snapshot=internal --diskspec vdb,snapshot=external "
            "--diskspec vdc,snapshot=external");
    run_ok(w, "qemu-img", "resize", "-q", "-f", "qcow2", active_path(w, "web", "vdb"), "9M");
    write_active(w, "vdb", 6, 8 * MIB, 1000000 / 512 * 512);
    write_active(w, "vdc", 7, 8192, 512);
    command(w, "web",
            "create out --diskspec vda,snapshot=external --diskspec vdb,snapshot=external "
            "--diskspec vdc,snapshot=external");
    write_active(w, "vda", 8, 11 * MIB, 512);
    ck_assert_str_eq(names_in(w, "web/in"), "changes description snapshot.xml vda.raw vdb.raw");
    ck_assert_str_eq(names_in(w, "web/mixed"),
                     "changes description parent snapshot.xml vda.raw vdb.qcow2 vdb.raw vdc.raw");
    ck_assert_str_eq(
        names_in(w, "web/out"),
        "changes description parent snapshot.xml vda.qcow2 vda.raw vdb.qcow2 vdb.raw vdc.qcow2 vdc.raw");
    const char *vda = image(w, "web-vda.qcow2"), *vdb = image(w, "web-vdb.qcow2");
    same(w, "web/in/vda.raw", truth(w, "t", vda, "qcow2", "in"));
    same(w, "web/in/vdb.raw", truth(w, "t", vdb, "qcow2", "in"));
    same(w, "web/mixed/vda.raw", truth(w, "t", vda, "qcow2", "mixed"));
    same(w, "web/mixed/vdb.raw", truth(w, "t", vdb, "qcow2", NULL));
    run_ok(w, "cmp", "web/mixed/vdc.raw", image(w, "web-vdc.raw"));
    same(w, "web/out/vda.raw", truth(w, "t", vda, "qcow2", NULL));
    same(w, "web/out/vdb.raw", truth(w, "t", at(w, "web/out/vdb.qcow2"), "qcow2", NULL));
    same(w, "web/out/vdc.raw", truth(w, "t", at(w, "web/out/vdc.qcow2"), "qcow2", NULL));
    for (guint i = 0; i < 3; i++) {
        const char *disk = keepf(w, "vd%c", 'a' + i);
        same(w, keepf(w, "web/active/%s.raw", disk),
             truth(w, "t", active_path(w, "web", disk), "qcow2", NULL));
    }
    /* the time of a state is its snapshot's */
    ck_assert_int_eq(stat_of(w, "web/out/vda.raw").st_mtime, stat_of(w, "web/out").st_mtime);
    world_stop(w);
    world_start(w, "ro");
    same(w, "web/mixed/vda.raw", truth(w, "t", vda, "qcow2", "mixed"));
    same(w, "web/active/vdb.raw", truth(w, "t", active_path(w, "web", "vdb"), "qcow2", NULL));
}
END_TEST

START_TEST(compressed)
{
    static const char *const ways[] = {"compression_type=zlib", "compression_type=zstd", "extended_l2=on",
                                       "cluster_size=512"};
    g_autoptr(World) w = world_new(NULL);
    const char *path = image(w, "web-vda.qcow2"), *raw = in_dir(w, "source");
    sh_ok(w, "seq 1 400000 > ../source; truncate -s 4M ../source");
    run_ok(w, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", ways[_i], raw, path);
    define(w, "vda:qcow2");
    command(w, "web", "create s1 --diskspec vda,snapshot=external");
    write_active(w, "vda", 9, 100 * 512, 3 * 512);
    run_ok(w, "mkdir", "web/s2");
    same(w, "web/s1/vda.raw", raw);
    same(w, "web/s2/vda.raw", truth(w, "t", active_path(w, "web", "vda"), "qcow2", "s2"));
}
END_TEST

/* --- everyday tools --- */

/* A disk with a partition table and a file system in its only partition, as a machine would have it. */
static World *disk_with_files(void)
{
    World *w = world_new("merge_idle=600000");
    sh_ok(w, "truncate -s 40M ../disk; printf 'label: dos\nstart=2048, type=83\n' | sfdisk -q ../disk;"
             "mkdir ../files; seq 1 100000 > ../files/numbers; echo hello > ../files/motd;"
             "mkfs.ext4 -q -d ../files -E offset=1048576 ../disk 38M 2>&1");
    run_ok(w, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", in_dir(w, "disk"),
           image(w, "web-vda.qcow2"));
    define(w, "vda:qcow2");
    run_ok(w, "mkdir", "web/s1");
    write_active(w, "vda", 0x55, 0, MIB);
    command(w, "web", "create s2 --diskspec vda,snapshot=external");
    write_active(w, "vda", 0x66, 30 * MIB, MIB);
    return w;
}

START_TEST(tools_that_copy)
{
    g_autoptr(World) w = disk_with_files();
    struct stat st;
    sh_ok(w, "cmp web/s1/vda.raw ../disk; mkdir ../out");
    sh_ok(w, "cp --sparse=always web/s1/vda.raw ../out/always; cp --sparse=auto web/s1/vda.raw ../out/auto;"
             "cp --sparse=never web/s1/vda.raw ../out/never; dd if=web/s1/vda.raw of=../out/dd bs=300k "
             "status=none;"
             "tar -C web/s1 -Scf ../out/tar vda.raw; tar -xOf ../out/tar > ../out/untarred;"
             "rsync --sparse web/s1/vda.raw ../out/rsync; busybox cat web/s1/vda.raw > ../out/cat;"
             "python3 -c 'import shutil; shutil.copyfile(\"web/s1/vda.raw\", \"../out/python\")';"
             "qemu-img convert -f raw -O raw web/s1/vda.raw ../out/qemu-img");
    sh_ok(w, "for f in always auto never dd untarred rsync cat python qemu-img; do cmp ../out/$f ../disk || "
             "exit 1; done");
    ck_works(stat(in_dir(w, "out/auto"), &st));
    ck_assert_msg(st.st_blocks * 512 < 8 * MIB, "cp made %ld blocks", (long)st.st_blocks);
    ck_works(stat(in_dir(w, "out/tar"), &st));
    ck_assert_msg(st.st_size < 8 * MIB, "tar made %ld bytes", (long)st.st_size);
    ck_assert_str_eq(sh_ok(w, "du -k web/s1/vda.raw | cut -f1"), "4\n");
    sh_ok(w, "for i in $(seq 60); do n=$(shuf -i 0-81000 -n 1);"
             "dd if=web/s1/vda.raw bs=512 skip=$n count=37 status=none | cksum > ../a;"
             "dd if=../disk bs=512 skip=$n count=37 status=none | cksum | cmp - ../a || exit 1; done");
}
END_TEST

START_TEST(tools_that_look)
{
    g_autoptr(World) w = disk_with_files();
    ck_has(run_ok(w, "fdisk", "-l", "web/s1/vda.raw"), "Linux");
    ck_assert_str_eq(run_ok(w, "sfdisk", "--dump", "web/s1/vda.raw"),
                     sh_ok(w, "sfdisk --dump ../disk | sed 's,../disk,web/s1/vda.raw,'"));
    ck_assert_str_eq(run_ok(w, "debugfs", "-R", "cat /motd", "web/s1/vda.raw?offset=1048576"), "hello\n");
    sh_ok(w,
          "debugfs -R 'cat /numbers' 'web/s1/vda.raw?offset=1048576' 2>/dev/null | cmp - ../files/numbers");
    ck_has(run_ok(w, "qemu-img", "info", "-f", "raw", "web/s1/vda.raw"), "40 MiB");
    run_ok(w, "qemu-img", "compare", "-f", "raw", "-F", "raw", "web/s1/vda.raw", in_dir(w, "disk"));
    run_ok(w, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", "web/s2/vda.raw", "web/s2/vda.qcow2");
    ck_has_not(run_ok(w, "qemu-io", "-r", "-f", "raw", "-c", "read -P 0x55 0 1M", "web/s2/vda.raw"),
               "failed");
    ck_has(run_ok(w, "qemu-img", "map", "-f", "raw", "web/s2/vda.raw"), "Offset");
    run_ok(w, "python3", "-c",
           "import mmap, os\n"
           "for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):\n"
           "  f = os.open('web/s1/vda.raw', os.O_RDONLY)\n"
           "  m = mmap.mmap(f, 0, flags=flags, prot=mmap.PROT_READ)\n"
           "  assert m[:] == open('../disk', 'rb').read()\n");
    /* the disk of a machine that is thrown away */
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", at(w, "web/s2/vda.raw"),
           in_dir(w, "throw"));
    run_ok(w, "qemu-io", "-f", "qcow2", "-c", "read -P 0x55 0 512", "-c", "write -P 1 0 512",
           in_dir(w, "throw"));
}
END_TEST

START_TEST(mounted_by_a_loop_device)
{
    g_autoptr(World) w = disk_with_files();
    const char *views[] = {"web/s1/vda.raw", "web/active/vda.raw"};
    if (access("/dev/loop-control", W_OK) < 0 || ran(w, "losetup", "-f", NULL).rc != 0)
        return;
    run_ok(w, "ln", "-sfn", "s1", "web/current"); /* also the present state has a file system again */
    for (guint i = 0; i < G_N_ELEMENTS(views); i++)
        sh_ok(w, keepf(w,
                       "set -e; mkdir -p ../m; l=$(losetup -r -o 1048576 -f --show %s);"
                       "trap 'umount -q ../m; losetup -d $l' EXIT;"
                       "mount -t ext4 -o ro,noload $l ../m; cmp ../m/numbers ../files/numbers; cat ../m/motd",
                       views[i]));
}
END_TEST

START_TEST(many_readers_at_once)
{
    g_autoptr(World) w = web_of(NULL, 24);
    run_ok(w, "mkdir", "web/s1");
    write_active(w, "vda", 200, 0, 24 * MIB);
    truth(w, "s1", image(w, "web-vda.qcow2"), "qcow2", "s1");
    sh_ok(w, "for i in $(seq 20); do cmp web/s1/vda.raw ../s1.truth & p=\"$p $!\"; done;"
             "for i in $p; do wait $i || exit 1; done");
}
END_TEST

START_TEST(nothing_is_written)
{
    static const char *const scripts[] = {
        "echo x > web/s1/vda.raw",
        "echo x >> web/s1/vda.raw",
        "truncate -s 0 web/s1/vda.raw",
        "truncate -s 1M web/active/vda.raw",
        "cp /dev/null web/active/vda.raw",
        "dd if=/dev/zero of=web/s1/vda.raw count=1 conv=notrunc",
        "rm -f web/s1/vda.raw",
        "mv web/s1/vda.raw web/s1/x.raw",
        "chmod 666 web/s1/vda.raw",
        "qemu-io -f raw -c 'write 0 512' web/s1/vda.raw",
    };
    g_autoptr(World) w = web_of(NULL, 2);
    run_ok(w, "mkdir", "web/s1");
    const char *before = fingerprint(w, w->images);
    for (guint i = 0; i < G_N_ELEMENTS(scripts); i++)
        sh_fails(w, scripts[i]);
    ck_errno(open(at(w, "web/s1/vda.raw"), O_RDWR | O_CLOEXEC), EACCES);
    ck_errno(open(at(w, "web/s1/vda.raw"), O_RDONLY | O_TRUNC | O_CLOEXEC), EACCES);
    ck_assert_str_eq(fingerprint(w, w->images), before);
}
END_TEST

/* Where data and holes are, at offsets that begin nowhere in particular. */
START_TEST(data_and_holes)
{
    g_autoptr(World) w = world_new(NULL);
    const char *path = new_image(w, "vda", "200G", NULL);
    image_write(w, path, "qcow2", 1, 64 * MIB, 128 * 1024);
    define(w, "vda:qcow2");
    run_ok(w, "mkdir", "web/s1");
    int fd = view_open(w, "web/s1/vda.raw");
    off_t size = (off_t)200 * 1024 * MIB;
    ck_assert_int_eq(lseek(fd, 0, SEEK_DATA), 64 * MIB);
    ck_assert_int_eq(lseek(fd, 64 * MIB + 7, SEEK_DATA), 64 * MIB + 7);
    ck_assert_int_eq(lseek(fd, 64 * MIB + 7, SEEK_HOLE), 64 * MIB + 128 * 1024);
    ck_assert_int_eq(lseek(fd, 5, SEEK_HOLE), 5);
    ck_errno(lseek(fd, 65 * MIB, SEEK_DATA), ENXIO);
    ck_errno(lseek(fd, size, SEEK_HOLE), ENXIO);
    ck_assert_int_eq(lseek(fd, size - 1, SEEK_HOLE), size - 1);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), size);
    char last[2];
    ck_assert_int_eq(pread(fd, last, 2, size - 1), 1);
    ck_assert_int_eq(last[0], 0);
    close(fd);
}
END_TEST

static void on_alarm(int signal)
{
}

/* A signal that its program goes on after, such as a timer's: the search for data does not fail, and comes to the end. */
START_TEST(searched_in_spite_of_signals)
{
    g_autoptr(World) w = world_new(NULL);
    const char *path = new_image(w, "vda", "2T", "cluster_size=2M");
    const struct sigaction handler = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    const struct itimerval often = {.it_interval = {.tv_usec = 200}, .it_value = {.tv_usec = 200}},
                           never = {0};
    off_t last = (off_t)1024 * 1024 * MIB, at = 3 * MIB, next = 0;
    guint steps = 0;
    image_write(w, path, "qcow2", 1, 0, 65536);
    run_ok(w, "qemu-io", "-f", "qcow2", "-c", "write -P 2 1T 64k", path);
    define(w, "vda:qcow2");
    run_ok(w, "mkdir", "web/s1");
    int fd = view_open(w, "web/s1/vda.raw");
    ck_works(sigaction(SIGALRM, &handler, NULL));
    ck_works(setitimer(ITIMER_REAL, &often, NULL));
    for (; next >= 0 && next != last; at = next, steps++) {
        next = lseek(fd, at, SEEK_DATA);
        if (next <= at)
            break;
    }
    int err = errno;
    ck_works(setitimer(ITIMER_REAL, &never, NULL));
    ck_assert_msg(next == last, "from %ld to %ld, after %u steps: %s", (long)at, (long)next, steps,
                  next < 0 ? g_strerror(err) : "no further");
    ck_assert_uint_gt(steps, 1); /* else nothing was interrupted */
    close(fd);
}
END_TEST

/* --- while things are done --- */

/* Half of it, so that the rest is read later; nothing of that is in a cache. */
static int half_read(const World *w, const char *view, const char *raw)
{
    int fd = view_open(w, view), want = open(raw, O_RDONLY | O_CLOEXEC);
    g_autofree char *a = g_malloc(3 * MIB), *b = g_malloc(3 * MIB);
    ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
    ck_assert_int_eq(pread(fd, a, 3 * MIB, 0), 3 * MIB);
    ck_assert_int_eq(pread(want, b, 3 * MIB, 0), 3 * MIB);
    ck_assert_int_eq(memcmp(a, b, 3 * MIB), 0);
    close(want);
    return fd;
}

/* An internal state whose snapshot goes: its tag goes when nobody reads it any more, without anybody asking. */
START_TEST(an_internal_state_that_goes)
{
    g_autoptr(World) w = web_of("merge_idle=50", 24);
    run_ok(w, "mkdir", "web/s1");
    write_active(w, "vda", 0xee, 0, 24 * MIB);
    const char *path = image(w, "web-vda.qcow2"), *raw = truth(w, "s1", path, "qcow2", "s1");
    int fd = half_read(w, "web/s1/vda.raw", raw);
    run_ok(w, "rmdir", "web/s1");
    ck_assert(!exists(w, "web/s1"));
    ck_assert_str_eq(tags_of(w, path), "s1");
    ck_has(text_of(w, "web/tree"), "owed");
    write_active(w, "vda", 0xdd, 0, 24 * MIB); /* clusters that were given back would be used again */
    run_ok(w, "mkdir", "web/s2");
    write_active(w, "vda", 0xcc, 0, 24 * MIB);
    command(w, "web", "wait");
    struct stat st;
    ck_works(fstat(fd, &st));
    ck_assert_int_eq(st.st_size, 24 * MIB);
    same_to_the_end(fd, raw);
    close(fd);
    ck_eventually(strcmp(tags_of(w, path), "s2") == 0, SECONDS);
    ck_eventually(strstr(text_of(w, "web/tree"), "owed") == NULL, SECONDS);
    run_ok(w, "qemu-img", "check", "-q", "-f", "qcow2", path);
}
END_TEST

static guint images(const World *w)
{
    return (guint)atoi(sh_ok(w, "ls -A ../images | wc -l"));
}

/* External ones, at the bottom, in the middle and on top: the merge waits, and is done when nobody reads any more. */
START_TEST(an_external_state_that_goes)
{
    static const char *const names[] = {"s1", "s2", "s3"};
    g_autoptr(World) w = web_of("merge_idle=50,snapshot=external", 24);
    const char *raws[3];
    int fds[3];
    for (guint i = 0; i < 3; i++) {
        run_ok(w, "mkdir", keepf(w, "web/%s", names[i]));
        write_active(w, "vda", (guint8)(0xa0 + i), (i * 5 + 2) * MIB, 9 * MIB);
    }
    for (guint i = 0; i < 3; i++) {
        const char *view = keepf(w, "web/%s/vda.raw", names[i]);
        raws[i] = truth(w, names[i], at(w, "web/%s/vda.qcow2", names[i]), "qcow2", NULL);
        fds[i] = half_read(w, view, raws[i]);
    }
    const char *now = truth(w, "now", active_path(w, "web", "vda"), "qcow2", NULL);
    sh_ok(w, "rmdir web/s2 web/s3 web/s1");
    command(w, "web", "wait");
    ck_assert_uint_eq(images(w),
                      4); /* who reads the lowest, or one in between, keeps all of them as they are */
    for (guint i = 0; i < 3; i++)
        same_to_the_end(fds[i], raws[i]);
    close(fds[2]);
    close(fds[0]);
    command(w, "web", "wait");
    same_to_the_end(fds[1], raws[1]);
    close(fds[1]);
    ck_eventually(images(w) == 1, SECONDS);
    same(w, "web/active/vda.raw", now);
}
END_TEST

/* Opened all the time, while snapshots come and go, are joined, reverted to and renamed: always the right bytes. */
START_TEST(opened_while_things_change)
{
    g_autoptr(World) w = web_of("merge_idle=10,snapshot=external", 6);
    run_ok(w, "mkdir", "web/keep");
    write_active(w, "vda", 0x11, 2 * MIB, MIB);
    run_ok(w, "mkdir", "web/top");
    write_active(w, "vda", 0x22, 3 * MIB, MIB);
    truth(w, "keep", image(w, "web-vda.qcow2"), "qcow2", NULL);
    truth(w, "top", at(w, "web/top/vda.qcow2"), "qcow2", NULL);
    const char *loop = "cd $0; for i in $(seq 100000); do for s in keep top; do"
                       "  cat web/$s/vda.raw > ../read.$s && cmp ../read.$s ../$s.truth || exit 1; done;"
                       "  test -e ../enough && exit 0; done";
    const char *argv[] = {"sh", "-c", loop, w->mnt, NULL};
    int in;
    pid_t reader = background(w, argv, &in);
    for (guint i = 0; i < 6; i++) {
        run_ok(w, "mkdir", "web/a");
        write_active(w, "vda", (guint8)i, 4 * MIB, 65536);
        run_ok(w, "mkdir", "web/b");
        sh_ok(w, "rmdir web/a; ln -sfn keep web/current; mv web/b web/c; rmdir web/c");
        command(w, "web", i % 2 ? "wait" : "revert top");
        run_ok(w, "ln", "-sfn", "top", "web/current");
    }
    sh_ok(w, "touch ../enough");
    ck_assert_int_eq(background_wait(reader), 0);
    close(in);
    same(w, "web/top/vda.raw", in_dir(w, "top.truth"));
}
END_TEST

/* --- the present state --- */

START_TEST(the_present_state)
{
    g_autoptr(World) w = web_of(NULL, 3);
    const char *first = truth(w, "first", image(w, "web-vda.qcow2"), "qcow2", NULL);
    same(w, "web/active/vda.raw", first);
    command(w, "web", "create s1 --diskspec vda,snapshot=external");
    write_active(w, "vda", 9, MIB, 4096);
    const char *second = truth(w, "second", active_path(w, "web", "vda"), "qcow2", NULL);
    same(w, "web/active/vda.raw", second);
    same(w, "web/s1/vda.raw", first);
    /* what is written while it is open is not given, and nothing else either */
    int fd = view_open(w, "web/active/vda.raw");
    char byte;
    ck_assert_int_eq(pread(fd, &byte, 1, MIB), 1);
    write_active(w, "vda", 10, MIB, 4096);
    ck_errno(pread(fd, &byte, 1, MIB), EIO);
    ck_errno(pread(fd, &byte, 1, 2 * MIB), EIO);
    close(fd);
    ck_has(text_of(w, "web/log"), "FAILED read 'active/vda.raw'");
    same(w, "web/active/vda.raw", truth(w, "t", active_path(w, "web", "vda"), "qcow2", NULL));
    Holder holder = hold(w, active_path(w, "web", "vda"), "qcow2", FALSE);
    ck_errno(open(at(w, "web/active/vda.raw"), O_RDONLY | O_CLOEXEC), EBUSY);
    release(holder);
    run_ok(w, "ln", "-sfn", "s1", "web/current");
    same(w, "web/active/vda.raw", first);
    command(w, "web", "revert --undo");
    same(w, "web/active/vda.raw", truth(w, "t", active_path(w, "web", "vda"), "qcow2", NULL));
    sh_ok(w, "mv web/s1 web/s2; mv web shop");
    same(w, "shop/s2/vda.raw", first);
}
END_TEST

/* --- what is not right --- */

START_TEST(changed_from_outside)
{
    g_autoptr(World) w = web_of("merge_idle=600000", 3);
    const char *path = image(w, "web-vda.qcow2");
    command(w, "web", "create s1 --diskspec vda,snapshot=external");
    command(w, "web", "create s2 --diskspec vda,snapshot=external");
    run_ok(w, "chmod", "u+w", path);
    image_write(w, path, "qcow2", 77, 0, 4096);
    static const char *const views[] = {"web/s1/vda.raw", "web/s2/vda.raw", "web/active/vda.raw"};
    for (guint i = 0; i < G_N_ELEMENTS(views); i++)
        ck_errno(open(at(w, "%s", views[i]), O_RDONLY | O_CLOEXEC), EIO);
    ck_has(text_of(w, "web/log"), "FAILED read 's2/vda.raw'");
    ck_has(text_of(w, "web/log"), "not what was frozen");
}
END_TEST

/* A table of the frozen image says nonsense: an error for who reads there, said once an open; the rest can be read. */
START_TEST(damaged)
{
    g_autoptr(World) w = web_of(NULL, 3);
    const char *path = image(w, "web-vda.qcow2");
    run_ok(w, "python3", "-c",
           "import struct, sys\n"
           "f = open(sys.argv[1], 'r+b')\n"
           "f.seek(40); l1 = struct.unpack('>Q', f.read(8))[0]\n"
           "f.seek(l1); l2 = struct.unpack('>Q', f.read(8))[0] & 0x00fffffffffffe00\n"
           "f.seek(l2 + 8 * 3); f.write(struct.pack('>Q', 0x8000000000000200 | 0x123))\n",
           path);
    command(w, "web", "create s1 --diskspec vda,snapshot=external");
    int fd = view_open(w, "web/s1/vda.raw");
    char byte;
    for (guint i = 0; i < 5; i++)
        ck_errno(pread(fd, &byte, 1, 3 * 65536), EIO);
    close(fd);
    ck_assert_str_eq(sh_ok(w, "grep -c \"FAILED read 's1/vda.raw'\" web/log"), "1\n");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("raw");
    TCase *content = add_case(s, "content");
    tcase_add_test(content, states_of_every_kind);
    tcase_add_loop_test(content, compressed, 0, 4);
    tcase_add_test(content, data_and_holes);
    tcase_add_test(content, searched_in_spite_of_signals);
    TCase *tools = add_case(s, "tools");
    tcase_add_test(tools, tools_that_copy);
    tcase_add_test(tools, tools_that_look);
    tcase_add_test(tools, mounted_by_a_loop_device);
    tcase_add_test(tools, many_readers_at_once);
    tcase_add_test(tools, nothing_is_written);
    TCase *changes = add_case(s, "changes");
    tcase_add_test(changes, an_internal_state_that_goes);
    tcase_add_test(changes, an_external_state_that_goes);
    tcase_add_test(changes, opened_while_things_change);
    TCase *active = add_case(s, "active");
    tcase_add_test(active, the_present_state);
    TCase *wrong = add_case(s, "wrong");
    tcase_add_test(wrong, changed_from_outside);
    tcase_add_test(wrong, damaged);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
