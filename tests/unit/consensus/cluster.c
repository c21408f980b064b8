#include "cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/logging.h"

#define FOR_EVER_NS      300000000000ull
#define CLOCK_STEP_NS    20000000u /* what may pass between two looks at the clock */
#define CHANGING         1         /* no status of a change */
#define DISK_PATIENCE_NS 50000000u /* that a request may take before the clock waits for it */

/* --- The nodes' clock --- */

/* What a disk works at, in place of the node's own request. */
struct request {
    struct env_io io, *whose;
    uint64_t began_ns;
    struct list link;
};

static void turn_clock(struct cluster *c)
{
    uint64_t now_ns = uv_hrtime(), step_ns = now_ns - c->looked_ns;
    c->looked_ns = now_ns;
    if (!list_empty(&c->requests)) {
        const struct request *oldest = list_entry(c->requests.next, struct request, link);
        if (now_ns - oldest->began_ns > DISK_PATIENCE_NS) {
            return;
        }
    }
    c->clock_ns += step_ns < CLOCK_STEP_NS ? step_ns : CLOCK_STEP_NS;
}

static struct cluster_node *node_of(const struct env *env)
{
    /* The table of operations is the node's own. */
    return container_of((struct env_ops *)(uintptr_t)env->ops, struct cluster_node, ops);
}

static uint64_t node_now_ns(struct env *env)
{
    struct cluster *c = node_of(env)->cluster;
    turn_clock(c);
    return c->clock_ns;
}

static void on_io(struct env_io *io, int status)
{
    struct request *r = container_of(io, struct request, io);
    struct env_io *whose = r->whose;
    whose->n_bytes = io->n_bytes;
    whose->status = status;
    list_remove(&r->link);
    free(r);
    whose->cb(whose, status);
}

static void start_io(struct cluster_node *n, struct env_file *file, const char *path,
                     struct env_io *io, enum env_io_kind kind)
{
    struct request *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    *r = (struct request){.io = *io, .whose = io, .began_ns = uv_hrtime()};
    r->io.cb = on_io;
    list_push_back(&n->cluster->requests, &r->link);
    n->ops_below->io_start(n->env, file, path, &r->io, kind);
}

/* --- Running --- */

static void heartbeat(uv_timer_t *timer)
{
    (void)timer; /* so that the loop comes back to ask for the condition */
}

static void free_timer(uv_handle_t *timer)
{
    free(timer);
}

/* The loop does not turn any more once it is done: what is true stays so for the caller. */
bool cluster_run_until(struct cluster *c, bool (*done)(struct cluster *c))
{
    uv_timer_t *timer = calloc(1, sizeof(*timer));
    assert_non_null(timer);
    uint64_t end_ns = uv_hrtime() + FOR_EVER_NS;
    uv_timer_init(&c->loop, timer);
    uv_timer_start(timer, heartbeat, 1, 1);
    bool reached = done(c);
    while (!reached && uv_hrtime() < end_ns) {
        uv_run(&c->loop, UV_RUN_ONCE);
        turn_clock(c);
        reached = done(c);
    }
    uv_close((uv_handle_t *)timer, free_timer);
    return reached;
}

static void on_failed(void *data, struct group *g, const struct error *error)
{
    struct cluster_node *n = data;
    (void)g;
    n->failures++;
    n->failure = *error;
}

void cluster_init(struct cluster *c)
{
    memset(c, 0, sizeof(*c));
    log_set_level(getenv("WEIR_TEST_LOG") != NULL ? LOG_INFO : LOG_ERROR);
    assert_int_equal(uv_loop_init(&c->loop), 0);
    snprintf(c->dir, sizeof(c->dir), "/tmp/weir-consensus-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    c->clock_ns = c->looked_ns = uv_hrtime();
    list_init(&c->requests);
    c->inflight_bytes_max = 16 << 20;
    c->n_founders = CLUSTER_NODES;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        c->nodes[id].cluster = c;
        c->nodes[id].id = id;
        c->secret[id] = "a secret of the cluster";
    }
}

