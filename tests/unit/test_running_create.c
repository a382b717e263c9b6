/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots of machines that run, beside the combination table: other disks, other states, options, and what is in the way. */
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "end_machines.h"
#include "own_mounts.h"
#include "runner.h"
#include "running_world.h"

#define EXPORTS "block-export-add block-export-add" /* how images are taken back after a migration */
#define OVERLAYS "blockdev-add(qcow2) blockdev-add(qcow2) transaction(blockdev-snapshot blockdev-snapshot)"
#define BOTH_INTERNAL "vda,snapshot=internal vdb,snapshot=internal"

/* A request as its options say; @memory MODE_NO: disk-only. */
static CreateRequest *ask_for(const char *name, const char *specs, SnapMode memory)
{
    CreateRequest *request = world_request(name, specs);
    request->memory = memory == MODE_NO ? MODE_DEFAULT : memory;
    request->disk_only = memory == MODE_NO;
    return request;
}

static void take(Live *live, const CreateRequest *request)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(world_try_request(live->world, live->name, request, &error), error);
}

static void take_simply(Live *live, const char *name, const char *specs, SnapMode memory)
{
    g_autoptr(CreateRequest) request = ask_for(name, specs, memory);
    take(live, request);
}

/* It fails for that reason, the guest goes on, and nothing has changed. */
static void refuse(Live *live, const CreateRequest *request, int code, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *before = live_shape(live);
    ck_assert(!world_try_request(live->world, live->name, request, &error));
    expect_error(&error, code, why);
    g_autofree char *after = live_shape(live);
    ck_assert_str_eq(after, before);
    live_goes_on(live);
}

static void expect_commands(Live *live, const char *commands)
{
    g_autofree char *said = live_commands(live);
    ck_assert_str_eq(said, commands);
}

static void expect_document(Live *live, const char *name, const char *piece)
{
    g_autofree char *xml =
        world_text(live->world, ENGINE_TEXT_SNAPSHOT_XML, world_snapshot(live->world, live->name, name));
    ck_assert_msg(strstr(xml, piece) != NULL, "no %s in %s", piece, xml);
}

static Live *start_web(World *world, const LiveSetup *setup)
{
    Live *web = live_define(world, "web", FILES("a.qcow2", "b.qcow2"), setup);
    live_start(web);
    return web;
}

static void finish(Live *live)
{
    world_reopen(live->world); /* what is recorded of frozen layers is what they are */
    live_goes_on(live);
    live_end(live);
    world_check_clean(live->world, live->name);
}

/* --- a machine that is paused stays so, and keeps its images --- */

static const struct {
    const char *specs;
    SnapMode memory;
} kinds[] = {
    {BOTH_EXTERNAL, MODE_NO},
    {BOTH_INTERNAL, MODE_NO},
    {BOTH_INTERNAL, MODE_INTERNAL},
    {BOTH_EXTERNAL, MODE_INTERNAL},
    {BOTH_EXTERNAL, MODE_EXTERNAL},
    {BOTH_INTERNAL, MODE_EXTERNAL},
    {"vda,snapshot=internal vdb,snapshot=external", MODE_NO},
    {"vda,snapshot=internal vdb,snapshot=external", MODE_INTERNAL},
    {"vda,snapshot=internal vdb,snapshot=external", MODE_EXTERNAL},
};

START_TEST(paused)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *name = g_strdup_printf("s%u", i);
        ASSERT_OK(live_power(web, POWER_PAUSE, &error), error);
        guint32 counter = live_counter(web);
        take_simply(web, name, kinds[i].specs, kinds[i].memory);
        live_stands(web);
        live_holds_images(web);
        live_agrees(web);
        live_snapshot_agrees(web, name, NULL);
        expect_document(web, name, kinds[i].memory == MODE_NO ? "<state>disk-snapshot" : "<state>paused");
        ck_assert_uint_eq(live_counter(web), counter);
        live_resume(web);
    }
    finish(web);
}
END_TEST

/* --- some disks internal, some external, in one snapshot --- */

