/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The program: its options and exit codes, how it starts, ends, dies and comes back, and that long work blocks nobody. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model.h"

START_TEST(help_and_version)
{
    g_autoptr(World) w = world_new_idle();
    const char *help = run_ok(w, w->program, "--help");
    ck_has(help, "MOUNTPOINT");
    ck_has(help, "snapshot=");
    ck_has(help, "disk_only");
    ck_has(help, "qmp=DIR");
    ck_has(help, "--print-rules");
    ck_has(run_ok(w, w->program, "-h"), "MOUNTPOINT");
    ck_has(run_ok(w, w->program, "--version"), "domsnapfs");
    ck_has(run_ok(w, w->program, "-V"), "domsnapfs");
}
END_TEST

START_TEST(usage_errors)
{
    static const char *const args[][5] = {
        {NULL},
        {"--nonsense", NULL},
        {"a", "b", "c", NULL},
        {"-o", NULL},
        {"-o", "nonsense=1", "store", "mnt", NULL},
        {"-o", "snapshot=sometimes", "store", "mnt", NULL},
        {"-o", "uid=me", "store", "mnt", NULL},
        {"-o", "umask=9", "store", "mnt", NULL},
        {"-o", "merge_idle=0", "store", "mnt", NULL},
        {"-o", "disk_only=yes", "store", "mnt", NULL},
        {"-o", "qmp", "store", "mnt", NULL},
        {"-o", "qmp=", "store", "mnt", NULL},
        {"-o", "merge_idle=soon", "store", "mnt", NULL},
    };
    g_autoptr(World) w = world_new_idle();
    int usage = 0;
    for (guint i = 0; i < G_N_ELEMENTS(args); i++) {
        const char *argv[8] = {w->program};
        for (guint a = 0; a < 5 && args[i][a] != NULL; a++)
            argv[a + 1] = args[i][a];
        Ran result = ran_argv(w, argv);
        ck_assert_msg(result.rc != 0, "arguments %u are taken", i);
        ck_assert_msg(*result.err != '\0', "arguments %u: nothing said", i);
        ck_assert_msg(usage == 0 || result.rc == usage, "arguments %u: exit %d, the others %d", i, result.rc,
                      usage);
        usage = result.rc;
    }
    ck_assert(!g_file_test(w->store, G_FILE_TEST_EXISTS));
}
END_TEST

START_TEST(rules_are_printed)
{
    g_autoptr(World) w = world_new_idle();
    const char *rules = run_ok(w, w->program, "--print-rules");
    g_auto(GStrv) lines = g_strsplit(rules, "\n", -1);
    guint offline = 0, online = 0;
    for (guint i = 0; lines[i] != NULL; i++) {
        offline += g_str_has_prefix(lines[i], "offline  ");
        online += g_str_has_prefix(lines[i], "online  ");
    }
    ck_assert_uint_eq(offline, 6);
    ck_assert_uint_eq(online, 19);
}
END_TEST

START_TEST(store_is_private)
{
    struct stat st;
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    ck_works(stat(w->store, &st));
    ck_assert_int_eq(st.st_mode & 07777, 0700);
}
END_TEST

START_TEST(impossible_places)
{
    const char *log;
    g_autoptr(World) w = world_new_idle();
    ck_works(rmdir(w->mnt));
    ck_assert_int_ne(world_start_fails(w, NULL, &log), 0);
    ck_has(log, "mnt");
    ck_assert(g_file_set_contents(w->mnt, "a file", -1, NULL));
    ck_assert_int_ne(world_start_fails(w, NULL, &log), 0);
    ck_works(unlink(w->mnt));
    ck_works(mkdir(w->mnt, 0755));
    g_rmdir(w->store);
    ck_assert(g_file_set_contents(w->store, "a file", -1, NULL));
    ck_assert_int_ne(world_start_fails(w, NULL, &log), 0);
    ck_has(log, "store");
    ck_works(unlink(w->store));
    world_start(w, NULL);
}
END_TEST

