/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What must hold of every document, tried on random ones. Each test works for PROPERTY_SECONDS (default 1; hours if one
 * likes) or PROPERTY_CASES cases, beginning with the case PROPERTY_SEED (default: another one each time). A failure says
 * which case it was: PROPERTY_SEED=that PROPERTY_CASES=1 plays it again.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "random_documents.h"
#include "runner.h"
#include "snapshot.h"

static guint64 setting(const char *name, guint64 otherwise)
{
    const char *text = g_getenv(name);
    return text != NULL ? g_ascii_strtoull(text, NULL, 10) : otherwise;
}

static guint32 first_seed;

/* Asserts @good; on failure names the case and shows both texts. */
static void hold(gboolean good, guint32 seed, const char *what, const char *text, const char *other)
{
    if (good)
        return;
    g_printerr("--- %s ---\n%s\n--- and ---\n%s\n", what, text, other);
    ck_abort_msg("%s; PROPERTY_SEED=%u PROPERTY_CASES=1", what, seed);
}

static void each_case(void (*property)(GRand *rand, guint32 seed))
{
    guint64 cases = setting("PROPERTY_CASES", G_MAXUINT64);
    gint64 end = g_get_monotonic_time() + (gint64)setting("PROPERTY_SECONDS", 1) * G_USEC_PER_SEC;
    guint64 n = 0;
    for (; n < cases && (n == 0 || g_get_monotonic_time() < end); n++) {
        GRand *rand = g_rand_new_with_seed(first_seed + (guint32)n);
        property(rand, first_seed + (guint32)n);
        g_rand_free(rand);
    }
    ck_assert_uint_gt(n, 0);
}

/* A copy that ends with its last byte: whoever reads on is caught. */
static char *exact(const char *text)
{
    return g_memdup2(text, strlen(text));
}

static SnapshotDef *parse(const char *text, guint32 seed)
{
    g_autofree char *copy = exact(text);
    g_autoptr(GError) error = NULL;
    SnapshotDef *def = snapshot_def_parse(copy, strlen(text), &error);
    hold(def != NULL, seed, "it is taken", text, error ? error->message : "?");
    return def;
}

/* Printed as it was printed before. */
static void round_trip(GRand *rand, guint32 seed)
{
    g_autoptr(Node) node = random_snapshot(rand);
    g_autofree char *text = node_print(node);
    g_autoptr(SnapshotDef) def = parse(text, seed);
    g_autofree char *again = snapshot_def_format(def);
    hold(strcmp(again, text) == 0, seed, "parsed and printed it is the same", text, again);
}

/* Written in whatever way, it is printed in one. */
static void variants(GRand *rand, guint32 seed)
{
    g_autoptr(Node) node = random_snapshot(rand);
    g_autofree char *text = node_print(node);
    gsize end;
    for (guint i = 0; i < 3; i++) {
        g_autofree char *variant = node_scribble(node, rand, &end);
        g_autoptr(SnapshotDef) def = parse(variant, seed);
        g_autofree char *again = snapshot_def_format(def);
        hold(strcmp(again, text) == 0, seed, "written otherwise it is printed the same", variant, again);
    }
}

/* Everything but what stands behind <disks>. */
static char *head_text(SnapshotDef *def)
{
    g_clear_pointer(&def->domain, domain_def_free);
    def->inactive_domain = def->cookie = NULL;
    return snapshot_def_format(def);
}

static void check_head(const char *text, guint32 seed)
{
    g_autofree char *copy = exact(text);
    g_autoptr(SnapshotDef) whole = parse(text, seed);
    g_autoptr(SnapshotDef) head = snapshot_def_parse_head(copy, strlen(text), NULL);
    hold(head != NULL, seed, "the quick look takes it", text, "");
    g_autofree char *should = head_text(whole);
    g_autofree char *is = head_text(head);
    hold(strcmp(is, should) == 0, seed, "the quick look sees the same", should, is);
    hold(head->active == whole->active, seed, "and <active>", text, "");
}

static void heads(GRand *rand, guint32 seed)
{
    g_autoptr(Node) node = random_snapshot(rand);
    g_autofree char *text = node_print(node);
    gsize end;
    g_autofree char *variant = node_scribble(node, rand, &end);
    check_head(text, seed);
    check_head(variant, seed);
}

/* In random pieces; what follows is not ours. */
static void check_end(const char *text, gsize end, GRand *rand, guint32 seed)
{
    g_autofree char *more =
        g_strconcat(text, one_of(rand, "", "<a>", "--> \"' ]]>", "\n\n", "\xff", NULL), NULL);
    g_autofree char *copy = exact(more);
    g_autoptr(XmlFeed) feed = xml_feed_new();
    gsize at = 0, used = 0;
    gboolean done = FALSE;
    guint longest = 1u << g_rand_int_range(rand, 0, 12);
    for (gsize len = strlen(more); at < len && !done; at += used) {
        gsize piece = MIN(len - at, (gsize)g_rand_int_range(rand, 1, (gint32)longest + 1));
        g_autoptr(GError) error = NULL;
        gboolean good = xml_feed(feed, copy + at, piece, &used, &done, &error);
        hold(good, seed, "the feed takes it", more, error ? error->message : "");
        hold(done || used == piece, seed, "the feed takes all until the end", more, "");
    }
    hold(done && at == end, seed, "the feed finds the end", more, done ? "(elsewhere)" : "(it does not end)");
}

