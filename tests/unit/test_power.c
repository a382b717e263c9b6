/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is done to the machine itself: every power command, in order and in the wrong order, and what follows it. */
#include <sys/file.h>

#include "power_world.h"
#include "runner.h"

#define RING 70 /* steps after which nothing of before is left on a disk */

#define POWER_WORLD() power_world_new(PATH("w"), NULL)

static void expect_log(World *world, const char *line)
{
    g_autofree char *log = world_log(world, "web");
    ck_assert_msg(strstr(log, line) != NULL, "no '%s' in %s", line, log);
}

/* --- on and off --- */

START_TEST(start_pause_resume_destroy)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    EXPECT_STATE(world, "shutoff");
    static const PowerAction of_one_that_runs[] = {POWER_SHUTDOWN, POWER_DESTROY, POWER_PAUSE, POWER_RESUME,
                                                   POWER_MANAGEDSAVE};
    for (guint i = 0; i < G_N_ELEMENTS(of_one_that_runs); i++)
        power_refused(world, of_one_that_runs[i], NULL, ESRCH, "domain is not running");
    power_refused(world, POWER_SAVE, "/nowhere/file", ESRCH, "domain is not running");
    power_boot(world);
    EXPECT_STATE(world, "running");
    power_refused(world, POWER_START, NULL, EBUSY, "domain is running");
    power_refused(world, POWER_START_PAUSED, NULL, EBUSY, "domain is running");
    power_refused(world, POWER_RESTORE, "/nowhere/file", EBUSY, "domain is running");
    power_refused(world, POWER_MANAGEDSAVE_REMOVE, NULL, ENOENT, "no managed save");
    power(world, POWER_PAUSE, NULL);
    EXPECT_STATE(world, "paused");
    guint32 stood = power_counter(world);
    power_agree(world);
    power(world, POWER_PAUSE, NULL); /* it is so already */
    ck_assert_uint_eq(power_counter(world), stood);
    power(world, POWER_RESUME, NULL);
    EXPECT_STATE(world, "running");
    power(world, POWER_RESUME, NULL);
    power_moves(world, 5);
    power(world, POWER_DESTROY, NULL);
    EXPECT_STATE(world, "shutoff");
    ck_assert_int_eq(power_pid(world), 0);
    ck_assert_uint_gt(power_disks(world), stood);
    expect_log(world, "start");
    expect_log(world, "pause");
    expect_log(world, "resume");
    expect_log(world, "destroy");
}
END_TEST

START_TEST(start_paused)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    power(world, POWER_START_PAUSED, NULL);
    EXPECT_STATE(world, "paused");
    ck_assert_uint_eq(power_counter(world), 0); /* it has not begun */
    power(world, POWER_RESUME, NULL);
    power_moves(world, 2);
    EXPECT_STATE(world, "running");
}
END_TEST

START_TEST(power_button)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    power_boot(world);
    power(world, POWER_SHUTDOWN, NULL);
    power_becomes(world, "shutoff");
    ck_assert_int_eq(power_pid(world), 0);
    expect_log(world, "shutdown");
    power_disks(world);
}
END_TEST

/* What others do to it is seen. */
START_TEST(other_hands)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    power_boot(world);
    {
        g_autoptr(Guest) guest = power_join(world);
        guest_monitor_do(guest->monitor, "stop", NULL);
        power_becomes(world, "paused");
        guest_monitor_do(guest->monitor, "cont", NULL);
        power_becomes(world, "running");
    }
    power_kill(world);
    power_becomes(world, "shutoff");
    power_refused(world, POWER_PAUSE, NULL, ESRCH, "not running");
    power_boot(world);
    EXPECT_STATE(world, "running");
}
END_TEST

static gpointer close_soon(gpointer fd)
{
    g_usleep(300 * 1000);
    close(GPOINTER_TO_INT(fd));
    return NULL;
}

/*
 * A QEMU has its log before it has anything else, and until it has ended: where that is locked, it is not known to be off.
 * One that ends is waited for.
 */
