/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Import: files that are not as they should be, or are meant to do harm; trees that are none. */
#include "import_world.h"
#include "runner.h"

static void assert_parent(const Both *both, const char *snapshot, const char *parent)
{
    g_autofree char *is = world_parent(both->world, "web", snapshot);
    ck_assert_str_eq(is, parent);
}

/* What the file of the snapshot holds. Caller frees. */
static char *file_text(const Both *both, const char *snapshot)
{
    g_autofree char *path = libvirt_machine_snapshot_file(both->web, snapshot);
    char *text = NULL;
    ck_assert(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

/* --- single files --- */

/* A file may be called anything. */
START_TEST(any_name)
{
    g_auto(Both) both = both_new(PATH("world"));
    static const char *const files[] = {".hidden", "no extension", "x.xml.new", "\xff not UTF-8"};
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *name = g_strdup_printf("n%zu", i);
        libvirt_machine_snapshot(both.web, name, "ii");
    }
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *name = g_strdup_printf("n%zu", i);
        g_autofree char *text = file_text(&both, name);
        g_autofree char *path = libvirt_machine_snapshot_file(both.web, name);
        libvirt_machine_put(both.web, files[i], text);
        ck_assert_int_eq(unlink(path), 0);
    }
    world_import(both.world, both.host->root, "web: 4 snapshots, current 'n3'\n");
    both_assert_snapshots(&both, "n0 n1 n2 n3", "n3");
    world_assert_hash(both.world, "n2", "vdb", 2, 2);
}
END_TEST

static const struct {
    const char *from, *to; /* in a good file */
    const char *text;
} damaged[] = {
    {"<domainsnapshot>", "<domain>", "line"},
    {"<domainsnapshot>", "<!DOCTYPE domainsnapshot [<!ENTITY e SYSTEM '/etc/passwd'>]><domainsnapshot>",
     "DOCTYPE"},
    {"</domainsnapshot>", "", "ends before"},
    {"<name>bad</name>", "<name></name>", "<name>"},
    {"<name>bad</name>", "<name>../../up</name>", "cannot contain '/'"},
    {"  <active>1</active>\n", "", "it has no <active>"},
    {"<state>shutoff</state>", "", "no <state>"},
    {"<state>shutoff</state>", "<state>dreaming</state>", "dreaming"},
    {"<creationTime>1700000001</creationTime>", "", "no <creationTime>"},
    {"<memory snapshot='no'/>", "<memory snapshot='internal'/>", "no memory"},
    {"<disk name='vda' snapshot='internal'/>", "<disk name='vdz' snapshot='internal'/>", "disk 'vdz'"},
    {"<uuid>", "<uuid>12345678-1234-1234-1234-123456789012</uuid><uuid>",
     "is about the domain with the uuid '12345"},
    {"vda' bus='virtio'/>", "../x' bus='virtio'/>", "cannot be a disk's name"},
    {"<driver name='qemu' type='qcow2'/>", "<driver name='qemu' type='vmdk'/>", "'vmdk' is not supported"},
};

/* Each is left out, and said; the rest comes in. */
START_TEST(damaged_file)
{
    g_autofree char *number = g_strdup_printf("world%d", _i);
    g_auto(Both) both = both_new(PATH(number));
    libvirt_machine_snapshot(both.web, "good", "ii");
    libvirt_machine_snapshot(both.web, "bad", "ii");
    libvirt_machine_edit(both.web, "bad", damaged[_i].from, damaged[_i].to);
    g_autofree char *told = both_import(&both);
    assert_has(told, "! web: ");
    assert_has(told, damaged[_i].text);
    assert_has(told, ": skipped\n");
    assert_has(told, "\nweb: 1 snapshot, ");
    g_autofree char *names = world_names(both.world, "web");
    ck_assert_str_eq(names, "good");
    g_autofree char *log = world_log(both.world, "web");
    assert_has(log, damaged[_i].text);
    world_reopen(both.world);
    world_assert_read_only(both.world, "web", "libvirt defines it");
}
END_TEST

