/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Revert of machines: from each state to each, with no flag, --running and --paused; when it is refused, and that nothing is
 * touched then. The guest's counters say what became of memory and disks: whether they are of one instant, of the
 * snapshot's, and whether it is the life of then that goes on, or a new one that has booted.
 */
#include "power_world.h"
#include "runner.h"

#define RING 70 /* steps after which nothing of before is left on a disk */

/* --- the table (facts: virsh snapshot-revert) --- */

/* How the snapshot was taken. */
typedef struct {
    const char *name;
    RunState state; /* the machine's then */
    SnapMode memory;
    const char *specs;
} Kind;

static const Kind kinds[] = {
    {"running internal", RUN_RUNNING, MODE_INTERNAL, BOTH_INTERNAL},
    {"running external", RUN_RUNNING, MODE_EXTERNAL, BOTH_EXTERNAL},
    {"paused internal", RUN_PAUSED, MODE_INTERNAL, BOTH_INTERNAL},
    {"paused external", RUN_PAUSED, MODE_EXTERNAL, BOTH_EXTERNAL},
    {"off internal", RUN_OFF, MODE_NO, BOTH_INTERNAL},
    {"off external", RUN_OFF, MODE_NO, BOTH_EXTERNAL},
    {"disks internal", RUN_RUNNING, MODE_NO, BOTH_INTERNAL},
    {"disks external", RUN_RUNNING, MODE_NO, BOTH_EXTERNAL},
    {"memory in a file of its own", RUN_RUNNING, MODE_INTERNAL, BOTH_EXTERNAL},
    {"external memory, internal disks", RUN_PAUSED, MODE_EXTERNAL, BOTH_INTERNAL},
};

static gboolean has_memory(const Kind *kind)
{
    return kind->memory != MODE_NO;
}

static RunState expected_state(const Kind *kind, RevertAs as)
{
    if (as != AS_IT_WAS)
        return as == AS_RUNNING ? RUN_RUNNING : RUN_PAUSED;
    return has_memory(kind) ? kind->state : RUN_OFF;
}

static const char *word(RunState state)
{
    return state == RUN_RUNNING ? "running" : state == RUN_PAUSED ? "paused" : "shutoff";
}

/* What is known of the snapshot "s1". */
typedef struct {
    const Kind *kind;
    guint32 from, to; /* the counter was between them */
    guint32 first;    /* the life that it is of began with this */
} Taken;

static Taken take(World *world, const Kind *kind)
{
    Taken taken = {.kind = kind};
    power_boot(world);
    power_moves(world, RING);
    if (kind->state == RUN_PAUSED)
        power(world, POWER_PAUSE, NULL);
    if (kind->state == RUN_OFF)
        power(world, POWER_DESTROY, NULL);
    taken.from = kind->state == RUN_OFF ? power_disks(world) : power_counter(world);
    power_create(world, "s1", kind->memory, kind->specs);
    taken.to = kind->state == RUN_OFF ? taken.from : power_counter(world);
    taken.first = 1;
    EXPECT_STATE(world, word(kind->state));
    return taken;
}

/* A machine that runs begins a new life. */
static void reset(World *world)
{
    g_autoptr(Guest) guest = power_join(world);
    GuestMemory memory = {.first = 1};
    guest_press(guest, "r");
    while (!guest_look_memory(guest, &memory, NULL) || memory.first == 1)
        g_usleep(2000);
}

/* After the snapshot it is another life than that of then, and that ends up in @state. */
static void live_on(World *world, RunState state)
{
    if (strcmp(power_state(world), "paused") == 0)
        power(world, POWER_RESUME, NULL);
    if (strcmp(power_state(world), "shutoff") == 0)
        power_boot(world);
    else
        reset(world);
    power_moves(world, RING);
    if (state == RUN_OFF)
        power(world, POWER_DESTROY, NULL);
    else if (state == RUN_PAUSED)
        power(world, POWER_PAUSE, NULL);
    EXPECT_STATE(world, word(state));
}

