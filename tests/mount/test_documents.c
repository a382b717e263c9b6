/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Documents at the mount: the schema, redefine and what it refuses, trees moved to another store, images' own tags. */
#include <fcntl.h>
#include <unistd.h>

#include "model.h"

static World *web(void)
{
    World *w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2");
    return w;
}

/* The last line of the log. */
static const char *last_line(const World *w)
{
    g_auto(GStrv) lines = g_strsplit(text_of(w, "web/log"), "\n", -1);
    return keep(w, lines[g_strv_length(lines) - 2]);
}

/* @text with @from replaced, which must be there. */
static const char *with(const World *w, const char *text, const char *from, const char *to)
{
    g_autoptr(GString) out = g_string_new(text);
    ck_assert_msg(g_string_replace(out, from, to, 1) == 1, "'%s' is not in '%s'", from, text);
    return keep(w, out->str);
}

static int feed(const World *w, const char *line, const char *document)
{
    return put(w, "web/ctl", keepf(w, "%s -\n%s", line, document));
}

/* --- the schema --- */

/* Everything that is shown satisfies it, and so xmllint says with the file that is installed. */
START_TEST(what_is_written_is_valid)
{
    g_autoptr(World) w = web();
    g_autofree char *schema =
        g_build_filename(g_getenv("EXAMPLES"), "..", "snapcore", "domainsnapshot.rng", NULL);
    run_ok(w, "mkdir", "web/one");
    command(w, "web",
            "create two --diskspec vda,snapshot=external --diskspec vdb,snapshot=no --description '<&\"'");
    command(w, "web",
            "create 'three & four' --diskspec vda,snapshot=internal --diskspec vdb,snapshot=external");
    static const char *const names[] = {"one", "two", "three & four"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *file = keepf(w, "web/%s/snapshot.xml", names[i]);
        run_ok(w, "xmllint", "--noout", "--relaxng", schema, file);
        ck_assert_int_eq(feed(w, "redefine --validate", text_of(w, file)), 0);
    }
}
END_TEST

START_TEST(validate)
{
    g_autoptr(World) w = web();
    run_ok(w, "mkdir", "web/one");
    const char *xml = text_of(w, "web/one/snapshot.xml");
    const char *unknown =
        with(w, xml, "  <memory snapshot='no'/>\n", "  <memory snapshot='no'/>\n  <colour>red</colour>\n");
    ck_assert_int_eq(feed(w, "redefine --validate", unknown), EINVAL);
    ck_has(last_line(w),
           "FAILED redefine --validate -: not valid: line 6: <colour>: it is not allowed there, or not with "
           "the content 'red'");
    ck_assert_int_eq(feed(w, "redefine", unknown), 0); /* only when asked for */
    const char *ask = "<domainsnapshot>\n<name>two</name>\n<disks>\n<disk name='vda' snapshot='internal'/>\n"
                      "<disk name='vdb' mode='no'/>\n</disks>\n</domainsnapshot>\n";
    ck_assert_int_eq(feed(w, "create --validate", ask), EINVAL);
    ck_has(last_line(w), "not valid: line 5: <disk>: mode='no' is not allowed there");
    ck_assert(!exists(w, "web/two"));
    ck_assert_int_eq(feed(w, "create --validate", with(w, ask, "mode=", "snapshot=")), 0);
    ck_assert(exists(w, "web/two"));
    /* there is nothing to validate */
    command_fails(w, "web", EINVAL, "create three --validate");
    ck_has(last_line(w), "--validate is about a document, and none follows");
    ck_assert(!exists(w, "web/three"));
}
END_TEST

/* --- redefine --- */

