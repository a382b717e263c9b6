#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tells libvirt of a domain and its snapshots as they are in the mount: defines the domain there if it is not yet, and
# redefines the whole tree, parents first, the current snapshot as such. Nothing here changes, and no image does.
#
#   to-virsh.sh MOUNT/DOMAIN [options of virsh, such as -c qemu:///session]
#
# It may be run again after changes. It says for which internal snapshots libvirt will not find the tag, which it takes to
# be called as the snapshot is: those can be looked at there, but not reverted to.
#
# Two masters of one machine end badly. To hand it over for good, take it out here afterwards (echo "undefine DOMAIN
# --snapshots-metadata" > MOUNT/ctl), and give the frozen images their write bits (chmod u+w) before virsh shall delete
# external snapshots: it commits into them. The other way is domsnapfs --import-libvirt.
#
# Exits with 0; 1: virsh refused something; 2: wrong usage; 3: all is there, but tags will not be found.
set -eu
. "$(dirname "$0")/snapshots.sh"

usage()
{
    echo "usage: to-virsh.sh MOUNT/DOMAIN [options of virsh]" >&2
    exit 2
}

[ $# -ge 1 ] || usage
domain=$(cd -- "$1" 2>/dev/null && pwd) || usage
[ -e "$domain/domain.xml" ] || usage
shift
uuid=$(xml_text "$domain/domain.xml" uuid)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

images_of() # DOMAIN.XML
{
    sed -n -e "s/^      <source file='\([^']*\)'.*/\1/p" -e "s/^      <source dev='\([^']*\)'.*/\1/p" "$1"
}

if virsh "$@" dumpxml --inactive "$uuid" >"$work/there" 2>/dev/null; then
    images_of "$domain/domain.xml" >"$work/ours"
    images_of "$work/there" >"$work/theirs"
    cmp -s "$work/ours" "$work/theirs" || {
        echo "to-virsh.sh: it is defined there with other images; first: virsh define '$domain/domain.xml'" >&2
        exit 1
    }
else
    virsh "$@" define "$domain/domain.xml" >/dev/null
fi

snapshots_in_order "$domain" >"$work/order"
while IFS= read -r entry; do
    virsh "$@" snapshot-create "$uuid" "$domain/$entry/snapshot.xml" --redefine </dev/null >/dev/null || {
        echo "to-virsh.sh: virsh refuses the snapshot '$entry'" >&2
        exit 1
    }
done <"$work/order"
current=$(current_snapshot "$domain")
[ -z "$current" ] ||
    virsh "$@" snapshot-create "$uuid" "$domain/$current/snapshot.xml" --redefine --current >/dev/null

lost_tags "$domain" >"$work/lost"
[ -s "$work/lost" ] || exit 0
sed 's/^/to-virsh.sh: /' "$work/lost" >&2
exit 3