START_TEST(just_being_started)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    GError *error = NULL;
    power_boot(world);
    power(world, POWER_DESTROY, NULL);
    g_autofree char *log = g_build_filename(world->run, "web.log", NULL);
    int fd = open(log, O_RDONLY | O_CLOEXEC);
    ck_assert(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    power_refused(world, POWER_START, NULL, EBUSY, "is being started, or ends");
    ck_assert(!world_try_create(world, "web", "s1", NULL, &error));
    expect_error(&error, EBUSY, "is being started, or ends");
    GThread *ending = g_thread_new("ending", close_soon, GINT_TO_POINTER(fd));
    power_create(world, "s1", MODE_DEFAULT, NULL);
    g_thread_join(ending);
    power_boot(world);
}
END_TEST

/* A daemon that died has left it; at its end the machine would stop. */
START_TEST(a_migration_left_at_work)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    g_autoptr(GError) error = NULL;
    power_boot(world);
    g_autoptr(Guest) guest = power_join(world);
    guest_monitor_do(guest->monitor, "migrate-set-parameters", "{s:i}", "max-bandwidth", 65536);
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    LOOK(guest_monitor_give(guest->monitor, fd, "left", &error));
    close(fd);
    guest_monitor_do(guest->monitor, "migrate", "{s:s}", "uri", "fd:left");
    power(world, POWER_PAUSE, NULL);
    power(world, POWER_RESUME, NULL);
    json_t *info = guest_monitor_call(guest->monitor, &error, "query-migrate", NULL);
    LOOK(info);
    ck_assert_str_eq(json_string_value(json_object_get(info, "status")), "cancelled");
    json_decref(info);
    guest_wait(guest, 5);
    EXPECT_STATE(world, "running");
}
END_TEST

/* The machine outlives who started it, and is known again. */
START_TEST(reopened)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    power_boot(world);
    pid_t pid = power_pid(world);
    for (guint i = 0; i < 2; i++) {
        guint32 before = power_counter(world);
        world_reopen(world);
        power_becomes(world, i ? "paused" : "running");
        ck_assert_int_eq(power_pid(world), pid);
        ck_assert_uint_ge(power_counter(world), before);
        if (i == 0) {
            power_moves(world, 2);
            power(world, POWER_PAUSE, NULL);
        }
    }
    power_agree(world);
    power(world, POWER_RESUME, NULL);
    power(world, POWER_DESTROY, NULL);
    EXPECT_STATE(world, "shutoff");
}
END_TEST

/* Its definition and its name stay as long as it runs. */
/* The table of snapshots in the qcow2 image @path counts as free, as a deletion leaves it that cannot read any more. */
static void break_bookkeeping(const char *path)
{
    guint64 words[13] = {0}, block;
    const guint16 zero = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, words, sizeof words, 0), sizeof words);
    guint bits = GUINT64_FROM_BE(words[2]) & 0xffffffff;
    guint64 cluster = GUINT64_FROM_BE(words[8]) >> bits, counts = ((guint64)1 << bits) / sizeof zero;
    ck_assert_uint_gt(cluster, 0);
    off_t table = (off_t)GUINT64_FROM_BE(words[6]);
    ck_assert_int_eq(pread(fd, &block, sizeof block, table + (off_t)(cluster / counts * 8)), sizeof block);
    off_t count = (off_t)(GUINT64_FROM_BE(block) + cluster % counts * sizeof zero);
    ck_assert_int_eq(pwrite(fd, &zero, sizeof zero, count), sizeof zero);
    close(fd);
}

