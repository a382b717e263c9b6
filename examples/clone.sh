#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# New disks that begin where a snapshot is, for another machine:
#
#   clone.sh MOUNT/DOMAIN/SNAPSHOT NAME
#
# Each disk gets an image NAME-DISK.qcow2 in the directory of the domain's own image. Of an external state it is an overlay
# on the frozen layer (made at once, and it takes no room): domsnapfs sees it there, and merges nothing that it stands on.
# Of an internal state, which no other image can stand on, it is a copy. Prints the paths.
set -eu
. "$(dirname "$0")/disks.sh"

[ $# -eq 2 ] && [ -e "$1/snapshot.xml" ] || {
    echo "usage: clone.sh MOUNT/DOMAIN/SNAPSHOT NAME" >&2
    exit 2
}
snapshot=${1%/}
name=$2
case $name in
*/* | '')
    echo "clone.sh: '$name' is no file name" >&2
    exit 2
    ;;
esac

# The image of a disk, as the snapshot's own definition names it.
image_of() # DISK
{
    xmllint --xpath "string(/domainsnapshot/domain/devices/disk[target/@dev='$1']/source/@*[name()='file' or name()='dev'])" \
        "$snapshot/snapshot.xml"
}

# Is the image what the snapshot shows as its layer?
same_image() # VIEW IMAGE
{
    [ "$(stat -c '%s %Y' "$1")" = "$(stat -c '%s %Y' "$2")" ] && cmp -s -n 65536 "$1" "$2"
}

found=0
for view in "$snapshot"/*.raw; do
    [ -e "$view" ] || continue
    found=1
    disk=${view##*/}
    disk=${disk%.raw}
    image=$(image_of "$disk")
    clone=${image%/*}/$name-$disk.qcow2
    [ -n "$image" ] || {
        echo "clone.sh: disk '$disk': '$snapshot/snapshot.xml' does not say where its image is" >&2
        exit 1
    }
    [ ! -e "$clone" ] && [ ! -L "$clone" ] || {
        echo "clone.sh: '$clone' is there already" >&2
        exit 1
    }
    layer=
    for format in qcow2 qed; do
        [ ! -e "$snapshot/$disk.$format" ] || layer=$format
    done
    if [ -z "$layer" ] && same_image "$view" "$image"; then
        layer=raw # a raw layer is its own raw view
        set -- "$view"
    elif [ -n "$layer" ]; then
        set -- "$snapshot/$disk.$layer"
    fi
    if [ -z "$layer" ]; then
        qemu-img convert -f raw -O qcow2 "$view" "$clone"
    elif same_image "$1" "$image"; then
        qemu-img create -q -f qcow2 -b "./${image##*/}" -F "$layer" "$clone"
    else
        echo "clone.sh: disk '$disk': '$image' is not the layer that '$snapshot' shows" >&2
        exit 1
    fi
    printf '%s\n' "$clone"
done
[ "$found" -eq 1 ] || {
    echo "clone.sh: '$snapshot' shows no disk" >&2
    exit 1
}
