/* SPDX-License-Identifier: GPL-2.0-or-later */
/* --diskspec and --memspec, the words of the format, and errors as errnos. */
#include <errno.h>
#include <gio/gio.h>

#include "error.h"
#include "request.h"
#include "runner.h"

static const struct {
    const char *spec;
    const char *name;
    SnapMode mode;
    DiskType type;
    ImageFormat format;
    const char *source;
} disks[] = {
    {"vda", "vda", MODE_DEFAULT, DISK_FILE, FORMAT_NONE, NULL},
    {"vda,snapshot=no", "vda", MODE_NO, DISK_FILE, FORMAT_NONE, NULL},
    {"vda,snapshot=manual", "vda", MODE_MANUAL, DISK_FILE, FORMAT_NONE, NULL},
    {"vda,snapshot=internal", "vda", MODE_INTERNAL, DISK_FILE, FORMAT_NONE, NULL},
    {"/a/b.img,snapshot=external", "/a/b.img", MODE_EXTERNAL, DISK_FILE, FORMAT_NONE, NULL},
    {"vda,driver=qcow2", "vda", MODE_EXTERNAL, DISK_FILE, FORMAT_QCOW2, NULL},
    {"vda,file=/x", "vda", MODE_EXTERNAL, DISK_FILE, FORMAT_NONE, "/x"},
    {"vda,snapshot=external,driver=qed,stype=block,file=/dev/x", "vda", MODE_EXTERNAL, DISK_BLOCK, FORMAT_QED,
     "/dev/x"},
    {"vda,file=/x,,y", "vda", MODE_EXTERNAL, DISK_FILE, FORMAT_NONE, "/x,y"},
    {"vda,file=/x,,,snapshot=external", "vda", MODE_EXTERNAL, DISK_FILE, FORMAT_NONE, "/x,"},
    {"vda,file=/x,,,,", "vda", MODE_EXTERNAL, DISK_FILE, FORMAT_NONE, "/x,,"},
    {"/a,,b,file=/snapshot=no", "/a,b", MODE_EXTERNAL, DISK_FILE, FORMAT_NONE, "/snapshot=no"},
};

START_TEST(diskspec)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SnapshotDisk) disk = create_request_parse_diskspec(disks[_i].spec, &error);
    ck_assert_msg(disk != NULL, "%s: %s", disks[_i].spec, error ? error->message : "?");
    ck_assert_str_eq(disk->name, disks[_i].name);
    ck_assert_int_eq(disk->mode, disks[_i].mode);
    ck_assert_int_eq(disk->type, disks[_i].type);
    ck_assert_int_eq(disk->format, disks[_i].format);
    ck_assert_pstr_eq(disk->source, disks[_i].source);
}
END_TEST

static const char *const bad_disks[] = {
    "",
    ",snapshot=no",
    "vda,",
    "vda,snapshot",
    "vda,snapshot=",
    "vda,snapshot=default",
    "vda,snapshot=both",
    "vda,driver=vmdk",
    "vda,driver=none",
    "vda,stype=network",
    "vda,stype=dir",
    "vda,file=relative",
    "vda,file=",
    "vda,snapshot=no,file=/x",
    "vda,snapshot=internal,file=/x",
    "vda,file=/x,file=/y",
    "vda,snapshot=no,snapshot=no",
    "vda,cache=none",
    "vda,file=/x,y",
};

START_TEST(bad_diskspec)
{
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(create_request_parse_diskspec(bad_disks[_i], &error));
    /* As in a document: an image beside another mode is what libvirt calls unsupported. */
    gboolean contradicts =
        strstr(bad_disks[_i], "file=/x") != NULL && strstr(bad_disks[_i], "snapshot=") != NULL;
    ck_assert_int_eq(snap_errno(error), contradicts ? EOPNOTSUPP : EINVAL);
    g_autofree char *start = g_strdup_printf("diskspec '%s': ", bad_disks[_i]);
    ck_assert(g_str_has_prefix(error->message, start));
}
END_TEST

static const struct {
    const char *spec;
    SnapMode mode;
    const char *file;
} memories[] = {
    {"/mem", MODE_EXTERNAL, "/mem"},
    {"file=/mem", MODE_EXTERNAL, "/mem"},
    {"/mem,snapshot=external", MODE_EXTERNAL, "/mem"},
    {"snapshot=external,file=/me,,m", MODE_EXTERNAL, "/me,m"},
    {"snapshot=no", MODE_NO, NULL},
    {"snapshot=internal", MODE_INTERNAL, NULL},
};

START_TEST(memspec)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = create_request_new();
    ck_assert(create_request_parse_memspec(request, "/first", NULL));
    ck_assert(create_request_parse_memspec(request, memories[_i].spec, &error));
    ck_assert_int_eq(request->memory, memories[_i].mode);
    ck_assert_pstr_eq(request->memory_file, memories[_i].file);
}
END_TEST

static const char *const bad_memories[] = {
    "mem",
    "file=mem",
    "snapshot=external",
    "snapshot=manual",
    "snapshot=default",
    "snapshot=no,/mem",
    "/mem,snapshot=internal",
    "/mem,/mem2",
    "/mem,file=/mem2",
    "/mem,size=1",
    "/mem,",
    "snapshot=no,snapshot=no",
};

/* A refused one changes nothing. */
START_TEST(bad_memspec)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CreateRequest) request = create_request_new();
    ck_assert(create_request_parse_memspec(request, "/first", NULL));
    ck_assert(!create_request_parse_memspec(request, bad_memories[_i], &error));
    ck_assert_int_eq(snap_errno(error), EINVAL);
    ck_assert_int_eq(request->memory, MODE_EXTERNAL);
    ck_assert_str_eq(request->memory_file, "/first");
}
END_TEST

