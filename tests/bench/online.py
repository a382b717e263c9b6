#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots of a machine that runs: for how long its guest stands still, and how long each takes, ours and virsh's.

    python3 tests/bench/online.py build/fs/domsnapfs build/tests/guest/guest-tool [ROUNDS [MIB]]

A mount and an unprivileged libvirtd, each with a machine of its own: the test guest with two qcow2 disks (cache mode
"unsafe", no KVM) and MIB (128) of memory, which is filled with random bytes from outside. In each round both machines boot,
and every gesture is done by the one and then by the other. Each line: what, medians of ours and of virsh's, in ms, and
their ratio; a line for

  stands   the longest time in which the guest's counter did not move, watched in QEMU's memory from outside. A step of the
           guest takes 1 ms and more, that is in it, and so is all that the scheduler does on a busy host. Where QEMU is
           started anew: until the gesture returned
  takes    the gesture, until it returned; virsh's with the start of its process

"refuses" is what libvirt says to something that it cannot do. Best run as root: libvirtd runs as nobody then.
"""
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

SOCKET = "<qemu:commandline><qemu:arg value='-qmp'/><qemu:arg value='unix:{},server=on,wait=off'/></qemu:commandline>"
PATIENCE = 60  # seconds, for what takes one
COUNTER = 0x8004  # where the guest has it (tests/guest/guest_layout.h)
FREE = 1 << 20  # the guest does not use what is above


def disk_xml(work, name, order):
    return (f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe'/><source file='{work}/{name}.img'/>"
            f"<target dev='vd{name}' bus='virtio'/><boot order='{order}'/></disk>")


def domain_xml(work, mib, more=""):
    return (f"<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>m</name>"
            f"<memory unit='MiB'>{mib}</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>"
            f"<features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
            f"{disk_xml(work, 'a', 1)}{disk_xml(work, 'b', 2)}</devices>{more}</domain>")


def until(what, test):
    """Ask again and again, and give up at last."""
    end = time.monotonic() + PATIENCE
    while not test():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {PATIENCE} s")
        time.sleep(0.02)


class Refused(Exception):
    """The side cannot do such a thing."""


class Watch:
    """For how long a guest's counter rests, from now on until end()."""

    def __init__(self, where):
        pid, self.address = where
        self.longest = 0.0
        self.gone = self.enough = False
        self.memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self.changed = time.monotonic()
        self.counter = self.look()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def look(self):
        try:
            return os.pread(self.memory, 4, self.address)
        except OSError:
            return b""

    def run(self):
        last = False
        while not last:
            last = self.enough
            counter, now = self.look(), time.monotonic()
            if not counter:
                self.gone = True
                return
            self.longest = max(self.longest, now - self.changed)
            if counter != self.counter:
                self.changed, self.counter = now, counter
            time.sleep(0.0001)

    def end(self):
        """In ms."""
        stopped = time.monotonic()
        self.enough = True
        self.thread.join()
        os.close(self.memory)
        return max(self.longest, stopped - self.changed if self.gone else 0) * 1000


class Side:
    """A machine, and somebody who takes snapshots of it."""

    def __init__(self, tool, work, mib):
        self.tool, self.work, self.mib, self.owner = tool, work, mib, None

    def fresh_disks(self):
        for name in os.listdir(self.work):
            if name.startswith(("a.", "b.", "memory.")):
                os.unlink(f"{self.work}/{name}")
        for name in "ab":
            subprocess.run([self.tool, "disk", f"{self.work}/{name}.img", "64"], check=True)
            if self.owner:
                os.chown(f"{self.work}/{name}.img", self.owner, self.owner)

    def steps(self):
        """Until the guest counts."""
        subprocess.run([self.tool, "wait", self.socket, "20"], check=True, timeout=PATIENCE)

    def where(self):
        words = subprocess.run([self.tool, "where", self.socket], check=True, stdout=subprocess.PIPE).stdout.split()
        return int(words[0]), int(words[1])

    def fill(self):
        """Memory that is all zeros would be saved in no time. The firmware keeps its tables at the end."""
        pid, address = self.where()
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        for at in range(FREE, (self.mib - 1) << 20, 1 << 20):
            os.pwrite(memory, os.urandom(1 << 20), address - COUNTER + at)
        os.close(memory)

    def measure(self, gesture):
        self.steps()
        watch = Watch(self.where())
        start = time.monotonic()
        try:
            gesture()
            takes = (time.monotonic() - start) * 1000
        finally:
            stands = watch.end()
        self.steps()
        return stands, takes


