/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machines that run, as a user has them: a real QEMU with the test guest, whose counters say whether memory and disks are
 * of one instant and whether it is the same life that goes on.
 */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "guest.h"
#include "guest_domain.h"
#include "guest_look.h"
#include "machine.h"

enum { SECONDS = 20, MIB = 8, RING = 70 /* steps after which nothing of before is left on a disk */ };

/* The domain @name with the guest on two disks; @devices: more elements of it, or NULL. */
static void define_guest(const World *w, const char *name, const char *devices)
{
    const char *images[] = {image(w, keepf(w, "%s-vda.qcow2", name)),
                            image(w, keepf(w, "%s-vdb.qcow2", name)), NULL};
    for (guint i = 0; images[i] != NULL; i++)
        guest_disk_make(images[i], MIB);
    g_autofree char *xml =
        guest_domain_xml(name, strcmp(guest_accel(), "kvm") == 0 ? "kvm" : "qemu", images, devices);
    int err = put(w, "ctl", xml);
    ck_assert_msg(err == 0, "define %s: %s: %s", name, g_strerror(err), text_of(w, "log"));
}

static World *web_with(const char *options, const char *devices)
{
    World *w = world_new(options);
    define_guest(w, "web", devices);
    return w;
}

static World *web(void)
{
    return web_with(NULL, NULL);
}

/* The QEMU of the machine @name. The daemon follows it at the other socket, and works at this one only when asked to. */
static Guest *join(const World *w, const char *name)
{
    return guest_join(in_dir(w, "run/%s.qmp", name));
}

static void moves(const World *w, const char *name, guint steps)
{
    g_autoptr(Guest) guest = join(w, name);
    guest_wait(guest, steps);
}

static guint32 counter(const World *w)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Guest) guest = join(w, "web");
    guint32 now = 0;
    ck_assert_msg(guest_look_counter(guest, &now, &error), "%s", error->message);
    return now;
}

static pid_t pid_of(const World *w)
{
    g_autoptr(Guest) guest = join(w, "web");
    return guest->pid;
}

static void check_state(const World *w, const char *state)
{
    ck_assert_str_eq(text_of(w, "web/state"), keepf(w, "%s\n", state));
}

static void start(const World *w)
{
    sh_ok(w, "echo start > web/ctl");
    check_state(w, "running");
    moves(w, "web", 5);
}

/* Memory and both disks of web, which is paused, are of one instant. */
static GuestMemory all_agree(const World *w)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Guest) guest = join(w, "web");
    const char *images[] = {active_path(w, "web", "vda"), active_path(w, "web", "vdb"), NULL};
    GuestMemory memory;
    ck_assert_msg(guest_all_agree(guest, images, &memory, &error), "%s", error->message);
    return memory;
}

static guint32 disks_agree(const World *w, const char *vda, const char *vdb, const char *tag)
{
    g_autoptr(GError) error = NULL;
    const char *images[] = {vda, vdb, NULL};
    guint32 at = 0;
    ck_assert_msg(guest_disks_agree(images, tag, &at, &error), "%s", error->message);
    return at;
}

static const char *snapshot_value(const World *w, const char *snapshot, const char *path)
{
    return xpath(w, text_of(w, keepf(w, "web/%s/snapshot.xml", snapshot)), path);
}

/* --- power --- */

START_TEST(start_pause_resume_destroy)
{
    g_autoptr(World) w = web();
    check_state(w, "shutoff");
    command_fails(w, "web", ESRCH, "destroy");
    command_fails(w, "web", ESRCH, "pause");
    start(w);
    command_fails(w, "web", EBUSY, "start");
    ck_has(text_of(w, "web/log"), "FAILED start");
    sh_ok(w, "echo suspend > web/ctl");
    check_state(w, "paused");
    guint32 stood = counter(w);
    all_agree(w);
    ck_assert_uint_eq(counter(w), stood);
    command(w, "web", "pause"); /* that is what was asked for */
    sh_ok(w, "echo resume > web/ctl");
    check_state(w, "running");
    moves(w, "web", 5);
    ck_assert_uint_gt(counter(w), stood);
    command(w, "web", "resume");
    pid_t pid = pid_of(w);
    sh_ok(w, "echo destroy > web/ctl");
    check_state(w, "shutoff");
    ck_assert(process_gone(pid));
    disks_agree(w, image(w, "web-vda.qcow2"), image(w, "web-vdb.qcow2"), NULL);
    start(w); /* and once more */
}
END_TEST

