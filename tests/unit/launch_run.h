/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine of tests/golden/launch/ that runs: its images are made, what has to be prepared is, a real QEMU
 * has its command line. Emulated, so that it needs nothing of the host. It ends with the test, however that
 * ends.
 */
#pragma once

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "launch_case.h"
#include "loops.h"
#include "nbd.h"
#include "qmp_peer.h"

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

static inline void make_file(const char *path, off_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_msg(fd >= 0 && ftruncate(fd, size) == 0, "%s: %s", path, g_strerror(errno));
    close(fd);
}

/* An image on @below (NULL: on nothing). */
static inline void make_image(DiskType type, const char *path, ImageFormat format, const BackingDef *below,
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

static inline void make_disk(const DiskDef *disk)
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

static inline void make_images(Machine *machine)
{
    for (guint i = 0; i < machine->def->disks->len; i++)
        make_disk(machine->def->disks->pdata[i]);
    static const char *const firmware[] = {"code,x.fd", "code.fd", "vars.fd", "bios.bin", "rom.bin"};
    for (guint i = 0; i < G_N_ELEMENTS(firmware); i++) {
        g_autofree char *path = g_build_filename(machine->dir, firmware[i], NULL);
        make_file(path, FLASH_BYTES);
    }
}

/* What the one who starts a machine has to prepare. */
static inline void prepare(const Launch *launch)
{
    for (guint i = 0; i < launch->overlays->len; i++) {
        const LaunchOverlay *overlay = launch->overlays->pdata[i];
        make_image(DISK_FILE, overlay->path, FORMAT_QCOW2, overlay->below, IMAGE_BYTES);
    }
    if (launch->nvram)
        tool("cp", launch->nvram_template, launch->nvram, NULL);
}

/* --- the document, with paths of this run --- */

static inline void replace(char **text, const char *from, const char *to)
{
    GString *all = g_string_new(*text);
    g_string_replace(all, from, to, 0);
    g_free(*text);
    *text = g_string_free(all, FALSE);
}

/* Devices of a volume group become loop devices. FALSE: there are none here. */
static inline gboolean replace_devices(Machine *machine, char **text)
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

static inline void start_nbd(Machine *machine, const char *text)
{
    g_autofree char *socket = g_build_filename(machine->dir, "nbd.sock", NULL);
    g_autofree char *image = g_build_filename(machine->dir, "exported", NULL);
    if (strstr(text, socket))
        machine->nbd = nbd_start(image, IMAGE_BYTES, socket);
}

static inline gboolean load(Machine *machine)
{
    g_autofree char *text = launch_case_text(machine->name, ".xml");
    const char *why = strstr(text, "not started: ");
    if (why) {
        printf("# %s is not started: %.*s\n", machine->name, (int)strcspn(why + 13, "-"), why + 13);
        return FALSE;
    }
    replace(&text, "/images", machine->dir);
    replace(&text, "/path/to", machine->dir);
    replace(&text, "port='5977'", "port='-1'"); /* whoever has that one here */
    if (!replace_devices(machine, &text))
        return !skip("there are no loop devices");
    start_nbd(machine, text);
    machine->def = launch_case_parse(machine->name, text);
    machine->backing = launch_case_backing(machine->def);
    make_images(machine);
    return TRUE;
}

/* --- QEMU --- */

static inline gboolean is_alive(gpointer user)
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

static inline void start(Machine *machine)
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
static inline void wait_for_end(Machine *machine)
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

static inline void clear(Machine *machine)
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

/* --- together --- */

static inline const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static inline void check_status(Machine *machine, QmpPeer *peer, const char *expected)
{
    json_t *status = qmp_peer_must(peer, "{\"execute\":\"query-status\"}");
    ck_assert_msg(g_strcmp0(text_of(status, "status"), expected) == 0, "%s is %s", machine->name,
                  text_of(status, "status"));
    json_decref(status);
}

/* The directory of a machine: "/images" in its document. */
static inline void place_machine(Machine *machine, const char *name, int number)
{
    *machine = (Machine){.name = name};
    machine->dir = g_strdup_printf("%s/%d", scratch, number);
    machine->log = g_strdup_printf("%s/%d/log", scratch, number);
    ck_assert(mkdir(machine->dir, 0755) == 0);
}

/* Start @def, the machine's document or one that was made of it. */
static inline void launch_machine(Machine *machine, const DomainDef *def)
{
    LaunchSpec spec = {.def = def, .backing = machine->backing, .directory = machine->dir};
    g_autoptr(GError) error = NULL;
    Launch *launch = launch_new(&spec, &error);
    ck_assert_msg(launch != NULL, "%s: %s", machine->name, error ? error->message : "");
    launch_free(machine->launch);
    machine->launch = launch;
    prepare(machine->launch);
    start(machine);
}

static inline QmpPeer open_monitor(Machine *machine, const char *path)
{
    QmpPeer peer = qmp_peer_open(path, is_alive, machine, SECONDS);
    qmp_peer_greet(&peer);
    return peer;
}

static inline void quit_machine(Machine *machine, QmpPeer *peer)
{
    json_decref(qmp_peer_must(peer, "{\"execute\":\"quit\"}"));
    fclose(peer->in);
    wait_for_end(machine);
}
