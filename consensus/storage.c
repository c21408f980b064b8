#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/logging.h"
#include "consensus/entry_heap.h"
#include "consensus/founding.h"
#include "log/control.h"

/* Snapshots are marks, not data: "applied up to here, with this configuration". Losing the newest
 * only makes the next start read more of the log, so it is written to disk once per this much log.
 */
#define SNAPSHOT_SAVE_BYTES   (8u << 20)
#define SNAPSHOT_SAVE_ENTRIES 1024u

static struct group *group_of(const struct raft_io *io)
{
    return io->impl;
}

/* libraft knows no control entries: to it they are commands. */
enum log_entry_type storage_log_type(const struct raft_entry *e)
{
    switch (e->type) {
    case RAFT_COMMAND:
        return control_is(e->buf.base, e->buf.len) ? LOG_ENTRY_CONTROL : LOG_ENTRY_BATCH;
    case RAFT_BARRIER:
        return LOG_ENTRY_BARRIER;
    default:
        return LOG_ENTRY_CONFIG;
    }
}

unsigned short storage_raft_type(enum log_entry_type type)
{
    switch (type) {
    case LOG_ENTRY_BATCH:
    case LOG_ENTRY_CONTROL:
        return RAFT_COMMAND;
    case LOG_ENTRY_BARRIER:
        return RAFT_BARRIER;
    case LOG_ENTRY_CONFIG:
        break;
    }
    return RAFT_CHANGE;
}

raft_term storage_term(struct group *g, raft_index index)
{
    struct log_term term;
    if (index == 0 || partition_term_at(g->partition, LOG_INDEX(index), &term) != 0) {
        return index != 0 && index == g->snapshot.index ? g->snapshot.term : 0;
    }
    return term.v;
}

raft_index storage_last(const struct group *g)
{
    return partition_last_index(g->partition).v;
}

/* --- Metadata --- */

static struct partition_meta meta_now(const struct group *g)
{
    return (struct partition_meta){
        /* Behind a vote log: a term that was promised, so that a vote log with less has lost some.
         */
        .term = LOG_TERM(g->votes_shared ? g->term_durable : g->term),
        .vote = g->votes_shared ? 0 : g->vote,
        .votes_shared = g->votes_shared,
        .recovering = g->recovering,
        .wish = g->wish,
        .begun_index = LOG_INDEX(g->begun_index),
        .snapshot_index = LOG_INDEX(g->snapshot.index),
        .snapshot_term = LOG_TERM(g->snapshot.term),
        .snapshot_config_index = LOG_INDEX(g->snapshot.config_index),
        .snapshot_config = g->snapshot.config,
        .snapshot_config_len = g->snapshot.config_len,
    };
}

static void meta_saved(struct group *g)
{
    g->snapshot_given = g->snapshot.index;
    g->snapshot_bytes_pending = 0;
}

int storage_begin_as_snapshot(struct group *g, const struct raft_configuration *conf,
                              struct error *err)
{
    struct partition_begin begin;
    struct raft_buffer config;
    partition_begin(g->partition, &begin);
    if (g->snapshot.index + 1 >= begin.first_index.v) {
        return 0;
    }
    if (raft_configuration_encode(conf, &config) != 0) {
        return error_set(err, WEIR_ENOMEM, "no memory for a configuration");
    }
    void *copy = malloc(config.len);
    if (copy != NULL) {
        memcpy(copy, config.base, config.len);
        free(g->snapshot.config);
        g->snapshot = (struct group_snapshot){
            .index = begin.first_index.v - 1,
            .term = begin.prev_term.v,
            .config_index = begin.config_index.v,
            .config = copy,
            .config_len = (uint32_t)config.len,
        };
    }
    raft_free(config.base);
    return copy != NULL ? 0 : error_set(err, WEIR_ENOMEM, "no memory for a configuration");
}

raft_index storage_snapshot_stored(const struct group *g)
{
    struct partition_meta meta;
    partition_meta(g->partition, &meta);
    return meta.snapshot_index.v;
}

/* Durable on return: at opening and closing. */
static int save_meta(struct group *g, struct error *err)
{
    struct partition_meta meta = meta_now(g);
    int rv = partition_set_meta(g->partition, &meta, err);
    if (rv == 0) {
        meta_saved(g);
    }
    return rv;
}

