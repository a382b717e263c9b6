/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A world with one machine (running_world.h), "web", which comes and goes: the test guest with two disks, a.qcow2 and
 * b.qcow2 in img/. Whoever looks joins the QEMU that runs just then, for the moment. Test cases are of machines_case().
 */
#pragma once

#include "end_machines.h"
#include "guest_case.h"
#include "running_world.h"

/* "web" is off. @setup: how it is to be, or NULL. Asserts. */
World *power_world_new(char *dir, const LiveSetup *setup);
/* End what runs, then world_free. */
void power_world_free(World *world);
typedef World PowerWorld;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PowerWorld, power_world_free)

/* --- gestures on "web"; the try_ ones say why not, the others assert --- */

gboolean try_power(World *world, PowerAction action, const char *file, GError **error);
void power(World *world, PowerAction action, const char *file);
/* It fails with @code and a sentence that has @text in it, and the state is as before. */
void power_refused(World *world, PowerAction action, const char *file, int code, const char *text);
/* Start it, and let it boot. */
void power_boot(World *world);

/* A snapshot. @memory: as in a document; @specs: as for world_request. */
void power_create(World *world, const char *name, SnapMode memory, const char *specs);
#define BOTH_INTERNAL "vda,snapshot=internal vdb,snapshot=internal"

typedef enum { AS_IT_WAS, AS_RUNNING, AS_PAUSED } RevertAs;
gboolean try_revert(World *world, const char *name, RevertAs as, gboolean force, GError **error);

/* --- what there is --- */

/* "running", "paused", "shutoff"... Static text. */
const char *power_state(World *world);
/* It becomes that, without anything being done: the machine is followed. */
void power_becomes(World *world, const char *state);
#define EXPECT_STATE(world, state) ck_assert_str_eq(power_state(world), (state))

Guest *power_join(World *world);
guint32 power_counter(World *world);
/* It makes @steps steps. */
void power_moves(World *world, guint steps);
pid_t power_pid(World *world); /* 0: no QEMU of "web" runs */
/* kill -9 of its QEMU, and wait until it has gone. */
void power_kill(World *world);
/* The machine is paused: memory and both active layers are of one instant. */
GuestMemory power_agree(World *world);
/* It is off: both active layers are of one instant. Their counter. */
guint32 power_disks(World *world);
/* Paths of both active layers; static. */
const char *const *power_images(World *world);
