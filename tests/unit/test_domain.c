/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "domain.h"
#include "error.h"
#include "fedora_xml.h"
#include "runner.h"

#define UUID "31a85633-b9ac-4798-afcc-33c9afe8bef1"

static DomainDef *must_parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    DomainDef *def = domain_def_parse(text, strlen(text), &error);
    ck_assert_msg(def != NULL, "%s: %s", text, error ? error->message : "?");
    return def;
}

static DomainDef *fedora(void)
{
    g_autofree char *text = fedora_document();
    return must_parse(text);
}

static DiskDef *disk_at(const DomainDef *def, guint i)
{
    ck_assert_uint_lt(i, def->disks->len);
    return g_ptr_array_index(def->disks, i);
}

/* Whatever the fields say, the document says too: read it again and compare. */
static void assert_in_step(const DomainDef *def)
{
    g_autofree char *text = domain_def_format(def);
    g_autoptr(DomainDef) again = must_parse(text);
    g_autofree char *text_again = domain_def_format(again);
    ck_assert_str_eq(text_again, text);
    ck_assert_str_eq(def->name, again->name);
    ck_assert_str_eq(def->uuid, again->uuid);
    ck_assert_str_eq(def->type, again->type);
    ck_assert_pstr_eq(def->nvram, again->nvram);
    ck_assert_int_eq(def->secret, again->secret);
    ck_assert_uint_eq(def->disks->len, again->disks->len);
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *a = disk_at(def, i);
        const DiskDef *b = disk_at(again, i);
        ck_assert_str_eq(a->target, b->target);
        ck_assert_pstr_eq(a->bus, b->bus);
        ck_assert_pstr_eq(a->source, b->source);
        ck_assert_int_eq(a->type, b->type);
        ck_assert_int_eq(a->device, b->device);
        ck_assert_int_eq(a->format, b->format);
        ck_assert_int_eq(a->snapshot, b->snapshot);
        ck_assert_int_eq(a->has_source, b->has_source);
        ck_assert_int_eq(a->readonly, b->readonly);
        ck_assert_uint_eq(a->backing->len, b->backing->len);
        for (guint k = 0; k < a->backing->len; k++) {
            const BackingDef *x = g_ptr_array_index(a->backing, k);
            const BackingDef *y = g_ptr_array_index(b->backing, k);
            ck_assert_pstr_eq(x->path, y->path);
            ck_assert_int_eq(x->format, y->format);
        }
    }
}

/* --- reading --- */

START_TEST(golden)
{
    g_autofree char *text = fedora_document();
    g_autoptr(DomainDef) def = must_parse(text);
    g_autofree char *again = domain_def_format(def);
    ck_assert_str_eq(again, text);
    ck_assert_str_eq(def->name, "fedora");
    ck_assert_str_eq(def->uuid, UUID);
    ck_assert_str_eq(def->type, "kvm");
    ck_assert_str_eq(def->nvram, "/var/lib/libvirt/qemu/nvram/fedora_VARS.fd");
    ck_assert(def->secret);
    assert_in_step(def);
}
END_TEST

START_TEST(golden_disks)
{
    static const struct {
        const char *target, *bus, *source;
        DiskType type;
        DiskDevice device;
        ImageFormat format;
        SnapMode snapshot;
        gboolean media, readonly, shareable;
        guint n_backing;
    } expected[] = {
        {"vda", "virtio", "/var/lib/libvirt/images/fedora.clean", DISK_FILE, DEVICE_DISK, FORMAT_QCOW2,
         MODE_DEFAULT, TRUE, FALSE, FALSE, 2},
        {"vdb", "virtio", "/dev/vg0/data", DISK_BLOCK, DEVICE_DISK, FORMAT_RAW, MODE_EXTERNAL, TRUE, FALSE,
         TRUE, 0},
        {"vdc", "virtio", NULL, DISK_NETWORK, DEVICE_DISK, FORMAT_RAW, MODE_DEFAULT, TRUE, FALSE, FALSE, 0},
        {"sda", "sata", NULL, DISK_FILE, DEVICE_CDROM, FORMAT_RAW, MODE_DEFAULT, FALSE, TRUE, FALSE, 0},
        {"fda", "fdc", "/var/lib/libvirt/images/driver's \"disk\".img", DISK_FILE, DEVICE_FLOPPY, FORMAT_RAW,
         MODE_DEFAULT, TRUE, FALSE, FALSE, 0},
    };
    g_autoptr(DomainDef) def = fedora();
    ck_assert_uint_eq(def->disks->len, G_N_ELEMENTS(expected));
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *disk = disk_at(def, i);
        ck_assert_str_eq(disk->target, expected[i].target);
        ck_assert_str_eq(disk->bus, expected[i].bus);
        ck_assert_pstr_eq(disk->source, expected[i].source);
        ck_assert_int_eq(disk->type, expected[i].type);
        ck_assert_int_eq(disk->device, expected[i].device);
        ck_assert_int_eq(disk->format, expected[i].format);
        ck_assert_int_eq(disk->snapshot, expected[i].snapshot);
        ck_assert_int_eq(disk_def_has_media(disk), expected[i].media);
        ck_assert_int_eq(disk->readonly, expected[i].readonly);
        ck_assert_int_eq(disk->shareable, expected[i].shareable);
        ck_assert_uint_eq(disk->backing->len, expected[i].n_backing);
    }
    const BackingDef *second = g_ptr_array_index(disk_at(def, 0)->backing, 1);
    ck_assert_str_eq(second->path, "/dev/vg0/template");
    ck_assert_int_eq(second->format, FORMAT_RAW);
    ck_assert_int_eq(disk_at(def, 0)->line, 46);
}
END_TEST

