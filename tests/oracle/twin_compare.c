/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "twin_inside.h"

#include <unistd.h>

/* Times of creation to T; our directory to libvirt's; the differences that are meant. */
static char *comparable(const Twin *t, const char *text, gboolean ours)
{
    g_autoptr(GRegex) times = g_regex_new("<creationTime>[0-9]+</creationTime>", 0, 0, NULL);
    g_autofree char *timeless =
        g_regex_replace_literal(times, text, -1, 0, "<creationTime>T</creationTime>", 0, NULL);
    g_autoptr(GString) all = g_string_new(timeless);
    if (ours)
        g_string_replace(all, in_dir(t->w, "ours"), in_dir(t->w, "virt"), 0);
    for (guint i = 0; ours && i < t->swaps->len; i += 2)
        g_string_replace(all, t->swaps->pdata[i], t->swaps->pdata[i + 1], 0);
    return g_strdup(all->str);
}

/* The first lines that differ, of both, and where they stand. */
static const char *first_difference(const Twin *t, const char *ours, const char *theirs)
{
    gsize line = 1, start = 0;
    for (gsize i = 0; ours[i] != '\0' && ours[i] == theirs[i]; i++)
        if (ours[i] == '\n') {
            line++;
            start = i + 1;
        }
    return keepf(t->w, "differ from line %zu on.\nours:\n%.400s\nlibvirt's:\n%.400s", line, ours + start,
                 theirs + start);
}

static void compare_documents(const Twin *t, const char *what, const char *our_xml, const char *their_xml)
{
    g_autofree char *ours = comparable(t, our_xml, TRUE);
    g_autofree char *theirs = comparable(t, their_xml, FALSE);
    if (strcmp(ours, theirs) != 0)
        ck_abort_msg("%s: %s", what, first_difference(t, ours, theirs));
}

#define MARK                                                                                                 \
    "<!-- next -->" /* between the outputs of several commands of one virsh, which cost little more than one */

char **twin_names(const Twin *t, const char **ret_current)
{
    Ran list = virsh(
        t->w,
        keepf(t->w, "snapshot-list %s --name --topological; echo '" MARK "'; snapshot-current %s --name",
              t->domain, t->domain),
        NULL);
    if (list.rc != 0) /* none is current */
        ck_has(list.err, "has no current snapshot");
    g_auto(GStrv) parts = g_strsplit(list.out, MARK, 2);
    ck_assert_uint_eq(g_strv_length(parts), 2);
    if (ret_current != NULL)
        *ret_current = keepf(t->w, "%.*s", (int)strcspn(parts[1], "\n"), parts[1]);
    g_auto(GStrv) lines = g_strsplit(parts[0], "\n", -1);
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    for (guint i = 0; lines[i] != NULL; i++)
        if (*lines[i] != '\0')
            g_strv_builder_add(names, lines[i]);
    return g_strv_builder_end(names);
}

/* What we call the snapshot that libvirt calls @theirs. */
static const char *our_name(const Twin *t, const char *theirs)
{
    for (guint i = 0; i < t->swaps->len; i += 2)
        if (strcmp(t->swaps->pdata[i + 1], theirs) == 0)
            return t->swaps->pdata[i];
    return theirs;
}

static guint count_ours(const Twin *t)
{
    g_autoptr(GDir) dir = g_dir_open(at(t->w, "%s", t->domain), 0, NULL);
    const char *entry;
    guint n = 0;
    while ((entry = g_dir_read_name(dir)) != NULL)
        n += S_ISDIR(stat_of(t->w, keepf(t->w, "%s/%s", t->domain, entry)).st_mode) &&
             strcmp(entry, "active") != 0;
    return n;
}

/* All of libvirt's documents, of the snapshots and then of the domain, by one virsh: a string for each. */
static char **their_documents(const Twin *t, char **names)
{
    g_autoptr(GString) script = g_string_new(NULL);
    for (guint i = 0; names[i] != NULL; i++) {
        g_autofree char *quoted = g_shell_quote(names[i]);
        g_string_append_printf(script,
                               "snapshot-dumpxml --security-info %s --snapshotname %s; echo '" MARK "';",
                               t->domain, quoted);
    }
    g_string_append_printf(script, "dumpxml --inactive --security-info %s", t->domain);
    char **texts = g_strsplit(virsh_ok(t->w, script->str), MARK, -1);
    ck_assert_uint_eq(g_strv_length(texts), g_strv_length(names) + 1);
    for (guint i = 0; texts[i] != NULL; i++) { /* virsh puts an empty line behind each */
        char *text = g_strconcat(g_strchomp(texts[i]), "\n", NULL);
        g_free(texts[i]);
        texts[i] = text;
    }
    return texts;
}

