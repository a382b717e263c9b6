/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The content of every state, byte for byte, after each step: internal, external and mixed snapshots over several
 * disks, reverts to any of them, deletes in every tree shape, and long random walks over all of that.
 */
#include <stdio.h>
#include <unistd.h>

#include "model.h"

/* Three snapshots in a row, a revert to each, a branch from the first, everything deleted: on these disks. */
static void life(const char *disks)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", disks);
    g_autoptr(Model) m = model_new(w, "web", disks);
    static const char *const names[] = {"one", "two", "three"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        model_touch(m);
        model_mkdir(m, names[i]);
        model_verify(m);
    }
    model_touch(m);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        model_revert(m, names[i]);
        model_verify(m);
        model_touch(m);
    }
    model_revert(m, "one");
    model_touch(m);
    model_mkdir(m, "branch");
    model_touch(m);
    model_verify(m);
    model_rmdir(m, "two");
    model_verify(m);
    model_rmdir(m, "one");
    model_verify(m);
    model_revert(m, "three");
    model_rmdir(m, "three");
    model_verify(m);
    model_revert(m, "branch");
    model_rmdir(m, "branch");
    model_verify(m);
    model_check_images(m);
}

START_TEST(internal_life)
{
    life("vda:qcow2 vdb:qcow2");
}
END_TEST

START_TEST(external_life)
{
    life("vda:qcow2:external vdb:qcow2:external");
}
END_TEST

START_TEST(mixed_life)
{
    life("vda:qcow2:internal vdb:qcow2:external");
}
END_TEST

/* The first snapshot freezes the raw files; from the second on their overlays can hold internal ones. */
START_TEST(raw_life)
{
    life("vda:raw vdb:qcow2 sda:raw");
}
END_TEST

START_TEST(partial_life)
{
    life("vda:qcow2 vdb:qcow2:no vdc:raw:no");
}
END_TEST

START_TEST(defaults_follow_the_disks)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:raw sda:raw");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:raw");
    model_touch(m);
    model_mkdir(m, "one");
    /* internal where every participating disk can, external otherwise */
    ck_assert_str_eq(model_mode(m, "one", "vda"), "external");
    ck_assert_str_eq(model_mode(m, "one", "vdb"), "external");
    model_touch(m);
    model_mkdir(m, "two");
    ck_assert_str_eq(model_mode(m, "two", "vda"), "internal");
    ck_assert_str_eq(model_mode(m, "two", "vdb"), "internal");
    ck_assert_str_eq(xpath(w, text_of(w, "web/one/snapshot.xml"), "//disks/disk[@name='sda']/@snapshot"),
                     "no");
    model_verify(m);
}
END_TEST

START_TEST(mount_option_external)
{
    g_autoptr(World) w = world_new("snapshot=external");
    machine(w, "web", "vda:qcow2 vdb:qcow2:internal");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    model_mkdir(m, "one");
    ck_assert_str_eq(model_mode(m, "one", "vda"), "external");
    ck_assert_str_eq(model_mode(m, "one", "vdb"), "internal");
    model_touch(m);
    model_verify(m);
}
END_TEST

