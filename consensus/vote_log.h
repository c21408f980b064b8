/* Terms and votes of all groups of a node (of a loop), in one small log (guard 12): what all groups
 * changed in a turn, or while a write was on its way, is one write and one fdatasync, off the loop.
 *
 * A group that has changed its term or vote may say nothing to anybody until the change is durable:
 * it holds back what it sends and what it completes (consensus/gate.c). Promises that a crash takes
 * back have then never been heard.
 *
 * Two files, votes.0 and votes.1, of a fixed, reserved size. Blocks (consensus/vote_block.h) are
 * appended to one; when it is full, and at every opening, a block with all groups begins the other,
 * with the next generation, and once that is durable the old file's first block is wiped. Blocks
 * stand in two copies: one flipped bit harms nothing. A missing block, a short file, a file that is
 * gone: damage. Then nobody knows which promises are missing, and all groups are told so
 * (VOTES_LOST); what is known is a lower bound. A write that did not end before a crash is at the
 * end and may be there or not: nobody has heard of it.
 *
 * Loop thread only. A failed write or sync fails the log for good: every group that waits, and
 * every later change, is told. */
#ifndef CONSENSUS_VOTE_LOG_H
#define CONSENSUS_VOTE_LOG_H

#include "base/env.h"

struct vote_log;

/* Reads what is in `dir` (made when absent) and begins a new generation, synchronously. Errors name
 * the file. Damage is no error. */
int vote_log_open(struct env *env, const char *dir, struct vote_log **ret_log, struct error *err);
/* All groups are detached. Waits for a write on its way. NULL is allowed. */
void vote_log_close(struct vote_log *log);

enum vote_state {
    VOTES_NONE,  /* nothing was ever written for this group */
    VOTES_KNOWN, /* term and vote are what was promised */
    VOTES_LOST,  /* the log was damaged: term (and vote in it) at least */
};

/* A group's place in the log; embedded in the group. */
struct vote_slot {
    void *data; /* the caller's */
    /* The newest change is durable (0), or never will be. On the loop. */
    void (*cb)(struct vote_slot *slot, int status);
    uint64_t term, vote; /* newest, perhaps not durable */
    struct vote_log *log;
    void *entry;
};
/* cb and data are set. One slot a group. WEIR_ENOMEM. */
int vote_log_attach(struct vote_log *log, uint32_t group_id, struct vote_slot *slot,
                    enum vote_state *ret_state);
/* No callback after this; a change on its way goes on. */
void vote_log_detach(struct vote_slot *slot);
/* Changes term and vote, at the end of this turn. Never fails now. */
void vote_log_put(struct vote_slot *slot, uint64_t term, uint64_t vote);
bool vote_log_settled(const struct vote_slot *slot); /* nothing waits for the disk */

/* Guard 14: how long the disk has owed an answer, nanoseconds; 0: it owes none. With `probe` a
 * block at the end of the file, that nobody reads, is overwritten when the disk has not been asked
 * for a while: an idle disk that is stuck is noticed as well. */
uint64_t vote_log_waits_ns(const struct vote_log *log);
void vote_log_probe(struct vote_log *log);
/* Another file of the same disk was synced just now: no need to probe for a while. */
void vote_log_answered(struct vote_log *log);
/* When that was last; 0: never. */
uint64_t vote_log_answered_ns(const struct vote_log *log);

#endif
