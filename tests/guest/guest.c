/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "guest_fail.h"
#include "guest_look.h"

#define PATIENCE (90 * G_USEC_PER_SEC)

const char *guest_disk_format(const char *path)
{
    return g_str_has_suffix(path, ".raw") ? "raw" : g_str_has_suffix(path, ".qed") ? "qed" : "qcow2";
}

static void run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *output = NULL, *errors = NULL;
    int status = 0;
    gboolean ok = g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &output, &errors,
                               &status, &error);
    if (!ok || !g_spawn_check_wait_status(status, NULL))
        guest_fail("%s: %s", argv[0], ok ? errors : error->message);
}

void guest_disk_make(const char *path, guint mib)
{
    g_autofree char *raw = g_strconcat(path, ".boot", NULL);
    if (!g_file_set_contents(raw, (const char *)guest_boot, GUEST_SECTOR, NULL) ||
        truncate(raw, (off_t)mib << 20) < 0)
        guest_fail("cannot write '%s'", raw);
    run((const char *[]){"qemu-img", "convert", "-f", "raw", "-O", guest_disk_format(path), raw, path, NULL});
    unlink(raw);
}

gboolean guest_has_kvm(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int machine = kvm >= 0 ? ioctl(kvm, KVM_CREATE_VM, 0) : -1;
    if (machine >= 0)
        close(machine);
    if (kvm >= 0)
        close(kvm);
    return machine >= 0;
}

const char *guest_accel(void)
{
    const char *wanted = g_getenv("GUEST_ACCEL");
    return wanted ? wanted : "tcg";
}

static void add(GPtrArray *argv, const char *option, char *value)
{
    g_ptr_array_add(argv, g_strdup(option));
    g_ptr_array_add(argv, value);
}

/* How a disk is plugged in: a device of its own, behind a controller (or NULL), on a machine. */
static const struct {
    const char *name, *device, *controller, *machine;
} buses[] = {
    {"virtio", "virtio-blk-pci", NULL, "pc"},   {"ide", "ide-hd", NULL, "pc"},
    {"sata", "ide-hd,bus=ide.%u", NULL, "q35"}, {"scsi", "scsi-hd", "virtio-scsi-pci", "pc"},
    {"usb", "usb-storage", "usb-ehci", "pc"},
};

static guint bus_number(const GuestSetup *setup)
{
    for (guint i = 0; setup->bus && i < G_N_ELEMENTS(buses); i++)
        if (g_str_equal(buses[i].name, setup->bus))
            return i;
    if (setup->bus)
        guest_fail("no bus '%s'", setup->bus);
    return 0;
}

/* One disk. no-flush: to the host's page cache is far enough, a test does not pull the plug. */
static void add_disk(GPtrArray *argv, const char *image, guint index, guint bus)
{
    char name[] = {'v', 'd', (char)('a' + index), '\0'};
    json_t *node = json_pack("{s:s, s:s, s:{s:b}, s:{s:s, s:s, s:{s:b}}}", "driver", guest_disk_format(image),
                             "node-name", name, "cache", "no-flush", TRUE, "file", "driver", "file",
                             "filename", image, "cache", "no-flush", TRUE);
    char *text = json_dumps(node, JSON_COMPACT);
    add(argv, "-blockdev", g_strdup(text));
    g_autoptr(GString) device = g_string_new(buses[bus].device);
    g_autofree char *number = g_strdup_printf("%u", index);
    g_string_replace(device, "%u", number, 0);
    add(argv, "-device",
        g_strdup_printf("%s,drive=%s,id=%s,bootindex=%u", device->str, name, name, index + 1));
    free(text);
    json_decref(node);
}

