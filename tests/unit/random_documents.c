/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "random_documents.h"

#include <string.h>

/* --- <domain> --- */

static void add_raw(Node *parent, NodeFlags kind, const char *text)
{
    Node *node = node_add(parent, "raw", kind);
    node->text = g_strdup(text);
}

/* What other programs keep there: the lines as libxml2 prints them, @indent deep. */
static void add_metadata(Node *domain, int indent)
{
    static const char *const lines[] = {
        "<metadata>",
        ("  <a:b xmlns:a=\"urn:a?b&#38;c\" a:c=\"it's &quot;&#xE9;&#10;&lt;\">t'\" &lt;<a:d/> "
         "<![CDATA[<&>]]></a:b>"),
        "  <e xmlns=\"urn:e\">",
        "    <!-- c -->",
        "    <f> </f>",
        "  </e>",
        "</metadata>"};
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(lines); i++)
        g_string_append_printf(text, "%*s%s\n", indent, "", lines[i]);
    add_raw(domain, NODE_VERBATIM, text->str);
}

/* Elements that are nobody's business, @depth deep at most. */
static void add_unknown(Node *parent, GRand *rand, guint depth)
{
    g_autofree char *value = random_text(rand, 4, "");
    if (one_in(rand, 4)) {
        add_raw(parent, NODE_RAW,
                one_of(rand, "<!-- a comment -->", "<?an instruction?>", "<m>mixed <b/> text</m>",
                       "<q:n q:a='1' xmlns:q='urn:q?a&amp;b'/>", NULL));
        return;
    }
    if (depth == 0 || one_in(rand, 2)) {
        Node *leaf = node_add_text(parent, one_of(rand, "memory", "vcpu", "title", "x.y-z_1", NULL), value);
        if (one_in(rand, 2))
            node_attr(leaf, one_of(rand, "unit", "name", "snapshot", NULL), value);
        return;
    }
    Node *node = node_add(parent, one_of(rand, "features", "cpu", "new", "disks", NULL), NODE_KEEP);
    for (gint32 n = g_rand_int_range(rand, 0, 3); n > 0; n--)
        add_unknown(node, rand, depth - 1);
}

static void add_backing(Node *disk, GRand *rand)
{
    Node *parent = disk;
    for (gint32 n = g_rand_int_range(rand, 0, 3); n > 0; n--) {
        g_autofree char *path = random_path(rand);
        gboolean block = one_in(rand, 3);
        Node *store = node_add(parent, "backingStore", NODE_KEEP);
        node_attr(store, "type", block ? "block" : "file");
        node_attr(node_add(store, "format", NODE_KEEP), "type", one_of(rand, "raw", "qcow2", "qed", NULL));
        node_attr(node_add(store, "source", NODE_KEEP), block ? "dev" : "file", path);
        parent = store;
    }
    if (one_in(rand, 2))
        node_add(parent, "backingStore", NODE_KEEP);
}

static void add_source(Node *disk, GRand *rand, const char *type)
{
    g_autofree char *path = random_path(rand);
    Node *source = node_add(disk, "source", NODE_KEEP);
    if (strcmp(type, "network") == 0) {
        node_attr(source, "protocol", "nbd");
        node_attr(source, "name", path);
    } else if (strcmp(type, "volume") == 0) {
        node_attr(source, "pool", "p");
        node_attr(source, "volume", path);
    } else {
        node_attr(source, strcmp(type, "block") == 0 ? "dev" : "file", path);
    }
    if (one_in(rand, 4))
        node_attr(source, "startupPolicy", "optional");
    if (one_in(rand, 4))
        node_attr(node_add(source, "seclabel", NODE_KEEP), "model", "dac");
}

static void add_disk(Node *devices, GRand *rand, guint i)
{
    Node *disk = node_add(devices, "disk", NODE_KEEP);
    const char *type = one_of(rand, "file", "file", "block", "network", "volume", NULL);
    const char *device = one_of(rand, "disk", "disk", "cdrom", "floppy", NULL);
    gboolean drive = device[0] != 'd';
    g_autofree char *target = g_strdup_printf("%s%c", one_of(rand, "vd", "hd", "sda-", NULL), 'a' + (int)i);
    node_attr(disk, "type", type);
    node_attr(disk, "device", device);
    if (one_in(rand, 3))
        node_attr(disk, "snapshot", one_of(rand, "no", "internal", "external", "manual", NULL));
    if (!one_in(rand, 4)) {
        Node *driver = node_add(disk, "driver", NODE_KEEP);
        node_attr(driver, "name", "qemu");
        node_attr(driver, "type", one_of(rand, "raw", "qcow2", "qed", NULL));
    }
    if (!drive || one_in(rand, 2)) {
        add_source(disk, rand, type);
        add_backing(disk, rand);
    }
    Node *name = node_add(disk, "target", NODE_KEEP);
    node_attr(name, "dev", target);
    if (!one_in(rand, 4))
        node_attr(name, "bus", "virtio");
    for (gint32 n = g_rand_int_range(rand, 0, 3); n > 0; n--)
        node_add(disk, one_of(rand, "readonly", "shareable", "transient", "boot", NULL), NODE_KEEP);
}

