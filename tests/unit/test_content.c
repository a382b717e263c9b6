/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What disks hold, by ids that name bytes: through merges and deletions, and while these are under way. */
#include <errno.h>
#include <fcntl.h>

#include "error.h"
#include "runner.h"
#include "story.h"

enum { SIZE = 1024 * 1024 };

/* The id under which what @target holds in @snapshot (NULL: now) is read; 0: none is shown. */
static EngineId content_of(World *world, const char *snapshot, const char *target)
{
    EngineId node = snapshot ? world_snapshot(world, "web", snapshot) : world_domain(world, "web");
    g_autoptr(GPtrArray) disks = world->engine->ops->disks(world->engine, node);
    for (guint i = 0; i < disks->len; i++) {
        const EngineDisk *disk = disks->pdata[i];
        if (strcmp(disk->target, target) == 0)
            return disk->content;
    }
    return 0;
}

static DiskReader *content_open(World *world, EngineId id, GError **error)
{
    return world->engine->ops->open_content(world->engine, id, NULL, error);
}

static void assert_holds(DiskReader *reader, int first, int second)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *bytes = g_malloc(SIZE);
    ck_assert_uint_eq(reader->size, SIZE);
    ASSERT_OK(reader->ops->read(reader, bytes, SIZE, 0, &error), error);
    g_autofree char *hash = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)bytes, SIZE);
    g_autofree char *want = pattern_hash(first, second);
    ck_assert_str_eq(hash, want);
}

static void assert_content(World *world, EngineId id, int first, int second)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DiskReader) reader = content_open(world, id, &error);
    ASSERT_OK(reader != NULL, error);
    assert_holds(reader, first, second);
}

static void assert_not_open(World *world, EngineId id, int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DiskReader) reader = content_open(world, id, &error);
    ck_assert_ptr_null(reader);
    ck_assert_int_eq(snap_errno(error), code);
    ck_assert_msg(strstr(error->message, text) != NULL, "%s", error->message);
}

/* "web" with s1 (internal), s2 and s3 (external), the machine's own content above. */
static World *world_with_states(char *dir)
{
    World *world = world_new(dir);
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    world_create(world, "web", "s1", "vda,snapshot=internal");
    world_write(world, "web", "vda", 10);
    world_create(world, "web", "s2", "vda,snapshot=external");
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s3", "vda,snapshot=external");
    world_write(world, "web", "vda", 12);
    return world;
}

START_TEST(ids_name_bytes)
{
    g_autoptr(World) world = world_with_states(PATH("world"));
    EngineId s1 = content_of(world, "s1", "vda"), s2 = content_of(world, "s2", "vda");
    EngineId s3 = content_of(world, "s3", "vda"), now = content_of(world, NULL, "vda");
    EngineLook look;
    EngineStat st;
    ck_assert(s1 && s2 && s3 && now);
    assert_content(world, s1, 1, 1);
    assert_content(world, s2, 10, 1);
    assert_content(world, s3, 11, 1);
    assert_content(world, now, 12, 1);
    ck_assert(world->engine->ops->look(world->engine, s2, &look));
    ck_assert_int_eq(look.kind, ENGINE_STATE);
    ck_assert_uint_eq(look.parent, world_snapshot(world, "web", "s2"));
    ck_assert_uint_eq(look.domain, world_domain(world, "web"));
    ck_assert(world->engine->ops->stat_content(world->engine, s2, &st));
    ck_assert(st.size == SIZE && st.blocks == 8 && st.nlink == 1 && st.mtime.tv_sec == look.time);
    ck_assert_ptr_null(world->engine->ops->name(world->engine, s2));

    /* the layers of s3 and of now become others, their bytes do not */
    world_delete(world, "web", "s2");
    world_merge(world, "web");
    g_autofree char *files = world_files(world);
    ck_assert_str_eq(files, "a.qcow2 a.s3");
    assert_content(world, s1, 1, 1); /* in the file into which the other one was written */
    world_delete(world, "web", "s1");
    world_merge(world, "web");
    ck_assert_uint_eq(content_of(world, "s3", "vda"), s3);
    assert_content(world, s3, 11, 1);
    ck_assert(world_try_rename(world, "web", "s3", "x", NULL));
    ck_assert_uint_eq(content_of(world, "x", "vda"), s3);
    assert_content(world, s3, 11, 1);
    assert_content(world, content_of(world, NULL, "vda"), 12, 1);
    assert_not_open(world, s1, ENOENT, "gone");
    assert_not_open(world, s2, ENOENT, "gone");
    ck_assert(!world->engine->ops->stat_content(world->engine, s2, &st));
    world_revert(world, "web", "x");
    assert_not_open(world, now, ENOENT, "gone");
    assert_content(world, content_of(world, NULL, "vda"), 11, 1);
}
END_TEST