START_TEST(mixed)
{
    static const char *const specs = "vda,snapshot=internal vdb,snapshot=external";
    static const char *const said[] = {
        "blockdev-add(qcow2) transaction(blockdev-snapshot-internal-sync blockdev-snapshot)",
        "stop snapshot-save(1) blockdev-add(qcow2) transaction(blockdev-snapshot) cont",
        "stop transaction(blockdev-snapshot-internal-sync) stop getfd migrate " EXPORTS
        " blockdev-add(qcow2) "
        "transaction(blockdev-snapshot) cont",
    };
    static const SnapMode memory[] = {MODE_NO, MODE_INTERNAL, MODE_EXTERNAL};
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(memory); i++) {
        g_autofree char *name = g_strdup_printf("s%u", i);
        guint32 before = live_counter(web);
        g_free(live_commands(web));
        take_simply(web, name, specs, memory[i]);
        guint32 after = live_counter(web);
        expect_commands(web, said[i]);
        live_goes_on(web);
        live_snapshot_agrees(web, name, NULL);
        if (memory[i] == MODE_NO)
            continue;
        guest_wait(web->guest, 70);
        live_proves(web, name, before, after);
        live_resume(web);
    }
    finish(web);
}
END_TEST

/* --- other disks --- */

/* A raw disk is no obstacle: left out of a checkpoint, under an overlay beside one, and what mkdir does by itself. */
START_TEST(raw)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = live_define(world, "web", FILES("a.qcow2", "b.raw"), NULL);
    g_autoptr(CreateRequest) no = ask_for("no", "vdb,snapshot=internal", MODE_INTERNAL);
    live_start(web);
    refuse(web, no, EOPNOTSUPP, "only qcow2 images can hold them");
    g_free(live_commands(web));
    take_simply(web, "beside", "vda,snapshot=internal vdb,snapshot=no", MODE_INTERNAL);
    expect_commands(web, "snapshot-save(1)");
    live_goes_on(web);
    guint32 before = live_counter(web);
    take_simply(web, "under", "vda,snapshot=internal vdb,snapshot=external", MODE_INTERNAL);
    guint32 after = live_counter(web);
    expect_commands(web, "stop snapshot-save(1) blockdev-add(qcow2) transaction(blockdev-snapshot) cont");
    live_goes_on(web);
    live_snapshot_agrees(web, "under", NULL);
    live_proves(web, "under", before, after);
    live_resume(web);
    finish(web);
}
END_TEST

START_TEST(raw_by_default)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = live_define(world, "web", FILES("a.qcow2", "b.raw"), NULL);
    g_autoptr(CreateRequest) plain = ask_for("s1", NULL, MODE_DEFAULT);
    live_start(web);
    plain->plain = TRUE;
    guint32 before = live_counter(web);
    g_free(live_commands(web));
    take(web, plain);
    guint32 after = live_counter(web);
    expect_commands(web, "stop getfd migrate " EXPORTS " " OVERLAYS " cont");
    guest_wait(web->guest, 70);
    live_proves(web, "s1", before, after);
    live_resume(web);
    finish(web);
}
END_TEST

#define CDROM                                                                                                \
    "    <disk type='file' device='cdrom'>\n"                                                                \
    "      <driver name='qemu' type='raw'/>\n"                                                               \
    "      <source file='%s'/>\n"                                                                            \
    "      <target dev='hdc' bus='ide'/>\n"                                                                  \
    "      <readonly/>\n"                                                                                    \
    "    </disk>\n"                                                                                          \
    "    <disk type='file' device='cdrom'>\n"                                                                \
    "      <driver name='qemu' type='raw'/>\n"                                                               \
    "      <target dev='hdd' bus='ide'/>\n"                                                                  \
    "      <readonly/>\n"                                                                                    \
    "    </disk>\n"

