/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The store: a restart changes nothing, damage takes one domain read-only, secrets stay hidden. */
#include <sys/wait.h>

#include "engine_world.h"
#include "runner.h"

/* --- restart --- */

static char *everything(World *world)
{
    GString *out = g_string_new(NULL);
    static const char *const domains[] = {"web", "other"};
    for (guint i = 0; i < 2; i++) {
        EngineId id = world_domain(world, domains[i]);
        g_autofree char *digest = world_digest(world, domains[i]);
        g_autofree char *tree = world_tree(world, domains[i]);
        g_autofree char *log = world_log(world, domains[i]);
        g_autofree char *state = world_text(world, ENGINE_TEXT_STATE, id);
        g_string_append_printf(out, "%s\n%s\n%s\n%s\n", digest, tree, log, state);
        g_autoptr(GPtrArray) list = world->engine->ops->list(world->engine, id);
        for (guint k = 0; k < list->len; k++) {
            EngineLook look;
            guint64 size, described;
            gint64 when;
            const EngineEntry *entry = list->pdata[k];
            ck_assert(world->engine->ops->look(world->engine, entry->id, &look));
            ck_assert(world->engine->ops->text_size(world->engine, ENGINE_TEXT_SNAPSHOT_XML, entry->id, &size,
                                                    &when));
            ck_assert(world->engine->ops->text_size(world->engine, ENGINE_TEXT_DESCRIPTION, entry->id,
                                                    &described, &when));
            g_string_append_printf(
                out, "%s %" G_GINT64_FORMAT " %d %d %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\n",
                entry->name, look.time, look.kind, look.secret, size, described);
        }
    }
    return g_string_free(out, FALSE);
}

START_TEST(restart)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_revert(world, "web", "s1");
    world_write(world, "web", "vda", 55);
    world_create(world, "web", "branch", NULL);
    ASSERT_OK(world_try_rename(world, "web", "s2", "second", &error), error);
    world_delete(world, "web", "s3");
    g_autofree char *before = everything(world);
    for (guint i = 0; i < 2; i++) {
        world_reopen(world);
        g_autofree char *after = everything(world);
        ck_assert_str_eq(after, before);
    }
    world_close(world);
    world->options.read_only = TRUE;
    world_open(world);
    g_autofree char *read_only = everything(world);
    ck_assert_str_eq(read_only, before);
    ck_assert(!world_try_create(world, "web", "x", NULL, &error));
    expect_error(&error, EROFS, "read-only");
    ck_assert(!world_try_delete(world, "web", "s1", DELETE_ONE, &error));
    expect_error(&error, EROFS, "read-only");
}
END_TEST

START_TEST(one_process)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    Engine *second = core_engine_new(&world->options, offline_backend_new(NULL), &error);
    ck_assert_ptr_null(second);
    g_autofree char *pid = g_strdup_printf("is in use by process %d", (int)getpid());
    expect_error(&error, EBUSY, pid);
}
END_TEST

/* What a daemon that was killed had just forked has the lock for a moment more: who comes then waits for it. */
START_TEST(one_that_was_killed)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_close(world);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        world_open(world);
        if (fork() == 0)
            g_usleep(G_USEC_PER_SEC / 4);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    world_open(world);
    g_autofree char *names = world_names(world, NULL);
    ck_assert_str_eq(names, "web");
}
END_TEST

/* --- damage --- */

static const struct {
    const char *file, *text; /* text NULL: removed */
    const char *why;
} damages[] = {
    {"domains/web/domain.json", "{", "domain.json"},
    {"domains/web/domain.json", NULL, "domain.json"},
    {"domains/web/domain.json", "{\"version\": 1, \"current\": \"none\", \"layers\": []}", NULL},
    {"domains/web/domain.json", "{\"version\": 1, \"current\": null, \"layers\": [5]}",
     "not as the format says"},
    {"domains/web/domain.json", "{\"version\": 99, \"current\": null, \"layers\": []}", NULL},
    {"domains/web/snapshots/s2.json", NULL, "s2"},
    {"domains/web/snapshots/s2.json", "[]", "s2"},
    {"domains/web/snapshots/s2.json",
     "{\"disks\": [], \"layers\": [{\"path\": \"relative\", \"format\": \"qcow2\"}]}", NULL},
    {"domains/web/snapshots/s2.json",
     "{\"disks\": [{\"target\": \"vda\", \"layer\": \"/none\"}], \"layers\": []}", NULL},
    {"domains/web/snapshots/s2.xml", "", "s2"},
    {"domains/web/snapshots/s2.xml", "<domainsnapshot>", "s2"},
    {"domains/web/snapshots/s2.xml", NULL, "parent"},
    {"domains/web/snapshots/s2.xml", "\xff\xff", "s2"},
    {"domains/web/snapshots/zz.xml", "<domain/>", "zz"},
    {"domains/web/journal.json", "", "journal"},
    {"domains/web/journal.json", "{\"version\": 1}", "journal"},
    {"domains/web/journal.json",
     "{\"version\": 1, \"what\": \"w\", \"committed\": false, \"steps\": [{\"kind\": \"tag\", \"stage\": 0, "
     "\"disk\": "
     "\"vda\", \"path\": \"/x\", \"mode\": 0, \"size\": 0, \"format\": \"none\", \"backing_format\": "
     "\"none\"}], "
     "\"after\": [], \"writes\": []}",
     "journal"},
};

