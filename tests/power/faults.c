/* Which faults of base/fault.h are on in build/weir_faults: WEIR_FAULTS=no_fsync,ack_early */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"

__attribute__((constructor)) static void begin(void)
{
    static const char *const names[] = {
#define X(id, name, text) name,
        FAULT_MAP(X)
#undef X
    };
    const char *wanted = getenv("WEIR_FAULTS");
    for (unsigned i = 0; wanted != NULL && i < FAULT_COUNT; i++) {
        const char *at = strstr(wanted, names[i]);
        size_t n = strlen(names[i]);
        if (at != NULL && (at == wanted || at[-1] == ',') && (at[n] == '\0' || at[n] == ',')) {
            faults_on |= 1u << i;
            (void)fprintf(stderr, "fault on: %s\n", names[i]);
        }
    }
}
