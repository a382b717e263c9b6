/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Launch: QEMU's command line from a <domain>. A pure function: no process is started and no file is written;
 * whether a program is there is all that is looked at.
 *
 * The whole document is read against a list of what is known here (launch_known.c). Anything else, be it an
 * element, an attribute or a value, would make another machine than the one that is described, and is refused by
 * name, EOPNOTSUPP. The document is then completed, as libvirt does when it defines one: controllers that others
 * need, addresses, MAC addresses. A state of memory fits only into a machine with the same devices at the same
 * addresses, so launch->def, the completed document, is what a snapshot of the machine has to keep. Completing it
 * again changes nothing. Nothing else is added: no balloon, USB or input device that the document does not list,
 * but a display where there is VNC. (An alias like "pc" stays: which version that is, the QEMU that was started knows.)
 *
 * What is supported:
 *
 *   <domain type=>  kvm, qemu, tcg. Where KVM cannot be used a kvm machine is emulated, and a note says so.
 *   <emulator>      Where it is not there, the architecture's usual one is taken, and a note says so.
 *   <memory>, <currentMemory> (by the balloon), <vcpu> with current= and cpuset=
 *   <os>            x86_64 and i686; machines pc and q35 of every version; <boot dev=>, <bootmenu>,
 *                   <bios useserial= rebootTimeout=>, <loader> as rom or pflash with <nvram> and its template,
 *                   <kernel>, <initrd>, <cmdline>.
 *   <features>      acpi, apic, pae, hap, vmport, smm, pmu, ioapic, pvspinlock, those of kvm (hidden,
 *                   poll-control, hint-dedicated) and of hyperv.
 *   <cpu>           host-passthrough, host-model (as host-passthrough), maximum, custom; model, topology,
 *                   feature, cache, maxphysaddr.
 *   <clock>         utc, localtime, variable, absolute; timers rtc, pit, hpet, tsc, kvmclock, hypervclock.
 *   <on_poweroff>, <on_reboot>, <on_crash>: destroy, restart, preserve; <pm>
 *   <controller>    pci (root, root port, bridges, switch ports), usb, ide, sata, scsi (lsilogic, virtio-scsi),
 *                   fdc, virtio-serial; <address> of types pci, drive, usb, virtio-serial, isa.
 *   <disk>          file, block and network (nbd) as disk, cdrom and floppy on virtio, ide, sata, scsi, usb and
 *                   fdc, also empty drives; of <driver>: cache, io, discard, detect_zeroes, error policies,
 *                   metadata_cache, and of virtio disks queues, ioeventfd, event_idx, packed; <serial>, <wwn>,
 *                   <vendor>, <product>, <blockio>, <boot order=>, <readonly/>, <shareable/>, <transient/>.
 *   <interface>     user, and bridge through QEMU's helper; virtio, e1000, e1000e, rtl8139, ne2k_pci, pcnet;
 *                   <mac>, <boot order=>, <link>, <mtu>, <rom>, <ip>.
 *   <serial>, <console>, <channel>  to pty, file, null or a unix socket; isa-serial, consoles and channels of
 *                   virtio-serial (the guest agent's is one); <log>.
 *   <graphics>      vnc: port, address or socket, password, keymap, sharePolicy, websocket.
 *   <video>         vga, cirrus, virtio, bochs, vmvga, qxl, none.
 *   <input>         mouse, tablet, keyboard on ps2, usb, virtio.
 *   <rng> (random, builtin), <memballoon>, <watchdog> (i6300esb, ib700, itco), <panic> (isa, hyperv)
 *
 * What does not change the machine passes: title, description, metadata, alias, audio; and with a note that it is
 * not applied: seclabel (static labels are refused), cputune, memtune, blkiotune, numatune, resource.
 *
 * Names by which a running machine is found again:
 *
 *   qdev ids        launch_device_id() for disks; pci.N, usbN, scsiN, sataN, ideN, virtio-serialN with the
 *                   controller's index; netN, serialN, consoleN, channelN, inputN, videoN, rngN, watchdogN,
 *                   panicN counted from 0 in the document's order; balloon0. See launch_is_device().
 *   block nodes     launch_node_name() and launch_file_node_name(); the flash chips' are loader and nvram.
 *   files           in spec->directory: NAME.qmp, NAME.monitor (a second one, so that nobody is locked out),
 *                   NAME.pid, NAME.log (what it prints), NAME.agent (guest agent), NAME.N.channel, NAME.vnc. The overlay of a <transient/>
 *                   disk is TARGET.NAME.transient, beside the image when that is a file, else there too.
 */
#pragma once

#include <sched.h>

#include "domain.h"

typedef struct {
    const DomainDef *def;
    /*
     * What lies below the image of each disk: target -> GPtrArray of BackingDef, nearest first, empty for
     * nothing. It must be there for every disk whose image can have a backing file; QEMU is given the chain
     * and told where it ends, so that it follows no name in a header.
     */
    GHashTable *backing;
    const char *directory; /* for sockets and the pid file; absolute */
    gboolean kvm;          /* KVM can be used */
    gint64 now;            /* seconds, for a clock with an adjustment */
    const char *incoming;  /* wait for a memory state: "defer" and the like; NULL: boot */
    /*
     * QEMU goes into the background by itself, and its exit code and standard error tell whether the machine
     * is set up. The price: its sandbox cannot deny it other programs and privileges then. One who forks and
     * waits for the greeting of the monitor instead has the whole sandbox.
     */
    gboolean daemonize;
    char *(*find_program)(const char *name); /* NULL: g_find_program_in_path */
} LaunchSpec;

/* What happens when the guest has powered off or crashed. */
typedef enum {
    LAUNCH_DESTROY, /* QEMU ends by itself */
    LAUNCH_RESTART, /* QEMU stops there (SHUTDOWN, GUEST_PANICKED): send system_reset, then cont */
    LAUNCH_PRESERVE /* QEMU stops there, and is left so */
} LaunchAction;

/* A disk of the machine; also an empty drive. */
typedef struct {
    char *target;
    char *device; /* qdev id */
    guint levels; /* images in its chain; 0: empty. The guest writes the one of level levels - 1 */
    char *node;   /* node of the active layer's content, and of its file; NULL: empty */
    char *file_node;
} LaunchDisk;

/*
 * The overlay that takes what is written to a <transient/> disk. To be made, empty, before QEMU is started;
 * it can be unlinked as soon as QEMU answers, and then goes with the machine.
 */
typedef struct {
    char *target;
    char *path;
    BackingDef *below; /* of a raw one, too, the format is given */
} LaunchOverlay;

typedef struct {
    GPtrArray *argv; /* of char *, ended by NULL */
    DomainDef *def;  /* the document, completed */
    char *monitor;   /* socket of QMP */
    char *second_monitor;
    char *pid_file;
    char *log;   /* for the messages of QEMU: standard error of who starts it */
    char *agent; /* socket of the guest agent, or NULL */
    /*
     * Every path (char *) at which QEMU makes a socket. QEMU removes what is there, whatever it is (tried): whoever
     * starts it makes sure before that nothing is, or a socket. No image of the machine itself is there.
     */
    GPtrArray *sockets;
    GPtrArray *disks;    /* of LaunchDisk */
    GPtrArray *overlays; /* of LaunchOverlay */
    char *nvram;         /* copy nvram_template there if it does not exist; NULL: nothing to do */
    char *nvram_template;
    gboolean pinned; /* QEMU may only run on @cpus */
    cpu_set_t cpus;
    LaunchAction on_poweroff;
    LaunchAction on_crash;
    GPtrArray *
        commands; /* of char *, QMP commands to send, in order, before the guest runs. They may hold a secret. */
    GPtrArray *notes; /* sentences (char *) about what is not as the document says */
} Launch;

/*
 * EOPNOTSUPP: something is not supported; EINVAL: it makes no sense; ENOENT: no emulator; ENAMETOOLONG: a
 * socket's path. The sentence names the element, its line, and the disk.
 */
Launch *launch_new(const LaunchSpec *spec, GError **error);
void launch_free(Launch *launch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Launch, launch_free)

/* The qdev id of the disk called @target. Caller frees, here and below. */
char *launch_device_id(const char *target);

/*
 * Is @qdev, as query-block tells it, the device with @id? It is the id itself, or the path of a part of the device:
 * "/machine/peripheral/ID/virtio-backend", "/machine/peripheral/ID/ID.0/legacy[0]".
 */
gboolean launch_is_device(const char *qdev, const char *id);

/*
 * The node of an image in the chain of disk @target: @level counts from the image at the bottom, 0, so that
 * an overlay made on a running machine gets the next number. Where a machine has run on, the active node is
 * the one that query- block tells for the disk's device.
 */
char *launch_node_name(const char *target, guint level);
char *launch_file_node_name(const char *target, guint level);
