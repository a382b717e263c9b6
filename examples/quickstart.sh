#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# From a clean clone to a session you can follow: installs what is missing, builds into build/, makes a small disk with
# a real ext4 file system in it, mounts domsnapfs on a temporary directory and plays a snapshot's life, checking at
# each step that the disk holds what it should. `--keep` leaves the mount there to play with.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

case ${1-} in
'' | --keep) keep=${1-} ;;
*)
    echo "usage: quickstart.sh [--keep]" >&2
    exit 2
    ;;
esac

sh examples/deps.sh build
if [ -e build/meson-private/coredata.dat ]; then
    meson setup --reconfigure build </dev/null >/dev/null
else
    meson setup -Dtests=false build </dev/null >/dev/null
fi
meson compile -C build domsnapfs </dev/null
domsnapfs=$PWD/build/fs/domsnapfs
sample=$PWD/examples/fedora.xml

if [ ! -e /dev/fuse ] && [ "$(id -u)" -eq 0 ]; then
    modprobe fuse 2>/dev/null || mknod -m 666 /dev/fuse c 10 229 2>/dev/null || true
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/domsnapfs.XXXXXX")
mount=$work/mnt
store=$work/store
images=$work/images
mkdir "$mount" "$images"

unmount='fusermount3 -u'
[ "$(id -u)" -ne 0 ] || unmount=umount

# Never remove a directory that is still a mount.
cleanup()
{
    cd /
    if mountpoint -q "$mount"; then
        $unmount "$mount" || return 0
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail()
{
    echo "quickstart: $1" >&2
    [ ! -r "$mount/fedora/log" ] || tail -n 5 "$mount/fedora/log" >&2
    exit 1
}

say()
{
    printf '\n# %s\n' "$1"
}

# Show a command line as you would type it, then run it.
run()
{
    printf '$ %s\n' "$1"
    (cd "$mount" && sh -c "$1") || fail "that command failed"
}

# What /etc/motd on the disk says, according to the image file $1.
motd_of()
{
    rm -f "$work/look.raw"
    qemu-img convert -f qcow2 -O raw "$1" "$work/look.raw" || fail "cannot read $1"
    debugfs -R 'cat /etc/motd' "$work/look.raw" 2>/dev/null
}

expect() # WHERE TEXT IMAGE
{
    found=$(motd_of "$3")
    [ "$found" = "$2" ] || fail "$1 should say '$2' in /etc/motd, but says '$found'"
    printf '  -> checked: /etc/motd on the disk of %s says "%s"\n' "$1" "$found"
}

# The machine is off, so this is the guest's hand: it writes $1 into /etc/motd of the disk, through ext4.
guest_writes()
{
    active=$(sed -n "s/.*<source file='\([^']*\)'.*/\1/p" "$mount/fedora/domain.xml")
    rm -f "$work/edit.raw"
    qemu-img convert -f qcow2 -O raw "$active" "$work/edit.raw"
    printf '%s\n' "$1" >"$work/motd"
    printf 'rm /etc/motd\nwrite %s /etc/motd\n' "$work/motd" | debugfs -w -f - "$work/edit.raw" >/dev/null 2>&1
    qemu-img convert -n -f raw -O qcow2 "$work/edit.raw" "$active"
    printf '  (the guest writes "%s" into /etc/motd)\n' "$1"
}

# A disk with an ext4 in it, made without mounting anything.
mkdir -p "$work/root/etc"
echo "fresh" >"$work/root/etc/motd"
truncate -s 64M "$work/disk.raw"
mke2fs -q -t ext4 -L fedora -d "$work/root" "$work/disk.raw"
qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$images/fedora.qcow2"
rm "$work/disk.raw"
sed "s#/var/lib/libvirt/images#$images#" "$sample" >"$work/fedora.xml"

say "Mount it."
printf '$ domsnapfs %s %s\n' "$store" "$mount"
"$domsnapfs" "$store" "$mount" || fail "cannot mount (is there a working /dev/fuse?)"
mountpoint -q "$mount" || fail "the daemon says it mounted, but nothing is there"
printf '$ cd %s\n' "$mount"

say "Define a machine: its libvirt XML goes into ctl."
run "cp $work/fedora.xml ctl"
run "ls fedora"
expect "fedora (active)" fresh "$mount/fedora/active/vda.qcow2"

say "mkdir takes a snapshot."
run "mkdir fedora/clean"
guest_writes "upgraded"
expect "fedora (active)" upgraded "$mount/fedora/active/vda.qcow2"

say "Another one, as an overlay this time: commands with options go into the machine's ctl."
run "echo 'create upgraded --diskspec vda,snapshot=external' > fedora/ctl"
guest_writes "broken"
expect "fedora (active)" broken "$mount/fedora/active/vda.qcow2"
expect "snapshot upgraded" upgraded "$mount/fedora/upgraded/vda.qcow2"

say "Look around."
run "ls fedora"
run "cat fedora/tree"
run "head -n 7 fedora/upgraded/snapshot.xml"
run "readlink fedora/current fedora/upgraded/parent"

say "Look inside: every state is a raw disk, too, for any tool to read, without a copy."
run "debugfs -R 'cat /etc/motd' fedora/clean/vda.raw 2>/dev/null"
[ "$(debugfs -R 'cat /etc/motd' "$mount/fedora/clean/vda.raw" 2>/dev/null)" = fresh ] || fail "clean should say 'fresh'"
run "cat fedora/upgraded/changes fedora/usage"

say "Revert: re-point current."
run "ln -sfn upgraded fedora/current"
expect "fedora (active)" upgraded "$mount/fedora/active/vda.qcow2"
run "ln -sfn clean fedora/current"
expect "fedora (active)" fresh "$mount/fedora/active/vda.qcow2"
expect "snapshot upgraded" upgraded "$mount/fedora/upgraded/vda.qcow2"
run "cat fedora/tree"

say "mv renames, rmdir deletes. Nothing else changes."
run "mv fedora/upgraded fedora/f38"
run "rmdir fedora/clean"
expect "snapshot f38" upgraded "$mount/fedora/f38/vda.qcow2"
expect "fedora (active)" fresh "$mount/fedora/active/vda.qcow2"
run "rmdir fedora/f38"
expect "fedora (active)" fresh "$mount/fedora/active/vda.qcow2"

say "What was done is in the log."
run "cat fedora/log"

say "A machine without snapshots is undefined by rmdir; its images stay."
if [ -z "$keep" ]; then
    run "rmdir fedora"
    [ -s "$images/fedora.qcow2" ] || fail "the image is gone"
    cd /
    printf '$ %s %s\n' "$unmount" "$mount"
    $unmount "$mount"
    say "All checked. To go on by hand: sh examples/quickstart.sh --keep"
    exit 0
fi

trap - EXIT INT TERM
rm -rf "$work/root" "$work/motd" "$work/edit.raw" "$work/look.raw"
cat <<END

# All checked. It stays mounted; go on by hand:
cd $mount
mkdir fedora/mine; cat fedora/tree ctl fedora/ctl
# and when you have seen enough:
cd /; $unmount $mount; rm -rf $work
END
