/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Controllers: those of PCI first, since the others are on them. */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "launch_parts.h"

static guint index_of(const xmlNode *controller)
{
    guint64 index = 0;
    (void)launch_number(controller, "index", 0, G_MAXUINT32, &index, NULL);
    return (guint)index;
}

static gboolean type_is(const xmlNode *controller, const char *type)
{
    g_autofree char *is = xml_attr(controller, "type");
    return g_strcmp0(is, type) == 0;
}

static json_t *new_controller(const char *driver, const char *kind, guint index)
{
    g_autofree char *id = g_strdup_printf("%s%u", kind, index);
    return launch_object(driver, id);
}

/* Put in its place and on the command line. Takes @object. */
static gboolean add_placed(LaunchBuild *build, const xmlNode *node, json_t *object, GError **error)
{
    gboolean ok = launch_place(build, object, node, error);
    if (ok)
        launch_add_json(build, "-device", object);
    else
        json_decref(object);
    return ok;
}

/* --- PCI --- */

static const LaunchWord pci_models[] = {{"pcie-root-port", "pcie-root-port"},
                                        {"pci-bridge", "pci-bridge"},
                                        {"dmi-to-pci-bridge", "i82801b11-bridge"},
                                        {"pcie-to-pci-bridge", "pcie-pci-bridge"},
                                        {"pcie-switch-upstream-port", "x3130-upstream"},
                                        {"pcie-switch-downstream-port", "xio3130-downstream"},
                                        {NULL, NULL}};

/* <model name=>: a root port is one of two, of the others there is one each. */
static gboolean choose_pci_driver(const xmlNode *node, const char **driver, GError **error)
{
    static const LaunchWord names[] = {{"pcie-root-port", "pcie-root-port"},
                                       {"ioh3420", "ioh3420"},
                                       {"pci-bridge", "pci-bridge"},
                                       {"i82801b11-bridge", "i82801b11-bridge"},
                                       {"pcie-pci-bridge", "pcie-pci-bridge"},
                                       {"x3130-upstream", "x3130-upstream"},
                                       {"xio3130-downstream", "xio3130-downstream"},
                                       {NULL, NULL}};
    if (!launch_word(node, "model", pci_models, driver, error))
        return FALSE;
    if (*driver)
        return launch_word(xml_child(node, "model"), "name", names, driver, error);
    xml_set_error(error, EINVAL, node, "model='...' is missing");
    return FALSE;
}

static gboolean set_target(json_t *object, const xmlNode *node, guint index, GError **error)
{
    const xmlNode *target = xml_child(node, "target");
    const char *driver = json_string_value(json_object_get(object, "driver"));
    gboolean port = strcmp(driver, "pcie-root-port") == 0 || strcmp(driver, "ioh3420") == 0 ||
                    strcmp(driver, "xio3130-downstream") == 0;
    gboolean bridge = strcmp(driver, "pci-bridge") == 0;
    guint64 number = index;
    if (!launch_number(target, port ? "chassis" : "chassisNr", 0, 255, &number, error))
        return FALSE;
    if (port || bridge)
        json_object_set_new(object, port ? "chassis" : "chassis_nr", json_integer((json_int_t)number));
    return (!port || launch_set_number(object, "port", target, "port", 255, error)) &&
           (strcmp(driver, "pcie-root-port") != 0 ||
            launch_set_switch(object, "hotplug", target, "hotplug", error));
}

static gboolean add_pci(LaunchBuild *build, const xmlNode *node, guint index, GError **error)
{
    const char *driver = NULL;
    if (!choose_pci_driver(node, &driver, error))
        return FALSE;
    json_t *object = new_controller(driver, "pci.", index);
    if (set_target(object, node, index, error))
        return add_placed(build, node, object, error);
    json_decref(object);
    return FALSE;
}

/* The bus that comes with the machine. */
static gboolean check_root(const LaunchBuild *build, const xmlNode *node, GError **error)
{
    const char *model = NULL;
    const LaunchWord roots[] = {{build->q35 ? "pcie-root" : "pci-root", ""}, {NULL, NULL}};
    return launch_word(node, "model", roots, &model, error);
}

/* A bridge has to be there before what is behind it: libvirt, too, wants the lower number above. */
static gboolean add_all_pci(LaunchBuild *build, const GPtrArray *all, GError **error)
{
    for (guint index = 0; index <= 255; index++) {
        for (guint i = 0; i < all->len; i++) {
            const xmlNode *node = all->pdata[i];
            if (!type_is(node, "pci") || index_of(node) != index)
                continue;
            if (index == 0 ? !check_root(build, node, error) : !add_pci(build, node, index, error))
                return FALSE;
        }
    }
    return TRUE;
}

