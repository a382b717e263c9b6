/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Documents to redefine: what may be left out, what is filled in, what is refused, as libvirt does it. */
#include "twin.h"

/* One document. NULL: the element is left out. The name is the test's. */
typedef struct {
    const char *state, *time, *rest; /* rest: what else stands in it; @DOMAIN@ is a whole <domain> */
} Document;

#define DISK(name, mode) "<disk name='" name "' snapshot='" mode "'/>"
#define FILE(name, rest) "<disk name='" name "' snapshot='external' type='file'>" rest "</disk>"

static const Document accepted[] = {
    {"shutoff", "5", "@DOMAIN@"},
    {"shutoff", "-5", "<description>  d\n</description>@DOMAIN@<unknown/><active>1</active>"},
    {"shutoff", "5", "<disks>" DISK("vda", "internal") "</disks>@DOMAIN@"},
    {"shutoff", "5", "<disks>" DISK("vdb", "internal") DISK("vda", "internal") "</disks>@DOMAIN@"},
    {"shutoff", "5", "<disks><disk name='@DIR@/disk-vda.qcow2' snapshot='internal'/></disks>@DOMAIN@"},
    {"shutoff", "5", "<disks/><memory/>@DOMAIN@"},
    {"shutoff", "5", "<memory snapshot='no'/>@DOMAIN@"},
    {"running", "5", "@DOMAIN@"},
    {"running", "5", "<memory snapshot='no'/>@DOMAIN@"},
    {"paused", "5", "<memory snapshot='internal'/>@DOMAIN@<cookie><slirpHelper/></cookie>"},
    {"crashed", "5", "@DOMAIN@"},
    {"shutdown", "5", "@DOMAIN@"},
    {"shutoff", "5", "@DOMAIN@<cookie><slirpHelper/></cookie>"},
    {"running", "5",
     "<memory snapshot='external' file='@DIR@/memory'/><disks>" FILE("vda", "<source file='@DIR@/over'/>")
         FILE("vdb", "<driver type='qed'/><source file='@DIR@/over2'/>") "</disks>@DOMAIN@"},
    {"running", "5",
     "<memory file='@DIR@/memory'/><disks>" DISK("vda", "no") DISK("vdb", "no") "</disks>@DOMAIN@"},
    {"disk-snapshot", "5",
     "<disks>" FILE("vda", "<driver type='qcow2'/><source file='@DIR@/over'/>")
         DISK("vdb", "no") "</disks>@DOMAIN@"},
    {"disk-snapshot", "5",
     "<disks>" FILE("vda",
                    "<driver type='qcow2'><metadata_cache><max_size unit='KiB'>1"
                    "</max_size></metadata_cache></driver><source file='@DIR@/over'><seclabel model='dac' "
                    "relabel='no'/></source>") DISK("vdb", "manual") "</disks>@DOMAIN@"},
    {"shutoff", "5",
     "<disks>" DISK("vda", "internal") FILE("vdb", "<source file='@DIR@/over'/>") "</disks>@DOMAIN@"},
    {"disk-snapshot", "5", "<disks>" DISK("vda", "internal") DISK("vdb", "no") "</disks>@DOMAIN@"},
};

