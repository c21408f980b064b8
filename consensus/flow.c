/* Sending. Guard 15: libraft sends the whole suffix of its log in one message, and again at each
 * heartbeat to a peer that has not answered. Here an AppendEntries leaves in pieces of about
 * FLOW_PIECE_BYTES; what is on its way to a peer is remembered and not sent a second time; and no
 * more than a window of bytes is on its way. What does not fit is reported to libraft as failed: it
 * goes back to probing from the last match, and the next acknowledgement, or heartbeat, brings the
 * rest. */
#include <stdlib.h>
#include <string.h>

#include "consensus/entry_heap.h"
#include "consensus/founding.h"

#define BODY_BYTES_MAX (MESSAGE_APPEND_SIZE + MESSAGE_ENTRIES_MAX * MESSAGE_ENTRY_SIZE)

/* --- The window --- */

void flow_reset(struct flow *flow)
{
    flow->sent_end = 0;
    flow->sent_term = 0;
    flow->bytes = 0;
    flow->head = flow->count = 0;
}

void flow_acknowledged(struct flow *flow, raft_index match)
{
    while (flow->count > 0 && flow->pieces[flow->head].end <= match) {
        flow->bytes -= flow->pieces[flow->head].bytes;
        flow->head = (flow->head + 1) % FLOW_PIECES_MAX;
        flow->count--;
    }
}

static bool flow_has_room(struct group *g, struct flow *flow)
{
    if (flow->pieces == NULL) {
        flow->pieces = malloc(FLOW_PIECES_MAX * sizeof(*flow->pieces));
    }
    return flow->pieces != NULL && flow->count < FLOW_PIECES_MAX &&
           (flow->bytes == 0 || flow->bytes < g->options.inflight_bytes_max);
}

static void flow_sent(struct flow *flow, raft_index end, raft_term term, uint32_t bytes)
{
    flow->pieces[(flow->head + flow->count) % FLOW_PIECES_MAX] =
        (struct flow_piece){.end = end, .bytes = bytes};
    flow->count++;
    flow->bytes += bytes;
    flow->sent_end = end;
    flow->sent_term = term;
}

/* --- Frames --- */

int flow_send_body(struct group *g, uint32_t peer_id, uint16_t type, const struct bytes *body)
{
    if (bytes_error(body) != 0) {
        return bytes_error(body);
    }
    struct transport_message tm = {
        .peer_id = peer_id,
        .group_id = g->options.id,
        .type = type,
        .body = body->data,
        .len = body->len,
    };
    return gate_send(g, &tm);
}

struct pins {
    unsigned n;
    void *blocks[];
};

static void unpin(void *arg, int status)
{
    struct pins *pins = arg;
    (void)status;
    for (unsigned i = 0; i < pins->n; i++) {
        entry_heap_unpin(pins->blocks[i]);
    }
    free(pins);
}

int flow_send_entries(struct group *g, uint32_t peer_id, uint16_t type, const struct bytes *body,
                      const struct raft_entry *entries, unsigned n)
{
    struct iovec iov[TRANSPORT_IOV_MAX];
    struct transport_message tm = {
        .peer_id = peer_id,
        .group_id = g->options.id,
        .type = type,
        .body = body->data,
        .len = body->len,
        .attachment = iov,
    };
    struct pins *pins = NULL;
    if (n > 0) {
        pins = malloc(sizeof(*pins) + n * sizeof(pins->blocks[0]));
        if (pins == NULL) {
            return WEIR_ENOMEM;
        }
        pins->n = 0;
        tm.release = unpin;
        tm.arg = pins;
    }
    for (unsigned i = 0; i < n; i++) {
        const struct raft_buffer *buf = &entries[i].buf;
        if (buf->len > 0) {
            iov[tm.n_attachment++] = (struct iovec){.iov_base = buf->base, .iov_len = buf->len};
            entry_heap_pin(buf->base);
            pins->blocks[pins->n++] = buf->base;
        }
    }
    int rv = bytes_error(body) != 0 ? bytes_error(body) : gate_send(g, &tm);
    if (rv != 0 && pins != NULL) {
        unpin(pins, rv);
    }
    return rv;
}