/* --- USB --- */

static const LaunchWord usb_models[] = {{"piix3-uhci", "piix3-usb-uhci"},
                                        {"piix4-uhci", "piix4-usb-uhci"},
                                        {"ehci", "usb-ehci"},
                                        {"ich9-ehci1", "ich9-usb-ehci1"},
                                        {"ich9-uhci1", "ich9-usb-uhci1"},
                                        {"ich9-uhci2", "ich9-usb-uhci2"},
                                        {"ich9-uhci3", "ich9-usb-uhci3"},
                                        {"pci-ohci", "pci-ohci"},
                                        {"nec-xhci", "nec-usb-xhci"},
                                        {"qemu-xhci", "qemu-xhci"},
                                        {"none", ""},
                                        {NULL, NULL}};

/* A companion serves ports of the controller that has its index and is not one. */
static gboolean set_master(json_t *object, const xmlNode *master, guint index, GError **error)
{
    g_autofree char *bus = g_strdup_printf("usb%u.0", index);
    json_object_set_new(object, "masterbus", json_string(bus));
    return launch_set_number(object, "firstport", master, "startport", 15, error);
}

static gboolean add_usb(LaunchBuild *build, const xmlNode *node, GError **error)
{
    const xmlNode *master = xml_child(node, "master");
    const char *driver = NULL;
    guint64 ports = 0;
    guint index = index_of(node);
    if (!launch_word(node, "model", usb_models, &driver, error) ||
        !launch_number(node, "ports", 1, 15, &ports, error))
        return FALSE;
    if (*driver == '\0')
        return TRUE;
    g_autofree char *start = xml_attr(master, "startport");
    g_autofree char *id = g_strdup_printf("usb%u%s%s", index, master ? ".from" : "", start ? start : "");
    json_t *object = launch_object(driver, id);
    if (strstr(driver, "xhci") && ports > 0) {
        json_object_set_new(object, "p2", json_integer((json_int_t)ports));
        json_object_set_new(object, "p3", json_integer((json_int_t)ports));
    } else if (ports > 0) {
        xml_set_error(error, EOPNOTSUPP, node, "ports='%u' is not supported of this model", (guint)ports);
    }
    if ((ports == 0 || strstr(driver, "xhci")) && (!master || set_master(object, master, index, error)))
        return add_placed(build, node, object, error);
    json_decref(object);
    return FALSE;
}

/* --- disks --- */

static const LaunchWord scsi_models[] = {
    {"virtio-scsi", "virtio-scsi-pci"}, {"lsilogic", "lsi53c895a"}, {NULL, NULL}};

static gboolean set_scsi_options(json_t *object, const xmlNode *node, gboolean virtio, GError **error)
{
    const xmlNode *driver = xml_child(node, "driver");
    if (virtio)
        return launch_set_number(object, "num_queues", driver, "queues", 1024, error) &&
               launch_set_number(object, "cmd_per_lun", driver, "cmd_per_lun", 65535, error) &&
               launch_set_number(object, "max_sectors", driver, "max_sectors", G_MAXINT32, error) &&
               launch_set_switch(object, "ioeventfd", driver, "ioeventfd", error);
    if (!driver || !driver->properties)
        return TRUE;
    xml_set_error(error, EOPNOTSUPP, driver, "it is supported of model='virtio-scsi' only");
    return FALSE;
}

static gboolean add_scsi(LaunchBuild *build, const xmlNode *node, GError **error)
{
    const char *driver = NULL;
    if (!launch_word(node, "model", scsi_models, &driver, error))
        return FALSE;
    json_t *object = new_controller(driver, "scsi", index_of(node));
    if (set_scsi_options(object, node, strcmp(driver, "virtio-scsi-pci") == 0, error))
        return add_placed(build, node, object, error);
    json_decref(object);
    return FALSE;
}

static gboolean refuse_models(const xmlNode *node, const LaunchWord *words, GError **error)
{
    const char *model = NULL;
    return launch_word(node, "model", words, &model, error);
}

/* A q35 machine has one. */
static gboolean add_sata(LaunchBuild *build, const xmlNode *node, GError **error)
{
    static const LaunchWord models[] = {{"ahci", ""}, {NULL, NULL}};
    if (!refuse_models(node, models, error))
        return FALSE;
    if (build->q35 && index_of(node) == 0)
        return TRUE;
    return add_placed(build, node, new_controller("ich9-ahci", "sata", index_of(node)), error);
}

/*
 * A pc has one, with two buses. What documents put on a third bus and beyond gets a controller of the kind
 * that QEMU's drives can also be on.
 */
