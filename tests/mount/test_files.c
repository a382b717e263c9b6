/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree of DESIGN 1: names, texts, sizes, times, inode numbers, link counts, and layers as read-only files. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "model.h"

START_TEST(root_shows_domains)
{
    g_autoptr(World) w = world_new(NULL);
    ck_assert_str_eq(names_in(w, "."), "ctl jobs log");
    machine(w, "web", "vda:qcow2");
    machine(w, "db", "vda:qcow2");
    ck_assert_str_eq(names_in(w, "."), "ctl db jobs log web");
    ck_assert_str_eq(text_of(w, "jobs"), "");
    ck_has(text_of(w, "ctl"), "define");
}
END_TEST

START_TEST(domain_without_snapshots)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:raw");
    ck_assert_str_eq(names_in(w, "web"), "active ctl domain.xml log state tree usage");
    ck_assert_str_eq(names_in(w, "web/active"), "vda.qcow2 vda.raw vdb.raw");
    ck_assert_str_eq(text_of(w, "web/state"), "shutoff\n");
    ck_has(text_of(w, "web/ctl"), "create");
    ck_errno(readlink(at(w, "web/current"), (char[8]){0}, 8), ENOENT);
    ck_errno(access(at(w, "web/nothing"), F_OK), ENOENT);
    ck_errno(access(at(w, "web/active/vda.raw.x"), F_OK), ENOENT);
}
END_TEST

START_TEST(snapshot_shows_its_files)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external vdb:qcow2");
    command(w, "web", "create one --description 'first light'");
    run_ok(w, "mkdir", "web/two");
    ck_assert_str_eq(names_in(w, "web"), "active ctl current domain.xml log one state tree two usage");
    ck_assert_str_eq(names_in(w, "web/one"), "changes description snapshot.xml vda.qcow2 vda.raw vdb.raw");
    ck_assert_str_eq(names_in(w, "web/two"),
                     "changes description parent snapshot.xml vda.qcow2 vda.raw vdb.raw");
    ck_assert_str_eq(link_of(w, "web/current"), "two");
    ck_assert_str_eq(link_of(w, "web/two/parent"), "../one");
    ck_assert_str_eq(link_of(w, "web/active/parent"), "../two");
    ck_assert_str_eq(text_of(w, "web/one/description"), "first light\n");
    ck_assert_str_eq(text_of(w, "web/two/description"), "");
    ck_has(text_of(w, "web/tree"), "one");
    ck_has(text_of(w, "web/tree"), "two");
    ck_has(text_of(w, "web/tree"), "you are here");
    ck_has(text_of(w, "web/log"), "one");
}
END_TEST

START_TEST(snapshot_xml_is_libvirts)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external vdb:qcow2");
    const char *before = image(w, "web-vda.qcow2");
    time_t start = time(NULL);
    run_ok(w, "mkdir", "web/one");
    const char *xml = text_of(w, "web/one/snapshot.xml");
    ck_assert(g_str_has_prefix(
        xml, "<domainsnapshot>\n  <name>one</name>\n  <state>shutoff</state>\n  <creationTime>"));
    ck_assert(g_str_has_suffix(xml, "</domainsnapshot>\n"));
    ck_assert_str_eq(xpath(w, xml, "/domainsnapshot/memory/@snapshot"), "no");
    ck_assert_str_eq(xpath(w, xml, "//disks/disk[@name='vda']/@snapshot"), "external");
    ck_assert_str_eq(xpath(w, xml, "//disks/disk[@name='vda']/@type"), "file");
    ck_assert_str_eq(xpath(w, xml, "//disks/disk[@name='vda']/driver/@type"), "qcow2");
    ck_assert_str_eq(xpath(w, xml, "//disks/disk[@name='vda']/source/@file"), image(w, "web-vda.one"));
    ck_assert_str_eq(xpath(w, xml, "//disks/disk[@name='vdb']/@snapshot"), "internal");
    ck_assert_str_eq(xpath(w, xml, "/domainsnapshot/domain//disk[target/@dev='vda']/source/@file"), before);
    ck_assert_str_eq(active_path(w, "web", "vda"), image(w, "web-vda.one"));
    long long created = atoll(xpath(w, xml, "/domainsnapshot/creationTime"));
    ck_assert_int_ge(created, start);
    ck_assert_int_le(created, time(NULL));
    ck_assert_int_eq(stat_of(w, "web/one").st_mtime, created);
}
END_TEST

