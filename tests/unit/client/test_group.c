/* Members of consumer groups against three real brokers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clients/log/client_priv.h"
#include "clients/log/group_priv.h"
#include "harness.h"

#define PARTITIONS 4
#define RECORDS    4000 /* of topic `many`, RECORDS / PARTITIONS in each partition */

/* --- Producing --- */

struct sending {
    unsigned n_done, n;
    bool done;
};

static void on_produced(struct weir_produce *req, int status)
{
    struct sending *s = req->data;
    assert_int_equal(status, 0);
    s->done = ++s->n_done == s->n;
}

static void produce(struct harness *h, struct weir_client *client, unsigned n)
{
    struct sending s = {.n = n};
    struct weir_produce *reqs = calloc(n, sizeof(*reqs));
    assert_non_null(reqs);
    for (unsigned i = 0; i < n; i++) {
        reqs[i].data = &s;
        assert_int_equal(weir_produce(client, "many", i % PARTITIONS, NULL, 0, "value", 5, &reqs[i],
                                      on_produced),
                         0);
    }
    harness_run_until(h, &s.done);
    free(reqs);
}

struct ends {
    struct weir_offsets_req req[PARTITIONS];
    int64_t sum;
    unsigned n_done;
    bool done;
};

static void on_offsets(struct weir_offsets_req *req, int status)
{
    struct ends *e = req->data;
    assert_int_equal(status, 0);
    e->sum += req->high_watermark;
    e->done = ++e->n_done == PARTITIONS;
}

/* Records in the topic. */
static unsigned count(struct harness *h, struct weir_client *client)
{
    struct ends e = {0};
    for (unsigned i = 0; i < PARTITIONS; i++) {
        e.req[i].data = &e;
        assert_int_equal(weir_offsets(client, "many", i, true, &e.req[i], on_offsets), 0);
    }
    harness_run_until(h, &e.done);
    return (unsigned)e.sum;
}

/* --- Members --- */

/* What all members of a test have seen together. */
struct seen {
    uint8_t times[PARTITIONS][2 * RECORDS];
    unsigned n_distinct, n_repeats, wanted;
    bool all;
};

struct member {
    struct weir_client *client;
    struct weir_group *group;
    struct seen *seen;
    int64_t next[PARTITIONS]; /* -1: not held */
    int64_t begun[PARTITIONS];
    unsigned n_held, want_held, n_records, stop_after;
    bool enough; /* n_held == want_held */
    bool stopped, closed, failed;
    int status;
};

static void on_assigned(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                        int64_t offset)
{
    struct member *m = data;
    (void)g;
    assert_string_equal(topic, "many");
    assert_int_equal(m->next[partition], -1);
    m->next[partition] = m->begun[partition] = offset;
    m->enough = ++m->n_held == m->want_held;
}

static void on_revoked(void *data, struct weir_group *g, const char *topic, uint32_t partition)
{
    struct member *m = data;
    (void)g;
    (void)topic;
    assert_true(m->next[partition] >= 0);
    m->next[partition] = -1;
    m->enough = --m->n_held == m->want_held;
}

static void on_closed(void *data)
{
    struct member *m = data;
    m->group = NULL;
    m->closed = true;
}

static void on_records(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                       const struct batch_record *records, unsigned n, int64_t high_watermark)
{
    struct member *m = data;
    (void)topic;
    (void)high_watermark;
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(records[i].offset.v, m->next[partition]); /* no gap, ever */
        m->next[partition]++;
        uint8_t *times = &m->seen->times[partition][records[i].offset.v];
        m->seen->n_distinct += *times == 0;
        m->seen->n_repeats += *times > 0;
        *times = 1;
        if (++m->n_records == m->stop_after) {
            weir_group_done(g, "many", partition, records[i].offset.v + 1);
            weir_group_close(g, on_closed, m);
            m->stopped = true;
            break;
        }
    }
    m->seen->all = m->seen->n_distinct >= m->seen->wanted;
}

static void on_failed(void *data, struct weir_group *g, int status, const char *text)
{
    struct member *m = data;
    (void)g;
    assert_string_not_equal(text, "");
    m->status = status;
    m->failed = true;
}

