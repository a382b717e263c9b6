/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "start.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "detach.h"
#include "error.h"
#include "process.h"
#include "run_actions.h"
#include "run_dir.h"
#include "scope.h"
#include "start_files.h"
#include "start_load.h"

enum { GREETING_MS = 120000, COMMAND_MS = 60000, LOOK_MS = 5, END_MS = 10000 };

typedef struct {
    Backend *images;
    const MachineStart *start;
    GCancellable *cancel;
    Launch *launch;
    StartFiles *files;
    char *program; /* as it calls itself in its messages */
    char *log_path;
    int log;
    Detached process;
    Qmp *qmp;
    gboolean loading; /* memory */
} Starting;

static void starting_clear(Starting *s)
{
    g_clear_pointer(&s->qmp, qmp_close);
    detach_clear(&s->process);
    if (s->log >= 0)
        close(s->log); /* locked as long as QEMU has it */
    start_files_free(s->files);
    launch_free(s->launch);
    g_free(s->program);
    g_free(s->log_path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Starting, starting_clear)

/* --- before anything runs --- */

static gboolean build(Starting *s, const char *directory, GError **error)
{
    LaunchSpec spec = {.def = s->start->def,
                       .backing = s->start->backing,
                       .directory = directory,
                       .kvm = access("/dev/kvm", R_OK | W_OK) == 0,
                       .now = g_get_real_time() / G_USEC_PER_SEC,
                       .incoming = s->start->memory >= 0 ? "defer" : NULL};
    s->launch = launch_new(&spec, error);
    if (!s->launch)
        return FALSE;
    s->program = g_path_get_basename(s->launch->argv->pdata[0]);
    s->log_path = g_strdup(s->launch->log);
    return TRUE;
}

/* From the lock on nobody else of us starts this machine; what a QEMU that died has left may be taken. */
static gboolean take_places(Starting *s, const char *directory, GError **error)
{
    if (!run_dir_make(directory, error))
        return FALSE;
    for (guint i = 0; i < s->launch->sockets->len; i++)
        if (!run_socket_is_free(s->launch->sockets->pdata[i], error))
            return FALSE;
    s->log = run_log_open(s->log_path, error);
    return s->log >= 0 && run_pid_file_is_free(s->launch->pid_file, error);
}

/* --- the process --- */

/* What it says of itself, in the place of an error that only says that it has gone. */
static void tell_words(const Starting *s, GError **error)
{
    g_autofree char *words = run_log_words(s->log_path, s->program);
    g_autoptr(GError) why = NULL;
    int code = s->loading ? EINVAL : EIO; /* memory that does not fit */
    if (!words)
        return;
    g_auto(GStrv) sentences = g_strsplit(words, "; ", -1);
    for (guint i = 0; sentences[i]; i++) {
        int said = process_errno_of(sentences[i]);
        code = said != EIO ? said : code;
    }
    snap_set_error(&why, code, "QEMU did not start: %s", words);
    if (error) {
        g_clear_error(error);
        *error = g_steal_pointer(&why);
    }
}

static gboolean is_end(const GError *error)
{
    return error && (error->code == ECONNRESET || error->code == EPROTO);
}

static gboolean spawn(Starting *s, GError **error)
{
    g_auto(GStrv) environment = run_actions_environment(s->launch);
    g_autofree char *text = g_strdup_printf("Virtual machine %s (domsnapfs)", s->launch->def->name);
    DetachSpec spec = {.argv = (const char *const *)s->launch->argv->pdata,
                       .environment = (const char *const *)environment,
                       .log = s->log,
                       .cpus = s->launch->pinned ? &s->launch->cpus : NULL};
    if (!detach_prepare(&spec, &s->process, error))
        return FALSE;
    g_autofree char *unit =
        g_strdup_printf("domsnapfs-%s-%d.scope", s->launch->def->uuid, (int)s->process.pid);
    (void)scope_move(s->process.pid, unit, text, s->cancel); /* where there is none, nothing is lost */
    if (detach_run(&s->process, error))
        return TRUE;
    g_prefix_error(error, "'%s': ", spec.argv[0]);
    return FALSE;
}

static gboolean is_not_yet(const GError *why)
{
    return why->code == ENOENT || why->code == ECONNREFUSED || why->code == ECONNRESET;
}

static gboolean await_monitor(Starting *s, GError **error)
{
    QmpWait wait = qmp_wait(GREETING_MS, s->cancel);
    for (;;) {
        g_autoptr(GError) why = NULL;
        s->qmp = qmp_connect(s->launch->monitor, NULL, &wait, &why);
        if (s->qmp)
            break;
        if (!is_not_yet(why)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        if (detach_has_ended(&s->process, LOOK_MS)) {
            snap_set_error(error, ECONNRESET, "QEMU ended at once, without a word");
            return FALSE;
        }
        if (!qmp_wait_check(&wait, "waiting for QEMU", error))
            return FALSE;
    }
    if (qmp_pid(s->qmp) == s->process.pid)
        return TRUE;
    snap_set_error(error, EBUSY, "another process listens at '%s'", s->launch->monitor);
    return FALSE;
}

/* --- what it is told --- */

static gboolean send_commands(Starting *s, const QmpWait *wait, GError **error)
{
    for (guint i = 0; i < s->launch->commands->len; i++) {
        g_autoptr(json_t) command = json_loads(s->launch->commands->pdata[i], 0, NULL);
        json_t *arguments = json_object_get(command, "arguments");
        const char *name = json_string_value(json_object_get(command, "execute"));
        if (!qmp_do(s->qmp, name, arguments ? json_incref(arguments) : json_object(), wait, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean load_state(Starting *s, GError **error)
{
    QmpWait wait = qmp_wait(0, s->cancel); /* as long as it takes: its size is not known */
    s->loading = TRUE;
    if (s->start->memory >= 0)
        return start_load_memory(s->qmp, s->start->memory, &wait, error);
    return !s->start->tag || start_load_checkpoint(s->qmp, s->images, s->launch, s->start, &wait, error);
}

/* "pc" is whatever this QEMU takes it for: memory fits only into the same again. */
static gboolean pin_machine(Starting *s, const QmpWait *wait, GError **error)
{
    static const char suffix[] = "-machine";
    g_autoptr(json_t) answer = qmp_run(
        s->qmp, "qom-get", json_pack("{s:s,s:s}", "path", "/machine", "property", "type"), wait, error);
    if (!answer)
        return FALSE;
    const char *type = json_string_value(answer);
    if (!type || !g_str_has_suffix(type, suffix)) {
        snap_set_error(error, EPROTO, "QEMU does not say which machine it is");
        return FALSE;
    }
    g_autofree char *name = g_strndup(type, strlen(type) - strlen(suffix));
    xmlNode *node = xml_child(xml_child(xmlDocGetRootElement(s->launch->def->doc), "os"), "type");
    if (node)
        xml_set_attr(node, "machine", name);
    return TRUE;
}

static gboolean set_up(Starting *s, GError **error)
{
    QmpWait wait = qmp_wait(COMMAND_MS, s->cancel);
    if (!await_monitor(s, error))
        return FALSE;
    start_files_unlink_overlays(s->files);
    if (!send_commands(s, &wait, error) || !pin_machine(s, &wait, error) || !load_state(s, error))
        return FALSE;
    wait = qmp_wait(COMMAND_MS, s->cancel);
    return s->start->paused || qmp_do(s->qmp, "cont", json_object(), &wait, error);
}

/* --- failure --- */

/* Nothing is left of it but its messages. */
static void undo(Starting *s)
{
    detach_kill(&s->process);
    g_clear_pointer(&s->qmp, qmp_close);
    for (guint i = 0; i < s->launch->sockets->len; i++)
        run_socket_remove(s->launch->sockets->pdata[i]);
    (void)unlink(s->launch->pid_file); /* found to be one, and QEMU's that was ours */
    start_files_remove(s->files);
}

static gboolean run(Starting *s, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (spawn(s, &why) && set_up(s, &why))
        return TRUE;
    if (is_end(why) && detach_has_ended(&s->process, END_MS))
        tell_words(s, &why);
    undo(s);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

Qmp *start_machine(Backend *images, const char *directory, const MachineStart *start, GCancellable *cancel,
                   DomainDef **ret_def, GPtrArray **ret_notes, GError **error)
{
    g_auto(Starting) s = {.images = images,
                          .start = start,
                          .cancel = cancel,
                          .files = start_files_new(),
                          .log = -1,
                          .process = DETACHED_NONE};
    if (!build(&s, directory, error) || !take_places(&s, directory, error) ||
        !start_images_are_free(images, s.launch->def, error) ||
        !start_files_make(s.files, images, s.launch, cancel, error) || !run(&s, error))
        return NULL;
    *ret_def = g_steal_pointer(&s.launch->def);
    *ret_notes = g_steal_pointer(&s.launch->notes);
    return g_steal_pointer(&s.qmp);
}

gboolean start_check(const char *directory, const MachineStart *start, GError **error)
{
    g_auto(Starting) s = {.start = start, .files = start_files_new(), .log = -1, .process = DETACHED_NONE};
    return build(&s, directory, error) && start_files_check(s.launch->def, error);
}
