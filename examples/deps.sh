#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Installs, on Debian and its kin, what is missing: `sh deps.sh build` what building and running needs, `sh deps.sh
# test` also what the tests use, `sh deps.sh oracle` the libvirt that some tests compare with (these are skipped without
# it; none of its packages has a service that would be started). Asks for what is there first, so that nothing happens
# (and no network is needed) on a machine that has it all. On other systems it says what it looks for.
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=

command_of() # PACKAGE COMMAND
{
    command -v "$2" >/dev/null 2>&1 || missing="$missing $1"
}

library_of() # PACKAGE MODULE
{
    pkg-config --exists "$2" 2>/dev/null || missing="$missing $1"
}

file_of() # PACKAGE FILE
{
    [ -e "$2" ] || missing="$missing $1"
}

look_oracle()
{
    command_of libvirt-clients virsh
    command_of libvirt-daemon libvirtd
    for driver in /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so; do
        file_of libvirt-daemon-driver-qemu "$driver"
    done
    command_of qemu-system-x86 qemu-system-x86_64
}

look()
{
    missing=
    if [ "$1" = oracle ]; then
        look_oracle
        return
    fi
    command_of gcc gcc
    file_of libc6-dev /usr/include/stdio.h
    command_of meson meson
    command_of ninja-build ninja
    command_of pkg-config pkg-config
    library_of libfuse3-dev fuse3
    library_of libxml2-dev libxml-2.0
    library_of libglib2.0-dev gio-unix-2.0
    command_of libglib2.0-dev-bin glib-compile-resources
    library_of libjansson-dev jansson
    library_of libnbd-dev libnbd
    library_of zlib1g-dev zlib
    library_of libzstd-dev libzstd
    command_of qemu-utils qemu-img
    command_of fuse3 fusermount3
    command_of e2fsprogs debugfs
    [ "$1" = test ] || return 0
    command_of xfsprogs mkfs.xfs
    command_of fdisk sfdisk
    library_of check check
    command_of qemu-system-x86 qemu-system-x86_64
    command_of kmod modprobe
    command_of dbus-daemon dbus-daemon
    command_of python3 python3
    command_of perl perl
    command_of busybox busybox
    command_of rsync rsync
    command_of vim-tiny vim.tiny
    command_of git git
    command_of libxml2-utils xmllint
}

case ${1-} in
build | test | oracle) ;;
*)
    echo "usage: deps.sh build|test|oracle" >&2
    exit 2
    ;;
esac

look "$1"
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing (by their Debian names):$missing" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "missing; as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "installing:$missing"
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update </dev/null
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $missing </dev/null
look "$1"
if [ -n "$missing" ]; then
    echo "still missing:$missing" >&2
    exit 1
fi
