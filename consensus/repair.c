/* Mending a replica's log from the others ("Protocol-Aware Recovery for Consensus-Based Storage",
 * FAST '18). See docs/decisions/0130 and log/damage.h.
 *
 * A damaged replica knows its last index and term, so its promises stand: it votes and
 * acknowledges. It neither campaigns nor leads for long before it is mended: it asks every replica
 * it knows in turn, a piece a tick. If a hole is in what libraft has to load, libraft waits.
 *
 * Whose entries are taken? By Raft's log matching, two logs that have an entry of the same index
 * and term have the same entries before it. So an answer is good if its sender has the entry that
 * stands behind our hole (the anchor), whatever either of us knows of commits; two damaged replicas
 * mend each other without a leader. Without that, an entry is good when both sides know it
 * committed. If the other side has committed another entry at the anchor, then what stands behind
 * our hole is of a leader that failed, and nothing says what the hole held: the log is cut there,
 * and the replica counts as one that has lost its promises. So it is when nothing stands behind the
 * hole and another has committed as far as it reaches; a log that is nothing but hole begins anew.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "base/metrics.h"
#include "consensus/entry_heap.h"
#include "consensus/founding.h"
#include "log/damage.h"

#define REPEAT_NS     1000000000ull /* a question without an answer; a round without success */
#define COMPLAIN_NS   60000000000ull
#define HAND_OVER_NS  1000000000ull /* what a leader gives itself to be mended */
#define TRANSFERS_MAX 3
#define HOLES_AT_ONCE 8
#ifndef WEIR_RAFT_FAULTS
#define REPAIR_BYTES (512u << 10)
#else
#define REPAIR_BYTES 300u
#endif

static raft_index known_commit(const struct group *g)
{
    raft_index commit = partition_commit_index(g->partition).v;
    commit = g->snapshot.index > commit ? g->snapshot.index : commit;
    return g->raft_started && g->raft.commit_index > commit ? g->raft.commit_index : commit;
}

/* --- Starting --- */

static bool blocks_start(struct group *g)
{
    struct partition_hole holes[HOLES_AT_ONCE];
    unsigned n = partition_damage(g->partition, holes, HOLES_AT_ONCE);
    for (unsigned i = 0; i < n; i++) {
        if (i == HOLES_AT_ONCE || holes[i].last.v > g->snapshot.index) {
            return true;
        }
    }
    return false;
}

int repair_start(struct group *g, struct error *err)
{
    for (;;) {
        unsigned n = partition_damage(g->partition, NULL, 0);
        if (blocks_start(g)) {
            g->phase = GROUP_REPAIRING;
            log_warn("raft_waits_for_repair", "group=%u holes=%u", g->options.id, n);
            return 0;
        }
        int rv = group_start_raft(g, err);
        if (rv != WEIR_ECORRUPT || partition_damage(g->partition, NULL, 0) == n) {
            return rv;
        }
    }
}

raft_index repair_first_whole(struct group *g, raft_index start)
{
    struct partition_hole holes[HOLES_AT_ONCE];
    unsigned n = partition_damage(g->partition, holes, HOLES_AT_ONCE);
    for (unsigned i = 0; i < n && i < HOLES_AT_ONCE; i++) {
        if (holes[i].last.v >= start && holes[i].last.v <= g->snapshot.index) {
            start = holes[i].last.v + 1;
        }
    }
    return start;
}

static void start_if_mended(struct group *g)
{
    struct error err = {0};
    if (g->phase != GROUP_REPAIRING || blocks_start(g)) {
        return;
    }
    if (repair_start(g, &err) != 0) {
        group_fail(g, &err);
    }
    group_later(g);
}

/* --- Asking --- */

/* The next one in turn that is there; NULL: nobody. */
static struct group_peer *next_peer(struct group *g)
{
    for (unsigned i = 0; i < g->n_peers; i++) {
        struct group_peer *peer = g->peers[++g->repair.turn % g->n_peers];
        if (!peer->no_repair && transport_connected(g->transport, peer->id)) {
            return peer;
        }
    }
    return NULL;
}

static bool anybody(const struct group *g)
{
    for (unsigned i = 0; i < g->n_peers; i++) {
        if (transport_connected(g->transport, g->peers[i]->id)) {
            return true;
        }
    }
    return false;
}

