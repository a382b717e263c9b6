/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a request and a domain's disks to what is done with each (facts/libvirt-snapshots.md 3; DESIGN 3). */
#include <errno.h>
#include <string.h>

#include "align.h"
#include "error.h"
#include "runner.h"
#include "snapshot.h"

/* Disks in short: what the attributes of libvirt's documents are made of. */
#define FILE_DISK(target, format, path, attributes, inside)                                                  \
    "<disk type='file' device='disk'" attributes "><driver name='qemu' type='" format                        \
    "'/><source file='" path "'/><target dev='" target "'/>" inside "</disk>"
#define QCOW2(target) FILE_DISK(target, "qcow2", "/i/" target ".qcow2", "", "")
#define QCOW2_SAYS(target, mode) FILE_DISK(target, "qcow2", "/i/" target ".qcow2", " snapshot='" mode "'", "")
#define RAW(target) FILE_DISK(target, "raw", "/i/" target ".raw", "", "")
#define CDROM(target)                                                                                        \
    "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/i/cd.iso'/>"            \
    "<target dev='" target "'/><readonly/></disk>"
#define EMPTY(target, device) "<disk type='file' device='" device "'><target dev='" target "'/></disk>"
#define BLOCK(target)                                                                                        \
    "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vg/" target "'/>"    \
    "<target dev='" target "'/></disk>"
#define LUN(target)                                                                                          \
    "<disk type='block' device='lun'><driver name='qemu' type='raw'/><source dev='/dev/vg/" target "'/>"     \
    "<target dev='" target "'/></disk>"
#define NETWORK(target, attributes)                                                                          \
    "<disk type='network' device='disk'" attributes "><driver name='qemu' type='raw'/>"                      \
    "<source protocol='rbd' name='p/i'/><target dev='" target "'/></disk>"
#define NETWORK_CDROM(target)                                                                                \
    "<disk type='network' device='cdrom'><driver name='qemu' type='raw'/>"                                   \
    "<source protocol='http' name='cd.iso'/><target dev='" target "'/><readonly/></disk>"
#define OTHER(target, type)                                                                                  \
    "<disk type='" type                                                                                      \
    "' device='disk'><driver name='qemu' type='raw'/><source dir='/s'/><target dev='" target "'/></disk>"
#define VOLUME(target)                                                                                       \
    "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='p' volume='v'/>"      \
    "<target dev='" target "'/></disk>"

typedef struct {
    const char *disks;    /* the domain's */
    const char *specs;    /* the request's, separated by blanks; "": silent */
    SnapMode silent;      /* the mount's default */
    const char *expected; /* target=mode... ; NULL: refused with code and text */
    int code;
    const char *text;
} Case;

