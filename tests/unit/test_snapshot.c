/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "fedora_xml.h"
#include "runner.h"
#include "snapshot.h"
#include "snapshot_xml.h"

static SnapshotDef *must_parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    SnapshotDef *def = snapshot_def_parse(text, strlen(text), &error);
    ck_assert_msg(def != NULL, "%s: %s", text, error ? error->message : "?");
    return def;
}

static SnapshotDisk *disk_at(const SnapshotDef *def, guint i)
{
    ck_assert_uint_lt(i, def->disks->len);
    return g_ptr_array_index(def->disks, i);
}

/* --- reading and printing the whole document --- */

START_TEST(golden)
{
    g_autoptr(SnapshotDef) def = must_parse(printed);
    g_autofree char *text = snapshot_def_format(def);
    ck_assert_str_eq(text, printed);
    ck_assert_str_eq(def->name, "s <1> 'q' \xc3\xa9");
    ck_assert_str_eq(def->description, "  multi\n\tline & \"x\" ");
    ck_assert_int_eq(def->state, STATE_SHUTOFF);
    ck_assert_str_eq(def->parent, "base & root");
    ck_assert_int_eq(def->creation_time, -77);
    ck_assert_int_eq(def->memory, MODE_NO);
    ck_assert_ptr_null(def->memory_file);
    ck_assert_uint_eq(def->disks->len, 7);
    ck_assert_str_eq(disk_at(def, 2)->source, "/c.s'1");
    ck_assert(disk_at(def, 2)->delete_in_progress);
    ck_assert_int_eq(disk_at(def, 3)->type, DISK_BLOCK);
    ck_assert_int_eq(disk_at(def, 3)->format, FORMAT_NONE);
    ck_assert_str_eq(def->domain->name, "dom");
    ck_assert_uint_eq(def->domain->disks->len, 7);
    ck_assert_ptr_eq(snapshot_def_find_disk(def, "vdf"), disk_at(def, 5));
    ck_assert_ptr_null(snapshot_def_find_disk(def, "/a"));
}
END_TEST

/* A machine that ran: memory, the second definition, the cookie. */
START_TEST(golden_running)
{
    g_autofree char *fedora = fedora_document();
    g_autoptr(DomainDef) domain = domain_def_parse(fedora, strlen(fedora), NULL);
    g_autoptr(GString) text = g_string_new("<domainsnapshot>\n"
                                           "  <name>run</name>\n"
                                           "  <state>running</state>\n"
                                           "  <creationTime>1272917631</creationTime>\n"
                                           "  <memory snapshot='external' file='/mem &amp; more'/>\n"
                                           "  <disks>\n"
                                           "    <disk name='vda' snapshot='external' type='file'>\n"
                                           "      <driver type='qcow2'/>\n"
                                           "      <source file='/var/lib/libvirt/images/fedora.run'/>\n"
                                           "    </disk>\n"
                                           "    <disk name='vdb' snapshot='external'/>\n"
                                           "    <disk name='vdc' snapshot='external' type='network'>\n"
                                           "      <source protocol='rbd' name='pool/run'>\n"
                                           "        <host name='mon1'/>\n"
                                           "      </source>\n"
                                           "    </disk>\n"
                                           "    <disk name='sda' snapshot='no'/>\n"
                                           "    <disk name='fda' snapshot='no'/>\n"
                                           "  </disks>\n");
    xml_write_node(text, xmlDocGetRootElement(domain->doc), 2);
    xml_write_node_as(text, xmlDocGetRootElement(domain->doc), "inactiveDomain", 2);
    g_string_append(text, "  <cookie>\n"
                          "    <cpu mode='custom' match='exact'/>\n"
                          "    <slirpHelper/>\n"
                          "  </cookie>\n"
                          "</domainsnapshot>\n");
    g_autoptr(SnapshotDef) def = must_parse(text->str);
    g_autofree char *again = snapshot_def_format(def);
    ck_assert_str_eq(again, text->str);
    ck_assert_str_eq(def->memory_file, "/mem & more");
    ck_assert_ptr_nonnull(def->inactive_domain);
    g_autofree char *inner = domain_def_format(def->domain);
    ck_assert_str_eq(inner, fedora);
}
END_TEST

