/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An import dies, or something fails in it, at every fault point that it passes: the store is the one before or after. */
#include <glib/gstdio.h>
#include <stdlib.h>

#include "libvirt_host.h"
#include "machine.h"

enum { FAULT_EXIT = 86, MANY = 40 };

typedef struct {
    World *w;
    LibvirtHost *host;
    LibvirtMachine *web;
    const char *before, *after; /* what the store holds */
} Trial;

/* An import with @fault (or NULL), writing down the points to @trace (or NULL): its exit code. */
static int import(const Trial *trial, const char *fault, const char *trace)
{
    const World *w = trial->w;
    if (fault != NULL)
        g_setenv("DOMSNAPFS_FAULT", fault, TRUE);
    if (trace != NULL)
        g_setenv("DOMSNAPFS_FAULT_TRACE", trace, TRUE);
    Ran result = ran(w, w->program, "--import-libvirt", trial->host->root, w->store, NULL);
    g_unsetenv("DOMSNAPFS_FAULT");
    g_unsetenv("DOMSNAPFS_FAULT_TRACE");
    world_check_clean(w);
    return result.rc;
}

/* Names and hashes of what a mount, which may have to tidy up first, leaves in the store. */
static const char *mounted_store(Trial *trial)
{
    World *w = trial->w;
    world_start(w, NULL);
    if (exists(w, "web"))
        ck_has(names_in(w, "web"), " s1 ");
    world_stop(w);
    return sh_ok(w, keepf(w,
                          "cd '%s' && find . -type f ! -name log ! -name lock -exec sha256sum {} + | sort && "
                          "find domains -name '.*'",
                          w->store));
}

static void restore(const Trial *trial)
{
    sh_ok(trial->w, keepf(trial->w, "cd '%s' && rm -rf store && cp -a saved store", trial->w->dir));
}

static void snapshots(Trial *trial, guint from, guint to)
{
    for (guint i = from; i <= to; i++) {
        g_autofree char *name = g_strdup_printf("s%u", i);
        libvirt_machine_snapshot(trial->web, name, "i");
    }
}

static void try_point(Trial *trial, const char *name, guint n, const char *what)
{
    const World *w = trial->w;
    const char *fault = keepf(w, "%s:%u=%s", name, n, what);
    restore(trial);
    int rc = import(trial, fault, NULL);
    ck_assert_msg((rc == FAULT_EXIT) == (strcmp(what, "exit") == 0), "%s: exit code %d", fault, rc);
    const char *now = mounted_store(trial);
    ck_assert_msg(strcmp(now, trial->after) == 0 || (rc != 0 && strcmp(now, trial->before) == 0),
                  "%s: exit code %d, and the store holds:\n%s", fault, rc, now);
    ck_assert_msg(import(trial, NULL, NULL) == 0, "%s: it cannot be imported any more", fault);
    ck_assert_str_eq(mounted_store(trial), trial->after);
}

/* The first and the last passing of each point. */
static guint try_points(Trial *trial, const char *passed)
{
    g_auto(GStrv) names = g_strsplit(passed, "\n", -1);
    g_autoptr(GHashTable) times = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; names[i] != NULL && *names[i] != '\0'; i++) {
        guint seen = GPOINTER_TO_UINT(g_hash_table_lookup(times, names[i]));
        g_hash_table_insert(times, names[i], GUINT_TO_POINTER(seen + 1));
    }
    GHashTableIter iter;
    gpointer name, n;
    g_hash_table_iter_init(&iter, times);
    while (g_hash_table_iter_next(&iter, &name, &n))
        for (guint which = 0; which < (GPOINTER_TO_UINT(n) > 1 ? 2 : 1); which++) {
            try_point(trial, name, which == 0 ? 1 : GPOINTER_TO_UINT(n), "exit");
            try_point(trial, name, which == 0 ? 1 : GPOINTER_TO_UINT(n), "ENOSPC");
        }
    return g_hash_table_size(times);
}

START_TEST(import_faults)
{
    gboolean again = _i == 1; /* the same machine a second time, with one snapshot more */
    g_autoptr(World) w = world_new_idle();
    g_autofree char *passed = NULL;
    Trial trial = {.w = w, .host = libvirt_host_new(in_dir(w, "host"))};
    trial.web = libvirt_machine_new(trial.host, "web", make_image(w, "a.qcow2", "qcow2"), NULL);
    snapshots(&trial, 1, MANY);
    if (again) {
        ck_assert_int_eq(import(&trial, NULL, NULL), 0);
        snapshots(&trial, MANY + 1, MANY + 1);
    }
    trial.before = mounted_store(&trial);
    sh_ok(w, keepf(w, "cd '%s' && cp -a store saved", w->dir));
    ck_assert_int_eq(import(&trial, NULL, in_dir(w, "trace")), 0);
    trial.after = mounted_store(&trial);
    ck_assert_str_ne(trial.before, trial.after);
    ck_assert(g_file_get_contents(in_dir(w, "trace"), &passed, NULL, NULL));
    ck_has(passed, "store.sync\n");
    ck_has(passed, again ? "store.exchange\n" : "store.move\n");
    printf("# %u points\n", try_points(&trial, passed));
    libvirt_machine_free(trial.web);
    libvirt_host_free(trial.host);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faults in an import");
    tcase_add_loop_test(add_case(suite, "import"), import_faults, 0, 2);
    return mount_main(suite);
}
