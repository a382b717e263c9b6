/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "rundir.h"

#define DEFAULT_UMASK 027

typedef struct Word Word;
typedef gboolean (*WordTake)(Options *options, const char *value, GError **error);

typedef enum { VALUE_NONE, VALUE_NEEDED, VALUE_OPTIONAL } WordValue;

/* A word of -o that is ours. */
struct Word {
    const char *word;
    WordValue value;
    WordTake take;
};

static gboolean take_ro(Options *options, const char *value, GError **error)
{
    options->read_only = TRUE;
    return TRUE;
}

static gboolean take_rw(Options *options, const char *value, GError **error)
{
    options->read_only = FALSE;
    return TRUE;
}

/* The daemon leaves this directory: paths are made absolute. */
static gboolean take_libvirt(Options *options, const char *value, GError **error)
{
    options->libvirt = TRUE;
    g_free(options->libvirt_dir);
    options->libvirt_dir = value != NULL && *value != '\0' ? g_canonicalize_filename(value, NULL) : NULL;
    return TRUE;
}

static gboolean take_allow_other(Options *options, const char *value, GError **error)
{
    options->allow_other = TRUE;
    return TRUE;
}

static gboolean take_snapshot(Options *options, const char *value, GError **error)
{
    SnapMode mode = MODE_DEFAULT;
    if (strcmp(value, "auto") != 0 &&
        (!snap_mode_from_string(value, &mode) || (mode != MODE_INTERNAL && mode != MODE_EXTERNAL))) {
        snap_set_error(error, EINVAL, "snapshot=%s: it is one of auto, internal, external", value);
        return FALSE;
    }
    options->snapshot = mode;
    return TRUE;
}

static gboolean take_disk_only(Options *options, const char *value, GError **error)
{
    options->disk_only = TRUE;
    return TRUE;
}

static gboolean take_qmp(Options *options, const char *value, GError **error)
{
    if (*value == '\0') {
        snap_set_error(error, EINVAL, "qmp=: it is a directory");
        return FALSE;
    }
    g_free(options->qmp);
    options->qmp = g_canonicalize_filename(value, NULL);
    return TRUE;
}

static gboolean take_backing(Options *options, const char *value, GError **error)
{
    g_strfreev(options->backing);
    options->backing = g_strsplit(value, ":", -1);
    for (char **dir = options->backing; *dir != NULL; dir++) {
        /* The daemon leaves this directory. */
        char *absolute = g_canonicalize_filename(*dir, NULL);
        g_free(*dir);
        *dir = absolute;
    }
    return TRUE;
}

static gboolean take_number(const char *value, guint base, guint64 max, guint64 *ret_number)
{
    return g_ascii_string_to_unsigned(value, base, 0, max, ret_number, NULL);
}

static gboolean take_merge_idle(Options *options, const char *value, GError **error)
{
    const guint64 day = 24 * 3600 * 1000;
    guint64 number;
    if (!take_number(value, 10, day, &number) || number == 0) {
        snap_set_error(error, EINVAL,
                       "merge_idle=%s: it is a number of milliseconds from 1 to %" G_GUINT64_FORMAT, value,
                       day);
        return FALSE;
    }
    options->merge_idle = (guint)number;
    return TRUE;
}

static gboolean take_uid(Options *options, const char *value, GError **error)
{
    guint64 number;
    const struct passwd *user = NULL;
    if (!take_number(value, 10, G_MAXUINT32 - 1, &number)) {
        user = getpwnam(value);
        if (user == NULL) {
            snap_set_error(error, EINVAL, "uid=%s: there is no such user", value);
            return FALSE;
        }
    }
    options->uid = user != NULL ? user->pw_uid : (uid_t)number;
    return TRUE;
}

static gboolean take_gid(Options *options, const char *value, GError **error)
{
    guint64 number;
    const struct group *group = NULL;
    if (!take_number(value, 10, G_MAXUINT32 - 1, &number)) {
        group = getgrnam(value);
        if (group == NULL) {
            snap_set_error(error, EINVAL, "gid=%s: there is no such group", value);
            return FALSE;
        }
    }
    options->gid = group != NULL ? group->gr_gid : (gid_t)number;
    return TRUE;
}

static gboolean take_umask(Options *options, const char *value, GError **error)
{
    guint64 number;
    if (!take_number(value, 8, 0777, &number)) {
        snap_set_error(error, EINVAL, "umask=%s: it is an octal number up to 777", value);
        return FALSE;
    }
    options->umask = (mode_t)number;
    return TRUE;
}

static gboolean take_config(Options *options, const char *value, GError **error)
{
    g_free(options->config);
    options->config = g_strdup(value);
    return TRUE;
}

