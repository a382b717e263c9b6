/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "target.h"

#include <string.h>

#include "node.h"

/* The path below the mount, or NULL when @path lies elsewhere. */
static const char *below_mount(const Fs *fs, const char *path)
{
    gsize len = strlen(fs->mountpoint);
    if (strncmp(path, fs->mountpoint, len) != 0 || path[len] != '/')
        return NULL;
    return path + len;
}

/* Go one component on; *where is 0 in the root, a domain, or a snapshot. FALSE: there is no such thing. */
static gboolean walk(Fs *fs, const char *component, gboolean *in_root, EngineId *where)
{
    EngineLook now;
    if (*component == '\0' || strcmp(component, ".") == 0)
        return TRUE;
    if (strcmp(component, "..") == 0) {
        if (*in_root || !fs->engine->ops->look(fs->engine, *where, &now))
            return FALSE;
        *in_root = now.kind == ENGINE_DOMAIN;
        *where = *in_root ? 0 : now.domain;
        return TRUE;
    }
    if (!*in_root && (!fs->engine->ops->look(fs->engine, *where, &now) || now.kind != ENGINE_DOMAIN))
        return FALSE;
    *where = node_find(fs, *in_root ? 0 : *where, component);
    *in_root = FALSE;
    return *where != 0;
}

EngineId target_snapshot(Fs *fs, EngineId domain, const char *link)
{
    EngineId where = domain;
    gboolean in_root = FALSE;
    if (*link == '/') {
        link = below_mount(fs, link);
        if (link == NULL)
            return 0;
        where = 0;
        in_root = TRUE;
    }
    g_auto(GStrv) components = g_strsplit(link, "/", -1);
    for (char **component = components; *component != NULL; component++)
        if (!walk(fs, *component, &in_root, &where))
            return 0;
    EngineLook now;
    if (in_root || !fs->engine->ops->look(fs->engine, where, &now))
        return 0;
    return now.kind == ENGINE_SNAPSHOT && now.domain == domain ? where : 0;
}
