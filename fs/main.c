/* SPDX-License-Identifier: GPL-2.0-or-later */
/* domsnapfs: puts the rooms together and mounts. The only file that knows all three. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <syslog.h>
#include <unistd.h>

#include "checkup.h"
#include "core.h"
#include "daemon.h"
#include "error.h"
#include "fault.h"
#include "fs.h"
#include "import.h"
#include "mountpoint.h"
#include "offline.h"
#include "online.h"
#include "ops.h"
#include "options.h"
#include "rules.h"
#include "view.h"

/* As --help says. */
enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_STORE = 2, EXIT_MOUNT = 3, EXIT_LEFT_OUT = 4 };

/* Of --check, as those of fsck(8). */
enum { CHECK_MENDED = 1, CHECK_LEFT = 4, CHECK_FAILED = 8, CHECK_USAGE = 16 };

static int fail(int code, const GError *error)
{
    fprintf(stderr, "domsnapfs: %s\n", error->message);
    return code;
}

static Engine *open_engine(const Options *options, const char *store, const char *mountpoint,
                           gboolean read_only, GError **error)
{
    g_autofree char *above = g_path_get_dirname(store);
    if (g_mkdir_with_parents(above, 0700) != 0) {
        snap_set_errno(error, errno, "store '%s'", store);
        return NULL;
    }
    CoreOptions core = {
        .store = store,
        .read_only = read_only,
        .snapshot = options->snapshot,
        .disk_only = options->disk_only,
        .merge_idle_ms = options->merge_idle,
        .backing_dirs = options->backing,
        .mountpoint = mountpoint,
    };
    g_autofree char *sockets = options_qmp(options);
    return core_engine_new(&core, online_backend_new(NULL, sockets), error);
}

typedef struct {
    gboolean quiet; /* about what is done */
    gboolean left_out;
} Tell;

static void tell_import(gpointer user, gboolean bad, const char *sentence)
{
    Tell *tell = user;
    if (bad)
        fprintf(stderr, "domsnapfs: %s\n", sentence);
    else if (!tell->quiet)
        printf("%s\n", sentence);
    tell->left_out |= bad;
}

/* Fill @store from libvirt's directory. */
static gboolean import(const Options *options, const char *store, const char *mountpoint, Tell *tell,
                       GError **error)
{
    Engine *engine = open_engine(options, store, mountpoint, FALSE, error);
    if (engine == NULL)
        return FALSE;
    gboolean ok = import_libvirt(engine, options->libvirt_dir, tell_import, tell, error);
    engine->ops->free(engine);
    return ok;
}

static int run_import(const Options *options)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *store = options_store(options);
    Tell tell = {0};
    if (!import(options, store, NULL, &tell, &error))
        return fail(EXIT_STORE, error);
    return tell.left_out ? EXIT_LEFT_OUT : EXIT_OK;
}

static void tell_finding(gpointer user, const char *line)
{
    printf("%s\n", line);
}

static const char *plural(guint n)
{
    return n == 1 ? "" : "s";
}

/* The last line; nothing when nothing was told. */
static void print_summary(const CheckCounts *counts, gboolean repair)
{
    guint left = counts->problems - counts->mended;
    if (counts->problems + counts->notes == 0)
        return;
    printf("%u domain%s, %u image%s: %u problem%s", counts->domains, plural(counts->domains), counts->images,
           plural(counts->images), counts->problems, plural(counts->problems));
    if (repair && counts->problems > 0)
        printf(", %u mended, %u left", counts->mended, left);
    else if (counts->mendable > 0)
        printf(", --repair mends %u", counts->mendable);
    puts("");
}

static int run_check(const Options *options)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *store = options_store(options);
    CheckCounts counts;
    if (!check_store(store, options->repair, offline_backend_new(NULL), tell_finding, NULL, &counts, &error))
        return fail(CHECK_FAILED, error);
    print_summary(&counts, options->repair);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        snap_set_errno(&error, errno, "standard output");
        return fail(CHECK_FAILED, error);
    }
    return counts.problems == 0 ? EXIT_OK : counts.problems == counts.mended ? CHECK_MENDED : CHECK_LEFT;
}

static struct fuse_session *new_session(const Options *options, Fs *fs)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    char *words = NULL;
    g_autofree char *fsname = g_strconcat("fsname=", fs->store, NULL);
    struct fuse_session *session = NULL;
    int failed = fuse_opt_add_opt_escaped(&words, fsname) | fuse_opt_add_opt(&words, "subtype=domsnapfs") |
                 fuse_opt_add_opt(&words, "default_permissions");
    if (options->allow_other)
        failed |= fuse_opt_add_opt(&words, "allow_other");
    if (options->read_only)
        failed |= fuse_opt_add_opt(&words, "ro");
    if (options->mount_words->len > 0)
        failed |= fuse_opt_add_opt(&words, options->mount_words->str);
    failed |=
        fuse_opt_add_arg(&args, "domsnapfs") | fuse_opt_add_arg(&args, "-o") | fuse_opt_add_arg(&args, words);
    if (options->debug)
        failed |= fuse_opt_add_arg(&args, "-d");
    if (!failed)
        session = fuse_session_new(&args, &fs_ops, sizeof fs_ops, fs);
    fuse_opt_free_args(&args);
    free(words);
    return session;
}