START_TEST(mount_option_internal)
{
    g_autoptr(World) w = world_new("snapshot=internal");
    machine(w, "web", "vda:qcow2 vdb:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    model_mkdir(m, "one");
    ck_assert_str_eq(model_mode(m, "one", "vda"), "internal");
    ck_assert_str_eq(model_mode(m, "one", "vdb"), "external");
    model_touch(m);
    model_verify(m);
}
END_TEST

START_TEST(diskspecs_choose)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2 vdc:qcow2 vdd:raw");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2 vdc:qcow2 vdd:raw");
    model_touch(m);
    model_create(m, "one",
                 keepf(w,
                       "--diskspec vda,snapshot=internal --diskspec 'vdb,snapshot=external,file=%s' "
                       "--diskspec vdc,snapshot=no --diskspec vdd,snapshot=external --description 'a b'",
                       image(w, "my own.overlay")));
    ck_assert_str_eq(model_mode(m, "one", "vda"), "internal");
    ck_assert_str_eq(model_mode(m, "one", "vdb"), "external");
    ck_assert_str_eq(model_mode(m, "one", "vdc"), "no");
    ck_assert_str_eq(model_mode(m, "one", "vdd"), "external");
    ck_assert_str_eq(active_path(w, "web", "vdb"), image(w, "my own.overlay"));
    model_touch(m);
    model_verify(m);
    model_revert(m, "one");
    model_verify(m);
    model_touch(m);
    model_create(m, "qed",
                 "--diskspec vda,snapshot=external,driver=qed --diskspec vdb,snapshot=no "
                 "--diskspec vdc,snapshot=no --diskspec vdd,snapshot=no");
    ck_assert_str_eq(active_format(w, "web", "vda"), "qed");
    ck_assert_str_eq(model_mode(m, "qed", "vdb"), "no");
    model_verify(m);
}
END_TEST

START_TEST(document_chooses)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2 vdc:qcow2");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2 vdc:qcow2");
    model_touch(m);
    ck_assert_int_eq(
        put(w, "web/ctl",
            keepf(w,
                  "<domainsnapshot>\n  <name>doc</name>\n  <description>two\nlines</description>\n  <disks>\n"
                  "    <disk name='%s' snapshot='external'/>\n"
                  "    <disk name='vdb' snapshot='no'/>\n"
                  "    <disk name='vdc' snapshot='external'><source file='%s'/></disk>\n  "
                  "</disks>\n</domainsnapshot>\n",
                  image(w, "web-vda.qcow2"), image(w, "given.qcow2"))),
        0);
    model_took(m, "doc");
    ck_assert_str_eq(model_mode(m, "doc", "vda"), "external");
    ck_assert_str_eq(model_mode(m, "doc", "vdb"), "no");
    ck_assert_str_eq(active_path(w, "web", "vdc"), image(w, "given.qcow2"));
    ck_assert_str_eq(description_of(w, "web/doc"), "two\nlines");
    model_touch(m);
    model_verify(m);
}
END_TEST

/* `mv daily.1 daily.2; mkdir daily.1` every day, the oldest deleted. */
static void rotate(const char *disks)
{
    enum { KEEP = 3, DAYS = 8 };
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", disks);
    g_autoptr(Model) m = model_new(w, "web", disks);
    for (guint day = 0; day < DAYS; day++) {
        if (day >= KEEP)
            model_rmdir(m, keepf(w, "daily.%d", KEEP));
        for (guint i = MIN(day, KEEP - 1); i > 0; i--)
            model_mv(m, keepf(w, "daily.%u", i), keepf(w, "daily.%u", i + 1));
        model_mkdir(m, "daily.1");
        model_touch(m);
        model_verify(m);
    }
    model_revert(m, "daily.2");
    model_verify(m);
    model_check_images(m);
}

START_TEST(internal_rotation)
{
    rotate("vda:qcow2");
}
END_TEST

START_TEST(external_rotation)
{
    rotate("vda:qcow2:external vdb:raw");
}
END_TEST

START_TEST(generated_names_step_aside)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:internal vdb:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    const char *foreign = image(w, "web-vdb.taken");
    ck_assert(g_file_set_contents(foreign, "not ours", -1, NULL));
    model_touch(m);
    run_ok(w, "qemu-img", "snapshot", "-c", "taken", image(w, "web-vda.qcow2"));
    model_write(m, "vda", 99, 0, 100000);
    run_ok(w, "mkdir", "web/taken");
    g_autofree char *content = NULL;
    ck_assert(g_file_get_contents(foreign, &content, NULL, NULL));
    ck_assert_str_eq(content, "not ours");
    ck_assert_str_ne(active_path(w, "web", "vdb"), foreign);
    ck_assert(g_str_has_prefix(active_path(w, "web", "vdb"), foreign));
    /* the model takes the tag that it does not know: there are two now, so look at the one that was there first */
    g_auto(GStrv) tags = g_strsplit(tags_of(w, image(w, "web-vda.qcow2")), "\n", -1);
    ck_assert_uint_eq(g_strv_length(tags), 2);
    ck_assert(g_strv_contains((const char *const *)tags, "taken"));
    const char *ours = strcmp(tags[0], "taken") == 0 ? tags[1] : tags[0];
    ck_assert(g_str_has_prefix(ours, "taken"));
    run_ok(w, "qemu-img", "snapshot", "-d", "taken", image(w, "web-vda.qcow2"));
    model_took(m, "taken");
    model_touch(m);
    model_verify(m);
    model_revert(m, "taken");
    model_verify(m);
}
END_TEST

