/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qmp_error.h"

#include <errno.h>
#include <string.h>

#include "error.h"
#include "process.h"

#define GENERIC "GenericError"

typedef struct {
    const char *words;
    int code;
} Meaning;

static const Meaning classes[] = {
    {"CommandNotFound", EOPNOTSUPP},
    {"KVMMissingCap", EOPNOTSUPP},
    {"DeviceNotFound", ENODEV},
    {"DeviceNotActive", ENODEV},
};

/* Anywhere in the text, the first that fits. */
static const Meaning texts[] = {
    {" is busy", EBUSY},
    {"cannot accept command verb", EAGAIN},
    {"Operation canceled", ECANCELED},
    {"already exists", EEXIST},
    {"already in use", EEXIST},
    {"uplicate node", EEXIST}, /* node-name=... */
    {"does not support", EOPNOTSUPP},
    {"not found", ENOENT},
    {"does not exist", ENOENT},
    {"Cannot find", ENOENT},
    {"No block device node", ENOENT},
    {"Failed to find", ENOENT},
    {"no console", ENOENT}, /* a machine without a display */
    {"no surface", ENOENT},
};

static int code_of(const char *class, const char *text)
{
    for (gsize i = 0; class && i < G_N_ELEMENTS(classes); i++)
        if (strcmp(class, classes[i].words) == 0)
            return classes[i].code;
    int code = process_errno_of(text);
    for (gsize i = 0; code == EIO && i < G_N_ELEMENTS(texts); i++)
        if (strstr(text, texts[i].words))
            code = texts[i].code;
    return code;
}

void qmp_set_error(GError **error, const char *what, const char *class, const char *text)
{
    gboolean plain = !class || strcmp(class, GENERIC) == 0;
    snap_set_error(error, code_of(class, text), "%s: %s%s%s%s", what, text, plain ? "" : " (",
                   plain ? "" : class, plain ? "" : ")");
}