static const Case cases[] = {
    /* the default: internal where every participating silent disk can, external otherwise */
    {QCOW2("vda") QCOW2("vdb"), "", MODE_DEFAULT, "vda=internal vdb=internal"},
    {QCOW2("vda") RAW("vdb"), "", MODE_DEFAULT, "vda=external vdb=external"},
    {RAW("vda"), "", MODE_DEFAULT, "vda=external"},
    {QCOW2("vda") CDROM("sda"), "", MODE_DEFAULT, "vda=internal sda=no"},
    /* the mount's word, where request and definition are silent */
    {QCOW2("vda") QCOW2("vdb"), "", MODE_EXTERNAL, "vda=external vdb=external"},
    {QCOW2("vda") QCOW2("vdb"), "", MODE_INTERNAL, "vda=internal vdb=internal"},
    {QCOW2("vda") RAW("vdb"), "", MODE_INTERNAL, NULL, EOPNOTSUPP,
     "disk 'vdb': no internal snapshot is possible"},
    {QCOW2_SAYS("vda", "external") QCOW2("vdb"), "", MODE_INTERNAL, "vda=external vdb=internal"},
    {QCOW2("vda") QCOW2("vdb"), "vda,snapshot=internal", MODE_EXTERNAL, "vda=internal vdb=external"},
    /* listed with a mode: used */
    {QCOW2("vda") QCOW2("vdb"), "vda,snapshot=external vdb,snapshot=internal", MODE_DEFAULT,
     "vda=external vdb=internal"},
    {QCOW2("vda") QCOW2("vdb"), "vda,snapshot=no", MODE_DEFAULT, "vda=no vdb=internal"},
    {QCOW2("vda") QCOW2("vdb"), "vda,snapshot=manual", MODE_DEFAULT, "vda=manual vdb=internal"},
    {QCOW2("vda") RAW("vdb"), "vdb,snapshot=no", MODE_DEFAULT, "vda=internal vdb=no"},
    {QCOW2("vda") RAW("vdb"), "vdb,snapshot=external", MODE_DEFAULT, "vda=internal vdb=external"},
    {QCOW2("vda") RAW("vdb"), "vdb,snapshot=internal", MODE_DEFAULT, NULL, EOPNOTSUPP, "disk 'vdb'"},
    {QCOW2_SAYS("vda", "no") QCOW2("vdb"), "vda,snapshot=external", MODE_DEFAULT,
     "vda=external vdb=internal"},
    /* listed without one: the domain's word, else the default */
    {QCOW2_SAYS("vda", "external") QCOW2("vdb"), "vda", MODE_DEFAULT, "vda=external vdb=internal"},
    {QCOW2_SAYS("vda", "no") QCOW2("vdb"), "vda", MODE_DEFAULT, "vda=no vdb=internal"},
    {QCOW2("vda") QCOW2("vdb"), "vda vdb", MODE_DEFAULT, "vda=internal vdb=internal"},
    {QCOW2("vda") CDROM("sda"), "vda sda", MODE_DEFAULT, "vda=internal sda=no"},
    {QCOW2("vda") CDROM("sda"), "sda,snapshot=external", MODE_DEFAULT, "vda=internal sda=external"},
    /* listed with a path or a driver: external */
    {QCOW2("vda") QCOW2("vdb"), "vda,file=/n/x", MODE_DEFAULT, "vda=external:/n/x vdb=internal"},
    {QCOW2("vda"), "vda,driver=qed", MODE_DEFAULT, "vda=external/qed"},
    {QCOW2("vda"), "vda,driver=qcow2,snapshot=external,file=/n/x", MODE_DEFAULT, "vda=external:/n/x"},
    {QCOW2("vda"), "vda,driver=raw", MODE_DEFAULT, NULL, EOPNOTSUPP,
     "disk 'vda': an overlay cannot be of type 'raw'"},
    /* not listed: the domain's word; an empty drive and what the guest cannot write take no part */
    {QCOW2_SAYS("vda", "no") QCOW2("vdb"), "", MODE_DEFAULT, "vda=no vdb=internal"},
    {QCOW2_SAYS("vda", "external") QCOW2("vdb"), "", MODE_DEFAULT, "vda=external vdb=internal"},
    {QCOW2_SAYS("vda", "manual") QCOW2("vdb"), "", MODE_DEFAULT, "vda=manual vdb=internal"},
    {QCOW2_SAYS("vda", "internal") RAW("vdb"), "", MODE_DEFAULT, "vda=internal vdb=external"},
    {EMPTY("sda", "cdrom") EMPTY("fda", "floppy") QCOW2("vda"), "", MODE_DEFAULT,
     "sda=no fda=no vda=internal"},
    {FILE_DISK("vdb", "raw", "/i/ro.raw", "", "<readonly/>") QCOW2("vda"), "", MODE_DEFAULT,
     "vdb=no vda=internal"},
    {"<disk type='file' device='floppy'><driver type='raw'/><source file='/i/f.img'/><target "
     "dev='fda'/></disk>" QCOW2("vda"),
     "", MODE_DEFAULT, "fda=external vda=external"},
    {QCOW2("vda") EMPTY("sda", "cdrom"), "sda,snapshot=external", MODE_DEFAULT, NULL, EOPNOTSUPP,
     "disk 'sda': the drive is empty"},
    {QCOW2("vda") EMPTY("sda", "cdrom"), "sda,snapshot=no", MODE_DEFAULT, "vda=internal sda=no"},
    {QCOW2("vda") EMPTY("sda", "cdrom"), "sda", MODE_DEFAULT, "vda=internal sda=no"},
    {EMPTY("sda", "cdrom"), "", MODE_DEFAULT, "sda=no"},
    {"", "", MODE_DEFAULT, ""},
    /* shareable, transient, kinds of disk */
    {FILE_DISK("vda", "qcow2", "/i/s.qcow2", "", "<shareable/>"), "", MODE_DEFAULT, "vda=internal"},
    {FILE_DISK("vda", "qcow2", "/i/s.qcow2", "", "<shareable/>"), "vda,snapshot=external", MODE_DEFAULT, NULL,
     EOPNOTSUPP, "disk 'vda': no external snapshot of a shareable disk"},
    {FILE_DISK("vda", "raw", "/i/s.raw", "", "<shareable/>"), "", MODE_DEFAULT, NULL, EOPNOTSUPP,
     "shareable"},
    {FILE_DISK("vda", "qcow2", "/i/t.qcow2", "", "<transient/>") QCOW2("vdb"), "", MODE_DEFAULT,
     "vda=internal vdb=internal"},
    {FILE_DISK("vda", "qcow2", "/i/t.qcow2", "", "<transient/>"), "vda,snapshot=external", MODE_DEFAULT,
     "vda=external"},
    {LUN("sda"), "", MODE_DEFAULT, NULL, EOPNOTSUPP, "disk 'sda': no external snapshot of a lun disk"},
    {BLOCK("vda"), "", MODE_DEFAULT, NULL, EOPNOTSUPP,
     "disk 'vda' is a block device: say where its overlay goes"},
    {BLOCK("vda"), "vda,file=/i/over", MODE_DEFAULT, "vda=external:/i/over"},
    {BLOCK("vda"), "vda,snapshot=internal", MODE_DEFAULT, NULL, EOPNOTSUPP, "disk 'vda'"},
    {NETWORK("vda", ""), "", MODE_DEFAULT, NULL, EOPNOTSUPP,
     "disk 'vda' is of type 'network', of which no snapshot can be taken: leave it out (--diskspec "
     "vda,snapshot=no, or snapshot='no' in the domain's <disk>)"},
    {NETWORK("vda", " snapshot='no'") QCOW2("vdb"), "", MODE_DEFAULT, "vda=no vdb=internal"},
    {NETWORK("vda", "") QCOW2("vdb"), "vda,snapshot=no", MODE_DEFAULT, "vda=no vdb=internal"},
    {NETWORK("vda", ""), "vda,snapshot=external,file=/x", MODE_DEFAULT, NULL, EOPNOTSUPP, "type 'network'"},
    {VOLUME("vda"), "", MODE_DEFAULT, NULL, EOPNOTSUPP, "disk 'vda' is of type 'volume', of which"},
    {VOLUME("vda") QCOW2("vdb"), "vda,snapshot=no", MODE_DEFAULT, "vda=no vdb=internal"},
    {VOLUME("vda"), "vda,snapshot=internal", MODE_DEFAULT, NULL, EOPNOTSUPP, "type 'volume'"},
    {OTHER("vda", "nvme"), "", MODE_DEFAULT, NULL, EOPNOTSUPP, "disk 'vda' is of type 'nvme', of which"},
    {OTHER("vda", "vhostuser"), "", MODE_DEFAULT, NULL, EOPNOTSUPP, "type 'vhostuser'"},
    {OTHER("vda", "dir"), "", MODE_DEFAULT, NULL, EOPNOTSUPP, "type 'dir'"},
    {OTHER("vda", "nvme") RAW("vdb"), "vda,snapshot=no", MODE_DEFAULT, "vda=no vdb=external"},
    {NETWORK_CDROM("sda") QCOW2("vda"), "", MODE_DEFAULT, "sda=no vda=internal"},
    {LUN("sda"), "sda,snapshot=internal", MODE_DEFAULT, NULL, EOPNOTSUPP, "disk 'sda': no internal snapshot"},
    {LUN("sda"), "sda,file=/i/over", MODE_DEFAULT, NULL, EOPNOTSUPP, "no external snapshot of a lun disk"},
    {LUN("sda") QCOW2("vda"), "sda,snapshot=no", MODE_DEFAULT, "sda=no vda=internal"},
    {FILE_DISK("vda", "qcow2", "/i/s.qcow2", "", "<shareable/><readonly/>"), "vda,snapshot=external",
     MODE_DEFAULT, "vda=external"},
    {CDROM("sda") QCOW2("vda"), "sda,snapshot=external", MODE_DEFAULT, "sda=external vda=internal"},
    {CDROM("sda"), "", MODE_DEFAULT, "sda=no"},
    {EMPTY("fda", "floppy"), "fda,snapshot=internal", MODE_DEFAULT, NULL, EOPNOTSUPP,
     "disk 'fda': the drive is empty"},
    /* where the overlay goes */
    {BLOCK("vda"), "vda,stype=block,file=/dev/vg/over", MODE_DEFAULT, "vda=external:/dev/vg/over"},
    {QCOW2("vda"), "vda,stype=block,file=/dev/vg/over", MODE_DEFAULT, "vda=external:/dev/vg/over"},
    {QCOW2("vda"), "vda,stype=block,snapshot=external", MODE_DEFAULT, NULL, EINVAL,
     "disk 'vda': an overlay of type 'block' needs a <source> (--diskspec vda,file=PATH)"},
    {RAW("vda"), "vda,stype=block", MODE_DEFAULT, NULL, EINVAL, "needs a <source>"},
    /* a disk is named by target or by the path it has now, once */
    {QCOW2("vda") QCOW2("vdb"), "/i/vda.qcow2,snapshot=no", MODE_DEFAULT, "vda=no vdb=internal"},
    {QCOW2("vda"), "vdz,snapshot=no", MODE_DEFAULT, NULL, EINVAL, "domain 'd' has no disk 'vdz'"},
    {QCOW2("vda"), "/i/none,snapshot=no", MODE_DEFAULT, NULL, EINVAL, "has no disk '/i/none'"},
    {QCOW2("vda"), "vda,snapshot=no vda", MODE_DEFAULT, NULL, EINVAL, "disk 'vda' is named twice"},
    {QCOW2("vda"), "vda,snapshot=no /i/vda.qcow2", MODE_DEFAULT, NULL, EINVAL, "disk 'vda' is named twice"},
    {FILE_DISK("vda", "raw", "/i/same", "", "<shareable/>")
         FILE_DISK("vdb", "raw", "/i/same", "", "<shareable/>"),
     "/i/same,snapshot=no", MODE_DEFAULT, NULL, EINVAL, "has no disk '/i/same'"},
};

