/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names, texts, options and documents: what libvirt makes of them, we make of them. */
#include "twin.h"

#define DISKS "vda:qcow2 vdb:qcow2 "
#define DRIVES "sda:raw:cdrom:ro sdb:raw:cdrom:ro:empty fda:raw:floppy:empty"

static const char *const names[] = {
    "a b",
    " lead",
    "trail ",
    "100%",
    "%41%2F",
    "\303\274ml\303\244ut",
    "\346\227\245\346\234\254",
    "-dash",
    "--option",
    "it's \"both\"",
    "<a>&b;",

    "a,b=c",

    "~",
    "back\\slash",
    "_",
};

START_TEST(internal_names)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        twin_touch(t);
        twin_create(t, names[i], NULL);
    }
    twin_compare_contents(t);
    twin_validate(t);
    for (guint i = 0; i < G_N_ELEMENTS(names); i += 3)
        twin_revert(t, names[i]);
    for (guint i = 0; i < G_N_ELEMENTS(names); i += 2)
        twin_delete(t, names[i], NULL);
    twin_compare_contents(t);
}
END_TEST

START_TEST(external_names)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        twin_touch(t);
        twin_create(t, names[i], "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    }
    twin_compare_contents(t);
    twin_validate(t);
}
END_TEST

START_TEST(descriptions)
{
    static const char *const texts[] = {
        "plain",
        "  leading and trailing  ",
        "two\nlines\n",
        "\n\n\ttabs\tand\n  blanks \n",
        "it's \"quoted\" & <marked> ]]> &amp; &#65;",
        "\303\274ml\303\244ute, \346\227\245\346\234\254\350\252\236, \360\237\230\200",
        " "};
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        if (strchr(texts[i], '\n') == NULL) /* a command of ours is one line */
            twin_create(t, keepf(w, "n%u", i), "--description", texts[i], NULL);
    /* the same by a document, where white space may be a reference */
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *escaped = g_markup_escape_text(texts[i], -1);
        twin_create_xml(
            t,
            keepf(w, "<domainsnapshot><name>d%u</name><description>%s</description></domainsnapshot>", i,
                  escaped),
            NULL);
    }
    twin_create_xml(t,
                    "<domainsnapshot><name>ref</name><description>a&#10;b&#9;c&#xE4;</description>"
                    "</domainsnapshot>",
                    NULL);
    twin_create_xml(t,
                    "<domainsnapshot><name>cdata</name><description><![CDATA[<&>]]> x</description>"
                    "</domainsnapshot>",
                    NULL);
    twin_create_xml(t,
                    "<domainsnapshot><name>comment</name><description>a<!-- b -->c</description>"
                    "</domainsnapshot>",
                    NULL);
    twin_validate(t);
}
END_TEST

/*
 * A name with a dot: libvirt cuts the next overlay's name at the last dot, wherever that comes from, and so the names pile
 * up (vda.x.y); here the stem is known.
 */
START_TEST(dotted_names)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    twin_create(t, "x.y", "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    twin_differs(t, "disk-vda.z", "disk-vda.x.z");
    twin_create(t, "z", "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
    twin_compare_contents(t);
}
END_TEST

/* A return is printed raw by libvirt, and so would be read back as another character: we print the reference. */
START_TEST(returns_are_kept_here)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    twin_differs(t, "&#13;", "\r");
    twin_create_xml(
        t, "<domainsnapshot><name>r</name><description>a&#13;b&#13;&#10;c</description></domainsnapshot>",
        NULL);
    twin_validate(t);
}
END_TEST

/* What is inside <domainsnapshot>, behind its name. One after the other on one machine: paths come first. */
static const char *const internal[] = {
    "<disks><disk name='@DIR@/disk-vda.qcow2' snapshot='internal'/></disks>",
    "",
    "<description/>",
    "<memory/>",
    "<memory snapshot='no'/>",
    "<disks/>",
    "<disks><disk name='vda'/><disk name='sda'/></disks>",
    "<disks><disk name='vdb'/><disk name='sdb'/><disk name='vda'/></disks>",
    "<disks><disk name='vda' snapshot='internal'/></disks>",
    "<disks><disk name='sda' snapshot='no'/></disks>",
    /* any element in <disks> is a disk; what only redefining reads is not read */
    "<disks><drive name='vda'/></disks>",
    "<state>running</state><parent><name>x</name></parent><creationTime>5</creationTime><active>1</active>"
    "<cookie><cpu/></cookie><revertDisks><disk name='vda'/></revertDisks><domain "
    "type='qemu'><name>other</name></domain>"
    "<inactiveDomain/><unknown a='b'>c</unknown><!-- and this -->",
};

static const char *const external[] = {
    "<disks><disk name='@DIR@/disk-vdb.qcow2'><driver type='qed'/></disk></disks>",
    "<disks><disk name='vda'/></disks>",
    "<disks><disk name='sda'/></disks>",
    "<disks><disk name='vda' snapshot='external'/><disk name='vdb' snapshot='no'/></disks>",
    "<disks><disk name='vda' snapshot='external'/><disk name='vdb' snapshot='manual'/></disks>",
    "<disks><disk name='vda'><source file='@DIR@/over'/></disk></disks>",
    "<disks><disk name='vda' snapshot='external' type='file'><driver type='qcow2'/><source file='@DIR@/over "
    "&amp; "
    "&apos;out&quot; &lt;&#252;>,x'/></disk></disks>",
    "<disks><disk name='vda'><driver type='qcow2'><metadata_cache><max_size "
    "unit='KiB'>512</max_size></metadata_cache>"
    "</driver></disk></disks>",
    "<disks><disk name='vda'><source file='@DIR@/labelled'><seclabel model='dac' "
    "relabel='no'/></source></disk></disks>",
    "<disks><disk name='vdb' snapshot='external'/></disks>",
    "<disks><disk name='sda' snapshot='external'/></disks>",
};