/* Three disks, and two drives that take no part; with memory and without. */
START_TEST(three_disks)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autofree char *iso = world_raw(world, "disc.iso", 7);
    g_autofree char *devices = g_strdup_printf(CDROM, iso);
    g_autoptr(Live) web =
        live_define(world, "web", FILES("a.qcow2", "b.qcow2", "c.qcow2"), &(LiveSetup){.devices = devices});
    live_start(web);
    for (guint i = 0; i < 3; i++) {
        static const SnapMode memory[] = {MODE_NO, MODE_DEFAULT, MODE_EXTERNAL};
        g_autofree char *name = g_strdup_printf("s%u", i);
        guint32 before = live_counter(web);
        take_simply(web, name, i == 1 ? NULL : BOTH_EXTERNAL " vdc,snapshot=external", memory[i]);
        guint32 after = live_counter(web);
        live_goes_on(web);
        live_snapshot_agrees(web, name, NULL);
        expect_document(web, name, "<disk name='hdc' snapshot='no'/>");
        expect_document(web, name, "<disk name='hdd' snapshot='no'/>");
        if (i == 0)
            continue;
        live_proves(web, name, before, after);
        live_resume(web);
    }
    ck_assert_uint_eq(file_mode(iso), 0644);
    finish(web);
}
END_TEST

/* --- options --- */

START_TEST(while_it_runs)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    g_autoptr(CreateRequest) request = ask_for("s1", BOTH_EXTERNAL, MODE_EXTERNAL);
    g_autoptr(CreateRequest) internal = ask_for("s2", BOTH_INTERNAL, MODE_EXTERNAL);
    g_autoptr(CreateRequest) checkpoint = ask_for("s3", BOTH_INTERNAL, MODE_INTERNAL);
    g_autoptr(CreateRequest) only = ask_for("s4", BOTH_EXTERNAL, MODE_NO);
    request->live = internal->live = checkpoint->live = only->live = TRUE;
    refuse(web, internal, EOPNOTSUPP, "live goes with external disks");
    refuse(web, checkpoint, EOPNOTSUPP, "external memory");
    refuse(web, only, EOPNOTSUPP, "external memory");
    guint32 before = live_counter(web);
    g_free(live_commands(web));
    take(web, request);
    guint32 after = live_counter(web);
    expect_commands(web, "getfd migrate " EXPORTS " " OVERLAYS " cont");
    live_goes_on(web);
    guest_wait(web->guest, 70);
    live_proves(web, "s1", before, after);
    live_resume(web);
    finish(web);
}
END_TEST

/* Ended at that very instant: also memory alone can be gone back to, as long as nobody has written the disks. */
START_TEST(halt)
{
    static const struct {
        const char *specs;
        SnapMode memory;
    } ways[] = {{"vda,snapshot=no vdb,snapshot=no", MODE_EXTERNAL},
                {"vda,snapshot=no vdb,snapshot=no", MODE_INTERNAL},
                {BOTH_EXTERNAL, MODE_EXTERNAL},
                {BOTH_INTERNAL, MODE_INTERNAL}};
    g_autofree char *dir = g_strdup_printf("world%d", _i);
    g_autoptr(World) world = running_world_new(PATH(dir));
    g_autoptr(Live) web = start_web(world, NULL);
    g_autoptr(CreateRequest) request = ask_for("s1", ways[_i].specs, ways[_i].memory);
    request->halt = TRUE;
    guint32 before = live_counter(web);
    pid_t pid = live_pid(web);
    take(web, request);
    live_leave(web);
    g_autofree char *state = world_text(world, ENGINE_TEXT_STATE, world_domain(world, "web"));
    ck_assert_str_eq(state, "shutoff\n");
    ck_assert(!is_qemu_in(pid, world->dir));
    world_check_clean(world, "web");
    live_proves(web, "s1", before, before + 2000);
    live_resume(web);
    finish(web);
}
END_TEST

/* Memory alone, of a machine that has run on: its disks are others now. */
START_TEST(memory_alone)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_strdup_printf("world%d", _i);
    g_autoptr(World) world = running_world_new(PATH(dir));
    g_autoptr(Live) web = start_web(world, NULL);
    take_simply(web, "s1", "vda,snapshot=no vdb,snapshot=no", _i ? MODE_INTERNAL : MODE_EXTERNAL);
    live_goes_on(web);
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EPERM, "memory alone");
    live_goes_on(web);
    live_end(web);
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EPERM, "has changed since");
    world_check_clean(world, "web");
}
END_TEST