/* qemu-img takes a number for an id first: the state of another tag would come back. */
START_TEST(names_of_digits)
{
    static const char *const names[] = {"3", "2", "1", "4"};
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        model_touch(m);
        model_mkdir(m, names[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        model_revert(m, names[i]);
        model_verify(m);
    }
    model_rmdir(m, "2");
    model_rmdir(m, "3");
    model_verify(m);
    model_revert(m, "1");
    model_verify(m);
}
END_TEST

START_TEST(many_tags_become_an_overlay)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    for (guint i = 0; i < 64; i++)
        run_ok(w, "qemu-img", "snapshot", "-c", keepf(w, "old%u", i), image(w, "web-vda.qcow2"));
    run_ok(w, "mkdir", "web/one");
    ck_assert_str_eq(xpath(w, text_of(w, "web/one/snapshot.xml"), "//disks/disk/@snapshot"), "external");
}
END_TEST

START_TEST(bitmaps_become_an_overlay)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    run_ok(w, "qemu-img", "bitmap", "--add", "-f", "qcow2", image(w, "web-vda.qcow2"), "backup");
    run_ok(w, "mkdir", "web/one");
    ck_assert_str_eq(xpath(w, text_of(w, "web/one/snapshot.xml"), "//disks/disk/@snapshot"), "external");
}
END_TEST

START_TEST(internal_under_later_overlays)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    static const char *const external = "--diskspec vda,snapshot=external --diskspec vdb,snapshot=external";
    model_touch(m);
    model_mkdir(m, "in1");
    model_touch(m);
    model_mkdir(m, "in2");
    model_touch(m);
    model_create(m, "ex1", external);
    model_touch(m);
    model_create(m, "ex2", external);
    model_touch(m);
    model_verify(m);
    /* the file that holds in1 and in2 is frozen under ex1: not one byte of it may change now */
    const char *frozen = hash_of(w, image(w, "web-vda.qcow2"));
    model_revert(m, "in1");
    model_verify(m);
    ck_assert_str_eq(hash_of(w, image(w, "web-vda.qcow2")), frozen);
    model_touch(m);
    model_mkdir(m, "in3");
    model_touch(m);
    model_revert(m, "in2");
    model_verify(m);
    model_touch(m);
    model_verify(m);
    model_revert(m, "ex1");
    model_verify(m);
    ck_assert_str_eq(hash_of(w, image(w, "web-vda.qcow2")), frozen);
    model_rmdir(m, "in1");
    model_verify(m);
    model_rmdir(m, "ex1");
    model_verify(m);
    model_rmdir(m, "in2");
    model_verify(m);
    model_check_images(m);
}
END_TEST

/* root - a - (b - (c, d), e); deleted one by one in every order that the seed gives */
static void delete_all(const char *const *order, const char *disks)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", disks);
    g_autoptr(Model) m = model_new(w, "web", disks);
    static const char *const parents[][2] = {{"root", NULL}, {"a", "root"}, {"b", "a"},
                                             {"c", "b"},     {"d", "b"},    {"e", "a"}};
    for (guint i = 0; i < G_N_ELEMENTS(parents); i++) {
        if (parents[i][1] != NULL)
            model_revert(m, parents[i][1]);
        model_touch(m);
        model_mkdir(m, parents[i][0]);
    }
    model_touch(m);
    model_verify(m);
    for (guint i = 0; order[i] != NULL; i++) {
        model_rmdir(m, order[i]);
        model_verify(m);
    }
    ck_assert_uint_eq(model_count(m), 0);
    model_check_images(m);
}