static const Word words[] = {
    {"ro", VALUE_NONE, take_ro},
    {"rw", VALUE_NONE, take_rw},
    {"libvirt", VALUE_OPTIONAL, take_libvirt},
    {"allow_other", VALUE_NONE, take_allow_other},
    {"snapshot", VALUE_NEEDED, take_snapshot},
    {"disk_only", VALUE_NONE, take_disk_only},
    {"qmp", VALUE_NEEDED, take_qmp},
    {"backing", VALUE_NEEDED, take_backing},
    {"merge_idle", VALUE_NEEDED, take_merge_idle},
    {"uid", VALUE_NEEDED, take_uid},
    {"gid", VALUE_NEEDED, take_gid},
    {"umask", VALUE_NEEDED, take_umask},
    {"config", VALUE_NEEDED, take_config},
};

/* Words of mount(8) that the kernel is told. */
static const char *const passed[] = {"dev",  "nodev", "suid",    "nosuid", "exec",    "noexec",
                                     "sync", "async", "dirsync", "atime",  "noatime", NULL};

/* Words that mean something to mount(8), to systemd, or that hold always here. */
static const char *const ignored[] = {"defaults",
                                      "auto",
                                      "noauto",
                                      "user",
                                      "nouser",
                                      "users",
                                      "nousers",
                                      "owner",
                                      "group",
                                      "_netdev",
                                      "nofail",
                                      "relatime",
                                      "norelatime",
                                      "strictatime",
                                      "nostrictatime",
                                      "lazytime",
                                      "nolazytime",
                                      "diratime",
                                      "nodiratime",
                                      "silent",
                                      "loud",
                                      "iversion",
                                      "noiversion",
                                      "mand",
                                      "nomand",
                                      "default_permissions",
                                      NULL};

static gboolean take_word(Options *options, const char *text, GError **error)
{
    g_assert(text);
    gsize len = strcspn(text, "=");
    g_autofree char *key = g_strndup(text, len);
    const char *value = text[len] == '=' ? text + len + 1 : NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
        if (g_strcmp0(words[i].word, key) != 0)
            continue;
        if (words[i].value != VALUE_OPTIONAL && (value != NULL) != (words[i].value == VALUE_NEEDED)) {
            snap_set_error(error, EINVAL, "option %s %s", key,
                           value != NULL ? "takes no value" : "needs a value");
            return FALSE;
        }
        return words[i].take(options, value, error);
    }
    if (g_strv_contains(passed, text)) {
        g_string_append_printf(options->mount_words, "%s%s", options->mount_words->len > 0 ? "," : "", text);
        return TRUE;
    }
    if (g_strv_contains(ignored, text) || g_str_has_prefix(text, "x-") || strcmp(key, "comment") == 0)
        return TRUE;
    snap_set_error(error, EINVAL, "unknown option '%s'", text);
    return FALSE;
}

/* The words of one -o: separated by commas; a backslash takes the next character as it is, as libfuse does
 * it. */
static void split_words(const char *text, GPtrArray *list)
{
    g_autoptr(GString) word = g_string_new(NULL);
    for (const char *at = text;; at++) {
        if (*at == ',' || *at == '\0') {
            if (word->len > 0)
                g_ptr_array_add(list, g_strdup(word->str));
            g_string_truncate(word, 0);
            if (*at == '\0')
                return;
            continue;
        }
        if (*at == '\\' && at[1] != '\0')
            at++;
        g_string_append_c(word, *at);
    }
}

static gboolean read_config(Options *options, const char *path, GError **error)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, error))
        return FALSE;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        char *line = g_strstrip(lines[i]);
        if (*line == '\0' || *line == '#')
            continue;
        g_auto(GStrv) halves = g_strsplit(line, "=", 2);
        g_strstrip(halves[0]);
        g_autofree char *word = halves[1] == NULL ? g_strdup(halves[0])
                                                  : g_strconcat(halves[0], "=", g_strstrip(halves[1]), NULL);
        if (!take_word(options, word, error)) {
            g_prefix_error(error, "%s: line %u: ", path, i + 1);
            return FALSE;
        }
    }
    return TRUE;
}

/* The words of a config file first, so that those of the command line go before them. */
static gboolean take_words(Options *options, const GPtrArray *list, GError **error)
{
    const char *config = NULL;
    for (guint i = 0; i < list->len; i++)
        if (g_str_has_prefix(list->pdata[i], "config="))
            config = (const char *)list->pdata[i] + strlen("config=");
    if (config != NULL && !read_config(options, config, error))
        return FALSE;
    for (guint i = 0; i < list->len; i++)
        if (!take_word(options, list->pdata[i], error))
            return FALSE;
    return TRUE;
}

/* One switch of the command line; FALSE: an unknown one. */
static gboolean take_switch(Options *options, int c, GPtrArray *list)
{
    switch (c) {
    case 'f':
        options->foreground = TRUE;
        return TRUE;
    case 'd':
        options->debug = options->foreground = TRUE;
        return TRUE;
    case 'o':
        split_words(optarg, list);
        return TRUE;
    case 'h':
        options->action = ACTION_HELP;
        return TRUE;
    case 'V':
        options->action = ACTION_VERSION;
        return TRUE;
    case 'r':
        options->action = ACTION_RULES;
        return TRUE;
    case 'i':
        options->action = ACTION_IMPORT;
        return TRUE;
    case 'c':
        options->action = ACTION_CHECK;
        return TRUE;
    case 'R':
        options->repair = TRUE;
        return TRUE;
    default:
        return FALSE;
    }
}

