/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest from a command line, for benchmarks and for trying things by hand:
 *
 *     guest-tool disk FILE MIB         make an image with the guest on it
 *     guest-tool wait SOCKET STEPS     until the guest in the QEMU at that QMP socket has made so many steps
 *     guest-tool agree IMAGE...        whether the disks are of one instant (nobody must write them)
 *     guest-tool all SOCKET IMAGE...   and the memory of the QEMU there, which must be stopped
 *     guest-tool rest SOCKET           watch it until the end of the standard input, then print for how long it rested
 *     guest-tool where SOCKET          its QEMU's pid and where that process has the guest's counter: for who watches it
 *                                      while somebody else needs the socket
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest_fail.h"
#include "guest_look.h"
#include "guest_watch.h"

void guest_fail(const char *format, ...) /* instead of the one for tests */
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "guest-tool: %s\n", text);
    exit(EXIT_FAILURE);
}

static gboolean agree(char **args, GError **error)
{
    guint32 counter = 0;
    if (!guest_disks_agree((const char *const *)args, NULL, &counter, error))
        return FALSE;
    printf("counter %u\n", counter);
    return TRUE;
}

static gboolean all(char **args, GError **error)
{
    g_autoptr(Guest) guest = guest_join(args[0]);
    GuestMemory memory;
    if (!guest_all_agree(guest, (const char *const *)args + 1, &memory, error))
        return FALSE;
    printf("counter %u, booted at %u\n", memory.counter, memory.first);
    return TRUE;
}

static gboolean rest(char **args, GError **error)
{
    g_autoptr(Guest) guest = guest_join(args[0]);
    GuestStill still;
    char byte;
    GuestWatch *watch = guest_watch_begin(guest, error);
    if (!watch)
        return FALSE;
    printf("watching\n");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    if (!guest_watch_end(watch, &still, error))
        return FALSE;
    printf("longest_us %" G_GINT64_FORMAT "\nstopped_us %" G_GINT64_FORMAT "\nstops %u\nsteps %u\nwatched_us "
           "%" G_GINT64_FORMAT "\n",
           still.longest_us, still.stopped_us, still.stops, still.steps, still.watched_us);
    return TRUE;
}

static gboolean where(char **args, GError **error)
{
    g_autoptr(Guest) guest = guest_join(args[0]);
    guint64 address = 0;
    if (!guest_look_address(guest, GUEST_RAM + GUEST_WORD * GUEST_RAM_COUNTER, &address, error))
        return FALSE;
    printf("%d %" G_GUINT64_FORMAT "\n", (int)guest->pid, address);
    return TRUE;
}

static gboolean make_disk(char **args, GError **error)
{
    guest_disk_make(args[0], (guint)strtoul(args[1], NULL, 10));
    return TRUE;
}

static gboolean wait_steps(char **args, GError **error)
{
    g_autoptr(Guest) guest = guest_join(args[0]);
    guest_wait(guest, (guint)strtoul(args[1], NULL, 10));
    return TRUE;
}

static const struct {
    const char *name;
    int words; /* at least */
    gboolean (*run)(char **args, GError **error);
} commands[] = {
    {"disk", 2, make_disk}, {"wait", 2, wait_steps}, {"agree", 1, agree},
    {"all", 2, all},        {"rest", 1, rest},       {"where", 1, where},
};

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    for (gsize i = 0; argc > 1 && i < G_N_ELEMENTS(commands); i++) {
        if (!g_str_equal(argv[1], commands[i].name) || argc - 2 < commands[i].words)
            continue;
        if (commands[i].run(argv + 2, &error))
            return EXIT_SUCCESS;
        fprintf(stderr, "guest-tool: %s\n", error->message);
        return EXIT_FAILURE;
    }
    fprintf(stderr,
            "usage: guest-tool disk FILE MIB | wait SOCKET STEPS | agree IMAGE... | all SOCKET IMAGE... | "
            "rest SOCKET | where SOCKET\n");
    return 2;
}
