/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each kind of snapshot of a running machine holds, by QEMU's own means and measured with the test guest: that its
 * parts are of one instant, and that parts taken one after the other are not, so that the measure measures something.
 */
#include <sys/wait.h>

#include "guest_case.h"
#include "runner.h"

#define HURRY "max-bandwidth", (json_int_t)1 << 40

static void do_stop(Guest *guest)
{
    guest_monitor_do(guest->monitor, "stop", NULL);
}

static void do_cont(Guest *guest)
{
    guest_monitor_do(guest->monitor, "cont", NULL);
}

static gboolean system_job(Guest *guest, const char *command, const char *tag, GError **error)
{
    return guest_monitor_job(guest->monitor, error, "job", command, "{s:s, s:s, s:s, s:[s, s]}", "job-id",
                             "job", "tag", tag, "vmstate", "vda", "devices", "vda", "vdb");
}

/* A checkpoint of memory and disks, taken while the guest ran, comes back whole, as often as one wants. */
START_TEST(checkpoint)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    const char *const *images = IMAGES(disks.vda, disks.vdb);
    guint32 before = 0, after = 0;
    GuestMemory memory;
    g_autoptr(Guest) guest = start_disks(&disks);
    guest_wait(guest, 30);
    LOOK(guest_look_counter(guest, &before, &error));
    LOOK(system_job(guest, "snapshot-save", "s1", &error));
    LOOK(guest_look_counter(guest, &after, &error));
    for (guint i = 0; i < 2; i++) {
        guest_wait(guest, 70 + i); /* more than the ring holds: nothing of then is left on the disks */
        do_stop(guest);
        LOOK(system_job(guest, "snapshot-load", "s1", &error));
        LOOK(guest_all_agree(guest, images, &memory, &error));
        ck_assert(memory.counter >= before && memory.counter <= after && memory.first == 1);
        do_cont(guest);
    }
    ck_assert(!system_job(guest, "snapshot-load", "s2", &error));
    ck_assert_msg(strstr(error->message, "s2") != NULL, "%s", error->message);
    g_clear_error(&error);
    guest_kill(guest);

    /* The same from outside: the tags of both disks, and a QEMU that starts with it. */
    LOOK(guest_disks_agree(images, "s1", &after, &error));
    ck_assert(after == memory.counter || after + 1 == memory.counter);
    guest_free(g_steal_pointer(&guest));
    guest = start_on(&disks, disks.vda, disks.vdb, WORDS("-S", "-loadvm", "s1"));
    LOOK(guest_all_agree(guest, images, &memory, &error));
    ck_assert(memory.counter >= before && memory.counter <= after + 1 && memory.first == 1);
    do_cont(guest);
    guest_wait(guest, 5);
}
END_TEST

/* A checkpoint of which only the memory is brought back does not pass. */
START_TEST(half_a_checkpoint)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    g_autoptr(Guest) guest = start_disks(&disks);
    guest_wait(guest, 30);
    LOOK(system_job(guest, "snapshot-save", "s1", &error));
    guest_wait(guest, 70);
    do_stop(guest);
    LOOK(guest_monitor_job(guest->monitor, &error, "half", "snapshot-load", "{s:s, s:s, s:s, s:[s]}",
                           "job-id", "half", "tag", "s1", "vmstate", "vda", "devices", "vda"));
    LOOK_FAILS(guest_all_agree(guest, IMAGES(disks.vda, disks.vdb), NULL, &error), G_IO_ERROR_INVALID_DATA,
               "not of one instant");
}
END_TEST

/* The layer @i of the chain on top of @disk. Caller frees. */
static char *layer(const char *disk, guint i)
{
    return i == 0 ? g_strdup(disk) : g_strdup_printf("%s.s%u", disk, i);
}

/* The action that puts the layer @i on @disk. */
static json_t *overlay_action(const char *node, const char *disk, guint i)
{
    g_autofree char *file = layer(disk, i), *below = layer(node, i - 1), *above = layer(node, i);
    return json_pack("{s:s, s:{s:s, s:s, s:s, s:s}}", "type", "blockdev-snapshot-sync", "data", "node-name",
                     below, "snapshot-file", file, "snapshot-node-name", above, "format", "qcow2");
}

