/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Command lines, word by word: tests/golden/launch/ (its README says what the files are). */
#include "launch_case.h"
#include "runner.h"

static GPtrArray *names;
static guint files;

/* Programs that are there, wherever the tests run. */
static char *pretend_program(const char *name)
{
    static const char *const there[] = {"qemu-system-x86_64", "qemu-system-i386"};
    for (guint i = 0; i < G_N_ELEMENTS(there); i++) {
        g_autofree char *path = g_strconcat("/usr/bin/", there[i], NULL);
        if (g_str_equal(name, there[i]) || g_str_equal(name, path))
            return g_steal_pointer(&path);
    }
    return NULL;
}

static LaunchSpec pretend_spec(const DomainDef *def, GHashTable *backing, gboolean kvm)
{
    return (LaunchSpec){.def = def,
                        .backing = backing,
                        .directory = "/run/machines",
                        .kvm = kvm,
                        .now = 1700000000,
                        .find_program = pretend_program};
}

/* --- a launch as text --- */

static void append_argv(GString *out, const Launch *launch)
{
    for (guint i = 0; i + 1 < launch->argv->len; i++) {
        const char *word = launch->argv->pdata[i];
        g_string_append_printf(out, "%s%s", i == 0 ? "" : word[0] == '-' ? "\n" : " ", word);
    }
    g_string_append_c(out, '\n');
}

static void append_list(GString *out, const char *what, const GPtrArray *list)
{
    for (guint i = 0; i < list->len; i++)
        g_string_append_printf(out, "%s: %s\n", what, (const char *)list->pdata[i]);
}

static void append_disks(GString *out, const Launch *launch)
{
    for (guint i = 0; i < launch->disks->len; i++) {
        const LaunchDisk *disk = launch->disks->pdata[i];
        g_string_append_printf(out, "disk: %s device %s levels %u node %s file %s\n", disk->target,
                               disk->device, disk->levels, disk->node ? disk->node : "none",
                               disk->file_node ? disk->file_node : "none");
    }
    for (guint i = 0; i < launch->overlays->len; i++) {
        const LaunchOverlay *overlay = launch->overlays->pdata[i];
        g_string_append_printf(out, "overlay: %s at %s on %s, %s\n", overlay->target, overlay->path,
                               overlay->below->path, image_format_to_string(overlay->below->format));
    }
}

static void append_cpus(GString *out, const Launch *launch)
{
    if (!launch->pinned)
        return;
    g_string_append(out, "cpus:");
    for (guint cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &launch->cpus))
            g_string_append_printf(out, " %u", cpu);
    g_string_append_c(out, '\n');
}

static char *describe(const Launch *launch)
{
    static const char *const actions[] = {"destroy", "restart", "preserve"};
    GString *out = g_string_new(NULL);
    append_argv(out, launch);
    append_disks(out, launch);
    append_list(out, "socket", launch->sockets);
    if (launch->agent)
        g_string_append_printf(out, "agent: %s\n", launch->agent);
    if (launch->nvram)
        g_string_append_printf(out, "nvram: %s from %s\n", launch->nvram, launch->nvram_template);
    append_cpus(out, launch);
    g_string_append_printf(out, "power-off: %s, crash: %s\n", actions[launch->on_poweroff],
                           actions[launch->on_crash]);
    append_list(out, "command", launch->commands);
    append_list(out, "note", launch->notes);
    g_autofree char *document = domain_def_format(launch->def);
    g_string_append(out, document);
    return g_string_free(out, FALSE);
}

/* Line by line, so that a failure shows the line. */
static void assert_same(const char *name, const char *is, const char *should)
{
    g_auto(GStrv) is_lines = g_strsplit(is, "\n", -1);
    g_auto(GStrv) lines = g_strsplit(should, "\n", -1);
    guint i = 0;
    while (is_lines[i] && lines[i] && strcmp(is_lines[i], lines[i]) == 0)
        i++;
    ck_assert_msg(!is_lines[i] && !lines[i], "%s, line %u: '%s' should be '%s'", name, i + 1,
                  is_lines[i] ? is_lines[i] : "(the end)", lines[i] ? lines[i] : "(the end)");
}

/* --- tests --- */