/* The counters are those of the snapshot; of one with memory, and of one that has booted since. */
static void expect_taken(World *world, const Taken *taken, RevertAs as)
{
    RunState end = expected_state(taken->kind, as);
    EXPECT_STATE(world, word(end));
    if (end == RUN_OFF) {
        guint32 at = power_disks(world);
        ck_assert_int_eq(power_pid(world), 0);
        ck_assert_msg(at + 1 >= taken->from && at <= taken->to, "%u of %u to %u", at, taken->from, taken->to);
        return;
    }
    if (end == RUN_PAUSED && !has_memory(taken->kind)) { /* it has not begun */
        ck_assert_uint_eq(power_counter(world), 0);
        power(world, POWER_RESUME, NULL);
    }
    if (end == RUN_RUNNING || !has_memory(taken->kind)) {
        power_moves(world, 3);
        power(world, POWER_PAUSE, NULL);
    }
    GuestMemory memory = power_agree(world);
    if (has_memory(taken->kind)) {
        ck_assert_uint_eq(memory.first, taken->first);
        ck_assert_uint_ge(memory.counter, taken->from);
        if (end == RUN_PAUSED)
            ck_assert_uint_le(memory.counter, taken->to);
    } else { /* it booted from the disks of then */
        ck_assert_uint_gt(memory.first, 1);
        ck_assert_msg(memory.first >= taken->from && memory.first <= taken->to + 2, "%u of %u to %u",
                      memory.first, taken->from, taken->to);
    }
}

/* Everything that a refused revert must leave: which life goes on, and on which images. */
typedef struct {
    char *state, *vda, *vdb, *digest;
    pid_t pid;
} Before;

static void before_clear(Before *before)
{
    g_free(before->state);
    g_free(before->vda);
    g_free(before->vdb);
    g_free(before->digest);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Before, before_clear)

static char *shape(World *world)
{
    Live live = {.world = world, .name = (char *)"web"};
    return live_shape(&live);
}

static Before look(World *world)
{
    const char *const *images = power_images(world);
    return (Before){g_strdup(power_state(world)), g_strdup(images[0]), g_strdup(images[1]), shape(world),
                    power_pid(world)};
}

static void expect_untouched(World *world, const Before *before)
{
    const char *const *images = power_images(world);
    g_autofree char *now = shape(world);
    EXPECT_STATE(world, before->state);
    ck_assert_str_eq(images[0], before->vda);
    ck_assert_str_eq(images[1], before->vdb);
    ck_assert_int_eq(power_pid(world), before->pid);
    ck_assert_str_eq(now, before->digest);
    if (strcmp(before->state, "running") == 0)
        power_moves(world, 3);
}

static void refused(World *world, const char *name, RevertAs as, gboolean force, int code, const char *text)
{
    GError *error = NULL;
    g_auto(Before) before = look(world);
    ck_assert_msg(!try_revert(world, name, as, force, &error), "it should be refused: %s", text);
    expect_error(&error, code, text);
    expect_untouched(world, &before);
}

/* One revert, and what it must come to. */
static void outcome(World *world, const Taken *taken, RunState start, RevertAs as)
{
    g_autoptr(GError) error = NULL;
    gboolean needs_force = start != RUN_OFF && expected_state(taken->kind, as) == RUN_OFF;
    printf("# %s: from %s, %d\n", taken->kind->name, word(start), as);
    live_on(world, start);
    if (needs_force)
        refused(world, "s1", as, FALSE, EPERM, "would end stopped");
    ASSERT_OK(try_revert(world, "s1", as, needs_force, &error), error);
    g_autofree char *current = world_current(world, "web");
    ck_assert_str_eq(current, "s1");
    expect_taken(world, taken, as);
    if (strcmp(power_state(world), "shutoff") != 0)
        power(world, POWER_DESTROY, NULL);
    world_check_clean(world, "web");
}

/* Each start state with each flag, for the kinds with internal disks one half of them and for those with external the other. */
static gboolean is_chosen(guint kind, guint start, RevertAs as)
{
    return g_getenv("OUTCOMES_ALL") || (kind + 3 * start + (guint)as) % 2 == 0;
}

START_TEST(outcomes)
{
    g_autofree char *number = g_strdup_printf("w%d", _i);
    g_autoptr(PowerWorld) world = power_world_new(PATH(number), NULL);
    static const RunState starts[] = {RUN_OFF, RUN_RUNNING, RUN_PAUSED};
    Taken taken = take(world, &kinds[_i]);
    for (guint i = 0; i < G_N_ELEMENTS(starts); i++)
        for (RevertAs as = AS_IT_WAS; as <= AS_PAUSED; as++)
            if (is_chosen((guint)_i, i, as))
                outcome(world, &taken, starts[i], as);
}
END_TEST

/* --- refusals --- */

static const Kind *kind_called(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    ck_abort_msg("no kind '%s'", name);
}

static void forced(World *world, const char *name, RevertAs as)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(try_revert(world, name, as, TRUE, &error), error);
}

