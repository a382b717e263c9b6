/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The combination table's online half, alive: each of its 32 cells asked of the real engine with a guest that runs on two
 * qcow2 disks. What is refused changes nothing; the rest is done by the means that the table names, which QEMU's own record
 * of what it was told says, and all parts of the snapshot are of one instant, which the guest's counters say.
 */
#include "end_machines.h"
#include "reference_table.h"
#include "runner.h"
#include "running_world.h"

#define N_DISKS 2

static const SnapMode modes[] = {MODE_DEFAULT, MODE_NO, MODE_INTERNAL, MODE_EXTERNAL};

/* --- what the table says --- */

typedef struct {
    const char *refusal; /* a piece of the reason; NULL: taken */
    SnapMode memory, disks;
} Expected;

/* The five rows that the author of the table left out, as DESIGN 6 has them. */
static Expected left_out(Cell cell)
{
    if (cell.memory == ASK_INTERNAL)
        return (Expected){NULL, MODE_INTERNAL, modes[cell.disks]};
    if (cell.memory == ASK_EXTERNAL || (cell.memory == ASK_OMIT && cell.disks != ASK_INTERNAL))
        return (Expected){NULL, MODE_EXTERNAL, modes[cell.disks]};
    return (Expected){NULL, MODE_NO, MODE_INTERNAL};
}

static SnapMode mode_in(const char *result, const char *key)
{
    const char *word = strstr(result, key) + strlen(key);
    if (g_str_has_prefix(word, "no"))
        return MODE_NO;
    return g_str_has_prefix(word, "ext") ? MODE_EXTERNAL : MODE_INTERNAL; /* "default": of two qcow2 images */
}

static Expected expected(Cell cell)
{
    const char *result = row_result(reference_rows[reference_row(cell)]);
    if (strstr(result, "nothing to snapshot"))
        return (Expected){"nothing to snapshot", MODE_NO, MODE_NO};
    if (strstr(result, "disk-only vs. memory"))
        return (Expected){"disk-only and memory exclude each other", MODE_NO, MODE_NO};
    if (strstr(result, "unsupported for now"))
        return left_out(cell);
    return (Expected){NULL, mode_in(result, "memory="), mode_in(result, "disk=")};
}

/* The commands that this takes, as live_commands() tells them. */
static const char *means(Expected is)
{
#define EXPORTS "block-export-add block-export-add" /* the images are taken back */
#define OVERLAYS "blockdev-add(qcow2) blockdev-add(qcow2) transaction(blockdev-snapshot blockdev-snapshot)"
#define TAGS "transaction(blockdev-snapshot-internal-sync blockdev-snapshot-internal-sync)"
#define OWN "blockdev-del blockdev-add(qcow2) snapshot-save(1) blockdev-del"
    static const char *const commands[3][3] = {
        /* disks no, internal, external */
        {"", TAGS, OVERLAYS},
        {OWN, "snapshot-save(2)", "stop " OWN " " OVERLAYS " cont"},
        {"stop getfd migrate " EXPORTS " cont", "stop " TAGS " stop getfd migrate " EXPORTS " cont",
         "stop getfd migrate " EXPORTS " " OVERLAYS " cont"},
    };
    return commands[is.memory == MODE_NO         ? 0
                    : is.memory == MODE_INTERNAL ? 1
                                                 : 2][is.disks == MODE_NO         ? 0
                                                      : is.disks == MODE_INTERNAL ? 1
                                                                                  : 2];
}

/* --- asking --- */

static CreateRequest *request_of(Cell cell, const char *name)
{
    CreateRequest *request = create_request_new();
    request->name = g_strdup(name);
    request->memory = modes[cell.memory];
    request->disk_only = cell.disk_only;
    for (char last = 'a'; cell.disks != ASK_OMIT && last < 'a' + N_DISKS; last++) {
        char target[] = {'v', 'd', last, '\0'};
        g_ptr_array_add(request->disks, snapshot_disk_new(target, modes[cell.disks]));
    }
    return request;
}

static char *cell_name(Cell cell)
{
    return g_strdup_printf("%s-%s%s", ask_words[cell.memory], ask_words[cell.disks],
                           cell.disk_only ? "-only" : "");
}

static gboolean ask(Live *web, Cell cell, const char *name, GError **error)
{
    g_autoptr(CreateRequest) request = request_of(cell, name);
    return world_try_request(web->world, "web", request, error);
}

/* --- what is asserted of one that was taken --- */

static void expect_in(const char *text, const char *piece)
{
    ck_assert_msg(strstr(text, piece) != NULL, "no %s in\n%s", piece, text);
}

static void expect_document(Live *web, const char *name, Expected is, const char *state)
{
    g_autofree char *xml =
        world_text(web->world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(web->world, "web", name));
    g_autofree char *file = g_strdup_printf("%s/a.%s.mem", web->world->images, name);
    g_autofree char *says =
        g_strdup_printf("<state>%s</state>", is.memory == MODE_NO ? "disk-snapshot" : state);
    g_autofree char *memory =
        is.memory == MODE_EXTERNAL
            ? g_strdup_printf("<memory snapshot='external' file='%s'/>", file)
            : g_strdup_printf("<memory snapshot='%s'/>", snap_mode_to_string(is.memory));
    expect_in(xml, says);
    expect_in(xml, memory);
    expect_in(xml, "<domain type='qemu'");
    expect_in(xml, "machine='pc-i440fx-"); /* as it runs: pinned */
    for (char last = 'a'; last < 'a' + N_DISKS; last++) {
        g_autofree char *disk =
            g_strdup_printf("<disk name='vd%c' snapshot='%s'", last, snap_mode_to_string(is.disks));
        expect_in(xml, disk);
    }
    ck_assert_int_eq(access(file, F_OK) == 0 && is.memory == MODE_EXTERNAL, is.memory == MODE_EXTERNAL);
    if (is.memory == MODE_EXTERNAL)
        ck_assert_uint_eq(file_mode(file), 0600);
}

