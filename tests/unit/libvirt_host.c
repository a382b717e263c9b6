/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "libvirt_host.h"

#include <glib/gstdio.h>
#include <stdarg.h>
#include <string.h>

#define BANNER                                                                                               \
    "<!--\n"                                                                                                 \
    "WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\n"                              \
    "OVERWRITTEN AND LOST. Changes to this xml configuration should be made using:\n"                        \
    "  virsh %s\n"                                                                                           \
    "or other application using the libvirt API.\n"                                                          \
    "-->\n\n"

static void qemu_img(const char *first, ...) G_GNUC_NULL_TERMINATED;
static void qemu_img(const char *first, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    int status = 0;
    va_list args;
    g_ptr_array_add(argv, (gpointer) "qemu-img");
    va_start(args, first);
    for (const char *word = first; word; word = va_arg(args, const char *))
        g_ptr_array_add(argv, (gpointer)word);
    va_end(args);
    g_ptr_array_add(argv, NULL);
    gboolean ok =
        g_spawn_sync(NULL, (char **)argv->pdata, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL,
                     NULL, NULL, NULL, &status, &error);
    ck_assert_msg(ok && status == 0, "qemu-img %s: %s", first, error ? error->message : "failed");
}

static void put(const char *path, const char *text)
{
    ck_assert_msg(g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL),
                  "'%s' cannot be written", path);
}

static char *get(const char *path)
{
    char *text = NULL;
    ck_assert_msg(g_file_get_contents(path, &text, NULL, NULL), "'%s' cannot be read", path);
    return text;
}

LibvirtHost *libvirt_host_new(const char *root)
{
    LibvirtHost *host = g_new0(LibvirtHost, 1);
    host->root = g_strdup(root);
    host->definitions = g_build_filename(root, "etc/libvirt/qemu", NULL);
    host->snapshots = g_build_filename(root, "var/lib/libvirt/qemu/snapshot", NULL);
    ck_assert_int_eq(g_mkdir_with_parents(host->definitions, 0755), 0);
    ck_assert_int_eq(g_mkdir_with_parents(host->snapshots, 0755), 0);
    return host;
}

void libvirt_host_free(LibvirtHost *host)
{
    g_free(host->root);
    g_free(host->definitions);
    g_free(host->snapshots);
    g_free(host);
}

/* --- definitions --- */

LibvirtMachine *libvirt_machine_new(const LibvirtHost *host, const char *name, ...)
{
    LibvirtMachine *machine = g_new0(LibvirtMachine, 1);
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA1, name, -1);
    machine->host = host;
    machine->name = g_strdup(name);
    machine->uuid =
        g_strdup_printf("%.8s-%.4s-4%.3s-8%.3s-%.12s", sum, sum + 8, sum + 12, sum + 16, sum + 20);
    machine->extra = g_strdup("");
    machine->time = 1700000000;
    va_list paths;
    va_start(paths, name);
    for (guint i = 0; i < MACHINE_DISKS; i++) {
        const char *path = va_arg(paths, const char *);
        if (!path)
            break;
        machine->disks[i] = g_strdup(path);
    }
    va_end(paths);
    libvirt_machine_define(machine);
    return machine;
}

void libvirt_machine_free(LibvirtMachine *machine)
{
    for (guint i = 0; i < MACHINE_DISKS; i++)
        g_free(machine->disks[i]);
    g_free(machine->name);
    g_free(machine->uuid);
    g_free(machine->extra);
    g_free(machine->current);
    g_free(machine);
}

/* The <domain>, each line indented by @indent. */
static void append_domain(GString *out, const LibvirtMachine *machine, const char *indent)
{
    g_autofree char *name = g_markup_escape_text(machine->name, -1);
    g_autoptr(GString) xml = g_string_new(NULL);
    g_string_append_printf(
        xml,
        "<domain type='kvm'>\n  <name>%s</name>\n  <uuid>%s</uuid>\n"
        "  <memory unit='KiB'>65536</memory>\n  <os>\n"
        "    <type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>\n  </os>\n  <devices>\n",
        name, machine->uuid);
    for (guint i = 0; i < MACHINE_DISKS && machine->disks[i]; i++) {
        g_autofree char *path = g_markup_escape_text(machine->disks[i], -1);
        g_string_append_printf(xml,
                               "    <disk type='file' device='disk'>\n"
                               "      <driver name='qemu' type='qcow2'/>\n"
                               "      <source file='%s'/>\n"
                               "      <target dev='vd%c' bus='virtio'/>\n    </disk>\n",
                               path, 'a' + (int)i);
    }
    g_string_append_printf(xml, "%s  </devices>\n</domain>", machine->extra);
    g_auto(GStrv) lines = g_strsplit(xml->str, "\n", -1);
    for (guint i = 0; lines[i]; i++)
        g_string_append_printf(out, "%s%s\n", indent, lines[i]);
}

char *libvirt_machine_file(const LibvirtMachine *machine)
{
    return g_strdup_printf("%s/%s.xml", machine->host->definitions, machine->name);
}

void libvirt_machine_define(const LibvirtMachine *machine)
{
    g_autofree char *path = libvirt_machine_file(machine);
    g_autoptr(GString) text = g_string_new(NULL);
    g_string_append_printf(text, BANNER, "edit somebody");
    append_domain(text, machine, "");
    put(path, text->str);
}

