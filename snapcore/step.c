/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "step.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "clones.h"
#include "error.h"
#include "fault.h"
#include "files.h"
#include "remote.h"
#include "step_join.h"

typedef struct {
    const char *word; /* in the journal */
    gboolean (*act)(const Step *step, Backend *backend, GCancellable *cancel, GError **error);
    gboolean (*undo)(const Step *step, Backend *backend, GError **error);
    gboolean (*finish)(const Step *step, Backend *backend, GError **error);
    gboolean bookkeeping;
    guint needs; /* set of the texts below that such a step has */
} StepClass;

enum { NEEDS_TEMP = 1, NEEDS_LIKE = 2, NEEDS_SOURCE = 4, NEEDS_TAG = 8, NEEDS_KEEP = 16 };
#define NEEDS_FILE (NEEDS_TEMP | NEEDS_LIKE)

static OverlaySpec spec_of(const Step *step)
{
    return (OverlaySpec){.path = step->temp,
                         .format = step->format,
                         .size = step->size,
                         .backing_name = step->backing_name,
                         .backing_format = step->backing_format};
}

/* --- new files --- */

static gboolean overlay_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    OverlaySpec spec = spec_of(step);
    return file_make_like(step->temp, step->like, step->mode, error) &&
           backend->ops->overlay_create(backend, &spec, cancel, error) &&
           file_publish(step->temp, step->path, error);
}

static gboolean copy_out_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    OverlaySpec spec = spec_of(step);
    return file_make_like(step->temp, step->like, step->mode, error) &&
           backend->ops->copy_out(backend, step->source, step->tag, &spec, cancel, error) &&
           file_publish(step->temp, step->path, error);
}

static gboolean file_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return file_make_like(step->temp, step->like, step->mode, error) &&
           file_publish(step->temp, step->path, error);
}

static gboolean copy_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return file_make_like(step->temp, step->like, step->mode, error) &&
           file_copy_into(step->source, step->temp, error) && file_publish(step->temp, step->path, error);
}

static gboolean new_file_undo(const Step *step, Backend *backend, GError **error)
{
    return file_withdraw(step->temp, step->path, error);
}

static gboolean new_file_finish(const Step *step, Backend *backend, GError **error)
{
    return file_remove(step->temp, error);
}

/* --- a file of the user's that gets another content --- */

static gboolean put_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    gboolean there = file_exists(step->path);
    if (there && !file_exists(step->keep) && !file_publish(step->path, step->keep, error))
        return FALSE;
    if (!step->source)
        return file_remove(step->path, error);
    return file_make_like(step->temp, there ? step->path : step->like, step->mode, error) &&
           file_copy_into(step->source, step->temp, error) && file_rename_over(step->temp, step->path, error);
}

static gboolean put_undo(const Step *step, Backend *backend, GError **error)
{
    return file_remove(step->temp, error) &&
           (!file_exists(step->keep) || file_rename_over(step->keep, step->path, error));
}

static gboolean put_finish(const Step *step, Backend *backend, GError **error)
{
    return file_remove(step->keep, error);
}

/* --- places --- */

static gboolean place_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    OverlaySpec spec = spec_of(step);
    spec.path = step->path;
    return backend->ops->place_format(backend, &spec, cancel, error);
}

static gboolean place_undo(const Step *step, Backend *backend, GError **error)
{
    OverlaySpec spec = spec_of(step);
    spec.path = step->path;
    return backend->ops->place_clear(backend, &spec, error);
}

/* --- write bits --- */

static gboolean set_mode(const Step *step, guint mode, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (file_set_mode(step->path, mode, &why) || snap_errno(why) == EPERM || snap_errno(why) == EROFS)
        return TRUE; /* not ours to change (group access): the recorded size and mtime guard it alone */
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static gboolean freeze_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    /* From now on it is a state: what the guest wrote last must not be lost. */
    return file_sync(step->path, error) && set_mode(step, step->mode & ~0222u, error);
}

static gboolean freeze_undo(const Step *step, Backend *backend, GError **error)
{
    return set_mode(step, step->mode, error);
}

static gboolean open_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return set_mode(step, step->mode | 0200, error);
}

static gboolean open_undo(const Step *step, Backend *backend, GError **error)
{
    return set_mode(step, step->mode & ~0222u, error);
}

static gboolean thaw_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return !file_exists(step->path) || freeze_undo(step, backend, error);
}

/* --- internal snapshots --- */

/* What is to be done the machine does, all disks at one instant (instant.h). */
static gboolean checkpoint_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return TRUE;
}

static gboolean repair_doubtful(const Step *step, Backend *backend, GError **error)
{
    return !step->doubtful || backend->ops->repair(backend, step->path, error);
}

