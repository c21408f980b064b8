#include "consensus/message.h"
#include "consensus/entry_heap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

#define CONFIGURATION_VERSION 1

/* --- Encoding --- */

static void encode_entries(struct bytes *out, const struct raft_entry *entries, unsigned n)
{
    bytes_put_le32(out, n);
    for (unsigned i = 0; i < n; i++) {
        const struct raft_entry *e = &entries[i];
        bytes_put_le64(out, e->term);
        bytes_put_le32(out, (uint32_t)e->buf.len);
        bytes_put_le32(out, e->buf.len > 0 ? crc32c(0, e->buf.base, e->buf.len) : 0);
        bytes_put_u8(out, (uint8_t)e->type);
    }
}

void message_encode_append(struct bytes *out, const struct raft_append_entries *a,
                           raft_index log_commit)
{
    bytes_put_le64(out, a->term);
    bytes_put_le64(out, a->prev_log_index);
    bytes_put_le64(out, a->prev_log_term);
    bytes_put_le64(out, a->leader_commit);
    bytes_put_le64(out, log_commit);
    encode_entries(out, a->entries, a->n_entries);
}

static void encode_install(struct bytes *out, const struct raft_install_snapshot *s)
{
    struct raft_buffer conf;
    bytes_put_le64(out, s->term);
    bytes_put_le64(out, s->last_index);
    bytes_put_le64(out, s->last_term);
    bytes_put_le64(out, s->conf_index);
    if (raft_configuration_encode(&s->conf, &conf) != 0) {
        out->error = WEIR_ENOMEM;
        return;
    }
    bytes_put_le32(out, (uint32_t)conf.len);
    bytes_put(out, conf.base, conf.len);
    raft_free(conf.base);
}

void message_encode(struct bytes *out, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_IO_APPEND_ENTRIES:
        message_encode_append(out, &m->append_entries, m->append_entries.leader_commit);
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        bytes_put_le64(out, m->append_entries_result.term);
        bytes_put_le64(out, m->append_entries_result.rejected);
        bytes_put_le64(out, m->append_entries_result.last_log_index);
        break;
    case RAFT_IO_REQUEST_VOTE:
        bytes_put_le64(out, m->request_vote.term);
        bytes_put_le64(out, m->request_vote.candidate_id);
        bytes_put_le64(out, m->request_vote.last_log_index);
        bytes_put_le64(out, m->request_vote.last_log_term);
        bytes_put_u8(out, m->request_vote.disrupt_leader);
        bytes_put_u8(out, m->request_vote.pre_vote);
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        bytes_put_le64(out, m->request_vote_result.term);
        bytes_put_u8(out, m->request_vote_result.vote_granted);
        bytes_put_u8(out, (uint8_t)m->request_vote_result.pre_vote);
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        encode_install(out, &m->install_snapshot);
        break;
    case RAFT_IO_TIMEOUT_NOW:
        bytes_put_le64(out, m->timeout_now.term);
        bytes_put_le64(out, m->timeout_now.last_log_index);
        bytes_put_le64(out, m->timeout_now.last_log_term);
        break;
    default:
        out->error = WEIR_EINVAL;
        break;
    }
}

void message_encode_fetch(struct bytes *out, const struct peer_fetch *fetch)
{
    bytes_put_le64(out, fetch->term);
    bytes_put_le64(out, fetch->first);
}

void message_encode_refused(struct bytes *out, const struct peer_refused *refused)
{
    bytes_put_le64(out, refused->term);
    bytes_put_le64(out, refused->first);
    bytes_put_le32(out, (uint32_t)refused->status);
    bytes_put_le64(out, refused->available);
}

void message_encode_read(struct bytes *out, const struct peer_read *read)
{
    bytes_put_le64(out, read->term);
    bytes_put_le64(out, read->stamp);
}

