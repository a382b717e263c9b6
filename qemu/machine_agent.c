/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest agent: freeze and thaw the guest's file systems.
 *
 * It answers over a channel that others have used before, and may be half through with: each conversation begins with a
 * byte that no JSON has, so that what it has got in part is forgotten, and a number that it must repeat, so that answers to
 * others are known. It may not be there at all; then nobody answers. Nothing that it says is trusted.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error.h"
#include "machine_parts.h"
#include "qmp_error.h"

#define SYNC_MS 5000    /* it is there, or it is not */
#define FREEZE_MS 60000 /* writing out all that the guest has in its memory */
#define LOOK_MS 50
#define LINE_BYTES 65536
#define WORDS_BYTES 200
#define FORGET "\xff"

typedef struct {
    int fd;
    GString *input; /* read, and not yet a whole line */
    QmpWait wait;
} Agent;

static void agent_free(Agent *agent)
{
    close(agent->fd);
    g_string_free(agent->input, TRUE);
    g_free(agent);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Agent, agent_free)

static gboolean check_time(const Agent *agent, GError **error)
{
    g_autoptr(GError) over = NULL;
    if (qmp_wait_check(&agent->wait, "the guest agent", &over))
        return TRUE;
    if (over->code == ETIMEDOUT)
        snap_set_error(error, ETIMEDOUT, "the guest agent does not answer: is it running in the guest?");
    else
        g_propagate_error(error, g_steal_pointer(&over));
    return FALSE;
}

static gboolean receive(Agent *agent, GError **error)
{
    char buffer[4096];
    struct pollfd input = {.fd = agent->fd, .events = POLLIN};
    if (agent->input->len > LINE_BYTES) {
        snap_set_error(error, EPROTO, "the guest agent says what is too long for an answer");
        return FALSE;
    }
    if (!check_time(agent, error)) /* also one that never stops to talk */
        return FALSE;
    if (poll(&input, 1, LOOK_MS) <= 0)
        return TRUE;
    ssize_t len = recv(agent->fd, buffer, sizeof buffer, 0);
    if (len == 0 || (len < 0 && errno != EINTR && errno != EAGAIN)) {
        snap_set_error(error, ECONNRESET, "QEMU has ended, or closed the guest agent's channel");
        return FALSE;
    }
    if (len > 0)
        g_string_append_len(agent->input, buffer, len);
    return TRUE;
}

/* *ret_json: the next line; NULL when it is none, as after a byte that no JSON has. */
static gboolean read_line(Agent *agent, json_t **ret_json, GError **error)
{
    const char *end;
    while (!(end = memchr(agent->input->str, '\n', agent->input->len)))
        if (!receive(agent, error))
            return FALSE;
    gsize len = (gsize)(end - agent->input->str);
    *ret_json = json_loadb(agent->input->str, len, JSON_REJECT_DUPLICATES, NULL);
    g_string_erase(agent->input, 0, (gssize)len + 1);
    return TRUE;
}

/* Takes @command over. */
static gboolean send_command(Agent *agent, const char *before, json_t *command, GError **error)
{
    g_autoptr(json_t) json = command;
    char *text = json_dumps(json, JSON_COMPACT);
    g_autofree char *line = g_strconcat(before, text, "\n", NULL);
    gsize sent;
    free(text);
    return qmp_socket_send(agent->fd, "the guest agent", line, strlen(line), -1, &agent->wait, &sent, error);
}

static gboolean sync_agent(Agent *agent, GError **error)
{
    gint64 number = (gint64)(g_random_int() | 1);
    if (!send_command(
            agent, FORGET,
            json_pack("{s:s, s:{s:I}}", "execute", "guest-sync", "arguments", "id", (json_int_t)number),
            error))
        return FALSE;
    for (;;) {
        g_autoptr(json_t) answer = NULL;
        if (!read_line(agent, &answer, error))
            return FALSE;
        const json_t *value = json_object_get(answer, "return");
        if (json_is_integer(value) && json_integer_value(value) == number)
            return TRUE;
    }
}

/* What a guest says goes into a line of text, and is not to be another one. Caller frees. */
static char *plain_words(const char *words)
{
    g_autofree char *begin = g_strndup(words, WORDS_BYTES), *plain = g_utf8_make_valid(begin, -1);
    for (char *at = plain; *at; at++)
        if (g_ascii_iscntrl(*at))
            *at = ' ';
    return g_steal_pointer(&plain);
}

static gboolean run_command(Agent *agent, const char *command, GError **error)
{
    g_autoptr(json_t) answer = NULL;
    g_autofree char *what = g_strconcat("the guest agent's ", command, NULL);
    agent->wait = qmp_wait(FREEZE_MS, agent->wait.cancel);
    if (!send_command(agent, "", json_pack("{s:s}", "execute", command), error) ||
        !read_line(agent, &answer, error))
        return FALSE;
    if (json_object_get(answer, "return"))
        return TRUE;
    const json_t *failure = json_object_get(answer, "error");
    const char *words = json_string_value(json_object_get(failure, "desc"));
    const char *class = json_string_value(json_object_get(failure, "class"));
    g_autofree char *plain = plain_words(words ? words : "its answer makes no sense");
    g_autofree char *plain_class = class ? plain_words(class) : NULL;
    qmp_set_error(error, what, plain_class, plain);
    return FALSE;
}

/* *ret_agent: it answers; NULL: the machine has no channel for one. */
static gboolean open_agent(const Running *running, GCancellable *cancel, Agent **ret_agent, GError **error)
{
    g_autoptr(GError) why = NULL;
    QmpWait wait = qmp_wait(SYNC_MS, cancel);
    int fd = qmp_socket_connect(running->agent, &wait, &why);
    if (fd < 0 && (why->code == ENOENT || why->code == ECONNREFUSED)) {
        *ret_agent = NULL;
        return TRUE;
    }
    if (fd >= 0) {
        g_autoptr(Agent) agent = g_new0(Agent, 1);
        *agent = (Agent){fd, g_string_new(NULL), wait};
        if (sync_agent(agent, &why)) {
            *ret_agent = g_steal_pointer(&agent);
            return TRUE;
        }
        if (why->code == ETIMEDOUT && qmp_socket_is_taken(fd, running->agent)) {
            g_clear_error(&why);
            snap_set_error(&why, EBUSY, "another program is connected to the guest agent");
        }
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

gboolean running_freeze(Machine *machine, GCancellable *cancel, GError **error)
{
    Running *running = (Running *)machine;
    g_autoptr(Agent) agent = NULL;
    running->thawed = TRUE;
    if (!open_agent(running, cancel, &agent, error))
        return FALSE;
    if (!agent) {
        snap_set_error(error, EOPNOTSUPP, "the machine has no channel for a guest agent");
        return FALSE;
    }
    running->thawed = FALSE;
    return run_command(agent, "guest-fsfreeze-freeze", error);
}

gboolean running_thaw(Machine *machine, GError **error)
{
    Running *running = (Running *)machine;
    g_autoptr(Agent) agent = NULL;
    if (running->thawed)
        return TRUE;
    if (!open_agent(running, NULL, &agent, error) ||
        (agent && !run_command(agent, "guest-fsfreeze-thaw", error)))
        return FALSE;
    running->thawed = TRUE;
    return TRUE;
}
