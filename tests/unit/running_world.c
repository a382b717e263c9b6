/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "running_world.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include "guest_domain.h"

#define DISK_MIB 4
#define STEPS 5
#define QEMU "/usr/bin/qemu-system-x86_64"

World *running_world_new(char *dir)
{
    World *world = world_new(dir);
    world_close(world);
    world->run = g_build_filename(dir, "run", NULL);
    world_open(world);
    return world;
}

/* --- defining --- */

static char *run_file(const Live *live, const char *suffix)
{
    return g_strdup_printf("%s/%s%s", live->world->run, live->name, suffix);
}

static char *write_emulator(const Live *live)
{
    g_autofree char *file = g_strdup_printf("qemu-%s", live->name);
    char *path = g_build_filename(live->world->dir, file, NULL);
    g_autofree char *text = g_strdup_printf("#!/bin/sh\n"
                                            "exec " QEMU " \"$@\" -qmp 'unix:%s/%s.test,server=on,wait=off' "
                                            "-D '%s/%s.said' -trace enable=handle_qmp_command\n",
                                            live->world->run, live->name, live->world->run, live->name);
    ck_assert(g_file_set_contents(path, text, -1, NULL));
    ck_assert_int_eq(chmod(path, 0755), 0);
    return path;
}

static void replace(GString *text, const char *from, const char *to)
{
    ck_assert_msg(g_string_replace(text, from, to, 1) == 1, "no '%s' in %s", from, text->str);
}

Live *live_define(World *world, const char *name, const char *const *files, const LiveSetup *setup)
{
    Live *live = g_new0(Live, 1);
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    live->world = world;
    live->name = g_strdup(name);
    for (; files[live->disks]; live->disks++) {
        char *path = world_path(world, files[live->disks]);
        g_ptr_array_add(images, path);
        if (access(path, F_OK) < 0)
            guest_disk_make(path, DISK_MIB);
    }
    g_ptr_array_add(images, NULL);
    g_autofree char *xml =
        guest_domain_xml(name, "qemu", (const char *const *)images->pdata, setup ? setup->devices : NULL);
    g_autofree char *emulator = write_emulator(live);
    g_autoptr(GString) text = g_string_new(xml);
    replace(text, QEMU, emulator);
    if (setup && setup->from)
        replace(text, setup->from, setup->to);
    ASSERT_OK(world_try_define(world, text->str, &error), error);
    return live;
}

void live_free(Live *live)
{
    if (!live)
        return;
    live_leave(live);
    g_free(live->name);
    g_free(live);
}

/* --- power --- */

gboolean live_power(Live *live, PowerAction action, GError **error)
{
    World *world = live->world;
    return world->engine->ops->power(world->engine, world_domain(world, live->name), action, NULL, NULL,
                                     error);
}

static void must_power(Live *live, PowerAction action)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(live_power(live, action, &error), error);
}

/* The record since @seen, whole lines. */
static char *read_record(const Live *live, gsize seen)
{
    g_autofree char *path = run_file(live, ".said"), *text = NULL;
    gsize len = 0;
    ck_assert(g_file_get_contents(path, &text, &len, NULL));
    ck_assert_uint_ge(len, seen);
    return g_strdup(text + seen);
}

/* "... handle_qmp_command mon 0x5560adb06c40 req: {...}": the monitor in the line that has @what. Caller frees. */
static char *monitor_of(const char *record, const char *what)
{
    g_auto(GStrv) lines = g_strsplit(record, "\n", -1);
    for (guint i = 0; lines[i]; i++) {
        const char *mon = strstr(lines[i], "mon "), *end = mon ? strstr(mon, " req: ") : NULL;
        if (end && strstr(end, what))
            return g_strndup(mon, (gsize)(end - mon));
    }
    ck_abort_msg("QEMU's record does not have '%s': %s", what, record);
}

void live_join(Live *live)
{
    g_autofree char *socket = run_file(live, ".test");
    live_leave(live);
    live->guest = guest_join(socket);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = guest_monitor_human(live->guest->monitor, "info version", &error);
    ck_assert_msg(text != NULL, "%s", error ? error->message : "?");
    g_autofree char *record = read_record(live, 0);
    live->monitor = monitor_of(record, "info version");
    live->seen = 0;
    g_free(live_commands(live));
}

void live_leave(Live *live)
{
    g_clear_pointer(&live->guest, guest_free);
    g_clear_pointer(&live->monitor, g_free);
}

void live_start(Live *live)
{
    must_power(live, POWER_START);
    live_join(live);
    guest_wait(live->guest, STEPS);
}

static void await_end(pid_t pid)
{
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    if (end.fd < 0)
        return;
    int n = poll(&end, 1, 20000);
    close(end.fd);
    ck_assert_msg(n == 1, "QEMU does not end");
}

void live_end(Live *live)
{
    must_power(live, POWER_DESTROY);
    live_leave(live);
}

