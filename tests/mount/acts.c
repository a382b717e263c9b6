/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "acts.h"

#include <glib/gstdio.h>
#include <stdio.h>
#include <unistd.h>

#define DISKS "vda:qcow2 vdb:qcow2"
#define UUID "6d1e4a34-54c0-4c2c-9a6b-6f6f1c8f7d21"

static void guest_writes(const World *w, guint8 byte)
{
    image_write(w, active_path(w, "web", "vda"), "qcow2", byte, 0, 65536);
    image_write(w, active_path(w, "web", "vdb"), "qcow2", byte + 1, 131072, 65536);
}

static void setup_nothing(const World *w)
{
    make_image(w, "web-vda.qcow2", "qcow2");
}

static void setup_plain(const World *w)
{
    make_image(w, "web-vda.qcow2", "qcow2");
    make_image(w, "web-vdb.qcow2", "qcow2");
    ck_assert_int_eq(put(w, "ctl", machine_xml(w, "web", UUID, DISKS)), 0);
    guest_writes(w, 1);
}

/* It has an NVRAM, which each snapshot keeps a copy of. */
static void setup_nvram(const World *w)
{
    make_image(w, "web-vda.qcow2", "qcow2");
    make_image(w, "web-vdb.qcow2", "qcow2");
    const char *path = image(w, "web.nvram");
    ck_assert(g_file_set_contents(path, "then", -1, NULL));
    g_autoptr(GString) xml = g_string_new(machine_xml(w, "web", UUID, DISKS));
    ck_assert_uint_eq(g_string_replace(xml, "  </os>", keepf(w, "    <nvram>%s</nvram>\n  </os>", path), 1),
                      1);
    ck_assert_int_eq(put(w, "ctl", xml->str), 0);
    guest_writes(w, 1);
}

static void setup_other_nvram(const World *w)
{
    setup_nvram(w);
    ck_works(g_mkdir(at(w, "web/s1"), 0755));
    ck_assert(g_file_set_contents(image(w, "web.nvram"), "now", -1, NULL));
}

static void setup_internal(const World *w)
{
    setup_plain(w);
    ck_works(g_mkdir(at(w, "web/s1"), 0755));
    guest_writes(w, 11);
}

static void take_external(const World *w, const char *name)
{
    command(w, "web",
            "create %s --disk-only --diskspec vda,snapshot=external --diskspec vdb,snapshot=external", name);
}

static void setup_external(const World *w)
{
    setup_plain(w);
    take_external(w, "s1");
    guest_writes(w, 21);
}

/* Internal states in files that are frozen by now. */
static void setup_frozen(const World *w)
{
    setup_internal(w);
    take_external(w, "s2");
    guest_writes(w, 31);
}

/* The same, of images that have grown since. */
static void setup_grown(const World *w)
{
    setup_internal(w);
    run_ok(w, "qemu-img", "resize", "-q", "-f", "qcow2", active_path(w, "web", "vda"), "2M");
    take_external(w, "s2");
}

/* An image that is frozen only because the present state, in an overlay of the user's, stands on it. */
static void setup_nameless(const World *w)
{
    setup_plain(w);
    const char *over = image(w, "over.qcow2");
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "./web-vda.qcow2", "-F", "qcow2", over);
    command(w, "web", "create s1 --reuse-external --diskspec vda,file=%s --diskspec vdb,snapshot=no", over);
    ck_works(g_rmdir(at(w, "web/s1")));
    make_image(w, "web-vdc.qcow2", "qcow2");
}

/* Three layers of vda, so that there is one merge to do: two disks' are two operations. */
static void setup_chain(const World *w)
{
    setup_plain(w);
    for (guint i = 1; i <= 2; i++) {
        command(w, "web",
                "create s%u --disk-only --diskspec vda,snapshot=external --diskspec vdb,snapshot=no", i);
        guest_writes(w, (guint8)(20 * i + 1));
    }
}

/* A layer of ours below the active one is nobody's. */
static void setup_middle(const World *w)
{
    setup_chain(w);
    ck_works(g_rmdir(at(w, "web/s2")));
}

/* The first image is, which is not ours to remove, and a layer that another stands on takes its place. */
static void setup_first(const World *w)
{
    setup_chain(w);
    ck_works(g_rmdir(at(w, "web/s1")));
}

/* The active layer is smaller than the one below, which is nobody's. */
static void setup_smaller(const World *w)
{
    setup_chain(w);
    run_ok(w, "qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", active_path(w, "web", "vda"), "512K");
    ck_works(g_rmdir(at(w, "web/s2")));
}

static int result_of(int result)
{
    return result == 0 ? 0 : errno;
}

static int act_mkdir(const World *w)
{
    return result_of(g_mkdir(at(w, "web/s1"), 0755));
}

static int act_external(const World *w)
{
    return put(w, "web/ctl", "create s1 --diskspec vda,snapshot=external --diskspec vdb,snapshot=external\n");
}

static int act_discard(const World *w)
{
    return put(w, "web/ctl", "revert s1 --discard\n");
}

static int act_mixed(const World *w)
{
    return put(w, "web/ctl", "create s1 --diskspec vda,snapshot=external --diskspec vdb,snapshot=internal\n");
}

