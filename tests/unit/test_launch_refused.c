/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machines that are not started, each with the whole sentence that says why. The cases are in launch_refused.h. */
#include "launch.h"
#include "images.h"
#include "runner.h"

typedef struct {
    const char *place; /* of @xml: in <devices> (line 7), in <domain> (5), in <os> (4) */
    const char *machine;
    const char *xml;
    const char *sentence; /* "ERRNO: ..." */
} Refused;

static const Refused refused[] = {
#include "launch_refused.h"
};

static char *no_search(const char *name)
{
    return g_str_has_prefix(name, "qemu-system-") ? g_strconcat("/usr/bin/", name, NULL) : NULL;
}

/* What a case adds to a machine that could be started. */
static char *document(const Refused *test)
{
    const char *os = test->place[0] == 'O' ? test->xml : "", *top = test->place[0] == 'T' ? test->xml : "";
    const char *devices = test->place[0] == 'D' ? test->xml : "";
    return g_strdup_printf("<domain type='qemu'>\n<name>d</name>\n<memory unit='MiB'>64</memory>\n"
                           "<os><type arch='x86_64' machine='%s'>hvm</type>%s</os>\n%s\n<devices>\n%s\n"
                           "</devices>\n</domain>\n",
                           test->machine, os, top, devices);
}

/* Of a definition whose disks stand on nothing. */
static Launch *launch(const char *text, gboolean known, GError **error)
{
    g_autoptr(DomainDef) def = domain_def_parse(text, strlen(text), error);
    if (!def)
        return NULL;
    g_autoptr(GHashTable) backing = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; known && i < def->disks->len; i++) {
        DiskDef *disk = def->disks->pdata[i];
        g_hash_table_insert(backing, disk->target, disk->backing);
    }
    LaunchSpec spec = {
        .def = def, .backing = backing, .directory = "/run/machines", .find_program = no_search};
    return launch_new(&spec, error);
}

static char *describe(const GError *error)
{
    static const struct {
        int err;
        const char *name;
    } names[] = {
        {EINVAL, "EINVAL"}, {EOPNOTSUPP, "EOPNOTSUPP"}, {ENAMETOOLONG, "ENAMETOOLONG"}, {ENOENT, "ENOENT"}};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (snap_errno(error) == names[i].err)
            return g_strdup_printf("%s: %s", names[i].name, error->message);
    return g_strdup_printf("another errno: %s", error->message);
}

START_TEST(sentences)
{
    const Refused *test = &refused[_i];
    g_autofree char *text = document(test);
    g_autoptr(GError) error = NULL;
    g_autoptr(Launch) made = launch(text, TRUE, &error);
    ck_assert_msg(!made && error, "'%s' was taken", test->xml);
    g_autofree char *is = describe(error);
    ck_assert_msg(strcmp(is, test->sentence) == 0, "%s:\n%s\nshould be\n%s", test->xml, is, test->sentence);
}
END_TEST

static void assert_refused(const char *text, gboolean known, const char *sentence)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Launch) made = launch(text, known, &error);
    ck_assert_msg(!made && error, "'%s' was taken", text);
    g_autofree char *is = describe(error);
    ck_assert_str_eq(is, sentence);
}

/* An overlay that was taken for a whole disk would show the guest zeros, and it would write over them. */
START_TEST(unknown_chain)
{
    assert_refused(
        "<domain type='kvm'><name>d</name><memory>65536</memory><devices><disk><driver type='qcow2'/>"
        "<source file='/images/a'/><target dev='vda'/></disk></devices></domain>",
        FALSE, "EINVAL: disk 'vda': what lies below '/images/a' is not known");
}
END_TEST

