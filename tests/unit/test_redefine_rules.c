/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of what redefine takes, refuses and fills in (facts 1.3), on real images; every refusal names a line. */
#include "engine_world.h"
#include "runner.h"

#include <sys/syscall.h>

#define UUID "@UUID@"
#define MACHINE_START                                                                                        \
    "<domain type='kvm'>\n<name>web</name>\n<uuid>" UUID "</uuid>\n<memory unit='KiB'>65536</memory>\n"      \
    "<os><type arch='x86_64' machine='pc'>hvm</type></os>\n<devices>\n"
#define DISK_A                                                                                               \
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='@/old-a.qcow2'/>"       \
    "<target dev='vda' bus='virtio'/></disk>\n"
#define DISK_B                                                                                               \
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='@/old-b.qcow2'/>"       \
    "<target dev='vdb' bus='virtio'/></disk>\n"
#define MACHINE_END "</devices>\n</domain>\n"
#define MACHINE MACHINE_START DISK_A DISK_B MACHINE_END
#define SNAP(body) "<domainsnapshot>\n" body "</domainsnapshot>\n"
#define HEAD(name, state) "<name>" name "</name>\n<state>" state "</state>\n<creationTime>5</creationTime>\n"
#define OFF(name) HEAD(name, "shutoff")

/* @text with the world's directory and the domain's uuid in it. Caller frees. */
static char *fill(World *world, const char *text)
{
    GString *out = g_string_new(text);
    g_autofree char *xml = domain_document("web", "");
    g_autoptr(DomainDef) def = domain_def_parse(xml, strlen(xml), NULL);
    g_string_replace(out, UUID, def->uuid, 0);
    g_string_replace(out, "@", world->images, 0);
    return g_string_free(out, FALSE);
}

/*
 * "web", whose disks are a.qcow2 and b.qcow2 now and were old-a.qcow2 and old-b.qcow2 once; it has the snapshots base and
 * (child of it, current) top, both of old-a and old-b as a whole.
 */
static World *ready(char *dir)
{
    World *world = world_new(dir);
    g_autofree char *old_a = world_image(world, "old-a.qcow2", 5);
    g_autofree char *old_b = world_image(world, "old-b.qcow2", 6);
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *b = world_path(world, "b.qcow2");
    tool("qemu-img", "snapshot", "-c", "inner", old_a, NULL);
    tool("qemu-img", "snapshot", "-c", "inner", old_b, NULL);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "./old-a.qcow2", "-F", "qcow2", a, NULL);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "./old-b.qcow2", "-F", "qcow2", b, NULL);
    world_define(world, "web", "a.qcow2", "b.qcow2", NULL);
    return world;
}

static gboolean try_redefine(World *world, const char *text, RedefineFlags flags, GError **error)
{
    g_autofree char *xml = fill(world, text);
    return world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, xml, strlen(xml), flags,
                                        NULL, error);
}

static void redefine(World *world, const char *text, RedefineFlags flags)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(try_redefine(world, text, flags, &error), error);
}

static char *dumped(World *world, const char *snapshot)
{
    return world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", snapshot));
}

#define EXTERNAL_DISKS                                                                                       \
    "<disks>\n<disk name='vda' snapshot='external'><source file='@/a.qcow2'/></disk>\n"                      \
    "<disk name='vdb' snapshot='external'><source file='@/b.qcow2'/></disk>\n</disks>\n"
#define BASE SNAP(OFF("base") EXTERNAL_DISKS MACHINE)
#define TOP SNAP(OFF("top") "<parent><name>base</name></parent>\n" EXTERNAL_DISKS MACHINE)

/* --- refused --- */