START_TEST(words)
{
    for (ImageFormat format = FORMAT_RAW; format <= FORMAT_QED; format++) {
        ImageFormat back = FORMAT_NONE;
        ck_assert(image_format_from_string(image_format_to_string(format), &back) && back == format);
    }
    for (SnapMode mode = MODE_NO; mode <= MODE_MANUAL; mode++) {
        SnapMode back = MODE_DEFAULT;
        ck_assert(snap_mode_from_string(snap_mode_to_string(mode), &back) && back == mode);
    }
    for (SnapState state = STATE_NOSTATE; state <= STATE_DISK_SNAPSHOT; state++) {
        SnapState back = STATE_NONE;
        ck_assert(snap_state_from_string(snap_state_to_string(state), &back) && back == state);
    }
    for (DiskType type = DISK_FILE; type <= DISK_VOLUME; type++) {
        DiskType back = DISK_OTHER;
        ck_assert(disk_type_from_string(disk_type_to_string(type), &back) && back == type);
    }
    for (DiskDevice device = DEVICE_DISK; device <= DEVICE_LUN; device++) {
        DiskDevice back = DEVICE_DISK;
        ck_assert(disk_device_from_string(disk_device_to_string(device), &back) && back == device);
    }
    ck_assert_str_eq(snap_state_to_string(STATE_DISK_SNAPSHOT), "disk-snapshot");
    ck_assert_str_eq(image_format_to_string(FORMAT_QCOW2), "qcow2");
}
END_TEST

/* Zero values and unknown words are not read, and leave the result alone. */
START_TEST(not_words)
{
    static const char *const bad[] = {"none", "default", "other", "", "QCOW2", "vmdk", NULL};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        ImageFormat format = FORMAT_QED;
        SnapMode mode = MODE_MANUAL;
        DiskType type = DISK_VOLUME;
        SnapState state = STATE_CRASHED;
        DiskDevice device = DEVICE_LUN;
        ck_assert(!image_format_from_string(bad[i], &format) && format == FORMAT_QED);
        ck_assert(!snap_mode_from_string(bad[i], &mode) && mode == MODE_MANUAL);
        ck_assert(!disk_type_from_string(bad[i], &type) && type == DISK_VOLUME);
        ck_assert(!snap_state_from_string(bad[i], &state) && state == STATE_CRASHED);
        ck_assert(!disk_device_from_string(bad[i], &device) && device == DEVICE_LUN);
    }
    DiskType type = DISK_FILE;
    ck_assert(disk_type_from_string("nvme", &type) && type == DISK_OTHER);
    ck_assert_str_eq(image_format_to_string(FORMAT_NONE), "none");
    ck_assert_str_eq(snap_mode_to_string(MODE_DEFAULT), "default");
}
END_TEST

START_TEST(error_numbers)
{
    const struct {
        GQuark domain;
        int code, expected;
    } cases[] = {
        {SNAP_ERROR, EBUSY, EBUSY},
        {SNAP_ERROR, EXDEV, EIO},
        {SNAP_ERROR, ENOSYS, EOPNOTSUPP},
        {SNAP_ERROR, EAGAIN, EBUSY},
        {SNAP_ERROR, 0, EIO},
        {SNAP_ERROR, -5, EIO},
        {G_FILE_ERROR, G_FILE_ERROR_NOENT, ENOENT},
        {G_FILE_ERROR, G_FILE_ERROR_NOSPC, ENOSPC},
        {G_FILE_ERROR, G_FILE_ERROR_ACCES, EACCES},
        {G_FILE_ERROR, G_FILE_ERROR_AGAIN, EBUSY},
        {G_FILE_ERROR, G_FILE_ERROR_NOSYS, EOPNOTSUPP},
        {G_IO_ERROR, G_IO_ERROR_EXISTS, EEXIST},
        {G_IO_ERROR, G_IO_ERROR_CANCELLED, EINTR},
        {G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, EBUSY},
        {G_IO_ERROR, G_IO_ERROR_FAILED, EIO},
        {G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT, ENOENT},
        {G_SPAWN_ERROR, G_SPAWN_ERROR_FAILED, EIO},
        {g_quark_from_static_string("somebody-else"), 17, EIO},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = g_error_new_literal(cases[i].domain, cases[i].code, "x");
        ck_assert_msg(snap_errno(error) == cases[i].expected, "case %u: %d", i, snap_errno(error));
    }
    ck_assert_int_eq(snap_errno(NULL), EIO);
}
END_TEST

START_TEST(error_text)
{
    g_autoptr(GError) error = NULL;
    snap_set_errno(&error, ENOSPC, "write '%s'", "/x%n");
    g_prefix_error(&error, "disk '%s': ", "vda");
    ck_assert_str_eq(error->message, "disk 'vda': write '/x%n': No space left on device");
    ck_assert_int_eq(snap_errno(error), ENOSPC);
    snap_set_error(NULL, EINVAL, "nobody listens");
    snap_set_errno(NULL, EINVAL, "nobody listens");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("request");
    TCase *tcase = tcase_create("request");
    tcase_add_loop_test(tcase, diskspec, 0, G_N_ELEMENTS(disks));
    tcase_add_loop_test(tcase, bad_diskspec, 0, G_N_ELEMENTS(bad_disks));
    tcase_add_loop_test(tcase, memspec, 0, G_N_ELEMENTS(memories));
    tcase_add_loop_test(tcase, bad_memspec, 0, G_N_ELEMENTS(bad_memories));
    tcase_add_test(tcase, words);
    tcase_add_test(tcase, not_words);
    tcase_add_test(tcase, error_numbers);
    tcase_add_test(tcase, error_text);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
