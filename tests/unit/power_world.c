/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "power_world.h"

#include <poll.h>
#include <sys/syscall.h>

#define DOMAIN "web"
#define END_MS 20000

World *power_world_new(char *dir, const LiveSetup *setup)
{
    World *world = running_world_new(dir);
    live_free(live_define(world, DOMAIN, FILES("a.qcow2", "b.qcow2"), setup));
    return world;
}

void power_world_free(World *world)
{
    if (power_pid(world))
        power_kill(world);
    world_free(world);
}

/* --- gestures --- */

gboolean try_power(World *world, PowerAction action, const char *file, GError **error)
{
    return world->engine->ops->power(world->engine, world_domain(world, DOMAIN), action, file, NULL, error);
}

void power(World *world, PowerAction action, const char *file)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(try_power(world, action, file, &error), error);
}

void power_refused(World *world, PowerAction action, const char *file, int code, const char *text)
{
    GError *error = NULL;
    g_autofree char *before = g_strdup(power_state(world));
    ck_assert_msg(!try_power(world, action, file, &error), "it should be refused: %s", text);
    expect_error(&error, code, text);
    EXPECT_STATE(world, before);
}

void power_boot(World *world)
{
    power(world, POWER_START, NULL);
    power_moves(world, 2);
}

void power_create(World *world, const char *name, SnapMode memory, const char *specs)
{
    g_autoptr(CreateRequest) request = world_request(name, specs);
    g_autoptr(GError) error = NULL;
    request->memory = memory;
    request->disk_only = memory == MODE_NO;
    ASSERT_OK(world_try_request(world, DOMAIN, request, &error), error);
}

gboolean try_revert(World *world, const char *name, RevertAs as, gboolean force, GError **error)
{
    const RevertRequest request = {
        .name = (char *)name, .running = as == AS_RUNNING, .paused = as == AS_PAUSED, .force = force};
    return world->engine->ops->revert(world->engine, world_domain(world, DOMAIN), &request, NULL, error);
}

/* --- what there is --- */

const char *power_state(World *world)
{
    static char state[32];
    g_autofree char *text = world_text(world, ENGINE_TEXT_STATE, world_domain(world, DOMAIN));
    g_strlcpy(state, g_strchomp(text), sizeof state);
    return state;
}

void power_becomes(World *world, const char *state)
{
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    while (strcmp(power_state(world), state) != 0 && g_get_monotonic_time() < end)
        g_usleep(5000);
    EXPECT_STATE(world, state);
}

Guest *power_join(World *world)
{
    g_autofree char *socket = g_build_filename(world->run, DOMAIN ".test", NULL);
    return guest_join(socket);
}

guint32 power_counter(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Guest) guest = power_join(world);
    guint32 now = 0;
    LOOK(guest_look_counter(guest, &now, &error));
    return now;
}

void power_moves(World *world, guint steps)
{
    g_autoptr(Guest) guest = power_join(world);
    guest_wait(guest, steps);
}

pid_t power_pid(World *world)
{
    g_autofree char *path = g_build_filename(world->run, DOMAIN ".pid", NULL);
    pid_t pid = read_pid(path);
    return is_qemu_in(pid, world->run) ? pid : 0;
}

void power_kill(World *world)
{
    pid_t pid = power_pid(world);
    ck_assert_int_gt(pid, 1);
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    if (end.fd < 0)
        return; /* it has just ended */
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(poll(&end, 1, END_MS), 1);
    close(end.fd);
}

const char *const *power_images(World *world)
{
    static char *images[3];
    const char *const targets[] = {"vda", "vdb"};
    for (guint i = 0; i < G_N_ELEMENTS(targets); i++) {
        g_free(images[i]);
        images[i] = world_layer(world, DOMAIN, NULL, targets[i], NULL);
    }
    return (const char *const *)images;
}

GuestMemory power_agree(World *world)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Guest) guest = power_join(world);
    GuestMemory memory;
    LOOK(guest_all_agree(guest, power_images(world), &memory, &error));
    return memory;
}

guint32 power_disks(World *world)
{
    g_autoptr(GError) error = NULL;
    guint32 counter = 0;
    LOOK(guest_disks_agree(power_images(world), NULL, &counter, &error));
    return counter;
}