static char *with_disk(const char *disk)
{
    return g_strconcat("<domain type=\"kvm\"><name>d</name><uuid>" UUID "</uuid>\n<devices>\n", disk,
                       "</devices></domain>", NULL);
}

/* What libvirt 9.0 fills in: type file, device disk. */
START_TEST(disk_defaults)
{
    g_autofree char *text = with_disk(
        "<disk><source file='/a'/><target dev='vda'/></disk>"
        "<disk device='lun' type='block'><source dev='/dev/b' file='/no'/><target "
        "dev='sda'/><transient/></disk>"
        "<disk type='volume'><source pool='p' volume='v'/><target dev='vdb'/></disk>"
        "<disk device='floppy'><source file=''/><target dev='fda'/></disk>"
        "<disk device='cdrom'><target dev='sdb'/></disk>"
        "<disk type='dir'><source dir='/d'/><driver type='fat'/><target dev='vdc'/></disk>"
        "<disk snapshot='manual'><driver name='qemu'/><source file='/q'/><target "
        "dev='vdd'/><backingStore><format type='raw'/><source file='/not-named'/></backingStore></disk>");
    g_autoptr(DomainDef) def = must_parse(text);
    ck_assert_int_eq(disk_at(def, 0)->type, DISK_FILE);
    ck_assert_int_eq(disk_at(def, 0)->device, DEVICE_DISK);
    ck_assert_int_eq(disk_at(def, 0)->format, FORMAT_NONE);
    ck_assert_ptr_null(disk_at(def, 0)->bus);
    ck_assert_str_eq(disk_at(def, 1)->source, "/dev/b");
    ck_assert(disk_at(def, 1)->transient);
    ck_assert(disk_at(def, 2)->has_source && disk_at(def, 2)->source == NULL);
    ck_assert(!disk_def_has_media(disk_at(def, 3)) && disk_at(def, 3)->source == NULL);
    ck_assert_int_eq(disk_at(def, 5)->type, DISK_OTHER);
    ck_assert_int_eq(disk_at(def, 6)->snapshot, MODE_MANUAL);
    ck_assert_int_eq(disk_at(def, 6)->format, FORMAT_NONE);
    ck_assert_uint_eq(disk_at(def, 6)->backing->len, 0);
    ck_assert(disk_at(def, 4)->readonly && !disk_at(def, 3)->readonly);
    ck_assert(!def->secret);
    ck_assert_ptr_null(def->nvram);
}
END_TEST

/* libvirt looks into every <devices>; so must we, or a disk would hide. */
START_TEST(two_device_lists)
{
    static const char text[] =
        "<domain type='kvm'><name>d</name>"
        "<devices><disk><source file='/a'/><target dev='vda'/></disk></devices>"
        "<devices><disk><source file='/b'/><target dev='vdb'/></disk></devices></domain>";
    g_autoptr(DomainDef) def = must_parse(text);
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    ck_assert_uint_eq(def->disks->len, 2);
    ck_assert_str_eq(disk_at(copy, 1)->target, "vdb");
}
END_TEST

#define DOMAIN(body) "<domain type='kvm'>" body "</domain>"
#define NAMED(body) DOMAIN("<name>d</name>" body)
#define DISK(body) NAMED("\n<devices>\n" body "</devices>")

