/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "guest.h"
#include "guest_domain.h"

static void add_disk(GString *xml, const char *image, guint index)
{
    g_autofree char *file = g_markup_escape_text(image, -1);
    g_string_append_printf(xml,
                           "    <disk type='file' device='disk'>\n"
                           "      <driver name='qemu' type='%s' cache='unsafe'/>\n"
                           "      <source file='%s'/>\n"
                           "      <target dev='vd%c' bus='virtio'/>\n"
                           "      <boot order='%u'/>\n"
                           "    </disk>\n",
                           guest_disk_format(image), file, (char)('a' + index), index + 1);
}

char *guest_domain_xml(const char *name, const char *type, const char *const *images, const char *devices)
{
    g_autofree char *text = g_markup_escape_text(name, -1);
    GString *xml = g_string_new(NULL);
    g_string_append_printf(xml,
                           "<domain type='%s'>\n"
                           "  <name>%s</name>\n"
                           "  <memory unit='MiB'>32</memory>\n"
                           "  <vcpu>1</vcpu>\n"
                           "  <os>\n"
                           "    <type arch='x86_64' machine='pc'>hvm</type>\n"
                           "  </os>\n"
                           "  <features>\n"
                           "    <acpi/>\n"
                           "  </features>\n"
                           "  <devices>\n"
                           "    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n",
                           type, text);
    for (guint i = 0; images[i]; i++)
        add_disk(xml, images[i], i);
    g_string_append_printf(xml,
                           "%s"
                           "  </devices>\n"
                           "</domain>\n",
                           devices ? devices : "");
    return g_string_free(xml, FALSE);
}