/* As ln -sfn does it. */
static int act_revert(const World *w)
{
    if (symlink("s1", at(w, "web/CuRrEnT")) < 0)
        return errno;
    int err = result_of(rename(at(w, "web/CuRrEnT"), at(w, "web/current")));
    if (err != 0)
        (void)unlink(at(w, "web/CuRrEnT"));
    return err;
}

static int act_rmdir(const World *w)
{
    return result_of(g_rmdir(at(w, "web/s1")));
}

static int act_delete_all(const World *w)
{
    return put(w, "web/ctl", "delete s1 --children\n");
}

static int act_rename(const World *w)
{
    return result_of(rename(at(w, "web/s1"), at(w, "web/other")));
}

static int act_rename_domain(const World *w)
{
    return result_of(rename(at(w, "web"), at(w, "other")));
}

static int act_describe(const World *w)
{
    return put(w, "web/s1/description", "a text\n");
}

static int act_define(const World *w)
{
    return put(w, "ctl", machine_xml(w, "web", UUID, "vda:qcow2"));
}

/* The domain without its second disk. */
static int act_domain_xml(const World *w)
{
    const char *xml = machine_xml(w, "web", UUID, "vda:qcow2");
    const char *path = active_path(w, "web", "vda");
    g_autoptr(GString) document = g_string_new(xml);
    g_string_replace(document, image(w, "web-vda.qcow2"), path, 1);
    return put(w, "web/domain.xml", document->str);
}

static int act_other_disks(const World *w)
{
    return put(w, "web/domain.xml", machine_xml(w, "web", UUID, "vdc:qcow2"));
}

/* The snapshot under another name, by its document. */
static int act_redefine(const World *w)
{
    g_autoptr(GString) document = g_string_new(text_of(w, "web/s1/snapshot.xml"));
    g_string_replace(document, "<name>s1</name>", "<name>other</name>", 1);
    return put(w, "web/s1/snapshot.xml", document->str);
}

static int act_undefine(const World *w)
{
    return result_of(g_rmdir(at(w, "web")));
}

static int act_undefine_all(const World *w)
{
    return put(w, "ctl", "undefine web --snapshots-metadata\n");
}

/* What a merge cannot do is said in the log alone. */
static int act_merge(const World *w)
{
    int err = put(w, "web/ctl", "wait\n");
    if (err != 0)
        return err;
    return strstr(text_of(w, "web/log"), " not merged: ") != NULL ? EIO : 0;
}

const Gesture gestures[] = {
    {"create mixed", setup_plain, act_mixed, TRUE},
    {"revert in place", setup_internal, act_revert, TRUE},
    {"revert and discard", setup_internal, act_discard, TRUE},
    {"revert by copy", setup_frozen, act_revert, TRUE},
    {"mkdir", setup_plain, act_mkdir, FALSE},
    {"create external", setup_plain, act_external, FALSE},
    {"revert external", setup_external, act_revert, FALSE},
    {"revert a grown one", setup_grown, act_revert, FALSE},
    {"rmdir with tags", setup_internal, act_rmdir, FALSE},
    {"rmdir in frozen", setup_frozen, act_rmdir, FALSE},
    {"delete the tree", setup_frozen, act_delete_all, FALSE},
    {"other disks", setup_nameless, act_other_disks, FALSE},
    {"mv a snapshot", setup_external, act_rename, FALSE},
    {"mv the domain", setup_internal, act_rename_domain, FALSE},
    {"description", setup_internal, act_describe, FALSE},
    {"define", setup_nothing, act_define, FALSE},
    {"domain.xml", setup_internal, act_domain_xml, FALSE},
    {"snapshot.xml", setup_frozen, act_redefine, FALSE},
    {"rmdir the domain", setup_plain, act_undefine, FALSE},
    {"undefine", setup_frozen, act_undefine_all, FALSE},
    {"create with NVRAM", setup_nvram, act_mkdir, TRUE},
    {"revert with NVRAM", setup_other_nvram, act_revert, TRUE},
    {"merge", setup_middle, act_merge, FALSE},
    {"merge into the first", setup_first, act_merge, FALSE},
    {"merge by copy", setup_smaller, act_merge, FALSE},
    {NULL},
};

guint n_gestures(void)
{
    return G_N_ELEMENTS(gestures) - 1;
}

const Gesture *gesture_called(const char *name)
{
    for (const Gesture *gesture = gestures; gesture->name != NULL; gesture++)
        if (strcmp(gesture->name, name) == 0)
            return gesture;
    ck_abort_msg("no gesture '%s'", name);
}

void use_domain(const World *w)
{
    const char *domain = exists(w, "web") ? "web" : exists(w, "other") ? "other" : NULL;
    if (domain == NULL)
        return;
    ck_assert_msg(g_mkdir(at(w, "%s/later", domain), 0755) == 0, "a later mkdir: %s: %s", g_strerror(errno),
                  text_of(w, keepf(w, "%s/log", domain)));
    ck_assert_msg(g_rmdir(at(w, "%s/later", domain)) == 0, "a later rmdir: %s: %s", g_strerror(errno),
                  text_of(w, keepf(w, "%s/log", domain)));
}
