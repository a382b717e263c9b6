/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lexer of the command language: one line into words, quoted as a POSIX shell quotes, with nothing expanded.
 */
#pragma once

#include <glib.h>

typedef struct {
    char *text;
    gboolean
        quoted; /* some of it was quoted or escaped: never a bare option word and never the document mark */
} Word;

void word_free(Word *word);

/*
 * The words of @line (no newline in it), an array of Word that frees them; empty for a blank line or a
 * comment. A '#' that begins a word begins a comment. A quote or a backslash that is left open is EINVAL,
 * text that is not UTF-8 is EILSEQ: a command is complete at its newline, so a quote never spans lines.
 */
GPtrArray *lex_words(const char *line, GError **error);
