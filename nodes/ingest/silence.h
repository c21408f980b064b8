/* How long channels have been silent: without a claim, and without a part that makes the broadcast
 * longer. It is counted by this node's own monotonic clock, from when this node saw the sign of
 * life: append times are of other machines, whose clocks may differ, and a clock that jumps must
 * not end a broadcast (decision 0380). Time in which this node itself did not run is not silence.
 *
 * Ask in rounds: silence_round, then silence_ms of every live channel; those that were not asked
 * about are forgotten. A call is O(1) on average. Loop thread. */
#ifndef NODES_INGEST_SILENCE_H
#define NODES_INGEST_SILENCE_H

#include <stdint.h>

/* Rounds further apart than this: this node was asleep. */
#define SILENCE_ROUND_MS_MAX 5000

struct silence;

int silence_new(struct silence **ret_silence);
void silence_free(struct silence *s); /* NULL is allowed */
void silence_round(struct silence *s, uint64_t now_ns);
/* `epoch`: offset of its newest claim, `end_us`: end of its timeline. 0 at first, and when there is
 * no memory to remember it. */
uint64_t silence_ms(struct silence *s, const char *channel, int64_t epoch, int64_t end_us);

#endif
