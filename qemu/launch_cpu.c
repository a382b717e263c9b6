/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processors: which, how many, on which of the host's. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

enum { MAX_CPUS = 1024 };

/* --- how many --- */

static gboolean read_count(const xmlNode *vcpu, guint64 *ret_count, GError **error)
{
    g_autofree char *text = launch_text(vcpu);
    *ret_count = 1;
    if (!vcpu || (text && g_ascii_string_to_unsigned(text, 10, 1, MAX_CPUS, ret_count, NULL)))
        return TRUE;
    xml_set_error(error, EINVAL, vcpu, "'%s' is not a number from 1 to %d", text ? text : "", MAX_CPUS);
    return FALSE;
}

static gboolean add_smp(LaunchBuild *build, GError **error)
{
    const xmlNode *vcpu = xml_child(build->root, "vcpu");
    const xmlNode *topology = xml_child(xml_child(build->root, "cpu"), "topology");
    guint64 count, sockets = 1, dies = 1, cores = 1, threads = 1;
    if (!read_count(vcpu, &count, error))
        return FALSE;
    guint64 current = count;
    if (!topology)
        sockets = count;
    if (!launch_number(vcpu, "current", 1, count, &current, error) ||
        !launch_number(topology, "sockets", 1, MAX_CPUS, &sockets, error) ||
        !launch_number(topology, "dies", 1, MAX_CPUS, &dies, error) ||
        !launch_number(topology, "cores", 1, MAX_CPUS, &cores, error) ||
        !launch_number(topology, "threads", 1, MAX_CPUS, &threads, error))
        return FALSE;
    if (sockets * dies * cores * threads != count) {
        xml_set_error(error, EINVAL, topology, "it makes %u processors, <vcpu> says %u",
                      (guint)(sockets * dies * cores * threads), (guint)count);
        return FALSE;
    }
    g_autoptr(GString) list = g_string_new(NULL);
    g_string_append_printf(list, "cpus=%u,maxcpus=%u,sockets=%u", (guint)current, (guint)count,
                           (guint)sockets);
    if (dies > 1)
        g_string_append_printf(list, ",dies=%u", (guint)dies);
    g_string_append_printf(list, ",cores=%u,threads=%u", (guint)cores, (guint)threads);
    launch_add(build, "-smp", list->str);
    return TRUE;
}

/* --- on which of the host's --- */

/* One of "3", "1-4", "^2". */
static gboolean read_range(const char *word, cpu_set_t *cpus)
{
    gboolean without = word[0] == '^';
    g_auto(GStrv) ends = g_strsplit(word + without, "-", 2);
    guint64 first, last;
    if (!ends[0] || !g_ascii_string_to_unsigned(ends[0], 10, 0, CPU_SETSIZE - 1, &first, NULL))
        return FALSE;
    last = first;
    if (ends[1] && !g_ascii_string_to_unsigned(ends[1], 10, first, CPU_SETSIZE - 1, &last, NULL))
        return FALSE;
    for (guint64 cpu = first; cpu <= last; cpu++) {
        if (without)
            CPU_CLR(cpu, cpus);
        else
            CPU_SET(cpu, cpus);
    }
    return TRUE;
}

static gboolean read_cpuset(LaunchBuild *build, GError **error)
{
    static const LaunchWord placements[] = {{"static", "static"}, {"auto", "auto"}, {NULL, NULL}};
    const xmlNode *vcpu = xml_child(build->root, "vcpu");
    const char *placement = "static";
    g_autofree char *text = xml_attr(vcpu, "cpuset");
    if (!launch_word(vcpu, "placement", placements, &placement, error))
        return FALSE;
    if (strcmp(placement, "auto") == 0)
        launch_note(build,
                    "<vcpu placement='auto'> is not applied: the host's scheduler places the processors");
    if (!text)
        return TRUE;
    g_auto(GStrv) words = g_strsplit(text, ",", -1);
    gboolean ok = TRUE;
    CPU_ZERO(&build->launch->cpus);
    for (guint i = 0; words[i] && ok; i++)
        ok = read_range(g_strstrip(words[i]), &build->launch->cpus);
    if (ok && CPU_COUNT(&build->launch->cpus) > 0) {
        build->launch->pinned = TRUE;
        return TRUE;
    }
    xml_set_error(error, EINVAL, vcpu, "cpuset='%s' is not a list of processors (0-%d)", text,
                  CPU_SETSIZE - 1);
    return FALSE;
}

/* --- which --- */

static gboolean is_i686(const LaunchBuild *build)
{
    g_autofree char *arch = xml_attr(xml_child(xml_child(build->root, "os"), "type"), "arch");
    return g_strcmp0(arch, "i686") == 0;
}

/* The processor that the host has, as far as it can be had. */
static gboolean append_host(LaunchBuild *build, const xmlNode *cpu, const char *mode, GString *list,
                            GError **error)
{
    const char *migratable = NULL;
    if (!launch_word(cpu, "migratable", launch_switch, &migratable, error))
        return FALSE;
    g_string_append(list, build->kvm ? "host" : "max");
    if (migratable && build->kvm)
        g_string_append_printf(list, ",migratable=%s", migratable);
    if (!build->kvm)
        launch_note(build, "<cpu mode='%s'> needs KVM: the emulated processor with all features is used",
                    mode);
    else if (strcmp(mode, "host-model") == 0)
        launch_note(build, "<cpu mode='host-model'> is taken as host-passthrough");
    return TRUE;
}

