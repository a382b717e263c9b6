/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A save image: what is taken has a definition and QEMU's stream at the place where the reader begins; nothing else is. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "saveimage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("input", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autoptr(GError) error = NULL;
    g_autoptr(SaveImage) image = saveimage_open(path, &error);
    must_be_either(image, error);
    if (image) {
        char magic[4] = "";
        off_t at = lseek(image->fd, 0, SEEK_CUR);
        MUST(image->def != NULL && at > 92 && (size_t)at < size);
        MUST(read(image->fd, magic, sizeof magic) == sizeof magic && memcmp(magic, "QEVM", 4) == 0);
    }
    close(fd);
    return 0;
}
