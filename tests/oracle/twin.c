/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "twin_inside.h"

#include <stdio.h>

static const char *replaced(const World *w, const char *text, const char *from, const char *to)
{
    g_autoptr(GString) all = g_string_new(text);
    g_string_replace(all, from, to, 0);
    return keep(w, all->str);
}

const char *twin_on_our_side(const Twin *t, const char *text)
{
    const char *ours = in_dir(t->w, "ours");
    return replaced(t->w, replaced(t->w, text, "@DIR@", ours), in_dir(t->w, "virt"), ours);
}

const char *twin_on_their_side(const Twin *t, const char *text)
{
    return replaced(t->w, text, "@DIR@", in_dir(t->w, "virt"));
}

const char *twin_entry(const Twin *t, const char *name)
{
    return replaced(t->w, name, "%", "%25");
}

const char *twin_our_xml(const Twin *t, const char *snapshot)
{
    return text_of(t->w, snapshot == NULL
                             ? keepf(t->w, "%s/domain.xml", t->domain)
                             : keepf(t->w, "%s/%s/snapshot.xml", t->domain, twin_entry(t, snapshot)));
}

const char *twin_their_xml(const Twin *t, const char *snapshot)
{
    if (snapshot == NULL) {
        /* virsh prints an empty line behind it */
        g_autofree char *xml =
            g_strdup(virsh_ok(t->w, "dumpxml", "--inactive", "--security-info", t->domain));
        return keepf(t->w, "%s\n", g_strchomp(xml));
    }
    g_autofree char *xml = g_strdup(virsh_ok(t->w, "snapshot-dumpxml", "--security-info", "--domain",
                                             t->domain, keepf(t->w, "--snapshotname=%s", snapshot)));
    return keepf(t->w, "%s\n", g_strchomp(xml));
}

const char *twin_our_current(const Twin *t)
{
    return replaced(t->w, link_of(t->w, keepf(t->w, "%s/current", t->domain)), "%25", "%");
}

static const char *disk_value(const Twin *t, const char *xml, const char *target, const char *what)
{
    return xpath(t->w, xml, keepf(t->w, "//disk[target/@dev='%s']/%s", target, what));
}

void twin_touch(Twin *t)
{
    const char *xml[] = {twin_our_xml(t, NULL), t->their_domain};
    t->step++;
    for (guint i = 0; i < t->targets->len; i++) {
        const char *target = t->targets->pdata[i];
        guint byte = 1 + (t->step * 7 + i * 3) % 255, offset = 4096 * ((t->step * 37 + i * 11) % 200);
        for (guint side = 0; side < G_N_ELEMENTS(xml); side++) {
            const char *path = disk_value(t, xml[side], target, "source/@file");
            const char *argv[] = {"qemu-io",
                                  "-f",
                                  disk_value(t, xml[side], target, "driver/@type"),
                                  "-c",
                                  keepf(t->w, "write -q -P %u %u 12288", byte, offset),
                                  "-c",
                                  keepf(t->w, "write -q -P %u 921600 512", byte),
                                  path,
                                  NULL};
            ran_expect_ok(quick_argv(t->w, argv), path);
        }
    }
}

/* What every disk holds at this moment, on libvirt's side, will be what the snapshot holds. */
static void remember(Twin *t, const char *before, const char *name)
{
    for (guint i = 0; i < t->targets->len; i++) {
        const char *target = t->targets->pdata[i];
        const char *path = disk_value(t, before, target, "source/@file");
        const char *format = disk_value(t, before, target, "driver/@type");
        g_hash_table_insert(t->states, (gpointer)keepf(t->w, "%s %s", name, target),
                            (gpointer)twin_hash(t, path, format, NULL));
    }
}

/* libvirt 9 doubles the commas of a new overlay's name on the disk, not in its document: give it the name that it says. */
static void mend_commas(const Twin *t)
{
    g_autoptr(GDir) dir = g_dir_open(in_dir(t->w, "virt"), 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(dir)) != NULL)
        if (strstr(name, ",,") != NULL)
            ck_works(rename(in_dir(t->w, "virt/%s", name),
                            in_dir(t->w, "virt/%s", replaced(t->w, name, ",,", ","))));
}

