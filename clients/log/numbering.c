/* What makes the log know a repeated batch: producer id, epoch and sequence (log/producers.h). Each
 * partition has a random id of its own and numbers its records from 0.
 *
 * A number once sent must be stored, or the log takes none behind it. When one is given up (its
 * records timed out, or were refused for good), the sequence is over: the partition goes on with
 * the next epoch, from 0, which also keeps copies of the old one that are still on their way from
 * being stored behind newer records. That must wait until no batch is in doubt: one that may be
 * stored already must never get another number, or it would be stored twice (KIP-360 thinks this
 * through for Kafka). A batch whose every attempt was refused may. */
#include <assert.h>

#include "clients/log/client_priv.h"

#define SEQUENCE_MASK 0x7fffffffu

static void begin_anew(struct client_partition *p)
{
    struct env *env = p->topic->client->env;
    struct numbering *n = &p->numbering;
    const struct named *named = &p->topic->client->named;
    if (named->name != NULL) {
        n->id = named->id;
        n->epoch = (int16_t)named->epoch;
    } else if (n->id < 0 || n->epoch == INT16_MAX) {
        n->id = (int64_t)(env_random_u64(env) >> 1);
        n->epoch = 0;
    } else {
        n->epoch++;
    }
    n->next = 0;
    n->over = false;
}

void numbering_give(struct client_partition *p, struct batch *b)
{
    struct numbering *n = &p->numbering;
    if (b->numbered) {
        return;
    }
    if (n->id < 0) {
        begin_anew(p);
    }
    struct batch_producer producer = {
        .id = n->id, .epoch = n->epoch, .sequence = (int32_t)n->next, .records = b->n_records};
    b->builder.producer = producer;
    if (b->finished) {
        batch_set_producer(b->data.data, &producer);
    } else {
        int size = batch_finish(&b->builder);
        assert(size > 0); /* it has records, and their room was reserved */
        (void)size;
        b->finished = true;
    }
    b->numbered = true;
    n->next = (n->next + b->n_records) & SEQUENCE_MASK;
}

bool numbering_allows(const struct client_partition *p, const struct batch *b)
{
    return !p->numbering.over || b->maybe_stored;
}

void numbering_give_up(struct client_partition *p, const struct batch *b)
{
    p->numbering.over = p->numbering.over || b->numbered;
}

void numbering_settle(struct client_partition *p)
{
    if (!p->numbering.over || p->n_inflight > 0) {
        return;
    }
    LIST_FOREACH(it, &p->waiting)
    {
        if (list_entry(it, struct batch, link)->maybe_stored) {
            return;
        }
    }
    if (!numbering_ready(p)) {
        return;
    }
    LIST_FOREACH(it, &p->waiting)
    {
        list_entry(it, struct batch, link)->numbered = false;
    }
    begin_anew(p);
}

bool numbering_ready(struct client_partition *p)
{
    struct named *named = &p->topic->client->named;
    const struct numbering *n = &p->numbering;
    if (named->name == NULL) {
        return true;
    }
    /* Its epochs are given out by the coordinator: over means that the next one is needed. */
    bool used = n->over && n->id == named->id && n->epoch >= (int32_t)named->epoch;
    if (named->id >= 0 && !used) {
        return true;
    }
    named->wanted = true;
    named_ask(p->topic->client);
    return false;
}
