/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The grammar of <domainsnapshot>: what it takes, where it says a mistake is, and what libvirt's own says of the same. */
#include <errno.h>
#include <libxml/relaxng.h>
#include <string.h>

#include "error.h"
#include "fedora_xml.h"
#include "runner.h"
#include "schema.h"
#include "snapshot.h"
#include "snapshot_xml.h"

#define SNAP(body) "<domainsnapshot>\n" body "</domainsnapshot>\n"
#define DISK(rest) SNAP("<disks>\n<disk name='vda'" rest "</disks>")
#define NET(source) DISK(" type='network'>\n<source " source "</disk>")
#define HOST "<host name='h'/>"
#define MACHINE "<domain type='kvm'><name>d</name><memory>1</memory><os><type>hvm</type></os></domain>"

/* What libvirt's grammar says of it, which knows less of what libvirt writes, and the whole of a machine. */
typedef enum { SAME, OTHER } Libvirt;

/* A document, and where the mistake is (NULL: there is none). */
static const struct {
    const char *text;
    const char *wrong;
    Libvirt libvirt;
} cases[] = {
    /* the root */
    {SNAP(""), NULL, SAME},
    {SNAP("<cookie/><state>paused</state><name>n</name><description/>"), NULL, SAME},
    {SNAP("<name>n</name>\n<name>m</name>"),
     "line 3: <name>: it is not allowed there, or not with the content 'm'", SAME},
    {SNAP("<nam>n</nam>"), "line 2: <nam>: it is not allowed there", SAME},
    {SNAP("<x:name xmlns:x='urn:x'>n</x:name>"), "line 2: <name>: it is not allowed there", SAME},
    {SNAP("text"), "line 1: <domainsnapshot>: it is not allowed there, or not with the content 'text'", SAME},
    {"<domainsnapshot a='&lt;b&gt;'/>", "line 1: <domainsnapshot>: a='<b>' is not allowed there", SAME},
    /* what is simple */
    {SNAP("<state>shutoff</state>"), NULL, SAME},
    {SNAP("<state> disk-snapshot\n</state>"), NULL, SAME},
    {SNAP("<state>nostate</state>"),
     "line 2: <state>: it is not allowed there, or not with the content 'nostate'", SAME},
    {SNAP("<state>pmsuspended</state>"), "line 2: <state>", SAME},
    {SNAP("<state a='b'>running</state>"), "line 2: <state>: a='b' is not allowed there", SAME},
    {SNAP("<creationTime>-5</creationTime>"), NULL, SAME},
    {SNAP("<creationTime><a/></creationTime>"), "line 2: <a>: it is not allowed there", SAME},
    {SNAP("<parent><name>p</name></parent>"), NULL, SAME},
    {SNAP("<parent/>"), "line 2: <parent>: it is not allowed there, or something is missing in it", SAME},
    {SNAP("<parent>\n<name>p</name>\n<name>q</name></parent>"), "line 2: <parent>", SAME},
    {SNAP("<active>1</active>"), NULL, SAME},
    {SNAP("<active>yes</active>"), "line 2: <active>", SAME},
    {SNAP("<cookie><cpu mode='x'>t<y/></cpu><slirpHelper/></cookie>"), NULL, SAME},
    {SNAP("<cookie>text</cookie>"), "line 2: <cookie>", SAME},
    /* memory */
    {SNAP("<memory/>"), NULL, OTHER},
    {SNAP("<memory snapshot='no'/>"), NULL, SAME},
    {SNAP("<memory snapshot='external' file='/m'/>"), NULL, SAME},
    {SNAP("<memory file='/m'/>"), NULL, SAME},
    {SNAP("<memory snapshot='external'/>"), "line 2: <memory>: snapshot='external' is not allowed there",
     SAME},
    {SNAP("<memory snapshot='manual'/>"), "line 2: <memory>: snapshot='manual' is not allowed there", SAME},
    {SNAP("<memory file='m'/>"), "line 2: <memory>: file='m' is not allowed there", SAME},
    {SNAP("<memory snapshot='no' file='/m'/>"), "line 2: <memory>: ", SAME},
    {SNAP("<memory snapshot='no'>x</memory>"), "line 2: <memory>: ", SAME},
    /* disks */
    {SNAP("<disks/>"), NULL, SAME},
    {SNAP("<disks><other name='vda'/></disks>"), "line 2: <other>: ", SAME},
    {DISK("/>"), NULL, SAME},
    {SNAP("<disks><disk name='/a b'/><disk name='sda'/><disk name='fda'/></disks>"), NULL, SAME},
    {SNAP("<disks>\n<disk name='vda'/>\n<disk snapshot='no'/></disks>"),
     "line 4: <disk>: it is not allowed there, or something is missing in it", SAME},
    {SNAP("<disks><disk name='a'/></disks>"), NULL, OTHER},
    {SNAP("<disks><disk name=''/></disks>"), "line 2: <disk>", SAME},
    {SNAP("<disks><disk name='a/b'/></disks>"), "line 2: <disk>", SAME},
    {DISK(" snapshot='no'/>"), NULL, SAME},
    {DISK(" snapshot='internal'/>"), NULL, SAME},
    {DISK(" snapshot='manual'/>"), NULL, SAME},
    {DISK(" snapshot='external'/>"), NULL, SAME},
    {DISK(" snapshot='default'/>"), "line 3: <disk>: snapshot='default' is not allowed there", SAME},
    {DISK(" snapshot='no'>\n<source file='/a'/></disk>"), "line 4: <source>", SAME},
    {DISK(" snapshot='internal' type='file'/>"), "line 3: <disk>: ", SAME},
    {DISK(" type='file'><source file='/a'/><driver type='qcow2'/></disk>"), NULL, SAME},
    {DISK("><driver type='qed'/><source/></disk>"), NULL, SAME},
    {DISK("><driver/></disk>"), NULL, SAME},
    {DISK("><driver type='vmdk'/></disk>"), NULL, SAME},
    {DISK("><driver type='raw'/></disk>"), NULL, OTHER},
    {DISK(">\n<driver type='iso'/></disk>"), "line 4: <driver>: type='iso' is not allowed there", SAME},
    {DISK(">\n<driver name='qemu' type='qcow2'/></disk>"),
     "line 4: <driver>: name='qemu' is not allowed there", SAME},
    {DISK(">\n<driver/>\n<driver/></disk>"), "line 5: <driver>", SAME},
    {DISK("><driver type='qcow2'><metadata_cache><max_size "
          "unit='KiB'>12</max_size></metadata_cache></driver></disk>"),
     NULL, SAME},
    {DISK("><driver><metadata_cache>\n<max_size unit='X'>12</max_size></metadata_cache></driver></disk>"),
     "line 4: <max_size>: unit='X' is not allowed there", SAME},
    {DISK("><driver><metadata_cache>\n<max_size>-1</max_size></metadata_cache></driver></disk>"),
     "line 4: <max_size>: ", SAME},
    {DISK("><source file='a'/></disk>"), "line 3: <source>: file='a' is not allowed there", SAME},
    {DISK("><source dev='/dev/a'/></disk>"), "line 3: <source>: dev='/dev/a' is not allowed there", SAME},
    {DISK("><source file='/a' startupPolicy='optional'/></disk>"),
     "line 3: <source>: startupPolicy='optional' is not allowed there", SAME},
    {DISK("><source file='/a'><seclabel model='dac' relabel='no'/>"
          "<seclabel><label>l</label></seclabel></source></disk>"),
     NULL, SAME},
    {DISK("><source file='/a'>\n<seclabel relabel='maybe'/></source></disk>"),
     "line 4: <seclabel>: it is not allowed there, or something is missing in it", SAME},
    {DISK("><source file='/a'><encryption format='luks'><secret type='passphrase' usage='u'/></encryption>"
          "</source></disk>"),
     NULL, SAME},
    {DISK(" type='block'><driver type='qcow2'/><source dev='/dev/a'/></disk>"), NULL, SAME},
    {DISK(" type='block'/>"), NULL, SAME},
    {DISK(" type='block'><source file='/a'/></disk>"), "line 3: <source>", SAME},
    {DISK(" type='volume'/>"), "line 3: <disk>: type='volume' is not allowed there", SAME},
    {DISK("><snapshotDeleteInProgress/><driver type='qcow2'/><source file='/a'/></disk>"), NULL, OTHER},
    {DISK("><snapshotDeleteInProgress>1</snapshotDeleteInProgress></disk>"),
     "line 3: <snapshotDeleteInProgress>", SAME},
    /* over the network */
    {NET("protocol='nbd'>" HOST "</source>"), NULL, SAME},
    {NET("protocol='nbd' name='e'><host transport='unix' socket='/s'/></source>"), NULL, SAME},
    {NET("protocol='nbd' name='e'/>"), "line 3: <disk>", SAME},
    {NET("protocol='rbd' name='p/i'><host name='h' port='1'/>" HOST "<auth username='u'>"
         "<secret type='ceph' usage='x'/></auth></source>"),
     NULL, SAME},
    {NET("protocol='rbd' name='p/i'/>"), NULL, SAME},
    {NET("protocol='gluster' name='v/i'>" HOST HOST "</source>"), NULL, SAME},
    {NET("protocol='https' name='i' query='a=b'>" HOST "<ssl verify='no'/><readahead size='5'/></source>"),
     NULL, SAME},
    {NET("protocol='iscsi'>" HOST "</source>"), "line 3: <disk>", SAME},
    {NET("protocol='pigeon' name='x'>" HOST "</source>"), "line 3: <disk>", SAME},
    {DISK(" type='network'/>"), "line 3: <disk>", SAME},
    {NET("protocol='nbd' name='e'>" HOST "<seclabel relabel='no'/></source>"), NULL, OTHER},
    /* layers above a snapshot that was reverted to */
    {SNAP("<revertDisks><disk name='vda' snapshot='external' type='file'><source "
          "file='/a'/></disk></revertDisks>"),
     NULL, OTHER},
    {SNAP("<revertDisks>\n<disk/></revertDisks>"), "line 3: <disk>", SAME},
    /* the machine */
    {SNAP(MACHINE), NULL, SAME},
    {SNAP("<domain><uuid>" UUID "</uuid></domain>"), NULL, SAME},
    {SNAP("<domain><uuid>31a85633b9ac4798afcc33c9afe8bef1</uuid></domain>"), NULL, SAME},
    {SNAP("<domain><uuid>31a85633</uuid></domain>"), "line 2: <domain>", SAME},
    {SNAP("<domain><name>d</name><uuid>" UUID "</uuid></domain>"), "line 2: <domain>", SAME},
    {SNAP("<domain/>"), "line 2: <domain>", SAME},
    {SNAP("<domain type='anything' a='b' xmlns:x='urn:x'><x:y z='1'>t<!-- c --><w/></x:y></domain>"), NULL,
     OTHER},
    {SNAP(MACHINE "\n" MACHINE), "line 3: <domain>", SAME},
    {SNAP("<inactiveDomain type='qemu'><a/></inactiveDomain>"), NULL, OTHER},
    {SNAP("<inactiveDomain><uuid>" UUID "</uuid></inactiveDomain>"), "line 2: <inactiveDomain>", SAME},
};

