/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool.h"

#include <fcntl.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TOOL_SECONDS = 60 };

/* What a temporary file holds, from its start. */
static const char *slurp(const World *w, int fd)
{
    g_autoptr(GString) text = g_string_new(NULL);
    char buffer[8192];
    ssize_t n;
    off_t offset = 0;
    while ((n = pread(fd, buffer, sizeof buffer, offset)) > 0) {
        g_string_append_len(text, buffer, n);
        offset += n;
    }
    close(fd);
    return keep(w, text->str);
}

static int temporary(const World *w)
{
    int fd = open(w->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/*
 * File descriptors as given, cwd the mount point when something is mounted there. By vfork(): to copy the page tables of a
 * process with a sanitizer takes longer than most tools.
 */
static pid_t spawn(const World *w, const char *const *argv, int in, int out, int err)
{
    const char *dir = world_is_mounted(w) ? w->mnt : w->dir;
    pid_t pid = vfork();
    ck_assert_int_ge(pid, 0);
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGTERM, SIG_DFL);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    if (chdir(dir) < 0 && chdir(w->dir) < 0) /* the mount may die just now */
        _exit(126);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int wait_code(pid_t pid, const char *what)
{
    int status = 0;
    int fd = pidfd_open(pid, 0);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int ready = poll(&wait, 1, TOOL_SECONDS * 1000);
    close(fd);
    if (ready != 1)
        kill(pid, SIGKILL);
    ck_assert_msg(ready == 1, "%s does not end", what);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return exit_code(status);
}

Ran ran_argv(const World *w, const char *const *argv)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = temporary(w), err = temporary(w);
    pid_t pid = spawn(w, argv, null, out, err);
    close(null);
    int rc = wait_code(pid, argv[0]);
    ck_assert_msg(rc != 127, "%s cannot be run", argv[0]);
    const char *output = slurp(w, out);
    return (Ran){.rc = rc, .out = output, .err = slurp(w, err)};
}

Ran ran(const World *w, const char *program, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    va_list args;
    va_start(args, program);
    for (const char *arg = program; arg != NULL; arg = va_arg(args, const char *))
        g_ptr_array_add(argv, (gpointer)arg);
    va_end(args);
    g_ptr_array_add(argv, NULL);
    return ran_argv(w, (const char *const *)argv->pdata);
}

Ran ran_sh(const World *w, const char *script)
{
    return ran(w, "sh", "-c", script, NULL);
}

const char *ran_expect_ok(Ran result, const char *what)
{
    ck_assert_msg(result.rc == 0, "%s: exit %d, %s%s", what, result.rc, result.err, result.out);
    return result.out;
}

const char *ran_expect_failure(Ran result, const char *what)
{
    ck_assert_msg(result.rc != 0, "%s: should have failed; %s%s", what, result.out, result.err);
    return result.err;
}

pid_t background(const World *w, const char *const *argv, int *ret_stdin)
{
    int in[2];
    ck_works(pipe2(in, O_CLOEXEC));
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pid_t pid = spawn(w, argv, in[0], null, null);
    close(null);
    close(in[0]);
    if (ret_stdin != NULL)
        *ret_stdin = in[1];
    else
        close(in[1]);
    return pid;
}

int background_wait(pid_t pid)
{
    return wait_code(pid, "a background process");
}

const char *text_of(const World *w, const char *name)
{
    g_autoptr(GString) text = g_string_new(NULL);
    char buffer[8192];
    ssize_t n;
    int fd = open(at(w, "%s", name), O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "open %s: %s", name, g_strerror(errno));
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        g_string_append_len(text, buffer, n);
    ck_assert_msg(n == 0, "read %s: %s", name, g_strerror(errno));
    close(fd);
    return keep(w, text->str);
}

const char *description_of(const World *w, const char *snapshot)
{
    const char *xml = text_of(w, keepf(w, "%s/snapshot.xml", snapshot));
    const char *text = xpath(w, xml, "/domainsnapshot/description");
    ck_assert_str_eq(text_of(w, keepf(w, "%s/description", snapshot)),
                     *text == '\0' ? "" : keepf(w, "%s\n", text));
    return text;
}

int put_bytes(const World *w, const char *name, const void *data, size_t size)
{
    int fd = open(at(w, "%s", name), O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int err = 0;
    ssize_t n = write(fd, data, size);
    if (n < 0)
        err = errno;
    else if ((size_t)n != size)
        err = ENODATA;
    if (close(fd) < 0 && err == 0)
        err = errno;
    return err;
}

int put(const World *w, const char *name, const char *text)
{
    return put_bytes(w, name, text, strlen(text));
}

static const char *ctl_of(const World *w, const char *domain)
{
    return domain == NULL ? "ctl" : keepf(w, "%s/ctl", domain);
}

static const char *log_of(const World *w, const char *domain)
{
    const char *name = domain == NULL ? "log" : keepf(w, "%s/log", domain);
    return exists(w, name) ? text_of(w, name) : "(no log)";
}

void command(const World *w, const char *domain, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    int err = put(w, ctl_of(w, domain), keepf(w, "%s\n", text));
    ck_assert_msg(err == 0, "'%s': %s; log: %s", text, g_strerror(err), log_of(w, domain));
}

void command_fails(const World *w, const char *domain, int want, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    int err = put(w, ctl_of(w, domain), keepf(w, "%s\n", text));
    ck_assert_msg(err == want, "'%s': %s; expected %s; log: %s", text, g_strerror(err), g_strerror(want),
                  log_of(w, domain));
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *names_in(const World *w, const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(at(w, "%s", name), 0, &error);
    ck_assert_msg(dir != NULL, "%s", error != NULL ? error->message : "");
    const char *entry;
    while ((entry = g_dir_read_name(dir)) != NULL)
        g_ptr_array_add(names, g_strdup(entry));
    g_ptr_array_sort(names, by_name);
    g_ptr_array_add(names, NULL);
    g_autofree char *joined = g_strjoinv(" ", (char **)names->pdata);
    return keep(w, joined);
}

const char *link_of(const World *w, const char *name)
{
    char target[1024];
    ssize_t n = readlink(at(w, "%s", name), target, sizeof target - 1);
    if (n < 0)
        return "";
    target[n] = '\0';
    return keep(w, target);
}

gboolean exists(const World *w, const char *name)
{
    struct stat st;
    return lstat(at(w, "%s", name), &st) == 0;
}

struct stat stat_of(const World *w, const char *name)
{
    struct stat st;
    ck_assert_msg(lstat(at(w, "%s", name), &st) == 0, "lstat %s: %s", name, g_strerror(errno));
    return st;
}

const char *xpath(const World *w, const char *xml, const char *expression)
{
    xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET);
    ck_assert_msg(doc != NULL, "not XML: %s", xml);
    xmlXPathContext *context = xmlXPathNewContext(doc);
    g_autofree char *string = g_strdup_printf("string(%s)", expression);
    xmlXPathObject *object = xmlXPathEvalExpression((const xmlChar *)string, context);
    ck_assert_ptr_nonnull(object);
    const char *result = keep(w, (const char *)object->stringval);
    xmlXPathFreeObject(object);
    xmlXPathFreeContext(context);
    xmlFreeDoc(doc);
    return result;
}