static const struct {
    const char *text;
    int err;
    const char *message; /* a part of it */
} refused[] = {
    {"<domain>", EINVAL, "the XML ends"},
    {"<domainsnapshot/>", EINVAL, "line 1: <domainsnapshot>: the root element must be <domain>"},
    {"<domain><name>d</name></domain>", EINVAL, "no type="},
    {"<domain type=''><name>d</name></domain>", EINVAL, "no type="},
    {DOMAIN(""), EINVAL, "no <name>"},
    {DOMAIN("<name/>"), EINVAL, "line 1: <name>: a domain's name cannot be empty"},
    {DOMAIN("<name>a/b</name>"), EINVAL, "cannot contain '/'"},
    {DOMAIN("<name>a\nb</name>"), EINVAL, "line break"},
    {DOMAIN("<x:name xmlns:x='u'>d</x:name>"), EINVAL, "no <name>"},
    {NAMED("\n<uuid>x</uuid>"), EINVAL, "line 2: <uuid>: malformed uuid"},
    {NAMED("<uuid>31a85633-b9ac-4798-afcc-33c9afe8bef</uuid>"), EINVAL, "malformed uuid"},
    {NAMED("<uuid>31a85633-b9ac-4798-afcc-33c9afe8bef11</uuid>"), EINVAL, "malformed uuid"},
    {NAMED("<uuid>31a8563-3b9ac-4798-afcc-33c9afe8bef1</uuid>"), EINVAL, "malformed uuid"},
    {NAMED("<os><nvram>relative</nvram></os>"), EINVAL, "<nvram>: 'relative' is not an absolute path"},
    {DISK("<disk/>"), EINVAL, "line 3: <disk>: the disk has no <target"},
    {DISK("<disk>\n<target bus='ide'/></disk>"), EINVAL, "line 4: <target>: it has no dev="},
    {DISK("<disk><target dev=''/></disk>"), EINVAL, "'' cannot be a disk's name"},
    {DISK("<disk><target dev='../../x'/></disk>"), EINVAL, "'../../x' cannot be"},
    {DISK("<disk><target dev='v.da'/></disk>"), EINVAL, "cannot be"},
    {DISK("<disk><target dev='v&#10;da'/></disk>"), EINVAL, "'v da' cannot be"},
    {DISK("<disk><source file='/a'/><target dev='vda'/></disk>\n<disk><source file='/b'/><target "
          "dev='vda'/></disk>"),
     EINVAL, "line 4: <disk>: two disks are called 'vda'"},
    {DISK("<disk><target dev='vda'/></disk>"), EINVAL, "disk 'vda': line 3: <disk>: it has no <source>"},
    {DISK("<disk><source dev='/a'/><target dev='vda'/></disk>"), EINVAL, "it has no <source>"},
    {DISK("<disk device='lun' type='block'><source/><target dev='vda'/></disk>"), EINVAL,
     "it has no <source>"},
    {DISK("<disk type='network'><target dev='vda'/></disk>"), EINVAL, "it has no <source>"},
    {DISK("<disk><source file='a.img'/><target dev='vda'/></disk>"), EINVAL,
     "disk 'vda': line 3: <source>: 'a.img' is not an absolute path"},
    {DISK("<disk><source file='/a&#10;b'/><target dev='vda'/></disk>"), EINVAL, "control character"},
    {DISK("<disk><source file='/a\xc2\x85'/><target dev='vda'/></disk>"), EINVAL, "control character"},
    {DISK("<disk type='disc'><target dev='vda'/></disk>"), EINVAL,
     "disk 'vda': line 3: <disk>: unknown type 'disc'"},
    {DISK("<disk device='tape'><target dev='vda'/></disk>"), EINVAL, "unknown device 'tape'"},
    {DISK("<disk snapshot='default'><target dev='vda'/></disk>"), EINVAL, "unknown snapshot='default'"},
    {DISK("<disk><driver type='vmdk'/><source file='/a'/><target dev='vda'/></disk>"), EOPNOTSUPP,
     "'vmdk' is not supported"},
    {DISK("<disk type='block'><driver type='luks'/><source dev='/a'/><target dev='vda'/></disk>"), EOPNOTSUPP,
     "'luks'"},
    {DISK("<disk><source file='/a'/><backingStore type='file'><format type='vdi'/><source "
          "file='/b'/></backingStore><target dev='vda'/></disk>"),
     EOPNOTSUPP, "<format>: image format 'vdi'"},
    {DISK("<disk><source file='/a'/><backingStore type='file'><format type='raw'/><source "
          "file='b'/></backingStore><target dev='vda'/></disk>"),
     EINVAL, "'b' is not an absolute"},
    {DISK("<disk><source file='/a'/><backingStore type='file'><format type='raw'/></backingStore>"
          "<target dev='vda'/></disk>"),
     EINVAL, "<backingStore>: it has no <source>"},
    {DISK("<disk><source file='/a'/><backingStore type='file'><source file='/b'/></backingStore>"
          "<target dev='vda'/></disk>"),
     EINVAL, "<backingStore>: it has no <format>"},
    {DISK("<disk><source file='/a'><slices><slice type='storage' offset='1' "
          "size='2'/></slices></source><target dev='vda'/></disk>"),
     EOPNOTSUPP, "<slices>"},
};