/* What the memory file is, and what becomes of a revert to it. */
START_TEST(a_damaged_memory_file)
{
    g_autoptr(PowerWorld) world = power_world_new(PATH("w"), NULL);
    Taken taken = take(world, kind_called("running external"));
    g_autofree char *memory = world_path(world, "a.s1.mem");
    g_autofree char *kept = world_path(world, "kept"), *text = NULL;
    gsize len;
    ck_assert(g_file_get_contents(memory, &text, &len, NULL));
    ck_assert_int_eq(rename(memory, kept), 0);
    for (guint force = 0; force < 2; force++) {
        refused(world, "s1", AS_IT_WAS, force, ENOENT, "memory: ");
        ck_assert(g_file_set_contents(memory, "LibvirtQemudSave", -1, NULL));
        refused(world, "s1", AS_IT_WAS, force, EINVAL, "memory: ");
        ck_assert(g_file_set_contents(memory, text, 60, NULL));
        refused(world, "s1", AS_IT_WAS, force, EINVAL, "memory: ");
        ck_assert(g_file_set_contents(memory, "no memory at all", -1, NULL));
        refused(world, "s1", AS_PAUSED, force, EINVAL, "memory: ");
        g_autofree char *other = g_memdup2(text, len); /* of another machine */
        char *unit = memmem(other, len, "<memory unit=", strlen("<memory unit="));
        ck_assert_ptr_nonnull(unit);
        char *value = strchr(unit, '>') + 1;
        *value = *value == '9' ? '8' : '9';
        ck_assert(g_file_set_contents(memory, other, (gssize)len, NULL));
        refused(world, "s1", AS_IT_WAS, force, EOPNOTSUPP, "memory: ");
        ck_assert_int_eq(unlink(memory), 0);
    }
    ck_assert_int_eq(rename(kept, memory), 0);
    outcome(world, &taken, RUN_RUNNING, AS_PAUSED);
}
END_TEST

/* The header is right and the stream is not whole: only QEMU can know. The disks are as before then, and the error says it. */
/* What only QEMU can find out is found out when the old machine has ended. */
START_TEST(a_spoilt_memory_stream)
{
    GError *error = NULL;
    g_autoptr(PowerWorld) world = power_world_new(PATH("w"), NULL);
    take(world, kind_called("running external"));
    g_autofree char *memory = world_path(world, "a.s1.mem");
    g_autofree char *bytes = NULL;
    gsize len;
    ck_assert(g_file_get_contents(memory, &bytes, &len, NULL));
    memset(bytes + len / 2, 0xff, len / 2);
    int fd = open(memory, O_WRONLY | O_CLOEXEC);
    ck_assert(fd >= 0 && write(fd, bytes, len) == (ssize_t)len && close(fd) == 0);
    live_on(world, RUN_RUNNING);
    g_auto(Before) before = look(world);
    guint32 at = power_counter(world);
    ck_assert(!try_revert(world, "s1", AS_IT_WAS, FALSE, &error));
    ck_assert_msg(strstr(error->message, "the machine was ended, its disks are as they were: ") != NULL, "%s",
                  error->message);
    g_clear_error(&error);
    EXPECT_STATE(world, "shutoff");
    ck_assert_int_eq(power_pid(world), 0);
    g_autofree char *now = shape(world);
    ck_assert_str_eq(now, before.digest);
    ck_assert_uint_ge(power_disks(world), at);
    world_check_clean(world, "web");
    power_boot(world);
}
END_TEST

/* What of its images is gone is found out before anything is stopped. */
START_TEST(a_missing_image)
{
    g_autoptr(PowerWorld) world = power_world_new(PATH("w"), NULL);
    take(world, kind_called("running external"));
    live_on(world, RUN_RUNNING);
    g_autofree char *image = world_layer(world, "web", "s1", "vdb", NULL);
    g_autofree char *kept = g_strconcat(image, ".kept", NULL);
    ck_assert_int_eq(rename(image, kept), 0);
    GError *error = NULL;
    pid_t pid = power_pid(world);
    ck_assert(!try_revert(world, "s1", AS_IT_WAS, TRUE, &error));
    expect_error(&error, ENOENT, "disk 'vdb'");
    ck_assert_int_eq(rename(kept, image), 0);
    ck_assert_int_eq(power_pid(world), pid);
    power_moves(world, 3);
}
END_TEST