START_TEST(golden)
{
    const char *name = names->pdata[_i];
    g_autofree char *text = launch_case_text(name, ".xml");
    g_autoptr(DomainDef) def = launch_case_parse(name, text);
    g_autoptr(GHashTable) backing = launch_case_backing(def);
    g_autofree char *before = domain_def_format(def);
    LaunchSpec spec = pretend_spec(def, backing, g_str_has_prefix(name, "kvm-"));
    g_autoptr(GError) error = NULL;
    g_autoptr(Launch) launch = launch_new(&spec, &error);
    ck_assert_msg(launch != NULL, "%s: %s", name, launch ? "" : error->message);
    g_autofree char *is = describe(launch);
    g_autofree char *after = domain_def_format(def);
    ck_assert_str_eq(before, after); /* the document that it was given */
    if (g_getenv("GOLDEN_WRITE")) {
        g_autofree char *path = g_strconcat(LAUNCH_DIR "/", name, ".txt", NULL);
        ck_assert(g_file_set_contents(path, is, -1, NULL));
    }
    g_autofree char *should = launch_case_text(name, ".txt");
    assert_same(name, is, should);
}
END_TEST

/* What was completed is the same machine, word by word, when it is started again. */
START_TEST(again)
{
    const char *name = names->pdata[_i];
    g_autofree char *text = launch_case_text(name, ".xml");
    g_autoptr(DomainDef) def = launch_case_parse(name, text);
    g_autoptr(GHashTable) backing = launch_case_backing(def);
    LaunchSpec spec = pretend_spec(def, backing, g_str_has_prefix(name, "kvm-"));
    g_autoptr(Launch) first = launch_new(&spec, NULL);
    ck_assert_ptr_nonnull(first);
    g_autofree char *completed = domain_def_format(first->def);
    g_autoptr(DomainDef) pinned = launch_case_parse(name, completed);
    spec.def = pinned;
    g_autoptr(Launch) second = launch_new(&spec, NULL);
    ck_assert_ptr_nonnull(second);
    g_autofree char *a = describe(first), *b = describe(second);
    assert_same(name, b, a);
}
END_TEST

START_TEST(no_strays)
{
    ck_assert_uint_gt(names->len, 0);
    ck_assert_uint_eq(files, 2 * names->len);
}
END_TEST

/* Node names have at most 31 bytes, ids begin with a letter, and no two disks share one. */
START_TEST(names_of_disks)
{
    static const char *const targets[] = {"vda", "0", "a:b", "a-b", "a_b"};
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < 40; i++) {
        g_autofree char *length = g_strnfill(64 - i % 2, 'v');
        if (i >= G_N_ELEMENTS(targets))
            length[i] = 'w';
        const char *target = i < G_N_ELEMENTS(targets) ? targets[i] : length;
        char *node = launch_node_name(target, 9999), *file = launch_file_node_name(target, 9999);
        char *id = launch_device_id(target);
        ck_assert_uint_le(strlen(file), 31);
        ck_assert(g_str_has_prefix(id, "disk-"));
        ck_assert_uint_eq(strspn(node, "abcdefghijklmnopqrstuvwxyz0123456789-._"), strlen(node));
        ck_assert_msg(g_hash_table_add(seen, node) && g_hash_table_add(seen, file) &&
                          g_hash_table_add(seen, id),
                      "%s", target);
    }
    ck_assert(launch_is_device("disk-vda", "disk-vda") && !launch_is_device("disk-vdab", "disk-vda"));
    ck_assert(launch_is_device("/machine/peripheral/disk-vda/virtio-backend", "disk-vda"));
    ck_assert(!launch_is_device("/machine/peripheral/disk-vdab/virtio-backend", "disk-vda"));
    ck_assert(!launch_is_device("/machine/peripheral-anon/disk-vda", "disk-vda"));
    g_autofree char *vda = launch_node_name("vda", 3), *vda_file = launch_file_node_name("vda", 3);
    ck_assert_str_eq(vda, "disk-vda-3");
    ck_assert_str_eq(vda_file, "disk-vda-3-file");
}
END_TEST

/* The argument behind the n-th @option. */
static const char *argument(const Launch *launch, const char *option, guint n)
{
    for (guint i = 0; i + 2 < launch->argv->len; i++)
        if (strcmp(launch->argv->pdata[i], option) == 0 && n-- == 0)
            return launch->argv->pdata[i + 1];
    return NULL;
}