/* On a world with base and top. */
static const struct {
    const char *text;
    RedefineFlags flags;
    int code;
    const char *message;
} refused[] = {
    /* whose it is */
    {SNAP(OFF("n") "<domain type='kvm'>\n<name>web</name></domain>\n"), 0, EINVAL,
     "line 5: <domain>: it has no <uuid>: that of 'web' is '"},
    {SNAP(OFF("n") "<domain "
                   "type='kvm'><name>web</name><uuid>12345678-1234-4234-8234-123456789012</uuid></domain>\n"),
     0, EINVAL,
     "line 5: <domain>: the document is about the domain with the uuid "
     "'12345678-1234-4234-8234-123456789012'"},
    {SNAP(OFF("top") "<domain><uuid>12345678-1234-4234-8234-123456789012</uuid></domain>\n"), 0, EINVAL,
     "line 5: <domain>: the document is about the domain with the uuid"},
    {SNAP(OFF("n") "<domain><uuid>" UUID "</uuid></domain>\n"), 0, EINVAL,
     "line 5: <domain>: it has only a uuid: a new snapshot's document needs the whole <domain type='...'>"},
    {SNAP(OFF("n")), 0, EINVAL, "there is no <domain>: a new snapshot's document needs the whole"},
    /* where it stands */
    {SNAP(OFF("n") "\n<parent><name>nobody</name></parent>\n" MACHINE), 0, EINVAL,
     "line 6: <parent>: there is no snapshot 'nobody'"},
    {SNAP(OFF("n") "<parent><name>n</name></parent>\n" MACHINE), 0, EINVAL,
     "line 5: <parent>: the snapshot cannot be its own parent"},
    {SNAP(OFF("base") "<parent><name>top</name></parent>\n" MACHINE), 0, EINVAL,
     "line 5: <parent>: 'top' descends from it"},
    /* what it was doing */
    {SNAP(OFF("n") MACHINE), REDEFINE_DISK_ONLY, EINVAL,
     "line 3: <state>: it is 'shutoff': disk-only asks for 'disk-snapshot'"},
    {SNAP(HEAD("n", "running") MACHINE), REDEFINE_DISK_ONLY | REDEFINE_CURRENT, EINVAL,
     "line 3: <state>: it is 'running'"},
    {SNAP(HEAD("top", "running") MACHINE), 0, EINVAL,
     "line 3: <state>: it cannot become 'running', that of the snapshot that is there is 'shutoff'"},
    {SNAP(HEAD("top", "paused") MACHINE), 0, EINVAL, "line 3: <state>: it cannot become 'paused'"},
    {SNAP(HEAD("top", "disk-snapshot") MACHINE), 0, EINVAL,
     "line 3: <state>: it cannot become 'disk-snapshot'"},
    {SNAP(HEAD("n", "blocked") MACHINE), 0, EINVAL,
     "line 3: <state>: a snapshot cannot have the state 'blocked'"},
    {SNAP(HEAD("n", "pmsuspended") MACHINE), 0, EOPNOTSUPP, "line 3: <state>: "},
    {SNAP(HEAD("n", "nostate") MACHINE), 0, EOPNOTSUPP, "line 3: <state>: "},
    {SNAP(OFF("n") "<memory snapshot='internal'/>\n" MACHINE), 0, EINVAL,
     "line 5: <memory>: in the state 'shutoff'"},
    {SNAP(HEAD("n", "disk-snapshot") "<memory snapshot='external' file='/m'/>\n" MACHINE), 0, EINVAL,
     "line 5: <memory>: in the state 'disk-snapshot'"},
    /* another machine */
    {SNAP(OFF("top") EXTERNAL_DISKS MACHINE_START DISK_A DISK_B "<rng model='virtio'/>" MACHINE_END), 0,
     EOPNOTSUPP,
     "line 9: <domain>: it is not the machine of the snapshot that is there: rng: there are 1 of that kind, "
     "not 0"},
    {SNAP(OFF(
         "top") "<domain type='kvm'><name>web</name><uuid>" UUID "</uuid><memory>65537</memory>"
                "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>" DISK_A DISK_B MACHINE_END),
     0, EOPNOTSUPP,
     "line 5: <domain>: it is not the machine of the snapshot that is there: <memory> is '65537 KiB'"},
    {SNAP(OFF("top") MACHINE_START DISK_A MACHINE_END), 0, EOPNOTSUPP, "disk 'vdb' is missing"},
    /* its disks */
    {SNAP(OFF("n") "<disks>\n<disk name='vda'/>\n<disk name='vdc'/></disks>" MACHINE), 0, EOPNOTSUPP,
     "disk 'vdc': line 7: the domain has no disk of that name"},
    {SNAP(OFF("n") "<disks>\n<disk name='vda'/>\n<disk name='@/old-a.qcow2'/></disks>" MACHINE), 0,
     EOPNOTSUPP, "disk 'vda': line 7: it is listed twice"},
    {SNAP(OFF("n") "<disks>\n<disk name='vda'/>\n<disk name='vdb'/><disk name='vdc'/></disks>" MACHINE), 0,
     EOPNOTSUPP, "disk 'vdc': line 7: the domain has no disk of that name"},
    /* overlays that are left open */
    {SNAP(OFF("n") "<disks><disk name='vda' snapshot='external' type='block'/></disks>\n" MACHINE), 0,
     EOPNOTSUPP, "disk 'vda': line 5: it has no <source>, and for type='block' none can be made up"},
    {SNAP(OFF("n") "<disks>\n<disk name='sda' snapshot='external'/></disks>\n" MACHINE_START DISK_A
                   "<disk device='cdrom'><target dev='sda'/></disk>" MACHINE_END),
     0, EOPNOTSUPP,
     "disk 'sda': line 6: it has no <source>, and its <domain> names no image to call it after"},
    {SNAP(OFF("n") "<disks>\n<disk name='vda' snapshot='external'/><disk name='vdb' "
                   "snapshot='no'/></disks>\n" MACHINE_START
                   "<disk><source file='@/gone.qcow2'/><target dev='vda'/></disk>" DISK_B MACHINE_END),
     0, EOPNOTSUPP,
     "disk 'vda': line 6: it has no <source>, and '@/gone.qcow2', which it would be called after, is no "
     "file"},
    {SNAP(HEAD("n", "disk-snapshot") MACHINE_START
          "<disk><source file='@/dir'/><target dev='vda'/></disk>" MACHINE_END),
     0, EOPNOTSUPP,
     "disk 'vda': it has no <source>, and '@/dir', which it would be called after, is no file"},
    /* overlays that destroy something: libvirt takes these */
    {SNAP(OFF("n") "<disks>\n<disk name='vda' snapshot='external'><source file='@/x'/></disk>\n"
                   "<disk name='vdb' snapshot='external'><source file='@/x'/></disk></disks>\n" MACHINE),
     0, EINVAL, "disk 'vdb': line 7: '@/x' is the overlay of disk 'vda' too"},
    {SNAP(
         OFF("n") "<disks>\n<disk name='vda' snapshot='external'/>\n"
                  "<disk name='vdb' snapshot='external'><source file='@/old-a.n'/></disk></disks>\n" MACHINE),
     0, EINVAL, "disk 'vdb': line 7: '@/old-a.n' is the overlay of disk 'vda' too"},
    {SNAP(OFF("n") "<disks>\n<disk name='vda' snapshot='external'><source file='@/old-a.qcow2'/></disk>\n"
                   "<disk name='vdb' snapshot='no'/></disks>\n" MACHINE),
     0, EINVAL,
     "disk 'vda': line 6: '@/old-a.qcow2' holds the state of disk 'vda', it cannot be what is written after "
     "it"},
    {SNAP(OFF(
         "n") "<disks>\n<disk name='vda' snapshot='internal'/>\n"
              "<disk name='vdb' snapshot='external'><source file='@/old-a.qcow2'/></disk></disks>\n" MACHINE),
     0, EINVAL, "disk 'vdb': line 7: '@/old-a.qcow2' holds the state of disk 'vda'"},
    /* images */
    {SNAP(OFF("n") "<disks><disk name='vda' snapshot='external'/><disk name='vdb' "
                   "snapshot='no'/></disks>\n" MACHINE_START
                   "<disk><driver type='qcow2'/><source file='@/a.qcow2'/><target dev='vda'/></disk>" DISK_B
                       MACHINE_END),
     0, EINVAL,
     "disk 'vda': '@/a.qcow2' is what the domain writes now, it cannot be the state of a snapshot"},
    {SNAP(OFF("n") "<disks><disk name='vdb' snapshot='external'/><disk name='vda' "
                   "snapshot='no'/></disks>\n" MACHINE_START DISK_A
                   "<disk><driver type='qcow2'/><source file='@/hard link'/><target "
                   "dev='vdb'/></disk>" MACHINE_END),
     0, EINVAL, "disk 'vdb': '@/hard link' is what the domain writes now"},
    {SNAP(OFF(
         "n") "<disks><disk name='vda' snapshot='external'/><disk name='vdb' "
              "snapshot='no'/></disks>\n" MACHINE_START
              "<disk><driver type='qcow2'/><source file='@/above.qcow2'/><target dev='vda'/></disk>" DISK_B
                  MACHINE_END),
     0, EINVAL, "disk 'vda': '@/a.qcow2', which it stands on, is what the domain writes now"},
    {SNAP(OFF(
         "n") "<disks><disk name='vda' snapshot='internal'/><disk name='vdb' "
              "snapshot='no'/></disks>\n" MACHINE_START
              "<disk><driver type='qcow2'/><source file='@/above.qcow2'/><target dev='vda'/></disk>" DISK_B
                  MACHINE_END),
     0, EINVAL, "disk 'vda': '@/a.qcow2', which it stands on, is what the domain writes now"},
    {SNAP(OFF("n") "<disks><disk name='vda' snapshot='internal'/><disk name='vdb' "
                   "snapshot='internal'/></disks>\n" MACHINE_START DISK_A
                   "<disk><driver type='qcow2'/><source file='@/old-a.qcow2'/><target "
                   "dev='vdb'/></disk>" MACHINE_END),
     0, EINVAL, "disk 'vdb': '@/old-a.qcow2' is the image of disk 'vda' too"},
    {SNAP(OFF("n") "<disks><disk name='vda' snapshot='external'/><disk name='vdb' "
                   "snapshot='internal'/></disks>\n" MACHINE_START DISK_A
                   "<disk><driver type='qcow2'/><source file='@/second link'/><target "
                   "dev='vdb'/></disk>" MACHINE_END),
     0, EINVAL, "disk 'vdb': '@/second link' is the image of disk 'vda' too"},
    {SNAP(OFF("n") "<disks><disk name='vdc' snapshot='internal'/></disks>\n" MACHINE_START DISK_A DISK_B
                   "<disk type='network'><source protocol='nbd' name='e'><host name='h'/></source><target "
                   "dev='vdc'/></disk>" MACHINE_END),
     0, EOPNOTSUPP, "disk 'vdc': the document names no local image for it"},
};

