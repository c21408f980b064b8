/* Those who write: batches without numbers, and producers that number theirs, keep up to five
 * unacknowledged, and send them again as soon as they are in doubt, perhaps while the first copy is
 * still on its way at another node. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define PRODUCERS 3
#define WINDOW    PRODUCER_BATCHES
/* A node that crashed answers nothing. */
#define PATIENCE_NS 300000000

struct numbered {
    uint64_t id;
    int32_t sequence;
    uint32_t records;
    uint64_t sent_ns; /* 0: no copy is on its way */
    bool acked, doubtful;
};

static struct producer_sim {
    struct numbered batches[WINDOW]; /* oldest first; the first one is not acknowledged */
    unsigned n;
    int32_t next;
} producers[PRODUCERS];

struct proposal {
    struct group_propose req;
    struct sim_node *node;
    struct producer_sim *producer; /* NULL: not numbered */
    uint64_t id;
    uint64_t sent_ns;
    uint64_t term, hand_overs; /* of the node, when it was proposed */
};

static void batch_of(struct producer_sim *producer, uint64_t id, int status)
{
    for (unsigned i = 0; producer != NULL && i < producer->n; i++) {
        struct numbered *b = &producer->batches[i];
        if (b->id == id) {
            b->sent_ns = 0;
            b->acked = b->acked || status == 0;
            b->doubtful = true;
        }
    }
    while (producer != NULL && producer->n > 0 && producer->batches[0].acked) {
        memmove(producer->batches, producer->batches + 1, (WINDOW - 1) * sizeof(struct numbered));
        producer->n--;
    }
}

static void proposed(struct group_propose *req, int status)
{
    struct proposal *p = req->data;
    if (status == 0) {
        sim.n_acked++;
        sim_stream_acked(sim.now_ns - p->sent_ns);
        sim_check(p->node);
        sim_check_ack(p->node, p->id, req->base.v);
    } else if (status == WEIR_EUNKNOWN) {
        sim.n_unknown++;
        if (p->term == p->node->hand_over_term && p->hand_overs < p->node->hand_overs) {
            sim_violate(SIM_HANDED_OVER, p->node, "handed over with a proposal on its way");
        }
    } else {
        sim_violate(SIM_DISK_MISUSE, p->node, "a proposal ended with an unknown status");
    }
    batch_of(p->producer, p->id, status);
    free(p);
}

static int propose(struct sim_node *n, struct producer_sim *producer, const struct numbered *b)
{
    uint8_t batch[SIM_BATCH_HEADER + 64] = {0};
    size_t len = SIM_BATCH_HEADER + b->id * 7 % 64;
    struct proposal *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return WEIR_ENOMEM;
    }
    *p = (struct proposal){
        .req.data = p,
        .node = n,
        .producer = producer,
        .id = b->id,
        .sent_ns = sim.now_ns,
        .term = n->group->term,
        .hand_overs = n->hand_overs,
    };
    p->req.age_ms = b->doubtful;
    store_le64(batch + 16, b->id);
    store_le32(batch + 24, b->records);
    store_le32(batch + 28, producer == NULL ? UINT32_MAX : (uint32_t)(producer - producers));
    store_le32(batch + 32, (uint32_t)b->sequence);
    int rv = group_propose(n->group, &p->req, batch, len, proposed);
    if (rv != 0) {
        free(p);
    }
    return rv;
}

static void control_proposed(struct group_propose *req, int status)
{
    if (status != 0 && status != WEIR_EUNKNOWN) {
        sim_violate(SIM_DISK_MISUSE, req->data, "a control ended with an unknown status");
    }
    free(req);
}

/* A decision of the leader about its log. */
static void propose_control(struct sim_node *n)
{
    int64_t mark = partition_high_watermark(&n->partition).v;
    struct control control = {
        .kind = CONTROL_START,
        .offset = LOG_OFFSET(sim_random() % (uint64_t)(mark + 1)),
    };
    struct group_propose *req = calloc(1, sizeof(*req));
    if (req == NULL) {
        return;
    }
    req->data = n;
    if (group_propose_control(n->group, req, &control, control_proposed) != 0) {
        free(req);
    }
}

void sim_propose(struct sim_node *n)
{
    if (sim_chance(1, 12)) {
        propose_control(n);
    }
    struct numbered b = {.id = ++sim.next_id, .records = (uint32_t)(1 + sim_random() % 5)};
    (void)propose(n, NULL, &b);
}

/* A leader that another one has followed, and that does not know it, may lack what that one has
 * acknowledged. */
static bool is_replaced(const struct sim_node *n)
{
    for (uint64_t term = n->group->term + 1; term < SIM_TERMS_MAX; term++) {
        if (sim.leader_of_term[term] != 0) {
            return true;
        }
    }
    return false;
}

void sim_produce(struct sim_node *n)
{
    struct producer_sim *p = &producers[sim_random() % (PRODUCERS + 1) % PRODUCERS];
    if (sim_chance(1, 4)) {
        sim_propose(n);
        return;
    }
    if (p->n < WINDOW) {
        uint32_t records = (uint32_t)(1 + sim_random() % 5);
        p->batches[p->n++] =
            (struct numbered){.id = ++sim.next_id, .sequence = p->next, .records = records};
        p->next += (int32_t)records;
    }
    /* In order, until one is refused. */
    for (unsigned i = 0; i < p->n; i++) {
        struct numbered *b = &p->batches[i];
        if (b->acked ||
            (b->sent_ns != 0 && sim.now_ns - b->sent_ns < PATIENCE_NS && !sim_chance(1, 8))) {
            continue;
        }
        int rv = propose(n, p, b);
        if (rv == WEIR_EFENCED || (rv == WEIR_ESEQUENCE && i == 0 && !is_replaced(n))) {
            sim_violate(SIM_LOST, n, "a producer's next batch is refused");
        }
        if (rv != 0) {
            return;
        }
        b->sent_ns = sim.now_ns;
    }
}