pid_t live_pid(const Live *live)
{
    g_autofree char *path = run_file(live, ".pid"), *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? (pid_t)atoi(text) : 0;
}

void live_kill(Live *live)
{
    pid_t pid = live_pid(live);
    ck_assert_int_gt(pid, 1);
    if (kill(pid, SIGKILL) == 0)
        await_end(pid);
    live_leave(live);
}

/* --- what QEMU was told --- */

static gboolean only_looks(const char *command)
{
    static const char *const words[] = {
        "qmp_capabilities", "qom-get",   "qom-list", "migrate-set-parameters", "migrate-set-capabilities",
        "job-dismiss",      "add-fd", /* a picture's */
        "screendump",       "remove-fd", NULL};
    return g_str_has_prefix(command, "query-") || g_strv_contains(words, command);
}

static void add_words(GString *out, const json_t *list, const char *key)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        g_string_append_printf(out, "%s%s", i ? " " : "",
                               json_string_value(json_object_get(json_array_get(list, i), key)));
}

static void add_command(GString *out, const json_t *json)
{
    const char *command = json_string_value(json_object_get(json, "execute"));
    const json_t *arguments = json_object_get(json, "arguments");
    if (!command || only_looks(command))
        return;
    g_string_append_printf(out, "%s%s", out->len ? " " : "", command);
    if (strcmp(command, "transaction") == 0) {
        g_string_append_c(out, '(');
        add_words(out, json_object_get(arguments, "actions"), "type");
        g_string_append_c(out, ')');
    } else if (strcmp(command, "blockdev-add") == 0) {
        g_string_append_printf(out, "(%s)", json_string_value(json_object_get(arguments, "driver")));
    } else if (json_object_get(arguments, "devices")) {
        g_string_append_printf(out, "(%zu)", json_array_size(json_object_get(arguments, "devices")));
    }
}

char *live_commands(Live *live)
{
    g_autofree char *record = read_record(live, live->seen);
    g_auto(GStrv) lines = g_strsplit(record, "\n", -1);
    GString *out = g_string_new(NULL);
    live->seen += strlen(record);
    for (guint i = 0; lines[i]; i++) {
        const char *request = strstr(lines[i], " req: ");
        if (!request || strstr(lines[i], live->monitor))
            continue;
        json_t *json = json_loads(request + strlen(" req: "), 0, NULL);
        ck_assert_msg(json != NULL, "%s", lines[i]);
        add_command(out, json);
        json_decref(json);
    }
    return g_string_free(out, FALSE);
}

gboolean live_was_told(const Live *live, const char *command)
{
    g_autofree char *record = read_record(live, live->seen);
    g_autofree char *word = g_strdup_printf("\"%s\"", command);
    return strstr(record, word) != NULL;
}

/* --- how it is --- */

static void expect_status(Live *live, const char *const *statuses, const char *state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *now = guest_monitor_status(live->guest->monitor, &error);
    ck_assert_msg(now != NULL, "%s", error ? error->message : "?");
    ck_assert_msg(g_strv_contains(statuses, now), "the machine is '%s', not '%s'", now, statuses[0]);
    for (guint i = 0; i < 500; i++) { /* it is followed, and not asked for */
        g_autofree char *said =
            world_text(live->world, ENGINE_TEXT_STATE, world_domain(live->world, live->name));
        if (strcmp(said, state) == 0)
            return;
        g_usleep(10000);
    }
    ck_abort_msg("the state is not told to be %s", state);
}

void live_goes_on(Live *live)
{
    g_autoptr(GError) error = NULL;
    GuestMemory memory;
    expect_status(live, FILES("running"), "running\n");
    guest_wait(live->guest, STEPS);
    ck_assert_msg(guest_look_memory(live->guest, &memory, &error), "%s", error ? error->message : "?");
    ck_assert_uint_eq(memory.disks, live->disks);
    ck_assert_uint_eq(memory.errors, 0);
}

void live_stands(Live *live)
{
    guint32 before = 0, after = 0;
    expect_status(live, FILES("paused", "prelaunch", "postmigrate"), "paused\n");
    ck_assert(guest_look_counter(live->guest, &before, NULL));
    g_usleep(20000);
    ck_assert(guest_look_counter(live->guest, &after, NULL));
    ck_assert_uint_eq(before, after);
}

static char *target_at(guint i)
{
    return g_strdup_printf("vd%c", (char)('a' + i));
}

char **live_images(Live *live)
{
    char **images = g_new0(char *, live->disks + 1);
    for (guint i = 0; i < live->disks; i++) {
        g_autofree char *target = target_at(i);
        images[i] = world_layer(live->world, live->name, NULL, target, NULL);
    }
    return images;
}

void live_agrees(Live *live)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) images = live_images(live);
    ck_assert_msg(guest_all_agree(live->guest, (const char *const *)images, NULL, &error), "%s",
                  error ? error->message : "?");
}

