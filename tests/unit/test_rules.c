/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The combination table against its reference: 25 rows, each of 64 cells covered once, and what each gives. */
#include <errno.h>

#include "error.h"
#include "reference_table.h"
#include "runner.h"

START_TEST(the_reference_is_whole)
{
    ck_assert_int_eq(G_N_ELEMENTS(reference_rows), 25);
    ck_assert_int_eq(RULES_ROWS, 25);
    for (int i = 0; i < CELLS; i++)
        ck_assert_int_ge(reference_row(cell_at(i)), 0);
}
END_TEST

static gboolean rule_covers(const Rule *rule, Cell cell)
{
    return rule->online == !!cell.online && (rule->memory & 1u << cell.memory) &&
           (rule->disks & 1u << cell.disks) && (rule->disk_only & (cell.disk_only ? 2u : 1u));
}

START_TEST(each_cell_has_one_row)
{
    Cell cell = cell_at(_i);
    int covered = -1;
    for (guint i = 0; i < RULES_ROWS; i++) {
        if (!rule_covers(rules_row(i), cell))
            continue;
        ck_assert_int_eq(covered, -1);
        covered = (int)i;
    }
    ck_assert_int_eq(covered, reference_row(cell));
    ck_assert_ptr_eq(rules_find(cell.online, cell.memory, cell.disks, cell.disk_only),
                     rules_row((guint)covered));
}
END_TEST

static SnapMode mode_of(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    ck_assert_ptr_nonnull(at);
    at += strlen(key);
    return g_str_has_prefix(at, "no")        ? MODE_NO
           : g_str_has_prefix(at, "int")     ? MODE_INTERNAL
           : g_str_has_prefix(at, "ext")     ? MODE_EXTERNAL
           : g_str_has_prefix(at, "default") ? MODE_DEFAULT
                                             : MODE_MANUAL;
}

static RuleMeans means_of(const char *text)
{
    const char *via = strstr(text, "via ");
    ck_assert_ptr_nonnull(via);
    return strcmp(via, "via qemu-img") == 0             ? MEANS_QEMU_IMG
           : strcmp(via, "via savevm") == 0             ? MEANS_SAVE
           : strcmp(via, "via transaction") == 0        ? MEANS_TRANSACTION
           : strcmp(via, "via migrate") == 0            ? MEANS_MIGRATE
           : g_str_has_prefix(via, "via migrate+trans") ? MEANS_MIGRATE_TRANSACTION
                                                        : MEANS_REFUSED;
}

/* Rows that the reference leaves for later: DESIGN 6 says what they are here. By index, in the table's order. */
static const struct {
    int row;
    SnapMode memory, disks;
    RuleMeans means;
} later[] = {
    /* memory omitted goes the way of the disks: disks external or none, memory external */
    {8, MODE_EXTERNAL, MODE_DEFAULT, MEANS_MIGRATE_TRANSACTION},
    /* internal disks without memory: blockdev-snapshot-internal-sync in a transaction */
    {12, MODE_NO, MODE_INTERNAL, MEANS_INTERNAL_TRANSACTION},
    {15, MODE_NO, MODE_INTERNAL, MEANS_INTERNAL_TRANSACTION},
    /* memory internal where no disk can hold it: a qcow2 of its own */
    {19, MODE_INTERNAL, MODE_DEFAULT, MEANS_SAVE_OWN},
    {23, MODE_EXTERNAL, MODE_INTERNAL, MEANS_MIGRATE_TRANSACTION},
};

