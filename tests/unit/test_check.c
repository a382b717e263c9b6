/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The check of a store: its own files. Each kind of damage once (check_case.h). */
#include <sys/prctl.h>

#include "check_case.h"
#include "runner.h"

#define WEB "domains/web/"

/* --- what does not belong there --- */

static void strange_in_store(World *world)
{
    write_store(world, "notes.txt", "mine");
}

static void strange_in_domains(World *world)
{
    in_world(world, "touch store/domains/README && mkdir store/domains/a%b");
}

static void strange_in_domain(World *world)
{
    write_store(world, WEB "domain.xml.bak", "mine");
    write_store(world, WEB "snapshots/s1.xml~", "mine");
}

static void half_a_domain(World *world)
{
    in_world(world, "mkdir -p store/domains/.5bd4ac10-8b1e-4f0e-9a58-1df1ee16d8a7/snapshots");
}

static void half_a_file(World *world)
{
    write_store(world, WEB "domain.json.AbC123", "{");
    write_store(world, WEB "snapshots/s1.xml.AbC123", "<");
}

static void lost_side_file(World *world)
{
    in_world(world, "mkdir -p store/domains/web/files");
    write_store(world, WEB "files/5bd4ac10-8b1e-4f0e-9a58-1df1ee16d8a7.nvram", "nobody's");
}

/* --- a domain's documents and sidecars --- */

/* All of it is told, not just the first. */
static void several(World *world)
{
    write_store(world, WEB "domain.xml", "<domain");
    in_world(world, "rm store/domains/web/snapshots/s3.json && touch img/a.qcow2");
}

static void bad_sidecar(World *world)
{
    write_store(world, WEB "domain.json", "{");
}

static void other_version(World *world)
{
    edit_store(world, WEB "domain.json", "\"version\": 1", "\"version\": 2");
}

static void bad_layer(World *world)
{
    edit_store(world, "domains/other/domain.json", "\"format\": \"qcow2\"", "\"format\": \"vmdk\"");
}

static void lost_sidecar(World *world)
{
    in_world(world, "rm store/domains/web/snapshots/s3.json");
}

static void lost_document(World *world)
{
    in_world(world, "rm store/domains/web/snapshots/s2.xml");
}

static void wrong_file(World *world)
{
    in_world(world, "cd store/domains/web/snapshots && mv s3.xml else.xml && mv s3.json else.json");
}

/* Before <domain> it is fine, and that is all that is read at a mount. */
static void bad_tail(World *world)
{
    edit_store(world, WEB "snapshots/s3.xml", "</domain>", "</domain><cookie>");
}

static void no_parent(World *world)
{
    edit_store(world, WEB "snapshots/s3.xml", "<name>s2</name>", "<name>gone</name>");
}

static void circle(World *world)
{
    edit_store(world, WEB "snapshots/s2.xml", "<parent>\n    <name>s1</name>",
               "<parent>\n    <name>s3</name>");
}

static void disagree(World *world)
{
    edit_store(world, WEB "snapshots/s1.json", "\"tag\": \"s1\"", "\"made\": true");
}

static void lost_disk(World *world)
{
    edit_store(world, WEB "snapshots/s3.json", "\"target\": \"vdb\"", "\"target\": \"vdz\"");
}

static void no_current(World *world)
{
    edit_store(world, WEB "domain.json", "\"current\": \"s3\"", "\"current\": \"gone\"");
}

static void bad_current(World *world)
{
    edit_store(world, WEB "domain.json", "\"current\": \"s3\"", "\"current\": 3");
}

static void cut_rename(World *world)
{
    edit_store(world, WEB "domain.xml", "<name>web</name>", "<name>web-old</name>");
}

static void two_of_a_uuid(World *world)
{
    in_world(world, "uuid=$(grep '<uuid>' store/domains/web/domain.xml) && "
                    "sed -i \"s|.*<uuid>.*|$uuid|\" store/domains/other/domain.xml");
}

/* --- journals --- */