/* Nothing but regular files of at most 1 MiB is opened, and nothing waits. */
START_TEST(no_files)
{
    g_auto(Both) both = both_new(PATH("world"));
    libvirt_machine_snapshot(both.web, "s1", "ii");
    g_autofree char *dir = g_build_filename(both.host->snapshots, "web", NULL);
    g_autofree char *pipe = g_build_filename(dir, "pipe", NULL);
    g_autofree char *link = g_build_filename(dir, "link", NULL);
    g_autofree char *loop = g_build_filename(dir, "loop", NULL);
    g_autofree char *sub = g_build_filename(dir, "sub.xml", NULL);
    g_autofree char *secret = g_build_filename(both.host->root, "secret", NULL);
    g_autofree char *text = file_text(&both, "s1");
    g_autofree char *much = g_strnfill(1024 * 1024 + 1, ' ');
    ck_assert_int_eq(mkfifo(pipe, 0600), 0);
    ck_assert(g_file_set_contents(secret, text, -1, NULL));
    ck_assert_int_eq(symlink(secret, link), 0);
    ck_assert_int_eq(symlink("loop", loop), 0);
    ck_assert_int_eq(mkdir(sub, 0755), 0);
    libvirt_machine_put(both.web, "much", much);
    libvirt_machine_put(both.web, "empty", "");
    libvirt_machine_put(both.web, "copy", text);
    g_autofree char *told = both_import(&both);
    static const char *const names[] = {"pipe", "link", "loop", "sub.xml", "much", "empty"};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s'", dir, names[i]);
        assert_has(told, path);
    }
    assert_has(told, "more than 1048576 bytes");
    assert_has(told, "a second snapshot is called 's1': skipped\n");
    both_assert_snapshots(&both, "s1", "s1");
}
END_TEST

/* The same in the directory of definitions; and what there stands besides. */
START_TEST(no_definitions)
{
    g_auto(Both) both = both_new(PATH("world"));
    static const char *const files[] = {"pipe.xml",   "link.xml",  "sub.xml", "doctype.xml",
                                        "broken.xml", "slash.xml", "uuid.xml"};
    g_autofree char *paths[G_N_ELEMENTS(files)];
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++)
        paths[i] = g_build_filename(both.host->definitions, files[i], NULL);
    ck_assert_int_eq(mkfifo(paths[0], 0600), 0);
    ck_assert_int_eq(symlink("web.xml", paths[1]), 0);
    ck_assert_int_eq(mkdir(paths[2], 0755), 0);
    ck_assert(g_file_set_contents(paths[3], "<!DOCTYPE domain><domain type='kvm'><name>x</name></domain>", -1,
                                  NULL));
    ck_assert(g_file_set_contents(paths[4], "<domain", -1, NULL));
    ck_assert(g_file_set_contents(paths[5], "<domain type='kvm'><name>../x</name></domain>", -1, NULL));
    ck_assert(g_file_set_contents(paths[6], "<domain type='kvm'><name>u</name></domain>", -1, NULL));
    g_autofree char *autostart = g_build_filename(both.host->definitions, "autostart", NULL);
    g_autofree char *stray = g_build_filename(both.host->snapshots, "stray", NULL);
    g_autofree char *left = g_build_filename(stray, "s1.xml", NULL);
    g_autofree char *nothing = g_build_filename(both.host->snapshots, "empty", NULL);
    ck_assert(mkdir(autostart, 0755) == 0 && mkdir(stray, 0755) == 0 && mkdir(nothing, 0755) == 0);
    ck_assert(g_file_set_contents(left, "<domainsnapshot/>", -1, NULL));
    g_autofree char *told = both_import(&both);
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        assert_has(told, files[i]);
        g_free(paths[i]);
        paths[i] = NULL;
    }
    assert_has(told, "DOCTYPE");
    assert_has(told, "uuid.xml': the domain has no <uuid>: skipped\n");
    assert_has(told, "/stray': no domain of that name is defined, 1 file skipped\n");
    ck_assert_ptr_null(strstr(told, "autostart"));
    ck_assert_ptr_null(strstr(told, "/empty"));
    assert_has(told, "\nweb: no snapshots\n");
    g_autofree char *names = world_names(both.world, NULL);
    ck_assert_str_eq(names, "web");
    g_autofree char *log = world_log(both.world, NULL);
    assert_has(log, "import from libvirt: '");
}
END_TEST