void message_encode_reset(struct bytes *out, const struct peer_reset *reset)
{
    const struct partition_begin *b = &reset->begin;
    bytes_put_le64(out, reset->term);
    bytes_put_le64(out, b->first_index.v);
    bytes_put_le64(out, b->prev_term.v);
    bytes_put_le64(out, (uint64_t)b->first_offset.v);
    bytes_put_le64(out, (uint64_t)b->start_offset.v);
    bytes_put_le64(out, (uint64_t)b->time_ms);
    bytes_put_le64(out, b->config_index.v);
    bytes_put_le32(out, reset->config_len);
    bytes_put(out, reset->config, reset->config_len);
    bytes_put_le32(out, reset->state_len);
    bytes_put(out, reset->state, reset->state_len);
}

void message_encode_repair_ask(struct bytes *out, const struct peer_repair_ask *ask)
{
    bytes_put_le64(out, ask->first);
    bytes_put_le64(out, ask->last);
    bytes_put_le64(out, ask->anchor);
    bytes_put_le64(out, ask->anchor_term);
}

void message_encode_repair(struct bytes *out, const struct peer_repair *repair)
{
    bytes_put_le64(out, repair->first);
    bytes_put_u8(out, repair->matched);
    bytes_put_le64(out, repair->commit);
    bytes_put_le64(out, repair->begins);
    if (repair->begin.first_index.v == 0) {
        encode_entries(out, repair->entries, repair->n);
        return;
    }
    bytes_put_le32(out, 0);
    bytes_put_le64(out, repair->begin.prev_term.v);
    bytes_put_le64(out, (uint64_t)repair->begin.first_offset.v);
    bytes_put_le64(out, (uint64_t)repair->begin.time_ms);
    bytes_put_le64(out, repair->begin.config_index.v);
}

void message_encode_compacted(struct bytes *out, const struct peer_compacted *compacted)
{
    bytes_put_le64(out, compacted->term);
    bytes_put_le64(out, compacted->commit);
    bytes_put_le64(out, (uint64_t)compacted->upto);
    bytes_put_le64(out, (uint64_t)compacted->tombstones_ms);
    bytes_put_le64(out, (uint64_t)compacted->clean);
    bytes_put_u8(out, compacted->waits);
}

void message_encode_term(struct bytes *out, raft_term term)
{
    bytes_put_le64(out, term);
}

void message_encode_state_ask(struct bytes *out, const struct peer_state_ask *ask)
{
    bytes_put_le64(out, ask->nonce);
    bytes_put_le32(out, ask->founders);
    bytes_put_u8(out, ask->lost);
    bytes_put_u8(out, ask->voter);
    bytes_put_u8(out, ask->marked);
}

void message_encode_state(struct bytes *out, const struct peer_state *state)
{
    struct raft_buffer conf = {0};
    bytes_put_le64(out, state->nonce);
    bytes_put_u8(out, (uint8_t)state->kind);
    bytes_put_le64(out, state->term);
    bytes_put_u8(out, state->leading);
    bytes_put_u8(out, state->welcome);
    bytes_put_le64(out, state->commit);
    bytes_put_le32(out, state->founders);
    if (state->configuration.n > 0 &&
        raft_configuration_encode(&state->configuration, &conf) != 0) {
        out->error = WEIR_ENOMEM;
        return;
    }
    bytes_put_le32(out, (uint32_t)conf.len);
    bytes_put(out, conf.base, conf.len);
    raft_free(conf.base);
}

/* --- Decoding --- */