static int open_transport(struct cluster *c, struct cluster_node *n, struct error *err)
{
    struct transport_peer peers[CLUSTER_NODES];
    static const char *const names[] = {"", "n1", "n2", "n3"};
    unsigned n_peers = 0;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (id != n->id) {
            peers[n_peers++] = (struct transport_peer){
                .id = id,
                .name = names[id],
                .host = "127.0.0.1",
                .port = c->nodes[id].port,
            };
        }
    }
    struct transport_options o = {
        .self_id = n->id,
        .cluster_id = c->cluster_id[n->id],
        .listen_host = "127.0.0.1",
        .listen_port = n->port,
        .peers = peers,
        .n_peers = n_peers,
        .secret = c->secret[n->id],
        .shard = c->shard[n->id],
        .n_shards = c->n_shards[n->id],
        .queue_bytes_max = 64 << 20,
    };
    int rv = transport_new(n->env, &o, &n->transport, err);
    if (rv == 0) {
        n->port = transport_port(n->transport);
    }
    return rv;
}

static int open_group(struct cluster *c, struct cluster_node *n, struct error *err)
{
    static const uint32_t voters[] = {1, 2, 3};
    char dir[128];
    snprintf(dir, sizeof(dir), "%s/%u", c->dir, n->id);
    struct group_options o = {
        .id = 7,
        .pace = &c->pace,
        .dir = dir,
        .partition = {.segment_bytes = c->segment_bytes > 0 ? c->segment_bytes : 4 << 20,
                      .tail_bytes = 1 << 20,
                      .index_bytes = 4096},
        .voters = voters,
        .n_voters = n->id <= c->n_founders ? c->n_founders : 0,
        .vote_log = n->votes,
        .heartbeat_ms = 50,
        .election_ms = 500,
        .inflight_bytes_max = c->inflight_bytes_max,
        .free_bytes_min = c->free_bytes_min,
        .retain_ms = c->retain_ms,
        .retain_bytes = c->retain_bytes,
        .compact = c->compact,
        .tombstone_ms = 1,
        .decide_ms = 100,
    };
    struct group_events events = {.data = n, .failed = on_failed};
    return group_open(n->env, n->transport, &o, &events, &n->group, err);
}

static void set_true(void *data)
{
    *(bool *)data = true;
}

static struct cluster_node *stopping;

static bool group_is_closed(struct cluster *c)
{
    (void)c;
    return stopping->group_closed;
}

static bool transport_is_closed(struct cluster *c)
{
    (void)c;
    return stopping->transport_closed;
}

static void stop_transport(struct cluster *c, struct cluster_node *n)
{
    stopping = n;
    n->transport_closed = false;
    transport_close(n->transport, set_true, &n->transport_closed);
    assert_true(cluster_run_until(c, transport_is_closed));
    n->transport = NULL;
    vote_log_close(n->votes);
    n->votes = NULL;
    uv_run(&c->loop, UV_RUN_NOWAIT);
    env_uv_free(n->env);
    n->env = NULL;
}

/* --- Disks that get stuck --- */

static void start_or_keep(struct env *env, struct env_file *file, const char *path,
                          struct env_io *io, enum env_io_kind kind)
{
    struct cluster_node *n = node_of(env);
    n->disk_stuck = n->disk_stuck || (n->disk_sticks != NULL && n->disk_sticks(n->cluster));
    if (!n->disk_stuck || kind == ENV_IO_READ) {
        start_io(n, file, path, io, kind);
        return;
    }
    io->impl[0] = (void *)(uintptr_t)kind;
    io->impl[1] = (void *)(uintptr_t)path;
    io->impl[2] = file;
    list_push_back(&n->stuck, &io->link);
}

static void take_clock_and_disk(struct cluster_node *n)
{
    n->ops_below = n->env->ops;
    n->ops = *n->ops_below;
    n->ops.now_ns = node_now_ns;
    n->ops.io_start = start_or_keep;
    n->env->ops = &n->ops;
    n->disk_stuck = false;
    n->disk_sticks = NULL;
    list_init(&n->stuck);
}

void cluster_freeze_disk(struct cluster *c, uint32_t id)
{
    c->nodes[id].disk_stuck = true;
}

