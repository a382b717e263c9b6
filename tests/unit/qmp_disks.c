/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_disks.h"

char *layer(const char *dir, const char *name, const char *below, int pattern, const char *where)
{
    char *path = g_build_filename(dir, name, NULL);
    g_autofree char *backing = g_strconcat("./", below, NULL);
    if (below)
        tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing, path, NULL);
    else
        tool("qemu-img", "create", "-q", "-f", "qcow2", path, "16M", NULL);
    write_pattern(path, pattern, where);
    return path;
}

World *world_new(const char *socket)
{
    World *world = g_new0(World, 1);
    world->socket = g_strdup(socket);
    g_autofree char *dir = g_path_get_dirname(world->socket);
    world->base = layer(dir, "base.qcow2", NULL, 0x11, "0 8M");
    world->middle = layer(dir, "middle.qcow2", "base.qcow2", 0x22, "2M 8M");
    world->top = layer(dir, "top.qcow2", "middle.qcow2", 0x33, "4M 8M");
    world->content = content_hash(world->top, "qcow2", NULL);
    world->machine = machine_with_disks(world->socket, (const char *[]){world->top, NULL});
    world->qmp = qmp_to(world->socket);
    return world;
}

void world_free(World *world)
{
    qmp_close(world->qmp);
    machine_free(world->machine);
    g_free(world->base);
    g_free(world->middle);
    g_free(world->top);
    g_free(world->socket);
    g_free(world->content);
    g_free(world);
}

void no_jobs(World *world)
{
    QmpWait wait = seconds(60);
    GError *error = NULL;
    g_autoptr(GPtrArray) jobs = qmp_jobs(world->qmp, &wait, &error);
    ASSERT_OK(jobs != NULL, error);
    ck_assert_uint_eq(jobs->len, 0);
}

void content_is_the_same(World *world, const char *path)
{
    machine_kill(world->machine);
    g_autofree char *now = content_hash(path, "qcow2", NULL);
    ck_assert_str_eq(now, world->content);
}

char *backing_of(const char *path)
{
    g_autofree char *json = tool_output("qemu-img", "info", "-f", "qcow2", "--output=json", path, NULL);
    g_autoptr(json_t) info = json_loads(json, 0, NULL);
    return g_strdup(json_string_value(json_object_get(info, "backing-filename")));
}

char *tags_of(const char *path)
{
    g_autofree char *image = g_strconcat("driver=qcow2,file.driver=file,file.filename=", path, NULL);
    return tool_output("qemu-img", "snapshot", "-l", "-U", "--image-opts", image, NULL);
}

json_t *save_arguments(const char *tag, const char *node)
{
    return json_pack("{s:s, s:s, s:[s]}", "tag", tag, "vmstate", node, "devices", node);
}

json_t *stream_arguments(World *world, int speed)
{
    return json_pack("{s:s, s:s, s:s, s:i}", "device", "vdafmt", "base", world->base, "backing-file",
                     "./base.qcow2", "speed", speed);
}

gboolean stop_machine(gpointer user, GError **error)
{
    Hook *hook = user;
    QmpWait wait = seconds(60);
    hook->n++;
    if (!hook->refuse)
        return qmp_do(hook->world->qmp, "stop", json_object(), &wait, error);
    snap_set_error(error, EROFS, "not now");
    return FALSE;
}