/* Made here, not read. */
START_TEST(made)
{
    g_autoptr(SnapshotDef) def = snapshot_def_new();
    def->name = g_strdup("n");
    def->description = g_strdup("");
    def->state = STATE_SHUTOFF;
    def->creation_time = 5;
    def->memory = MODE_NO;
    def->domain_uuid = g_strdup(UUID);
    g_autofree char *bare = snapshot_def_format(def);
    ck_assert_str_eq(bare, "<domainsnapshot>\n  <name>n</name>\n  <state>shutoff</state>\n"
                           "  <creationTime>5</creationTime>\n  <memory snapshot='no'/>\n"
                           "  <domain>\n    <uuid>" UUID "</uuid>\n  </domain>\n</domainsnapshot>\n");
    SnapshotDisk *disk = snapshot_disk_new("vda", MODE_EXTERNAL);
    disk->source = g_strdup("/a\nb");
    disk->format = FORMAT_QCOW2;
    g_ptr_array_add(def->disks, disk);
    def->creation_time = 0;
    def->memory = MODE_DEFAULT;
    g_autofree char *text = snapshot_def_format(def);
    ck_assert_str_eq(
        text, "<domainsnapshot>\n  <name>n</name>\n  <state>shutoff</state>\n"
              "  <disks>\n    <disk name='vda' snapshot='external' type='file'>\n"
              "      <driver type='qcow2'/>\n      <source file='/a&#10;b'/>\n    </disk>\n  </disks>\n"
              "  <domain>\n    <uuid>" UUID "</uuid>\n  </domain>\n</domainsnapshot>\n");
}
END_TEST

/* What a person may write: any order, libvirt's banner and <active>, unknown elements. */
START_TEST(foreign)
{
    static const char text[] =
        "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n"
        "<domainsnapshot><creationTime> 7</creationTime><active>1</active><x/><description></description>"
        "<domain><uuid>31A85633B9AC4798AFCC33C9AFE8BEF1</uuid></domain><parent/><cookie><c/></cookie>"
        "<state>shutoff</state><name>f</name></domainsnapshot>";
    g_autoptr(SnapshotDef) def = must_parse(text);
    ck_assert(def->active);
    ck_assert_ptr_null(def->description);
    ck_assert_ptr_null(def->parent);
    ck_assert_ptr_null(def->domain);
    ck_assert_ptr_null(def->cookie); /* a machine that was off has none */
    ck_assert_str_eq(def->domain_uuid, UUID);
    ck_assert_int_eq(def->creation_time, 7);
    ck_assert_int_eq(def->memory, MODE_NO);
    g_autofree char *out = snapshot_def_format(def);
    ck_assert_ptr_null(strstr(out, "active"));
}
END_TEST

/* --- the table of facts 1.3 --- */

#define TIME "<creationTime>5</creationTime>"
#define OFF "<state>shutoff</state>" TIME
#define DOM                                                                                                  \
    "<domain type='kvm'><name>d</name><uuid>" UUID                                                           \
    "</uuid><devices><disk><source file='/a'/><target dev='vda'/>"                                           \
    "</disk><disk><source file='/b'/><target dev='vdb'/></disk></devices></domain>"
#define SNAP(body) "<domainsnapshot>\n" body "</domainsnapshot>"
#define ASK(body) SNAP("<name>n</name>" body)