static void fill_devices(Node *devices, GRand *rand)
{
    guint n = (guint)g_rand_int_range(rand, 0, 6);
    for (guint i = 0; i < n; i++)
        add_disk(devices, rand, i);
    for (gint32 secrets = g_rand_int_range(rand, 0, 3); secrets > 0; secrets--) {
        g_autofree char *secret = random_text(rand, 4, "");
        Node *graphics = node_add(devices, "graphics", NODE_KEEP);
        node_attr(graphics, "type", one_of(rand, "vnc", "spice", NULL));
        node_attr(graphics, "passwd", secret);
    }
    if (one_in(rand, 2))
        add_unknown(devices, rand, 2);
}

/* @indent: how deep the document stands in another one. */
static Node *new_domain(GRand *rand, const char *root, int indent)
{
    Node *domain = node_new(root, NODE_KEEP);
    g_autofree char *some = random_text(rand, 5, "\n/");
    g_autofree char *name = g_strconcat(some, "d", NULL);
    g_autofree char *uuid = random_uuid(rand);
    node_attr(domain, "type", one_of(rand, "kvm", "qemu", NULL));
    if (one_in(rand, 3))
        node_attr(domain, "xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0");
    node_add_text(domain, "name", name);
    node_add_text(domain, "uuid", uuid);
    if (one_in(rand, 3))
        add_metadata(domain, indent + 2);
    for (gint32 n = g_rand_int_range(rand, 0, 4); n > 0; n--)
        add_unknown(domain, rand, 3);
    if (one_in(rand, 3)) {
        g_autofree char *path = random_path(rand);
        g_strstrip(path);
        node_add_text(node_add(domain, "os", NODE_KEEP), "nvram", path);
    }
    for (gint32 n = g_rand_int_range(rand, 0, 2); n >= 0; n--) {
        if (n == 0)
            fill_devices(node_add(domain, "devices", NODE_KEEP), rand);
        else
            add_unknown(domain, rand, 1);
    }
    return domain;
}

Node *random_domain(GRand *rand)
{
    return new_domain(rand, "domain", 0);
}

/* --- <domainsnapshot> --- */

static Node *find(const Node *parent, const char *name)
{
    for (guint i = 0; parent != NULL && i < parent->children->len; i++) {
        Node *child = parent->children->pdata[i];
        if (strcmp(child->name, name) == 0)
            return child;
    }
    return NULL;
}

static void add_labels(Node *source, GRand *rand)
{
    static const char *const models[] = {"dac", "selinux", NULL};
    for (guint i = 0; models[i] != NULL; i++) {
        if (!one_in(rand, 4))
            continue;
        g_autofree char *text = random_text(rand, 3, "");
        Node *label = node_add(source, "seclabel", 0);
        node_attr(label, "model", models[i]);
        node_attr(label, "relabel", text[0] != '\0' || one_in(rand, 2) ? "yes" : "no");
        if (text[0] != '\0')
            node_add_text(label, "label", text);
    }
}

static void add_network(Node *disk, GRand *rand)
{
    g_autofree char *text = random_text(rand, 3, "");
    g_autofree char *name = g_strconcat("pool/x", text, NULL);
    Node *source = node_add(disk, "source", 0);
    node_attr(source, "protocol", one_of(rand, "nbd", "rbd", "gluster", "https", NULL));
    node_attr(source, "name", name);
    for (gint32 n = g_rand_int_range(rand, 0, 3); n > 0; n--) {
        Node *host = node_add(source, "host", 0);
        if (one_in(rand, 3)) {
            node_attr(host, "transport", "unix");
            node_attr(host, "socket", name);
        } else {
            node_attr(host, "name", name);
            node_attr(host, "port", one_of(rand, "1", "10809", "65535", NULL));
        }
    }
    if (one_in(rand, 3))
        node_attr(node_add(source, "config", NODE_KEEP), "file", name);
}

static void add_driver(Node *disk, GRand *rand)
{
    const char *format = one_of(rand, "qcow2", "qcow2", "qed", "raw", NULL);
    Node *driver = node_add(disk, "driver", 0);
    node_attr(driver, "type", format);
    if (strcmp(format, "qcow2") == 0 && one_in(rand, 3)) {
        g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, ((guint64)g_rand_int(rand) << 20) + 1);
        Node *number = node_add_text(node_add(driver, "metadata_cache", 0), "max_size", size);
        node_attr(number, "unit", "bytes");
    }
}