static void more_images(World *world)
{
    g_autofree char *a = world_path(world, "a.qcow2"), *above = world_path(world, "above.qcow2");
    g_autofree char *b = world_path(world, "b.qcow2"), *hard = world_path(world, "hard link");
    g_autofree char *old_a = world_path(world, "old-a.qcow2"), *second = world_path(world, "second link");
    g_autofree char *dir = world_path(world, "dir");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "./a.qcow2", "-F", "qcow2", above, NULL);
    ck_assert_int_eq(syscall(SYS_link, b, hard), 0); /* past the spy */
    ck_assert_int_eq(syscall(SYS_link, old_a, second), 0);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
}

START_TEST(refuse)
{
    g_autoptr(World) world = ready(PATH("world"));
    more_images(world);
    redefine(world, BASE, 0);
    redefine(world, TOP, REDEFINE_CURRENT);
    g_autofree char *before = world_digest(world, "web");
    for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *message = fill(world, refused[i].message);
        ck_assert_msg(!try_redefine(world, refused[i].text, refused[i].flags, &error), "was taken: %s",
                      refused[i].text);
        ck_assert_msg(strstr(error->message, message), "%u: '%s' does not say '%s'", i, error->message,
                      message);
        expect_error(&error, refused[i].code, NULL);
    }
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    world_reopen(world);
    world_check_clean(world, "web");
}
END_TEST

