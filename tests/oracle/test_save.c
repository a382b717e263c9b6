/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Save images: we read those of `virsh save`, and libvirt reads, edits and restores ours. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest_domain.h"
#include "guest_look.h"
#include "offline.h"
#include "saveimage.h"
#include "start.h"
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

/* --- the memory goes on --- */

/* The test guest in libvirt, in a directory that its user reaches. */
static const char *start_guest(const World *w, const char *name, const char *const *images)
{
    g_autofree char *xml = guest_domain_xml(name, "qemu", images, NULL);
    const char *document = in_dir(w, "guest.xml"), *dir = in_dir(w, "saved");
    ck_works(chmod(w->dir, 0755));
    ck_works(mkdir(dir, 0755));
    virt_own(dir);
    for (guint i = 0; images[i]; i++) {
        guest_disk_make(images[i], 8);
        virt_own(images[i]);
    }
    ck_assert(g_file_set_contents(document, xml, -1, NULL));
    virt_own(document);
    virsh_ok(w, "define", document);
    virsh_ok(w, "start", name);
    return dir;
}

/* Until the guest has written @counter to its disks; it stands then. */
static void await_counter(const World *w, const char *name, const char *const *images, guint32 counter)
{
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    for (guint32 now = 0; now < counter;) {
        ck_assert_int_lt(g_get_monotonic_time(), end);
        (void)virsh(w, "resume", name, NULL); /* the first time it runs */
        g_usleep(100000);
        virsh_ok(w, "suspend", name);
        (void)guest_look_disk(images[0], 0, NULL, &now, NULL);
    }
}

static GuestMemory look(const char *run, const char *name, const char *const *images)
{
    g_autofree char *socket = g_strdup_printf("%s/%s.monitor", run, name);
    g_autoptr(Guest) guest = guest_join(socket);
    g_autoptr(GError) error = NULL;
    GuestMemory memory;
    ck_assert_msg(guest_all_agree(guest, images, &memory, &error), "%s", error ? error->message : "");
    return memory;
}

/* Start what the image @path holds, paused. */
static Qmp *start_ours(const char *run, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SaveImage) image = open_image(path);
    g_autoptr(GHashTable) backing =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)g_ptr_array_unref);
    g_autoptr(DomainDef) given = NULL;
    g_autoptr(GPtrArray) notes = NULL;
    for (guint i = 0; i < image->def->disks->len; i++)
        g_hash_table_insert(backing, ((DiskDef *)image->def->disks->pdata[i])->target, g_ptr_array_new());
    Backend *images = offline_backend_new(NULL);
    MachineStart start = {.def = image->def, .backing = backing, .paused = TRUE, .memory = image->fd};
    Qmp *qmp = start_machine(images, run, &start, NULL, &given, &notes, &error);
    images->ops->free(images);
    ck_assert_msg(qmp != NULL, "%s", error ? error->message : "");
    return qmp;
}

/* Its memory into @path, and its end. */
static void save_ours(Qmp *qmp, const char *path, const DomainDef *def)
{
    g_autoptr(GError) error = NULL;
    QmpWait wait = qmp_wait(60000, NULL);
    guint64 seen = 0;
    const char *word = "";
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    ck_assert(fd >= 0 && saveimage_begin(fd, def, FALSE, &error));
    ck_assert(qmp_getfd(qmp, "out", fd, &wait, &error));
    ck_assert(qmp_do(qmp, "migrate", json_pack("{s:s}", "uri", "fd:out"), &wait, &error));
    do {
        g_autoptr(json_t) status = qmp_run(qmp, "query-migrate", json_object(), &wait, &error);
        ck_assert_ptr_nonnull(status);
        word = g_intern_string(json_string_value(json_object_get(status, "status")));
    } while (!g_str_equal(word, "completed") && qmp_wait_event(qmp, &seen, 10, &wait, &error));
    ck_assert(saveimage_finish(fd, &error));
    close(fd);
    virt_own(path);
    int pidfd = (int)syscall(SYS_pidfd_open, qmp_pid(qmp), 0);
    ck_assert(qmp_do(qmp, "quit", json_object(), &wait, &error));
    qmp_close(qmp);
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    ck_assert_int_eq(poll(&end, 1, 20000), 1);
    close(pidfd);
}

/* A guest that virsh saved goes on here, and one that was saved here goes on there: it has booted once only. */
START_TEST(a_guest_that_moves)
{
    g_autoptr(World) w = world_new(NULL);
    const char *name = keepf(w, "moves%d", (int)getpid());
    const char *const images[] = {in_dir(w, "vda.qcow2"), in_dir(w, "vdb.qcow2"), NULL};
    const char *dir = start_guest(w, name, images), *run = in_dir(w, "run");
    const char *first = keepf(w, "%s/1", dir), *second = keepf(w, "%s/2", dir),
               *third = keepf(w, "%s/3", dir);
    await_counter(w, name, images, 5);
    virsh_ok(w, "save", name, first);
    Qmp *qmp = start_ours(run, first);
    GuestMemory before = look(run, name, images);
    ck_assert_uint_ge(before.counter, 5);
    g_autoptr(SaveImage) image = open_image(first);
    save_ours(qmp, second, image->def);

    virsh_ok(w, "restore", second);
    await_counter(w, name, images, before.counter + 5);
    virsh_ok(w, "save", name, third);
    qmp = start_ours(run, third);
    GuestMemory after = look(run, name, images);
    ck_assert_uint_eq(after.first, before.first);
    ck_assert_uint_ge(after.counter, before.counter + 5);
    save_ours(qmp, keepf(w, "%s/4", dir), image->def);
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

/* A machine that we started outlives also a test that has died. */
static void end_ours(void)
{
    g_autofree char *prefix = world_prefix();
    g_autoptr(GDir) processes = g_dir_open("/proc", 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(processes))) {
        g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", name), *line = NULL;
        gsize len = 0;
        if (atoi(name) > 1 && g_file_get_contents(path, &line, &len, NULL) &&
            g_strstr_len(line, (gssize)len, "qemu-system") && memmem(line, len, prefix, strlen(prefix)) &&
            memmem(line, len, "/run/moves", 10))
            kill((pid_t)atoi(name), SIGKILL);
    }
}

static Suite *suite(void)
{
    Suite *s = suite_create("save");
    TCase *images = add_case(s, "images");
    tcase_add_unchecked_fixture(images, NULL, end_ours);
    tcase_add_loop_test(images, both_ways, 0, 2);
    tcase_add_test(images, a_guest_that_moves);
    tcase_add_test(images, incomplete);
    return s;
}

int main(void)
{
    return virt_main(suite);
}