void cluster_freeze_disk_when(struct cluster *c, uint32_t id, bool (*when)(struct cluster *c))
{
    c->nodes[id].disk_sticks = when;
}

void cluster_thaw_disk(struct cluster *c, uint32_t id)
{
    struct cluster_node *n = &c->nodes[id];
    n->disk_stuck = false;
    n->disk_sticks = NULL;
    while (!list_empty(&n->stuck)) {
        struct env_io *io = list_entry(list_pop(&n->stuck), struct env_io, link);
        start_io(n, io->impl[2], io->impl[1], io, (enum env_io_kind)(uintptr_t)io->impl[0]);
    }
}

int cluster_start(struct cluster *c, uint32_t id, struct error *err)
{
    struct cluster_node *n = &c->nodes[id];
    assert_int_equal(env_uv_new(&c->loop, &n->env, err), 0);
    take_clock_and_disk(n);
    char dir[128];
    snprintf(dir, sizeof(dir), "%s/votes.%u", c->dir, n->id);
    assert_int_equal(vote_log_open(n->env, dir, &n->votes, err), 0);
    assert_int_equal(open_transport(c, n, err), 0);
    int rv = open_group(c, n, err);
    if (rv != 0) {
        n->group = NULL;
        stop_transport(c, n);
    }
    return rv;
}

void cluster_start_all(struct cluster *c)
{
    struct error err;
    for (uint32_t id = CLUSTER_NODES; id >= 1; id--) {
        assert_int_equal(cluster_start(c, id, &err), 0);
    }
}

void cluster_stop(struct cluster *c, uint32_t id)
{
    struct cluster_node *n = &c->nodes[id];
    stopping = n;
    n->group_closed = false;
    group_close(n->group, set_true, &n->group_closed);
    assert_true(cluster_run_until(c, group_is_closed));
    n->group = NULL;
    stop_transport(c, n);
}

void cluster_close(struct cluster *c)
{
    char command[128];
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (c->nodes[id].group != NULL) {
            cluster_stop(c, id);
        }
    }
    uv_run(&c->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&c->loop), 0);
    snprintf(command, sizeof(command), "rm -rf %s", c->dir);
    assert_int_equal(system(command), 0);
}

uint32_t cluster_leader(const struct cluster *c)
{
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (c->nodes[id].group != NULL && group_is_leader(c->nodes[id].group)) {
            return id;
        }
    }
    return 0;
}

static bool has_leader(struct cluster *c)
{
    return cluster_leader(c) != 0;
}

uint32_t cluster_await_leader(struct cluster *c)
{
    assert_true(cluster_run_until(c, has_leader));
    return cluster_leader(c);
}

static int change_status;

static void changed(struct group_change *req, int status)
{
    (void)req;
    change_status = status;
}

static bool change_is_over(struct cluster *c)
{
    (void)c;
    return change_status != CHANGING;
}

int cluster_change(struct cluster *c, uint32_t id, enum group_role role)
{
    static struct group_change req;
    uint32_t leader = cluster_leader(c);
    change_status = CHANGING;
    int rv = leader == 0 ? WEIR_ENOTLEADER
                         : group_change(c->nodes[leader].group, &req, id, role, changed);
    if (rv == 0) {
        assert_true(cluster_run_until(c, change_is_over));
        rv = change_status;
    }
    return rv;
}

static int transfer_status;

static void transferred(struct group_transfer *req, int status)
{
    (void)req;
    transfer_status = status;
}

static bool transfer_is_over(struct cluster *c)
{
    (void)c;
    return transfer_status != CHANGING;
}

int cluster_transfer(struct cluster *c, uint32_t to)
{
    static struct group_transfer req;
    uint32_t leader = cluster_leader(c);
    transfer_status = CHANGING;
    int rv = leader == 0 ? WEIR_ENOTLEADER
                         : group_transfer(c->nodes[leader].group, &req, to, transferred);
    if (rv == 0) {
        assert_true(cluster_run_until(c, transfer_is_over));
        rv = transfer_status;
    }
    return rv;
}

struct proposal {
    struct group_propose req;
    struct cluster *cluster;
    unsigned records;
};