/* Nobody waits for it: losing it only makes the next start read more. */
static int save_meta_later(struct group *g, struct error *err)
{
    struct partition_meta meta = meta_now(g);
    int rv = partition_save_meta(g->partition, &meta, err);
    if (rv == 0) { /* not stored yet: what a snapshot covers must stay in the log (retain.c) */
        g->snapshot_given = g->snapshot.index;
        g->snapshot_bytes_pending = 0;
    }
    return rv;
}

int storage_save_snapshot(struct group *g, struct error *err)
{
    return storage_snapshot_stored(g) == g->snapshot.index ? 0 : save_meta(g, err);
}

int storage_save_snapshot_later(struct group *g, struct error *err)
{
    return g->snapshot_given == g->snapshot.index ? 0 : save_meta_later(g, err);
}

void storage_promise(struct group *g, raft_term term, raft_id vote)
{
    g->term = term;
    g->vote = vote;
    vote_log_put(&g->votes, term, vote);
}

/* From now on the metadata's term is a lower bound; only now, because whoever finds that mark and
 * no votes in the vote log takes them for lost. */
void storage_votes_durable(struct group *g)
{
    struct error err = {0};
    g->term_durable = g->votes.term; /* that of the last entry may be higher */
    if (g->votes_shared || g->phase == GROUP_CLOSING || g->phase == GROUP_FAILED) {
        return;
    }
    g->votes_shared = true;
    if (save_meta_later(g, &err) != 0) {
        g->votes_shared = false; /* with the next change */
    }
}

int storage_save_mark(struct group *g, raft_term term, raft_id vote, struct error *err)
{
    storage_promise(g, term, vote);
    return save_meta(g, err);
}

/* What counts: the vote log's term and vote, or, of a node that had none yet, the metadata's. */
static int open_votes(struct group *g, const struct partition_meta *meta, struct error *err)
{
    enum vote_state state;
    if (gate_attach(g, &state) != 0) {
        return error_set(err, WEIR_ENOMEM, "%s: no place in the vote log", g->dir);
    }
    bool newer = g->votes.term > g->term || (g->votes.term == g->term && g->votes.vote != 0);
    if (state == VOTES_KNOWN && (newer || (meta->votes_shared && g->votes.term == g->term))) {
        g->term = g->votes.term;
        g->vote = g->votes.vote;
        g->term_durable = g->term;
        return 0;
    }
    if (!meta->votes_shared && state != VOTES_LOST) {
        if (storage_last(g) > 0 || g->term > 0) {
            storage_promise(g, g->term, g->vote); /* not there yet, or not its newest */
        }
        return 0;
    }
    /* Promises are missing. */
    log_error("raft_votes_lost", "group=%u term=%llu", g->options.id, (unsigned long long)g->term);
    g->term = g->votes.term > g->term ? g->votes.term : g->term;
    g->vote = 0;
    g->term_durable = g->term;
    g->votes_shared = true;
    g->recovering = true;
    return save_meta(g, err);
}

static int open_snapshot(struct group *g, struct error *err)
{
    struct partition_meta meta;
    partition_meta(g->partition, &meta);
    /* When the end of the log is lost, the snapshot may be of what is gone. */
    bool gone = meta.recovering && storage_last(g) < meta.snapshot_index.v;
    if (meta.snapshot_index.v > 0 && !gone) {
        g->snapshot.config = malloc(meta.snapshot_config_len);
        if (g->snapshot.config == NULL) {
            return error_set(err, WEIR_ENOMEM, "no memory for a configuration");
        }
        memcpy(g->snapshot.config, meta.snapshot_config, meta.snapshot_config_len);
        g->snapshot.config_len = meta.snapshot_config_len;
        g->snapshot.index = meta.snapshot_index.v;
        g->snapshot.term = meta.snapshot_term.v;
        g->snapshot.config_index = meta.snapshot_config_index.v;
        g->snapshot_given = g->snapshot.index;
    }
    if (storage_last(g) >= g->snapshot.index) {
        return 0;
    }
    /* What a snapshot covers was durable before it was taken: the log's end is lost, and nothing
     * else was there to say so. */
    log_error("raft_log_lost", "dir=" LOG_Q " last=%llu snapshot=%llu", g->dir,
              (unsigned long long)storage_last(g), (unsigned long long)g->snapshot.index);
    free(g->snapshot.config);
    memset(&g->snapshot, 0, sizeof(g->snapshot));
    g->recovering = true;
    return save_meta(g, err);
}