class Ours(Side):
    def __init__(self, stack, binary, tool, work, mib):
        super().__init__(tool, work, mib)
        self.mount, self.domain = f"{work}/mnt", f"{work}/mnt/m"
        self.socket = f"{work}/run/m.qmp"
        os.mkdir(self.mount)
        os.mkdir(f"{work}/run", 0o700)
        stack.callback(self.close)
        subprocess.run([binary, f"{work}/store", self.mount, "-o", f"qmp={work}/run,merge_idle=3600000"], check=True)

    def say(self, *words, to="m/ctl"):
        with open(f"{self.mount}/{to}", "w", encoding="utf-8") as ctl:
            ctl.write(" ".join(words))

    def boot(self):
        self.fresh_disks()
        self.say(domain_xml(self.work, self.mib), to="ctl")
        self.say("start")

    def halt(self):
        self.say("destroy")
        self.say("undefine m --snapshots-metadata --managed-save", to="ctl")

    def close(self):
        with contextlib.suppress(OSError):
            self.say("destroy")
        subprocess.run(["umount", self.mount], check=False, stderr=subprocess.DEVNULL)

    def create(self, name, *words):
        self.say("create", name, *words)

    def checkpoint(self, name):
        os.mkdir(f"{self.domain}/{name}")

    def revert(self, name, *words):
        self.say("revert", name, *words)

    def delete(self, name):
        os.rmdir(f"{self.domain}/{name}")
        self.say("wait")


