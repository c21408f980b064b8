/* The log itself: half of the processes send, some are assigned keys and read them from the
 * beginning, some are members of a consumer group. A key is a partition; values are unique in it.
 *
 *   :send [[:send k v]]   :poll [[:poll]]   :assign [k ..] :seek-to-beginning? true
 *   :subscribe [k ..] :group "g"   :commit {k next} :group "g"   :crash nil
 *
 * At the end every reader is assigned all keys anew and polls to the end, and the group as well. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jepsen/workloads/clients.h"
#include "jepsen/workloads/workload.h"

#define TOPIC         "jepsen"
#define GROUP         "g"
#define KEYS          6
#define POLL_MAX      100  /* records of one poll */
#define BUFFER_MAX    4096 /* records that wait to be polled: then the consumers pause */
#define POLL_US       300000u
#define READERS_AGAIN 60  /* one in so many polls is an assignment instead */
#define COMMITS       4   /* one in so many of a group's operations is a commit */
#define CRASHES       150 /* one in so many of a member's operations is its death */
#define FINAL_US      5000u

enum role { SENDER, READER, MEMBER };

struct record {
    uint32_t key;
    int64_t offset, value;
};

struct worker {
    struct log *log;
    struct process *p;
    struct weir_client *client;
    enum role role;
    /* Sender */
    struct weir_produce produce;
    int64_t value;
    uint32_t key;
    /* Reader, member */
    struct weir_consumer *consumers[KEYS];
    struct weir_group *group;
    struct weir_group_commit commit;
    char committing[256];
    bool held[KEYS], rebalanced[KEYS], paused, polling, assigned;
    int64_t next[KEYS]; /* polled up to, of what is held; -1: nothing */
    struct record buffer[BUFFER_MAX];
    unsigned first, n;
    struct env_timer timer;
};

struct log {
    struct run *run;
    struct clients *clients;
    struct worker *workers;
    unsigned n;
    int64_t values[KEYS];
    int64_t given[KEYS]; /* to members of the group, up to */
    int64_t ends[KEYS];  /* at the end; -1: not known yet */
    struct weir_offsets_req offsets[KEYS];
    unsigned asked;
    bool final;
    struct env_timer timer;
    struct weir_topic_req topic;
};

static void poll_end(struct worker *w);

/* --- Records come in --- */

static void pause_all(struct worker *w, bool pause)
{
    w->paused = pause;
    for (unsigned k = 0; k < KEYS; k++) {
        if (w->consumers[k] != NULL) {
            (pause ? weir_consumer_pause : weir_consumer_resume)(w->consumers[k]);
        }
    }
    if (w->group != NULL) {
        (pause ? weir_group_pause : weir_group_resume)(w->group);
    }
}

static void take_records(struct worker *w, uint32_t key, const struct batch_record *records,
                         unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char text[32] = "";
        size_t len = records[i].value_len > 0 ? (size_t)records[i].value_len : 0;
        memcpy(text, records[i].value, len < sizeof(text) ? len : sizeof(text) - 1);
        if (w->n == BUFFER_MAX) {
            run_failed(w->log->run, "more records at once than a reader's buffer takes");
            return;
        }
        w->buffer[(w->first + w->n++) % BUFFER_MAX] = (struct record){
            .key = key, .offset = records[i].offset.v, .value = strtoll(text, NULL, 10)};
    }
    if (!w->paused && w->n > BUFFER_MAX / 4) {
        pause_all(w, true);
    }
    if (w->polling) {
        poll_end(w);
    }
}

static void on_records(void *data, struct weir_consumer *c, const struct batch_record *records,
                       unsigned n, int64_t high_watermark)
{
    struct worker *w = data;
    (void)high_watermark;
    for (uint32_t k = 0; k < KEYS; k++) {
        if (w->consumers[k] == c) {
            take_records(w, k, records, n);
        }
    }
}

