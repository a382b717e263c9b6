/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree over another engine than ours: one domain of a few ids, whose state is what a variable says. So the states of a
 * machine, and a machine that does not answer, need no machine. Really mounted, in a mount namespace of the test.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "daemon.h"
#include "error.h"
#include "fs.h"
#include "ops.h"
#include "own_mounts.h"
#include "runner.h"

enum { WEB = 1, WITH, WITHOUT, BACKING, LAST };

typedef struct {
    Engine engine; /* first: an Engine * is a Toy * */
    GMutex lock;
    GCond changed;
    const char *state; /* NULL: it is not known yet, ask again when it has changed */
    guint waiting;     /* for the state */
    char *files[LAST]; /* by id: of BACKING the layer, else the memory */
    char *picture;
    gint deleted; /* atomic: WITH is */
    char *why;    /* what was reported */
    char *dir;
    char *mnt;
    Fs *fs;
    GThread *loop;
} Toy;

static Toy *toy_of(Engine *engine)
{
    return (Toy *)engine;
}

static GPtrArray *toy_list(Engine *engine, EngineId where)
{
    static const struct {
        EngineId where, id;
        const char *name;
    } all[] = {{0, WEB, "web"}, {WEB, WITH, "with"}, {WEB, WITHOUT, "without"}};
    GPtrArray *entries = g_ptr_array_new_with_free_func((GDestroyNotify)engine_entry_free);
    for (guint i = 0; i < G_N_ELEMENTS(all); i++) {
        if (all[i].where != where || (all[i].id == WITH && g_atomic_int_get(&toy_of(engine)->deleted)))
            continue;
        EngineEntry *entry = g_new(EngineEntry, 1);
        *entry = (EngineEntry){.id = all[i].id, .name = g_strdup(all[i].name)};
        g_ptr_array_add(entries, entry);
    }
    return entries;
}

static EngineId toy_find(Engine *engine, EngineId where, const char *name)
{
    g_autoptr(GPtrArray) entries = toy_list(engine, where);
    for (guint i = 0; i < entries->len; i++) {
        const EngineEntry *entry = entries->pdata[i];
        if (strcmp(entry->name, name) == 0)
            return entry->id;
    }
    return 0;
}

static gboolean toy_look(Engine *engine, EngineId id, EngineLook *ret_look)
{
    if (id == 0 || id > WITHOUT || (id == WITH && g_atomic_int_get(&toy_of(engine)->deleted)))
        return FALSE;
    *ret_look =
        (EngineLook){.kind = id == WEB ? ENGINE_DOMAIN : ENGINE_SNAPSHOT, .domain = WEB, .time = 1000};
    return TRUE;
}

static char *toy_name(Engine *engine, EngineId id)
{
    return id == WEB ? g_strdup("web") : NULL;
}

static GPtrArray *toy_disks(Engine *engine, EngineId node)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)engine_disk_free);
}

/* Below the snapshot without a memory lies an image that is called so. */
static EngineId toy_chain_file(Engine *engine, EngineId node, const char *file)
{
    return node == WITHOUT && strcmp(file, "memory") == 0 ? BACKING : 0;
}

static gboolean stat_path(const char *path, EngineStat *ret_stat)
{
    struct stat st;
    if (path == NULL || stat(path, &st) < 0)
        return FALSE;
    *ret_stat = (EngineStat){
        .size = (guint64)st.st_size, .blocks = (guint64)st.st_blocks, .mtime = st.st_mtim, .nlink = 1};
    return TRUE;
}

static int open_path(const char *path, GError **error)
{
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        snap_set_error(error, ENOENT, "it is gone");
    return fd;
}

static gboolean toy_stat_layer(Engine *engine, EngineId layer, EngineStat *ret_stat)
{
    return layer == BACKING && stat_path(toy_of(engine)->files[BACKING], ret_stat);
}

static int toy_open_layer(Engine *engine, EngineId layer, GError **error)
{
    return open_path(toy_of(engine)->files[BACKING], error);
}

