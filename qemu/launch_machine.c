/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The machine without its devices: program, chipset, memory, firmware, what is booted from. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

static char *find_program(const LaunchBuild *build, const char *name)
{
    return build->spec->find_program ? build->spec->find_program(name) : g_find_program_in_path(name);
}

/* --- the program --- */

static const char *const *usual_programs(const LaunchBuild *build, GError **error)
{
    static const char *const x86_64[] = {"qemu-system-x86_64", "/usr/libexec/qemu-kvm", NULL};
    static const char *const i686[] = {"qemu-system-i386", "qemu-system-x86_64", NULL};
    const xmlNode *type = xml_child(xml_child(build->root, "os"), "type");
    g_autofree char *arch = xml_attr(type, "arch");
    if (!arch || strcmp(arch, "x86_64") == 0)
        return x86_64;
    if (strcmp(arch, "i686") == 0)
        return i686;
    xml_set_error(error, EOPNOTSUPP, type, "arch='%s' is not supported (x86_64 and i686 are)", arch);
    return NULL;
}

static const xmlNode *emulator_node(const LaunchBuild *build)
{
    g_autoptr(GPtrArray) nodes = launch_devices(build->root, "emulator");
    return nodes->len > 0 ? nodes->pdata[0] : NULL;
}

/* Caller frees. */
static char *choose_program(LaunchBuild *build, GError **error)
{
    const char *const *usual = usual_programs(build, error);
    const xmlNode *node = emulator_node(build);
    g_autofree char *named = launch_text(node);
    if (!usual || (named && !launch_path(node, named, error)))
        return NULL;
    char *found = named ? find_program(build, named) : NULL;
    for (guint i = 0; !found && usual[i]; i++) {
        found = find_program(build, usual[i]);
        if (found && named)
            launch_note(build, "<emulator> '%s' is not there: '%s' is started instead", named, found);
    }
    if (!found && named)
        xml_set_error(error, ENOENT, node, "'%s' is not there, nor is %s", named, usual[0]);
    else if (!found)
        snap_set_error(error, ENOENT, "%s is not installed", usual[0]);
    return found;
}

static gboolean add_program(LaunchBuild *build, GError **error)
{
    g_autofree char *program = choose_program(build, error);
    g_autofree char *name = launch_escape(build->launch->def->name);
    g_autofree char *guest = g_strdup_printf("guest=%s,debug-threads=on", name);
    if (!program)
        return FALSE;
    launch_add(build, program, NULL);
    launch_add(build, "-name", guest);
    launch_add(build, "-uuid", build->launch->def->uuid);
    launch_add(build, "-S", NULL);
    launch_add(build, "-nodefaults", NULL);
    launch_add(build, "-no-user-config", NULL);
    return TRUE;
}

/* --- chipset --- */

/* <features><@name state='on'/> as ",@option=on". Without state= it is on. */
static gboolean append_state(GString *list, const xmlNode *features, const char *name, const char *option,
                             GError **error)
{
    const xmlNode *node = xml_child(features, name);
    const char *state = "on";
    if (!node)
        return TRUE;
    if (!launch_word(node, "state", launch_switch, &state, error))
        return FALSE;
    g_string_append_printf(list, ",%s=%s", option, state);
    return TRUE;
}

static gboolean append_features(const LaunchBuild *build, GString *list, GError **error)
{
    static const LaunchWord chips[] = {{"kvm", "on"}, {"qemu", "split"}, {NULL, NULL}};
    const xmlNode *features = xml_child(build->root, "features");
    const char *chip = NULL;
    if (!xml_child(features, "acpi"))
        g_string_append(list, ",acpi=off");
    if (!append_state(list, features, "vmport", "vmport", error) ||
        !append_state(list, features, "smm", "smm", error) ||
        !launch_word(xml_child(features, "ioapic"), "driver", chips, &chip, error))
        return FALSE;
    if (chip && build->kvm)
        g_string_append_printf(list, ",kernel-irqchip=%s", chip);
    return TRUE;
}

static const xmlNode *find_timer(const LaunchBuild *build, const char *name)
{
    const xmlNode *clock = xml_child(build->root, "clock");
    for (const xmlNode *timer = xml_child(clock, "timer"); timer; timer = xml_next(timer, "timer")) {
        g_autofree char *is = xml_attr(timer, "name");
        if (g_strcmp0(is, name) == 0)
            return timer;
    }
    return NULL;
}

static gboolean add_chipset(LaunchBuild *build, GError **error)
{
    const xmlNode *type = xml_child(xml_child(build->root, "os"), "type");
    g_autofree char *machine = xml_attr(type, "machine");
    g_autofree char *os = launch_text(type);
    const char *hpet = NULL;
    g_autoptr(GString) list = g_string_new(machine ? machine : "pc");
    if (os && strcmp(os, "hvm") != 0) {
        xml_set_error(error, EOPNOTSUPP, type, "'%s' is not supported (hvm is)", os);
        return FALSE;
    }
    g_string_append(list, ",usb=off,dump-guest-core=off");
    if (!append_features(build, list, error) ||
        !launch_word(find_timer(build, "hpet"), "present", launch_switch, &hpet, error))
        return FALSE;
    if (hpet)
        g_string_append_printf(list, ",hpet=%s", hpet);
    if (!launch_firmware(build, list, error))
        return FALSE;
    launch_add(build, "-machine", list->str);
    launch_add(build, "-accel", build->kvm ? "kvm" : "tcg");
    return TRUE;
}

/* --- memory --- */

static gboolean read_size(const xmlNode *node, guint64 *ret_bytes, GError **error)
{
    g_autofree char *unit = xml_attr(node, "unit");
    g_autofree char *text = launch_text(node);
    if (text && size_from_string(text, unit ? unit : "KiB", ret_bytes) && *ret_bytes > 0)
        return TRUE;
    xml_set_error(error, EINVAL, node, "'%s' is not an amount of memory", text ? text : "");
    return FALSE;
}

static gboolean has_balloon(const LaunchBuild *build)
{
    g_autoptr(GPtrArray) balloons = launch_devices(build->root, "memballoon");
    g_autofree char *model = balloons->len > 0 ? xml_attr(balloons->pdata[0], "model") : NULL;
    return balloons->len > 0 && g_strcmp0(model, "none") != 0;
}

/* Whole MiB, as libvirt has it. */
static gboolean add_memory(LaunchBuild *build, GError **error)
{
    const xmlNode *memory = xml_child(build->root, "memory");
    const xmlNode *current = xml_child(build->root, "currentMemory");
    guint64 bytes, now;
    if (!memory) {
        xml_set_error(error, EINVAL, build->root, "the domain has no <memory>");
        return FALSE;
    }
    if (!read_size(memory, &bytes, error))
        return FALSE;
    now = bytes;
    if (current && !read_size(current, &now, error))
        return FALSE;
    g_autofree char *size = g_strdup_printf("size=%" G_GUINT64_FORMAT "M", (bytes + (1 << 20) - 1) >> 20);
    launch_add(build, "-m", size);
    if (now >= bytes)
        return TRUE;
    if (has_balloon(build))
        launch_command(build, "balloon", json_pack("{s:I}", "value", (json_int_t)now));
    else
        launch_note(build, "<currentMemory> is not applied: the machine has no <memballoon>");
    return TRUE;
}

gboolean launch_machine(LaunchBuild *build, GError **error)
{
    return add_program(build, error) && add_chipset(build, error) && add_memory(build, error);
}