START_TEST(texts_have_their_size)
{
    static const char *const names[] = {
        "web/domain.xml",      "web/state", "web/tree", "web/log",   "web/one/snapshot.xml",
        "web/one/description", "web/ctl",   "ctl",      "web/usage", "web/one/changes"};
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    command(w, "web", "create one --description 'some text'");
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        size_t length = strlen(text_of(w, names[i]));
        ck_assert_msg((size_t)stat_of(w, names[i]).st_size == length, "%s: size %lld, text %zu", names[i],
                      (long long)stat_of(w, names[i]).st_size, length);
        ck_assert_uint_gt(length, 0);
        run_ok(w, "cmp", names[i], names[i]);
    }
    /* tools that read by size or by map get the same */
    const char *copy = in_dir(w, "copy.xml");
    run_ok(w, "cp", "web/one/snapshot.xml", copy);
    run_ok(w, "cmp", "web/one/snapshot.xml", copy);
    run_ok(w, "xmllint", "--noout", "web/one/snapshot.xml");
    run_ok(w, "tail", "-n", "1", "web/log");
}
END_TEST

static void same_file(const World *w, const char *shown, const char *real)
{
    struct stat a = stat_of(w, shown), b;
    ck_works(stat(real, &b));
    ck_assert(S_ISREG(a.st_mode));
    ck_assert_int_eq(a.st_mode & 0222, 0);
    ck_assert_int_eq(a.st_size, b.st_size);
    ck_assert_msg(a.st_blocks == b.st_blocks, "%s: %lld blocks, the file has %lld", shown,
                  (long long)a.st_blocks, (long long)b.st_blocks);
    ck_assert_int_eq(a.st_mtim.tv_sec, b.st_mtim.tv_sec);
    ck_assert_str_eq(hash_of(w, at(w, "%s", shown)), hash_of(w, real));
}

START_TEST(layers_are_the_files)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external vdb:raw");
    image_write(w, image(w, "web-vda.qcow2"), "qcow2", 7, 300000, 200000);
    image_write(w, image(w, "web-vdb.raw"), "raw", 8, 100000, 300000);
    same_file(w, "web/active/vda.qcow2", image(w, "web-vda.qcow2"));
    same_file(w, "web/active/vdb.raw", image(w, "web-vdb.raw"));
    run_ok(w, "mkdir", "web/one");
    same_file(w, "web/one/vda.qcow2", image(w, "web-vda.qcow2"));
    same_file(w, "web/one/vdb.raw", image(w, "web-vdb.raw"));
    same_file(w, "web/active/vda.qcow2", image(w, "web-vda.one"));
    same_file(w, "web/active/vdb.qcow2", image(w, "web-vdb.one"));
    /* the guest writes: the shown file follows */
    image_write(w, image(w, "web-vda.one"), "qcow2", 9, 0, 300000);
    sleep(1);
    same_file(w, "web/active/vda.qcow2", image(w, "web-vda.one"));
}
END_TEST

START_TEST(layers_read_at_random)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:raw");
    for (guint i = 0; i < 8; i++)
        image_write(w, image(w, "web-vda.raw"), "raw", (guint8)(i + 1), i * 131072, 100000);
    int shown = open(at(w, "web/active/vda.raw"), O_RDONLY | O_CLOEXEC);
    int real = open(image(w, "web-vda.raw"), O_RDONLY | O_CLOEXEC);
    ck_works(shown);
    g_autofree char *a = g_malloc(50000), *b = g_malloc(50000);
    for (off_t offset = 0; offset < DISK_SIZE + 100000; offset += 33331) {
        ssize_t n = pread(shown, a, 50000, offset);
        ck_assert_int_eq(n, pread(real, b, 50000, offset));
        ck_assert_int_eq(memcmp(a, b, (size_t)MAX(n, 0)), 0);
    }
    void *map = mmap(NULL, DISK_SIZE, PROT_READ, MAP_PRIVATE, shown, 0);
    ck_assert_ptr_ne(map, MAP_FAILED);
    ck_assert_int_eq(((char *)map)[131072 * 3], 4);
    munmap(map, DISK_SIZE);
    close(shown);
    close(real);
}
END_TEST

