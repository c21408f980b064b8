/* nomem.h for tests in which one allocation fails. */
#ifndef TESTS_UNIT_NOMEM_COUNTDOWN_H
#define TESTS_UNIT_NOMEM_COUNTDOWN_H

#include "nomem.h"

static unsigned countdown; /* the allocation that fails, 1 the next one; 0: none */

static bool allocation_fails(void)
{
    return countdown > 0 && --countdown == 0;
}

#endif