START_TEST(start_paused)
{
    g_autoptr(World) w = web();
    command(w, "web", "start --paused");
    check_state(w, "paused");
    {
        g_autoptr(Guest) guest = join(w, "web");
        guint32 none = 1;
        ck_assert(guest_look_counter(guest, &none, NULL) && none == 0); /* it has not begun */
    }
    command(w, "web", "resume");
    moves(w, "web", 5);
}
END_TEST

START_TEST(power_button)
{
    g_autoptr(World) w = web();
    start(w);
    command(w, "web", "shutdown");
    ck_eventually(strcmp(text_of(w, "web/state"), "shutoff\n") == 0, SECONDS);
}
END_TEST

/* What ends without us is seen at the next look. */
START_TEST(killed_machine)
{
    g_autoptr(World) w = web();
    start(w);
    run_ok(w, "mkdir", "web/s1");
    pid_t pid = pid_of(w);
    ck_works(kill(pid, SIGKILL));
    ck_eventually(process_gone(pid), SECONDS);
    ck_eventually(strcmp(text_of(w, "web/state"), "shutoff\n") == 0, SECONDS);
    ck_assert(exists(w, "web/s1"));
    command_fails(w, "web", ESRCH, "resume");
    start(w);
}
END_TEST

START_TEST(a_running_machine_is_not_undefined)
{
    g_autoptr(World) w = web();
    start(w);
    ck_errno(rmdir(at(w, "web")), EBUSY);
    command_fails(w, NULL, EBUSY, "undefine web");
    moves(w, "web", 2);
}
END_TEST

/* Somebody else has the images: nobody knows what that is, and nothing is touched. */
START_TEST(somebody_elses_machine)
{
    g_autoptr(World) w = web();
    const char *images[] = {image(w, "web-vda.qcow2"), image(w, "web-vdb.qcow2"), NULL};
    g_autoptr(Guest) guest = guest_start(&(GuestSetup){.dir = w->dir, .images = images});
    check_state(w, "unknown");
    command_fails(w, "web", EBUSY, "start");
    command_fails(w, "web", EBUSY, "destroy");
    ck_errno(mkdir(at(w, "web/s1"), 0777), EBUSY);
    guest_wait(guest, 5);
    guest_kill(guest);
    check_state(w, "shutoff");
}
END_TEST

/* --- snapshots --- */

/* mkdir takes all of one instant, and the machine goes on; the link brings it back, running. */
START_TEST(mkdir_and_back)
{
    g_autoptr(World) w = web();
    start(w);
    guint32 before = counter(w);
    run_ok(w, "mkdir", "web/s1");
    guint32 after = counter(w);
    check_state(w, "running");
    ck_assert_str_eq(link_of(w, "web/current"), "s1");
    ck_assert_str_eq(snapshot_value(w, "s1", "/domainsnapshot/state"), "running");
    ck_assert_str_eq(snapshot_value(w, "s1", "/domainsnapshot/memory/@snapshot"), "internal");
    ck_assert_str_eq(names_in(w, "web/s1"), "changes description snapshot.xml vda.raw vdb.raw");
    moves(w, "web", RING);
    command(w, "web", "revert s1 --paused");
    check_state(w, "paused");
    GuestMemory memory = all_agree(w);
    ck_assert_msg(memory.counter >= before && memory.counter <= after, "%u, taken between %u and %u",
                  memory.counter, before, after);
    ck_assert_uint_eq(memory.first, 1);
    command(w, "web", "resume");
    moves(w, "web", RING);
    run_ok(w, "ln", "-sfn", "s1", "web/current");
    check_state(w, "running");
    moves(w, "web", 5);
    command(w, "web", "pause");
    memory = all_agree(w);
    ck_assert_uint_eq(memory.first, 1); /* not booted: the life of then */
}
END_TEST

