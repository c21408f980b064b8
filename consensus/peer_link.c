/* One connection between two nodes. The dialler says hello (who it is, a nonce), the other side
 * answers with a challenge (who it is, a nonce, its proof), the dialler proves itself in turn; then
 * both speak for their groups.
 *
 *   PEER_HELLO      said u32, cluster u64, founders u64, own id u32, wanted id u32, nonce 32
 *   PEER_CHALLENGE  said u32, cluster u64, founders u64, own id u32, nonce 32, proof 32
 *   PEER_PROOF      proof 32
 *
 * said is version u16, shards u8, shard u8: the number of a node's shards less one, which must be
 * the same on both sides, and which of them this is: shard k speaks to shard k (base/shard.h).
 *
 * cluster is 0 as long as a node does not know it; founders is a hash of the ids of those that
 * found a cluster together, 0 for one that joins: it counts only while neither side knows the
 * cluster.
 *
 * A proof (proto/auth.h) is over the hashes of both first messages, so it vouches for ids and
 * incarnations too. */
#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "consensus/transport_impl.h"
#include "proto/auth.h"

#define LINK_VERSION      2
#define UNPROVEN_SIZE_MAX 512
#define WRITE_IOV_MAX     1024
#define SIDE_ACCEPT       "peer-accept"
#define SIDE_DIAL         "peer-dial"
static_assert(AUTH_NONCE_SIZE == LINK_HASH_SIZE, "hashes stand in for the nonces");

/* --- Writing --- */

/* One send of the stream: all frames of a turn. */
struct link_write {
    struct env_send send;
    struct list frames;
    struct peer *peer; /* NULL before it is proven */
};

struct out_frame *link_frame(struct transport *t, const struct transport_message *m)
{
    size_t iov_bytes = (m->n_attachment + 1) * sizeof(struct iovec);
    size_t head_bytes = FRAME_HEADER_SIZE + MESSAGE_PREFIX_SIZE + m->len;
    struct out_frame *f = malloc(sizeof(*f) + iov_bytes + head_bytes);
    if (f == NULL) {
        return NULL;
    }
    uint8_t *head = (uint8_t *)f->iov + iov_bytes;
    uint8_t *prefix = head + FRAME_HEADER_SIZE;
    *f = (struct out_frame){
        .bytes = head_bytes,
        .release = m->release,
        .arg = m->arg,
        .n_iov = m->n_attachment + 1,
    };
    f->iov[0] = (struct iovec){.iov_base = head, .iov_len = head_bytes};
    size_t attachment_len = 0;
    for (unsigned i = 0; i < m->n_attachment; i++) {
        f->iov[i + 1] = m->attachment[i];
        attachment_len += m->attachment[i].iov_len;
    }
    store_le32(prefix, m->group_id);
    store_le64(prefix + 4, t->incarnation);
    if (m->len > 0) {
        memcpy(prefix + MESSAGE_PREFIX_SIZE, m->body, m->len);
    }
    struct frame frame = {
        .type = m->type,
        .head = prefix,
        .head_len = (uint32_t)(MESSAGE_PREFIX_SIZE + m->len),
        .attachment_len = (uint32_t)attachment_len,
    };
    if (attachment_len > FRAME_SIZE_MAX || head_bytes + attachment_len > FRAME_SIZE_MAX ||
        frame_encode_header(&frame, head, NULL) != 0) {
        free(f);
        return NULL;
    }
    f->bytes += attachment_len;
    return f;
}

static void finish_frames(struct peer *peer, struct list *frames, int status)
{
    struct list *el;
    while ((el = list_pop(frames)) != NULL) {
        struct out_frame *f = list_entry(el, struct out_frame, link);
        if (peer != NULL) {
            peer->queued_bytes -= f->bytes;
        }
        if (f->release != NULL) {
            f->release(f->arg, status);
        }
        free(f);
    }
}

static void on_written(struct env_send *send, int status)
{
    struct link_write *w = send->data;
    finish_frames(w->peer, &w->frames, status);
    free(w);
}