START_TEST(memory_file)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    g_autofree char *there = world_path(world, "there"), *fresh = world_path(world, "fresh"),
                    *nowhere = world_path(world, "no/where");
    ck_assert(g_file_set_contents(there, "precious", -1, NULL));
    g_autoptr(CreateRequest) request = ask_for("s1", BOTH_EXTERNAL, MODE_EXTERNAL);
    g_autofree char *before = file_hash(there);
    request->memory_file = there;
    refuse(web, request, EEXIST, "exists already");
    request->memory_file = nowhere;
    refuse(web, request, ENOENT, NULL);
    request->memory_file = fresh;
    take(web, request);
    request->memory_file = NULL;
    g_autofree char *after = file_hash(there);
    ck_assert_str_eq(after, before);
    live_goes_on(web);
    expect_document(web, "s1", "/fresh'/>");
    ck_assert_uint_eq(file_mode(fresh), 0600);
    live_proves(web, "s1", 0, G_MAXUINT32);
    live_resume(web);
    finish(web);
}
END_TEST

/* Is the memory of snapshot @name to be seen? */
static gboolean shows_memory(World *world, const char *name)
{
    EngineStat stat;
    EngineId id = world_snapshot(world, "web", name);
    gboolean seen = world->engine->ops->stat_file(world->engine, id, ENGINE_FILE_MEMORY, &stat);
    int fd = world->engine->ops->open_file(world->engine, id, ENGINE_FILE_MEMORY, NULL);
    ck_assert_int_eq(fd >= 0, seen);
    if (fd >= 0)
        close(fd);
    return seen;
}

/* Memory that was restored from a backup is another file: what is seen of it and what a revert takes is the same. */
START_TEST(memory_from_a_backup)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    g_autofree char *file = PATH("memory"), *backup = PATH("backup");
    g_autoptr(CreateRequest) request = ask_for("s1", BOTH_EXTERNAL, MODE_EXTERNAL);
    g_autoptr(GError) error = NULL;
    request->memory_file = g_strdup(file);
    take(web, request);
    ck_assert(shows_memory(world, "s1"));
    tool("cp", file, backup, NULL);
    ck_assert_int_eq(rename(backup, file), 0);
    ck_assert(shows_memory(world, "s1"));
    live_proves(web, "s1", 0, G_MAXUINT32);
    live_resume(web);
    ck_assert_int_eq(unlink(file), 0);
    ck_assert(g_file_set_contents(file, "something else", -1, NULL));
    ck_assert(!shows_memory(world, "s1"));
    ck_assert(!world_try_revert(world, "web", "s1", &error));
    expect_error(&error, EINVAL, "memory: ");
    finish(web);
}
END_TEST

/* No room for the memory: the guest goes on, nothing is left. */
START_TEST(no_room)
{
    g_autofree char *small = PATH("small"), *file = g_build_filename(small, "memory", NULL);
    ck_assert_int_eq(mkdir(small, 0755), 0);
    if (!own_tmpfs(small, "size=256k") && skip("a file system of our own cannot be mounted here"))
        return;
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    for (guint i = 0; i < 4; i++) {
        static const SnapMode memory[] = {MODE_EXTERNAL, MODE_INTERNAL};
        g_autoptr(CreateRequest) request =
            ask_for("s1", i < 2 ? BOTH_EXTERNAL : "vda,snapshot=no vdb,snapshot=no", memory[i % 2]);
        request->memory_file = g_strdup(file);
        refuse(web, request, i % 2 ? EIO : ENOSPC, NULL); /* of a checkpoint QEMU does not say more */
        ck_assert_int_lt(access(file, F_OK), 0);
    }
    g_autoptr(CreateRequest) internal = ask_for("s1", BOTH_INTERNAL, MODE_EXTERNAL);
    internal->memory_file = g_strdup(file);
    refuse(web, internal, ENOSPC, NULL);
    world_create(world, "web", "s1", NULL); /* where there is room */
    finish(web);
}
END_TEST

/* --- no room in the store --- */