START_TEST(damage)
{
    g_autofree char *number = g_strdup_printf("%d", _i);
    g_autoptr(World) world = world_two_domains(PATH(number));
    g_autofree char *file = world_store_file(world, damages[_i].file);
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *before = file_hash(a);
    world_close(world);
    if (damages[_i].text)
        ck_assert(g_file_set_contents(file, damages[_i].text, -1, NULL));
    else
        ck_assert_int_eq(unlink(file), 0);
    for (guint i = 0; i < 2; i++) {
        world_open(world);
        world_assert_read_only(world, "web", damages[_i].why);
        world_assert_other_works(world);
        world_close(world);
    }
    g_autofree char *after = file_hash(a);
    ck_assert_str_eq(after, before);
    world_open(world);
}
END_TEST

/* Without its definition a domain cannot be shown at all; the mount's log says so, and nothing is thrown away. */
START_TEST(lost_definition)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autofree char *file = world_store_file(world, "domains/web/domain.xml");
    g_autofree char *kept = world_store_file(world, "domains/web/snapshots/s2.xml");
    world_close(world);
    ck_assert(g_file_set_contents(file, "<dom", -1, NULL));
    world_open(world);
    g_autofree char *names = world_names(world, NULL);
    g_autofree char *log = world_log(world, NULL);
    ck_assert_str_eq(names, "other");
    ck_assert_ptr_nonnull(strstr(log, "domain 'web' cannot be shown: "));
    ck_assert_int_eq(access(kept, F_OK), 0);
    /* its name is not free: its snapshots are still there */
    g_autoptr(GError) error = NULL;
    g_autofree char *path = world_path(world, "b.s1");
    g_autofree char *disk = disk_element("vda", "qcow2", path, "", "");
    g_autofree char *xml = domain_document("web", disk);
    ck_assert(!world_try_define(world, xml, &error));
    ck_assert_int_eq(access(kept, F_OK), 0);
    world_assert_other_works(world);
}
END_TEST

/* A definition that was being made, or thrown away, when the process died. */
START_TEST(half_made)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autofree char *ours =
        world_store_file(world, "domains/.5e3b1c9e-9f3a-4a0f-8f0e-6a3c5b7d9e01/snapshots");
    g_autofree char *theirs = world_store_file(world, "domains/.git/snapshots");
    g_autofree char *cut_short = world_store_file(world, "domains/web/snapshots/s1.json.A1B2C3");
    g_autofree char *stray = world_store_file(world, "domains/stray");
    world_create(world, "web", "x.json.A1B2C3", NULL); /* only looks like one */
    world_close(world);
    ck_assert_int_eq(g_mkdir_with_parents(ours, 0700), 0);
    ck_assert_int_eq(g_mkdir_with_parents(theirs, 0700), 0);
    ck_assert(g_file_set_contents(cut_short, "{", -1, NULL));
    ck_assert(g_file_set_contents(stray, "", -1, NULL));
    world_open(world);
    g_autofree char *names = world_names(world, NULL);
    g_autofree char *snapshots = world_names(world, "web");
    ck_assert_str_eq(names, "other web");
    ck_assert_str_eq(snapshots, "s1 s2 s3 x.json.A1B2C3");
    ck_assert_int_lt(access(ours, F_OK), 0);
    ck_assert_int_lt(access(cut_short, F_OK), 0);
    ck_assert_int_eq(access(theirs, F_OK), 0);
    world_check_clean(world, "web");
}
END_TEST

/* The directory has the new name, the document not yet. */
START_TEST(half_renamed)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autofree char *from = world_store_file(world, "domains/web");
    g_autofree char *to = world_store_file(world, "domains/new");
    g_autofree char *file = world_store_file(world, "domains/new/domain.xml");
    world_close(world);
    ck_assert_int_eq(rename(from, to), 0);
    world_open(world);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "new"));
    ck_assert_ptr_nonnull(strstr(xml, "<name>new</name>"));
    world_revert(world, "new", "s1");
    ck_assert_int_eq(access(file, F_OK), 0);
}
END_TEST