/* What a kill at that point of the operation leaves. */
static void die_at(World *world, guint point)
{
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* a qemu-img that it leaves may still hold the store's lock */
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        world_open(world);
        trap_set(TRAP_EXIT, point, 0);
        (void)world_try_create(world, "web", "s4", BOTH_EXTERNAL, NULL);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), TRAP_EXIT_CODE);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
}

/* The first or the last point at which the journal is there and (not) committed. */
static void die_with_journal(World *world, gboolean committed)
{
    g_autofree char *journal = world_store_file(world, WEB "journal.json");
    const char *wanted = committed ? "\"committed\": true" : "\"kind\": \"overlay\"";
    for (guint point = 1;; point++) {
        g_autofree char *text = NULL;
        die_at(world, point);
        if (g_file_get_contents(journal, &text, NULL, NULL) && strstr(text, wanted))
            return;
        world_open(world); /* recovers */
        world_close(world);
    }
}

static void before_commit(World *world)
{
    die_with_journal(world, FALSE);
}

static void after_commit(World *world)
{
    die_with_journal(world, TRUE);
}

/* Nobody knows what was under way: so nothing of the domain is touched. */
static void bad_journal(World *world)
{
    write_store(world, WEB "journal.json", "{\"version\": 1");
    in_world(world,
             "chmod u+w img/a.qcow2 && ln img/a.s2 img/.domsnapfs-5bd4ac10-8b1e-4f0e-9a58-1df1ee16d8a7");
    no_current(world);
}

static const CheckCase cases[] = {
    {"strange_in_store", strange_in_store, {"notes.txt': it does not belong into the store"}, 1, 0, 0},
    {"strange_in_domains", strange_in_domains, {"/README'", "/a%b'"}, 2, 0, 0},
    {"strange_in_domain", strange_in_domain, {"web: '", "domain.xml.bak'", "s1.xml~'"}, 2, 0, 0},
    {"lost_side_file", lost_side_file, {"orphan: ", "a7.nvram"}, 1, 0, 0},
    {"half_a_domain", half_a_domain, {"5bd4ac10", "a kill left it half done"}, 1, 1, 0},
    {"half_a_file", half_a_file, {"domain.json.AbC123", "s1.xml.AbC123"}, 2, 2, 0},
    {"several",
     several,
     {"domain.xml': the XML ends before", "s3.json", "a.qcow2': it was frozen and has been written"},
     5,
     0,
     0},
    {"bad_sidecar",
     bad_sidecar,
     {"domain.json', line 1", "s3: disk 0 refers to a layer that is not recorded"},
     2,
     0,
     0},
    {"other_version", other_version, {"its version is not one"}, 2, 0, 0},
    {"bad_layer", bad_layer, {"other: ", "its layers are not as the format says"}, 2, 0, 0},
    {"lost_sidecar", lost_sidecar, {"s3.json", "No such file"}, 3, 0, 0},
    {"lost_document",
     lost_document,
     {"s3: its parent 's2' is missing", "a snapshot without a document"},
     3,
     0,
     0},
    {"wrong_file",
     wrong_file,
     {"else.xml': the document of a snapshot that belongs into 'snapshots/s3.xml'"},
     1,
     0,
     0},
    {"bad_tail", bad_tail, {"snapshot 's3': ", "cannot be read to its end: line "}, 1, 0, 0},
    {"no_parent", no_parent, {"its parent 'gone' is missing"}, 1, 0, 0},
    {"circle", circle, {"descends from it"}, 1, 0, 0},
    {"disagree",
     disagree,
     {"snapshot 's1': disk 'vda': it is internal in its document, external in the sidecar"},
     4,
     0,
     0},
    {"lost_disk",
     lost_disk,
     {"disk 'vdz': the sidecar knows", "disk 'vdb': its document says that it took part"},
     2,
     0,
     0},
    {"no_current", no_current, {"the current snapshot 'gone' is missing"}, 1, 1, 0},
    {"bad_current", bad_current, {"its current snapshot is not as the format says"}, 1, 0, 0},
    {"cut_rename", cut_rename, {"its document calls it 'web-old'"}, 1, 1, 0},
    {"two_of_a_uuid", two_of_a_uuid, {"web: its uuid", "also that of domain 'other'"}, 1, 0, 0},
    {"before_commit",
     before_commit,
     {"\"create 's4'\" was cut short before its commit (overlay vda '", "undone"},
     1,
     1,
     0},
    {"after_commit",
     after_commit,
     {"\"create 's4'\" was cut short after its commit", "brought to its end"},
     1,
     1,
     0},
    {"bad_journal",
     bad_journal,
     {"what was under way is not known", "once its journal is in order"},
     4,
     0,
     0},
};