static void on_failed(void *data, struct weir_consumer *c, int status, const char *text)
{
    struct worker *w = data;
    char why[256];
    (void)c;
    (void)snprintf(why, sizeof(why), "a consumer stopped: %s: %s", error_name(status), text);
    if (status == WEIR_ECORRUPT) {
        run_found(w->log->run, "unreadable", why);
    } else {
        run_failed(w->log->run, why);
    }
}

/* What of a key waits to be polled is forgotten. */
static void forget(struct worker *w, uint32_t key)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->n; i++) {
        struct record r = w->buffer[(w->first + i) % BUFFER_MAX];
        if (r.key != key) {
            w->buffer[(w->first + n++) % BUFFER_MAX] = r;
        }
    }
    w->n = n;
}

static void on_assigned(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                        int64_t offset)
{
    struct worker *w = data;
    (void)g;
    (void)topic;
    (void)offset;
    w->held[partition] = w->rebalanced[partition] = true;
    w->next[partition] = -1;
}

static void on_revoked(void *data, struct weir_group *g, const char *topic, uint32_t partition)
{
    struct worker *w = data;
    (void)g;
    (void)topic;
    w->held[partition] = false;
    w->rebalanced[partition] = true;
    forget(w, partition);
}

static void on_group_records(void *data, struct weir_group *g, const char *topic,
                             uint32_t partition, const struct batch_record *records, unsigned n,
                             int64_t high_watermark)
{
    (void)g;
    (void)topic;
    (void)high_watermark;
    take_records(data, partition, records, n);
}

static void on_group_failed(void *data, struct weir_group *g, int status, const char *text)
{
    on_failed(data, NULL, status, text);
    (void)g;
}

/* --- Sending --- */

static void on_produced(struct weir_produce *req, int status)
{
    struct worker *w = req->data;
    if (status == 0) {
        process_end(w->p, HISTORY_OK, NULL, "[[:send %u [%" PRId64 " %" PRId64 "]]]", w->key,
                    req->offset, w->value);
    } else {
        process_end(w->p, status == WEIR_EUNKNOWN ? HISTORY_INFO : HISTORY_FAIL, error_name(status),
                    "[[:send %u %" PRId64 "]]", w->key, w->value);
    }
}

static void send_one(struct worker *w)
{
    struct log *log = w->log;
    char text[32];
    w->key = (uint32_t)run_random(log->run, KEYS);
    w->value = log->values[w->key]++;
    w->produce.data = w;
    int n = snprintf(text, sizeof(text), "%" PRId64, w->value);
    process_invoke(w->p, "send", "[[:send %u %" PRId64 "]]", w->key, w->value);
    int rv =
        weir_produce(w->client, TOPIC, w->key, NULL, 0, text, (size_t)n, &w->produce, on_produced);
    if (rv != 0) {
        process_end(w->p, HISTORY_FAIL, error_name(rv), "[[:send %u %" PRId64 "]]", w->key,
                    w->value);
    }
}

/* --- Polling --- */

/* Appends what is polled of one key: " k [[offset value] ..]". */
static size_t put_key(struct worker *w, uint32_t key, unsigned n, char *out, size_t size)
{
    size_t len = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct record *r = &w->buffer[(w->first + i) % BUFFER_MAX];
        if (r->key != key) {
            continue;
        }
        len += (size_t)snprintf(out + len, size - len, "%s[%" PRId64 " %" PRId64 "]",
                                len == 0 ? "[" : " ", r->offset, r->value);
        w->next[key] = r->offset + 1;
    }
    if (len > 0) {
        len += (size_t)snprintf(out + len, size - len, "]");
    }
    return len;
}

static void put_rebalanced(struct worker *w, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (uint32_t k = 0; k < KEYS; k++) {
        if (w->rebalanced[k]) {
            len += (size_t)snprintf(out + len, size - len, "%s%u",
                                    len == 0 ? ", :rebalanced [" : " ", k);
            w->rebalanced[k] = false;
        }
    }
    if (len > 0) {
        (void)snprintf(out + len, size - len, "]");
    }
}

