#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# One file out of a snapshot, without root, without a mount and without starting anything:
#
#   fetch-file.sh MOUNT/DOMAIN/SNAPSHOT /etc/fstab [TO]
#
# Looks on every disk and partition for an ext2, 3 or 4 file system that has it, with debugfs; where there is none, with
# guestfish (any file system, LVM; of libguestfs-tools) if that is installed. TO: where it goes, by default here under
# its own name; never overwritten.
set -eu
. "$(dirname "$0")/disks.sh"

[ $# -ge 2 ] && [ $# -le 3 ] && [ -d "$1" ] || {
    echo "usage: fetch-file.sh MOUNT/DOMAIN/SNAPSHOT FILE [TO]" >&2
    exit 2
}
snapshot=$1
wanted=/${2#/}
to=${3-./${wanted##*/}}
[ ! -d "$to" ] || to=$to/${wanted##*/}
[ ! -e "$to" ] && [ ! -L "$to" ] || {
    echo "fetch-file.sh: '$to' is there already" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

raw_views "$snapshot" >"$work/views"
[ -s "$work/views" ] || {
    echo "fetch-file.sh: '$snapshot' shows no raw disk" >&2
    exit 1
}

# A quotation mark within quotation marks is written twice.
quoted=$(printf '%s' "$wanted" | sed 's/"/""/g')
while IFS= read -r view; do
    ext_offsets "$view" >"$work/offsets"
    while read -r offset; do
        debugfs -R "dump -p \"$quoted\" $work/file" "$view?offset=$offset" 2>/dev/null
        if [ -e "$work/file" ]; then
            mv -n "$work/file" "$to"
            exit 0
        fi
    done <"$work/offsets"
done <"$work/views"

if command -v guestfish >/dev/null 2>&1; then
    set --
    while IFS= read -r view; do
        set -- "$@" --format=raw -a "$view"
    done <"$work/views"
    if guestfish --ro "$@" -i download "$wanted" "$work/file"; then
        mv -n "$work/file" "$to"
        exit 0
    fi
fi
echo "fetch-file.sh: no file system that can be read here has '$wanted'" >&2
exit 1
