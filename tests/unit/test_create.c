/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking snapshots: names of snapshots, tags and overlays, descriptions. (Places and disks: test_places.) */
#include "engine_world.h"
#include "runner.h"

START_TEST(unnamed)
{
    g_autoptr(World) world = world_web(PATH("world"));
    for (guint i = 0; i < 4; i++)
        world_create(world, "web", i % 2 ? "" : NULL, NULL);
    g_autofree char *names = world_names(world, "web");
    g_auto(GStrv) each = g_strsplit(names, " ", -1);
    ck_assert_uint_eq(g_strv_length(each), 4);
    g_autofree char *path = world_path(world, "a.qcow2");
    g_autofree char *tags = image_tags(path);
    g_auto(GStrv) each_tag = g_strsplit(tags, " ", -1);
    ck_assert_uint_eq(g_strv_length(each_tag), 4);
    for (guint i = 0; i < 4; i++) { /* the time, in seconds, and all different */
        ck_assert(g_ascii_isdigit(each[i][0]));
        ck_assert_int_lt(llabs(g_ascii_strtoll(each[i], NULL, 10) - time(NULL)), 60);
        for (guint j = 0; j < i; j++)
            ck_assert_str_ne(each[i], each[j]);
        ck_assert(each_tag[i][strspn(each_tag[i], "0123456789")]); /* only digits would be taken for an id */
        world_revert(world, "web", each[i]);
    }
    world_check_clean(world, "web");
}
END_TEST

/* qemu-img takes a tag of digits for an id: none is ever made, and each state is found again. */
START_TEST(digits)
{
    g_autoptr(World) world = world_web(PATH("world"));
    static const char *const names[] = {"3", "1", "2"};
    for (guint i = 0; i < 3; i++) {
        world_write(world, "web", "vda", 30 + (int)i);
        world_create(world, "web", names[i], NULL);
    }
    for (guint i = 0; i < 3; i++) {
        world_assert_hash(world, names[i], "vda", 30 + (int)i, 1);
        world_revert(world, "web", names[i]);
        world_assert_hash(world, NULL, "vda", 30 + (int)i, 1);
    }
    world_delete(world, "web", "1");
    world_assert_hash(world, "2", "vda", 32, 1);
    world_assert_hash(world, "3", "vda", 30, 1);
    world_check_clean(world, "web");
}
END_TEST

/* Generated tags and overlay names that exist get a suffix; what exists stays as it is. */
START_TEST(collisions)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *a = world_path(world, "a.qcow2");
    g_autofree char *foreign = world_raw(world, "b.s1", 9);
    g_autofree char *foreign_hash = file_hash(foreign);
    tool("qemu-img", "snapshot", "-c", "s1", a, NULL);
    world_write(world, "web", "vda", 50);
    world_create(world, "web", "s1", "vda,snapshot=internal vdb,snapshot=external");
    g_autofree char *tag = NULL;
    g_free(world_layer(world, "web", "s1", "vda", &tag));
    g_autofree char *active = world_layer(world, "web", NULL, "vdb", NULL);
    g_autofree char *overlay = world_path(world, "b.s1-1");
    ck_assert_str_eq(tag, "s1-1");
    ck_assert_str_eq(active, overlay);
    g_autofree char *foreign_now = file_hash(foreign);
    ck_assert_str_eq(foreign_now, foreign_hash);
    world_write(world, "web", "vda", 51);
    world_revert(world, "web", "s1");
    world_assert_hash(world, NULL, "vda", 50, 1);
    world_delete(world, "web", "s1");
    g_autofree char *tags = image_tags(a);
    ck_assert_str_eq(tags, "s1"); /* the one that was there before */
    world_check_clean(world, "web");
}
END_TEST

