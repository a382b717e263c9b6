/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Printing a <domainsnapshot>: order and conditions are those of facts/libvirt-snapshots.md 1.1, row by row.
 */
#include "snapshot.h"

static void write_element(GString *out, int indent, const char *name, const char *text)
{
    g_string_append_printf(out, "%*s<%s>", indent, "", name);
    xml_write_escaped(out, text);
    g_string_append_printf(out, "</%s>\n", name);
}

static void write_memory(GString *out, const SnapshotDef *def)
{
    g_string_append(out, "  <memory");
    xml_write_attr(out, "snapshot", snap_mode_to_string(def->memory));
    if (def->memory_file != NULL)
        xml_write_attr(out, "file", def->memory_file);
    g_string_append(out, "/>\n");
}

static void write_disks(GString *out, const char *name, const GPtrArray *disks)
{
    if (disks->len == 0)
        return;
    g_string_append_printf(out, "  <%s>\n", name);
    for (guint i = 0; i < disks->len; i++)
        snapshot_disk_write(out, g_ptr_array_index(disks, i));
    g_string_append_printf(out, "  </%s>\n", name);
}

static void write_head(GString *out, const SnapshotDef *def)
{
    write_element(out, 2, "name", def->name);
    if (def->description != NULL && def->description[0] != '\0')
        write_element(out, 2, "description", def->description);
    if (def->state != STATE_NONE)
        write_element(out, 2, "state", snap_state_to_string(def->state));
    if (def->parent != NULL) {
        g_string_append(out, "  <parent>\n");
        write_element(out, 4, "name", def->parent);
        g_string_append(out, "  </parent>\n");
    }
    if (def->creation_time != 0)
        g_string_append_printf(out, "  <creationTime>%" G_GINT64_FORMAT "</creationTime>\n",
                               def->creation_time);
    if (def->memory != MODE_DEFAULT)
        write_memory(out, def);
    write_disks(out, "disks", def->disks);
    write_disks(out, "revertDisks", def->revert_disks);
}

static void write_domain(GString *out, const SnapshotDef *def)
{
    if (def->domain != NULL) {
        xml_write_node(out, xmlDocGetRootElement(def->domain->doc), 2);
    } else if (def->domain_uuid != NULL) {
        g_string_append(out, "  <domain>\n");
        write_element(out, 4, "uuid", def->domain_uuid);
        g_string_append(out, "  </domain>\n");
    }
}

/* libvirt never prints it as an empty element. */
static void write_cookie(GString *out, const xmlNode *cookie)
{
    if (xml_first_element(cookie) != NULL)
        xml_write_node(out, cookie, 2);
    else
        g_string_append(out, "  <cookie>\n  </cookie>\n");
}

char *snapshot_def_format(const SnapshotDef *def)
{
    GString *out = g_string_new("<domainsnapshot>\n");
    write_head(out, def);
    write_domain(out, def);
    if (def->inactive_domain != NULL)
        xml_write_node(out, def->inactive_domain, 2);
    if (def->cookie != NULL)
        write_cookie(out, def->cookie);
    g_string_append(out, "</domainsnapshot>\n");
    return g_string_free(out, FALSE);
}