/* Takes frames from `queue` until the iovecs of one send are full. */
static void write_some(struct peer_link *link, struct peer *peer, struct list *queue)
{
    struct iovec iov[WRITE_IOV_MAX];
    unsigned n = 0;
    struct link_write *w = malloc(sizeof(*w));
    if (w == NULL) {
        finish_frames(peer, queue, WEIR_ENOMEM);
        return;
    }
    *w = (struct link_write){.send = {.data = w}, .peer = peer};
    list_init(&w->frames);
    while (!list_empty(queue)) {
        struct out_frame *f = list_entry(queue->next, struct out_frame, link);
        if (n + f->n_iov > WRITE_IOV_MAX) {
            break;
        }
        list_remove(&f->link);
        list_push_back(&w->frames, &f->link);
        memcpy(&iov[n], f->iov, f->n_iov * sizeof(iov[0]));
        n += f->n_iov;
    }
    link->sent_ns = transport_clock_ns(link->transport);
    env_stream_send(link->stream, &w->send, iov, n, on_written);
}

void link_flush(struct peer_link *link)
{
    while (!list_empty(&link->peer->queue)) {
        write_some(link, link->peer, &link->peer->queue);
    }
}

/* A message of the link itself. */
static void say(struct peer_link *link, uint16_t type, const struct bytes *body)
{
    struct transport_message m = {.type = type};
    if (body != NULL) {
        m.body = body->data;
        m.len = body->len;
    }
    struct list queue;
    list_init(&queue);
    struct out_frame *f = link_frame(link->transport, &m);
    if (f == NULL) {
        link_close(link, "out of memory");
        return;
    }
    list_push_back(&queue, &f->link);
    write_some(link, NULL, &queue);
}

/* --- Closing --- */

static void on_closed(void *data)
{
    struct peer_link *link = data;
    struct transport *t = link->transport;
    list_remove(&link->link);
    frame_parser_close(&link->parser);
    free(link);
    transport_link_freed(t);
}

void link_close(struct peer_link *link, const char *why)
{
    struct peer *peer = link->peer;
    enum link_state was = link->state;
    if (was == LINK_CLOSING) {
        return;
    }
    if (why != NULL) {
        log_warn("peer_link_closed", "peer=%s address=%s reason=\"%s\"",
                 peer != NULL ? peer->name : "unknown", env_stream_peer(link->stream), why);
    }
    link->state = LINK_CLOSING;
    if (was != LINK_UP) {
        link->transport->n_unproven--;
    }
    if (peer != NULL && peer->dialing == link) {
        peer->dialing = NULL;
        if (was == LINK_WAIT_CHALLENGE) {
            peer->next_dial_ns = env_now_ns(link->transport->env) + TRANSPORT_REFUSED_NS;
        }
    }
    if (was == LINK_UP) {
        finish_frames(peer, &peer->queue, WEIR_ECLOSED);
        transport_link_down(link);
    }
    env_stream_close(link->stream, on_closed, link);
}

/* --- Proof --- */

static void put_identity(struct bytes *body, const struct transport *t)
{
    bytes_put_le32(body, LINK_VERSION | (t->n_shards - 1) << 16 | t->shard << 24);
    bytes_put_le64(body, t->cluster);
    bytes_put_le64(body, t->founders);
    bytes_put_le32(body, t->self_id);
}

static void put_nonce(struct bytes *body, const struct transport *t)
{
    uint8_t nonce[AUTH_NONCE_SIZE];
    env_random(t->env, nonce, sizeof(nonce));
    bytes_put(body, nonce, sizeof(nonce));
}

/* What a proof stands for: sender, incarnation, and the body as far as it goes. */
static void hash_message(uint64_t incarnation, const void *body, size_t len,
                         uint8_t ret_hash[LINK_HASH_SIZE])
{
    crypto_generichash_state state;
    uint8_t prefix[8];
    store_le64(prefix, incarnation);
    crypto_generichash_init(&state, NULL, 0, LINK_HASH_SIZE);
    crypto_generichash_update(&state, prefix, sizeof(prefix));
    crypto_generichash_update(&state, body, len);
    crypto_generichash_final(&state, ret_hash, LINK_HASH_SIZE);
}