void twin_compare(Twin *t)
{
    const char *current;
    g_auto(GStrv) names = twin_names(t, &current);
    g_auto(GStrv) theirs = their_documents(t, names);
    guint n = g_strv_length(names);
    ck_assert_uint_eq(count_ours(t), n);
    for (guint i = 0; i < n; i++) {
        const char *ours = our_name(t, names[i]);
        compare_documents(t, keepf(t->w, "snapshot '%s'", names[i]), twin_our_xml(t, ours), theirs[i]);
    }
    compare_documents(t, "the domain", twin_our_xml(t, NULL), theirs[n]);
    ck_assert_str_eq(twin_our_current(t), our_name(t, current));
    t->their_domain = keep(t->w, theirs[n]);
}

const char *twin_hash(const Twin *t, const char *path, const char *format, const char *tag)
{
    const char *raw = in_dir(t->w, "hash.raw");
    g_auto(GStrv) parts = g_strsplit(tag != NULL ? tag : "", ",", -1);
    g_autofree char *doubled = g_strjoinv(",,", parts);
    const char *argv[] = {"qemu-img", "convert", "-f", format, "-O", "raw", path, raw, NULL, NULL, NULL};
    if (tag != NULL) {
        argv[8] = "-l";
        argv[9] = keepf(t->w, "snapshot.name=%s", doubled);
    }
    unlink(raw);
    ran_expect_ok(quick_argv(t->w, argv), keepf(t->w, "'%s' of '%s'", tag != NULL ? tag : "", path));
    return hash_of(t->w, raw);
}

static const char *disk_hash(const Twin *t, const char *xml, const char *target, const char *tag)
{
    const char *disk = keepf(t->w, "/descendant::devices[1]/disk[target/@dev='%s']", target);
    return twin_hash(t, xpath(t->w, xml, keepf(t->w, "%s/source/@file", disk)),
                     xpath(t->w, xml, keepf(t->w, "%s/driver/@type", disk)), tag);
}

const char *twin_remembered(const Twin *t, const char *snapshot, const char *target)
{
    const char *hash = g_hash_table_lookup(t->states, keepf(t->w, "%s %s", snapshot, target));
    ck_assert_msg(hash != NULL, "'%s' of '%s' is not remembered", target, snapshot);
    return hash;
}

const char *twin_holds(const Twin *t, const char *domain_xml, const char *target)
{
    return disk_hash(t, domain_xml, target, NULL);
}

/* The tag in our image: that of the name, but a name of digits has another one (DESIGN 3). */
static const char *our_tag(const Twin *t, const char *name)
{
    return name[strspn(name, "0123456789")] == '\0' ? keepf(t->w, "snap-%s", name) : name;
}

/* The state of @target in the snapshot that the document describes; @tag: its internal name. */
static void check_state(const Twin *t, const char *xml, const char *name, const char *target, const char *tag,
                        const char *whose)
{
    const char *mode = xpath(t->w, xml, keepf(t->w, "//disks/disk[@name='%s']/@snapshot", target));
    gboolean internal = strcmp(mode, "internal") == 0;
    if (!internal && strcmp(mode, "external") != 0)
        return;
    const char *hash = disk_hash(t, xml, target, internal ? tag : NULL);
    ck_assert_msg(strcmp(hash, twin_remembered(t, name, target)) == 0, "%s of '%s': the content changed, %s",
                  target, name, whose);
}

static void check_states(Twin *t, gboolean theirs_too)
{
    g_auto(GStrv) names = twin_names(t, NULL);
    for (guint i = 0; names[i] != NULL; i++) {
        const char *ours = our_name(t, names[i]), *our_xml = twin_our_xml(t, ours);
        const char *their_xml = theirs_too ? twin_their_xml(t, names[i]) : "";
        for (guint d = 0; d < t->targets->len; d++) {
            const char *target = t->targets->pdata[d];
            check_state(t, our_xml, names[i], target, our_tag(t, ours), "ours");
            /* libvirt says "internal" of a floppy, but takes the tag of what is a disk only: nothing is kept. */
            if (theirs_too && !g_str_has_prefix(target, "fd"))
                check_state(t, their_xml, names[i], target, names[i], "libvirt's");
        }
    }
}

void twin_check_our_states(Twin *t)
{
    check_states(t, FALSE);
}

void twin_compare_contents(Twin *t)
{
    check_states(t, TRUE);
    for (guint d = 0; d < t->targets->len; d++)
        ck_assert_str_eq(twin_holds(t, twin_our_xml(t, NULL), t->targets->pdata[d]),
                         twin_holds(t, t->their_domain, t->targets->pdata[d]));
}

void twin_validate(Twin *t)
{
    g_auto(GStrv) names = twin_names(t, NULL);
    for (guint i = 0; names[i] != NULL; i++) {
        const char *xml = twin_our_xml(t, our_name(t, names[i]));
        run_ok(t->w, "virt-xml-validate", twin_put_file(t, xml), "domainsnapshot");
    }
    run_ok(t->w, "virt-xml-validate", twin_put_file(t, twin_our_xml(t, NULL)), "domain");
}