static const struct {
    const char *text;
    int err;
    const char *message;
} refused[] = {
    {"<domainsnapshot>", EINVAL, "the XML ends"},
    {"<domain/>", EINVAL, "must be <domainsnapshot>"},
    {SNAP(OFF), EINVAL, "line 1: <domainsnapshot>: the snapshot has no <name>"},
    {SNAP("<name/>" OFF), EINVAL, "line 2: <name>: a snapshot's name cannot be empty"},
    {SNAP("<name>a/b</name>" OFF), EINVAL, "'/'"},
    {SNAP("<name>.a</name>" OFF), EINVAL, "'.'"},
    {ASK("<state>shutoff</state>"), EINVAL, "no <creationTime>"},
    {ASK("<state>shutoff</state><creationTime>soon</creationTime>"), EINVAL, "'soon' is not a number"},
    {ASK("<state>shutoff</state><creationTime>1.5</creationTime>"), EINVAL, "not a number"},
    {ASK("<state>shutoff</state><creationTime>99999999999999999999</creationTime>"), EINVAL, "not a number"},
    {ASK("<state>shutoff</state><creationTime/>"), EINVAL, "not a number"},
    {ASK("<state>shutoff</state><creationTime>5 </creationTime>"), EINVAL, "'5 ' is not a number"},
    {ASK("<state>shutoff</state><creationTime>0</creationTime>"), EINVAL, "0 stands for no time"},
    {ASK(TIME), EINVAL, "no <state>"},
    {ASK("<state>nostate</state>" TIME), EOPNOTSUPP, "'nostate'"},
    {ASK("<state>off</state>" TIME), EOPNOTSUPP, "'off'"},
    {ASK("<state/>" TIME), EOPNOTSUPP, "''"},
    {ASK("<state>blocked</state>" TIME), EINVAL, "'blocked'"},
    {ASK("<state>pmsuspended</state>" TIME), EOPNOTSUPP, "'pmsuspended'"},
    {ASK(OFF "<parent><name>n</name></parent>"), EINVAL, "its own parent"},
    {ASK(OFF "<memory snapshot='internal'/>"), EINVAL, "there is no memory"},
    {ASK(OFF "<memory snapshot='external' file='/m'/>"), EINVAL, "there is no memory"},
    {ASK(OFF "<memory file='/m'/>"), EINVAL, "there is no memory"},
    {ASK("<state>disk-snapshot</state>" TIME "<memory snapshot='internal'/>"), EINVAL, "there is no memory"},
    {ASK(OFF "<memory snapshot='default'/>"), EINVAL, "unknown snapshot='default'"},
    {ASK(OFF "<memory snapshot='manual'/>"), EINVAL, "manual"},
    {ASK("<state>running</state>" TIME "<memory snapshot='external'/>"), EINVAL, "belong together"},
    {ASK("<state>running</state>" TIME "<memory snapshot='external' file='m'/>"), EINVAL,
     "not an absolute path"},
    {ASK("<state>running</state>" TIME "<memory snapshot='no' file='/m'/>"), EINVAL, "belong together"},
    {ASK(OFF "<domain type='kvm'/>"), EINVAL, "no <name>"},
    {ASK(OFF "<domain><uuid>zz</uuid></domain>"), EINVAL, "malformed uuid"},
    {ASK(OFF DOM "<inactiveDomain type='kvm'/>"), EINVAL, "no <name>"},
    {ASK(OFF "<disks>\n<disk name='vdx'/></disks>" DOM), EOPNOTSUPP,
     "disk 'vdx': line 3: the domain has no disk of that name"},
    {ASK(OFF "<disks><disk name='vda'/>\n<disk name='vda'/></disks>" DOM), EOPNOTSUPP,
     "disk 'vda': line 3: it is listed twice"},
    {ASK(OFF "<disks><disk name='vda'/>\n<disk name='/a'/></disks>" DOM), EOPNOTSUPP,
     "disk 'vda': line 3: it is listed twice"},
    {ASK(OFF "<disks>\n<disk name='/a'/></disks><domain type='kvm'><name>d</name><devices>"
             "<disk><source file='/a'/><target dev='vda'/></disk>"
             "<disk><source file='/a'/><target dev='vdb'/></disk></devices></domain>"),
     EOPNOTSUPP, "disk '/a': line 3: the domain has more than one disk of that path: name it by its target"},
    {ASK(OFF "<disks>\n<disk/></disks>" DOM), EINVAL, "line 3: <disk>: the disk has no name="},
    {ASK(OFF "<disks>\n<other name=''/></disks>" DOM), EINVAL, "line 3: <other>: the disk has no name="},
    {ASK(OFF "<disks>\n<disk name='vda' snapshot='default'/></disks>" DOM), EINVAL,
     "disk 'vda': line 3: <disk>: unknown snapshot='default'"},
    {ASK(OFF "<disks><disk name='vda' type='volume'/></disks>" DOM), EINVAL, "type 'volume'"},
    {ASK(OFF "<disks><disk name='vda' type='dir'/></disks>" DOM), EINVAL, "type 'dir'"},
    {ASK(OFF "<disks><disk name='vda' type='x'/></disks>" DOM), EINVAL, "type 'x'"},
    {ASK(OFF "<disks><disk name='vda'><source file='x'/></disk></disks>" DOM), EINVAL,
     "'x' is not an absolute path"},
    {ASK(OFF "<disks><disk name='vda'><driver type='x'/></disk></disks>" DOM), EOPNOTSUPP,
     "image format 'x'"},
    {ASK(OFF "<disks><disk name='vda' snapshot='no'><source file='/x'/></disk></disks>" DOM), EOPNOTSUPP,
     "only be given with"},
    {ASK(OFF "<disks><disk name='vda'><driver type='qcow2'><metadata_cache><max_size "
             "unit='x'>1</max_size></metadata_cache></driver></disk></disks>" DOM),
     EINVAL, "not a size"},
    {ASK(OFF "<disks><disk name='vda'><driver type='qcow2'><metadata_cache><max_size "
             "unit='EiB'>17</max_size></metadata_cache></driver></disk></disks>" DOM),
     EINVAL, "not a size"},
    {ASK(OFF "<revertDisks><disk/></revertDisks>" DOM), EINVAL, "no name="},
};