/* Cuts the log off in front of the hole. What stood behind it may have been acknowledged. */
static void cut_off(struct group *g, const struct partition_hole *hole)
{
    static const struct partition_begin nothing = {.first_index = {1}};
    bool whole = hole->first.v <= partition_first_index(g->partition).v;
    struct error err = {0};
    log_error("raft_log_cut", "group=%u from=%" PRIu64 " what=" LOG_Q, g->options.id, hole->first.v,
              hole->text);
    g->recovering = true;
    int rv = storage_save_mark(g, g->term, g->vote, &err);
    if (rv == 0) {
        rv = whole ? partition_reset(g->partition, &nothing, "", 0, &err)
                   : partition_truncate(g->partition, hole->first, &err);
    }
    rv = rv == 0 && (whole || storage_last(g) < g->snapshot.index) ? storage_reopen(g, &err) : rv;
    rv = rv == 0 ? founding_start(g, &err) : rv;
    if (rv != 0) {
        group_fail(g, &err);
    }
}

/* All who are there have said that they do not have it. Others may come; but when libraft waits for
 * what the group has given up by a committed entry (a log there begins behind it), nobody will. */
static void no_copy(struct group *g, const struct partition_hole *hole)
{
    struct repair *r = &g->repair;
    uint64_t now_ns = env_now_ns(g->env);
    bool given_up = r->given_up;
    for (unsigned i = 0; i < g->n_peers; i++) {
        g->peers[i]->no_repair = false;
    }
    r->next_ns = now_ns + REPEAT_NS;
    r->hole++;
    r->given_up = false;
    if (!anybody(g)) {
        return;
    }
    r->hopeless = true;
    if (given_up && g->phase == GROUP_REPAIRING && hole->last.v > g->snapshot.index &&
        hole->first.v > partition_commit_index(g->partition).v) {
        cut_off(g, hole);
        return;
    }
    if (r->complained_ns == 0 || now_ns - r->complained_ns > COMPLAIN_NS) {
        r->complained_ns = now_ns;
        log_error("raft_no_good_copy",
                  "group=%u first=%" PRIu64 " last=%" PRIu64 " what=" LOG_Q
                  " note=\"no replica that is there has these entries\"",
                  g->options.id, hole->first.v, hole->last.v, hole->text);
    }
}

static bool may_mend(const struct group *g)
{
    return g->phase == GROUP_UP || g->phase == GROUP_REPAIRING || g->phase == GROUP_FOUNDING;
}

/* The hole that it is about; when nobody has that, the next one. */
static bool this_hole(struct group *g, struct partition_hole *ret_hole)
{
    struct partition_hole holes[HOLES_AT_ONCE];
    unsigned n = partition_damage(g->partition, holes, HOLES_AT_ONCE);
    n = n < HOLES_AT_ONCE ? n : HOLES_AT_ONCE;
    if (n > 0) {
        *ret_hole = holes[g->repair.hole % n];
    }
    return n > 0;
}

static void ask(struct group *g, const struct partition_hole *hole, struct group_peer *peer)
{
    struct repair *r = &g->repair;
    struct peer_repair_ask m = {
        .first = hole->first.v,
        .last = hole->last.v,
        .anchor = hole->anchor.v,
        .anchor_term = hole->anchor_term.v,
    };
    struct bytes body;
    bytes_init(&body, 64);
    message_encode_repair_ask(&body, &m);
    (void)flow_send_body(g, peer->id, PEER_REPAIR_ASK, &body); /* lost: asked again */
    bytes_close(&body);
    r->asked = hole->first.v;
    r->asked_of = peer->id;
    r->next_ns = env_now_ns(g->env) + REPEAT_NS;
}

/* Where does that log begin? It has said that it is behind the hole's begin. */
static void ask_begin(struct group *g, const struct group_peer *peer, raft_index first)
{
    struct peer_repair_ask m = {.first = first};
    struct bytes body;
    bytes_init(&body, 64);
    message_encode_repair_ask(&body, &m);
    (void)flow_send_body(g, peer->id, PEER_REPAIR_ASK, &body); /* lost: asked again */
    bytes_close(&body);
}

/* A leader that can't read its log is not what the others should depend on. */
static void handed_over(struct group_transfer *req, int status)
{
    struct group *g = req->data;
    g->repair.transferring = false;
    g->repair.transfers += status != 0;
}

static void hand_over(struct group *g)
{
    struct repair *r = &g->repair;
    uint64_t now_ns = env_now_ns(g->env);
    if (!g->raft_started || g->raft.state != RAFT_LEADER || r->transferring || r->hopeless ||
        now_ns - r->since_ns < HAND_OVER_NS || g->leaving) {
        return;
    }
    if (r->transfers >= TRANSFERS_MAX) {
        r->transfers = 0;
        r->since_ns = now_ns; /* should nobody else want to lead */
        guard_step_down(g);
        return;
    }
    r->transfer = (struct group_transfer){.data = g};
    r->transferring = group_transfer(g, &r->transfer, 0, handed_over) == 0;
}

bool repair_pending(const struct group *g)
{
    return partition_damaged(g->partition) && !g->repair.hopeless;
}