static void proposed(struct group_propose *req, int status)
{
    struct proposal *p = req->data;
    struct cluster *c = p->cluster;
    c->outstanding--;
    if (status == 0) {
        c->acked++;
        int64_t end = req->base.v + p->records;
        assert_true(end > c->acked_end);
        c->acked_end = end;
    } else {
        assert_int_equal(status, WEIR_EUNKNOWN);
        c->unknown++;
    }
    free(p);
}

int cluster_propose(struct cluster *c, unsigned records, size_t bytes)
{
    static const uint8_t value[1 << 16];
    struct bytes batch;
    struct batch_builder b;
    uint32_t leader = cluster_leader(c);
    if (leader == 0) {
        return WEIR_ENOTLEADER;
    }
    bytes_init(&batch, 16 << 20);
    batch_begin(&b, &batch, 1000);
    for (unsigned i = 0; i < records; i++) {
        char key[24] = "key";
        if (c->compact) {
            (void)snprintf(key, sizeof(key), "key-%u", c->keys_from + (c->keys++ * 7) % 50);
        }
        bool gone = c->compact && (c->tombstones || c->keys % 5 == 0);
        batch_add(&b, 1000, key, strlen(key), gone ? NULL : value, bytes);
    }
    assert_true(batch_finish(&b) > 0);
    struct proposal *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->cluster = c;
    p->records = records;
    p->req.data = p;
    int rv = group_propose(c->nodes[leader].group, &p->req, batch.data, batch.len, proposed);
    bytes_close(&batch);
    if (rv == 0) {
        c->outstanding++;
    } else {
        free(p);
    }
    return rv;
}

static unsigned wanted_outstanding;

static bool few_outstanding(struct cluster *c)
{
    return c->outstanding < wanted_outstanding && cluster_leader(c) != 0;
}

static bool none_outstanding(struct cluster *c)
{
    return c->outstanding == 0;
}

void cluster_propose_many(struct cluster *c, unsigned n, unsigned window, size_t bytes)
{
    for (unsigned i = 0; i < n;) {
        wanted_outstanding = window;
        assert_true(cluster_run_until(c, few_outstanding));
        while (i < n && c->outstanding < window && cluster_propose(c, 1 + i % 3, bytes) == 0) {
            i++;
        }
    }
    assert_true(cluster_run_until(c, none_outstanding));
}

static bool ends_are_equal(struct cluster *c)
{
    uint32_t leader = cluster_leader(c);
    if (leader == 0) {
        return false;
    }
    struct partition *p = group_partition(c->nodes[leader].group);
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (c->nodes[id].group == NULL) {
            continue;
        }
        struct partition *q = group_partition(c->nodes[id].group);
        if (partition_last_index(q).v != partition_last_index(p).v ||
            partition_commit_index(q).v != partition_last_index(p).v ||
            partition_durable_index(q).v != partition_last_index(p).v) {
            return false;
        }
    }
    return true;
}

void cluster_await_equal(struct cluster *c)
{
    uint8_t first[PARTITION_HASH_SIZE], hash[PARTITION_HASH_SIZE];
    bool have = false;
    struct error err;
    assert_true(cluster_run_until(c, ends_are_equal));
    uint64_t begin = 1;
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (c->nodes[id].group != NULL) {
            uint64_t own = partition_first_index(group_partition(c->nodes[id].group)).v;
            begin = own > begin ? own : begin;
        }
    }
    for (uint32_t id = 1; id <= CLUSTER_NODES; id++) {
        if (c->nodes[id].group == NULL) {
            continue;
        }
        struct partition *p = group_partition(c->nodes[id].group);
        struct log_index last;
        assert_int_equal(partition_hash(p, LOG_INDEX(begin), partition_last_index(p), UINT64_MAX,
                                        hash, &last, &err),
                         0);
        assert_int_equal(last.v, partition_last_index(p).v);
        assert_int_equal(partition_high_watermark(p).v, partition_end_offset(p).v);
        assert_true(partition_end_offset(p).v >= c->acked_end);
        if (have) {
            assert_memory_equal(hash, first, sizeof(hash));
        }
        memcpy(first, hash, sizeof(first));
        have = true;
    }
}