/* As fstab(5) has it, a store may also be called by a word that says nothing. */
static void take_store(Options *options, const char *store)
{
    static const char *const default_names[] = {"", "none", "domsnapfs", NULL};
    options->store = g_strv_contains(default_names, store) ? NULL : g_strdup(store);
}

static gboolean take_operands(Options *options, int count, char **operands, GError **error)
{
    const OptionsAction action = options->action;
    const int min = action == ACTION_MOUNT ? 1 : 0, max = action == ACTION_CHECK ? 1 : 2;
    const int store = action == ACTION_IMPORT ? 1 : 0; /* a mount's one operand is no store */
    if (action != ACTION_MOUNT && action != ACTION_IMPORT && action != ACTION_CHECK)
        return TRUE;
    if (count < min || count > max) {
        snap_set_error(error, EINVAL, "%s",
                       count < min ? "a mount point is missing" : "there are too many arguments");
        return FALSE;
    }
    take_store(options, count == max ? operands[store] : "");
    if (action == ACTION_IMPORT)
        return take_libvirt(options, count > 0 ? operands[0] : NULL, error);
    if (action == ACTION_MOUNT)
        options->mountpoint = g_strdup(operands[count - 1]);
    return TRUE;
}

/* A check looks at what is there: no word of a mount means anything to it. */
static gboolean check_modes(const Options *options, const GPtrArray *list, GError **error)
{
    gboolean check = options->action == ACTION_CHECK;
    if (options->repair && !check)
        snap_set_error(error, EINVAL, "--repair goes with --check");
    else if (check && (list->len > 0 || options->foreground))
        snap_set_error(error, EINVAL, "--check takes none of -o, -f and -d");
    else
        return TRUE;
    return FALSE;
}

/* Words that need each other. */
static gboolean check_words(const Options *options, GError **error)
{
    if (options->action != ACTION_MOUNT || !options->libvirt)
        return TRUE;
    if (!options->read_only)
        snap_set_error(
            error, EINVAL,
            "libvirt shows what is libvirt's and needs ro; --import-libvirt brings it into a store");
    else if (options->store != NULL)
        snap_set_error(error, EINVAL, "with libvirt there is no STORE: leave out '%s'", options->store);
    else
        return TRUE;
    return FALSE;
}

/* The switches, into @options and, the words behind -o, @list. */
static gboolean take_switches(Options *options, int argc, char **argv, GPtrArray *list, GError **error)
{
    static const struct option switches[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {"print-rules", no_argument, NULL, 'r'},
        {"import-libvirt", no_argument, NULL, 'i'},
        {"check", no_argument, NULL, 'c'},
        {"repair", no_argument, NULL, 'R'},
        {NULL, 0, NULL, 0},
    };
    const char *wrong = NULL;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "fdo:hV", switches, NULL)) != -1;)
        if (!take_switch(options, c, list) && !wrong) /* the rest still tells what is asked for */
            wrong = argv[optind - 1];
    if (wrong)
        snap_set_error(error, EINVAL, "'%s' is unknown or lacks its value", wrong);
    return !wrong;
}

Options *options_parse(int argc, char **argv, OptionsAction *ret_action, GError **error)
{
    g_autoptr(Options) options = g_new0(Options, 1);
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    options->uid = getuid();
    options->gid = getgid();
    options->umask = DEFAULT_UMASK;
    options->mount_words = g_string_new(NULL);
    gboolean ok = take_switches(options, argc, argv, list, error);
    if (ret_action)
        *ret_action = options->action;
    if (!ok || !check_modes(options, list, error) || !take_words(options, list, error) ||
        !take_operands(options, argc - optind, argv + optind, error) || !check_words(options, error))
        return NULL;
    return g_steal_pointer(&options);
}

void options_free(Options *options)
{
    if (options == NULL)
        return;
    g_free(options->store);
    g_free(options->mountpoint);
    g_free(options->libvirt_dir);
    g_free(options->qmp);
    g_strfreev(options->backing);
    g_free(options->config);
    g_string_free(options->mount_words, TRUE);
    g_free(options);
}

char *options_store(const Options *options)
{
    if (options->store != NULL)
        return g_canonicalize_filename(options->store, NULL);
    if (getuid() == 0)
        return g_strdup("/var/lib/domsnapfs");
    return g_build_filename(g_get_user_state_dir(), "domsnapfs", NULL);
}

char *options_qmp(const Options *options)
{
    char *run = options->qmp != NULL ? g_strdup(options->qmp) : rundir_path();
    /* Not in /tmp: whoever is first to make a directory there would be believed what he says of our machines. */
    return run != NULL ? run : g_build_filename(g_get_user_cache_dir(), "domsnapfs", NULL);
}