static gboolean tag_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return repair_doubtful(step, backend, error) &&
           backend->ops->tag_create(backend, step->path, step->tag, cancel, error);
}

gboolean step_was_cut_short(const GError *why)
{
    int code = snap_errno(why);
    return code == EINTR || code == ETIMEDOUT || code == EIO || code == ENOSPC || code == EDQUOT;
}

/* Killed, it may leave bookkeeping that nobody would look at again once the tag is not there (facts/qemu.md A4). */
static gboolean delete_tag(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (backend->ops->tag_delete(backend, step->path, step->tag, cancel, &why))
        return TRUE;
    if (step_was_cut_short(why))
        (void)backend->ops->repair(backend, step->path, NULL);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static gboolean tag_undo(const Step *step, Backend *backend, GError **error)
{
    return delete_tag(step, backend, NULL, error);
}

static gboolean apply_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return backend->ops->tag_apply(backend, step->path, step->tag, cancel, error);
}

static gboolean apply_undo(const Step *step, Backend *backend, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (backend->ops->tag_apply(backend, step->path, step->keep, NULL, &why) || snap_errno(why) == ENOENT)
        return TRUE; /* without the kept state nothing was applied yet: stages run one after the other */
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* The layer may be frozen: its write bits come back for the moment. */
static gboolean drop_tag_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    gboolean frozen = step->mode != 0;
    if (!file_exists(step->path))
        return TRUE; /* gone with its tags */
    if (frozen && !freeze_undo(step, backend, error))
        return FALSE;
    gboolean ok = repair_doubtful(step, backend, error) && delete_tag(step, backend, cancel, error);
    return (!frozen || freeze_do(step, backend, NULL, ok ? error : NULL)) && ok;
}

/* --- joining layers --- */

static gboolean copy_up_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    OverlaySpec spec = spec_of(step);
    return file_make_like(step->temp, step->like, step->mode, error) &&
           backend->ops->copy_up(backend, step->path, &spec, NULL, cancel, error);
}

static gboolean copy_up_undo(const Step *step, Backend *backend, GError **error)
{
    return file_remove(step->temp, error);
}

/* A frozen layer gets its write bits for the moment (mode: those of its active role; 0: it is not frozen). */
static gboolean point_at(const Step *step, Backend *backend, const char *name, ImageFormat format,
                         GError **error)
{
    if (step->mode != 0 && !freeze_undo(step, backend, error))
        return FALSE;
    gboolean ok = backend->ops->set_backing(backend, step->path, name, format, error);
    return (step->mode == 0 || freeze_do(step, backend, NULL, ok ? error : NULL)) && ok;
}

static gboolean point_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return point_at(step, backend, step->backing_name, step->backing_format, error);
}

/* The recorded time too: else a frozen layer would look as if it had been changed from outside. */
static gboolean point_undo(const Step *step, Backend *backend, GError **error)
{
    return point_at(step, backend, step->keep, step->backing_was, error) &&
           file_set_mtime(step->path, &step->stamp, error) && file_sync(step->path, error);
}

/* By somebody who started a guest from it by hand, when the daemon was dead: it is theirs. */
static gboolean was_written(const Step *step, const FileLook *look)
{
    static const FileStamp none;
    return !file_stamp_equal(&step->stamp, &none) && !file_stamp_equal(&step->stamp, &look->stamp);
}

static gboolean unlink_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    FileLook look;
    if (!file_look(step->path, &look, NULL) || was_written(step, &look))
        return TRUE;
    return clones_remove_unnamed(backend, step->path, &step->id, error);
}