START_TEST(refuse)
{
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(snapshot_def_parse(refused[_i].text, strlen(refused[_i].text), &error));
    ck_assert_msg(snap_errno(error) == refused[_i].err, "%d: %s", snap_errno(error), error->message);
    ck_assert_msg(strstr(error->message, refused[_i].message) != NULL, "%s", error->message);
    g_autoptr(GError) again = NULL;
    ck_assert_ptr_null(snapshot_def_parse_head(refused[_i].text, strlen(refused[_i].text), &again));
    ck_assert_str_eq(again->message, error->message);
}
END_TEST

START_TEST(memory_default)
{
    static const struct {
        const char *text;
        SnapMode memory;
    } cases[] = {
        {ASK("<state>shutoff</state>" TIME), MODE_NO},
        {ASK("<state>disk-snapshot</state>" TIME), MODE_NO},
        {ASK("<state>running</state>" TIME), MODE_INTERNAL},
        {ASK("<state>paused</state>" TIME), MODE_INTERNAL},
        {ASK("<state>crashed</state>" TIME), MODE_INTERNAL},
        {ASK("<state>running</state>" TIME "<memory snapshot='no'/>"), MODE_NO},
        {ASK("<state>running</state>" TIME "<memory file='/m'/>"), MODE_EXTERNAL},
        {ASK("<state>running</state>" TIME "<memory/>"), MODE_INTERNAL},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(SnapshotDef) def = must_parse(cases[i].text);
        ck_assert_int_eq(def->memory, cases[i].memory);
    }
}
END_TEST

/* --- alignment (facts 3 and 1.3) --- */

static const char align_domain[] = "<domain type='kvm'><name>d</name><uuid>" UUID "</uuid><devices>"
                                   "<disk><source file='/a'/><target dev='vda'/></disk>"
                                   "<disk snapshot='no'><source file='/b'/><target dev='vdb'/></disk>"
                                   "<disk snapshot='external'><source file='/c'/><target dev='vdc'/></disk>"
                                   "<disk><source file='/d'/><target dev='vdd'/><readonly/></disk>"
                                   "<disk device='cdrom'><target dev='sda'/></disk>"
                                   "<disk device='floppy'><source file='/f'/><target dev='fda'/></disk>"
                                   "<disk device='floppy' snapshot='internal'><target dev='fdb'/></disk>"
                                   "</devices></domain>";

static const struct {
    const char *head;  /* state, memory, disks */
    const char *modes; /* of vda vdb vdc vdd sda fda fdb: no, internal, external, manual */
} alignments[] = {
    {OFF, "inennin"},
    {OFF "<disks/>", "inennin"},
    {OFF "<disks><disk name='vdc'/><disk name='/a'/></disks>", "ininnin"},
    {OFF "<disks><disk name='vda' snapshot='no'/></disks>", "nnennin"},
    {OFF "<disks><disk name='vda'><driver type='qcow2'/></disk></disks>", "enennen"},
    {OFF "<disks><disk name='fda'><source file='/x'/></disk></disks>", "enennen"},
    {"<state>disk-snapshot</state>" TIME, "enennen"},
    {"<state>running</state>" TIME "<memory file='/m'/><disks><disk name='vdc'/><disk name='vdb'/></disks>",
     "enennen"},
    {OFF "<disks><disk name='fda' snapshot='manual'/><x name='vdd' snapshot='internal'/></disks>", "ineinmn"},
};

