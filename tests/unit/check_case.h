/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cases of damage for the check of a store. Each damages the closed world of two domains in one way; then a check must
 * find it and change nothing, a repair must mend what can be mended, and a second check find the rest.
 *
 * The world: "web", with disks vda and vdb: s1 is internal in a.qcow2 and b.qcow2, s2 external, so that those are frozen,
 * s3 internal in the active a.s2 and b.s2. "other": disk vda in c.qcow2 with the internal s1.
 */
#pragma once

#include <sys/wait.h>

#include "engine_world.h"

typedef struct {
    const char *name;
    void (*damage)(World *world);
    const char *says[3];             /* parts of lines that must be there, up to a NULL */
    guint problems, mendable, notes; /* exactly so many */
} CheckCase;

/* All files below the directory @dir of the world, with modes, times and contents. Caller frees. */
static inline char *every_file(World *world, const char *dir)
{
    g_autofree char *script =
        g_strdup_printf("cd '%s/%s' && find . -printf '%%p %%y %%m %%s %%T@ %%C@ %%i\\n' | sort && "
                        "find . -type f -exec sha256sum {} + | sort",
                        world->dir, dir);
    return tool_output("sh", "-c", script, NULL);
}

/* What each state of both domains holds, as far as its file is there. Caller frees. */
static inline char *every_state(World *world)
{
    static const struct {
        const char *file, *tag;
    } states[] = {{"a.qcow2", "s1"}, {"a.qcow2", NULL}, {"a.s2", "s3"}, {"a.s2", NULL},    {"b.qcow2", "s1"},
                  {"b.qcow2", NULL}, {"b.s2", "s3"},    {"b.s2", NULL}, {"c.qcow2", "s1"}, {"c.qcow2", NULL}};
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(states); i++) {
        g_autofree char *path = world_path(world, states[i].file);
        g_autofree char *hash = content_hash(path, "qcow2", states[i].tag);
        g_string_append_printf(out, "%s %s %s\n", states[i].file, states[i].tag ? states[i].tag : "-", hash);
    }
    return g_string_free(out, FALSE);
}

static inline void expect_found(const CheckCase *the, const char *found, const CheckCounts *counts)
{
    for (guint i = 0; i < G_N_ELEMENTS(the->says) && the->says[i]; i++)
        ck_assert_msg(strstr(found, the->says[i]) != NULL, "%s: not '%s' in\n%s", the->name, the->says[i],
                      found);
    ck_assert_msg(counts->problems == the->problems && counts->mendable == the->mendable &&
                      counts->notes == the->notes,
                  "%s: %u problems, %u mendable, %u notes in\n%s", the->name, counts->problems,
                  counts->mendable, counts->notes, found);
}

/* Run one: what can be mended is mended, no state has changed then, and the domains work. */
static inline void run_check_case(const CheckCase *the, World *world)
{
    CheckCounts counts, again;
    g_autofree char *clean = world_findings(world, FALSE, NULL);
    ck_assert_str_eq(clean, "");
    gboolean whole = the->problems == the->mendable && the->problems > 0;
    g_autofree char *good = whole ? every_state(world) : NULL;
    the->damage(world);
    g_autofree char *before = every_file(world, ".");
    g_autofree char *found = world_findings(world, FALSE, &counts);
    g_autofree char *after = every_file(world, ".");
    ck_assert_msg(strcmp(after, before) == 0, "%s: files changed", the->name);
    expect_found(the, found, &counts);

    g_autofree char *mended = world_findings(world, TRUE, &counts);
    expect_found(the, mended, &counts);
    ck_assert_msg(counts.mended == the->mendable, "%s: %u mended in\n%s", the->name, counts.mended, mended);
    g_autofree char *left = world_findings(world, FALSE, &again);
    ck_assert_msg(again.problems == counts.problems - counts.mended, "%s: left:\n%s", the->name, left);
    if (!whole)
        return;
    g_autofree char *now = every_state(world);
    ck_assert_str_eq(now, good);
    world_open(world);
    world_check_clean(world, "web");
    world_assert_other_works(world);
}

/* Replace @from, which must be there, in a file of the store. */
static inline void edit_store(World *world, const char *name, const char *from, const char *to)
{
    g_autofree char *file = world_store_file(world, name);
    g_autofree char *text = NULL;
    ck_assert_msg(g_file_get_contents(file, &text, NULL, NULL), "%s", file);
    GString *edited = g_string_new(text);
    ck_assert_msg(g_string_replace(edited, from, to, 0) > 0, "no '%s' in %s", from, text);
    ck_assert(g_file_set_contents(file, edited->str, -1, NULL));
    g_string_free(edited, TRUE);
}

static inline void write_store(World *world, const char *name, const char *text)
{
    g_autofree char *file = world_store_file(world, name);
    ck_assert(g_file_set_contents(file, text, -1, NULL));
}

/* Run a shell script in the world's directory. */
static inline void in_world(World *world, const char *script)
{
    g_autofree char *all = g_strdup_printf("cd '%s' && %s", world->dir, script);
    tool("sh", "-c", all, NULL);
}
