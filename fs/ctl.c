/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl.h"

#include <errno.h>
#include <string.h>

#include "ctl_table.h"
#include "error.h"
#include "lex.h"

void command_free(Command *command)
{
    if (command == NULL)
        return;
    g_free(command->operand);
    g_free(command->description);
    g_free(command->memspec);
    g_ptr_array_unref(command->diskspecs);
    g_free(command);
}

static const CommandSpec *find_command(CtlScope scope, const char *word)
{
    for (gsize i = 0; i < ctl_n_commands; i++)
        if (ctl_commands[i].scope == scope &&
            (strcmp(ctl_commands[i].word, word) == 0 || g_strcmp0(ctl_commands[i].alias, word) == 0))
            return &ctl_commands[i];
    return NULL;
}

/* The option whose word is the first @len bytes of @word, or NULL. */
static const OptionSpec *find_option(const CommandSpec *spec, const char *word, gsize len)
{
    for (const OptionSpec *option = spec->options; option->option != 0; option++)
        if (strlen(option->word) == len && strncmp(option->word, word, len) == 0)
            return option;
    return NULL;
}

static const char *option_word(const CommandSpec *spec, guint options)
{
    for (const OptionSpec *option = spec->options; option->option != 0; option++)
        if ((option->option & options) != 0)
            return option->word;
    return "";
}

static gboolean take_value(Command *command, const OptionSpec *option, const char *value, GError **error)
{
    if (option->option == OPTION_DISKSPEC) {
        g_ptr_array_add(command->diskspecs, g_strdup(value));
        return TRUE;
    }
    char **slot = option->option == OPTION_MEMSPEC ? &command->memspec : &command->description;
    if (*slot != NULL) {
        snap_set_error(error, EINVAL, "--%s is given twice", option->word);
        return FALSE;
    }
    *slot = g_strdup(value);
    return TRUE;
}

/* Take the option at words[*at], its value from behind '=' or from the next word; *at ends on the last word
 * taken. */
static gboolean take_option(const CommandSpec *spec, Command *command, const OptionSpec *option,
                            const char *value, const GPtrArray *words, guint *at, GError **error)
{
    guint clash = command->options & option->excludes;
    if (clash != 0) {
        snap_set_error(error, EINVAL, "--%s and --%s exclude each other", option_word(spec, clash),
                       option->word);
        return FALSE;
    }
    if (option->document && !command->document) {
        snap_set_error(error, EINVAL, "--%s is about a document, and none follows: end the line with ' -'",
                       option->word);
        return FALSE;
    }
    command->options |= option->option;
    if (option->value == NULL) {
        if (value == NULL)
            return TRUE;
        snap_set_error(error, EINVAL, "--%s takes no value", option->word);
        return FALSE;
    }
    if (value == NULL && *at + 1 < words->len) {
        const Word *next = words->pdata[*at + 1];
        if (next->quoted || !g_str_has_prefix(next->text, "--")) {
            value = next->text;
            (*at)++;
        }
    }
    if (value == NULL) {
        snap_set_error(error, EINVAL, "--%s needs a value", option->word);
        return FALSE;
    }
    return take_value(command, option, value, error);
}

static gboolean take_operand(const CommandSpec *spec, Command *command, const char *text, GError **error)
{
    if (spec->operand == NULL || command->operand != NULL) {
        snap_set_error(error, EINVAL, "'%s' has no use for '%s'", spec->word, text);
        return FALSE;
    }
    if (*text == '\0') {
        snap_set_error(error, EINVAL, "'%s': %s is empty", spec->word, spec->operand);
        return FALSE;
    }
    command->operand = g_strdup(text);
    return TRUE;
}

/* What one word behind the command is: an option with dashes, one without (dashes are optional), or the
 * operand. */
static gboolean take_argument(const CommandSpec *spec, Command *command, const GPtrArray *words, guint *at,
                              gboolean *options_end, GError **error)
{
    const Word *word = words->pdata[*at];
    if (*options_end)
        return take_operand(spec, command, word->text, error);
    if (!word->quoted && strcmp(word->text, "--") == 0) {
        *options_end = TRUE;
        return TRUE;
    }
    if (g_str_has_prefix(word->text, "--")) {
        const char *name = word->text + 2;
        gsize len = strcspn(name, "=");
        const OptionSpec *option = find_option(spec, name, len);
        if (option == NULL) {
            snap_set_error(error, EINVAL, "'%s' has no option '%s'", spec->word, word->text);
            return FALSE;
        }
        return take_option(spec, command, option, name[len] == '=' ? name + len + 1 : NULL, words, at, error);
    }
    const OptionSpec *bare = word->quoted ? NULL : find_option(spec, word->text, strlen(word->text));
    if (bare != NULL)
        return take_option(spec, command, bare, NULL, words, at, error);
    return take_operand(spec, command, word->text, error);
}