/* A document may say that a snapshot is something else: then its states are others, and their bytes in no cache. */
START_TEST(redefined)
{
    g_autoptr(World) world = world_with_states(PATH("world"));
    g_autoptr(GError) error = NULL;
    EngineId s1 = content_of(world, "s1", "vda");
    g_autofree char *xml = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", "s1"));
    ASSERT_OK(world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, xml, strlen(xml), 0,
                                           NULL, &error),
              error);
    ck_assert(content_of(world, "s1", "vda") != 0 && content_of(world, "s1", "vda") != s1);
    assert_not_open(world, s1, ENOENT, "gone");
    assert_content(world, content_of(world, "s1", "vda"), 1, 1);
}
END_TEST

typedef struct {
    World *world;
    EngineId id;
    DiskReader *reader;
    GError *error;
} Opening;

static gpointer open_it(gpointer data)
{
    Opening *opening = data;
    opening->reader = content_open(opening->world, opening->id, &opening->error);
    return NULL;
}

/* A merge that has begun gives way, is not done while the content is read, and is done then without another word. */
START_TEST(a_merge_gives_way)
{
    g_autoptr(World) world = world_new(PATH("world"));
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    world_create(world, "web", "s1", "vda,snapshot=external");
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s2", "vda,snapshot=external");
    world_write(world, "web", "vda", 12);
    world_delete(world, "web", "s1");
    gate_close(CALL_COMMIT, NULL);
    world->options.merge_idle_ms = 20;
    world_reopen(world);
    gate_wait(1);
    Opening opening = {.world = world, .id = content_of(world, "s2", "vda")};
    GThread *thread = g_thread_new("open", open_it, &opening);
    gboolean aside = FALSE;
    for (guint i = 0; i < 2000 && !aside; i++, g_usleep(5000)) {
        g_autofree char *jobs = world_text(world, ENGINE_TEXT_JOBS, 0);
        aside = strstr(jobs, "being cancelled") != NULL;
    }
    ck_assert(aside);
    gate_open();
    g_thread_join(thread);
    ASSERT_OK(opening.reader != NULL, opening.error);
    world_merge(world, "web");
    g_autofree char *files = world_files(world);
    ck_assert_str_eq(files, "a.qcow2 a.s1 a.s2");
    assert_holds(opening.reader, 11, 1);
    disk_reader_free(opening.reader);
    world_await_files(world, "a.qcow2 a.s2");
    assert_content(world, opening.id, 11, 1);
    world_check_clean(world, "web");
}
END_TEST

/* It was there when it was looked up, and is gone when its images are opened. */
START_TEST(deleted_while_it_is_opened)
{
    const char *snapshot = _i ? "s1" : "s2";
    g_autoptr(World) world = world_with_states(PATH("world"));
    Opening opening = {.world = world, .id = content_of(world, snapshot, "vda")};
    gate_close(CALL_OPEN_DISK, NULL);
    GThread *thread = g_thread_new("open", open_it, &opening);
    gate_wait(1);
    world_delete(world, "web", snapshot);
    gate_open();
    g_thread_join(thread);
    ck_assert_ptr_null(opening.reader);
    ck_assert_int_eq(snap_errno(opening.error), ENOENT);
    g_error_free(opening.error);
}
END_TEST