static DomainDef *parse(const char *disks)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml =
        g_strdup_printf("<domain type='kvm'><name>d</name><memory>1</memory>"
                        "<os><type arch='x86_64'>hvm</type></os><devices>%s</devices></domain>",
                        disks);
    DomainDef *def = domain_def_parse(xml, strlen(xml), &error);
    ck_assert_msg(def != NULL, "%s: %s", disks, error ? error->message : "?");
    return def;
}

static CreateRequest *ask(const char *specs)
{
    CreateRequest *request = create_request_new();
    g_auto(GStrv) words = g_strsplit(specs, " ", -1);
    for (guint i = 0; words[i] && *words[i]; i++) {
        g_autoptr(GError) error = NULL;
        SnapshotDisk *disk = create_request_parse_diskspec(words[i], &error);
        ck_assert_msg(disk != NULL, "%s: %s", words[i], error ? error->message : "?");
        g_ptr_array_add(request->disks, disk);
    }
    return request;
}

/* As the engine finds it out: qcow2 files can. */
static DiskAbility *abilities_of(const DomainDef *def)
{
    DiskAbility *abilities = g_new0(DiskAbility, def->disks->len + 1);
    for (guint i = 0; i < def->disks->len; i++) {
        const DiskDef *disk = def->disks->pdata[i];
        abilities[i].can_internal = disk->type == DISK_FILE && disk->format == FORMAT_QCOW2;
        abilities[i].code = EOPNOTSUPP;
        abilities[i].why_not = abilities[i].can_internal ? NULL : "only qcow2 images can hold them";
    }
    return abilities;
}

