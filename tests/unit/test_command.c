/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a command to the engine: what it is asked for. The engine here does nothing but write that down; what the real one
 * does is tested elsewhere.
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "command.h"
#include "error.h"
#include "runner.h"

enum { DOMAIN = 7 };

typedef struct {
    Engine engine; /* first: an Engine * is a Notes * */
    GString *asked;
} Notes;

static gboolean note_power(Engine *engine, EngineId domain, PowerAction action, const char *file,
                           GCancellable *cancel, GError **error)
{
    ck_assert_uint_eq(domain, DOMAIN);
    g_string_append_printf(((Notes *)engine)->asked, "power %d %s;", action, file != NULL ? file : "-");
    return TRUE;
}

static gboolean note_undefine(Engine *engine, EngineId domain, UndefineFlags flags, GCancellable *cancel,
                              GError **error)
{
    g_string_append_printf(((Notes *)engine)->asked, "undefine %u;", flags);
    return TRUE;
}

static gboolean note_revert(Engine *engine, EngineId domain, const RevertRequest *request,
                            GCancellable *cancel, GError **error)
{
    g_string_append_printf(((Notes *)engine)->asked, "revert %s%s%s%s;", request->name,
                           request->reset_nvram ? " reset-nvram" : "", request->force ? " force" : "",
                           request->running ? " running" : "");
    return TRUE;
}

static gboolean note_create(Engine *engine, EngineId domain, const CreateRequest *request,
                            GCancellable *cancel, EngineId *ret_snapshot, GError **error)
{
    g_string_append_printf(((Notes *)engine)->asked, "create %s%s%s%s%s memory %s %s;", request->name,
                           request->disk_only ? " disk-only" : "", request->live ? " live" : "",
                           request->quiesce ? " quiesce" : "", request->halt ? " halt" : "",
                           snap_mode_to_string(request->memory),
                           request->memory_file != NULL ? request->memory_file : "-");
    return TRUE;
}

static EngineId find_any(Engine *engine, EngineId where, const char *name)
{
    return DOMAIN;
}

static const EngineOps notes_ops = {
    .find = find_any,
    .power = note_power,
    .undefine = note_undefine,
    .revert = note_revert,
    .create = note_create,
};

/* Run @line; it fails with @code, or 0. Returns what was asked of the engine; caller frees. */
static char *asked(EngineId domain, const char *mountpoint, const char *line, int code)
{
    Notes notes = {.engine = {.ops = &notes_ops}, .asked = g_string_new(NULL)};
    Fs fs = {.engine = &notes.engine, .mountpoint = (char *)mountpoint};
    g_autoptr(GError) error = NULL;
    g_autoptr(Command) command = NULL;
    gboolean ok = ctl_parse(domain == 0 ? CTL_MOUNT : CTL_DOMAIN, line, &command, &error) &&
                  command_run(&fs, domain, command, NULL, 0, NULL, &error);
    ck_assert_msg(ok == (code == 0), "'%s': %s", line, ok ? "taken" : error->message);
    if (!ok) {
        ck_assert_int_eq(snap_errno(error), code);
        ck_assert_msg(strchr(error->message, ' ') != NULL, "'%s': no sentence: %s", line, error->message);
    }
    return g_string_free(notes.asked, FALSE);
}

static void check_asked(EngineId domain, const char *line, const char *expected)
{
    g_autofree char *got = asked(domain, "/nowhere/mnt", line, 0);
    ck_assert_str_eq(got, expected);
}

START_TEST(power_actions)
{
    static const struct {
        const char *line;
        PowerAction action;
    } cases[] = {
        {"start", POWER_START},
        {"start --paused", POWER_START_PAUSED},
        {"shutdown", POWER_SHUTDOWN},
        {"destroy", POWER_DESTROY},
        {"pause", POWER_PAUSE},
        {"suspend", POWER_PAUSE},
        {"resume", POWER_RESUME},
        {"managedsave", POWER_MANAGEDSAVE},
        {"managedsave-remove", POWER_MANAGEDSAVE_REMOVE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *expected = g_strdup_printf("power %d -;", cases[i].action);
        check_asked(DOMAIN, cases[i].line, expected);
    }
    g_autofree char *save = g_strdup_printf("power %d /tmp/a b;", POWER_SAVE);
    g_autofree char *restore = g_strdup_printf("power %d /tmp/f;", POWER_RESTORE);
    check_asked(DOMAIN, "save '/tmp/./x/../a b'", save); /* what was looked at is what is opened */
    check_asked(DOMAIN, "restore /tmp/f", restore);
}
END_TEST

START_TEST(options_for_running_machines)
{
    check_asked(DOMAIN, "revert s1 --reset-nvram", "revert s1 reset-nvram;");
    check_asked(DOMAIN, "revert s1 force running", "revert s1 force running;");
    check_asked(DOMAIN, "create s1 --memspec /m --live", "create s1 live memory external /m;");
    check_asked(DOMAIN, "create s1 --memspec /m,snapshot=external --halt",
                "create s1 halt memory external /m;");
    check_asked(DOMAIN, "create s1 --disk-only --quiesce", "create s1 disk-only quiesce memory default -;");
    check_asked(0, "undefine web", "undefine 0;");
    check_asked(0, "undefine web --managed-save", "undefine 2;");
    check_asked(0, "undefine web --managed-save --snapshots-metadata", "undefine 3;");
}
END_TEST

static void check_refused(const char *mountpoint, const char *line)
{
    g_autofree char *got = asked(DOMAIN, mountpoint, line, EINVAL);
    ck_assert_str_eq(got, "");
}

START_TEST(files_outside_the_mount)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *made = g_dir_make_tmp("command-XXXXXX", &error);
    ck_assert_ptr_nonnull(made);
    g_autofree char *mnt = g_build_filename(made, "mnt", NULL);
    g_autofree char *link = g_build_filename(made, "link", NULL);
    ck_assert_int_eq(g_mkdir(mnt, 0700), 0);
    ck_assert_int_eq(symlink("mnt", link), 0);
    static const char *const words[] = {"save", "restore"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        const char *paths[] = {"file", "./file", "../file", mnt, link};
        for (guint p = 0; p < G_N_ELEMENTS(paths); p++) {
            g_autofree char *line = g_strdup_printf("%s %s", words[i], paths[p]);
            check_refused(mnt, line);
        }
        static const char *const inside[] = {"mnt/file", "link/web/file", "mnt/../mnt/file",
                                             "./mnt//web/s1/f"};
        for (guint p = 0; p < G_N_ELEMENTS(inside); p++) {
            g_autofree char *line = g_strdup_printf("%s %s/%s", words[i], made, inside[p]);
            check_refused(mnt, line);
        }
        g_autofree char *beside = g_strdup_printf("%s %s/mnt2", words[i], made);
        g_autofree char *got = asked(DOMAIN, mnt, beside, 0);
        ck_assert_msg(g_str_has_suffix(got, "/mnt2;"), "%s", got);
    }
    g_unlink(link);
    g_rmdir(mnt);
    g_rmdir(made);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("command");
    TCase *tests = tcase_create("asked of the engine");
    tcase_add_test(tests, power_actions);
    tcase_add_test(tests, options_for_running_machines);
    tcase_add_test(tests, files_outside_the_mount);
    suite_add_tcase(all, tests);
    return all;
}

int main(void)
{
    return run_suite(suite());
}
