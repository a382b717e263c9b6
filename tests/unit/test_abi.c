/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of a machine its guest can tell: each thing changed by itself. libvirt says the same of all but those marked. */
#include <errno.h>
#include <string.h>

#include "abi.h"
#include "error.h"
#include "runner.h"

static const char machine[] =
    "<domain type='kvm'><name>d</name><uuid>11111111-2222-4333-8444-555555555555</uuid>"
    "<metadata><x:a xmlns:x='urn:x'/></metadata>"
    "<memory unit='KiB'>262144</memory><currentMemory unit='KiB'>131072</currentMemory><vcpu "
    "current='1'>2</vcpu>"
    "<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type><boot dev='hd'/></os>"
    "<features><acpi/><apic/></features>"
    "<cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model>"
    "<feature policy='disable' name='svm'/></cpu>"
    "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/></clock><on_crash>destroy</on_crash>"
    "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='/a.qcow2'/>"
    "<target dev='vda' bus='virtio'/><serial>S1</serial>"
    "<address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/></disk>"
    "<disk type='file' device='disk'><source file='/b.qcow2'/><target dev='vdb' bus='virtio'/></disk>"
    "<controller type='usb' index='0' model='piix3-uhci'/>"
    "<interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/></interface>"
    "<serial type='pty'><target port='0'/></serial>"
    "<graphics type='vnc' port='-1'/>"
    "<video><model type='vga' vram='16384' heads='1'/></video>"
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
    "<memballoon model='virtio'/>"
    "</devices></domain>";

#define VDB "<disk type='file' device='disk'><source file='/b.qcow2'/><target dev='vdb' bus='virtio'/></disk>"

static const struct {
    const char *from, *to;
    const char *differs; /* NULL: nothing that the guest sees */
} cases[] = {
    {"", "", NULL},
    {"<name>d<", "<name>e<", NULL}, /* libvirt refuses: here a domain may have got another name since */
    {"<metadata><x:a xmlns:x='urn:x'/></metadata>", "<title>t</title><description>d</description>", NULL},
    {"11111111", "21111111", "uuid is '21111111-2222-4333-8444-555555555555', not '11111111-"},
    {"<domain type='kvm'>", "<domain type='qemu'>", "type is 'qemu', not 'kvm'"},
    {"hvm", "xen", "os type is 'xen', not 'hvm'"},
    {"x86_64'", "i686'", "os type arch is 'i686'"},
    {"fx-7.2", "fx-7.1", "os type machine is 'pc-i440fx-7.1', not 'pc-i440fx-7.2'"},
    {"<boot dev='hd'/>", "<boot dev='cdrom'/>", NULL},
    {"<boot dev='hd'/>", "<smbios mode='host'/>", "os smbios mode is 'host', not absent"},
    {"262144", "262145", "<memory> is '262145 KiB', not '262144 KiB'"},
    {"unit='KiB'>262144", "unit='MiB'>256", NULL},
    {" unit='KiB'>262144", ">262144", NULL},
    {"131072", "65536", "<currentMemory> is '65536 KiB', not '131072 KiB'"},
    {"<currentMemory unit='KiB'>131072</currentMemory>", "",
     "<currentMemory> is '262144 KiB', not '131072 KiB'"},
    {"<memory ", "<maxMemory slots='2' unit='KiB'>524288</maxMemory><memory ",
     "maxMemory slots is '2', not absent"},
    {">2</vcpu>", ">3</vcpu>", "<vcpu> is '3', not '2'"},
    {"current='1'", "current='2'", "current of <vcpu> is '2', not '1'"},
    {"current='1'", "", "current of <vcpu> is '2', not '1'"},
    {"<vcpu ", "<vcpus><vcpu id='0' enabled='yes'/></vcpus><vcpu ", "<vcpus> is another one"},
    {"<apic/>", "", "<features> is another one"},
    {"check='none'", "check='full'", NULL}, /* libvirt refuses, and people cannot revert any more */
    {"fallback='allow'", "fallback='forbid'", NULL},
    {"qemu64", "kvm64", "<cpu> is another one"},
    {"policy='disable'", "policy='require'", "<cpu> is another one"},
    {"</cpu>", "<topology sockets='1' cores='2' threads='1'/></cpu>", "<cpu> is another one"},
    {"offset='utc'", "offset='localtime'", NULL},
    {"catchup", "delay", NULL},
    {"<on_crash>destroy", "<on_crash>restart", NULL},
    {"<emulator>/usr/bin/qemu-system-x86_64</emulator>", "", NULL},
    /* disks */
    {"/a.qcow2", "/c.qcow2", NULL},
    {"type='qcow2' cache='none'", "type='raw'", NULL},
    {"<disk type='file' device='disk'><source file=", "<disk type='block' device='disk'><source dev=", NULL},
    {"<serial>S1", "<shareable/><transient/><serial>S1", NULL},
    {"device='disk'>", "device='disk' snapshot='no'>", NULL},
    {"<serial>S1", "<readonly/><serial>S1", "disk 'vda': <readonly/> is 'there', not absent"},
    {"S1", "S2", "disk 'vda': serial is 'S2', not 'S1'"},
    {"<serial>S1", "<wwn>5000c50015ea71ad</wwn><serial>S1",
     "disk 'vda': wwn is '5000c50015ea71ad', not absent"},
    {"vdb' bus='virtio'", "vdb' bus='usb'", "disk 'vdb': its bus is 'usb', not 'virtio'"},
    {"vdb' bus='virtio'", "vdb'", NULL},
    {"'disk'><source", "'floppy'><source", "disk 'vdb': its device is 'floppy', not 'disk'"},
    {"slot='0x05'", "slot='0x06'",
     "disk 'vda': its address is 'type pci, domain 0x0000, bus 0x00, slot 0x06"},
    {"'vdb'", "'vdc'", "disk 'vdb' is missing"},
    {VDB, "", "disk 'vdb' is missing"},
    {"<controller", "<disk device='cdrom'><target dev='sda'/></disk><controller", "disk 'sda' is one more"},
    /* other devices */
    {"piix3-uhci", "ich9-ehci1", "controller 1: model is 'ich9-ehci1', not 'piix3-uhci'"},
    {"<controller ", "<controller type='pci' index='0'/><controller ",
     "controller: there are 2 of that kind, not 1"},
    {"11:22:33", "11:22:34", "interface 1: mac address is '52:54:00:11:22:34', not '52:54:00:11:22:33'"},
    {"<model type='virtio'/>", "<model type='e1000'/>", "interface 1: model type is 'e1000', not 'virtio'"},
    {"<interface type='user'>", "<interface type='network'><source network='default'/><target dev='v0'/>",
     NULL},
    {"<model type='virtio'/>", "<model type='virtio'/><address type='pci' slot='0x03'/>",
     "interface 1: its address is 'type pci, slot 0x03', not absent"},
    {"<serial type='pty'>", "<serial type='null'>", NULL},
    {"<target port='0'/>", "<target port='1'/>", "serial 1: target port is '1', not '0'"},
    {"<serial type='pty'><target port='0'/></serial>", "", "serial: there are 0 of that kind, not 1"},
    {"<graphics type='vnc' port='-1'/>", "<audio id='1' type='none'/>", NULL},
    {"type='vga'", "type='cirrus'", "video 1: model type is 'cirrus', not 'vga'"},
    {"16384", "32768", "video 1: model vram is '32768', not '16384'"},
    {"/dev/urandom", "/dev/random", NULL},
    {"balloon model='virtio'", "balloon model='none'", "memballoon 1: model is 'none', not 'virtio'"},
    {"<video>", "<sound model='ich6'/><video>", "sound: there are 1 of that kind, not 0"},
    {"<video>", "<input type='tablet' bus='usb'/><video>", "input: there are 1"},
    {"<video>", "<tpm model='tpm-tis'/><video>", "tpm: there are 1"},
    {"<video>", "<novelty model='x'/><video>", "other device: there are 1 of that kind, not 0"},
};

