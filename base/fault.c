#include "base/fault.h"

#ifdef WEIR_FAULTS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARDS 0x7fffeu /* 1 to 18: those of libraft */

uint32_t faults_on, faults_guards_off;

static bool switch_guards(const char *name)
{
    char *end;
    if (strcmp(name, "guards") == 0) {
        faults_guards_off = GUARDS;
        return true;
    }
    if (strncmp(name, "guard_", 6) != 0) {
        return false;
    }
    unsigned long number = strtoul(name + 6, &end, 10);
    faults_guards_off |= 1u << (number & 31);
    return *end == '\0' && end != name + 6 && number < 32;
}

static bool switch_one(const char *name)
{
    static const char *const names[] = {
#define X(id, name, text) name,
        FAULT_MAP(X)
#undef X
    };
    for (unsigned i = 0; i < FAULT_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            faults_on |= 1u << i;
            return true;
        }
    }
    return switch_guards(name);
}

bool faults_begin(void)
{
    const char *wanted = getenv("WEIR_FAULTS");
    char text[256], *rest = text;
    if (wanted == NULL || wanted[0] == '\0') {
        return true;
    }
    (void)snprintf(text, sizeof(text), "%s", wanted);
    for (char *name = strsep(&rest, ","); name != NULL; name = strsep(&rest, ",")) {
        if (!switch_one(name)) {
            (void)fprintf(stderr, "WEIR_FAULTS: there is no fault %s\n", name);
            return false;
        }
        (void)fprintf(stderr, "FAULT ON: %s. This program breaks its promises.\n", name);
    }
    return true;
}
#endif
