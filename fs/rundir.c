/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rundir.h"

#include <unistd.h>

char *rundir_path(void)
{
    const char *runtime = g_getenv("XDG_RUNTIME_DIR");
    if (geteuid() == 0)
        return g_strdup("/run/domsnapfs");
    if (runtime == NULL || !g_path_is_absolute(runtime) || !g_file_test(runtime, G_FILE_TEST_IS_DIR))
        return NULL;
    return g_build_filename(runtime, "domsnapfs", NULL);
}