START_TEST(verdicts)
{
    g_autoptr(GError) error = NULL;
    const char *text = cases[_i].text, *wrong = cases[_i].wrong;
    gboolean valid = schema_check_snapshot(text, strlen(text), &error);
    ck_assert_msg(valid == !wrong, "%s: %s", text, error ? error->message : "was taken");
    if (valid)
        return;
    ck_assert_int_eq(snap_errno(error), EINVAL);
    g_autofree char *start = g_strconcat("not valid: ", wrong, NULL);
    ck_assert_msg(g_str_has_prefix(error->message, start), "%s\n%s\nexpected: %s", text, error->message,
                  start);
}
END_TEST

/* What cannot be read at all is said in the parser's words. */
START_TEST(unreadable)
{
    static const char *const texts[] = {"", "<domainsnapshot>", "<domain/>", "<!DOCTYPE a><domainsnapshot/>"};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL, parse = NULL;
        ck_assert(!schema_check_snapshot(texts[i], strlen(texts[i]), &error));
        ck_assert_ptr_null(xml_parse(texts[i], strlen(texts[i]), "domainsnapshot", &parse));
        ck_assert_str_eq(error->message, parse->message);
    }
}
END_TEST

static void assert_valid(const char *text)
{
    g_autoptr(GError) error = NULL;
    ck_assert_msg(schema_check_snapshot(text, strlen(text), &error), "%s: %s", text,
                  error ? error->message : "?");
}