START_TEST(refuse)
{
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(domain_def_parse(refused[_i].text, strlen(refused[_i].text), &error));
    ck_assert_int_eq(snap_errno(error), refused[_i].err);
    ck_assert_msg(strstr(error->message, refused[_i].message) != NULL, "%s", error->message);
}
END_TEST

START_TEST(uuid_forms)
{
    static const char *const forms[] = {UUID, "31A85633-B9AC-4798-AFCC-33C9AFE8BEF1",
                                        "31a85633b9ac4798afcc33c9afe8bef1",
                                        "\n 31a85633-b9ac4798-afcc-33c9-afe8bef1 \n"};
    for (guint i = 0; i < G_N_ELEMENTS(forms); i++) {
        g_autofree char *text = g_strdup_printf(NAMED("<uuid>%s</uuid>"), forms[i]);
        g_autoptr(DomainDef) def = must_parse(text);
        ck_assert_str_eq(def->uuid, UUID);
        g_autofree char *out = domain_def_format(def);
        ck_assert_str_eq(out, "<domain type='kvm'>\n  <name>d</name>\n  <uuid>" UUID "</uuid>\n</domain>\n");
    }
}
END_TEST

START_TEST(uuid_made)
{
    static const char *const texts[] = {NAMED("<memory/>"), NAMED("<uuid/><memory/>")};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(DomainDef) a = must_parse(texts[i]);
        g_autoptr(DomainDef) b = must_parse(texts[i]);
        ck_assert_str_ne(a->uuid, b->uuid);
        g_autofree char *out = domain_def_format(a);
        g_autofree char *expected = g_strdup_printf(
            "<domain type='kvm'>\n  <name>d</name>\n  <uuid>%s</uuid>\n  <memory/>\n</domain>\n", a->uuid);
        ck_assert_str_eq(out, expected);
        assert_in_step(a);
    }
}
END_TEST

START_TEST(nvram_forms)
{
    static const struct {
        const char *xml, *path;
    } forms[] = {
        {"<nvram>/n</nvram>", "/n"},
        {"<nvram template='/t'> /n </nvram>", "/n"},
        {"<nvram type='file'>\n<source file='/n'/>\n</nvram>", "/n"},
        {"<nvram type='network'><source protocol='nbd'/></nvram>", NULL},
        {"<nvram/>", NULL},
    };
    for (guint i = 0; i < G_N_ELEMENTS(forms); i++) {
        g_autofree char *text = g_strdup_printf(NAMED("<os>%s</os>"), forms[i].xml);
        g_autoptr(DomainDef) def = must_parse(text);
        ck_assert_pstr_eq(def->nvram, forms[i].path);
    }
}
END_TEST

/* A <domain> inside another document, with a namespace declared outside of it. */
START_TEST(inside)
{
    static const char text[] = "<a xmlns:q='urn:q'><inactiveDomain type='kvm'><name>d</name><uuid>" UUID
                               "</uuid><q:x q:k='1'/></inactiveDomain></a>";
    g_autoptr(xmlDoc) doc = xml_parse(text, strlen(text), "a", NULL);
    g_autoptr(DomainDef) def = domain_def_parse_node(xml_first_element(xmlDocGetRootElement(doc)), NULL);
    g_clear_pointer(&doc, xmlFreeDoc);
    g_autofree char *out = domain_def_format(def);
    ck_assert_str_eq(out, "<domain type='kvm' xmlns:q='urn:q'>\n  <name>d</name>\n  <uuid>" UUID
                          "</uuid>\n  <q:x q:k='1'/>\n</domain>\n");
}
END_TEST

START_TEST(find)
{
    g_autofree char *text = with_disk("<disk><source file='/a'/><target dev='vda'/></disk>"
                                      "<disk><source file='/b'/><target dev='vdb'/></disk>"
                                      "<disk><source file='/b'/><target dev='vdc'/></disk>"
                                      "<disk device='cdrom'><target dev='sda'/></disk>");
    g_autoptr(DomainDef) def = must_parse(text);
    ck_assert_ptr_eq(domain_def_find_disk(def, "vda"), disk_at(def, 0));
    ck_assert_ptr_eq(domain_def_find_disk(def, "/a"), disk_at(def, 0));
    ck_assert_ptr_eq(domain_def_find_disk(def, "vdc"), disk_at(def, 2));
    ck_assert_ptr_null(domain_def_find_disk(def, "/b")); /* ambiguous */
    ck_assert_ptr_null(domain_def_find_disk(def, "vdx"));
    ck_assert_ptr_null(domain_def_find_disk(def, ""));
    ck_assert_ptr_null(domain_def_find_disk(def, "a"));
}
END_TEST