START_TEST(external_memory)
{
    g_autoptr(World) w = web();
    const char *file = in_dir(w, "web.mem");
    start(w);
    guint32 before = counter(w);
    command(w, "web",
            "create s1 --memspec %s --diskspec vda,snapshot=external --diskspec vdb,snapshot=external", file);
    guint32 after = counter(w);
    check_state(w, "running");
    ck_assert_str_eq(names_in(w, "web/s1"),
                     "changes description memory snapshot.xml vda.qcow2 vda.raw vdb.qcow2 vdb.raw");
    ck_assert_str_eq(hash_of(w, at(w, "web/s1/memory")), hash_of(w, file));
    struct stat shown = stat_of(w, "web/s1/memory"), real;
    ck_works(stat(file, &real));
    ck_assert_int_eq(shown.st_size, real.st_size);
    ck_assert_int_eq(shown.st_blocks, real.st_blocks);
    ck_assert_int_eq(shown.st_mtime, real.st_mtime);
    ck_assert_uint_eq(shown.st_mode & 0222, 0);
    ck_assert_uint_eq(real.st_mode & 0777, 0600);
    ck_assert_str_eq(run_ok(w, "head", "-c", "16", "web/s1/memory"), "LibvirtQemudSave");
    moves(w, "web", RING);
    command(w, "web", "revert s1 --paused");
    GuestMemory memory = all_agree(w);
    ck_assert(memory.counter >= before && memory.counter <= after && memory.first == 1);
    command(w, "web", "resume");
    moves(w, "web", 5);
}
END_TEST

/* The disks alone, both of one instant; back to them is a boot. */
START_TEST(disks_alone)
{
    g_autoptr(World) w = web_with("disk_only,snapshot=external", NULL);
    start(w);
    moves(w, "web", RING);
    run_ok(w, "mkdir", "web/s1");
    check_state(w, "running");
    ck_assert_str_eq(snapshot_value(w, "s1", "/domainsnapshot/state"), "disk-snapshot");
    ck_assert_str_eq(names_in(w, "web/s1"),
                     "changes description snapshot.xml vda.qcow2 vda.raw vdb.qcow2 vdb.raw");
    disks_agree(w, image(w, "web-vda.qcow2"), image(w, "web-vdb.qcow2"), NULL);
    moves(w, "web", 5);
    command(w, "web", "create s2 --memspec %s",
            in_dir(w, "mem")); /* what is asked for goes before the option */
    ck_assert(exists(w, "web/s2/memory"));
    ck_errno(rename(at(w, "web/s1"), at(w, "web/s2")), EEXIST);
    command_fails(w, "web", EPERM, "revert s1"); /* it would end stopped */
    moves(w, "web", 2);
    command(w, "web", "revert s1 --force");
    check_state(w, "shutoff");
}
END_TEST

START_TEST(delete_while_it_runs)
{
    g_autoptr(World) w = web();
    start(w);
    run_ok(w, "mkdir", "web/s1");
    command(w, "web",
            "create s2 --diskspec vda,snapshot=external --diskspec vdb,snapshot=external --disk-only");
    moves(w, "web", 5);
    run_ok(w, "mkdir", "web/s3");
    run_ok(w, "rmdir", "web/s2");
    run_ok(w, "rmdir", "web/s1");
    command(w, "web", "wait");
    ck_assert_str_eq(link_of(w, "web/current"), "s3");
    ck_assert_str_eq(text_of(w, "jobs"), "");
    moves(w, "web", 5);
    command(w, "web", "revert s3 --paused");
    GuestMemory memory = all_agree(w);
    ck_assert_uint_eq(memory.first, 1);
    run_ok(w, "rmdir", "web/s3");
    command(w, "web", "destroy");
    command(w, "web", "wait");
    run_ok(w, "qemu-img", "check", "-q", "-f", "qcow2", active_path(w, "web", "vda"));
    run_ok(w, "qemu-img", "check", "-q", "-f", "qcow2", active_path(w, "web", "vdb"));
}
END_TEST

