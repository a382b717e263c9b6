/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What else a domain's definition says: it is carried as libvirt carries it, and follows the disks as there. */
#include "twin.h"

#define DRIVES "sda:raw:cdrom:ro sdb:raw:cdrom:ro:empty fda:raw:floppy:empty"

/* libvirt's definition with the first @from replaced by @to. */
static const char *with(const Twin *t, const char *xml, const char *from, const char *to)
{
    g_autoptr(GString) all = g_string_new(xml);
    ck_assert_uint_ge(g_string_replace(all, from, to, 1), 1);
    return keep(t->w, all->str);
}

static void external(Twin *t, const char *name)
{
    twin_touch(t);
    twin_create(t, name, "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
}

static void all_kinds(Twin *t)
{
    twin_touch(t);
    twin_create(t, "int", NULL);
    external(t, "ext");
    external(t, "ext2");
    twin_touch(t);
    twin_create(t, "int2", NULL);
    twin_compare_contents(t);
    twin_validate(t);
}

START_TEST(texts_and_metadata)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    twin_define(t, with(t, t->their_domain, "</uuid>",
                        "</uuid><title>it's &lt;the&gt; \"title\"</title><description>two\n  lines &amp; "
                        "\303\274</description>"
                        "<metadata><!-- a comment --><app:thing xmlns:app='http://example.com/a' b='c "
                        "&quot;d&apos; &#xE9;'>"
                        "<app:in/>text &amp; more</app:thing><other xmlns='http://example.com/b'>  <x/>  "
                        "</other></metadata>"));
    all_kinds(t);
}
END_TEST

START_TEST(many_elements)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(
        w, "vda:qcow2 " DRIVES,
        "<graphics type='vnc' port='-1' passwd='se&apos;c&quot;r&lt;'/><graphics type='spice' autoport='yes' "
        "passwd='other'><listen type='address'/></graphics><video><model type='virtio'/></video>"
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<serial type='pty'/><watchdog model='i6300esb' action='poweroff'/><sound model='ich9'/>"
        "<interface type='user'><mac address='52:54:00:01:02:03'/><model type='virtio'/></interface>");
    const char *xml = with(t, t->their_domain, "<clock offset='utc'/>",
                           "<features><acpi/><apic/></features><clock offset='utc'><timer name='rtc' "
                           "tickpolicy='catchup'/></clock>");
    twin_define(t, with(t, xml, "<vcpu placement='static'>1</vcpu>",
                        "<vcpu placement='static' cpuset='0-1'>2</vcpu><iothreads>1</iothreads><cputune>"
                        "<vcpupin vcpu='0' cpuset='0'/></cputune>"));
    all_kinds(t);
}
END_TEST

/* What stands in <disk> beside the image: it stays when the image changes, or belongs to the image and goes. */
START_TEST(disk_details)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 vdb:qcow2", NULL);
    const char *xml = with(
        t, t->their_domain, "<driver name='qemu' type='qcow2'/>",
        "<driver name='qemu' type='qcow2' cache='none' io='native' discard='unmap' detect_zeroes='unmap'>"
        "<metadata_cache><max_size unit='KiB'>512</max_size></metadata_cache></driver>");
    xml = with(t, xml, "<target dev='vda' bus='virtio'/>",
               "<target dev='vda' bus='virtio'/><iotune><total_bytes_sec>1000</total_bytes_sec></iotune>"
               "<serial>WD-1</serial><boot order='1'/><blockio logical_block_size='512'/>");
    xml = with(t, xml, "    <boot dev='hd'/>\n", "");
    twin_define(t, with(t, xml, "disk-vdb.qcow2'/>",
                        "disk-vdb.qcow2'><seclabel model='dac' relabel='no'/></source><transient/>"));
    twin_create(t, "first", NULL);
    twin_touch(t);
    twin_revert(t, "first"); /* and nothing is lost by it */
    ck_has(twin_our_xml(t, NULL), "<metadata_cache>");
    all_kinds(t);
    twin_revert(t, "int2");
    ck_has_not(twin_our_xml(t, NULL), "<metadata_cache>");
}
END_TEST

/* What of <source> is the drive's. */
START_TEST(startup_policy)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 fda:qcow2:floppy", NULL);
    twin_define(t,
                with(t, t->their_domain, "disk-fda.qcow2'/>", "disk-fda.qcow2' startupPolicy='optional'/>"));
    external(t, "ext");
    ck_has(twin_our_xml(t, NULL), "startupPolicy='optional'");
    external(t, "ext2");
    twin_compare_contents(t);
}
END_TEST

/* A chain that the definition spells out is spelled out afterwards. */
START_TEST(backing_stores)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2 vdb:qcow2", NULL);
    const char *xml = t->their_domain;
    static const char *const sides[] = {"ours", "virt"};
    for (guint i = 0; i < G_N_ELEMENTS(sides); i++) {
        const char *top = in_dir(w, "%s/top.qcow2", sides[i]);
        run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
               in_dir(w, "%s/disk-vdb.qcow2", sides[i]), top);
        virt_own(top);
    }
    xml = with(t, xml, "disk-vda.qcow2'/>", "disk-vda.qcow2'/><backingStore/>");
    xml = with(t, xml, "disk-vdb.qcow2'/>",
               keepf(w,
                     "top.qcow2'/><backingStore type='file'><format type='qcow2'/><source file='%s'/>"
                     "<backingStore/></backingStore>",
                     in_dir(w, "virt/disk-vdb.qcow2")));
    twin_define(t, xml);
    twin_create(t, "first", NULL);
    twin_revert(t, "first");
    all_kinds(t);
    twin_revert(t, "int2");
}
END_TEST

/* Each snapshot has the definition of its time, and revert brings it back. */
START_TEST(definitions_of_their_time)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = twin_new(w, "vda:qcow2", NULL);
    static const char *const memory = "<memory unit='KiB'>65536</memory>";
    twin_touch(t);
    twin_create(t, "small", NULL);
    twin_define(t, with(t, t->their_domain, memory, "<memory unit='KiB'>131072</memory>"));
    twin_touch(t);
    twin_create(t, "big", NULL);
    twin_revert(t, "small");
    ck_has(t->their_domain, memory);
    twin_revert(t, "big");
    ck_has_not(t->their_domain, memory);
    twin_define(t, with(t, t->their_domain, "</uuid>", "</uuid><title>x</title>"));
    twin_delete(t, "small", NULL);
    twin_compare_contents(t);
    twin_validate(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("domain");
    TCase *carried = add_case(s, "definition");
    tcase_add_test(carried, texts_and_metadata);
    tcase_add_test(carried, many_elements);
    tcase_add_test(carried, disk_details);
    tcase_add_test(carried, startup_policy);
    tcase_add_test(carried, backing_stores);
    tcase_add_test(carried, definitions_of_their_time);
    return s;
}

int main(void)
{
    return virt_main(suite);
}
