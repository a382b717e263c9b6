/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Delete, revert and merge in every shape of tree, each as a story (story.h). libvirt refuses, or loses data in, what is
 * quoted: here it works for a domain that is off.
 */
#include "runner.h"
#include "story.h"

/* "web" with one disk, vda. */
static World *world_one(char *dir)
{
    World *world = world_new(dir);
    g_free(world_image(world, "a.qcow2", 1));
    world_define(world, "web", "a.qcow2", NULL);
    return world;
}

typedef struct {
    const char *what;
    const char *steps;
} Case;

static const Case one_disk[] = {
    {"root",
     "external s1; write vda 11; external s2; write vda 12; external s3; write vda 13;"
     "delete s1; tree s2:- s3:s2; current s3; merge; files a.qcow2 a.s2 a.s3; reopen; revert s2; undo"},
    {"middle",
     "external s1; write vda 11; external s2; write vda 12; external s3; write vda 13;"
     "delete s2; tree s1:- s3:s1; merge; files a.qcow2 a.s2 a.s3; reopen; revert s1; revert s3; merge;"
     "files a.qcow2 a.s1 a.s2 a.s3-1; current s3"},
    {"leaf, current",
     "external s1; write vda 11; external s2; write vda 12;"
     "delete s2; tree s1:-; current s1; merge; files a.qcow2 a.s2; write vda 13; reopen;"
     "revert s1; merge; files a.qcow2 a.s1 a.s2; external s3; merge; files a.qcow2 a.s1 a.s3"},
    {"leaf, not current",
     "external s1; write vda 11; external s2; write vda 12; revert s1; write vda 13; external s3;"
     "delete s2; tree s1:- s3:s1; current s3; merge; files a.qcow2 a.s1-1 a.s3; reopen; revert s1"},
    {"only one",
     "external s1; write vda 11; delete s1; tree; current -; merge; files a.qcow2; reopen; write vda 12;"
     "external s1; delete s1; merge; files a.qcow2"},
    {"only one, internal", "internal s1; write vda 11; delete s1; current -; merge; files a.qcow2; reopen"},
    {"an inactive branch",
     "external s1; write vda 11; external a1; write vda 12; external a2; write vda 13; revert s1;"
     "external b1; write vda 14; delete a1; merge; tree s1:- a2:s1 b1:s1; files a.a1 a.b1 a.qcow2 a.s1-1;"
     "delete a2; merge; files a.b1 a.qcow2 a.s1-1; delete b1; merge; files a.b1 a.qcow2; delete s1; merge;"
     "files a.qcow2"},
    {"several children, at last none",
     "external s1; write vda 11; external a1; revert s1; write vda 12; external b1; revert s1; write vda 13;"
     "external c1; write vda 14; delete s1; tree a1:- b1:- c1:-; merge; revert a1; revert b1; revert c1 "
     "--discard;"
     "merge; delete a1; delete b1; merge; delete c1; merge; files a.qcow2"},
    {"internal on external, external on internal", "internal s1; write vda 11; external s2; write vda 12; "
                                                   "internal s3; write vda 13; external s4; write vda 14;"
                                                   "merge; delete s2; merge; delete s3; merge; revert s1; "
                                                   "merge; revert s4; delete s1; merge; delete s4; merge;"
                                                   "files a.qcow2"},
    {"--children",
     "internal s1; external s2; write vda 12; external s3; write vda 13; internal s4; write vda 14;"
     "delete s2 --children; tree s1:-; current s1; merge; files a.qcow2; revert s1; reopen"},
    {"--children of another branch",
     "external s1; write vda 11; external a1; write vda 12; internal a2; write vda 13; external a3; revert "
     "s1;"
     "write vda 14; external b1; delete a1 --children; tree s1:- b1:s1; merge; files a.b1 a.qcow2 a.s1-1"},
    {"--children-only above what is current", "external s1; write vda 11; external a1; write vda 12; "
                                              "external a2; write vda 13; revert a1; write vda 14;"
                                              "delete s1 --children-only; tree s1:-; current s1; merge; "
                                              "files a.a1-1 a.qcow2; delete s1; merge; files a.qcow2"},
    {"--metadata: what is released is neither merged nor unlinked",
     "external s1; write vda 11; external s2; write vda 12; external s3; write vda 13; delete s2 --metadata;"
     "tree s1:- s3:s1; merge; files a.qcow2 a.s1 a.s2 a.s3; delete s1; merge; files a.qcow2 a.s1 a.s2 a.s3;"
     "reopen; delete s3; merge; files a.qcow2 a.s1 a.s3"},
    {"--metadata of a leaf, then another branch",
     "external s1; write vda 11; external s2; write vda 12; delete s2 --metadata; revert s1; external s3;"
     "merge; reopen; delete s3; delete s1; merge; files a.qcow2 a.s1 a.s3"},
    {"revert --discard leaves nothing", "external s1; write vda 11; external s2; write vda 12; revert s1 "
                                        "--discard; merge; files a.qcow2 a.s1 a.s1-1;"
                                        "write vda 13; revert s1 --discard; merge; files a.qcow2 a.s1 "
                                        "a.s1-2; delete s2; merge; files a.qcow2 a.s1-2"},
    {"revert --delete-children", "external s1; write vda 11; external s2; write vda 12; internal s3; write "
                                 "vda 13; revert s2; write vda 14;"
                                 "external s4; write vda 15; revert s1 --delete-children; tree s1:-; current "
                                 "s1; merge; undo; tree s1:-; merge;"
                                 "reopen; delete s1; merge; files a.qcow2"},
    {"revert --delete-children --discard",
     "internal s1; write vda 11; external s2; write vda 12; external s3; write vda 13;"
     "revert s1 --delete-children --discard; tree s1:-; merge; write vda 14; reopen; revert s1"},
    {"back and forth, then undone",
     "external s1; write vda 11; external s2; write vda 12; revert s1; write vda 13; merge; undo; merge;"
     "files a.qcow2 a.s1 a.s2; current s2; internal s3; write vda 14; revert s3; write vda 15; merge; undo; "
     "merge;"
     "files a.qcow2 a.s1 a.s2"},
    {"deleted after a revert, the old active layer goes",
     "external s1; write vda 11; revert s1; write vda 12; merge; files a.qcow2 a.s1 a.s1-1; delete s1; merge;"
     "files a.qcow2"},
    {"tags named like ids (7.5, data loss d)", "internal 2; write vda 11; internal 1; write vda 12; internal "
                                               "3; write vda 13; delete 1; revert 2; revert 3;"
                                               "delete 2; delete 3; merge; files a.qcow2"},
};

