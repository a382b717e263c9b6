/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The combination table, alive: each of its 64 cells asked of the real engine with a domain of two qcow2 disks. */
#include "engine_world.h"
#include "reference_table.h"
#include "runner.h"

static const SnapMode modes[] = {MODE_DEFAULT, MODE_NO, MODE_INTERNAL, MODE_EXTERNAL};

static gboolean ask(World *world, Cell cell, GError **error)
{
    g_autoptr(CreateRequest) request = create_request_new();
    request->name = g_strdup("cell");
    request->memory = modes[cell.memory];
    if (cell.memory == ASK_EXTERNAL)
        request->memory_file = world_path(world, "memory");
    request->disk_only = cell.disk_only;
    for (char last = 'a'; cell.disks != ASK_OMIT && last <= 'b'; last++) {
        char target[] = {'v', 'd', last, '\0'};
        SnapshotDisk *disk = snapshot_disk_new(target, modes[cell.disks]);
        g_ptr_array_add(request->disks, disk);
    }
    return world->engine->ops->create(world->engine, world_domain(world, "web"), request, NULL, NULL, error);
}

static void check_refused(World *world, Cell cell, const char *before, int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    ck_assert(!ask(world, cell, &error));
    expect_error(&error, code, text);
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
}

/* Both disks must have been taken as @mode says, and hold the same as before. */
static void check_taken(World *world, SnapMode mode)
{
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "cell"));
    ck_assert_ptr_nonnull(strstr(xml, "<state>shutoff</state>"));
    ck_assert_ptr_nonnull(strstr(xml, "<memory snapshot='no'/>"));
    for (char last = 'a'; last <= 'b'; last++) {
        char target[] = {'v', 'd', last, '\0'};
        g_autofree char *tag = NULL;
        g_autofree char *layer = world_layer(world, "web", "cell", target, &tag);
        g_autofree char *active = world_layer(world, "web", NULL, target, NULL);
        g_autofree char *then = world_hash(world, "web", "cell", target);
        g_autofree char *now = world_hash(world, "web", NULL, target);
        g_autofree char *said =
            g_strdup_printf("<disk name='%s' snapshot='%s'", target, snap_mode_to_string(mode));
        ck_assert_msg(strstr(xml, said) != NULL, "%s", xml);
        ck_assert_str_eq(then, now);
        if (mode == MODE_INTERNAL) {
            g_autofree char *tags = image_tags(layer);
            ck_assert_str_eq(tag, "cell");
            ck_assert_str_eq(tags, "cell");
            ck_assert_str_eq(active, layer);
            ck_assert_uint_eq(file_mode(layer), 0644);
        } else {
            g_autofree char *stem = g_strndup(layer, strlen(layer) - strlen(".qcow2"));
            g_autofree char *overlay = g_strconcat(stem, ".cell", NULL);
            ck_assert_ptr_null(tag);
            ck_assert_str_eq(active, overlay);
            ck_assert_uint_eq(file_mode(layer), 0444);
            ck_assert_uint_eq(file_mode(active), 0644);
        }
    }
    world_check_clean(world, "web");
}

START_TEST(offline)
{
    Cell cell = cell_at(_i);
    const char *result = row_result(reference_rows[reference_row(cell)]);
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *before = world_digest(world, "web");
    g_autoptr(GError) error = NULL;
    if (strstr(result, "nothing to snapshot")) {
        check_refused(world, cell, before, EOPNOTSUPP, "nothing to snapshot");
    } else if (strstr(result, "no memory to save")) {
        check_refused(world, cell, before, EOPNOTSUPP, "no memory to save");
    } else {
        ck_assert_msg(ask(world, cell, &error), "%s: %s", result, error ? error->message : "?");
        check_taken(world, strstr(result, "disk=int") ? MODE_INTERNAL : MODE_EXTERNAL);
    }
}
END_TEST

/* All 32 in one world: nothing may change in any of them. The disk that is in use is the second one. */
START_TEST(online)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *path = world_path(world, "b.qcow2");
    g_autofree char *before = world_digest(world, "web");
    for (int i = 32; i < CELLS; i++) {
        Writer *writer = writer_begin(world, path);
        g_autoptr(GError) error = NULL;
        g_autofree char *state = world_text(world, ENGINE_TEXT_STATE, world_domain(world, "web"));
        gboolean taken = ask(world, cell_at(i), &error);
        writer_end(writer);
        ck_assert_str_eq(state, "unknown\n");
        ck_assert(!taken);
        expect_error(&error, EBUSY, "domain is running");
        g_autofree char *names = world_names(world, "web");
        ck_assert_str_eq(names, "");
    }
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    world_create(world, "web", "off", NULL);
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("cells");
    TCase *tcase = scratch_case(suite, "cells");
    tcase_add_loop_test(tcase, offline, 0, 32);
    tcase_add_test(tcase, online);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