static void fill(gpointer data)
{
    static const char page[4096];
    int fd = open(data, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    while (write(fd, page, sizeof page) > 0)
        continue;
    close(fd);
}

/* Take snapshot number @n with the disk full from the @n-th point on: it has been taken if QEMU was told, and only then. */
static gboolean take_when_full(Live *web, guint n, char *full)
{
    g_autoptr(CreateRequest) request = ask_for(NULL, BOTH_EXTERNAL, MODE_NO);
    g_autoptr(GError) error = NULL;
    g_autofree char *before = live_shape(web);
    request->name = g_strdup_printf("s%u", n);
    g_free(live_commands(web));
    trap_call(n, fill, full);
    gboolean ok = world_try_request(web->world, "web", request, &error);
    trap_set(TRAP_OFF, 0, 0);
    (void)unlink(full); /* how many points there are differs by some */
    g_autofree char *said = live_commands(web);
    ck_assert_msg(ok == (strstr(said, "transaction") != NULL), "point %u: %s, and QEMU was told: %s", n,
                  ok ? "taken" : error->message, said);
    ck_assert_int_eq(world_snapshot(web->world, "web", request->name) != 0, ok);
    if (ok) {
        world_reopen(web->world); /* which completes it */
        return TRUE;
    }
    expect_error(&error, ENOSPC, NULL);
    g_autofree char *after = live_shape(web);
    ck_assert_str_eq(after, before);
    return FALSE;
}

/*
 * The store's file system is full from one point on: as long as QEMU has not been told, the snapshot fails and nothing has
 * changed; from then on it succeeds, and what could not be written is completed by the next command. Where the one becomes
 * the other is searched for.
 */
START_TEST(store_is_full)
{
    g_autofree char *store = PATH("world/store"), *full = g_build_filename(store, "full", NULL);
    ck_assert_int_eq(g_mkdir_with_parents(store, 0700), 0);
    if (!own_tmpfs(store, "size=1m,mode=700") && skip("a file system of our own cannot be mounted here"))
        return;
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    trap_set(TRAP_OFF, 0, 0);
    take_simply(web, "s0", BOTH_EXTERNAL, MODE_NO);
    guint failing = 1, working = trap_seen();
    ck_assert_uint_gt(working, 20);
    ck_assert(!take_when_full(web, failing, full));
    while (working - failing > 1) {
        guint n = (working + failing) / 2;
        *(take_when_full(web, n, full) ? &working : &failing) = n;
    }
    take_simply(web, "last", BOTH_EXTERNAL, MODE_NO);
    live_snapshot_agrees(web, "last", NULL);
    finish(web);
}
END_TEST

#define AGENT                                                                                                \
    "    <channel type='unix'>\n"                                                                            \
    "      <target type='virtio' name='org.qemu.guest_agent.0'/>\n"                                          \
    "    </channel>\n"

START_TEST(quiesce_without_agent)
{
    g_autofree char *dir = g_strdup_printf("world%d", _i);
    g_autoptr(World) world = running_world_new(PATH(dir));
    g_autoptr(Live) web = start_web(world, _i ? &(LiveSetup){.devices = AGENT} : NULL);
    g_autoptr(CreateRequest) request = ask_for("s1", BOTH_EXTERNAL, MODE_NO);
    g_autoptr(CreateRequest) memory = ask_for("s1", BOTH_EXTERNAL, MODE_EXTERNAL);
    request->quiesce = memory->quiesce = TRUE;
    if (_i)
        refuse(web, request, ETIMEDOUT, "agent");
    else
        refuse(web, request, EOPNOTSUPP, "no channel for a guest agent");
    expect_commands(web, "");
    refuse(web, memory, EINVAL, "quiesce goes with disk-only");
    finish(web);
}
END_TEST

/* A guest agent, at the socket where QEMU's own would be: the test guest has none. */
typedef struct {
    Live *live;
    int listener;
    gboolean refuses;
    GThread *thread;
    GString *
        heard; /* of the thread until it has ended: what it was told, and whether the transaction had been then */
} Agent;

static char *answer_of(Agent *agent, const char *line)
{
    const char *begin = strchr(line, '{');
    json_t *json = begin ? json_loads(begin, 0, NULL) : NULL;
    const char *command = json_string_value(json_object_get(json, "execute"));
    json_int_t id = json_integer_value(json_object_get(json_object_get(json, "arguments"), "id"));
    gboolean sync = g_strcmp0(command, "guest-sync") == 0;
    if (!sync)
        g_string_append_printf(agent->heard, "%s %s\n", command ? command : line,
                               live_was_told(agent->live, "transaction") ? "after" : "before");
    gboolean no = agent->refuses && g_strcmp0(command, "guest-fsfreeze-freeze") == 0;
    json_decref(json);
    if (no)
        return g_strdup("{\"error\": {\"class\": \"GenericError\", \"desc\": \"failed to freeze /\"}}\n");
    return g_strdup_printf("{\"return\": %" JSON_INTEGER_FORMAT "}\n", sync ? id : 1);
}

static gpointer be_agent(gpointer data)
{
    Agent *agent = data;
    int client;
    while ((client = accept(agent->listener, NULL, NULL)) >= 0) {
        FILE *in = fdopen(client, "r");
        char *line = NULL;
        size_t size = 0;
        while (getline(&line, &size, in) > 0) {
            g_autofree char *answer = answer_of(agent, line);
            (void)send(client, answer, strlen(answer), MSG_NOSIGNAL);
        }
        free(line);
        fclose(in);
    }
    return NULL;
}

static void agent_begin(Agent *agent, Live *live, gboolean refuses)
{
    g_autofree char *path = g_strdup_printf("%s/%s.agent", live->world->run, live->name);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    ck_assert_uint_lt(g_strlcpy(address.sun_path, path, sizeof address.sun_path), sizeof address.sun_path);
    ck_assert_int_eq(unlink(path), 0);
    *agent = (Agent){live, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), refuses, NULL, g_string_new(NULL)};
    ck_assert_int_eq(bind(agent->listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(agent->listener, 4), 0);
    agent->thread = g_thread_new("agent", be_agent, agent);
}

/* What it was told. Caller frees. */
static char *agent_end(Agent *agent)
{
    shutdown(agent->listener, SHUT_RDWR);
    g_thread_join(agent->thread);
    close(agent->listener);
    return g_string_free(agent->heard, FALSE);
}

/* Frozen before the transaction, thawed after it; and thawed also when the freezing, or the transaction, fails. */
START_TEST(quiesce)
{
    g_autofree char *dir = g_strdup_printf("world%d", _i);
    g_autoptr(World) world = running_world_new(PATH(dir));
    g_autoptr(Live) web = start_web(world, &(LiveSetup){.devices = AGENT});
    g_autoptr(CreateRequest) request = ask_for("s1", BOTH_EXTERNAL, MODE_NO);
    g_autofree char *target = g_build_filename(world->dir, "backup", NULL);
    g_autoptr(GError) error = NULL;
    Agent agent;
    request->quiesce = TRUE;
    g_free(live_commands(web));
    agent_begin(&agent, web, _i == 1);
    if (_i == 2) /* somebody's job has the second disk */
        guest_monitor_do(web->guest->monitor, "drive-backup", "{s:s, s:s, s:s, s:s, s:s}", "job-id", "job",
                         "device", "disk-vdb-0", "target", target, "sync", "none", "format", "qcow2");
    gboolean ok = world_try_request(world, "web", request, &error);
    g_autofree char *heard = agent_end(&agent);
    ck_assert_int_eq(ok, _i == 0);
    ck_assert_str_eq(heard, _i != 1 ? "guest-fsfreeze-freeze before\nguest-fsfreeze-thaw after\n"
                                    : "guest-fsfreeze-freeze before\nguest-fsfreeze-thaw before\n");
    if (_i == 2)
        guest_monitor_do(web->guest->monitor, "block-job-cancel", "{s:s}", "device", "job");
    live_goes_on(web);
    if (ok)
        live_snapshot_agrees(web, "s1", NULL);
    finish(web);
}
END_TEST

/* The images are changed and nothing is recorded. */
START_TEST(no_metadata)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    g_auto(GStrv) before = live_images(web);
    g_autoptr(CreateRequest) external = ask_for("x", BOTH_EXTERNAL, MODE_NO);
    g_autoptr(CreateRequest) internal = ask_for("y", BOTH_INTERNAL, MODE_INTERNAL);
    external->no_metadata = internal->no_metadata = TRUE;
    take(web, external);
    live_goes_on(web);
    g_auto(GStrv) after = live_images(web);
    ck_assert(guest_disks_agree((const char *const *)before, NULL, NULL, NULL));
    take(web, internal);
    live_goes_on(web);
    ck_assert(guest_disks_agree((const char *const *)after, "y", NULL, NULL));
    g_autofree char *names = world_names(world, "web");
    ck_assert_str_eq(names, "");
    finish(web);
}
END_TEST

