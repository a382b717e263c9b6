/* SPDX-License-Identifier: GPL-2.0-or-later */
/* States of a running machine that somebody reads: they stay as they are to the end, and then what waited is done. */
#include "end_machines.h"
#include "running_world.h"
#include "runner.h"
#include "story.h"

static Live *start_web(World *world)
{
    Live *web = live_define(world, "web", FILES("a.qcow2", "b.qcow2"), NULL);
    live_start(web);
    return web;
}

static void create(World *world, const char *name, gboolean external)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = world_request(name, external ? BOTH_EXTERNAL : NULL);
    request->disk_only = external;
    ASSERT_OK(world_try_request(world, "web", request, &error), error);
}

/* The content of vda at @snapshot, which lies in @below (NULL: in none) and the image over it. */
static DiskReader *open_state(World *world, const char *snapshot, const char *below)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *tag = NULL, *path = world_layer(world, "web", snapshot, "vda", &tag);
    g_autofree char *base = below ? world_path(world, below) : NULL;
    Backend *backend = offline_backend_new(NULL);
    DiskLayer layers[] = {{.path = path, .format = FORMAT_QCOW2}, {.path = base, .format = FORMAT_QCOW2}};
    DiskChain chain = {layers, below ? 2 : 1, tag ? DISK_TAG : DISK_FROZEN, tag};
    DiskReader *reader = backend->ops->open_disk(backend, &chain, &error);
    backend->ops->free(backend);
    ASSERT_OK(reader != NULL, error);
    return reader;
}

static char *hash_of(DiskReader *reader)
{
    g_autoptr(GError) error = NULL;
    g_autofree guchar *all = g_malloc(reader->size);
    ASSERT_OK(reader->ops->read(reader, all, reader->size, 0, &error), error);
    return g_compute_checksum_for_data(G_CHECKSUM_SHA256, all, reader->size);
}

/* It still reads what it did. */
static void expect_hash(DiskReader *reader, const char *hash)
{
    g_autofree char *now = hash_of(reader);
    ck_assert_str_eq(now, hash);
}

START_TEST(tag)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world);
    g_autofree char *a = world_path(world, "a.qcow2");
    create(world, "s1", FALSE);
    g_autoptr(DiskReader) reader = open_state(world, "s1", NULL);
    g_autofree char *hash = hash_of(reader);
    guest_wait(web->guest, 20);
    expect_hash(reader, hash);
    world_delete(world, "web", "s1");
    g_autofree char *names = world_names(world, "web"), *tags = image_tags(a);
    ck_assert_str_eq(names, "");
    ck_assert_str_eq(tags, "s1");
    guest_wait(web->guest, 20);
    expect_hash(reader, hash);
    disk_reader_free(g_steal_pointer(&reader));
    create(world, "s2", FALSE);
    g_autofree char *now = image_tags(a);
    ck_assert_str_eq(now, "s2");
    live_goes_on(web);
    live_end(web);
    world_check_clean(world, "web");
}
END_TEST

START_TEST(layer)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world);
    create(world, "s1", TRUE);
    guest_wait(web->guest, 5);
    create(world, "s2", TRUE);
    guest_wait(web->guest, 5);
    g_autoptr(DiskReader) reader = open_state(world, "s2", "a.qcow2");
    g_autofree char *hash = hash_of(reader);
    world_delete(world, "web", "s1");
    (void)world->engine->ops->wait(world->engine, world_domain(world, "web"), NULL, NULL);
    expect_hash(reader, hash);
    g_autofree char *meanwhile = world_files(world);
    ck_assert_msg(strstr(meanwhile, "a.s1"), "%s", meanwhile);
    live_goes_on(web);
    disk_reader_free(g_steal_pointer(&reader));
    world_merge(world, "web");
    g_autofree char *files = world_files(world);
    ck_assert_str_eq(files, "a.qcow2 a.s2 b.qcow2 b.s2");
    g_autoptr(DiskReader) again = open_state(world, "s2", NULL);
    expect_hash(again, hash);
    disk_reader_free(g_steal_pointer(&again));
    live_goes_on(web);
    live_end(web);
    world_check_clean(world, "web");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("running reader");
    TCase *tcase = machines_case(suite, "read");
    tcase_add_test(tcase, tag);
    tcase_add_test(tcase, layer);
    return run_suite(suite);
}
