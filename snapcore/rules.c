/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "rules.h"

#include <errno.h>

#include "error.h"

#define OMIT (1u << ASK_OMIT)
#define NO (1u << ASK_NO)
#define INT (1u << ASK_INTERNAL)
#define EXT (1u << ASK_EXTERNAL)
#define ANY (OMIT | NO | INT | EXT)
#define OFF 1u
#define ON 2u
#define BOTH (OFF | ON)

#define NOTHING "nothing to snapshot"
#define NO_MEMORY "no memory to save: the domain is off"
#define ONLY_OR_MEMORY "disk-only and memory exclude each other"

static const Rule table[RULES_ROWS] = {
    /* online, memory, disks, disk-only | memory, disks, means, why refused */
    {FALSE, OMIT, OMIT, BOTH, MODE_NO, MODE_INTERNAL, MEANS_QEMU_IMG, NULL},
    {FALSE, NO, OMIT, BOTH, MODE_NO, MODE_INTERNAL, MEANS_QEMU_IMG, NULL},
    {FALSE, OMIT | NO, NO, BOTH, MODE_NO, MODE_NO, MEANS_REFUSED, NOTHING},
    {FALSE, OMIT | NO, INT, BOTH, MODE_NO, MODE_INTERNAL, MEANS_QEMU_IMG, NULL},
    {FALSE, OMIT | NO, EXT, BOTH, MODE_NO, MODE_EXTERNAL, MEANS_QEMU_IMG, NULL},
    {FALSE, INT | EXT, ANY, BOTH, MODE_NO, MODE_NO, MEANS_REFUSED, NO_MEMORY},

    {TRUE, OMIT, OMIT, OFF, MODE_INTERNAL, MODE_INTERNAL, MEANS_SAVE, NULL},
    {TRUE, OMIT, OMIT, ON, MODE_NO, MODE_DEFAULT, MEANS_TRANSACTION, NULL},
    {TRUE, OMIT, NO | EXT, OFF, MODE_EXTERNAL, MODE_DEFAULT, MEANS_MIGRATE_TRANSACTION, NULL},
    {TRUE, OMIT, NO, ON, MODE_NO, MODE_NO, MEANS_REFUSED, NOTHING},
    {TRUE, OMIT, EXT, ON, MODE_NO, MODE_EXTERNAL, MEANS_TRANSACTION, NULL},
    {TRUE, OMIT, INT, OFF, MODE_INTERNAL, MODE_INTERNAL, MEANS_SAVE, NULL},
    {TRUE, OMIT, INT, ON, MODE_NO, MODE_INTERNAL, MEANS_INTERNAL_TRANSACTION, NULL},
    {TRUE, NO, OMIT, BOTH, MODE_NO, MODE_DEFAULT, MEANS_TRANSACTION, NULL},
    {TRUE, NO, NO, BOTH, MODE_NO, MODE_NO, MEANS_REFUSED, NOTHING},
    {TRUE, NO, INT, BOTH, MODE_NO, MODE_INTERNAL, MEANS_INTERNAL_TRANSACTION, NULL},
    {TRUE, NO, EXT, BOTH, MODE_NO, MODE_EXTERNAL, MEANS_TRANSACTION, NULL},
    {TRUE, INT | EXT, ANY, ON, MODE_NO, MODE_NO, MEANS_REFUSED, ONLY_OR_MEMORY},
    {TRUE, INT, OMIT, OFF, MODE_INTERNAL, MODE_INTERNAL, MEANS_SAVE, NULL},
    {TRUE, INT, NO | EXT, OFF, MODE_INTERNAL, MODE_DEFAULT, MEANS_SAVE_OWN, NULL},
    {TRUE, INT, INT, OFF, MODE_INTERNAL, MODE_INTERNAL, MEANS_SAVE, NULL},
    {TRUE, EXT, OMIT, OFF, MODE_EXTERNAL, MODE_DEFAULT, MEANS_MIGRATE_TRANSACTION, NULL},
    {TRUE, EXT, NO, OFF, MODE_EXTERNAL, MODE_NO, MEANS_MIGRATE, NULL},
    {TRUE, EXT, INT, OFF, MODE_EXTERNAL, MODE_INTERNAL, MEANS_MIGRATE_TRANSACTION, NULL},
    {TRUE, EXT, EXT, OFF, MODE_EXTERNAL, MODE_EXTERNAL, MEANS_MIGRATE_TRANSACTION, NULL},
};