/* What is told is one line each, whatever stands in the files. */
START_TEST(control_characters)
{
    g_auto(Both) both = both_new(PATH("world"));
    libvirt_machine_put(both.web, "evil\n\033[31m", "<domainsnapshot/>");
    g_autofree char *told = both_import(&both);
    assert_has(told, "/evil  [31m': line 1: ");
    ck_assert_ptr_null(strchr(told, '\033'));
    libvirt_machine_undefine(both.web);
    g_autofree char *nothing = g_strdup_printf("no domain is defined in '%s'\n", both.host->definitions);
    world_import(both.world, both.host->root, nothing);
}
END_TEST

/* One machine in two files: the one that is called like it. */
START_TEST(twice)
{
    g_auto(Both) both = both_new(PATH("world"));
    g_autofree char *file = libvirt_machine_file(both.web);
    g_autofree char *text = NULL;
    ck_assert(g_file_get_contents(file, &text, NULL, NULL));
    static const char *const copies[] = {"aaa.xml", "zzz.xml"};
    for (gsize i = 0; i < G_N_ELEMENTS(copies); i++) {
        g_autofree char *copy = g_build_filename(both.host->definitions, copies[i], NULL);
        ck_assert(g_file_set_contents(copy, text, -1, NULL));
    }
    g_autofree char *told = both_import(&both);
    assert_has(told, "aaa.xml': name or uuid is that of '");
    assert_has(told, "zzz.xml': name or uuid is that of '");
    assert_has(told, "\nweb: no snapshots\n");
    world_reopen(both.world);
    world_assert_read_only(both.world, "web", "/web.xml')");
}
END_TEST

/* --- trees --- */