START_TEST(a_picture)
{
    g_autoptr(World) w = web_with(NULL, "    <video>\n      <model type='vga'/>\n    </video>\n");
    start(w);
    run_ok(w, "mkdir", "web/s1");
    ck_assert_str_eq(names_in(w, "web/s1"),
                     "changes description screenshot.png snapshot.xml vda.raw vdb.raw");
    g_autofree char *text = NULL;
    gsize len = 0;
    ck_assert(g_file_get_contents(at(w, "web/s1/screenshot.png"), &text, &len, NULL));
    ck_assert(len > 100 && memcmp(text, "\x89PNG\r\n\x1a\n", 8) == 0);
    ck_assert_int_eq(stat_of(w, "web/s1/screenshot.png").st_size, (off_t)len);
    run_ok(w, "rmdir", "web/s1");
}
END_TEST

START_TEST(halted)
{
    g_autoptr(World) w = web();
    start(w);
    command(w, "web", "create s1 --halt");
    check_state(w, "shutoff");
    command(w, "web", "revert s1 --paused");
    check_state(w, "paused");
    ck_assert_uint_eq(all_agree(w).first, 1);
}
END_TEST

START_TEST(two_at_once)
{
    g_autoptr(World) w = web();
    define_guest(w, "db", NULL);
    sh_ok(w, "for d in web db; do echo start > $d/ctl; done");
    moves(w, "web", 5);
    moves(w, "db", 5);
    sh_ok(w, "mkdir web/s1 & p=$!; mkdir db/s1 && wait $p");
    ck_assert(exists(w, "web/s1") && exists(w, "db/s1"));
    sh_ok(w, "ln -sfn s1 web/current & p=$!; ln -sfn s1 db/current && wait $p");
    moves(w, "web", 5);
    moves(w, "db", 5);
}
END_TEST

/* --- saved memory --- */

START_TEST(save_and_restore)
{
    g_autoptr(World) w = web();
    const char *file = in_dir(w, "web.save");
    start(w);
    command_fails(w, "web", EINVAL, "save web.save");
    command_fails(w, "web", EINVAL, "save %s", at(w, "web/web.save"));
    ck_assert(g_file_set_contents(file, "precious", -1, NULL));
    command_fails(w, "web", EEXIST, "save %s", file);
    moves(w, "web", 2);
    ck_works(unlink(file));
    guint32 before = counter(w);
    command(w, "web", "save %s", file);
    check_state(w, "shutoff");
    struct stat st;
    ck_works(stat(file, &st));
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    command_fails(w, "web", EINVAL, "restore web.save");
    command_fails(w, "web", ENOENT, "restore %s.not", file);
    command(w, "web", "restore %s", file);
    check_state(w, "running");
    moves(w, "web", 5);
    ck_assert_uint_gt(counter(w), before);
    command_fails(w, "web", EBUSY, "restore %s", file);
    command(w, "web", "pause");
    ck_assert_uint_eq(all_agree(w).first, 1);
    /* It is not ours to remove; but it does not fit any more to disks that the machine has written since. */
    ck_works(access(file, F_OK));
    command(w, "web", "destroy");
    command_fails(w, "web", EPERM, "restore %s", file);
    check_state(w, "shutoff");
}
END_TEST