static gboolean add_ide(LaunchBuild *build, const xmlNode *node, GError **error)
{
    static const LaunchWord models[] = {{"piix3", ""}, {"piix4", ""}, {NULL, NULL}};
    if (!refuse_models(node, models, error))
        return FALSE;
    if (build->q35) {
        xml_set_error(error, EOPNOTSUPP, node, "a q35 machine has no type='ide' (it has sata)");
        return FALSE;
    }
    guint index = index_of(node);
    if (index == 0)
        return TRUE;
    launch_note(build, "a pc has two IDE buses: the drives of IDE bus %u and %u are on an AHCI controller",
                2 * index, 2 * index + 1);
    return add_placed(build, node, new_controller("ich9-ahci", "ide", index), error);
}

/* A pc has one. */
static gboolean add_fdc(LaunchBuild *build, const xmlNode *node, GError **error)
{
    static const LaunchWord none[] = {{NULL, NULL}};
    if (!refuse_models(node, none, error))
        return FALSE;
    if (index_of(node) > 0) {
        xml_set_error(error, EOPNOTSUPP, node, "a machine has one controller for floppies");
        return FALSE;
    }
    if (build->q35)
        launch_add_json(build, "-device", launch_object("isa-fdc", "fdc0"));
    return TRUE;
}

/* --- virtio-serial --- */

static gboolean add_virtio_serial(LaunchBuild *build, const xmlNode *node, GError **error)
{
    static const LaunchWord models[] = {{"virtio", ""}, {NULL, NULL}};
    if (!refuse_models(node, models, error))
        return FALSE;
    json_t *object = new_controller("virtio-serial-pci", "virtio-serial", index_of(node));
    if (launch_set_number(object, "max_ports", node, "ports", 31, error) &&
        launch_set_number(object, "vectors", node, "vectors", 2048, error))
        return add_placed(build, node, object, error);
    json_decref(object);
    return FALSE;
}

/* --- all --- */

typedef gboolean (*AddController)(LaunchBuild *build, const xmlNode *node, GError **error);

static const struct {
    const char *type;
    AddController add; /* NULL: added before */
} kinds[] = {
    {"pci", NULL},
    {"usb", add_usb},
    {"ide", add_ide},
    {"sata", add_sata},
    {"scsi", add_scsi},
    {"fdc", add_fdc},
    {"virtio-serial", add_virtio_serial},
};

/* What is said only of one type must not be passed over with another. */
static gboolean check_parts(const xmlNode *node, GError **error)
{
    static const struct {
        const char *element, *type;
    } parts[] = {{"target", "pci"}, {"model", "pci"}, {"master", "usb"}, {"driver", "scsi"}};
    static const struct {
        const char *attr, *type, *other;
    } attrs[] = {{"ports", "usb", "virtio-serial"}, {"vectors", "virtio-serial", "virtio-serial"}};
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
        const xmlNode *part = xml_child(node, parts[i].element);
        if (part && !type_is(node, parts[i].type)) {
            xml_set_error(error, EOPNOTSUPP, part, "it is supported of a controller of type='%s' only",
                          parts[i].type);
            return FALSE;
        }
    }
    for (guint i = 0; i < G_N_ELEMENTS(attrs); i++) {
        g_autofree char *value = xml_attr(node, attrs[i].attr);
        if (value && !type_is(node, attrs[i].type) && !type_is(node, attrs[i].other)) {
            xml_set_error(error, EOPNOTSUPP, node, "%s='%s' is not supported of this type", attrs[i].attr,
                          value);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean add_other(LaunchBuild *build, const xmlNode *node, GError **error)
{
    if (!check_parts(node, error))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (type_is(node, kinds[i].type))
            return !kinds[i].add || kinds[i].add(build, node, error);
    g_autofree char *type = xml_attr(node, "type");
    if (type)
        xml_set_error(error, EOPNOTSUPP, node, "type='%s' is not supported", type);
    else
        xml_set_error(error, EINVAL, node, "type='...' is missing");
    return FALSE;
}

gboolean launch_controllers(LaunchBuild *build, GError **error)
{
    g_autoptr(GPtrArray) all = launch_devices(build->root, "controller");
    if (!add_all_pci(build, all, error))
        return FALSE;
    /* A companion needs its master: those last. */
    for (guint round = 0; round < 2; round++)
        for (guint i = 0; i < all->len; i++)
            if ((xml_child(all->pdata[i], "master") != NULL) == (round == 1) &&
                !add_other(build, all->pdata[i], error))
                return FALSE;
    return TRUE;
}