/* A store that was copied: the same content in other files. Nothing of it is ours to unlink any more. */
START_TEST(restored_from_backup)
{
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    g_autofree char *overlay = world_layer(world, "web", NULL, "vda", NULL);
    g_autofree char *copy = g_strconcat(overlay, ".copy", NULL);
    world_close(world);
    tool("cp", "-a", overlay, copy, NULL);
    ck_assert_int_eq(rename(copy, overlay), 0);
    world_open(world);
    const Domain *domain = g_hash_table_lookup(((Core *)world->engine)->by_name, "web");
    ck_assert(!domain_find_layer(domain, overlay)->made);
    world_create(world, "web", "s2", NULL);
    world_check_clean(world, "web");
}
END_TEST

/* --- secrets --- */

START_TEST(secrets)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    const EngineOps *ops = world->engine->ops;
    EngineId id = world_domain(world, "web");
    g_autofree char *plain = world_text(world, ENGINE_TEXT_DOMAIN_XML, id);
    GString *text = g_string_new(plain);
    g_string_replace(text, "  </devices>",
                     "    <graphics type='vnc' port='-1' passwd='hidden'/>\n  </devices>", 0);
    g_autofree char *with = g_string_free(text, FALSE);
    ASSERT_OK(world_try_define(world, with, &error), error);
    world_create(world, "web", "s1", NULL);
    EngineLook look;
    ck_assert(ops->look(world->engine, id, &look) && look.secret);
    ck_assert(ops->look(world->engine, world_snapshot(world, "web", "s1"), &look) && look.secret);

    /* a secret missing from a written document keeps its old value */
    GString *less = g_string_new(with);
    g_string_replace(less, " passwd='hidden'", "", 0);
    g_autofree char *without = g_string_free(less, FALSE);
    ASSERT_OK(ops->define(world->engine, id, without, strlen(without), NULL, NULL, &error), error);
    g_autofree char *now = world_text(world, ENGINE_TEXT_DOMAIN_XML, id);
    ck_assert_str_eq(now, with);

    world_close(world);
    world->options.read_only = TRUE;
    world_open(world);
    EngineId snapshot = world_snapshot(world, "web", "s1");
    g_autofree char *domain_text = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autofree char *snapshot_text = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, snapshot);
    ck_assert_str_eq(domain_text, without);
    ck_assert_ptr_null(strstr(snapshot_text, "hidden"));
    ck_assert_ptr_nonnull(strstr(snapshot_text, "<graphics type='vnc' port='-1'/>"));
    ck_assert(ops->look(world->engine, snapshot, &look) && look.secret);
}
END_TEST

/* Also in the second definition that a document of a running machine carries; and " passwd=" in a text is no secret. */
START_TEST(secrets_in_documents)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    world_create(world, "web", "s1", NULL);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    char *from = strstr(xml, "  <domain "), *end = strstr(xml, "  </domain>");
    g_autofree char *body = g_strndup(strchr(from, '\n') + 1, (gsize)(end - strchr(from, '\n') - 1));
    GString *inactive = g_string_new(body);
    g_string_replace(inactive, "    </devices>",
                     "      <graphics type='vnc' passwd='hidden'/>\n    </devices>", 0);
    GString *text = g_string_new(xml);
    g_autofree char *element = g_strdup_printf(
        "  <inactiveDomain type='kvm'>\n%s  </inactiveDomain>\n</domainsnapshot>", inactive->str);
    g_string_replace(text, "</domainsnapshot>", element, 0);
    ASSERT_OK(world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, text->str, text->len,
                                           FALSE, NULL, &error),
              error);
    g_string_free(text, TRUE);
    g_string_free(inactive, TRUE);
    world_create(world, "web", "s2", NULL);
    ASSERT_OK(world->engine->ops->describe(world->engine, world_snapshot(world, "web", "s2"),
                                           "a passwd='x' b", NULL, &error),
              error);
    world_close(world);
    world->options.read_only = TRUE;
    world_open(world);
    EngineLook look;
    g_autofree char *first = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    g_autofree char *second = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s2"));
    g_autofree char *said = world_text(world, ENGINE_TEXT_DESCRIPTION, world_snapshot(world, "web", "s2"));
    ck_assert_ptr_null(strstr(first, "hidden"));
    ck_assert_ptr_nonnull(strstr(second, "<domain type='kvm'>"));
    ck_assert_str_eq(said, "a passwd='x' b\n");
    ck_assert(world->engine->ops->look(world->engine, world_snapshot(world, "web", "s1"), &look) &&
              look.secret);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("store");
    TCase *tcase = scratch_case(suite, "store");
    tcase_add_test(tcase, restart);
    tcase_add_test(tcase, one_process);
    tcase_add_test(tcase, one_that_was_killed);
    tcase_add_loop_test(tcase, damage, 0, G_N_ELEMENTS(damages));
    tcase_add_test(tcase, lost_definition);
    tcase_add_test(tcase, half_made);
    tcase_add_test(tcase, half_renamed);
    tcase_add_test(tcase, restored_from_backup);
    tcase_add_test(tcase, secrets);
    tcase_add_test(tcase, secrets_in_documents);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
