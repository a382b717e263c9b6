/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "step_join.h"

#include <unistd.h>

#include "clones.h"

/*
 * A guest that was started when this daemon was dead, by somebody who knows the image under its old name, has written
 * into what had been joined already: that is joined again. Nobody may be at it still.
 */
static gboolean catch_up(const Step *step, Backend *backend, GError **error)
{
    const MergeSpec spec = {step->path, step->format, step->source, step->backing_was};
    FileLook look;
    if (!file_look(step->path, &look, error))
        return FALSE;
    if (file_stamp_equal(&look.stamp, &step->stamp))
        return TRUE;
    int lower = backend->ops->take(backend, step->source, error);
    if (lower < 0)
        return FALSE;
    gboolean ok = backend->ops->commit(backend, &spec, lower, NULL, NULL, error);
    close(lower);
    return ok;
}

/* Hold what was joined, and let it go by @way; once it is gone, or another file has its name, all is done. */
static gboolean let_go(const Step *step, Backend *backend,
                       gboolean (*way)(const Step *step, Backend *backend, GError **error), GError **error)
{
    FileLook look;
    if (!file_look(step->path, &look, NULL) || !file_id_same(&look.id, &step->id))
        return TRUE;
    int held = backend->ops->hold(backend, step->path, error);
    if (held < 0)
        return FALSE;
    gboolean ok = catch_up(step, backend, error) && way(step, backend, error);
    backend->ops->let_go(backend, held);
    return ok;
}

static gboolean rename_over(const Step *step, Backend *backend, GError **error)
{
    return file_rename_over(step->source, step->path, error);
}

gboolean step_replace(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return let_go(step, backend, rename_over, error);
}

/*
 * QEMU asks for no lock on what a new overlay is to stand on, so nothing can keep a clone from being made. But from when
 * the name is another one none can be made any more, and those that were are seen.
 */
static gboolean remove_unless_cloned(const Step *step, Backend *backend, GError **error)
{
    g_autofree char *clone = NULL;
    if (!file_rename_over(step->path, step->temp, error))
        return FALSE;
    gboolean known = clones_find_named(backend, step->path, &clone, error);
    if (known && !clone)
        return file_remove(step->temp, error);
    return file_rename_over(step->temp, step->path, known ? error : NULL) && known;
}

/* A kill came between: as it was, and again. */
static gboolean take_back(const Step *step, GError **error)
{
    FileLook look;
    return !file_look(step->temp, &look, NULL) || !file_id_same(&look.id, &step->id) ||
           file_exists(step->path) || file_rename_over(step->temp, step->path, error);
}

gboolean step_retire(const Step *step, Backend *backend, GCancellable *cancel, GError **error)
{
    return take_back(step, error) && let_go(step, backend, remove_unless_cloned, error);
}