int storage_open(struct group *g, struct error *err)
{
    struct partition_meta meta;
    partition_meta(g->partition, &meta);
    g->term = g->term_durable = meta.term.v;
    g->vote = meta.vote;
    g->votes_shared = meta.votes_shared;
    g->recovering = meta.recovering;
    g->wish = meta.wish;
    g->begun_index = meta.begun_index.v;
    int rv = open_snapshot(g, err);
    partition_meta(g->partition, &meta);
    return rv == 0 ? open_votes(g, &meta, err) : rv;
}

int storage_reopen(struct group *g, struct error *err)
{
    free(g->snapshot.config);
    memset(&g->snapshot, 0, sizeof(g->snapshot));
    return open_snapshot(g, err);
}

/* Neither ever fails towards libraft, whose convertToCandidate then calls itself a follower with a
 * candidate's half of the union: the next conversion frees `disrupt_leader`, address 1. When the
 * disk fails, the group does, and what waits for the promise never leaves (gate.c). */
static int set_term(struct raft_io *io, raft_term term)
{
    struct group *g = group_of(io);
    /* A new term has a new leader: nothing is known to be equal to its log (guard 2). */
    g->verified = 0;
    storage_promise(g, term, 0);
    return 0;
}

static int set_vote(struct raft_io *io, raft_id vote)
{
    struct group *g = group_of(io);
    if (fault_on(FAULT_VOTE_NOT_PERSISTED)) {
        g->vote = vote;
        return 0;
    }
    storage_promise(g, g->term, vote);
    return 0;
}

/* --- Loading --- */

struct load {
    struct raft_entry *entries;
    size_t n, max;
};

/* One allocation per entry, batch NULL: batches handed out by load are freed twice by libraft
 * 0.15.0 when sends are in flight during a compaction. */
static int load_entry(void *data, const struct partition_entry *entry)
{
    struct load *load = data;
    if (load->n == load->max) {
        return WEIR_ECORRUPT;
    }
    void *base = entry_heap_alloc(entry->len > 0 ? entry->len : 1);
    if (base == NULL) {
        return WEIR_ENOMEM;
    }
    memcpy(base, entry->payload, entry->len);
    load->entries[load->n++] = (struct raft_entry){
        .term = entry->term.v,
        .type = storage_raft_type(entry->type),
        .buf = {.base = base, .len = entry->len},
    };
    return 0;
}

static int load_entries(struct group *g, raft_index first, struct raft_entry **ret_entries,
                        size_t *ret_n, struct error *err)
{
    struct load load = {.max = storage_last(g) + 1 - first};
    *ret_entries = NULL;
    *ret_n = 0;
    if (load.max == 0) {
        return 0;
    }
    load.entries = entry_heap_zalloc(load.max, sizeof(*load.entries));
    if (load.entries == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for %zu entries", load.max);
    }
    int rv = partition_read(g->partition, LOG_INDEX(first), UINT64_MAX, load_entry, &load, err);
    if (rv == 0 && load.n != load.max) {
        rv = error_set(err, WEIR_ECORRUPT, "%s: %zu entries read, %zu expected", g->dir, load.n,
                       load.max);
    }
    if (rv != 0) {
        while (load.n > 0) {
            raft_free(load.entries[--load.n].buf.base);
        }
        raft_free(load.entries);
        return rv;
    }
    *ret_entries = load.entries;
    *ret_n = load.n;
    return 0;
}

/* --- Configurations --- */

static int decode_entry(void *data, const struct partition_entry *entry)
{
    struct raft_configuration *conf = data;
    int rv = configuration_decode(entry->payload, entry->len, conf, NULL);
    return rv != 0 ? rv : 1; /* one is enough */
}

