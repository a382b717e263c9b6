#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Start a machine from a snapshot's disks and throw away all that it writes: nothing of the snapshot, nor of the domain,
# changes, and the domain may run meanwhile.
#
#   boot.sh MOUNT/DOMAIN/SNAPSHOT [options of qemu-system]
#
# For example: boot.sh /mnt/fedora/clean -m 4096 -nic user. The hardware is a plain one, not the domain's; $QEMU is another
# emulator than qemu-system-x86_64. What is written goes to a temporary file in $TMPDIR, /var/tmp by default.
set -eu
. "$(dirname "$0")/disks.sh"

[ $# -ge 1 ] && [ -d "$1" ] || {
    echo "usage: boot.sh MOUNT/DOMAIN/SNAPSHOT [options of qemu-system]" >&2
    exit 2
}
snapshot=$(cd -- "$1" && pwd)
shift
views=$(raw_views "$snapshot")
[ -n "$views" ] || {
    echo "boot.sh: '$snapshot' shows no raw disk" >&2
    exit 1
}

# A comma in a name is written twice.
drives=$(printf '%s\n' "$views" | sed 's/,/,,/g')
IFS='
'
set -f
for view in $drives; do
    set -- -drive "file=$view,format=raw,if=virtio,snapshot=on" "$@"
done
exec "${QEMU:-qemu-system-x86_64}" -accel kvm -accel tcg -m 1024 "$@"