START_TEST(align)
{
    static const char *const targets[] = {"vda", "vdb", "vdc", "vdd", "sda", "fda", "fdb"};
    g_autofree char *text = g_strconcat("<domainsnapshot><name>n</name>", alignments[_i].head, align_domain,
                                        "</domainsnapshot>", NULL);
    g_autoptr(SnapshotDef) def = must_parse(text);
    g_autofree char *modes = g_strdup("???????");
    ck_assert_uint_eq(def->disks->len, G_N_ELEMENTS(targets));
    for (guint i = 0; i < def->disks->len; i++) {
        ck_assert_str_eq(disk_at(def, i)->name, targets[i]); /* the domain's order, never a path */
        modes[i] = snap_mode_to_string(disk_at(def, i)->mode)[0];
    }
    ck_assert_str_eq(modes, alignments[_i].modes);
}
END_TEST

/* Without a <domain> of its own the document is aligned with the one it inherits. */
START_TEST(align_inherited)
{
    static const char text[] =
        ASK(OFF "<disks><disk name='/c' snapshot='external'/><disk name='vda'/></disks>");
    g_autoptr(GError) error = NULL;
    g_autoptr(SnapshotDef) def = must_parse(text);
    g_autoptr(DomainDef) domain = domain_def_parse(align_domain, strlen(align_domain), NULL);
    ck_assert_int_eq(disk_at(def, 1)->mode, MODE_DEFAULT);
    ck_assert(snapshot_def_align_disks(def, domain, NULL));
    ck_assert_uint_eq(def->disks->len, 7);
    ck_assert_int_eq(snapshot_def_find_disk(def, "vda")->mode, MODE_EXTERNAL);
    ck_assert_int_eq(snapshot_def_find_disk(def, "vdc")->mode, MODE_EXTERNAL);
    g_ptr_array_add(def->disks, snapshot_disk_new("vdz", MODE_NO));
    ck_assert(!snapshot_def_align_disks(def, domain, &error));
    ck_assert_int_eq(snap_errno(error), EOPNOTSUPP);
    ck_assert_uint_eq(def->disks->len, 8); /* unchanged */
}
END_TEST

/* What libvirt keeps of <driver> and <source>. */
START_TEST(disk_children)
{
    static const char text[] =
        ASK(OFF "<disks><disk name='vda'><driver name='q' type='qcow2' cache='none'>x<metadata_cache y='1'>"
                "<max_size unit='KiB'> 12</max_size></metadata_cache><z/></driver>"
                "<source file='/n' startupPolicy='optional'><seclabel model='dac'/><z/></source></disk>"
                "<disk name='vdb' type='file'><driver type='qcow2' name='q'/><source file='/m' index='1'> "
                "</source></disk></disks>" DOM);
    g_autoptr(SnapshotDef) def = must_parse(text);
    g_autofree char *out = snapshot_def_format(def);
    const char *disks = strstr(out, "  <disks>");
    ck_assert(g_str_has_prefix(disks, "  <disks>\n"
                                      "    <disk name='vda' snapshot='external' type='file'>\n"
                                      "      <driver type='qcow2'>\n"
                                      "        <metadata_cache>\n"
                                      "          <max_size unit='bytes'>12288</max_size>\n"
                                      "        </metadata_cache>\n"
                                      "      </driver>\n"
                                      "      <source file='/n'>\n"
                                      "        <seclabel model='dac' relabel='yes'/>\n"
                                      "      </source>\n"
                                      "    </disk>\n"
                                      "    <disk name='vdb' snapshot='external' type='file'>\n"
                                      "      <driver type='qcow2'/>\n"
                                      "      <source file='/m'/>\n"
                                      "    </disk>\n"
                                      "  </disks>\n"));
}
END_TEST

