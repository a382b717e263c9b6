/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The check of a store: layers, internal snapshots, clashes and what lies beside the images (check_case.h). */
#include "check_case.h"
#include "import_world.h"
#include "loops.h"
#include "runner.h"

/* --- is it the file it was --- */

static void gone_frozen(World *world)
{
    in_world(world, "rm img/a.qcow2");
}

static void gone_active(World *world)
{
    in_world(world, "rm img/b.s2");
}

static void no_file(World *world)
{
    in_world(world, "rm img/b.s2 && mkdir img/b.s2");
}

static void replaced_frozen(World *world)
{
    in_world(world, "cp -p img/a.qcow2 img/copy && mv img/copy img/a.qcow2");
}

static void replaced_active(World *world)
{
    in_world(world, "cp -p img/a.s2 img/copy && mv img/copy img/a.s2");
}

static void touched(World *world)
{
    in_world(world, "touch img/a.qcow2");
}

static void grown(World *world)
{
    in_world(world, "chmod u+w img/a.qcow2 && echo more >> img/a.qcow2 && chmod a-w img/a.qcow2");
}

static void write_bits(World *world)
{
    in_world(world, "chmod u+w,g+w img/a.qcow2 img/b.qcow2");
}

/* --- headers --- */

static void other_backing(World *world)
{
    in_world(
        world,
        "cp img/b.qcow2 img/else.qcow2 && qemu-img rebase -q -u -f qcow2 -b ./else.qcow2 -F qcow2 img/a.s2");
}

static void no_backing(World *world)
{
    in_world(world, "qemu-img rebase -q -u -f qcow2 -b '' img/a.s2");
}

static void no_image(World *world)
{
    in_world(world, "dd if=/dev/zero of=img/a.s2 bs=4k count=1 conv=notrunc status=none");
}

static void poke_image(World *world, const char *file, off_t offset, const void *bytes, gsize len)
{
    g_autofree char *path = world_path(world, file);
    poke(path, offset, bytes, len);
}

static void encrypted(World *world)
{
    poke_image(world, "a.s2", 32, "\0\0\0\1", 4);
}

static void smaller(World *world)
{
    poke_image(world, "b.s2", 24, "\0\0\0\0\0\10\0\0", 8); /* 512 KiB of 1 MiB */
}

static void dirty(World *world)
{
    poke_image(world, "a.s2", 79, "\1", 1);
}

/* --- qcow2's bookkeeping --- */

/* Set the refcount of the header's cluster, which is 1. */
static void set_refcount(World *world, const char *file, guint8 count)
{
    g_autofree char *path = world_path(world, file);
    guint64 table, block;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &table, 8, 48), 8);
    ck_assert_int_eq(pread(fd, &block, 8, (off_t)GUINT64_FROM_BE(table)), 8);
    close(fd);
    const guint8 refcount[] = {0, count};
    poke(path, (off_t)GUINT64_FROM_BE(block), refcount, 2);
}

static void leaks(World *world)
{
    set_refcount(world, "a.s2", 2);
}

static void corruptions(World *world)
{
    set_refcount(world, "a.s2", 0);
    set_refcount(world, "c.qcow2", 0);
}

static void set_frozen_refcount(World *world, guint8 count)
{
    in_world(world, "touch -r img/a.qcow2 stamp && chmod u+w img/a.qcow2");
    set_refcount(world, "a.qcow2", count);
    in_world(world, "chmod a-w img/a.qcow2 && touch -r stamp img/a.qcow2 && rm stamp");
}

static void frozen_leaks(World *world)
{
    set_frozen_refcount(world, 2);
}

static void frozen_corruptions(World *world)
{
    set_frozen_refcount(world, 0);
}

/* --- internal snapshots --- */

static void lost_tag(World *world)
{
    in_world(world, "qemu-img snapshot -d s3 img/a.s2");
}

static void second_tag(World *world)
{
    in_world(world, "qemu-img snapshot -c s3 img/a.s2");
}

