/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machines of tests/golden/launch/, started: a real QEMU with each command line, stopped before its first instruction,
 * asked through QMP whether it is what was described. Emulated, so that it needs nothing of the host. A document that cannot
 * be started says why in a comment "not started: REASON".
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "launch_case.h"
#include "loops.h"
#include "nbd.h"
#include "qmp_peer.h"
#include "runner.h"

static GPtrArray *names;
enum { SECONDS = 60, IMAGE_BYTES = 1 << 20, FLASH_BYTES = 1 << 19, FLOPPY_BYTES = 1474560 };

typedef struct {
    const char *name;
    char *dir; /* stands for "/images" and for the directory of sockets */
    char *log;
    DomainDef *def;
    GHashTable *backing;
    Launch *launch;
    NbdServer *nbd;
    pid_t pid;
} Machine;

/* --- images --- */

static void make_file(const char *path, off_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_msg(fd >= 0 && ftruncate(fd, size) == 0, "%s: %s", path, g_strerror(errno));
    close(fd);
}

/* An image on @below (NULL: on nothing). */
static void make_image(DiskType type, const char *path, ImageFormat format, const BackingDef *below,
                       off_t size)
{
    const char *word = image_format_to_string(format);
    g_autofree char *bytes = g_strdup_printf("%lld", (long long)size);
    if (format == FORMAT_RAW) {
        if (type == DISK_FILE)
            make_file(path, size);
    } else if (below) {
        tool("qemu-img", "create", "-q", "-u", "-f", word, "-b", below->path, "-F",
             image_format_to_string(below->format), path, bytes, NULL);
    } else {
        tool("qemu-img", "create", "-q", "-f", word, path, bytes, NULL);
    }
}

static void make_disk(const DiskDef *disk)
{
    off_t size = disk->device == DEVICE_FLOPPY ? FLOPPY_BYTES : IMAGE_BYTES;
    ImageFormat format = disk->format != FORMAT_NONE ? disk->format : FORMAT_RAW;
    for (guint i = disk->backing->len; i-- > 0;) {
        const BackingDef *level = disk->backing->pdata[i];
        make_image(level->type, level->path, level->format,
                   i + 1 < disk->backing->len ? disk->backing->pdata[i + 1] : NULL, size);
    }
    if (disk->source)
        make_image(disk->type, disk->source, format, disk->backing->len > 0 ? disk->backing->pdata[0] : NULL,
                   size);
}

static void make_images(Machine *machine)
{
    for (guint i = 0; i < machine->def->disks->len; i++)
        make_disk(machine->def->disks->pdata[i]);
    static const char *const flashes[] = {"code,x.fd", "code.fd", "vars.fd"};
    for (guint i = 0; i < G_N_ELEMENTS(flashes); i++) {
        g_autofree char *path = g_build_filename(machine->dir, flashes[i], NULL);
        make_file(path, FLASH_BYTES);
    }
}

/* What the one who starts a machine has to prepare. */
static void prepare(const Launch *launch)
{
    for (guint i = 0; i < launch->overlays->len; i++) {
        const LaunchOverlay *overlay = launch->overlays->pdata[i];
        make_image(DISK_FILE, overlay->path, FORMAT_QCOW2, overlay->below, IMAGE_BYTES);
    }
    if (launch->nvram)
        tool("cp", launch->nvram_template, launch->nvram, NULL);
}

/* --- the document, with paths of this run --- */

static void replace(char **text, const char *from, const char *to)
{
    GString *all = g_string_new(*text);
    g_string_replace(all, from, to, 0);
    g_free(*text);
    *text = g_string_free(all, FALSE);
}

/* Devices of a volume group become loop devices. FALSE: there are none here. */
static gboolean replace_devices(Machine *machine, char **text)
{
    for (guint i = 0; strstr(*text, "/dev/HostVG/"); i++) {
        const char *at = strstr(*text, "/dev/HostVG/");
        g_autofree char *path = g_strndup(at, strcspn(at, "'"));
        g_autofree char *file = g_strdup_printf("%s/device%u", machine->dir, i);
        if (!loops_work())
            return FALSE;
        g_autofree char *device = loop_attach(file, 4 * IMAGE_BYTES);
        replace(text, path, device);
    }
    return TRUE;
}

static void start_nbd(Machine *machine, const char *text)
{
    g_autofree char *socket = g_build_filename(machine->dir, "nbd.sock", NULL);
    g_autofree char *image = g_build_filename(machine->dir, "exported", NULL);
    if (strstr(text, socket))
        machine->nbd = nbd_start(image, IMAGE_BYTES, socket);
}