static void join(struct member *m, struct weir_client *client, struct seen *seen,
                 const struct weir_group_options *options)
{
    static const char *const topics[] = {"many"};
    struct weir_group_options o = *options;
    struct weir_group_events events = {.data = m,
                                       .assigned = on_assigned,
                                       .revoked = on_revoked,
                                       .records = on_records,
                                       .failed = on_failed};
    struct error err = {0};
    m->client = client;
    m->seen = seen;
    for (unsigned i = 0; i < PARTITIONS; i++) {
        m->next[i] = -1;
    }
    o.group = o.group != NULL ? o.group : "g";
    o.topics = o.topics != NULL ? o.topics : topics;
    o.n_topics = 1;
    assert_int_equal(weir_group_join(client, &o, &events, &m->group, &err), 0);
}

static void leave(struct harness *h, struct member *m)
{
    weir_group_close(m->group, on_closed, m);
    harness_run_until(h, &m->closed);
    m->closed = false;
    m->n_records = 0;
}

/* --- Asking the coordinator --- */

struct committed {
    struct broker_request req;
    int64_t sum;
    unsigned n_partitions, n_members;
    int status;
    bool done;
};

static void on_described(struct broker_request *req, int status, const struct frame *reply,
                         const ProtobufCMessage *head)
{
    struct committed *c = req->data;
    const Weir__BrokerGroups *m = (const Weir__BrokerGroups *)head;
    (void)reply;
    c->status = status;
    c->done = true;
    if (status != 0) {
        return;
    }
    assert_int_equal(m->n_groups, 1);
    c->n_members = m->groups[0]->member_count;
    for (size_t i = 0; i < m->groups[0]->n_offsets; i++) {
        const Weir__BrokerGroupTopic *t = m->groups[0]->offsets[i];
        for (size_t k = 0; k < t->n_offsets; k++) {
            c->sum += t->offsets[k];
            c->n_partitions++;
        }
    }
}

/* What is committed of the group, from whoever coordinates it. */
static struct committed ask_committed(struct harness *h, const char *group)
{
    Weir__BrokerGroupDescribeRequest m = WEIR__BROKER_GROUP_DESCRIBE_REQUEST__INIT;
    char name[64];
    (void)snprintf(name, sizeof(name), "%s", group);
    m.group = name;
    for (unsigned tries = 0;; tries++) {
        unsigned i = tries % HARNESS_NODES;
        struct committed c = {.req = {.data = &c}};
        if (h->broker[i] == NULL) {
            continue;
        }
        uint32_t home = weir_partition_for_key(group, strlen(group), 4);
        struct broker_link *link = harness_link_shard(h, i, home % h->n_shards);
        assert_int_equal(broker_link_request(link, BROKER_GROUP_DESCRIBE_REQUEST, &m.base, NULL, 0,
                                             BROKER_GROUPS, &c.req, on_described),
                         0);
        harness_run_until(h, &c.done);
        harness_close_link(h, link);
        if (c.status == 0 || c.status == WEIR_ENOTFOUND) {
            return c;
        }
        assert_true(tries < 100000);
    }
}

/* --- Tests --- */

static void weir_group_join__shares_out_the_partitions_and_consumes_every_record_once(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member members[3] = {0};
    struct weir_client *clients[3];
    (void)state;
    harness_open(&h, "");
    seen->wanted = RECORDS;
    for (unsigned i = 0; i < 3; i++) {
        clients[i] = harness_client(&h, &(struct weir_client_options){0});
    }
    produce(&h, clients[0], RECORDS);
    for (unsigned i = 0; i < 3; i++) {
        join(&members[i], clients[i], seen, &(struct weir_group_options){0});
    }
    harness_run_until(&h, &seen->all);
    for (unsigned i = 0; i < 3; i++) {
        assert_in_range(members[i].n_held, 1, 2);
    }
    for (unsigned i = 0; i < 3; i++) {
        leave(&h, &members[i]);
    }
    assert_int_equal(seen->n_repeats, 0);
    struct committed c = ask_committed(&h, "g");
    assert_int_equal(c.sum, RECORDS);
    assert_int_equal(c.n_partitions, PARTITIONS);
    assert_int_equal(c.n_members, 0);
    for (unsigned i = 0; i < 3; i++) {
        harness_free_client(&h, clients[i]);
    }
    free(seen);
    harness_close(&h);
}

static void weir_group_close__inside_records_goes_on_at_that_very_record_elsewhere(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {.stop_after = 1234}, b = {0};
    (void)state;
    harness_open(&h, "");
    seen->wanted = RECORDS;
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce(&h, client, RECORDS);
    join(&a, client, seen, &(struct weir_group_options){0});
    harness_run_until(&h, &a.closed);
    assert_int_equal(seen->n_distinct, 1234);
    assert_int_equal(ask_committed(&h, "g").sum, 1234);
    join(&b, client, seen, &(struct weir_group_options){0});
    harness_run_until(&h, &seen->all);
    assert_int_equal(seen->n_repeats, 0);
    leave(&h, &b);
    harness_free_client(&h, client);
    free(seen);
    harness_close(&h);
}

