/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Save images: ours read back, ones as libvirt writes them, and ones that nobody should believe. */
#include "images.h"
#include "runner.h"
#include "saveimage.h"

#include <sys/mman.h>

#define XML                                                                                                  \
    "<domain type='kvm'>\n  <name>a &amp; b</name>\n  <uuid>c96cfefb-5334-43b6-be18-4d6a17fa328d</uuid>\n"   \
    "  <memory unit='KiB'>32768</memory>\n  <devices>\n    <graphics type='vnc' passwd='secret'/>\n"         \
    "  </devices>\n</domain>\n"
#define STREAM "QEVM\0\0\0\3 and all of the memory"

static DomainDef *example(void)
{
    GError *error = NULL;
    DomainDef *def = domain_def_parse(XML, strlen(XML), &error);
    ASSERT_OK(def != NULL, error);
    return def;
}

static void check_stream(int fd)
{
    char stream[sizeof STREAM] = "";
    ck_assert_int_eq(read(fd, stream, sizeof stream), sizeof STREAM);
    ck_assert_mem_eq(stream, STREAM, sizeof STREAM);
}

/* --- ours --- */

static int begin(const char *path, gboolean running)
{
    GError *error = NULL;
    g_autoptr(DomainDef) def = example();
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ASSERT_OK(saveimage_begin(fd, def, running, &error), error);
    return fd;
}

START_TEST(test_what_is_written_is_read)
{
    GError *error = NULL;
    g_autofree char *path = PATH(_i ? "running" : "paused");
    int fd = begin(path, _i);
    ck_assert_int_eq(write(fd, STREAM, sizeof STREAM), sizeof STREAM);
    ck_assert_ptr_null(saveimage_open(path, &error));
    expect_error(&error, EINVAL, "not complete");
    ASSERT_OK(saveimage_finish(fd, &error), error);
    close(fd);
    g_autoptr(SaveImage) image = saveimage_open(path, &error);
    ASSERT_OK(image != NULL, error);
    /* libvirt would add these two, if it was not said that there is none */
    g_autofree char *text = domain_def_format(image->def);
    g_autoptr(GString) expected = g_string_new(XML);
    g_string_replace(
        expected, "  </devices>",
        "    <controller type='usb' index='0' model='none'/>\n    <memballoon model='none'/>\n  </devices>",
        1);
    ck_assert_str_eq(text, expected->str);
    ck_assert_int_eq(image->running, _i);
    check_stream(image->fd);
}
END_TEST

/* Of what we wrote, every byte that is missing is missed. */
START_TEST(test_one_that_was_cut)
{
    GError *error = NULL;
    struct stat st;
    g_autofree char *path = PATH("cut");
    int fd = begin(path, TRUE);
    ck_assert_int_eq(write(fd, STREAM, sizeof STREAM), sizeof STREAM);
    ASSERT_OK(saveimage_finish(fd, &error), error);
    ck_assert(fstat(fd, &st) == 0 && ftruncate(fd, st.st_size - 1) == 0);
    close(fd);
    ck_assert_ptr_null(saveimage_open(path, &error));
    expect_error(&error, EINVAL, "shorter");
}
END_TEST

START_TEST(test_without_memory_it_is_never_complete)
{
    GError *error = NULL;
    g_autofree char *path = PATH("image"), *other = PATH("other");
    int fd = begin(path, TRUE);
    ck_assert(!saveimage_finish(fd, &error));
    expect_error(&error, EINVAL, "no memory");
    ck_assert_ptr_null(saveimage_open(path, &error));
    expect_error(&error, EINVAL, "not complete");
    close(fd);
    ck_assert(g_file_set_contents(other, XML, -1, NULL));
    fd = open(other, O_RDWR | O_CLOEXEC);
    ck_assert(!saveimage_finish(fd, &error));
    expect_error(&error, EINVAL, "no memory");
    close(fd);
    g_autofree char *text = NULL;
    ck_assert(g_file_get_contents(other, &text, NULL, NULL));
    ck_assert_str_eq(text, XML);
}
END_TEST

START_TEST(test_a_full_disk_is_said)
{
    GError *error = NULL;
    g_autoptr(DomainDef) def = example();
    int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert(!saveimage_begin(fd, def, TRUE, &error));
    expect_error(&error, ENOSPC, "header");
    close(fd);
}
END_TEST

/* --- as libvirt writes them: put together here, byte by byte --- */

typedef struct {
    const char *magic;
    guint32 version, length, running, compression, cookie;
    gboolean swapped;
} Fields;

