/* The time that a leader stamps on what it appends. It is the wall clock's, never earlier than the
 * newest entry's: a log's time does not go back. When the wall clock is behind the log (the leader
 * of before had a clock that ran ahead, or this one's is late), the log's time goes on at half the
 * speed of the monotonic clock until the wall clock has caught up. If it stood still instead, all
 * that counts by it would too: bans and slow modes would not end, rates refuse everyone. One per
 * group. Pure: times are arguments. */
#ifndef CONSENSUS_APPEND_CLOCK_H
#define CONSENSUS_APPEND_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct append_clock {
    int64_t last_ms;    /* given out last */
    bool behind;        /* the wall clock is; since then: */
    int64_t anchor_ms;  /* the log's time */
    uint64_t anchor_ns; /* the monotonic one */
};

/* `newest_ms`: of the log's last entry, committed or not. Zeroes are a clock that has given out
 * nothing. */
int64_t append_clock_stamp(struct append_clock *c, int64_t wall_ms, uint64_t now_ns,
                           int64_t newest_ms);

#endif