int storage_configuration_at(struct group *g, raft_index index, struct raft_configuration *ret_conf,
                             struct error *err)
{
    struct log_index at = partition_config_index(g->partition, LOG_INDEX(index));
    raft_configuration_init(ret_conf);
    if (at.v > g->snapshot.index) { /* else the snapshot has it, and the log may begin behind it */
        int rv = partition_read(g->partition, at, 1, decode_entry, ret_conf, err);
        return rv < 0 ? rv : 0;
    }
    return g->snapshot.index > 0
               ? configuration_decode(g->snapshot.config, g->snapshot.config_len, ret_conf, err)
               : 0;
}

int storage_newest_configuration(struct group *g, struct raft_configuration *ret_conf,
                                 struct error *err)
{
    return storage_configuration_at(g, storage_last(g), ret_conf, err);
}

static void snapshot_free(struct raft_snapshot *s)
{
    if (s != NULL) {
        raft_configuration_close(&s->configuration);
        if (s->bufs != NULL) {
            raft_free(s->bufs[0].base);
            raft_free(s->bufs);
        }
        raft_free(s);
    }
}

/* The newest snapshot in libraft's form; its data is a placeholder. */
static int snapshot_make(struct group *g, struct raft_snapshot **ret_snapshot, struct error *err)
{
    struct raft_snapshot *s = entry_heap_zalloc(1, sizeof(*s));
    int rv = s == NULL ? error_set(err, WEIR_ENOMEM, "no memory for a snapshot") : 0;
    if (rv == 0) {
        s->index = g->snapshot.index;
        s->term = g->snapshot.term;
        s->configuration_index = g->snapshot.config_index;
        rv = configuration_decode(g->snapshot.config, g->snapshot.config_len, &s->configuration,
                                  err);
    }
    if (rv == 0) {
        s->bufs = entry_heap_zalloc(1, sizeof(*s->bufs));
        if (s->bufs != NULL) {
            s->n_bufs = 1;
            s->bufs[0].len = 8;
            s->bufs[0].base = entry_heap_zalloc(1, s->bufs[0].len);
        }
        if (s->bufs == NULL || s->bufs[0].base == NULL) {
            rv = error_set(err, WEIR_ENOMEM, "no memory for a snapshot");
        }
    }
    if (rv != 0) {
        snapshot_free(s);
        return rv;
    }
    *ret_snapshot = s;
    return 0;
}

static int load(struct raft_io *io, raft_term *term, raft_id *voted_for,
                struct raft_snapshot **snapshot, raft_index *start_index,
                struct raft_entry *entries[], size_t *n_entries)
{
    struct group *g = group_of(io);
    struct error err = {0};
    raft_index start = 1;
    struct raft_snapshot *s = NULL;
    int rv = 0;
    if (g->snapshot.index > 0) {
        raft_index first = partition_first_index(g->partition).v;
        start = g->snapshot.index > GROUP_LOAD_TRAILING
                    ? g->snapshot.index - GROUP_LOAD_TRAILING + 1
                    : 1;
        start = start < first ? first : start;
        /* What is at or below the snapshot need not be there (repair.c). */
        start = repair_first_whole(g, start);
        rv = snapshot_make(g, &s, &err);
    }
    if (rv == 0) {
        rv = load_entries(g, start, entries, n_entries, &err);
    }
    if (rv != 0) {
        snapshot_free(s);
        g->failure = err;
        return rv == WEIR_ENOMEM ? RAFT_NOMEM : RAFT_CORRUPT;
    }
    /* An entry of a higher term than the metadata's was accepted in that term; a vote in it, if
     * there was one, was not for anybody else than its leader. */
    raft_term last_term = storage_term(g, storage_last(g));
    *term = g->term;
    *voted_for = g->vote;
    if (last_term > g->term) {
        storage_promise(g, last_term, 0); /* the vote log must not be behind what we go by */
        *term = g->term;
        *voted_for = g->vote;
    }
    *snapshot = s;
    *start_index = start;
    return 0;
}

/* --- Appending and truncating --- */

static void append_done(struct partition_append *req, int status)
{
    struct group_append *a = req->data;
    guard_append_done(a->group, a, status);
}

struct group_append *storage_spare_append(void)
{
    struct group_append *a;
    return group_no_memory() ? NULL : malloc(sizeof(*a) + sizeof(a->entries[0]));
}

static struct group_append *take_append(struct group *g, unsigned n)
{
    struct group_append *a = g->spare_append;
    if (a != NULL && n == 1) {
        g->spare_append = NULL;
        return a;
    }
    return group_no_memory() ? NULL : malloc(sizeof(*a) + n * sizeof(a->entries[0]));
}