/* --- changing --- */

START_TEST(copying)
{
    g_autoptr(DomainDef) def = fedora();
    g_autofree char *before = domain_def_format(def);
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    assert_in_step(copy);
    domain_def_set_name(copy, "other <&> name");
    domain_def_set_uuid(copy, "00000000-0000-0000-0000-000000000001");
    domain_def_set_source(copy, disk_at(copy, 0), DISK_FILE, "/new", FORMAT_QED, NULL);
    assert_in_step(copy);
    g_autofree char *after = domain_def_format(def);
    ck_assert_str_eq(after, before);
    ck_assert_str_eq(disk_at(def, 0)->source, "/var/lib/libvirt/images/fedora.clean");
    ck_assert_str_eq(copy->name, "other <&> name");
    domain_def_set_name(copy, copy->name);
    ck_assert_str_eq(copy->name, "other <&> name");
}
END_TEST

static char *disk_text(const DomainDef *def, guint i)
{
    GString *out = g_string_new(NULL);
    xml_write_node(out, disk_at(def, i)->node, 0);
    return g_string_free(out, FALSE);
}

/* A document with <backingStore> gets a new one; address, target and driver options stay. */
START_TEST(set_source_backed)
{
    g_autoptr(DomainDef) def = fedora();
    DiskDef *disk = disk_at(def, 0);
    g_autoptr(GPtrArray) backing = g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
    g_ptr_array_add(backing, backing_def_new(disk->type, disk->source, disk->format));
    g_ptr_array_add(backing, backing_def_new(DISK_BLOCK, "/dev/vg0/template", FORMAT_RAW));
    domain_def_set_source(def, disk, DISK_FILE, "/var/lib/libvirt/images/fedora.s'2", FORMAT_QCOW2, backing);
    g_autofree char *text = disk_text(def, 0);
    ck_assert_str_eq(text, "<disk type='file' device='disk'>\n"
                           "  <driver name='qemu' type='qcow2' discard='unmap'/>\n"
                           "  <source file='/var/lib/libvirt/images/fedora.s&apos;2'/>\n"
                           "  <backingStore type='file'>\n"
                           "    <format type='qcow2'/>\n"
                           "    <source file='/var/lib/libvirt/images/fedora.clean'/>\n"
                           "    <backingStore type='block'>\n"
                           "      <format type='raw'/>\n"
                           "      <source dev='/dev/vg0/template'/>\n"
                           "      <backingStore/>\n"
                           "    </backingStore>\n"
                           "  </backingStore>\n"
                           "  <target dev='vda' bus='virtio'/>\n"
                           "  <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>\n"
                           "</disk>\n");
    ck_assert_uint_eq(disk->backing->len, 2);
    assert_in_step(def);
    /* its own fields as arguments */
    domain_def_set_source(def, disk, disk->type, disk->source, disk->format, disk->backing);
    g_autofree char *same = disk_text(def, 0);
    ck_assert_str_eq(same, text);
    domain_def_set_source(def, disk, DISK_FILE, "/flat", FORMAT_RAW, NULL);
    ck_assert_uint_eq(disk->backing->len, 0);
    assert_in_step(def);
}
END_TEST

START_TEST(set_source_plain)
{
    g_autofree char *xml = with_disk(
        "<disk type='block'><driver name='qemu' "
        "cache='none'>\n<metadata_cache><max_size>9</max_size></metadata_cache>\n"
        "</driver><source dev='/dev/a' startupPolicy='optional' index='3'>\n"
        "<encryption format='luks'/><seclabel model='dac' relabel='no'/></source><target dev='vda'/></disk>"
        "<disk device='cdrom'><target dev='sda'/></disk>");
    g_autoptr(DomainDef) def = must_parse(xml);
    g_autoptr(GPtrArray) backing = g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
    g_ptr_array_add(backing, backing_def_new(DISK_BLOCK, "/dev/a", FORMAT_RAW));
    domain_def_set_source(def, disk_at(def, 0), DISK_FILE, "/a.s1", FORMAT_QCOW2, backing);
    domain_def_set_source(def, disk_at(def, 1), DISK_BLOCK, "/dev/sr0", FORMAT_RAW, NULL);
    g_autofree char *first = disk_text(def, 0);
    g_autofree char *second = disk_text(def, 1);
    ck_assert_str_eq(first, "<disk type='file'>\n"
                            "  <driver name='qemu' cache='none' type='qcow2'/>\n"
                            "  <source file='/a.s1' startupPolicy='optional'/>\n"
                            "  <target dev='vda'/>\n"
                            "</disk>\n");
    ck_assert_str_eq(second, "<disk device='cdrom' type='block'>\n"
                             "  <driver name='qemu' type='raw'/>\n"
                             "  <source dev='/dev/sr0'/>\n"
                             "  <target dev='sda'/>\n"
                             "</disk>\n");
    ck_assert_uint_eq(disk_at(def, 0)->backing->len, 0); /* the document names none */
    ck_assert(disk_def_has_media(disk_at(def, 1)));
    assert_in_step(def);
}
END_TEST