static const char *file_of(Toy *toy, EngineId snapshot, EngineFile file)
{
    if (snapshot >= LAST || (snapshot == WITH && g_atomic_int_get(&toy->deleted)))
        return NULL;
    return file == ENGINE_FILE_MEMORY ? toy->files[snapshot] : snapshot == WITH ? toy->picture : NULL;
}

static gboolean toy_stat_file(Engine *engine, EngineId snapshot, EngineFile file, EngineStat *ret_stat)
{
    return stat_path(file_of(toy_of(engine), snapshot, file), ret_stat);
}

static int toy_open_file(Engine *engine, EngineId snapshot, EngineFile file, GError **error)
{
    return open_path(file_of(toy_of(engine), snapshot, file), error);
}

static gboolean toy_text_size(Engine *engine, EngineText text, EngineId id, guint64 *ret_size,
                              gint64 *ret_time)
{
    *ret_size = text == ENGINE_TEXT_STATE ? strlen("shutoff\n") : 0;
    *ret_time = 1000;
    return TRUE;
}

static GBytes *toy_text(Engine *engine, EngineText text, EngineId id, GCancellable *cancel, GError **error)
{
    Toy *toy = toy_of(engine);
    if (text != ENGINE_TEXT_STATE)
        return g_bytes_new_static("", 0);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&toy->lock);
    toy->waiting++;
    g_cond_broadcast(&toy->changed);
    while (toy->state == NULL)
        g_cond_wait(&toy->changed, &toy->lock);
    toy->waiting--;
    return g_bytes_new_static(toy->state, strlen(toy->state));
}

static gboolean toy_power(Engine *engine, EngineId domain, PowerAction action, const char *file,
                          GCancellable *cancel, GError **error)
{
    if (action == POWER_START)
        return TRUE;
    snap_set_error(error, EBUSY, "it is paused already");
    return FALSE;
}

static void toy_report(Engine *engine, EngineId domain, const char *what, const GError *why)
{
    Toy *toy = toy_of(engine);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&toy->lock);
    g_free(toy->why);
    toy->why = g_strdup_printf("%s: %s", what, why->message);
}

static void toy_set_gone(Engine *engine, EngineGone gone, gpointer user)
{
}

static void toy_free(Engine *engine)
{
}

static const EngineOps toy_ops = {
    .list = toy_list,
    .find = toy_find,
    .look = toy_look,
    .name = toy_name,
    .disks = toy_disks,
    .chain_file = toy_chain_file,
    .stat_layer = toy_stat_layer,
    .open_layer = toy_open_layer,
    .stat_file = toy_stat_file,
    .open_file = toy_open_file,
    .text_size = toy_text_size,
    .text = toy_text,
    .power = toy_power,
    .report = toy_report,
    .set_gone = toy_set_gone,
    .free = toy_free,
};

static gpointer run_loop(gpointer data)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    fuse_session_loop_mt(((Toy *)data)->fs->session, config);
    fuse_loop_cfg_destroy(config);
    return NULL;
}

static char *make_file(const Toy *toy, const char *name, const char *text)
{
    char *path = g_build_filename(toy->dir, name, NULL);
    ck_assert(g_file_set_contents(path, text, -1, NULL));
    return path;
}

