/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every element and attribute that a machine can be started with. The other files look only for what they
 * understand, so what stands here must be read by one of them, or change nothing that a guest sees.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

#define ALL NULL /* any attribute, any content: it changes nothing */
#define ADDRESS "type domain bus slot function multifunction controller target unit port iobase irq"
#define CHAR_SOURCE "path mode append"

typedef struct {
    const char *path;  /* below <domain> */
    const char *attrs; /* with blanks between */
} Known;

static const Known machine[] = {
    {"", "type id"},
    {"name", ""},
    {"uuid", ""},
    {"title", ALL},
    {"description", ALL},
    {"metadata", ALL},
    {"memory", "unit dumpCore"},
    {"currentMemory", "unit"},
    {"vcpu", "placement cpuset current"},
    {"os", ""},
    {"os/type", "arch machine"},
    {"os/boot", "dev"},
    {"os/bootmenu", "enable timeout"},
    {"os/bios", "rebootTimeout useserial"},
    {"os/smbios", "mode"},
    {"os/loader", "readonly secure type stateless format"},
    {"os/nvram", "template templateFormat type format"},
    {"os/nvram/source", "file"},
    {"os/kernel", ""},
    {"os/initrd", ""},
    {"os/cmdline", ""},
    {"clock", "offset adjustment basis start"},
    {"clock/timer", "name present tickpolicy track frequency mode"},
    {"on_poweroff", ""},
    {"on_reboot", ""},
    {"on_crash", ""},
    {"on_lockfailure", ALL},
    {"pm", ""},
    {"pm/suspend-to-mem", "enabled"},
    {"pm/suspend-to-disk", "enabled"},
    {"cpu", "mode match check migratable"},
    {"cpu/model", "fallback vendor_id"},
    {"cpu/vendor", ALL}, /* a demand on the host that the model's features make too */
    {"cpu/topology", "sockets dies cores threads"},
    {"cpu/feature", "policy name"},
    {"cpu/cache", "level mode"},
    {"cpu/maxphysaddr", "mode bits"},
    {"features", ""},
    {"features/acpi", ""},
    {"features/apic", "eoi"},
    {"features/pae", ""},
    {"features/hap", "state"},
    {"features/privnet", ALL},
    {"features/vmport", "state"},
    {"features/smm", "state"},
    {"features/pmu", "state"},
    {"features/pvspinlock", "state"},
    {"features/ioapic", "driver"},
    {"features/kvm", ""},
    {"features/kvm/hidden", "state"},
    {"features/kvm/hint-dedicated", "state"},
    {"features/kvm/poll-control", "state"},
    {"features/hyperv", "mode"},
    {"features/hyperv/relaxed", "state"},
    {"features/hyperv/vapic", "state"},
    {"features/hyperv/spinlocks", "state retries"},
    {"features/hyperv/vpindex", "state"},
    {"features/hyperv/runtime", "state"},
    {"features/hyperv/synic", "state"},
    {"features/hyperv/stimer", "state"},
    {"features/hyperv/stimer/direct", "state"},
    {"features/hyperv/reset", "state"},
    {"features/hyperv/vendor_id", "state value"},
    {"features/hyperv/frequencies", "state"},
    {"features/hyperv/reenlightenment", "state"},
    {"features/hyperv/tlbflush", "state"},
    {"features/hyperv/ipi", "state"},
    {"features/hyperv/evmcs", "state"},
    {"features/hyperv/avic", "state"},
    {"seclabel", ALL},
    {"cputune", ALL},
    {"memtune", ALL},
    {"blkiotune", ALL},
    {"numatune", ALL},
    {"resource", ALL},
    {"devices", ""},
};