static char *print(const GArray *disks)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < disks->len; i++) {
        const AlignedDisk *disk = &g_array_index(disks, AlignedDisk, i);
        g_string_append_printf(out, "%s%s=%s", i ? " " : "", disk->disk->target,
                               snap_mode_to_string(disk->mode));
        if (disk->mode == MODE_EXTERNAL && disk->format != FORMAT_QCOW2)
            g_string_append_printf(out, "/%s", image_format_to_string(disk->format));
        if (disk->request && disk->request->source)
            g_string_append_printf(out, ":%s", disk->request->source);
    }
    return g_string_free(out, FALSE);
}

START_TEST(each_case)
{
    const Case *c = &cases[_i];
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = parse(c->disks);
    g_autoptr(CreateRequest) request = ask(c->specs);
    g_autofree DiskAbility *abilities = abilities_of(def);
    g_autoptr(GArray) disks = align_disks(def, request, abilities, c->silent, &error);
    if (!c->expected) {
        ck_assert_msg(disks == NULL && error != NULL, "'%s' was taken", c->specs);
        ck_assert_msg(error->code == c->code, "%d: %s", error->code, error->message);
        ck_assert_msg(strstr(error->message, c->text) != NULL, "'%s' does not say '%s'", error->message,
                      c->text);
        return;
    }
    ck_assert_msg(disks != NULL, "'%s' of %s: %s", c->specs, c->disks, error ? error->message : "?");
    g_autofree char *got = print(disks);
    ck_assert_str_eq(got, c->expected);
}
END_TEST