/* Facts 7.5. */
static const Case rows[] = {
    {"1: CHILDREN / CHILDREN_ONLY when any descendant is external (also mixed)",
     "external s1; write vda 11; external s2; write vda 12; internal s3; write vda 13;"
     "delete s1 --children-only; tree s1:-; current s1; merge; files a.qcow2 a.s2;"
     "delete s1 --children; tree; current -; merge; files a.qcow2"},
    {"2: CHILDREN on an external S, even a childless one",
     "external s1; write vda 11; delete s1 --children; tree; merge; files a.qcow2"},
    {"3: external S that is current but has children (i.e. after revert to non-leaf)",
     "external s1; write vda 11; external s2; write vda 12; revert s1; write vda 13; delete s1; tree s2:-;"
     "current -; merge; files a.qcow2 a.s1 a.s1-1; reopen; revert s2; merge; files a.qcow2 a.s1 a.s1-1 a.s2;"
     "internal s4; merge; files a.qcow2 a.s2"},
    {"3, S has no external parent: the file unlinked is the BASE image",
     "internal i1; write vda 11; external e1; write vda 12; revert i1; write vda 13; delete e1; current i1; "
     "merge;"
     "files a.i1 a.qcow2; reopen; revert i1; delete i1; merge"},
    {"3, a root external S that is merely not current",
     "external e1; write vda 11; external e2; write vda 12; external e3; revert e2; delete e1; tree e2:- "
     "e3:e2;"
     "merge; revert e3; revert e2"},
    {"4: external S with children, not an ancestor of current (branch not active)",
     "external s1; write vda 11; external s2; write vda 12; external s3; write vda 13; revert s1; write vda "
     "14;"
     "external b1; write vda 15; delete s2; tree s1:- s3:s1 b1:s1; merge; files a.b1 a.qcow2 a.s1-1 a.s2;"
     "revert s3; revert b1"},
    {"5: external S with more than one child (would need block-stream)",
     "external s1; write vda 11; external s2; write vda 12; external a1; revert s2; write vda 13; external "
     "b1;"
     "write vda 14; delete s2; tree s1:- a1:s1 b1:s1; current b1; merge; files a.b1 a.qcow2 a.s1 a.s2 a.s2-1;"
     "delete a1; merge; files a.b1 a.qcow2 a.s2-1"},
    {"6: external S whose nearest ancestor having that disk is INTERNAL",
     "internal s1; write vda 11; external s2; write vda 12; external s3; write vda 13; delete s2; tree s1:- "
     "s3:s1;"
     "merge; files a.qcow2 a.s3; reopen; revert s1; revert s3; delete s3; delete s1; merge; files a.qcow2"},
    {"7, while it is off: internal S, if any disk's current file differs from S's file (external taken "
     "since)",
     "internal s1; write vda 11; external s2; write vda 12; delete s1; tree s2:-; merge; files a.qcow2 a.s2"},
    {"7, reverted elsewhere",
     "internal s1; write vda 11; external s2; write vda 12; revert s1; write vda 13; internal s3; delete s1;"
     "tree s2:- s3:-; merge; revert s2; revert s3"},
    {"mixing internal+external",
     "create s1 vda,snapshot=external; write vda 11; create s2 vda,snapshot=internal;"
     "write vda 12; delete s1; merge; files a.qcow2 a.s1; delete s2; merge; files a.qcow2"},
};

