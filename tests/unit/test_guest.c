/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The test guest and what reads it: that they work, and that nothing wrong passes for right. */
#include <sys/uio.h>

#include "domain.h"
#include "guest_case.h"
#include "guest_domain.h"
#include "runner.h"

static const struct {
    const char *accel, *bus, *ending;
} kinds[] = {
    {"tcg", "virtio", "qcow2"}, {"tcg", "ide", "raw"},    {"tcg", "sata", "qed"},  {"tcg", "scsi", "qcow2"},
    {"tcg", "usb", "raw"},      {"kvm", "virtio", "raw"}, {"kvm", "ide", "qcow2"},
};

/* It boots wherever it is put, counts, and everything is in step at whatever moment it is stopped. */
START_TEST(counts)
{
    g_autoptr(GError) error = NULL;
    GuestMemory memory;
    guint32 shown = 0;
    if (g_str_equal(kinds[_i].accel, "kvm") && !guest_has_kvm()) {
        skip("no KVM here");
        return;
    }
    g_auto(Disks) disks = DISKS(kinds[_i].ending);
    g_autofree char *picture = PATH("picture.ppm");
    const char *const *images = IMAGES(disks.vda, disks.vdb);
    g_autoptr(Guest) guest = guest_start(&(GuestSetup){.dir = disks.dir,
                                                       .images = images,
                                                       .bus = kinds[_i].bus,
                                                       .accel = kinds[_i].accel,
                                                       .extra = WORDS("-vga", "std")});
    for (guint32 moment = 0, before = 0; moment < 5; moment++, before = memory.counter) {
        guest_wait(guest, 30);
        guest_monitor_do(guest->monitor, "stop", NULL);
        LOOK(guest_all_agree(guest, images, &memory, &error));
        ck_assert_uint_ge(memory.counter, before + 30);
        ck_assert_uint_eq(memory.first, 1);
        guest_monitor_do(guest->monitor, "screendump", "{s:s}", "filename", picture);
        LOOK(guest_look_screen(picture, &shown, &error));
        ck_assert_msg(shown <= memory.counter && memory.counter - shown <= 1, "%u shown as %u",
                      memory.counter, shown);
        guest_monitor_do(guest->monitor, "cont", NULL);
    }
    LOOK_FAILS(guest_all_agree(guest, images, NULL, &error), G_IO_ERROR_INVALID_DATA, "is running");
}
END_TEST

/* One QEMU more on the same host, one that is joined, and the ways to end. */
START_TEST(ends)
{
    g_auto(Disks) disks = DISKS("qcow2");
    g_autofree char *socket = PATH("second.qmp"), *log = NULL;
    g_autofree char *option = g_strdup_printf("unix:%s,server=on,wait=off", socket);
    g_autoptr(Guest) one = start_on(&disks, disks.vda, disks.vdb, WORDS("-qmp", option));
    GuestSetup two = {.dir = disks.dir, .name = "two", .images = IMAGES(disks.vda)};
    ck_assert_int_eq(guest_start_fails(&two, &log), 1);
    ck_assert_msg(strstr(log, "lock") != NULL, "%s", log);
    g_autoptr(Guest) same = guest_join(socket);
    ck_assert_int_eq(same->pid, one->pid);
    guest_wait(same, 2);
    guest_free(g_steal_pointer(&same)); /* leaves it alone */
    guest_wait(one, 2);
    same = guest_join(socket);
    pid_t pid = one->pid;
    guest_quit(same); /* also when nobody has waited for its process yet */
    guest_wait_end(one);
    ck_assert(kill(pid, 0) < 0 && errno == ESRCH);
    g_autoptr(Guest) again = guest_start(&two);
    guest_wait(again, 2);
    pid = again->pid;
    guest_free(g_steal_pointer(&again));
    ck_assert(kill(pid, 0) < 0 && errno == ESRCH);
}
END_TEST

/* The machine goes on where the first disk is, also when its QEMU was killed between two writes. */
START_TEST(goes_on_after_a_kill)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    const char *const *images = IMAGES(disks.vda, disks.vdb);
    GuestMemory memory;
    guint32 before = 0, after = 0;
    for (guint i = 0; i < 8; i++) {
        g_autoptr(Guest) guest = start_disks(&disks);
        guest_wait(guest, 20 + i);
        LOOK(guest_look_memory(guest, &memory, &error));
        ck_assert_uint_eq(memory.first, MAX(1, before));
        guest_kill(guest);
        LOOK(guest_disks_agree(images, NULL, &after, &error));
        ck_assert_uint_ge(after, MAX(memory.counter - 1, before));
        before = after;
    }
}
END_TEST

