/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time, sleep, and what happens at the guest's end. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

/* --- what time it is --- */

/* A point in time as QEMU reads it. */
static char *date_text(gint64 seconds)
{
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_utc(seconds);
    return date ? g_date_time_format(date, "%Y-%m-%dT%H:%M:%S") : NULL;
}

static gboolean read_seconds(const xmlNode *clock, const char *attr, gint64 *ret_seconds, GError **error)
{
    g_autofree char *text = xml_attr(clock, attr);
    *ret_seconds = 0;
    if (!text || g_str_equal(text, "reset") ||
        (number_from_string(text, ret_seconds) && ABS(*ret_seconds) < G_GINT64_CONSTANT(1) << 40))
        return TRUE;
    xml_set_error(error, EINVAL, clock, "%s='%s' is not a number of seconds", attr, text);
    return FALSE;
}

static char *clock_base(const LaunchBuild *build, const xmlNode *clock, GError **error)
{
    static const LaunchWord offsets[] = {{"utc", "utc"},
                                         {"localtime", "localtime"},
                                         {"variable", "variable"},
                                         {"absolute", "absolute"},
                                         {NULL, NULL}};
    static const LaunchWord bases[] = {{"utc", "utc"}, {NULL, NULL}};
    const char *offset = "utc", *basis = NULL;
    gint64 adjustment, start;
    if (!launch_word(clock, "offset", offsets, &offset, error) ||
        !launch_word(clock, "basis", bases, &basis, error) ||
        !read_seconds(clock, "adjustment", &adjustment, error) ||
        !read_seconds(clock, "start", &start, error))
        return NULL;
    if (strcmp(offset, "absolute") == 0)
        return date_text(start);
    if (strcmp(offset, "variable") == 0)
        return adjustment == 0 ? g_strdup("utc") : date_text(build->spec->now + adjustment);
    return g_strdup(offset);
}

/* --- timers --- */

typedef struct {
    const char *name;
    gboolean present, policy, track, rate; /* which attributes it may have */
} Timer;

static const Timer timers[] = {
    {"rtc", .policy = TRUE, .track = TRUE},
    {"pit", .policy = TRUE},
    {"hpet", .present = TRUE},
    {"tsc", .rate = TRUE},
    {"kvmclock", .present = TRUE},
    {"hypervclock", .present = TRUE},
};

static gboolean refuse_attr(const xmlNode *timer, const char *attr, gboolean may, GError **error)
{
    g_autofree char *value = xml_attr(timer, attr);
    if (may || !value || (g_str_equal(attr, "present") && g_str_equal(value, "yes")))
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, timer, "%s='%s' is not supported of this timer", attr, value);
    return FALSE;
}

static gboolean check_timer(const xmlNode *timer, GError **error)
{
    g_autofree char *name = xml_attr(timer, "name");
    for (guint i = 0; i < G_N_ELEMENTS(timers); i++) {
        const Timer *known = &timers[i];
        if (g_strcmp0(name, known->name) == 0)
            return refuse_attr(timer, "present", known->present, error) &&
                   refuse_attr(timer, "tickpolicy", known->policy, error) &&
                   refuse_attr(timer, "track", known->track, error) &&
                   refuse_attr(timer, "frequency", known->rate, error) &&
                   refuse_attr(timer, "mode", FALSE, error);
    }
    xml_set_error(error, EOPNOTSUPP, timer, "name='%s' is not supported", name ? name : "");
    return FALSE;
}