/* --- taken, and what is filled in --- */

/* The lines that the dump has (from <state> on to before <domain>). */
static const struct {
    const char *text;
    const char *dump;
} taken[] = {
    /* nothing said of disks: internal, or external under libvirt's names, which do not get a driver */
    {SNAP(OFF("n") MACHINE),
     "  <state>shutoff</state>\n  <creationTime>5</creationTime>\n  <memory snapshot='no'/>\n"
     "  <disks>\n    <disk name='vda' snapshot='internal'/>\n"
     "    <disk name='vdb' snapshot='internal'/>\n  </disks>\n"},
    {SNAP(HEAD("n", "crashed") MACHINE),
     "  <state>crashed</state>\n  <creationTime>5</creationTime>\n  <memory snapshot='internal'/>\n"
     "  <disks>\n    <disk name='vda' snapshot='internal'/>\n    <disk name='vdb' snapshot='internal'/>\n  "
     "</disks>\n"},
    {SNAP(HEAD("n", "disk-snapshot") MACHINE),
     "  <state>disk-snapshot</state>\n  <creationTime>5</creationTime>\n  <memory snapshot='no'/>\n  "
     "<disks>\n"
     "    <disk name='vda' snapshot='external' type='file'>\n      <source file='@/old-a.n'/>\n    </disk>\n"
     "    <disk name='vdb' snapshot='external' type='file'>\n      <source file='@/old-b.n'/>\n    </disk>\n"
     "  </disks>\n"},
    {SNAP(HEAD("n", "running") "<memory snapshot='external' file='/nowhere/m'/>" MACHINE),
     "  <memory snapshot='external' file='/nowhere/m'/>\n  <disks>\n"
     "    <disk name='vda' snapshot='external' type='file'>\n      <source file='@/old-a.n'/>\n    "
     "</disk>\n"},
    {SNAP(HEAD("n", "running") "<memory snapshot='no'/>" MACHINE), "  <memory snapshot='no'/>\n"},
    /* one external one makes it the default; and mixing is fine */
    {SNAP(OFF("n") "<disks><disk name='vdb' snapshot='external'><driver type='qed'/></disk></disks>" MACHINE),
     "  <disks>\n    <disk name='vda' snapshot='external' type='file'>\n      <source file='@/old-a.n'/>\n   "
     " </disk>\n"
     "    <disk name='vdb' snapshot='external' type='file'>\n      <driver type='qed'/>\n"
     "      <source file='@/old-b.n'/>\n    </disk>\n  </disks>\n"},
    {SNAP(HEAD("n", "disk-snapshot") "<disks><disk name='vda' snapshot='internal'/></disks>" MACHINE),
     "    <disk name='vda' snapshot='internal'/>\n    <disk name='vdb' snapshot='external' type='file'>\n"
     "      <source file='@/old-b.n'/>\n    </disk>\n"},
    /* by path, in any order, with a subset internal; what is not of the format goes, <active> too */
    {SNAP("<active>1</active><x/><disks><disk name='@/old-b.qcow2' snapshot='no'/><any "
          "name='vda'/></disks>" OFF("n") MACHINE),
     "  <creationTime>5</creationTime>\n  <memory snapshot='no'/>\n  <disks>\n    <disk name='vda' "
     "snapshot='internal'/>\n"
     "    <disk name='vdb' snapshot='no'/>\n  </disks>\n  <domain "},
    /* what the definition says of disks that are not listed: readonly ones, empty drives, snapshot= */
    {SNAP(OFF("n") MACHINE_START DISK_A "<disk snapshot='no'><source file='@/x'/><target dev='vdx'/></disk>"
                                        "<disk><source file='@/y'/><target dev='vdy'/><readonly/></disk>"
                                        "<disk device='cdrom'><target dev='sda'/></disk><disk "
                                        "device='floppy'><target dev='fda'/></disk>" MACHINE_END),
     "  <disks>\n    <disk name='vda' snapshot='internal'/>\n    <disk name='vdx' snapshot='no'/>\n"
     "    <disk name='vdy' snapshot='no'/>\n    <disk name='sda' snapshot='no'/>\n    <disk name='fda' "
     "snapshot='no'/>\n"},
    {SNAP(OFF("n") MACHINE_START DISK_A
          "<disk snapshot='external'><driver type='qcow2'/><source file='@/old-b.qcow2'/>"
          "<target dev='vdb'/></disk>" MACHINE_END),
     "    <disk name='vda' snapshot='internal'/>\n    <disk name='vdb' snapshot='external' type='file'>\n"
     "      <source file='@/old-b.n'/>\n"},
    /* overlays, memory files and tags need not be there; what is only carried is carried */
    {SNAP(OFF("n") "<disks><disk name='vda' snapshot='external'><snapshotDeleteInProgress/><source "
                   "file='/nowhere/o'>"
                   "<seclabel model='dac' relabel='no'/></source></disk><disk name='vdb' "
                   "snapshot='manual'/></disks>"
                   "<revertDisks><disk name='vda' snapshot='external' type='file'><source "
                   "file='/nowhere/r'/></disk>"
                   "</revertDisks>" MACHINE),
     "    <disk name='vda' snapshot='external' type='file'>\n      <snapshotDeleteInProgress/>\n"
     "      <source file='/nowhere/o'>\n        <seclabel model='dac' relabel='no'/>\n      </source>\n    "
     "</disk>\n"
     "    <disk name='vdb' snapshot='manual'/>\n  </disks>\n  <revertDisks>\n"
     "    <disk name='vda' snapshot='external' type='file'>\n      <source file='/nowhere/r'/>\n    </disk>\n"
     "  </revertDisks>\n  <domain "},
    {SNAP("<name>n</name><state>shutoff</state><creationTime> -7</creationTime><description> "
          "d\t</description>" MACHINE),
     "  <description> d\t</description>\n  <state>shutoff</state>\n  <creationTime>-7</creationTime>\n"},
    /* an image that is not there at all */
    {SNAP(OFF("n") "<disks><disk name='vda' snapshot='external'><source file='/x'/></disk><disk name='vdb' "
                   "snapshot='no'/>"
                   "</disks>" MACHINE_START
                   "<disk><source file='/nowhere/i'/><target dev='vda'/></disk>" DISK_B MACHINE_END),
     "    <disk name='vda' snapshot='external' type='file'>\n      <source file='/x'/>\n"},
    /* no devices at all */
    {SNAP(OFF("n") MACHINE_START MACHINE_END), "  <memory snapshot='no'/>\n  <domain "},
};