/* Entries point into one block that holds all payloads in turn. */
static int decode_payloads(struct raft_append_entries *a, struct cursor *table, const uint8_t *data,
                           size_t len, struct error *err)
{
    char *block = entry_heap_alloc(len > 0 ? len : 1);
    a->entries = entry_heap_alloc(a->n_entries * sizeof(*a->entries));
    if (block == NULL || a->entries == NULL) {
        raft_free(block);
        raft_free(a->entries);
        return error_set(err, WEIR_ENOMEM, "no memory for %zu bytes of entries", len);
    }
    memcpy(block, data, len);
    size_t at = 0;
    int rv = 0;
    for (unsigned i = 0; i < a->n_entries && rv == 0; i++) {
        struct raft_entry *e = &a->entries[i];
        *e = (struct raft_entry){.term = cursor_le64(table), .batch = block};
        e->buf.len = cursor_le32(table);
        uint32_t crc = cursor_le32(table);
        e->type = cursor_u8(table);
        e->buf.base = block + at;
        if (e->type < RAFT_COMMAND || e->type > RAFT_CHANGE || e->term == 0 || e->term > a->term ||
            e->buf.len > len - at) {
            rv = error_set(err, WEIR_EPROTO, "entry %u of %u: type %u, term %llu, %zu bytes", i,
                           a->n_entries, e->type, e->term, e->buf.len);
        } else if (e->buf.len > 0 && crc32c(0, e->buf.base, e->buf.len) != crc) {
            rv = error_set(err, WEIR_ECORRUPT, "entry %u of %u: bad checksum", i, a->n_entries);
        }
        at += e->buf.len;
    }
    if (rv == 0 && at != len) {
        rv = error_set(err, WEIR_EPROTO, "entries of %zu bytes, %zu sent", at, len);
    }
    if (rv != 0) {
        raft_free(block);
        raft_free(a->entries);
    }
    return rv;
}

/* The table of entries, which ends the body, and their payloads. */
static int decode_entries(struct message *m, struct cursor *c, const uint8_t *data, size_t len,
                          struct error *err)
{
    struct raft_append_entries *a = &m->raft.append_entries;
    a->n_entries = cursor_le32(c);
    m->bytes = len;
    if (!cursor_ok(c) || a->n_entries > MESSAGE_ENTRIES_MAX ||
        cursor_left(c) != (size_t)a->n_entries * MESSAGE_ENTRY_SIZE) {
        return error_set(err, WEIR_EPROTO, "%u entries in %zu bytes", a->n_entries, c->len);
    }
    a->entries = NULL;
    if (a->n_entries == 0) {
        return len == 0 ? 0 : error_set(err, WEIR_EPROTO, "no entries, but %zu bytes of them", len);
    }
    int rv = decode_payloads(a, c, data, len, err);
    if (rv == 0) {
        m->end_term = a->entries[a->n_entries - 1].term;
    }
    return rv;
}

static int decode_append(struct message *m, struct cursor *c, const uint8_t *data, size_t len,
                         struct error *err)
{
    struct raft_append_entries *a = &m->raft.append_entries;
    m->raft.type = RAFT_IO_APPEND_ENTRIES;
    a->term = cursor_le64(c);
    a->prev_log_index = cursor_le64(c);
    a->prev_log_term = cursor_le64(c);
    a->leader_commit = cursor_le64(c);
    m->log_commit = cursor_le64(c);
    if (cursor_ok(c) && (a->term == 0 || a->prev_log_index > UINT64_MAX / 2)) {
        return error_set(err, WEIR_EPROTO, "append behind %llu in term %llu", a->prev_log_index,
                         a->term);
    }
    return decode_entries(m, c, data, len, err);
}

/* No table of entries has that size. */
#define REPAIR_BEGIN_SIZE (4 + 4 * 8)
static_assert((REPAIR_BEGIN_SIZE - 4) % MESSAGE_ENTRY_SIZE != 0, "a begin looks like entries");

static int decode_repair_begin(struct peer_repair *r, struct cursor *c, size_t attached,
                               struct error *err)
{
    uint32_t n = cursor_le32(c);
    r->begin = (struct partition_begin){
        .first_index = LOG_INDEX(r->begins),
        .prev_term = LOG_TERM(cursor_le64(c)),
        .first_offset = LOG_OFFSET(cursor_le64(c)),
        .time_ms = (int64_t)cursor_le64(c),
        .config_index = LOG_INDEX(cursor_le64(c)),
    };
    r->begin.start_offset = r->begin.first_offset;
    bool sane = n == 0 && attached == 0 && r->begins > 1 && r->begins <= UINT64_MAX / 2 &&
                r->begin.prev_term.v != 0 && r->begin.first_offset.v >= 0 &&
                r->begin.time_ms >= 0 && r->begin.config_index.v < r->begins;
    return sane ? 0 : error_set(err, WEIR_EPROTO, "wrong begin with entry %llu", r->begins);
}

