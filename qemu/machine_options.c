/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the active image of a disk was opened: its cache mode, what becomes of discards and zeroes, how the file is read. An
 * overlay on it is to be opened in the same way.
 *
 * What stands on QEMU's command line says all of that, and at once. What QEMU itself tells is less, and costs the cube of the
 * depth of a chain whose headers hold relative names, because each node is told with all that is below it (tried: 15 seconds
 * at 200, 4 minutes at 500): it is asked only where the command line does not know the disk, or cannot be read.
 */
#include <string.h>

#include "launch.h"
#include "machine_parts.h"

#define DEVICES "/machine/peripheral/"

static const char *const kept[] = {"cache", "discard", "detect-zeroes"};
static const char *const kept_of_file[] = {"cache", "discard", "aio"};

/* "virtio-blk-pci,drive=NODE,id=ID" as {"drive": NODE, "id": ID}; or it is JSON already. */
static json_t *read_device(const char *word)
{
    if (word[0] == '{')
        return json_loads(word, JSON_REJECT_DUPLICATES, NULL);
    json_t *device = json_object();
    g_auto(GStrv) parts = g_strsplit(word, ",", -1);
    for (guint i = 0; parts[i]; i++) {
        char *value = strchr(parts[i], '=');
        if (!value)
            continue;
        *value = '\0';
        json_object_set_new(device, parts[i], json_string(value + 1));
    }
    return device;
}

/* What a command line says: nodes by their names, and devices by theirs. */
typedef struct {
    json_t *nodes, *devices;
} Words;

static void words_clear(Words *words)
{
    json_decref(words->nodes);
    json_decref(words->devices);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Words, words_clear)

/* Empty where it cannot be read. */
static Words words_of_process(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid), *text = NULL;
    Words words = {json_object(), json_object()};
    gsize len = 0;
    if (pid <= 0 || !g_file_get_contents(path, &text, &len, NULL))
        return words;
    const char *option = "";
    for (const char *word = text; word < text + len; option = word, word += strlen(word) + 1) {
        gboolean node = strcmp(option, "-blockdev") == 0;
        if (!node && strcmp(option, "-device") != 0)
            continue;
        g_autoptr(json_t) json = node ? json_loads(word, JSON_REJECT_DUPLICATES, NULL) : read_device(word);
        const char *name = json_string_value(json_object_get(json, node ? "node-name" : "id"));
        if (name)
            json_object_set(node ? words.nodes : words.devices, name, json);
    }
    return words;
}

guint running_next_level(const RunningDisk *disk, const char *top)
{
    const char *dash = strrchr(top, '-');
    guint64 level = dash ? g_ascii_strtoull(dash + 1, NULL, 10) : 0;
    g_autofree char *name = launch_node_name(disk->target, (guint)MIN(level, G_MAXINT));
    return strcmp(name, top) == 0 ? (guint)level + 1 : 0;
}

/* The node itself; an overlay that was put on later was opened as what the device had at the beginning. */
static const json_t *find_node(const Words *words, const RunningDisk *disk, const char *top)
{
    const json_t *node = json_object_get(words->nodes, top);
    if (node || !g_str_has_prefix(disk->device, DEVICES))
        return node;
    const char *id = disk->device + strlen(DEVICES);
    g_autofree char *name = g_strndup(id, strcspn(id, "/"));
    const char *drive = json_string_value(json_object_get(json_object_get(words->devices, name), "drive"));
    return drive ? json_object_get(words->nodes, drive) : NULL;
}

static json_t *copy_options(const json_t *from, const char *const *keys, gsize n)
{
    json_t *options = json_object();
    for (gsize i = 0; i < n; i++)
        if (json_object_get(from, keys[i]))
            json_object_set(options, keys[i], json_object_get(from, keys[i]));
    return options;
}

/* QEMU hands the cache mode down to the file. */
static json_t *ask_qemu(Running *running, const char *top, const QmpWait *wait, GError **error)
{
    g_autoptr(json_t) list =
        qmp_run(running->qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", TRUE), wait, error);
    g_autoptr(json_t) options = json_object();
    size_t i;
    json_t *each;
    json_array_foreach (list, i, each) {
        const json_t *cache = json_object_get(each, "cache");
        const char *zeroes = json_string_value(json_object_get(each, "detect_zeroes"));
        if (g_strcmp0(json_string_value(json_object_get(each, "node-name")), top) != 0)
            continue;
        json_object_set_new(options, "cache",
                            json_pack("{s:b, s:b}", "direct", json_is_true(json_object_get(cache, "direct")),
                                      "no-flush", json_is_true(json_object_get(cache, "no-flush"))));
        if (zeroes)
            json_object_set_new(options, "detect-zeroes", json_string(zeroes));
        if (g_strcmp0(zeroes, "unmap") == 0) /* is only possible with this */
            json_object_set_new(options, "discard", json_string("unmap"));
    }
    return list ? json_pack("{s:O, s:{}}", "node", options, "file") : NULL;
}

json_t *running_options(Running *running, const RunningDisk *disk, const char *top, const QmpWait *wait,
                        GError **error)
{
    g_auto(Words) words = words_of_process(qmp_pid(running->qmp));
    const json_t *node = find_node(&words, disk, top), *file = json_object_get(node, "file");
    if (!node)
        return ask_qemu(running, top, wait, error);
    if (json_is_string(file))
        file = json_object_get(words.nodes, json_string_value(file));
    return json_pack("{s:o, s:o}", "node", copy_options(node, kept, G_N_ELEMENTS(kept)), "file",
                     copy_options(file, kept_of_file, G_N_ELEMENTS(kept_of_file)));
}