START_TEST(layers_are_never_written)
{
    static const char *const names[] = {"web/active/vda.qcow2", "web/one/vda.qcow2"};
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    run_ok(w, "mkdir", "web/one");
    const char *before = fingerprint(w, w->images);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *path = at(w, "%s", names[i]);
        static const int flags[] = {O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_WRONLY | O_TRUNC,
                                    O_RDONLY | O_TRUNC};
        for (guint f = 0; f < G_N_ELEMENTS(flags); f++) {
            int fd = open(path, flags[f] | O_CLOEXEC);
            ck_assert_msg(fd == -1 && (errno == EPERM || errno == EACCES), "open %s %x: %d %s", path,
                          (unsigned)flags[f], fd, g_strerror(errno));
        }
        ck_errno(truncate(path, 0), EPERM);
        ck_errno(chmod(path, 0666), EPERM);
        ck_errno(unlink(path), EPERM);
    }
    ck_assert_str_eq(fingerprint(w, w->images), before);
}
END_TEST

START_TEST(frozen_layers_lose_write_bits)
{
    struct stat st;
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    const char *base = image(w, "web-vda.qcow2");
    ck_works(chmod(base, 0640));
    run_ok(w, "mkdir", "web/one");
    ck_works(stat(base, &st));
    ck_assert_int_eq(st.st_mode & 07777, 0440);
    ck_works(stat(image(w, "web-vda.one"), &st));
    ck_assert_int_eq(st.st_mode & 07777, 0640);
    run_ok(w, "mkdir", "web/two");
    ck_works(stat(image(w, "web-vda.one"), &st));
    ck_assert_int_eq(st.st_mode & 07777, 0440);
}
END_TEST

START_TEST(chain_resolves_in_the_mount)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    run_ok(w, "mkdir", "web/one");
    run_ok(w, "mkdir", "web/two");
    run_ok(w, "mkdir", "web/three");
    const char *info = run_ok(w, "qemu-img", "info", "--backing-chain", "-f", "qcow2", "web/three/vda.qcow2");
    ck_has(info, "web-vda.one");
    ck_has(info, "web-vda.qcow2");
    ck_assert_str_eq(names_in(w, "web/three"), "changes description parent snapshot.xml vda.qcow2 vda.raw");
    ck_assert_uint_eq(stat_of(w, "web/three/web-vda.one").st_ino, stat_of(w, "web/two/vda.qcow2").st_ino);
    ck_assert_uint_eq(stat_of(w, "web/three/web-vda.qcow2").st_ino, stat_of(w, "web/one/vda.qcow2").st_ino);
    /* only what is below it */
    ck_errno(access(at(w, "web/one/web-vda.one"), F_OK), ENOENT);
    ck_errno(access(at(w, "web/one/web-vda.three"), F_OK), ENOENT);
    ck_assert_str_eq(backing_of(w, image(w, "web-vda.two"), "qcow2"), "./web-vda.one");
}
END_TEST

/* An image that is called as its disk is shown: its name in the chain must not stand for a state it does not hold. */
START_TEST(image_called_like_its_disk)
{
    g_autoptr(World) w = world_new(NULL);
    const char *path = make_image(w, "vda.qcow2", "qcow2");
    ck_assert_int_eq(
        put(w, "ctl",
            keepf(w,
                  "<domain type='kvm'><name>web</name><memory>1</memory><os><type>hvm</type></os>"
                  "<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                  "<source file='%s'/><target dev='vda'/></disk></devices></domain>",
                  path)),
        0);
    run_ok(w, "mkdir", "web/in");
    image_write(w, path, "qcow2", 5, 0, 65536);
    ck_errno(access(at(w, "web/in/vda.qcow2"), F_OK), ENOENT);
    command(w, "web", "create ex --diskspec vda,snapshot=external");
    ck_errno(access(at(w, "web/in/vda.qcow2"), F_OK), ENOENT);
    same_file(w, "web/ex/vda.qcow2", path);
    same_file(w, "web/active/vda.qcow2", image(w, "vda.ex"));
    /* and the overlay on it is readable where both have one name */
    image_write(w, image(w, "vda.ex"), "qcow2", 6, 200000, 1000);
    run_ok(w, "qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", "web/active/vda.qcow2",
           image(w, "vda.ex"));
    run_ok(w, "qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", "web/ex/vda.qcow2", path);
}
END_TEST

