/* A publisher: claims a channel from one node or another, goes away in one way or another, comes
 * back.
 *
 *   :publish {:channel 0, :publisher 7, :node "n2", :session 12, :expect :same}
 *     -> and :broadcast "63f5.." as that node tells it; :expect :same: nobody has ended the
 * broadcast, and it was seen a short time ago, so it has to go on; :any: whatever comes is right
 *   :unpublish {:channel 0, :publisher 7, :session 12, :how :ended}
 *     -> :ended: it took leave; :dropped: its line broke; :cut-off: the node broke it, because
 * another publisher has the channel, or died
 *   :zombie {:channel 0, :publisher 7, :session 12}
 *     its process was stopped for the time, and goes on as if nothing had been */
#ifndef JEPSEN_WORKLOADS_PUBLISHER_H
#define JEPSEN_WORKLOADS_PUBLISHER_H

#include "jepsen/workloads/stage.h"

enum publisher_state {
    PUBLISHER_AWAY,
    PUBLISHER_DIALLING, /* :publish is open */
    PUBLISHER_ASKING,   /* which broadcast is it? */
    PUBLISHER_LIVE,
    PUBLISHER_STOPPED, /* :zombie is open */
    PUBLISHER_LEAVING  /* :unpublish is open */
};

struct publisher {
    struct stage *stage;
    struct process *p;
    struct stage_channel *channel;
    struct encoder encoder;
    enum publisher_state state;
    bool hold;
    uint32_t reconnect_ms;
    unsigned node, session, ends; /* ends: the channel's, when it dialled */
    uint64_t deadline_ns;         /* of what it is at; LIVE: when it goes */
    uint64_t live_ns;             /* since when it is live */
    bool same, proper;
    char broadcast[20];
};

void publisher_next(struct publisher *pub);
void publisher_sweep(struct publisher *pub);
/* Begins to publish at a node, now. It has to be AWAY. */
void publisher_dial(struct publisher *pub, unsigned node);
/* Begins to leave, now; `proper`: with a farewell. It has to be LIVE. */
void publisher_leave(struct publisher *pub, bool proper);

#endif
