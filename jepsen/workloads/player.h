/* A player behind a list of edges, as the page's own (clients/web/src/loader.ts, decision 0081): it
 * asks one edge for everything, with blocking reloads; when that edge refuses, breaks the
 * connection or says nothing for EDGE_MS, or for what it does not know LAG_MS long, it asks the
 * next one for the same.
 *
 *   :play {:player 7, :channel 1} -> and :edge, :rendition, :broadcast, :msn, :part, :crc,
 * :session, :size, :buffer :large or :small, :stall-ms; :jump true: the part that it wanted had
 * left the playlists
 *
 * Stalls are counted as a viewer counts them. A player keeps a buffer: a large one of three target
 * durations, as a player does that knows nothing of low latency, or a small one of the playlist's
 * PART-HOLD-BACK. It begins so far behind the newest part; what the broadcast does not have yet, it
 * waits for. Then its clock runs: each part is due when the one before it has been shown for as
 * long as it lasts. A part that comes later than it is due has stalled the player by the
 * difference, which also makes all later ones due so much later. A player never has more than its
 * buffer in advance: more would be one that falls further and further behind the present, so it is
 * taken to have caught up. A broadcast that ends and another one that follows begin anew; the time
 * between is no stall of the player's (but ending it is an anomaly of the publisher's:
 * broadcast-changed). */
#ifndef JEPSEN_WORKLOADS_PLAYER_H
#define JEPSEN_WORKLOADS_PLAYER_H

#include "jepsen/workloads/stage.h"

struct player {
    struct stage *stage;
    struct process *p;
    struct stage_channel *channel;
    unsigned rendition, edge;
    bool large;           /* its buffer */
    bool waiting, asking; /* :play is open; a question is */
    uint32_t ahead_ms;    /* what there was of the broadcast when it began */
    char broadcast[17];   /* empty: it has not begun */
    struct hls_part next; /* what it wants; duration_ms: once a playlist has told */
    bool listed, jump;    /* `next` is in a playlist that it has seen; it is not what it wanted */
    bool guessed;         /* the list does not go back to `next`: maybe its segment has ended */
    bool reload;          /* it knows where it stands: blocking reloads */
    struct hls_playlist playlist;
    uint64_t due_ns; /* 0: nothing has been shown */
    uint64_t again_ns,
        lag_ns; /* asks again then; since when its edge does not know what it wants */
};

void player_next(struct player *pl);
void player_sweep(struct player *pl);
/* Ends what is open. */
void player_stop(struct player *pl);

#endif
