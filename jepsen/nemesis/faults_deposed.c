/* A leader that was replaced and does not know it, for as long as can be.
 *
 *   a node stands still, as a machine does that is moved or swaps, and is cut off in that time.
 * When it goes on, others lead what it led; it has heard nothing of that, and its followers were
 * there until a moment ago by its own clock. So it leads on, for itself, until it has missed them
 * for an election's time. Clients that reach no other node (jepsen/workloads/near.h) believe it.
 *
 * Neither half does that: a node that is only cut off gives up at about the time at which the
 * others elect, one that is only stopped hears of them at once. */
#include <signal.h>
#include <stdio.h>

#include "jepsen/nemesis/faults.h"

/* Longer than an election takes (raft.election_ms is 500 as it comes, and up to twice as much is
 * waited), shorter than clients wait for a silent node (clients/log/link.c: 3 s). */
#define STILL_MIN_MS  1800
#define STILL_MORE_MS 600
#define ALONE_MS      700 /* until it surely knows */

int node_depose(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    nemesis_choose(w, 1, what);
    node_signal_hit(w, SIGSTOP);
    int rv = net_cut_hit(w, err);
    if (rv == 0) {
        hosts_pause_ms(STILL_MIN_MS + (unsigned)nemesis_random(w, STILL_MORE_MS));
    }
    node_signal_hit(w, SIGCONT);
    hosts_pause_ms(ALONE_MS);
    return rv;
}
