/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small devices: random numbers, the balloon, watchdogs, what tells of a panic. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

/* Put in its place on PCI and on the command line. Takes @object. */
static gboolean add_placed(LaunchBuild *build, const xmlNode *node, json_t *object, gboolean ok,
                           GError **error)
{
    if (ok && launch_place(build, object, node, error)) {
        launch_add_json(build, "-device", object);
        return TRUE;
    }
    json_decref(object);
    return FALSE;
}

static gboolean refuse_model(const xmlNode *node, const LaunchWord *models, const char **model,
                             GError **error)
{
    return launch_word(node, "model", models, model, error);
}

/* --- rng --- */

static gboolean add_source(LaunchBuild *build, const xmlNode *node, const char *id, GError **error)
{
    static const LaunchWord models[] = {{"random", "rng-random"}, {"builtin", "rng-builtin"}, {NULL, NULL}};
    const xmlNode *backend = xml_child(node, "backend");
    const char *model = NULL;
    g_autofree char *path = launch_text(backend);
    if (!launch_word(backend, "model", models, &model, error))
        return FALSE;
    if (!model) {
        xml_set_error(error, EINVAL, node, "<backend model='...'> is missing");
        return FALSE;
    }
    json_t *object = json_pack("{s:s,s:s}", "qom-type", model, "id", id);
    if (strcmp(model, "rng-random") == 0) {
        if (path && !launch_path(backend, path, error)) {
            json_decref(object);
            return FALSE;
        }
        json_object_set_new(object, "filename", json_string(path ? path : "/dev/urandom"));
    }
    launch_add_json(build, "-object", object);
    return TRUE;
}

static gboolean add_rng(LaunchBuild *build, const xmlNode *node, guint number, GError **error)
{
    static const LaunchWord models[] = {{"virtio", ""}, {NULL, NULL}};
    const xmlNode *rate = xml_child(node, "rate");
    const char *model = NULL;
    g_autofree char *id = g_strdup_printf("rng%u", number), *source = g_strconcat("obj-", id, NULL);
    if (!refuse_model(node, models, &model, error) || !add_source(build, node, source, error))
        return FALSE;
    json_t *object = launch_object("virtio-rng-pci", id);
    json_object_set_new(object, "rng", json_string(source));
    guint64 period = 1000;
    gboolean ok = launch_set_number(object, "max-bytes", rate, "bytes", G_MAXINT32, error) &&
                  launch_number(rate, "period", 1, G_MAXINT32, &period, error);
    if (rate)
        json_object_set_new(object, "period", json_integer((json_int_t)period));
    return add_placed(build, node, object, ok, error);
}

/* --- balloon --- */

static gboolean add_balloon(LaunchBuild *build, const xmlNode *node, guint number, GError **error)
{
    static const LaunchWord models[] = {{"virtio", "virtio-balloon-pci"}, {"none", NULL}, {NULL, NULL}};
    const char *driver = NULL;
    if (!refuse_model(node, models, &driver, error))
        return FALSE;
    if (!driver)
        return TRUE;
    if (number > 0) {
        xml_set_error(error, EINVAL, node, "a machine has one balloon");
        return FALSE;
    }
    json_t *object = launch_object(driver, "balloon0");
    gboolean ok = launch_set_switch(object, "deflate-on-oom", node, "autodeflate", error) &&
                  launch_set_switch(object, "free-page-reporting", node, "freePageReporting", error);
    return add_placed(build, node, object, ok, error);
}

/* --- watchdog --- */

/* All watchdogs of a machine do the same. */
static gboolean add_watchdog_action(LaunchBuild *build, const xmlNode *node, GError **error)
{
    static const LaunchWord actions[] = {
        {"reset", "reset"}, {"shutdown", "shutdown"}, {"poweroff", "poweroff"},
        {"pause", "pause"}, {"none", "none"},         {"inject-nmi", "inject-nmi"},
        {NULL, NULL}};
    const char *action = "reset";
    if (!launch_word(node, "action", actions, &action, error))
        return FALSE;
    g_autofree char *text = g_strconcat("watchdog=", action, NULL);
    launch_add(build, "-action", text);
    return TRUE;
}

static gboolean add_watchdog(LaunchBuild *build, const xmlNode *node, guint number, GError **error)
{
    static const LaunchWord models[] = {
        {"i6300esb", "i6300esb"}, {"ib700", "ib700"}, {"itco", "itco"}, {NULL, NULL}};
    const char *model = NULL;
    g_autofree char *id = g_strdup_printf("watchdog%u", number);
    if (!refuse_model(node, models, &model, error))
        return FALSE;
    if (!model || (strcmp(model, "itco") == 0 && !build->q35)) {
        xml_set_error(error, model ? EOPNOTSUPP : EINVAL, node,
                      model ? "model='itco' is a part of q35 machines only" : "model='...' is missing");
        return FALSE;
    }
    if (!add_watchdog_action(build, node, error))
        return FALSE;
    if (strcmp(model, "i6300esb") == 0)
        return add_placed(build, node, launch_object(model, id), TRUE, error);
    if (strcmp(model, "ib700") == 0)
        launch_add_json(build, "-device", launch_object(model, id));
    else /* it is there, but cannot do anything */
        launch_add(build, "-global", "ICH9-LPC.noreboot=off");
    return TRUE;
}

/* --- panic --- */

static gboolean add_panic(LaunchBuild *build, const xmlNode *node, guint number, GError **error)
{
    static const LaunchWord models[] = {{"isa", "isa"}, {"hyperv", "hyperv"}, {NULL, NULL}};
    const char *model = "isa";
    guint64 port = 0x505;
    g_autofree char *id = g_strdup_printf("panic%u", number);
    if (!refuse_model(node, models, &model, error) ||
        !launch_number(xml_child(node, "address"), "iobase", 0, 0xffff, &port, error))
        return FALSE;
    if (strcmp(model, "hyperv") == 0)
        return TRUE; /* launch_cpuflags.c */
    json_t *object = launch_object("pvpanic", id);
    json_object_set_new(object, "ioport", json_integer((json_int_t)port));
    launch_add_json(build, "-device", object);
    return TRUE;
}

typedef gboolean (*AddOther)(LaunchBuild *build, const xmlNode *node, guint number, GError **error);

gboolean launch_others(LaunchBuild *build, GError **error)
{
    static const struct {
        const char *name;
        AddOther add;
    } kinds[] = {
        {"rng", add_rng}, {"memballoon", add_balloon}, {"watchdog", add_watchdog}, {"panic", add_panic}};
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GPtrArray) all = launch_devices(build->root, kinds[i].name);
        for (guint n = 0; n < all->len; n++)
            if (!kinds[i].add(build, all->pdata[n], n, error))
                return FALSE;
    }
    return TRUE;
}