/* A machine with a display: its picture is there. */
START_TEST(picture)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web =
        start_web(world, &(LiveSetup){.devices = "    <video>\n      <model type='vga'/>\n    </video>\n"});
    char magic[8] = "";
    take_simply(web, "s1", BOTH_EXTERNAL, MODE_NO);
    int fd = world->engine->ops->open_file(world->engine, world_snapshot(world, "web", "s1"),
                                           ENGINE_FILE_SCREENSHOT, &error);
    ASSERT_OK(fd >= 0, error);
    ck_assert_int_eq(read(fd, magic, sizeof magic), (ssize_t)sizeof magic);
    ck_assert_int_eq(memcmp(magic, "\x89PNG\r\n\x1a\n", sizeof magic), 0);
    close(fd);
    live_goes_on(web);
    finish(web);
}
END_TEST

/* --- two at once, and how long --- */

static gpointer take_in_thread(gpointer data)
{
    Live *live = data;
    for (guint i = 0; i < 3; i++) {
        static const SnapMode memory[] = {MODE_NO, MODE_INTERNAL, MODE_EXTERNAL};
        g_autofree char *name = g_strdup_printf("s%u", i);
        take_simply(live, name, i == 1 ? BOTH_INTERNAL : BOTH_EXTERNAL, memory[i]);
    }
    return NULL;
}