static void expect_layers(Live *web, const char *name, Expected is, char **before)
{
    g_auto(GStrv) now = live_images(web);
    for (guint i = 0; i < N_DISKS && is.disks != MODE_NO; i++) {
        char target[] = {'v', 'd', (char)('a' + i), '\0'};
        g_autofree char *tag = NULL;
        g_autofree char *layer = world_layer(web->world, "web", name, target, &tag);
        ck_assert_str_eq(layer, before[i]);
        ck_assert_int_eq(tag != NULL, is.disks == MODE_INTERNAL);
        ck_assert_int_eq(strcmp(now[i], before[i]) != 0, is.disks == MODE_EXTERNAL);
        ck_assert_uint_eq(file_mode(layer) & 0222, is.disks == MODE_EXTERNAL ? 0 : 0200);
    }
    for (guint i = 0; i < N_DISKS && is.disks == MODE_NO; i++)
        ck_assert_str_eq(now[i], before[i]);
}

/* --- one cell --- */

static void refuse(Live *web, Cell cell, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = live_shape(web);
    g_free(live_commands(web));
    ck_assert(!ask(web, cell, "cell", &error));
    expect_error(&error, EOPNOTSUPP, why);
    g_autofree char *after = live_shape(web), *said = live_commands(web);
    ck_assert_str_eq(after, before);
    ck_assert_str_eq(said, "");
    live_goes_on(web);
}

static void take(Live *web, Cell cell, const char *name, Expected is)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) before = live_images(web);
    g_free(live_commands(web));
    ASSERT_OK(ask(web, cell, name, &error), error);
    g_autofree char *said = live_commands(web), *current = world_current(web->world, "web");
    ck_assert_msg(strcmp(said, means(is)) == 0, "%s: '%s' instead of '%s'", name, said, means(is));
    ck_assert_str_eq(current, name);
    live_goes_on(web);
    expect_document(web, name, is, "running");
    expect_layers(web, name, is, before);
    if (is.disks != MODE_NO)
        live_snapshot_agrees(web, name, NULL);
}

/* --- the tests --- */

static Live *start_web(World *world)
{
    Live *web = live_define(world, "web", FILES("a.qcow2", "b.qcow2"), NULL);
    live_start(web);
    return web;
}

static void finish(Live *web)
{
    world_reopen(web->world); /* what is recorded of frozen layers is what they are */
    live_goes_on(web);
    live_end(web);
    world_check_clean(web->world, "web");
}

START_TEST(refused)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world);
    guint n = 0;
    for (int i = 32; i < CELLS; i++) {
        Expected is = expected(cell_at(i));
        if (is.refusal)
            refuse(web, cell_at(i), is.refusal);
        n += is.refusal != NULL;
    }
    ck_assert_uint_eq(n, 11);
    finish(web);
}
END_TEST

/* On one guest, one after the other. */
START_TEST(disk_only)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world);
    guint n = 0;
    for (int i = 32; i < CELLS; i++) {
        Cell cell = cell_at(i);
        Expected is = expected(cell);
        g_autofree char *name = cell_name(cell);
        if (is.refusal || is.memory != MODE_NO)
            continue;
        take(web, cell, name, is);
        n++;
    }
    ck_assert_uint_eq(n, 9);
    finish(web);
}
END_TEST

/* The cells with memory, those of one kind of memory asked for: _i. */
START_TEST(memory)
{
    g_autofree char *dir = g_strdup_printf("world%d", _i);
    g_autoptr(World) world = running_world_new(PATH(dir));
    g_autoptr(Live) web = start_web(world);
    guint n = 0;
    for (int i = 32; i < CELLS; i++) {
        Cell cell = cell_at(i);
        Expected is = expected(cell);
        g_autofree char *name = cell_name(cell);
        if (is.refusal || is.memory == MODE_NO || (int)cell.memory != _i)
            continue;
        guint32 before = live_counter(web);
        take(web, cell, name, is);
        guint32 after = live_counter(web);
        n++;
        if (is.disks == MODE_NO)
            continue;
        guest_wait(web->guest, 70); /* more than the disks have room for: what comes back is no remnant */
        live_proves(web, name, before, after);
        live_resume(web);
    }
    ck_assert_uint_eq(n, 4);
    finish(web);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("table");
    TCase *tcase = machines_case(suite, "table");
    tcase_add_test(tcase, refused);
    tcase_add_test(tcase, disk_only);
    tcase_add_loop_test(tcase, memory, ASK_OMIT, ASK_OMIT + 1);
    tcase_add_loop_test(tcase, memory, ASK_INTERNAL, ASK_EXTERNAL + 1);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