static void given(struct worker *w)
{
    for (uint32_t k = 0; k < KEYS && w->role == MEMBER; k++) {
        if (w->held[k] && w->next[k] >= 0) {
            weir_group_done(w->group, TOPIC, k, w->next[k]);
            w->log->given[k] = w->next[k] > w->log->given[k] ? w->next[k] : w->log->given[k];
        }
    }
}

static void poll_end(struct worker *w)
{
    static char text[POLL_MAX * 48 + KEYS * 32]; /* one loop, one thread */
    char one[POLL_MAX * 48], rebalanced[64];
    unsigned n = w->n < POLL_MAX ? w->n : POLL_MAX;
    size_t len = 0;
    w->polling = false;
    env_timer_stop(&w->timer);
    put_rebalanced(w, rebalanced, sizeof(rebalanced));
    for (uint32_t k = 0; k < KEYS; k++) {
        size_t m = put_key(w, k, n, one, sizeof(one));
        if (m > 0) {
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u %.*s",
                                    len > 0 ? ", " : "", k, (int)m, one);
        }
    }
    w->first = (w->first + n) % BUFFER_MAX;
    w->n -= n;
    process_end(w->p, HISTORY_OK, NULL, "[[:poll {%.*s}]]%s", (int)len, text, rebalanced);
    given(w);
    if (w->paused && w->n <= BUFFER_MAX / 8) {
        pause_all(w, false);
    }
}

static void on_poll_timer(struct env_timer *timer)
{
    struct worker *w = timer->data;
    if (w->polling) {
        poll_end(w);
    }
}

static void poll_begin(struct worker *w)
{
    process_invoke(w->p, "poll", "[[:poll]]");
    w->polling = true;
    if (w->n > 0) {
        poll_end(w);
    } else {
        env_timer_start(&w->timer, POLL_US, on_poll_timer);
    }
}

/* --- Assignment --- */

static void drop_consumers(struct worker *w)
{
    for (unsigned k = 0; k < KEYS; k++) {
        if (w->consumers[k] != NULL) {
            weir_consumer_close(w->consumers[k]);
            w->consumers[k] = NULL;
        }
        w->next[k] = -1;
    }
    w->n = 0;
    w->paused = false;
}

/* `mask`: which keys, a bit each. */
static void assign(struct worker *w, unsigned mask)
{
    struct weir_consumer_events events = {.data = w, .records = on_records, .failed = on_failed};
    char text[64];
    size_t len = 0;
    struct error err = {0};
    drop_consumers(w);
    for (uint32_t k = 0; k < KEYS; k++) {
        if ((mask >> k & 1) != 0) {
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u", len > 0 ? " " : "", k);
        }
    }
    process_invoke(w->p, "assign", "[%s], :seek-to-beginning? true", text);
    for (uint32_t k = 0; k < KEYS; k++) {
        if ((mask >> k & 1) != 0 && weir_consume(w->client, TOPIC, k, WEIR_OFFSET_BEGIN, &events,
                                                 &w->consumers[k], &err) != 0) {
            run_failed(w->log->run, err.text);
        }
    }
    w->assigned = true;
    process_end(w->p, HISTORY_OK, NULL, "[%s], :seek-to-beginning? true", text);
}

static void subscribe(struct worker *w)
{
    static const char *const topics[] = {TOPIC};
    struct weir_group_options options = {.group = GROUP,
                                         .topics = topics,
                                         .n_topics = 1,
                                         .from = WEIR_OFFSET_BEGIN,
                                         .session_ms = 6000,
                                         .no_auto_commit = true,
                                         .manual = true};
    struct weir_group_events events = {.data = w,
                                       .assigned = on_assigned,
                                       .revoked = on_revoked,
                                       .records = on_group_records,
                                       .failed = on_group_failed};
    struct error err = {0};
    process_invoke(w->p, "subscribe", "[0 1 2 3 4 5], :group \"" GROUP "\"");
    memset(w->held, 0, sizeof(w->held));
    memset(w->rebalanced, 0, sizeof(w->rebalanced));
    w->n = 0;
    w->paused = false;
    if (weir_group_join(w->client, &options, &events, &w->group, &err) != 0) {
        run_failed(w->log->run, err.text);
        process_end(w->p, HISTORY_FAIL, "failed", "[0 1 2 3 4 5], :group \"" GROUP "\"");
        return;
    }
    process_end(w->p, HISTORY_OK, NULL, "[0 1 2 3 4 5], :group \"" GROUP "\"");
}

