/* A harness's partition with a few segments, to be damaged, and its model to mend it from. */
#ifndef TESTS_UNIT_LOG_DAMAGE_H
#define TESTS_UNIT_LOG_DAMAGE_H

#include "harness.h"
#include "log/damage.h"

/* A partition with a few segments, closed in order or killed; h is begun anew. */
struct fault_image *damage_image(struct harness *h, bool clean);
/* The newest segment's path. */
const char *damage_last_segment(struct harness *h);
/* The path of the n-th segment, from 0; NULL. */
const char *damage_segment(struct harness *h, unsigned n);
/* Puts back `batch` entries of the first hole; what partition_mend says. 1: no hole. */
int damage_mend_some(struct harness *h, unsigned batch, struct error *err);
/* Reads and mends until all can be read and is as in the model. Returns how many holes it met. */
unsigned damage_mend_all(struct harness *h, unsigned batch);
/* Opens, and checks what must hold of any damage: the log is as long as it was, or says that its
 * promises are lost; it can be mended from the model; a second opening finds no more. */
void damage_survives(struct harness *h, unsigned batch, const char *what, size_t at);

#endif