/* Its layers are joined while it is opened: it is begun again, and is what it was. */
START_TEST(joined_while_it_is_opened)
{
    g_autoptr(World) world = world_with_states(PATH("world"));
    world_delete(world, "web", "s1");
    world_delete(world, "web", "s2");
    Opening opening = {.world = world, .id = content_of(world, _i ? NULL : "s3", "vda")};
    gate_close(CALL_OPEN_DISK, NULL);
    GThread *thread = g_thread_new("open", open_it, &opening);
    gate_wait(1);
    world_merge(world, "web");
    g_autofree char *files = world_files(world);
    ck_assert_str_eq(files, "a.qcow2 a.s3");
    gate_open();
    g_thread_join(thread);
    ASSERT_OK(opening.reader != NULL, opening.error);
    assert_holds(opening.reader, _i ? 12 : 11, 1);
    disk_reader_free(opening.reader);
}
END_TEST

START_TEST(nothing_to_read)
{
    g_autoptr(World) world = world_with_states(PATH("world"));
    g_autofree char *path = world_path(world, "a.s2"), *aside = world_path(world, "aside");
    g_autofree char *top = world_path(world, "a.s3");
    EngineId s2 = content_of(world, "s2", "vda"), s3 = content_of(world, "s3", "vda");
    assert_not_open(world, 0, ENOENT, "gone");
    assert_not_open(world, world_domain(world, "web"), ENOENT, "gone");
    assert_not_open(world, s3 + 1000, ENOENT, "gone");
    ck_assert_int_eq(rename(path, aside), 0);
    assert_content(world, s2, 10, 1);
    assert_not_open(world, s3, ENOENT, "a.s2");
    g_free(world_image(world, "a.s2", 3));
    assert_not_open(world, s3, ESTALE, "another file");
    Writer *writer = writer_begin(world, top);
    assert_not_open(world, content_of(world, NULL, "vda"), EBUSY, "writing");
    writer_end(writer);
}
END_TEST

/* A tag that somebody reads outlives its snapshot, but not the reader. */
START_TEST(tags_that_are_owed)
{
    g_autoptr(World) world = world_with_states(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autofree char *path = world_path(world, "a.qcow2");
    DiskReader *reader = content_open(world, content_of(world, "s1", "vda"), &error);
    ASSERT_OK(reader != NULL, error);
    world_delete(world, "web", "s1");
    world_merge(world, "web");
    g_autofree char *kept = image_tags(path);
    ck_assert_str_eq(kept, "s1");
    assert_holds(reader, 1, 1);
    gint64 changed = 0, still = 0;
    guint64 size;
    world->engine->ops->text_size(world->engine, ENGINE_TEXT_TREE, world_domain(world, "web"), &size,
                                  &changed);
    disk_reader_free(reader);
    world_merge(world, "web");
    world->engine->ops->text_size(world->engine, ENGINE_TEXT_TREE, world_domain(world, "web"), &size, &still);
    g_autofree char *none = image_tags(path), *tree = world_tree(world, "web");
    ck_assert_str_eq(none, "");
    ck_assert_msg(!strstr(tree, "owed"), "%s", tree);
    ck_assert_int_eq(changed, still);
    assert_content(world, content_of(world, "s2", "vda"), 10, 1);
    world_check_clean(world, "web");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("content");
    TCase *t = scratch_case(s, "content");
    tcase_add_test(t, ids_name_bytes);
    tcase_add_test(t, redefined);
    tcase_add_test(t, a_merge_gives_way);
    tcase_add_loop_test(t, deleted_while_it_is_opened, 0, 2);
    tcase_add_loop_test(t, joined_while_it_is_opened, 0, 2);
    tcase_add_test(t, nothing_to_read);
    tcase_add_test(t, tags_that_are_owed);
    return s;
}

int main(void)
{
    return run_suite(suite());
}
