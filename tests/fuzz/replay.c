/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a fuzz target on every file of the directories named: TAP, one case a directory. No fuzzer needed. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

/* The input ends with the last byte of its block, so that the sanitizers see who reads on. */
static gboolean run_file(const char *path)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!g_file_get_contents(path, &text, &len, NULL))
        return FALSE;
    g_autofree uint8_t *exact = g_memdup2(text, len);
    LLVMFuzzerTestOneInput(exact, len);
    return TRUE;
}

static guint run_directory(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    guint n = 0;
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        printf("# %s\n", name); /* the last one before a crash is to blame */
        fflush(stdout);
        n += run_file(file) ? 1 : 0;
    }
    return n;
}

int main(int argc, char **argv)
{
    gboolean good = argc > 1;
    printf("1..%d\n", argc - 1);
    for (int i = 1; i < argc; i++) {
        guint n = run_directory(argv[i]);
        good = good && n > 0;
        printf("%sok %d - %s: %u inputs\n", n > 0 ? "" : "not ", i, argv[i], n);
    }
    return good ? 0 : 1;
}