static const char *check_identity(struct peer_link *link, struct cursor *c, uint32_t *ret_id)
{
    const struct transport *t = link->transport;
    uint32_t said = cursor_le32(c);
    uint32_t version = said & 0xffff;
    uint64_t cluster = cursor_le64(c);
    uint64_t founders = cursor_le64(c);
    *ret_id = cursor_le32(c);
    if (!cursor_ok(c) || version != LINK_VERSION) {
        return "speaks another version of the peer protocol";
    }
    if ((said >> 16 & 0xff) + 1 != t->n_shards) {
        return "has another number of log.shards: it must be the same on all nodes";
    }
    if (said >> 24 != t->shard) {
        return "is another shard: peer addresses must leave room for log.shards";
    }
    if (cluster != 0 && t->cluster != 0 && cluster != t->cluster) {
        return "belongs to another cluster";
    }
    if (cluster == 0 && t->cluster == 0 && founders != 0 && t->founders != 0 &&
        founders != t->founders) {
        return "would found another cluster: its cluster.node lines differ";
    }
    link->peer_cluster = cluster;
    return NULL;
}

static void say_hello(struct peer_link *link)
{
    struct transport *t = link->transport;
    struct bytes body;
    bytes_init(&body, UNPROVEN_SIZE_MAX);
    put_identity(&body, t);
    bytes_put_le32(&body, link->peer->id);
    put_nonce(&body, t);
    hash_message(t->incarnation, body.data, body.len, link->hello_hash);
    link->state = LINK_WAIT_CHALLENGE;
    say(link, PEER_HELLO, &body);
    bytes_close(&body);
}

/* It keeps trying: said now and then. */
static void refuse_stranger(struct peer_link *link, uint32_t id)
{
    struct transport *t = link->transport;
    uint64_t now_ns = env_now_ns(t->env);
    if (t->stranger_ns == 0 || now_ns > t->stranger_ns + TRANSPORT_COMPLAIN_NS) {
        t->stranger_ns = now_ns;
        log_warn("peer_refused",
                 "id=%u address=%s reason=\"not a node of this cluster: weir cluster add it\"", id,
                 env_stream_peer(link->stream));
    }
    link_close(link, NULL);
}

static const char *on_hello(struct peer_link *link, uint64_t incarnation, struct cursor *c)
{
    struct transport *t = link->transport;
    uint32_t id;
    hash_message(incarnation, c->data, c->len, link->hello_hash);
    const char *wrong = check_identity(link, c, &id);
    uint32_t wanted = cursor_le32(c);
    const uint8_t *nonce = cursor_take(c, AUTH_NONCE_SIZE);
    if (wrong != NULL) {
        return wrong;
    }
    link->peer = transport_peer(t, id);
    link->peer_incarnation = incarnation;
    if (nonce == NULL || cursor_left(c) != 0 || wanted != t->self_id) {
        return "says hello to another node";
    }
    if (link->peer == NULL && !transport_may_visit(t, id, link->peer_cluster)) {
        refuse_stranger(link, id);
        return NULL;
    }
    if (link->peer != NULL && link->peer->guest) {
        link->peer = NULL; /* its place may be another's by then */
    }
    link->guest_id = id;
    struct bytes body;
    uint8_t proof[AUTH_PROOF_SIZE];
    bytes_init(&body, UNPROVEN_SIZE_MAX);
    put_identity(&body, t);
    put_nonce(&body, t);
    hash_message(t->incarnation, body.data, body.len, link->challenge_hash);
    auth_prove(t->secret, SIDE_ACCEPT, link->hello_hash, link->challenge_hash, proof);
    bytes_put(&body, proof, sizeof(proof));
    link->state = LINK_WAIT_PROOF;
    say(link, PEER_CHALLENGE, &body);
    bytes_close(&body);
    return NULL;
}

