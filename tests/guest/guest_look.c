/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest_look.h"

#define INVALID G_IO_ERROR, G_IO_ERROR_INVALID_DATA

/* Through the monitor, not a file: QEMU may run as somebody else. */
static gboolean load_words(Guest *guest, guint64 address, guint32 *ret_words, gsize n, GError **error)
{
    g_autofree char *line = g_strdup_printf("xp /%zuwx %#" G_GINT64_MODIFIER "x", n, address);
    g_autofree char *text = guest_monitor_human(guest->monitor, line, error);
    gsize found = 0;
    for (char *at = text, *end; at && found < n;
         at = end) { /* "0000000000008000: 0x31465344 0x00000083 ..." */
        guint64 word = g_ascii_strtoull(at, &end, 16);
        if (end == at)
            break;
        if (*end == ':')
            end++;
        else
            ret_words[found++] = (guint32)word;
    }
    if (text && found < n)
        g_set_error(error, INVALID, "%s: %.100s", line, text);
    return found == n;
}

gboolean guest_look_counter(Guest *guest, guint32 *ret_counter, GError **error)
{
    guint32 words[GUEST_RAM_WORDS];
    if (!load_words(guest, GUEST_RAM, words, GUEST_RAM_WORDS, error))
        return FALSE;
    *ret_counter = words[GUEST_RAM_MAGIC] == GUEST_MAGIC ? words[GUEST_RAM_COUNTER] : 0;
    return TRUE;
}

gboolean guest_look_address(Guest *guest, guint64 physical, guint64 *ret_address, GError **error)
{
    g_autofree char *line = g_strdup_printf("gpa2hva %#" G_GINT64_MODIFIER "x", physical);
    g_autofree char *text = guest_monitor_human(guest->monitor, line, error);
    if (!text)
        return FALSE;
    const char *address = g_strrstr(text, " is 0x");
    if (!address) {
        g_set_error(error, INVALID, "%s: %s", line, g_strchomp(text));
        return FALSE;
    }
    *ret_address = g_ascii_strtoull(address + strlen(" is "), NULL, 16);
    return TRUE;
}

