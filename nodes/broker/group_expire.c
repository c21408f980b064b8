/* Offsets of groups that are gone. A group without members whose last commit is older than
 * log.group_retain_ms is forgotten: a null value for each of its keys, so that compaction removes
 * them on all replicas. The clock is the log's append time, so nothing is forgotten for want of a
 * coordinator that lived long enough; a group with members that has nothing to commit has its
 * offsets written anew well before. */
#include <stdlib.h>

#include "base/logging.h"
#include "nodes/broker/coordinator_priv.h"

#define EXPIRE_EVERY_NS   30000000000u
#define EXPIRE_RECORDS    1024u         /* in one batch; the rest at the next sweep */
#define LEADING_FOR_NS    600000000000u /* so long after an election members may yet come back */
#define RENEW_AT_FRACTION 4

static void on_written(struct group_propose *req, int status)
{
    struct groups_part *part = req->data;
    (void)status; /* what did not get through is found again */
    part->expiring = false;
    free(req);
}

static void put_group(struct batch_builder *b, int64_t now_ms, const struct view_group *g,
                      bool forget)
{
    LIST_FOREACH(it, &g->topics)
    {
        const struct view_topic *t = list_entry(it, struct view_topic, link);
        for (uint32_t i = 0; i < t->n_partitions && b->count < EXPIRE_RECORDS; i++) {
            const struct view_offset *o = &t->offsets[i];
            if (o->offset >= 0) {
                group_put_offset(b, now_ms, g->name, t->name, i, forget ? -1 : o->offset,
                                 o->generation);
            }
        }
    }
}

static void collect(struct groups_part *part, struct batch_builder *b, int64_t now_ms,
                    bool may_forget)
{
    int64_t retain_ms = part->coordinator->broker->config->log_group_retain_ms;
    for (unsigned i = 0; i < GROUP_VIEW_BUCKETS; i++) {
        LIST_FOREACH(it, &part->view.groups[i])
        {
            const struct view_group *g = list_entry(it, struct view_group, link);
            int64_t age_ms = now_ms - g->committed_ms;
            bool lives = part_state(part, g->name) != NULL;
            if (b->count >= EXPIRE_RECORDS) {
                return;
            }
            if (lives && age_ms > retain_ms / RENEW_AT_FRACTION) {
                put_group(b, now_ms, g, false);
            } else if (!lives && may_forget && age_ms > retain_ms) {
                log_info("group_forgotten", "group=%s age_ms=%lld offsets=%u", g->name,
                         (long long)age_ms, g->n_offsets);
                put_group(b, now_ms, g, true);
            }
        }
    }
}

void part_expire(struct groups_part *part, uint64_t now_ns)
{
    struct broker *b = part->coordinator->broker;
    uint64_t retain_ns = (uint64_t)b->config->log_group_retain_ms * 1000000u;
    uint64_t lead_ns = retain_ns < LEADING_FOR_NS ? retain_ns : LEADING_FOR_NS;
    uint64_t every_ns = retain_ns / 8 < EXPIRE_EVERY_NS ? retain_ns / 8 : EXPIRE_EVERY_NS;
    struct batch_builder builder;
    struct bytes batch;
    /* What is on its way must not be overwritten by what it was before. */
    if (part->expiring || part->commits.ended != part->commits.proposed ||
        now_ns < part->expire_at_ns) {
        return;
    }
    part->expire_at_ns = now_ns + every_ns;
    bytes_init(&batch, GROUP_BATCH_BYTES_MAX);
    int64_t now_ms = env_wall_ms(b->env);
    batch_begin(&builder, &batch, now_ms);
    collect(part, &builder, now_ms, now_ns - part->leading_since_ns > lead_ns);
    struct group_propose *req =
        builder.count > 0 && batch_finish(&builder) > 0 ? calloc(1, sizeof(*req)) : NULL;
    if (req != NULL) {
        req->data = part;
        part->expiring = true;
        if (group_propose(part_replica(part)->group, req, batch.data, batch.len, on_written) != 0) {
            part->expiring = false;
            free(req);
        }
    }
    bytes_close(&batch);
}
