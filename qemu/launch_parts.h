/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts that make a command line (launch.h): each appends its own to a LaunchBuild. Of the launch_*.c alone. */
#pragma once

#include <jansson.h>

#include "launch.h"

typedef struct {
    const LaunchSpec *spec;
    Launch *launch;      /* what is built */
    const xmlNode *root; /* of the completed document, launch->def */
    gboolean q35;
    gboolean kvm;        /* in use */
    gboolean helper;     /* QEMU runs a program of its own */
    GHashTable *images;  /* canonical path -> what it is ("disk 'vda'"), of all files whose content counts */
    GHashTable *outputs; /* canonical path -> element (or NULL), of all that QEMU makes anew or empties */
    GHashTable *slots;   /* of PCI (launch_pci.c); NULL: not counted yet */
    GHashTable *boot;    /* device element -> its place in the boot order (from 1) */
} LaunchBuild;

/* --- launch_words.c: reading values, appending arguments --- */

typedef struct {
    const char *word;  /* in the document; the last one of a list is NULL */
    const char *value; /* what it is for QEMU */
} LaunchWord;

extern const LaunchWord launch_switch[]; /* yes, on, no, off */

/* The value of attribute @attr. *value stays as it is when it is absent. EOPNOTSUPP: it is none of @words. */
gboolean launch_word(const xmlNode *node, const char *attr, const LaunchWord *words, const char **value,
                     GError **error);
/*
 * The same, put into @object as @key when it is there: as a text, or (with the words of launch_switch) as a
 * boolean.
 */
gboolean launch_set_word(json_t *object, const char *key, const xmlNode *node, const char *attr,
                         const LaunchWord *words, GError **error);
gboolean launch_set_switch(json_t *object, const char *key, const xmlNode *node, const char *attr,
                           GError **error);
/* *value stays as it is when it is absent. EINVAL: it is no number of that range (0x: hexadecimal). */
gboolean launch_number(const xmlNode *node, const char *attr, guint64 min, guint64 max, guint64 *value,
                       GError **error);
gboolean launch_set_number(json_t *object, const char *key, const xmlNode *node, const char *attr,
                           guint64 max, GError **error);
/*
 * Is @text (in @node; may be NULL: no) only letters, digits and ". _ + -", so that it can stand in a list of
 * options? EINVAL.
 */
gboolean launch_plain(const xmlNode *node, const char *text, GError **error);
/* Is @text (may be NULL: yes) what a processor can call its vendor: from @min to 12 characters? EINVAL. */
gboolean launch_vendor(const xmlNode *node, const char *text, guint min, GError **error);
/* Is @path one that QEMU can be given? EINVAL. */
gboolean launch_path(const xmlNode *node, const char *path, GError **error);
/* Text of @node without blanks around it; NULL when it is absent or empty. Caller frees. */
char *launch_text(const xmlNode *node);
/* @text for a list of options, where a comma is doubled. Caller frees. */
char *launch_escape(const char *text);

json_t *launch_object(const char *driver, const char *id);
void launch_add(LaunchBuild *build, const char *option, const char *value);   /* @value may be NULL */
void launch_add_json(LaunchBuild *build, const char *option, json_t *object); /* takes @object */
void launch_command(LaunchBuild *build, const char *name, json_t *arguments); /* takes @arguments */
void launch_note(LaunchBuild *build, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* NAME@suffix in the directory; a socket is noted down. ENAMETOOLONG. Caller frees. */
char *launch_file(const LaunchBuild *build, const char *suffix);
gboolean launch_socket(LaunchBuild *build, const char *path, const xmlNode *node, GError **error);

/*
 * QEMU removes whatever is at the path of its sockets, and empties the files it writes output to (tried):
 * such a path must not be one of an image. Said of each path while the parts are made; checked when all is
 * said. EINVAL.
 */
void launch_image_path(LaunchBuild *build, const char *path, const char *what);
void launch_output_path(LaunchBuild *build, const char *path, const xmlNode *node);
gboolean launch_paths_check(const LaunchBuild *build, GError **error);

/* Put "disk 'vda': " in front of what @error says, if @device is a disk. Returns FALSE. */
gboolean launch_name_disk(GError **error, const xmlNode *device);

/* The device elements called @name (NULL: all), in order; caller unrefs. */
GPtrArray *launch_devices(const xmlNode *root, const char *name);

/* --- the list of what is known --- */
gboolean launch_known_check(LaunchBuild *build, GError **error);

/* --- completing the document --- */
gboolean launch_complete(DomainDef *def, gboolean q35, GError **error);
gboolean launch_pci_complete(DomainDef *def, gboolean q35, GError **error);
gboolean launch_usb_complete(DomainDef *def, gboolean q35, GError **error);
gboolean launch_serial_complete(DomainDef *def, GError **error); /* ports of virtio-serial */
/* The drive's or USB device's place in its <address>. Absent attributes are 0. */
typedef struct {
    guint64 controller, bus, target, unit;
} LaunchDrive;
gboolean launch_drive(const xmlNode *device, LaunchDrive *ret_drive, GError **error);
/* An IDE bus of a pc has two units, a controller two buses: the controller that is really meant. */
guint64 launch_ide_controller(const LaunchDrive *drive);
/* <address> of @device, made (with that type) where there is none. */
xmlNode *launch_new_address(xmlNode *device, const char *type);
/* The controller of that type and index, made where there is none. */
xmlNode *launch_need_controller(DomainDef *def, const char *type, guint64 index, const char *model);
const xmlNode *launch_find_controller(const xmlNode *root, const char *type, guint64 index);
/* The model that a <controller> has, or gets where it says none. */
const char *launch_usb_default(gboolean q35);
/* Is it a console (or channel) of virtio-serial? */
gboolean launch_is_virtio_char(const xmlNode *device);
/* Put bus and port of a USB device into @object. */
gboolean launch_place_usb(json_t *object, const xmlNode *device, GError **error);
/* Put bus and address of a PCI device into @object. */
gboolean launch_place(LaunchBuild *build, json_t *object, const xmlNode *device, GError **error);
/* "pci.0" and the like. Caller frees. */
char *launch_pci_bus(gboolean q35, guint64 bus);

/* --- the machine --- */
gboolean launch_machine(LaunchBuild *build, GError **error); /* program, name, machine, memory */
gboolean launch_firmware(LaunchBuild *build, GString *machine, GError **error);
gboolean launch_boot(LaunchBuild *build, GError **error);
guint launch_boot_place(const LaunchBuild *build, const xmlNode *device); /* 0: it has none */
void launch_set_boot(const LaunchBuild *build, json_t *object, const xmlNode *device);
gboolean launch_cpu(LaunchBuild *build, GError **error);
gboolean launch_cpu_flags(LaunchBuild *build, GString *cpu,
                          GError **error); /* what <features> and <clock> say of it */
gboolean launch_clock(LaunchBuild *build, GError **error);
gboolean launch_actions(LaunchBuild *build, GError **error);

/* --- devices --- */
gboolean launch_controllers(LaunchBuild *build, GError **error);
gboolean launch_disks(LaunchBuild *build, GError **error);
/* The nodes of @disk's chain; *ret_levels and the active node. */
gboolean launch_blocks(LaunchBuild *build, const DiskDef *disk, guint *ret_levels, GError **error);
gboolean launch_networks(LaunchBuild *build, GError **error);
gboolean launch_chars(LaunchBuild *build, GError **error);
gboolean launch_displays(LaunchBuild *build, GError **error);
gboolean launch_others(LaunchBuild *build, GError **error);