void repair_tick(struct group *g)
{
    struct repair *r = &g->repair;
    struct partition_hole hole;
    uint64_t now_ns = env_now_ns(g->env);
    if (!partition_damaged(g->partition)) {
        if (r->since_ns != 0) {
            log_info("raft_repaired", "group=%u", g->options.id);
            r->since_ns = r->next_ns = 0;
            r->asked = 0;
            r->hopeless = false;
            r->transfers = 0;
            start_if_mended(g);
        }
        return;
    }
    if (!may_mend(g)) {
        return;
    }
    if (r->since_ns == 0) {
        r->since_ns = now_ns;
    }
    start_if_mended(g);
    hand_over(g);
    if (g->n_peers == 0 || now_ns < r->next_ns || !this_hole(g, &hole)) {
        return;
    }
    struct group_peer *peer = next_peer(g);
    if (peer == NULL) {
        no_copy(g, &hole);
    } else {
        ask(g, &hole, peer);
    }
}

/* --- The answer --- */

/* What stands behind the hole is of a log that failed: see the top. Or nothing stands behind it, by
 * which a log could be recognised, and the group has gone on. */
static bool is_of_a_failed_log(const struct group *g, const struct partition_hole *hole,
                               raft_index commit)
{
    bool to_the_end = hole->anchor.v == 0 && hole->last.v >= storage_last(g);
    raft_index anchor = to_the_end ? hole->last.v : hole->anchor.v;
    return g->phase == GROUP_REPAIRING && anchor != 0 && commit >= anchor &&
           hole->first.v > known_commit(g);
}

/* That log's entries before its begin were given up by a committed entry: so they are here, and
 * what of a hole is before it is not missing. What libraft would load after a crash stays. */
static void adopt_begin(struct group *g, const struct partition_begin *begin)
{
    struct error err = {0};
    raft_index stored = storage_snapshot_stored(g);
    int rv = 0;
    if (begin->first_index.v - 1 > stored) {
        rv = storage_save_snapshot_later(g, &err); /* asked again */
        if (rv != 0 && rv != WEIR_ENOMEM) {
            group_fail(g, &err);
        }
        return;
    }
    partition_set_keep(g->partition, LOG_INDEX(stored));
    rv = partition_adopt_begin(g->partition, begin, &err);
    if (rv == WEIR_EPROTO || rv == WEIR_EIO) {
        log_warn("raft_begin_not_adopted", "group=%u first=%" PRIu64 " reason=" LOG_Q,
                 g->options.id, begin->first_index.v, err.text);
    }
    if (rv == 0) {
        g->repair.hopeless = false;
        g->repair.next_ns = 0;
        start_if_mended(g);
    }
}

static unsigned entries_of(const struct peer_repair *answer, const struct partition_hole *hole,
                           raft_index sure, struct log_entry *ret)
{
    unsigned n = 0;
    for (; n < answer->n; n++) {
        const struct raft_entry *e = &answer->entries[n];
        raft_index index = answer->first + n;
        if (index > hole->last.v || (!answer->matched && index > sure)) {
            break;
        }
        ret[n] = (struct log_entry){
            .term = LOG_TERM(e->term),
            .type = storage_log_type(e),
            .payload = e->buf.base,
            .len = (uint32_t)e->buf.len,
        };
    }
    return n;
}

void repair_answered(struct group *g, struct group_peer *from, const struct peer_repair *answer)
{
    struct repair *r = &g->repair;
    struct partition_hole hole;
    struct error err = {0};
    if (answer->begin.first_index.v != 0 && (g->phase == GROUP_UP || g->phase == GROUP_REPAIRING)) {
        adopt_begin(g, &answer->begin);
        return;
    }
    if (r->asked != answer->first || r->asked_of != from->id ||
        (g->phase != GROUP_UP && g->phase != GROUP_REPAIRING) || !this_hole(g, &hole) ||
        hole.first.v != r->asked) {
        return; /* an old answer */
    }
    raft_index commit = known_commit(g);
    struct log_entry *entries = calloc(answer->n > 0 ? answer->n : 1, sizeof(*entries));
    if (entries == NULL) {
        return; /* asked again */
    }
    unsigned n =
        entries_of(answer, &hole, commit < answer->commit ? commit : answer->commit, entries);
    int rv = n == 0 ? WEIR_ENOTFOUND : partition_mend(g->partition, hole.first, entries, n, &err);
    free(entries);
    r->asked = 0;
    r->next_ns = 0; /* at the next tick: that limits the rate */
    if (rv == 0) {
        metric_add(metric_counter("weir_raft_repaired_entries_total", "",
                                  "Entries of damaged logs put back from other replicas."),
                   n);
        r->hopeless = false;
        for (unsigned i = 0; i < g->n_peers; i++) {
            g->peers[i]->no_repair = false;
        }
        r->turn--; /* the same one again */
        start_if_mended(g);
    } else if (rv == WEIR_EBUSY) {
        r->turn--;
    } else {
        from->no_repair = true;
        if (n > 0) {
            log_warn("raft_repair_refused", "group=%u from=%u reason=" LOG_Q, g->options.id,
                     from->id, err.text);
        } else {
            if (answer->begins > hole.first.v) {
                r->given_up = true;
                partition_others_begin(g->partition, LOG_INDEX(answer->begins));
                ask_begin(g, from, hole.first.v);
            }
            if (!answer->matched && is_of_a_failed_log(g, &hole, answer->commit)) {
                cut_off(g, &hole);
            }
        }
    }
}