static gboolean append_model(const LaunchBuild *build, const xmlNode *cpu, GString *list, GError **error)
{
    const xmlNode *model = xml_child(cpu, "model");
    g_autofree char *name = launch_text(model);
    g_autofree char *vendor = xml_attr(model, "vendor_id");
    if ((name && !launch_plain(model, name, error)) || !launch_vendor(model, vendor, 12, error))
        return FALSE;
    g_string_append(list, name ? name : is_i686(build) ? "qemu32" : "qemu64");
    if (vendor)
        g_string_append_printf(list, ",vendor=%s", vendor);
    return TRUE;
}

/* Features by name. *ret_optional: one may be missing. */
static gboolean append_named(const xmlNode *cpu, GString *list, gboolean *ret_optional, GError **error)
{
    static const LaunchWord policies[] = {{"force", "on"},    {"require", "on"}, {"optional", "on"},
                                          {"disable", "off"}, {"forbid", "off"}, {NULL, NULL}};
    *ret_optional = FALSE;
    for (const xmlNode *node = xml_child(cpu, "feature"); node; node = xml_next(node, "feature")) {
        const char *state = "on";
        g_autofree char *name = xml_attr(node, "name"), *policy = xml_attr(node, "policy");
        if (!launch_word(node, "policy", policies, &state, error) || !launch_plain(node, name, error))
            return FALSE;
        g_string_append_printf(list, ",%s=%s", name, state);
        *ret_optional |= g_strcmp0(policy, "optional") == 0;
    }
    return TRUE;
}

/* The host's caches can only be had with the host's processor. */
static gboolean append_cache(const xmlNode *cpu, gboolean host, GString *list, GError **error)
{
    static const LaunchWord hosts[] = {{"passthrough", "host-cache-info=on,l3-cache=off"},
                                       {"emulate", "host-cache-info=off,l3-cache=on"},
                                       {"disable", "host-cache-info=off,l3-cache=off"},
                                       {NULL, NULL}};
    static const LaunchWord models[] = {
        {"emulate", "l3-cache=on"}, {"disable", "l3-cache=off"}, {NULL, NULL}};
    const xmlNode *cache = xml_child(cpu, "cache");
    const char *mode = NULL;
    guint64 level = 3;
    if (!launch_word(cache, "mode", host ? hosts : models, &mode, error) ||
        !launch_number(cache, "level", 3, 3, &level, error))
        return FALSE;
    if (mode)
        g_string_append_printf(list, ",%s", mode);
    return TRUE;
}

static gboolean append_address_bits(const xmlNode *cpu, GString *list, GError **error)
{
    static const LaunchWord modes[] = {{"passthrough", "on"}, {"emulate", "off"}, {NULL, NULL}};
    const xmlNode *node = xml_child(cpu, "maxphysaddr");
    const char *host = NULL;
    guint64 bits = 0;
    if (!launch_word(node, "mode", modes, &host, error) || !launch_number(node, "bits", 32, 52, &bits, error))
        return FALSE;
    if (host)
        g_string_append_printf(list, ",host-phys-bits=%s", host);
    if (bits)
        g_string_append_printf(list, ",phys-bits=%u", (guint)bits);
    return TRUE;
}

static gboolean append_cpu(LaunchBuild *build, const xmlNode *cpu, GString *list, gboolean *ret_full,
                           GError **error)
{
    static const LaunchWord modes[] = {{"host-passthrough", "host-passthrough"},
                                       {"host-model", "host-model"},
                                       {"maximum", "maximum"},
                                       {"custom", "custom"},
                                       {NULL, NULL}};
    static const LaunchWord matches[] = {{"exact", "exact"}, {NULL, NULL}};
    static const LaunchWord checks[] = {{"none", NULL}, {"partial", NULL}, {"full", "full"}, {NULL, NULL}};
    const char *mode = "custom", *match = NULL, *check = NULL;
    gboolean optional;
    if (!launch_word(cpu, "mode", modes, &mode, error) ||
        !launch_word(cpu, "match", matches, &match, error) ||
        !launch_word(cpu, "check", checks, &check, error))
        return FALSE;
    gboolean ok = strcmp(mode, "custom") == 0    ? append_model(build, cpu, list, error)
                  : strcmp(mode, "maximum") == 0 ? g_string_append(list, "max") != NULL
                                                 : append_host(build, cpu, mode, list, error);
    if (!ok || !append_named(cpu, list, &optional, error))
        return FALSE;
    *ret_full = check != NULL && !optional && build->kvm;
    return append_cache(cpu, strcmp(mode, "custom") != 0, list, error) &&
           append_address_bits(cpu, list, error);
}

gboolean launch_cpu(LaunchBuild *build, GError **error)
{
    const xmlNode *cpu = xml_child(build->root, "cpu");
    g_autoptr(GString) list = g_string_new(NULL);
    gboolean full;
    if (!append_cpu(build, cpu, list, &full, error) || !launch_cpu_flags(build, list, error))
        return FALSE;
    /* Rather no machine than one with other features than the state in memory was made with. */
    if (full)
        g_string_append(list, ",enforce");
    launch_add(build, "-cpu", list->str);
    return add_smp(build, error) && read_cpuset(build, error);
}