static const StepClass classes[] = {
    [STEP_OVERLAY] = {"overlay", overlay_do, new_file_undo, new_file_finish, FALSE, NEEDS_FILE},
    [STEP_COPY_OUT] = {"copy-out", copy_out_do, new_file_undo, new_file_finish, FALSE,
                       NEEDS_FILE | NEEDS_SOURCE | NEEDS_TAG},
    [STEP_PLACE] = {"place", place_do, place_undo, NULL, FALSE, 0},
    [STEP_FREEZE] = {"freeze", freeze_do, freeze_undo, NULL, FALSE, 0},
    [STEP_OPEN] = {"open", open_do, open_undo, NULL, FALSE, 0},
    [STEP_FILE] = {"file", file_do, new_file_undo, new_file_finish, FALSE, NEEDS_FILE},
    [STEP_COPY] = {"copy", copy_do, new_file_undo, new_file_finish, FALSE, NEEDS_FILE | NEEDS_SOURCE},
    [STEP_PUT] = {"put", put_do, put_undo, put_finish, FALSE, NEEDS_FILE | NEEDS_KEEP},
    [STEP_CHECKPOINT] = {"checkpoint", checkpoint_do, tag_undo, NULL, TRUE, NEEDS_TAG},
    [STEP_TAG] = {"tag", tag_do, tag_undo, NULL, TRUE, NEEDS_TAG},
    [STEP_KEEP] = {"keep", tag_do, tag_undo, tag_undo, TRUE, NEEDS_TAG},
    [STEP_APPLY] = {"apply", apply_do, apply_undo, NULL, TRUE, NEEDS_TAG | NEEDS_KEEP},
    [STEP_DROP_TAG] = {"drop-tag", drop_tag_do, NULL, NULL, TRUE, NEEDS_TAG},
    [STEP_COPY_UP] = {"copy-up", copy_up_do, copy_up_undo, copy_up_undo, FALSE, NEEDS_FILE},
    [STEP_POINT] = {"point", point_do, point_undo, NULL, FALSE, NEEDS_KEEP},
    [STEP_UNLINK] = {"unlink", unlink_do, NULL, NULL, FALSE, 0},
    [STEP_REPLACE] = {"replace", step_replace, NULL, NULL, FALSE, NEEDS_SOURCE},
    [STEP_RETIRE] = {"retire", step_retire, NULL, NULL, FALSE, NEEDS_TEMP | NEEDS_SOURCE},
    [STEP_THAW] = {"thaw", thaw_do, NULL, NULL, FALSE, 0},
};

#define TEMP_PREFIX ".domsnapfs-" /* and a uuid */

char *step_temp_name(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *uuid = g_uuid_string_random();
    return g_strdup_printf("%s/" TEMP_PREFIX "%s", strcmp(dir, "/") == 0 ? "" : dir, uuid);
}

Step *step_new(StepKind kind, guint stage, const char *disk, const char *path)
{
    Step *step = g_new0(Step, 1);
    step->kind = kind;
    step->stage = stage;
    step->disk = g_strdup(disk);
    step->path = g_strdup(path);
    if (classes[kind].needs & NEEDS_TEMP)
        step->temp = step_temp_name(path);
    return step;
}

void step_free(Step *step)
{
    g_free(step->disk);
    g_free(step->path);
    g_free(step->temp);
    g_free(step->like);
    g_free(step->backing_name);
    g_free(step->source);
    g_free(step->tag);
    g_free(step->keep);
    g_free(step);
}

static gboolean explain(const Step *step, gboolean ok, GError **error)
{
    if (!ok)
        g_prefix_error(error, "disk '%s': ", step->disk);
    return ok;
}

gboolean step_do(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    const StepClass *class = &classes[step->kind];
    gboolean ok = FAULT_POINT_OF("step.*.do", class->word, error) &&
                  class->act(step, backend, cancel, error) &&
                  FAULT_POINT_OF("step.*.do.after", class->word, error);
    return explain(step, ok, error);
}

gboolean step_undo(const Step *step, Backend *backend, GError **error)
{
    const StepClass *class = &classes[step->kind];
    if (!class->undo)
        return TRUE;
    gboolean ok = FAULT_POINT_OF("step.*.undo", class->word, error) && class->undo(step, backend, error) &&
                  FAULT_POINT_OF("step.*.undo.after", class->word, error);
    return explain(step, ok, error);
}

gboolean step_finish(const Step *step, Backend *backend, GError **error)
{
    const StepClass *class = &classes[step->kind];
    if (!class->finish)
        return TRUE;
    gboolean ok = FAULT_POINT_OF("step.*.finish", class->word, error) &&
                  class->finish(step, backend, error) &&
                  FAULT_POINT_OF("step.*.finish.after", class->word, error);
    return explain(step, ok, error);
}

gboolean step_is_needed(const Step *step)
{
    return step->kind == STEP_REPLACE || step->kind == STEP_RETIRE;
}

gboolean step_needs_repair(const Step *step)
{
    return classes[step->kind].bookkeeping;
}

char *step_describe(const Step *step)
{
    const char *word = classes[step->kind].word;
    if (step->tag)
        return g_strdup_printf("%s '%s' %s '%s'", word, step->tag, step->disk, step->path);
    return g_strdup_printf("%s %s '%s'", word, step->disk, step->path);
}

gboolean step_is_temp_name(const char *file)
{
    return g_str_has_prefix(file, TEMP_PREFIX) && g_uuid_string_is_valid(file + strlen(TEMP_PREFIX));
}