class Virsh(Side):
    def __init__(self, stack, tool, work, mib):
        super().__init__(tool, work, mib)
        self.socket = f"{work}/m.qmp"
        self.env = dict(os.environ, LIBVIRT_AUTOSTART="0", PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        self.become = []
        for variable, room in (("HOME", "home"), ("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache"),
                               ("XDG_DATA_HOME", "data"), ("XDG_RUNTIME_DIR", "vrun")):
            self.env[variable] = f"{work}/{room}"
            os.makedirs(f"{work}/{room}/libvirt", 0o700)
        with open(f"{work}/config/libvirt/qemu.conf", "w", encoding="utf-8") as conf:
            conf.write('stdio_handler = "file"\n')  # no virtlogd
        with open(f"{work}/m.xml", "w", encoding="utf-8") as xml:
            xml.write(domain_xml(work, mib, SOCKET.format(self.socket)))
        if os.geteuid() == 0:
            self.owner = 65534
            self.become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            for top, dirs, files in os.walk(work):
                for name in [top] + [f"{top}/{name}" for name in dirs + files]:
                    os.chown(name, self.owner, self.owner)
        stack.callback(self.close)
        with open(f"{work}/log", "w", encoding="utf-8") as log:
            death = ["--pdeathsig=TERM"] if self.become else []
            self.daemon = subprocess.Popen([*self.become, *death, "libvirtd", "--timeout", "120"], env=self.env, cwd="/",
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("libvirtd answers", lambda: self.daemon.poll() is None and self.virsh("version").returncode == 0)

    def virsh(self, *words):
        return subprocess.run([*self.become, "virsh", "-q", "-c", "qemu:///session", *words], env=self.env, cwd="/",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)

    def say(self, *words):
        ran = self.virsh(*words)
        if ran.returncode == 0:
            return
        if "not supported" in ran.stdout or "unsupported" in ran.stdout:
            raise Refused(ran.stdout.strip())
        sys.exit(f"virsh {' '.join(words)}: {ran.stdout}")

    def boot(self):
        self.fresh_disks()
        self.say("define", f"{self.work}/m.xml")
        self.say("start", "m")

    def halt(self):
        self.say("destroy", "m")
        self.say("undefine", "m", "--snapshots-metadata")

    def close(self):
        with contextlib.suppress(AttributeError):
            self.virsh("destroy", "m")
            self.daemon.terminate()
            try:
                self.daemon.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()

    def create(self, name, *words):
        self.say("snapshot-create-as", "m", name, *words)

    def checkpoint(self, name):
        self.create(name)

    def revert(self, name, *words):
        self.say("snapshot-revert", "m", name, *words)

    def delete(self, name):
        self.say("snapshot-delete", "m", name)


EXTERNAL = ["--diskspec", "vda,snapshot=external", "--diskspec", "vdb,snapshot=external"]
INTERNAL = ["--diskspec", "vda,snapshot=internal", "--diskspec", "vdb,snapshot=internal"]


def with_memory(side, name, *words):
    path = f"{side.work}/memory.{name}"
    side.create(name, "--memspec", path if isinstance(side, Ours) else f"file={path},snapshot=external", *EXTERNAL, *words)


# One round of a machine, in this order: what, and how a side does it. A deletion merges layers, or drops tags.
KINDS = [
    ("create, internal", lambda side: side.checkpoint("i")),
    ("delete, internal", lambda side: side.delete("i")),
    ("create, internal disks only", lambda side: side.create("t", "--disk-only", *INTERNAL)),
    ("create, external disks only", lambda side: side.create("d", "--disk-only", *EXTERNAL)),
    ("revert, external disks only", lambda side: side.revert("d", "--running")),
    ("create, external memory", lambda side: with_memory(side, "e")),
    ("revert, external memory", lambda side: side.revert("e")),
    ("create, external, --live", lambda side: with_memory(side, "l", "--live")),
    ("revert, external, --live", lambda side: side.revert("l")),
    ("create, external, for a merge", lambda side: side.create("o", "--disk-only", *EXTERNAL)),
    ("delete, external disks only", lambda side: side.delete("o")),
    ("create, internal, in a chain", lambda side: side.checkpoint("c")),
    ("revert, internal", lambda side: side.revert("c")),
]


def play_round(sides, figures):
    for side in sides:
        side.boot()
        side.steps()
        side.fill()
    for what, gesture in KINDS:
        for side, column in zip(sides, figures[what]):
            try:
                column.append(side.measure(lambda side=side, gesture=gesture: gesture(side)))
            except Refused:
                column.append(None)
    for side in sides:
        side.halt()


def tell(figures):
    """Of a run that was interrupted, what there is."""
    for what, (ours, theirs) in figures.items():
        if not ours:
            continue
        for index, line in enumerate(("stands", "takes")):
            mine = statistics.median(row[index] for row in ours)
            known = [row[index] for row in theirs if row]
            virsh = statistics.median(known) if known else 0
            end = f"{virsh:8.1f} ms   ratio {mine / virsh:.2f}" if known else " refuses"
            print(f"{what:30} {line:7} {mine:8.1f} ms   virsh {end}", flush=True)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    binary, tool = (os.path.abspath(word) for word in sys.argv[1:3])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    mib = int(sys.argv[4]) if len(sys.argv) > 4 else 128
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    figures = {what: ([], []) for what, gesture in KINDS}
    with contextlib.ExitStack() as stack:
        work = os.path.realpath(tempfile.mkdtemp(prefix="domsnapfs-bench-"))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        os.chmod(work, 0o755)
        for side in ("ours", "virsh"):
            os.mkdir(f"{work}/{side}")
        sides = [Ours(stack, binary, tool, f"{work}/ours", mib), Virsh(stack, tool, f"{work}/virsh", mib)]
        stack.callback(tell, figures)
        for _ in range(rounds):
            play_round(sides, figures)


if __name__ == "__main__":
    main()
