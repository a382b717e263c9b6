/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The snapshot tree: its relations in the model, and the text that shows it. */
#include <string.h>

#include "model.h"
#include "runner.h"

static Snapshot *add(Domain *domain, const char *name, Snapshot *parent, gint64 time)
{
    Snapshot *snapshot = domain_add_snapshot(domain, name, time);
    snapshot->parent = parent;
    return snapshot;
}

static Domain *machine(void)
{
    static const char xml[] = "<domain type='kvm'><name>m</name><memory>1</memory><os><type>hvm</type></os>"
                              "<devices><disk type='file'><driver type='qcow2'/><source file='/i/a'/>"
                              "<target dev='vda'/></disk></devices></domain>";
    Domain *domain = domain_new((EngineId)1 << OBJECT_BITS, "m");
    domain->def = domain_def_parse(xml, strlen(xml), NULL);
    ck_assert_ptr_nonnull(domain->def);
    Layer *layer = domain_take_layer(domain, "/i/a", FORMAT_QCOW2);
    layer->file.ino = 1;
    return domain;
}

static void assert_drawn(const Domain *domain, const char *expected)
{
    g_autofree char *text = tree_draw(domain);
    ck_assert_str_eq(text, expected);
}

START_TEST(no_snapshots)
{
    g_autoptr(Domain) domain = machine();
    assert_drawn(domain, "(you are here)\n");
}
END_TEST

START_TEST(one_chain)
{
    g_autoptr(Domain) domain = machine();
    Snapshot *base = add(domain, "base", NULL, 1);
    domain->current = add(domain, "clean", base, 2);
    assert_drawn(domain, "base\n"
                         "  +- clean\n"
                         "      +- (you are here)\n");
}
END_TEST

/* Several roots, branches, the present state in the middle of the tree. Siblings in order of creation. */
START_TEST(branches)
{
    g_autoptr(Domain) domain = machine();
    Snapshot *base = add(domain, "base", NULL, 1);
    Snapshot *work = add(domain, "work", base, 2);
    add(domain, "work.1", work, 3);
    add(domain, "work.2", work, 4);
    Snapshot *other = add(domain, "other", base, 5);
    add(domain, "other.1", other, 6);
    Snapshot *second = add(domain, "second", NULL, 7);
    add(domain, "second.1", second, 8);
    domain->current = work;
    assert_drawn(domain, "base\n"
                         "  +- work\n"
                         "  |   +- work.1\n"
                         "  |   +- work.2\n"
                         "  |   +- (you are here)\n"
                         "  +- other\n"
                         "      +- other.1\n"
                         "second\n"
                         "  +- second.1\n");
    domain->current = NULL;
    assert_drawn(domain, "base\n"
                         "  +- work\n"
                         "  |   +- work.1\n"
                         "  |   +- work.2\n"
                         "  +- other\n"
                         "      +- other.1\n"
                         "second\n"
                         "  +- second.1\n"
                         "(you are here)\n");
}
END_TEST

START_TEST(missing_and_broken)
{
    g_autoptr(Domain) domain = machine();
    domain->current = add(domain, "base", NULL, 1);
    domain_take_layer(domain, "/i/gone", FORMAT_QCOW2);
    assert_drawn(domain, "base\n"
                         "  +- (you are here)\n"
                         "\n"
                         "missing: /i/gone\n");
    domain->broken = g_strdup("'/i/a' was changed from outside");
    assert_drawn(domain, "base\n"
                         "  +- (you are here)\n"
                         "\n"
                         "read-only: '/i/a' was changed from outside\n"
                         "\n"
                         "missing: /i/gone\n");
}
END_TEST

static Domain *deep(guint depth)
{
    Domain *domain = machine();
    for (guint i = 0; i < depth; i++) {
        g_autofree char *name = g_strdup_printf("s%u", i);
        domain->current = add(domain, name, domain->current, i);
    }
    return domain;
}

/* Thousands of levels: no stack to overflow, and the text grows with the number of snapshots, not its square. */
START_TEST(deep_chain)
{
    g_autoptr(Domain) domain = deep(3000);
    gint64 start = g_get_monotonic_time();
    g_autofree char *text = tree_draw(domain);
    gint64 taken = g_get_monotonic_time() - start;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    ck_assert_uint_eq(g_strv_length(lines), 3002);
    ck_assert_str_eq(lines[0], "s0");
    ck_assert_ptr_nonnull(strstr(lines[2999], "[2999] s2999"));
    ck_assert_ptr_nonnull(strstr(lines[3000], "(you are here)"));
    ck_assert_uint_lt(strlen(text), 3002 * 200);
    ck_assert_msg(taken < G_USEC_PER_SEC, "%" G_GINT64_FORMAT " us", taken);
}
END_TEST

/* Wide, too: ten thousand children of one. */
START_TEST(wide)
{
    g_autoptr(Domain) domain = machine();
    Snapshot *base = add(domain, "base", NULL, 0);
    for (guint i = 1; i <= 10000; i++) {
        g_autofree char *name = g_strdup_printf("s%u", i);
        add(domain, name, base, i);
    }
    domain->current = base;
    gint64 start = g_get_monotonic_time();
    g_autofree char *text = tree_draw(domain);
    ck_assert_int_lt(g_get_monotonic_time() - start, G_USEC_PER_SEC);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    ck_assert_uint_eq(g_strv_length(lines), 10003);
    ck_assert_str_eq(lines[1], "  +- s1");
    ck_assert_str_eq(lines[10001], "  +- (you are here)");
}
END_TEST