static gboolean check_complete(const CommandSpec *spec, const Command *command, GError **error)
{
    gboolean undo = (command->options & OPTION_UNDO) != 0;
    if (undo && command->operand != NULL) {
        snap_set_error(error, EINVAL, "--undo goes back to no snapshot: leave out '%s'", command->operand);
        return FALSE;
    }
    if (spec->operand_needed && command->operand == NULL && !undo) {
        snap_set_error(error, EINVAL, "'%s' needs %s (a name that is also an option's word goes behind --)",
                       spec->word, spec->operand);
        return FALSE;
    }
    if (command->document && spec->document == DOCUMENT_NEVER) {
        snap_set_error(error, EINVAL, "'%s' takes no document", spec->word);
        return FALSE;
    }
    if (!command->document && spec->document == DOCUMENT_MUST) {
        snap_set_error(error, EINVAL, "'%s' needs a document: end the line with ' -' and let the XML follow",
                       spec->word);
        return FALSE;
    }
    return TRUE;
}

/* TRUE when the last word is the mark of a document to follow. */
static gboolean ends_in_dash(const GPtrArray *words)
{
    const Word *last = words->pdata[words->len - 1];
    return !last->quoted && strcmp(last->text, "-") == 0;
}

gboolean ctl_parse(CtlScope scope, const char *line, Command **ret_command, GError **error)
{
    g_autoptr(GPtrArray) words = lex_words(line, error);
    if (words == NULL)
        return FALSE;
    if (words->len == 0) {
        *ret_command = NULL;
        return TRUE;
    }
    const char *verb = ((const Word *)words->pdata[0])->text;
    const CommandSpec *spec = find_command(scope, verb);
    if (spec == NULL) {
        snap_set_error(error, EINVAL, "unknown command '%s': reading this file prints the commands", verb);
        return FALSE;
    }
    g_autoptr(Command) command = g_new0(Command, 1);
    command->kind = spec->kind;
    command->power = spec->power;
    command->diskspecs = g_ptr_array_new_with_free_func(g_free);
    command->document = ends_in_dash(words);
    if (command->document)
        g_ptr_array_set_size(words, (int)words->len - 1);
    gboolean options_end = FALSE;
    for (guint at = 1; at < words->len; at++)
        if (!take_argument(spec, command, words, &at, &options_end, error))
            return FALSE;
    if (!check_complete(spec, command, error))
        return FALSE;
    *ret_command = g_steal_pointer(&command);
    return TRUE;
}

static void help_synopsis(GString *help, const CommandSpec *spec)
{
    g_string_append(help, spec->word);
    if (spec->operand != NULL)
        g_string_append_printf(help, spec->operand_needed ? " %s" : " [%s]", spec->operand);
    for (const OptionSpec *option = spec->options; option->option != 0; option++) {
        /* Options that exclude each other stand next to each other in the table: [--a|--b]. */
        gboolean again = option != spec->options && (option[-1].option & option->excludes) != 0;
        gboolean more = (option[1].option & option->excludes) != 0;
        g_string_append_printf(help, "%s--%s", again ? "|" : " [", option->word);
        if (option->value != NULL)
            g_string_append_printf(help, " %s", option->value);
        if (!more)
            g_string_append(help, option->option == OPTION_DISKSPEC ? "]..." : "]");
    }
    if (spec->document != DOCUMENT_NEVER)
        g_string_append(help, spec->document == DOCUMENT_MAY ? " [-]" : " -");
    g_string_append_c(help, '\n');
}

char *ctl_help(CtlScope scope)
{
    GString *help = g_string_new("Write commands into this file, one a line, quoted as a shell quotes. A "
                                 "command acts at the end of its\n"
                                 "line. A line that ends in \" -\" is followed by an XML document. The "
                                 "dashes of an option may be left\n"
                                 "out; -- ends the options. Why something failed stands in log.\n");
    g_string_append_printf(help, "A <%s> document alone %s.\n",
                           scope == CTL_DOMAIN ? "domainsnapshot" : "domain",
                           scope == CTL_DOMAIN ? "takes the snapshot it asks for" : "defines that domain");
    for (gsize i = 0; i < ctl_n_commands; i++) {
        const CommandSpec *spec = &ctl_commands[i];
        if (spec->scope != scope)
            continue;
        g_string_append_c(help, '\n');
        help_synopsis(help, spec);
        g_string_append_printf(help, "    %s\n", spec->help);
        for (const OptionSpec *option = spec->options; option->option != 0; option++) {
            g_autofree char *word =
                g_strconcat(option->word, option->value == NULL ? "" : " ", option->value, NULL);
            g_string_append_printf(help, "    --%-19s %s\n", word, option->help);
        }
        g_string_append_printf(help, "    example: %s\n", spec->example);
    }
    return g_string_free(help, FALSE);
}
