/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values of the document, and arguments of the command line. */
#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "error.h"
#include "launch_parts.h"

const LaunchWord launch_switch[] = {{"yes", "on"}, {"on", "on"}, {"no", "off"}, {"off", "off"}, {NULL, NULL}};

/* "a, b" of the words that there are. Caller frees. */
static char *list_words(const LaunchWord *words)
{
    GString *list = g_string_new(NULL);
    for (const LaunchWord *word = words; word->word; word++)
        g_string_append_printf(list, "%s%s", list->len ? ", " : "", word->word);
    return g_string_free(list, FALSE);
}

gboolean launch_word(const xmlNode *node, const char *attr, const LaunchWord *words, const char **value,
                     GError **error)
{
    g_autofree char *is = xml_attr(node, attr);
    if (!is)
        return TRUE;
    for (const LaunchWord *word = words; word->word; word++) {
        if (strcmp(word->word, is) == 0) {
            *value = word->value;
            return TRUE;
        }
    }
    g_autofree char *list = list_words(words);
    xml_set_error(error, EOPNOTSUPP, node, "%s='%s' is not supported%s%s%s", attr, is,
                  *list ? " (known here: " : "", list, *list ? ")" : "");
    return FALSE;
}

gboolean launch_set_word(json_t *object, const char *key, const xmlNode *node, const char *attr,
                         const LaunchWord *words, GError **error)
{
    const char *value = NULL;
    if (!launch_word(node, attr, words, &value, error))
        return FALSE;
    if (value)
        json_object_set_new(object, key, json_string(value));
    return TRUE;
}

gboolean launch_set_switch(json_t *object, const char *key, const xmlNode *node, const char *attr,
                           GError **error)
{
    const char *value = NULL;
    if (!launch_word(node, attr, launch_switch, &value, error))
        return FALSE;
    if (value)
        json_object_set_new(object, key, json_boolean(strcmp(value, "on") == 0));
    return TRUE;
}

gboolean launch_number(const xmlNode *node, const char *attr, guint64 min, guint64 max, guint64 *value,
                       GError **error)
{
    g_autofree char *text = xml_attr(node, attr);
    if (!text)
        return TRUE;
    gboolean hex = g_str_has_prefix(text, "0x");
    if (g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, min, max, value, NULL))
        return TRUE;
    if (min == max)
        xml_set_error(error, EINVAL, node, "%s='%s' is not possible, only %" G_GUINT64_FORMAT " is", attr,
                      text, min);
    else
        xml_set_error(error, EINVAL, node,
                      "%s='%s' is not a number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, attr, text,
                      min, max);
    return FALSE;
}

gboolean launch_set_number(json_t *object, const char *key, const xmlNode *node, const char *attr,
                           guint64 max, GError **error)
{
    guint64 value = G_MAXUINT64;
    if (!launch_number(node, attr, 0, max, &value, error))
        return FALSE;
    if (value != G_MAXUINT64)
        json_object_set_new(object, key, json_integer((json_int_t)value));
    return TRUE;
}

gboolean launch_plain(const xmlNode *node, const char *text, GError **error)
{
    const char *p = text ? text : "";
    while (g_ascii_isalnum(*p) || (*p && strchr("._+-", *p)))
        p++;
    if (p != text && *p == '\0' && text)
        return TRUE;
    xml_set_error(error, EINVAL, node, "'%s' is not a name (letters, digits and . _ + -)", text ? text : "");
    return FALSE;
}

gboolean launch_vendor(const xmlNode *node, const char *text, guint min, GError **error)
{
    const char *p = text ? text : "";
    while (g_ascii_isprint(*p) && *p != ',')
        p++;
    if (!text || (*p == '\0' && p - text >= min && p - text <= 12))
        return TRUE;
    xml_set_error(error, EINVAL, node, "'%s' is not the name of a vendor (%s12 characters, no comma)", text,
                  min < 12 ? "up to " : "");
    return FALSE;
}

gboolean launch_path(const xmlNode *node, const char *path, GError **error)
{
    if (image_path_check(path, error))
        return TRUE;
    xml_prefix_error(error, node);
    return FALSE;
}