static void tell_case(const Case *told, const char *table, int i)
{
    g_autofree char *dir = g_strdup_printf("%s%d", table, i);
    g_autoptr(World) world = world_one(in_scratch(table, dir));
    g_autoptr(Story) story = story_new(world);
    printf("# --- %s\n", told->what);
    story_tell(story, told->steps);
}

START_TEST(shape)
{
    tell_case(&one_disk[_i], __func__, _i);
}
END_TEST

START_TEST(refused_by_libvirt)
{
    tell_case(&rows[_i], __func__, _i);
}
END_TEST

/* A chain of four snapshots, each internal or external, from which any one goes; then the rest, oldest first. */
START_TEST(chain)
{
    static const char *const modes[] = {"EEEE", "IIII", "EIEI", "IEIE", "EIIE", "IEEI"};
    int pattern = _i / 4, gone = _i % 4;
    g_autofree char *dir = g_strdup_printf("%s%d", modes[pattern], gone);
    g_autoptr(World) world = world_one(PATH(dir));
    g_autoptr(Story) story = story_new(world);
    g_autoptr(GString) steps = g_string_new(NULL);
    for (int i = 0; i < 4; i++)
        g_string_append_printf(steps, "write vda %d; %s s%d;", 10 + i,
                               modes[pattern][i] == 'E' ? "external" : "internal", i);
    g_string_append_printf(steps, "write vda 20; delete s%d; merge; reopen;", gone);
    for (int i = 3; i >= 0; i--)
        if (i != gone)
            g_string_append_printf(steps, "revert s%d; write vda %d; merge; undo;", i, 30 + i);
    for (int i = 0; i < 4; i++)
        if (i != gone)
            g_string_append_printf(steps, "delete s%d; merge;", i);
    g_string_append(steps, "tree; current -; files a.qcow2");
    story_tell(story, steps->str);
}
END_TEST

static const Case two_disks[] = {
    {"a subset of the disks for internal, the others external or not at all",
     "create s1 vda,snapshot=internal vdb,snapshot=external; write vda 11; write vdb 12;"
     "create s2 vda,snapshot=external vdb,snapshot=no; write vda 21; write vdb 22;"
     "create s3 vda,snapshot=no vdb,snapshot=internal; write vda 31; write vdb 32;"
     "delete s2; merge; revert s1; undo; delete s1; merge; delete s3; merge; files a.qcow2 b.qcow2"},
    {"10: disk removed from domain",
     "external s1; write vda 11; write vdb 12; external s2; write vdb 22; detach vdb; merge;"
     "files a.qcow2 a.s1 a.s2 b.qcow2 b.s1 b.s2; delete s1; merge; reopen; revert s2; delete s2; merge;"
     "files a.qcow2 b.qcow2 b.s1 b.s2 b.s2-1"},
    {"a disk that left the domain keeps what its guest wrote, and comes back with it",
     "external s1; write vdb 12; detach vdb; merge; reopen; merge; attach vdb b.s1; write vdb 13; delete s1; "
     "merge;"
     "files a.qcow2 b.qcow2"},
    {"disks that were added since", "create s1 vda,snapshot=external vdb,snapshot=no; write vda 11; detach "
                                    "vdb; external s2; attach vdb b.qcow2;"
                                    "external s3; write vdb 12; write vda 13; delete s2; merge; revert s1; "
                                    "merge; undo; merge; revert s3; delete s3;"
                                    "merge; delete s1; merge; files a.qcow2 b.qcow2"},
};

START_TEST(disks)
{
    g_autofree char *dir = g_strdup_printf("disks%d", _i);
    printf("# --- %s\n", two_disks[_i].what);
    story_of(PATH(dir), two_disks[_i].steps);
}
END_TEST

/* --- by hand --- */

static void redefine(World *world, const char *xml, RedefineFlags flags)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world->engine->ops->redefine(world->engine, world_domain(world, "web"), 0, xml, strlen(xml),
                                           flags, NULL, &error),
              error);
}

static char *document_of(World *world, const char *name)
{
    return world_text(world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(world, "web", name));
}