/* Signals come to the main thread once it can end the session: threads made before that must not get them. */
static void block_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(how, &set, NULL);
}

static int run_loop(Fs *fs)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    int result = fuse_session_loop_mt(fs->session, config);
    fuse_loop_cfg_destroy(config);
    block_signals(
        SIG_BLOCK); /* a second one would end the session under the jobs that still answer requests of it */
    daemon_drain(fs);
    return result < 0 ? EXIT_MOUNT : EXIT_OK; /* positive: the signal that ended it */
}

static int serve(const Options *options, Fs *fs, int report)
{
    fs->session = new_session(options, fs);
    if (fs->session == NULL)
        return EXIT_MOUNT;
    int code = EXIT_MOUNT;
    if (fuse_set_signal_handlers(fs->session) == 0) {
        if (fuse_session_mount(fs->session, fs->mountpoint) == 0) {
            if (report >= 0) {
                openlog("domsnapfs", LOG_PID, LOG_DAEMON);
                fs->syslog = TRUE;
                daemon_release(report);
            }
            passthrough_offer(fs->passthrough, fs->session);
            block_signals(SIG_UNBLOCK);
            code = run_loop(fs);
            passthrough_stop(fs->passthrough);
            fuse_session_unmount(fs->session);
        }
        fuse_remove_signal_handlers(fs->session);
    }
    fuse_session_destroy(fs->session);
    fs->session = NULL;
    return code;
}

/* With the store that is shown: open it, serve it. */
static int run_store(const Options *options, const char *store, const char *mountpoint, int report)
{
    g_autoptr(GError) error = NULL;
    Engine *engine = open_engine(options, store, mountpoint, options->read_only, &error);
    if (engine == NULL)
        return fail(EXIT_STORE, error);
    Fs *fs = fs_new(engine, store, mountpoint);
    fs->uid = options->uid;
    fs->gid = options->gid;
    fs->umask = options->umask;
    int code = serve(options, fs, report);
    fs_free(fs);
    return code;
}

/* -o libvirt: a store of its own, filled now. What is left out is said, and shown in the mount's log. */
static int run_view(const Options *options, const char *mountpoint, int report)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(View) view = view_new(&error);
    Tell tell = {.quiet = TRUE};
    if (view != NULL && !mountpoint_check_store(mountpoint, view_store(view), &error))
        return fail(EXIT_USAGE, error);
    if (view == NULL || !import(options, view_store(view), mountpoint, &tell, &error))
        return fail(EXIT_STORE, error);
    return run_store(options, view_store(view), mountpoint, report);
}

/* Each reader of a disk has all images of its chain open: many of them, of hundreds of layers. */
static void allow_many_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run(const Options *options)
{
    g_autoptr(GError) error = NULL;
    gboolean freed;
    g_autofree char *store = options_store(options);
    g_autofree char *mountpoint = mountpoint_resolve(options->mountpoint, &freed, &error);
    if (mountpoint == NULL)
        return fail(EXIT_MOUNT, error);
    if (freed)
        fprintf(stderr, "domsnapfs: freed '%s' from a mount whose daemon had died\n", mountpoint);
    if (!options->libvirt && !mountpoint_check_store(mountpoint, store, &error))
        return fail(EXIT_USAGE, error);
    g_autofree char *qmp = options_qmp(options);
    if (mountpoint_holds(mountpoint, qmp)) {
        snap_set_error(&error, EINVAL, "qmp=%s lies in the mount point '%s'", qmp, mountpoint);
        return fail(EXIT_USAGE, error);
    }
    int report = -1;
    if (!options->foreground && (report = daemon_fork()) < 0) {
        snap_set_errno(&error, errno, "fork");
        return fail(EXIT_MOUNT, error);
    }
    if (chdir("/") != 0) {
        snap_set_errno(&error, errno, "chdir to /");
        return fail(EXIT_MOUNT, error);
    }
    allow_many_files();
    block_signals(SIG_BLOCK);
    return options->libvirt ? run_view(options, mountpoint, report)
                            : run_store(options, store, mountpoint, report);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    OptionsAction action;
    if (!FAULT_START(&error))
        return fail(EXIT_USAGE, error);
    g_autoptr(Options) options = options_parse(argc, argv, &action, &error);
    if (options == NULL) {
        fail(EXIT_USAGE, error);
        fprintf(stderr, "domsnapfs --help says more\n");
        return action == ACTION_CHECK ? CHECK_USAGE : EXIT_USAGE;
    }
    switch (options->action) {
    case ACTION_HELP:
        fputs(options_help(), stdout);
        return EXIT_OK;
    case ACTION_VERSION:
        puts("domsnapfs " DOMSNAPFS_VERSION);
        return EXIT_OK;
    case ACTION_RULES: {
        g_autofree char *rules = rules_print();
        fputs(rules, stdout);
        return EXIT_OK;
    }
    case ACTION_IMPORT:
        return run_import(options);
    case ACTION_CHECK:
        return run_check(options);
    case ACTION_MOUNT:
        return run(options);
    }
    g_assert_not_reached();
}