static const char *on_challenge(struct peer_link *link, uint64_t incarnation, struct cursor *c)
{
    struct transport *t = link->transport;
    uint32_t id;
    if (c->len < AUTH_PROOF_SIZE) {
        return "sends a short challenge";
    }
    hash_message(incarnation, c->data, c->len - AUTH_PROOF_SIZE, link->challenge_hash);
    const char *wrong = check_identity(link, c, &id);
    const uint8_t *nonce = cursor_take(c, AUTH_NONCE_SIZE);
    const uint8_t *theirs = cursor_take(c, AUTH_PROOF_SIZE);
    if (wrong != NULL) {
        return wrong;
    }
    if (nonce == NULL || theirs == NULL || cursor_left(c) != 0 || id != link->peer->id) {
        return "is another node than was dialled";
    }
    if (!auth_check(t->secret, SIDE_ACCEPT, link->hello_hash, link->challenge_hash, theirs,
                    AUTH_PROOF_SIZE)) {
        return "does not know the cluster secret";
    }
    link->peer_incarnation = incarnation;
    if (transport_link_is_surplus(link)) {
        link_close(link, NULL);
        return NULL;
    }
    struct bytes body;
    uint8_t proof[AUTH_PROOF_SIZE];
    auth_prove(t->secret, SIDE_DIAL, link->hello_hash, link->challenge_hash, proof);
    bytes_init(&body, UNPROVEN_SIZE_MAX);
    bytes_put(&body, proof, sizeof(proof));
    say(link, PEER_PROOF, &body);
    bytes_close(&body);
    if (link->state != LINK_CLOSING) {
        link->peer->dialing = NULL;
        transport_link_up(link);
    }
    return NULL;
}

/* Somebody may have told us of it since its hello, or that it was removed. */
static const char *welcome_guest(struct peer_link *link)
{
    struct transport *t = link->transport;
    uint32_t id = link->guest_id;
    link->peer = transport_peer(t, id);
    if (link->peer == NULL && transport_may_visit(t, id, link->peer_cluster)) {
        link->peer = transport_guest(t, id);
    }
    return link->peer != NULL ? NULL : "is one guest too many";
}

static const char *on_proof(struct peer_link *link, uint64_t incarnation, struct cursor *c)
{
    struct transport *t = link->transport;
    if (incarnation != link->peer_incarnation ||
        !auth_check(t->secret, SIDE_DIAL, link->hello_hash, link->challenge_hash, c->data,
                    c->len)) {
        return "does not know the cluster secret";
    }
    const char *wrong = link->peer == NULL ? welcome_guest(link) : NULL;
    if (wrong == NULL && transport_link_is_surplus(link)) {
        link_close(link, NULL);
    } else if (wrong == NULL) {
        transport_link_up(link);
    }
    return wrong;
}

/* --- Reading --- */

static const char *on_group_frame(struct peer_link *link, const struct frame *f, uint32_t group_id,
                                  struct error *err)
{
    struct transport_group *group = transport_group(link->transport, group_id);
    if (group == NULL) {
        return NULL; /* not open yet, or no more: Raft repeats itself */
    }
    int rv = group->handler.receive(
        group->handler.data, link->peer->id, f->type, f->head + MESSAGE_PREFIX_SIZE,
        f->head_len - MESSAGE_PREFIX_SIZE, f->attachment, f->attachment_len, err);
    return rv == 0 ? NULL : err->text;
}

/* NULL, or what is wrong with it. */
static const char *on_frame(struct peer_link *link, const struct frame *f, struct error *err)
{
    struct cursor c;
    if (f->head_len < MESSAGE_PREFIX_SIZE) {
        return "sends a short message";
    }
    uint32_t group_id = load_le32(f->head);
    uint64_t incarnation = load_le64(f->head + 4);
    cursor_init(&c, f->head + MESSAGE_PREFIX_SIZE, f->head_len - MESSAGE_PREFIX_SIZE);
    if (link->state == LINK_UP) {
        if (incarnation != link->peer_incarnation) {
            return "speaks for another incarnation";
        }
        return group_id == 0 ? NULL : on_group_frame(link, f, group_id, err);
    }
    if (group_id != 0 || f->attachment_len > 0) {
        return "speaks before it has proven itself";
    }
    if (link->state == LINK_WAIT_HELLO && f->type == PEER_HELLO) {
        return on_hello(link, incarnation, &c);
    }
    if (link->state == LINK_WAIT_CHALLENGE && f->type == PEER_CHALLENGE) {
        return on_challenge(link, incarnation, &c);
    }
    if (link->state == LINK_WAIT_PROOF && f->type == PEER_PROOF) {
        return on_proof(link, incarnation, &c);
    }
    return "sends messages out of order";
}

