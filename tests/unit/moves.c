/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Playing moves: on the engine, which may die of it, and in the mirror (moves.h). */
#include <sys/wait.h>

#include "deed.h"
#include "merge_job.h"

/* --- doing it --- */

/* What is in the way of a merge: of a clone we know, and a disk that was made smaller need not be mended. */
static gboolean merge_all(World *world, const Mirror *mirror, GError **error)
{
    g_autoptr(GHashTable) told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GError) why = NULL;
    gboolean ok = merge_domain((Core *)world->engine, world_domain(world, mirror->domain), told, NULL, &why);
    if (!ok && !(why->code == EBUSY && g_hash_table_size(mirror->clones) > 0)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    GHashTableIter iter;
    gpointer line;
    g_hash_table_iter_init(&iter, told);
    while (g_hash_table_iter_next(&iter, &line, NULL))
        if (g_hash_table_size(mirror->clones) == 0 && !strstr(line, "is smaller than")) {
            snap_set_error(error, EIO, "%s", (char *)line);
            return FALSE;
        }
    return TRUE;
}

static gboolean revert(World *world, const Mirror *mirror, const Deed *deed, GError **error)
{
    const RevertRequest request = {
        .name = deed->name, .discard = deed->discard, .delete_children = deed->delete_children};
    return world->engine->ops->revert(world->engine, world_domain(world, mirror->domain), &request, NULL,
                                      error);
}

static gboolean act(World *world, const Mirror *mirror, const Deed *deed, GError **error)
{
    switch (deed->kind) {
    case MOVE_CREATE:
        return world_try_create(world, mirror->domain, deed->name, deed->specs, error);
    case MOVE_REVERT:
        return revert(world, mirror, deed, error);
    case MOVE_UNDO:
        return world_try_undo(world, mirror->domain, error);
    case MOVE_DELETE:
        return world_try_delete(world, mirror->domain, deed->name, deed->flags, error);
    case MOVE_RENAME:
        return world_try_rename(world, mirror->domain, deed->name, deed->to, error);
    case MOVE_RENAME_DOMAIN:
        return world_try_rename(world, mirror->domain, NULL, deed->to, error);
    case MOVE_MERGE:
        return merge_all(world, mirror, error);
    case MOVE_REMOUNT:
        world_reopen(world);
        return TRUE;
    case MOVE_ATTACH:
    case MOVE_DETACH:
        return world_try_define(world, deed->xml, error);
    default:
        return TRUE; /* was done when it was decided */
    }
}

/* Deleted with its metadata only: its layers and tags are the user's. */
static void keep_states(const Story *story, Mirror *mirror, const Deed *deed)
{
    g_autoptr(Mirror) after = mirror_copy(mirror);
    mirror_delete(after, deed->name, deed->flags);
    for (guint i = 0; i < mirror->states->len; i++) {
        const MirrorState *state = mirror->states->pdata[i];
        GHashTableIter iter;
        gpointer target, content;
        g_hash_table_iter_init(&iter, state->disks);
        while (!mirror_find(after, state->name) && g_hash_table_iter_next(&iter, &target, &content)) {
            g_autofree char *tag = NULL;
            char *path = world_layer(story->world, mirror->domain, state->name, target, &tag);
            char *key = tag ? g_strconcat(path, "\t", tag, NULL) : g_strdup(path);
            g_hash_table_insert(mirror->kept, key, g_bytes_ref(content));
            g_free(path);
        }
    }
    mirror->released = TRUE;
}

/* Say it to @mirror; FALSE: nobody knows what should come of it. Before it is done. */
static gboolean tell(const Story *story, Mirror *mirror, const Deed *deed)
{
    switch (deed->kind) {
    case MOVE_WRITE:
    case MOVE_RESIZE:
        mirror_write(mirror, deed->target, deed->content);
        return TRUE;
    case MOVE_CREATE:
        mirror_create(mirror, deed->name, deed->left_out, deed->paths);
        return TRUE;
    case MOVE_REVERT:
        return mirror_revert(mirror, deed->name, deed->discard, deed->delete_children, deed->paths);
    case MOVE_UNDO:
        return mirror_undo(mirror, deed->paths);
    case MOVE_DELETE:
        if (deed->flags & DELETE_METADATA)
            keep_states(story, mirror, deed);
        mirror_delete(mirror, deed->name, deed->flags);
        return TRUE;
    case MOVE_RENAME:
        mirror_rename(mirror, deed->name, deed->to);
        return TRUE;
    case MOVE_RENAME_DOMAIN:
        g_free(mirror->domain);
        mirror->domain = g_strdup(deed->to);
        return TRUE;
    case MOVE_ATTACH:
        mirror_attach(mirror, deed->target, deed->path, g_hash_table_lookup(mirror->kept, deed->path));
        return TRUE;
    case MOVE_DETACH:
        mirror_detach(mirror, deed->target, deed->path);
        return TRUE;
    default:
        return TRUE;
    }
}