static void append_number(GString *out, guint32 number, gboolean swapped)
{
    guint32 stored = swapped ? GUINT32_SWAP_LE_BE(number) : number;
    g_string_append_len(out, (const char *)&stored, sizeof stored);
}

static GString *build(const Fields *f, const char *text, gsize len, const char *stream, gsize stream_len)
{
    GString *out = g_string_new(f->magic);
    append_number(out, f->version, f->swapped);
    append_number(out, f->length, f->swapped);
    append_number(out, f->running, f->swapped);
    append_number(out, f->compression, f->swapped);
    append_number(out, f->cookie, f->swapped);
    for (int i = 0; i < 14; i++)
        append_number(out, 0, FALSE);
    ck_assert_uint_eq(out->len, 92);
    g_string_append_len(out, text, (gssize)len);
    g_string_append_len(out, stream, (gssize)stream_len);
    return out;
}

static SaveImage *open_bytes(const GString *bytes, GError **error)
{
    g_autofree char *path = PATH("bytes");
    ck_assert(g_file_set_contents(path, bytes->str, (gssize)bytes->len, NULL));
    return saveimage_open(path, error);
}

#define COOKIE "<cookie>\n  <slirpHelper/>\n</cookie>\n"
#define TEXTS XML "\0" COOKIE "\0\0\0\0\0\0\0\0"
#define GOOD                                                                                                 \
    {                                                                                                        \
        .magic = "LibvirtQemudSave", .version = 2, .length = sizeof TEXTS, .running = 1,                     \
        .cookie = sizeof XML                                                                                 \
    }

START_TEST(test_libvirts_are_read)
{
    GError *error = NULL;
    Fields f = GOOD;
    f.swapped = _i == 1; /* from a host of the other byte order */
    f.version = _i == 2 ? 1 : 2;
    f.cookie = _i == 3 ? 0 : f.cookie;
    g_autoptr(GString) bytes = build(&f, TEXTS, sizeof TEXTS, STREAM, sizeof STREAM);
    g_autoptr(SaveImage) image = open_bytes(bytes, &error);
    ASSERT_OK(image != NULL, error);
    ck_assert_str_eq(image->def->name, "a & b");
    ck_assert(image->running);
    check_stream(image->fd);
}
END_TEST

/* A pc has a USB controller that libvirt does not write down here; no other machine, and none that says so. */
START_TEST(test_what_libvirt_does_not_say)
{
    static const struct {
        const char *machine, *devices;
        gboolean added;
    } cases[] = {
        {"pc", "", TRUE},
        {"pc-i440fx-7.2", "", TRUE},
        {"pc-1.3", "<controller type='ide' index='0'/>", TRUE},
        {"pc-q35-7.2", "", FALSE},
        {"pc", "<controller type='usb' index='0' model='none'/>", FALSE},
        {"pc", "<controller type='usb' index='0' model='nec-xhci'/>", FALSE},
    };
    GError *error = NULL;
    g_autofree char *xml =
        g_strdup_printf("<domain type='kvm'><name>a</name><os><type machine='%s'>hvm</type></os>"
                        "<devices>%s</devices></domain>",
                        cases[_i].machine, cases[_i].devices);
    Fields f = {.magic = "LibvirtQemudSave", .version = 2, .length = (guint32)strlen(xml) + 1};
    g_autoptr(GString) bytes = build(&f, xml, strlen(xml) + 1, STREAM, sizeof STREAM);
    g_autoptr(SaveImage) image = open_bytes(bytes, &error);
    ASSERT_OK(image != NULL, error);
    g_autofree char *text = domain_def_format(image->def);
    ck_assert_int_eq(strstr(text, "piix3-uhci") != NULL, cases[_i].added);
}
END_TEST

/* --- and as nobody should --- */

static void refuse(const Fields *f, const char *text, gsize len, const char *stream, gsize stream_len,
                   int code, const char *words)
{
    GError *error = NULL;
    g_autoptr(GString) bytes = build(f, text, len, stream, stream_len);
    ck_assert_ptr_null(open_bytes(bytes, &error));
    expect_error(&error, code, words);
}

