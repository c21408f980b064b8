/* What the checkers have in common. Each reads a whole history and reports what it may not have.
 * None knows anything of the servers: only the history counts. */
#ifndef JEPSEN_CHECK_CHECK_H
#define JEPSEN_CHECK_CHECK_H

#include "jepsen/check/report.h"
#include "jepsen/history/ops.h"

struct checker {
    const char *name;
    const char *about;
    void (*check)(const struct ops *ops, struct report *r);
};

/* kafka.c: sends and polls of a log (jepsen.tests.kafka's anomalies). */
void check_kafka(const struct ops *ops, struct report *r);
/* linear.c: registers, each key by itself (Wing and Gong 1993; Lowe 2017). */
void check_linear(const struct ops *ops, struct report *r);
/* bank.c: transfers between accounts. */
void check_bank(const struct ops *ops, struct report *r);
/* ledger.c: bookings with idempotency keys, double entry. */
void check_ledger(const struct ops *ops, struct report *r);
/* set.c: elements that were added, and reads of all (jepsen.checker/set-full). */
void check_set(const struct ops *ops, struct report *r);
/* chat.c: rooms, as gateways show them. */
void check_chat(const struct ops *ops, struct report *r);
/* lifecycle.c: broadcasts, sessions and playlists, as edges show them; stalls of players. */
void check_lifecycle(const struct ops *ops, struct report *r);
/* stats.c: of every history: what succeeded, how long nothing did, how soon it was well after a
 * fault. */
void check_stats(const struct ops *ops, struct report *r);

#endif