/* Every counter that came before must be in its place, or have been replaced by its successor there. */
static gboolean check_trail(const guint32 *trail, const GuestMemory *memory, GError **error)
{
    guint32 slack = GUEST_TRAIL_WORDS / 4; /* a running guest writes while its memory is read */
    guint32 length = MIN(memory->counter - memory->first, GUEST_TRAIL_WORDS - slack);
    for (guint32 n = memory->counter - length; n < memory->counter; n++) {
        guint32 found = trail[n % GUEST_TRAIL_WORDS];
        if (found != n && found != n + GUEST_TRAIL_WORDS) {
            g_set_error(error, INVALID, "memory is at step %u, but of step %u it holds %u", memory->counter,
                        n, found);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean guest_look_memory(Guest *guest, GuestMemory *ret_memory, GError **error)
{
    guint32 words[GUEST_RAM_WORDS];
    g_autofree guint32 *trail = g_new(guint32, GUEST_TRAIL_WORDS);
    if (!load_words(guest, GUEST_RAM, words, GUEST_RAM_WORDS, error) ||
        !load_words(guest, GUEST_TRAIL, trail, GUEST_TRAIL_WORDS, error))
        return FALSE;
    if (words[GUEST_RAM_MAGIC] != GUEST_MAGIC) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "the guest is not in memory");
        return FALSE;
    }
    GuestMemory memory = {.counter = words[GUEST_RAM_COUNTER],
                          .first = words[GUEST_RAM_FIRST],
                          .disks = words[GUEST_RAM_DISKS],
                          .errors = words[GUEST_RAM_ERRORS]};
    if (!check_trail(trail, &memory, error))
        return FALSE;
    *ret_memory = memory;
    return TRUE;
}

/* The content of @image as a raw file in memory, open; nothing is left behind by a test that dies. -1: error. */
static int open_content(const char *image, const char *tag, GError **error)
{
    int status = 0, fd = memfd_create("content", MFD_CLOEXEC);
    g_autofree char *errors = NULL, *path = g_strdup_printf("/proc/%d/fd/%d", getpid(), fd);
    g_autofree char *option = g_strconcat("snapshot.name=", tag, NULL);
    const char *format = guest_disk_format(image);
    const char *present[] = {"qemu-img", "convert", "-U", "-f", format, "-O", "raw", image, path, NULL};
    const char *then[] = {"qemu-img", "convert", "-U",   "-f",  format, "-O",
                          "raw",      "-l",      option, image, path,   NULL};
    /* all is close-on-exec: that GLib need not see to it spares a copy of our page tables */
    gboolean ok = g_spawn_sync(NULL, (char **)(tag ? then : present), NULL,
                               G_SPAWN_SEARCH_PATH | G_SPAWN_LEAVE_DESCRIPTORS_OPEN, NULL, NULL, NULL,
                               &errors, &status, error);
    if (ok && g_spawn_check_wait_status(status, NULL))
        return fd;
    if (ok)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s", g_strchomp(errors));
    if (fd >= 0)
        close(fd);
    return -1;
}

static gboolean read_ring(int fd, guint32 sectors[GUEST_SLOTS][GUEST_SECTOR / GUEST_WORD], GError **error)
{
    for (guint slot = 0; slot < GUEST_SLOTS; slot++) {
        off_t at = (off_t)GUEST_SECTOR * (GUEST_RING + (slot << GUEST_STRIDE_SHIFT));
        if (pread(fd, sectors[slot], GUEST_SECTOR, at) != GUEST_SECTOR) {
            g_set_error(error, INVALID, "the disk has no sector of slot %u", slot);
            return FALSE;
        }
        for (guint i = 0; i < GUEST_SECTOR / GUEST_WORD; i++)
            sectors[slot][i] = GUINT32_FROM_LE(sectors[slot][i]);
    }
    return TRUE;
}

/* A sector must be all of step @counter of disk @index, or nothing when that is before the first step. */
static gboolean check_sector(const guint32 *sector, guint32 counter, guint index, GError **error)
{
    guint32 disk = counter ? 0x80 + index : 0, magic = counter ? GUEST_MAGIC : 0;
    guint32 first = counter ? CLAMP(sector[GUEST_SECTOR_FIRST], 1, counter) : 0;
    guint32 whole[] = {[GUEST_SECTOR_MAGIC] = magic,
                       [GUEST_SECTOR_COUNTER] = counter,
                       [GUEST_SECTOR_DISK] = disk,
                       [GUEST_SECTOR_FIRST] = first};
    for (guint i = 0; i < GUEST_SECTOR / GUEST_WORD; i++) {
        guint32 expected = i < G_N_ELEMENTS(whole) ? whole[i] : counter;
        if (sector[i] != expected) {
            g_set_error(error, INVALID, "disk %u: the sector of step %u holds %#x in word %u, not %#x", index,
                        counter, sector[i], i, expected);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean guest_look_disk(const char *image, guint index, const char *tag, guint32 *ret_counter,
                         GError **error)
{
    g_autofree guint32(*sectors)[GUEST_SECTOR / GUEST_WORD] = g_malloc0(GUEST_SLOTS * GUEST_SECTOR);
    guint32 last = 0;
    int fd = open_content(image, tag, error);
    if (fd < 0)
        return FALSE;
    gboolean ok = read_ring(fd, sectors, error);
    close(fd);
    for (guint slot = 0; ok && slot < GUEST_SLOTS; slot++)
        last = MAX(last, sectors[slot][GUEST_SECTOR_COUNTER]);
    for (guint32 back = 0; ok && last > 0 && back < GUEST_SLOTS; back++) {
        guint32 slot = (last - back) % GUEST_SLOTS; /* also before the first step */
        ok = check_sector(sectors[slot], last > back ? last - back : 0, index, error);
    }
    if (ok && last == 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "the guest never wrote to '%s'", image);
        return FALSE;
    }
    if (!ok)
        g_prefix_error(error, "%s: ", image);
    else
        *ret_counter = last;
    return ok;
}

gboolean guest_in_step(const guint32 *counters, gsize n, GError **error)
{
    gboolean ok = TRUE;
    g_autoptr(GString) text = g_string_new(NULL);
    for (gsize i = 0; i < n; i++) {
        g_string_append_printf(text, " %u", counters[i]);
        ok = ok && (i == 0 || counters[i] <= counters[i - 1]) && counters[0] - counters[i] <= 1;
    }
    if (!ok)
        g_set_error(error, INVALID, "not of one instant:%s", text->str);
    return ok;
}

/* The counters of @images after those that are in *counters already. */
static gboolean add_disks(GArray *counters, const char *const *images, const char *tag, GError **error)
{
    for (guint i = 0; images[i]; i++) {
        guint32 counter;
        if (!guest_look_disk(images[i], i, tag, &counter, error))
            return FALSE;
        g_array_append_val(counters, counter);
    }
    return TRUE;
}

gboolean guest_disks_agree(const char *const *images, const char *tag, guint32 *ret_counter, GError **error)
{
    g_autoptr(GArray) counters = g_array_new(FALSE, FALSE, sizeof(guint32));
    if (!add_disks(counters, images, tag, error) ||
        !guest_in_step((guint32 *)(void *)counters->data, counters->len, error))
        return FALSE;
    if (ret_counter)
        *ret_counter = g_array_index(counters, guint32, 0);
    return TRUE;
}

static gboolean check_stopped(Guest *guest, GError **error)
{
    json_t *status = guest_monitor_call(guest->monitor, error, "query-status", NULL);
    if (!status)
        return FALSE;
    gboolean running = json_is_true(json_object_get(status, "running"));
    json_decref(status);
    if (running)
        g_set_error(error, INVALID, "the guest is running");
    return !running;
}

gboolean guest_all_agree(Guest *guest, const char *const *images, GuestMemory *ret_memory, GError **error)
{
    g_autoptr(GArray) counters = g_array_new(FALSE, FALSE, sizeof(guint32));
    GuestMemory memory;
    if (!check_stopped(guest, error) || !guest_look_memory(guest, &memory, error))
        return FALSE;
    g_array_append_val(counters, memory.counter);
    if (!add_disks(counters, images, NULL, error) ||
        !guest_in_step((guint32 *)(void *)counters->data, counters->len, error))
        return FALSE;
    if (memory.disks != counters->len - 1 || memory.errors > 0) {
        g_set_error(error, INVALID, "the guest writes to %u disks, and %u times one refused", memory.disks,
                    memory.errors);
        return FALSE;
    }
    if (ret_memory)
        *ret_memory = memory;
    return TRUE;
}

/* The number of a colour of the text screen, or -1. An adapter's levels are of 6 bits: only about 0, 1/3, 2/3, 1. */
static int color_number(const guint8 *rgb)
{
    guint red = (rgb[0] + 42u) / 85, green = (rgb[1] + 42u) / 85, blue = (rgb[2] + 42u) / 85;
    for (guint n = 0; n < 16; n++) {
        guint low = n & 8 ? 1 : 0, high = low + 2;
        guint brown = n == 6; /* not a dark yellow */
        if (red == (n & 4 ? high : low) && green == (n & 2 ? high : low) - brown &&
            blue == (n & 1 ? high : low))
            return (int)n;
    }
    return -1;
}

gboolean guest_look_screen(const char *picture, guint32 *ret_counter, GError **error)
{
    g_autofree char *data = NULL;
    gsize len = 0;
    unsigned width = 0, height = 0;
    int header = 0;
    guint32 counter = 0;
    if (!g_file_get_contents(picture, &data, &len, error))
        return FALSE;
    if (sscanf(data, "P6 %u %u 255%n", &width, &height, &header) != 2 || header == 0 ||
        len < (gsize)header + 1 + 3 * (gsize)width * height || width < 640 || height < 400) {
        g_set_error(error, INVALID, "'%s' is no picture of a text screen", picture);
        return FALSE;
    }
    for (unsigned i = 0; i < 8; i++) { /* the middle of each of the first cells of the second line of 25 */
        gsize x = i * (width / 80) + width / 160, y = height / 25 + height / 50;
        int digit = color_number((guint8 *)data + header + 1 + 3 * (y * width + x));
        if (digit < 0) {
            g_set_error(error, INVALID, "'%s' shows no counter", picture);
            return FALSE;
        }
        counter = counter << 4 | (guint32)digit;
    }
    *ret_counter = counter;
    return TRUE;
}
