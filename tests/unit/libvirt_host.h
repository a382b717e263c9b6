/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host as libvirt leaves it, for the tests of the import: below one directory its definitions and snapshots in
 * libvirt's own files, and what libvirt does to images done by qemu-img: tags, and overlays with absolute backing names.
 * (That these files are as libvirt's is what the tests with a real libvirt compare.)
 */
#pragma once

#include <check.h>
#include <glib.h>

typedef struct {
    char *root;
    char *definitions; /* root/etc/libvirt/qemu */
    char *snapshots;   /* root/var/lib/libvirt/qemu/snapshot */
} LibvirtHost;

/* An empty host in the directory @root (made). */
LibvirtHost *libvirt_host_new(const char *root);
void libvirt_host_free(LibvirtHost *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LibvirtHost, libvirt_host_free)

#define MACHINE_DISKS 4

/* A machine that libvirt defines. */
typedef struct {
    const LibvirtHost *host;
    char *name;
    char *uuid;
    char *disks[MACHINE_DISKS]; /* path of the image that vda, vdb, ... writes; NULL: no more */
    char *extra;                /* further elements of <devices> */
    char *current;              /* snapshot, or NULL */
    gint64 time;                /* of the next snapshot */
} LibvirtMachine;

/* Define @name with the qcow2 images at these paths, NULL at the end. */
LibvirtMachine *libvirt_machine_new(const LibvirtHost *host, const char *name, ...) G_GNUC_NULL_TERMINATED;
void libvirt_machine_free(LibvirtMachine *machine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LibvirtMachine, libvirt_machine_free)

/* Write the definition again, as the fields say. */
void libvirt_machine_define(const LibvirtMachine *machine);
char *libvirt_machine_file(const LibvirtMachine *machine); /* caller frees */

/*
 * Take a snapshot of a machine that is off. @modes: a letter for each disk: i internal, e external, - (or none) not at all. It is
 * the current one afterwards, the child of the one before.
 */
void libvirt_machine_snapshot(LibvirtMachine *machine, const char *name, const char *modes);
/* What snapshot-dumpxml --security-info would print, and its file. Callers free. */
char *libvirt_machine_dump(const LibvirtMachine *machine, const char *name);
char *libvirt_machine_snapshot_file(const LibvirtMachine *machine, const char *name);
/* Write @text as a file of a snapshot, called @file. */
void libvirt_machine_put(const LibvirtMachine *machine, const char *file, const char *text);
/* Replace @from in the snapshot's file; it must be there. */
void libvirt_machine_edit(const LibvirtMachine *machine, const char *name, const char *from, const char *to);
/* Go back to an internal snapshot of all disks. */
void libvirt_machine_revert(LibvirtMachine *machine, const char *name);

/* virsh undefine --snapshots-metadata */
void libvirt_machine_undefine(const LibvirtMachine *machine);
