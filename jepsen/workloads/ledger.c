/* The ledger over HTTP: subscriptions, gifts and refunds, each under an idempotency key. A process
 * stays with a node as long as that answers (else a node that answers nobody would in the end have
 * them all). What got no answer is asked for again under the same key, at another node, by the
 * process that comes in the place of the one that waited; and now and then what was answered is
 * asked for again too, sometimes elsewhere.
 *
 *   :book {:id "k1-7", :kind :sub, :channel "c1", :user "u2", :postings {..}} -> and :entry
 * [partition offset] as one number :read -> {:accounts {..}}; at the end, of every node: {:accounts
 * {..}, :entries [..], :final? true} */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jepsen/workloads/web.h"

#define CHANNELS  3
#define USERS     5
#define SHARE     70 /* per cent that the channel gets; docs/api.md */
#define ID_MAX    32
#define AGAIN     8 /* one in so many bookings repeats one that was answered */
#define ELSEWHERE 6 /* one in so many of these is asked of any node */
#define REFUNDS   4 /* one in so many is a refund */
#define PAGE      200
#define EDN_BYTES (256u << 10)

static const int prices[] = {0, 499, 999, 2499};

enum kind { SUB, GIFT, REFUND };
static const char *const kinds[] = {":sub", ":gift", ":refund"};

struct booking {
    char id[ID_MAX], of[ID_MAX]; /* of: the id that a refund takes back */
    enum kind kind;
    unsigned channel, user, by;
    int tier, months;
    bool answered, refunded;
};

struct worker {
    struct ledger *all;
    struct process *p;
    unsigned number;
    unsigned node;       /* index of the one it asks */
    struct booking now;  /* the open one, or the one to be asked for again */
    struct booking last; /* that was booked */
    bool again;
};

struct ledger {
    struct run *run;
    struct web *web;
    struct worker *workers;
    unsigned n;
    unsigned step; /* of what start makes */
    struct env_timer timer;
    /* The final reads */
    unsigned node, partition;
    bool reading;
    json_t *accounts;
    char *edn;
    size_t len;
};

/* --- Texts --- */

static size_t put_postings(const struct booking *b, char *out, size_t size)
{
    int price = prices[b->tier] * b->months, share = price * SHARE / 100;
    int sign = b->kind == REFUND ? -1 : 1;
    return (size_t)snprintf(out, size,
                            "{\"provider:manual\" %d, \"channel:c%u\" %d, \"platform\" %d}",
                            sign * price, b->channel, -sign * share, sign * (share - price));
}

static void put_booking(const struct booking *b, char *out, size_t size)
{
    char postings[160];
    (void)put_postings(b, postings, sizeof(postings));
    (void)snprintf(out, size,
                   "{:id \"%s\", :kind %s, :channel \"c%u\", :user \"u%u\", :postings %s", b->id,
                   kinds[b->kind], b->channel, b->user, postings);
}

static json_t *body_of(const struct booking *b)
{
    char channel[16], user[16], by[16];
    (void)snprintf(channel, sizeof(channel), "c%u", b->channel);
    (void)snprintf(user, sizeof(user), "u%u", b->user);
    (void)snprintf(by, sizeof(by), "u%u", b->by);
    if (b->kind == REFUND) {
        return json_pack("{s:s, s:s, s:s}", "channel", channel, "key", b->id, "of", b->of);
    }
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:b, s:s}", "user", user, "channel", channel, "key",
                     b->id, "tier", b->tier, "months", b->months, "gift", b->kind == GIFT, "by",
                     b->kind == GIFT ? by : user);
}

/* --- Booking --- */

/* A node that gave no answer, or has none to give, is left. */
static void go_on_elsewhere(struct worker *w, enum history_type type, int status)
{
    if (type == HISTORY_INFO || status < 0 || status >= 500) {
        w->node = (w->node + 1) % run_hosts(w->all->run)->founders;
    }
}

static void on_booked(void *data, int status, json_t *answer)
{
    struct worker *w = data;
    const char *error = NULL;
    char text[400];
    enum history_type type = web_outcome(status, answer, &error);
    put_booking(&w->now, text, sizeof(text));
    w->again = type == HISTORY_INFO;
    go_on_elsewhere(w, type, status);
    if (type == HISTORY_OK) {
        int64_t entry = json_integer_value(json_object_get(answer, "partition")) << 40 |
                        json_integer_value(json_object_get(answer, "offset"));
        w->now.answered = true;
        if (w->now.kind != REFUND) {
            w->last = w->now;
        }
        process_end(w->p, type, NULL, "%s, :entry %" PRId64 "}", text, entry);
    } else {
        process_end(w->p, type, error, "%s}", text);
    }
}

