/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command language: words, commands, help, and where a command or a document ends in a stream of writes.
 */
#include <errno.h>
#include <string.h>

#include "ctl.h"
#include "document.h"
#include "error.h"
#include "lex.h"
#include "runner.h"
#include "stream.h"

/* --- words --- */

static void check_words(const char *line, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) words = lex_words(line, &error);
    ck_assert_msg(words != NULL, "'%s': %s", line, error == NULL ? "?" : error->message);
    g_autoptr(GString) joined = g_string_new(NULL);
    for (guint i = 0; i < words->len; i++) {
        const Word *word = words->pdata[i];
        g_string_append_printf(joined, "%s[%s]", word->quoted ? "q" : "", word->text);
    }
    ck_assert_str_eq(joined->str, expected);
}

START_TEST(words_as_a_shell)
{
    check_words("", "");
    check_words(" \t\r", "");
    check_words("create s1", "[create][s1]");
    check_words("  a\tb  c \r", "[a][b][c]");
    check_words("'two words' \"and 'these'\"", "q[two words]q[and 'these']");
    check_words("a'b'c\"d\"e", "q[abcde]");
    check_words("''", "q[]");
    check_words("a\\ b \\'x", "q[a b]q['x]");
    check_words("'no \\ escape'", "q[no \\ escape]");
    check_words("\"\\\"q\\\\ \\$ \\n\"", "q[\"q\\ $ \\n]");
    check_words("$HOME *.c `x`", "[$HOME][*.c][`x`]");
    check_words("schnappschu\xc3\x9f", "[schnappschu\xc3\x9f]");
}
END_TEST

START_TEST(words_comments)
{
    check_words("# all of it 'and this", "");
    check_words("a # b", "[a]");
    check_words("a#b '#c' \\#d", "[a#b]q[#c]q[#d]");
}
END_TEST

static void check_words_refused(const char *line, int code)
{
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(lex_words(line, &error));
    ck_assert_int_eq(snap_errno(error), code);
}

START_TEST(words_refused)
{
    check_words_refused("it's", EINVAL);
    check_words_refused("a \"b", EINVAL);
    check_words_refused("\"a\\\"", EINVAL);
    check_words_refused("a \\", EINVAL);
    check_words_refused("\xff", EILSEQ);
}
END_TEST

/* --- commands --- */

static Command *parse(CtlScope scope, const char *line)
{
    g_autoptr(GError) error = NULL;
    Command *command = NULL;
    gboolean parsed = ctl_parse(scope, line, &command, &error);
    ck_assert_msg(parsed, "'%s': %s", line, error == NULL ? "?" : error->message);
    ck_assert_ptr_nonnull(command);
    return command;
}

/* Refused with EINVAL, and the sentence names @word. */
static void check_refused(CtlScope scope, const char *line, const char *word)
{
    g_autoptr(GError) error = NULL;
    Command *command = NULL;
    ck_assert_msg(!ctl_parse(scope, line, &command, &error), "'%s' was taken", line);
    ck_assert_ptr_null(command);
    ck_assert_int_eq(snap_errno(error), EINVAL);
    ck_assert_msg(strstr(error->message, word) != NULL, "'%s': '%s' does not name %s", line, error->message,
                  word);
}

START_TEST(command_create)
{
    g_autoptr(Command) bare = parse(CTL_DOMAIN, "create");
    ck_assert_int_eq(bare->kind, COMMAND_CREATE);
    ck_assert_ptr_null(bare->operand);
    ck_assert_uint_eq(bare->options, 0);
    ck_assert(!bare->document);

    g_autoptr(Command) full =
        parse(CTL_DOMAIN, "create s1 --disk-only --memspec f,snapshot=no --diskspec vda "
                          "--description 'two words' --live --quiesce --halt --atomic --reuse-external --no-metadata "
                          "--diskspec=vdb,snapshot=no");
    ck_assert_str_eq(full->operand, "s1");
    ck_assert_uint_eq(full->options, OPTION_DISK_ONLY | OPTION_MEMSPEC | OPTION_DISKSPEC |
                                         OPTION_DESCRIPTION | OPTION_LIVE | OPTION_QUIESCE | OPTION_HALT |
                                         OPTION_ATOMIC | OPTION_REUSE_EXTERNAL | OPTION_NO_METADATA);
    ck_assert_str_eq(full->memspec, "f,snapshot=no");
    ck_assert_str_eq(full->description, "two words");
    ck_assert_uint_eq(full->diskspecs->len, 2);
    ck_assert_str_eq(full->diskspecs->pdata[0], "vda");
    ck_assert_str_eq(full->diskspecs->pdata[1], "vdb,snapshot=no");
}
END_TEST

