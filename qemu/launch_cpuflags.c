/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What <features> and <clock> say about processors: what a hypervisor tells its guest of itself. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

typedef struct {
    const char *element;
    const char *option;
    gboolean kvm;    /* without KVM there is no such thing */
    const char *off; /* where the option says the opposite */
} Flag;

static gboolean append_flags(const LaunchBuild *build, const xmlNode *parent, const Flag *flags, guint n,
                             GString *list, GError **error)
{
    for (guint i = 0; i < n; i++) {
        const xmlNode *node = xml_child(parent, flags[i].element);
        const char *state = "on";
        if (!node)
            continue;
        if (!launch_word(node, "state", launch_switch, &state, error))
            return FALSE;
        if (flags[i].off)
            state = strcmp(state, "on") == 0 ? "off" : "on";
        if (build->kvm || !flags[i].kvm)
            g_string_append_printf(list, ",%s=%s", flags[i].option, state);
    }
    return TRUE;
}

static gboolean append_hyperv_values(const LaunchBuild *build, const xmlNode *hyperv, GString *list,
                                     GError **error)
{
    const xmlNode *spinlocks = xml_child(hyperv, "spinlocks"), *vendor = xml_child(hyperv, "vendor_id");
    const char *spin = "on", *known = "on";
    guint64 retries = 0xfff;
    g_autofree char *value = xml_attr(vendor, "value");
    if (!launch_word(spinlocks, "state", launch_switch, &spin, error) ||
        !launch_number(spinlocks, "retries", 0xfff, G_MAXUINT32, &retries, error) ||
        !launch_word(vendor, "state", launch_switch, &known, error) ||
        !launch_vendor(vendor, value, 1, error))
        return FALSE;
    if (spinlocks && strcmp(spin, "on") == 0 && build->kvm)
        g_string_append_printf(list, ",hv-spinlocks=0x%x", (guint)retries);
    if (value && strcmp(known, "on") == 0 && build->kvm)
        g_string_append_printf(list, ",hv-vendor-id=%s", value);
    return TRUE;
}

static gboolean append_hyperv(LaunchBuild *build, const xmlNode *features, GString *list, GError **error)
{
    static const Flag flags[] = {
        {"relaxed", "hv-relaxed", TRUE},   {"vapic", "hv-vapic", TRUE},
        {"vpindex", "hv-vpindex", TRUE},   {"runtime", "hv-runtime", TRUE},
        {"synic", "hv-synic", TRUE},       {"stimer", "hv-stimer", TRUE},
        {"reset", "hv-reset", TRUE},       {"frequencies", "hv-frequencies", TRUE},
        {"tlbflush", "hv-tlbflush", TRUE}, {"reenlightenment", "hv-reenlightenment", TRUE},
        {"ipi", "hv-ipi", TRUE},           {"evmcs", "hv-evmcs", TRUE},
        {"avic", "hv-avic", TRUE},
    };
    static const Flag direct[] = {{"direct", "hv-stimer-direct", TRUE}};
    static const LaunchWord modes[] = {{"custom", NULL}, {"passthrough", "hv-passthrough=on"}, {NULL, NULL}};
    const xmlNode *hyperv = xml_child(features, "hyperv");
    const char *mode = NULL;
    if (!hyperv)
        return TRUE;
    if (!launch_word(hyperv, "mode", modes, &mode, error))
        return FALSE;
    if (!build->kvm)
        launch_note(build, "<hyperv> needs KVM: the guest is told nothing of Hyper-V");
    if (mode && build->kvm)
        g_string_append_printf(list, ",%s", mode);
    return append_flags(build, hyperv, flags, G_N_ELEMENTS(flags), list, error) &&
           append_flags(build, xml_child(hyperv, "stimer"), direct, 1, list, error) &&
           append_hyperv_values(build, hyperv, list, error);
}

static gboolean append_timers(const LaunchBuild *build, GString *list, GError **error)
{
    static const struct {
        const char *name, *option;
    } flags[] = {{"kvmclock", "kvmclock"}, {"hypervclock", "hv-time"}};
    const xmlNode *clock = xml_child(build->root, "clock");
    for (const xmlNode *timer = xml_child(clock, "timer"); timer; timer = xml_next(timer, "timer")) {
        g_autofree char *name = xml_attr(timer, "name");
        const char *present = NULL;
        guint64 hertz = 0;
        if (!launch_word(timer, "present", launch_switch, &present, error) ||
            !launch_number(timer, "frequency", 1, G_MAXINT64, &hertz, error))
            return FALSE;
        for (guint i = 0; i < G_N_ELEMENTS(flags) && present && build->kvm; i++)
            if (g_strcmp0(name, flags[i].name) == 0)
                g_string_append_printf(list, ",%s=%s", flags[i].option, present);
        if (g_strcmp0(name, "tsc") == 0 && hertz)
            g_string_append_printf(list, ",tsc-frequency=%" G_GUINT64_FORMAT, hertz);
    }
    return TRUE;
}

static gboolean append_eoi(const LaunchBuild *build, const xmlNode *features, GString *list, GError **error)
{
    const char *eoi = NULL;
    if (!launch_word(xml_child(features, "apic"), "eoi", launch_switch, &eoi, error))
        return FALSE;
    if (eoi && build->kvm)
        g_string_append_printf(list, ",kvm-pv-eoi=%s", eoi);
    return TRUE;
}

/* A panic that is told through a Hyper-V register is no device. */
static gboolean has_hyperv_panic(const LaunchBuild *build)
{
    g_autoptr(GPtrArray) all = launch_devices(build->root, "panic");
    for (guint i = 0; i < all->len; i++) {
        g_autofree char *model = xml_attr(all->pdata[i], "model");
        if (g_strcmp0(model, "hyperv") == 0)
            return TRUE;
    }
    return FALSE;
}

gboolean launch_cpu_flags(LaunchBuild *build, GString *cpu, GError **error)
{
    static const Flag flags[] = {{"pvspinlock", "kvm-pv-unhalt", TRUE}, {"pmu", "pmu", FALSE}};
    static const Flag kvm[] = {{"hidden", "kvm", TRUE, "off"},
                               {"hint-dedicated", "kvm-hint-dedicated", TRUE},
                               {"poll-control", "kvm-poll-control", TRUE}};
    const xmlNode *features = xml_child(build->root, "features");
    if (!append_flags(build, features, flags, G_N_ELEMENTS(flags), cpu, error) ||
        !append_flags(build, xml_child(features, "kvm"), kvm, G_N_ELEMENTS(kvm), cpu, error) ||
        !append_eoi(build, features, cpu, error) || !append_hyperv(build, features, cpu, error) ||
        !append_timers(build, cpu, error))
        return FALSE;
    if (build->kvm && has_hyperv_panic(build))
        g_string_append(cpu, ",hv-crash");
    return TRUE;
}
