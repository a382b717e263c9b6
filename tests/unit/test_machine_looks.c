/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a running machine has beside disks and memory: a guest agent, and a display. */
#include <sys/socket.h>
#include <sys/un.h>

#include "machine_case.h"
#include "runner.h"

/* --- the guest agent --- */

typedef enum { GOOD, STALE, SILENT, REFUSES, NONSENSE, LEAVES, TALKS } Manner;

/* An agent that answers as one in a guest does, in some manner, to one client after the other. */
typedef struct {
    int listener, client;
    Manner manner;
    GThread *thread;
    GMutex lock;
    guint frozen, thaws;
    GCancellable *cancel; /* fired at the freeze */
} Agent;

static void say(const Agent *agent, const char *text)
{
    ck_assert_int_eq(send(agent->client, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* "{"return": 1}" for the commands that count file systems. */
static void answer_freeze(Agent *agent, gboolean freeze)
{
    g_mutex_lock(&agent->lock);
    agent->frozen = freeze && agent->manner != REFUSES ? 1 : 0;
    agent->thaws += !freeze;
    g_mutex_unlock(&agent->lock);
    if (freeze && agent->cancel)
        g_cancellable_cancel(agent->cancel);
    else if (freeze && agent->manner == REFUSES)
        say(agent, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"failed to freeze\\n/: Device or "
                   "resource busy\"}}\n");
    else if (freeze && agent->manner == NONSENSE)
        say(agent, "[]\n");
    else
        say(agent, "{\"return\": 1}\n");
}

static void answer(Agent *agent, const char *line)
{
    const char *command = strchr(line, '{');
    json_t *json = command ? json_loads(command, 0, NULL) : NULL;
    const char *name = json_string_value(json_object_get(json, "execute"));
    ck_assert_msg(name != NULL, "'%s'", line);
    if (agent->manner == STALE && strcmp(name, "guest-sync") == 0)
        say(agent, "\"half of an answer\"}\n{\"return\": 17}\n{\"return\": {}}\n"
                   "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Invalid JSON\"}}\n");
    while (agent->manner == TALKS && send(agent->client, "{}\n", 3, MSG_NOSIGNAL) == 3)
        ;
    if (agent->manner == TALKS) {
        json_decref(json);
        return;
    }
    if (strcmp(name, "guest-sync") == 0) {
        g_autofree char *text =
            g_strdup_printf("{\"return\": %" JSON_INTEGER_FORMAT "}\n",
                            json_integer_value(json_object_get(json_object_get(json, "arguments"), "id")));
        ck_assert_int_eq((guchar)line[0], 0xff);
        say(agent, text);
    } else {
        answer_freeze(agent, strcmp(name, "guest-fsfreeze-freeze") == 0);
    }
    json_decref(json);
}

static gpointer serve(gpointer data)
{
    Agent *agent = data;
    while ((agent->client = accept(agent->listener, NULL, NULL)) >= 0) {
        FILE *in = fdopen(agent->client, "r");
        char *line = NULL;
        size_t size = 0;
        while (agent->manner != LEAVES && getline(&line, &size, in) > 0)
            if (agent->manner != SILENT)
                answer(agent, line);
        free(line);
        fclose(in);
    }
    return NULL;
}

static void agent_begin(Agent *agent, Vm *vm, Manner manner)
{
    g_autofree char *path = vm_path(vm, "vm.agent");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    ck_assert_uint_lt(g_strlcpy(address.sun_path, path, sizeof address.sun_path), sizeof address.sun_path);
    unlink(path);
    *agent = (Agent){.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .manner = manner};
    g_mutex_init(&agent->lock);
    ck_assert_int_eq(bind(agent->listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(agent->listener, 4), 0);
    agent->thread = g_thread_new("agent", serve, agent);
}

static void agent_end(Agent *agent)
{
    shutdown(agent->listener, SHUT_RDWR);
    g_thread_join(agent->thread);
    close(agent->listener);
    g_mutex_clear(&agent->lock);
}

static void expect_frozen(Agent *agent, guint frozen, guint thaws)
{
    g_mutex_lock(&agent->lock);
    ck_assert_uint_eq(agent->frozen, frozen);
    ck_assert_uint_eq(agent->thaws, thaws);
    g_mutex_unlock(&agent->lock);
}

static void freeze_fails(Vm *vm, GCancellable *cancel, int code, const char *text)
{
    GError *error = NULL;
    ck_assert(!vm->machine->ops->freeze(vm->machine, cancel, &error));
    expect_error(&error, code, text);
}

static void thaw_works(Vm *vm)
{
    g_autoptr(GError) error = NULL;
    ASSERT_OK(vm->machine->ops->thaw(vm->machine, &error), error);
}

START_TEST(frozen)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    Agent agent;
    agent_begin(&agent, vm, _i ? STALE : GOOD);
    for (guint i = 1; i <= 2; i++) {
        ASSERT_OK(vm->machine->ops->freeze(vm->machine, NULL, &error), error);
        expect_frozen(&agent, 1, i - 1);
        thaw_works(vm);
        expect_frozen(&agent, 0, i);
        thaw_works(vm); /* nobody is asked again */
        expect_frozen(&agent, 0, i);
    }
    /* By one who comes anew, and does not know. */
    ASSERT_OK(vm->machine->ops->freeze(vm->machine, NULL, &error), error);
    vm_find(vm);
    thaw_works(vm);
    expect_frozen(&agent, 0, 3);
    agent_end(&agent);
}
END_TEST

START_TEST(not_frozen)
{
    static const struct {
        Manner manner;
        int code;
        const char *text;
        guint thaws;
    } cases[] = {
        {SILENT, ETIMEDOUT, "is it running in the guest?", 0},
        {REFUSES, EBUSY, "failed to freeze /", 1},
        {NONSENSE, EIO, "makes no sense", 1},
        {LEAVES, ECONNRESET, NULL, 0},
        {TALKS, ETIMEDOUT, NULL, 0},
    };
    g_autoptr(Vm) vm = VM(NULL);
    Agent agent;
    freeze_fails(vm, NULL, EOPNOTSUPP, "no channel");
    thaw_works(vm);
    vm_find(vm);
    thaw_works(vm); /* also when it knows nothing */
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        agent_begin(&agent, vm, cases[i].manner);
        freeze_fails(vm, NULL, cases[i].code, cases[i].text);
        thaw_works(vm); /* what was not sent need not be undone, all else is */
        expect_frozen(&agent, 0, cases[i].thaws);
        agent_end(&agent);
    }
    freeze_fails(vm, NULL, EOPNOTSUPP, "no channel"); /* the socket is there, and nobody listens */
    thaw_works(vm);
}
END_TEST

/* Cancelled while the guest freezes: the thaw is for that freeze. */
START_TEST(freeze_cancelled)
{
    g_autoptr(Vm) vm = VM(NULL);
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    Agent agent;
    agent_begin(&agent, vm, GOOD);
    agent.cancel = cancel;
    freeze_fails(vm, cancel, EINTR, "cancelled");
    expect_frozen(&agent, 1, 0);
    thaw_works(vm);
    expect_frozen(&agent, 0, 1);
    agent_end(&agent);
}
END_TEST

/* --- the display --- */

/* Has QEMU the file open? */
static gboolean has_open(Vm *vm, const char *path)
{
    g_autofree char *dir = g_strdup_printf("/proc/%d/fd", vm->guest->pid);
    g_autoptr(GDir) list = g_dir_open(dir, 0, NULL);
    const char *name = NULL;
    ck_assert_ptr_nonnull(list);
    while ((name = g_dir_read_name(list))) {
        g_autofree char *entry = g_build_filename(dir, name, NULL);
        g_autofree char *to = g_file_read_link(entry, NULL);
        if (g_strcmp0(to, path) == 0)
            return TRUE;
    }
    return FALSE;
}

/* The same picture that QEMU itself writes at that instant, with the counter that is in memory. */
START_TEST(picture)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(WORDS("-vga", "std"));
    g_autofree char *path = vm_path(vm, "screenshot.png"), *same = vm_path(vm, "same.png"),
                    *plain = vm_path(vm, "plain.ppm"), *missing = vm_path(vm, "no/where.png");
    const MachineOps *ops = vm->machine->ops;
    guint32 shown = 0, counter = 0;
    ASSERT_OK(ops->pause(vm->machine, &error), error);
    ASSERT_OK(ops->screenshot(vm->machine, path, &error), error);
    guest_monitor_do(vm->guest->monitor, "screendump", "{s:s, s:s}", "filename", same, "format", "png");
    guest_monitor_do(vm->guest->monitor, "screendump", "{s:s}", "filename", plain);
    g_autofree char *hash = file_hash(path), *other = file_hash(same);
    ck_assert_str_eq(hash, other);
    LOOK(guest_look_counter(vm->guest, &counter, &error));
    LOOK(guest_look_screen(plain, &shown, &error));
    ck_assert(shown <= counter && counter - shown <= 1);

    ck_assert(!ops->screenshot(vm->machine, path, &error)); /* nothing is overwritten */
    expect_error(&error, EEXIST, path);
    ck_assert(!ops->screenshot(vm->machine, missing, &error));
    expect_error(&error, ENOENT, missing);
    ASSERT_OK(ops->resume(vm->machine, &error), error);
    vm_runs(vm);
    g_clear_pointer(&vm->machine, machine_free); /* at the latest then it is let go of */
    for (guint i = 0; i < 1000 && has_open(vm, path); i++)
        g_usleep(5000);
    ck_assert(!has_open(vm, path));
}
END_TEST

START_TEST(no_picture)
{
    GError *error = NULL;
    g_autoptr(Vm) vm = VM(NULL);
    g_autofree char *path = vm_path(vm, "screenshot.png");
    ck_assert(!vm->machine->ops->screenshot(vm->machine, path, &error));
    expect_error(&error, ENOENT, "no console");
    ck_assert(access(path, F_OK) < 0);
    VmKiller killer = {vm, 200000};
    GThread *thread = vm_dies(&killer);
    ck_assert(!vm->machine->ops->screenshot(vm->machine, path, &error));
    expect_error(&error, ECONNRESET, NULL);
    ck_assert(access(path, F_OK) < 0);
    g_thread_join(thread);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("machine_looks");
    TCase *tcase = scratch_case(suite, "looks");
    tcase_add_loop_test(tcase, frozen, 0, 2);
    tcase_add_test(tcase, not_frozen);
    tcase_add_test(tcase, freeze_cancelled);
    tcase_add_test(tcase, picture);
    tcase_add_test(tcase, no_picture);
    return run_suite(suite);
}