static const char *const orders[][7] = {
    {"root", "a", "b", "c", "d", "e", NULL}, /* from the root */
    {"c", "d", "b", "e", "a", "root", NULL}, /* from the leaves */
    {"b", "a", "e", "root", "d", "c", NULL}, /* from the middle, the current one too */
};

START_TEST(delete_internal_trees)
{
    delete_all(orders[_i], "vda:qcow2");
}
END_TEST

START_TEST(delete_external_trees)
{
    delete_all(orders[_i], "vda:qcow2:external");
}
END_TEST

START_TEST(delete_current_moves_to_parent)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    run_ok(w, "mkdir", "web/one", "web/two");
    run_ok(w, "rmdir", "web/two");
    ck_assert_str_eq(link_of(w, "web/current"), "one");
    run_ok(w, "rmdir", "web/one");
    ck_assert(!exists(w, "web/current"));
    ck_assert(!exists(w, "web/active/parent"));
    run_ok(w, "mkdir", "web/again");
    ck_assert(!exists(w, "web/again/parent"));
}
END_TEST

START_TEST(revert_brings_the_definition_back)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    model_touch(m);
    model_mkdir(m, "one");
    const char *uuid = xpath(w, text_of(w, "web/domain.xml"), "/domain/uuid");
    const char *extra = make_image(w, "web-vdb.qcow2", "qcow2");
    run_ok(w, "mv", "web", "shop");
    g_autofree char *one = g_strdup(text_of(w, "shop/domain.xml"));
    g_auto(GStrv) parts = g_strsplit(one, "  </devices>", 2);
    const char *two = keepf(
        w,
        "%s    <disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2'/>\n"
        "      <source file='%s'/>\n      <target dev='vdb' bus='virtio'/>\n    </disk>\n  </devices>%s",
        parts[0], extra, parts[1]);
    ck_assert_int_eq(put(w, "shop/domain.xml", two), 0);
    ck_assert_str_eq(names_in(w, "shop/active"), "parent vda.qcow2 vda.raw vdb.qcow2 vdb.raw");
    run_ok(w, "ln", "-sfn", "one", "shop/current");
    const char *xml = text_of(w, "shop/domain.xml");
    ck_assert_str_eq(xpath(w, xml, "/domain/name"), "shop");
    ck_assert_str_eq(xpath(w, xml, "/domain/uuid"), uuid);
    ck_assert_str_eq(xpath(w, xml, "count(//disk)"), "1");
    ck_assert_str_eq(names_in(w, "shop/active"), "parent vda.qcow2 vda.raw");
    ck_works(access(extra, F_OK));
}
END_TEST

START_TEST(moved_directories_stay_whole)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2");
    model_touch(m);
    model_mkdir(m, "one");
    model_touch(m);
    const char *before = in_dir(w, "before.raw"), *after = in_dir(w, "after.raw");
    run_ok(w, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", image(w, "web-vda.one"), before);
    world_stop(w);
    ck_works(rename(w->images, in_dir(w, "elsewhere")));
    run_ok(w, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", in_dir(w, "elsewhere/web-vda.one"), after);
    run_ok(w, "cmp", before, after);
}
END_TEST

/* One random step. Names come from a small pool, so that they are used again. */
static void random_step(Model *m, GRand *rand, const World *w, const char *const *modes, GPtrArray *names)
{
    guint what = (guint)g_rand_int_range(rand, 0, 10);
    if (names->len == 0 || (what < 4 && names->len < 7)) {
        const char *name = keepf(w, "n%u", g_rand_int_range(rand, 0, 1000000));
        const char *a = modes[g_rand_int_range(rand, 0, 2)], *b = modes[g_rand_int_range(rand, 0, 3)];
        model_touch(m);
        model_create(m, name, keepf(w, "--diskspec vda,snapshot=%s --diskspec vdb,snapshot=%s", a, b));
        g_ptr_array_add(names, (gpointer)name);
        model_touch(m);
        return;
    }
    guint pick = (guint)g_rand_int_range(rand, 0, (gint32)names->len);
    const char *name = g_ptr_array_index(names, pick);
    if (what < 7) {
        model_revert(m, name);
        if (g_rand_boolean(rand))
            model_touch(m);
    } else if (what == 7) {
        const char *other = keepf(w, "m%u", g_rand_int_range(rand, 0, 1000000));
        model_mv(m, name, other);
        g_ptr_array_index(names, pick) = (gpointer)other;
    } else {
        model_rmdir(m, name);
        g_ptr_array_remove_index(names, pick);
    }
}

START_TEST(random_walk)
{
    enum { STEPS = 24 };
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)(1000 + _i));
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    static const char *const modes[] = {"internal", "external", "no"};
    machine(w, "web", "vda:qcow2 vdb:qcow2");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    for (guint i = 0; i < STEPS; i++) {
        random_step(m, rand, w, modes, names);
        model_verify(m);
        if (i == STEPS / 2) {
            world_stop(w);
            world_start(w, NULL);
        }
    }
    model_check_images(m);
}
END_TEST

