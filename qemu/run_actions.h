/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is to happen when a guest has powered off or crashed, kept where it lives exactly as long as its QEMU, and is found
 * again by a daemon that was started later: in that process's environment. QEMU itself knows only whether it ends or stops.
 */
#pragma once

#include <sys/types.h>

#include "launch.h"

typedef struct {
    LaunchAction on_poweroff;
    LaunchAction on_crash;
} RunActions;

/* For detach.h. g_strfreev(). */
char **run_actions_environment(const Launch *launch);

/* Those of the process @pid; LAUNCH_DESTROY, which needs nobody, where it has none or cannot be looked at. */
RunActions run_actions_of(pid_t pid);
