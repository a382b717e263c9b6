/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An imported domain becomes ours when libvirt has let go of it: at the next start or with the first change. */
#include <sys/wait.h>

#include "import_world.h"
#include "runner.h"

START_TEST(at_the_start)
{
    g_auto(Both) both = both_undefined(PATH("world"));
    World *world = both.world;
    both_assert_untouched(&both);
    world_open(world);
    both_assert_adopted(&both);
    g_autofree char *before = world_digest(world, "web");
    world_reopen(world);
    g_autofree char *log = world_log(world, "web");
    assert_has(log, " adopted: libvirt does not define it any more\n");
    ck_assert_ptr_eq(strstr(log, "adopted:"), g_strrstr(log, "adopted:")); /* once */
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    import_world_use(world);
}
END_TEST

START_TEST(with_the_first_change)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    import_world_three(both.web);
    world_import(world, both.host->root, THREE);
    world_reopen(world);
    world_assert_read_only(world, "web", "libvirt defines it");
    libvirt_machine_undefine(both.web);
    both_assert_untouched(&both);
    world_create(world, "web", "mine", NULL);
    g_autofree char *names = world_names(world, "web");
    ck_assert_str_eq(names, "s1 s2 s3 mine");
    both_assert_adopted(&both);
    g_autofree char *log = world_log(world, "web");
    assert_has(log, " adopted: libvirt does not define it any more\n");
    world_delete(world, "web", "mine");
    import_world_use(world);
    world_reopen(world);
    world_check_clean(world, "web");
    libvirt_machine_define(both.web); /* back again: that does not take ours away */
    world_reopen(world);
    world_check_clean(world, "web");
    g_autofree char *told = both_import(&both);
    assert_has(told, "! web: the store has it already, as 'web', and not from libvirt");
}
END_TEST

/* A read-only mount changes nothing, and says what would have to be done. */
START_TEST(read_only_mount)
{
    g_auto(Both) both = both_undefined(PATH("world"));
    both.world->options.read_only = TRUE;
    world_open(both.world);
    g_autofree char *tree = world_tree(both.world, "web");
    assert_has(tree, "read-only: libvirt does not define it any more: mount once without -o ro\n");
    import_world_assert_states(both.world);
    both_assert_untouched(&both);
}
END_TEST

/* An image that came in without write bits can be written when its last state is gone. */
START_TEST(frozen_elsewhere)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    g_autoptr(GError) error = NULL;
    libvirt_machine_snapshot(both.web, "s1", "ee");
    g_autofree char *a = world_path(world, "a.qcow2");
    ck_assert_int_eq(chmod(a, 0440), 0);
    world_import(world, both.host->root, "web: 1 snapshot, current 's1'\n");
    libvirt_machine_undefine(both.web);
    world_reopen(world);
    ck_assert_uint_eq(mode_of(world, "a.qcow2"), 0440);
    g_free(world_image(world, "other.qcow2", 9));
    world_delete(world, "web", "s1");
    g_autofree char *xml = one_disk_document(world, "web", "qcow2", "other.qcow2", "");
    g_autoptr(GString) document = g_string_new(xml);
    g_autofree char *uuid = g_strdup_printf("<uuid>%s</uuid><!--", both.web->uuid);
    g_string_replace(document, "<uuid>", uuid, 0);
    g_string_replace(document, "</uuid>\n", "-->\n", 0);
    ASSERT_OK(world_try_define(world, document->str, &error), error);
    ck_assert_uint_eq(mode_of(world, "a.qcow2"), 0640);
}
END_TEST

/* Two machines with one base: each is adopted for itself, and the base is thawed by nobody too early. */
START_TEST(shared_base)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    g_autofree char *base = world_image(world, "base.qcow2", 5);
    g_autofree char *one = world_path(world, "one.qcow2");
    g_autofree char *two = world_path(world, "two.qcow2");
    overlay_on(world, "base.qcow2", "", "", one);
    overlay_on(world, "base.qcow2", "", "", two);
    g_autoptr(LibvirtMachine) first = libvirt_machine_new(both.host, "first", one, NULL);
    g_autoptr(LibvirtMachine) second = libvirt_machine_new(both.host, "second", two, NULL);
    libvirt_machine_snapshot(first, "s1", "i");
    libvirt_machine_snapshot(second, "s1", "e");
    world_import(world, both.host->root,
                 "first: 1 snapshot, current 's1'\nsecond: 1 snapshot, current 's1'\nweb: no snapshots\n");
    libvirt_machine_undefine(first);
    world_reopen(world);
    ck_assert_uint_eq(file_mode(base), 0444);
    world_assert_read_only(world, "second", "libvirt defines it");
    libvirt_machine_undefine(second);
    world_reopen(world);
    world_check_clean(world, "second");
    world_delete(world, "first", "s1");
    world_delete(world, "second", "s1");
    ck_assert_uint_eq(file_mode(base), 0444);
    g_autofree char *is = world_hash(world, "first", NULL, "vda");
    g_autofree char *should = pattern_hash(5, 5);
    ck_assert_str_eq(is, should);
}
END_TEST