static Toy *toy_new(void)
{
    Toy *toy = g_new0(Toy, 1);
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    toy->engine.ops = &toy_ops;
    toy->state = "shutoff\n";
    toy->dir = g_dir_make_tmp("served-XXXXXX", NULL);
    toy->mnt = g_build_filename(toy->dir, "mnt", NULL);
    ck_assert_int_eq(g_mkdir(toy->mnt, 0700), 0);
    toy->files[WITH] = make_file(toy, "web.with.mem", "the memory of a machine");
    toy->files[BACKING] = make_file(toy, "memory", "a disk");
    toy->picture = make_file(toy, "picture", "\x89PNG");
    /* Where it may be had, a namespace takes the mount along, however this process ends. */
    (void)own_mounts();
    toy->fs = fs_new(&toy->engine, toy->dir, toy->mnt);
    toy->fs->umask = 027;
    toy->fs->uid = geteuid();
    toy->fs->gid = getegid();
    fuse_opt_add_arg(&args, "test");
    fuse_opt_add_arg(&args, "-odefault_permissions");
    toy->fs->session = fuse_session_new(&args, &fs_ops, sizeof fs_ops, toy->fs);
    fuse_opt_free_args(&args);
    ck_assert_ptr_nonnull(toy->fs->session);
    ck_assert_int_eq(fuse_session_mount(toy->fs->session, toy->mnt), 0);
    toy->loop = g_thread_new("loop", run_loop, toy);
    return toy;
}

static void toy_end(Toy *toy)
{
    const char *argv[] = {"fusermount3", "-u", toy->mnt, NULL};
    if (umount2(toy->mnt, 0) < 0)
        ck_assert(
            g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
    g_thread_join(toy->loop);
    daemon_drain(toy->fs); /* a job that has answered may not be through yet */
    fuse_session_unmount(toy->fs->session);
    fuse_session_destroy(toy->fs->session);
    toy->fs->session = NULL;
    fs_free(toy->fs);
    g_unlink(toy->picture);
    for (guint i = 0; i < LAST; i++)
        if (toy->files[i] != NULL)
            g_unlink(toy->files[i]);
    g_rmdir(toy->mnt);
    g_rmdir(toy->dir);
    for (guint i = 0; i < LAST; i++)
        g_free(toy->files[i]);
    g_free(toy->picture);
    g_free(toy->why);
    g_free(toy->dir);
    g_free(toy->mnt);
    g_free(toy);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Toy, toy_end)

static char *at(const Toy *toy, const char *name)
{
    return g_build_filename(toy->mnt, name, NULL);
}

static int open_at(const Toy *toy, const char *name, int flags)
{
    g_autofree char *path = at(toy, name);
    return open(path, flags | O_CLOEXEC);
}

static void check_reads(int fd, off_t offset, gsize size, const char *expected)
{
    char buffer[64] = "";
    ck_assert_uint_lt(size, sizeof buffer);
    ck_assert_int_eq(pread(fd, buffer, size, offset), (gssize)strlen(expected));
    ck_assert_str_eq(buffer, expected);
}

static void check_content(const Toy *toy, const char *name, const char *expected)
{
    int fd = open_at(toy, name, O_RDONLY);
    ck_assert_msg(fd >= 0, "%s: %s", name, g_strerror(errno));
    check_reads(fd, 0, 60, expected);
    close(fd);
}

static void check_listing(const Toy *toy, const char *name, const char *expected)
{
    g_autofree char *path = at(toy, name);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autoptr(GString) names = g_string_new(NULL);
    ck_assert_ptr_nonnull(dir);
    for (const char *entry = g_dir_read_name(dir); entry != NULL; entry = g_dir_read_name(dir))
        g_string_append_printf(names, "%s ", entry);
    ck_assert_str_eq(names->str, expected);
}

static void set_state(Toy *toy, const char *state)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&toy->lock);
    toy->state = state;
    g_cond_broadcast(&toy->changed);
}

/* --- memory, screenshot.png --- */

