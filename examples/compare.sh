#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Which files differ between two snapshots (or a snapshot and active/ of a machine that is off), as diff -rq says it:
#
#   compare.sh MOUNT/DOMAIN/ONE MOUNT/DOMAIN/OTHER
#
# Root mounts the ext2, 3 or 4 file systems read-only where they are, so that only what is compared is read; without loop
# devices, and for others, each is unpacked into a temporary directory first (set TMPDIR to one with room). What else is on the
# disks is not compared. Exits as diff does: 0 nothing differs, 1 something, 2 trouble.
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
    if [ "$(id -u)" -eq 0 ] && losetup -f >/dev/null 2>&1; then
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

# One file system that both have, at the same place.
compare_files() # DISK OFFSET
{
    open_files "$one/$1" "$2" "$work/one" && open_files "$other/$1" "$2" "$work/other" || {
        echo "compare.sh: cannot look into $1 at $2" >&2
        exit 2
    }
    compared=$((compared + 1))
    (cd "$work" && diff -rq --no-dereference one other) >"$work/told" || differ=1
    sed "s,^,$1 at $2: ," "$work/told"
    close_files "$work/one"
    close_files "$work/other"
}

# The disks of a snapshot, and the file systems on them ("vda.raw at 1048576"): one a line, in the order that comm wants.
contents_of() # SNAPSHOT
{
    raw_views "$1" | while IFS= read -r view; do
        printf '%s\n' "${view##*/}"
        ext_offsets "$view" | sed "s,^,${view##*/} at ,"
    done | LC_ALL=C sort
}

differ=0
compared=0
contents_of "$one" >"$work/in-one"
contents_of "$other" >"$work/in-other"
LC_ALL=C comm -3 "$work/in-one" "$work/in-other" >"$work/in-one-of-them"
while IFS= read -r line; do
    differ=1
    case $line in
    '	'*) echo "Only in $other: ${line#?}" ;;
    *) echo "Only in $one: $line" ;;
    esac
done <"$work/in-one-of-them"
LC_ALL=C comm -12 "$work/in-one" "$work/in-other" >"$work/in-both"
while read -r disk at offset; do
    [ -z "$at" ] || compare_files "$disk" "$offset"
done <"$work/in-both"
[ "$compared" -gt 0 ] || [ "$differ" -eq 1 ] || {
    echo "compare.sh: no ext2, 3 or 4 file system on the disks of '$one' and '$other'" >&2
    exit 2
}
exit "$differ"
