/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "readahead.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#include "mountpoint.h"

#define WANTED 1024 /* KiB */

void readahead_widen(const char *mountpoint)
{
    g_autofree char *device = mountpoint_device(mountpoint);
    if (device == NULL)
        return;
    g_autofree char *path = g_strdup_printf("/sys/class/bdi/%s/read_ahead_kb", device);
    g_autofree char *now = NULL;
    if (!g_file_get_contents(path, &now, NULL, NULL) || strtoul(now, NULL, 10) >= WANTED)
        return;
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return;
    fprintf(file, "%d\n", WANTED);
    fclose(file);
}
