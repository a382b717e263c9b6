/* SPDX-License-Identifier: GPL-2.0-or-later */
/* domsnapfs --check [--repair]: what it prints, how it exits, and that it changes nothing. */
#include <glib/gstdio.h>
#include <signal.h>
#include <unistd.h>

#include "machine.h"

/* "web" with an internal snapshot, an external one on it, and a change since. */
static void make_web(const World *w)
{
    machine(w, "web", "vda:qcow2 vdb:raw");
    image_write(w, active_path(w, "web", "vda"), "qcow2", 1, 0, 65536);
    command(w, "web", "create one --diskspec vdb,snapshot=no");
    command(w, "web",
            "create two --disk-only --diskspec vda,snapshot=external --diskspec vdb,snapshot=external");
    image_write(w, active_path(w, "web", "vda"), "qcow2", 2, 0, 65536);
}

static Ran check(const World *w)
{
    return ran(w, w->program, "--check", w->store, NULL);
}

static Ran repair(const World *w)
{
    return ran(w, w->program, "--check", w->store, "--repair", NULL);
}

static void expect(Ran result, int rc, const char *out)
{
    ck_assert_msg(result.rc == rc && strcmp(result.out, out) == 0 && *result.err == '\0', "%d\n%s%s",
                  result.rc, result.out, result.err);
}

/* Store and images: names, modes, sizes, times, contents. */
static const char *untouchable(const World *w)
{
    return sh_ok(w, keepf(w,
                          "cd '%s' && find store images -printf '%%p %%m %%s %%T@ %%C@\\n' | sort && "
                          "find store images -type f -exec sha256sum {} + | sort",
                          w->dir));
}

START_TEST(in_order)
{
    g_autoptr(World) w = world_new(NULL);
    make_web(w);
    world_stop(w);
    const char *before = untouchable(w);
    expect(check(w), 0, "");
    ck_assert_str_eq(untouchable(w), before);
    expect(repair(w), 0, "");
    world_start(w, NULL);
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree two usage");
}
END_TEST

/* Mended: 1, and all is as it was. */
START_TEST(mended)
{
    g_autoptr(World) w = world_new(NULL);
    make_web(w);
    world_stop(w);
    const char *frozen = image(w, "web-vda.qcow2");
    ck_assert_int_eq(g_chmod(frozen, 0600), 0);
    const char *before = untouchable(w);
    expect(check(w), 4,
           keepf(w,
                 "web: snapshot 'two': disk 'vda': '%s': it is frozen but has write bits (mode 0600); 'one', "
                 "'two' need it; with --repair: they are taken away\n1 domain, 4 images: 1 problem, --repair "
                 "mends 1\n",
                 frozen));
    ck_assert_str_eq(untouchable(w), before);
    expect(
        repair(w), 1,
        keepf(w,
              "web: snapshot 'two': disk 'vda': '%s': it is frozen but has write bits (mode 0600); 'one', "
              "'two' need it; mended: they are taken away\n1 domain, 4 images: 1 problem, 1 mended, 0 left\n",
              frozen));
    struct stat st;
    ck_assert_int_eq(g_stat(frozen, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0222, 0);
    expect(check(w), 0, "");
}
END_TEST

/* The advice for a frozen file that was only touched works. */
START_TEST(accepted)
{
    g_autoptr(World) w = world_new(NULL);
    make_web(w);
    world_stop(w);
    const char *frozen = image(w, "web-vda.qcow2");
    sh_ok(w, keepf(w, "touch '%s'", frozen));
    for (guint i = 0; i < 2; i++) {
        Ran result = repair(w);
        ck_assert_int_eq(result.rc, 4);
        ck_assert_ptr_nonnull(strstr(result.out, "1 problem, 0 mended, 1 left\n"));
    }
    const char *advice = strstr(check(w).out, "touch -d @");
    ck_assert_ptr_nonnull(advice);
    g_autofree char *command_line = g_strndup(advice, strcspn(advice, ";"));
    sh_ok(w, keepf(w, "%s '%s'", command_line, frozen));
    expect(check(w), 0, "");
    world_start(w, NULL);
    run_ok(w, "mkdir", "web/three");
}
END_TEST

/* The last advice of all: the records are lost, and what the documents and the images say is brought back from them. */
START_TEST(anew)
{
    g_autoptr(World) w = world_new(NULL);
    make_web(w);
    const char *tree = text_of(w, "web/tree");
    world_stop(w);
    const char *away = in_dir(w, "away");
    sh_ok(w, keepf(w, "rm '%s/domains/web/domain.json' && cp -r '%s/domains/web' '%s'", w->store, w->store,
                   away));
    ck_assert_int_eq(repair(w).rc, 4);
    sh_ok(w, keepf(w, "rm -r '%s/domains/web'", w->store));
    world_start(w, NULL);
    sh_ok(w, keepf(w,
                   "cp '%s/domain.xml' ctl && for s in one two; do { echo 'redefine -'; cat "
                   "'%s/snapshots/'$s.xml; } > web/ctl; done",
                   away, away));
    sh_ok(w, keepf(w, "{ echo 'redefine --current -'; cat '%s/snapshots/two.xml'; } > web/ctl", away));
    ck_assert_str_eq(text_of(w, "web/tree"), tree);
    world_stop(w);
    expect(check(w), 0, "");
    world_start(w, NULL);
}
END_TEST

/* An orphan is told and stays. */
START_TEST(orphan)
{
    g_autoptr(World) w = world_new(NULL);
    make_web(w);
    world_stop(w);
    const char *clone = image(w, "clone");
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image(w, "web-vda.qcow2"),
           clone);
    const char *before = untouchable(w);
    Ran result = check(w);
    ck_assert_str_eq(untouchable(w), before);
    ck_assert_int_eq(result.rc, 4);
    ck_assert_ptr_nonnull(strstr(result.out, keepf(w, "web: '%s': orphan: an overlay on '", clone)));
    ck_assert_int_eq(repair(w).rc, 4);
    ck_assert(g_file_test(clone, G_FILE_TEST_EXISTS));
}
END_TEST

