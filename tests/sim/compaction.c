/* What compaction may take away (log/compact.c), and what it has to: a naive model of it, beside
 * the oracle of check.c. All records of groups that are compacted are kept here as they were
 * committed, each with the next one of its key. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/murmur2.h"
#include "consensus/group_impl.h"
#include "nodes/broker/broker_priv.h"
#include "sim.h"

struct kept_record {
    uint64_t key;    /* hash; 0: no key */
    int64_t next;    /* offset of the next one of its key; INT64_MAX: none */
    int64_t time_ms; /* of its batch */
    bool tombstone;
};

struct kept_entry {
    uint8_t *payload; /* NULL: no batch */
    uint32_t len;
};

struct kept {
    bool on;
    struct kept_record *records; /* [offset] */
    size_t n_records, records_room;
    struct kept_entry *entries; /* [index] */
    size_t n_entries, entries_room;
    int64_t upto, tombstones_ms; /* the newest decision that is committed */
};

static struct kept *kept;

static const struct config_topic *topic_of(unsigned group)
{
    const struct config *c = &sim.config[1];
    for (unsigned i = 0; i < c->n_topics; i++) {
        if (group < c->topics[i].partitions) {
            return &c->topics[i];
        }
        group -= c->topics[i].partitions;
    }
    abort();
}

void compaction_init(void)
{
    kept = sim_alloc(sim.n_groups * sizeof(*kept));
    for (unsigned g = 0; g < sim.n_groups; g++) {
        kept[g].on = topic_of(g)->compact != 0;
    }
}

bool group_compacted(unsigned group)
{
    return kept[group].on;
}

/* --- What was committed --- */

static uint64_t key_of(const struct batch_record *r)
{
    if (r->key == NULL) {
        return 0;
    }
    size_t n = (size_t)r->key_len;
    uint64_t key = (uint64_t)crc32c(0, r->key, n) << 32 | murmur2(r->key, n);
    return key != 0 ? key : 1;
}

static void learn_record(struct kept *k, const struct batch_record *r, int64_t time_ms)
{
    struct kept_record *last = NULL, now = {key_of(r), INT64_MAX, time_ms, r->value == NULL};
    if (k->n_records == k->records_room) {
        k->records_room = k->records_room * 2 + 256;
        k->records = realloc(k->records, k->records_room * sizeof(*k->records));
        if (k->records == NULL) {
            abort();
        }
    }
    for (size_t i = k->n_records; now.key != 0 && i-- > 0 && last == NULL;) {
        last = k->records[i].key == now.key ? &k->records[i] : NULL;
    }
    if (last != NULL) {
        last->next = r->offset.v;
    }
    k->records[k->n_records++] = now;
}

static void learn_control(struct kept *k, const struct partition_entry *e)
{
    struct control control;
    if (control_decode(e->payload, e->len, &control, NULL) == 0 &&
        control.kind == CONTROL_COMPACT) {
        k->upto = control.offset.v > k->upto ? control.offset.v : k->upto;
        k->tombstones_ms = control.time_ms > k->tombstones_ms ? control.time_ms : k->tombstones_ms;
    }
}

void compaction_learn(unsigned group, const struct partition_entry *e)
{
    struct kept *k = &kept[group];
    struct batch_iter it;
    struct batch_record r;
    if (!k->on) {
        return;
    }
    while (k->n_entries <= e->index.v) {
        if (k->n_entries == k->entries_room) {
            k->entries_room = k->entries_room * 2 + 256;
            k->entries = realloc(k->entries, k->entries_room * sizeof(*k->entries));
            if (k->entries == NULL) {
                abort();
            }
        }
        k->entries[k->n_entries++] = (struct kept_entry){0};
    }
    if (e->type == LOG_ENTRY_CONTROL) {
        learn_control(k, e);
    }
    if (e->type != LOG_ENTRY_BATCH) {
        return;
    }
    struct kept_entry *entry = &k->entries[e->index.v];
    entry->payload = sim_alloc(e->len);
    entry->len = e->len;
    memcpy(entry->payload, e->payload, e->len);
    if (batch_iter_init(&it, e->payload, e->len, NULL) == 0) {
        while (batch_iter_next(&it, &r, NULL) == 1) {
            learn_record(k, &r, batch_append_ms(e->payload));
        }
    }
}