/* What we write: all there can be in a document, in each of its forms. */
START_TEST(written)
{
    g_autofree char *fedora = fedora_document();
    g_autoptr(SnapshotDef) def = snapshot_def_parse(printed, strlen(printed), NULL);
    g_autofree char *whole = snapshot_def_format(def);
    assert_valid(whole);
    domain_def_free(def->domain);
    def->domain = domain_def_parse(fedora, strlen(fedora), NULL);
    g_autofree char *machine = snapshot_def_format(def);
    assert_valid(machine);
    snapshot_def_strip_secrets(def);
    g_autofree char *stripped = snapshot_def_format(def);
    assert_valid(stripped);
    g_clear_pointer(&def->domain, domain_def_free);
    def->domain_uuid = g_strdup(UUID);
    g_autofree char *legacy = snapshot_def_format(def);
    assert_valid(legacy);
    for (SnapState state = STATE_RUNNING; state <= STATE_DISK_SNAPSHOT; state++) {
        if (state == STATE_PMSUSPENDED)
            continue;
        def->state = state;
        def->memory = MODE_EXTERNAL;
        g_free(def->memory_file);
        def->memory_file = g_strdup("/a 'b' &c");
        g_autofree char *text = snapshot_def_format(def);
        assert_valid(text);
    }
}
END_TEST