static void feeds(GRand *rand, guint32 seed)
{
    g_autoptr(Node) node = random_snapshot(rand);
    g_autofree char *text = node_print(node);
    gsize end;
    g_autofree char *variant = node_scribble(node, rand, &end);
    check_end(text, strlen(text) - 1, rand, seed);
    check_end(variant, end, rand, seed);
}

static const SnapshotDisk *find_disk(const GPtrArray *disks, const char *name)
{
    for (guint i = 0; i < disks->len; i++) {
        const SnapshotDisk *disk = disks->pdata[i];
        if (strcmp(disk->name, name) == 0)
            return disk;
    }
    return NULL;
}

/* A document says the same when it asks as when it records. */
static void creates(GRand *rand, guint32 seed)
{
    g_autoptr(Node) node = random_snapshot(rand);
    gsize end;
    g_autofree char *text = node_scribble(node, rand, &end);
    g_autofree char *copy = exact(text);
    g_autoptr(GError) error = NULL;
    g_autoptr(SnapshotDef) def = parse(text, seed);
    g_autoptr(CreateRequest) request = snapshot_parse_create(copy, strlen(text), &error);
    hold(request != NULL, seed, "it can be asked for", text, error ? error->message : "");
    hold(g_strcmp0(request->name, def->name) == 0 && g_strcmp0(request->description, def->description) == 0 &&
             request->memory == def->memory && g_strcmp0(request->memory_file, def->memory_file) == 0 &&
             request->disks->len == def->disks->len,
         seed, "it asks for what it says", text, "");
    for (guint i = 0; i < request->disks->len; i++) {
        const SnapshotDisk *disk = request->disks->pdata[i];
        const SnapshotDisk *same = find_disk(def->disks, disk->name);
        g_autoptr(GString) a = g_string_new(NULL);
        g_autoptr(GString) b = g_string_new(NULL);
        snapshot_disk_write(a, disk);
        snapshot_disk_write(b, same);
        hold(strcmp(a->str, b->str) == 0, seed, "and for the same disks", a->str, b->str);
    }
}

/* Any damage: taken or refused with a sentence, never a crash; what is taken is printed once and for all. */
static void damage(GRand *rand, guint32 seed)
{
    g_autoptr(Node) node = random_snapshot(rand);
    g_autofree char *text = node_print(node);
    gsize len = strlen(text);
    for (gint32 n = g_rand_int_range(rand, 1, 4); n > 0; n--)
        text[g_rand_int_range(rand, 0, (gint32)len)] = "<>/'\"&;! x\n\xc3"[g_rand_int_range(rand, 0, 12)];
    g_autofree char *copy = exact(text);
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) create_error = NULL;
    g_autoptr(SnapshotDef) def = snapshot_def_parse(copy, len, &error);
    g_autoptr(SnapshotDef) head = snapshot_def_parse_head(copy, len, NULL);
    g_autoptr(CreateRequest) request = snapshot_parse_create(copy, len, &create_error);
    hold((def == NULL) == (error != NULL) && (request == NULL) == (create_error != NULL), seed,
         "an error or a result", text, "");
    hold(error == NULL || g_utf8_validate(error->message, -1, NULL), seed, "an error is text", text, "");
    if (def == NULL)
        return;
    g_autofree char *first = snapshot_def_format(def);
    g_autoptr(SnapshotDef) second_def = parse(first, seed);
    g_autofree char *second = snapshot_def_format(second_def);
    hold(head != NULL, seed, "the quick look takes what is taken", text, "");
    hold(strcmp(first, second) == 0, seed, "what was printed is printed again", first, second);
}

/* --- definitions --- */

static DomainDef *parse_domain(const char *text, guint32 seed)
{
    g_autofree char *copy = exact(text);
    g_autoptr(GError) error = NULL;
    DomainDef *def = domain_def_parse(copy, strlen(text), &error);
    hold(def != NULL, seed, "the definition is taken", text, error ? error->message : "?");
    return def;
}

static void domains(GRand *rand, guint32 seed)
{
    g_autoptr(Node) node = random_domain(rand);
    g_autofree char *text = node_print(node);
    gsize end;
    g_autofree char *variant = node_scribble(node, rand, &end);
    g_autoptr(DomainDef) def = parse_domain(text, seed);
    g_autoptr(DomainDef) other = parse_domain(variant, seed);
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    g_autofree char *again = domain_def_format(def);
    g_autofree char *other_again = domain_def_format(other);
    g_autofree char *copied = domain_def_format(copy);
    hold(strcmp(again, text) == 0, seed, "parsed and printed it is the same", text, again);
    hold(strcmp(other_again, text) == 0, seed, "written otherwise it is printed the same", variant,
         other_again);
    hold(strcmp(copied, text) == 0, seed, "its copy is the same", text, copied);
}