static void ask_booking(struct worker *w, unsigned node)
{
    const struct host *host = &run_hosts(w->all->run)->at[node];
    char text[400];
    put_booking(&w->now, text, sizeof(text));
    process_invoke(w->p, "book", "%s}", text);
    web_ask(w->all->web, host, "POST",
            w->now.kind == REFUND ? "/api/admin/subs/refund" : "/api/admin/subs", body_of(&w->now),
            on_booked, w);
}

static void draw_booking(struct worker *w)
{
    struct run *run = w->all->run;
    bool refund = w->last.answered && !w->last.refunded && run_random(run, REFUNDS) == 0;
    struct booking b = refund ? w->last : (struct booking){0};
    (void)snprintf(b.id, sizeof(b.id), "k%u-%u", w->p->slot, w->number++);
    b.answered = false;
    if (refund) {
        b.kind = REFUND;
        memcpy(b.of, w->last.id, sizeof(b.of));
        w->last.refunded = true;
    } else {
        b.kind = run_random(run, 3) == 0 ? GIFT : SUB;
        b.channel = (unsigned)run_random(run, CHANNELS);
        b.user = (unsigned)run_random(run, USERS);
        b.by = (unsigned)run_random(run, USERS);
        b.tier = 1 + (int)run_random(run, 3);
        b.months = 1 + (int)run_random(run, 3);
    }
    w->now = b;
}

/* --- Reading --- */

static size_t put_accounts(json_t *accounts, char *out, size_t size)
{
    const char *name;
    json_t *value;
    size_t len = (size_t)snprintf(out, size, "{");
    json_object_foreach(accounts, name, value)
    {
        len += (size_t)snprintf(out + len, len < size ? size - len : 0, "%s\"%s\" %" PRId64,
                                len > 1 ? ", " : "", name, (int64_t)json_integer_value(value));
    }
    return len + (size_t)snprintf(out + len, len < size ? size - len : 0, "}");
}

static void on_read(void *data, int status, json_t *answer)
{
    struct worker *w = data;
    const char *error = NULL;
    char text[2048];
    if (web_outcome(status, answer, &error) != HISTORY_OK) {
        go_on_elsewhere(w, HISTORY_FAIL, status);
        process_end(w->p, HISTORY_FAIL, error, "nil");
        return;
    }
    (void)put_accounts(json_object_get(answer, "balances_minor"), text, sizeof(text));
    process_end(w->p, HISTORY_OK, NULL, "{:accounts %s}", text);
}

static void next(void *state, struct process *p)
{
    struct ledger *all = state;
    struct worker *w = &all->workers[p->slot];
    struct hosts *h = run_hosts(all->run);
    if (w->again) {
        ask_booking(w, w->node);
    } else if (run_random(all->run, 10) == 0) {
        process_invoke(p, "read", "nil");
        web_ask(all->web, &h->at[w->node], "GET", "/api/admin/ledger/balances", NULL, on_read, w);
    } else if (w->now.answered && run_random(all->run, AGAIN) == 0) {
        bool elsewhere = run_random(all->run, ELSEWHERE) == 0;
        ask_booking(w, elsewhere ? (unsigned)run_random(all->run, h->founders) : w->node);
    } else {
        draw_booking(w);
        ask_booking(w, w->node);
    }
}

/* --- The end: what was left unanswered is asked for until it is answered, then all nodes are read
 * --- */

static void read_node(struct ledger *all);

static void fail_final(struct ledger *all, const char *why)
{
    run_failed(all->run, why);
    run_final_done(all->run);
}

static void on_page(void *data, int status, json_t *answer)
{
    struct ledger *all = data;
    const char *error = NULL;
    size_t i;
    json_t *entry, *more;
    if (web_outcome(status, answer, &error) != HISTORY_OK) {
        fail_final(all, "the entries are not to be had");
        return;
    }
    json_array_foreach(json_object_get(answer, "entries"), i, entry)
    {
        all->len += (size_t)snprintf(all->edn + all->len, EDN_BYTES - all->len, " \"%s\"",
                                     json_string_value(json_object_get(entry, "key")));
    }
    more = json_object_get(answer, "next");
    if (all->len + 1024 > EDN_BYTES) {
        fail_final(all, "more entries than this workload takes");
        return;
    }
    char path[128];
    if (json_is_integer(more)) {
        (void)snprintf(path, sizeof(path),
                       "/api/admin/ledger/entries?partition=%u&limit=%d&from=%" PRId64,
                       all->partition, PAGE, (int64_t)json_integer_value(more));
    } else if (++all->partition <
               (unsigned)json_integer_value(json_object_get(answer, "partitions"))) {
        (void)snprintf(path, sizeof(path), "/api/admin/ledger/entries?partition=%u&limit=%d&from=0",
                       all->partition, PAGE);
    } else {
        char accounts[2048];
        (void)put_accounts(all->accounts, accounts, sizeof(accounts));
        process_end(all->workers[0].p, HISTORY_OK, NULL,
                    "{:accounts %s, :entries [%s], :final? true}", accounts, all->edn);
        json_decref(all->accounts);
        all->accounts = NULL;
        all->node++;
        read_node(all);
        return;
    }
    web_ask(all->web, &run_hosts(all->run)->at[all->node], "GET", path, NULL, on_page, all);
}

