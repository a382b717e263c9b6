/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SnapshotDef: a <domainsnapshot> document in libvirt's format (facts/libvirt-snapshots.md 1, reference/).
 *
 * It is what the XML says and nothing more: where a layer really lies and what its tag is called is the store's
 * business (model.h, STORE.md). A SnapshotDef has one owner and no lock.
 */
#pragma once

#include "domain.h"
#include "request.h"

typedef struct {
    char *name;
    char *description; /* NULL when there is none; byte for byte */
    SnapState state;
    char *parent;         /* name, or NULL on a root */
    gint64 creation_time; /* seconds since the epoch; 0: not printed */
    SnapMode memory;      /* MODE_DEFAULT: no <memory> element */
    char *memory_file;
    GPtrArray *disks;         /* of SnapshotDisk, in the order of the document */
    DomainDef *domain;        /* full configuration, or NULL: then only domain_uuid */
    char *domain_uuid;        /* legacy <domain><uuid/></domain>; NULL with a full one */
    GPtrArray *revert_disks;  /* of SnapshotDisk, as the document says */
    xmlNode *inactive_domain; /* verbatim, or NULL; into doc */
    xmlNode *cookie;          /* likewise */
    gboolean has_active;      /* <active>: only in libvirt's own files */
    gboolean active;          /* what it says */
    xmlDoc *doc;              /* owns the verbatim nodes; NULL when there are none */
    /* Lines of the elements that only the domain can judge; 0: there is none. */
    long state_line;
    long parent_line;
    long domain_line;
} SnapshotDef;

SnapshotDef *snapshot_def_new(void);
void snapshot_def_free(SnapshotDef *def);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapshotDef, snapshot_def_free)

/* The recorded disk called @target, or NULL. */
SnapshotDisk *snapshot_def_find_disk(const SnapshotDef *def, const char *target);

/*
 * Parse a document that says everything: one to redefine, or one of the store (facts 1.3). EINVAL with element, disk
 * and line for every condition of that table that the document alone shows (name, creationTime, state, memory against
 * state, disks against the document's own <domain>, ...); EOPNOTSUPP where libvirt says "unsupported". Defaults of
 * memory and disks are filled in, but an external disk without a file gets none here. Stricter than libvirt in one
 * point: a creationTime of 0 is refused, because it would not be printed and so could not be read again; and laxer in
 * one: a subset of the disks may be internal (DESIGN 3).
 */
SnapshotDef *snapshot_def_parse(const char *text, gsize len, GError **error);

/*
 * Complete def->disks from @domain, in its order, and turn names into targets: done by snapshot_def_parse with the
 * document's own <domain>; for a document without one (def->domain is NULL) the caller may do it with the inherited
 * one. EOPNOTSUPP: a disk that @domain does not have, or that is named twice.
 */
gboolean snapshot_def_align_disks(SnapshotDef *def, const DomainDef *domain, GError **error);

/*
 * Let every place in the document that names the local image @from name @to, of @type and @format (see domain.h). Tells
 * whether anything was changed.
 */
gboolean snapshot_def_replace_image(SnapshotDef *def, const char *from, const char *to, DiskType type,
                                    ImageFormat format);

/* Let @inactive be what <inactiveDomain> says, beside the <domain> of a machine that ran. */
void snapshot_def_set_inactive(SnapshotDef *def, const DomainDef *inactive);

/* Secrets in <domain> and <inactiveDomain>, see domain.h. */
gboolean snapshot_def_has_secret(const SnapshotDef *def);
void snapshot_def_strip_secrets(SnapshotDef *def);
void snapshot_def_restore_secrets(SnapshotDef *def, const SnapshotDef *old);

/*
 * Parse only what stands before <domain> of a document in the layout we write: enough for the tree, many times
 * faster. The result has neither domain nor the nodes that follow it, and of the disks those that are listed. Falls back
 * to the whole parse for other layouts.
 */
SnapshotDef *snapshot_def_parse_head(const char *text, gsize len, GError **error);

/* The document's text as `virsh snapshot-dumpxml` prints it. Caller frees. */
char *snapshot_def_format(const SnapshotDef *def);

/*
 * Parse a document that asks for a snapshot to be created (facts 1.2): name, description, memory and disks are read,
 * the rest is ignored. The flags of the result are all unset. Caller frees with create_request_free.
 */
CreateRequest *snapshot_parse_create(const char *text, gsize len, GError **error);
