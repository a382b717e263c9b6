/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Readahead: how far the kernel reads ahead in the mount. Its 128 KiB are two requests at a time, and half of the time nobody
 * works; the kernel lets only root change it, of a mount at a time (/sys/class/bdi).
 */
#pragma once

/*
 * Have it read 1 MiB ahead in the mount at @mountpoint, unless somebody set more. Where that is not allowed it stays as it is.
 * After the first request: INIT's answer sets it back. Touches nothing in the mount.
 */
void readahead_widen(const char *mountpoint);