static void put_next(const struct worker *w, char *out, size_t size)
{
    size_t len = 0;
    out[0] = '\0';
    for (uint32_t k = 0; k < KEYS; k++) {
        if (w->held[k] && w->next[k] >= 0) {
            len += (size_t)snprintf(out + len, size - len, "%s%u %" PRId64, len > 0 ? ", " : "", k,
                                    w->next[k]);
        }
    }
}

/* Its client is gone without a word; a new process comes in its place. */
static void on_dropped(void *data)
{
    struct worker *w = data;
    w->client = clients_of(w->log->clients, w->p->slot);
    if (w->committing[0] != '\0') {
        process_end(w->p, HISTORY_INFO, "no answer", "%s", w->committing);
    } else {
        process_end(w->p, HISTORY_INFO, "crashed", "nil");
    }
}

static void drop_client(struct worker *w)
{
    w->group = NULL;
    w->n = 0;
    clients_drop(w->log->clients, w->p->slot, on_dropped, w);
}

static void crash(struct worker *w)
{
    process_invoke(w->p, "crash", "nil");
    w->committing[0] = '\0';
    drop_client(w);
}

static void on_committed(struct weir_group_commit *req, int status)
{
    struct worker *w = req->data;
    if (status == WEIR_ECLOSED) {
        return; /* the end of the run */
    }
    if (status == 0) {
        process_end(w->p, HISTORY_OK, NULL, "%s", w->committing);
    } else {
        drop_client(w); /* whose process is over */
    }
}

static void commit(struct worker *w)
{
    char text[200];
    put_next(w, text, sizeof(text));
    (void)snprintf(w->committing, sizeof(w->committing), "{%s}, :group \"" GROUP "\"", text);
    process_invoke(w->p, "commit", "%s", w->committing);
    w->commit.data = w;
    weir_group_commit(w->group, &w->commit, on_committed);
}

/* --- What comes next --- */

static void next(void *state, struct process *p)
{
    struct log *log = state;
    struct worker *w = &log->workers[p->slot];
    struct run *run = log->run;
    if (w->role == SENDER) {
        send_one(w);
    } else if (w->role == READER) {
        if (!w->assigned || run_random(run, READERS_AGAIN) == 0) {
            assign(w, 1 + (unsigned)run_random(run, (1u << KEYS) - 1));
        } else {
            poll_begin(w);
        }
    } else if (w->group == NULL) {
        subscribe(w);
    } else if (run_random(run, CRASHES) == 0) {
        crash(w);
    } else if (run_random(run, COMMITS) == 0) {
        commit(w);
    } else {
        poll_begin(w);
    }
}

/* --- The end --- */

static bool is_done(const struct log *log)
{
    for (unsigned i = 0; i < log->n; i++) {
        const struct worker *w = &log->workers[i];
        for (unsigned k = 0; k < KEYS && w->role == READER; k++) {
            if (log->ends[k] > 0 && w->next[k] < log->ends[k]) {
                return false;
            }
        }
    }
    for (unsigned k = 0; k < KEYS; k++) {
        if (log->given[k] < log->ends[k]) {
            return false;
        }
    }
    return true;
}