static GPtrArray *command_line(const GuestSetup *setup, const char *socket)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
    guint bus = bus_number(setup);
    g_ptr_array_add(argv, g_strdup("qemu-system-x86_64"));
    add(argv, "-machine", g_strdup(buses[bus].machine));
    add(argv, "-accel", g_strdup(setup->accel ? setup->accel : guest_accel()));
    add(argv, "-m", g_strdup("32"));
    add(argv, "-display", g_strdup("none"));
    add(argv, "-boot", g_strdup("strict=on"));
    g_ptr_array_add(argv, g_strdup("-nodefaults"));
    g_ptr_array_add(argv, g_strdup("-no-user-config"));
    add(argv, "-qmp", g_strdup_printf("unix:%s,server=on,wait=off", socket));
    if (buses[bus].controller)
        add(argv, "-device", g_strdup(buses[bus].controller));
    for (guint i = 0; setup->images[i]; i++)
        add_disk(argv, setup->images[i], i, bus);
    for (guint i = 0; setup->extra && setup->extra[i]; i++)
        g_ptr_array_add(argv, g_strdup(setup->extra[i]));
    g_ptr_array_add(argv, NULL);
    return argv;
}

/* Ends with the process that forked it, also when that is killed. */
static pid_t spawn(char **argv, const char *log)
{
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        guest_fail("no process: %s", g_strerror(errno));
    if (pid > 0)
        return pid;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(1);
    int out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600),
        in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (out < 0 || in < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(out, STDERR_FILENO) < 0)
        _exit(1);
    execvp(argv[0], argv);
    _exit(127);
}

static char *socket_of(const GuestSetup *setup)
{
    return g_strdup_printf("%s/%s.qmp", setup->dir, setup->name ? setup->name : "guest");
}

/* The process without a monitor. */
static Guest *launch(const GuestSetup *setup)
{
    g_autofree char *socket = socket_of(setup);
    g_autoptr(GPtrArray) argv = command_line(setup, socket);
    Guest *guest = g_new0(Guest, 1);
    guest->log = g_strdup_printf("%s/%s.log", setup->dir, setup->name ? setup->name : "guest");
    unlink(socket); /* of an earlier one that was killed */
    guest->pid = spawn((char **)argv->pdata, guest->log);
    return guest;
}

/* Fail the test with @what and what QEMU printed. */
G_GNUC_NORETURN static void give_up(const Guest *guest, const char *what)
{
    g_autofree char *log = NULL;
    if (guest->log)
        g_file_get_contents(guest->log, &log, NULL, NULL);
    guest_fail("%s%s%s", what, log && log[0] ? "; QEMU printed: " : "", log ? log : "");
}

Guest *guest_start(const GuestSetup *setup)
{
    g_autofree char *socket = socket_of(setup);
    g_autoptr(GError) error = NULL;
    Guest *guest = launch(setup);
    while (access(socket, F_OK) < 0) {
        if (waitpid(guest->pid, NULL, WNOHANG) != 0)
            give_up(guest, "QEMU did not start");
        g_usleep(1000);
    }
    guest->monitor = guest_monitor_open(socket, &error);
    if (!guest->monitor)
        give_up(guest, error->message);
    return guest;
}

/* Somebody else's child may be a zombie for long: kill(pid, 0) would find it. */
static gboolean has_ended(const Guest *guest, int *ret_status)
{
    if (!guest->joined)
        return waitpid(guest->pid, ret_status, WNOHANG) != 0;
    int fd = (int)syscall(SYS_pidfd_open, guest->pid, 0);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    gboolean ended = fd < 0 || poll(&wait, 1, 0) == 1;
    if (fd >= 0)
        close(fd);
    return ended;
}

static void wait_gone(Guest *guest, int *ret_status)
{
    gint64 end = g_get_monotonic_time() + PATIENCE;
    while (!has_ended(guest, ret_status)) {
        if (g_get_monotonic_time() > end)
            give_up(guest, "QEMU does not end");
        g_usleep(1000);
    }
    guest->pid = 0;
    g_clear_pointer(&guest->monitor, guest_monitor_close);
}