START_TEST(two_domains)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    g_autoptr(Live) mail = live_define(world, "mail", FILES("c.qcow2", "d.qcow2"), NULL);
    live_start(mail);
    GThread *thread = g_thread_new("web", take_in_thread, web);
    take_in_thread(mail);
    g_thread_join(thread);
    Live *both[] = {web, mail};
    for (guint i = 0; i < 2; i++) {
        live_goes_on(both[i]);
        for (guint j = 0; j < 3; j++) {
            g_autofree char *name = g_strdup_printf("s%u", j);
            live_snapshot_agrees(both[i], name, NULL);
        }
        live_proves(both[i], "s2", 0, G_MAXUINT32);
        live_resume(both[i]);
    }
    live_end(mail);
    finish(web);
    world_check_clean(world, "mail");
}
END_TEST

/* Nothing in it waits for a clock: of some, one at least is quick. */
START_TEST(quick)
{
    g_autoptr(World) world = running_world_new(PATH("world"));
    g_autoptr(Live) web = start_web(world, NULL);
    gint64 took = G_MAXINT64;
    for (guint i = 0; i < 20 && took > 500000; i++) {
        g_autofree char *name = g_strdup_printf("s%u", i);
        gint64 begin = g_get_monotonic_time();
        take_simply(web, name, BOTH_EXTERNAL, MODE_NO);
        took = g_get_monotonic_time() - begin;
    }
    ck_assert_int_le(took, 500000);
    finish(web);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("running_create");
    TCase *states = machines_case(suite, "states"), *disks = machines_case(suite, "disks"),
          *options = machines_case(suite, "options"), *more = machines_case(suite, "more");
    tcase_add_test(states, paused);
    tcase_add_loop_test(states, halt, 0, 4);
    tcase_add_loop_test(states, memory_alone, 0, 2);
    tcase_add_test(disks, mixed);
    tcase_add_test(disks, raw);
    tcase_add_test(disks, raw_by_default);
    tcase_add_test(disks, three_disks);
    tcase_add_test(options, while_it_runs);
    tcase_add_test(options, memory_file);
    tcase_add_test(options, memory_from_a_backup);
    tcase_add_loop_test(options, quiesce_without_agent, 0, 2);
    tcase_add_loop_test(options, quiesce, 0, 3);
    tcase_add_test(options, no_metadata);
    tcase_add_test(options, picture);
    tcase_add_test(more, no_room);
    tcase_add_test(more, store_is_full);
    tcase_add_test(more, two_domains);
    tcase_add_test(more, quick);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
