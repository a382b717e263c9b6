/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Defects that a review of the whole found, and that are mended. */
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"

/* --- what follows a refusal in the same open --- */

typedef struct {
    const char *script; /* its last write must fail */
    const char *reason; /* in the log */
} Refused;

static const Refused refused[] = {
    {"(echo '<!DOCTYPE x><domainsnapshot><description>'; echo 'delete victim';"
     " echo '</description></domainsnapshot>') > web/ctl",
     "DOCTYPE"},
    {"(echo '<domainsnapshot><description></oops>'; echo 'delete victim';"
     " echo '</description></domainsnapshot>') > web/ctl",
     "FAILED"},
    {"(echo 'create --bogus -'; echo '<domainsnapshot>'; echo '<description>x</description>';"
     " echo '</domainsnapshot>') > web/ctl",
     "bogus"},
    {"printf 'create a1 --bogus\\ndelete victim\\n' > web/ctl", "bogus"},
    {"(echo 'create a1 --bogus'; echo 'create a2'; printf 'delete victim') > web/ctl", "bogus"},
    {"(echo '<domainsnapshot><description>'; head -c 1200000 /dev/zero | tr '\\0' x; echo;"
     " echo 'delete victim'; echo '</description></domainsnapshot>') > web/ctl",
     "FAILED"},
};

START_TEST(nothing_follows_a_refusal)
{
    const Refused *r = &refused[_i / 2];
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    run_ok(w, "mkdir", "web/victim");
    const char *names = names_in(w, "web");
    const char *images = fingerprint(w, w->images);
    run_fails(w, _i % 2 == 0 ? "bash" : "dash", "-c", r->script);
    ck_assert_str_eq(names_in(w, "web"), names);
    ck_assert_str_eq(link_of(w, "web/current"), "victim");
    ck_assert_str_eq(fingerprint(w, w->images), images);
    ck_has(text_of(w, "web/log"), r->reason);
    ck_has_not(text_of(w, "web/log"), "delete 'victim'");
    /* another open starts afresh */
    command(w, "web", "delete victim");
    ck_assert(!exists(w, "web/victim"));
}
END_TEST

/* --- images called as the mount calls a layer --- */

/* Hash of what an image holds, read with its backing files. @path: absolute, or below the mount. */
static const char *holds(const World *w, const char *path)
{
    const char *raw = in_dir(w, "holds.raw");
    run_ok(w, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw);
    return hash_of(w, raw);
}

static guint chain_length(const World *w, const char *path)
{
    const char *text = run_ok(w, "qemu-img", "info", "-U", "--backing-chain", "-f", "qcow2", path);
    guint n = 0;
    for (const char *p = text; (p = strstr(p, "image: ")) != NULL; p++)
        n += p == text || p[-1] == '\n' ? 1 : 0;
    return n;
}

/* Define "web" with one disk vda whose image has the name @file, already made. */
static void define_named(const World *w, const char *file)
{
    g_auto(GStrv) parts = g_strsplit(machine_xml(w, "web", NULL, "vda:qcow2"), "web-vda.qcow2", 2);
    g_autofree char *xml = g_strjoinv(file, parts);
    make_image(w, file, "qcow2");
    ck_assert_int_eq(put(w, "ctl", xml), 0);
}

/* The guest writes @byte, then @command; what the disk held when it was taken. */
static const char *write_and_take(const World *w, const char *disk, guint8 byte, const char *order)
{
    const char *path = active_path(w, "web", disk);
    image_write(w, path, "qcow2", byte, byte * 4096U, 8192);
    const char *held = holds(w, path);
    command(w, "web", "%s", order);
    return held;
}