static void on_balances(void *data, int status, json_t *answer)
{
    struct ledger *all = data;
    const char *error = NULL;
    if (web_outcome(status, answer, &error) != HISTORY_OK) {
        fail_final(all, "the balances are not to be had");
        return;
    }
    all->accounts = json_incref(json_object_get(answer, "balances_minor"));
    all->partition = 0;
    all->len = 0;
    all->edn[0] = '\0';
    web_ask(all->web, &run_hosts(all->run)->at[all->node], "GET",
            "/api/admin/ledger/entries?partition=0&limit=200&from=0", NULL, on_page, all);
}

static void read_node(struct ledger *all)
{
    struct hosts *h = run_hosts(all->run);
    while (all->node < h->n && !h->at[all->node].member) {
        all->node++;
    }
    if (all->node == h->n) {
        run_final_done(all->run);
        return;
    }
    process_invoke(all->workers[0].p, "read", "nil");
    web_ask(all->web, &h->at[all->node], "GET", "/api/admin/ledger/balances", NULL, on_balances,
            all);
}

/* Views of all nodes come to the end of the log in this time; those that don't are a finding. */
#define CATCH_UP_US 3000000u

static void on_final(struct env_timer *timer)
{
    struct ledger *all = timer->data;
    bool open = false;
    if (all->reading) {
        read_node(all);
        return;
    }
    for (unsigned i = 0; i < all->n; i++) {
        struct worker *w = &all->workers[i];
        open |= w->p->busy || w->again;
        if (!w->p->busy && w->again) {
            ask_booking(w, w->node);
        }
    }
    all->reading = !open;
    env_timer_start(timer, open ? 50000 : CATCH_UP_US, on_final);
}

static void final(void *state)
{
    struct ledger *all = state;
    env_timer_start(&all->timer, 0, on_final);
}

/* --- Beginning: users, then channels --- */

static void make_next(struct ledger *all);

static void on_made(void *data, int status, json_t *answer)
{
    struct ledger *all = data;
    (void)answer;
    all->step += status == 200 || status == 201 || status == 409;
    make_next(all);
}

static void make_next(struct ledger *all)
{
    const struct host *host = &run_hosts(all->run)->at[all->step % run_hosts(all->run)->founders];
    char name[16];
    if (all->step == USERS + CHANNELS) {
        run_started(all->run);
    } else if (all->step < USERS) {
        (void)snprintf(name, sizeof(name), "u%u", all->step);
        web_ask(all->web, host, "POST", "/api/admin/users", json_pack("{s:s}", "name", name),
                on_made, all);
    } else {
        (void)snprintf(name, sizeof(name), "c%u", all->step - USERS);
        web_ask(all->web, host, "POST", "/api/admin/channels",
                json_pack("{s:s, s:s}", "name", name, "owner", "u0"), on_made, all);
    }
}

static int start(struct run *run, void **ret_state, struct error *err)
{
    struct ledger *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory");
    }
    all->run = run;
    all->n = run_n_processes(run);
    all->workers = calloc(all->n, sizeof(*all->workers));
    all->edn = malloc(EDN_BYTES);
    int rv = all->workers == NULL || all->edn == NULL ? error_set(err, WEIR_ENOMEM, "no memory")
                                                      : web_open(run, &all->web, err);
    rv = rv == 0 ? env_timer_init(run_env(run), &all->timer) : rv;
    if (rv != 0) {
        return rv;
    }
    for (unsigned i = 0; i < all->n; i++) {
        all->workers[i] = (struct worker){
            .all = all, .p = run_process(run, i), .node = i % run_hosts(run)->founders};
    }
    all->timer.data = all;
    make_next(all);
    *ret_state = all;
    return 0;
}

static void stop(void *state)
{
    struct ledger *all = state;
    struct run *run = all->run;
    env_timer_close(&all->timer);
    web_close(all->web);
    json_decref(all->accounts);
    free(all->workers);
    free(all->edn);
    free(all);
    run_stopped(run);
}

const struct workload workload_ledger = {
    .name = "ledger",
    .about = "subscriptions, gifts and refunds under idempotency keys; the books",
    .checker = "ledger",
    .config = "log.segment_mib = 4\nlog.free_mib_min = 32",
    .views = true,
    .processes = 8,
    .pause_us = 20000,
    .start = start,
    .next = next,
    .final = final,
    .stop = stop,
};