static int append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[],
                  unsigned n, raft_io_append_cb cb)
{
    struct group *g = group_of(io);
    struct group_append *a = take_append(g, n);
    if (a == NULL) {
        return RAFT_NOMEM; /* the one failure that libraft survives: nothing was taken */
    }
    /* libraft has taken the message's entries: what it said is now in our log (guard 2). */
    if (g->receiving > g->verified) {
        g->verified = g->receiving;
    }
    req->cb = cb;
    *a = (struct group_append){
        .req = {.data = a, .entries = a->entries, .n = n},
        .group = g,
        .raft_req = req,
        .last = storage_last(g) + n,
        .started_ns = env_now_ns(g->env),
    };
    for (unsigned i = 0; i < n; i++) {
        a->entries[i] = (struct log_entry){
            .term = LOG_TERM(entries[i].term),
            .type = storage_log_type(&entries[i]),
            .payload = entries[i].buf.base,
            .len = (uint32_t)entries[i].buf.len,
        };
        a->bytes += entries[i].buf.len;
    }
    list_push_back(&g->appends, &a->link);
    g->n_appends++;
    g->append_bytes += a->bytes;
    partition_append(g->partition, &a->req, append_done);
    return 0;
}

static int truncate_log(struct raft_io *io, raft_index index)
{
    struct group *g = group_of(io);
    struct error err = {0};
    int rv = partition_truncate(g->partition, LOG_INDEX(index), &err);
    if (rv != 0) {
        group_fail(g, &err);
        return RAFT_IOERR;
    }
    return 0;
}

/* --- Snapshots --- */

static int snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                        const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct group *g = group_of(io);
    struct raft_buffer config;
    (void)trailing; /* the segments keep all */
    assert(g->put == NULL);
    if (raft_configuration_encode(&snapshot->configuration, &config) != 0) {
        return RAFT_NOMEM;
    }
    void *copy = malloc(config.len);
    if (copy == NULL) {
        raft_free(config.base);
        return RAFT_NOMEM;
    }
    memcpy(copy, config.base, config.len);
    raft_free(config.base);
    free(g->snapshot.config);
    g->snapshot = (struct group_snapshot){
        .index = snapshot->index,
        .term = snapshot->term,
        .config_index = snapshot->configuration_index,
        .config = copy,
        .config_len = (uint32_t)config.len,
    };
    if (g->snapshot_bytes_pending >= SNAPSHOT_SAVE_BYTES ||
        g->snapshot.index - g->snapshot_given >= SNAPSHOT_SAVE_ENTRIES) {
        struct error err = {0};
        int rv = save_meta_later(g, &err);
        if (rv != 0 && rv != WEIR_ENOMEM) {
            group_fail(g, &err);
        }
    }
    req->cb = cb;
    g->put = req;
    return 0;
}

void storage_note_snapshot(struct group *g)
{
    const struct raft *r = &g->raft;
    struct raft_buffer config;
    raft_index applied = r->last_applied;
    if (applied <= g->snapshot.index || storage_term(g, applied) == 0 ||
        partition_config_index(g->partition, LOG_INDEX(storage_last(g))).v > applied ||
        r->configuration.n == 0 || raft_configuration_encode(&r->configuration, &config) != 0) {
        return;
    }
    void *copy = malloc(config.len);
    if (copy != NULL) {
        memcpy(copy, config.base, config.len);
        free(g->snapshot.config);
        g->snapshot = (struct group_snapshot){
            .index = applied,
            .term = storage_term(g, applied),
            .config_index = r->configuration_index,
            .config = copy,
            .config_len = (uint32_t)config.len,
        };
    }
    raft_free(config.base);
}

static int snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req,
                        raft_io_snapshot_get_cb cb)
{
    struct group *g = group_of(io);
    req->cb = cb;
    if (g->n_gets == GROUP_VOTERS_MAX) {
        return RAFT_BUSY;
    }
    g->gets[g->n_gets++] = req;
    return 0;
}

void storage_answer_get(struct group *g, struct raft_io_snapshot_get *req)
{
    struct raft_snapshot *s = NULL;
    int rv = g->snapshot.index > 0 ? snapshot_make(g, &s, NULL) : WEIR_ENOTFOUND;
    req->cb(req, s, rv == 0 ? 0 : RAFT_NOMEM);
}