/* Overlays on both disks, by one transaction: what they froze is of one instant, each time. */
START_TEST(overlays_of_one_instant)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    guint32 last = 0, now = 0;
    g_autoptr(Guest) guest = start_disks(&disks);
    for (guint i = 1; i <= 6; i++, last = now) {
        g_autofree char *vda = layer(disks.vda, i - 1), *vdb = layer(disks.vdb, i - 1);
        guest_wait(guest, 10 + i);
        guest_monitor_do(guest->monitor, "transaction", "{s:[o, o]}", "actions",
                         overlay_action("vda", disks.vda, i), overlay_action("vdb", disks.vdb, i));
        LOOK(guest_disks_agree(IMAGES(vda, vdb), NULL, &now, &error)); /* frozen, whatever the guest does */
        ck_assert_uint_gt(now, last);
    }
    guest_kill(guest);
    g_autofree char *vda = layer(disks.vda, 6), *vdb = layer(disks.vdb, 6);
    LOOK(guest_disks_agree(IMAGES(vda, vdb), NULL, &now, &error)); /* and the chain on top goes on */
    ck_assert_uint_ge(now, last);
}
END_TEST

/* The same one after the other with the guest in between: seen to be of two instants. */
START_TEST(overlays_of_two_instants)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    g_autofree char *vda = layer(disks.vda, 1), *vdb = layer(disks.vdb, 1);
    g_autoptr(Guest) guest = start_disks(&disks);
    guest_wait(guest, 10);
    guest_monitor_do(guest->monitor, "transaction", "{s:[o]}", "actions",
                     overlay_action("vda", disks.vda, 1));
    guest_wait(guest, 4);
    guest_monitor_do(guest->monitor, "transaction", "{s:[o]}", "actions",
                     overlay_action("vdb", disks.vdb, 1));
    LOOK_FAILS(guest_disks_agree(IMAGES(disks.vda, disks.vdb), NULL, NULL, &error), G_IO_ERROR_INVALID_DATA,
               "not of one instant");
    guest_kill(guest);
    LOOK(guest_disks_agree(IMAGES(vda, vdb), NULL, NULL, &error)); /* the present is right all the same */
}
END_TEST

/* Internal snapshots of the disks alone, by one transaction, and not by one. */
START_TEST(internal)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    const char *const *images = IMAGES(disks.vda, disks.vdb);
    guint32 then = 0, now = 0;
    g_autoptr(Guest) guest = start_disks(&disks);
    guest_wait(guest, 20);
    guest_monitor_do(guest->monitor, "transaction", "{s:[{s:s, s:{s:s, s:s}}, {s:s, s:{s:s, s:s}}]}",
                     "actions", "type", "blockdev-snapshot-internal-sync", "data", "device", "vda", "name",
                     "together", "type", "blockdev-snapshot-internal-sync", "data", "device", "vdb", "name",
                     "together");
    guest_wait(guest, 20);
    guest_monitor_do(guest->monitor, "blockdev-snapshot-internal-sync", "{s:s, s:s}", "device", "vda", "name",
                     "apart");
    guest_wait(guest, 4);
    guest_monitor_do(guest->monitor, "blockdev-snapshot-internal-sync", "{s:s, s:s}", "device", "vdb", "name",
                     "apart");
    guest_kill(guest);
    LOOK(guest_disks_agree(images, "together", &then, &error));
    LOOK_FAILS(guest_disks_agree(images, "apart", NULL, &error), G_IO_ERROR_INVALID_DATA,
               "not of one instant");
    LOOK(guest_disks_agree(images, NULL, &now, &error));
    ck_assert_uint_ge(now, then + 20);
}
END_TEST

/* Memory to the file @path, behind @header_len bytes; QEMU is stopped afterwards. */
static void save_memory(Guest *guest, const char *path, const void *header, gsize header_len)
{
    g_autoptr(GError) error = NULL;
    const char *state = NULL;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert(fd >= 0 && write(fd, header, header_len) == (ssize_t)header_len);
    guest_monitor_do(guest->monitor, "migrate-set-parameters", "{s:I}", HURRY);
    LOOK(guest_monitor_give(guest->monitor, fd, "out", &error));
    close(fd);
    guest_monitor_do(guest->monitor, "migrate", "{s:s}", "uri", "fd:out");
    do {
        g_usleep(2000);
        json_t *info = guest_monitor_call(guest->monitor, &error, "query-migrate", NULL);
        LOOK(info);
        state = g_intern_string(json_string_value(json_object_get(info, "status")));
        json_decref(info);
        ck_assert_str_ne(state, "failed");
    } while (!g_str_equal(state, "completed"));
}

/* A libvirt save image's header, with room for an XML that ends unaligned. */
static GByteArray *libvirt_header(void)
{
    g_autofree char *xml = g_strnfill(1237, ' ');
    guint32 words[19] = {2, 1237, 1};
    GByteArray *header = g_byte_array_new();
    g_byte_array_append(header, (const guint8 *)"LibvirtQemudSave", 16);
    g_byte_array_append(header, (const guint8 *)words, sizeof words);
    return g_byte_array_append(header, (const guint8 *)xml, 1237);
}