START_TEST(damage)
{
    g_autoptr(World) world = world_two_domains(PATH(cases[_i].name));
    world_close(world);
    run_check_case(&cases[_i], world);
}
END_TEST

/* --- a store in order --- */

static void describe_states(World *world)
{
    world_write(world, "web", "vda", 40);
    world_revert(world, "web", "s1"); /* copied out of a frozen file; what was is kept */
    world_write(world, "web", "vda", 41);
    world_create(world, "web", "branch", "vda,snapshot=external vdb,snapshot=internal");
    world_create(world, "web", "1234", NULL); /* a tag by another name */
    world_revert(world, "web", "s2");
    world_delete(world, "web", "branch"); /* a layer without a name */
    world_delete(world, "web", "s3");
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_rename(world, "web", "s2", "second", &error), error);
    ASSERT_OK(world_try_rename(world, "other", "s1", "first", &error), error);
    ASSERT_OK(world->engine->ops->rename(world->engine, world_domain(world, "other"), "other.xml.backup",
                                         NULL, &error),
              error); /* as half-written files are called */
    ASSERT_OK(world_try_delete(world, "other.xml.backup", "first", DELETE_METADATA, &error),
              error); /* its tag stays */
}

/* Every kind of state, a linked clone in a domain of its own, raw images, a disc, a read-only chain, a name to escape. */
START_TEST(in_order)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autofree char *raw = world_raw(world, "d.raw", 5);
    g_autofree char *disc = world_raw(world, "disc.iso", 6);
    g_autofree char *a = world_path(world, "a.qcow2"), *clone = world_path(world, "clone.qcow2");
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", a, "-F", "qcow2", clone, NULL);
    g_autofree char *vda = disk_element("vda", "qcow2", clone, "", "");
    g_autofree char *vdb = disk_element("vdb", "raw", raw, "", "");
    g_autofree char *sda =
        g_strdup_printf("<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='%s'/>"
                        "<target dev='sda'/><readonly/></disk>",
                        disc);
    g_autofree char *disks = g_strconcat(vda, vdb, sda, NULL);
    g_autofree char *xml = domain_document("cl%ne", disks);
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_define(world, xml, &error), error);
    describe_states(world);
    world_create(world, "cl%ne", "c1", "vda,snapshot=internal vdb,snapshot=external");
    world_create(world, "cl%ne", "ctl.d", BOTH_EXTERNAL);
    for (guint i = 0; i < 2; i++, world_reopen(world)) {
        CheckCounts counts;
        world_close(world);
        g_autofree char *before = every_file(world, ".");
        g_autofree char *found = world_findings(world, FALSE, &counts);
        g_autofree char *after = every_file(world, ".");
        ck_assert_str_eq(found, "");
        ck_assert(strcmp(after, before) == 0);
        ck_assert_uint_eq(counts.domains, 3);
        ck_assert_uint_ge(counts.images, 10);
        g_autofree char *mended = world_findings(world, TRUE, &counts);
        ck_assert_str_eq(mended, "");
    }
}
END_TEST