int flow_send_piece(struct group *g, struct group_peer *peer, uint16_t type,
                    const struct raft_append_entries *a)
{
    struct bytes body;
    bytes_init(&body, BODY_BYTES_MAX);
    message_encode_append(&body, a, g->raft.commit_index);
    int rv = flow_send_entries(g, peer->id, type, &body, a->entries, a->n_entries);
    bytes_close(&body);
    if (rv == 0 && a->leader_commit > peer->flow.commit_sent) {
        peer->flow.commit_sent = a->leader_commit;
    }
    return rv;
}

/* --- AppendEntries --- */

/* How many of the n entries make the next piece. */
static unsigned piece_entries(const struct raft_entry *entries, unsigned n, uint32_t *ret_bytes)
{
    size_t bytes = 0;
    unsigned k = 0;
    do {
        bytes += entries[k++].buf.len;
    } while (k < n && k < TRANSPORT_IOV_MAX && bytes + entries[k].buf.len <= FLOW_PIECE_BYTES);
    *ret_bytes = (uint32_t)bytes;
    return k;
}

static raft_index min_index(raft_index a, raft_index b)
{
    return a < b ? a : b;
}

/* Sends what is not on its way yet, as far as there is room. 0: all of it is; negative: not all. */
static int send_append(struct group *g, struct group_peer *peer,
                       const struct raft_append_entries *a)
{
    struct flow *flow = &peer->flow;
    raft_index end = a->prev_log_index + a->n_entries;
    struct raft_append_entries piece = *a;
    unsigned at = 0;
    bool any = false;
    if (flow->sent_end > end) {
        flow_reset(flow);
    }
    if (flow->sent_end > a->prev_log_index) {
        at = (unsigned)(flow->sent_end - a->prev_log_index);
        piece.prev_log_index = flow->sent_end;
        piece.prev_log_term = flow->sent_term;
    }
    int rv = 0;
    while (rv == 0 && at < a->n_entries && flow_has_room(g, flow)) {
        uint32_t bytes;
        piece.entries = &a->entries[at];
        piece.n_entries = piece_entries(piece.entries, a->n_entries - at, &bytes);
        raft_index piece_end = piece.prev_log_index + piece.n_entries;
        /* Beyond its end the follower may have entries of an older leader. */
        piece.leader_commit =
            guard_on(GUARD_FLOW) ? min_index(a->leader_commit, piece_end) : a->leader_commit;
        rv = flow_send_piece(g, peer, PEER_APPEND, &piece);
        if (rv == 0) {
            at += piece.n_entries;
            any = true;
            piece.prev_log_index = piece_end;
            piece.prev_log_term = a->entries[at - 1].term;
            flow_sent(flow, piece_end, piece.prev_log_term, bytes);
        }
    }
    if (rv == 0 && !any) {
        /* A heartbeat; or one in the place of entries that may not leave yet: it also asks whether
         * the last ones arrived. */
        piece.entries = NULL;
        piece.n_entries = 0;
        piece.leader_commit = guard_on(GUARD_FLOW)
                                  ? min_index(a->leader_commit, piece.prev_log_index)
                                  : a->leader_commit;
        rv = flow_send_piece(g, peer, PEER_APPEND, &piece);
    }
    if (rv != 0 && rv != WEIR_EBUSY) { /* with a full queue what is in it is still on its way */
        flow_reset(flow);
    }
    return rv != 0 ? rv : at < a->n_entries ? WEIR_EBUSY : 0;
}

/* How much of the log a peer may have.
 *
 * Guard 10: what a sole voter has not on disk yet, nobody else may have: after a crash it elects
 * itself without asking, and goes on from what its disk has.
 *
 * Guard 9: who is no voter any more in a configuration hears of it last, when it is committed. Else
 * it could be the only one left that has it, and stop campaigning, while the others, who lack it,
 * need its vote and don't get it. */
static raft_index sendable(struct group *g, const struct group_peer *peer)
{
    const struct raft_configuration *c = &g->raft.configuration;
    raft_index most = UINT64_MAX;
    if (guard_on(GUARD_SOLE) && members_sole_voter(g, c)) {
        most = partition_durable_index(g->partition).v;
    }
    if (guard_on(GUARD_CHANGE) && configuration_role(c, peer->id) != GROUP_VOTER) {
        raft_index newest = partition_config_index(g->partition, LOG_INDEX(storage_last(g))).v;
        most = newest > g->raft.commit_index ? min_index(most, newest - 1) : most;
    }
    return most;
}

