/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "saveimage.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi.h"
#include "error.h"
#include "saveimage_devices.h"

#define MAGIC_COMPLETE "LibvirtQemudSave"
#define MAGIC_PARTIAL "LibvirtQemudPart"
#define STREAM_MAGIC "QEVM"

enum { MAGIC_BYTES = 16, VERSION = 2, SPARE_BYTES = 64 * 1024, TEXT_MAX = 16 * 1024 * 1024 };

typedef struct {
    char magic[MAGIC_BYTES];
    guint32 version;
    guint32 text_bytes;
    guint32 running;
    guint32 compression;
    guint32 cookie;
    guint32 unused[12];
    guint32 bytes[2]; /* ours, lower half first: of the whole file; 0: libvirt has written it */
} Header;
G_STATIC_ASSERT(sizeof(Header) == 92);

static const char *const programs[] = {"none", "gzip", "bzip2", "xz", "lzop", "zstd"};

/* --- bytes --- */

/* All of it, or FALSE with errno; 0: the file ends before. */
static gboolean read_at(int fd, void *buffer, gsize len, off_t at)
{
    for (gsize done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)buffer + done, len - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n < 0 ? errno : 0;
            return FALSE;
        }
        done += (gsize)n;
    }
    return TRUE;
}

static gboolean write_at(int fd, const void *data, gsize len, off_t at)
{
    for (gsize done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const char *)data + done, len - done, at + (off_t)done);
        if (n < 0 && errno != EINTR)
            return FALSE;
        done += (gsize)MAX(n, 0);
    }
    return TRUE;
}

/* @what could not be read: the system's reason, or that there is no more. */
static gboolean unreadable(const char *what, GError **error)
{
    if (errno != 0)
        snap_set_errno(error, errno, "cannot read %s", what);
    else
        snap_set_error(error, EINVAL, "it ends in the middle of %s", what);
    return FALSE;
}

/* --- writing --- */

gboolean saveimage_begin(int fd, const DomainDef *def, gboolean running, GError **error)
{
    g_autoptr(DomainDef) told = domain_def_copy(def);
    saveimage_say_none(told);
    g_autofree char *text = domain_def_format(told);
    gsize len = strlen(text) + 1;
    if (len > XML_MAX_BYTES) {
        snap_set_error(error, E2BIG, "save image: the definition has more than %d bytes", XML_MAX_BYTES);
        return FALSE;
    }
    Header header = {.magic = MAGIC_PARTIAL, .version = VERSION, .running = running ? 1 : 0};
    /* the stream begins at a page */
    gsize start = (sizeof header + len + SPARE_BYTES + 4095) / 4096 * 4096;
    header.text_bytes = (guint32)(start - sizeof header);
    if (!write_at(fd, &header, sizeof header, 0) || !write_at(fd, text, len, sizeof header) ||
        ftruncate(fd, (off_t)start) < 0 || lseek(fd, (off_t)start, SEEK_SET) < 0) {
        snap_set_errno(error, errno, "save image: cannot write its header");
        return FALSE;
    }
    return TRUE;
}

gboolean saveimage_finish(int fd, GError **error)
{
    Header header;
    struct stat st;
    errno = 0;
    if (!read_at(fd, &header, sizeof header, 0)) {
        unreadable("the save image's header", error);
        return FALSE;
    }
    if (memcmp(header.magic, MAGIC_PARTIAL, MAGIC_BYTES) != 0 || fstat(fd, &st) < 0 ||
        (guint64)st.st_size <= sizeof header + (guint64)header.text_bytes) {
        snap_set_error(error, EINVAL, "save image: no memory was written to it");
        return FALSE;
    }
    header.bytes[0] = (guint32)st.st_size;
    header.bytes[1] = (guint32)((guint64)st.st_size >> 32);
    if (!write_at(fd, header.bytes, sizeof header.bytes, offsetof(Header, bytes)) || fsync(fd) < 0 ||
        !write_at(fd, MAGIC_COMPLETE, MAGIC_BYTES, 0) || fsync(fd) < 0) {
        snap_set_errno(error, errno, "save image: cannot write it");
        return FALSE;
    }
    return TRUE;
}

/* --- reading --- */

static void swap_header(Header *header)
{
    header->version = GUINT32_SWAP_LE_BE(header->version);
    header->text_bytes = GUINT32_SWAP_LE_BE(header->text_bytes);
    header->running = GUINT32_SWAP_LE_BE(header->running);
    header->compression = GUINT32_SWAP_LE_BE(header->compression);
    header->cookie = GUINT32_SWAP_LE_BE(header->cookie);
}