/* --- What may be gone, and has to be in the end --- */

static bool goes(const struct kept *k, int64_t offset)
{
    const struct kept_record *r = &k->records[offset];
    if (offset >= k->upto || r->key == 0) {
        return false;
    }
    return r->next < k->upto || (r->tombstone && r->time_ms < k->tombstones_ms);
}

bool compaction_takes(unsigned group, int64_t from, int64_t end)
{
    const struct kept *k = &kept[group];
    for (int64_t o = from; o < end; o++) {
        if (!k->on || o >= (int64_t)k->n_records || !goes(k, o)) {
            return false;
        }
    }
    return true;
}

struct choice {
    const struct kept *k;
    const struct partition_entry *e; /* NULL: all that need not go stays */
    int64_t wrong;                   /* gone, though it had to stay; -1: none */
};

static bool holds(const struct partition_entry *e, int64_t offset)
{
    struct batch_iter it;
    struct batch_record r;
    if (batch_iter_init(&it, e->payload, e->len, NULL) != 0) {
        return false;
    }
    while (batch_iter_next(&it, &r, NULL) == 1) {
        if (r.offset.v == offset) {
            return true;
        }
    }
    return false;
}

static bool stays(void *data, const struct batch_record *r)
{
    struct choice *c = data;
    bool stays = c->e != NULL ? holds(c->e, r->offset.v) : !goes(c->k, r->offset.v);
    if (!stays && !goes(c->k, r->offset.v)) {
        c->wrong = r->offset.v;
    }
    return stays;
}

/* The entry has the bytes that the original has without what the choice says. */
static bool equals_thinned(const struct kept *k, const struct partition_entry *e,
                           struct choice *choice)
{
    struct bytes out;
    uint32_t removed;
    const struct kept_entry *was = e->index.v < k->n_entries ? &k->entries[e->index.v] : NULL;
    if (was == NULL || was->payload == NULL || e->type != LOG_ENTRY_BATCH) {
        return false;
    }
    bytes_init(&out, was->len + 1u);
    bool equal = batch_thin(was->payload, was->len, stays, choice, &out, &removed, NULL) == 0 &&
                 out.len == e->len && memcmp(out.data, e->payload, e->len) == 0 &&
                 choice->wrong < 0;
    bytes_close(&out);
    return equal;
}

bool compaction_explains(unsigned group, const struct partition_entry *e)
{
    struct choice choice = {&kept[group], e, -1};
    return kept[group].on && equals_thinned(&kept[group], e, &choice);
}

/* --- The end --- */

bool compaction_done(unsigned group, const struct group *g)
{
    struct partition_compaction c;
    const struct kept *k = &kept[group];
    if (!k->on) {
        return true;
    }
    partition_compaction(g->partition, &c);
    return !c.running && c.upto.v == k->upto && c.tombstones_ms == k->tombstones_ms;
}

struct end {
    unsigned node, group;
    uint64_t next;
};

static int on_entry(void *data, const struct partition_entry *e)
{
    struct end *end = data;
    struct choice choice = {&kept[end->group], NULL, -1};
    end->next = e->index.v + 1;
    if (e->type == LOG_ENTRY_BATCH && !equals_thinned(choice.k, e, &choice)) {
        sim_violate(SIM_UNEQUAL,
                    "%s entry %" PRIu64 " on node %u is not what compaction up to offset %" PRId64
                    " leaves",
                    group_text(end->group), e->index.v, end->node, choice.k->upto);
    }
    return sim.violation != 0;
}

void compaction_check_end(unsigned node, unsigned group, struct partition *p)
{
    uint64_t last = partition_commit_index(p).v;
    struct end end = {node, group, partition_first_index(p).v};
    if (!kept[group].on) {
        return;
    }
    sim.looking = true;
    while (end.next <= last && sim.violation == 0 &&
           partition_read(p, LOG_INDEX(end.next), 1u << 20, on_entry, &end, NULL) >= 0) {}
    sim.looking = false;
}