/* Taken out and put back; nothing else changes. */
static void secrets(GRand *rand, guint32 seed)
{
    g_autoptr(Node) node = random_domain(rand);
    g_autofree char *text = node_print(node);
    g_autoptr(DomainDef) old = parse_domain(text, seed);
    g_autoptr(DomainDef) def = domain_def_copy(old);
    domain_def_strip_secrets(def);
    g_autofree char *without = domain_def_format(def);
    hold(strstr(without, "passwd=") == NULL || strstr(text, "passwd=&") != NULL, seed, "no secret is left",
         text, without);
    g_autoptr(DomainDef) bare = parse_domain(without, seed);
    hold(!def->secret && !bare->secret, seed, "and none is seen", text, without);
    domain_def_restore_secrets(bare, old);
    g_autofree char *with = domain_def_format(bare);
    hold(strcmp(with, text) == 0 && bare->secret == old->secret, seed, "all are put back", text, with);
}

static gboolean same_disk(const DiskDef *a, const DiskDef *b)
{
    gboolean same =
        strcmp(a->target, b->target) == 0 && g_strcmp0(a->bus, b->bus) == 0 && a->type == b->type &&
        a->device == b->device && a->format == b->format && g_strcmp0(a->source, b->source) == 0 &&
        a->has_source == b->has_source && a->snapshot == b->snapshot && a->readonly == b->readonly &&
        a->shareable == b->shareable && a->transient == b->transient && a->backing->len == b->backing->len;
    for (guint i = 0; same && i < a->backing->len; i++) {
        const BackingDef *x = a->backing->pdata[i];
        const BackingDef *y = b->backing->pdata[i];
        same = g_strcmp0(x->path, y->path) == 0 && x->format == y->format;
    }
    return same;
}

static void change_disk(DomainDef *def, DiskDef *disk, const DomainDef *other, GRand *rand)
{
    g_autofree char *path = random_path(rand);
    ImageFormat format = (ImageFormat)g_rand_int_range(rand, FORMAT_RAW, FORMAT_QED + 1);
    if (other->disks->len > 0 && one_in(rand, 3)) {
        g_autoptr(DomainDef) from = domain_def_copy(other);
        DiskDef *take = from->disks->pdata[g_rand_int_range(rand, 0, (gint32)from->disks->len)];
        if (strcmp(take->target, disk->target) == 0 || take->device == disk->device)
            domain_def_take_source(def, disk, take);
        return;
    }
    domain_def_set_source(def, disk, one_in(rand, 2) ? DISK_FILE : DISK_BLOCK, path, format,
                          one_in(rand, 2) ? disk->backing : NULL);
}

/* After any change the fields are what the document says. */
static void edits(GRand *rand, guint32 seed)
{
    g_autoptr(Node) node = random_domain(rand);
    g_autoptr(Node) other_node = random_domain(rand);
    g_autofree char *text = node_print(node);
    g_autofree char *other_text = node_print(other_node);
    g_autofree char *name = random_text(rand, 3, "\n/");
    g_autofree char *whole_name = g_strconcat("n", name, NULL);
    g_autoptr(DomainDef) def = parse_domain(text, seed);
    g_autoptr(DomainDef) other = parse_domain(other_text, seed);
    domain_def_set_name(def, whole_name);
    for (guint i = 0; i < def->disks->len; i++)
        change_disk(def, def->disks->pdata[i], other, rand);
    g_autofree char *changed = domain_def_format(def);
    g_autoptr(DomainDef) again = parse_domain(changed, seed);
    g_autofree char *printed = domain_def_format(again);
    hold(strcmp(printed, changed) == 0, seed, "what was changed is printed again", changed, printed);
    hold(strcmp(def->name, again->name) == 0 && def->disks->len == again->disks->len, seed, "fields follow",
         changed, text);
    for (guint i = 0; i < def->disks->len; i++)
        hold(same_disk(def->disks->pdata[i], again->disks->pdata[i]), seed, "the disks' fields follow",
             changed, text);
}

static const struct {
    const char *name;
    void (*property)(GRand *rand, guint32 seed);
} properties[] = {
    {"round_trip", round_trip}, {"variants", variants}, {"heads", heads},
    {"feeds", feeds},           {"creates", creates},   {"damage", damage},
    {"domains", domains},       {"secrets", secrets},   {"edits", edits},
};

START_TEST(property)
{
    each_case(properties[_i].property);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("property");
    TCase *tcase = tcase_create("property");
    first_seed = (guint32)setting("PROPERTY_SEED", g_random_int());
    g_printerr("PROPERTY_SEED=%u\n", first_seed);
    tcase_set_timeout(tcase, (double)setting("PROPERTY_SECONDS", 1) + 120);
    tcase_add_loop_test(tcase, property, 0, G_N_ELEMENTS(properties));
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