/* Ten thousand are held at a time: the document is kept only where something points into it. */
START_TEST(document_kept)
{
    static const char plain[] = ASK(OFF "<disks><disk name='vda'><source file='/n'/></disk></disks>" DOM);
    static const char reverted[] =
        ASK(OFF "<revertDisks><disk name='vda'><source file='/n'/></disk></revertDisks>" DOM);
    static const char inactive[] = ASK(OFF DOM "<inactiveDomain type='kvm'><name>d</name></inactiveDomain>");
    g_autoptr(SnapshotDef) without = must_parse(plain);
    g_autoptr(SnapshotDef) disks = must_parse(reverted);
    g_autoptr(SnapshotDef) with = must_parse(inactive);
    ck_assert_ptr_null(disks->doc);
    ck_assert_ptr_null(without->doc);
    ck_assert_ptr_nonnull(with->doc);
}
END_TEST

/* --- secrets --- */

START_TEST(secrets)
{
    static const char inactive[] = "<inactiveDomain type='kvm'><name>d</name><uuid>" UUID
                                   "</uuid><devices><graphics passwd='hidden'/></devices></inactiveDomain>";
    g_autofree char *cut = g_strndup(printed, strlen(printed) - strlen("</domainsnapshot>\n"));
    g_autofree char *text = g_strconcat(cut, inactive, "</domainsnapshot>", NULL);
    g_autoptr(SnapshotDef) old = must_parse(text);
    g_autoptr(SnapshotDef) def = must_parse(text);
    g_autofree char *whole = snapshot_def_format(old);
    ck_assert(snapshot_def_has_secret(def));
    snapshot_def_strip_secrets(def);
    ck_assert(!snapshot_def_has_secret(def));
    g_autofree char *stripped = snapshot_def_format(def);
    ck_assert_ptr_null(strstr(stripped, "s3cret"));
    ck_assert_ptr_null(strstr(stripped, "hidden"));
    g_autoptr(SnapshotDef) written = must_parse(stripped);
    snapshot_def_restore_secrets(written, old);
    g_autofree char *restored = snapshot_def_format(written);
    ck_assert_str_eq(restored, whole);
}
END_TEST

/* --- the head --- */

static void assert_same_head(const SnapshotDef *head, const SnapshotDef *whole)
{
    ck_assert_str_eq(head->name, whole->name);
    ck_assert_pstr_eq(head->description, whole->description);
    ck_assert_pstr_eq(head->parent, whole->parent);
    ck_assert_pstr_eq(head->memory_file, whole->memory_file);
    ck_assert_int_eq(head->state, whole->state);
    ck_assert_int_eq(head->creation_time, whole->creation_time);
    ck_assert_int_eq(head->memory, whole->memory);
    ck_assert_uint_eq(head->disks->len, whole->disks->len);
    for (guint i = 0; i < head->disks->len; i++) {
        ck_assert_str_eq(disk_at(head, i)->name, disk_at(whole, i)->name);
        ck_assert_pstr_eq(disk_at(head, i)->source, disk_at(whole, i)->source);
        ck_assert_int_eq(disk_at(head, i)->mode, disk_at(whole, i)->mode);
        ck_assert_int_eq(disk_at(head, i)->format, disk_at(whole, i)->format);
    }
}

START_TEST(head)
{
    g_autoptr(SnapshotDef) whole = must_parse(printed);
    g_autoptr(SnapshotDef) def = snapshot_def_parse_head(printed, strlen(printed), NULL);
    assert_same_head(def, whole);
    ck_assert_ptr_null(def->domain);
    ck_assert_uint_eq(def->revert_disks->len, 1);
}
END_TEST

/* Layouts that are not ours, some of them meant to deceive: the result is that of the whole parse. */
START_TEST(head_fallback)
{
    static const char *const texts[] = {
        ASK(OFF DOM),
        "<domainsnapshot>\n  <name>n</name>\n  <state>shutoff</state>\n  <creationTime>5</creationTime>\n"
        "  <domain>\n    <uuid>" UUID "</uuid>\n  </domain>\n  <parent>\n    <name>p</name>\n  </parent>\n"
        "</domainsnapshot>\n",
        "<domainsnapshot>\n  <name>n</name>\n  <!--\n  <domain >-->\n  <state>shutoff</state>\n"
        "  <creationTime>5</creationTime>\n  <description>d</description>\n</domainsnapshot>\n",
        "<domainsnapshot>\n  <name>n</name>\n  <state>shutoff</state>\n  <creationTime>5</creationTime>\n"
        "  <description><![CDATA[x\n  <domain >]]></description>\n</domainsnapshot>\n",
        "<domainsnapshot>\n  <name>n</name>\n  <state>shutoff</state>\n  <creationTime>5</creationTime>\n"
        "  <disks>\n    <disk name='vdb'/>\n  </disks>\n  <domain type='kvm'><name>d</name><devices><disk>"
        "<source file='/a'/><target dev='vda'/></disk><disk device='cdrom'><target "
        "dev='vdb'/></disk></devices></domain>\n</domainsnapshot>\n",
        "<domainsnapshot>\n  <domain>\n  </domain>\n  <name>n</name>\n  <state>shutoff</state>\n"
        "  <creationTime>5</creationTime>\n</domainsnapshot>\n",
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(SnapshotDef) whole = must_parse(texts[i]);
        g_autoptr(SnapshotDef) def = snapshot_def_parse_head(texts[i], strlen(texts[i]), NULL);
        assert_same_head(def, whole);
    }
}
END_TEST

