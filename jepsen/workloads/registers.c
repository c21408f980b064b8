/* Registers, made of the log alone: every process has a view of its own, which folds the records of
 * a topic in their order and decides there whether a compare-and-set found what it expected. A read
 * asks the log how far it has to have folded (weir_offsets, linearizable) and waits for its view to
 * be there.
 *
 *   :read [k nil] -> [k v]   :write [k v]   :cas [k [old new]]; a :cas that found another value
 * fails without an :error
 *
 * Every other process only reads. Now and then a process crashes (:crash nil), and one whose write
 * takes long does: its client is gone without a word, and the next one knows of no leader and asks
 * the node that it begins with.
 *
 * Every other reader sits near a node and reaches no other (near.h): it reads what its node leads,
 * with little patience, and goes on reading it there when the node is cut off and others lead. So
 * there is always somebody who believes a node that still thinks it leads, and some who know
 * better.
 *
 * Keys are used for a while and then left, so that each has a history that can be judged. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "jepsen/workloads/clients.h"
#include "jepsen/workloads/workload.h"

#define TOPIC        "registers"
#define PARTITIONS   3
#define KEYS_MAX     16384
#define KEY_OPS      100        /* operations on a key before the next one takes its place */
#define KEYS_AT_ONCE PARTITIONS /* one in each */
#define VALUES       5
#define RECORD_MAX   80
#define SWEEP_US     50000u
#define CRASHES      25 /* one in so many of a process's operations is its death */
#define WRITE_NS     UINT64_C(1000000000) /* the patience of who writes */
#define NEAR_NS      UINT64_C(250000000)  /* that of who reads near a node */

enum action { READ, WRITE, CAS };

/* A question to the log. It has an answer even when its operation waits no more. */
struct question {
    struct weir_offsets_req req;
    struct worker *w;
};

struct worker {
    struct registers *all;
    struct process *p;
    struct weir_client *client;
    struct weir_consumer *consumers[PARTITIONS];
    bool stalled[PARTITIONS]; /* its consumer has given up */
    /* The view */
    int64_t folded[PARTITIONS]; /* offset of the next record */
    int values[KEYS_MAX];       /* -1: nil */
    /* The open operation */
    enum action action;
    uint32_t key, number; /* of all operations of the slot */
    int a, b;
    bool waiting; /* for the view */
    int64_t wanted;
    bool taken; /* what the fold made of our own compare-and-set */
    uint64_t begun_ns, deadline_ns;
    bool writing, leaving; /* the log has not answered; the client is being let go */
    struct weir_produce produce;
    struct question *question; /* open; NULL: none */
    bool near;
    uint32_t partition; /* near a node: that of the last read that got an answer */
};

struct registers {
    struct run *run;
    struct clients *clients;
    struct worker *workers;
    unsigned n;
    uint64_t operations;
    struct env_timer sweep;
    struct weir_topic_req topic;
};

static uint32_t partition_of(uint32_t key)
{
    return key % PARTITIONS;
}

/* --- Ends --- */

static void put_value(int v, char out[16])
{
    if (v < 0) {
        (void)snprintf(out, 16, "nil");
    } else {
        (void)snprintf(out, 16, "%d", v);
    }
}

static void finish(struct worker *w, enum history_type type, const char *error)
{
    char a[16], b[16];
    put_value(w->a, a);
    put_value(w->b, b);
    w->waiting = false;
    if (w->action == CAS) {
        process_end(w->p, type, error, "[%u [%s %s]]", w->key, a, b);
    } else {
        process_end(w->p, type, error, "[%u %s]", w->key, a);
    }
}

/* The view has come to where the operation needs it to be. */
static void decide(struct worker *w)
{
    if (w->action == READ) {
        w->a = w->values[w->key];
        finish(w, HISTORY_OK, NULL);
    } else {
        finish(w, w->action == WRITE || w->taken ? HISTORY_OK : HISTORY_FAIL, NULL);
    }
}