/* What kill -9 leaves: described, then brought to its end, with nothing lost. */
START_TEST(killed)
{
    g_autoptr(World) w = world_new(NULL);
    make_web(w);
    const char *journal = keepf(w, "%s/domains/web/journal.json", w->store);
    const char *tree = text_of(w, "web/tree");
    const char *argv[] = {"sh", "-c", "while :; do mkdir web/s; rmdir web/s; done 2>/dev/null", NULL};
    gboolean there = FALSE;
    for (guint i = 0; i < 200 && !there; i++) {
        pid_t pid = background(w, argv, NULL);
        while (!g_file_test(journal, G_FILE_TEST_EXISTS))
            ;
        world_kill(w);
        kill(pid, SIGKILL);
        (void)background_wait(pid);
        there = g_file_test(journal, G_FILE_TEST_EXISTS);
        if (!there)
            world_start(w, NULL);
    }
    ck_assert(there);
    const char *before = untouchable(w);
    Ran result = check(w);
    ck_assert_int_eq(result.rc, 4);
    ck_assert_msg(strstr(result.out, "was cut short") != NULL, "%s", result.out);
    ck_assert_str_eq(untouchable(w), before);
    result = repair(w);
    ck_assert_msg(result.rc == 1, "%d: %s%s", result.rc, result.out, result.err);
    expect(check(w), 0, "");
    world_start(w, NULL);
    if (exists(w, "web/s"))
        run_ok(w, "rmdir", "web/s");
    ck_assert_str_eq(text_of(w, "web/tree"), tree);
}
END_TEST

START_TEST(refused)
{
    g_autoptr(World) w = world_new(NULL);
    make_web(w);
    Ran result = check(w); /* the daemon has it */
    ck_assert_int_eq(result.rc, 8);
    ck_assert_str_eq(result.out, "");
    ck_assert_ptr_nonnull(strstr(result.err, "is in use by process"));
    ck_assert_int_eq(repair(w).rc, 8);
    result = ran(w, w->program, "--check", w->images, NULL);
    ck_assert_int_eq(result.rc, 8);
    ck_assert_ptr_nonnull(strstr(result.err, "is not a store"));
    ck_assert_str_eq(run_ok(w, "ls", w->images), "web-vda.qcow2\nweb-vda.two\nweb-vdb.raw\nweb-vdb.two\n");
    static const char *const wrong[][4] = {
        {"--check", "one", "two"}, {"--bogus", "--check"}, {"--check", "-oro"}, {"--check", "-f"}};
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        result = ran(w, w->program, wrong[i][0], wrong[i][1], wrong[i][2], NULL);
        ck_assert_msg(result.rc == 16, "%s %s: %d", wrong[i][0], wrong[i][1], result.rc);
        ck_assert_str_eq(result.out, "");
    }
    ck_assert_int_eq(ran(w, w->program, "--repair", w->store, w->mnt, NULL).rc, 1);
    run_ok(w, "mkdir", "web/works");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mount-check");
    TCase *tcase = add_case(suite, "check");
    tcase_add_test(tcase, in_order);
    tcase_add_test(tcase, mended);
    tcase_add_test(tcase, accepted);
    tcase_add_test(tcase, anew);
    tcase_add_test(tcase, orphan);
    tcase_add_test(tcase, killed);
    tcase_add_test(tcase, refused);
    return mount_main(suite);
}