START_TEST(take)
{
    g_autoptr(World) world = ready(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *expected = fill(world, taken[_i].dump);
    redefine(world, taken[_i].text, 0);
    g_autofree char *dump = dumped(world, "n");
    ck_assert_msg(strstr(dump, expected) != NULL, "%s\n-- is not in --\n%s", expected, dump);
    /* the dump is a document that changes nothing */
    redefine(world, dump, 0);
    world_reopen(world);
    g_autofree char *again = dumped(world, "n");
    ck_assert_str_eq(again, dump);
    g_autofree char *current = world_current(world, "web");
    ck_assert_str_eq(current, "-");
    world_check_clean(world, "web");
}
END_TEST

/* How libvirt cuts the names that it makes up (facts 3.1); nothing is ever put behind them. */
START_TEST(overlay_names)
{
    static const struct {
        const char *image, *overlay;
    } names[] = {
        {"a.tar.gz", "a.tar.n"}, {"noext", "noext.n"}, {"with.dot/plain", "with.dot/plain.n"},
        {".hidden", ".n"},       {"x.n1", "x.n"},      {"with.dot/.d", "with.dot/.n"},
    };
    g_autoptr(World) world = ready(PATH("world"));
    g_autofree char *dir = world_path(world, "with.dot");
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = world_image(world, names[i].image, 1);
        g_autofree char *overlay = world_path(world, names[i].overlay);
        if (i % 2)
            ck_assert(g_file_set_contents(overlay, "it may be there", -1, NULL));
        g_autofree char *text = g_strdup_printf(
            SNAP(HEAD("n", "disk-snapshot") MACHINE_START
                 "<disk><driver type='qcow2'/><source file='%s'/><target dev='vda'/></disk>" MACHINE_END),
            path);
        redefine(world, text, 0);
        g_autofree char *dump = dumped(world, "n");
        g_autofree char *source =
            g_strdup_printf("      <source file='%s'/>\n    </disk>\n  </disks>", overlay);
        ck_assert_msg(strstr(dump, source) != NULL, "%s: %s", source, dump);
        world_delete(world, "web", "n");
    }
}
END_TEST