/* A tag that could not be deleted: what the guest writes must not take the clusters of those that are left. */
START_TEST(an_image_in_doubt)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    power_create(world, "kept", MODE_NO, BOTH_INTERNAL);
    g_autofree char *kept = world_hash(world, "web", "kept", "vda");
    power_boot(world);
    power_moves(world, 10);
    power(world, POWER_DESTROY, NULL);
    power_create(world, "gone", MODE_NO, BOTH_INTERNAL);
    const EngineOps *ops = world->engine->ops;
    g_autoptr(GPtrArray) disks = ops->disks(world->engine, world_snapshot(world, "web", "gone"));
    EngineId content = ((EngineDisk *)disks->pdata[0])->content;
    g_autoptr(DiskReader) reader = ops->open_content(world->engine, content, NULL, NULL);
    ck_assert(reader != NULL); /* for whom the tag stays, as if it could not be deleted */
    world_delete(world, "web", "gone");
    break_bookkeeping(power_images(world)[0]);
    power_boot(world);
    power_moves(world, 2 * RING);
    power(world, POWER_DESTROY, NULL);
    g_clear_pointer(&reader, disk_reader_free);
    world_check_clean(world, "web");
    g_autofree char *still = world_hash(world, "web", "kept", "vda");
    ck_assert_str_eq(still, kept);
}
END_TEST

START_TEST(what_a_running_machine_keeps)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    const EngineOps *ops = world->engine->ops;
    GError *error = NULL;
    power_boot(world);
    EngineId id = world_domain(world, "web");
    g_autofree char *text = world_text(world, ENGINE_TEXT_DOMAIN_XML, id);
    g_autoptr(GString) edited = g_string_new(text);
    ck_assert_int_eq(g_string_replace(edited, "<vcpu>1</vcpu>", "<vcpu>2</vcpu>", 1), 1);
    ck_assert(!world_try_define(world, edited->str, &error));
    expect_error(&error, EBUSY, "domain is running");
    ck_assert(!world_try_rename(world, "web", NULL, "other", &error));
    expect_error(&error, EBUSY, "domain is running");
    ck_assert(!ops->undefine(world->engine, id, 0, NULL, &error));
    expect_error(&error, EBUSY, "domain is running");
    ck_assert(!ops->undefine(world->engine, id, UNDEFINE_SNAPSHOTS | UNDEFINE_MANAGED_SAVE, NULL, &error));
    expect_error(&error, EBUSY, "domain is running");
    g_autofree char *now = world_text(world, ENGINE_TEXT_DOMAIN_XML, id);
    ck_assert_str_eq(now, text);
    power_moves(world, 2);
}
END_TEST

/* --- memory in a file --- */

static char *save_path(World *world)
{
    return g_build_filename(world->dir, "web.save", NULL);
}

START_TEST(save_and_restore)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    g_autofree char *file = save_path(world);
    power_boot(world);
    power_refused(world, POWER_SAVE, "/nowhere/at/all", ENOENT, "/nowhere");
    ck_assert(g_file_set_contents(file, "precious", -1, NULL));
    power_refused(world, POWER_SAVE, file, EEXIST, "exists already");
    power_moves(world, 2);
    ck_assert_int_eq(unlink(file), 0);
    power_moves(world, RING);
    guint32 before = power_counter(world);
    power(world, POWER_SAVE, file);
    EXPECT_STATE(world, "shutoff");
    ck_assert_int_eq(power_pid(world), 0);
    ck_assert_uint_eq(file_mode(file), 0600);
    power(world, POWER_RESTORE, file);
    EXPECT_STATE(world, "running");
    power_moves(world, 2);
    power(world, POWER_PAUSE, NULL);
    GuestMemory memory = power_agree(world);
    ck_assert_uint_eq(memory.first, 1);
    ck_assert_uint_gt(memory.counter, before);
    power(world, POWER_DESTROY, NULL);
    power_refused(world, POWER_RESTORE, file, EPERM, "has changed since its memory was saved");
    world_check_clean(world, "web");
}
END_TEST

/* One that was paused comes back paused, just where it was. */
START_TEST(a_paused_one_saved)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    g_autofree char *file = save_path(world);
    power_boot(world);
    power(world, POWER_PAUSE, NULL);
    guint32 at = power_counter(world);
    power(world, POWER_SAVE, file);
    power(world, POWER_RESTORE, file);
    EXPECT_STATE(world, "paused");
    ck_assert_uint_eq(power_agree(world).counter, at);
    power(world, POWER_MANAGEDSAVE, NULL);
    EXPECT_STATE(world, "saved");
    power_refused(world, POWER_RESTORE, file, EPERM, "managed save, which would be lost");
    power(world, POWER_START, NULL);
    EXPECT_STATE(world, "paused");
    ck_assert_uint_eq(power_agree(world).counter, at);
    power(world, POWER_RESUME, NULL);
    power_moves(world, 2);
}
END_TEST

