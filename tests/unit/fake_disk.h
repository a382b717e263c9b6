/* SPDX-License-Identifier: GPL-2.0-or-later */
/* FakeDisk: a DiskReader that a test makes up, in units of 512 bytes. */
#pragma once

#include <check.h>
#include <errno.h>

#include "diskreader.h"
#include "error.h"

#define UNIT 512

/* Where a unit is stored. */
typedef struct {
    guint file; /* 0: nowhere, it is zeros; UNKNOWN */
    guint at;   /* in units */
    guint into; /* of compressed data: which unit of the @whole that is stored in one unit of the file */
    guint whole;
} FakeUnit;
#define UNKNOWN 1000

typedef struct {
    DiskReader base;
    FakeUnit *units;
    guint n_units;
    guint fails_at; /* from this unit on nothing can be told; 0: all can */
} FakeDisk;

/* Do the units say one place after the other? */
static inline gboolean fake_follows(const FakeUnit *a, const FakeUnit *b, guint n)
{
    if (a->file != b->file || a->whole != b->whole)
        return FALSE;
    if (a->file == 0 || a->file == UNKNOWN)
        return TRUE;
    return a->whole ? a->at == b->at && a->into + n == b->into : a->at + n == b->at;
}

static gboolean fake_extent(DiskReader *reader, guint64 offset, DiskExtent *ret_extent, GError **error)
{
    const FakeDisk *disk = (const FakeDisk *)reader;
    guint first = (guint)(offset / UNIT), n = 1;
    const FakeUnit *unit = &disk->units[first];
    ck_assert_uint_lt(offset, reader->size);
    ck_assert_uint_eq(offset % UNIT, 0);
    if (disk->fails_at && first >= disk->fails_at) {
        snap_set_error(error, EIO, "it is damaged there");
        return FALSE;
    }
    while (first + n < disk->n_units && n < 64 && fake_follows(unit, &unit[n], n))
        n++;
    *ret_extent = (DiskExtent){.length = (guint64)n * UNIT, .data = unit->file != 0};
    ret_extent->known = unit->file != UNKNOWN;
    if (unit->file == 0 || unit->file == UNKNOWN)
        return TRUE;
    ret_extent->dev = 7;
    ret_extent->ino = unit->file;
    ret_extent->at = (guint64)unit->at * UNIT;
    ret_extent->into = (guint64)unit->into * UNIT;
    ret_extent->stored = unit->whole ? (guint64)UNIT * n / unit->whole : (guint64)n * UNIT;
    return TRUE;
}

static gboolean fake_read(DiskReader *reader, void *buffer, gsize len, guint64 offset, GError **error)
{
    ck_abort_msg("the data is not to be read");
    return FALSE;
}

static void fake_free(DiskReader *reader)
{
    g_free(((FakeDisk *)reader)->units);
    g_free(reader);
}

/* A disk of zeros. */
static inline FakeDisk *fake_disk_new(guint n_units)
{
    static const DiskReaderOps ops = {.read = fake_read, .extent = fake_extent, .free = fake_free};
    FakeDisk *disk = g_new0(FakeDisk, 1);
    disk->base = (DiskReader){&ops, (guint64)n_units * UNIT};
    disk->units = g_new0(FakeUnit, n_units);
    disk->n_units = n_units;
    return disk;
}

static inline FakeDisk *fake_disk_copy(const FakeDisk *disk)
{
    FakeDisk *copy = fake_disk_new(disk->n_units);
    memcpy(copy->units, disk->units, disk->n_units * sizeof *disk->units);
    copy->fails_at = disk->fails_at;
    return copy;
}

/* Units [first, first + n) are stored in a row in @file, from its unit @at on. */
static inline void fake_put(FakeDisk *disk, guint first, guint n, guint file, guint at)
{
    for (guint i = 0; i < n; i++)
        disk->units[first + i] = (FakeUnit){.file = file, .at = at + i};
}
