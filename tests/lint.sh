#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Static checks: cppcheck, clang-tidy (.clang-tidy says what), and the arrows between the rooms (DESIGN: fs and qemu
# look at snapcore, snapcore at neither; only fs/main.c names all three). Prints what is wrong; silent otherwise.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD_DIR:-build-lint}
status=0

for room in snapcore qemu fs; do
    for header in $(grep -ho '^#include "[^"]*"' $room/*.[ch] | sort -u | cut -d'"' -f2); do
        case $header in */*) echo "$room includes \"$header\": a path into another room"; status=1 ;; esac
    done
done
for header in qemu/*.h fs/*.h; do
    name=$(basename "$header")
    if grep -l "^#include \"$name\"" snapcore/*.[ch]; then echo "  includes $header"; status=1; fi
done

for file in $(grep -l '^#include "fault.h"' snapcore/*.c qemu/*.c fs/*.c); do
    grep -q "'../../$file'" tests/mount/meson.build || { echo "$file has fault points, but is not in domsnapfs-faults"; status=1; }
done

cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --library=gtk \
    --enable=warning,performance,portability --suppress=unknownMacro --suppress=varFuncNullUB \
    -D'G_DEFINE_AUTOPTR_CLEANUP_FUNC(a,b)=' -D'G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(a,b)=' -D'G_DEFINE_QUARK(a,b)=' \
    -D'G_GNUC_PRINTF(a,b)=' -Isnapcore -Iqemu -Ifs snapcore/*.c qemu/*.c fs/*.c || status=1

[ -d "$build" ] || meson setup "$build" -Dtests=false >/dev/null
ninja -C "$build" snapcore/snapcore-resources.h >/dev/null # sources that are made
printf '%s\n' snapcore/*.c qemu/*.c fs/*.c | xargs -P "$(nproc)" -n 4 clang-tidy -p "$build" --quiet 2>/dev/null || status=1
exit $status
