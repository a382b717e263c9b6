/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Round trips: our documents redefined in libvirt, libvirt's redefined here, and then the states they speak of. */
#include <unistd.h>

#include "twin.h"

#define DISKS "vda:qcow2 vdb:qcow2 sda:raw:cdrom:ro sdb:raw:cdrom:ro:empty"

static void external(Twin *t, const char *name)
{
    twin_touch(t);
    twin_create(t, name, "--disk-only", "--diskspec", "vda,snapshot=external", NULL);
}

static void internal(Twin *t, const char *name)
{
    twin_touch(t);
    twin_create(t, name, "--description", "it's <this> & \"that\"", NULL);
}

/* Branches of internal ones, external ones on their tip, internal ones in those; current is not the last one made. */
static Twin *tree(World *w)
{
    Twin *t = twin_new(w, DISKS, "<graphics type='vnc' port='-1' passwd='se&apos;c&quot;r&lt;'/>");
    internal(t, "root one");
    internal(t, "left");
    twin_revert(t, "root one");
    internal(t, "right 100%");
    internal(t, "\303\274ber");
    external(t, "ext");
    external(t, "ext2");
    internal(t, "inside");
    internal(t, "inside2");
    twin_revert(t, "inside");
    return t;
}

/* Everything a side says: its documents in the order of its names, the domain's at the end. */
typedef struct {
    char **names;
    const char *current;
    GPtrArray *texts;
} Dump;

static void dump_clear(Dump *dump)
{
    g_strfreev(dump->names);
    g_ptr_array_unref(dump->texts);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Dump, dump_clear)

static Dump dump_of(const Twin *t, const char *(*xml)(const Twin *, const char *))
{
    Dump dump = {.texts = g_ptr_array_new()};
    dump.names = twin_names(t, &dump.current);
    for (guint i = 0; i <= g_strv_length(dump.names); i++)
        g_ptr_array_add(dump.texts, (gpointer)xml(t, dump.names[i]));
    return dump;
}

static void same(const Twin *t, const Dump *dump, const char *(*xml)(const Twin *, const char *))
{
    for (guint i = 0; i < dump->texts->len; i++)
        ck_assert_str_eq(xml(t, dump->names[i]), dump->texts->pdata[i]);
}

/* virsh forgets the domain and learns it again from the documents. */
static void teach_libvirt(const Twin *t, const Dump *dump)
{
    guint n = g_strv_length(dump->names), last = n;
    virsh_ok(t->w, "undefine", t->domain, "--snapshots-metadata");
    virsh_ok(t->w, "define", "--validate", twin_put_file(t, dump->texts->pdata[n]));
    for (guint i = 0; i < n; i++) {
        if (strcmp(dump->names[i], dump->current) == 0)
            last = i;
        virsh_ok(t->w, "snapshot-create", t->domain, twin_put_file(t, dump->texts->pdata[i]), "--redefine",
                 "--validate");
    }
    ck_assert_uint_lt(last, n);
    virsh_ok(t->w, "snapshot-create", t->domain, twin_put_file(t, dump->texts->pdata[last]), "--redefine",
             "--current");
}

/* A new store learns the domain from the documents. */
static void teach_us(Twin *t, const Dump *dump)
{
    World *w = t->w;
    guint n = g_strv_length(dump->names);
    command(w, NULL, "undefine %s --snapshots-metadata", t->domain); /* else the images stay that store's */
    world_stop(w);
    g_free(w->store);
    w->store = g_strdup(in_dir(w, "new-store"));
    world_start(w, NULL);
    ck_assert_int_eq(put(w, "ctl", dump->texts->pdata[n]), 0);
    for (guint i = 0; i < n; i++) {
        const char *option = strcmp(dump->names[i], dump->current) == 0 ? "--current" : "";
        int err = put(w, keepf(w, "%s/ctl", t->domain),
                      keepf(w, "redefine %s -\n%s", option, (const char *)dump->texts->pdata[i]));
        ck_assert_msg(err == 0, "redefine '%s': %s; %s", dump->names[i], g_strerror(err),
                      text_of(w, keepf(w, "%s/log", t->domain)));
    }
}

/* What the disks hold now is what they held when @name was taken. */
static void holds_state(const Twin *t, const char *definition, const char *name)
{
    for (guint i = 0; i < t->targets->len; i++)
        ck_assert_msg(strcmp(twin_holds(t, definition, t->targets->pdata[i]),
                             twin_remembered(t, name, t->targets->pdata[i])) == 0,
                      "reverted to '%s': %s differs", name, (const char *)t->targets->pdata[i]);
}

START_TEST(ours_in_libvirt)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = tree(w);
    g_auto(Dump) dump = dump_of(t, twin_our_xml);
    ck_has(dump.texts->pdata[0], "passwd='se&apos;c&quot;r&lt;'");
    teach_libvirt(t, &dump);
    same(t, &dump, twin_their_xml);
    g_auto(Dump) again = dump_of(t, twin_their_xml);
    ck_assert_str_eq(again.current, "inside");
    ck_assert_uint_eq(g_strv_length(again.names), g_strv_length(dump.names));
    teach_us(t, &again);
    same(t, &dump, twin_our_xml);
}
END_TEST