static gboolean add_timer(LaunchBuild *build, const xmlNode *timer, GString *rtc, GError **error)
{
    static const LaunchWord rtc_policies[] = {{"delay", NULL}, {"catchup", "slew"}, {NULL, NULL}};
    static const LaunchWord pit_policies[] = {{"delay", "delay"}, {"discard", "discard"}, {NULL, NULL}};
    static const LaunchWord tracks[] = {{"guest", "vm"}, {"wall", "host"}, {"realtime", "rt"}, {NULL, NULL}};
    g_autofree char *name = xml_attr(timer, "name");
    const char *policy = NULL, *track = NULL;
    if (!check_timer(timer, error))
        return FALSE;
    if (strcmp(name, "rtc") == 0) {
        if (!launch_word(timer, "tickpolicy", rtc_policies, &policy, error) ||
            !launch_word(timer, "track", tracks, &track, error))
            return FALSE;
        if (track)
            g_string_append_printf(rtc, ",clock=%s", track);
        if (policy)
            g_string_append_printf(rtc, ",driftfix=%s", policy);
    } else if (strcmp(name, "pit") == 0) {
        if (!launch_word(timer, "tickpolicy", pit_policies, &policy, error))
            return FALSE;
        g_autofree char *global = g_strconcat("kvm-pit.lost_tick_policy=", policy, NULL);
        if (policy && build->kvm) /* there is no such device elsewhere */
            launch_add(build, "-global", global);
    }
    return TRUE;
}

/* Sleep states: a property of the chipset's power management. */
static gboolean add_sleep(LaunchBuild *build, GError **error)
{
    static const struct {
        const char *element, *property;
    } states[] = {{"suspend-to-mem", "disable_s3"}, {"suspend-to-disk", "disable_s4"}};
    const xmlNode *pm = xml_child(build->root, "pm");
    for (guint i = 0; i < G_N_ELEMENTS(states); i++) {
        const char *enabled = NULL;
        if (!launch_word(xml_child(pm, states[i].element), "enabled", launch_switch, &enabled, error))
            return FALSE;
        g_autofree char *global = g_strdup_printf("%s.%s=%d", build->q35 ? "ICH9-LPC" : "PIIX4_PM",
                                                  states[i].property, g_strcmp0(enabled, "off") == 0);
        if (enabled)
            launch_add(build, "-global", global);
    }
    return TRUE;
}

gboolean launch_clock(LaunchBuild *build, GError **error)
{
    const xmlNode *clock = xml_child(build->root, "clock");
    g_autofree char *base = clock_base(build, clock, error);
    if (!base)
        return FALSE;
    g_autoptr(GString) rtc = g_string_new("base=");
    g_string_append(rtc, base);
    for (const xmlNode *timer = xml_child(clock, "timer"); timer; timer = xml_next(timer, "timer"))
        if (!add_timer(build, timer, rtc, error))
            return FALSE;
    launch_add(build, "-rtc", rtc->str);
    return add_sleep(build, error);
}

/* --- the end --- */

static gboolean read_action(const LaunchBuild *build, const char *name, LaunchAction *action, GError **error)
{
    static const char *const words[] = {"destroy", "restart", "preserve"};
    const xmlNode *node = xml_child(build->root, name);
    g_autofree char *text = launch_text(node);
    for (guint i = 0; text && i < G_N_ELEMENTS(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *action = (LaunchAction)i;
            return TRUE;
        }
    }
    if (!text)
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, node, "'%s' is not supported (destroy, restart, preserve are)", text);
    return FALSE;
}

/*
 * QEMU ends, or stops where it is and is left to us. A guest that may not reboot shuts down instead, so there
 * its end must be the same in both.
 */
gboolean launch_actions(LaunchBuild *build, GError **error)
{
    Launch *launch = build->launch;
    LaunchAction reboot = LAUNCH_RESTART;
    if (!read_action(build, "on_poweroff", &launch->on_poweroff, error) ||
        !read_action(build, "on_reboot", &reboot, error) ||
        !read_action(build, "on_crash", &launch->on_crash, error))
        return FALSE;
    if (reboot != LAUNCH_RESTART && reboot != launch->on_poweroff) {
        xml_set_error(
            error, EOPNOTSUPP, xml_child(build->root, "on_reboot"),
            "together with that <on_poweroff> it is not supported: QEMU cannot tell a reboot that it may "
            "not do from a power-off");
        return FALSE;
    }
    g_autofree char *actions =
        g_strdup_printf("reboot=%s,shutdown=%s,panic=%s", reboot == LAUNCH_RESTART ? "reset" : "shutdown",
                        launch->on_poweroff == LAUNCH_DESTROY ? "poweroff" : "pause",
                        launch->on_crash == LAUNCH_DESTROY ? "shutdown" : "pause");
    launch_add(build, "-action", actions);
    return TRUE;
}
