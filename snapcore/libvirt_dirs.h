/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Libvirt's own directories, read as its QEMU driver reads them when it starts (facts/libvirt-snapshots.md 10) and
 * never written: DEFINITIONS/ANYTHING.xml holds a domain, every entry of SNAPSHOTS/DOMAIN/ a snapshot, and what a thing
 * is called stands in the document. Only regular files of at most 1 MiB are read; symlinks are not followed.
 *
 * What is wrong with single files is no error: it is said, a sentence each, and the file left out. @said is an array of
 * texts (char *, owned) that sentences are appended to.
 */
#pragma once

#include "snapshot.h"

typedef struct {
    char *definitions;
    char *snapshots;
} LibvirtDirs;

/*
 * Those of this host, for a normal user those of his session daemon (@dir NULL). Or below @dir, the first of: a host's
 * root (etc/libvirt/qemu, var/lib/libvirt/qemu/snapshot), an embedded driver's (etc/qemu, lib/qemu/snapshot), a
 * session's configuration (qemu, qemu/snapshot), and *.xml and snapshot in @dir itself. ENOENT, ENOTDIR.
 */
LibvirtDirs *libvirt_dirs_find(const char *dir, GError **error);
void libvirt_dirs_free(LibvirtDirs *dirs);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LibvirtDirs, libvirt_dirs_free)

typedef struct {
    char *path;
    DomainDef *def;
} LibvirtDomain;

/*
 * All definitions (an array of LibvirtDomain), by name. Of two with one name or uuid the one whose file is called like
 * the domain is taken. Directories of snapshots that belong to none of them are said.
 */
GPtrArray *libvirt_dirs_domains(const LibvirtDirs *dirs, GPtrArray *said, GError **error);

/* What decides a snapshot's place in the tree. */
typedef struct {
    char *path;
    char *name;
    char *parent; /* or NULL */
    gint64 time;
    gboolean active; /* marked as the current one */
} LibvirtSnapshot;

/* The snapshots of @domain in the order in which libvirt comes across them, each name once (of LibvirtSnapshot). */
GPtrArray *libvirt_dirs_snapshots(const LibvirtDirs *dirs, const char *domain, GPtrArray *said);

/* One of them whole. */
SnapshotDef *libvirt_read_snapshot(const char *path, GError **error);

/* SNAPSHOTS/DOMAIN; NULL for a name that is no entry of a directory. Caller frees. */
char *libvirt_dirs_snapshots_of(const LibvirtDirs *dirs, const char *domain);

/*
 * Does libvirt define a domain with that uuid: in the file @definition, in another one beside it (it was renamed), or
 * does it keep snapshots of it in @snapshots (may be NULL)? *ret_by: the file that says so, NULL when there is none.
 * Caller frees. FALSE, EROFS: it cannot be known, because a directory is not there or a file cannot be read.
 */
gboolean libvirt_defines(const char *definition, const char *snapshots, const char *uuid, char **ret_by,
                         GError **error);