/* A daemon keeps a check out, and a check a daemon; checks do not mind each other. */
START_TEST(locked)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autoptr(GError) error = NULL;
    CheckCounts counts;
    g_autofree char *lock = world_store_file(world, "lock");
    ck_assert(
        !check_store(world->options.store, FALSE, offline_backend_new(NULL), NULL, NULL, &counts, &error));
    expect_error(&error, EBUSY, "is in use by process");
    world_close(world);
    Store *store = store_open_existing(world->options.store, FALSE, &error);
    ASSERT_OK(store, error);
    g_autofree char *found = world_findings(world, FALSE, NULL);
    ck_assert_str_eq(found, "");
    ck_assert_ptr_null(core_engine_new(&world->options, offline_backend_new(NULL), &error));
    expect_error(&error, EBUSY, NULL);
    ck_assert(
        !check_store(world->options.store, TRUE, offline_backend_new(NULL), NULL, NULL, &counts, &error));
    expect_error(&error, EBUSY, NULL);
    store_close(store);
    ck_assert_int_eq(unlink(lock), 0); /* a copy of a store, say */
    g_autofree char *copied = world_findings(world, FALSE, NULL);
    ck_assert_str_eq(copied, "");
    ck_assert_int_lt(access(lock, F_OK), 0);
}
END_TEST

START_TEST(no_store)
{
    g_autofree char *dir = PATH("nothing");
    g_autoptr(GError) error = NULL;
    CheckCounts counts;
    for (guint repair = 0; repair < 2; repair++) {
        ck_assert(!check_store(dir, repair, offline_backend_new(NULL), NULL, NULL, &counts, &error));
        expect_error(&error, ENOENT, "is not a store");
        ck_assert_int_lt(access(dir, F_OK), 0);
    }
}
END_TEST

/* What a revert threw away waits: that is in order, and so are its hidden tags and old layers. */
START_TEST(undo_waits)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    CheckCounts counts;
    world_write(world, "other", "vda", 50);
    world_revert(world, "other", "s1");
    world_write(world, "web", "vda", 51);
    world_revert(world, "web", "s1");
    world_close(world);
    g_autofree char *found = world_findings(world, TRUE, NULL);
    ck_assert_str_eq(found, "");
    write_store(world, WEB "undo.xml", "<domain>");
    g_autofree char *damaged = world_findings(world, TRUE, &counts);
    ck_assert_msg(strstr(damaged, "web/undo.xml': what the last revert threw away has no definition") != NULL,
                  "%s", damaged);
    ck_assert_uint_eq(counts.mended, 0);
}
END_TEST

/* Layers that were joined; and a file that should have gone: it is no orphan, and goes. */
START_TEST(merged)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autofree char *left = world_path(world, "left");
    g_autoptr(GError) error = NULL;
    CheckCounts counts;
    FileLook look;
    for (guint i = 4; i < 6; i++) {
        g_autofree char *name = g_strdup_printf("s%u", i);
        world_write(world, "web", "vda", 50 + (int)i);
        world_create(world, "web", name, BOTH_EXTERNAL);
    }
    world_delete(world, "web", "s3");
    world_delete(world, "web", "s4");
    ASSERT_OK(world->engine->ops->wait(world->engine, world_domain(world, "web"), NULL, &error), error);
    world_close(world);
    g_autofree char *found = world_findings(world, TRUE, NULL);
    ck_assert_str_eq(found, "");
    in_world(world, "qemu-img create -q -f qcow2 -F qcow2 -b ./a.qcow2 img/left");
    ck_assert(file_look(left, &look, NULL));
    g_autofree char *record =
        g_strdup_printf("\"leftovers\": [{\"path\": \"%s\", \"file\": [%" G_GUINT64_FORMAT
                        ", %" G_GINT64_FORMAT ", %u]}], \"layers\"",
                        left, look.id.ino, look.id.birth_sec, look.id.birth_nsec);
    edit_store(world, WEB "domain.json", "\"layers\"", record);
    g_autofree char *mended = world_findings(world, TRUE, &counts);
    ck_assert_msg(counts.problems == 1 && counts.mended == 1, "%s", mended);
    ck_assert_int_lt(access(left, F_OK), 0);
    g_autofree char *clean = world_findings(world, FALSE, NULL);
    ck_assert_str_eq(clean, "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("check");
    TCase *tcase = scratch_case(suite, "check");
    tcase_add_loop_test(tcase, damage, 0, G_N_ELEMENTS(cases));
    tcase_add_test(tcase, in_order);
    tcase_add_test(tcase, locked);
    tcase_add_test(tcase, no_store);
    tcase_add_test(tcase, undo_waits);
    tcase_add_test(tcase, merged);
    return run_suite(suite);
}