/* What lies below is the store's to say, not the document's: here an export, which a document cannot even name there. */
START_TEST(remote_layer)
{
    static const char text[] = "<domain type='qemu'><name>d</name><memory>65536</memory><devices><disk>"
                               "<driver type='qcow2'/><source file='/images/top'/><backingStore type='file'>"
                               "<format type='raw'/><source file='/images/other'/></backingStore>"
                               "<target dev='vda'/></disk></devices></domain>";
    g_autoptr(DomainDef) def = launch_case_parse("remote", text);
    g_autoptr(GHashTable) backing = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) below = g_ptr_array_new_with_free_func((GDestroyNotify)backing_def_free);
    g_ptr_array_add(
        below, backing_def_new(DISK_NETWORK, "nbd+unix:///a%2Fb%20c?socket=/run/s%3F%26.sock", FORMAT_RAW));
    g_hash_table_insert(backing, (gpointer) "vda", below);
    LaunchSpec spec = pretend_spec(def, backing, FALSE);
    g_autoptr(GError) error = NULL;
    g_autoptr(Launch) launch = launch_new(&spec, &error);
    ck_assert_msg(launch != NULL, "%s", error ? error->message : "");
    ck_assert_str_eq(
        argument(launch, "-blockdev", 0),
        "{\"driver\":\"nbd\",\"server\":{\"type\":\"unix\",\"path\":\"/run/s?&.sock\"},\"export\":\"a/b c\","
        "\"node-name\":\"disk-vda-0-file\",\"auto-read-only\":true,\"discard\":\"unmap\"}");
    ck_assert_str_eq(argument(launch, "-blockdev", 3),
                     "{\"driver\":\"qcow2\",\"node-name\":\"disk-vda-1\",\"read-only\":false,"
                     "\"file\":\"disk-vda-1-file\",\"backing\":\"disk-vda-0\"}");
}
END_TEST

/* Any definition that is taken at all has a command line, or a sentence in one line. */
START_TEST(any_document)
{
    g_autoptr(GDir) dir = g_dir_open(GOLDEN_DIR "/domain", 0, NULL);
    const char *file;
    guint n = 0;
    ck_assert_ptr_nonnull(dir);
    for (; (file = g_dir_read_name(dir)); n++) {
        g_autofree char *path = g_build_filename(GOLDEN_DIR "/domain", file, NULL);
        g_autofree char *text = NULL;
        gsize len;
        g_autoptr(GError) error = NULL;
        ck_assert(g_file_get_contents(path, &text, &len, NULL));
        g_autoptr(DomainDef) def = domain_def_parse(text, len, NULL);
        ck_assert_msg(def != NULL, "%s", file);
        g_autoptr(GHashTable) backing = launch_case_backing(def);
        LaunchSpec spec = pretend_spec(def, backing, FALSE);
        g_autoptr(Launch) launch = launch_new(&spec, &error);
        ck_assert_msg((launch != NULL) != (error != NULL), "%s", file);
        if (error)
            ck_assert_msg(g_utf8_validate(error->message, -1, NULL) && !strchr(error->message, '\n'),
                          "%s: %s", file, error->message);
        g_autoptr(Launch) silent = launch_new(&spec, NULL);
        ck_assert((silent != NULL) == (launch != NULL));
    }
    ck_assert_uint_gt(n, 20);
}
END_TEST

/* How it is started is not a matter of the document. */
START_TEST(manner)
{
    g_autofree char *text = launch_case_text("smallest", ".xml");
    g_autoptr(DomainDef) def = launch_case_parse("smallest", text);
    g_autoptr(GHashTable) backing = launch_case_backing(def);
    LaunchSpec spec = pretend_spec(def, backing, FALSE);
    spec.incoming = "defer";
    spec.daemonize = TRUE;
    g_autoptr(Launch) launch = launch_new(&spec, NULL);
    ck_assert_ptr_nonnull(launch);
    const char *const *argv = (const char *const *)launch->argv->pdata;
    ck_assert(g_strv_contains(argv, "-incoming") && g_strv_contains(argv, "defer"));
    ck_assert(g_strv_contains(argv, "-daemonize"));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("launch");
    TCase *tcase = tcase_create("launch");
    suite_add_tcase(suite, tcase);
    names = launch_cases(&files);
    tcase_add_loop_test(tcase, golden, 0, (int)names->len);
    tcase_add_loop_test(tcase, again, 0, (int)names->len);
    tcase_add_test(tcase, no_strays);
    tcase_add_test(tcase, names_of_disks);
    tcase_add_test(tcase, manner);
    tcase_add_test(tcase, remote_layer);
    tcase_add_test(tcase, any_document);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