/* --- The rest --- */

static int init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static int start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct group *g = group_of(io);
    (void)msecs; /* the transport's timer ticks all groups */
    g->raft_tick = tick;
    g->raft_recv = recv;
    founding_hide(g);
    return 0;
}

static void close_io(struct raft_io *io, raft_io_close_cb cb)
{
    group_of(io)->raft_closed = cb;
}

/* The first entry is written by storage_bootstrap; the log of a cluster is never recovered by
 * force. */
static int refuse(struct raft_io *io, const struct raft_configuration *conf)
{
    (void)io;
    (void)conf;
    return RAFT_CANTBOOTSTRAP;
}

static int send_message(struct raft_io *io, struct raft_io_send *req, const struct raft_message *m,
                        raft_io_send_cb cb)
{
    struct group *g = group_of(io);
    int status = 0;
    assert(g->n_sends < GROUP_PENDING_MAX);
    flow_send(g, m, &status);
    if (req != NULL) {
        req->cb = cb;
        g->sends[g->n_sends++] = (struct pending_send){.req = req, .status = status};
    }
    return 0;
}

static raft_time now_ms(struct raft_io *io)
{
    return group_now_ms(group_of(io));
}

static int random_between(struct raft_io *io, int min, int max)
{
    uint64_t span = (uint64_t)(max - min) + 1;
    return min + (int)(env_random_u64(group_of(io)->env) % span);
}

void storage_io(struct group *g, struct raft_io *ret_io)
{
    *ret_io = (struct raft_io){
        .version = 1,
        .impl = g,
        .init = init,
        .close = close_io,
        .load = load,
        .start = start,
        .bootstrap = refuse,
        .recover = refuse,
        .set_term = set_term,
        .set_vote = set_vote,
        .send = send_message,
        .append = append,
        .truncate = truncate_log,
        .snapshot_put = snapshot_put,
        .snapshot_get = snapshot_get,
        .time = now_ms,
        .random = random_between,
    };
}

/* --- The first entry --- */

static void bootstrapped(struct partition_append *req, int status)
{
    struct group *g = req->data;
    struct error err = {0};
    raft_free(g->boot_config.base);
    g->boot_config.base = NULL;
    if (g->phase != GROUP_BOOTING) {
        group_later(g);
        return;
    }
    if (status != 0) {
        error_set(&err, status, "%s: writing the first entry failed", g->dir);
        group_fail(g, &err);
        return;
    }
    int rv = g->recovering ? founding_start(g, &err) : group_start_raft(g, &err);
    if (rv != 0) {
        group_fail(g, &err);
    }
}

static int boot_configuration(struct group *g, struct raft_buffer *ret_buf)
{
    struct raft_configuration conf;
    raft_configuration_init(&conf);
    int rv = 0;
    for (unsigned i = 0; i < g->n_founders && rv == 0; i++) {
        char address[12];
        snprintf(address, sizeof(address), "%u", g->founders[i]);
        rv = raft_configuration_add(&conf, g->founders[i], address, RAFT_VOTER);
    }
    if (rv == 0) {
        rv = raft_configuration_encode(&conf, ret_buf);
    }
    raft_configuration_close(&conf);
    return rv;
}

int storage_bootstrap(struct group *g, struct error *err)
{
    int rv = boot_configuration(g, &g->boot_config);
    if (rv != 0) {
        return error_set(err, rv == RAFT_NOMEM ? WEIR_ENOMEM : WEIR_EINVAL,
                         "group %u: voters make no configuration: %s", g->options.id,
                         raft_strerror(rv));
    }
    if (g->term == 0) {
        storage_promise(g, 1, 0);
    }
    /* Every member writes the same entry: index 1, term 1. */
    g->boot_entry = (struct log_entry){
        .term = LOG_TERM(1),
        .type = LOG_ENTRY_CONFIG,
        .payload = g->boot_config.base,
        .len = (uint32_t)g->boot_config.len,
    };
    g->boot_append = (struct partition_append){.data = g, .entries = &g->boot_entry, .n = 1};
    partition_append(g->partition, &g->boot_append, bootstrapped);
    return 0;
}