/* It writes to every disk there is, whatever its format; a write that a disk refuses does not go unnoticed. */
START_TEST(more_disks)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    g_autofree char *vdc = PATH("vdc.raw"), *vdd = PATH("vdd.raw");
    const char *const *images = IMAGES(disks.vda, disks.vdb, vdc);
    guest_disk_make(vdc, 4);
    guest_disk_make(vdd, 4);
    g_autoptr(Guest) guest = guest_start(&(GuestSetup){.dir = disks.dir, .images = images});
    guest_wait(guest, 80);
    guest_monitor_do(guest->monitor, "stop", NULL);
    LOOK(guest_all_agree(guest, images, NULL, &error));
    guest_free(g_steal_pointer(&guest));

    g_autofree char *node = g_strdup_printf("file,node-name=ro,read-only=on,filename=%s", vdd);
    guest = guest_start(
        &(GuestSetup){.dir = disks.dir,
                      .images = images,
                      .extra = WORDS("-blockdev", node, "-device", "virtio-blk-pci,drive=ro,bootindex=9")});
    guest_wait(guest, 80);
    guest_monitor_do(guest->monitor, "stop", NULL);
    LOOK_FAILS(guest_all_agree(guest, images, NULL, &error), G_IO_ERROR_INVALID_DATA, "times one refused");
    LOOK(guest_disks_agree(images, NULL, NULL, &error));
}
END_TEST

static const char *text_of(json_t *event, const char *key)
{
    return json_string_value(json_object_get(json_object_get(event, "data"), key));
}

/* It can be told to reset, to panic and to turn itself off, which is not what QEMU does by itself. */
START_TEST(does_as_told)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    GuestMemory memory;
    g_autoptr(Guest) guest =
        guest_start(&(GuestSetup){.dir = disks.dir,
                                  .images = IMAGES(disks.vda, disks.vdb),
                                  .bus = _i ? "sata" : "virtio",
                                  .extra = WORDS("-device", "pvpanic", "-action", "panic=pause")});
    guest_wait(guest, 20);
    guest_press(guest, "r");
    json_t *event = guest_monitor_event(guest->monitor, "RESET", 0, &error);
    LOOK(event);
    ck_assert_str_eq(text_of(event, "reason"), "guest-reset");
    guest_wait(guest, 5);
    LOOK(guest_look_memory(guest, &memory, &error));
    ck_assert_uint_ge(memory.first, 20);

    guest_press(guest, "p");
    event = guest_monitor_event(guest->monitor, "GUEST_PANICKED", 0, &error);
    LOOK(event);
    ck_assert_str_eq(text_of(event, "action"), "pause");
    guest_monitor_do(guest->monitor, "cont", NULL);
    guest_wait(guest, 5);

    guest_monitor_do(guest->monitor, "system_powerdown", NULL);
    event = guest_monitor_event(guest->monitor, "SHUTDOWN", 0, &error);
    LOOK(event);
    ck_assert_str_eq(text_of(event, "reason"), "guest-shutdown");
    guest_wait_end(guest);
    LOOK(guest_disks_agree(IMAGES(disks.vda, disks.vdb), NULL, NULL, &error));
}
END_TEST

static void overwrite(const char *image, guint32 counter, guint word, guint32 value)
{
    off_t sector = GUEST_RING + ((counter % GUEST_SLOTS) << GUEST_STRIDE_SHIFT);
    value = GUINT32_TO_LE(value);
    poke(image, sector * GUEST_SECTOR + word * GUEST_WORD, &value, sizeof value);
}