START_TEST(an_image_named_as_its_disk)
{
    g_autoptr(World) w = world_new(NULL);
    define_named(w, "vda.qcow2");
    const char *one = write_and_take(w, "vda", 1, "create s1 --diskspec vda,snapshot=external");
    const char *two = write_and_take(w, "vda", 2, "create s2 --diskspec vda,snapshot=external");
    image_write(w, active_path(w, "web", "vda"), "qcow2", 3, 0, 4096);
    const char *now = holds(w, active_path(w, "web", "vda"));
    ck_assert_str_ne(one, two);
    ck_assert_str_ne(two, now);
    ck_assert_str_eq(holds(w, at(w, "web/s1/vda.qcow2")), one);
    ck_assert_str_eq(holds(w, at(w, "web/s2/vda.qcow2")), two);
    ck_assert_str_eq(holds(w, at(w, "web/active/vda.qcow2")), now);
    ck_assert_uint_eq(chain_length(w, at(w, "web/s1/vda.qcow2")), 1);
    ck_assert_uint_eq(chain_length(w, at(w, "web/s2/vda.qcow2")), 2);
    ck_assert_uint_eq(chain_length(w, at(w, "web/active/vda.qcow2")), 3);
}
END_TEST

/* vda's first layer is vdb.qcow2; only later is there a disk vdb, which the mount shows under that name. */
START_TEST(an_image_named_as_a_later_disk)
{
    g_autoptr(World) w = world_new(NULL);
    define_named(w, "vdb.qcow2");
    const char *one = write_and_take(w, "vda", 1, "create s1 --diskspec vda,snapshot=external");
    make_image(w, "new.qcow2", "qcow2");
    const char *disk = keepf(w,
                             "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                             "<source file='%s'/><target dev='vdb' bus='virtio'/></disk></devices>",
                             image(w, "new.qcow2"));
    g_auto(GStrv) parts = g_strsplit(text_of(w, "web/domain.xml"), "</devices>", 2);
    g_autofree char *xml = g_strjoinv(disk, parts);
    ck_assert_int_eq(put(w, "ctl", xml), 0);
    image_write(w, image(w, "new.qcow2"), "qcow2", 77, 0, 65536);
    const char *vdb_two = holds(w, image(w, "new.qcow2"));
    const char *two = write_and_take(
        w, "vda", 2, "create s2 --diskspec vda,snapshot=external --diskspec vdb,snapshot=external");
    const char *vdb_three = write_and_take(
        w, "vdb", 3, "create s3 --diskspec vda,snapshot=external --diskspec vdb,snapshot=external");
    image_write(w, active_path(w, "web", "vda"), "qcow2", 4, 0, 4096);
    ck_assert_str_eq(holds(w, at(w, "web/s1/vda.qcow2")), one);
    ck_assert_str_eq(holds(w, at(w, "web/s2/vda.qcow2")), two);
    ck_assert_str_eq(holds(w, at(w, "web/s2/vdb.qcow2")), vdb_two);
    ck_assert_str_eq(holds(w, at(w, "web/s3/vda.qcow2")), two);
    ck_assert_str_eq(holds(w, at(w, "web/s3/vdb.qcow2")), vdb_three);
    ck_assert_str_eq(holds(w, at(w, "web/active/vda.qcow2")), holds(w, active_path(w, "web", "vda")));
    ck_assert_str_eq(holds(w, at(w, "web/active/vdb.qcow2")), vdb_three);
    ck_assert_uint_eq(chain_length(w, at(w, "web/active/vda.qcow2")), 4);
    ck_assert_uint_eq(chain_length(w, at(w, "web/active/vdb.qcow2")), 3);
}
END_TEST

START_TEST(copied_images_are_a_whole_chain)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    write_and_take(w, "vda", 1, "create s1 --diskspec vda,snapshot=external");
    const char *middle = active_path(w, "web", "vda");
    const char *two = write_and_take(w, "vda", 2, "create s2 --diskspec vda,snapshot=external");
    const char *top = active_path(w, "web", "vda");
    ck_assert_str_eq(backing_of(w, middle, "qcow2"), "./web-vda.qcow2");
    const char *name = strrchr(middle, '/');
    ck_assert_str_eq(backing_of(w, top, "qcow2"), keepf(w, ".%s", name));
    image_write(w, top, "qcow2", 3, 0, 4096);
    const char *now = holds(w, top);
    ck_assert_str_ne(now, two);
    world_stop(w);
    const char *there = in_dir(w, "elsewhere");
    sh_ok(w, keepf(w, "cp -a '%s' '%s' && rm '%s'/*", w->images, there, w->images));
    ck_assert_str_eq(holds(w, keepf(w, "%s%s", there, strrchr(top, '/'))), now);
    ck_assert_str_eq(holds(w, keepf(w, "%s%s", there, name)), two);
}
END_TEST