/* The machine with one place changed. Caller frees. */
static DomainDef *changed(const char *from, const char *to)
{
    g_autoptr(GString) text = g_string_new(machine);
    g_autoptr(GError) error = NULL;
    if (*from)
        ck_assert_msg(g_string_replace(text, from, to, 1) == 1, "'%s' is not there", from);
    DomainDef *def = domain_def_parse(text->str, text->len, &error);
    ck_assert_msg(def != NULL, "%s", error ? error->message : "?");
    return def;
}

static void assert_verdict(const DomainDef *was, const DomainDef *is, const char *to, const char *differs)
{
    g_autoptr(GError) error = NULL;
    gboolean same = abi_check(was, is, &error);
    ck_assert_msg(same == !differs, "%s: %s", to, error ? error->message : "the same");
    if (same)
        return;
    ck_assert_int_eq(snap_errno(error), EOPNOTSUPP);
    ck_assert_msg(strstr(error->message, differs) == error->message, "%s: %s", to, error->message);
}

START_TEST(one_by_one)
{
    g_autoptr(DomainDef) was = changed("", "");
    g_autoptr(DomainDef) is = changed(cases[_i].from, cases[_i].to);
    assert_verdict(was, is, cases[_i].to, cases[_i].differs);
    ck_assert(abi_check(is, is, NULL));
    /* and the other way round it differs too */
    ck_assert(abi_check(is, was, NULL) == !cases[_i].differs);
}
END_TEST

/* Two devices of a kind: the second one counts too; the order of the disks does not. */
START_TEST(in_order)
{
    static const char rng[] = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>";
    g_autoptr(DomainDef) was = changed(rng, "<rng model='a'/><rng model='b'/>");
    g_autoptr(DomainDef) is = changed(rng, "<rng model='a'/><rng model='c'/>");
    assert_verdict(was, is, "second", "rng 2: model is 'c', not 'b'");
    g_autoptr(DomainDef) split = changed(VDB, VDB "</devices><devices>");
    g_autoptr(DomainDef) plain = changed("", "");
    ck_assert(abi_check(plain, split, NULL));
    g_autoptr(GString) swapped = g_string_new(machine);
    g_string_replace(swapped, VDB, "", 1);
    g_string_replace(swapped, "</emulator>", "</emulator>" VDB, 1);
    g_autoptr(DomainDef) order = domain_def_parse(swapped->str, swapped->len, NULL);
    ck_assert_str_eq(((DiskDef *)order->disks->pdata[0])->target, "vdb");
    ck_assert(abi_check(plain, order, NULL));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("abi");
    TCase *tcase = tcase_create("machine");
    tcase_add_loop_test(tcase, one_by_one, 0, G_N_ELEMENTS(cases));
    tcase_add_test(tcase, in_order);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
