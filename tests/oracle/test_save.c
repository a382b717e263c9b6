/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Save images: we read those of `virsh save`, and libvirt reads, edits and restores ours. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "saveimage.h"
#include "virt.h"

static const char *const uuid = "5a7e1a9e-0000-4000-8000-00000000cafe";

static const char *machine_xml(const World *w, const char *name)
{
    const char *path = in_dir(w, "%s.qcow2", name);
    run_ok(w, "qemu-img", "create", "-q", "-f", "qcow2", path, "8M");
    virt_own(path);
    return keepf(w,
                 "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>32</memory>"
                 "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
                 "<emulator>/usr/bin/qemu-system-x86_64</emulator>"
                 "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/>"
                 "<target dev='vda' bus='virtio'/></disk></devices></domain>",
                 name, uuid, path);
}

/* A place that libvirt's user reaches, with the machine started in it. */
static const char *start(const World *w, const char *name)
{
    const char *document = in_dir(w, "%s.xml", name);
    ck_works(chmod(w->dir, 0755));
    ck_assert(g_file_set_contents(document, machine_xml(w, name), -1, NULL));
    virt_own(document);
    virsh_ok(w, "define", document);
    virsh_ok(w, "start", name);
    const char *dir = in_dir(w, "saved");
    ck_works(mkdir(dir, 0755));
    virt_own(dir);
    return dir;
}

static SaveImage *open_image(const char *path)
{
    g_autoptr(GError) error = NULL;
    SaveImage *image = saveimage_open(path, &error);
    ck_assert_msg(image != NULL, "%s", error ? error->message : "");
    return image;
}

/* What we would write of the same machine and memory. */
static void write_ours(const SaveImage *image, const char *path)
{
    g_autoptr(GError) error = NULL;
    char buffer[65536];
    ssize_t n;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    ck_works(fd);
    ck_assert_msg(saveimage_begin(fd, image->def, image->running, &error), "%s", error ? error->message : "");
    while ((n = read(image->fd, buffer, sizeof buffer)) > 0)
        ck_assert_int_eq(write(fd, buffer, (size_t)n), n);
    ck_assert_msg(saveimage_finish(fd, &error), "%s", error ? error->message : "");
    close(fd);
    virt_own(path);
}

START_TEST(both_ways)
{
    g_autoptr(World) w = world_new(NULL);
    const char *name = keepf(w, "save%d-%d", (int)getpid(), _i);
    const char *dir = start(w, name), *theirs = keepf(w, "%s/theirs", dir), *ours = keepf(w, "%s/ours", dir);
    const char *option = _i ? "--paused" : "--running";
    virsh_ok(w, "save", name, theirs, option);
    g_autoptr(SaveImage) image = open_image(theirs);
    ck_assert_str_eq(image->def->uuid, uuid);
    ck_assert_str_eq(image->def->name, name);
    ck_assert_int_eq(image->running, !_i);
    write_ours(image, ours);
    const char *text = virsh_ok(w, "save-image-dumpxml", ours);
    ck_assert_str_eq(text, virsh_ok(w, "save-image-dumpxml", theirs));

    /* there is room for a longer definition */
    g_autofree char *padding = g_strnfill(20000, 'x');
    g_autoptr(GString) longer = g_string_new(text);
    g_autofree char *title = g_strconcat("</uuid>\n  <title>", padding, "</title>", NULL);
    ck_assert_int_eq(g_string_replace(longer, "</uuid>", title, 1), 1);
    const char *document = in_dir(w, "longer.xml");
    ck_assert(g_file_set_contents(document, longer->str, -1, NULL));
    virt_own(document);
    virsh_ok(w, "save-image-define", ours, document, option);
    g_autoptr(SaveImage) edited = open_image(ours);
    g_autofree char *now = domain_def_format(edited->def);
    ck_has(now, padding);

    virsh_ok(w, "restore", ours);
    ck_has(virsh_ok(w, "domstate", name), _i ? "paused" : "running");
    virsh_ok(w, "destroy", name);
    virsh_ok(w, "undefine", name);
}
END_TEST

/* What is not complete is not restored there either. */
START_TEST(incomplete)
{
    g_autoptr(World) w = world_new(NULL);
    g_autoptr(GError) error = NULL;
    const char *xml = machine_xml(w, "half"), *path = in_dir(w, "half.save");
    g_autoptr(DomainDef) def = domain_def_parse(xml, strlen(xml), &error);
    ck_works(chmod(w->dir, 0755));
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    ck_assert(def && saveimage_begin(fd, def, TRUE, &error));
    ck_assert_int_eq(write(fd, "QEVM", 4), 4);
    close(fd);
    virt_own(path);
    ck_has(virsh_fails(w, "save-image-dumpxml", path), "incomplete");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("save");
    TCase *images = add_case(s, "images");
    tcase_add_loop_test(images, both_ways, 0, 2);
    tcase_add_test(images, incomplete);
    return s;
}

int main(void)
{
    return virt_main(suite);
}