START_TEST(managed_save)
{
    g_autoptr(World) w = web();
    command_fails(w, "web", ENOENT, "managedsave-remove");
    command_fails(w, "web", ESRCH, "managedsave");
    start(w);
    guint32 before = counter(w);
    command(w, "web", "managedsave");
    check_state(w, "saved");
    ck_errno(rmdir(at(w, "web")), EPERM);
    world_stop(w);
    world_start(w, NULL);
    check_state(w, "saved");
    start(w); /* goes on */
    ck_assert_uint_gt(counter(w), before);
    command(w, "web", "pause");
    ck_assert_uint_eq(all_agree(w).first, 1);
    command(w, "web", "managedsave");
    command(w, "web", "managedsave-remove");
    check_state(w, "shutoff");
    start(w); /* boots: a life that began later */
    command(w, "web", "pause");
    ck_assert_uint_gt(all_agree(w).first, 1);
    command(w, "web", "managedsave");
    command_fails(w, NULL, EPERM, "undefine web");
    command(w, NULL, "undefine web --managed-save");
    ck_assert(!exists(w, "web"));
}
END_TEST

/* --- raw views --- */

/* What the image @path, which QEMU may have open, holds in its internal snapshot @tag, or (NULL) itself. */
static const char *truth(const World *w, const char *path, const char *tag)
{
    const char *raw = in_dir(w, "truth.%s", tag != NULL ? tag : "now");
    if (tag != NULL)
        run_ok(w, "qemu-img", "convert", "-U", "-f", "qcow2", "-l", keepf(w, "snapshot.name=%s", tag), "-O",
               "raw", path, raw);
    else
        run_ok(w, "qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", path, raw);
    return raw;
}

/* @fd, from @at on, must hold what @raw does. */
static void same_from(int fd, off_t at, const char *raw)
{
    g_autofree char *want = NULL, *got = g_malloc(MIB * 1024 * 1024);
    gsize size = 0;
    ck_assert(g_file_get_contents(raw, &want, &size, NULL));
    for (gssize n; at < (off_t)size; at += n) {
        n = pread(fd, got, size - (gsize)at, at);
        ck_assert_msg(n > 0, "at %ld: %s", (long)at, g_strerror(errno));
        ck_assert_msg(memcmp(got, want + at, (gsize)n) == 0, "other bytes at %ld or behind", (long)at);
    }
}

static int view_open(const World *w, const char *name)
{
    int fd = open(at(w, "%s", name), O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "%s: %s: %s", name, g_strerror(errno), text_of(w, "web/log"));
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* nothing is read ahead */
    return fd;
}

static void same_view(const World *w, const char *name, const char *raw)
{
    int fd = view_open(w, name);
    same_from(fd, 0, raw);
    close(fd);
}

START_TEST(raw_views_of_what_was)
{
    g_autoptr(World) w = web_with("merge_idle=50", NULL);
    const char *first = image(w, "web-vda.qcow2");
    start(w);
    moves(w, "web", RING);
    run_ok(w, "mkdir", "web/s1");
    moves(w, "web", RING);
    const char *s1 = truth(w, first, "s1");
    int fds[] = {view_open(w, "web/s1/vda.raw"), -1};
    same_from(fds[0], 4 * 1024 * 1024, s1);
    /* all that can be done to the machine can be done while it is read */
    command(w, "web",
            "create s2 --disk-only --diskspec vda,snapshot=external --diskspec vdb,snapshot=external");
    const char *s2 = truth(w, first, NULL);
    const char *frozen = hash_of(w, s2);
    fds[1] = view_open(w, "web/s2/vda.raw");
    same_from(fds[1], 4 * 1024 * 1024, s2);
    moves(w, "web", RING);
    command(w, "web",
            "create s3 --disk-only --diskspec vda,snapshot=external --diskspec vdb,snapshot=external");
    sh_ok(w, "rmdir web/s2 web/s1");
    command(w, "web", "wait");
    moves(w, "web", RING);
    /* neither does a tag go that is read, nor is anything written into a layer that is */
    ck_assert_str_eq(tags_of(w, first), "s1");
    ck_assert_str_eq(hash_of(w, truth(w, first, NULL)), frozen);
    command(w, "web", "destroy");
    start(w);
    for (guint i = 0; i < 2; i++) {
        same_from(fds[i], 0, i == 0 ? s1 : s2);
        ck_works(close(fds[i]));
    }
    ck_eventually(strstr(text_of(w, "web/log"), "merge: 'web-vda.s2' into 'web-vda.qcow2'") != NULL, SECONDS);
    moves(w, "web", 5);
    same_view(w, "web/s3/vda.raw", truth(w, at(w, "web/s3/vda.qcow2"), NULL));
    command(w, "web", "destroy");
    ck_eventually(strcmp(tags_of(w, first), "") == 0, SECONDS);
    start(w);
}
END_TEST