/* --- what kills leave in the store --- */

START_TEST(leftovers_of_kills_are_cleared)
{
    static const char *const ours[] = {"web/journal.json.A1B2C3",
                                       "web/domain.xml.abc123",
                                       "web/log.Zz9Zz9",
                                       "web/SNAPSHOTS/x.xml.ABC123",
                                       "web/SNAPSHOTS/x.json.QM08Y3",
                                       ".0b3a9f0e-5d0c-4f0e-9a53-1c9d3f0d7a11/domain.xml",
                                       ".0b3a9f0e-5d0c-4f0e-9a53-1c9d3f0d7a11/snapshots/x.xml"};
    static const char *const foreign[] = {"web/notes.txt", "web/journal.json.bak", "web/domain.xml.orig1",
                                          "web/domain.xml.A1B2C3D", ".hidden/domain.xml"};
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    run_ok(w, "mkdir", "web/one");
    world_stop(w);
    const char *found =
        sh_ok(w, keepf(w, "cd '%s/domains/web' && find . -name one.xml -printf %%h", w->store));
    ck_assert_str_ne(found, "");
    const char *all = keepf(w, "%s/domains", w->store);
    for (guint pass = 0; pass < 3; pass++) {
        for (guint i = 0; i < G_N_ELEMENTS(ours) + G_N_ELEMENTS(foreign); i++) {
            gboolean mine = i < G_N_ELEMENTS(ours);
            g_auto(GStrv) parts =
                g_strsplit(mine ? ours[i] : foreign[i - G_N_ELEMENTS(ours)], "SNAPSHOTS", 2);
            g_autofree char *name = g_strjoinv(found, parts);
            const char *path = keepf(w, "%s/%s", all, name);
            if (pass == 0)
                sh_ok(w, keepf(w, "mkdir -p \"$(dirname '%s')\" && echo half > '%s'", path, path));
            else
                ck_assert_msg(g_file_test(path, G_FILE_TEST_EXISTS) == !mine, "%s", path);
        }
        ck_assert_int_eq(
            g_file_test(keepf(w, "%s/.0b3a9f0e-5d0c-4f0e-9a53-1c9d3f0d7a11", all), G_FILE_TEST_EXISTS),
            pass == 0);
        if (pass == 0)
            world_start(w, NULL);
    }
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log web");
    ck_assert_str_eq(link_of(w, "web/current"), "one");
    run_ok(w, "mkdir", "web/two");
}
END_TEST

/* --- the end of the mount while a job runs --- */

/* A qemu-img whose `snapshot` waits while the file "hold" is there. */
static World *held_world(void)
{
    World *w = world_new_idle();
    const char *wrapper = in_dir(w, "bin/qemu-img");
    ck_works(mkdir(in_dir(w, "bin"), 0755));
    const char *script = keepf(w,
                               "#!/bin/sh\nwhile [ \"$1\" = snapshot ] && [ -e '%s' ]; do sleep 0.02; done\n"
                               "PATH=${PATH#*:}\nexec qemu-img \"$@\"\n",
                               in_dir(w, "hold"));
    ck_assert(g_file_set_contents(wrapper, script, -1, NULL));
    ck_works(chmod(wrapper, 0755));
    g_setenv("PATH", keepf(w, "%s:%s", in_dir(w, "bin"), g_getenv("PATH")), TRUE);
    world_start(w, NULL);
    machine(w, "web", "vda:qcow2");
    ck_assert(g_file_set_contents(in_dir(w, "hold"), "", -1, NULL));
    return w;
}

enum { LAZY, FORCED, TWO_SIGNALS, WAYS_TO_END };

