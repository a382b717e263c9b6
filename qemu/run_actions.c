/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "run_actions.h"

#include <string.h>

#define ON_POWEROFF "DOMSNAPFS_ON_POWEROFF="
#define ON_CRASH "DOMSNAPFS_ON_CRASH="

static const char *const words[] = {
    [LAUNCH_DESTROY] = "destroy", [LAUNCH_RESTART] = "restart", [LAUNCH_PRESERVE] = "preserve"};

char **run_actions_environment(const Launch *launch)
{
    char **all = g_new0(char *, 3);
    all[0] = g_strconcat(ON_POWEROFF, words[launch->on_poweroff], NULL);
    all[1] = g_strconcat(ON_CRASH, words[launch->on_crash], NULL);
    return all;
}

static void read_entry(const char *entry, const char *name, LaunchAction *action)
{
    if (!g_str_has_prefix(entry, name))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (strcmp(entry + strlen(name), words[i]) == 0)
            *action = (LaunchAction)i;
}

RunActions run_actions_of(pid_t pid)
{
    RunActions actions = {LAUNCH_DESTROY, LAUNCH_DESTROY};
    g_autofree char *path = g_strdup_printf("/proc/%d/environ", (int)pid), *text = NULL;
    gsize len = 0;
    if (pid <= 0 || !g_file_get_contents(path, &text, &len, NULL))
        return actions;
    for (const char *entry = text; entry < text + len; entry += strlen(entry) + 1) {
        read_entry(entry, ON_POWEROFF, &actions.on_poweroff);
        read_entry(entry, ON_CRASH, &actions.on_crash);
    }
    return actions;
}
