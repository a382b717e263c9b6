/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the test guest keeps its counter. Read by the assembler (boot.S) and by the compiler.
 *
 * In RAM, at GUEST_RAM, little-endian words: see below; at GUEST_TRAIL one word for each of the last GUEST_TRAIL_WORDS
 * counters, the one of counter n at n modulo that: a state of memory put together from two moments has a gap in it.
 *
 * On a disk, a ring of GUEST_SLOTS sectors, the one of counter n at slot n modulo that, a stride apart so that the
 * ring spreads over many clusters of an image; each sector holds the words below, and the counter in all the rest: a
 * sector half written, from another disk or from another moment is seen.
 */
#pragma once

#define GUEST_MAGIC 0x31465344 /* "DSF1" */
#define GUEST_WORD 4

#define GUEST_RAM 0x8000
#define GUEST_RAM_MAGIC 0   /* there once the guest has begun */
#define GUEST_RAM_COUNTER 1 /* the step it is in: written to every disk, or about to be */
#define GUEST_RAM_FIRST 2   /* the step it began with when it was booted */
#define GUEST_RAM_DISKS 3   /* how many it writes to */
#define GUEST_RAM_ERRORS 4  /* reads and writes that the disks refused */
#define GUEST_RAM_WORDS 5

#define GUEST_TRAIL 0x20000
#define GUEST_TRAIL_WORDS 0x4000

#define GUEST_SECTOR 512
#define GUEST_SECTOR_MAGIC 0
#define GUEST_SECTOR_COUNTER 1
#define GUEST_SECTOR_DISK 2  /* 0x80 the first, 0x81 the second, ... */
#define GUEST_SECTOR_FIRST 3 /* GUEST_RAM_FIRST at that time */
#define GUEST_SLOTS 64
#define GUEST_STRIDE_SHIFT 5 /* 32 sectors from slot to slot */
#define GUEST_RING 2048      /* the sector of slot 0 */
#define GUEST_DISK_SECTORS (GUEST_RING + (GUEST_SLOTS << GUEST_STRIDE_SHIFT)) /* what a disk must have */

/* How often its clock ticks: a step waits for a tick, so that a guest that does nothing else takes no processor. */
#define GUEST_HZ 1000
