/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "twin_inside.h"

static const char *const sides[] = {"virt", "ours"};

/* What a word of @disks says: "vda:qcow2:ro". */
typedef struct {
    const char *target;
    const char *format;
    const char *device;
    const char *bus;
    gboolean readonly, shareable, empty;
    const char *snapshot;
} Word;

static Word read_word(char **part)
{
    Word word = {.target = part[0], .format = part[1], .device = "disk", .bus = "virtio"};
    for (guint i = 2; part[i] != NULL; i++) {
        if (strcmp(part[i], "ro") == 0)
            word.readonly = TRUE;
        else if (strcmp(part[i], "share") == 0)
            word.shareable = TRUE;
        else if (strcmp(part[i], "empty") == 0)
            word.empty = TRUE;
        else if (strcmp(part[i], "cdrom") == 0 || strcmp(part[i], "floppy") == 0)
            word.device = part[i];
        else
            word.snapshot = part[i];
    }
    if (strcmp(word.device, "disk") != 0)
        word.bus = strcmp(word.device, "cdrom") == 0 ? "sata" : "fdc";
    return word;
}

static void append_disk(GString *xml, const Word *word, const char *path)
{
    g_string_append_printf(xml, "    <disk type='file' device='%s'", word->device);
    if (word->snapshot != NULL)
        g_string_append_printf(xml, " snapshot='%s'", word->snapshot);
    g_string_append_printf(xml, ">\n      <driver name='qemu' type='%s'/>\n", word->format);
    if (!word->empty)
        g_string_append_printf(xml, "      <source file='%s'/>\n", path);
    g_string_append_printf(xml, "      <target dev='%s' bus='%s'/>\n%s%s    </disk>\n", word->target,
                           word->bus, word->readonly ? "      <readonly/>\n" : "",
                           word->shareable ? "      <shareable/>\n" : "");
}

/* The disk in the document, and its image on both sides. */
static void make_disk(Twin *t, GString *xml, const char *text)
{
    g_auto(GStrv) part = g_strsplit(text, ":", -1);
    Word word = read_word(part);
    const char *file = keepf(t->w, "disk-%s.%s", word.target, word.format);
    append_disk(xml, &word, in_dir(t->w, "virt/%s", file));
    if (word.empty)
        return;
    for (guint i = 0; i < G_N_ELEMENTS(sides); i++) {
        const char *path = in_dir(t->w, "%s/%s", sides[i], file);
        run_ok(t->w, "qemu-img", "create", "-q", "-f", word.format, path, keepf(t->w, "%d", DISK_SIZE));
        virt_own(path);
    }
    if (!word.readonly && strcmp(word.device, "cdrom") != 0)
        g_ptr_array_add(t->targets, g_strdup(word.target));
}

static const char *document(Twin *t, const char *disks, const char *extra)
{
    g_autoptr(GString) xml = g_string_new(NULL);
    g_string_printf(xml,
                    "<domain type='qemu'>\n  <name>%s</name>\n  <uuid>%s</uuid>\n"
                    "  <memory unit='KiB'>65536</memory>\n"
                    "  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <devices>\n",
                    t->domain, t->uuid);
    g_auto(GStrv) words = g_strsplit(disks, " ", -1);
    for (guint i = 0; words[i] != NULL; i++)
        if (*words[i] != '\0')
            make_disk(t, xml, words[i]);
    g_string_append_printf(xml, "%s  </devices>\n</domain>\n", extra != NULL ? extra : "");
    return keep(t->w, xml->str);
}

const char *twin_put_file(const Twin *t, const char *text)
{
    const char *path = in_dir(t->w, "document.xml");
    ck_assert(g_file_set_contents(path, text, -1, NULL));
    return path;
}

void twin_define(Twin *t, const char *xml)
{
    virsh_ok(t->w, "define", twin_put_file(t, xml));
    /* What libvirt filled in stands in another order once it has read its own document: for each snapshot it does. */
    virsh_ok(t->w, "define", twin_put_file(t, twin_their_xml(t, NULL)));
    int err = put(t->w, "ctl", twin_on_our_side(t, twin_their_xml(t, NULL)));
    ck_assert_msg(err == 0, "define: %s; %s", g_strerror(err), text_of(t->w, "log"));
    twin_compare(t);
}

Twin *twin_new(World *w, const char *disks, const char *extra)
{
    g_autofree char *uuid = g_uuid_string_random();
    Twin *t = g_new0(Twin, 1);
    t->w = w;
    t->uuid = keep(w, uuid);
    /* All tests of a program share libvirtd: what a failed one leaves there must not be in the way of the next. */
    t->domain = keepf(w, "web-%.8s", uuid);
    t->targets = g_ptr_array_new_with_free_func(g_free);
    t->swaps = g_ptr_array_new();
    t->states = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < G_N_ELEMENTS(sides); i++) {
        ck_works(mkdir(in_dir(w, "%s", sides[i]), 0755));
        virt_own(in_dir(w, "%s", sides[i]));
    }
    twin_define(t, document(t, disks, extra));
    return t;
}

void twin_free(Twin *t)
{
    virsh_ok(t->w, "undefine", t->domain, "--snapshots-metadata");
    g_ptr_array_unref(t->targets);
    g_ptr_array_unref(t->swaps);
    g_hash_table_unref(t->states);
    g_free(t);
}