/* --- The other side --- */

struct giving {
    struct raft_entry entries[TRANSPORT_IOV_MAX];
    unsigned n;
    raft_index last;
};

static int give_entry(void *data, const struct partition_entry *entry)
{
    struct giving *giving = data;
    if (giving->n == TRANSPORT_IOV_MAX || entry->index.v > giving->last) {
        return 1;
    }
    void *base = entry_heap_alloc(entry->len > 0 ? entry->len : 1);
    if (base == NULL) {
        return 1;
    }
    memcpy(base, entry->payload, entry->len);
    giving->entries[giving->n++] = (struct raft_entry){
        .term = entry->term.v,
        .type = storage_raft_type(entry->type),
        .buf = {.base = base, .len = entry->len},
    };
    return 0;
}

/* What is known here of what was asked for, without its entries. */
void repair_head(struct group *g, const struct peer_repair_ask *ask, struct peer_repair *ret)
{
    raft_index durable = partition_durable_index(g->partition).v;
    raft_term term = ask->anchor <= durable ? storage_term(g, ask->anchor) : 0;
    *ret = (struct peer_repair){
        .first = ask->first,
        .matched = ask->anchor != 0 && term != 0 && term == ask->anchor_term,
        .commit = known_commit(g),
        .begins = partition_first_index(g->partition).v,
    };
    /* An anchor that can't be told from another here (it is damaged, or before our begin) must not
     * look like another one that is committed: who asks would cut its log there. */
    if (term == 0 && ask->anchor != 0 && ret->commit >= ask->anchor) {
        ret->commit = ask->anchor - 1;
    }
}

void repair_asked(struct group *g, struct group_peer *from, const struct peer_repair_ask *ask)
{
    if (g->phase == GROUP_CLOSING || g->phase == GROUP_BOOTING) {
        return;
    }
    struct giving *giving = calloc(1, sizeof(*giving));
    if (giving == NULL) {
        return; /* asked again */
    }
    raft_index durable = partition_durable_index(g->partition).v;
    struct peer_repair answer;
    repair_head(g, ask, &answer);
    answer.entries = giving->entries;
    if (ask->last == 0) {
        partition_begin(g->partition, &answer.begin);
        answer.begins = answer.begin.first_index.v;
        if (answer.begins <= 1) {
            answer.begin.first_index = LOG_INDEX(0); /* nothing to tell */
        }
    }
    giving->last = answer.matched ? ask->last : answer.commit;
    giving->last = giving->last < durable ? giving->last : durable;
    if (ask->last > 0 && ask->first >= answer.begins && ask->first <= giving->last) {
        /* Can't be read here either: what was read before it is sent. */
        (void)partition_read(g->partition, LOG_INDEX(ask->first), REPAIR_BYTES, give_entry, giving,
                             NULL);
    }
    answer.n = giving->n;
    struct bytes body;
    if (giving->n > 0) {
        retain_tell(g, from->id);
    }
    bytes_init(&body, 64 + TRANSPORT_IOV_MAX * MESSAGE_ENTRY_SIZE);
    message_encode_repair(&body, &answer);
    (void)flow_send_entries(g, from->id, PEER_REPAIR, &body, giving->entries, giving->n);
    bytes_close(&body);
    for (unsigned i = 0; i < giving->n; i++) {
        raft_free(giving->entries[i].buf.base); /* the frame has pinned it */
    }
    free(giving);
}

/* --- Telling --- */

unsigned group_damage(struct group *g, char *ret_text, size_t size)
{
    struct partition_hole hole;
    unsigned n = partition_damage(g->partition, &hole, 1);
    if (n > 0) {
        (void)snprintf(ret_text, size,
                       "%u damaged range%s%s%s: entries %" PRIu64 " to %" PRIu64 ": %s", n,
                       n == 1 ? "" : "s",
                       g->repair.hopeless ? ", no good copy on any replica that is there" : "",
                       g->phase == GROUP_REPAIRING ? ", waits for repair" : "", hole.first.v,
                       hole.last.v, hole.text);
    }
    return n;
}