START_TEST(files_that_are_not_its_memory)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    g_autofree char *file = save_path(world), *other = g_strconcat(file, ".other", NULL), *text = NULL;
    gsize len;
    power_refused(world, POWER_RESTORE, file, ENOENT, "web.save");
    power_boot(world);
    power(world, POWER_SAVE, file);
    ck_assert(g_file_get_contents(file, &text, &len, NULL));
    ck_assert(g_file_set_contents(other, text, 80, NULL));
    power_refused(world, POWER_RESTORE, other, EINVAL, "web.save.other");
    ck_assert(g_file_set_contents(other, text, (gssize)len / 2, NULL));
    power_refused(world, POWER_RESTORE, other, EINVAL, "it is shorter than");
    g_autofree char *spoilt = g_memdup2(text, len);
    memset(spoilt + len / 2, 0xff, len / 2); /* of the right length: QEMU notices */
    ck_assert(g_file_set_contents(other, spoilt, (gssize)len, NULL));
    power_refused(world, POWER_RESTORE, other, EINVAL, "QEMU did not start");
    g_autoptr(GString) foreign = g_string_new_len(text, (gssize)len);
    char *uuid = strstr(foreign->str + 92, "<uuid>");
    ck_assert_ptr_nonnull(uuid);
    uuid[6] = uuid[6] == '0' ? '1' : '0';
    ck_assert(g_file_set_contents(other, foreign->str, (gssize)len, NULL));
    power_refused(world, POWER_RESTORE, other, EPERM, "another machine");
    power(world, POWER_RESTORE, file); /* none of that has touched the disks */
    power_moves(world, 2);
}
END_TEST

START_TEST(managed_save)
{
    g_autoptr(PowerWorld) world = POWER_WORLD();
    GError *error = NULL;
    power_refused(world, POWER_MANAGEDSAVE_REMOVE, NULL, ENOENT, "no managed save");
    power_boot(world);
    guint32 before = power_counter(world);
    power(world, POWER_MANAGEDSAVE, NULL);
    EXPECT_STATE(world, "saved");
    ck_assert(!world->engine->ops->undefine(world->engine, world_domain(world, "web"), 0, NULL, &error));
    expect_error(&error, EPERM, "managed save would be lost");
    world_reopen(world);
    EXPECT_STATE(world, "saved");
    power_create(world, "s1", MODE_DEFAULT, BOTH_EXTERNAL); /* content stays as it was */
    power(world, POWER_START_PAUSED, NULL);
    EXPECT_STATE(world, "paused");
    GuestMemory memory = power_agree(world);
    ck_assert_uint_eq(memory.first, 1);
    ck_assert_uint_ge(memory.counter, before);
    power_refused(world, POWER_MANAGEDSAVE_REMOVE, NULL, ENOENT, "no managed save"); /* it has gone */
    power(world, POWER_MANAGEDSAVE, NULL);
    power(world, POWER_MANAGEDSAVE_REMOVE, NULL);
    EXPECT_STATE(world, "shutoff");
    power_boot(world); /* boots: a life that began later */
    power(world, POWER_PAUSE, NULL);
    ck_assert_uint_gt(power_agree(world).first, 1);
    power(world, POWER_DESTROY, NULL);
    g_autofree char *files = world_store_file(world, "domains/web/files");
    g_autoptr(GDir) dir = g_dir_open(files, 0, NULL);
    ck_assert_msg(!dir || !g_dir_read_name(dir), "a managed save is left");
}
END_TEST

/* --- NVRAM --- */

static char *read_text(const char *path)
{
    char *text = NULL;
    ck_assert(g_file_get_contents(path, &text, NULL, NULL));
    text[4] = '\0';
    return text;
}