/* "9: disk flagged snapshotDeleteInProgress": what a deletion that failed in libvirt leaves for ever. */
START_TEST(delete_in_progress)
{
    g_autoptr(World) world = world_one(PATH("world"));
    g_autoptr(Story) story = story_new(world);
    story_tell(story, "external s1; write vda 11; external s2; write vda 12");
    g_autofree char *xml = document_of(world, "s1");
    g_autoptr(GString) flagged = g_string_new(xml);
    ck_assert_uint_eq(g_string_replace(flagged, "</disk>\n  </disks>",
                                       "  <snapshotDeleteInProgress/>\n    </disk>\n  </disks>", 1),
                      1);
    redefine(world, flagged->str, 0);
    g_autofree char *now = document_of(world, "s1");
    ck_assert_ptr_nonnull(strstr(now, "<snapshotDeleteInProgress/>"));
    story_tell(story, "revert s1; undo; delete s2; merge; delete s1; merge; files a.qcow2");
}
END_TEST

/* "10: overlay created with NO_METADATA in between": what it keeps for the user stays, and what that stands on. */
START_TEST(no_metadata_between)
{
    g_autoptr(World) world = world_one(PATH("world"));
    g_autoptr(GError) error = NULL;
    g_autoptr(Story) story = story_new(world);
    story_tell(story, "external s1; write vda 11");
    g_autoptr(CreateRequest) request = world_request("between", "vda,snapshot=external");
    request->no_metadata = TRUE;
    ASSERT_OK(world_try_request(world, "web", request, &error), error);
    story_tell(story,
               "write vda 12; external s3; write vda 13; delete s1; merge; delete s3; merge; reopen; merge;"
               "files a.qcow2 a.s1 a.s3");
}
END_TEST

/* "10: snapshot-current X juggling": what is current says nothing of the disks, so children get a wrong parent. */
START_TEST(current_by_hand)
{
    g_autoptr(World) world = world_one(PATH("world"));
    g_autoptr(Story) story = story_new(world);
    story_tell(story, "external s1; write vda 11; external s2; write vda 12; external s3; write vda 13");
    g_autofree char *xml = document_of(world, "s1");
    redefine(world, xml, REDEFINE_CURRENT);
    story_tell(story,
               "current s1; external s4; write vda 14; tree s1:- s2:s1 s3:s2 s4:s1; delete s2; merge;"
               "delete s1; merge; revert s3; revert s4; delete s3; merge; delete s4; merge; files a.qcow2");
}
END_TEST

/* "10: chain changed by hand (blockcommit/blockpull/rebase)": the name goes, and nothing is moved on what is not known. */
START_TEST(rebased_by_hand)
{
    g_autoptr(World) world = world_one(PATH("world"));
    g_autoptr(Story) story = story_new(world);
    story_tell(story, "external s1; write vda 11; external s2; write vda 12");
    g_autofree char *active = world_layer(world, "web", NULL, "vda", NULL);
    tool("qemu-img", "rebase", "-f", "qcow2", "-b", "./a.qcow2", "-F", "qcow2", active, NULL);
    story_learn(story, "vda");
    world_delete(world, "web", "s1");
    world_merge(world, "web");
    world_delete(world, "web", "s2");
    world_merge(world, "web");
    world_assert_hash(world, NULL, "vda", 12, 1);
    g_autofree char *log = world_log(world, "web");
    ck_assert_msg(strstr(log, "the store knows"), "%s", log);
    world_check_clean(world, "web");
}
END_TEST

/* "11: missing disk, other images inaccessible": that has nothing to do with a name. */
START_TEST(missing_disk)
{
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *b = world_path(world, "b.qcow2");
    g_autofree char *b_active = world_path(world, "b.s2");
    world_create(world, "web", "s1", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 11);
    world_create(world, "web", "s2", BOTH_EXTERNAL);
    world_write(world, "web", "vda", 12);
    unlink(_i == 0 ? b : b_active);
    world_delete(world, "web", "s1");
    world_merge(world, "web");
    world_assert_hash(world, "s2", "vda", 11, 1);
    world_assert_hash(world, NULL, "vda", 12, 1);
    world_reopen(world);
    world_delete(world, "web", "s2");
    world_merge(world, "web");
    world_assert_hash(world, NULL, "vda", 12, 1);
    g_autofree char *files = world_files(world);
    ck_assert_msg(g_str_has_prefix(files, "a.qcow2 b."), "%s", files);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("shapes");
    TCase *tcase = scratch_case(suite, "shapes");
    tcase_add_loop_test(tcase, shape, 0, G_N_ELEMENTS(one_disk));
    tcase_add_loop_test(tcase, refused_by_libvirt, 0, G_N_ELEMENTS(rows));
    tcase_add_loop_test(tcase, chain, 0, 24);
    tcase_add_loop_test(tcase, disks, 0, G_N_ELEMENTS(two_disks));
    tcase_add_test(tcase, delete_in_progress);
    tcase_add_test(tcase, no_metadata_between);
    tcase_add_test(tcase, current_by_hand);
    tcase_add_test(tcase, rebased_by_hand);
    tcase_add_loop_test(tcase, missing_disk, 0, 2);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