/* One request in the words of both. */
typedef struct {
    GPtrArray *theirs; /* argv, with a NULL at its end */
    GString *ours;
} Request;

static Request words_of(const Twin *t, const char *name, va_list args)
{
    Request request = {g_ptr_array_new(), g_string_new("create")};
    g_ptr_array_add(request.theirs, (gpointer) "snapshot-create-as");
    g_ptr_array_add(request.theirs, (gpointer) "--domain");
    g_ptr_array_add(request.theirs, (gpointer)t->domain);
    for (const char *word = va_arg(args, const char *); word != NULL; word = va_arg(args, const char *)) {
        g_autofree char *quoted = g_shell_quote(twin_on_our_side(t, word));
        g_string_append_printf(request.ours, " %s", quoted);
        g_ptr_array_add(request.theirs, (gpointer)twin_on_their_side(t, word));
    }
    if (*name != '\0') {
        g_autofree char *quoted = g_shell_quote(name);
        g_string_append_printf(request.ours, " -- %s", quoted);
        g_ptr_array_add(request.theirs, (gpointer)keepf(t->w, "--name=%s", name));
    }
    g_ptr_array_add(request.theirs, NULL);
    return request;
}

static void request_clear(Request *request)
{
    g_ptr_array_unref(request->theirs);
    g_string_free(request->ours, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Request, request_clear)

/* Both have a new current snapshot: the one just taken. An unnamed one may have two names. */
static void took(Twin *t, const char *before)
{
    const char *ours = twin_our_current(t), *theirs;
    g_strfreev(twin_names(t, &theirs));
    if (strcmp(ours, theirs) != 0) {
        ck_assert_msg(g_ascii_isdigit(*ours) && g_ascii_isdigit(*theirs), "current: '%s', libvirt's '%s'",
                      ours, theirs);
        twin_differs(t, ours, theirs);
    }
    remember(t, before, theirs);
    twin_compare(t);
}

void twin_create(Twin *t, const char *name, ...)
{
    va_list args;
    va_start(args, name);
    g_auto(Request) request = words_of(t, name, args);
    va_end(args);
    const char *before = t->their_domain;
    ran_expect_ok(virsh_argv(t->w, (const char *const *)request.theirs->pdata), "virsh snapshot-create-as");
    mend_commas(t);
    command(t->w, t->domain, "%s", request.ours->str);
    took(t, before);
}

static const char *prints(const Twin *t)
{
    return keepf(t->w, "%s\n%s", fingerprint(t->w, in_dir(t->w, "ours")),
                 fingerprint(t->w, in_dir(t->w, "virt")));
}

void twin_refuse(Twin *t, const char *name, ...)
{
    va_list args;
    va_start(args, name);
    g_auto(Request) request = words_of(t, name, args);
    va_end(args);
    const char *before = prints(t);
    ran_expect_failure(virsh_argv(t->w, (const char *const *)request.theirs->pdata),
                       "virsh snapshot-create-as");
    int err = put(t->w, keepf(t->w, "%s/ctl", t->domain), keepf(t->w, "%s\n", request.ours->str));
    ck_assert_msg(err != 0, "libvirt refuses it, we do not: %s", request.ours->str);
    ck_assert_str_eq(prints(t), before);
    twin_compare(t);
}

void twin_safer(Twin *t, const char *name, ...)
{
    va_list args;
    va_start(args, name);
    g_auto(Request) request = words_of(t, name, args);
    va_end(args);
    const char *before = fingerprint(t->w, in_dir(t->w, "ours")), *definition = twin_our_xml(t, NULL);
    ran_expect_ok(virsh_argv(t->w, (const char *const *)request.theirs->pdata), "virsh snapshot-create-as");
    int err = put(t->w, keepf(t->w, "%s/ctl", t->domain), keepf(t->w, "%s\n", request.ours->str));
    ck_assert_msg(err != 0, "this loses data: %s", request.ours->str);
    ck_assert_str_eq(fingerprint(t->w, in_dir(t->w, "ours")), before);
    ck_assert_str_eq(twin_our_xml(t, NULL), definition);
}

void twin_beyond(Twin *t, const char *modes, const char *name, ...)
{
    va_list args;
    va_start(args, name);
    g_auto(Request) request = words_of(t, name, args);
    va_end(args);
    ran_expect_failure(virsh_argv(t->w, (const char *const *)request.theirs->pdata),
                       "virsh snapshot-create-as");
    command(t->w, t->domain, "%s", request.ours->str);
    g_auto(GStrv) want = g_strsplit(modes, " ", -1);
    const char *xml = twin_our_xml(t, name);
    for (guint i = 0; want[i] != NULL; i++)
        ck_assert_str_eq(xpath(t->w, xml, keepf(t->w, "//disks/disk[%u]/@snapshot", i + 1)), want[i]);
    run_ok(t->w, "virt-xml-validate", twin_put_file(t, xml), "domainsnapshot");
}

/* Both sides asked with a document. *ret_err: our errno. */
static Ran ask_with_document(const Twin *t, const char *xml, const char *option, int *ret_err)
{
    const char *theirs = twin_put_file(t, twin_on_their_side(t, xml));
    const char *ours = keepf(t->w, "create %s -\n%s", option != NULL ? option : "", twin_on_our_side(t, xml));
    Ran result = virsh(t->w, "snapshot-create", t->domain, theirs, option, NULL);
    *ret_err = put(t->w, keepf(t->w, "%s/ctl", t->domain), ours);
    return result;
}

void twin_create_xml(Twin *t, const char *xml, const char *option)
{
    const char *before = t->their_domain;
    int err;
    ran_expect_ok(ask_with_document(t, xml, option, &err), xml);
    mend_commas(t);
    ck_assert_msg(err == 0, "%s: %s; %s", xml, g_strerror(err),
                  text_of(t->w, keepf(t->w, "%s/log", t->domain)));
    took(t, before);
}

void twin_refuse_xml(Twin *t, const char *xml, const char *option)
{
    const char *before = prints(t);
    int err;
    ran_expect_failure(ask_with_document(t, xml, option, &err), xml);
    ck_assert_msg(err != 0, "libvirt refuses it, we do not: %s", xml);
    ck_assert_str_eq(prints(t), before);
    twin_compare(t);
}

static Ran redefine_both(const Twin *t, const char *xml, const char *option, int *ret_err)
{
    const char *theirs = twin_put_file(t, twin_on_their_side(t, xml));
    const char *ours =
        keepf(t->w, "redefine %s -\n%s", option != NULL ? option : "", twin_on_our_side(t, xml));
    Ran result = virsh(t->w, "snapshot-create", t->domain, theirs, "--redefine", option, NULL);
    *ret_err = put(t->w, keepf(t->w, "%s/ctl", t->domain), ours);
    return result;
}

void twin_redefine(Twin *t, const char *xml, const char *option)
{
    int err;
    ran_expect_ok(redefine_both(t, xml, option, &err), xml);
    ck_assert_msg(err == 0, "%s: %s; %s", xml, g_strerror(err),
                  text_of(t->w, keepf(t->w, "%s/log", t->domain)));
    twin_compare(t);
}

void twin_refuse_redefine(Twin *t, const char *xml)
{
    const char *before = prints(t);
    int err;
    ran_expect_failure(redefine_both(t, xml, NULL, &err), xml);
    ck_assert_msg(err != 0, "libvirt refuses it, we do not: %s", xml);
    ck_assert_str_eq(prints(t), before);
    twin_compare(t);
}

void twin_revert(Twin *t, const char *name)
{
    g_autofree char *quoted = g_shell_quote(name);
    virsh_ok(t->w, "snapshot-revert", "--domain", t->domain, keepf(t->w, "--snapshotname=%s", name));
    command(t->w, t->domain, "revert -- %s", quoted);
    twin_compare(t);
}

void twin_delete(Twin *t, const char *name, const char *option)
{
    g_autofree char *quoted = g_shell_quote(name);
    const char *argv[] = {
        "snapshot-delete", "--domain", t->domain, keepf(t->w, "--snapshotname=%s", name), option, NULL};
    ran_expect_ok(virsh_argv(t->w, argv), "virsh snapshot-delete");
    command(t->w, t->domain, "delete %s -- %s", option != NULL ? option : "", quoted);
    twin_compare(t);
}

void twin_differs(Twin *t, const char *ours, const char *theirs)
{
    g_ptr_array_add(t->swaps, (gpointer)ours);
    g_ptr_array_add(t->swaps, (gpointer)theirs);
}