int guest_start_fails(const GuestSetup *setup, char **ret_log)
{
    g_autoptr(Guest) guest = launch(setup);
    int status = 0;
    wait_gone(guest, &status);
    if (!g_file_get_contents(guest->log, ret_log, NULL, NULL))
        guest_fail("no '%s'", guest->log);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

Guest *guest_join(const char *socket)
{
    g_autoptr(GError) error = NULL;
    Guest *guest = g_new0(Guest, 1);
    guest->joined = TRUE;
    guest->monitor = guest_monitor_open(socket, &error);
    if (!guest->monitor)
        give_up(guest, error->message);
    guest->pid = guest->monitor->pid;
    return guest;
}

void guest_wait_end(Guest *guest)
{
    int status = 0;
    wait_gone(guest, &status);
    if (status != 0)
        guest_fail("QEMU ended with the wait status %d", status);
}

void guest_quit(Guest *guest)
{
    guest_monitor_do(guest->monitor, "quit", NULL);
    guest_wait_end(guest);
}

void guest_kill(Guest *guest)
{
    if (kill(guest->pid, SIGKILL) < 0)
        guest_fail("QEMU was gone already");
    wait_gone(guest, NULL);
}

void guest_free(Guest *guest)
{
    if (!guest)
        return;
    if (guest->pid && !guest->joined)
        guest_kill(guest);
    guest_monitor_close(guest->monitor);
    g_free(guest->log);
    g_free(guest);
}

void guest_wait(Guest *guest, guint steps)
{
    g_autoptr(GError) error = NULL;
    gint64 end = g_get_monotonic_time() + PATIENCE;
    guint32 begin = 0, now = 0;
    do {
        if (!guest_look_counter(guest, &now, &error))
            give_up(guest, error->message);
        if (begin == 0)
            begin = now;
        if (g_get_monotonic_time() > end)
            give_up(guest, now ? "the guest stands still" : "the guest does not boot");
        g_usleep(2000);
    } while (now == 0 || now - begin < steps);
}

void guest_press(Guest *guest, const char *key)
{
    guest_monitor_do(guest->monitor, "send-key", "{s:[{s:s, s:s}]}", "keys", "type", "qcode", "data", key);
}

/* To where the migration stream begins: behind the header, the XML and the cookie of a libvirt save image, or at 0. */
static gboolean seek_stream(int fd, GError **error)
{
    struct {
        char magic[16];
        guint32 version, data_len, rest[17];
    } header = {0};
    char magic[4] = "";
    off_t at = 0;
    if (read(fd, &header, sizeof header) == (ssize_t)sizeof header &&
        memcmp(header.magic, "LibvirtQemudSave", sizeof header.magic) == 0)
        at = (off_t)sizeof header + header.data_len;
    if (pread(fd, magic, sizeof magic, at) == (ssize_t)sizeof magic &&
        memcmp(magic, "QEVM", sizeof magic) == 0 && lseek(fd, at, SEEK_SET) == at)
        return TRUE;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "no migration stream at byte %" G_GINT64_FORMAT,
                (gint64)at);
    return FALSE;
}

static gboolean wait_loaded(Guest *guest, GError **error)
{
    for (;;) {
        g_autofree char *status = guest_monitor_status(guest->monitor, error);
        if (!status)
            return FALSE;
        if (g_strcmp0(status, "inmigrate") != 0)
            return TRUE;
        g_usleep(2000);
    }
}

gboolean guest_load_memory(Guest *guest, const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "'%s': %s", path, g_strerror(errno));
        return FALSE;
    }
    gboolean ok = seek_stream(fd, error) && guest_monitor_give(guest->monitor, fd, "memory", error);
    close(fd);
    if (!ok)
        return FALSE;
    json_t *begun =
        guest_monitor_call(guest->monitor, error, "migrate-incoming", "{s:s}", "uri", "fd:memory");
    json_decref(begun);
    return begun && wait_loaded(guest, error);
}
