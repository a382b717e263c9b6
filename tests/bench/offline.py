#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Gestures on a two-disk machine that is off, against the bare qemu-img calls, in one run.

    python3 tests/bench/offline.py build/fs/domsnapfs [ROUNDS]

Each line: what, median of the gesture in ms, median of the bare calls (both disks at once) in ms, the ratio. The two
are timed in turn, so that a machine whose speed drifts does not matter.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

DOMAIN = """<domain type='kvm'><name>m</name><memory>65536</memory><os><type>hvm</type></os><devices>
<disk type='file'><driver name='qemu' type='qcow2'/><source file='{0}/a.img'/><target dev='vda'/></disk>
<disk type='file'><driver name='qemu' type='qcow2'/><source file='{0}/b.img'/><target dev='vdb'/></disk>
</devices></domain>"""


def qemu_img(*argvs):
    """Run several qemu-img at once."""
    children = [subprocess.Popen(["qemu-img", *argv], stdout=subprocess.DEVNULL) for argv in argvs]
    for child in children:
        if child.wait() != 0:
            sys.exit("qemu-img failed: " + " ".join(child.args))


def timed(action):
    start = time.monotonic()
    action()
    return (time.monotonic() - start) * 1000


def compare(what, rounds, gesture, bare):
    times = [(timed(lambda: gesture(i)), timed(lambda: bare(i))) for i in range(rounds)]
    ours, theirs = (statistics.median(column) for column in zip(*times))
    print(f"{what:34} {ours:7.1f} ms   bare {theirs:7.1f} ms   ratio {ours / theirs:.2f}")


def run(binary, rounds, work):
    disks = ["a", "b"]
    mount, domain = f"{work}/mnt", f"{work}/mnt/m"
    for name in disks + ["x", "y"]:
        qemu_img(["create", "-q", "-f", "qcow2", f"{work}/{name}.img", "64M"])
    os.mkdir(mount)
    subprocess.run([binary, f"{work}/store", mount], check=True)
    try:
        with open(f"{mount}/ctl", "w", encoding="utf-8") as ctl:
            ctl.write(DOMAIN.format(work))
        compare("mkdir, internal", rounds, lambda i: os.mkdir(f"{domain}/i{i}"),
                lambda i: qemu_img(*(["snapshot", "-c", f"i{i}", f"{work}/{d}.img"] for d in "xy")))

        def revert(i):
            os.symlink(f"i{i}", f"{domain}/link")
            os.replace(f"{domain}/link", f"{domain}/current")
        compare("revert, internal", rounds, revert,
                lambda i: qemu_img(*(["snapshot", "-a", f"i{i}", f"{work}/{d}.img"] for d in "xy")))
        compare("rmdir, internal", rounds, lambda i: os.rmdir(f"{domain}/i{i}"),
                lambda i: qemu_img(*(["snapshot", "-d", f"i{i}", f"{work}/{d}.img"] for d in "xy")))

        def external(i):
            with open(f"{domain}/ctl", "w", encoding="utf-8") as ctl:
                ctl.write(f"create e{i} --diskspec vda,snapshot=external --diskspec vdb,snapshot=external\n")
        compare("create, external", rounds, external,
                lambda i: qemu_img(*(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", f"{work}/{d}.img",
                                      f"{work}/{d}.e{i}-bare", "64M"] for d in "xy")))
    finally:
        subprocess.run(["fusermount3", "-u", mount], check=False)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    work = tempfile.mkdtemp(prefix="domsnapfs-bench-")
    try:
        run(os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15, work)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