/* A level that is not local cannot be named again; the chain is left open there. */
START_TEST(set_source_below_network)
{
    g_autofree char *text = with_disk(
        "<disk><source file='/a'/><backingStore type='file'><format type='raw'/><source file='/b'/>"
        "<backingStore type='network'><format type='raw'/><source protocol='nbd' name='x'/>"
        "<backingStore type='file'><format type='raw'/><source file='/c'/></backingStore></backingStore>"
        "</backingStore><target dev='vda'/></disk>");
    g_autoptr(DomainDef) def = must_parse(text);
    DiskDef *disk = disk_at(def, 0);
    ck_assert_uint_eq(disk->backing->len, 3);
    domain_def_set_source(def, disk, DISK_FILE, "/new", FORMAT_QCOW2, disk->backing);
    g_autofree char *changed = disk_text(def, 0);
    ck_assert_str_eq(changed, "<disk type='file'>\n"
                              "  <driver name='qemu' type='qcow2'/>\n"
                              "  <source file='/new'/>\n"
                              "  <backingStore type='file'>\n"
                              "    <format type='raw'/>\n"
                              "    <source file='/b'/>\n"
                              "  </backingStore>\n"
                              "  <target dev='vda'/>\n"
                              "</disk>\n");
    assert_in_step(def);
}
END_TEST

/* The image of another document's disk, or the whole device where it is another one. */
START_TEST(take_source)
{
    g_autofree char *old_text =
        with_disk("<disk><driver name='qemu' cache='none'/><source file='/a'/><target dev='vda'/>"
                  "</disk><disk><source file='/b'/><target dev='vdb'/></disk>"
                  "<disk><source file='/c'/><target dev='vdc'/></disk>");
    g_autofree char *now_text =
        with_disk("<disk type='block' snapshot='no'><driver name='qemu' type='qcow2'/><source dev='/dev/x'/>"
                  "<backingStore/><target dev='vda'/></disk>"
                  "<disk type='file' device='cdrom'><target dev='vdb' bus='sata'/><readonly/></disk>"
                  "<disk type='dir'><source dir='/d'/><target dev='vdc'/></disk>");
    g_autoptr(DomainDef) def = must_parse(old_text);
    g_autoptr(DomainDef) now = must_parse(now_text);
    domain_def_take_source(def, disk_at(def, 0), disk_at(now, 0));
    domain_def_take_source(def, disk_at(def, 1), disk_at(now, 1));
    domain_def_take_source(def, disk_at(def, 2), disk_at(now, 2));
    g_clear_pointer(&now, domain_def_free);
    g_autofree char *first = disk_text(def, 0);
    g_autofree char *second = disk_text(def, 1);
    g_autofree char *third = disk_text(def, 2);
    ck_assert_str_eq(third, "<disk type='dir'>\n"
                            "  <source dir='/d'/>\n"
                            "  <target dev='vdc'/>\n"
                            "</disk>\n");
    ck_assert_str_eq(first, "<disk type='block'>\n"
                            "  <driver name='qemu' cache='none' type='qcow2'/>\n"
                            "  <source dev='/dev/x'/>\n"
                            "  <backingStore/>\n"
                            "  <target dev='vda'/>\n"
                            "</disk>\n");
    ck_assert_str_eq(second, "<disk type='file' device='cdrom'>\n"
                             "  <target dev='vdb' bus='sata'/>\n"
                             "  <readonly/>\n"
                             "</disk>\n");
    assert_in_step(def);
}
END_TEST