static const Document refused[] = {
    {NULL, "5", "@DOMAIN@"},
    {"nostate", "5", "@DOMAIN@"},
    {"blocked", "5", "@DOMAIN@"},
    {"pmsuspended", "5", "@DOMAIN@"},
    {"asleep", "5", "@DOMAIN@"},
    {"shutoff", NULL, "@DOMAIN@"},
    {"shutoff", "", "@DOMAIN@"},
    {"shutoff", "soon", "@DOMAIN@"},
    {"shutoff", "5", ""},
    {"shutoff", "5", "<domain><uuid>@UUID@</uuid></domain>"},
    {"shutoff", "5", "<domain type='qemu'><name>x</name></domain>"},
    {"shutoff", "5", "<parent><name>nobody</name></parent>@DOMAIN@"},
    {"shutoff", "5", "<parent><name>refused</name></parent>@DOMAIN@"},
    {"shutoff", "5", "<memory snapshot='internal'/>@DOMAIN@"},
    {"disk-snapshot", "5", "<memory snapshot='external' file='@DIR@/m'/>@DOMAIN@"},
    {"running", "5", "<memory snapshot='external'/>@DOMAIN@"},
    {"running", "5", "<memory snapshot='internal' file='@DIR@/m'/>@DOMAIN@"},
    {"running", "5", "<memory snapshot='external' file='m'/>@DOMAIN@"},
    {"running", "5", "<memory snapshot='maybe'/>@DOMAIN@"},
    {"shutoff", "5", "<disks>" DISK("vdz", "internal") "</disks>@DOMAIN@"},
    {"shutoff", "5", "<disks>" DISK("vda", "internal") DISK("vda", "internal") "</disks>@DOMAIN@"},
    {"shutoff", "5", "<disks>" DISK("vda", "maybe") "</disks>@DOMAIN@"},
    {"shutoff", "5", "<disks>" DISK("vda", "default") "</disks>@DOMAIN@"},
    {"shutoff", "5", "<disks><disk snapshot='internal'/></disks>@DOMAIN@"},
    {"shutoff", "5", "<disks>" FILE("vda", "<source file='relative'/>") "</disks>@DOMAIN@"},
    {"shutoff", "5",
     "<disks>" FILE("vda", "<driver type='nonsense'/><source file='@DIR@/x'/>") "</disks>@DOMAIN@"},
    {"shutoff", "5",
     "<disks><disk name='vda' snapshot='internal'><source file='@DIR@/x'/></disk></disks>@DOMAIN@"},
    {"shutoff", "5", "<disks><disk name='vda' snapshot='external' type='volume'/></disks>@DOMAIN@"},
    {"shutoff", "5", "<disks><disk name='vda' snapshot='external' type='nonsense'/></disks>@DOMAIN@"},
};

/* Two disks on which an internal and then an external snapshot were taken: documents may speak of the images below. */
static Twin *two_disks(World *w)
{
    Twin *t = twin_new(w, "vda:qcow2 vdb:qcow2", NULL);
    twin_touch(t);
    twin_create(t, "int", NULL);
    twin_create(t, "ext", "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    return t;
}

/* <domain> as libvirt has it in the snapshot "int", in the words of both sides. */
static const char *domain_part(const Twin *t)
{
    const char *xml = twin_their_xml(t, "int"), *start = strstr(xml, "  <domain "),
               *end = strstr(xml, "</domain>\n");
    ck_assert(start != NULL && end != NULL);
    g_autoptr(GString) part = g_string_new_len(start, end - start + (gssize)strlen("</domain>\n"));
    g_string_replace(part, in_dir(t->w, "virt"), "@DIR@", 0);
    return keep(t->w, part->str);
}

static const char *element(const Twin *t, const char *name, const char *text)
{
    return text != NULL ? keepf(t->w, "<%s>%s</%s>\n", name, text, name) : "";
}

static const char *text_for(const Twin *t, const char *name, const Document *document)
{
    g_autoptr(GString) xml = g_string_new(NULL);
    g_string_printf(xml, "<domainsnapshot>\n%s%s%s%s</domainsnapshot>\n", element(t, "name", name),
                    element(t, "state", document->state), element(t, "creationTime", document->time),
                    document->rest);
    g_string_replace(xml, "@DOMAIN@", domain_part(t), 0);
    g_string_replace(xml, "@UUID@", t->uuid, 0);
    return keep(t->w, xml->str);
}

START_TEST(filled_in_alike)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = two_disks(w);
    for (guint i = 0; i < G_N_ELEMENTS(accepted); i++)
        twin_redefine(t, text_for(t, keepf(w, "r%u", i), &accepted[i]), i % 4 == 0 ? "--current" : NULL);
    twin_validate(t);
}
END_TEST

