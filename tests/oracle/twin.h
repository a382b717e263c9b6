/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Twin: one machine twice, defined in libvirt and in domsnapfs from the same document, each with images of its own: in
 * the directories virt/ and ours/, so that the two paths are equally long and all else is the same. Each gesture is made
 * on both sides; twin_compare() then requires the same documents of every snapshot and of the domain, byte for byte but
 * for the times of creation and the directory.
 *
 * In options and documents @DIR@ stands for the directory of each side.
 */
#pragma once

#include "machine.h"
#include "virt.h"

typedef struct {
    World *w;
    const char *domain;
    const char *uuid;
    GPtrArray *targets;       /* of disks that a guest can write */
    GPtrArray *swaps;         /* pairs: what our documents say, what libvirt's say instead, for a reason */
    GHashTable *states;       /* "snapshot target" -> hash of its content */
    const char *their_domain; /* libvirt's definition when it was last compared */
    guint step;
} Twin;

/*
 * A machine on both sides. @disks: words "target:format[:flag]...", flags: ro, share, cdrom, floppy, empty, or a word for
 * snapshot=. @extra: more of <devices>, or NULL.
 */
Twin *twin_new(World *w, const char *disks, const char *extra);
/* Define @xml (with libvirt's directory in it) on both sides: libvirt first, here what it makes of it. */
void twin_define(Twin *t, const char *xml);
/* Undefines it in libvirt. */
void twin_free(Twin *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Twin, twin_free)

/* The guest writes: the same on both sides, something new at every step, into every disk it can write. */
void twin_touch(Twin *t);

/*
 * snapshot-create-as / create, NAME ("": none) and more words up to NULL: done on both sides and compared. Or it must be
 * refused on both sides, and nothing have changed.
 */
void twin_create(Twin *t, const char *name, ...) G_GNUC_NULL_TERMINATED;
void twin_refuse(Twin *t, const char *name, ...) G_GNUC_NULL_TERMINATED;
/*
 * What libvirt refuses and we do, for the reason that the test says. @modes: what our document says of the disks, in
 * order ("internal no"). From then on the two are not alike.
 */
void twin_beyond(Twin *t, const char *modes, const char *name, ...) G_GNUC_NULL_TERMINATED;
/* What libvirt does and loses data by; we refuse it, and nothing of ours changes. From then on the two are not alike. */
void twin_safer(Twin *t, const char *name, ...) G_GNUC_NULL_TERMINATED;
/* snapshot-create / create with a document; @option: --disk-only, or NULL. */
void twin_create_xml(Twin *t, const char *xml, const char *option);
void twin_refuse_xml(Twin *t, const char *xml, const char *option);
/* snapshot-create --redefine / redefine; @option: --current, or NULL. */
void twin_redefine(Twin *t, const char *xml, const char *option);
void twin_refuse_redefine(Twin *t, const char *xml);
void twin_revert(Twin *t, const char *name);
/* @option: "--children", "--metadata", ..., or NULL. */
void twin_delete(Twin *t, const char *name, const char *option);

/* From now on our documents may say @ours where libvirt's say @theirs. */
void twin_differs(Twin *t, const char *ours, const char *theirs);

/* Compare every document, the tree and what is current. */
void twin_compare(Twin *t);
/*
 * Compare the content of every state and of every disk now, on both sides and with what it was when it was taken. Or of
 * our states only.
 */
void twin_compare_contents(Twin *t);
void twin_check_our_states(Twin *t);
/* virt-xml-validate on every document that the mount shows. */
void twin_validate(Twin *t);

/* --- one side --- */
/* Names of the snapshots as libvirt lists them, parents first. NULL-terminated. *ret_current (may be NULL): "": none. */
char **twin_names(const Twin *t, const char **ret_current);
/* A document as it stands, secrets included: of a snapshot; of the domain (NULL). */
const char *twin_their_xml(const Twin *t, const char *snapshot);
const char *twin_our_xml(const Twin *t, const char *snapshot);
const char *twin_our_current(const Twin *t);
/* What the disk held when the snapshot was taken: its hash. And what it holds now, as a definition says where. */
const char *twin_remembered(const Twin *t, const char *snapshot, const char *target);
const char *twin_holds(const Twin *t, const char *domain_xml, const char *target);
/* Text with @DIR@ replaced by libvirt's directory. */
const char *twin_on_their_side(const Twin *t, const char *text);
/* Put a document into a file that virsh can read: its path. */
const char *twin_put_file(const Twin *t, const char *text);