/* QEMU would remove the image, or empty it. */
START_TEST(images_as_outputs)
{
    static const struct {
        const char *device, *sentence;
    } tests[] = {
        {"<serial type='unix'><source path='/images//a'/></serial>",
         "EINVAL: line 1: <source>: '/images/a' would be overwritten: it is an image of disk 'vda'"},
        {"<serial type='file'><source path='/images/./a'/></serial>",
         "EINVAL: line 1: <source>: '/images/a' would be overwritten: it is an image of disk 'vda'"},
        {"<serial type='pty'><log file='/images/b'/></serial>",
         "EINVAL: line 1: <log>: '/images/b' would be overwritten: it is an image of disk 'vda'"},
        {"<graphics type='vnc' socket='/images/a'/>",
         "EINVAL: line 1: <graphics>: '/images/a' would be overwritten: it is an image of disk 'vda'"},
        {"<disk><source file='/run/machines/d.qmp'/><target dev='vdb'/></disk>",
         "EINVAL: '/run/machines/d.qmp' would be overwritten: it is an image of disk 'vdb'"},
        {"<disk><source file='/run/machines/d.pid'/><target dev='vdb'/></disk>",
         "EINVAL: '/run/machines/d.pid' would be overwritten: it is an image of disk 'vdb'"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *text = g_strdup_printf(
            "<domain type='qemu'><name>d</name><memory>65536</memory><devices><disk><driver type='qcow2'/>"
            "<source file='/images/a'/><backingStore type='file'><format type='raw'/><source "
            "file='/images/b'/>"
            "</backingStore><target dev='vda'/></disk>%s</devices></domain>",
            tests[i].device);
        assert_refused(text, TRUE, tests[i].sentence);
    }
}
END_TEST

START_TEST(no_memory)
{
    assert_refused("<domain type='qemu'><name>d</name></domain>", TRUE,
                   "EINVAL: line 1: <domain>: the domain has no <memory>");
    assert_refused("<domain type='qemu'><name>d</name><memory>0</memory></domain>", TRUE,
                   "EINVAL: line 1: <memory>: '0' is not an amount of memory");
}
END_TEST

START_TEST(other_machines)
{
    assert_refused("<domain type='xen'><name>d</name><memory>65536</memory></domain>", TRUE,
                   "EOPNOTSUPP: line 1: <domain>: type='xen' is not supported (known here: kvm, qemu, tcg)");
    assert_refused(
        "<domain type='qemu'><name>d</name><memory>65536</memory><os><type>linux</type></os></domain>", TRUE,
        "EOPNOTSUPP: line 1: <type>: 'linux' is not supported (hvm is)");
    assert_refused(
        "<domain type='qemu'><name>d</name><memory>65536</memory><os><type arch='aarch64'>hvm</type></os>"
        "</domain>",
        TRUE, "EOPNOTSUPP: line 1: <type>: arch='aarch64' is not supported (x86_64 and i686 are)");
    assert_refused(
        "<domain type='qemu'><name>d</name><memory>65536</memory><os firmware='efi'><type>hvm</type></os>"
        "</domain>",
        TRUE, "EOPNOTSUPP: line 1: <os>: firmware='efi' is not supported");
}
END_TEST

static char *nothing_installed(const char *name)
{
    return NULL;
}

START_TEST(no_emulator)
{
    static const struct {
        const char *devices, *sentence;
    } tests[] = {
        {"", "ENOENT: qemu-system-x86_64 is not installed"},
        {"<devices><emulator>/opt/qemu</emulator></devices>",
         "ENOENT: line 1: <emulator>: '/opt/qemu' is not there, nor is qemu-system-x86_64"},
        {"<devices><emulator>qemu</emulator></devices>",
         "EINVAL: line 1: <emulator>: 'qemu' is not an absolute path"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *text = g_strdup_printf(
            "<domain type='qemu'><name>d</name><memory>65536</memory>%s</domain>", tests[i].devices);
        g_autoptr(DomainDef) def = domain_def_parse(text, strlen(text), NULL);
        g_autoptr(GHashTable) backing = g_hash_table_new(g_str_hash, g_str_equal);
        LaunchSpec spec = {
            .def = def, .backing = backing, .directory = "/run/machines", .find_program = nothing_installed};
        g_autoptr(GError) error = NULL;
        ck_assert_ptr_null(launch_new(&spec, &error));
        g_autofree char *is = describe(error);
        ck_assert_str_eq(is, tests[i].sentence);
    }
}
END_TEST

/* The name is as long as names may be; the path of a socket may not. */
START_TEST(long_name)
{
    g_autofree char *name = g_strnfill(200, 'n');
    g_autofree char *text =
        g_strdup_printf("<domain type='qemu'><name>%s</name><memory>65536</memory></domain>", name);
    g_autofree char *sentence = g_strdup_printf(
        "ENAMETOOLONG: the path of a socket, '/run/machines/%s.qmp', has 218 bytes; 107 are possible", name);
    assert_refused(text, TRUE, sentence);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("launch_refused");
    TCase *tcase = tcase_create("launch_refused");
    suite_add_tcase(suite, tcase);
    tcase_add_loop_test(tcase, sentences, 0, G_N_ELEMENTS(refused));
    tcase_add_test(tcase, unknown_chain);
    tcase_add_test(tcase, images_as_outputs);
    tcase_add_test(tcase, no_memory);
    tcase_add_test(tcase, other_machines);
    tcase_add_test(tcase, no_emulator);
    tcase_add_test(tcase, long_name);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
