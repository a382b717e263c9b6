/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What libvirt defines comes into the store: trees, documents, states; again; and nothing of libvirt's is touched. */
#include <sys/wait.h>

#include "import_world.h"
#include "runner.h"

/* Everything below @path: names, modes, times of change, content. */
static void append_files(GString *out, const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    for (const char *entry = dir ? g_dir_read_name(dir) : NULL; entry; entry = g_dir_read_name(dir))
        g_ptr_array_add(names, g_build_filename(path, entry, NULL));
    g_ptr_array_sort(names, compare_texts);
    for (guint i = 0; i < names->len; i++) {
        struct stat st;
        ck_assert_int_eq(lstat(names->pdata[i], &st), 0);
        g_autofree char *hash = S_ISREG(st.st_mode) ? file_hash(names->pdata[i]) : g_strdup("-");
        g_string_append_printf(out, "%s %o %ld.%09ld %ld.%09ld %s\n", (char *)names->pdata[i], st.st_mode,
                               st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_ctim.tv_sec, st.st_ctim.tv_nsec,
                               hash);
        append_files(out, names->pdata[i]);
    }
}

static char *untouchable(const Both *both)
{
    GString *out = g_string_new(NULL);
    append_files(out, both->host->root);
    append_files(out, both->world->images);
    return g_string_free(out, FALSE);
}

START_TEST(a_tree)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    import_world_three(both.web);
    g_autofree char *before = untouchable(&both);
    world_import(world, both.host->root, THREE);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *names = world_names(world, "web");
        g_autofree char *current = world_current(world, "web");
        g_autofree char *above = world_parent(world, "web", "s3");
        g_autofree char *root = world_parent(world, "web", "s1");
        ck_assert_str_eq(names, "s1 s2 s3");
        ck_assert_str_eq(current, "s3");
        ck_assert_str_eq(above, "s2");
        ck_assert_str_eq(root, "-");
        for (guint k = 1; k <= 3; k++) {
            g_autofree char *name = g_strdup_printf("s%u", k);
            g_autofree char *is =
                world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", name));
            g_autofree char *should = libvirt_machine_dump(both.web, name);
            ck_assert_str_eq(is, should);
        }
        world_assert_read_only(world, "web", "libvirt defines it ('");
    }
    g_autofree char *after = untouchable(&both);
    ck_assert_str_eq(after, before);
    import_world_assert_states(world);
}
END_TEST

/* The definition as well, secrets and all; in files that nobody else reads. */
START_TEST(the_definition)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    g_free(both.web->extra);
    both.web->extra = g_strdup("    <graphics type='vnc' passwd='hidden'/>\n");
    libvirt_machine_define(both.web);
    libvirt_machine_snapshot(both.web, "s1", "ii");
    world_import(world, both.host->root, "web: 1 snapshot, current 's1'\n");
    g_autofree char *file = libvirt_machine_file(both.web);
    g_autofree char *text = NULL;
    ck_assert(g_file_get_contents(file, &text, NULL, NULL));
    g_autofree char *is = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    ck_assert_str_eq(is, strstr(text, "<domain "));
    static const char *const files[] = {"domain.xml", "domain.json", "snapshots/s1.xml", "snapshots/s1.json"};
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = store_domain_file(((Core *)world->engine)->store, "web", files[i]);
        ck_assert_uint_eq(file_mode(path), 0600);
    }
    world_close(world);
    world->options.read_only = TRUE;
    world_open(world);
    EngineId id = world_snapshot(world, "web", "s1");
    g_autofree char *definition = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *snapshot = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, id);
    ck_assert_ptr_null(strstr(definition, "hidden"));
    ck_assert_ptr_null(strstr(snapshot, "hidden"));
    g_autofree char *tree = world_tree(world, "web");
    ck_assert_msg(strstr(tree, "read-only: libvirt defines it"), "%s", tree);
}
END_TEST