static void unnamed_tag(World *world)
{
    in_world(world, "qemu-img snapshot -c mine img/a.s2");
}

static void owed_tag(World *world)
{
    world_open(world);
    spy_fail(CALL_TAG_DELETE, "c.qcow2", EIO);
    world_delete(world, "other", "s1");
    spy_fail(0, NULL, 0);
    world_close(world);
}

/* --- clashes --- */

static void twice_active(World *world)
{
    in_world(world, "cp -r store/domains/other store/domains/copy && cd store/domains/copy && "
                    "sed -i 's|<uuid>.*|<uuid>11111111-2222-3333-4444-555555555555</uuid>|; "
                    "s|<name>other|<name>copy|' domain.xml");
}

static void writes_frozen(World *world)
{
    in_world(world, "cd store/domains/other && sed -i 's|/img/c.qcow2|/img/b.qcow2|' domain.xml && "
                    "sed 's|/img/c.qcow2|/img/b.qcow2|' -i domain.json && rm -r snapshots && "
                    "sed -i 's|\"current\": \"s1\"|\"current\": null|; s|\"file\"|\"was\"|' domain.json");
}

/* --- what lies beside the images --- */

#define OVERLAY "qemu-img create -q -f qcow2 -F qcow2 -b "

static void orphan(World *world)
{
    in_world(world, OVERLAY "./a.qcow2 img/forgotten");
}

/* By other names of the layer, and on an orphan in its turn. */
static void orphans(World *world)
{
    in_world(world,
             "mkdir else && ln img/a.qcow2 else/hard && ln -s ../img/b.s2 else/soft && cd img && " OVERLAY
             "../else/hard one && " OVERLAY "../else/soft two.img 1M -u && " OVERLAY "./one three && " OVERLAY
             "../else/none four 1M -u 2>/dev/null; " OVERLAY "./four five 1M -u");
}

#define TEMP ".domsnapfs-5bd4ac10-8b1e-4f0e-9a58-1df1ee16d8a7"

static void second_name(World *world)
{
    in_world(world, "ln img/a.s2 img/" TEMP);
}

static void left_over(World *world)
{
    in_world(world,
             "touch img/" TEMP " && ln img/c.qcow2 img/.domsnapfs-6bd4ac10-8b1e-4f0e-9a58-1df1ee16d8a7");
}

/* When records cannot be read, nobody can tell: only what the definition names is known. */
static void unread(World *world)
{
    write_store(world, "domains/web/domain.json", "{}");
    in_world(world, OVERLAY "./a.qcow2 img/forgotten");
}