START_TEST(command_dashes_optional)
{
    g_autoptr(Command) command =
        parse(CTL_DOMAIN, "create disk-only s1 description text diskspec vda,snapshot=no");
    ck_assert_str_eq(command->operand, "s1");
    ck_assert_str_eq(command->description, "text");
    ck_assert_uint_eq(command->options, OPTION_DISK_ONLY | OPTION_DESCRIPTION | OPTION_DISKSPEC);
}
END_TEST

START_TEST(command_names_like_options)
{
    g_autoptr(Command) ended = parse(CTL_DOMAIN, "delete --metadata -- --children");
    ck_assert_str_eq(ended->operand, "--children");
    ck_assert_uint_eq(ended->options, OPTION_METADATA);
    g_autoptr(Command) bare = parse(CTL_DOMAIN, "revert -- force");
    ck_assert_str_eq(bare->operand, "force");
    ck_assert_uint_eq(bare->options, 0);
    g_autoptr(Command) quoted = parse(CTL_DOMAIN, "revert 'force'");
    ck_assert_str_eq(quoted->operand, "force");
    check_refused(CTL_DOMAIN, "revert force", "NAME");
    check_refused(CTL_DOMAIN, "delete children", "NAME");
}
END_TEST

START_TEST(command_document_mark)
{
    g_autoptr(Command) create = parse(CTL_DOMAIN, "create s1 --live -");
    ck_assert(create->document);
    ck_assert_str_eq(create->operand, "s1");
    g_autoptr(Command) quoted = parse(CTL_DOMAIN, "create '-'");
    ck_assert(!quoted->document);
    ck_assert_str_eq(quoted->operand, "-");
    g_autoptr(Command) inside = parse(CTL_DOMAIN, "create a-");
    ck_assert(!inside->document);
    g_autoptr(Command) redefine = parse(CTL_DOMAIN, "redefine --current -");
    ck_assert(redefine->document);
    ck_assert_uint_eq(redefine->options, OPTION_CURRENT);
    g_autoptr(Command) strict = parse(CTL_DOMAIN, "redefine --validate --disk-only -");
    ck_assert_uint_eq(strict->options, OPTION_VALIDATE | OPTION_DISK_ONLY);
    g_autoptr(Command) valid = parse(CTL_DOMAIN, "create s1 validate -");
    ck_assert_uint_eq(valid->options, OPTION_VALIDATE);
    g_autoptr(Command) define = parse(CTL_MOUNT, "define -");
    ck_assert_int_eq(define->kind, COMMAND_DEFINE);
    check_refused(CTL_DOMAIN, "redefine", "document");
    check_refused(CTL_MOUNT, "define", "document");
    check_refused(CTL_DOMAIN, "delete s1 -", "document");
    check_refused(CTL_DOMAIN, "create - s1 s2", "s1");
}
END_TEST

START_TEST(command_refused)
{
    check_refused(CTL_DOMAIN, "nonsense", "nonsense");
    check_refused(CTL_DOMAIN, "define -", "define");
    check_refused(CTL_MOUNT, "create s1", "create");
    check_refused(CTL_DOMAIN, "-", "-");
    check_refused(CTL_DOMAIN, "create --bogus", "--bogus");
    check_refused(CTL_DOMAIN, "revert --", "NAME");
    check_refused(CTL_DOMAIN, "create a b", "b");
    check_refused(CTL_DOMAIN, "create ''", "NAME");
    check_refused(CTL_DOMAIN, "wait s1", "s1");
    check_refused(CTL_DOMAIN, "create s1 --validate", "--validate is about a document");
    check_refused(CTL_DOMAIN, "create validate", "--validate is about a document");
    check_refused(CTL_DOMAIN, "redefine --quiesce -", "--quiesce");
    check_refused(CTL_DOMAIN, "revert", "NAME");
    check_refused(CTL_DOMAIN, "revert s1 --running --paused", "--running");
    check_refused(CTL_DOMAIN, "revert s1 paused running", "--paused");
    check_refused(CTL_DOMAIN, "delete s1 --children --children-only", "--children");
    check_refused(CTL_DOMAIN, "delete s1 --metadata=yes", "--metadata");
    check_refused(CTL_DOMAIN, "create s1 --description", "--description");
    check_refused(CTL_DOMAIN, "create s1 --description --live", "--description");
    check_refused(CTL_DOMAIN, "create s1 --description -", "--description");
    check_refused(CTL_DOMAIN, "create s1 --memspec a --memspec b", "--memspec");
    check_refused(CTL_MOUNT, "cancel", "JOB");
    check_refused(CTL_MOUNT, "undefine web; delete all", "delete");
}
END_TEST

