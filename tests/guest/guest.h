/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QEMU with the test guest in it (boot.S): start it, or join one that somebody else started; end it in every way.
 * guest_look.h says what its counters are and whether they agree, guest_watch.h for how long it stood still.
 *
 *     guest_disk_make(vda, 8);
 *     guest_disk_make(vdb, 8);
 *     g_autoptr(Guest) guest = guest_start(&(GuestSetup){.dir = dir, .images = (const char *[]){vda, vdb, NULL}});
 *     guest_wait(guest, 10);
 *
 * What cannot go on fails the test, with what QEMU printed. A QEMU started here ends with the test's process, however
 * that ends. guest_domain.h has the machine as a <domain>. The format of an image is what its name's ending says: .raw, .qed, and everything else is qcow2.
 *
 * After a kill -9 the disks hold all that the guest wrote when they are on virtio: SeaBIOS knows of no cache there, so
 * QEMU writes through to the host's page cache. On the others it does not, and the last writes may be missing.
 */
#pragma once

#include "guest_monitor.h"
#include "guest_layout.h"

typedef struct {
    const char *dir;  /* for its socket DIR/NAME.qmp and what it prints, DIR/NAME.log */
    const char *name; /* NULL: "guest" */
    const char *const
        *images;     /* NULL-terminated: the disks, in the guest's order. Nodes and devices: vda, vdb, ... */
    const char *bus; /* "virtio" (also when NULL) or "ide" */
    const char *accel;        /* "kvm", "tcg", or NULL: guest_accel() */
    const char *const *extra; /* NULL-terminated words for QEMU's command line after all others, or NULL */
} GuestSetup;

typedef struct {
    pid_t pid;             /* 0: ended */
    GuestMonitor *monitor; /* NULL: ended */
    gboolean joined;       /* somebody else's process */
    char *log;             /* what QEMU printed; NULL when joined */
} Guest;

/* The boot sector that is the guest. */
extern const guint8 guest_boot[GUEST_SECTOR];

/* An image of @mib MiB with the guest on it, in the format its name says. Every disk can be the first. */
void guest_disk_make(const char *path, guint mib);
const char *guest_disk_format(const char *path);

/*
 * $GUEST_ACCEL, else TCG: it is everywhere, and where KVM itself runs in a machine, TCG boots 20 times faster. Test
 * programs that matter are registered twice, once with GUEST_ACCEL=kvm.
 */
const char *guest_accel(void);
gboolean guest_has_kvm(void);

/* A QEMU that answers. */
Guest *guest_start(const GuestSetup *setup);
/* Start one that must end by itself: its exit code; *ret_log: what it printed. Caller frees. */
int guest_start_fails(const GuestSetup *setup, char **ret_log);
/* A QEMU that listens at @socket: left alone at the end. */
Guest *guest_join(const char *socket);

/* quit, and wait until the process has gone. */
void guest_quit(Guest *guest);
/* It ends by itself: wait for that. Its exit code must be 0. */
void guest_wait_end(Guest *guest);
/* kill -9, likewise. */
void guest_kill(Guest *guest);
/* guest_kill() when it was started here and still runs. */
void guest_free(Guest *guest);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Guest, guest_free)

/* Wait until it has booted and made @steps steps from now on. "The guest runs" is guest_wait(guest, 2). */
void guest_wait(Guest *guest, guint steps);

/* Press the key @key ("r": it resets its machine; "p": it panics). `system_powerdown` turns the machine off. */
void guest_press(Guest *guest, const char *key);

/*
 * Give memory to a QEMU started with "-S", "-incoming", "defer": from a migration stream or a libvirt save image.
 * It is paused then; a file that does not fit ends that QEMU, which is an error here.
 */
gboolean guest_load_memory(Guest *guest, const char *path, GError **error);