static void end_mount(const World *w, int way, pid_t *ret_asking)
{
    if (way == LAZY)
        ck_works(umount2(w->mnt, MNT_DETACH));
    else if (way == FORCED)
        ck_works(umount2(w->mnt, MNT_FORCE | MNT_DETACH));
    else {
        ck_works(kill(w->daemon, SIGTERM));
        g_usleep(100000);
        ck_works(kill(w->daemon, SIGTERM));
        g_usleep(100000);
        /* A request wakes the daemon up. (In web it would wait for mkdir in the kernel.) */
        const char *argv[] = {"stat", at(w, "nobody"), NULL};
        *ret_asking = background(w, argv, NULL);
    }
}

START_TEST(ends_well_while_a_job_runs)
{
    g_autoptr(World) w = held_world();
    const char *argv[] = {"mkdir", at(w, "web/one"), NULL};
    pid_t pid = background(w, argv, NULL);
    ck_eventually(*text_of(w, "jobs") != '\0', 10);
    pid_t asking = 0;
    end_mount(w, _i, &asking);
    g_usleep(300000);
    if (exists(w, "../hold"))
        ck_works(unlink(in_dir(w, "hold")));
    gboolean said = background_wait(pid) == 0;
    int status = 0;
    ck_eventually(waitpid(w->daemon, &status, WNOHANG) != 0, 30);
    w->daemon = 0;
    if (asking != 0)
        background_wait(asking);
    world_check_clean(w);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
    ck_assert(!world_is_mounted(w));
    world_start(w, NULL);
    ck_assert(exists(w, "web/one") || !said);
    ck_assert_str_eq(tags_of(w, image(w, "web-vda.qcow2")), exists(w, "web/one") ? "one" : "");
    run_ok(w, "mkdir", "web/two");
    run_ok(w, "qemu-img", "check", "-q", image(w, "web-vda.qcow2"));
}
END_TEST

/* --- a rename by document against rmdir: each holds a directory that the other wants --- */

START_TEST(renaming_by_document_beside_rmdir)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    const char *scripts[] = {
        "while [ ! -e ../done ]; do"
        " sed -i 's/<name>a</<name>b</' web/a/snapshot.xml ; done",
        "i=0; while [ $i -lt 25 ]; do i=$((i+1)); mkdir web/a; sleep 0.0$((i % 4)); rmdir web/a; rmdir web/b;"
        " done; : > ../done",
    };
    pid_t pids[G_N_ELEMENTS(scripts)];
    for (guint i = 0; i < G_N_ELEMENTS(scripts); i++) {
        const char *argv[] = {"sh", "-c", keepf(w, "cd '%s'; %s; exit 0", w->mnt, scripts[i]), NULL};
        pids[i] = background(w, argv, NULL);
    }
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    for (guint i = 0; i < G_N_ELEMENTS(pids);) {
        if (waitpid(pids[i], NULL, WNOHANG) != 0) {
            i++;
            continue;
        }
        if (g_get_monotonic_time() > end) {
            umount2(w->mnt, MNT_FORCE | MNT_DETACH); /* frees whoever waits in the kernel; a kill does not */
            ck_abort_msg("process %u hangs", i);
        }
        g_usleep(10000);
    }
    ck_works(kill(w->daemon, 0));
    ck_assert_int_eq(waitpid(w->daemon, NULL, WNOHANG), 0);
    ck_assert_str_eq(text_of(w, "jobs"), "");
    run_ok(w, "mkdir", "web/after");
    run_ok(w, "qemu-img", "check", "-q", image(w, "web-vda.qcow2"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mended");
    TCase *stream = add_case(s, "after a refusal");
    tcase_add_loop_test(stream, nothing_follows_a_refusal, 0, 2 * G_N_ELEMENTS(refused));
    TCase *names = add_case(s, "names of images");
    tcase_add_test(names, an_image_named_as_its_disk);
    tcase_add_test(names, an_image_named_as_a_later_disk);
    tcase_add_test(names, copied_images_are_a_whole_chain);
    TCase *ends = add_case(s, "ends");
    tcase_add_test(ends, leftovers_of_kills_are_cleared);
    tcase_add_loop_test(ends, ends_well_while_a_job_runs, 0, geteuid() == 0 ? WAYS_TO_END : 0);
    TCase *locks = add_case(s, "locks");
    tcase_add_test(locks, renaming_by_document_beside_rmdir);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