/* Nothing can be changed, by whatever gesture, but the copy may be thrown away. */
START_TEST(read_only)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    g_autoptr(GError) error = NULL;
    import_world_three(both.web);
    world_import(world, both.host->root, THREE);
    world_reopen(world);
    const EngineOps *ops = world->engine->ops;
    EngineId id = world_domain(world, "web");
    EngineId s2 = world_snapshot(world, "web", "s2");
    g_autofree char *definition = world_text(world, ENGINE_TEXT_DOMAIN_XML, id);
    g_autofree char *document = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, s2);
    g_autofree char *before = untouchable(&both);
    for (guint i = 0; i < 9; i++) {
        gboolean ok =
            i == 0   ? world_try_create(world, "web", "x", NULL, &error)
            : i == 1 ? world_try_revert(world, "web", "s1", &error)
            : i == 2 ? world_try_delete(world, "web", "s1", DELETE_ONE, &error)
            : i == 3 ? world_try_delete(world, "web", "s1", DELETE_METADATA, &error)
            : i == 4 ? world_try_rename(world, "web", "s1", "y", &error)
            : i == 5 ? world_try_rename(world, "web", NULL, "y", &error)
            : i == 6 ? world_try_define(world, definition, &error)
            : i == 7 ? ops->redefine(world->engine, id, s2, document, strlen(document), TRUE, NULL, &error)
                     : ops->describe(world->engine, s2, "text", NULL, &error);
        ck_assert_msg(!ok, "gesture %u", i);
        expect_error(&error, EROFS, "virsh undefine --snapshots-metadata 'web'");
    }
    ck_assert(!ops->undefine(world->engine, id, FALSE, NULL, &error));
    expect_error(&error, ENOTEMPTY, NULL);
    ASSERT_OK(ops->undefine(world->engine, id, TRUE, NULL, &error), error);
    world_reopen(world);
    g_autofree char *names = world_names(world, NULL);
    ck_assert_str_eq(names, "");
    g_autofree char *after = untouchable(&both);
    ck_assert_str_eq(after, before);
    world_import(world, both.host->root, THREE);
    import_world_assert_states(world);
}
END_TEST

/* What libvirt does afterwards comes in with the next import; the log goes on. */
START_TEST(again)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    world_import(world, both.host->root, "web: no snapshots\n");
    import_world_three(both.web);
    world_import(world, both.host->root, THREE);
    import_world_assert_states(world);
    libvirt_machine_snapshot(both.web, "s4", "--");
    world_reopen(world);
    world_import(world, both.host->root, "web: 4 snapshots, current 's4'\n");
    g_autofree char *names = world_names(world, "web");
    g_autofree char *domains = world_names(world, NULL);
    g_autofree char *log = world_log(world, "web");
    ck_assert_str_eq(names, "s1 s2 s3 s4");
    ck_assert_str_eq(domains, "web");
    ck_assert(strstr(log, "import from libvirt: no snapshots") &&
              strstr(log, "import from libvirt: 4 snapshots"));
    import_world_assert_states(world);
    world_reopen(world);
    import_world_assert_states(world);
}
END_TEST

/* Renamed in libvirt: it is the same one, known by its uuid. */
START_TEST(renamed)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    libvirt_machine_snapshot(both.web, "s1", "ii");
    world_import(world, both.host->root, "web: 1 snapshot, current 's1'\n");
    g_autofree char *old = libvirt_machine_file(both.web);
    g_autofree char *old_dir = g_build_filename(both.host->snapshots, "web", NULL);
    g_autofree char *new_dir = g_build_filename(both.host->snapshots, "shop", NULL);
    ck_assert_int_eq(unlink(old), 0);
    ck_assert_int_eq(rename(old_dir, new_dir), 0);
    g_free(both.web->name);
    both.web->name = g_strdup("shop");
    libvirt_machine_define(both.web);
    world_reopen(world); /* the old file is gone, but nothing is adopted */
    world_assert_read_only(world, "web", "/shop.xml'");
    world_import(world, both.host->root, "shop: 1 snapshot, current 's1'\n");
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        g_autofree char *domains = world_names(world, NULL);
        ck_assert_str_eq(domains, "shop");
        g_autofree char *hash = world_hash(world, "shop", "s1", "vda");
        g_autofree char *should = pattern_hash(1, 1);
        ck_assert_str_eq(hash, should);
    }
}
END_TEST

/* Names and uuids that the store has already; a domain of ours whose images libvirt's stands on. */
START_TEST(clashes)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    g_autofree char *c = world_image(world, "c.qcow2", 3);
    g_autofree char *d = world_image(world, "d.qcow2", 4);
    world_define(world, "web", "c.qcow2", NULL); /* another uuid */
    world_define(world, "base", "d.qcow2", NULL);
    world_create(world, "base", "s1", "vda,snapshot=external");
    g_autoptr(LibvirtMachine) base = libvirt_machine_new(both.host, "zone", d, NULL);
    g_autofree char *told = world_try_import(world, both.host->root, NULL);
    ck_assert_msg(strstr(told, "! web: the store has another domain of that name, with the uuid '"), "%s",
                  told);
    ck_assert_msg(strstr(told, "! zone: disk 'vda': "), "%s", told);
    ck_assert_msg(strstr(told, "is a frozen layer: states of 'base' stand on it"), "%s", told);
    g_autofree char *names = world_names(world, NULL);
    g_autofree char *log = world_log(world, NULL);
    ck_assert_str_eq(names, "base web");
    ck_assert_msg(strstr(log, "FAILED import from libvirt: zone: disk 'vda'"), "%s", log);
    world_create(world, "web", "mine", NULL); /* still ours, and works */
    libvirt_machine_undefine(both.web);
    g_free(both.web->uuid);
    both.web->uuid =
        g_strdup(((Domain *)g_hash_table_lookup(((Core *)world->engine)->by_name, "web"))->def->uuid);
    libvirt_machine_define(both.web);
    g_autofree char *same = world_try_import(world, both.host->root, NULL);
    ck_assert_msg(
        strstr(same, "! web: the store has it already, as 'web', and not from libvirt: nothing was"), "%s",
        same);
    world_check_clean(world, "web");
    g_autofree char *mine = world_names(world, "web");
    ck_assert_str_eq(mine, "mine");
}
END_TEST

