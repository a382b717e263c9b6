/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Machine: a QEMU that runs, as snapcore sees and drives it. Implemented by the room qemu/; snapcore only calls it.
 *
 * A machine is found or started through the Backend, and is good for as long as its QEMU lives: afterwards every call fails
 * with ECONNRESET, which is an ordinary case. It is one connection to the monitor and must not be kept: find, work, free.
 * All calls may block, none logs; one thread at a time uses a Machine, different ones are independent. When @cancel fires a
 * call ends its work and fails with EINTR.
 *
 * A Machine is a Backend as well (machine->backend), whose functions do to the images that this QEMU has open what can only be
 * done by it: tag_delete; and repair, for which there is nothing to do while it lives. All else they do as the Backend that it came from.
 */
#pragma once

#include "backend.h"
#include "domain.h"

typedef struct Machine Machine;

/* UNKNOWN: somebody writes the images, or holds the monitor, and does not say more. */
typedef enum { RUN_OFF, RUN_RUNNING, RUN_PAUSED, RUN_UNKNOWN } RunState;

typedef struct {
    const char *target;
    const char *path; /* of the active layer */
    gboolean read_only;
} MachineDisk;

/* Which machine: what it must be if it runs. */
typedef struct {
    const char *name; /* its sockets are called so */
    const char *uuid;
    const GArray *disks; /* of MachineDisk: all that have a local image */
    const char *nvram;   /* or NULL */
} MachineSpec;

/* How a machine is to be started. */
typedef struct {
    const DomainDef *def;
    GHashTable
        *backing;    /* target -> GPtrArray of BackingDef, nearest first: what lies below each disk's image */
    gboolean paused; /* do not let it run */
    int memory;      /* a descriptor at the beginning of a migration stream; -1: it boots */
    const char *tag; /* or this checkpoint, memory and disks, of the images is loaded; NULL: none */
    const char *const *
        tag_targets; /* its disks, NULL-terminated: one that took no part may have a tag of that name of another origin */
    const char *
        tag_file; /* the qcow2 file of its own that holds the checkpoint's memory; NULL: one of the disks does */
} MachineStart;

/* What one transaction does to one disk. */
typedef struct {
    const char *target;
    const char *overlay; /* the empty overlay, made before, that becomes active; NULL: */
    ImageFormat format;
    const char *tag; /* take this internal snapshot (of the disk alone) */
} MachineChange;

/* A checkpoint: the memory, and the internal state of some disks. */
typedef struct {
    const char *tag;
    const char *const
        *targets;     /* the disks that take part, NULL-terminated; the first one holds the memory */
    const char *file; /* no disk takes part: an empty qcow2 file that is to hold the memory; NULL otherwise */
} MachineCheckpoint;

/*
 * Layers of one disk's chain are joined by a block job of the machine. No file gets another name.
 *   down  all from above @base up to @top is written into @base, which then is in the top's place: what stands on the top has
 *         @base as its backing file then, in its header too; where the top is the active layer, @base is
 *   up    all between @base and the active layer @top is written into @top, which stands on @base then, in its header too
 */
typedef struct {
    const char *target;
    gboolean up;
    const char *top;
    const char *base;         /* NULL: (up) the top stands on nothing then */
    const char *backing_name; /* for that header; NULL where none is written, or nothing is stood on */
    const GPtrArray
        *gone; /* (char *) the images that the chain has lost then, those above first: QEMU closes them */
    /*
     * Called once, in the calling thread, when all is moved, before the chain changes; it may use the machine, and should
     * pause it, for what is paused has been flushed: killed without that, QEMU takes with it what it has not written of
     * its tables (facts/qemu.md B6). FALSE: the chain stays as it is, and @error is what the call fails with.
     */
    gboolean (*before_end)(gpointer user, GError **error);
    gpointer user;
    const BackendProgress *progress; /* may be NULL */
} MachineMerge;