START_TEST(several_current)
{
    g_auto(Both) both = both_new(PATH("world"));
    libvirt_machine_snapshot(both.web, "s1", "ii");
    libvirt_machine_snapshot(both.web, "s2", "ii");
    libvirt_machine_snapshot(both.web, "s3", "ii");
    libvirt_machine_edit(both.web, "s1", "<active>0<", "<active>1<");
    g_autofree char *path = g_build_filename(both.host->snapshots, "web", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autofree char *last = NULL;
    for (const char *entry = g_dir_read_name(dir); entry; entry = g_dir_read_name(dir))
        if (!g_str_has_prefix(entry, "s2")) {
            g_free(last);
            last = g_strndup(entry, 2);
        }
    g_autofree char *told = both_import(&both);
    g_autofree char *sentence = g_strdup_printf(
        "! web: 2 snapshots are marked as the current one: '%s', read last, is taken\n", last);
    assert_has(told, sentence);
    both_assert_snapshots(&both, "s1 s2 s3", last);
}
END_TEST

START_TEST(no_current)
{
    g_auto(Both) both = both_new(PATH("world"));
    libvirt_machine_snapshot(both.web, "s1", "ii");
    libvirt_machine_edit(both.web, "s1", "<active>1<", "<active>0<");
    world_import(both.world, both.host->root, "web: 1 snapshot, no current one\n");
    both_assert_snapshots(&both, "s1", "-");
}
END_TEST

START_TEST(missing_parent)
{
    g_auto(Both) both = both_new(PATH("world"));
    import_world_three(both.web);
    g_autofree char *path = libvirt_machine_snapshot_file(both.web, "s2");
    ck_assert_int_eq(unlink(path), 0);
    g_autofree char *told = both_import(&both);
    assert_has(told, "! web: snapshot 's3': its parent 's2' is missing: it is a root now\n");
    assert_has(told, "! web: the tree is not whole: no snapshot is current ('s3' was)\n");
    both_assert_snapshots(&both, "s1 s3", "-");
    assert_parent(&both, "s3", "-");
    world_assert_hash(both.world, "s3", "vda", 12, 1);
}
END_TEST

START_TEST(loops)
{
    g_auto(Both) both = both_new(PATH("world"));
    for (guint i = 0; i < 5; i++) {
        g_autofree char *name = g_strdup_printf("n%u", i);
        libvirt_machine_snapshot(both.web, name, "--");
    }
    libvirt_machine_edit(both.web, "n0", "<creationTime>", "<parent><name>n2</name></parent><creationTime>");
    libvirt_machine_edit(both.web, "n4", "<name>n3</name>\n  </parent>", "<name>n3</name></parent>");
    g_autofree char *told = both_import(&both);
    assert_has(told, " descends from it: it is a root now\n");
    assert_has(told, "the tree is not whole: no snapshot is current ('n4' was)");
    g_autofree char *tree = world_tree(both.world, "web");
    for (guint i = 0; i < 5; i++) {
        g_autofree char *name = g_strdup_printf("n%u\n", i);
        assert_has(tree, name); /* reached from a root, each of them */
    }
    world_reopen(both.world);
    world_assert_read_only(both.world, "web", "libvirt defines it");
}
END_TEST

/* What is refused here but not by libvirt goes as if it were deleted. */
START_TEST(refused_inner_node)
{
    g_auto(Both) both = both_new(PATH("world"));
    import_world_three(both.web);
    libvirt_machine_edit(both.web, "s2", "<uuid>", "<uuid>12345678-1234-1234-1234-123456789012</uuid><uuid>");
    g_autofree char *told = both_import(&both);
    assert_has(told, "! web: snapshot 's2': its document is about the domain with the uuid '12345678-");
    assert_has(told, "\nweb: 2 snapshots, current 's3'\n");
    both_assert_snapshots(&both, "s1 s3", "s3");
    assert_parent(&both, "s3", "s1");
    world_assert_hash(both.world, "s3", "vda", 12, 1);
}
END_TEST

/* A child whose clock said less than its parent's is still behind it. */
START_TEST(times)
{
    g_auto(Both) both = both_new(PATH("world"));
    libvirt_machine_snapshot(both.web, "late", "ii");
    libvirt_machine_snapshot(both.web, "early", "ii");
    libvirt_machine_snapshot(both.web, "before", "ii");
    libvirt_machine_edit(both.web, "early", "<creationTime>1700000001<", "<creationTime>-5<");
    libvirt_machine_edit(both.web, "before", "<creationTime>1700000002<", "<creationTime>1700000000<");
    world_import(both.world, both.host->root, "web: 3 snapshots, current 'before'\n");
    both_assert_snapshots(&both, "early late before", "before");
    assert_parent(&both, "early", "late");
    assert_parent(&both, "before", "early");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("import_odd");
    TCase *files = scratch_case(suite, "files");
    tcase_add_test(files, any_name);
    tcase_add_loop_test(files, damaged_file, 0, G_N_ELEMENTS(damaged));
    tcase_add_test(files, no_files);
    tcase_add_test(files, no_definitions);
    tcase_add_test(files, twice);
    tcase_add_test(files, control_characters);
    TCase *trees = scratch_case(suite, "trees");
    tcase_add_test(trees, several_current);
    tcase_add_test(trees, no_current);
    tcase_add_test(trees, missing_parent);
    tcase_add_test(trees, loops);
    tcase_add_test(trees, refused_inner_node);
    tcase_add_test(trees, times);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