static void expect_nvram(const char *path, const char *text)
{
    g_autofree char *is = read_text(path);
    ck_assert_str_eq(is, text);
}

/* It is kept with each snapshot, and comes back. The firmware does nothing: the machine never runs. */
START_TEST(nvram)
{
    g_autofree char *dir = PATH("w");
    g_autofree char *code = g_strconcat(dir, ".code.fd", NULL),
                    *template = g_strconcat(dir, ".vars.fd", NULL);
    g_autofree char *vars = g_strconcat(dir, ".my.fd", NULL), *bytes = g_strnfill(512 * 1024, 'v');
    g_autofree char *os =
        g_strdup_printf("<type arch='x86_64' machine='pc'>hvm</type><loader readonly='yes' type='pflash'>%s"
                        "</loader><nvram template='%s'>%s</nvram>",
                        code, template, vars);
    const LiveSetup setup = {.from = "<type arch='x86_64' machine='pc'>hvm</type>", .to = os};
    ck_assert(g_file_set_contents(code, bytes, 512 * 1024, NULL));
    ck_assert(g_file_set_contents(template, bytes, 512 * 1024, NULL));
    g_autoptr(PowerWorld) world = power_world_new(g_steal_pointer(&dir), &setup);
    g_autoptr(GError) error = NULL;
    power(world, POWER_START_PAUSED, NULL);
    expect_nvram(vars, "vvvv");
    poke(vars, 0, "one.", 4);
    power_create(world, "internal", MODE_INTERNAL, BOTH_INTERNAL);
    poke(vars, 0, "two.", 4);
    power_create(world, "external", MODE_EXTERNAL, BOTH_EXTERNAL);
    poke(vars, 0, "tri.", 4);
    pid_t pid = power_pid(world);
    power(world, POWER_DESTROY, NULL); /* it has not run since, and so its NVRAM is open read-only */
    ck_assert(!is_qemu_in(pid, world->run));
    power_create(world, "off", MODE_DEFAULT, BOTH_INTERNAL);
    poke(vars, 0, "now.", 4);
    static const struct {
        const char *name, *text;
    } list[] = {{"internal", "one."}, {"off", "tri."}, {"external", "two."}};
    for (guint i = 0; i < G_N_ELEMENTS(list); i++) {
        ASSERT_OK(try_revert(world, list[i].name, AS_PAUSED, FALSE, &error), error);
        EXPECT_STATE(world, "paused");
        expect_nvram(vars, list[i].text);
        ck_assert_uint_eq(file_mode(vars), 0600);
    }
    RevertRequest undo = {.undo = TRUE, .paused = TRUE};
    poke(vars, 0, "mine", 4);
    ASSERT_OK(try_revert(world, "internal", AS_PAUSED, FALSE, &error), error);
    expect_nvram(vars, "one.");
    world_reopen(world);
    ASSERT_OK(world->engine->ops->revert(world->engine, world_domain(world, "web"), &undo, NULL, &error),
              error);
    expect_nvram(vars, "mine");
    RevertRequest request = {.name = (char *)"external", .paused = TRUE, .reset_nvram = TRUE};
    ASSERT_OK(world->engine->ops->revert(world->engine, world_domain(world, "web"), &request, NULL, &error),
              error);
    expect_nvram(vars, "vvvv");
    poke(vars, 0, "last", 4);
    request = (RevertRequest){.name = (char *)"off", .force = TRUE, .reset_nvram = TRUE};
    ASSERT_OK(world->engine->ops->revert(world->engine, world_domain(world, "web"), &request, NULL, &error),
              error);
    EXPECT_STATE(world, "shutoff");
    ck_assert_int_ne(access(vars, F_OK), 0);
    undo.paused = FALSE;
    ASSERT_OK(world->engine->ops->revert(world->engine, world_domain(world, "web"), &undo, NULL, &error),
              error);
    expect_nvram(vars, "last");
    ASSERT_OK(world->engine->ops->revert(world->engine, world_domain(world, "web"), &request, NULL, &error),
              error);
    power(world, POWER_START_PAUSED, NULL);
    expect_nvram(vars, "vvvv");
    power(world, POWER_DESTROY, NULL);
    world_close(world);
    g_autofree char *found = world_findings(world, FALSE, NULL);
    ck_assert_str_eq(found, ""); /* every file that was kept meanwhile belongs to something, or has gone */
}
END_TEST