static void look(struct worker *w)
{
    if (w->waiting && w->folded[partition_of(w->key)] >= w->wanted) {
        decide(w);
    }
}

/* A read that comes to nothing did not happen; of a write nobody knows. */
static void give_up(struct worker *w, int status)
{
    finish(w,
           w->action == READ || (status != WEIR_EUNKNOWN && status != 0) ? HISTORY_FAIL
                                                                         : HISTORY_INFO,
           status != 0 ? error_name(status) : "the view does not come");
}

/* --- The fold --- */

/* "slot number key old new": old is -2 for a plain write. */
static void fold(struct worker *w, const struct batch_record *r)
{
    char text[RECORD_MAX] = "";
    unsigned slot = 0, number = 0, key = 0;
    int old = 0, new = 0;
    size_t n = r->value_len > 0 && r->value_len < RECORD_MAX ? (size_t)r->value_len : 0;
    memcpy(text, r->value, n);
    if (sscanf(text, "%u %u %u %d %d", &slot, &number, &key, &old, &new) != 5 || key >= KEYS_MAX) {
        run_failed(w->all->run, "a record that nobody wrote");
        return;
    }
    bool taken = old == -2 || w->values[key] == old;
    w->values[key] = taken ? new : w->values[key];
    if (slot == w->p->slot && number == w->number) {
        w->taken = taken;
    }
}

static void on_records(void *data, struct weir_consumer *c, const struct batch_record *records,
                       unsigned n, int64_t high_watermark)
{
    struct worker *w = data;
    (void)high_watermark;
    for (uint32_t k = 0; k < PARTITIONS; k++) {
        if (w->consumers[k] != c) {
            continue;
        }
        for (unsigned i = 0; i < n; i++) {
            fold(w, &records[i]);
        }
        w->folded[k] = records[n - 1].offset.v + 1;
        look(w);
    }
}

/* A new client may ask a replica that is behind what the process has read: it asks again (sweep).
 */
static void on_failed(void *data, struct weir_consumer *c, int status, const char *text)
{
    struct worker *w = data;
    if (status != WEIR_ERANGE) {
        run_failed(w->all->run, text);
    }
    for (uint32_t k = 0; k < PARTITIONS; k++) {
        w->stalled[k] = w->stalled[k] || w->consumers[k] == c;
    }
}

/* --- Operations --- */

static void on_produced(struct weir_produce *req, int status)
{
    struct worker *w = req->data;
    if (w->leaving) {
        return; /* on_dropped tells */
    }
    w->writing = false;
    if (status != 0) {
        give_up(w, status);
        return;
    }
    w->waiting = true;
    w->wanted = req->offset + 1;
    look(w);
}

static void on_offsets(struct weir_offsets_req *req, int status)
{
    struct question *q = req->data;
    struct worker *w = q->w;
    bool open = w->question == q;
    int64_t wanted = req->high_watermark;
    free(q);
    if (!open) {
        return;
    }
    w->question = NULL;
    if (status != 0) {
        give_up(w, status);
        return;
    }
    w->waiting = true;
    w->wanted = wanted;
    look(w);
}

static int ask(struct worker *w)
{
    struct question *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return WEIR_ENOMEM;
    }
    q->w = w;
    q->req.data = q;
    int rv = weir_offsets(w->client, TOPIC, partition_of(w->key), true, &q->req, on_offsets);
    if (rv != 0) {
        free(q);
        return rv;
    }
    w->question = q;
    return 0;
}

