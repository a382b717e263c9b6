/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A world with a host beside it that libvirt runs: what the tests of import and adoption begin with. */
#pragma once

#include "engine_world.h"
#include "libvirt_host.h"

/* Its machine "web" has vda (a.qcow2, pattern 1) and vdb (b.qcow2, pattern 2). */
typedef struct {
    World *world;
    LibvirtHost *host;
    LibvirtMachine *web;
} Both;

/* In @dir (taken over): the world, and the host in "host". */
Both both_new(char *dir);
void both_clear(Both *both);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Both, both_clear)

/* Import all that the host has: what is told (world_try_import). Caller frees. Asserts. */
char *both_import(const Both *both);
/* "web" has these snapshots, now and after a restart, and is read-only because of libvirt alone. */
void both_assert_snapshots(const Both *both, const char *names, const char *current);
void assert_has(const char *text, const char *part);

/* The guest of libvirt's machine writes 64 KiB of @pattern at the beginning of vda. */
void import_world_write(const LibvirtMachine *machine, int pattern);

/* s1 internal, s2 external, s3 one of each; vda holds 1, 11, 12 at them, and 13 now; vdb always 2. */
void import_world_three(LibvirtMachine *web);
void import_world_assert_states(World *world);
#define THREE "web: 3 snapshots, current 's3'\n" /* what importing that tells */

/* "web" with its three snapshots, imported, and libvirt's own files of it gone. Closed. */
Both both_undefined(char *dir);
/* It is ours: what states need is frozen, what the guest writes is not. Or: no image was touched. */
void both_assert_adopted(const Both *both);
void both_assert_untouched(const Both *both);
/* Every state is there, and can be gone back to. Afterwards it is as before. */
void import_world_use(World *world);
/* An overlay @path on the image @base (in img/); its backing file's name stands between @before and @after. */
void overlay_on(World *world, const char *base, const char *before, const char *after, const char *path);
/* Permission bits of an image in img/. */
guint mode_of(World *world, const char *file);