static void weir_group_join__of_another_member_moves_partitions_without_a_repeat(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {.want_held = 4}, b = {.want_held = 2};
    (void)state;
    harness_open(&h, "");
    seen->wanted = RECORDS;
    struct weir_client *ca = harness_client(&h, &(struct weir_client_options){0});
    struct weir_client *cb = harness_client(&h, &(struct weir_client_options){0});
    produce(&h, ca, RECORDS);
    join(&a, ca, seen, &(struct weir_group_options){0});
    harness_run_until(&h, &a.enough);
    join(&b, cb, seen, &(struct weir_group_options){0});
    harness_run_until(&h, &b.enough);
    assert_int_equal(a.n_held, 2);
    seen->wanted = 2 * RECORDS;
    seen->all = false;
    produce(&h, ca, RECORDS);
    harness_run_until(&h, &seen->all);
    a.want_held = 4;
    a.enough = false;
    leave(&h, &b);
    harness_run_until(&h, &a.enough);
    leave(&h, &a);
    assert_int_equal(seen->n_repeats, 0);
    assert_int_equal(ask_committed(&h, "g").sum, 2 * RECORDS);
    harness_free_client(&h, ca);
    harness_free_client(&h, cb);
    free(seen);
    harness_close(&h);
}

/* Whoever coordinates is among those that are stopped in turn, each while records come. */
static void weir_group__survives_its_coordinator_without_a_gap_or_a_repeat(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {.want_held = 2}, b = {.want_held = 2};
    (void)state;
    harness_open(&h, "");
    struct weir_client *ca = harness_client(&h, &(struct weir_client_options){0});
    struct weir_client *cb = harness_client(&h, &(struct weir_client_options){0});
    struct weir_group_options o = {.commit_ms = 20};
    join(&a, ca, seen, &o);
    join(&b, cb, seen, &o);
    harness_run_until(&h, &a.enough);
    harness_run_until(&h, &b.enough);
    for (unsigned i = 0; i < HARNESS_NODES; i++) {
        seen->wanted = UINT32_MAX;
        produce(&h, ca, RECORDS / 4);
        harness_stop_broker(&h, i);
        seen->wanted = count(&h, ca);
        seen->all = seen->n_distinct >= seen->wanted;
        harness_run_until(&h, &seen->all);
        harness_start_broker(&h, i);
    }
    leave(&h, &a);
    leave(&h, &b);
    assert_int_equal(seen->n_repeats, 0);
    assert_int_equal(ask_committed(&h, "g").sum, seen->wanted);
    harness_free_client(&h, ca);
    harness_free_client(&h, cb);
    free(seen);
    harness_close(&h);
}

/* The client of a member is freed without a word, as if its process had died. */
static void weir_group__takes_over_from_a_dead_member_at_its_last_commit(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {.want_held = 2}, b = {.want_held = 2};
    (void)state;
    harness_open(&h, "");
    seen->wanted = RECORDS;
    struct weir_client *ca = harness_client(&h, &(struct weir_client_options){0});
    struct weir_client *cb = harness_client(&h, &(struct weir_client_options){0});
    join(&a, ca, seen, &(struct weir_group_options){.no_auto_commit = true});
    join(&b, cb, seen, &(struct weir_group_options){0});
    harness_run_until(&h, &a.enough);
    harness_run_until(&h, &b.enough);
    produce(&h, cb, RECORDS);
    harness_run_until(&h, &seen->all);
    unsigned of_a = 0, before = seen->n_repeats;
    for (unsigned i = 0; i < PARTITIONS; i++) {
        of_a += a.next[i] > 0 ? (unsigned)(a.next[i] - a.begun[i]) : 0;
    }
    harness_free_client(&h, ca);
    b.want_held = 4;
    b.enough = false;
    harness_run_until(&h, &b.enough);
    seen->wanted = RECORDS + RECORDS / 4;
    seen->all = false;
    produce(&h, cb, RECORDS / 4);
    harness_run_until(&h, &seen->all);
    assert_int_equal(seen->n_repeats - before,
                     of_a); /* it had committed nothing, nor skipped anything */
    leave(&h, &b);
    assert_int_equal(ask_committed(&h, "g").sum, RECORDS + RECORDS / 4);
    harness_free_client(&h, cb);
    free(seen);
    harness_close(&h);
}