/* --- a machine that somebody else has started --- */

/* QEMU's own words, with more memory. Caller frees. */
static char **words_of_bigger(World *world)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)power_pid(world)), *text = NULL;
    gsize len = 0;
    ck_assert(g_file_get_contents(path, &text, &len, NULL));
    GPtrArray *words = g_ptr_array_new();
    for (const char *word = text; word < text + len; word += strlen(word) + 1) {
        gboolean size = words->len > 0 && strcmp(words->pdata[words->len - 1], "-m") == 0;
        g_ptr_array_add(words, g_strdup(size ? "64" : word));
    }
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_free(words, FALSE);
}

/* Does the document of snapshot @name say which version of its machine type ran, as only who has started it knows? */
static gboolean is_pinned(World *world, const char *name)
{
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", name));
    return strstr(xml, "machine='pc-") != NULL;
}

static gboolean is_noted(World *world)
{
    g_autofree char *log = world_log(world, "web");
    return strstr(log, "was not started by domsnapfs") != NULL;
}

/* After one of ours has ended somebody starts another one by hand: what is recorded of ours is not taken for its hardware. */
START_TEST(somebody_elses)
{
    static const char *const alone = "vda,snapshot=no vdb,snapshot=no";
    g_autoptr(PowerWorld) world = POWER_WORLD();
    g_autofree char *live = world_store_file(world, "domains/web/live.xml");
    GError *error = NULL;
    power_boot(world);
    world_reopen(world); /* which process ours is, is known for longer than we live */
    power_create(world, "ours", MODE_EXTERNAL, alone);
    ck_assert(is_pinned(world, "ours") && !is_noted(world));
    g_auto(GStrv) words = words_of_bigger(world);
    power(world, POWER_DESTROY, NULL);
    ck_assert(g_file_test(live, G_FILE_TEST_EXISTS));
    ck_assert(g_spawn_async(NULL, words, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, &error));
    power_becomes(world, "paused"); /* as all of ours begin */
    power(world, POWER_RESUME, NULL);
    power_create(world, "theirs", MODE_EXTERNAL, alone);
    ck_assert(!is_pinned(world, "theirs") && is_noted(world));
    ck_assert(!g_file_test(live, G_FILE_TEST_EXISTS));
    power(world, POWER_DESTROY, NULL);
    power_boot(world); /* one of ours again */
    power_create(world, "again", MODE_EXTERNAL, alone);
    ck_assert(is_pinned(world, "again"));
    power(world, POWER_DESTROY, NULL);
    power_create(world, "off", MODE_DEFAULT, NULL);
    ck_assert(!g_file_test(live, G_FILE_TEST_EXISTS)); /* its end has been seen */
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("power");
    TCase *on_off = machines_case(suite, "on and off");
    tcase_add_test(on_off, start_pause_resume_destroy);
    tcase_add_test(on_off, start_paused);
    tcase_add_test(on_off, power_button);
    tcase_add_test(on_off, other_hands);
    tcase_add_test(on_off, just_being_started);
    tcase_add_test(on_off, a_migration_left_at_work);
    tcase_add_test(on_off, reopened);
    tcase_add_test(on_off, an_image_in_doubt);
    tcase_add_test(on_off, what_a_running_machine_keeps);
    TCase *memory = machines_case(suite, "memory in a file");
    tcase_add_test(memory, save_and_restore);
    tcase_add_test(memory, a_paused_one_saved);
    tcase_add_test(memory, files_that_are_not_its_memory);
    tcase_add_test(memory, managed_save);
    tcase_add_test(memory, somebody_elses);
    TCase *firmware = machines_case(suite, "NVRAM");
    tcase_add_test(firmware, nvram);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