START_TEST(command_power)
{
    static const struct {
        const char *line;
        PowerAction power;
        const char *operand;
    } cases[] = {
        {"start", POWER_START, NULL},
        {"shutdown", POWER_SHUTDOWN, NULL},
        {"destroy", POWER_DESTROY, NULL},
        {"pause", POWER_PAUSE, NULL},
        {"suspend", POWER_PAUSE, NULL},
        {"resume", POWER_RESUME, NULL},
        {"managedsave", POWER_MANAGEDSAVE, NULL},
        {"managedsave-remove", POWER_MANAGEDSAVE_REMOVE, NULL},
        {"save '/tmp/a file'", POWER_SAVE, "/tmp/a file"},
        {"restore /tmp/f", POWER_RESTORE, "/tmp/f"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Command) command = parse(CTL_DOMAIN, cases[i].line);
        ck_assert_int_eq(command->kind, COMMAND_POWER);
        ck_assert_int_eq(command->power, cases[i].power);
        ck_assert_pstr_eq(command->operand, cases[i].operand);
        ck_assert_uint_eq(command->options, 0);
        check_refused(CTL_MOUNT, cases[i].line, "unknown command");
    }
    g_autoptr(Command) paused = parse(CTL_DOMAIN, "start paused");
    ck_assert_uint_eq(paused->options, OPTION_PAUSED);
    check_refused(CTL_DOMAIN, "start web", "web");
    check_refused(CTL_DOMAIN, "resume --paused", "--paused");
    check_refused(CTL_DOMAIN, "save", "FILE");
    check_refused(CTL_DOMAIN, "restore", "FILE");
    check_refused(CTL_DOMAIN, "save /a /b", "/b");
    check_refused(CTL_DOMAIN, "managedsave /a", "/a");
    check_refused(CTL_DOMAIN, "start -", "document");
    check_refused(CTL_DOMAIN, "managedsave --remove", "--remove");
}
END_TEST

START_TEST(command_blank)
{
    g_autoptr(GError) error = NULL;
    Command *command = (Command *)1;
    ck_assert(ctl_parse(CTL_DOMAIN, "  # nothing", &command, &error));
    ck_assert_ptr_null(command);
}
END_TEST

/* Every example in the help is a command that parses, and every option in it is explained. */
START_TEST(help_examples)
{
    CtlScope scope = _i == 0 ? CTL_DOMAIN : CTL_MOUNT;
    g_autofree char *help = ctl_help(scope);
    ck_assert(g_str_has_suffix(help, "\n"));
    g_auto(GStrv) lines = g_strsplit(help, "\n", -1);
    guint examples = 0;
    for (char **line = lines; *line != NULL; line++) {
        const char *mark = "    example: ";
        if (!g_str_has_prefix(*line, mark))
            continue;
        examples++;
        command_free(parse(scope, *line + strlen(mark)));
    }
    ck_assert_uint_eq(examples, scope == CTL_DOMAIN ? 14 : 3);
    ck_assert((strstr(help, "snapshots-metadata") != NULL) == (scope == CTL_MOUNT));
    ck_assert((strstr(help, "[--running|--paused]") != NULL) == (scope == CTL_DOMAIN));
    ck_assert((strstr(help, "[--diskspec D]...") != NULL) == (scope == CTL_DOMAIN));
}
END_TEST

/* --- streams --- */

/* Notes what ran; a command called fail fails. */
static gboolean note(gpointer user, const Command *command, const char *doc, gsize len, GError **error)
{
    GString *ran = user;
    const char *operand = command == NULL ? "bare" : command->operand == NULL ? "none" : command->operand;
    if (strcmp(operand, "fail") == 0) {
        snap_set_error(error, EBUSY, "told to fail");
        return FALSE;
    }
    g_string_append_printf(ran, "%s", operand);
    if (doc != NULL)
        g_string_append_printf(ran, "<%.*s>", (int)len, doc);
    g_string_append_c(ran, ';');
    return TRUE;
}