static void begin(struct worker *w)
{
    char text[RECORD_MAX], a[16], b[16];
    int rv;
    put_value(w->a, a);
    put_value(w->b, b);
    w->number++;
    w->taken = false;
    w->begun_ns = env_now_ns(run_env(w->all->run));
    w->deadline_ns = w->begun_ns + (w->near ? NEAR_NS : 2u * CLIENT_TIMEOUT_MS * UINT64_C(1000000));
    w->writing = w->action != READ;
    if (w->action == READ) {
        process_invoke(w->p, "read", "[%u nil]", w->key);
        rv = ask(w);
    } else {
        if (w->action == WRITE) {
            process_invoke(w->p, "write", "[%u %s]", w->key, a);
        } else {
            process_invoke(w->p, "cas", "[%u [%s %s]]", w->key, a, b);
        }
        int n = snprintf(text, sizeof(text), "%u %u %u %d %d", w->p->slot, w->number, w->key,
                         w->action == CAS ? w->a : -2, w->action == CAS ? w->b : w->a);
        w->produce.data = w;
        rv = weir_produce(w->client, TOPIC, partition_of(w->key), NULL, 0, text, (size_t)n,
                          &w->produce, on_produced);
    }
    if (rv != 0) {
        w->writing = false;
        give_up(w, rv);
    }
}

/* --- Crashes --- */

/* From where the view stands. */
static int consume(struct worker *w, uint32_t k, struct error *err)
{
    struct weir_consumer_events events = {.data = w, .records = on_records, .failed = on_failed};
    w->stalled[k] = false;
    return weir_consume(w->client, TOPIC, k, w->folded[k] == 0 ? WEIR_OFFSET_BEGIN : w->folded[k],
                        &events, &w->consumers[k], err);
}

static void stop_consuming(struct worker *w, uint32_t k)
{
    if (w->consumers[k] != NULL) {
        weir_consumer_close(w->consumers[k]);
        w->consumers[k] = NULL;
    }
}

static int worker_consume(struct worker *w, struct error *err)
{
    int rv = 0;
    w->client = w->near ? clients_near(w->all->clients, w->p->slot, w->p->slot / 4)
                        : clients_of(w->all->clients, w->p->slot);
    if (w->client == NULL) {
        return error_set(err, WEIR_ENOMEM, "no client");
    }
    for (uint32_t k = 0; rv == 0 && k < PARTITIONS; k++) {
        rv = consume(w, k, err);
    }
    return rv;
}

static void on_dropped(void *data)
{
    struct worker *w = data;
    struct error err = {0};
    if (worker_consume(w, &err) != 0) {
        run_failed(w->all->run, err.text);
    }
    w->leaving = false;
    if (w->writing) {
        w->writing = false;
        finish(w, HISTORY_INFO, "crashed");
    } else {
        process_end(w->p, HISTORY_INFO, "crashed", "nil");
    }
}

static void leave(struct worker *w)
{
    w->leaving = true;
    for (uint32_t k = 0; k < PARTITIONS; k++) {
        stop_consuming(w, k);
    }
    clients_drop(w->all->clients, w->p->slot, on_dropped, w);
}

/* Of the keys that are in use there is one in each partition. */
static uint32_t draw_key(const struct worker *w, uint64_t oldest)
{
    uint64_t after = run_random(w->all->run, KEYS_AT_ONCE);
    if (w->near) {
        after = (w->partition + PARTITIONS - oldest % PARTITIONS) % PARTITIONS;
    }
    return (uint32_t)(oldest + after) % KEYS_MAX;
}

static void next(void *state, struct process *p)
{
    struct registers *all = state;
    struct worker *w = &all->workers[p->slot];
    struct run *run = all->run;
    if (run_random(run, CRASHES) == 0) {
        process_invoke(p, "crash", "nil");
        leave(w);
        return;
    }
    w->key = draw_key(w, all->operations++ / KEY_OPS);
    w->action = p->slot % 2 == 1 ? READ : (enum action)run_random(run, 3);
    w->a = w->action == READ ? -1 : (int)run_random(run, VALUES);
    w->b = (int)run_random(run, VALUES);
    begin(w);
}

static void try_again(struct worker *w)
{
    struct error err = {0};
    for (uint32_t k = 0; k < PARTITIONS; k++) {
        if (w->stalled[k] && w->consumers[k] != NULL) {
            stop_consuming(w, k);
            if (consume(w, k, &err) != 0) {
                run_failed(w->all->run, err.text);
            }
        }
    }
}

