/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <unistd.h>

const char *make_image(const World *w, const char *name, const char *format)
{
    const char *path = image(w, name);
    run_ok(w, "qemu-img", "create", "-q", "-f", format, path, keepf(w, "%d", DISK_SIZE));
    return path;
}

static void append_disk(const World *w, GString *xml, const char *name, const char *word)
{
    g_auto(GStrv) part = g_strsplit(word, ":", 3);
    gboolean cdrom = g_str_has_prefix(part[0], "sd");
    g_autofree char *file = g_strdup_printf("%s-%s.%s", name, part[0], part[1]);
    g_autofree char *path = g_markup_escape_text(image(w, file), -1);
    g_string_append_printf(xml, "    <disk type='file' device='%s'", cdrom ? "cdrom" : "disk");
    if (part[2] != NULL)
        g_string_append_printf(xml, " snapshot='%s'", part[2]);
    g_string_append_printf(xml,
                           ">\n      <driver name='qemu' type='%s'/>\n      <source file='%s'/>\n"
                           "      <target dev='%s' bus='%s'/>\n%s    </disk>\n",
                           part[1], path, part[0], cdrom ? "sata" : "virtio",
                           cdrom ? "      <readonly/>\n" : "");
}

const char *machine_xml(const World *w, const char *name, const char *uuid, const char *disks)
{
    g_autoptr(GString) xml = g_string_new("<domain type='kvm'>\n");
    g_autofree char *escaped = g_markup_escape_text(name, -1);
    g_string_append_printf(xml, "  <name>%s</name>\n", escaped);
    if (uuid != NULL)
        g_string_append_printf(xml, "  <uuid>%s</uuid>\n", uuid);
    g_string_append(xml,
                    "  <memory unit='KiB'>1048576</memory>\n  <vcpu placement='static'>1</vcpu>\n  <os>\n"
                    "    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>\n  </os>\n  <devices>\n");
    g_auto(GStrv) words = g_strsplit(disks, " ", -1);
    for (guint i = 0; words[i] != NULL; i++)
        if (*words[i] != '\0')
            append_disk(w, xml, name, words[i]);
    g_string_append(xml, "  </devices>\n</domain>\n");
    return keep(w, xml->str);
}

void machine(const World *w, const char *name, const char *disks)
{
    g_auto(GStrv) words = g_strsplit(disks, " ", -1);
    for (guint i = 0; words[i] != NULL; i++) {
        g_auto(GStrv) part = g_strsplit(words[i], ":", 3);
        make_image(w, keepf(w, "%s-%s.%s", name, part[0], part[1]), part[1]);
    }
    int err = put(w, "ctl", machine_xml(w, name, NULL, disks));
    ck_assert_msg(err == 0, "define %s: %s", name, g_strerror(err));
}

static const char *disk_value(const World *w, const char *domain, const char *target, const char *what)
{
    const char *xml = text_of(w, keepf(w, "%s/domain.xml", domain));
    return xpath(w, xml, keepf(w, "//disk[target/@dev='%s']/%s", target, what));
}

const char *active_path(const World *w, const char *domain, const char *target)
{
    return disk_value(w, domain, target, "source/@*[name()='file' or name()='dev']");
}

const char *active_format(const World *w, const char *domain, const char *target)
{
    return disk_value(w, domain, target, "driver/@type");
}

void image_write(const World *w, const char *path, const char *format, guint8 byte, guint offset, guint size)
{
    run_ok(w, "qemu-io", "-f", format, "-c", keepf(w, "write -q -P %u %u %u", byte, offset, size), path);
}

/* Has some process a lock of QEMU's on it? Byte 100: every QEMU that has it open holds that one. */
static gboolean held(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
    ck_works(fcntl(fd, F_OFD_GETLK, &lock));
    close(fd);
    return lock.l_type != F_UNLCK;
}

Holder hold(const World *w, const char *path, const char *format, gboolean read_only)
{
    Holder holder;
    const char *argv[] = {"qemu-io", "-f", format, path, read_only ? "-r" : NULL, NULL};
    holder.pid = background(w, argv, &holder.in);
    ck_eventually(held(path), 20);
    return holder;
}

void release(Holder holder)
{
    close(holder.in);
    background_wait(holder.pid);
}

static json_t *info_of(const World *w, const char *path, const char *format)
{
    const char *out = run_ok(w, "qemu-img", "info", "-U", "--output=json", "-f", format, path);
    json_t *info = json_loads(out, 0, NULL);
    ck_assert_ptr_nonnull(info);
    return info;
}

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *tags_of(const World *w, const char *path)
{
    json_t *info = info_of(w, path, "qcow2");
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    size_t i;
    json_t *tag;
    json_array_foreach (json_object_get(info, "snapshots"), i, tag)
        g_ptr_array_add(names, (gpointer)keep(w, json_string_value(json_object_get(tag, "name"))));
    json_decref(info);
    g_ptr_array_sort(names, by_text);
    g_ptr_array_add(names, NULL);
    g_autofree char *joined = g_strjoinv("\n", (char **)names->pdata);
    return keep(w, joined);
}

const char *backing_of(const World *w, const char *path, const char *format)
{
    json_t *info = info_of(w, path, format);
    const char *name = json_string_value(json_object_get(info, "backing-filename"));
    const char *kept = keep(w, name != NULL ? name : "");
    json_decref(info);
    return kept;
}

const char *hash_of(const World *w, const char *path)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    guchar buffer[65536];
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "open %s: %s", path, g_strerror(errno));
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        g_checksum_update(sum, buffer, n);
    ck_assert_msg(n == 0, "read %s: %s", path, g_strerror(errno));
    close(fd);
    return keep(w, g_checksum_get_string(sum));
}

/* The sorted names in a real directory. */
static GPtrArray *list_of(const World *w, const char *dir)
{
    g_autoptr(GDir) open_dir = g_dir_open(dir, 0, NULL);
    GPtrArray *names = g_ptr_array_new();
    const char *name;
    while ((name = g_dir_read_name(open_dir)) != NULL)
        g_ptr_array_add(names, (gpointer)keep(w, name));
    g_ptr_array_sort(names, by_text);
    return names;
}

const char *fingerprint(const World *w, const char *dir)
{
    g_autoptr(GPtrArray) names = list_of(w, dir);
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < names->len; i++) {
        struct stat st;
        const char *path = keepf(w, "%s/%s", dir, (const char *)names->pdata[i]);
        ck_works(lstat(path, &st));
        g_string_append_printf(text, "%s %o %lld %s\n", (const char *)names->pdata[i], st.st_mode,
                               (long long)st.st_size, S_ISREG(st.st_mode) ? hash_of(w, path) : "-");
    }
    return keep(w, text->str);
}

static const char *content_hash(const World *w, const char *path)
{
    const char *raw = in_dir(w, "content.raw");
    if (!g_str_has_suffix(path, ".qcow2"))
        return hash_of(w, path);
    Ran result = ran(w, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw, NULL);
    return keepf(w, "%s %s", result.rc == 0 ? hash_of(w, raw) : result.err, tags_of(w, path));
}

const char *contents(const World *w)
{
    g_autoptr(GPtrArray) names = list_of(w, w->images);
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = 0; i < names->len; i++) {
        struct stat st;
        const char *path = image(w, names->pdata[i]);
        ck_works(lstat(path, &st));
        g_string_append_printf(text, "%s %o %s\n", (const char *)names->pdata[i], st.st_mode,
                               S_ISREG(st.st_mode) ? content_hash(w, path) : "-");
    }
    return keep(w, text->str);
}