static const Known devices[] = {
    {"emulator", ""},
    {"audio", ALL}, /* no device that could be heard is known */

    {"disk", "type device snapshot"},
    {"disk/driver", "name type cache io discard detect_zeroes error_policy rerror_policy ioeventfd event_idx "
                    "queues queue_size packed"},
    {"disk/driver/metadata_cache", ""},
    {"disk/driver/metadata_cache/max_size", "unit"},
    {"disk/source", "file dev protocol name startupPolicy index tls"},
    {"disk/source/host", "name port transport socket"},
    {"disk/source/seclabel", ALL},
    {"disk/source/reconnect", "enabled"},
    {"disk/backingStore", ALL}, /* what lies below is the store's to say */
    {"disk/target", "dev bus tray removable rotation_rate"},
    {"disk/serial", ""},
    {"disk/wwn", ""},
    {"disk/vendor", ""},
    {"disk/product", ""},
    {"disk/readonly", ""},
    {"disk/shareable", ""},
    {"disk/transient", ""},
    {"disk/boot", "order"},
    {"disk/blockio", "logical_block_size physical_block_size discard_granularity"},

    {"controller", "type index model ports vectors"},
    {"controller/model", "name"},
    {"controller/target", "chassis port chassisNr busNr hotplug"},
    {"controller/master", "startport"},
    {"controller/driver", "queues cmd_per_lun max_sectors ioeventfd"},

    {"interface", "type"},
    {"interface/mac", "address type check"},
    {"interface/source", "bridge network portid portgroup"},
    {"interface/target", ALL}, /* the host's name of it */
    {"interface/model", "type"},
    {"interface/boot", "order"},
    {"interface/link", "state"},
    {"interface/mtu", "size"},
    {"interface/rom", "bar file enabled"},
    {"interface/ip", "address family prefix"},

    {"serial", "type tty"},
    {"serial/source", CHAR_SOURCE},
    {"serial/source/seclabel", ALL},
    {"serial/log", "file append"},
    {"serial/target", "type port"},
    {"serial/target/model", "name"},
    {"console", "type tty"},
    {"console/source", CHAR_SOURCE},
    {"console/source/seclabel", ALL},
    {"console/log", "file append"},
    {"console/target", "type port"},
    {"channel", "type tty"},
    {"channel/source", CHAR_SOURCE},
    {"channel/source/seclabel", ALL},
    {"channel/log", "file append"},
    {"channel/target", "type name state"},

    {"input", "type bus"},
    {"graphics",
     "type port autoport listen passwd passwdValidTo connected keymap sharePolicy websocket socket"},
    {"graphics/listen", "type address socket network"},
    {"video", ""},
    {"video/driver", "name"},
    {"video/model", "type vram ram vram64 vgamem heads primary"},
    {"video/model/resolution", "x y"},
    {"rng", "model"},
    {"rng/rate", "bytes period"},
    {"rng/backend", "model"},
    {"memballoon", "model autodeflate freePageReporting"},
    {"memballoon/stats", ALL}, /* how often the host asks */
    {"watchdog", "model action"},
    {"panic", "model"},
};

/* What any device may have, whichever it is. */
static const Known of_device[] = {{"alias", ALL}, {"address", ADDRESS}};

static const Known *find_in(const Known *list, guint n, const char *path)
{
    for (guint i = 0; i < n; i++)
        if (strcmp(list[i].path, path) == 0)
            return &list[i];
    return NULL;
}

static const Known *find_known(const char *path)
{
    if (!g_str_has_prefix(path, "devices/"))
        return find_in(machine, G_N_ELEMENTS(machine), path);
    const char *device = strchr(path, '/') + 1;
    const Known *known = find_in(devices, G_N_ELEMENTS(devices), device);
    const char *slash = strchr(device, '/');
    return known || !slash ? known : find_in(of_device, G_N_ELEMENTS(of_device), slash + 1);
}

static gboolean check_attrs(const xmlNode *node, const char *attrs, GError **error)
{
    g_auto(GStrv) words = g_strsplit(attrs, " ", -1);
    for (const xmlAttr *attr = node->properties; attr; attr = attr->next) {
        const char *name = (const char *)attr->name;
        if (!attr->ns && g_strv_contains((const char *const *)words, name))
            continue;
        g_autofree char *value = xml_attr(node, name);
        xml_set_error(error, EOPNOTSUPP, node, "%s='%s' is not supported", name, value ? value : "");
        return FALSE;
    }
    return TRUE;
}

/* "devices/disk" -> "devices/disk/source". The path of <domain> is "". Caller frees. */
static char *path_below(const char *path, const xmlNode *node)
{
    return g_strconcat(path, *path ? "/" : "", (const char *)node->name, NULL);
}

/* Documents are at most 256 levels deep (xml.h). */
static gboolean check_element(const xmlNode *node, const char *path, GError **error)
{
    const Known *known = node->ns ? NULL : find_known(path);
    if (!known) {
        xml_set_error(error, EOPNOTSUPP, node, "this element is not supported");
        return FALSE;
    }
    if (known->attrs == ALL)
        return TRUE;
    if (!check_attrs(node, known->attrs, error))
        return FALSE;
    for (const xmlNode *child = xml_first_element(node); child; child = xml_next(child, NULL)) {
        g_autofree char *below = path_below(path, child);
        if (check_element(child, below, error))
            continue;
        return launch_name_disk(error, child);
    }
    return TRUE;
}

/* What the host should do for the machine, and is not asked to. */
static void note_tuning(LaunchBuild *build)
{
    static const char *const names[] = {"cputune", "memtune", "blkiotune", "numatune", "resource"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (xml_child(build->root, names[i]))
            launch_note(build, "<%s> is not applied: it changes the host's resources, not the machine",
                        names[i]);
}

/* A label that libvirt would choose by itself is none that was asked for. */
static gboolean check_labels(LaunchBuild *build, GError **error)
{
    for (const xmlNode *node = xml_child(build->root, "seclabel"); node; node = xml_next(node, "seclabel")) {
        g_autofree char *type = xml_attr(node, "type");
        if (g_strcmp0(type, "static") == 0) {
            xml_set_error(error, EOPNOTSUPP, node,
                          "type='static' is not supported: no security label is set");
            return FALSE;
        }
        if (g_strcmp0(type, "none") != 0)
            launch_note(build, "<seclabel> is not applied: the machine runs without a security label");
    }
    return TRUE;
}

gboolean launch_known_check(LaunchBuild *build, GError **error)
{
    if (!check_element(build->root, "", error) || !check_labels(build, error))
        return FALSE;
    note_tuning(build);
    return TRUE;
}