START_TEST(refused_alike)
{
    static const char *const names[] = {NULL, "", "a/b", ".a"};
    static const Document good = {"shutoff", "5", "@DOMAIN@"};
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = two_disks(w);
    for (guint i = 0; i < G_N_ELEMENTS(refused); i++)
        twin_refuse_redefine(t, text_for(t, "refused", &refused[i]));
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        twin_refuse_redefine(t, text_for(t, names[i], &good));
}
END_TEST

/* libvirt's document of @snapshot with @from replaced, in the words of both sides. */
static const char *edited(const Twin *t, const char *snapshot, const char *from, const char *to)
{
    g_autoptr(GString) xml = g_string_new(twin_their_xml(t, snapshot));
    ck_assert_uint_ge(g_string_replace(xml, from, to, 1), 1);
    g_string_replace(xml, in_dir(t->w, "virt"), "@DIR@", 0);
    return keep(t->w, xml->str);
}

/* The mark of a deletion that was cut short: libvirt 9 prints it, and its own schema does not know it. */
START_TEST(delete_in_progress)
{
    static const Document document = {
        "disk-snapshot", "5",
        "<disks>" FILE("vda", "<snapshotDeleteInProgress/><driver type='qcow2'/><source file='@DIR@/over'/>")
            DISK("vdb", "no") "</disks>@DOMAIN@"};
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = two_disks(w);
    twin_redefine(t, text_for(t, "marked", &document), NULL);
    ck_has(twin_our_xml(t, "marked"), "      <snapshotDeleteInProgress/>\n      <driver type='qcow2'/>\n");
}
END_TEST

/* What exists is replaced: its children stay, current stays, the parent may change, its nature may not. */
START_TEST(replaced_alike)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = two_disks(w);
    static const char *const end = "</name>\n  <state>";
    twin_create(t, "a", "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    twin_create(t, "b", NULL);
    twin_redefine(t, edited(t, "a", end, "</name><description>new &amp; \303\274</description><state>"),
                  NULL);
    twin_redefine(t, edited(t, "int", end, "</name><description>old</description><state>"), NULL);
    twin_redefine(t, edited(t, "b", "<name>a</name>", "<name>int</name>"), NULL);
    twin_redefine(t, edited(t, "a", "  <parent>\n    <name>ext</name>\n  </parent>\n", ""), NULL);
    twin_redefine(t, edited(t, "ext", "<parent>", "<parent> <!-- x -->"), "--current");
    twin_refuse_redefine(
        t, edited(t, "int", "</state>\n", "</state><parent><name>b</name></parent>")); /* a loop */
    twin_refuse_redefine(t, edited(t, "int", "<state>shutoff", "<state>running"));
    twin_refuse_redefine(t, edited(t, "int", "<state>shutoff", "<state>disk-snapshot"));
    twin_refuse_redefine(t, edited(t, "int", t->uuid, "11111111-2222-3333-4444-555555555555"));
    twin_redefine(t, edited(t, "b", "<name>b</name>", "<name>copy</name>"), NULL); /* another one like it */
    twin_compare(t);
    twin_validate(t);
}
END_TEST

/* A document without a definition inherits the one that is there. */
START_TEST(without_definition)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = two_disks(w);
    const char *const rests[] = {
        "<domain><uuid>@UUID@</uuid></domain>",
        "<description>x</description><disks>" DISK("vdb", "internal") "</disks>",
    };
    for (guint i = 0; i < G_N_ELEMENTS(rests); i++) {
        Document document = {"shutoff", "7", rests[i]};
        twin_redefine(t, text_for(t, "int", &document), NULL);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("redefine");
    TCase *documents = add_case(s, "documents");
    tcase_add_test(documents, filled_in_alike);
    tcase_add_test(documents, refused_alike);
    tcase_add_test(documents, delete_in_progress);
    tcase_add_test(documents, replaced_alike);
    tcase_add_test(documents, without_definition);
    return s;
}

int main(void)
{
    return virt_main(suite);
}