static gboolean check_kind(const Header *header, GError **error)
{
    if (memcmp(header->magic, MAGIC_PARTIAL, MAGIC_BYTES) == 0)
        snap_set_error(error, EINVAL, "it is not complete: writing it was interrupted");
    else if (memcmp(header->magic, MAGIC_COMPLETE, MAGIC_BYTES) != 0)
        snap_set_error(error, EINVAL, "it is no save image");
    else if (header->version > VERSION)
        snap_set_error(error, EOPNOTSUPP, "its version is %u (%u is the newest we know)", header->version,
                       (guint)VERSION);
    else if (header->compression >= G_N_ELEMENTS(programs))
        snap_set_error(error, EOPNOTSUPP,
                       "its memory is in a form that we do not know (number %u): save it uncompressed",
                       header->compression);
    else if (header->compression != 0)
        snap_set_error(error, EOPNOTSUPP,
                       "its memory is compressed by %s: restore it with virsh, or save it uncompressed "
                       "(save_image_format = \"raw\" in libvirt's qemu.conf)",
                       programs[header->compression]);
    else
        return TRUE;
    return FALSE;
}

static gboolean read_header(int fd, Header *header, guint64 file_bytes, GError **error)
{
    errno = 0;
    if (!read_at(fd, header, sizeof *header, 0))
        return unreadable("its header", error);
    guint64 written = (guint64)header->bytes[1] << 32 | header->bytes[0];
    if (header->version > VERSION) {
        swap_header(header);
        written = 0; /* not by us */
    }
    if (!check_kind(header, error))
        return FALSE;
    if (written > file_bytes) {
        snap_set_error(error, EINVAL, "it is shorter than it was when it was written");
        return FALSE;
    }
    if (header->text_bytes == 0 || header->text_bytes > TEXT_MAX || header->cookie >= header->text_bytes) {
        snap_set_error(error, EINVAL, "its header is damaged: %u bytes of text, the cookie at %u",
                       header->text_bytes, header->cookie);
        return FALSE;
    }
    if (sizeof *header + (guint64)header->text_bytes >= file_bytes) {
        snap_set_error(error, EINVAL, "it ends before the memory begins");
        return FALSE;
    }
    return TRUE;
}

static DomainDef *read_definition(int fd, const Header *header, GError **error)
{
    gsize room = header->cookie > 0 ? header->cookie : header->text_bytes;
    gsize len = MIN(room, XML_MAX_BYTES + 1);
    g_autofree char *text = g_malloc(len);
    errno = 0;
    if (!read_at(fd, text, len, sizeof *header)) {
        unreadable("its definition", error);
        return NULL;
    }
    const char *end = memchr(text, '\0', len);
    if (!end) {
        snap_set_error(error, EINVAL,
                       len < room ? "its definition has more than 1 MiB" : "its definition has no end");
        return NULL;
    }
    DomainDef *def = domain_def_parse(text, (gsize)(end - text), error);
    if (def)
        saveimage_add_usual(def);
    else
        g_prefix_error(error, "its definition: ");
    return def;
}

/* To the stream, which begins as QEMU's do. */
static gboolean find_stream(int fd, const Header *header, GError **error)
{
    off_t at = (off_t)sizeof *header + (off_t)header->text_bytes;
    char magic[sizeof STREAM_MAGIC - 1];
    errno = 0;
    if (!read_at(fd, magic, sizeof magic, at))
        return unreadable("the memory", error);
    if (memcmp(magic, STREAM_MAGIC, sizeof magic) != 0) {
        snap_set_error(error, EINVAL, "what follows its definition is not the memory of a QEMU");
        return FALSE;
    }
    if (lseek(fd, at, SEEK_SET) < 0) {
        snap_set_errno(error, errno, "cannot read the memory");
        return FALSE;
    }
    return TRUE;
}

static gboolean read_image(SaveImage *image, GError **error)
{
    struct stat st;
    Header header;
    if (fstat(image->fd, &st) < 0) {
        snap_set_errno(error, errno, "cannot look at it");
        return FALSE;
    }
    if (!S_ISREG(st.st_mode)) {
        snap_set_error(error, EINVAL, "it is no regular file");
        return FALSE;
    }
    if (!read_header(image->fd, &header, (guint64)st.st_size, error))
        return FALSE;
    image->running = header.running != 0;
    image->def = read_definition(image->fd, &header, error);
    return image->def && find_stream(image->fd, &header, error);
}

SaveImage *saveimage_open(const char *path, GError **error)
{
    g_autoptr(SaveImage) image = g_new0(SaveImage, 1);
    image->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a pipe would keep us waiting */
    if (image->fd < 0) {
        snap_set_errno(error, errno, "save image '%s'", path);
        return NULL;
    }
    if (!read_image(image, error)) {
        g_prefix_error(error, "save image '%s': ", path);
        return NULL;
    }
    return g_steal_pointer(&image);
}

void saveimage_close(SaveImage *image)
{
    if (!image)
        return;
    if (image->fd >= 0)
        close(image->fd);
    domain_def_free(image->def);
    g_free(image);
}

/* Compared is @def as it would be read from an image. */
gboolean saveimage_fits(const SaveImage *image, const DomainDef *def, GError **error)
{
    g_autoptr(DomainDef) is = domain_def_copy(image->def);
    g_autoptr(DomainDef) should = domain_def_copy(def);
    saveimage_say_none(is);
    saveimage_say_none(should);
    return abi_check(should, is, error);
}
