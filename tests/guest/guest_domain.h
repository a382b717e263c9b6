/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine for the test guest, as a <domain>: for whoever starts QEMU from a definition, and for libvirt. */
#pragma once

/*
 * A pc of @type ("qemu": TCG, or "kvm") with 32 MiB, and @images (NULL-terminated) as its disks vda, vdb... on virtio,
 * in the cache mode "unsafe", so that a step of the guest is short. @devices: more elements for <devices>, or NULL; no
 * <uuid>. Caller frees.
 *
 * Each disk has a <boot order>, without which the guest would not write to it: libvirt boots "strictly", and SeaBIOS
 * leaves alone then what it is not told to boot from.
 */
char *guest_domain_xml(const char *name, const char *type, const char *const *images, const char *devices);