/* Write @text in pieces of @piece bytes, flush, and compare what ran. */
static void check_stream(const char *text, gsize piece, const char *expected)
{
    g_autoptr(GString) ran = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    Stream *stream = stream_new(CTL_DOMAIN);
    gsize len = strlen(text);
    for (gsize at = 0; at < len; at += piece) {
        gsize part = MIN(piece, len - at);
        ck_assert_uint_eq(stream_write(stream, text + at, part, note, ran, &error), part);
        ck_assert_ptr_null(error);
    }
    ck_assert(stream_flush(stream, note, ran, &error));
    stream_free(stream);
    ck_assert_str_eq(ran->str, expected);
}

START_TEST(stream_pieces)
{
    gsize piece = (gsize)_i;
    check_stream("create a\n", piece, "a;");
    check_stream("create a", piece, "a;");
    check_stream("\n\n# c\n  create a\r\n\tcreate b # c's\n", piece, "a;b;");
    check_stream("<domainsnapshot/>", piece, "bare<<domainsnapshot/>>;");
    check_stream("<?xml version='1.0'?>\n<!-- c --><d>\n<x/></d>\n<!-- c -->\n", piece,
                 "bare<<?xml version='1.0'?>\n<!-- c --><d>\n<x/></d>>;");
    check_stream("create a -\n<d></d>\ncreate b\n", piece, "a<<d></d>>;b;");
    check_stream("create a -\n\n <d/><d/>create b", piece, "a<<d/>>;bare<<d/>>;b;");
    check_stream("", piece, "");
    check_stream("\n  \n", piece, "");
}
END_TEST

START_TEST(stream_acts_at_newline)
{
    g_autoptr(GString) ran = g_string_new(NULL);
    Stream *stream = stream_new(CTL_DOMAIN);
    ck_assert_uint_eq(stream_write(stream, "create a", 8, note, ran, NULL), 8);
    ck_assert_str_eq(ran->str, "");
    ck_assert_uint_eq(stream_write(stream, "\n", 1, note, ran, NULL), 1);
    ck_assert_str_eq(ran->str, "a;");
    ck_assert_uint_eq(stream_write(stream, "<d>", 3, note, ran, NULL), 3);
    ck_assert(stream_waiting(stream));
    ck_assert_uint_eq(stream_write(stream, "</d>", 4, note, ran, NULL), 4);
    ck_assert_str_eq(ran->str, "a;bare<<d></d>>;");
    ck_assert(!stream_waiting(stream));
    stream_free(stream);
}
END_TEST

START_TEST(stream_failures)
{
    g_autoptr(GString) ran = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    Stream *stream = stream_new(CTL_DOMAIN);
    /* The first: nothing is taken, and what stands behind it does not run. */
    static const char first[] = "# c\ncreate fail\ncreate b\n";
    ck_assert_uint_eq(stream_write(stream, first, strlen(first), note, ran, &error), 0);
    ck_assert_int_eq(snap_errno(error), EBUSY);
    ck_assert_str_eq(stream_what(stream), "create fail");
    ck_assert_str_eq(ran->str, "");
    /* A later one: the bytes up to it are taken. */
    g_clear_error(&error);
    static const char later[] = "create a\nnonsense\ncreate b\n";
    ck_assert_uint_eq(stream_write(stream, later, strlen(later), note, ran, &error), strlen("create a\n"));
    ck_assert_int_eq(snap_errno(error), EINVAL);
    ck_assert_str_eq(ran->str, "a;");
    /* Nothing of them is left behind. */
    g_clear_error(&error);
    ck_assert(stream_flush(stream, note, ran, &error));
    ck_assert_uint_eq(stream_write(stream, "create c\n", 9, note, ran, &error), 9);
    ck_assert_str_eq(ran->str, "a;c;");
    stream_free(stream);
}
END_TEST

static void check_stream_refused(const char *text, gsize len)
{
    g_autoptr(GString) ran = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    Stream *stream = stream_new(CTL_DOMAIN);
    ck_assert_uint_eq(stream_write(stream, text, len, note, ran, &error), 0);
    ck_assert_int_eq(snap_errno(error), EINVAL);
    ck_assert_str_eq(ran->str, "");
    stream_free(stream);
}

START_TEST(stream_refused)
{
    static const char zero[] = "create a\0b\n";
    g_autofree char *endless = g_strnfill(70000, 'x');
    check_stream_refused(zero, sizeof zero - 1);
    check_stream_refused(endless, 70000);
    check_stream_refused("create a -\nno document\n", 23);
    check_stream_refused("<d></e>", 7);
    check_stream_refused("<!DOCTYPE d><d/>", 16);
    check_stream_refused("create 'a\nb'\n", 13);
}
END_TEST