static int decode_repair(struct message *m, struct cursor *c, const uint8_t *data, size_t len,
                         struct error *err)
{
    struct raft_append_entries *a = &m->raft.append_entries;
    m->raft.type = RAFT_IO_APPEND_ENTRIES;
    a->term = UINT64_MAX; /* terms of entries have no bound here */
    m->repair.first = cursor_le64(c);
    m->repair.matched = cursor_u8(c) != 0;
    m->repair.commit = cursor_le64(c);
    m->repair.begins = cursor_le64(c);
    if (cursor_ok(c) && cursor_left(c) == REPAIR_BEGIN_SIZE) {
        return decode_repair_begin(&m->repair, c, len, err);
    }
    int rv = decode_entries(m, c, data, len, err);
    m->repair.entries = a->entries;
    m->repair.n = a->n_entries;
    return rv;
}

static int decode_install(struct raft_install_snapshot *s, struct cursor *c, struct error *err)
{
    s->term = cursor_le64(c);
    s->last_index = cursor_le64(c);
    s->last_term = cursor_le64(c);
    s->conf_index = cursor_le64(c);
    uint32_t len = cursor_le32(c);
    const uint8_t *conf = cursor_take(c, len);
    if (conf == NULL || s->last_index == 0 || s->last_term == 0 || s->last_term > s->term) {
        return error_set(err, WEIR_EPROTO, "short or wrong install message");
    }
    /* libraft frees a block here; nothing is in it: the log itself is what gets fetched. */
    s->data.len = 8;
    s->data.base = entry_heap_zalloc(1, s->data.len);
    if (s->data.base == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for an install message");
    }
    int rv = configuration_decode(conf, len, &s->conf, err);
    if (rv != 0) {
        raft_free(s->data.base);
    }
    return rv;
}

int configuration_decode(const void *data, size_t len, struct raft_configuration *ret_conf,
                         struct error *err)
{
    struct cursor c;
    struct raft_configuration conf;
    cursor_init(&c, data, len);
    raft_configuration_init(&conf);
    uint8_t version = cursor_u8(&c);
    uint64_t n = cursor_le64(&c);
    int rv = cursor_ok(&c) && version == CONFIGURATION_VERSION && n > 0 && n <= MESSAGE_SERVERS_MAX
                 ? 0
                 : WEIR_EPROTO;
    for (uint64_t i = 0; i < n && rv == 0; i++) {
        uint64_t id = cursor_le64(&c);
        size_t left = cursor_left(&c);
        const char *address = (const char *)c.data + c.pos;
        size_t address_len = left > 0 ? strnlen(address, left) : 0;
        if (address_len >= left || cursor_take(&c, address_len + 1) == NULL) {
            rv = WEIR_EPROTO;
            break;
        }
        uint8_t role = cursor_u8(&c);
        if (!cursor_ok(&c) || id == 0 || role > RAFT_SPARE) {
            rv = WEIR_EPROTO;
        } else {
            int added = raft_configuration_add(&conf, id, address, role);
            rv = added == 0 ? 0 : added == RAFT_NOMEM ? WEIR_ENOMEM : WEIR_EPROTO;
        }
    }
    if (rv != 0) {
        raft_configuration_close(&conf);
        return error_set(err, rv, "configuration of %zu bytes can't be read", len);
    }
    *ret_conf = conf;
    return 0;
}

static void decode_result(struct message *m, struct cursor *c)
{
    m->raft.type = RAFT_IO_APPEND_ENTRIES_RESULT;
    m->raft.append_entries_result.term = cursor_le64(c);
    m->raft.append_entries_result.rejected = cursor_le64(c);
    m->raft.append_entries_result.last_log_index = cursor_le64(c);
}

static void decode_vote(struct message *m, struct cursor *c)
{
    struct raft_request_vote *v = &m->raft.request_vote;
    m->raft.type = RAFT_IO_REQUEST_VOTE;
    v->term = cursor_le64(c);
    v->candidate_id = cursor_le64(c);
    v->last_log_index = cursor_le64(c);
    v->last_log_term = cursor_le64(c);
    v->disrupt_leader = cursor_u8(c) != 0;
    v->pre_vote = cursor_u8(c) != 0;
}