static void weir_group_join__at_the_end_commits_it_before_the_first_record(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {.want_held = 4}, b = {0};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    struct weir_client *other = harness_client(&h, &(struct weir_client_options){0});
    produce(&h, client, RECORDS);
    join(&a, other, seen, &(struct weir_group_options){.from = WEIR_OFFSET_END});
    harness_run_until(&h, &a.enough);
    assert_int_equal(ask_committed(&h, "g").sum, RECORDS);
    harness_free_client(&h, other); /* dies before it has processed anything */
    produce(&h, client, RECORDS);
    seen->wanted = RECORDS;
    join(&b, client, seen, &(struct weir_group_options){.from = WEIR_OFFSET_END});
    harness_run_until(&h, &seen->all);
    assert_int_equal(seen->n_repeats, 0);
    leave(&h, &b);
    harness_free_client(&h, client);
    free(seen);
    harness_close(&h);
}

/* --- A group that was away for longer than the log keeps its records --- */

struct away {
    struct weir_group *group;
    int64_t first; /* -1: not yet */
    bool begun, closed;
};

static void away_closed(void *data)
{
    struct away *a = data;
    a->closed = true;
}

static void away_records(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                         const struct batch_record *records, unsigned n, int64_t high_watermark)
{
    struct away *a = data;
    (void)n;
    (void)high_watermark;
    if (!a->begun) {
        a->begun = true;
        a->first = records[0].offset.v;
        weir_group_done(g, topic, partition, records[0].offset.v + 1);
        weir_group_close(g, away_closed, a);
    }
}

static void away_join(struct harness *h, struct weir_client *client, struct away *a, int64_t from)
{
    static const char *const topics[] = {"short"};
    struct weir_group_options o = {.group = "g", .topics = topics, .n_topics = 1, .from = from};
    struct weir_group_events events = {.data = a, .records = away_records, .failed = on_failed};
    struct error err = {0};
    *a = (struct away){.first = -1};
    assert_int_equal(weir_group_join(client, &o, &events, &a->group, &err), 0);
    harness_run_until(h, &a->closed);
}

static void produce_mebibytes(struct harness *h, struct weir_client *client, unsigned n)
{
    static uint8_t value[128u << 10];
    struct sending s = {.n = 8 * n};
    struct weir_produce *reqs = calloc(8 * (size_t)n, sizeof(*reqs));
    assert_non_null(reqs);
    for (unsigned i = 0; i < 8 * n; i++) {
        reqs[i].data = &s;
        assert_int_equal(
            weir_produce(client, "short", 0, NULL, 0, value, sizeof(value), &reqs[i], on_produced),
            0);
    }
    harness_run_until(h, &s.done);
    free(reqs);
}

static struct ends short_bounds(struct harness *h, struct weir_client *client)
{
    struct ends e = {.n_done = PARTITIONS - 1};
    e.req[0].data = &e;
    assert_int_equal(weir_offsets(client, "short", 0, true, &e.req[0], on_offsets), 0);
    harness_run_until(h, &e.done);
    return e;
}

static void weir_group_join__at_the_end_skips_nothing_that_retention_has_left(void **state)
{
    struct harness h;
    struct away a;
    struct ends e;
    (void)state;
    harness_open(&h, "log.topic = short partitions=1 retain_mib=2\n");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce_mebibytes(&h, client, 1);
    away_join(&h, client, &a, WEIR_OFFSET_BEGIN); /* it stands at 1 now */
    assert_int_equal(a.first, 0);
    produce_mebibytes(&h, client, 6);
    do {
        e = short_bounds(&h, client);
    } while (e.req[0].start <= 1);
    away_join(&h, client, &a, WEIR_OFFSET_END);
    assert_in_range(a.first, e.req[0].start, e.req[0].high_watermark - 1);
    harness_free_client(&h, client);
    harness_close(&h);
}

/* --- Operators --- */

