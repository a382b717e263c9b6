/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that libvirt takes for granted: what a document that it reads has although it does not say so, and what it does
 * not say in a save image although the machine has it. Inside of saveimage.c.
 */
#pragma once

#include "domain.h"

/* For libvirt to read: @def says of the USB controller and the balloon that there is none where it lists none. */
void saveimage_say_none(DomainDef *def);

/*
 * As libvirt has written it: a pc ("i440fx") with no word of USB has the controller of its chipset. (Left out for versions
 * before 0.9.4; a stream without it would be another machine's.)
 */
void saveimage_add_usual(DomainDef *def);