/* mv daily.2 daily.3; mv daily.1 daily.2; mkdir daily.1: an everyday rotation, twenty times. */
START_TEST(rotation)
{
    const char *specs = _i ? BOTH_EXTERNAL : NULL;
    g_autoptr(World) world = world_web(PATH(_i ? "external" : "internal"));
    g_autoptr(GError) error = NULL;
    for (int round = 1; round <= 20; round++) {
        world_write(world, "web", "vda", round);
        if (round > 3)
            world_delete(world, "web", "daily.3");
        if (round > 2)
            ASSERT_OK(world_try_rename(world, "web", "daily.2", "daily.3", &error), error);
        if (round > 1)
            ASSERT_OK(world_try_rename(world, "web", "daily.1", "daily.2", &error), error);
        world_create(world, "web", "daily.1", specs);
        if (round % 5 != 0)
            continue;
        world_assert_hash(world, "daily.1", "vda", round, 1);
        world_assert_hash(world, "daily.2", "vda", round - 1, 1);
        world_assert_hash(world, "daily.3", "vda", round - 2, 1);
        g_autofree char *names = world_names(world, "web");
        ck_assert_str_eq(names, "daily.3 daily.2 daily.1");
    }
    g_autofree char *parent = world_parent(world, "web", "daily.1");
    ck_assert_str_eq(parent, "daily.2");
    world_revert(world, "web", "daily.3");
    world_assert_hash(world, NULL, "vda", 18, 1);
    g_autofree char *path = world_path(world, "a.qcow2");
    g_autofree char *tags = image_tags(path);
    g_auto(GStrv) each = g_strsplit(tags, " ", -1);
    ck_assert_uint_eq(g_strv_length(each), _i ? 0 : 4); /* with the one that the revert keeps */
    world_check_clean(world, "web");
}
END_TEST

/* Names as long as they may be, of one byte and of several a character, internal and external. */
START_TEST(long_names)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *ascii = g_strnfill(255, 'x');
    g_autoptr(GString) wide = g_string_new("y");
    while (wide->len < 255)
        g_string_append(wide, "ü");
    g_autofree char *over = g_strnfill(256, 'x');
    world_create(world, "web", ascii, NULL);
    world_write(world, "web", "vda", 40);
    world_create(world, "web", wide->str, BOTH_EXTERNAL);
    world_write(world, "web", "vda", 41);
    world_assert_create_refused(world, over, NULL, ENAMETOOLONG, NULL);
    world_reopen(world);
    g_autofree char *names = world_names(world, "web");
    g_autofree char *expected = g_strconcat(ascii, " ", wide->str, NULL);
    ck_assert_str_eq(names, expected);
    world_revert(world, "web", ascii);
    world_assert_hash(world, NULL, "vda", 1, 1);
    world_revert(world, "web", wide->str);
    world_assert_hash(world, NULL, "vda", 40, 1);
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    ck_assert(g_utf8_validate(active, -1, NULL));
    world_check_clean(world, "web");
}
END_TEST

START_TEST(bad_names)
{
    static const struct {
        const char *name;
        int code;
    } bad[] = {{"active", EPERM}, {"current", EPERM}, {".hidden", EPERM}, {"a/b", EPERM},
               {"..", EINVAL},    {"a\nb", EILSEQ},   {"\xff", EILSEQ},   {"s1", EEXIST}};
    g_autoptr(World) world = world_web(PATH("world"));
    world_create(world, "web", "s1", NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        world_assert_create_refused(world, bad[i].name, NULL, bad[i].code, NULL);
    /* these look odd, and are fine */
    static const char *const odd[] = {"a b", "-x", "a..b", "%2F", "ü", "a'b\"&<>", "100%", "x:y", "json:{}"};
    for (gsize i = 0; i < G_N_ELEMENTS(odd); i++) {
        world_write(world, "web", "vda", 60 + (int)i);
        world_create(world, "web", odd[i], i % 2 ? BOTH_EXTERNAL : NULL);
    }
    world_reopen(world);
    for (gsize i = 0; i < G_N_ELEMENTS(odd); i++)
        world_assert_hash(world, odd[i], "vda", 60 + (int)i, 1);
    for (gsize i = 0; i < G_N_ELEMENTS(odd); i++) {
        world_revert(world, "web", odd[i]);
        world_assert_hash(world, NULL, "vda", 60 + (int)i, 1);
    }
    world_check_clean(world, "web");
}
END_TEST

START_TEST(descriptions)
{
    static const char *const texts[] = {"one line", "  two\n\tlines  \n", "<b>&amp;'\"", "ü\r\n"};
    g_autoptr(World) world = world_web(PATH("world"));
    const EngineOps *ops = world->engine->ops;
    EngineId domain = world_domain(world, "web");
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(CreateRequest) request = create_request_new();
        EngineId id = 0;
        request->description = g_strdup(texts[i]);
        ASSERT_OK(ops->create(world->engine, domain, request, NULL, &id, &error), error);
        g_autofree char *said = world_text(world, ENGINE_TEXT_DESCRIPTION, id);
        g_autofree char *expected = g_strconcat(texts[i], "\n", NULL);
        ck_assert_str_eq(said, expected);
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = create_request_new();
    request->description = g_strdup("bell \a");
    ck_assert(!ops->create(world->engine, domain, request, NULL, NULL, &error));
    expect_error(&error, EILSEQ, NULL);
    g_free(request->description);
    request->description = g_strdup("");
    request->name = g_strdup("silent");
    ASSERT_OK(ops->create(world->engine, domain, request, NULL, NULL, &error), error);
    g_autofree char *xml =
        world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "silent"));
    ck_assert_ptr_null(strstr(xml, "<description"));
}
END_TEST