/* A commit without a member, to the next broker; the answer's text is cut to what matters. */
static int operator_commit(struct harness *h, unsigned i, char *ret_text, size_t size)
{
    static char group[] = "g", nobody[] = "", many[] = "many";
    uint32_t partition = 1;
    int64_t offset = 0;
    Weir__BrokerGroupTopic t = WEIR__BROKER_GROUP_TOPIC__INIT, *list[] = {&t};
    Weir__BrokerGroupCommit m = WEIR__BROKER_GROUP_COMMIT__INIT;
    struct answer a = {0};
    t.topic = many;
    t.partitions = &partition;
    t.offsets = &offset;
    t.n_partitions = t.n_offsets = 1;
    m.group = group;
    m.member = nobody;
    m.offsets = list;
    m.n_offsets = 1;
    struct broker_link *link = harness_link(h, i % HARNESS_NODES);
    harness_ask(h, link, BROKER_GROUP_COMMIT, &m.base, NULL, 0, BROKER_GROUP_COMMITTED, &a);
    harness_close_link(h, link);
    (void)snprintf(ret_text, size, "%s", a.text);
    bytes_close(&a.attachment);
    return a.status;
}

static void
weir_group__of_a_coordinator_that_has_just_begun_is_not_set_before_members_could_tell(void **state)
{
    struct harness h;
    char text[ERROR_TEXT_MAX];
    unsigned i = 0;
    (void)state;
    harness_open(&h, "");
    int status = operator_commit(&h, i, text, sizeof(text));
    while (status == WEIR_ENOTLEADER ||
           (status == WEIR_EUNAVAILABLE && strstr(text, "just begun") == NULL)) {
        status = operator_commit(&h, ++i, text, sizeof(text));
    }
    assert_int_equal(status, WEIR_EUNAVAILABLE);
    while (operator_commit(&h, i++, text, sizeof(text)) != 0) {}
    assert_int_equal(ask_committed(&h, "g").n_partitions, 1);
    harness_close(&h);
}

struct explicit_commit {
    struct weir_group_commit req;
    int status;
    bool done;
};

static void on_commit(struct weir_group_commit *req, int status)
{
    struct explicit_commit *c = req->data;
    c->status = status;
    c->done = true;
}

static void weir_group_commit__commits_what_is_done_and_no_more(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {0};
    struct explicit_commit c = {.req = {.data = &c}};
    (void)state;
    harness_open(&h, "");
    seen->wanted = RECORDS;
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce(&h, client, RECORDS);
    join(&a, client, seen, &(struct weir_group_options){.manual = true, .no_auto_commit = true});
    harness_run_until(&h, &seen->all);
    weir_group_done(a.group, "many", 2, 77);
    weir_group_done(a.group, "many", 2, 70); /* never back */
    weir_group_commit(a.group, &c.req, on_commit);
    assert_false(c.done);
    harness_run_until(&h, &c.done);
    assert_int_equal(c.status, 0);
    assert_int_equal(ask_committed(&h, "g").sum, 77);
    c.done = false;
    weir_group_commit(a.group, &c.req, on_commit); /* nothing to commit */
    harness_run_until(&h, &c.done);
    assert_int_equal(c.status, 0);
    leave(&h, &a);
    harness_free_client(&h, client);
    free(seen);
    harness_close(&h);
}

static void weir_group_commit__of_what_was_taken_away_meanwhile_is_fenced(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {0};
    struct explicit_commit c = {.req = {.data = &c}};
    (void)state;
    harness_open(&h, "");
    seen->wanted = RECORDS;
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce(&h, client, RECORDS);
    join(&a, client, seen, &(struct weir_group_options){.manual = true, .no_auto_commit = true});
    harness_run_until(&h, &seen->all);
    weir_group_done(a.group, "many", 1, 55);
    weir_group_done(a.group, "many", 2, 77);
    LIST_FOREACH(it, &a.group->held)
    {
        struct held *held = list_entry(it, struct held, link);
        if (held->partition == 2) { /* as after an answer without it */
            held->state = HELD_REVOKED;
            a.group->n_revoked++;
            on_revoked(&a, a.group, "many", 2);
        }
    }
    weir_group_commit(a.group, &c.req, on_commit);
    group_drop_revoked(a.group); /* the last commit of it was fenced */
    harness_run_until(&h, &c.done);
    assert_int_equal(c.status, WEIR_EFENCED);
    c.done = false;
    weir_group_commit(a.group, &c.req, on_commit); /* the rest is its own still */
    harness_run_until(&h, &c.done);
    assert_int_equal(c.status, 0);
    assert_int_equal(ask_committed(&h, "g").sum, 55);
    leave(&h, &a);
    harness_free_client(&h, client);
    free(seen);
    harness_close(&h);
}

/* What an answer leaves out is somebody else's by then. When it comes back, what was processed of
 * it before is not committed: that would set the group back. */