typedef struct {
    gboolean (*run_state)(Machine *machine, RunState *ret_state, GError **error);

    /* Stop and go on; nothing when it is so already. resume also ends what a failed or finished migration leaves. */
    gboolean (*pause)(Machine *machine, GError **error);
    gboolean (*resume)(Machine *machine, GError **error);

    /* Press the power button; returns at once. */
    gboolean (*shutdown)(Machine *machine, GError **error);

    /* End the QEMU, and wait until its process is gone and its images are free: by `quit`, after all is flushed; at last by force. */
    gboolean (*destroy)(Machine *machine, GCancellable *cancel, GError **error);

    /* Which process it is: a text that no other one has, or ever had. NULL: it cannot be seen from here. Caller frees. */
    char *(*process)(Machine *machine);

    /* Which local file disk @target writes. Caller frees. */
    gboolean (*active_path)(Machine *machine, const char *target, char **ret_path, GError **error);

    /*
     * Freeze the guest's file systems by its agent, at most @seconds long: the guest agent is asked first whether it is there
     * (EAGAIN, ETIMEDOUT: it does not answer; EOPNOTSUPP: the machine has no channel for one). thaw: fine when nothing is
     * frozen; to be called on every path.
     */
    gboolean (*freeze)(Machine *machine, GCancellable *cancel, GError **error);
    gboolean (*thaw)(Machine *machine, GError **error);

    /*
     * All @changes (of MachineChange) at one instant, in one transaction. When it fails nothing has changed, and QEMU does not
     * have the overlays open any more, but with ECONNRESET, EPROTO, EINTR, ETIMEDOUT it is not known.
     */
    gboolean (*change)(Machine *machine, const GArray *changes, GError **error);

    /*
     * Write the memory to @fd, from its present position on, as a migration stream; durable is the caller's to make it. The
     * machine is stopped at its end, at that instant; with @live it runs until nearly the end. When it fails it runs as before.
     */
    gboolean (*memory_save)(Machine *machine, int fd, gboolean live, const BackendProgress *progress,
                            GCancellable *cancel, GError **error);

    /*
     * End one that somebody has begun here and not seen to its end, and let QEMU have its images again, which it leaves to
     * others at the end of one. The guest runs, or stands, as it did.
     */
    gboolean (*memory_stop)(Machine *machine, GError **error);

    /*
     * Save a checkpoint. The guest stands meanwhile. When it fails no disk has the tag, unless QEMU has died. A tag that is
     * there already: EEXIST. (One is loaded by a QEMU that is started: MachineStart.)
     */
    gboolean (*checkpoint_save)(Machine *machine, const MachineCheckpoint *checkpoint, GError **error);

    /*
     * Join layers. When it fails before @before_end was called, or because of that, the chain is as it was, and nothing works
     * on it any more; afterwards it is not known whether it has changed (but merge_stop, and a look, tell). What was moved
     * by then is in @base, which by itself is mixed.
     */
    gboolean (*merge)(Machine *machine, const MachineMerge *merge, GCancellable *cancel, GError **error);
    /* End every merge that somebody has begun here and not seen to its end. EBUSY: it does not end. */
    gboolean (*merge_stop)(Machine *machine, GError **error);
    /* Let QEMU close images (of char *, those above first) that no chain of it has any more. What is in use stays. */
    gboolean (*close_images)(Machine *machine, const GPtrArray *paths, GError **error);

    /* A picture of the first display, as PNG, into the new file @path. ENOENT: it has none. */
    gboolean (*screenshot)(Machine *machine, const char *path, GError **error);

    void (*free)(Machine *machine);
} MachineOps;

struct Machine {
    Backend backend; /* first: a Machine * is a Backend *; backend.ops->free frees the machine, too */
    const MachineOps *ops;
};

static inline void machine_free(Machine *machine)
{
    if (machine)
        machine->ops->free(machine);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Machine, machine_free)

/*
 * Told in any thread, with no lock held, whenever it is known that the state is another one; first soon after watch().
 * The uuid is that of the spec.
 */
typedef void (*MachineTold)(gpointer user, const char *uuid, RunState state);

/* What a Backend that knows of running machines can do (Backend.machines; NULL: all machines are off). */
typedef struct MachineBackend {
    /*
     * Three answers (DESIGN 6): *ret_machine it runs; NULL it is off; FALSE with EBUSY and the reason for everything else.
     * Off is known for the moment of the look only: who goes on holds the images.
     */
    gboolean (*find)(Backend *backend, const MachineSpec *spec, GCancellable *cancel, Machine **ret_machine,
                     GError **error);

    /*
     * Could it be started? All that can be known without a process, and without its images: EOPNOTSUPP: an element that is not
     * supported; EINVAL: it makes no sense; ENOENT: no emulator, no firmware. Memory and tag are not looked at.
     */
    gboolean (*check)(Backend *backend, const MachineStart *start, GError **error);

    /*
     * Start one that is off. On success it is set up, its memory loaded, and it runs or is paused; *ret_def is the definition
     * it was really given: completed with addresses, the machine type pinned (caller frees); *ret_notes sentences about what is
     * not as the definition says (of char *). On failure nothing runs, nothing of its images has changed but by what QEMU
     * itself does at opening them. EOPNOTSUPP: an element that is not supported; EBUSY: an image is in use.
     */
    gboolean (*start)(Backend *backend, const MachineStart *start, GCancellable *cancel,
                      Machine **ret_machine, DomainDef **ret_def, GPtrArray **ret_notes, GError **error);

    /* Follow the state of a machine from now on (its disks may change without a new watch); the spec is copied. */
    void (*watch)(Backend *backend, const MachineSpec *spec);
    void (*unwatch)(Backend *backend, const char *uuid);
    void (*set_told)(Backend *backend, MachineTold told, gpointer user);
} MachineBackend;