START_TEST(the_raw_view_of_what_is)
{
    g_autoptr(World) w = web();
    char byte;
    const char *path = image(w, "web-vda.qcow2");
    int fd = view_open(w, "web/active/vda.raw");
    same_from(fd, 0, truth(w, path, NULL));
    start(w);
    ck_assert_str_eq(names_in(w, "web/active"), "vda.qcow2 vdb.qcow2");
    ck_errno(access(at(w, "web/active/vda.raw"), F_OK), ENOENT);
    ck_errno(pread(fd, &byte, 1, 0), EIO);
    moves(w, "web", RING);
    command(w, "web", "destroy");
    ck_errno(pread(fd, &byte, 1, 0), EIO); /* for good */
    close(fd);
    ck_assert_str_eq(names_in(w, "web/active"), "vda.qcow2 vda.raw vdb.qcow2 vdb.raw");
    same_view(w, "web/active/vda.raw", truth(w, path, NULL));
}
END_TEST

/* --- the daemon comes and goes --- */

START_TEST(the_daemon_restarts)
{
    g_autoptr(World) w = web();
    start(w);
    pid_t pid = pid_of(w);
    run_ok(w, "mkdir", "web/s1");
    for (guint way = 0; way < 3; way++) {
        if (way == 0)
            world_stop(w);
        else if (way == 1)
            world_signal(w, SIGTERM);
        else
            world_kill(w);
        moves(w, "web", 5);
        world_start(w, NULL);
        check_state(w, "running");
        ck_assert_int_eq(pid_of(w), pid);
        run_ok(w, "mkdir", keepf(w, "web/again%u", way));
    }
    run_ok(w, "ln", "-sfn", "s1", "web/current");
    moves(w, "web", 5);
    command(w, "web", "destroy");
    check_state(w, "shutoff");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("running");
    TCase *power = add_case(s, "power");
    tcase_add_test(power, start_pause_resume_destroy);
    tcase_add_test(power, start_paused);
    tcase_add_test(power, power_button);
    tcase_add_test(power, killed_machine);
    tcase_add_test(power, a_running_machine_is_not_undefined);
    tcase_add_test(power, somebody_elses_machine);
    TCase *snapshots = add_case(s, "snapshots");
    tcase_add_test(snapshots, mkdir_and_back);
    tcase_add_test(snapshots, external_memory);
    tcase_add_test(snapshots, disks_alone);
    tcase_add_test(snapshots, delete_while_it_runs);
    tcase_add_test(snapshots, a_picture);
    tcase_add_test(snapshots, halted);
    tcase_add_test(snapshots, two_at_once);
    TCase *saved = add_case(s, "saved memory");
    tcase_add_test(saved, save_and_restore);
    tcase_add_test(saved, managed_save);
    TCase *raw = add_case(s, "raw views");
    tcase_add_test(raw, raw_views_of_what_was);
    tcase_add_test(raw, the_raw_view_of_what_is);
    TCase *daemon = add_case(s, "the daemon comes and goes");
    tcase_add_test(daemon, the_daemon_restarts);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