static void describe(Story *story, const Move *move, const Deed *deed)
{
    g_string_assign(story->text, move_name(deed->kind));
    const char *const words[] = {deed->name,   deed->to,
                                 deed->target, deed->path ? strrchr(deed->path, '/') + 1 : NULL,
                                 deed->specs,  deed->command};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (words[i])
            g_string_append_printf(story->text, " '%s'", words[i]);
    if (deed->flags)
        g_string_append_printf(story->text, "%s%s%s", deed->flags & DELETE_CHILDREN ? " --children" : "",
                               deed->flags & DELETE_CHILDREN_ONLY ? " --children-only" : "",
                               deed->flags & DELETE_METADATA ? " --metadata" : "");
    g_string_append(story->text, deed->discard ? " --discard" : "");
    g_string_append(story->text, deed->delete_children ? " --delete-children" : "");
    g_string_append(story->text, deed->refused ? " (to be refused)" : "");
    if (move->crash && move_is_engines(deed->kind) && !deed->refused)
        g_string_append_printf(story->text, " (dies at point %u)", move->crash);
}

/* --- dying --- */

/* Do it in a process that dies at that point. FALSE: it failed instead. */
static gboolean act_and_die(Story *story, const Deed *deed, guint point)
{
    world_close(story->world);
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        g_autoptr(GError) error = NULL;
        world_open(story->world);
        trap_set(TRAP_EXIT, point, 0);
        gboolean ok = act(story->world, story->mirror, deed, &error);
        trap_set(TRAP_OFF, 0, 0);
        if (!ok)
            printf("# %s\n", error->message);
        fflush(stdout);
        _exit(ok ? 0 : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) /* a qemu-img that it left at work */
        ;
    world_open(story->world);
    return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == TRAP_EXIT_CODE);
}

static void adopt(Story *story, Mirror **after)
{
    mirror_free(story->mirror);
    story->mirror = g_steal_pointer(after);
}

/* The state before or the one after; never anything between. */
static char *compare_either(Story *story, Mirror **after)
{
    g_autofree char *not_before = mirror_compare(story->mirror, story->world);
    g_autofree char *not_after = mirror_compare(*after, story->world);
    if (not_before && not_after)
        return g_strdup_printf("neither before (%s) nor after (%s)", not_before, not_after);
    gboolean open = !not_before && !not_after && (story->mirror->undo || (*after)->undo);
    if (!not_after)
        adopt(story, after);
    story->mirror->undo_open = story->mirror->undo_open || open;
    return NULL;
}

/* --- playing --- */

static char *play(Story *story, const Move *move, const Deed *deed, Mirror **after, Played *ret_played)
{
    g_autoptr(GError) error = NULL;
    if (move->crash && move_is_engines(deed->kind) && !deed->refused) {
        *ret_played = PLAYED_CRASH;
        return act_and_die(story, deed, move->crash) ? compare_either(story, after) : g_strdup("it failed");
    }
    *ret_played = PLAYED;
    gboolean ok = act(story->world, story->mirror, deed, &error);
    if (ok == deed->refused)
        return g_strdup(ok ? "it was taken" : error->message);
    if (ok)
        adopt(story, after);
    char *wrong = mirror_compare(story->mirror, story->world);
    return wrong || deed->kind != MOVE_MERGE ? wrong : mirror_compare_files(story->mirror, story->world);
}

char *story_play(Story *story, const Move *move, Played *ret_played)
{
    *ret_played = PLAYED_NOTHING;
    g_string_truncate(story->text, 0);
    g_autoptr(Deed) deed = deed_decide(story, move);
    if (!deed)
        return NULL;
    g_autoptr(Mirror) after = mirror_copy(story->mirror);
    if (!deed->refused && !tell(story, after, deed))
        return NULL;
    describe(story, move, deed);
    return play(story, move, deed, &after, ret_played);
}