static gboolean load(Machine *machine)
{
    g_autofree char *text = launch_case_text(machine->name, ".xml");
    const char *why = strstr(text, "not started: ");
    if (why) {
        printf("# %s is not started: %.*s\n", machine->name, (int)strcspn(why + 13, "-"), why + 13);
        return FALSE;
    }
    replace(&text, "/images", machine->dir);
    replace(&text, "/path/to", machine->dir);
    if (!replace_devices(machine, &text))
        return !skip("there are no loop devices");
    start_nbd(machine, text);
    machine->def = launch_case_parse(machine->name, text);
    machine->backing = launch_case_backing(machine->def);
    make_images(machine);
    return TRUE;
}

/* --- QEMU --- */

static gboolean is_alive(gpointer user)
{
    Machine *machine = user;
    if (machine->pid > 0 && waitpid(machine->pid, NULL, WNOHANG) == 0)
        return TRUE;
    g_autofree char *words = NULL;
    if (g_file_get_contents(machine->log, &words, NULL, NULL) && *words)
        printf("# %s: %s\n", machine->name, g_strdelimit(words, "\n", ' '));
    fflush(stdout);
    machine->pid = 0;
    return FALSE;
}

static void start(Machine *machine)
{
    pid_t parent = getpid();
    fflush(NULL);
    machine->pid = fork();
    ck_assert_int_ge(machine->pid, 0);
    if (machine->pid > 0)
        return;
    int fd = open(machine->log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || fd < 0)
        _exit(126);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execv(machine->launch->argv->pdata[0], (char **)machine->launch->argv->pdata);
    _exit(127);
}

/* It ends by itself, and well. */
static void wait_for_end(Machine *machine)
{
    gint64 end = g_get_monotonic_time() + SECONDS * G_USEC_PER_SEC;
    int status;
    while (waitpid(machine->pid, &status, WNOHANG) == 0) {
        ck_assert_msg(g_get_monotonic_time() < end, "%s does not end", machine->name);
        g_usleep(5000);
    }
    machine->pid = 0;
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s ends with %d", machine->name, status);
}

static void clear(Machine *machine)
{
    if (machine->pid > 0 && kill(machine->pid, SIGKILL) == 0)
        waitpid(machine->pid, NULL, 0);
    if (machine->nbd)
        nbd_free(machine->nbd);
    launch_free(machine->launch);
    domain_def_free(machine->def);
    if (machine->backing)
        g_hash_table_unref(machine->backing);
    g_free(machine->dir);
    g_free(machine->log);
}

/* --- what it is --- */

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* The drive of @device, which QEMU calls by the path of the device or of a part of it. */
static json_t *find_drive(json_t *drives, const char *device)
{
    g_autofree char *part = g_strdup_printf("/machine/peripheral/%s", device);
    size_t i;
    json_t *drive;
    json_array_foreach (drives, i, drive) {
        const char *path = text_of(drive, "qdev");
        if (path && (strcmp(path, device) == 0 ||
                     (g_str_has_prefix(path, part) && strchr("/", path[strlen(part)]) != NULL)))
            return drive;
    }
    return NULL;
}

/* Each disk is there under its name, with its node, or is empty. */
static void check_disks(Machine *machine, QmpPeer *peer)
{
    json_t *drives = qmp_peer_must(peer, "{\"execute\":\"query-block\"}");
    for (guint i = 0; i < machine->launch->disks->len; i++) {
        const LaunchDisk *disk = machine->launch->disks->pdata[i];
        json_t *drive = find_drive(drives, disk->device);
        ck_assert_msg(drive != NULL, "%s: there is no drive '%s'", machine->name, disk->device);
        const char *node = text_of(json_object_get(drive, "inserted"), "node-name");
        ck_assert_msg(g_strcmp0(node, disk->node) == 0, "%s: '%s' has node %s, not %s", machine->name,
                      disk->target, node ? node : "none", disk->node ? disk->node : "none");
    }
    json_decref(drives);
}

/* Exactly the nodes that were named: QEMU has opened nothing else. */
static void check_nodes(Machine *machine, QmpPeer *peer)
{
    json_t *nodes =
        qmp_peer_must(peer, "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}");
    g_autoptr(GHashTable) named = g_hash_table_new(g_str_hash, g_str_equal);
    size_t i;
    json_t *node;
    guint expected = 0;
    for (guint n = 0; n < machine->launch->argv->len - 1; n++)
        expected += strcmp(machine->launch->argv->pdata[n], "-blockdev") == 0;
    json_array_foreach (nodes, i, node) {
        ck_assert_msg(text_of(node, "node-name")[0] != '#', "%s: QEMU opened %s by itself", machine->name,
                      text_of(node, "file"));
        g_hash_table_add(named, (gpointer)text_of(node, "node-name"));
    }
    ck_assert_uint_eq(g_hash_table_size(named), expected);
    for (guint n = 0; n < machine->launch->disks->len; n++) {
        const LaunchDisk *disk = machine->launch->disks->pdata[n];
        ck_assert(!disk->file_node || g_hash_table_contains(named, disk->file_node));
        for (guint level = 0; level < disk->levels; level++) {
            g_autofree char *name = launch_node_name(disk->target, level);
            ck_assert_msg(g_hash_table_contains(named, name), "%s: no node %s", machine->name, name);
        }
    }
    json_decref(nodes);
}

