/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { PATIENCE_SECONDS = 30 };
static const char *const targets[MAX_DISKS] = {"vda", "vdb"};

/* --- making one --- */

static void entry_free(Entry *entry)
{
    g_free(entry->name);
    g_free(entry->parent);
    g_free(entry->tag);
    g_free(entry);
}

Ledger *ledger_new(const World *w, const char *domain, const char *formats, guint32 seed)
{
    g_autoptr(GString) disks = g_string_new(NULL);
    Ledger *l = g_new0(Ledger, 1);
    l->w = w;
    l->formats = g_strsplit(formats, " ", -1);
    l->domain = domain;
    l->rand = g_rand_new_with_seed(seed);
    l->entries = g_ptr_array_new_with_free_func((GDestroyNotify)entry_free);
    for (; l->formats[l->disks] != NULL; l->disks++) {
        const char *target = targets[l->disks], *format = l->formats[l->disks];
        const char *path = image(w, keepf(w, "%s-%s.%s", domain, target, format));
        run_ok(w, "qemu-img", "create", "-q", "-f", format, path, keepf(w, "%d", BLOCKS * BLOCK_SIZE));
        g_string_append_printf(disks, "%s%s:%s", l->disks > 0 ? " " : "", target, format);
    }
    int err = put(w, "ctl", machine_xml(w, domain, NULL, disks->str));
    ck_assert_msg(err == 0, "define %s: %s", domain, g_strerror(err));
    return l;
}

void ledger_free(Ledger *l)
{
    g_rand_free(l->rand);
    g_ptr_array_unref(l->entries);
    g_strfreev(l->formats);
    g_free(l->current);
    g_free(l->kept_current);
    g_free(l->subject);
    g_free(l->other);
    g_free(l);
}

static const char *of(const Ledger *l, const char *name)
{
    return keepf(l->w, "%s/%s", l->domain, name);
}

/* Its end, as libcheck's messages are short; all of it goes to stderr. */
static const char *log_of(const Ledger *l)
{
    enum { END = 2000 };
    const char *log = exists(l->w, of(l, "log")) ? text_of(l->w, of(l, "log")) : "(no log)";
    fprintf(stderr, "---- the log of '%s':\n%s----\n", l->domain, log);
    return strlen(log) > END ? log + strlen(log) - END : log;
}

static void set_name(char **name, const char *value)
{
    char *copy = g_strdup(value);
    g_free(*name);
    *name = copy;
}

static Entry *find(const Ledger *l, const char *name)
{
    for (guint i = 0; name != NULL && i < l->entries->len; i++)
        if (strcmp(((Entry *)l->entries->pdata[i])->name, name) == 0)
            return l->entries->pdata[i];
    return NULL;
}

Entry *ledger_any(Ledger *l)
{
    guint n = l->entries->len;
    return n > 0 ? l->entries->pdata[g_rand_int_range(l->rand, 0, (gint32)n)] : NULL;
}

/* --- reading and writing images --- */

typedef enum { READ_RIGHT, READ_WRONG, READ_NOT } ReadResult;

/* qemu-io compares @path with @want, run by run of equal blocks. *ret_said: what it complains about. */
static ReadResult read_image(const Ledger *l, const char *path, const char *format, const guint8 *want,
                             gboolean shared, const char **ret_said)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    const char *const head[] = {"qemu-io", "-r", "-f", format};
    for (guint i = 0; i < G_N_ELEMENTS(head); i++)
        g_ptr_array_add(argv, (gpointer)head[i]);
    if (shared)
        g_ptr_array_add(argv, (gpointer) "-U");
    for (guint from = 0, to; from < BLOCKS; from = to) {
        for (to = from + 1; to < BLOCKS && want[to] == want[from]; to++)
            ;
        g_ptr_array_add(argv, (gpointer) "-c");
        g_ptr_array_add(argv, (gpointer)keepf(l->w, "read -q -P %u %u %u", want[from], from * BLOCK_SIZE,
                                              (to - from) * BLOCK_SIZE));
    }
    g_ptr_array_add(argv, (gpointer)path);
    g_ptr_array_add(argv, NULL);
    Ran result = ran_argv(l->w, (const char *const *)argv->pdata);
    *ret_said = keepf(l->w, "%s: %s%s", path, result.out, result.err);
    if (strstr(*ret_said, "can't open") != NULL)
        return READ_NOT;
    return result.rc == 0 ? READ_RIGHT : READ_WRONG;
}