START_TEST(stream_flush_keeps_documents)
{
    g_autoptr(GString) ran = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    Stream *stream = stream_new(CTL_DOMAIN);
    /* Announced and not begun: another process may still write it. */
    ck_assert_uint_eq(stream_write(stream, "create a -\n", 11, note, ran, &error), 11);
    ck_assert(stream_flush(stream, note, ran, &error));
    ck_assert(stream_waiting(stream));
    /* Begun and not ended: an error, but another process may go on. */
    ck_assert_uint_eq(stream_write(stream, "<d>", 3, note, ran, &error), 3);
    ck_assert(!stream_flush(stream, note, ran, &error));
    ck_assert_int_eq(snap_errno(error), EINVAL);
    ck_assert_str_eq(ran->str, "");
    ck_assert_uint_eq(stream_write(stream, "</d>\n", 5, note, ran, NULL), 5);
    ck_assert_str_eq(ran->str, "a<<d></d>>;");
    stream_free(stream);
}
END_TEST

/* --- documents --- */

static gboolean note_document(gpointer user, const char *xml, gsize len, GError **error)
{
    g_string_append_printf(user, "%.*s;", (int)len, xml);
    return TRUE;
}

static gboolean put(Document *document, guint64 offset, const char *text, GString *ran)
{
    return document_write(document, offset, text, strlen(text), note_document, ran, NULL);
}

START_TEST(document_acts_once)
{
    g_autoptr(GString) ran = g_string_new(NULL);
    Document *document = document_new();
    ck_assert(put(document, 0, "<!-- a --><d>", ran));
    ck_assert_str_eq(ran->str, "");
    ck_assert(!document_flush(document, NULL));
    ck_assert(put(document, 13, "<x/></d>\n", ran));
    ck_assert_str_eq(ran->str, "<!-- a --><d><x/></d>;");
    ck_assert(document_flush(document, NULL));
    ck_assert(put(document, 22, " <!-- tail", ran));
    ck_assert(put(document, 32, " --> \n", ran));
    ck_assert(document_flush(document, NULL));
    ck_assert(!put(document, 38, "more", ran));
    ck_assert(!put(document, 42, "\n", ran));
    /* From the beginning it is another one. */
    ck_assert(put(document, 0, "<e/>", ran));
    ck_assert_str_eq(ran->str, "<!-- a --><d><x/></d>;<e/>;");
    document_free(document);
}
END_TEST

START_TEST(document_refused)
{
    g_autoptr(GString) ran = g_string_new(NULL);
    Document *document = document_new();
    ck_assert(!put(document, 5, "<d/>", ran));
    ck_assert(!put(document, 0, "<d/>junk", ran));
    ck_assert(!put(document, 0, "<d></e>", ran));
    ck_assert(put(document, 0, "<d>", ran));
    ck_assert(!put(document, 4, "</d>", ran));
    document_reset(document);
    ck_assert_uint_eq(document_size(document), 0);
    ck_assert(document_flush(document, NULL));
    ck_assert_str_eq(ran->str, "");
    document_free(document);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("ctl");
    TCase *words = tcase_create("words");
    tcase_add_test(words, words_as_a_shell);
    tcase_add_test(words, words_comments);
    tcase_add_test(words, words_refused);
    suite_add_tcase(all, words);
    TCase *commands = tcase_create("commands");
    tcase_add_test(commands, command_create);
    tcase_add_test(commands, command_dashes_optional);
    tcase_add_test(commands, command_names_like_options);
    tcase_add_test(commands, command_document_mark);
    tcase_add_test(commands, command_refused);
    tcase_add_test(commands, command_power);
    tcase_add_test(commands, command_blank);
    tcase_add_loop_test(commands, help_examples, 0, 2);
    suite_add_tcase(all, commands);
    TCase *streams = tcase_create("streams");
    tcase_add_loop_test(streams, stream_pieces, 1, 40);
    tcase_add_test(streams, stream_acts_at_newline);
    tcase_add_test(streams, stream_failures);
    tcase_add_test(streams, stream_refused);
    tcase_add_test(streams, stream_flush_keeps_documents);
    suite_add_tcase(all, streams);
    TCase *documents = tcase_create("documents");
    tcase_add_test(documents, document_acts_once);
    tcase_add_test(documents, document_refused);
    suite_add_tcase(all, documents);
    return all;
}

int main(void)
{
    return run_suite(suite());
}