static void decode_vote_result(struct message *m, struct cursor *c)
{
    struct raft_request_vote_result *v = &m->raft.request_vote_result;
    m->raft.type = RAFT_IO_REQUEST_VOTE_RESULT;
    v->term = cursor_le64(c);
    v->vote_granted = cursor_u8(c) != 0;
    uint8_t pre_vote = cursor_u8(c);
    v->pre_vote = pre_vote <= raft_tribool_false ? (raft_tribool)pre_vote : raft_tribool_unknown;
}

static void decode_timeout_now(struct message *m, struct cursor *c)
{
    m->raft.type = RAFT_IO_TIMEOUT_NOW;
    m->raft.timeout_now.term = cursor_le64(c);
    m->raft.timeout_now.last_log_index = cursor_le64(c);
    m->raft.timeout_now.last_log_term = cursor_le64(c);
}

static int decode_reset(struct peer_reset *reset, struct cursor *c, struct error *err)
{
    struct partition_begin *b = &reset->begin;
    struct raft_configuration conf;
    reset->term = cursor_le64(c);
    b->first_index = LOG_INDEX(cursor_le64(c));
    b->prev_term = LOG_TERM(cursor_le64(c));
    b->first_offset = LOG_OFFSET(cursor_le64(c));
    b->start_offset = LOG_OFFSET(cursor_le64(c));
    b->time_ms = (int64_t)cursor_le64(c);
    b->config_index = LOG_INDEX(cursor_le64(c));
    reset->config_len = cursor_le32(c);
    reset->config = cursor_take(c, reset->config_len);
    reset->state_len = cursor_le32(c);
    reset->state = cursor_take(c, reset->state_len);
    if (reset->config == NULL || reset->state == NULL || b->first_index.v < 2 ||
        b->first_index.v > UINT64_MAX / 2 || b->prev_term.v == 0 || b->prev_term.v > reset->term ||
        b->first_offset.v < 0 || b->start_offset.v < b->first_offset.v ||
        b->config_index.v >= b->first_index.v) {
        return error_set(err, WEIR_EPROTO, "short or wrong reset message");
    }
    int rv = configuration_decode(reset->config, reset->config_len, &conf, err);
    if (rv == 0) {
        raft_configuration_close(&conf);
    }
    return rv;
}

static void decode_state_ask(struct peer_state_ask *ask, struct cursor *c)
{
    ask->nonce = cursor_le64(c);
    ask->founders = cursor_le32(c);
    ask->lost = cursor_u8(c) != 0;
    ask->voter = cursor_u8(c) != 0;
    ask->marked = cursor_u8(c) != 0;
}

static int decode_state(struct peer_state *s, struct cursor *c, struct error *err)
{
    s->nonce = cursor_le64(c);
    s->kind = (enum peer_founding)cursor_u8(c);
    s->term = cursor_le64(c);
    s->leading = cursor_u8(c) != 0;
    s->welcome = cursor_u8(c) != 0;
    s->commit = cursor_le64(c);
    s->founders = cursor_le32(c);
    uint32_t len = cursor_le32(c);
    const uint8_t *conf = cursor_take(c, len);
    if (conf == NULL || s->kind < PEER_FRESH || s->kind > PEER_LOST) {
        return error_set(err, WEIR_EPROTO, "short or wrong state message");
    }
    return len == 0 ? 0 : configuration_decode(conf, len, &s->configuration, err);
}

static void decode_fetch(struct peer_fetch *fetch, struct cursor *c)
{
    fetch->term = cursor_le64(c);
    fetch->first = cursor_le64(c);
}

static void decode_read(struct peer_read *read, struct cursor *c)
{
    read->term = cursor_le64(c);
    read->stamp = cursor_le64(c);
}