START_TEST(a_missing_checkpoint)
{
    g_autoptr(PowerWorld) world = power_world_new(PATH("w"), NULL);
    take(world, kind_called("running internal"));
    power(world, POWER_DESTROY, NULL);
    tool("qemu-img", "snapshot", "-d", "s1", power_images(world)[0], NULL);
    power_boot(world);
    for (guint force = 0; force < 2; force++)
        refused(world, "s1", AS_IT_WAS, force, EIO, "no image holds its memory any more");
}
END_TEST

/* A machine that has more memory by now; and one whose definition says what cannot be started. */
static void redefine(World *world, const char *from, const char *to)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    g_autoptr(GString) edited = g_string_new(text);
    ck_assert_msg(g_string_replace(edited, from, to, 1) == 1, "no '%s' in %s", from, text);
    ASSERT_OK(world_try_define(world, edited->str, &error), error);
}

START_TEST(another_machine)
{
    static const char *const names[] = {"running internal", "running external", "disks external",
                                        "off external"};
    g_autofree char *number = g_strdup_printf("w%d", _i);
    g_autoptr(PowerWorld) world = power_world_new(PATH(number), NULL);
    Taken taken = take(world, kind_called(names[_i]));
    if (strcmp(power_state(world), "shutoff") != 0)
        power(world, POWER_DESTROY, NULL);
    redefine(world, "<memory unit='MiB'>32</memory>", "<memory unit='MiB'>48</memory>");
    live_on(world, RUN_RUNNING);
    refused(world, "s1", AS_RUNNING, FALSE, EPERM, "another machine than the one that runs");
    forced(world, "s1", AS_RUNNING);
    expect_taken(world, &taken, AS_RUNNING);
    g_autofree char *now = world_text(world, ENGINE_TEXT_DOMAIN_XML, world_domain(world, "web"));
    ck_assert_ptr_nonnull(strstr(now, "<memory unit='MiB'>32</memory>"));
    power(world, POWER_DESTROY, NULL); /* of one that is off it may be any */
    redefine(world, "<memory unit='MiB'>32</memory>", "<memory unit='MiB'>48</memory>");
    g_autoptr(GError) error = NULL;
    ASSERT_OK(try_revert(world, "s1", AS_PAUSED, FALSE, &error), error);
}
END_TEST

/* A snapshot whose machine cannot be started: known before the one that runs is ended, also with force. */
START_TEST(a_machine_that_cannot_be_started)
{
    g_autoptr(PowerWorld) world = power_world_new(PATH("w"), NULL);
    redefine(world, "</os>", "  <kernel>/nowhere/vmlinuz</kernel>\n  </os>");
    power_create(world, "kernel", MODE_DEFAULT, BOTH_INTERNAL);
    redefine(world, "  <kernel>/nowhere/vmlinuz</kernel>", "");
    redefine(world, "<acpi/>", "<acpi/><gic version='2'/>");
    power_create(world, "odd", MODE_DEFAULT, BOTH_INTERNAL);
    redefine(world, "<gic version='2'/>", "");
    power_boot(world);
    for (RevertAs as = AS_RUNNING; as <= AS_PAUSED; as++) {
        refused(world, "kernel", as, TRUE, ENOENT, "/nowhere/vmlinuz");
        refused(world, "odd", as, TRUE, EOPNOTSUPP, "<gic>");
    }
    forced(world, "odd", AS_IT_WAS); /* off it may be anything */
    EXPECT_STATE(world, "shutoff");
}
END_TEST

/* --force is needed for a managed save, and takes it away. */
START_TEST(a_managed_save)
{
    g_autoptr(PowerWorld) world = power_world_new(PATH("w"), NULL);
    Taken taken = take(world, kind_called("running internal"));
    power(world, POWER_MANAGEDSAVE, NULL);
    EXPECT_STATE(world, "saved");
    refused(world, "s1", AS_IT_WAS, FALSE, EPERM, "a managed save would be lost");
    refused(world, "s1", AS_PAUSED, FALSE, EPERM, "a managed save would be lost");
    forced(world, "s1", AS_PAUSED);
    expect_taken(world, &taken, AS_PAUSED);
    power(world, POWER_DESTROY, NULL);
    EXPECT_STATE(world, "shutoff");
}
END_TEST

