/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strays: what images hold and what snapshots say, compared (DESIGN 3). A snapshot whose tag is not in its image, or is
 * there twice; a tag that no snapshot names, or of a deleted snapshot that could not be dropped yet; an image whose tags
 * cannot be read. All of it is said in tree and log, and none of it makes a domain read-only: only what needs the tag fails.
 *
 * Looking opens images; what was seen stands in layer->tags, and telling is from memory. A frozen image cannot change, so
 * what was seen when it was frozen is kept in the store, and a domain of thousands of layers opens a few at the start.
 */
#pragma once

#include "backend.h"
#include "model.h"

typedef enum {
    STRAY_LOST,       /* no tag that a snapshot names */
    STRAY_TWICE,      /* several of them */
    STRAY_UNREADABLE, /* an image whose tags cannot be read */
    STRAY_OWED,       /* of a deleted snapshot: it goes when it can */
    STRAY_UNNAMED,    /* a tag that no snapshot of the domain names */
    STRAY_KINDS
} StrayKind;

/* Of one kind as many are told, then how many more there are: images may hold thousands. */
#define STRAYS_TOLD 40

/*
 * Look at the layers of @domain whose tags may be others than is known: those that are not frozen and are active or hold
 * internal states, and those of which nothing is known.
 */
void strays_look(Backend *backend, Domain *domain);

/* Look at one layer, whatever is known of it. */
void strays_look_layer(Backend *backend, Layer *layer);

/*
 * One line (char *) for each stray of @domain that @before (NULL: nothing), an earlier copy of it, did not have; in the
 * order of snapshots and paths. Caller unrefs.
 */
GPtrArray *strays_tell(const Domain *domain, const Domain *before);

/* Each stray of @domain, however many: @layer where it is, @tag the name of an OWED or UNNAMED one, else NULL. */
typedef void (*StrayTell)(gpointer user, StrayKind kind, const Layer *layer, const char *tag,
                          const char *line);
void strays_each(const Domain *domain, StrayTell tell, gpointer user);