static void overlay_on(const char *base, const char *path)
{
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", path, NULL);
}

/* Memory in a file, live or not, bare or as libvirt writes it, and the disks frozen at the same instant. */
START_TEST(external_memory)
{
    g_autoptr(GError) error = NULL;
    g_auto(Disks) disks = DISKS("qcow2");
    g_autofree char *file = PATH("memory"), *vda = PATH("vda.next"), *vdb = PATH("vdb.next");
    g_autoptr(GByteArray) header = _i & 2 ? libvirt_header() : g_byte_array_new();
    GuestMemory memory, before;
    g_autoptr(Guest) guest = start_disks(&disks);
    guest_wait(guest, 30);
    LOOK(guest_look_memory(guest, &before, &error));
    if (_i & 1)
        do_stop(guest);
    save_memory(guest, file, header->data, header->len);
    guest_free(g_steal_pointer(&guest)); /* now the disks are what they were at that instant */

    overlay_on(disks.vda, vda);
    overlay_on(disks.vdb, vdb);
    guest = start_on(&disks, vda, vdb, WORDS("-S", "-incoming", "defer"));
    LOOK(guest_load_memory(guest, file, &error));
    LOOK(guest_all_agree(guest, IMAGES(vda, vdb), &memory, &error));
    ck_assert(memory.counter >= before.counter && memory.first == 1);
    do_cont(guest);
    guest_wait(guest, 70);
    guest_free(g_steal_pointer(&guest));

    /* With the disks of later it is not of one instant. */
    guest = start_on(&disks, vda, vdb, WORDS("-S", "-incoming", "defer"));
    LOOK(guest_load_memory(guest, file, &error));
    LOOK_FAILS(guest_all_agree(guest, IMAGES(vda, vdb), NULL, &error), G_IO_ERROR_INVALID_DATA,
               "not of one instant");
    guest_free(g_steal_pointer(&guest));
    guest = start_on(&disks, vda, vdb, WORDS("-S", "-incoming", "defer", "-m", "48"));
    LOOK_FAILS(guest_load_memory(guest, vda, &error), G_IO_ERROR_INVALID_DATA, "no migration stream");
    ck_assert(!guest_load_memory(guest, file, &error)); /* another machine */
}
END_TEST

static gint64 rest_during(Guest *guest, const char *tag, GuestStill *still)
{
    g_autoptr(GError) error = NULL;
    GuestWatch *watch = guest_watch_begin(guest, &error);
    LOOK(watch);
    guest_wait(guest, 5);
    gint64 begin = g_get_monotonic_time();
    LOOK(system_job(guest, "snapshot-save", tag, &error));
    gint64 took = g_get_monotonic_time() - begin;
    guest_wait(guest, 5);
    LOOK(guest_watch_end(watch, still, &error));
    return took;
}

/* A checkpoint stops the guest once, for less than it takes all in all, and both measures see about the same. */
START_TEST(rest_of_a_checkpoint)
{
    g_auto(Disks) disks = DISKS("qcow2");
    GuestStill still;
    g_autoptr(Guest) guest = start_disks(&disks);
    guest_wait(guest, 20);
    gint64 took = rest_during(guest, "s1", &still);
    printf("# a checkpoint of a 32 MiB guest: %.1f ms in all, stopped for %.1f ms, the counter rested for "
           "%.1f ms\n",
           (double)took / 1000, (double)still.stopped_us / 1000, (double)still.longest_us / 1000);
    ck_assert_uint_eq(still.stops, 1);
    ck_assert_int_gt(still.stopped_us, 0);
    ck_assert_int_le(still.stopped_us, took);
    ck_assert_int_gt(still.longest_us, still.stopped_us / 2);
}
END_TEST

int main(void)
{
    if (g_str_equal(guest_accel(), "kvm") && !guest_has_kvm()) {
        printf("1..0 # SKIP no KVM here\n");
        return EXIT_SUCCESS;
    }
    Suite *suite = suite_create("guest-states");
    TCase *tcase = scratch_case(suite, "states");
    tcase_add_test(tcase, checkpoint);
    tcase_add_test(tcase, half_a_checkpoint);
    tcase_add_test(tcase, overlays_of_one_instant);
    tcase_add_test(tcase, overlays_of_two_instants);
    tcase_add_test(tcase, internal);
    tcase_add_loop_test(tcase, external_memory, 0, 4);
    tcase_add_test(tcase, rest_of_a_checkpoint);
    return run_suite(suite);
}
