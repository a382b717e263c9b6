/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The snapshot tree as text, in the manner of virsh snapshot-list --tree, with the present state as a leaf. */
#include "model.h"
#include "names.h"
#include "strays.h"

/* Deeper levels are no longer indented but numbered: the text of a chain of thousands stays readable, and linear. */
#define MAX_INDENT 32

#define YOU_ARE_HERE "(you are here)"

typedef struct {
    const Snapshot *snapshot; /* NULL: the present state */
    char *prefix;             /* what stands before its children's branches */
    guint depth;
    gboolean last;
} Line;

static void line_clear(gpointer line)
{
    g_free(((Line *)line)->prefix);
}

/* Push the children of a line so that the first comes off the stack first. */
static void push_children(const Domain *domain, GHashTable *children, GArray *stack, const Snapshot *parent,
                          const char *prefix, guint depth)
{
    GPtrArray *list = g_hash_table_lookup(children, parent);
    gboolean here = domain->current == parent;
    if (here) {
        Line line = {.prefix = g_strdup(prefix), .depth = depth, .last = TRUE};
        g_array_append_val(stack, line);
    }
    for (guint i = list ? list->len : 0; i > 0; i--) {
        Line line = {.snapshot = list->pdata[i - 1],
                     .prefix = g_strdup(prefix),
                     .depth = depth,
                     .last = i == list->len && !here};
        g_array_append_val(stack, line);
    }
}

static void draw_line(GString *out, const Line *line)
{
    g_autofree char *name =
        line->snapshot ? name_to_entry(line->snapshot->name, NAME_SNAPSHOT) : g_strdup(YOU_ARE_HERE);
    if (line->depth > MAX_INDENT)
        g_string_append_printf(out, "%s+- [%u] %s\n", line->prefix, line->depth, name);
    else if (line->depth > 0)
        g_string_append_printf(out, "%s+- %s\n", line->prefix, name);
    else
        g_string_append_printf(out, "%s\n", name);
}

static GHashTable *index_children(const Domain *domain)
{
    GHashTable *children = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)g_ptr_array_unref);
    for (guint i = 0; i < domain->snapshots->len; i++) {
        Snapshot *snapshot = domain->snapshots->pdata[i];
        GPtrArray *list = g_hash_table_lookup(children, snapshot->parent);
        if (!list) {
            list = g_ptr_array_new();
            g_hash_table_insert(children, snapshot->parent, list);
        }
        g_ptr_array_add(list, snapshot);
    }
    return children;
}

/* A loop instead of recursion: a chain may be thousands deep. */
static void draw_snapshots(const Domain *domain, GString *out)
{
    g_autoptr(GHashTable) children = index_children(domain);
    g_autoptr(GArray) stack = g_array_new(FALSE, FALSE, sizeof(Line));
    g_array_set_clear_func(stack, NULL);

    push_children(domain, children, stack, NULL, "", 0);
    while (stack->len > 0) {
        Line line = g_array_index(stack, Line, stack->len - 1);
        g_array_set_size(stack, stack->len - 1);
        draw_line(out, &line);
        if (line.snapshot) {
            g_autofree char *prefix = line.depth >= MAX_INDENT ? g_strdup(line.prefix)
                                                               : g_strconcat(line.prefix,
                                                                             line.depth == 0 ? "  "
                                                                             : line.last     ? "    "
                                                                                             : "|   ",
                                                                             NULL);
            push_children(domain, children, stack, line.snapshot, prefix, line.depth + 1);
        }
        line_clear(&line);
    }
}

/* Below the tree: images that are not there, and what in the others does not fit. */
static void draw_trouble(const Domain *domain, GString *out)
{
    g_autoptr(GPtrArray) missing = domain_missing_images(domain);
    g_autoptr(GPtrArray) strays = strays_tell(domain, NULL);
    if (missing->len + strays->len > 0)
        g_string_append_c(out, '\n');
    for (guint i = 0; i < MIN(missing->len, STRAYS_TOLD); i++)
        g_string_append_printf(out, "missing: %s\n", (const char *)missing->pdata[i]);
    if (missing->len > STRAYS_TOLD)
        g_string_append_printf(out, "missing: %u more\n", missing->len - STRAYS_TOLD);
    for (guint i = 0; i < strays->len; i++)
        g_string_append_printf(out, "%s\n", (const char *)strays->pdata[i]);
}

/* What a revert threw away can come back. */
static void draw_undo(const Domain *domain, GString *out)
{
    const Snapshot *undo = domain->undo;
    if (!undo)
        return;
    g_autofree char *name = undo->parent ? name_to_entry(undo->parent->name, NAME_SNAPSHOT) : NULL;
    g_string_append(out, "\nkept: what the last revert threw away");
    if (name)
        g_string_append_printf(out, ", on %s", name);
    g_string_append(out, " (revert --undo)\n");
}

char *tree_draw(const Domain *domain)
{
    GString *out = g_string_new(NULL);
    draw_snapshots(domain, out);
    draw_undo(domain, out);
    if (domain->broken || domain->held)
        g_string_append_printf(out, "\nread-only: %s\n", domain->broken ? domain->broken : domain->held);
    draw_trouble(domain, out);
    return g_string_free(out, FALSE);
}
