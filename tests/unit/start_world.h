/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machines that are really started, by the product: the test guest on two disks. They outlive who started them, so each is
 * ended when its test case is over, also when the test has died: by the pid files in the scratch directory.
 */
#pragma once

#include "guest_case.h"
#include "guest_domain.h"
#include "offline.h"
#include "start.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

typedef struct {
    Disks disks;
    char *run; /* directory of sockets */
    char *name;
    Backend *images;
    DomainDef *def;
    GHashTable *backing;
    MachineStart start; /* what is to be started: change it */
    Qmp *qmp;           /* NULL: nothing was started */
    DomainDef *given;
    GPtrArray *notes;
} StartWorld;

static inline pid_t read_pid(const char *path)
{
    g_autofree char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? (pid_t)atoi(text) : 0;
}

/* Is it a QEMU with something in @dir? */
static inline gboolean is_qemu_in(pid_t pid, const char *dir)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid), *line = NULL;
    gsize len = 0;
    return pid > 1 && g_file_get_contents(path, &line, &len, NULL) && memmem(line, len, dir, strlen(dir));
}

static inline void end_machines(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        if (g_file_test(child, G_FILE_TEST_IS_DIR) && !g_file_test(child, G_FILE_TEST_IS_SYMLINK))
            end_machines(child);
        pid_t pid = g_str_has_suffix(name, ".pid") ? read_pid(child) : 0;
        if (is_qemu_in(pid, scratch))
            kill(pid, SIGKILL);
    }
}

/* Should this program itself be killed, nobody would be left to end them: one waits for that. */
static pid_t guardian;

static inline void guard(void)
{
    pid_t parent = getpid();
    sigset_t end;
    int signal = 0;
    fflush(NULL);
    guardian = fork();
    if (guardian != 0)
        return;
    setpgid(0, 0);
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent)
        sigwait(&end, &signal);
    end_machines(scratch);
    _exit(0);
}

static inline void end_all_machines(void)
{
    end_machines(scratch);
    if (guardian > 0 && kill(guardian, SIGKILL) == 0)
        waitpid(guardian, NULL, 0);
}

static inline TCase *start_case(Suite *suite, const char *name)
{
    TCase *tcase = scratch_case(suite, name);
    tcase_add_unchecked_fixture(tcase, guard, end_all_machines); /* before the directory goes */
    return tcase;
}

static inline DomainDef *parse_xml(const char *text)
{
    GError *error = NULL;
    DomainDef *def = domain_def_parse(text, strlen(text), &error);
    ASSERT_OK(def != NULL, error);
    return def;
}

/* The definition with @from replaced, which must be there. */
static inline void world_edit(StartWorld *w, const char *from, const char *to)
{
    g_autofree char *text = domain_def_format(w->def);
    g_autoptr(GString) edited = g_string_new(text);
    ck_assert_msg(g_string_replace(edited, from, to, 1) == 1, "no '%s' in %s", from, text);
    domain_def_free(w->def);
    w->def = parse_xml(edited->str);
    w->start.def = w->def;
}

/* A machine called @name, off, with two disks vda and vdb. */
static inline StartWorld start_world_new(const char *test, const char *name)
{
    StartWorld w = {.disks = disks_new(test, "qcow2"), .name = g_strdup(name), .start = {.memory = -1}};
    w.run = g_build_filename(w.disks.dir, "run", NULL);
    w.images = offline_backend_new(NULL);
    g_autofree char *xml = guest_domain_xml(name, "qemu", IMAGES(w.disks.vda, w.disks.vdb), NULL);
    w.def = parse_xml(xml);
    w.backing = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)g_ptr_array_unref);
    g_hash_table_insert(w.backing, (gpointer) "vda", g_ptr_array_new());
    g_hash_table_insert(w.backing, (gpointer) "vdb", g_ptr_array_new());
    w.start.def = w.def;
    w.start.backing = w.backing;
    return w;
}

static inline char *world_file(const StartWorld *w, const char *suffix)
{
    return g_strdup_printf("%s/%s%s", w->run, w->name, suffix);
}

static inline gboolean world_try(StartWorld *w, GError **error)
{
    w->qmp = start_machine(w->images, w->run, &w->start, NULL, &w->given, &w->notes, error);
    return w->qmp != NULL;
}

static inline void world_start(StartWorld *w)
{
    GError *error = NULL;
    ASSERT_OK(world_try(w, &error), error);
}

/* A look at the guest through the second monitor. */
static inline Guest *world_guest(const StartWorld *w)
{
    g_autofree char *socket = world_file(w, ".monitor");
    return guest_join(socket);
}

/* Wait until process @pid, all of it, has ended. */
static inline gboolean wait_gone(int pidfd)
{
    struct pollfd fd = {.fd = pidfd, .events = POLLIN};
    int n = poll(&fd, 1, 20000);
    close(pidfd);
    return n == 1;
}

static inline int watch_end(pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    ck_assert_int_ge(pidfd, 0);
    return pidfd;
}

/* Forget what was started; with @quit it ends. */
static inline void world_end(StartWorld *w, gboolean quit)
{
    if (w->qmp && quit) {
        int pidfd = watch_end(qmp_pid(w->qmp));
        QmpWait wait = qmp_wait(20000, NULL);
        g_autoptr(GError) error = NULL;
        ASSERT_OK(qmp_do(w->qmp, "quit", json_object(), &wait, &error), error);
        ck_assert(wait_gone(pidfd));
    }
    g_clear_pointer(&w->qmp, qmp_close);
    g_clear_pointer(&w->given, domain_def_free);
    g_clear_pointer(&w->notes, g_ptr_array_unref);
}

static inline void start_world_clear(StartWorld *w)
{
    world_end(w, TRUE);
    w->images->ops->free(w->images);
    domain_def_free(w->def);
    g_hash_table_unref(w->backing);
    disks_clear(&w->disks);
    g_free(w->run);
    g_free(w->name);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StartWorld, start_world_clear)
#define WORLD(name) start_world_new(__func__, name)

/* In the directory of sockets is nothing but the log, and beside the images nothing but they; no QEMU runs. */
static inline void expect_nothing_left(const StartWorld *w)
{
    const char *const places[] = {w->run, w->disks.dir};
    g_autofree char *log = g_strconcat(w->name, ".log", NULL);
    static const char *const may[] = {"run",     "vda.qcow2", "vdb.qcow2", "image.save",
                                      "code.fd", "vars.fd",   NULL};
    for (guint i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autoptr(GDir) dir = g_dir_open(places[i], 0, NULL);
        const char *name;
        while (dir && (name = g_dir_read_name(dir)))
            ck_assert_msg(strcmp(name, log) == 0 || g_strv_contains(may, name), "left: %s/%s", places[i],
                          name);
    }
    g_autoptr(GDir) processes = g_dir_open("/proc", 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(processes)))
        ck_assert_msg(!is_qemu_in((pid_t)atoi(name), w->run), "a QEMU is left: %s", name);
}