START_TEST(libvirts_here)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = tree(w);
    g_auto(Dump) dump = dump_of(t, twin_their_xml);
    teach_us(t, &dump);
    same(t, &dump, twin_our_xml);
    ck_assert_str_eq(twin_our_current(t), dump.current);
    twin_check_our_states(t);
    twin_validate(t);
    /* and what libvirt took can be gone back to, without losing anything */
    for (guint i = 0; dump.names[i] != NULL; i++) {
        g_autofree char *quoted = g_shell_quote(dump.names[i]);
        command(w, t->domain, "revert -- %s", quoted);
        holds_state(t, twin_our_xml(t, NULL), dump.names[i]);
        twin_check_our_states(t);
    }
}
END_TEST

/* Images that our snapshots stand on have no write bits: libvirt cannot write into them until somebody says so. */
START_TEST(libvirt_reverts_to_ours)
{
    static const char *const in_top[] = {"inside", "inside2"};
    static const char *const in_base[] = {"root one", "left", "right 100%", "\303\274ber"};
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t = tree(w);
    g_auto(Dump) dump = dump_of(t, twin_our_xml);
    teach_libvirt(t, &dump);
    for (guint i = 0; i < G_N_ELEMENTS(in_top); i++) {
        virsh_ok(w, "snapshot-revert", t->domain, in_top[i]);
        holds_state(t, twin_their_xml(t, NULL), in_top[i]);
        twin_check_our_states(t);
    }
    virsh_fails(w, "snapshot-revert", t->domain, in_base[0]);
    twin_check_our_states(t);
    for (guint i = 0; i < t->targets->len; i++)
        ck_works(chmod(in_dir(w, "ours/disk-%s.qcow2", (const char *)t->targets->pdata[i]), 0644));
    for (guint i = 0; i < G_N_ELEMENTS(in_base); i++) {
        virsh_ok(w, "snapshot-revert", t->domain, in_base[i]);
        holds_state(t, twin_their_xml(t, NULL), in_base[i]);
    }
}
END_TEST

/* A secret is in the dump that asks for it, and only there; a document without it keeps what was known. */
START_TEST(secrets)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t =
        twin_new(w, "vda:qcow2", "<graphics type='vnc' port='-1' passwd='se&apos;c&quot;r&lt;'/>");
    internal(t, "one");
    const char *with = twin_our_xml(t, "one"), *without = virsh_ok(w, "snapshot-dumpxml", t->domain, "one");
    ck_has_not(without, "passwd");
    world_stop(w);
    world_start(w, "ro");
    g_autofree char *shown = g_strchomp(g_strdup(twin_our_xml(t, "one"))),
                    *dumped = g_strchomp(g_strdup(without));
    ck_assert_int_eq(strlen(shown), strlen(dumped)); /* the times may differ */
    ck_has_not(shown, "passwd");
    world_stop(w);
    world_start(w, NULL);
    ck_assert_int_eq(put(w, keepf(w, "%s/ctl", t->domain), keepf(w, "redefine -\n%s", shown)), 0);
    ck_assert_str_eq(twin_our_xml(t, "one"), with);
}
END_TEST

/*
 * What libvirt writes of a machine that runs: memory, cookie, a second definition, chains that are spelled out. All of it is
 * carried.
 */
START_TEST(of_a_machine_that_ran)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(Twin) t =
        twin_new(w, "vda:qcow2 vdb:qcow2", "<graphics type='vnc' port='-1' passwd='secret'/>");
    static const char *const takes[][8] = {
        {"running"},
        {"external", "--memspec", "@DIR@/memory", "--diskspec", "vda,snapshot=external", "--diskspec",
         "vdb,snapshot=external"},
        {"disks", "--disk-only", "--diskspec", "vda,snapshot=external", "--diskspec", "vdb,snapshot=no"},
        {"memory", "--memspec", "@DIR@/memory2", "--diskspec", "vda,snapshot=no", "--diskspec",
         "vdb,snapshot=no"},
        {"halted", "--disk-only", "--halt"},
    };
    virsh_ok(w, "start", t->domain);
    g_autoptr(GString) other = g_string_new(t->their_domain);
    ck_assert_uint_eq(g_string_replace(other, ">1</vcpu>", ">2</vcpu>", 1), 1);
    virsh_ok(w, "define", twin_put_file(t, other->str));
    for (guint i = 0; i < G_N_ELEMENTS(takes); i++) {
        const char *argv[12] = {"snapshot-create-as", t->domain};
        for (guint j = 0; takes[i][j] != NULL; j++)
            argv[j + 2] = twin_on_their_side(t, takes[i][j]);
        ran_expect_ok(virsh_argv(w, argv), takes[i][0]);
    }
    g_auto(Dump) dump = dump_of(t, twin_their_xml);
    ck_assert_uint_eq(g_strv_length(dump.names), G_N_ELEMENTS(takes));
    teach_us(t, &dump);
    same(t, &dump, twin_our_xml);
    twin_validate(t);
    const char *all =
        keepf(w, "%s%s", (const char *)dump.texts->pdata[0], (const char *)dump.texts->pdata[1]);
    ck_has(all, "<cookie>");
    ck_has(all, "<inactiveDomain type='qemu'>");
    ck_has(all, "<memory snapshot='internal'/>");
    ck_has(all, "<memory snapshot='external' file='");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("round");
    TCase *trips = add_case(s, "trips");
    tcase_add_test(trips, ours_in_libvirt);
    tcase_add_test(trips, libvirts_here);
    tcase_add_test(trips, libvirt_reverts_to_ours);
    tcase_add_test(trips, secrets);
    tcase_add_test(trips, of_a_machine_that_ran);
    return s;
}

int main(void)
{
    return virt_main(suite);
}