static void decode_refused(struct peer_refused *refused, struct cursor *c)
{
    refused->term = cursor_le64(c);
    refused->first = cursor_le64(c);
    refused->status = (int32_t)cursor_le32(c);
    refused->available = cursor_le64(c);
}

static void decode_repair_ask(struct peer_repair_ask *ask, struct cursor *c)
{
    ask->first = cursor_le64(c);
    ask->last = cursor_le64(c);
    ask->anchor = cursor_le64(c);
    ask->anchor_term = cursor_le64(c);
}

static int decode_compacted(struct peer_compacted *m, struct cursor *c, struct error *err)
{
    m->term = cursor_le64(c);
    m->commit = cursor_le64(c);
    m->upto = (int64_t)cursor_le64(c);
    m->tombstones_ms = (int64_t)cursor_le64(c);
    m->clean = (int64_t)cursor_le64(c);
    m->waits = cursor_u8(c) != 0;
    bool sane = m->upto >= 0 && m->tombstones_ms >= 0 && m->clean >= 0 && m->clean <= m->upto;
    return sane ? 0
                : error_set(err, WEIR_EPROTO, "compacted to %lld of %lld", (long long)m->clean,
                            (long long)m->upto);
}

int message_decode(uint16_t type, const void *body, size_t len, const void *attachment,
                   size_t attachment_len, struct message *ret_message, struct error *err)
{
    struct message m = {.type = (enum peer_message)type};
    struct cursor c;
    int rv = 0;
    cursor_init(&c, body, len);
    switch (type) {
    case PEER_APPEND:
    case PEER_FETCHED:
        rv = decode_append(&m, &c, attachment, attachment_len, err);
        break;
    case PEER_INSTALL:
        m.raft.type = RAFT_IO_INSTALL_SNAPSHOT;
        rv = decode_install(&m.raft.install_snapshot, &c, err);
        break;
    case PEER_APPEND_RESULT:
        decode_result(&m, &c);
        break;
    case PEER_VOTE:
        decode_vote(&m, &c);
        break;
    case PEER_VOTE_RESULT:
        decode_vote_result(&m, &c);
        break;
    case PEER_TIMEOUT_NOW:
        decode_timeout_now(&m, &c);
        break;
    case PEER_FETCH:
        decode_fetch(&m.fetch, &c);
        break;
    case PEER_FETCH_REFUSED:
        decode_refused(&m.refused, &c);
        break;
    case PEER_READ_ASK:
    case PEER_READ:
        decode_read(&m.read, &c);
        break;
    case PEER_RESET:
        rv = decode_reset(&m.reset, &c, err);
        break;
    case PEER_REPAIR_ASK:
        decode_repair_ask(&m.repair_ask, &c);
        break;
    case PEER_REPAIR:
        rv = decode_repair(&m, &c, attachment, attachment_len, err);
        break;
    case PEER_COMPACTED:
        rv = decode_compacted(&m.compacted, &c, err);
        break;
    case PEER_LEADER_GONE:
        m.term = cursor_le64(&c);
        break;
    case PEER_STATE_ASK:
        decode_state_ask(&m.ask, &c);
        break;
    case PEER_STATE:
        rv = decode_state(&m.state, &c, err);
        break;
    default:
        return error_set(err, WEIR_EPROTO, "unknown message type %u", type);
    }
    if (rv == 0 && (!cursor_ok(&c) || cursor_left(&c) != 0)) {
        message_release(&m);
        rv = error_set(err, WEIR_EPROTO, "message type %u of %zu bytes", type, len);
    }
    if (rv == 0) {
        *ret_message = m;
    }
    return rv;
}

void message_release(struct message *m)
{
    if (m->raft.type == RAFT_IO_APPEND_ENTRIES && m->raft.append_entries.entries != NULL) {
        raft_free(m->raft.append_entries.entries[0].batch);
        raft_free(m->raft.append_entries.entries);
    } else if (m->raft.type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&m->raft.install_snapshot.conf);
        raft_free(m->raft.install_snapshot.data.base);
    } else if (m->type == PEER_STATE) {
        raft_configuration_close(&m->state.configuration);
    }
    *m = (struct message){.type = m->type};
}
