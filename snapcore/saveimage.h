/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Save images: the file in which libvirt keeps the memory of a machine that was stopped (`virsh save` writes it, `virsh
 * restore` and `virsh save-image-dumpxml` read it), and in which we keep that of a snapshot.
 *
 *   0     16 bytes  "LibvirtQemudSave"; "LibvirtQemudPart" as long as it is not complete
 *   16    u32       version, 2
 *   20    u32       length of the texts below, with what is left free behind them
 *   24    u32       1: the machine ran; 0: it was paused
 *   28    u32       compression: 0 none, 1 gzip, 2 bzip2, 3 xz, 4 lzop, 5 zstd
 *   32    u32       where in the texts the cookie begins (libvirt's own notes about the cpu); 0: there is none
 *   36    12 x u32  0
 *   84    2 x u32   0; where we wrote it: how many bytes the whole file has, the lower half first
 *   92              <domain>, NUL; the cookie, NUL; room in which `virsh save-image-edit` can write a longer <domain>
 *   92 + length     QEMU's migration stream, as it is
 *
 * Numbers are in the byte order of the host that wrote it; one of the other order has a version beyond all known, and is
 * read, too, as libvirt does. (Seen in files of libvirt 9.0.)
 */
#pragma once

#include "domain.h"

/*
 * Begin an image in @fd, a regular file that is empty: the header, incomplete, and @def, with its secrets and with
 * a word (model='none') for what libvirt would add to it. @fd stands where the stream has to be written then. E2BIG: a definition of more than XML_MAX_BYTES.
 */
gboolean saveimage_begin(int fd, const DomainDef *def, gboolean running, GError **error);

/*
 * The stream is written: make it durable, and then say, durably, that the image is complete. EINVAL: what is there is no
 * image of ours with a stream.
 */
gboolean saveimage_finish(int fd, GError **error);

typedef struct {
    int fd;           /* open for reading, at the beginning of the stream */
    DomainDef *def;   /* with what libvirt does not write down of a pc: its USB controller */
    gboolean running; /* when it was saved */
} SaveImage;

/*
 * Open the image @path, whose texts nobody trusts. ENOENT, EACCES; EINVAL: it is no regular file, no save image, not
 * complete, damaged, or its <domain> is none; EOPNOTSUPP: compressed, or of a version we do not know.
 */
SaveImage *saveimage_open(const char *path, GError **error);

/* Does @image fit the machine @def? EOPNOTSUPP with the first thing that is otherwise (abi.h). */
gboolean saveimage_fits(const SaveImage *image, const DomainDef *def, GError **error);
void saveimage_close(SaveImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SaveImage, saveimage_close)
