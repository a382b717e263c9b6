/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lex.h"

#include <errno.h>
#include <string.h>

#include "error.h"

void word_free(Word *word)
{
    g_free(word->text);
    g_free(word);
}

static gboolean is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Take what stands in single or double quotes at @at (on the quote); returns behind the closing one, NULL:
 * none. */
static const char *take_quoted(const char *at, GString *text)
{
    char quote = *at++;
    while (*at != '\0' && *at != quote) {
        /* In double quotes a backslash escapes only these; before anything else it stands for itself. */
        if (quote == '"' && *at == '\\' && at[1] != '\0' && strchr("\"\\$`", at[1]) != NULL)
            at++;
        g_string_append_c(text, *at++);
    }
    return *at == quote ? at + 1 : NULL;
}

static const char *take_word(const char *at, Word **ret_word, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    gboolean quoted = FALSE;
    while (*at != '\0' && !is_blank(*at)) {
        if (*at == '\'' || *at == '"') {
            const char *after = take_quoted(at, text);
            if (after == NULL) {
                snap_set_error(error, EINVAL, "a quote (%c) is not closed on its line", *at);
                return NULL;
            }
            at = after;
            quoted = TRUE;
        } else if (*at == '\\') {
            if (at[1] == '\0') {
                snap_set_error(error, EINVAL, "the line ends in a backslash");
                return NULL;
            }
            g_string_append_c(text, at[1]);
            at += 2;
            quoted = TRUE;
        } else {
            g_string_append_c(text, *at++);
        }
    }
    Word *word = g_new0(Word, 1);
    word->text = g_strdup(text->str);
    word->quoted = quoted;
    *ret_word = word;
    return at;
}

GPtrArray *lex_words(const char *line, GError **error)
{
    if (!g_utf8_validate(line, -1, NULL)) {
        snap_set_error(error, EILSEQ, "the command is not UTF-8");
        return NULL;
    }
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func((GDestroyNotify)word_free);
    const char *at = line;
    for (;;) {
        while (is_blank(*at))
            at++;
        if (*at == '\0' || *at == '#')
            return g_steal_pointer(&words);
        Word *word;
        at = take_word(at, &word, error);
        if (at == NULL)
            return NULL;
        g_ptr_array_add(words, word);
    }
}