START_TEST(inodes_and_links)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    run_ok(w, "mkdir", "web/one");
    ino_t directory = stat_of(w, "web/one").st_ino, layer = stat_of(w, "web/one/vda.qcow2").st_ino;
    ck_assert_uint_ne(layer, stat_of(w, "web/active/vda.qcow2").st_ino);
    ck_assert_uint_eq(stat_of(w, "web/one/vda.qcow2").st_nlink, 1);
    /* a rename keeps the number, a new snapshot of the same name gets another */
    run_ok(w, "mv", "web/one", "web/first");
    ck_assert_uint_eq(stat_of(w, "web/first").st_ino, directory);
    ck_assert_uint_eq(stat_of(w, "web/first/vda.qcow2").st_ino, layer);
    run_ok(w, "rmdir", "web/first");
    run_ok(w, "mkdir", "web/first");
    ck_assert_uint_ne(stat_of(w, "web/first").st_ino, directory);
    /* what readdir says is what stat says; find counts every directory */
    ck_assert_str_eq(run_ok(w, "find", "web", "-type", "d", "-printf", "."), "...");
    ck_assert_str_eq(
        sh_ok(w, "ls -i1U web | sort -n >../a; for f in web/*; do ls -di1 $f; done | sed s,web/,, | "
                 "sort -n >../b; diff ../a ../b 2>&1 || true"),
        "");
}
END_TEST

START_TEST(du_tells_the_truth)
{
    g_autoptr(World) w = world_new(NULL);
    struct stat base, top;
    machine(w, "web", "vda:qcow2:external");
    image_write(w, image(w, "web-vda.qcow2"), "qcow2", 7, 0, 700000);
    run_ok(w, "mkdir", "web/one");
    ck_works(stat(image(w, "web-vda.qcow2"), &base));
    ck_works(stat(image(w, "web-vda.one"), &top));
    long long du = atoll(run_ok(w, "du", "-s", "-B512", "web"));
    ck_assert_msg(llabs(du - (long long)(base.st_blocks + top.st_blocks)) <= 64,
                  "du says %lld, the files have %lld", du, (long long)(base.st_blocks + top.st_blocks));
    ck_assert_int_eq(atoll(run_ok(w, "du", "-B512", "web/one/vda.qcow2")), base.st_blocks);
    run_ok(w, "df", ".");
}
END_TEST

START_TEST(ls_sorts_by_time)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    run_ok(w, "mkdir", "web/zebra");
    sleep(1);
    run_ok(w, "mkdir", "web/aardvark");
    sleep(1);
    run_ok(w, "mkdir", "web/monkey");
    ck_assert_str_eq(sh_ok(w, "cd web; ls -dt zebra aardvark monkey"), "monkey\naardvark\nzebra\n");
    ck_assert_str_eq(run_ok(w, "find", "web", "-newer", "web/zebra", "-name", "a*k"), "web/aardvark\n");
}
END_TEST

START_TEST(no_extended_attributes)
{
    char value[64];
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2");
    ck_errno(getxattr(at(w, "web"), "user.x", value, sizeof value), EOPNOTSUPP);
    ck_errno(setxattr(at(w, "web"), "user.x", "1", 1, 0), EOPNOTSUPP);
    run_ok(w, "ls", "-lR", "web");
}
END_TEST

START_TEST(a_written_layer_is_busy)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    run_ok(w, "mkdir", "web/one");
    Holder writer = hold(w, image(w, "web-vda.one"), "qcow2", FALSE);
    ck_errno(open(at(w, "web/active/vda.qcow2"), O_RDONLY | O_CLOEXEC), EBUSY);
    text_of(w, "web/one/vda.qcow2");
    release(writer);
    text_of(w, "web/active/vda.qcow2");
    Holder reader = hold(w, image(w, "web-vda.one"), "qcow2", TRUE);
    text_of(w, "web/active/vda.qcow2");
    release(reader);
}
END_TEST

