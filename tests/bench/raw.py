#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast vda.raw is read, against QEMU's FUSE export, nbdfuse on qemu-nbd, and the raw file itself, in one run.

    python3 tests/bench/raw.py build/fs/domsnapfs [MIB [ROUNDS]]

The disk is full of random bytes; its states are 1, 10 and 100 images deep, half of it rewritten on the way, one is a raw
image, and one an internal snapshot, of which half was rewritten since (the FUSE export has no such thing). Each line: what,
ours, the other one's, and the ratio: MiB/s of reads of 1 MiB in sequence, or 4 KiB reads a second at random places, by one
process and by four. "first": the mount's pages are dropped, the images are in the page cache, our tables are read anew;
"cached": the same once more. Medians of ROUNDS (5), all in turn; one round before these does not count. Needs cc,
qemu-storage-daemon, qemu-nbd and nbdfuse.
"""
import contextlib
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CLUSTER = 65536
PATIENCE = 60  # seconds, for what takes one
DEPTHS = (1, 10, 100)
READS = 20000  # of each process at random places
LOADS = (("seq", 1, "sequential 1 MiB"), ("rand", 1, "random 4 KiB"), ("rand", 4, "random 4 KiB, 4 at once"))
DOMAIN = """<domain type='kvm'><name>{0}</name><memory>65536</memory><os><type>hvm</type></os><devices>
<disk type='file'><driver name='qemu' type='{2}'/><source file='{1}'/><target dev='vda'/></disk>
</devices></domain>"""


def run(*argv, **more):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def until(what, test):
    """Ask again and again, and give up at last."""
    end = time.monotonic() + PATIENCE
    while not test():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {PATIENCE} s")
        time.sleep(0.01)


def write_file(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


class World:
    """A mount, and a domain for each state that is measured."""

    def __init__(self, stack, binary, work, mib):
        self.work, self.mount, self.clusters = work, f"{work}/mnt", mib * 1024 * 1024 // CLUSTER
        os.mkdir(self.mount)
        with open(f"{work}/random.raw", "wb") as file:
            for _ in range(mib):
                file.write(os.urandom(1 << 20))
        run(binary, f"{work}/store", self.mount)
        stack.callback(lambda: subprocess.run(["fusermount3", "-u", self.mount], check=False))

    def define(self, name, kind="qcow2"):
        image = f"{self.work}/{name}.{kind}"
        run("qemu-img", "convert", "-f", "raw", "-O", kind, f"{self.work}/random.raw", image)
        write_file(f"{self.mount}/ctl", DOMAIN.format(name, image, kind))

    def create(self, name, snapshot, mode):
        write_file(f"{self.mount}/{name}/ctl", f"create {snapshot} --diskspec vda,snapshot={mode}\n")

    def active(self, name):
        with open(f"{self.mount}/{name}/domain.xml", encoding="utf-8") as file:
            return re.search(r"<source file='([^']*)'", file.read()).group(1)

    def rewrite(self, name, clusters):
        """Some of the disk, in its active layer."""
        words = []
        for cluster in clusters:
            words += ["-c", f"write -q -P {random.randrange(1, 256)} {cluster * CLUSTER} {CLUSTER}"]
        for at in range(0, len(words), 2000):
            run("qemu-io", "-t", "unsafe", "-f", "qcow2", *words[at:at + 2000], self.active(name))

    def deep(self, depth):
        """A domain whose last snapshot is @depth images deep. The image, and our view of it."""
        name = f"depth{depth}"
        self.define(name)
        for layer in range(1, depth + 1):
            if layer > 1:
                self.rewrite(name, random.sample(range(self.clusters), self.clusters // 2 // (depth - 1)))
            image = self.active(name)
            self.create(name, f"s{layer}", "external")
        return image, f"{self.mount}/{name}/s{depth}/vda.raw"

    def raw_layer(self):
        """A raw disk that was frozen: its state is that file."""
        self.define("raw", "raw")
        image = self.active("raw")
        self.create("raw", "s1", "external")
        return image, f"{self.mount}/raw/s1/vda.raw"

    def internal(self):
        self.define("internal")
        self.create("internal", "s1", "internal")
        self.rewrite("internal", random.sample(range(self.clusters), self.clusters // 2))
        return self.active("internal"), f"{self.mount}/internal/s1/vda.raw"


def fuse_export(stack, work, image, kind):
    descriptor, point = tempfile.mkstemp(dir=work)
    os.close(descriptor)
    child = subprocess.Popen(["qemu-storage-daemon", "--blockdev",
                              f"driver={kind},node-name=disk,read-only=on,file.driver=file,file.filename={image}",
                              "--export", f"type=fuse,id=e,node-name=disk,mountpoint={point},writable=off"])
    stack.callback(lambda: (child.terminate(), child.wait()))
    until("the FUSE export", lambda: os.path.getsize(point) > 0)
    return point


def nbdfuse(stack, work, image, kind, tag):
    point = tempfile.mkdtemp(dir=work)
    socket = f"{point}.sock"
    load = ["-l", f"snapshot.name={tag}"] if tag else []
    server = subprocess.Popen(["qemu-nbd", "-r", "-t", "-e", "16", "-k", socket, "-f", kind, *load, image])
    stack.callback(lambda: (server.kill(), server.wait()))
    until("qemu-nbd", lambda: os.path.exists(socket))
    client = subprocess.Popen(["nbdfuse", "-r", point, f"nbd+unix:///?socket={socket}"])
    stack.callback(lambda: (subprocess.run(["fusermount3", "-u", point], check=False), client.wait()))
    until("nbdfuse", lambda: os.path.exists(f"{point}/nbd"))
    return f"{point}/nbd"


def tag_of(image):
    return re.search(r'"name": "([^"]*)"', run("qemu-img", "info", "--output=json", image)).group(1)


def measure(readloop, path, load, warm):
    """First and cached."""
    kind, procs, _ = load
    return [float(word) for word in run(readloop, path, kind, str(procs), str(READS), "warm" if warm else "cold").split()]


def compare(world, readloop, what, image, view, tag, rounds):
    """Print a line for each ratio."""
    kind = "raw" if image.endswith(".raw") else "qcow2"
    with contextlib.ExitStack() as stack:
        raw = f"{world.work}/state.raw"
        run("qemu-img", "convert", "-f", kind, *(["-l", f"snapshot.name={tag}"] if tag else []), "-O", "raw", image, raw)
        stack.callback(lambda: os.unlink(raw))
        subprocess.run(["cmp", raw, view], check=True)
        others = {} if tag else {"FUSE export": fuse_export(stack, world.work, image, kind)}
        others |= {"nbdfuse": nbdfuse(stack, world.work, image, kind, tag), "raw file": raw}
        for load in LOADS:
            figures = {name: [] for name in ("ours", *others)}
            for turn in range(rounds + 1):
                for name, path in (("ours", view), *others.items()):
                    pair = measure(readloop, path, load, name == "raw file")
                    figures[name] += [pair] if turn else []
            for at, which in enumerate(("first", "cached")):
                medians = {name: statistics.median(pair[at] for pair in pairs) for name, pairs in figures.items()}
                for name in others:
                    print(f"{what:9} {load[2]:24} {which:7} ours {medians['ours']:9.0f}   {name:11} {medians[name]:9.0f}"
                          f"   ratio {medians['ours'] / medians[name]:6.2f}", flush=True)


def compare_depths(readloop, views, rounds):
    """What depth costs us: how many times faster the state of one image is read."""
    for load in LOADS:
        figures = {depth: [] for depth in views}
        for turn in range(rounds + 1):
            for depth, view in views.items():
                pair = measure(readloop, view, load, False)
                figures[depth] += [pair] if turn else []
        for depth in DEPTHS[1:]:
            for at, which in enumerate(("first", "cached")):
                one, deep = (statistics.median(pair[at] for pair in figures[key]) for key in (DEPTHS[0], depth))
                print(f"ours      {load[2]:24} {which:7} depth {DEPTHS[0]} {one:9.0f}   depth {depth:<5} {deep:9.0f}"
                      f"   ratio {one / deep:6.2f}", flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    mib = int(sys.argv[2]) if len(sys.argv) > 2 else 512
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    work = os.path.realpath(tempfile.mkdtemp(prefix="domsnapfs-bench-"))
    try:
        with contextlib.ExitStack() as stack:
            readloop = f"{work}/readloop"
            run("cc", "-O2", "-o", readloop, f"{HERE}/readloop.c")
            world = World(stack, os.path.abspath(sys.argv[1]), work, mib)
            views = {}
            for depth in DEPTHS:
                image, views[depth] = world.deep(depth)
                compare(world, readloop, f"depth {depth}", image, views[depth], None, rounds)
            image, view = world.raw_layer()
            compare(world, readloop, "raw layer", image, view, None, rounds)
            image, view = world.internal()
            compare(world, readloop, "internal", image, view, tag_of(image), rounds)
            compare_depths(readloop, views, rounds)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