/* --- the snapshot that is there --- */

/* It keeps its children and its states, moves under another parent, and is not made the current one. */
START_TEST(replace)
{
    g_autoptr(World) world = ready(PATH("world"));
    redefine(world, BASE, 0);
    redefine(world, SNAP(OFF("side") EXTERNAL_DISKS MACHINE), REDEFINE_CURRENT);
    redefine(world, TOP, 0);
    redefine(world, SNAP(OFF("leaf") "<parent><name>top</name></parent>\n" EXTERNAL_DISKS MACHINE), 0);
    redefine(
        world,
        SNAP(OFF("top") "<parent><name>side</name></parent><description>moved</description>\n" EXTERNAL_DISKS
                 MACHINE),
        0);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *parent = world_parent(world, "web", "top");
        g_autofree char *child = world_parent(world, "web", "leaf");
        g_autofree char *current = world_current(world, "web");
        ck_assert_str_eq(parent, "side");
        ck_assert_str_eq(child, "top");
        ck_assert_str_eq(current, "side");
        world_assert_hash(world, "top", "vda", 5, 5);
        world_assert_hash(world, "leaf", "vdb", 6, 6);
    }
    /* back to a root; and with the flag it is the current one */
    redefine(world, SNAP(OFF("top") EXTERNAL_DISKS MACHINE), REDEFINE_CURRENT);
    g_autofree char *none = world_parent(world, "web", "top");
    g_autofree char *now = world_current(world, "web");
    ck_assert_str_eq(none, "-");
    ck_assert_str_eq(now, "top");
    /* without <domain>, or with the uuid alone, its own is kept */
    g_autofree char *before = dumped(world, "top");
    redefine(world, SNAP(OFF("top") EXTERNAL_DISKS), 0);
    g_autofree char *after = dumped(world, "top");
    ck_assert_str_eq(after, before);
    redefine(world, SNAP(OFF("top") EXTERNAL_DISKS "<domain><uuid>" UUID "</uuid></domain>"), 0);
    g_autofree char *again = dumped(world, "top");
    ck_assert_str_eq(again, before);
    world_check_clean(world, "web");
}
END_TEST