/* Memory alone fits the disks that it was taken with, and no others. */
START_TEST(memory_alone)
{
    static const SnapMode modes[] = {MODE_EXTERNAL, MODE_INTERNAL};
    g_autofree char *number = g_strdup_printf("w%d", _i);
    g_autoptr(PowerWorld) world = power_world_new(PATH(number), NULL);
    power_boot(world);
    power(world, POWER_PAUSE, NULL);
    guint32 at = power_counter(world);
    power_create(world, "s1", modes[_i], "vda,snapshot=no vdb,snapshot=no");
    refused(world, "s1", AS_IT_WAS, FALSE, EPERM, "a state of the memory alone");
    power(world, POWER_DESTROY, NULL); /* it has not run since */
    g_autoptr(GError) error = NULL;
    ASSERT_OK(try_revert(world, "s1", AS_IT_WAS, FALSE, &error), error);
    EXPECT_STATE(world, "paused");
    GuestMemory memory = power_agree(world);
    ck_assert_uint_eq(memory.counter, at);
    ck_assert_uint_eq(memory.first, 1);
    power(world, POWER_RESUME, NULL);
    power_moves(world, 5);
    power(world, POWER_DESTROY, NULL);
    refused(world, "s1", AS_IT_WAS, FALSE, EPERM, "has changed since its memory was saved");
    forced(world, "s1", AS_PAUSED);
    ck_assert_uint_eq(power_counter(world), at);
}
END_TEST

/* --- undo --- */

/* What a revert threw away comes back: of a machine that ran, its disks as they were when it ended. */
START_TEST(undo)
{
    static const char *const names[] = {"running internal", "running external"};
    g_autofree char *number = g_strdup_printf("w%d", _i);
    g_autoptr(PowerWorld) world = power_world_new(PATH(number), NULL);
    g_autoptr(GError) error = NULL;
    take(world, kind_called(names[_i]));
    live_on(world, RUN_RUNNING);
    guint32 at = power_counter(world);
    ASSERT_OK(try_revert(world, "s1", AS_IT_WAS, FALSE, &error), error);
    EXPECT_STATE(world, "running");
    power_moves(world, 3);
    g_auto(Before) before = look(world);
    ck_assert(!world_try_undo(world, "web", &error));
    expect_error(&error, EPERM, "would end stopped");
    expect_untouched(world, &before);
    const RevertRequest request = {.undo = TRUE, .force = TRUE};
    ASSERT_OK(world->engine->ops->revert(world->engine, world_domain(world, "web"), &request, NULL, &error),
              error);
    EXPECT_STATE(world, "shutoff");
    ck_assert_uint_ge(power_disks(world), at);
    world_check_clean(world, "web");
}
END_TEST

/* A checkpoint in files that are frozen by now is loaded from a copy of them, and they stay as they are. */
START_TEST(a_frozen_checkpoint)
{
    g_autoptr(PowerWorld) world = power_world_new(PATH("w"), NULL);
    Taken taken = take(world, kind_called("running internal"));
    power_create(world, "s2", MODE_NO, BOTH_EXTERNAL);
    g_autofree char *a = world_layer(world, "web", "s2", "vda", NULL);
    g_autofree char *b = world_layer(world, "web", "s2", "vdb", NULL);
    g_autofree char *hash_a = file_hash(a), *hash_b = file_hash(b);
    outcome(world, &taken, RUN_RUNNING, AS_PAUSED);
    outcome(world, &taken, RUN_OFF, AS_IT_WAS);
    g_autofree char *now_a = file_hash(a), *now_b = file_hash(b);
    ck_assert_str_eq(now_a, hash_a);
    ck_assert_str_eq(now_b, hash_b);
    g_autofree char *tags = image_tags(power_images(world)[0]);
    ck_assert_str_eq(tags, ""); /* its memory is not kept twice */
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("outcomes");
    TCase *table = machines_case(suite, "table");
    tcase_add_loop_test(table, outcomes, 0, G_N_ELEMENTS(kinds));
    TCase *refusals = machines_case(suite, "refusals");
    tcase_add_test(refusals, a_damaged_memory_file);
    tcase_add_test(refusals, a_spoilt_memory_stream);
    tcase_add_test(refusals, a_missing_image);
    tcase_add_test(refusals, a_missing_checkpoint);
    tcase_add_loop_test(refusals, another_machine, 0, 4);
    tcase_add_test(refusals, a_machine_that_cannot_be_started);
    tcase_add_test(refusals, a_managed_save);
    tcase_add_loop_test(refusals, memory_alone, 0, 2);
    TCase *back = machines_case(suite, "and back");
    tcase_add_loop_test(back, undo, 0, 2);
    tcase_add_test(back, a_frozen_checkpoint);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