/* A path goes with external only; the parsers see to that, and align does not rely on them. */
START_TEST(path_without_external)
{
    static const SnapMode others[] = {MODE_NO, MODE_INTERNAL, MODE_MANUAL};
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = parse(QCOW2("vda"));
    g_autofree DiskAbility *abilities = abilities_of(def);
    g_autoptr(CreateRequest) request = ask("vda");
    SnapshotDisk *disk = request->disks->pdata[0];
    disk->mode = others[_i];
    disk->source = g_strdup("/x");
    ck_assert_ptr_null(align_disks(def, request, abilities, MODE_DEFAULT, &error));
    ck_assert_int_eq(error->code, EINVAL);
    ck_assert_ptr_nonnull(strstr(error->message, "disk 'vda': a file is named"));
}
END_TEST

/* A network target comes with a document only; what it is is the overlay's matter, that there is one is asked here. */
START_TEST(network_targets)
{
    static const struct {
        const char *disk;
        const char *why; /* NULL: external */
    } targets[] = {
        {"<disk name='vda' type='network'><source protocol='nbd' name='e'><host name='h'/></source></disk>",
         NULL},
        {"<disk name='vda' snapshot='external' type='network'/>",
         "an overlay of type 'network' needs a <source>"},
        {"<disk name='vda' type='network'><driver type='raw'/><source protocol='nbd' name='e'/></disk>",
         "an overlay cannot be of type 'raw'"}};
    for (gsize i = 0; i < G_N_ELEMENTS(targets); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *xml =
            g_strdup_printf("<domainsnapshot><disks>%s</disks></domainsnapshot>", targets[i].disk);
        g_autoptr(DomainDef) def = parse(QCOW2("vda"));
        g_autofree DiskAbility *abilities = abilities_of(def);
        g_autoptr(CreateRequest) request = snapshot_parse_create(xml, strlen(xml), &error);
        ck_assert_msg(request != NULL, "%s", error ? error->message : "?");
        g_autoptr(GArray) disks = align_disks(def, request, abilities, MODE_DEFAULT, &error);
        ck_assert_msg((disks != NULL) == !targets[i].why, "%zu: %s", i, error ? error->message : "taken");
        ck_assert_msg(!error || strstr(error->message, targets[i].why), "%s", error ? error->message : "");
        ck_assert(!disks || g_array_index(disks, AlignedDisk, 0).mode == MODE_EXTERNAL);
    }
}
END_TEST

/* So many tags that each operation is slow: not the default any more, but what is asked for is done. */
START_TEST(crowded)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = parse(QCOW2("vda") QCOW2("vdb"));
    g_autofree DiskAbility *abilities = abilities_of(def);
    abilities[1].crowded = TRUE;
    g_autoptr(CreateRequest) silent = ask("");
    g_autoptr(GArray) disks = align_disks(def, silent, abilities, MODE_DEFAULT, &error);
    g_autofree char *got = print(disks);
    ck_assert_str_eq(got, "vda=external vdb=external");
    g_autoptr(CreateRequest) without = ask("vdb,snapshot=no");
    g_autoptr(GArray) rest = align_disks(def, without, abilities, MODE_DEFAULT, &error);
    g_autofree char *got_rest = print(rest);
    ck_assert_str_eq(got_rest, "vda=internal vdb=no");
    g_autoptr(CreateRequest) asked = ask("vda,snapshot=internal vdb,snapshot=internal");
    g_autoptr(GArray) both = align_disks(def, asked, abilities, MODE_DEFAULT, &error);
    g_autofree char *got_both = print(both);
    ck_assert_str_eq(got_both, "vda=internal vdb=internal");
}
END_TEST