/* A store of ten thousand is read at every start. */
START_TEST(head_speed)
{
    g_autoptr(SnapshotDef) def = must_parse(printed);
    g_autofree char *fedora = fedora_document();
    domain_def_free(def->domain);
    def->domain = domain_def_parse(fedora, strlen(fedora), NULL);
    g_autofree char *text = snapshot_def_format(def);
    gsize len = strlen(text);
    gint64 start = g_get_monotonic_time();
    for (int i = 0; i < 10000; i++) {
        SnapshotDef *one = snapshot_def_parse_head(text, len, NULL);
        ck_assert(one != NULL && one->domain == NULL);
        snapshot_def_free(one);
    }
    ck_assert_int_lt(g_get_monotonic_time() - start, 8 * G_USEC_PER_SEC); /* also under the sanitizers */
}
END_TEST

/* Damage anywhere: an error or a document that can be printed and read again; never a crash. */
START_TEST(damage)
{
    static const char bytes[] = "<>/'\"x \n\xc3";
    gsize len = strlen(printed);
    int good = 0;
    for (gsize at = 1; at < len; at += 3) {
        g_autofree char *text = g_strdup(printed);
        text[at] = bytes[at % (sizeof(bytes) - 1)];
        g_autoptr(GError) error = NULL;
        g_autoptr(SnapshotDef) def = snapshot_def_parse(text, len, &error);
        ck_assert((def == NULL) == (error != NULL));
        if (def == NULL)
            continue;
        g_autofree char *out = snapshot_def_format(def);
        g_autoptr(SnapshotDef) again = must_parse(out);
        g_autofree char *out_again = snapshot_def_format(again);
        ck_assert_str_eq(out_again, out);
        good++;
    }
    ck_assert_int_gt(good, 50);
}
END_TEST

/* --- create (facts 1.2) --- */

START_TEST(create)
{
    static const char text[] =
        SNAP("<name>one</name><description> d "
             "</description><state>nonsense</state><parent><name>one</name></parent>"
             "<creationTime>x</creationTime><unknown/><domain/><active>7</active><revertDisks><disk/></"
             "revertDisks>"
             "<memory snapshot='external' file='/m'/>"
             "<disks><disk name='vda' snapshot='internal'/><thing name='/b'><source file='/b.new'/></thing>"
             "<disk name='vdc' type='block'><driver type='qed'/><source dev='/dev/c'/></disk>"
             "<disk name='vdd' snapshot='manual'/><disk name='vde'/></disks>");
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = snapshot_parse_create(text, strlen(text), &error);
    ck_assert_msg(request != NULL, "%s", error ? error->message : "?");
    ck_assert_str_eq(request->name, "one");
    ck_assert_str_eq(request->description, " d ");
    ck_assert_int_eq(request->memory, MODE_EXTERNAL);
    ck_assert_str_eq(request->memory_file, "/m");
    ck_assert(!request->disk_only && !request->live && !request->quiesce && !request->halt &&
              !request->plain);
    static const struct {
        const char *name;
        SnapMode mode;
        DiskType type;
        ImageFormat format;
        const char *source;
    } expected[] = {
        {"vda", MODE_INTERNAL, DISK_FILE, FORMAT_NONE, NULL},
        {"/b", MODE_EXTERNAL, DISK_FILE, FORMAT_NONE, "/b.new"},
        {"vdc", MODE_EXTERNAL, DISK_BLOCK, FORMAT_QED, "/dev/c"},
        {"vdd", MODE_MANUAL, DISK_FILE, FORMAT_NONE, NULL},
        {"vde", MODE_DEFAULT, DISK_FILE, FORMAT_NONE, NULL},
    };
    ck_assert_uint_eq(request->disks->len, G_N_ELEMENTS(expected));
    for (guint i = 0; i < request->disks->len; i++) {
        const SnapshotDisk *disk = g_ptr_array_index(request->disks, i);
        ck_assert_str_eq(disk->name, expected[i].name);
        ck_assert_int_eq(disk->mode, expected[i].mode);
        ck_assert_int_eq(disk->type, expected[i].type);
        ck_assert_int_eq(disk->format, expected[i].format);
        ck_assert_pstr_eq(disk->source, expected[i].source);
    }
}
END_TEST

