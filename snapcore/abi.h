/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ABI: what of a machine its guest can tell. Two definitions between which a guest must not be moved differ in it;
 * sources of disks, backends, names, descriptions and what the host does with the machine do not count.
 *
 * Compared are, as by libvirt: uuid, kind of virtualization, os type, arch, machine and smbios mode; memory and vcpus, at
 * most and now; cpu (but how libvirt checks it), features; of each disk device, bus, serial number, wwn, address and
 * whether it can be written; of the other devices in the order they stand, kind by kind, models, ports, MAC and other
 * addresses. Definitions are compared as they are written: what one says and the other leaves open is a difference.
 */
#pragma once

#include "domain.h"

/* EOPNOTSUPP with the first thing that @is has otherwise than @was. */
gboolean abi_check(const DomainDef *was, const DomainDef *is, GError **error);
