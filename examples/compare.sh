#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Which files differ between two snapshots (or a snapshot and active/ of a machine that is off), as diff -rq says it:
#
#   compare.sh MOUNT/DOMAIN/ONE MOUNT/DOMAIN/OTHER
#
# Root mounts the file systems read-only where they are, so that only what is compared is read; others have each ext2, 3
# or 4 file system unpacked into a temporary directory first (set TMPDIR to one with room). Whole disks that come from the
# same bytes are known to be equal without a look: see `changes`. Exits as diff does: 0 nothing differs, 1 something, 2 trouble.
set -eu
. "$(dirname "$0")/disks.sh"

[ $# -eq 2 ] && [ -d "$1" ] && [ -d "$2" ] || {
    echo "usage: compare.sh MOUNT/DOMAIN/ONE MOUNT/DOMAIN/OTHER" >&2
    exit 2
}
one=${1%/}
other=${2%/}

work=$(mktemp -d)
cleanup()
{
    for dir in "$work/one" "$work/other"; do
        ! mountpoint -q "$dir" 2>/dev/null || umount "$dir" || exit 2
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Its files, below the directory TO.
open_files() # VIEW OFFSET TO
{
    mkdir "$3"
    if [ "$(id -u)" -eq 0 ]; then
        # noload: a journal that was not played stays so.
        mount -t ext4 -o "ro,loop,noload,offset=$2" "$1" "$3"
    else
        debugfs -R "rdump / $3" "$1?offset=$2" >/dev/null 2>"$work/said"
    fi
}

close_files() # DIR
{
    ! mountpoint -q "$1" || umount "$1"
    rm -rf "$1"
}

raw_views "$one" >"$work/views"
differ=0
compared=0
while IFS= read -r view; do
    disk=${view##*/}
    [ -e "$other/$disk" ] || {
        echo "Only in $one: $disk"
        differ=1
        continue
    }
    ext_offsets "$view" >"$work/offsets"
    while read -r offset; do
        open_files "$view" "$offset" "$work/one" || exit 2
        if open_files "$other/$disk" "$offset" "$work/other"; then
            compared=$((compared + 1))
            (cd "$work" && diff -rq --no-dereference one other) >"$work/told" || differ=1
            sed "s,^,$disk at $offset: ," "$work/told"
        else
            echo "$disk at $offset: only in $one"
            differ=1
        fi
        close_files "$work/one"
        close_files "$work/other"
    done <"$work/offsets"
done <"$work/views"
[ "$compared" -gt 0 ] || [ "$differ" -eq 1 ] || {
    echo "compare.sh: no ext2, 3 or 4 file system on the disks of '$one'" >&2
    exit 2
}
exit "$differ"