/* What no snapshot has is said. */
START_TEST(tpm)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autoptr(GError) error = NULL;
    const EngineOps *ops = world->engine->ops;
    EngineId domain = world_domain(world, "web");
    world_create(world, "web", "without", NULL);
    g_autofree char *before = world_log(world, "web");
    ck_assert_ptr_null(strstr(before, "TPM"));
    g_autofree char *plain = world_text(world, ENGINE_TEXT_DOMAIN_XML, domain);
    g_autoptr(GString) xml = g_string_new(plain);
    g_string_replace(xml, "</devices>", "<tpm model='tpm-tis'><backend type='emulator'/></tpm></devices>", 1);
    ASSERT_OK(ops->define(world->engine, domain, xml->str, xml->len, NULL, NULL, &error), error);
    world_create(world, "web", "with", NULL);
    g_autofree char *after = world_log(world, "web");
    ck_assert_ptr_nonnull(strstr(after, "create 'with': vda internal as with"));
    ck_assert_ptr_nonnull(strstr(after, "; the state of the TPM is not captured\n"));
}
END_TEST

/* What an offline domain cannot do at all. */
START_TEST(flags)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *before = world_digest(world, "web");
    static const struct {
        gboolean live, quiesce, disk_only;
        int code;
        const char *text;
    } refused[] = {
        {.live = TRUE, .code = EOPNOTSUPP, .text = "live needs a running domain and external memory"},
        {.live = TRUE, .disk_only = TRUE, .code = EOPNOTSUPP, .text = "live needs"},
        {.quiesce = TRUE, .code = EINVAL, .text = "quiesce goes with disk-only"},
        {.live = TRUE, .quiesce = TRUE, .code = EINVAL, .text = "quiesce goes with disk-only"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(CreateRequest) request = create_request_new();
        request->name = g_strdup("s1");
        request->live = refused[i].live;
        request->quiesce = refused[i].quiesce;
        request->disk_only = refused[i].disk_only;
        g_ptr_array_add(request->disks, create_request_parse_diskspec("vda,snapshot=external", NULL));
        ck_assert(!world->engine->ops->create(world->engine, world_domain(world, "web"), request, NULL, NULL,
                                              &error));
        expect_error(&error, refused[i].code, refused[i].text);
    }
    g_autofree char *after = world_digest(world, "web");
    ck_assert_str_eq(after, before);
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = create_request_new();
    request->name = g_strdup("s1");
    request->halt = TRUE; /* nothing to halt, nothing to freeze: as libvirt does it */
    request->quiesce = request->disk_only = TRUE;
    g_ptr_array_add(request->disks, create_request_parse_diskspec("vda,snapshot=external", NULL));
    g_ptr_array_add(request->disks, create_request_parse_diskspec("vdb,snapshot=no", NULL));
    ASSERT_OK(
        world->engine->ops->create(world->engine, world_domain(world, "web"), request, NULL, NULL, &error),
        error);
    EngineLook look;
    ck_assert(world->engine->ops->look(world->engine, world_snapshot(world, "web", "s1"), &look));
    ck_assert(!world->engine->ops->create(world->engine, 12345, request, NULL, NULL, &error));
    expect_error(&error, ENOENT, NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("create");
    TCase *tcase = scratch_case(suite, "create");
    tcase_add_test(tcase, unnamed);
    tcase_add_test(tcase, digits);
    tcase_add_test(tcase, collisions);
    tcase_add_loop_test(tcase, rotation, 0, 2);
    tcase_add_test(tcase, long_names);
    tcase_add_test(tcase, bad_names);
    tcase_add_test(tcase, descriptions);
    tcase_add_test(tcase, tpm);
    tcase_add_test(tcase, flags);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