json_t *step_to_json(const Step *step)
{
    json_t *json =
        json_pack("{s:s, s:i, s:s, s:s, s:i, s:I, s:s, s:s}", "kind", classes[step->kind].word, "stage",
                  (int)step->stage, "disk", step->disk, "path", step->path, "mode", (int)step->mode, "size",
                  (json_int_t)step->size, "format", image_format_to_string(step->format), "backing_format",
                  image_format_to_string(step->backing_format));
    const struct {
        const char *key, *value;
    } texts[] = {{"temp", step->temp},     {"like", step->like}, {"backing_name", step->backing_name},
                 {"source", step->source}, {"tag", step->tag},   {"keep", step->keep}};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (!texts[i].value || json_object_set_new(json, texts[i].key, json_string(texts[i].value)) == 0)
            continue;
        json_decref(json);
        return NULL;
    }
    json_object_set_new(json, "backing_was", json_string(image_format_to_string(step->backing_was)));
    json_object_set_new(json, "id",
                        json_pack("[I, I, I]", (json_int_t)step->id.ino, (json_int_t)step->id.birth_sec,
                                  (json_int_t)step->id.birth_nsec));
    json_object_set_new(json, "stamp",
                        json_pack("[I, I, I]", (json_int_t)step->stamp.size,
                                  (json_int_t)step->stamp.mtime_sec, (json_int_t)step->stamp.mtime_nsec));
    return json;
}

/* What only some kinds have; a journal of an earlier version may lack it. */
static void read_identity(Step *step, json_t *json)
{
    const char *was = NULL;
    json_int_t id[3] = {0}, stamp[3] = {0};
    (void)json_unpack(json, "{s?s, s?[I, I, I], s?[I, I, I]}", "backing_was", &was, "id", &id[0], &id[1],
                      &id[2], "stamp", &stamp[0], &stamp[1], &stamp[2]);
    (void)image_format_from_string(was, &step->backing_was);
    step->id = (FileId){.ino = (guint64)id[0], .birth_sec = id[1], .birth_nsec = (guint32)id[2]};
    step->stamp =
        (FileStamp){.size = (guint64)stamp[0], .mtime_sec = stamp[1], .mtime_nsec = (guint32)stamp[2]};
}

static gboolean class_from_word(const char *word, StepKind *ret_kind)
{
    for (guint i = 0; i < G_N_ELEMENTS(classes); i++)
        if (strcmp(classes[i].word, word) == 0) {
            *ret_kind = (StepKind)i;
            return TRUE;
        }
    return FALSE;
}

/* Has the step all that its kind acts on, and only paths that do not depend on where we are? */
static gboolean is_whole(const Step *step)
{
    const guint needs = classes[step->kind].needs;
    const struct {
        guint need;
        const char *value;
        gboolean path;
    } texts[] = {{NEEDS_TEMP, step->temp, TRUE},
                 {NEEDS_LIKE, step->like, TRUE},
                 {NEEDS_SOURCE, step->source, TRUE},
                 {NEEDS_TAG, step->tag, FALSE},
                 {NEEDS_KEEP, step->keep, FALSE}};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        if (texts[i].value ? texts[i].path && !g_path_is_absolute(texts[i].value)
                           : (needs & texts[i].need) != 0)
            return FALSE;
    return g_path_is_absolute(step->path) || (step->kind == STEP_PLACE && remote_is_uri(step->path));
}

Step *step_from_json(json_t *json, GError **error)
{
    const char *word, *disk, *path, *format, *backing_format;
    const char *temp = NULL, *like = NULL, *backing_name = NULL, *source = NULL, *tag = NULL, *keep = NULL;
    static const char damaged[] = "a step that is not as the format says";
    int stage, mode;
    json_int_t size;
    StepKind kind;
    if (json_unpack(json, "{s:s, s:i, s:s, s:s, s:i, s:I, s:s, s:s, s?s, s?s, s?s, s?s, s?s, s?s}", "kind",
                    &word, "stage", &stage, "disk", &disk, "path", &path, "mode", &mode, "size", &size,
                    "format", &format, "backing_format", &backing_format, "temp", &temp, "like", &like,
                    "backing_name", &backing_name, "source", &source, "tag", &tag, "keep", &keep) < 0 ||
        !class_from_word(word, &kind)) {
        snap_set_error(error, EINVAL, "%s", damaged);
        return NULL;
    }
    Step *step = g_new0(Step, 1);
    *step = (Step){.kind = kind,
                   .stage = (guint)stage,
                   .disk = g_strdup(disk),
                   .path = g_strdup(path),
                   .temp = g_strdup(temp),
                   .like = g_strdup(like),
                   .mode = (guint)mode,
                   .size = (guint64)size,
                   .backing_name = g_strdup(backing_name),
                   .source = g_strdup(source),
                   .tag = g_strdup(tag),
                   .keep = g_strdup(keep)};
    (void)image_format_from_string(format, &step->format);
    (void)image_format_from_string(backing_format, &step->backing_format);
    read_identity(step, json);
    if (is_whole(step))
        return step;
    snap_set_error(error, EINVAL, "%s", damaged);
    step_free(step);
    return NULL;
}
