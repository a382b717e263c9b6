/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DomainDef: a <domain> document, and the few parts of it that snapshots are about.
 *
 * The document itself (def->doc) is the truth and is carried verbatim; the fields are read from it. Change the document
 * only through the functions below, which keep both in step. A DomainDef has one owner and no lock.
 */
#pragma once

#include "format.h"
#include "xml.h"

/* One level of <backingStore> as the document names it. */
typedef struct {
    DiskType type;
    char *path; /* file= or dev=; NULL for an empty one, and where the type has no local path */
    ImageFormat format;
} BackingDef;

typedef struct {
    char *target; /* <target dev=>: the disk's name, unique in the domain */
    char *bus;    /* <target bus=>, NULL when absent */
    DiskType type;
    DiskDevice device;
    ImageFormat
        format;   /* driver type; FORMAT_NONE when the document names none (libvirt reads that as raw) */
    char *source; /* file= or dev=; NULL for an empty drive and for network and volume disks */
    char *uri;    /* of an NBD export (remote.h); NULL: it is none, or one that we would not open */
    gboolean has_source;
    SnapMode snapshot; /* the snapshot= attribute, MODE_DEFAULT when absent */
    gboolean readonly; /* <readonly/>; always set for a cdrom */
    gboolean shareable;
    gboolean transient;
    GPtrArray
        *backing;  /* of BackingDef, nearest first: what <backingStore> names; empty when it names nothing */
    xmlNode *node; /* into the document */
    long line;
} DiskDef;

typedef struct {
    char *name;
    char *uuid;         /* lower case with dashes */
    gboolean uuid_made; /* the document had none */
    char *type;         /* kvm, qemu, ... */
    char *nvram;        /* path in <os><nvram>, or NULL */
    gboolean tpm;       /* it has one, whose state no snapshot has */
    gboolean secret;    /* the document holds a secret (passwd= and the like) */
    GPtrArray *disks;   /* of DiskDef, in document order */
    xmlDoc *doc;
} DomainDef;

/*
 * Parse a <domain> document. Errors: EINVAL, with element, disk and line: not well-formed; no name; name or uuid
 * malformed; no <target dev=>, or one with other characters than letters, digits, '_', '-', ':'; two disks with one
 * target; a disk (no cdrom or floppy) without a source; relative path of an image or of the NVRAM; unknown disk type,
 * device or snapshot= word; a source path with control characters; a <backingStore> without format or source.
 * EOPNOTSUPP: a driver type other than raw, qcow2, qed, or <slices> (on a disk with a local file). A missing <uuid> is
 * generated and put into the document, as libvirt does.
 */
DomainDef *domain_def_parse(const char *text, gsize len, GError **error);

/* The same from a <domain> element inside another document (deep copy; @node may also be called inactiveDomain). */
DomainDef *domain_def_parse_node(const xmlNode *node, GError **error);

DomainDef *domain_def_copy(const DomainDef *def);
void domain_def_free(DomainDef *def);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainDef, domain_def_free)

/* @text as libvirt reads a uuid (dashes and case as one likes), in lower case with dashes; NULL: it is none. */
char *domain_uuid_normalize(const char *text);

/* The document's text in libvirt's layout. Caller frees. */
char *domain_def_format(const DomainDef *def);

/* The disk called @name: by target, else by source path if exactly one disk has it (facts 1.5). NULL otherwise. */
DiskDef *domain_def_find_disk(const DomainDef *def, const char *name);

void domain_def_set_name(DomainDef *def, const char *name);
void domain_def_set_uuid(DomainDef *def, const char *uuid);

/*
 * Point @disk at @path with @format: type, <source> and driver type change, everything else stays (of <source>: its
 * startupPolicy=; what belongs to the image, such as <seclabel>, <encryption>, <metadata_cache>, goes, as with libvirt). @path is UTF-8. If the document
 * names a <backingStore> for the disk, it is replaced by what @backing (of BackingDef, nearest first, may be NULL or
 * empty) lists; a document without one gets none, and one that said only that nothing is below loses it when something
 * is (libvirt does so: what is not listed is found out).
 */
void domain_def_set_source(DomainDef *def, DiskDef *disk, DiskType type, const char *path, ImageFormat format,
                           const GPtrArray *backing);

/* Call the local image that @disk has by another path: nothing else changes. */
void domain_def_set_path(DiskDef *disk, const char *path);

/* The same with a copy of the network <source> @source in the place of the old one, and type='network'. */
void domain_def_set_network_source(DomainDef *def, DiskDef *disk, const xmlNode *source, ImageFormat format,
                                   const GPtrArray *backing);

/*
 * Give @disk the type, <source>, driver type and <backingStore> that @from, a disk of another document, has: also none.
 * A disk that is another device there (a cdrom, say) becomes that device.
 */
void domain_def_take_source(DomainDef *def, DiskDef *disk, const DiskDef *from);

/*
 * What was asked of the image that @disk has just been pointed at: the size of its metadata cache (0: nothing), and the
 * <seclabel>s of @source (may be NULL).
 */
void domain_def_describe_image(DiskDef *disk, guint64 cache_size, const xmlNode *source);

/*
 * Let every disk, and every <backingStore>, that names the local image @from name @path, of @type and @format; of two
 * levels of one chain that then name the same, one goes. The node form changes a <domain> element in place and tells
 * whether it did; the other gives a changed copy, or NULL when nothing was to be changed.
 */
gboolean domain_node_replace_image(xmlNode *root, const char *from, const char *path, DiskType type,
                                   ImageFormat format);
DomainDef *domain_def_replace_image(const DomainDef *def, const char *from, const char *path, DiskType type,
                                    ImageFormat format);

/* The bus @disk is on: as libvirt, the one its name begins with where it does not say. NULL: that tells none. */
const char *disk_def_bus(const DiskDef *disk);

/* Does @disk hold media that a snapshot could be about? (not an empty drive) */
gboolean disk_def_has_media(const DiskDef *disk);

void disk_def_free(DiskDef *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DiskDef, disk_def_free)

BackingDef *backing_def_new(DiskType type, const char *path, ImageFormat format);
void backing_def_free(BackingDef *backing);

/*
 * Secrets (DESIGN 3): passwd= attributes and the like. Strip takes them out of the document; restore puts the value
 * that @old has at the same place (same device, same element) where @def has none. The functions on a node do the same
 * for a <domain> or <inactiveDomain> element anywhere.
 */
gboolean domain_node_has_secret(const xmlNode *root);
void domain_node_strip_secrets(xmlNode *root);
void domain_node_restore_secrets(xmlNode *root, const xmlNode *old);
void domain_def_strip_secrets(DomainDef *def);
void domain_def_restore_secrets(DomainDef *def, const DomainDef *old);