START_TEST(refusals_name_the_line)
{
    g_autoptr(World) w = web();
    run_ok(w, "mkdir", "web/one");
    run_ok(w, "mkdir", "web/two");
    const char *xml = text_of(w, "web/one/snapshot.xml"), *tree = text_of(w, "web/tree");
    static const struct {
        const char *from, *to;
        int want;
        const char *why;
    } bad[] = {
        {"  <creationTime>", "  <parent>\n    <name>two</name>\n  </parent>\n  <creationTime>", EINVAL,
         "line 4: <parent>: 'two' descends from it"},
        {"<state>shutoff", "<state>running", EINVAL, "line 3: <state>: it cannot become 'running'"},
        {"<disk name='vdb'", "<disk name='vdc'", EOPNOTSUPP,
         "disk 'vdc': line 8: the domain has no disk of that name"},
        {"dev='vdb'", "dev='vdc'", EOPNOTSUPP, "disk 'vdb': line 8: the domain has no disk of that name"},
        {"bus='virtio'", "bus='usb'", EOPNOTSUPP,
         "<domain>: it is not the machine of the snapshot that is there: disk 'vda': its bus is 'usb', not "
         "'virtio'"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        const char *document = with(w, xml, bad[i].from, bad[i].to);
        ck_assert_int_eq(feed(w, "redefine", document), bad[i].want);
        ck_has(last_line(w), bad[i].why);
        ck_assert_int_eq(put(w, "web/one/snapshot.xml", document), bad[i].want);
        ck_has(last_line(w), bad[i].why);
    }
    ck_assert_int_eq(feed(w, "redefine --disk-only", xml), EINVAL);
    ck_has(last_line(w), "line 3: <state>: it is 'shutoff': disk-only asks for 'disk-snapshot'");
    ck_assert_str_eq(text_of(w, "web/one/snapshot.xml"), xml);
    ck_assert_str_eq(text_of(w, "web/tree"), tree);
}
END_TEST

/* A tree leaves one store and comes into another, with the same images: by shell, parents first. */
START_TEST(moved_to_another_store)
{
    g_autoptr(World) w = web();
    g_autoptr(Model) m = model_new(w, "web", "vda:qcow2 vdb:qcow2");
    model_touch(m);
    model_mkdir(m, "one");
    model_touch(m);
    model_create(m, "two", "--diskspec vda,snapshot=external --diskspec vdb,snapshot=internal");
    model_touch(m);
    model_revert(m, "one");
    model_touch(m);
    model_create(m, "three", "--diskspec vda,snapshot=external --diskspec vdb,snapshot=external");
    model_touch(m);
    const char *tree = text_of(w, "web/tree");
    sh_ok(w, "mkdir ../out && cp web/domain.xml ../out/ && for s in one two three; do cp web/$s/snapshot.xml "
             "../out/$s; done");
    command(w, NULL, "undefine web --snapshots-metadata");
    world_stop(w);
    g_free(w->store);
    w->store = g_strdup(in_dir(w, "another"));
    world_start(w, NULL);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
    sh_ok(w, "cp ../out/domain.xml ctl && for s in one two; do { echo 'redefine --validate -'; cat "
             "../out/$s; } > web/ctl || exit; "
             "done; { echo 'redefine current -'; cat ../out/three; } > web/ctl");
    ck_assert_str_eq(text_of(w, "web/tree"), tree);
    model_verify(m);
    static const char *const names[] = {"two", "one", "three", "two"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        model_revert(m, names[i]);
        model_verify(m);
        model_touch(m);
    }
}
END_TEST

/* --- images' own tags --- */

START_TEST(tags_nobody_names)
{
    g_autoptr(World) w = web();
    const char *vda = image(w, "web-vda.qcow2");
    run_ok(w, "mkdir", "web/one");
    world_stop(w);
    run_ok(w, "qemu-img", "snapshot", "-c", "by hand", vda);
    run_ok(w, "qemu-img", "snapshot", "-d", "one", image(w, "web-vdb.qcow2"));
    world_start(w, NULL);
    const char *tree = text_of(w, "web/tree");
    ck_assert_int_eq((int)stat_of(w, "web/tree").st_size, (int)strlen(tree));
    ck_has(tree, keepf(w, "\nno tag: snapshot 'one' of vdb: '%s' has no internal snapshot 'one'\n",
                       image(w, "web-vdb.qcow2")));
    ck_has(tree, keepf(w, "\nunnamed: '%s' has the internal snapshot 'by hand' (id 2, ", vda));
    ck_has(text_of(w, "web/log"), " no tag: snapshot 'one' of vdb: ");
    ck_has(text_of(w, "web/log"), " unnamed: '");
    const char *before = contents(w);
    ck_has(run_fails(w, "ln", "-sfn", "one", "web/current"), "Input/output error");
    ck_has(last_line(w), "has no internal snapshot 'one' any more");
    ck_assert_str_eq(contents(w), before);
    run_ok(w, "rmdir", "web/one");
    ck_has_not(text_of(w, "web/tree"), "no tag");
    ck_assert_str_eq(tags_of(w, vda), "by hand");
    ck_has(text_of(w, "web/tree"), "unnamed: '");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("documents");
    TCase *schema = add_case(s, "schema");
    tcase_add_test(schema, what_is_written_is_valid);
    tcase_add_test(schema, validate);
    TCase *documents = add_case(s, "redefine");
    tcase_add_test(documents, refusals_name_the_line);
    tcase_add_test(documents, moved_to_another_store);
    TCase *tags = add_case(s, "tags");
    tcase_add_test(tags, tags_nobody_names);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