/* disk-only says what must be the case, and nothing else. */
START_TEST(disk_only)
{
    g_autoptr(World) world = ready(PATH("world"));
    redefine(world, SNAP(HEAD("n", "disk-snapshot") EXTERNAL_DISKS MACHINE), REDEFINE_DISK_ONLY);
    redefine(world, SNAP(HEAD("n", "disk-snapshot") EXTERNAL_DISKS MACHINE),
             REDEFINE_DISK_ONLY | REDEFINE_CURRENT);
    g_autofree char *current = world_current(world, "web");
    ck_assert_str_eq(current, "n");
    world_assert_hash(world, "n", "vda", 5, 5);
}
END_TEST

/* Documents first, images later: redefined once more, and they are whole. */
START_TEST(images_come_later)
{
    g_autoptr(World) world = ready(PATH("world"));
    g_autofree char *old = world_path(world, "old-a.qcow2"), *away = world_path(world, "away");
    g_autofree char *base = world_image(world, "deep.qcow2", 7);
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "./deep.qcow2", "-F", "qcow2", away, NULL);
    g_autofree char *late = world_path(world, "late.qcow2");
    static const char document[] =
        SNAP(OFF("n") "<disks><disk name='vda' snapshot='external'><source file='@/a.qcow2'/></disk>"
                      "<disk name='vdb' snapshot='no'/></disks>" MACHINE_START
                      "<disk><driver type='qcow2'/><source file='@/late.qcow2'/><target dev='vda' "
                      "bus='virtio'/></disk>" DISK_B MACHINE_END);
    redefine(world, document, 0);
    g_autofree char *tree = world_tree(world, "web");
    ck_assert_ptr_nonnull(strstr(tree, "missing: "));
    ck_assert_int_eq(syscall(SYS_link, away, late), 0);
    if (_i)
        world_reopen(world);
    redefine(world, document, 0);
    ck_assert_uint_eq(file_mode(late) & 0222, 0); /* frozen now */
    world_assert_hash(world, "n", "vda", 7, 7);
    world_revert(world, "web", "n");
    world_assert_hash(world, NULL, "vda", 7, 7);
    ck_assert_int_eq(unlink(away), 0);
    world_check_clean(world, "web");
}
END_TEST

/* --- images that others have --- */