static void on_final(struct env_timer *timer)
{
    struct log *log = timer->data;
    bool busy = false, done = is_done(log);
    for (unsigned i = 0; i < log->n; i++) {
        struct worker *w = &log->workers[i];
        busy |= w->p->busy;
        if (w->p->busy || w->role == SENDER || done) {
            continue;
        }
        if (w->role == MEMBER && w->group == NULL) {
            subscribe(w);
        } else {
            poll_begin(w);
        }
    }
    if (done && !busy) {
        run_final_done(log->run);
    } else {
        env_timer_start(timer, FINAL_US, on_final);
    }
}

static void on_offsets(struct weir_offsets_req *req, int status)
{
    struct log *log = req->data;
    if (status != 0) {
        run_failed(log->run, "the end of a partition is not to be had");
        return;
    }
    log->ends[req - log->offsets] = req->high_watermark;
    if (--log->asked > 0) {
        return;
    }
    for (unsigned i = 0; i < log->n; i++) {
        if (log->workers[i].role == READER) {
            assign(&log->workers[i], (1u << KEYS) - 1);
        }
    }
    env_timer_start(&log->timer, 0, on_final);
}

static void final(void *state)
{
    struct log *log = state;
    log->final = true;
    log->asked = KEYS;
    for (uint32_t k = 0; k < KEYS; k++) {
        log->offsets[k].data = log;
        int rv = weir_offsets(log->workers[0].client, TOPIC, k, true, &log->offsets[k], on_offsets);
        if (rv != 0) {
            run_failed(log->run, error_name(rv));
        }
    }
}

/* --- Beginning and end --- */

static void on_topic(struct weir_topic_req *req, int status, uint32_t n)
{
    struct log *log = req->data;
    if (status == WEIR_ETIMEOUT) { /* the run says how long this may go on */
        weir_topic(log->workers[0].client, TOPIC, &log->topic, on_topic);
        return;
    }
    if (status != 0 || n != KEYS) {
        run_failed(log->run, "the topic is not there");
    }
    run_started(log->run);
}

static int start(struct run *run, void **ret_state, struct error *err)
{
    struct log *log = calloc(1, sizeof(*log));
    if (log == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory");
    }
    log->run = run;
    log->n = run_n_processes(run);
    log->workers = calloc(log->n, sizeof(*log->workers));
    int rv = log->workers == NULL ? error_set(err, WEIR_ENOMEM, "no memory")
                                  : clients_open(run, &log->clients, err);
    rv = rv == 0 ? env_timer_init(run_env(run), &log->timer) : rv;
    for (unsigned i = 0; rv == 0 && i < log->n; i++) {
        struct worker *w = &log->workers[i];
        w->log = log;
        w->p = run_process(run, i);
        w->role = i % 2 == 0 ? SENDER : i % 4 == 1 ? READER : MEMBER;
        w->client = clients_of(log->clients, i);
        rv = w->client == NULL ? WEIR_ENOMEM : env_timer_init(run_env(run), &w->timer);
        w->timer.data = w;
    }
    if (rv != 0) {
        return rv;
    }
    log->timer.data = log;
    log->topic.data = log;
    weir_topic(log->workers[0].client, TOPIC, &log->topic, on_topic);
    *ret_state = log;
    return 0;
}

static void on_closed(void *data)
{
    struct log *log = data;
    struct run *run = log->run;
    free(log->workers);
    free(log);
    run_stopped(run);
}

static void stop(void *state)
{
    struct log *log = state;
    env_timer_close(&log->timer);
    for (unsigned i = 0; i < log->n; i++) {
        env_timer_close(&log->workers[i].timer);
        drop_consumers(&log->workers[i]);
    }
    clients_close(log->clients, on_closed, log);
}

const struct workload workload_log = {
    .name = "log",
    .about = "sends, polls and consumer groups; idempotent producers",
    .checker = "kafka",
    .config = "node.roles = log\nlog.segment_mib = 4\nlog.free_mib_min = 32\n"
              "log.topic = " TOPIC " partitions=6\nlog.topic = groups partitions=2\n"
              "log.topic = meta partitions=1",
    .processes = 12,
    .pause_us = 10000,
    .start = start,
    .next = next,
    .final = final,
    .stop = stop,
};