static guint count_images(const World *w)
{
    g_autoptr(GDir) dir = g_dir_open(w->images, 0, NULL);
    guint n = 0;
    while (g_dir_read_name(dir) != NULL)
        n++;
    return n;
}

/* The same with overlays only, all merged that can be after each step, and a kill -9 now and then; in the end, without
 * a snapshot, the machine has its two images again and nothing else. */
START_TEST(random_walk_merged)
{
    enum { STEPS = 24 };
    static const char *const modes[] = {"external", "external", "no"};
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)(2000 + _i));
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    machine(w, "web", "vda:qcow2 vdb:qcow2");
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    guint before = count_images(w);
    for (guint i = 0; i < STEPS; i++) {
        random_step(m, rand, w, modes, names);
        if (i % 8 == 7) {
            world_kill(w);
            world_start(w, NULL);
        }
        command(w, "web", "wait");
        model_verify(m);
    }
    while (names->len > 0) {
        model_rmdir(m, g_ptr_array_index(names, 0));
        g_ptr_array_remove_index(names, 0);
    }
    command(w, "web", "wait");
    model_verify(m);
    model_check_images(m);
    ck_assert_uint_eq(count_images(w), before);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("content");
    TCase *lives = add_case(s, "lives");
    tcase_add_test(lives, internal_life);
    tcase_add_test(lives, external_life);
    tcase_add_test(lives, mixed_life);
    tcase_add_test(lives, raw_life);
    tcase_add_test(lives, partial_life);
    TCase *modes = add_case(s, "modes");
    tcase_add_test(modes, defaults_follow_the_disks);
    tcase_add_test(modes, mount_option_external);
    tcase_add_test(modes, mount_option_internal);
    tcase_add_test(modes, diskspecs_choose);
    tcase_add_test(modes, document_chooses);
    tcase_add_test(modes, many_tags_become_an_overlay);
    tcase_add_test(modes, bitmaps_become_an_overlay);
    TCase *names = add_case(s, "generated names");
    tcase_add_test(names, internal_rotation);
    tcase_add_test(names, external_rotation);
    tcase_add_test(names, generated_names_step_aside);
    tcase_add_test(names, names_of_digits);
    TCase *trees = add_case(s, "trees");
    tcase_add_test(trees, internal_under_later_overlays);
    tcase_add_loop_test(trees, delete_internal_trees, 0, G_N_ELEMENTS(orders));
    tcase_add_loop_test(trees, delete_external_trees, 0, G_N_ELEMENTS(orders));
    tcase_add_test(trees, delete_current_moves_to_parent);
    tcase_add_test(trees, revert_brings_the_definition_back);
    tcase_add_test(trees, moved_directories_stay_whole);
    TCase *walks = add_case(s, "walks");
    tcase_add_loop_test(walks, random_walk, 0, 3);
    tcase_add_loop_test(walks, random_walk_merged, 0, 2);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