/* --- snapshots --- */

char *libvirt_machine_snapshot_file(const LibvirtMachine *machine, const char *name)
{
    return g_strdup_printf("%s/%s/%s.xml", machine->host->snapshots, machine->name, name);
}

void libvirt_machine_put(const LibvirtMachine *machine, const char *file, const char *text)
{
    g_autofree char *dir = g_build_filename(machine->host->snapshots, machine->name, NULL);
    g_autofree char *path = g_build_filename(dir, file, NULL);
    ck_assert_int_eq(g_mkdir_with_parents(dir, 0755), 0);
    put(path, text);
}

void libvirt_machine_edit(const LibvirtMachine *machine, const char *name, const char *from, const char *to)
{
    g_autofree char *path = libvirt_machine_snapshot_file(machine, name);
    g_autofree char *text = get(path);
    g_autoptr(GString) edited = g_string_new(text);
    ck_assert_msg(g_string_replace(edited, from, to, 1) == 1, "no '%s' in %s", from, text);
    put(path, edited->str);
}

char *libvirt_machine_dump(const LibvirtMachine *machine, const char *name)
{
    g_autofree char *path = libvirt_machine_snapshot_file(machine, name);
    g_autofree char *text = get(path);
    g_autoptr(GRegex) active = g_regex_new("  <active>[01]</active>\n", 0, 0, NULL);
    return g_regex_replace_literal(active, strstr(text, "<domainsnapshot>"), -1, 0, "", 0, NULL);
}

/* The disk's overlay is what the machine writes from now on. */
static void take_overlay(LibvirtMachine *machine, guint disk, const char *name)
{
    const char *dot = strrchr(machine->disks[disk], '.');
    char *path = g_strdup_printf("%.*s.%s", (int)(dot - machine->disks[disk]), machine->disks[disk], name);
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", machine->disks[disk], path, NULL);
    g_free(machine->disks[disk]);
    machine->disks[disk] = path;
}

static void append_disk(GString *out, LibvirtMachine *machine, guint disk, const char *name, char mode)
{
    g_string_append_printf(out, "    <disk name='vd%c' snapshot='%s'", 'a' + (int)disk,
                           mode == 'i'   ? "internal"
                           : mode == 'e' ? "external"
                                         : "no");
    if (mode == 'i')
        qemu_img("snapshot", "-c", name, machine->disks[disk], NULL);
    if (mode != 'e') {
        g_string_append(out, "/>\n");
        return;
    }
    take_overlay(machine, disk, name);
    g_autofree char *path = g_markup_escape_text(machine->disks[disk], -1);
    g_string_append_printf(
        out, " type='file'>\n      <driver type='qcow2'/>\n      <source file='%s'/>\n    </disk>\n", path);
}

void libvirt_machine_snapshot(LibvirtMachine *machine, const char *name, const char *modes)
{
    g_autofree char *text_name = g_markup_escape_text(name, -1);
    g_autofree char *file = g_strconcat(name, ".xml", NULL);
    g_autoptr(GString) before = g_string_new(NULL);
    g_autoptr(GString) out = g_string_new(NULL);
    append_domain(before, machine, "  ");
    g_string_append_printf(out, BANNER "<domainsnapshot>\n  <name>%s</name>\n  <state>shutoff</state>\n",
                           "snapshot-edit", text_name);
    if (machine->current) {
        g_autofree char *parent = g_markup_escape_text(machine->current, -1);
        g_string_append_printf(out, "  <parent>\n    <name>%s</name>\n  </parent>\n", parent);
        libvirt_machine_edit(machine, machine->current, "<active>1<", "<active>0<");
    }
    g_string_append_printf(out,
                           "  <creationTime>%" G_GINT64_FORMAT "</creationTime>\n  <memory snapshot='no'/>\n",
                           machine->time++);
    g_string_append(out, "  <disks>\n");
    gsize n = strlen(modes);
    for (guint i = 0; i < MACHINE_DISKS && machine->disks[i]; i++)
        append_disk(out, machine, i, name, i < n ? modes[i] : '-');
    g_string_append_printf(out, "  </disks>\n%s  <active>1</active>\n</domainsnapshot>\n", before->str);
    libvirt_machine_put(machine, file, out->str);
    g_free(machine->current);
    machine->current = g_strdup(name);
    libvirt_machine_define(machine);
}

void libvirt_machine_revert(LibvirtMachine *machine, const char *name)
{
    for (guint i = 0; i < MACHINE_DISKS && machine->disks[i]; i++)
        qemu_img("snapshot", "-a", name, machine->disks[i], NULL);
    libvirt_machine_edit(machine, machine->current, "<active>1<", "<active>0<");
    libvirt_machine_edit(machine, name, "<active>0<", "<active>1<");
    g_free(machine->current);
    machine->current = g_strdup(name);
}

void libvirt_machine_undefine(const LibvirtMachine *machine)
{
    g_autofree char *file = libvirt_machine_file(machine);
    g_autofree char *path = g_build_filename(machine->host->snapshots, machine->name, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *entry;
    while (dir && (entry = g_dir_read_name(dir))) {
        g_autofree char *snapshot = g_build_filename(path, entry, NULL);
        (void)g_unlink(snapshot);
    }
    (void)g_rmdir(path);
    ck_assert_int_eq(g_unlink(file), 0);
}