/* A chain that was said to end here, and now does not: nothing is said. What is asked of the new image is. */
START_TEST(set_source_described)
{
    g_autofree char *xml =
        with_disk("<disk type='file'><driver type='qcow2'><metadata_cache><max_size>9</max_size>"
                  "</metadata_cache></driver><source file='/a'><seclabel model='dac'/></source>"
                  "<backingStore/><target dev='vda'/></disk>");
    static const char source_xml[] =
        "<source file='/x'><seclabel model='selinux' relabel='no'/><seclabel/></source>";
    g_autoptr(DomainDef) def = must_parse(xml);
    g_autoptr(GPtrArray) backing = g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
    g_autoptr(xmlDoc) source = xml_parse(source_xml, strlen(source_xml), "source", NULL);
    g_ptr_array_add(backing, backing_def_new(DISK_FILE, "/a", FORMAT_QCOW2));
    domain_def_set_path(disk_at(def, 0), "/b"); /* the same image: all stays */
    g_autofree char *renamed = disk_text(def, 0);
    ck_assert_ptr_nonnull(strstr(renamed, "<source file='/b'>\n    <seclabel model='dac'/>\n"));
    ck_assert_ptr_nonnull(strstr(renamed, "<max_size>9</max_size>"));
    ck_assert_ptr_nonnull(strstr(renamed, "<backingStore/>"));
    assert_in_step(def);
    domain_def_set_source(def, disk_at(def, 0), DISK_FILE, "/a.s1", FORMAT_QCOW2, backing);
    domain_def_describe_image(disk_at(def, 0), 65536, xmlDocGetRootElement(source));
    g_autofree char *text = disk_text(def, 0);
    ck_assert_str_eq(text, "<disk type='file'>\n"
                           "  <driver type='qcow2'>\n"
                           "    <metadata_cache>\n"
                           "      <max_size unit='bytes'>65536</max_size>\n"
                           "    </metadata_cache>\n"
                           "  </driver>\n"
                           "  <source file='/a.s1'>\n"
                           "    <seclabel model='selinux' relabel='no'/>\n"
                           "    <seclabel/>\n"
                           "  </source>\n"
                           "  <target dev='vda'/>\n"
                           "</disk>\n");
    assert_in_step(def);
}
END_TEST

/* To an export and back: the <source> is carried as it is, what belongs to the old one goes. */
START_TEST(set_source_network)
{
    static const char source_text[] = "<source protocol='nbd' name='exp'><host name='h' port='1'/>"
                                      "<reconnect delay='10'/></source>";
    g_autofree char *xml =
        with_disk("<disk type='file'><driver name='qemu' type='qcow2'><metadata_cache><max_size unit='KiB'>7"
                  "</max_size></metadata_cache></driver><source file='/a' startupPolicy='optional'>"
                  "<seclabel model='dac' relabel='no'/></source><backingStore/><target dev='vda'/></disk>");
    g_autoptr(DomainDef) def = must_parse(xml);
    g_autoptr(xmlDoc) doc = xml_parse(source_text, strlen(source_text), "source", NULL);
    g_autoptr(GPtrArray) backing = g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
    DiskDef *disk = disk_at(def, 0);
    g_ptr_array_add(backing, backing_def_new(DISK_FILE, "/a", FORMAT_QCOW2));
    domain_def_set_network_source(def, disk, xmlDocGetRootElement(doc), FORMAT_QCOW2, backing);
    g_autofree char *text = disk_text(def, 0);
    ck_assert_str_eq(text, "<disk type='network'>\n"
                           "  <driver name='qemu' type='qcow2'/>\n"
                           "  <source protocol='nbd' name='exp'>\n"
                           "    <host name='h' port='1'/>\n"
                           "    <reconnect delay='10'/>\n"
                           "  </source>\n"
                           "  <target dev='vda'/>\n"
                           "</disk>\n");
    ck_assert_ptr_null(disk->source);
    ck_assert_str_eq(disk->uri, "nbd://h:1/exp");
    assert_in_step(def);
    domain_def_set_source(def, disk, DISK_FILE, "/b", FORMAT_QED, NULL);
    g_autofree char *back = disk_text(def, 0);
    ck_assert_str_eq(back, "<disk type='file'>\n"
                           "  <driver name='qemu' type='qed'/>\n"
                           "  <source file='/b'/>\n"
                           "  <target dev='vda'/>\n"
                           "</disk>\n");
    ck_assert_ptr_null(disk->uri);
    assert_in_step(def);
}
END_TEST

/* --- secrets --- */