START_TEST(create_bare)
{
    static const char *const texts[] = {"<domainsnapshot/>",
                                        SNAP("<name/><description></description><memory/><disks/>"),
                                        SNAP("<memory/><disks>text</disks>")};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(CreateRequest) request = snapshot_parse_create(texts[i], strlen(texts[i]), NULL);
        ck_assert_ptr_nonnull(request);
        ck_assert_ptr_null(request->name);
        ck_assert_ptr_null(request->description);
        ck_assert_int_eq(request->memory, MODE_DEFAULT);
        ck_assert_ptr_null(request->memory_file);
        ck_assert_uint_eq(request->disks->len, 0);
    }
}
END_TEST

static const struct {
    const char *text;
    int err;
} refused_create[] = {
    {"<domainsnap/>", EINVAL},
    {"<!DOCTYPE domainsnapshot><domainsnapshot/>", EINVAL},
    {SNAP("<memory snapshot='default'/>"), EINVAL},
    {SNAP("<memory snapshot='manual'/>"), EINVAL},
    {SNAP("<memory snapshot='external'/>"), EINVAL},
    {SNAP("<memory file='relative'/>"), EINVAL},
    {SNAP("<memory file=''/>"), EINVAL},
    {SNAP("<memory snapshot='no' file='/m'/>"), EINVAL},
    {SNAP("<memory snapshot='internal' file='/m'/>"), EINVAL},
    {SNAP("<disks><disk/></disks>"), EINVAL},
    {SNAP("<disks><disk name='vda' snapshot='default'/></disks>"), EINVAL},
    {SNAP("<disks><disk name='vda' type='volume'/></disks>"), EINVAL},
    {SNAP("<disks><disk name='vda' type='nonsense'/></disks>"), EINVAL},
    {SNAP("<disks><disk name='vda'><source file='relative'/></disk></disks>"), EINVAL},
    {SNAP("<disks><disk name='vda'><driver type='nonsense'/></disk></disks>"), EOPNOTSUPP},
    {SNAP("<disks><disk name='vda' snapshot='no'><source file='/x'/></disk></disks>"), EOPNOTSUPP},
};

START_TEST(create_refused)
{
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(
        snapshot_parse_create(refused_create[_i].text, strlen(refused_create[_i].text), &error));
    ck_assert_msg(snap_errno(error) == refused_create[_i].err, "%s", error->message);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("snapshot");
    TCase *tcase = tcase_create("snapshot");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, golden);
    tcase_add_test(tcase, golden_running);
    tcase_add_test(tcase, made);
    tcase_add_test(tcase, foreign);
    tcase_add_loop_test(tcase, refuse, 0, G_N_ELEMENTS(refused));
    tcase_add_test(tcase, memory_default);
    tcase_add_loop_test(tcase, align, 0, G_N_ELEMENTS(alignments));
    tcase_add_test(tcase, align_inherited);
    tcase_add_test(tcase, disk_children);
    tcase_add_test(tcase, document_kept);
    tcase_add_test(tcase, secrets);
    tcase_add_test(tcase, head);
    tcase_add_test(tcase, head_fallback);
    tcase_add_test(tcase, head_speed);
    tcase_add_test(tcase, damage);
    tcase_add_test(tcase, create);
    tcase_add_test(tcase, create_bare);
    tcase_add_loop_test(tcase, create_refused, 0, G_N_ELEMENTS(refused_create));
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