/* Files besides the disks: what the request does not speak of is external too, as in libvirt. */
START_TEST(disk_only)
{
    static const char *const rows[][2] = {
        {"", "vda=internal vdb=internal"}, /* the combination table */
        {"vda,snapshot=external", "vda=external vdb=external"},
        {"vda,snapshot=no", "vda=no vdb=external"},
        {"vda", "vda=external vdb=external"},
        {"vda,snapshot=internal", "vda=internal vdb=internal"},
    };
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = parse(QCOW2("vda") QCOW2("vdb"));
    g_autofree DiskAbility *abilities = abilities_of(def);
    g_autoptr(CreateRequest) request = ask(rows[_i][0]);
    request->disk_only = TRUE;
    g_autoptr(GArray) disks = align_disks(def, request, abilities, MODE_DEFAULT, &error);
    ck_assert_msg(disks != NULL, "%s", error ? error->message : "?");
    g_autofree char *got = print(disks);
    ck_assert_str_eq(got, rows[_i][1]);
}
END_TEST

/* The request itself is only read, and nothing of the domain changes. */
START_TEST(pure)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = parse(QCOW2("vda") RAW("vdb"));
    g_autofree char *before = domain_def_format(def);
    g_autofree DiskAbility *abilities = abilities_of(def);
    g_autoptr(CreateRequest) request = ask("vdb,file=/n/x");
    g_autoptr(GArray) disks = align_disks(def, request, abilities, MODE_DEFAULT, &error);
    g_autofree char *after = domain_def_format(def);
    const SnapshotDisk *disk = request->disks->pdata[0];
    ck_assert_str_eq(before, after);
    ck_assert_ptr_eq(g_array_index(disks, AlignedDisk, 1).request, disk);
    ck_assert_ptr_eq(g_array_index(disks, AlignedDisk, 0).disk, def->disks->pdata[0]);
}
END_TEST

static const struct {
    const char *disks, *specs;
    guint asks;
} asks[] = {
    {QCOW2("vda") QCOW2("vdb"), "", 1 << ASK_OMIT},
    {QCOW2("vda") QCOW2("vdb"), "vda", 1 << ASK_OMIT},
    {RAW("vda"), "", 1 << ASK_OMIT},
    {QCOW2("vda"), "vda,snapshot=internal", 1 << ASK_INTERNAL},
    {QCOW2("vda"), "vda,file=/x", 1 << ASK_EXTERNAL},
    {QCOW2("vda") QCOW2("vdb"), "vda,snapshot=external vdb,snapshot=internal",
     1 << ASK_INTERNAL | 1 << ASK_EXTERNAL},
    {QCOW2("vda") QCOW2("vdb"), "vda,snapshot=no vdb,snapshot=no", 1 << ASK_NO},
    {QCOW2("vda"), "vda,snapshot=manual", 1 << ASK_NO},
    {QCOW2_SAYS("vda", "no"), "", 1 << ASK_NO},
    {EMPTY("sda", "cdrom"), "", 1 << ASK_NO},
    {CDROM("sda"), "", 1 << ASK_NO},
    {"", "", 1 << ASK_NO},
};

START_TEST(what_is_asked)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = parse(asks[_i].disks);
    g_autoptr(CreateRequest) request = ask(asks[_i].specs);
    g_autofree DiskAbility *abilities = abilities_of(def);
    g_autoptr(GArray) disks = align_disks(def, request, abilities, MODE_DEFAULT, &error);
    ck_assert_msg(disks != NULL, "%s", error ? error->message : "?");
    ck_assert_uint_eq(align_asks(disks), asks[_i].asks);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("align");
    TCase *tcase = tcase_create("disks");
    tcase_add_loop_test(tcase, each_case, 0, G_N_ELEMENTS(cases));
    tcase_add_loop_test(tcase, path_without_external, 0, 3);
    tcase_add_test(tcase, network_targets);
    tcase_add_test(tcase, crowded);
    tcase_add_loop_test(tcase, disk_only, 0, 5);
    tcase_add_test(tcase, pure);
    tcase_add_loop_test(tcase, what_is_asked, 0, G_N_ELEMENTS(asks));
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