static const CheckCase cases[] = {
    {"gone_frozen",
     gone_frozen,
     {"web: snapshot 's2': disk 'vda': '", "a.qcow2': the image is gone; 's1', 's2', 's3' need it"},
     1,
     0,
     0},
    {"gone_active", gone_active, {"web: disk 'vdb': '", "b.s2': the image is gone; 's3' needs it"}, 1, 0, 0},
    {"no_file", no_file, {"b.s2' is neither a regular file nor a block device"}, 1, 0, 0},
    {"replaced_frozen", replaced_frozen, {"a.qcow2': it is another file", "never remove it"}, 1, 0, 0},
    {"replaced_active", replaced_active, {"a.s2': it is another file", "the next snapshot"}, 1, 0, 0},
    {"touched", touched, {"a.qcow2': it was frozen and has been written or touched", "touch -d @"}, 1, 0, 0},
    {"grown", grown, {" bytes, recorded are ", "'s1', 's2', 's3' need it"}, 1, 0, 0},
    {"write_bits",
     write_bits,
     {"a.qcow2': it is frozen but has write bits (mode 0664)", "b.qcow2': it is frozen"},
     2,
     2,
     0},
    {"other_backing", other_backing, {"a.s2' has the backing file '", "the store knows '"}, 1, 0, 0},
    {"no_backing", no_backing, {"a.s2' has the backing file 'none'"}, 1, 0, 0},
    {"no_image", no_image, {"it is not the qcow2 image that is recorded"}, 1, 0, 0},
    {"encrypted", encrypted, {"a.s2' is encrypted"}, 1, 0, 0},
    {"smaller", smaller, {"the disk has 524288 bytes, the layer below it 1048576"}, 1, 0, 0},
    {"dirty", dirty, {"a.s2': it is marked dirty"}, 1, 1, 0},
    {"leaks", leaks, {"a.s2': 1 of its clusters are used by nothing"}, 1, 1, 0},
    {"corruptions", corruptions, {"a.s2': qemu-img check finds", "c.qcow2': qemu-img check finds"}, 2, 2, 0},
    {"frozen_leaks", frozen_leaks, {"a.qcow2': 1 of its clusters are used by nothing"}, 0, 0, 1},
    {"frozen_corruptions",
     frozen_corruptions,
     {"a.qcow2': qemu-img check finds", "it is never written"},
     1,
     0,
     0},
    {"lost_tag", lost_tag, {"web: no tag: snapshot 's3' of vda: '"}, 1, 0, 0},
    {"second_tag", second_tag, {"web: several tags: snapshot 's3' of vda: '"}, 1, 0, 0},
    {"unnamed_tag", unnamed_tag, {"web: unnamed: '", "'mine'"}, 1, 0, 0},
    {"owed_tag", owed_tag, {"other: owed: '"}, 0, 0, 1},
    {"twice_active",
     twice_active,
     {"other: disk 'vda': '", "c.qcow2': its image is also written as disk 'vda' of domain 'copy'"},
     1,
     0,
     0},
    {"writes_frozen",
     writes_frozen,
     {"other: disk 'vda': ", "on which snapshots of domain 'web' stand"},
     1,
     0,
     0},
    {"orphan", orphan, {"web: '", "/forgotten': orphan: an overlay on '"}, 1, 0, 0},
    {"orphans", orphans, {"/one': orphan: an overlay on '", "/two.img': orphan", "/three': orphan"}, 3, 0, 0},
    {"second_name",
     second_name,
     {TEMP "': left over from an operation that is done: a second name of '"},
     1,
     1,
     0},
    {"left_over", left_over, {TEMP "': a temporary file of an operation that is gone", "6bd4ac10"}, 2, 0, 0},
    {"unread",
     unread,
     {"its version is not one", "/forgotten': orphan", "could not be read, and it may be known there"},
     3,
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

/* --- images that somebody has open --- */

/* A machine that runs is no damage: its images are not looked into, and nothing of it is repaired. */
START_TEST(in_use)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autofree char *active = world_path(world, "a.s2");
    CheckCounts counts;
    world_close(world);
    set_refcount(world, "b.s2", 2);
    Writer *writer = writer_begin(world, active);
    g_autofree char *before = every_file(world, "img");
    g_autofree char *found = world_findings(world, TRUE, &counts);
    g_autofree char *after = every_file(world, "img");
    writer_end(writer);
    ck_assert_ptr_nonnull(strstr(found, "a.s2': in use, not checked\n"));
    ck_assert_ptr_nonnull(strstr(found, "could not be mended: the machine runs"));
    ck_assert_uint_eq(counts.problems, 1);
    ck_assert_uint_eq(counts.mended, 0);
    ck_assert_uint_eq(counts.notes, 1);
    ck_assert(strcmp(before, after) == 0);
    g_autofree char *mended = world_findings(world, TRUE, &counts);
    ck_assert_msg(counts.mended == 1, "%s", mended);
}
END_TEST

START_TEST(frozen_in_use)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    g_autofree char *frozen = world_path(world, "a.qcow2");
    CheckCounts counts;
    world_close(world);
    in_world(world, "chmod u+w img/a.qcow2");
    Writer *writer = writer_begin(world, frozen);
    g_autofree char *found = world_findings(world, TRUE, &counts);
    writer_end(writer);
    ck_assert_ptr_nonnull(strstr(found, "another process has it open for writing, though it is frozen"));
    ck_assert_ptr_nonnull(strstr(found, "could not be mended: "));
    ck_assert_uint_eq(counts.mended, 0);
    ck_assert_uint_eq(file_mode(frozen) & 0200, 0200);
}
END_TEST