/* Somebody writes the image: a whole file cannot be a state then; a tag in it can. */
START_TEST(in_use)
{
    g_autoptr(World) world = ready(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *old = world_path(world, "old-a.qcow2");
    guint mode = file_mode(old);
    Writer *writer = writer_begin(world, old);
    ck_assert(!try_redefine(world, BASE, 0, &error));
    expect_error(&error, EBUSY, "disk 'vda'");
    ck_assert_uint_eq(file_mode(old), mode);
    redefine(world, SNAP(OFF("inner") MACHINE), 0);
    writer_end(writer);
    redefine(world, BASE, 0);
    world_assert_hash(world, "inner", "vda", 5, 5);
    world_assert_hash(world, "base", "vda", 5, 5);
    world_check_clean(world, "web");
}
END_TEST

/* A tag in what another disk of the domain writes by now: put back as a copy, that disk's bytes stay. */
START_TEST(inside_another_disk)
{
    g_autoptr(World) world = ready(PATH("world"));
    g_autofree char *c = world_image(world, "c.qcow2", 8);
    tool("qemu-img", "snapshot", "-c", "in", c, NULL);
    world_define(world, "web", "a.qcow2", "c.qcow2", NULL); /* vdb is c.qcow2 now */
    world_write(world, "web", "vdb", 9);
    redefine(world,
             SNAP(OFF("in") "<disks><disk name='vda' snapshot='internal'/><disk name='vdb' "
                            "snapshot='no'/></disks>" MACHINE_START
                            "<disk><driver type='qcow2'/><source file='@/c.qcow2'/><target dev='vda' "
                            "bus='virtio'/></disk>" DISK_B MACHINE_END),
             0);
    g_autofree char *bytes = world_hash(world, "web", NULL, "vdb");
    world_revert(world, "web", "in");
    world_assert_hash(world, NULL, "vda", 8, 8);
    world_assert_hash(world, NULL, "vdb", 9, 8);
    g_autofree char *vda = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert_str_ne(vda, c);
    g_autofree char *still = world_hash(world, "web", NULL, "vdb");
    ck_assert_str_eq(still, bytes);
    world_check_clean(world, "web");
}
END_TEST

/* A tag in another domain's image: told, put back as a copy, and never deleted from there. */
START_TEST(inside_another_domain)
{
    g_autoptr(World) world = ready(PATH("world"));
    g_autofree char *c = world_image(world, "c.qcow2", 8);
    world_define(world, "other", "c.qcow2", NULL);
    world_create(world, "other", "theirs", NULL);
    world_write(world, "other", "vda", 9);
    redefine(world,
             SNAP(OFF("theirs") "<disks><disk name='vda' snapshot='internal'/><disk name='vdb' "
                                "snapshot='no'/></disks>" MACHINE_START
                                "<disk><driver type='qcow2'/><source file='@/c.qcow2'/><target dev='vda' "
                                "bus='virtio'/></disk>" DISK_B MACHINE_END),
             0);
    world_revert(world, "web", "theirs");
    world_assert_hash(world, NULL, "vda", 8, 8);
    world_delete(world, "web", "theirs");
    g_autofree char *now = world_hash(world, "other", NULL, "vda");
    g_autofree char *should = pattern_hash(9, 8);
    ck_assert_str_eq(now, should);
    g_autofree char *tags = image_tags(c);
    ck_assert_str_eq(tags, "theirs");
    world_revert(world, "other", "theirs");
    g_autofree char *back = world_hash(world, "other", NULL, "vda");
    g_autofree char *then = pattern_hash(8, 8);
    ck_assert_str_eq(back, then);
    world_check_clean(world, "other");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("redefine_rules");
    TCase *tcase = scratch_case(suite, "rules");
    tcase_add_test(tcase, refuse);
    tcase_add_loop_test(tcase, take, 0, G_N_ELEMENTS(taken));
    tcase_add_test(tcase, overlay_names);
    tcase_add_test(tcase, replace);
    tcase_add_test(tcase, disk_only);
    tcase_add_loop_test(tcase, images_come_later, 0, 2);
    tcase_add_test(tcase, in_use);
    tcase_add_test(tcase, inside_another_disk);
    tcase_add_test(tcase, inside_another_domain);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