START_TEST(files_of_a_snapshot)
{
    g_autoptr(Toy) toy = toy_new();
    check_listing(toy, "web/with", "snapshot.xml description changes memory screenshot.png ");
    check_listing(toy, "web/without", "snapshot.xml description changes ");
    check_content(toy, "web/with/memory", "the memory of a machine");
    check_content(toy, "web/with/screenshot.png", "\x89PNG");
    check_content(toy, "web/without/memory", "a disk"); /* a backing file, by its own name */
    ck_assert_int_eq(open_at(toy, "web/without/screenshot.png", O_RDONLY), -1);
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

START_TEST(files_are_read_only)
{
    g_autoptr(Toy) toy = toy_new();
    static const char *const names[] = {"web/with/memory", "web/with/screenshot.png"};
    const char *real[] = {toy->files[WITH], toy->picture};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        struct stat shown, is;
        g_autofree char *path = at(toy, names[i]);
        ck_assert_int_eq(stat(path, &shown), 0);
        ck_assert_int_eq(stat(real[i], &is), 0);
        ck_assert_uint_eq(shown.st_mode, S_IFREG | 0440);
        ck_assert_int_eq(shown.st_size, is.st_size);
        ck_assert_int_eq(shown.st_blocks, is.st_blocks);
        ck_assert_int_eq(shown.st_mtim.tv_sec, is.st_mtim.tv_sec);
        ck_assert_int_eq(shown.st_mtim.tv_nsec, is.st_mtim.tv_nsec);
        ck_assert_uint_eq(shown.st_nlink, 1);
        static const int ways[] = {O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC, O_RDONLY | O_TRUNC};
        for (guint w = 0; w < G_N_ELEMENTS(ways); w++) {
            ck_assert_int_eq(open_at(toy, names[i], ways[w]), -1);
            ck_assert_int_eq(errno, EACCES);
        }
        ck_assert(unlink(path) == -1 && errno == EPERM);
        ck_assert(truncate(path, 0) == -1 && (errno == EPERM || errno == EACCES));
        ck_assert(chmod(path, 0600) == -1 && errno == EPERM);
    }
    check_content(toy, "web/with/memory", "the memory of a machine");
}
END_TEST

/* Who has it open goes on reading when the snapshot is gone. */
START_TEST(files_outlive_their_name)
{
    g_autoptr(Toy) toy = toy_new();
    struct stat st;
    int fd = open_at(toy, "web/with/memory", O_RDONLY);
    ck_assert_int_ge(fd, 0);
    g_atomic_int_set(&toy->deleted, TRUE);
    check_reads(fd, 4, 6, "memory");
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(st.st_size, (off_t)strlen("the memory of a machine"));
    ck_assert_int_eq(open_at(toy, "web/with/memory", O_RDONLY), -1);
    ck_assert_int_eq(errno, ENOENT);
    close(fd);
}
END_TEST

static void overwrite(const char *path, const char *text, const struct timespec *mtime)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (gssize)strlen(text));
    const struct timespec times[] = {*mtime, *mtime};
    ck_assert_int_eq(futimens(fd, times), 0);
    close(fd);
}

/* The pages stay from one open to the next, for as long as size and time say that it is the same file. */
START_TEST(files_stay_in_the_page_cache)
{
    g_autoptr(Toy) toy = toy_new();
    struct stat st;
    check_content(toy, "web/with/memory", "the memory of a machine");
    ck_assert_int_eq(stat(toy->files[WITH], &st), 0);
    overwrite(toy->files[WITH], "THE", &st.st_mtim);
    check_content(toy, "web/with/memory", "the memory of a machine");
    st.st_mtim.tv_sec += 10;
    overwrite(toy->files[WITH], "THE", &st.st_mtim);
    check_content(toy, "web/with/memory", "THE memory of a machine");
}
END_TEST

/* --- state --- */

START_TEST(state_is_never_old)
{
    static const char *const states[] = {"shutoff\n", "running\n", "paused\n",
                                         "saved\n",   "unknown\n", "shutoff\n"};
    g_autoptr(Toy) toy = toy_new();
    int kept = open_at(toy, "web/state", O_RDONLY);
    ck_assert_int_ge(kept, 0);
    for (guint i = 0; i < G_N_ELEMENTS(states); i++) {
        set_state(toy, states[i]);
        check_content(toy, "web/state", states[i]);
        check_reads(kept, 0, 60, states[i]); /* also by who has had it open all the time */
        check_reads(kept, (off_t)strlen(states[i]), 60, "");
    }
    close(kept);
    ck_assert_int_eq(open_at(toy, "web/state", O_WRONLY), -1);
    ck_assert_int_eq(errno, EACCES);
}
END_TEST