/* A disk that is not what the guest wrote there is never taken for one. */
START_TEST(sees_a_wrong_disk)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("raw");
    guint32 n = 0;
    LOOK_FAILS(guest_look_disk(disks.vda, 0, NULL, &n, &error), G_IO_ERROR_NOT_FOUND, "never wrote");
    g_autoptr(Guest) guest = start_disks(&disks);
    guest_wait(guest, 150);
    guest_quit(guest);
    LOOK(guest_look_disk(disks.vda, 0, NULL, &n, &error));
    LOOK_FAILS(guest_look_disk(disks.vda, 1, NULL, &n, &error), G_IO_ERROR_INVALID_DATA,
               "in word 2, not 0x81");
    LOOK_FAILS(guest_disks_agree(IMAGES(disks.vdb, disks.vda), NULL, NULL, &error), G_IO_ERROR_INVALID_DATA,
               "in word 2, not 0x80");

    overwrite(disks.vda, n, 127, n - 1); /* torn */
    LOOK_FAILS(guest_look_disk(disks.vda, 0, NULL, &n, &error), G_IO_ERROR_INVALID_DATA, "in word 127");
    overwrite(disks.vda, n, 127, n);
    overwrite(disks.vda, n - 20, GUEST_SECTOR_COUNTER, n - 20 - GUEST_SLOTS); /* a write that is lost */
    LOOK_FAILS(guest_look_disk(disks.vda, 0, NULL, &n, &error), G_IO_ERROR_INVALID_DATA, "in word 1");
    overwrite(disks.vda, n - 20, GUEST_SECTOR_COUNTER, n - 20);
    overwrite(disks.vda, n + 1, GUEST_SECTOR_COUNTER, n + 1); /* one from later */
    LOOK_FAILS(guest_look_disk(disks.vda, 0, NULL, &n, &error), G_IO_ERROR_INVALID_DATA,
               "the sector of step");
    overwrite(disks.vda, n + 1, GUEST_SECTOR_COUNTER, n + 1 - GUEST_SLOTS);
    overwrite(disks.vda, n - 1, GUEST_SECTOR_MAGIC, 0);
    LOOK_FAILS(guest_look_disk(disks.vda, 0, NULL, &n, &error), G_IO_ERROR_INVALID_DATA, "not 0x31465344");
    overwrite(disks.vda, n - 1, GUEST_SECTOR_MAGIC, GUEST_MAGIC);
    LOOK(guest_disks_agree(IMAGES(disks.vda, disks.vdb), NULL, &n, &error));
}
END_TEST

/* The definition is one, with these disks, whatever their names. */
START_TEST(is_a_domain)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml =
        guest_domain_xml("a<b", "qemu", IMAGES("/i/v&a.qcow2", "/i/vdb.raw"), "    <vsock/>\n");
    g_autoptr(DomainDef) def = domain_def_parse(xml, strlen(xml), &error);
    LOOK(def);
    ck_assert_str_eq(def->name, "a<b");
    ck_assert_uint_eq(def->disks->len, 2);
    DiskDef *vda = domain_def_find_disk(def, "vda"), *vdb = domain_def_find_disk(def, "vdb");
    ck_assert_str_eq(vda->source, "/i/v&a.qcow2");
    ck_assert(vda->format == FORMAT_QCOW2 && vdb->format == FORMAT_RAW);
    g_autofree char *text = domain_def_format(def);
    ck_assert(strstr(text, "<vsock/>") && strstr(text, "<boot order='1'/>") &&
              strstr(text, "<boot order='2'/>"));
}
END_TEST

START_TEST(knows_what_is_in_step)
{
    static const struct {
        guint32 counters[3];
        gboolean good;
    } cases[] = {
        {{7, 7, 7}, TRUE},  {{7, 7, 6}, TRUE},  {{7, 6, 6}, TRUE},  {{7, 6, 7}, FALSE}, {{6, 7, 7}, FALSE},
        {{7, 7, 5}, FALSE}, {{8, 7, 6}, FALSE}, {{7, 6, 5}, FALSE}, {{7, 8, 7}, FALSE},
    };
    g_autoptr(GError) error = NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        ck_assert_int_eq(guest_in_step(cases[i].counters, 3, &error), cases[i].good);
        ck_assert_int_eq(error == NULL, cases[i].good);
        g_clear_error(&error);
    }
}
END_TEST

/* Memory without the guest, of a guest that runs on, and of one that was booted again are told apart. */
START_TEST(tells_boots_apart)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("raw");
    GuestMemory memory;
    g_autoptr(Guest) guest = start_on(&disks, disks.vda, disks.vdb, WORDS("-S"));
    LOOK_FAILS(guest_look_memory(guest, &memory, &error), G_IO_ERROR_NOT_FOUND, "not in memory");
    guest_monitor_do(guest->monitor, "cont", NULL);
    guest_wait(guest, 40);
    for (guint i = 0; i < 20; i++)
        LOOK(guest_look_memory(guest, &memory, &error));
    guest_monitor_do(guest->monitor, "system_reset", NULL);
    guest_wait(guest, 2);
    guint32 first = memory.first;
    do
        if (!guest_look_memory(guest, &memory, &error)) { /* between two boots it is not there */
            LOOK_FAILS(FALSE, G_IO_ERROR_NOT_FOUND, "not in memory");
            memory.first = first;
        }
    while (memory.first == first);
    ck_assert_uint_gt(memory.first,
                      40); /* it goes on from the disk, and memory says that it is another boot */
}
END_TEST