START_TEST(strip)
{
    g_autofree char *whole = fedora_document();
    g_autoptr(DomainDef) def = must_parse(whole);
    domain_def_strip_secrets(def);
    ck_assert(!def->secret);
    g_autofree char *text = domain_def_format(def);
    ck_assert_ptr_null(strstr(text, "s3cr"));
    ck_assert_ptr_null(strstr(text, "passwd="));
    ck_assert_ptr_nonnull(strstr(text, "passwdValidTo='2030-01-01T00:00:00'")); /* as virsh */
    ck_assert_ptr_nonnull(strstr(text, "<secret type='ceph'"));
    ck_assert_uint_eq(strlen(whole) - strlen(text),
                      strlen(" passwd='s3cr&apos;t'") + strlen(" passwd='other'"));
    assert_in_step(def);
}
END_TEST

START_TEST(restore)
{
    g_autoptr(DomainDef) old = fedora();
    g_autoptr(DomainDef) def = fedora();
    g_autofree char *before = domain_def_format(old);
    domain_def_strip_secrets(def);
    domain_def_restore_secrets(def, old);
    ck_assert(def->secret);
    g_autofree char *text = domain_def_format(def);
    g_autoptr(DomainDef) again = must_parse(text);
    g_autofree char *unchanged = domain_def_format(old);
    ck_assert_str_eq(unchanged, before);
    xmlNode *vnc = xml_child(xml_child(xmlDocGetRootElement(again->doc), "devices"), "graphics");
    g_autofree char *first = xml_attr(vnc, "passwd");
    g_autofree char *second = xml_attr(xml_next(vnc, "graphics"), "passwd");
    ck_assert_str_eq(first, "s3cr't");
    ck_assert_str_eq(second, "other");
}
END_TEST

/* By type, then by order; a new value wins; a device that is gone takes its secret along. */
START_TEST(restore_moved)
{
    static const char old_text[] =
        NAMED("<devices><graphics type='vnc' passwd='v1'/><graphics type='spice' passwd='s'/>"
              "<graphics type='vnc' passwd='v2'/><graphics type='rdp' passwd='r'/></devices>");
    static const char new_text[] =
        NAMED("<devices><input/><graphics type='spice' passwd='new'/><graphics type='vnc'/>"
              "<graphics type='vnc'/><graphics type='vnc'/></devices>");
    g_autoptr(DomainDef) old = must_parse(old_text);
    g_autoptr(DomainDef) def = must_parse(new_text);
    domain_def_restore_secrets(def, old);
    g_autofree char *text = domain_def_format(def);
    const char *devices = strstr(text, "  <devices>");
    ck_assert_str_eq(devices, "  <devices>\n"
                              "    <input/>\n"
                              "    <graphics type='spice' passwd='new'/>\n"
                              "    <graphics type='vnc' passwd='v1'/>\n"
                              "    <graphics type='vnc' passwd='v2'/>\n"
                              "    <graphics type='vnc'/>\n"
                              "  </devices>\n"
                              "</domain>\n");
}
END_TEST

/* Every document that damage leaves readable must stay in step; none may crash. */
START_TEST(damage)
{
    static const char bytes[] = "<>/'\"x \n\xc3";
    g_autofree char *whole = fedora_document();
    gsize len = strlen(whole);
    int good = 0;
    for (gsize at = 1; at < len; at += 5) {
        g_autofree char *text = g_strdup(whole);
        text[at] = bytes[at % (sizeof(bytes) - 1)];
        g_autoptr(GError) error = NULL;
        g_autoptr(DomainDef) def = domain_def_parse(text, len, &error);
        ck_assert((def == NULL) == (error != NULL));
        if (def == NULL)
            continue;
        assert_in_step(def);
        good++;
    }
    ck_assert_int_gt(good, 50);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("domain");
    TCase *tcase = tcase_create("domain");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, golden);
    tcase_add_test(tcase, golden_disks);
    tcase_add_test(tcase, disk_defaults);
    tcase_add_test(tcase, two_device_lists);
    tcase_add_loop_test(tcase, refuse, 0, G_N_ELEMENTS(refused));
    tcase_add_test(tcase, uuid_forms);
    tcase_add_test(tcase, uuid_made);
    tcase_add_test(tcase, nvram_forms);
    tcase_add_test(tcase, inside);
    tcase_add_test(tcase, find);
    tcase_add_test(tcase, copying);
    tcase_add_test(tcase, set_source_backed);
    tcase_add_test(tcase, set_source_plain);
    tcase_add_test(tcase, set_source_below_network);
    tcase_add_test(tcase, take_source);
    tcase_add_test(tcase, set_source_described);
    tcase_add_test(tcase, set_source_network);
    tcase_add_test(tcase, strip);
    tcase_add_test(tcase, restore);
    tcase_add_test(tcase, restore_moved);
    tcase_add_test(tcase, damage);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
