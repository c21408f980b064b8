/* Whether this node is cut off from the cluster, so that nothing of what an encoder sends here can
 * be stored: no majority of the nodes that have the log was heard for three seconds. Their brokers
 * answer twice a second, whoever leads what, and whatever the rest of their node is busy with.
 *
 * A leader that is replaced, a log without a leader, nodes whose processes have died (their
 * machines say so), a slow transcoder or disk is not being cut off: what an encoder sends is kept
 * (backlog.h) and stored later, which it would not be if the encoder went elsewhere. Of the three
 * seconds two are counted in looks: time in which this node itself did not run is not silence of
 * the others, for what came meanwhile is read before the next look (decision 0406). Pure. */
#ifndef NODES_INGEST_REACH_H
#define NODES_INGEST_REACH_H

#include <stdbool.h>
#include <stdint.h>

#define REACH_LOOK_MS 250

struct reach {
    unsigned silent; /* looks that found no majority, one after the other */
    bool cut_off;
};

/* Every REACH_LOOK_MS; `silent_ns` as of weir_client_silent_ns. True when cut_off has changed. */
bool reach_look(struct reach *r, uint64_t silent_ns);

#endif