static gboolean all_blocks_are(int fd, const guint8 *want)
{
    g_autofree guint8 *buffer = g_malloc(BLOCK_SIZE);
    for (guint i = 0; i < BLOCKS; i++)
        if (pread(fd, buffer, BLOCK_SIZE, (off_t)i * BLOCK_SIZE) != BLOCK_SIZE || buffer[0] != want[i] ||
            memcmp(buffer, buffer + 1, BLOCK_SIZE - 1) != 0)
            return FALSE;
    return TRUE;
}

/* The state that is the tag @tag in @path. */
static ReadResult read_tag(const Ledger *l, const char *path, const char *tag, const guint8 *want,
                           const char **ret_said)
{
    const char *raw = in_dir(l->w, "look-%s.raw", l->domain);
    unlink(raw);
    Ran result = ran(l->w, "qemu-img", "convert", "-U", "-f", "qcow2", "-l",
                     keepf(l->w, "snapshot.name=%s", tag), "-O", "raw", path, raw, NULL);
    *ret_said = keepf(l->w, "%s, tag %s: %s", path, tag, result.err);
    if (result.rc != 0)
        return READ_NOT;
    int fd = open(raw, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    gboolean right = all_blocks_are(fd, want);
    close(fd);
    return right ? READ_RIGHT : READ_WRONG;
}

static const char *xml_value(const Ledger *l, const char *xml, guint disk, const char *what)
{
    return xpath(l->w, xml, keepf(l->w, "//domain//disk[target/@dev='%s']/%s", targets[disk], what));
}

/* The state of one disk, now (@entry NULL) or at a snapshot; where it is, is looked up each time. */
static ReadResult read_state(const Ledger *l, const Entry *entry, guint disk, const guint8 *want,
                             const char **ret_said)
{
    const char *dir = entry != NULL ? entry->name : "active";
    const char *xml =
        text_of(l->w, entry != NULL ? of(l, keepf(l->w, "%s/snapshot.xml", dir)) : of(l, "domain.xml"));
    const char *path = xml_value(l, xml, disk, "source/@file");
    const char *format = xml_value(l, xml, disk, "driver/@type");
    const char *mode =
        entry != NULL
            ? xpath(l->w, xml, keepf(l->w, "/domainsnapshot/disks/disk[@name='%s']/@snapshot", targets[disk]))
            : "external";
    if (strcmp(mode, "internal") == 0)
        return read_tag(l, path, entry->tag, want, ret_said);
    ck_assert_str_eq(mode, "external");
    if (g_rand_int_range(l->rand, 0, 4) == 0)
        return read_image(l, at(l->w, "%s/%s/%s.%s", l->domain, dir, targets[disk], format), format, want,
                          FALSE, ret_said);
    /* While merges go on, every state reads right at every moment, also for somebody who does not care for locks. */
    return read_image(l, path, format, want, TRUE, ret_said);
}

/* Does it hold @want? Whoever works on an image may keep a reader out for a while. */
static gboolean holds(const Ledger *l, const Entry *entry, guint disk, const guint8 *want,
                      const char **ret_said)
{
    gint64 end = g_get_monotonic_time() + PATIENCE_SECONDS * G_USEC_PER_SEC;
    for (;;) {
        ReadResult result = read_state(l, entry, disk, want, ret_said);
        if (result != READ_NOT)
            return result == READ_RIGHT;
        ck_assert_msg(g_get_monotonic_time() < end, "%s: %s of '%s' cannot be read: %s; log: %s", l->domain,
                      targets[disk], entry != NULL ? entry->name : "active", *ret_said, log_of(l));
        g_usleep(5000);
    }
}

/* Where the guest's image is now; NULL when the mount is dead. */
static const char *guest_image(const Ledger *l, guint disk, const char **ret_format)
{
    g_autoptr(GString) text = g_string_new(NULL);
    char buffer[4096];
    ssize_t n = -1;
    int fd = open(at(l->w, "%s/domain.xml", l->domain), O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (n = read(fd, buffer, sizeof buffer)) > 0)
        g_string_append_len(text, buffer, n);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return NULL;
    const char *xml = text->str;
    *ret_format = xml_value(l, xml, disk, "driver/@type");
    return xml_value(l, xml, disk, "source/@file");
}

static void write_disk(Ledger *l, guint disk)
{
    gint64 end = g_get_monotonic_time() + PATIENCE_SECONDS * G_USEC_PER_SEC;
    guint from = (guint)g_rand_int_range(l->rand, 0, BLOCKS - 1);
    guint len = (guint)g_rand_int_range(l->rand, 1, (gint32)MIN(BLOCKS - from, BLOCKS / 4) + 1);
    guint8 byte = (guint8)g_rand_int_range(l->rand, 1, 256);
    for (;;) {
        const char *format = NULL, *path = guest_image(l, disk, &format);
        if (path == NULL)
            return;
        Ran result =
            ran(l->w, "qemu-io", "-f", format, "-c",
                keepf(l->w, "write -q -P %u %u %u", byte, from * BLOCK_SIZE, len * BLOCK_SIZE), path, NULL);
        if (result.rc == 0)
            break;
        ck_assert_msg(strstr(result.err, "can't open") != NULL, "the guest cannot write: %s%s (%d)",
                      result.out, result.err, result.rc);
        ck_assert_msg(g_get_monotonic_time() < end, "%s: the guest cannot start: %s; log: %s", l->domain,
                      result.err, log_of(l));
        g_usleep(5000);
    }
    memset(l->active.block[disk] + from, byte, len);
}

void ledger_write(Ledger *l)
{
    for (guint disk = 0; disk < l->disks; disk++)
        write_disk(l, disk);
}

/* --- gestures --- */

static int create(Ledger *l, const char *name)
{
    static const char *const modes[] = {"external", "external", "external", "internal"};
    g_autoptr(GString) line = g_string_new(NULL);
    if (g_rand_int_range(l->rand, 0, 4) == 0)
        return mkdir(at(l->w, "%s/%s", l->domain, name), 0755) == 0 ? 0 : errno;
    g_string_append_printf(line, "create %s", name);
    for (guint disk = 0; disk < l->disks; disk++) {
        const char *format = NULL;
        (void)guest_image(l, disk, &format);
        const char *mode = modes[g_rand_int_range(l->rand, 0, G_N_ELEMENTS(modes))];
        g_string_append_printf(line, " --diskspec %s,snapshot=%s", targets[disk],
                               g_strcmp0(format, "qcow2") == 0 ? mode : "external");
    }
    g_string_append_c(line, '\n');
    return put(l->w, of(l, "ctl"), line->str);
}

static int revert(Ledger *l, const char *name)
{
    if (g_rand_int_range(l->rand, 0, 2) == 0)
        return put(l->w, of(l, "ctl"), keepf(l->w, "revert %s\n", name));
    Ran result = ran(l->w, "ln", "-sfn", "--", name, at(l->w, "%s/current", l->domain), NULL);
    return result.rc == 0 ? 0 : strstr(result.err, g_strerror(EBUSY)) != NULL ? EBUSY : EIO;
}

int ledger_do(Ledger *l, Gesture gesture, const char *subject)
{
    ck_assert_int_eq(l->gesture, NOTHING);
    l->gesture = gesture;
    set_name(&l->subject, subject);
    const char *path = subject != NULL ? at(l->w, "%s/%s", l->domain, subject) : NULL;
    switch (gesture) {
    case NOTHING:
        return 0;
    case CREATE:
        return create(l, subject);
    case REVERT:
        return revert(l, subject);
    case UNDO:
        return put(l->w, of(l, "ctl"), "revert --undo\n");
    case DELETE:
        return rmdir(path) == 0 ? 0 : errno;
    case DELETE_TREE:
        return put(l->w, of(l, "ctl"), keepf(l->w, "delete %s --children\n", subject));
    case RENAME:
        set_name(&l->other, keepf(l->w, "%s.r", subject));
        return rename(path, at(l->w, "%s/%s", l->domain, l->other)) == 0 ? 0 : errno;
    }
    g_assert_not_reached();
}

/* --- what has become of them --- */

static gboolean all_disks_hold(const Ledger *l, const Content *content)
{
    const char *said;
    for (guint disk = 0; disk < l->disks; disk++)
        if (!holds(l, NULL, disk, content->block[disk], &said))
            return FALSE;
    return TRUE;
}

static gboolean has_happened(const Ledger *l)
{
    const char *now = l->gesture == UNDO ? l->kept_current : l->subject;
    switch (l->gesture) {
    case NOTHING:
        return FALSE;
    case CREATE:
        return exists(l->w, of(l, l->subject));
    case REVERT:
    case UNDO:
        if (g_strcmp0(now, l->current) != 0)
            return strcmp(link_of(l->w, of(l, "current")), now != NULL ? now : "") == 0;
        return !all_disks_hold(l, &l->active); /* ledger_verify sees what it holds then */
    case DELETE:
    case DELETE_TREE:
        return !exists(l->w, of(l, l->subject));
    case RENAME:
        return exists(l->w, of(l, l->other));
    }
    g_assert_not_reached();
}

static void created(Ledger *l)
{
    Entry *entry = g_new0(Entry, 1);
    entry->name = g_strdup(l->subject);
    entry->tag = g_strdup(l->subject);
    entry->parent = g_strdup(l->current);
    entry->content = l->active;
    g_ptr_array_add(l->entries, entry);
    set_name(&l->current, l->subject);
}

static void deleted(Ledger *l, Entry *gone)
{
    gboolean tree = l->gesture == DELETE_TREE;
    for (guint i = 0; i < l->entries->len; i++) {
        Entry *entry = l->entries->pdata[i];
        if (g_strcmp0(entry->parent, gone->name) != 0)
            continue;
        if (!tree) {
            set_name(&entry->parent, gone->parent);
            continue;
        }
        deleted(l, entry);
        i = (guint)-1; /* the array has changed */
    }
    if (g_strcmp0(l->current, gone->name) == 0)
        set_name(&l->current, gone->parent);
    g_ptr_array_remove(l->entries, gone);
}

static void renamed(Ledger *l, Entry *entry)
{
    for (guint i = 0; i < l->entries->len; i++) {
        Entry *child = l->entries->pdata[i];
        if (g_strcmp0(child->parent, l->subject) == 0)
            set_name(&child->parent, l->other);
    }
    if (g_strcmp0(l->current, l->subject) == 0)
        set_name(&l->current, l->other);
    set_name(&entry->name, l->other);
}

static void take_note(Ledger *l)
{
    if (l->gesture == CREATE) {
        created(l);
    } else if (l->gesture == UNDO) {
        l->active = l->kept_content;
        set_name(&l->current, l->kept_current);
    } else if (l->gesture == RENAME) {
        renamed(l, find(l, l->subject));
        if (g_strcmp0(l->kept_current, l->subject) == 0)
            set_name(&l->kept_current, l->other);
        return;
    } else if (l->gesture == REVERT) {
        const Entry *to = find(l, l->subject);
        g_assert(to != NULL);
        l->kept_content = l->active;
        set_name(&l->kept_current, l->current);
        l->active = to->content;
        set_name(&l->current, l->subject);
    } else {
        deleted(l, find(l, l->subject));
    }
    l->kept = l->gesture == REVERT;
}

gboolean ledger_settle(Ledger *l, gboolean must, int err)
{
    if (l->gesture == NOTHING)
        return TRUE;
    if (must && err != 0 && !world_is_mounted(l->w))
        return FALSE;
    /* What was said is believed: to look now could meet a dying mount. ledger_verify finds out if it was not true. */
    if (must ? err == 0 : has_happened(l))
        take_note(l);
    l->gesture = NOTHING;
    return TRUE;
}

/* --- looking at everything --- */

static void verify_names(const Ledger *l)
{
    g_auto(GStrv) names = g_strsplit(names_in(l->w, l->domain), " ", -1);
    guint n = 0;
    for (guint i = 0; names[i] != NULL; i++) {
        if (!S_ISDIR(stat_of(l->w, of(l, names[i])).st_mode) || strcmp(names[i], "active") == 0)
            continue;
        ck_assert_msg(find(l, names[i]) != NULL, "%s: there should be no '%s'", l->domain, names[i]);
        n++;
    }
    ck_assert_msg(n == l->entries->len, "%s: %u snapshots (%s), there should be %u", l->domain, n,
                  names_in(l->w, l->domain), l->entries->len);
    for (guint i = 0; i < l->entries->len; i++) {
        const Entry *entry = l->entries->pdata[i];
        ck_assert_str_eq(link_of(l->w, of(l, keepf(l->w, "%s/parent", entry->name))),
                         entry->parent != NULL ? keepf(l->w, "../%s", entry->parent) : "");
    }
    ck_assert_str_eq(link_of(l->w, of(l, "current")), l->current != NULL ? l->current : "");
}

static G_GNUC_NORETURN void fail_state(const Ledger *l, const Entry *entry, guint disk, const char *said)
{
    const char *later, *end = said + MIN(strlen(said), 400);
    gboolean right =
        holds(l, entry, disk, entry != NULL ? entry->content.block[disk] : l->active.block[disk], &later);
    Ran chain = ran(l->w, "qemu-img", "info", "-U", "--backing-chain",
                    active_path(l->w, l->domain, targets[disk]), NULL);
    ck_abort_msg("%s: %s of '%s' is wrong (%s a moment later): %.*s\nlog: %s\n%s\n%s", l->domain,
                 targets[disk], entry != NULL ? entry->name : "active", right ? "right" : "wrong too",
                 (int)(end - said), said, log_of(l), text_of(l->w, of(l, "tree")), chain.out);
}

static void verify_state(const Ledger *l, const Entry *entry, const Content *content)
{
    const char *said;
    for (guint disk = 0; disk < l->disks; disk++)
        if (!holds(l, entry, disk, content->block[disk], &said))
            fail_state(l, entry, disk, said);
}

void ledger_verify(Ledger *l)
{
    const char *tree = text_of(l->w, of(l, "tree"));
    ck_assert_msg(strstr(tree, "read-only") == NULL, "%s: %s", l->domain, tree);
    verify_names(l);
    for (guint i = 0; i < l->entries->len; i++) {
        const Entry *entry = l->entries->pdata[i];
        verify_state(l, entry, &entry->content);
    }
    verify_state(l, NULL, &l->active);
}

/* One image; 3 is qemu-img's word for clusters that nobody uses, which a killed writer leaves. */
static void check_image(const Ledger *l, const char *path)
{
    gint64 end = g_get_monotonic_time() + PATIENCE_SECONDS * G_USEC_PER_SEC;
    while (access(path, F_OK) == 0) {
        Ran result = ran(l->w, "qemu-img", "check", "-f", "qcow2", path, NULL);
        if (result.rc == 0 || result.rc == 3)
            return;
        ck_assert_msg(result.rc == 1 && g_get_monotonic_time() < end, "%s: %s%s; log: %s", path, result.out,
                      result.err, log_of(l));
        g_usleep(5000); /* it could not be opened: somebody works on it, or it is gone */
    }
}

void ledger_check_images(Ledger *l)
{
    g_autoptr(GDir) dir = g_dir_open(l->w->images, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(dir)) != NULL)
        if (g_str_has_prefix(name, l->domain) && !g_str_has_suffix(name, ".raw"))
            check_image(l, image(l->w, name));
}

void ledger_end(Ledger *l)
{
    g_autoptr(GDir) dir = g_dir_open(l->w->images, 0, NULL);
    const char *name;
    guint n = 0, expected = l->disks;
    while ((name = g_dir_read_name(dir)) != NULL)
        n += g_str_has_prefix(name, l->domain);
    for (guint disk = 0; disk < l->disks; disk++) {
        const char *path = active_path(l->w, l->domain, targets[disk]);
        const char *format = active_format(l->w, l->domain, targets[disk]);
        const char *first = image(l->w, keepf(l->w, "%s-%s.%s", l->domain, targets[disk], l->formats[disk]));
        expected += strcmp(path, first) != 0;
        if (strcmp(format, "qcow2") == 0)
            ck_assert_str_eq(tags_of(l->w, path), "");
        ck_assert_str_eq(backing_of(l->w, path, format), "");
    }
    if (n != expected)
        ck_abort_msg("%s: %u files; log: %s", l->domain, n, log_of(l));
}