/* --- killed, or failing, at each point of the adoption --- */

typedef struct {
    Both both;
    GPtrArray *saved; /* imported, and undefined by libvirt */
    char *adopted;    /* digest */
} Trial;

static Trial trial_new(char *dir)
{
    Trial trial = {.both = both_undefined(dir)};
    trial.saved = world_save(trial.both.world);
    world_open(trial.both.world);
    trial.adopted = world_digest(trial.both.world, "web");
    return trial;
}

static void trial_restore(Trial *trial)
{
    world_close(trial->both.world);
    world_restore(trial->both.world, trial->saved);
}

static void trial_clear(Trial *trial)
{
    g_ptr_array_unref(trial->saved);
    g_free(trial->adopted);
    both_clear(&trial->both);
}

/* The start of a daemon, which adopts, in a process of its own: TRUE when it died at point @n. */
static gboolean dies_at(World *world, guint n)
{
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        trap_set(TRAP_EXIT, n, 0);
        world_open(world);
        _exit(0);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == TRAP_EXIT_CODE));
    return WEXITSTATUS(status) == TRAP_EXIT_CODE;
}

static void assert_digest(World *world, const char *expected, guint n)
{
    g_autofree char *now = world_digest(world, "web");
    ck_assert_msg(strcmp(now, expected) == 0, "point %u:\n%s\n--- not:\n%s", n, now, expected);
}

/* The next start goes on. */
START_TEST(killed)
{
    Trial trial = trial_new(PATH("world"));
    guint n = 0;
    gboolean died = TRUE;
    while (died) {
        trial_restore(&trial);
        died = dies_at(trial.both.world, ++n);
        world_open(trial.both.world);
        assert_digest(trial.both.world, trial.adopted, n);
        both_assert_adopted(&trial.both);
        if (n % 8 == 0)
            import_world_use(trial.both.world);
    }
    ck_assert_uint_gt(n, 20);
    trial_clear(&trial);
}
END_TEST

/* Meanwhile libvirt defines it again: then it was adopted wholly, or no image is touched. */
START_TEST(killed_and_defined_again)
{
    Trial trial = trial_new(PATH("world"));
    guint n = 0, adopted = 0, not = 0;
    gboolean died = TRUE;
    while (died) {
        trial_restore(&trial);
        died = dies_at(trial.both.world, ++n);
        libvirt_machine_define(trial.both.web);
        world_open(trial.both.world);
        g_autofree char *tree = world_tree(trial.both.world, "web");
        if (strstr(tree, "read-only: libvirt defines it")) {
            both_assert_untouched(&trial.both);
            not ++;
        } else {
            both_assert_adopted(&trial.both);
            adopted++;
        }
        import_world_assert_states(trial.both.world);
    }
    ck_assert_uint_gt(not, 10);
    ck_assert_uint_gt(adopted, 1);
    trial_clear(&trial);
}
END_TEST

/* A call fails, or from some point on all: the gesture that began it fails, and a later one, or start, goes on. */
START_TEST(failing)
{
    Trial trial = trial_new(PATH(_i ? "from then on" : "once"));
    World *world = trial.both.world;
    gboolean reached = TRUE;
    for (guint n = 1; reached; n++) {
        g_autoptr(GError) error = NULL;
        trial_restore(&trial);
        libvirt_machine_define(trial.both.web);
        world_open(world);
        libvirt_machine_undefine(trial.both.web);
        trap_set(_i ? TRAP_FAIL_FROM : TRAP_FAIL, n, EIO);
        gboolean ok = world_try_create(world, "web", "x", "vda,snapshot=no vdb,snapshot=internal", &error);
        reached = trap_seen() >= n;
        trap_set(TRAP_OFF, 0, 0);
        ck_assert_msg(ok || snap_errno(error) > 0, "point %u: no reason", n);
        if (!ok && n % 2)
            world_create(world, "web", "y", "vda,snapshot=no vdb,snapshot=internal");
        world_reopen(world);
        if (ok)
            world_delete(world, "web", "x");
        else if (n % 2)
            world_delete(world, "web", "y");
        both_assert_adopted(&trial.both);
        import_world_assert_states(world);
    }
    trial_clear(&trial);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("adopt");
    TCase *tcase = scratch_case(suite, "adopt");
    tcase_add_test(tcase, at_the_start);
    tcase_add_test(tcase, with_the_first_change);
    tcase_add_test(tcase, read_only_mount);
    tcase_add_test(tcase, frozen_elsewhere);
    tcase_add_test(tcase, shared_base);
    TCase *points = scratch_case(suite, "every point");
    tcase_add_test(points, killed);
    tcase_add_test(points, killed_and_defined_again);
    tcase_add_loop_test(points, failing, 0, 2);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
