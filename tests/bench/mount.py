#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a mount takes of a domain with many snapshots: a chain of external ones, and internal ones in one image.

    python3 tests/bench/mount.py build/fs/domsnapfs [SNAPSHOTS] [ROUNDS]

The stores are written here as domsnapfs would have left them (snapcore/store.h), the images are real ones: overlays with
their headers, and a qcow2 image with that many internal snapshots. Each line: what, the median of the mounts in ms (the
command returns when the mount answers), of the daemon's processor time in ms, which a busy machine does not change, of
reading tree the first time, and the daemon's memory in MiB.
"""
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

UUID = "31a85633-b9ac-4798-afcc-33c9afe8bef1"
ROOM = "    <!-- {} -->\n" * 20  # documents are of the size they usually have


def domain_xml(image):
    disk = ("    <disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2'/>\n"
            f"      <source file='{image}'/>\n      <target dev='vda' bus='virtio'/>\n    </disk>\n")
    return (f"<domain type='kvm'>\n  <name>m</name>\n  <uuid>{UUID}</uuid>\n  <memory unit='KiB'>65536</memory>\n"
            f"  <os>\n    <type arch='x86_64' machine='pc'>hvm</type>\n  </os>\n  <devices>\n{disk}{ROOM}  </devices>\n"
            "</domain>\n")


def snapshot_xml(name, parent, at, disk, image):
    parent = f"  <parent>\n    <name>{parent}</name>\n  </parent>\n" if parent else ""
    domain = "".join("  " + line + "\n" for line in domain_xml(image).splitlines())
    return (f"<domainsnapshot>\n  <name>{name}</name>\n  <state>shutoff</state>\n{parent}"
            f"  <creationTime>{at}</creationTime>\n  <memory snapshot='no'/>\n  <disks>\n{disk}  </disks>\n{domain}"
            "</domainsnapshot>\n")


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def write_sparse(path, data):
    with open(path, "wb") as file:
        for at in range(0, len(data), 4096):
            block = data[at:at + 4096]
            if block.strip(b"\0"):
                file.seek(at)
                file.write(block)
        file.truncate(len(data))


def new_store(top, current):
    domain = os.path.join(top, "store", "domains", "m")
    os.makedirs(os.path.join(domain, "snapshots"))
    os.makedirs(os.path.join(top, "img"))
    os.makedirs(os.path.join(top, "mnt"))
    return domain


def layer(path, backing, frozen):
    st = os.stat(path)
    record = {"path": path, "format": "qcow2", "file": [st.st_ino, 0, 0]}
    if backing:
        record |= {"backing": backing, "backing_format": "qcow2"}
    if frozen:
        record["frozen"] = {"size": st.st_size, "mtime": [st.st_mtime_ns // 10**9, st.st_mtime_ns % 10**9],
                            "mode": 0o644, "blocks": st.st_blocks, "tags": []}
    return record


def external(top, n):
    domain = new_store(top, f"s{n - 1}")
    image = lambda k: f"{top}/img/{k:06d}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image(0), "1M"], check=True)
    template = image(n + 1)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "./000000.qcow2", "-F", "qcow2", template], check=True)
    data = open(template, "rb").read()
    os.unlink(template)
    for k in range(n):
        write_sparse(image(k + 1), data.replace(b"./000000.qcow2", f"./{k:06d}.qcow2".encode(), 1))
        disk = (f"    <disk name='vda' snapshot='external' type='file'>\n      <driver type='qcow2'/>\n"
                f"      <source file='{image(k + 1)}'/>\n    </disk>\n")
        write(f"{domain}/snapshots/s{k}.xml", snapshot_xml(f"s{k}", f"s{k - 1}" if k else None, 10**9 + k, disk, image(k)))
        os.chmod(image(k), 0o444)
        write(f"{domain}/snapshots/s{k}.json",
              json.dumps({"order": k + 1, "disks": [{"target": "vda", "layer": image(k)}],
                          "layers": [layer(image(k), image(k - 1) if k else None, True)]}, indent=1))
    write(f"{domain}/domain.xml", domain_xml(image(n)))
    write(f"{domain}/domain.json", json.dumps({"version": 1, "current": f"s{n - 1}",
                                               "layers": [layer(image(n), image(n - 1), False)]}))


def internal(top, n):
    domain = new_store(top, f"s{n - 1}")
    image = f"{top}/img/a.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    table = b""
    for k in range(n):
        ident, name = str(k + 1).encode(), f"s{k}".encode()
        entry = struct.pack(">QIHHIIQII", 0x30000, 1, len(ident), len(name), 10**9 + k, 0, 0, 0, 16)
        entry += struct.pack(">QQ", 0, 1 << 20) + ident + name
        table += entry + b"\0" * (-len(entry) % 8)
    with open(image, "r+b") as file:
        offset = -(-os.stat(image).st_size // 65536) * 65536
        file.seek(60)
        file.write(struct.pack(">IQ", n, offset))
        file.seek(offset)
        file.write(table)
    for k in range(n):
        write(f"{domain}/snapshots/s{k}.xml",
              snapshot_xml(f"s{k}", f"s{k - 1}" if k else None, 10**9 + k, "    <disk name='vda' snapshot='internal'/>\n", image))
        write(f"{domain}/snapshots/s{k}.json",
              json.dumps({"order": k + 1, "disks": [{"target": "vda", "layer": image, "tag": f"s{k}"}], "layers": []},
                         indent=1))
    write(f"{domain}/domain.xml", domain_xml(image))
    write(f"{domain}/domain.json",
          json.dumps({"version": 1, "current": f"s{n - 1}", "layers": [layer(image, None, False)]}))


def measure(what, binary, top, rounds):
    mounts, cpus, trees, memory = [], [], [], 0
    tick = 1000 / os.sysconf("SC_CLK_TCK")
    for _ in range(rounds):
        start = time.monotonic()
        subprocess.run([binary, f"{top}/store", f"{top}/mnt"], check=True)
        mounts.append((time.monotonic() - start) * 1000)
        pid = open(f"{top}/store/lock").read().strip()
        cpus.append(sum(int(word) for word in open(f"/proc/{pid}/stat").read().split()[13:15]) * tick)
        start = time.monotonic()
        tree = open(f"{top}/mnt/m/tree").read()
        trees.append((time.monotonic() - start) * 1000)
        status = open(f"/proc/{pid}/status").read()
        memory = max(memory, int(status.split("VmRSS:")[1].split()[0]) / 1024)
        subprocess.run(["umount", f"{top}/mnt"], check=True)
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.01)
        if "read-only" in tree or tree.count("\n") > len(os.listdir(f"{top}/store/domains/m/snapshots")) // 2 + 1:
            sys.exit(f"{what}: something is wrong:\n" + tree[-2000:])
    print(f"{what:20} {statistics.median(mounts):8.0f} ms {statistics.median(cpus):8.0f} ms "
          f"{statistics.median(trees):8.1f} ms {memory:8.1f} MiB")


def main():
    binary = os.path.abspath(sys.argv[1])
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    print(f"{'':20} {'mount':>11} {'processor':>11} {'tree':>11} {'memory':>12}")
    for make in (external, internal):
        top = os.path.realpath(tempfile.mkdtemp(prefix="domsnapfs-bench-"))
        try:
            make(top, n)
            measure(f"{n} {make.__name__}", binary, top, rounds)
        finally:
            shutil.rmtree(top)


main()