/* Consumers that gave up; operations whose view does not come. The client ends those that wait for
 * the log. */
static void on_sweep(struct env_timer *timer)
{
    struct registers *all = timer->data;
    uint64_t now = env_now_ns(run_env(all->run));
    for (unsigned i = 0; i < all->n; i++) {
        struct worker *w = &all->workers[i];
        if (w->leaving) {
            continue;
        }
        try_again(w);
        if (w->writing && now > w->begun_ns + WRITE_NS) {
            leave(w);
        }
        if (w->near && w->question != NULL && now > w->deadline_ns) {
            w->question = NULL;
            w->partition = (uint32_t)run_random(all->run, PARTITIONS);
            give_up(w, WEIR_ETIMEOUT);
        }
        if (w->waiting && now > w->deadline_ns) {
            give_up(w, 0);
        }
    }
    env_timer_start(timer, SWEEP_US, on_sweep);
}

/* --- Beginning and end --- */

static void on_topic(struct weir_topic_req *req, int status, uint32_t n)
{
    struct registers *all = req->data;
    if (status == WEIR_ETIMEOUT) { /* the run says how long this may go on */
        weir_topic(all->workers[0].client, TOPIC, &all->topic, on_topic);
        return;
    }
    if (status != 0 || n != PARTITIONS) {
        run_failed(all->run, "the topic is not there");
    }
    run_started(all->run);
}

static int worker_open(struct worker *w, struct registers *all, unsigned slot, struct error *err)
{
    w->all = all;
    w->p = run_process(all->run, slot);
    w->near = slot % 4 == 3;
    memset(w->values, -1, sizeof(w->values));
    return worker_consume(w, err);
}

static int start(struct run *run, void **ret_state, struct error *err)
{
    struct registers *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory");
    }
    all->run = run;
    all->n = run_n_processes(run);
    all->workers = calloc(all->n, sizeof(*all->workers));
    int rv = all->workers == NULL ? error_set(err, WEIR_ENOMEM, "no memory")
                                  : clients_open(run, &all->clients, err);
    rv = rv == 0 ? env_timer_init(run_env(run), &all->sweep) : rv;
    for (unsigned i = 0; rv == 0 && i < all->n; i++) {
        rv = worker_open(&all->workers[i], all, i, err);
    }
    if (rv != 0) {
        return rv;
    }
    all->sweep.data = all;
    env_timer_start(&all->sweep, SWEEP_US, on_sweep);
    all->topic.data = all;
    weir_topic(all->workers[0].client, TOPIC, &all->topic, on_topic);
    *ret_state = all;
    return 0;
}

/* Every operation told what it saw: there is nothing to read at the end. */
static void final(void *state)
{
    struct registers *all = state;
    run_final_done(all->run);
}

static void on_closed(void *data)
{
    struct registers *all = data;
    struct run *run = all->run;
    free(all->workers);
    free(all);
    run_stopped(run);
}

static void stop(void *state)
{
    struct registers *all = state;
    env_timer_close(&all->sweep);
    for (unsigned i = 0; i < all->n; i++) {
        for (uint32_t k = 0; k < PARTITIONS; k++) {
            stop_consuming(&all->workers[i], k);
        }
    }
    clients_close(all->clients, on_closed, all);
}

const struct workload workload_register = {
    .name = "register",
    .about = "compare-and-set through views of the log, linearizable reads",
    .checker = "linear",
    .config = "node.roles = log\nlog.segment_mib = 4\nlog.free_mib_min = 32\n"
              "log.topic = " TOPIC " partitions=3\nlog.topic = groups partitions=1\n"
              "log.topic = meta partitions=1",
    .processes = 10,
    .pause_us = 8000,
    .start = start,
    .next = next,
    .final = final,
    .stop = stop,
};