/* Whoever reads a layer when it is merged away reads on what he has opened. */
START_TEST(an_open_layer_outlives_its_merge)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external");
    run_ok(w, "mkdir", "web/one");
    image_write(w, image(w, "web-vda.one"), "qcow2", 9, 0, 300000);
    g_autofree char *content = NULL, *read = NULL;
    gsize size;
    ck_assert(g_file_get_contents(image(w, "web-vda.one"), &content, &size, NULL));
    int fd = open(at(w, "web/active/vda.qcow2"), O_RDONLY | O_CLOEXEC);
    struct stat before, after;
    ck_works(fstat(fd, &before));
    ck_works(rmdir(at(w, "web/one")));
    command(w, "web", "wait");
    ck_assert_int_lt(access(image(w, "web-vda.one"), F_OK), 0);
    ck_works(fstat(fd, &after));
    ck_assert_int_eq(after.st_size, before.st_size);
    ck_assert_uint_eq(after.st_ino, before.st_ino);
    read = g_malloc(size);
    ck_assert_int_eq(pread(fd, read, size, 0), (gssize)size);
    ck_assert_mem_eq(read, content, size);
    close(fd);
    same_file(w, "web/active/vda.qcow2", image(w, "web-vda.qcow2"));
}
END_TEST

START_TEST(disks_that_took_no_part_show_nothing)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2 vdb:qcow2:no sda:raw");
    command(w, "web", "create one --diskspec vda,snapshot=external");
    run_ok(w, "mkdir", "web/two");
    ck_assert_str_eq(names_in(w, "web/one"), "changes description snapshot.xml vda.qcow2 vda.raw");
    ck_assert_str_eq(names_in(w, "web/two"), "changes description parent snapshot.xml vda.raw");
    ck_has(names_in(w, "web/active"), "vdb.qcow2");
}
END_TEST

START_TEST(everything_survives_a_restart)
{
    g_autoptr(World) w = world_new(NULL);
    machine(w, "web", "vda:qcow2:external vdb:qcow2");
    command(w, "web", "create one --description 'kept'");
    run_ok(w, "mkdir", "web/two");
    run_ok(w, "ln", "-sfn", "one", "web/current");
    sleep(1);
    run_ok(w, "mkdir", "web/three");
    const char *script =
        "for f in */*.xml */*/*.xml */*/description */tree */log; do echo \"== $f\"; cat \"$f\"; done;"
        "readlink */current */*/parent; stat -c '%n %s %Y %b %A' */* */*/*";
    sh_ok(w, keepf(w, "{ %s; } > ../before", script));
    world_stop(w);
    world_start(w, NULL);
    ck_assert_str_eq(sh_ok(w, keepf(w, "{ %s; } > ../after; diff ../before ../after", script)), "");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("files");
    TCase *texts = add_case(s, "texts");
    tcase_add_test(texts, root_shows_domains);
    tcase_add_test(texts, domain_without_snapshots);
    tcase_add_test(texts, snapshot_shows_its_files);
    tcase_add_test(texts, snapshot_xml_is_libvirts);
    tcase_add_test(texts, texts_have_their_size);
    tcase_add_test(texts, disks_that_took_no_part_show_nothing);
    tcase_add_test(texts, everything_survives_a_restart);
    TCase *layers = add_case(s, "layers");
    tcase_add_test(layers, layers_are_the_files);
    tcase_add_test(layers, layers_read_at_random);
    tcase_add_test(layers, layers_are_never_written);
    tcase_add_test(layers, frozen_layers_lose_write_bits);
    tcase_add_test(layers, chain_resolves_in_the_mount);
    tcase_add_test(layers, a_written_layer_is_busy);
    tcase_add_test(layers, an_open_layer_outlives_its_merge);
    tcase_add_test(layers, image_called_like_its_disk);
    TCase *attributes = add_case(s, "attributes");
    tcase_add_test(attributes, inodes_and_links);
    tcase_add_test(attributes, du_tells_the_truth);
    tcase_add_test(attributes, ls_sorts_by_time);
    tcase_add_test(attributes, no_extended_attributes);
    return s;
}

int main(void)
{
    return mount_main(suite());
}