static void take_all(Twin *t, const char *const *bodies, guint n, const char *option)
{
    for (guint i = 0; i < n; i++) {
        twin_touch(t);
        twin_create_xml(
            t, keepf(t->w, "<domainsnapshot x='y'>\n<name>d%u</name>\n%s</domainsnapshot>\n", i, bodies[i]),
            option);
    }
    twin_compare_contents(t);
    twin_validate(t);
}

START_TEST(internal_documents)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS DRIVES, NULL);
    take_all(t, internal, G_N_ELEMENTS(internal), NULL);
}
END_TEST

START_TEST(external_documents)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS DRIVES, NULL);
    take_all(t, external, G_N_ELEMENTS(external), "--disk-only");
}
END_TEST

/* --diskspec and its kin, by lines: words separated by "|". */
static const char *const options[] = {
    "--diskspec|@DIR@/disk-vdb.qcow2,snapshot=external|--disk-only",
    "--diskspec|vda|--diskspec|sda",
    "--diskspec|vda,snapshot=internal|--atomic",
    "--diskspec|vda,snapshot=external,driver=qcow2,file=@DIR@/a,,b,,c|--disk-only|--atomic|--halt",
    "--diskspec|vda,file=@DIR@/f1|--diskspec|vdb,snapshot=no|--disk-only",
    "--diskspec|vda,driver=qed|--diskspec|vdb,stype=file|--disk-only",
    "--diskspec|vda,snapshot=manual|--disk-only",
    "--disk-only|--diskspec|vda,snapshot=no|--description|a description",
    "--disk-only|--diskspec|sda",
    "--disk-only|--diskspec|sda,snapshot=external",
};

static const char *const refused[] = {
    /* of the disks */
    "--diskspec|vdz,snapshot=internal",
    "--diskspec|@DIR@/other.qcow2,snapshot=internal",
    "--diskspec|vda|--diskspec|vda",
    "--diskspec|vda,snapshot=maybe",
    "--diskspec|vda,snapshot=default",
    "--diskspec|vda,snapshot=",
    "--diskspec|vda,color=blue",
    "--diskspec|vda,driver=raw|--disk-only",
    "--diskspec|vda,driver=vmdk|--disk-only",
    "--diskspec|vda,driver=nonsense|--disk-only",
    "--diskspec|vda,stype=block|--disk-only",
    "--diskspec|vda,stype=dir,file=@DIR@|--disk-only",
    "--diskspec|vda,file=relative|--disk-only",
    "--diskspec|vda,snapshot=internal,file=@DIR@/x",
    "--diskspec|vda,snapshot=no,file=@DIR@/x|--disk-only",
    "--diskspec|vda,file=@DIR@/none/x|--disk-only",
    "--diskspec|vda,file=@DIR@/disk-vdb.qcow2|--disk-only",
    "--diskspec|vda,file=@DIR@|--disk-only",
    "--diskspec|fda,snapshot=external|--disk-only",
    "--diskspec|sdb,snapshot=internal",
    "--diskspec|sda,snapshot=internal",
    /* nothing to snapshot */
    "--diskspec|vda,snapshot=no|--diskspec|vdb,snapshot=no|--disk-only",
    "--diskspec|vda,snapshot=manual|--diskspec|vdb,snapshot=manual|--disk-only",
    /* a machine that is off has no memory, and nobody to ask to be quiet */
    "--memspec|@DIR@/memory",
    "--memspec|file=@DIR@/memory,snapshot=external",
    "--memspec|snapshot=internal",
    "--memspec|relative",
    "--memspec|@DIR@/memory,snapshot=no",
    "--memspec|@DIR@/memory,snapshot=internal",
    "--memspec|@DIR@/memory|--disk-only",
    "--live",
    "--quiesce",
};

/* A snapshot of that name with the words of one line. */
static void ask_line(Twin *t, void (*ask)(Twin *, const char *, ...), const char *name, const char *line)
{
    g_auto(GStrv) words = g_strsplit(line, "|", -1);
    const char *word[8] = {NULL};
    for (guint i = 0; words[i] != NULL; i++)
        word[i] = keep(t->w, words[i]);
    ask(t, name, word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7], NULL);
}

START_TEST(options_alike)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS DRIVES, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
        twin_touch(t);
        ask_line(t, twin_create, keepf(w, "o%u", i), options[i]);
    }
    twin_compare_contents(t);
    twin_validate(t);
}
END_TEST

START_TEST(refused_alike)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, DISKS DRIVES, NULL);
    twin_create(t, "before", NULL);
    for (guint i = 0; i < G_N_ELEMENTS(refused); i++)
        ask_line(t, twin_refuse, "refused", refused[i]);
    static const char *const bad_names[] = {"before", "a/b", ".hidden", "/"};
    for (guint i = 0; i < G_N_ELEMENTS(bad_names); i++)
        twin_refuse(t, bad_names[i], NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("words");
    TCase *texts = add_case(s, "texts");
    tcase_add_test(texts, internal_names);
    tcase_add_test(texts, external_names);
    tcase_add_test(texts, dotted_names);
    tcase_add_test(texts, descriptions);
    tcase_add_test(texts, returns_are_kept_here);
    TCase *words = add_case(s, "requests");
    tcase_add_test(words, internal_documents);
    tcase_add_test(words, external_documents);
    tcase_add_test(words, options_alike);
    tcase_add_test(words, refused_alike);
    return s;
}

int main(void)
{
    return virt_main(suite);
}
