/* An election whose voters die before they have heard of it again.
 *
 *   a node that leads (for others it is the same with less at stake) is cut off; the rest elects.
 * One of them, the winner, hears late: its votes are on their way for half a second. In that time
 * nobody hears it any more, those who voted are killed and come back, and the first one is with
 * them again. They elect, for what they know, in the term they have voted in already: who has
 * forgotten that makes a second leader of it.
 *
 * When a leader falls silent the first in rank, of the lowest number, campaigns at once, and again
 * and again for some 0.3 s (consensus/failover.c): so it is the one that hears late, and what it
 * hears comes after that, or every campaign would end the one before. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "jepsen/nemesis/faults.h"

#define ELECTION_MS  500 /* raft.election_ms as it comes */
#define LATE_MIN_MS  430
#define LATE_MORE_MS 100
#define SPREAD       10 /* a tenth of it, so that there is a time at which to kill */

struct roles {
    unsigned old, late; /* indexes */
};

static bool votes(const struct nemesis_world *w, const struct roles *r, unsigned i)
{
    return i != r->old && i != r->late && w->hosts->at[i].member;
}

static struct roles draw_roles(struct nemesis_world *w)
{
    struct roles r = {0};
    while (!w->hosts->at[r.late].member) {
        r.late++;
    }
    do {
        r.old = (unsigned)nemesis_random(w, w->hosts->n);
    } while (r.old == r.late || !w->hosts->at[r.old].member);
    return r;
}

/* The old leader: the one that is to win hears it longest, so that nobody's log is longer. */
static int cut_off(struct nemesis_world *w, const struct roles *r, struct error *err)
{
    int rv = 0;
    for (unsigned i = 0; rv == 0 && i < w->hosts->n; i++) {
        rv = i != r->old && i != r->late ? net_cut_one_way(w, r->old, i, err) : 0;
    }
    rv = rv == 0 ? net_cut_one_way(w, r->old, r->late, err) : rv;
    for (unsigned i = 0; rv == 0 && i < w->hosts->n; i++) {
        rv = i != r->old ? net_cut_one_way(w, i, r->old, err) : 0;
    }
    return rv;
}

static int hear_late(struct nemesis_world *w, const struct roles *r, struct error *err)
{
    const struct host *host = &w->hosts->at[r->late];
    for (unsigned i = 0; i < w->hosts->n; i++) {
        if (votes(w, r, i) &&
            host_runf(w->hosts, host,
                      "iptables -w -A INPUT -s %s -j NFQUEUE --queue-num 0 --queue-bypass",
                      w->hosts->at[i].address) != 0) {
            return error_set(err, WEIR_EIO, "iptables fails on %s (see commands)", host->name);
        }
    }
    return 0;
}

/* The voters: first they hear no more of the winner, then they die. */
static int kill_voters(struct nemesis_world *w, const struct roles *r, struct error *err)
{
    int rv = 0;
    for (unsigned i = 0; rv == 0 && i < w->hosts->n; i++) {
        rv = votes(w, r, i) ? net_cut_one_way(w, r->late, i, err) : 0;
    }
    for (unsigned i = 0; i < w->hosts->n; i++) {
        if (votes(w, r, i)) {
            host_signal(&w->hosts->at[i], SIGKILL);
        }
    }
    return rv == 0 ? nemesis_start_all(w, err) : rv;
}

/* Between the old leader and the voters. */
static int join(struct nemesis_world *w, const struct roles *r, struct error *err)
{
    const struct host *old = &w->hosts->at[r->old];
    for (unsigned i = 0; i < w->hosts->n; i++) {
        const struct host *host = &w->hosts->at[i];
        if (votes(w, r, i) &&
            (host_runf(w->hosts, host, "iptables -w -D INPUT -s %s -j DROP", old->address) != 0 ||
             host_runf(w->hosts, old, "iptables -w -D INPUT -s %s -j DROP", host->address) != 0)) {
            return error_set(err, WEIR_EIO, "iptables fails on %s (see commands)", host->name);
        }
    }
    return 0;
}

int vote_forget(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    struct roles r = draw_roles(w);
    unsigned ms = LATE_MIN_MS + (unsigned)nemesis_random(w, LATE_MORE_MS);
    (void)snprintf(what, NEMESIS_WHAT_MAX, "{:old \"%s\" :late \"%s\" :ms %u}",
                   w->hosts->at[r.old].name, w->hosts->at[r.late].name, ms);
    int rv = host_delay_start(w->hosts, &w->hosts->at[r.late], ms, ms / SPREAD, err);
    rv = rv == 0 ? cut_off(w, &r, err) : rv;
    rv = rv == 0 ? hear_late(w, &r, err) : rv;
    if (rv == 0) {
        /* The pre-vote takes `ms`, the votes leave then and take as long. */
        hosts_pause_ms(ELECTION_MS + ms + ms / 4 + (unsigned)nemesis_random(w, ms / 3));
        rv = kill_voters(w, &r, err);
    }
    return rv == 0 ? join(w, &r, err) : rv;
}

int vote_end(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    int rv = net_heal(w, what, err);
    return rv == 0 ? nemesis_start_all(w, err) : rv;
}
