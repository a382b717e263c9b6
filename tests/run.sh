#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Installs what is missing, builds with the sanitizers into build-test/ (or $BUILD_DIR), runs every test. The last line
# is always "N passed, N failed", counted in test cases; the exit code is not 0 when one failed or none ran.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD_DIR:-build-test}

give_up()
{
    echo "run.sh: $1" >&2
    echo "0 passed, 1 failed"
    exit 1
}

sh examples/deps.sh test || give_up "cannot install what the tests need"
sh examples/deps.sh oracle || echo "run.sh: there is no libvirt to compare with: those tests are skipped" >&2

# The mount tests mount for real: without a working /dev/fuse they fail, they do not skip.
if [ ! -e /dev/fuse ] && [ "$(id -u)" -eq 0 ]; then
    modprobe fuse 2>/dev/null
    [ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229 2>/dev/null
fi
# fusermount3 -u looks there; a bare chroot has none.
[ -e /etc/mtab ] || [ "$(id -u)" -ne 0 ] || ln -s /proc/self/mounts /etc/mtab

reconfigure=
[ ! -e "$build/meson-private/coredata.dat" ] || reconfigure=--reconfigure
# shellcheck disable=SC2086
meson setup $reconfigure -Dwerror=true -Db_sanitize=address,undefined -Db_lundef=false "$build" </dev/null ||
    give_up "meson setup failed"
meson compile -C "$build" </dev/null || give_up "it does not build"

rm -f "$build/meson-logs/testlog.json"
# One more than there are processors: they often wait for the disk.
meson test -C "$build" --no-rebuild --num-processes $(($(nproc) + 1)) </dev/null
[ -e "$build/meson-logs/testlog.json" ] || give_up "no test ran"
exec python3 tests/tally.py "$build/meson-logs/testlog.json"