/* The daemon never looks for sockets in what it shows itself; and the words of a config file are those of -o. */
START_TEST(sockets_outside_the_mount)
{
    const char *log;
    g_autoptr(World) w = world_new_idle();
    const char *config = in_dir(w, "config");
    ck_works(symlink("mnt", in_dir(w, "link")));
    static const char *const inside[] = {"qmp=mnt", "qmp=mnt/run", "qmp=link/run", "qmp=images/../mnt"};
    for (guint i = 0; i < G_N_ELEMENTS(inside); i++) {
        ck_assert_int_eq(world_start_fails(w, inside[i], &log), 1);
        ck_has(log, "lies in the mount point");
    }
    ck_assert(g_file_set_contents(config, "disk_only = maybe\n", -1, NULL));
    ck_assert_int_eq(world_start_fails(w, "config=config", &log), 1);
    ck_has(log, "line 1: option disk_only takes no value");
    ck_assert(g_file_set_contents(config, "disk_only\n# a comment\nqmp =\n", -1, NULL));
    ck_assert_int_eq(world_start_fails(w, "config=config", &log), 1);
    ck_has(log, "line 3: qmp=");
    ck_assert(!g_file_test(w->store, G_FILE_TEST_EXISTS));
    ck_assert(g_file_set_contents(config, "disk_only\nqmp = sockets\n", -1, NULL));
    world_start(w, "config=config");
}
END_TEST

START_TEST(one_daemon_per_store)
{
    g_autoptr(World) w = world_new(NULL);
    const char *other = in_dir(w, "mnt2");
    ck_works(mkdir(other, 0755));
    Ran second = ran(w, w->program, w->store, other, "-f", NULL);
    ck_assert_int_ne(second.rc, 0);
    ck_has(second.err, "store");
    machine(w, "web", "vda:qcow2");
    world_stop(w);
    world_start(w, NULL);
    ck_assert(exists(w, "web"));
}
END_TEST

START_TEST(signals_unmount)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    world_signal(w, signals[_i]);
    world_start(w, NULL);
    ck_assert(exists(w, "web"));
}
END_TEST

START_TEST(killed_and_started_again)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    model_touch(m);
    model_mkdir(m, "one");
    ck_works(kill(w->daemon, SIGKILL));
    background_wait(w->daemon);
    w->daemon = 0;
    /* the mount point is dead now: the next one frees it, and says so */
    ck_errno(open(at(w, "web/state"), O_RDONLY | O_CLOEXEC), ENOTCONN);
    world_start(w, NULL);
    g_autofree char *log = NULL;
    ck_assert(g_file_get_contents(in_dir(w, "daemon.log"), &log, NULL, NULL));
    ck_has(log, "freed");
    model_verify(m);
    model_touch(m);
    model_mkdir(m, "two");
    model_verify(m);
}
END_TEST