/* A word read in pieces is one word, not two. */
START_TEST(state_is_whole)
{
    g_autoptr(Toy) toy = toy_new();
    set_state(toy, "running\n");
    int fd = open_at(toy, "web/state", O_RDONLY);
    check_reads(fd, 0, 3, "run");
    set_state(toy, "shutoff\n");
    check_reads(fd, 3, 60, "ning\n");
    check_reads(fd, 0, 60, "shutoff\n");
    close(fd);
    /* and one whose beginning nobody has read */
    fd = open_at(toy, "web/state", O_RDONLY);
    check_reads(fd, 4, 60, "off\n");
    close(fd);
}
END_TEST

static gpointer read_state(gpointer data)
{
    int fd = open_at(data, "web/state", O_RDONLY);
    char buffer[16] = "";
    if (fd >= 0 && read(fd, buffer, sizeof buffer - 1) < 0)
        buffer[0] = '\0';
    if (fd >= 0)
        close(fd);
    return g_strdup(buffer);
}

/* More readers than FUSE has workers ask a machine that does not answer: only they wait. */
START_TEST(a_silent_machine_stops_nobody_else)
{
    enum { READERS = 30 };
    g_autoptr(Toy) toy = toy_new();
    GThread *readers[READERS];
    set_state(toy, NULL);
    for (guint i = 0; i < READERS; i++)
        readers[i] = g_thread_new("reader", read_state, toy);
    g_mutex_lock(&toy->lock);
    while (toy->waiting < READERS)
        g_cond_wait(&toy->changed, &toy->lock);
    g_mutex_unlock(&toy->lock);
    check_listing(toy, "web/with", "snapshot.xml description changes memory screenshot.png ");
    check_content(toy, "web/with/memory", "the memory of a machine");
    struct stat st;
    g_autofree char *path = at(toy, "web/state");
    ck_assert_int_eq(stat(path, &st), 0);
    set_state(toy, "running\n");
    for (guint i = 0; i < READERS; i++) {
        g_autofree char *said = g_thread_join(readers[i]);
        ck_assert_str_eq(said, "running\n");
    }
}
END_TEST

/* --- power --- */

/* What was told has @part. */
static void check_told(Toy *toy, const char *part)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&toy->lock);
    ck_assert_msg(strstr(toy->why, part) != NULL, "%s", toy->why);
}

START_TEST(power_answers_the_write)
{
    g_autoptr(Toy) toy = toy_new();
    int fd = open_at(toy, "web/ctl", O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "start\n", 6), 6);
    ck_assert_int_eq(write(fd, "suspend\n", 8), -1);
    ck_assert_int_eq(errno, EBUSY);
    check_told(toy, "suspend: it is paused already");
    close(fd);
    fd = open_at(toy, "web/ctl", O_WRONLY);
    ck_assert_int_eq(write(fd, "save web.save\n", 14), -1);
    ck_assert_int_eq(errno, EINVAL);
    check_told(toy, "not an absolute path");
    close(fd);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("served");
    TCase *files = tcase_create("files of a snapshot");
    tcase_add_test(files, files_of_a_snapshot);
    tcase_add_test(files, files_are_read_only);
    tcase_add_test(files, files_outlive_their_name);
    tcase_add_test(files, files_stay_in_the_page_cache);
    suite_add_tcase(all, files);
    TCase *state = tcase_create("state");
    tcase_set_timeout(state, 30);
    tcase_add_test(state, state_is_never_old);
    tcase_add_test(state, state_is_whole);
    tcase_add_test(state, a_silent_machine_stops_nobody_else);
    suite_add_tcase(all, state);
    TCase *power = tcase_create("power");
    tcase_add_test(power, power_answers_the_write);
    suite_add_tcase(all, power);
    return all;
}

int main(void)
{
    return run_suite(suite());
}
