/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worlds with machines that run: the engine over the online backend, and the test guest in what it starts.
 *
 *     g_autoptr(World) world = running_world_new(PATH("world"));
 *     g_autoptr(Live) web = live_define(world, "web", FILES("a.qcow2", "b.qcow2"), NULL);
 *     live_start(web);
 *     world_create(world, "web", "s1", BOTH_EXTERNAL);
 *     g_autofree char *said = live_commands(web);
 *     live_goes_on(web);
 *
 * The <emulator> is a script that starts QEMU with two things more: a monitor for the tests alone, and QEMU's own record of
 * the commands that it was given. Test cases are of machines_case() (end_machines.h).
 */
#pragma once

#include "engine_world.h"
#include "guest_look.h"

#define FILES(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct {
    World *world;
    char *name;
    guint disks;   /* that the guest writes: vda, vdb, ... */
    Guest *guest;  /* NULL: not joined */
    char *monitor; /* what QEMU's record calls the tests' own */
    gsize seen;    /* bytes of the record */
} Live;

World *running_world_new(char *dir);

/* How a machine is to be, beside its disks. */
typedef struct {
    const char *devices;   /* more elements for <devices>, or NULL */
    const char *from, *to; /* a piece of the document, and what it is instead; NULL: nothing */
} LiveSetup;

/* Define @name with the guest's disks @files of img/ (made where they are not there). @setup may be NULL. */
Live *live_define(World *world, const char *name, const char *const *files, const LiveSetup *setup);
/* Forgets the machine, which the end of the test case ends. */
void live_free(Live *live);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Live, live_free)

gboolean live_power(Live *live, PowerAction action, GError **error);
/* Start it; the guest has made some steps then. */
void live_start(Live *live);
/* A QEMU was started for it by something else: a revert. */
void live_join(Live *live);
void live_leave(Live *live);
/* End it. */
void live_end(Live *live);
/* kill -9, and wait until it has gone. */
void live_kill(Live *live);
/* Of its pid file; 0: none. */
pid_t live_pid(const Live *live);

/*
 * The commands that QEMU was given since the last call by others than the tests, in few words: "stop blockdev-add(qcow2)
 * transaction(blockdev-snapshot blockdev-snapshot) cont". Those that only look, and how a migration is set up, are left out.
 * Caller frees.
 */
char *live_commands(Live *live);

/* Has QEMU been given @command since that call? Others' too. Any thread. */
gboolean live_was_told(const Live *live, const char *command);

/* It runs, its guest makes steps, the disks take them, and the store says the same. stands: none of it. */
void live_goes_on(Live *live);
void live_stands(Live *live);
/* Nobody else can write what the machine writes. */
void live_holds_images(Live *live);
/* Paths of what the guest writes now. Caller frees with g_strfreev. */
char **live_images(Live *live);
/* The machine is paused: memory and disks are of one instant. */
void live_agrees(Live *live);
/*
 * Revert to @snapshot, and let it stand: memory and disks are of one instant, and of a step between @least and @most. What
 * the revert throws away is not kept.
 */
void live_proves(Live *live, const char *snapshot, guint32 least, guint32 most);
/* Let it run: live_goes_on(). */
void live_resume(Live *live);
guint32 live_counter(Live *live);
/* Memory apart: all disks at @snapshot are. *ret_counter may be NULL. */
void live_snapshot_agrees(Live *live, const char *snapshot, guint32 *ret_counter);

/*
 * All that a refused or undone operation must leave as it was, as text: names, documents, files with their modes and tags,
 * and which file QEMU writes for each disk. Caller frees.
 */
char *live_shape(Live *live);