/* kill -9 in the middle of whatever it does: the state before or after, never between. */
START_TEST(killed_while_working)
{
    enum { ROUNDS = 12 };
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(GRand) rand = g_rand_new_with_seed(4711);
    machine(w, "web", "vda:qcow2:internal vdb:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    model_touch(m);
    model_mkdir(m, "base");
    for (guint i = 0; i < ROUNDS; i++) {
        const char *name = keepf(w, "n%u", i), *path = at(w, "web/%s", name);
        model_touch(m);
        const char *argv[] = {"mkdir", path, NULL};
        pid_t pid = background(w, argv, NULL);
        g_usleep((gulong)g_rand_int_range(rand, 0, 150000));
        world_kill(w);
        gboolean said = background_wait(pid) == 0;
        world_start(w, NULL);
        gboolean there = exists(w, keepf(w, "web/%s", name));
        ck_assert_msg(there || !said, "mkdir said it worked, but '%s' is not there", name);
        if (there)
            model_took(m, name);
        model_verify(m);
    }
    model_check_images(m);
}
END_TEST

START_TEST(killed_while_deleting_and_reverting)
{
    enum { ROUNDS = 10 };
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(GRand) rand = g_rand_new_with_seed(815);
    machine(w, "web", "vda:qcow2:internal vdb:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    model_mkdir(m, "base");
    for (guint i = 0; i < ROUNDS; i++) {
        const char *name = keepf(w, "n%u", i), *dir = at(w, "web/%s", name);
        model_touch(m);
        model_mkdir(m, name);
        model_touch(m);
        gboolean reverting = i % 2 == 0;
        const char *revert[] = {"ln", "-sfn", "base", at(w, "web/current"), NULL},
                   *delete[] = {"rmdir", dir, NULL};
        pid_t pid = background(w, reverting ? revert : delete, NULL);
        g_usleep((gulong)g_rand_int_range(rand, 0, 120000));
        world_kill(w);
        gboolean said = background_wait(pid) == 0;
        world_start(w, NULL);
        gboolean gone = !exists(w, keepf(w, "web/%s", name));
        gboolean back = strcmp(link_of(w, "web/current"), "base") == 0;
        if (reverting) {
            ck_assert(back || !said);
            if (back)
                model_reverted(m, "base");
        } else {
            ck_assert(gone || !said);
            if (gone)
                model_deleted(m, name);
        }
        model_verify(m);
    }
    model_check_images(m);
}
END_TEST

START_TEST(read_only_mount)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    model_touch(m);
    model_mkdir(m, "one");
    world_stop(w);
    const char *before = fingerprint(w, w->images);
    world_start(w, "ro");
    ck_errno(mkdir(at(w, "web/two"), 0777), EROFS);
    ck_errno(rmdir(at(w, "web/one")), EROFS);
    ck_errno(rename(at(w, "web/one"), at(w, "web/two")), EROFS);
    ck_errno(symlink("one", at(w, "web/x")), EROFS);
    ck_assert_int_eq(put(w, "web/ctl", "create two\n"), EROFS);
    ck_assert_int_eq(put(w, "ctl", machine_xml(w, "db", NULL, "")), EROFS);
    model_verify(m);
    ck_assert_str_eq(fingerprint(w, w->images), before);
}
END_TEST

START_TEST(owner_and_modes)
{
    g_autoptr(World) w = world_new("uid=12,gid=34,umask=027");
    machine(w, "web", "vda:qcow2:external");
    run_ok(w, "mkdir", "web/one");
    static const char *const names[] = {
        ".",           "ctl",       "jobs", "web", "web/one", "web/domain.xml", "web/one/vda.qcow2",
        "web/current", "web/active"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        struct stat st = stat_of(w, names[i]);
        ck_assert_msg(st.st_uid == 12 && st.st_gid == 34, "%s: %u:%u", names[i], st.st_uid, st.st_gid);
        ck_assert_msg(S_ISLNK(st.st_mode) || (st.st_mode & 027) == 0, "%s: %o", names[i], st.st_mode);
    }
    ck_assert_int_eq(stat_of(w, "web").st_mode & 07777, 0750);
    ck_assert_int_eq(stat_of(w, "web/ctl").st_mode & 0222, 0200);
    ck_assert_int_eq(stat_of(w, "web/tree").st_mode & 0777, 0440);
}
END_TEST

START_TEST(listed_in_proc_mounts)
{
    g_autoptr(World) w = world_new("noatime,nodev,nosuid");
    g_autofree char *mounts = NULL;
    ck_assert(g_file_get_contents("/proc/self/mounts", &mounts, NULL, NULL));
    ck_has(mounts, keepf(w, "%s fuse.domsnapfs ", w->mnt));
    ck_has(mounts, "default_permissions");
    ck_has(run_ok(w, "df", "--output=fstype", "."), "fuse.domsnapfs");
}
END_TEST

/* Without -f it returns when the mount is there, and goes on by itself. */
START_TEST(goes_to_the_background)
{
    g_autoptr(World) w = world_new_idle();
    run_ok(w, w->program, w->store, w->mnt);
    ck_assert(world_is_mounted(w));
    machine(w, "web", "vda:qcow2");
    run_ok(w, "mkdir", "web/one");
    ck_eventually(umount2(w->mnt, 0) == 0, 10);
    /* the store is free again when it has ended */
    ck_eventually(ran(w, w->program, w->store, w->mnt, NULL).rc == 0, 10);
    ck_assert(exists(w, "web/one"));
    ck_eventually(umount2(w->mnt, 0) == 0, 10);
    const char *wait = keepf(w, "exec flock -w 20 %s true", w->store);
    ran_sh(w, wait);
}
END_TEST

/* mount(8) runs it by its name from a path of its own: in a mount namespace of the test, /usr/local/sbin has it. */
START_TEST(mounted_by_mount)
{
    g_autoptr(World) w = world_new_idle();
    make_image(w, "web-vda.qcow2", "qcow2");
    ck_works(mkdir(in_dir(w, "bin"), 0755));
    ck_works(symlink(w->program, in_dir(w, "bin/domsnapfs")));
    ck_assert(g_file_set_contents(in_dir(w, "web.xml"), machine_xml(w, "web", NULL, "vda:qcow2"), -1, NULL));
    const char *script =
        "set -e; mount --bind bin /usr/local/sbin;"
        "mount -t fuse.domsnapfs \"$PWD/store\" mnt -o umask=077,noatime,nofail;"
        "stat -c %a mnt; cp web.xml mnt/ctl; mkdir mnt/web/one; umount mnt;"
        "until mount -t fuse.domsnapfs \"$PWD/store\" mnt -o ro 2>/dev/null; do sleep 0.1; done;"
        "! mkdir mnt/web/two; ls mnt/web; umount mnt";
    const char *out = run_ok(w, "unshare", "-m", "--propagation", "private", "sh", "-c", script);
    ck_assert_str_eq(out, "700\nactive\nctl\ncurrent\ndomain.xml\nlog\none\nstate\ntree\nusage\n");
}
END_TEST

/* --- long work: making a tag is held up before it begins, as a slow disk would --- */

static void slow_down(const World *w)
{
    const char *bin = in_dir(w, "bin");
    ck_works(mkdir(bin, 0755));
    const char *script = keepf(w,
                               "#!/bin/sh\nwhile [ \"$1\" = snapshot ] && [ -e '%s' ]; do sleep 0.02; done\n"
                               "PATH=${PATH#*:}\nexec qemu-img \"$@\"\n",
                               in_dir(w, "hold"));
    const char *wrapper = keepf(w, "%s/qemu-img", bin);
    ck_assert(g_file_set_contents(wrapper, script, -1, NULL));
    ck_works(chmod(wrapper, 0755));
    g_setenv("PATH", keepf(w, "%s:%s", bin, g_getenv("PATH")), TRUE);
}

static void hold_up(const World *w)
{
    ck_assert(g_file_set_contents(in_dir(w, "hold"), "", -1, NULL));
}

static void let_go(const World *w)
{
    ck_works(unlink(in_dir(w, "hold")));
}

static World *slow_world(void)
{
    World *w = world_new_idle();
    slow_down(w);
    world_start(w, NULL);
    machine(w, "web", "vda:qcow2");
    machine(w, "db", "vda:qcow2");
    /* The kernel holds a directory's lock during mkdir in it: a name that it does not know yet would wait. */
    text_of(w, "web/domain.xml");
    text_of(w, "web/log");
    return w;
}

START_TEST(others_go_on_while_one_works)
{
    g_autoptr(World) w = slow_world();
    hold_up(w);
    const char *argv[] = {"mkdir", at(w, "web/one"), NULL};
    pid_t pid = background(w, argv, NULL);
    ck_eventually(*text_of(w, "jobs") != '\0', 10);
    ck_has(text_of(w, "jobs"), "web");
    ck_has(text_of(w, "jobs"), "one");
    gint64 start = g_get_monotonic_time();
    names_in(w, "db");
    names_in(w, ".");
    text_of(w, "db/domain.xml");
    text_of(w, "web/domain.xml");
    text_of(w, "web/log");
    run_ok(w, "df", ".");
    ck_assert_int_lt(g_get_monotonic_time() - start, 3 * G_USEC_PER_SEC);
    ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
    let_go(w);
    ck_assert_int_eq(background_wait(pid), 0);
    ck_assert(exists(w, "web/one"));
    ck_assert_str_eq(text_of(w, "jobs"), "");
}
END_TEST

START_TEST(one_change_at_a_time)
{
    g_autoptr(World) w = slow_world();
    run_ok(w, "mkdir", "web/zero");
    hold_up(w);
    const char *argv[] = {"sh", "-c", keepf(w, "echo create one > '%s'", at(w, "web/ctl")), NULL};
    pid_t pid = background(w, argv, NULL);
    ck_eventually(*text_of(w, "jobs") != '\0', 10);
    command_fails(w, "web", EBUSY, "create two");
    command_fails(w, "web", EBUSY, "revert zero");
    command_fails(w, "web", EBUSY, "delete zero");
    ck_assert_int_eq(put(w, "web/zero/description", "x"), EBUSY);
    ck_errno(rmdir(at(w, "web/zero")), EBUSY);
    /* commands do not hold the directory */
    names_in(w, "web");
    let_go(w);
    command(w, "web", "wait");
    ck_assert_int_eq(background_wait(pid), 0);
    ck_assert(exists(w, "web/one"));
    ck_assert(!exists(w, "web/two"));
}
END_TEST

START_TEST(many_domains_work_at_once)
{
    enum { N = 14 };
    g_autoptr(World) w = slow_world();
    pid_t pids[N];
    for (guint i = 0; i < N; i++)
        machine(w, keepf(w, "vm%u", i), "vda:qcow2");
    hold_up(w);
    for (guint i = 0; i < N; i++) {
        const char *argv[] = {"mkdir", at(w, "vm%u/one", i), NULL};
        pids[i] = background(w, argv, NULL);
    }
    /* more than libfuse has workers: still nobody waits */
    for (guint i = 0; i < N; i++)
        ck_eventually(strstr(text_of(w, "jobs"), keepf(w, "vm%u", i)) != NULL, 20);
    gint64 start = g_get_monotonic_time();
    run_ok(w, "ls", "-l", "db", "web");
    ck_assert_int_lt(g_get_monotonic_time() - start, 3 * G_USEC_PER_SEC);
    let_go(w);
    for (guint i = 0; i < N; i++)
        ck_assert_int_eq(background_wait(pids[i]), 0);
    for (guint i = 0; i < N; i++)
        ck_assert(exists(w, keepf(w, "vm%u/one", i)));
}
END_TEST

/* Ctrl-C, or cancel: nothing is left, or it was too late and the snapshot is there. */
START_TEST(interrupted)
{
    g_autoptr(World) w = slow_world();
    hold_up(w);
    const char *argv[] = {"mkdir", at(w, "web/one"), NULL};
    pid_t pid = background(w, argv, NULL);
    ck_eventually(*text_of(w, "jobs") != '\0', 10);
    if (_i == 0) {
        ck_works(kill(pid, SIGINT));
    } else {
        g_auto(GStrv) words = g_strsplit_set(text_of(w, "jobs"), " \t", 2);
        command(w, NULL, "cancel %s", words[0]);
    }
    ck_assert_int_ne(background_wait(pid), 0);
    ck_eventually(*text_of(w, "jobs") == '\0', 20);
    let_go(w);
    ck_assert(!exists(w, "web/one"));
    ck_assert_str_eq(tags_of(w, image(w, "web-vda.qcow2")), "");
    run_ok(w, "mkdir", "web/one");
}
END_TEST

START_TEST(ends_after_its_work)
{
    g_autoptr(World) w = slow_world();
    hold_up(w);
    const char *argv[] = {"mkdir", at(w, "web/one"), NULL};
    pid_t pid = background(w, argv, NULL);
    ck_eventually(*text_of(w, "jobs") != '\0', 10);
    ck_works(kill(w->daemon, SIGTERM));
    g_usleep(100000);
    let_go(w);
    gboolean said = background_wait(pid) == 0;
    ck_assert_int_eq(background_wait(w->daemon), 0);
    w->daemon = 0;
    world_check_clean(w);
    world_start(w, NULL);
    ck_assert(exists(w, "web/one") || !said);
    ck_assert_str_eq(tags_of(w, image(w, "web-vda.qcow2")), exists(w, "web/one") ? "one" : "");
}
END_TEST

START_TEST(damaged_store_file)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    machine(w, "db", "vda:qcow2");
    run_ok(w, "mkdir", "web/one");
    run_ok(w, "mkdir", "db/one");
    world_stop(w);
    /* every file of the store that is about web loses its second half */
    sh_ok(w, keepf(w,
                   "cd %s; for f in $(grep -rl web . ); do s=$(stat -c %%s \"$f\"); truncate -s $((s / 2)) "
                   "\"$f\"; done",
                   w->store));
    world_start(w, NULL);
    ck_assert_str_eq(link_of(w, "db/current"), "one");
    run_ok(w, "mkdir", "db/two");
    if (exists(w, "web"))
        ck_assert_int_eq(mkdir(at(w, "web/two"), 0777), -1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("daemon");
    TCase *program = add_case(s, "program");
    tcase_add_test(program, help_and_version);
    tcase_add_test(program, usage_errors);
    tcase_add_test(program, rules_are_printed);
    tcase_add_test(program, store_is_private);
    tcase_add_test(program, impossible_places);
    tcase_add_test(program, one_daemon_per_store);
    TCase *life = add_case(s, "life and death");
    tcase_add_loop_test(life, signals_unmount, 0, 3);
    tcase_add_test(life, goes_to_the_background);
    tcase_add_test(life, killed_and_started_again);
    tcase_add_test(life, killed_while_working);
    tcase_add_test(life, killed_while_deleting_and_reverting);
    tcase_add_test(life, ends_after_its_work);
    tcase_add_test(life, damaged_store_file);
    TCase *options = add_case(s, "options");
    tcase_add_test(options, sockets_outside_the_mount);
    tcase_add_test(options, read_only_mount);
    tcase_add_test(options, owner_and_modes);
    tcase_add_test(options, listed_in_proc_mounts);
    if (geteuid() == 0)
        tcase_add_test(options, mounted_by_mount);
    TCase *work = add_case(s, "long work");
    tcase_add_test(work, others_go_on_while_one_works);
    tcase_add_test(work, one_change_at_a_time);
    tcase_add_test(work, many_domains_work_at_once);
    tcase_add_loop_test(work, interrupted, 0, 2);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