/* The mistake is found among many, and that in a moment. */
START_TEST(needle)
{
    g_autoptr(GString) text = g_string_new("<domainsnapshot>\n<disks>\n");
    for (guint i = 0; i < 3000; i++)
        g_string_append_printf(text, "<disk name='vd%u'><source file='/%s'/></disk>\n", i,
                               i == 2345 ? "" : "a");
    g_string_append(text, "</disks>\n<domain type='kvm'>\n");
    for (guint i = 0; i < 20000; i++)
        g_string_append(text, "<a b='c'>d<e/></a>\n");
    g_string_append(text, "</domain>\n</domainsnapshot>\n");
    g_autoptr(GError) error = NULL;
    gint64 start = g_get_monotonic_time();
    ck_assert(!schema_check_snapshot(text->str, text->len, &error));
    ck_assert_str_eq(error->message, "not valid: line 2348: <source>: file='/' is not allowed there");
    ck_assert_msg(g_get_monotonic_time() - start < 20 * G_USEC_PER_SEC, "it took too long");
}
END_TEST

static gpointer check_many(gpointer unused)
{
    for (guint i = 0; i < 200; i++) {
        const guint n = i % G_N_ELEMENTS(cases);
        if (schema_check_snapshot(cases[n].text, strlen(cases[n].text), NULL) == (cases[n].wrong != NULL))
            return GUINT_TO_POINTER(n + 1);
    }
    return NULL;
}

START_TEST(threads)
{
    GThread *thread[8];
    for (guint i = 0; i < G_N_ELEMENTS(thread); i++)
        thread[i] = g_thread_new("schema", check_many, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(thread); i++)
        ck_assert_ptr_null(g_thread_join(thread[i]));
}
END_TEST

/* --- libvirt's own grammar, where it is installed --- */

#define LIBVIRT "/usr/share/libvirt/schemas/domainsnapshot.rng"

#if LIBXML_VERSION >= 21200
static void ignore_error(void *user, const xmlError *problem)
#else
static void ignore_error(void *user, xmlErrorPtr problem)
#endif
{
}

START_TEST(as_libvirt)
{
    if (!g_file_test(LIBVIRT, G_FILE_TEST_EXISTS)) {
        printf("# libvirt's grammar is not installed: not compared\n");
        return;
    }
    xmlRelaxNGParserCtxt *parser = xmlRelaxNGNewParserCtxt(LIBVIRT);
    xmlRelaxNG *grammar = xmlRelaxNGParse(parser);
    xmlRelaxNGFreeParserCtxt(parser);
    ck_assert_ptr_nonnull(grammar);
    g_autoptr(GString) bad = g_string_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(xmlDoc) doc = xml_parse(cases[i].text, strlen(cases[i].text), "domainsnapshot", NULL);
        xmlRelaxNGValidCtxt *context = xmlRelaxNGNewValidCtxt(grammar);
        xmlRelaxNGSetValidStructuredErrors(context, ignore_error, NULL);
        gboolean valid = xmlRelaxNGValidateDoc(context, doc) == 0;
        xmlRelaxNGFreeValidCtxt(context);
        if (valid != ((cases[i].libvirt == SAME) == !cases[i].wrong))
            g_string_append_printf(bad, "%s: %s\n", valid ? "taken" : "refused", cases[i].text);
    }
    xmlRelaxNGFree(grammar);
    ck_assert_msg(bad->len == 0, "%s", bad->str);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("schema");
    TCase *tcase = tcase_create("grammar");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, verdicts, 0, G_N_ELEMENTS(cases));
    tcase_add_test(tcase, unreadable);
    tcase_add_test(tcase, written);
    tcase_add_test(tcase, needle);
    tcase_add_test(tcase, threads);
    tcase_add_test(tcase, as_libvirt);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