static void overwrite_memory(Guest *guest, guint64 physical, guint32 word)
{
    g_autoptr(GError) error = NULL;
    guint64 address = 0;
    word = GUINT32_TO_LE(word);
    LOOK(guest_look_address(guest, physical, &address, &error));
    struct iovec here = {.iov_base = &word, .iov_len = sizeof word};
    struct iovec there = {.iov_base = (void *)(guintptr)address, .iov_len = sizeof word};
    ck_assert_int_eq(process_vm_writev(guest->pid, &here, 1, &there, 1, 0), (ssize_t)sizeof word);
}

/* Memory with a page of another moment in it, and memory that is not of the disks' moment. */
START_TEST(sees_wrong_memory)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    const char *const *images = IMAGES(disks.vda, disks.vdb);
    GuestMemory memory, found;
    g_autoptr(Guest) guest = start_disks(&disks);
    guest_wait(guest, 40);
    guest_monitor_do(guest->monitor, "stop", NULL);
    LOOK(guest_all_agree(guest, images, &memory, &error));
    guint64 third = GUEST_TRAIL + 3 * GUEST_WORD, counter = GUEST_RAM + GUEST_RAM_COUNTER * GUEST_WORD;
    overwrite_memory(guest, third, 0);
    LOOK_FAILS(guest_all_agree(guest, images, &found, &error), G_IO_ERROR_INVALID_DATA,
               "of step 3 it holds 0");
    overwrite_memory(guest, third, 3);
    overwrite_memory(guest, counter, memory.counter - 2);
    LOOK_FAILS(guest_all_agree(guest, images, &found, &error), G_IO_ERROR_INVALID_DATA, "not of one instant");
    overwrite_memory(guest, counter, memory.counter);
    LOOK(guest_all_agree(guest, images, &found, &error));
    LOOK_FAILS(guest_all_agree(guest, IMAGES(disks.vda), &found, &error), G_IO_ERROR_INVALID_DATA,
               "writes to 2 disks");
}
END_TEST

/* A guest that is stopped for some time rests for that time, by both measures; one that is not was never stopped. */
START_TEST(measures_rest)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    GuestStill still;
    g_autoptr(Guest) guest = start_disks(&disks);
    guest_wait(guest, 10);
    GuestWatch *watch = guest_watch_begin(guest, &error);
    LOOK(watch);
    guest_wait(guest, 50);
    LOOK(guest_watch_end(watch, &still, &error));
    ck_assert_uint_eq(still.stops, 0);
    ck_assert_int_eq(still.stopped_us, 0);
    ck_assert_uint_ge(still.steps, 50);
    ck_assert(still.longest_us > 0 && still.longest_us < still.watched_us);

    watch = guest_watch_begin(guest, &error);
    LOOK(watch);
    guest_wait(guest, 10);
    guest_monitor_do(guest->monitor, "stop", NULL);
    g_usleep(400 * 1000);
    guest_monitor_do(guest->monitor, "cont", NULL);
    guest_wait(guest, 10);
    LOOK(guest_watch_end(watch, &still, &error));
    ck_assert_uint_eq(still.stops, 1);
    ck_assert_msg(still.stopped_us >= 400 * 1000, "%" G_GINT64_FORMAT, still.stopped_us);
    ck_assert_msg(still.longest_us >= 300 * 1000, "%" G_GINT64_FORMAT, still.longest_us);
    ck_assert(still.longest_us < still.watched_us && still.stopped_us < still.watched_us);

    watch = guest_watch_begin(guest, &error);
    LOOK(watch);
    guest_kill(guest);
    g_usleep(1000);
    ck_assert(!guest_watch_end(watch, &still, &error));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guest");
    TCase *tcase = scratch_case(suite, "guest");
    tcase_add_loop_test(tcase, counts, 0, G_N_ELEMENTS(kinds));
    tcase_add_test(tcase, ends);
    tcase_add_test(tcase, goes_on_after_a_kill);
    tcase_add_loop_test(tcase, does_as_told, 0, 2);
    tcase_add_test(tcase, more_disks);
    tcase_add_test(tcase, sees_a_wrong_disk);
    tcase_add_test(tcase, is_a_domain);
    tcase_add_test(tcase, knows_what_is_in_step);
    tcase_add_test(tcase, sees_wrong_memory);
    tcase_add_test(tcase, tells_boots_apart);
    tcase_add_test(tcase, measures_rest);
    return run_suite(suite);
}