START_TEST(test_headers_are_not_believed)
{
    static const struct {
        Fields fields;
        int code;
        const char *words;
    } cases[] = {
        {{.magic = "LibvirtQemudPart", .version = 2, .length = sizeof TEXTS}, EINVAL, "not complete"},
        {{.magic = "LibvirtQemudSavE", .version = 2, .length = sizeof TEXTS}, EINVAL, "no save image"},
        {{.magic = "LibvirtQemudSave", .version = 3, .length = sizeof TEXTS}, EOPNOTSUPP, "version"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = 0}, EINVAL, "0 bytes"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = 4096}, EINVAL, "before the memory"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = 0xffffffff}, EINVAL, "4294967295 bytes"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = 0xffffffff, .cookie = 0xfffffffe},
         EINVAL,
         "4294967295 bytes"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = sizeof TEXTS, .cookie = sizeof TEXTS},
         EINVAL,
         "cookie"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = sizeof TEXTS, .cookie = 20}, EINVAL, "no end"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = sizeof TEXTS - 1}, EINVAL, "not the memory"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = sizeof TEXTS, .compression = 1},
         EOPNOTSUPP,
         "compressed by gzip"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = sizeof TEXTS, .compression = 4},
         EOPNOTSUPP,
         "compressed by lzop"},
        {{.magic = "LibvirtQemudSave", .version = 2, .length = sizeof TEXTS, .compression = 0x80000000},
         EOPNOTSUPP,
         "2147483648"},
    };
    refuse(&cases[_i].fields, TEXTS, sizeof TEXTS, STREAM, sizeof STREAM, cases[_i].code, cases[_i].words);
}
END_TEST

START_TEST(test_texts_are_not_believed)
{
    static const char doctype[] = "<!DOCTYPE domain [<!ENTITY a 'b'>]>" XML;
    Fields f = {.magic = "LibvirtQemudSave", .version = 2};
    f.length = sizeof doctype;
    refuse(&f, doctype, sizeof doctype, STREAM, sizeof STREAM, EINVAL, "its definition: ");
    f.length = 8;
    refuse(&f, "<domain>", 8, STREAM, sizeof STREAM, EINVAL, "no end");
    f.length = 4;
    refuse(&f, "<a/>", 5, STREAM, sizeof STREAM, EINVAL, "no end");
    gsize len = XML_MAX_BYTES + 2;
    g_autofree char *spaces = g_strnfill(len, ' ');
    f.length = (guint32)len;
    refuse(&f, spaces, len, STREAM, sizeof STREAM, EINVAL, "1 MiB");
}
END_TEST

START_TEST(test_no_memory_in_it)
{
    Fields f = GOOD;
    refuse(&f, TEXTS, sizeof TEXTS, "", 0, EINVAL, "before the memory");
    refuse(&f, TEXTS, sizeof TEXTS, "QEV", 3, EINVAL, "ends in the middle of the memory");
    refuse(&f, TEXTS, sizeof TEXTS, "\x1f\x8b\x08\0\0", 5, EINVAL, "not the memory");
}
END_TEST

START_TEST(test_every_cut)
{
    GError *error = NULL;
    Fields f = GOOD;
    g_autoptr(GString) bytes = build(&f, TEXTS, sizeof TEXTS, STREAM, sizeof STREAM);
    gsize stream = bytes->len - sizeof STREAM;
    while (bytes->len > 0) {
        g_string_truncate(bytes, bytes->len - 1);
        g_autoptr(SaveImage) image = open_bytes(bytes, &error);
        ck_assert_msg((image != NULL) == (bytes->len >= stream + 4), "cut at %zu", bytes->len);
        if (!image)
            expect_error(&error, EINVAL, "save image '");
    }
}
END_TEST

START_TEST(test_what_is_no_file)
{
    GError *error = NULL;
    g_autofree char *pipe = PATH("pipe"), *none = PATH("none");
    ck_assert(mkfifo(pipe, 0600) == 0);
    ck_assert_ptr_null(saveimage_open(pipe, &error));
    expect_error(&error, EINVAL, "no regular file");
    ck_assert_ptr_null(saveimage_open(none, &error));
    expect_error(&error, ENOENT, none);
    ck_assert_ptr_null(saveimage_open("/", &error));
    expect_error(&error, EINVAL, "no regular file");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("saveimage");
    TCase *tcase = scratch_case(suite, "saveimage");
    tcase_add_loop_test(tcase, test_what_is_written_is_read, 0, 2);
    tcase_add_test(tcase, test_one_that_was_cut);
    tcase_add_test(tcase, test_without_memory_it_is_never_complete);
    tcase_add_test(tcase, test_a_full_disk_is_said);
    tcase_add_loop_test(tcase, test_libvirts_are_read, 0, 4);
    tcase_add_loop_test(tcase, test_what_libvirt_does_not_say, 0, 6);
    tcase_add_loop_test(tcase, test_headers_are_not_believed, 0, 13);
    tcase_add_test(tcase, test_texts_are_not_believed);
    tcase_add_test(tcase, test_no_memory_in_it);
    tcase_add_test(tcase, test_every_cut);
    tcase_add_test(tcase, test_what_is_no_file);
    return run_suite(suite);
}