static json_t *get_property(QmpPeer *peer, const char *id, const char *property)
{
    g_autofree char *command = g_strdup_printf(
        "{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"/machine/peripheral/%s\",\"property\":\"%s\"}}",
        id, property);
    return qmp_peer_must(peer, command);
}

/* A PCI device is on the bus and in the slot that the document, completed, says. */
static void check_place(Machine *machine, QmpPeer *peer, const char *id, const char *bus, const char *addr)
{
    guint slot = 0, function = 0;
    ck_assert_int_ge(sscanf(addr, "0x%x.0x%x", &slot, &function), 1);
    json_t *is = get_property(peer, id, "addr"), *parent = get_property(peer, id, "parent_bus");
    const char *path = json_string_value(parent);
    ck_assert_msg(json_integer_value(is) == (slot << 3 | function) && path && g_str_has_suffix(path, bus),
                  "%s: %s is at %x of %s, not at %s of %s", machine->name, id, (guint)json_integer_value(is),
                  path, addr, bus);
    json_decref(is);
    json_decref(parent);
}

static void check_devices(Machine *machine, QmpPeer *peer)
{
    const GPtrArray *argv = machine->launch->argv;
    for (guint i = 0; i + 2 < argv->len; i++) {
        if (strcmp(argv->pdata[i], "-device") != 0)
            continue;
        json_t *device = json_loads(argv->pdata[i + 1], 0, NULL);
        ck_assert_ptr_nonnull(device);
        json_decref(get_property(peer, text_of(device, "id"), "type"));
        if (text_of(device, "addr"))
            check_place(machine, peer, text_of(device, "id"), text_of(device, "bus"),
                        text_of(device, "addr"));
        json_decref(device);
    }
}

/* A monitor for us, and one for somebody else at the same time. */
static void check_status(Machine *machine, QmpPeer *peer, const char *expected)
{
    json_t *status = qmp_peer_must(peer, "{\"execute\":\"query-status\"}");
    ck_assert_msg(g_strcmp0(text_of(status, "status"), expected) == 0, "%s is %s", machine->name,
                  text_of(status, "status"));
    json_decref(status);
}

static void check_machine(Machine *machine)
{
    QmpPeer peer = qmp_peer_open(machine->launch->monitor, is_alive, machine, SECONDS);
    QmpPeer other = qmp_peer_open(machine->launch->second_monitor, is_alive, machine, SECONDS);
    qmp_peer_greet(&peer);
    qmp_peer_greet(&other);
    check_status(machine, &peer, "prelaunch");
    check_status(machine, &other, "prelaunch");
    check_disks(machine, &peer);
    check_nodes(machine, &peer);
    check_devices(machine, &peer);
    for (guint i = 0; i < machine->launch->commands->len; i++)
        json_decref(qmp_peer_must(&peer, machine->launch->commands->pdata[i]));
    for (guint i = 0; i < machine->launch->sockets->len; i++)
        ck_assert_msg(access(machine->launch->sockets->pdata[i], F_OK) == 0, "%s: no socket '%s'",
                      machine->name, (char *)machine->launch->sockets->pdata[i]);
    json_decref(qmp_peer_must(&peer, "{\"execute\":\"cont\"}"));
    check_status(machine, &other, "running");
    json_decref(qmp_peer_must(&peer, "{\"execute\":\"quit\"}"));
    fclose(peer.in);
    fclose(other.in);
    wait_for_end(machine);
}

START_TEST(machines)
{
    Machine machine = {.name = names->pdata[_i]};
    machine.dir = g_strdup_printf("%s/%d", scratch, _i);
    machine.log = g_strdup_printf("%s/%d/log", scratch, _i);
    ck_assert(mkdir(machine.dir, 0755) == 0);
    if (load(&machine)) {
        LaunchSpec spec = {.def = machine.def, .backing = machine.backing, .directory = machine.dir};
        g_autoptr(GError) error = NULL;
        machine.launch = launch_new(&spec, &error);
        ck_assert_msg(machine.launch != NULL, "%s: %s", machine.name, error ? error->message : "");
        prepare(machine.launch);
        start(&machine);
        check_machine(&machine);
    }
    clear(&machine);
}
END_TEST

static Suite *suite(void)
{
    guint files;
    Suite *suite = suite_create("launch_start");
    TCase *tcase = loops_case(suite, "launch_start");
    names = launch_cases(&files);
    tcase_add_loop_test(tcase, machines, 0, (int)names->len);
    return suite;
}

int main(void)
{
    g_autofree char *program = g_find_program_in_path("qemu-system-x86_64");
    if (!program) {
        printf("1..0 # SKIP not installed: qemu-system-x86_64\n");
        return EXIT_SUCCESS;
    }
    return run_suite(suite());
}