static void add_local(Node *disk, GRand *rand, const char *attr)
{
    g_autofree char *path = random_path(rand);
    Node *source = node_add(disk, "source", 0);
    node_attr(source, attr, path);
    add_labels(source, rand);
}

/* Its children in libvirt's order; the reader does not mind another one. */
static void add_snapshot_disk(Node *list, GRand *rand, const char *name)
{
    const char *mode = one_of(rand, "no", "internal", "external", "external", "manual", NULL);
    gboolean external = mode[0] == 'e';
    gboolean driver = one_in(rand, external ? 2 : 10);
    gboolean source = external && !one_in(rand, 5);
    const char *type = source ? one_of(rand, "file", "file", "block", "network", NULL) : "file";
    Node *disk = node_add(list, "disk", NODE_SHUFFLE);
    node_attr(disk, "name", name);
    node_attr(disk, "snapshot", mode);
    if (source || driver)
        node_attr(disk, "type", type);
    if (one_in(rand, 6))
        node_add(disk, "snapshotDeleteInProgress", 0);
    if (driver)
        add_driver(disk, rand);
    if (source && type[0] == 'n')
        add_network(disk, rand);
    else if (source)
        add_local(disk, rand, type[0] == 'b' ? "dev" : "file");
}

/* One for every disk of @domain. */
static void add_disks(Node *snapshot, GRand *rand, const Node *domain, const char *name, NodeFlags flags)
{
    const Node *devices = find(domain, "devices");
    Node *list = node_add(snapshot, name, flags);
    for (guint i = 0; devices != NULL && i < devices->children->len; i++) {
        const Node *disk = devices->children->pdata[i];
        const Node *target = find(disk, "target");
        if (strcmp(disk->name, "disk") == 0)
            add_snapshot_disk(list, rand, target->attrs->pdata[1]);
    }
    if (list->children->len == 0)
        g_ptr_array_remove(snapshot->children, list);
}

static void add_memory(Node *snapshot, GRand *rand, gboolean off)
{
    const char *mode = off ? "no" : one_of(rand, "no", "internal", "external", NULL);
    Node *memory = node_add(snapshot, "memory", 0);
    node_attr(memory, "snapshot", mode);
    if (mode[0] != 'e')
        return;
    g_autofree char *path = random_path(rand);
    node_attr(memory, "file", path);
}

static void add_time(Node *snapshot, GRand *rand)
{
    guint64 bits = (guint64)g_rand_int(rand) << 32 | g_rand_int(rand);
    gint64 time = (gint64)bits >> g_rand_int_range(rand, 0, 63);
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, time != 0 ? time : 1);
    node_add_text(snapshot, "creationTime", text);
}

static void add_cookie(Node *snapshot, GRand *rand)
{
    Node *cookie = node_add(snapshot, "cookie", NODE_KEEP);
    node_attr(node_add(cookie, "cpu", NODE_KEEP), "mode", "custom");
    add_unknown(cookie, rand, 2);
}

Node *random_snapshot(GRand *rand)
{
    Node *snapshot = node_new("domainsnapshot", NODE_SHUFFLE);
    Node *domain = new_domain(rand, "domain", 2);
    const char *state =
        one_of(rand, "shutoff", "disk-snapshot", "running", "paused", "crashed", "shutdown", NULL);
    gboolean off = strcmp(state, "shutoff") == 0 || strcmp(state, "disk-snapshot") == 0;
    g_autofree char *some = random_text(rand, 5, "/");
    g_autofree char *name = g_strconcat("s", some, NULL);
    g_autofree char *description = random_text(rand, 20, "");
    node_add_text(snapshot, "name", name);
    if (description[0] != '\0')
        node_add_text(snapshot, "description", description);
    node_add_text(snapshot, "state", state);
    if (one_in(rand, 2))
        node_add_text(node_add(snapshot, "parent", NODE_SHUFFLE), "name", "base & \"root\"");
    add_time(snapshot, rand);
    add_memory(snapshot, rand, off);
    add_disks(snapshot, rand, domain, "disks", NODE_SHUFFLE);
    if (one_in(rand, 4))
        add_disks(snapshot, rand, domain, "revertDisks", 0);
    g_ptr_array_add(snapshot->children, domain);
    if (one_in(rand, 4))
        g_ptr_array_add(snapshot->children, new_domain(rand, "inactiveDomain", 2));
    if (!off && one_in(rand, 2))
        add_cookie(snapshot, rand);
    return snapshot;
}