/* A qemu-img that cannot check is a finding, not a clean image. */
START_TEST(cannot_check)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    CheckCounts counts;
    world_close(world);
    spy_fail(CALL_CHECK, "a.s2", EIO);
    g_autofree char *found = world_findings(world, FALSE, &counts);
    spy_fail(0, NULL, 0);
    ck_assert_uint_eq(counts.problems, 1);
    ck_assert_ptr_nonnull(strstr(found, "a.s2"));
}
END_TEST

/* What a repair did stands in the domain's log. */
START_TEST(logged)
{
    g_autoptr(World) world = world_two_domains(PATH("world"));
    world_close(world);
    in_world(world, "chmod u+w img/a.qcow2");
    g_autofree char *found = world_findings(world, TRUE, NULL);
    ck_assert_ptr_nonnull(strstr(found, "; mended: they are taken away\n"));
    world_open(world);
    g_autofree char *log = world_log(world, "web");
    ck_assert_ptr_nonnull(strstr(log, "repaired: snapshot 's2': disk 'vda': '"));
}
END_TEST

/* --- other kinds of domains --- */

/* An overlay on a device: neither that nor the file behind the device is an orphan. */
START_TEST(device)
{
    if (!loops_work() && skip("no loop devices here"))
        return;
    g_autoptr(World) world = world_web(PATH("world"));
    g_autofree char *file = world_path(world, "dev.img");
    g_autofree char *name = loop_attach(file, 8 << 20);
    g_autofree char *specs =
        g_strdup_printf("vda,snapshot=external,stype=block,file=%s vdb,snapshot=no", name);
    world_create(world, "web", "s1", specs);
    world_create(world, "web", "s2", "vda,snapshot=internal vdb,snapshot=no");
    world_close(world);
    g_autofree char *before = every_file(world, ".");
    g_autofree char *found = world_findings(world, FALSE, NULL);
    g_autofree char *after = every_file(world, ".");
    ck_assert_str_eq(found, "");
    ck_assert(strcmp(before, after) == 0);
    loop_detach(name);
    g_autofree char *gone = world_findings(world, FALSE, NULL);
    ck_assert_msg(strstr(gone, "disk 'vda': ") != NULL && strstr(gone, name) != NULL, "%s", gone);
}
END_TEST

/* What is libvirt's is as libvirt keeps it: with write bits, and nothing of it is repaired. */
START_TEST(imported)
{
    g_auto(Both) both = both_new(PATH("both"));
    World *world = both.world;
    import_world_three(both.web);
    g_free(both_import(&both));
    world_close(world);
    g_autofree char *found = world_findings(world, TRUE, NULL);
    ck_assert_str_eq(found, "");
    import_world_write(both.web, 77); /* the guest's active image: that is fine */
    in_world(world, "touch img/a.qcow2");
    g_autofree char *before = every_file(world, "img");
    g_autofree char *changed = world_findings(world, TRUE, NULL);
    g_autofree char *after = every_file(world, "img");
    ck_assert_msg(strstr(changed, "a.qcow2' was changed since the import: import it again\n") != NULL, "%s",
                  changed);
    ck_assert(strcmp(before, after) == 0);
    world_open(world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("check_images");
    TCase *tcase = loops_case(suite, "check_images");
    tcase_add_loop_test(tcase, damage, 0, G_N_ELEMENTS(cases));
    tcase_add_test(tcase, in_use);
    tcase_add_test(tcase, frozen_in_use);
    tcase_add_test(tcase, cannot_check);
    tcase_add_test(tcase, logged);
    tcase_add_test(tcase, device);
    tcase_add_test(tcase, imported);
    return run_suite(suite);
}
