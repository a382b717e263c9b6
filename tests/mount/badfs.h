/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * badfs: a file system that passes everything on to the directory it is mounted over, but for calls that are to fail, as a
 * bad disk makes them fail: for everybody, the daemon and its qemu-img alike.
 *
 *   badfs DIR CONTROL      in the foreground; CONTROL is a file that holds a BadControl, shared with whoever wrote it
 */
#pragma once

typedef enum { BAD_READ, BAD_WRITE, BAD_FSYNC, BAD_TRUNCATE, BAD_CREATE, N_BAD } BadCall;

typedef struct {
    _Atomic unsigned seen[N_BAD]; /* calls of each kind so far */
    _Atomic int call;             /* the one to fail, or -1 */
    _Atomic unsigned at;          /* when seen is that */
    _Atomic int onwards;          /* and ever after */
    _Atomic int code;             /* with this errno */
} BadControl;