static const char *const means_text[] = {
    [MEANS_REFUSED] = "refused",
    [MEANS_QEMU_IMG] = "qemu-img",
    [MEANS_SAVE] = "savevm",
    [MEANS_SAVE_OWN] = "savevm into a file of its own + transaction",
    [MEANS_TRANSACTION] = "transaction",
    [MEANS_INTERNAL_TRANSACTION] = "transaction of internal snapshots",
    [MEANS_MIGRATE] = "migrate",
    [MEANS_MIGRATE_TRANSACTION] = "migrate+transaction",
};

const Rule *rules_row(guint index)
{
    g_return_val_if_fail(index < RULES_ROWS, NULL);
    return &table[index];
}

const Rule *rules_find(gboolean online, RuleAsk memory, RuleAsk disks, gboolean disk_only)
{
    for (guint i = 0; i < RULES_ROWS; i++) {
        const Rule *rule = &table[i];
        if (rule->online == !!online && (rule->memory & 1u << memory) && (rule->disks & 1u << disks) &&
            (rule->disk_only & (disk_only ? ON : OFF)))
            return rule;
    }
    g_assert_not_reached(); /* the test of all 64 cells holds this */
}

gboolean rules_check(gboolean online, RuleAsk memory, RuleAsk disks, gboolean disk_only,
                     const Rule **ret_rule, GError **error)
{
    const Rule *rule = rules_find(online, memory, disks, disk_only);
    if (rule->means == MEANS_REFUSED) {
        snap_set_error(error, EOPNOTSUPP, "%s", rule->refusal);
        return FALSE;
    }
    *ret_rule = rule;
    return TRUE;
}

static void print_asks(GString *out, guint set, int width)
{
    static const char *const words[] = {"omit", "no", "int", "ext"};
    g_autoptr(GString) text = g_string_new(set == ANY ? "any" : NULL);
    for (guint i = 0; set != ANY && i < G_N_ELEMENTS(words); i++)
        if (set & 1u << i)
            g_string_append_printf(text, "%s%s", text->len ? "/" : "", words[i]);
    g_string_append_printf(out, "%-*s ", width, text->str);
}

static const char *mode_word(SnapMode mode)
{
    switch (mode) {
    case MODE_INTERNAL:
        return "int";
    case MODE_EXTERNAL:
        return "ext";
    case MODE_DEFAULT:
        return "default";
    default:
        return "no";
    }
}

char *rules_print(void)
{
    GString *out = g_string_new("domain   memory   disk     disk-only | result\n"
                                "-----------------------------------------\n");
    for (guint i = 0; i < RULES_ROWS; i++) {
        const Rule *rule = &table[i];
        g_string_append_printf(out, "%-8s ", rule->online ? "online" : "offline");
        print_asks(out, rule->memory, 8);
        print_asks(out, rule->disks, 8);
        g_string_append_printf(out, "%-9s | ",
                               rule->disk_only == BOTH ? "any"
                               : rule->disk_only == ON ? "on"
                                                       : "off");
        if (rule->means == MEANS_REFUSED)
            g_string_append_printf(out, "invalid combination (%s)\n", rule->refusal);
        else
            g_string_append_printf(out, "memory=%s disk=%s, via %s\n", mode_word(rule->ret_memory),
                                   mode_word(rule->ret_disks), means_text[rule->means]);
    }
    g_string_append(
        out,
        "\n"
        "disk omitted on a domain that is off: internal where every participating disk can, external\n"
        "otherwise; snapshot= of the domain's disk and, for mkdir, -o snapshot= decide first. disk-only\n"
        "on and some disk named, none of them internal: those not named are external. Memory omitted\n"
        "on a machine that runs goes the way its disks go.\n");
    return g_string_free(out, FALSE);
}
