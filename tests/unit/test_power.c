/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is done to the machine itself: every power command, in order and in the wrong order, and what follows it. */
#include "power_world.h"
#include "runner.h"
#include "saveimage.h"

#define RING 70 /* steps after which nothing of before is left on a disk */

#define POWER_WORLD() power_world_new(PATH("w"), NULL)

static void expect_log(World *world, const char *line)
{
    g_autofree char *log = world_log(world, "web");
    ck_assert_msg(strstr(log, line) != NULL, "no '%s' in %s", line, log);
}

/* --- on and off --- */

START_TEST(start_pause_resume_destroy)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    EXPECT_STATE(world, "shutoff");
    static const PowerAction of_one_that_runs[] = {POWER_SHUTDOWN, POWER_DESTROY, POWER_PAUSE, POWER_RESUME,
                                                   POWER_MANAGEDSAVE};
    for (guint i = 0; i < G_N_ELEMENTS(of_one_that_runs); i++)
        power_refused(world, of_one_that_runs[i], NULL, ESRCH, "domain is not running");
    power_refused(world, POWER_SAVE, "/nowhere/file", ESRCH, "domain is not running");
    power_boot(world);
    EXPECT_STATE(world, "running");
    power_refused(world, POWER_START, NULL, EBUSY, "domain is running");
    power_refused(world, POWER_START_PAUSED, NULL, EBUSY, "domain is running");
    power_refused(world, POWER_RESTORE, "/nowhere/file", EBUSY, "domain is running");
    power_refused(world, POWER_MANAGEDSAVE_REMOVE, NULL, ENOENT, "no managed save");
    power(world, POWER_PAUSE, NULL);
    EXPECT_STATE(world, "paused");
    guint32 stood = power_counter(world);
    power_agree(world);
    ck_assert_uint_eq(power_counter(world), stood);
    power(world, POWER_RESUME, NULL);
    EXPECT_STATE(world, "running");
    power_moves(world, 5);
    power(world, POWER_DESTROY, NULL);
    EXPECT_STATE(world, "shutoff");
    ck_assert_int_eq(power_pid(world), 0);
    ck_assert_uint_gt(power_disks(world), stood);
    expect_log(world, "start");
    expect_log(world, "pause");
    expect_log(world, "resume");
    expect_log(world, "destroy");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("power");
    TCase *on_off = machines_case(suite, "on and off");
    tcase_add_test(on_off, start_pause_resume_destroy);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