char *launch_text(const xmlNode *node)
{
    g_autofree char *text = xml_text(node);
    if (!text || *g_strstrip(text) == '\0')
        return NULL;
    return g_steal_pointer(&text);
}

char *launch_escape(const char *text)
{
    GString *escaped = g_string_new(text);
    g_string_replace(escaped, ",", ",,", 0);
    return g_string_free(escaped, FALSE);
}

json_t *launch_object(const char *driver, const char *id)
{
    json_t *object = json_object();
    json_object_set_new(object, "driver", json_string(driver));
    json_object_set_new(object, "id", json_string(id));
    return object;
}

void launch_add(LaunchBuild *build, const char *option, const char *value)
{
    g_ptr_array_add(build->launch->argv, g_strdup(option));
    if (value)
        g_ptr_array_add(build->launch->argv, g_strdup(value));
}

/* As text that GLib frees. Takes @object. */
static char *dump(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    char *copy = g_strdup(text);
    free(text);
    json_decref(object);
    return copy;
}

void launch_add_json(LaunchBuild *build, const char *option, json_t *object)
{
    g_ptr_array_add(build->launch->argv, g_strdup(option));
    g_ptr_array_add(build->launch->argv, dump(object));
}

void launch_command(LaunchBuild *build, const char *name, json_t *arguments)
{
    json_t *command = json_object();
    json_object_set_new(command, "execute", json_string(name));
    json_object_set_new(command, "arguments", arguments);
    g_ptr_array_add(build->launch->commands, dump(command));
}

void launch_note(LaunchBuild *build, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(build->launch->notes, g_strdup_vprintf(format, args));
    va_end(args);
}

char *launch_file(const LaunchBuild *build, const char *suffix)
{
    return g_strdup_printf("%s/%s%s", build->spec->directory, build->launch->def->name, suffix);
}

gboolean launch_socket(LaunchBuild *build, const char *path, const xmlNode *node, GError **error)
{
    struct sockaddr_un address;
    gsize max = sizeof address.sun_path - 1;
    if (strlen(path) > max) {
        snap_set_error(error, ENAMETOOLONG, "the path of a socket, '%s', has %zu bytes; %zu are possible",
                       path, strlen(path), max);
        return FALSE;
    }
    g_ptr_array_add(build->launch->sockets, g_strdup(path));
    launch_output_path(build, path, node);
    return TRUE;
}

void launch_image_path(LaunchBuild *build, const char *path, const char *what)
{
    g_hash_table_insert(build->images, g_canonicalize_filename(path, "/"), g_strdup(what));
}

void launch_output_path(LaunchBuild *build, const char *path, const xmlNode *node)
{
    g_hash_table_insert(build->outputs, g_canonicalize_filename(path, "/"), (gpointer)node);
}

gboolean launch_paths_check(const LaunchBuild *build, GError **error)
{
    GHashTableIter iter;
    gpointer path, node;
    g_hash_table_iter_init(&iter, build->outputs);
    while (g_hash_table_iter_next(&iter, &path, &node)) {
        const char *what = g_hash_table_lookup(build->images, path);
        if (!what)
            continue;
        snap_set_error(error, EINVAL, "'%s' would be overwritten: it is an image of %s", (char *)path, what);
        if (node)
            xml_prefix_error(error, node);
        return FALSE;
    }
    return TRUE;
}

gboolean launch_name_disk(GError **error, const xmlNode *device)
{
    g_autofree char *target = xml_is(device, "disk") ? xml_attr(xml_child(device, "target"), "dev") : NULL;
    if (target)
        g_prefix_error(error, "disk '%s': ", target);
    return FALSE;
}

GPtrArray *launch_devices(const xmlNode *root, const char *name)
{
    GPtrArray *devices = g_ptr_array_new();
    for (xmlNode *list = xml_child(root, "devices"); list; list = xml_next(list, "devices"))
        for (xmlNode *node = xml_first_element(list); node; node = xml_next(node, NULL))
            if (!name || xml_is(node, name))
                g_ptr_array_add(devices, node);
    return devices;
}
