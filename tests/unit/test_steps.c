/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Steps in the journal: each kind there and back, and what is refused. (What they do: test_journal, test_crash.) */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "error.h"
#include "runner.h"
#include "step.h"

static Step *full_step(StepKind kind)
{
    Step *step = step_new(kind, 3, "vda", "/i/path \"quoted\" ü");
    step->like = g_strdup("/i/like");
    step->mode = 0640;
    step->format = FORMAT_QCOW2;
    step->size = 123456789012345;
    step->backing_name = g_strdup("./back");
    step->backing_format = FORMAT_RAW;
    step->source = g_strdup("/i/source");
    step->tag = g_strdup("tag\nof two lines");
    step->keep = g_strdup("keep");
    return step;
}

static const StepKind kinds[] = {STEP_OVERLAY, STEP_COPY_OUT, STEP_FREEZE, STEP_TAG, STEP_KEEP,
                                 STEP_APPLY,   STEP_DROP_TAG, STEP_PLACE,  STEP_THAW};

START_TEST(round_trip)
{
    g_autoptr(GError) error = NULL;
    Step *step = full_step(kinds[_i]);
    json_t *json = step_to_json(step);
    Step *back = step_from_json(json, &error);
    ck_assert_msg(back != NULL, "%s", error ? error->message : "?");
    ck_assert_int_eq(back->kind, step->kind);
    ck_assert_uint_eq(back->stage, 3);
    ck_assert_str_eq(back->disk, "vda");
    ck_assert_str_eq(back->path, step->path);
    ck_assert_pstr_eq(back->temp, step->temp);
    ck_assert_str_eq(back->like, "/i/like");
    ck_assert_uint_eq(back->mode, 0640);
    ck_assert_int_eq(back->format, FORMAT_QCOW2);
    ck_assert_uint_eq(back->size, 123456789012345);
    ck_assert_str_eq(back->backing_name, "./back");
    ck_assert_int_eq(back->backing_format, FORMAT_RAW);
    ck_assert_str_eq(back->source, "/i/source");
    ck_assert_str_eq(back->tag, "tag\nof two lines");
    ck_assert_str_eq(back->keep, "keep");
    json_t *again = step_to_json(back);
    ck_assert(json_equal(json, again));
    json_decref(json);
    json_decref(again);
    step_free(step);
    step_free(back);
}
END_TEST

/* What a step must say, by its kind, beyond what all must. */
static const char *const needed[][4] = {
    {"overlay", "temp", "like", NULL}, {"copy-out", "temp", "source", "tag"},
    {"tag", "tag", NULL, NULL},        {"keep", "tag", NULL, NULL},
    {"apply", "tag", "keep", NULL},    {"drop-tag", "tag", NULL, NULL}};

START_TEST(incomplete_steps)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        static const char *const always[] = {"kind", "stage", "disk", "path", "mode", "size", "format"};
        Step *step = full_step(kinds[i]);
        g_autoptr(GPtrArray) keys = g_ptr_array_new();
        json_t *json = step_to_json(step);
        for (gsize j = 0; j < G_N_ELEMENTS(always); j++)
            g_ptr_array_add(keys, (gpointer)always[j]);
        for (gsize j = 0; j < G_N_ELEMENTS(needed); j++)
            for (gsize k = 1;
                 strcmp(needed[j][0], json_string_value(json_object_get(json, "kind"))) == 0 && k < 4; k++)
                if (needed[j][k])
                    g_ptr_array_add(keys, (gpointer)needed[j][k]);
        for (guint j = 0; j < keys->len; j++) {
            g_autoptr(GError) error = NULL;
            json_t *less = json_copy(json);
            json_object_del(less, keys->pdata[j]);
            Step *back = step_from_json(less, &error);
            ck_assert_msg(back == NULL, "kind %zu without '%s' was taken", i, (char *)keys->pdata[j]);
            ck_assert_int_eq(error->code, EINVAL);
            json_decref(less);
        }
        json_decref(json);
        step_free(step);
    }
}
END_TEST

START_TEST(hostile_steps)
{
    static const char *const changes[][2] = {{"kind", "\"format-disk\""},
                                             {"kind", "5"},
                                             {"path", "\"etc/passwd\""},
                                             {"path", "null"},
                                             {"mode", "\"0\""},
                                             {"temp", "\"relative\""},
                                             {"size", "1.5"},
                                             {"tag", "[]"}};
    Step *step = full_step(STEP_COPY_OUT);
    for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autoptr(GError) error = NULL;
        json_t *json = step_to_json(step);
        json_object_set_new(json, changes[i][0], json_loads(changes[i][1], JSON_DECODE_ANY, NULL));
        Step *back = step_from_json(json, &error);
        ck_assert_msg(back == NULL, "%s: %s was taken", changes[i][0], changes[i][1]);
        ck_assert_int_eq(error->code, EINVAL);
        json_decref(json);
    }
    step_free(step);
}
END_TEST

/* Only an overlay is ever made on an export: no other step acts on anything but a path. */
START_TEST(remote_paths)
{
    static const char *const uris[] = {"nbd://h:10809/exp", "nbd+unix:///exp?socket=/s"};
    for (gsize i = 0; i < G_N_ELEMENTS(kinds) * G_N_ELEMENTS(uris); i++) {
        g_autoptr(GError) error = NULL;
        StepKind kind = kinds[i / G_N_ELEMENTS(uris)];
        Step *step = full_step(kind);
        g_free(step->path);
        step->path = g_strdup(uris[i % G_N_ELEMENTS(uris)]);
        json_t *json = step_to_json(step);
        Step *back = step_from_json(json, &error);
        ck_assert_int_eq(back != NULL, kind == STEP_PLACE);
        ck_assert(back || error->code == EINVAL);
        if (back)
            step_free(back);
        step_free(step);
        json_decref(json);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("steps");
    TCase *tcase = tcase_create("json");
    tcase_add_loop_test(tcase, round_trip, 0, G_N_ELEMENTS(kinds));
    tcase_add_test(tcase, incomplete_steps);
    tcase_add_test(tcase, hostile_steps);
    tcase_add_test(tcase, remote_paths);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return run_suite(suite());
}