START_TEST(order_of_creation)
{
    g_autoptr(Domain) domain = machine();
    add(domain, "late", NULL, 30);
    add(domain, "early", NULL, 10);
    add(domain, "same.1", NULL, 20);
    add(domain, "same.2", NULL, 20);
    static const char *const expected[] = {"early", "same.1", "same.2", "late"};
    for (guint i = 0; i < 4; i++)
        ck_assert_str_eq(((Snapshot *)domain->snapshots->pdata[i])->name, expected[i]);
    domain_find_snapshot(domain, "late")->time = 5;
    domain_sort_snapshots(domain);
    ck_assert_str_eq(((Snapshot *)domain->snapshots->pdata[0])->name, "late");
}
END_TEST

/* A snapshot that goes: its children get its parent, its layers' records go to the domain, current moves up. */
START_TEST(removal)
{
    g_autoptr(Domain) domain = machine();
    Snapshot *base = add(domain, "base", NULL, 1);
    Snapshot *middle = add(domain, "middle", base, 2);
    Snapshot *leaf = add(domain, "leaf", middle, 3);
    Snapshot *leaf2 = add(domain, "leaf2", middle, 4);
    Layer *layer = domain_find_layer(domain, "/i/a");
    layer->home = middle;
    snapshot_add_disk(middle, "vda", layer, NULL);
    snapshot_add_disk(base, "vda", layer, "tag");
    ck_assert_uint_eq(layer->names, 1);
    domain->current = middle;
    EngineId id = middle->object.id;
    domain_remove_snapshot(domain, middle);
    ck_assert_ptr_eq(leaf->parent, base);
    ck_assert_ptr_eq(leaf2->parent, base);
    ck_assert_ptr_eq(domain->current, base);
    ck_assert_ptr_null(layer->home);
    ck_assert_uint_eq(layer->names, 0);
    ck_assert_ptr_null(domain_find_snapshot(domain, "middle"));
    ck_assert_ptr_null(g_hash_table_lookup(domain->objects, &id));
    domain_remove_snapshot(domain, base);
    ck_assert_ptr_null(leaf->parent);
    ck_assert_ptr_null(domain->current);
}
END_TEST

/* A copy has the same ids and relations and shares nothing. */
START_TEST(copies)
{
    g_autoptr(Domain) domain = deep(50);
    Snapshot *top = domain->current;
    Layer *layer = domain_find_layer(domain, "/i/a");
    snapshot_add_disk(top, "vda", layer, NULL);
    layer->home = top;
    g_ptr_array_add(layer->stale, g_strdup("old"));
    g_autofree char *before = tree_draw(domain);
    Domain *copy = domain_copy(domain);
    Snapshot *same = domain_find_snapshot(copy, top->name);
    ck_assert_ptr_ne(same, top);
    ck_assert_uint_eq(same->object.id, top->object.id);
    ck_assert_str_eq(same->parent->name, top->parent->name);
    ck_assert_ptr_eq(same->parent->domain, copy);
    ck_assert_ptr_eq(copy->current, same);
    Layer *same_layer = domain_find_layer(copy, "/i/a");
    ck_assert_ptr_eq(same_layer->home, same);
    ck_assert_uint_eq(same_layer->names, 1);
    ck_assert_uint_eq(same_layer->stale->len, 1);
    assert_drawn(copy, before);
    /* ids go on where the original is */
    Snapshot *next = domain_add_snapshot(copy, "next", 99);
    ck_assert_uint_eq(next->object.id, domain->last_id + 1);
    domain_rename_snapshot(copy, same, "renamed");
    domain_free(copy);
    assert_drawn(domain, before);
}
END_TEST

/* Layers: what nothing refers to is forgotten; what is below something, or ours, stays. */
START_TEST(pruning)
{
    g_autoptr(Domain) domain = machine();
    Layer *active = domain_find_layer(domain, "/i/a");
    Layer *below = domain_take_layer(domain, "/i/below", FORMAT_QCOW2);
    Layer *named = domain_take_layer(domain, "/i/named", FORMAT_QCOW2);
    Layer *made = domain_take_layer(domain, "/i/made", FORMAT_QCOW2);
    Layer *loose = domain_take_layer(domain, "/i/loose", FORMAT_QCOW2);
    Layer *loop = domain_take_layer(domain, "/i/loop", FORMAT_QCOW2);
    active->backing = g_strdup("/i/below");
    below->backing = g_strdup("/i/loop");
    loop->backing = g_strdup("/i/below"); /* a damaged store: the walk must end */
    made->made = TRUE;
    snapshot_add_disk(add(domain, "s", NULL, 1), "vda", named, "tag");
    EngineId id = loose->object.id;
    ck_assert(domain_layer_is_active(domain, active) && !domain_layer_is_active(domain, below));
    ck_assert(domain_layer_is_stood_on(domain, below) && !domain_layer_is_stood_on(domain, active));
    ck_assert(domain_tag_named(domain, named, "tag") && !domain_tag_named(domain, named, "other"));
    g_ptr_array_unref(domain_prune_layers(domain));
    ck_assert_ptr_null(domain_find_layer(domain, "/i/loose"));
    ck_assert_ptr_null(g_hash_table_lookup(domain->objects, &id));
    ck_assert_uint_eq(g_hash_table_size(domain->layers), 5);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("tree");
    TCase *drawing = tcase_create("drawing");
    tcase_add_test(drawing, no_snapshots);
    tcase_add_test(drawing, one_chain);
    tcase_add_test(drawing, branches);
    tcase_add_test(drawing, missing_and_broken);
    tcase_add_test(drawing, deep_chain);
    tcase_add_test(drawing, wide);
    suite_add_tcase(suite, drawing);
    TCase *model = tcase_create("model");
    tcase_add_test(model, order_of_creation);
    tcase_add_test(model, removal);
    tcase_add_test(model, copies);
    tcase_add_test(model, pruning);
    suite_add_tcase(suite, model);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