/* What fails at every attempt is said now and then. */
static bool may_complain(struct peer_link *link)
{
    uint64_t now_ns = env_now_ns(link->transport->env);
    struct peer *peer = link->peer;
    bool complain = now_ns >= peer->complain_ns;
    peer->complain_ns = complain ? now_ns + TRANSPORT_COMPLAIN_NS : peer->complain_ns;
    return complain;
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct peer_link *link = env_stream_data(stream);
    struct frame f;
    struct error err = {.text = ""};
    if (link->state == LINK_CLOSING) {
        return;
    }
    if (status < 0) {
        bool refused = link->state == LINK_WAIT_CHALLENGE && may_complain(link);
        link_close(link, refused                  ? "hung up on us: it does not know this node, or "
                                                    "has another cluster secret"
                         : status == WEIR_ECLOSED ? NULL
                                                  : error_name(status));
        return;
    }
    link->received_ns = transport_clock_ns(link->transport);
    int rv = frame_parser_feed(&link->parser, data, n);
    if (rv != 0) {
        link_close(link, error_name(rv));
        return;
    }
    while ((rv = frame_parser_next(&link->parser, &f, &err)) == 1) {
        const char *wrong = on_frame(link, &f, &err);
        if (wrong != NULL) {
            link_close(link, wrong);
        }
        if (link->state == LINK_CLOSING) {
            return;
        }
    }
    if (rv < 0) {
        link_close(link, err.text);
    }
}

/* --- Opening --- */

static struct peer_link *link_new(struct transport *t, enum link_state state)
{
    struct peer_link *link = calloc(1, sizeof(*link));
    if (link == NULL) {
        return NULL;
    }
    link->transport = t;
    link->state = state;
    link->opened_ns = link->received_ns = link->sent_ns = transport_clock_ns(t);
    frame_parser_init(&link->parser, UNPROVEN_SIZE_MAX);
    list_push_back(&t->links, &link->link);
    t->n_unproven++;
    return link;
}

void link_accept(struct transport *t, struct env_stream *stream)
{
    struct peer_link *link = NULL;
    if (t->closing || t->n_unproven >= TRANSPORT_UNPROVEN_MAX ||
        (link = link_new(t, LINK_WAIT_HELLO)) == NULL) {
        log_warn("peer_link_refused", "address=%s reason=\"too many connections\"",
                 env_stream_peer(stream));
        env_stream_close(stream, NULL, NULL);
        return;
    }
    link->stream = stream;
    env_stream_set_data(stream, link);
    env_stream_read_start(stream, on_read);
}

static void on_connected(struct env_stream *stream, int status)
{
    struct peer_link *link = env_stream_data(stream);
    if (link->state == LINK_CLOSING) {
        return;
    }
    if (status < 0) {
        link_close(link, may_complain(link) ? error_name(status) : NULL);
        return;
    }
    env_stream_read_start(stream, on_read);
    say_hello(link);
}

int link_dial(struct transport *t, struct peer *peer, struct error *err)
{
    struct peer_link *link = link_new(t, LINK_CONNECTING);
    if (link == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for a link");
    }
    int rv =
        env_connect(t->sockets, peer->host, peer->port, on_connected, link, &link->stream, err);
    if (rv != 0) {
        t->n_unproven--;
        list_remove(&link->link);
        frame_parser_close(&link->parser);
        free(link);
        return rv;
    }
    link->dialled = true;
    link->peer = peer;
    peer->dialing = link;
    return 0;
}

void link_tick(struct peer_link *link)
{
    uint64_t now_ns = transport_clock_ns(link->transport);
    if (link->state == LINK_CLOSING) {
        return;
    }
    if (link->state != LINK_UP) {
        if (now_ns > link->opened_ns + TRANSPORT_PROOF_NS) {
            link_close(link, "does not prove itself in time");
        }
        return;
    }
    if (now_ns > link->received_ns + TRANSPORT_SILENCE_NS) {
        link_close(link, "silent");
    } else if (now_ns > link->sent_ns + TRANSPORT_PING_NS) {
        say(link, PEER_PING, NULL);
    }
}