guint32 live_counter(Live *live)
{
    guint32 counter = 0;
    ck_assert(guest_look_counter(live->guest, &counter, NULL));
    return counter;
}

void live_proves(Live *live, const char *snapshot, guint32 least, guint32 most)
{
    g_autoptr(GError) error = NULL;
    World *world = live->world;
    const RevertRequest request = {.name = (char *)snapshot, .paused = TRUE, .discard = TRUE};
    ASSERT_OK(
        world->engine->ops->revert(world->engine, world_domain(world, live->name), &request, NULL, &error),
        error);
    live_join(live);
    live_stands(live);
    live_holds_images(live);
    live_agrees(live);
    guint32 counter = live_counter(live);
    ck_assert_msg(counter >= least && counter <= most, "%s: %u is not between %u and %u", snapshot, counter,
                  least, most);
}

void live_resume(Live *live)
{
    must_power(live, POWER_RESUME);
    live_goes_on(live);
}

void live_holds_images(Live *live)
{
    g_auto(GStrv) images = live_images(live);
    Backend *backend = offline_backend_new(NULL);
    for (guint i = 0; images[i]; i++) {
        ImageUse use = USE_NONE;
        ck_assert(backend->ops->in_use(backend, images[i], &use, NULL));
        ck_assert_msg(use == USE_WRITER, "'%s' is not locked", images[i]);
    }
    backend->ops->free(backend);
}

void live_snapshot_agrees(Live *live, const char *snapshot, guint32 *ret_counter)
{
    g_autoptr(GError) error = NULL;
    g_autofree guint32 *counters = g_new0(guint32, live->disks);
    for (guint i = 0; i < live->disks; i++) {
        g_autofree char *target = target_at(i), *tag = NULL;
        g_autofree char *layer = world_layer(live->world, live->name, snapshot, target, &tag);
        ck_assert_msg(guest_look_disk(layer, i, tag, &counters[i], &error), "%s",
                      error ? error->message : "?");
    }
    ck_assert_msg(guest_in_step(counters, live->disks, &error), "%s", error ? error->message : "?");
    if (ret_counter)
        *ret_counter = counters[0];
}

/* --- what must stay --- */

static void add_written(Live *live, GString *out)
{
    g_autoptr(GError) error = NULL;
    json_t *blocks = guest_monitor_call(live->guest->monitor, &error, "query-block", NULL), *each;
    size_t i;
    ck_assert_msg(blocks != NULL, "%s", error ? error->message : "?");
    json_array_foreach (blocks, i, each) {
        const json_t *inserted = json_object_get(each, "inserted");
        g_string_append_printf(out, "writes %s\n", json_string_value(json_object_get(inserted, "file")));
    }
    json_decref(blocks);
}

/* Nodes come and go in the middle of things; what is left must be the same. */
static void add_nodes(Live *live, GString *out)
{
    g_autoptr(GError) error = NULL;
    json_t *nodes = guest_monitor_call(live->guest->monitor, &error, "query-named-block-nodes", "{s:b}",
                                       "flat", 1),
           *each;
    size_t i;
    ck_assert_msg(nodes != NULL, "%s", error ? error->message : "?");
    json_array_foreach (nodes, i, each)
        g_string_append_printf(out, "node %s\n", json_string_value(json_object_get(each, "node-name")));
    json_decref(nodes);
}

static void add_files(World *world, GString *out)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(world->images, 0, NULL);
    const char *entry;
    while ((entry = g_dir_read_name(dir)))
        g_ptr_array_add(names, g_strdup(entry));
    g_ptr_array_sort(names, compare_texts);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = world_path(world, names->pdata[i]);
        g_autofree char *tags = strcmp(image_format(path), "qcow2") == 0 ? image_tags(path) : g_strdup("");
        g_string_append_printf(out, "file %s %o %s\n", (char *)names->pdata[i], file_mode(path), tags);
    }
}

char *live_shape(Live *live)
{
    World *world = live->world;
    GString *out = g_string_new(NULL);
    EngineId id = world_domain(world, live->name);
    g_autofree char *current = world_current(world, live->name);
    g_autofree char *xml = world_text(world, ENGINE_TEXT_DOMAIN_XML, id);
    g_string_append_printf(out, "current %s\n%s", current, xml);
    g_autoptr(GPtrArray) snapshots = world->engine->ops->list(world->engine, id);
    for (guint i = 0; i < snapshots->len; i++) {
        const EngineEntry *snapshot = snapshots->pdata[i];
        g_autofree char *document = world_text(world, ENGINE_TEXT_SNAPSHOT_XML, snapshot->id);
        g_string_append(out, document);
    }
    add_files(world, out);
    if (live->guest) {
        add_written(live, out);
        add_nodes(live, out);
    }
    return g_string_free(out, FALSE);
}