static void weir_group__commits_nothing_of_a_partition_that_was_taken_and_came_back(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {.want_held = PARTITIONS};
    (void)state;
    harness_open(&h, "");
    seen->wanted = RECORDS;
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce(&h, client, RECORDS);
    join(&a, client, seen, &(struct weir_group_options){.no_auto_commit = true});
    harness_run_until(&h, &seen->all);
    LIST_FOREACH(it, &a.group->held)
    {
        struct held *held = list_entry(it, struct held, link);
        if (held->partition == 2) { /* as after an answer without it, whose commit was fenced */
            weir_consumer_close(held->consumer);
            held->consumer = NULL;
            held->state = HELD_REVOKED;
            held->taken = true;
            a.group->n_revoked++;
            on_revoked(&a, a.group, "many", 2);
        }
    }
    group_tell_again(a.group);
    harness_run_until(&h, &a.enough);
    assert_int_equal(a.begun[2], 0);
    leave(&h, &a);
    harness_free_client(&h, client);
    free(seen);
    harness_close(&h);
}

static void weir_group__that_is_long_gone_is_forgotten_but_not_one_that_is_idle(void **state)
{
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {0}, b = {.want_held = 4};
    (void)state;
    harness_open(&h, "log.group_retain_ms = 1000\n");
    seen->wanted = RECORDS;
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    produce(&h, client, RECORDS);
    join(&b, client, seen, &(struct weir_group_options){.group = "idle"});
    harness_run_until(&h, &seen->all);
    while (ask_committed(&h, "idle").sum != RECORDS) {}
    join(&a, client, calloc(1, sizeof(*seen)), &(struct weir_group_options){0});
    a.seen->wanted = RECORDS;
    harness_run_until(&h, &a.seen->all);
    leave(&h, &a);
    free(a.seen);
    struct committed c;
    while ((c = ask_committed(&h, "g")).status != WEIR_ENOTFOUND) {
        assert_int_equal(c.sum, RECORDS);
    }
    assert_int_equal(ask_committed(&h, "idle").sum, RECORDS);
    leave(&h, &b);
    harness_free_client(&h, client);
    free(seen);
    harness_close(&h);
}

static void weir_group_join__of_no_topic_or_a_wrong_name_fails(void **state)
{
    static const char *const nowhere[] = {"nowhere"};
    struct harness h;
    struct seen *seen = calloc(1, sizeof(*seen));
    struct member a = {0}, b = {0};
    (void)state;
    harness_open(&h, "");
    struct weir_client *client = harness_client(&h, &(struct weir_client_options){0});
    join(&a, client, seen, &(struct weir_group_options){.topics = nowhere});
    harness_run_until(&h, &a.failed);
    assert_int_equal(a.status, WEIR_ENOTFOUND);
    leave(&h, &a);
    join(&b, client, seen, &(struct weir_group_options){.group = "not/a/name"});
    harness_run_until(&h, &b.failed);
    assert_int_equal(b.status, WEIR_EINVAL);
    harness_free_client(&h, client); /* takes the open group with it */
    free(seen);
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weir_group_join__shares_out_the_partitions_and_consumes_every_record_once),
        cmocka_unit_test(weir_group_close__inside_records_goes_on_at_that_very_record_elsewhere),
        cmocka_unit_test(weir_group_join__of_another_member_moves_partitions_without_a_repeat),
        cmocka_unit_test(weir_group__survives_its_coordinator_without_a_gap_or_a_repeat),
        cmocka_unit_test(weir_group__takes_over_from_a_dead_member_at_its_last_commit),
        cmocka_unit_test(weir_group_join__at_the_end_commits_it_before_the_first_record),
        cmocka_unit_test(weir_group_join__at_the_end_skips_nothing_that_retention_has_left),
        cmocka_unit_test(
            weir_group__of_a_coordinator_that_has_just_begun_is_not_set_before_members_could_tell),
        cmocka_unit_test(weir_group_commit__commits_what_is_done_and_no_more),
        cmocka_unit_test(weir_group_commit__of_what_was_taken_away_meanwhile_is_fenced),
        cmocka_unit_test(weir_group__commits_nothing_of_a_partition_that_was_taken_and_came_back),
        cmocka_unit_test(weir_group__that_is_long_gone_is_forgotten_but_not_one_that_is_idle),
        cmocka_unit_test(weir_group_join__of_no_topic_or_a_wrong_name_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