static int send_allowed(struct group *g, struct group_peer *peer,
                        const struct raft_append_entries *a)
{
    struct raft_append_entries cut = *a;
    raft_index most = sendable(g, peer);
    if (a->prev_log_index + a->n_entries <= most) {
        return send_append(g, peer, a);
    }
    if (a->prev_log_index > most) {
        return WEIR_EBUSY;
    }
    cut.n_entries = (unsigned)(most - a->prev_log_index);
    int rv = send_append(g, peer, &cut);
    return rv != 0 ? rv : WEIR_EBUSY;
}

/* A follower hears of a commit with the next append or heartbeat. When nothing more is coming, that
 * would be a heartbeat later: tell them now. Any prefix that the peer has acknowledged is a valid
 * place for an empty append. */
void flow_commit_news(struct group *g)
{
    struct raft *r = &g->raft;
    if (r->state != RAFT_LEADER || !g->may_propose || r->commit_index != storage_last(g)) {
        return;
    }
    for (unsigned i = 0; i < g->n_peers; i++) {
        struct group_peer *peer = g->peers[i];
        raft_index commit = min_index(r->commit_index, peer->match);
        raft_term term = commit > peer->flow.commit_sent ? storage_term(g, peer->match) : 0;
        if (term == 0 || !transport_connected(g->transport, peer->id)) {
            continue;
        }
        struct raft_append_entries a = {
            .term = r->current_term,
            .prev_log_index = peer->match,
            .prev_log_term = term,
            .leader_commit = commit,
        };
        (void)flow_send_piece(g, peer, PEER_APPEND, &a);
    }
}

/* --- Every other message --- */

static uint16_t peer_type(unsigned short raft_type)
{
    switch (raft_type) {
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        return PEER_APPEND_RESULT;
    case RAFT_IO_REQUEST_VOTE:
        return PEER_VOTE;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        return PEER_VOTE_RESULT;
    case RAFT_IO_INSTALL_SNAPSHOT:
        return PEER_INSTALL;
    default:
        return PEER_TIMEOUT_NOW;
    }
}

/* Guard 2: libraft acknowledges its last stored entry instead of the message's end, and so claims
 * entries of an older leader that the current one does not have. False: nothing is verified, no
 * result may leave. */
static bool clamp_result(struct group *g, struct raft_append_entries_result *result)
{
    if (result->rejected > 0) {
        return true;
    }
    if (g->receiving > g->verified) {
        g->verified = g->receiving;
    }
    if (!guard_on(GUARD_CLAMP)) {
        return true;
    }
    raft_index most = min_index(g->verified, founding_acknowledged_most(g));
    result->last_log_index = min_index(result->last_log_index, most);
    return most > 0;
}

static int send_other(struct group *g, struct group_peer *peer, const struct raft_message *m)
{
    struct raft_message out = *m;
    if (m->type == RAFT_IO_APPEND_ENTRIES_RESULT && !clamp_result(g, &out.append_entries_result)) {
        return 0;
    }
    struct raft_request_vote_result *vote = &out.request_vote_result;
    if (m->type == RAFT_IO_REQUEST_VOTE_RESULT && guard_on(GUARD_VOTE) && !vote->vote_granted &&
        vote->pre_vote == raft_tribool_true && vote->term < g->term) {
        /* Guard 6: a refusal that echoes the candidate's term keeps the best log two terms behind
         * for ever. */
        vote->term = g->term;
    }
    struct bytes body;
    bytes_init(&body, BODY_BYTES_MAX);
    message_encode(&body, &out);
    int rv = flow_send_body(g, peer->id, peer_type(m->type), &body);
    bytes_close(&body);
    return rv;
}

void flow_send(struct group *g, const struct raft_message *m, int *ret_status)
{
    struct group_peer *peer =
        m->server_id <= UINT32_MAX ? peers_add(g, (uint32_t)m->server_id) : NULL;
    int rv = 0;
    /* Results go to id 0 when the leader was forgotten meanwhile: nobody. */
    if (g->phase == GROUP_FAILED) {
        rv = WEIR_EIO; /* what it would say may not be on its disk */
    } else if (peer == NULL) {
        rv = m->server_id == 0 ? 0 : WEIR_ENOTFOUND;
    } else if (m->type != RAFT_IO_APPEND_ENTRIES) {
        rv = send_other(g, peer, m);
    } else {
        rv = send_allowed(g, peer, &m->append_entries);
    }
    *ret_status = rv == 0 ? 0 : RAFT_NOCONNECTION;
}