START_TEST(each_row_gives_what_the_reference_says)
{
    const Rule *rule = rules_row((guint)_i);
    const char *result = row_result(reference_rows[_i]);
    for (gsize i = 0; i < G_N_ELEMENTS(later); i++) {
        if (later[i].row != _i)
            continue;
        ck_assert_str_eq(result, "unsupported for now");
        ck_assert_int_eq(rule->ret_memory, later[i].memory);
        ck_assert_int_eq(rule->ret_disks, later[i].disks);
        ck_assert_int_eq(rule->means, later[i].means);
        ck_assert_ptr_null(rule->refusal);
        return;
    }
    ck_assert_str_ne(result, "unsupported for now");
    if (g_str_has_prefix(result, "invalid combination")) {
        ck_assert_int_eq(rule->means, MEANS_REFUSED);
        ck_assert_ptr_nonnull(rule->refusal);
        return;
    }
    ck_assert_int_eq(rule->ret_memory, mode_of(result, "memory="));
    ck_assert_int_eq(rule->ret_disks, mode_of(result, "disk="));
    ck_assert_int_eq(rule->means, means_of(result));
    ck_assert_ptr_null(rule->refusal);
}
END_TEST

static const struct {
    const char *reference;
    const char *ours;
} refusals[] = {{"(nothing to snapshot)", "nothing to snapshot"},
                {"(no memory to save)", "no memory to save"},
                {"(disk-only vs. memory)", "disk-only and memory"}};

START_TEST(what_is_asked_is_answered)
{
    Cell cell = cell_at(_i);
    g_autoptr(GError) error = NULL;
    const Rule *rule = NULL;
    const char *result = row_result(reference_rows[reference_row(cell)]);
    gboolean ok = rules_check(cell.online, cell.memory, cell.disks, cell.disk_only, &rule, &error);
    if (g_str_has_prefix(result, "invalid")) {
        gboolean said = FALSE;
        ck_assert(!ok && rule == NULL);
        ck_assert_int_eq(error->code, EOPNOTSUPP);
        for (gsize i = 0; i < G_N_ELEMENTS(refusals); i++)
            said |= strstr(result, refusals[i].reference) && strstr(error->message, refusals[i].ours);
        ck_assert_msg(said, "'%s' for '%s'", error->message, result);
    } else {
        ck_assert(ok);
        ck_assert_ptr_eq(rule, rules_find(cell.online, cell.memory, cell.disks, cell.disk_only));
    }
}
END_TEST

START_TEST(printed_in_order)
{
    g_autofree char *text = rules_print();
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GRegex) blanks = g_regex_new(" +", 0, 0, NULL);
    ck_assert_uint_ge(g_strv_length(lines), 27);
    ck_assert_str_eq(lines[0], "domain   memory   disk     disk-only | result");
    for (guint i = 0; i < RULES_ROWS; i++) {
        g_autofree char *line = g_regex_replace_literal(blanks, lines[2 + i], -1, 0, " ", 0, NULL);
        const char *result = row_result(reference_rows[i]);
        gsize head = (gsize)(strchr(reference_rows[i], '|') - reference_rows[i]);
        ck_assert_msg(strncmp(line, reference_rows[i], head) == 0, "row %u: %s", i, line);
        if (g_str_has_prefix(result, "memory="))
            ck_assert_msg(g_str_has_prefix(row_result(line), result), "row %u: %s", i, line);
        else if (g_str_has_prefix(result, "invalid"))
            ck_assert_msg(g_str_has_prefix(row_result(line), "invalid combination ("), "row %u: %s", i, line);
        else
            ck_assert_msg(g_str_has_prefix(row_result(line), "memory="), "row %u: %s", i, line);
    }
    /* nothing after the table looks like one more row */
    for (guint i = 2 + RULES_ROWS; lines[i]; i++)
        ck_assert_msg(!strchr(lines[i], '|'), "%s", lines[i]);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("rules");
    TCase *tcase = tcase_create("table");
    tcase_add_test(tcase, the_reference_is_whole);
    tcase_add_loop_test(tcase, each_cell_has_one_row, 0, CELLS);
    tcase_add_loop_test(tcase, each_row_gives_what_the_reference_says, 0, RULES_ROWS);
    tcase_add_loop_test(tcase, what_is_asked_is_answered, 0, CELLS);
    tcase_add_test(tcase, printed_in_order);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