/* --- killed, or failing, at each point --- */

/* Names of domains and snapshots; asserts that what is there is whole. */
static char *summary(World *world)
{
    if (!world_domain(world, "web"))
        return g_strdup("nothing");
    g_autofree char *names = world_names(world, "web");
    g_autofree char *tree = world_tree(world, "web");
    ck_assert_msg(strstr(tree, "read-only: libvirt defines it ("), "%s", tree);
    world_assert_hash(world, NULL, "vdb", 2, 2);
    if (strstr(names, "s1"))
        world_assert_hash(world, "s1", "vda", 1, 1);
    g_autofree char *current = world_current(world, "web");
    return g_strdup_printf("%s, %s", names, current);
}

/* With @kind at point @n. Does the import get that far? *ret_told: it said that something was left out. */
static gboolean import_with(const Both *both, TrapKind kind, guint n, gboolean *ret_told)
{
    enum { NOT_REACHED, REACHED, TOLD };
    World *world = both->world;
    pid_t pid = world_fork(world);
    if (pid == 0) {
        trap_set(kind, n, ENOSPC);
        g_autofree char *told = world_try_import(world, both->host->root, NULL);
        _exit(trap_seen() < n ? NOT_REACHED : !told || strstr(told, "! ") ? TOLD : REACHED);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && (WEXITSTATUS(status) <= TOLD || WEXITSTATUS(status) == TRAP_EXIT_CODE));
    world_open(world);
    *ret_told = WEXITSTATUS(status) == TOLD;
    return WEXITSTATUS(status) != NOT_REACHED;
}

/* Dead: before or after. Failed: an image that cannot be read takes its snapshot out of the tree, and that is told. */
static void at_each_point(const Both *both, TrapKind kind, const char *before, const char *after)
{
    guint n = 0;
    gboolean reached = TRUE, told, was_after = FALSE;
    world_close(both->world);
    g_autoptr(GPtrArray) saved = world_save(both->world);
    while (reached) {
        world_close(both->world);
        world_restore(both->world, saved);
        reached = import_with(both, kind, ++n, &told);
        g_autofree char *now = summary(both->world);
        was_after = strcmp(now, after) == 0;
        ck_assert_msg(was_after || told || strcmp(now, before) == 0, "point %u: '%s'", n, now);
    }
    ck_assert(was_after);
    ck_assert_uint_gt(n, 8);
}

START_TEST(at_any_moment)
{
    static const TrapKind kinds[] = {TRAP_EXIT, TRAP_FAIL, TRAP_FAIL_FROM};
    g_autofree char *number = g_strdup_printf("world%d", _i);
    g_auto(Both) both = both_new(PATH(number));
    libvirt_machine_snapshot(both.web, "s1", "ii");
    at_each_point(&both, kinds[_i], "nothing", "s1, s1");
    import_world_write(both.web, 11);
    libvirt_machine_snapshot(both.web, "s2", "ee");
    at_each_point(&both, kinds[_i], "s1, s1", "s1 s2, s2");
}
END_TEST

/* As many snapshots as make another way of writing worth it. */
START_TEST(many)
{
    g_auto(Both) both = both_new(PATH("world"));
    World *world = both.world;
    for (guint i = 0; i < 60; i++) {
        g_autofree char *name = g_strdup_printf("n%02u", i);
        libvirt_machine_snapshot(both.web, name, i == 7 ? "ii" : "--");
    }
    world_import(world, both.host->root, "web: 60 snapshots, current 'n59'\n");
    g_autofree char *file = world_store_file(world, "domains/web/snapshots/n33.xml");
    ck_assert_uint_eq(file_mode(file), 0600);
    world_reopen(world);
    g_autofree char *parent = world_parent(world, "web", "n59");
    ck_assert_str_eq(parent, "n58");
    world_assert_hash(world, "n07", "vdb", 2, 2);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("import");
    TCase *tcase = scratch_case(suite, "import");
    tcase_add_test(tcase, a_tree);
    tcase_add_test(tcase, the_definition);
    tcase_add_test(tcase, read_only);
    tcase_add_test(tcase, again);
    tcase_add_test(tcase, renamed);
    tcase_add_test(tcase, clashes);
    tcase_add_loop_test(tcase, at_any_moment, 0, 3);
    tcase_add_test(tcase, many);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
