/* Between the shards of a node: what comes from the hub, done here, on this shard's loop. */
#include "base/logging.h"
#include "nodes/broker/broker_priv.h"

static void on_news(void *data)
{
    struct broker *b = data;
    if (!b->stopping) {
        roster_follow(&b->roster);
    }
}

static void take_report(struct broker *b, const struct hub_mail *mail)
{
    Weir__Report *m = weir__report__unpack(NULL, mail->len, mail->body);
    if (m != NULL) { /* else no memory: there will be another one */
        controller_take(&b->controller, (uint32_t)mail->a, (uint32_t)mail->b, m);
        weir__report__free_unpacked(m, NULL);
    }
}

static void on_mail(void *data, const struct hub_mail *mail)
{
    struct broker *b = data;
    if (b->stopping) {
        return;
    }
    switch (mail->type) {
    case HUB_CLUSTER_ID:
        if (b->roster.cluster_id == 0 && transport_set_cluster(b->transport, mail->a) == 0) {
            roster_learned(&b->roster, mail->a);
        }
        break;
    case HUB_REPORT:
        take_report(b, mail);
        break;
    case HUB_HAND_OVER:
        report_hand_over(b, (uint32_t)mail->a, (uint32_t)mail->b, (uint32_t)mail->c);
        break;
    }
}

void broker_attach(struct broker *b)
{
    if (b->hub != NULL) {
        const struct hub_events events = {.data = b, .news = on_news, .mail = on_mail};
        hub_attach(b->hub, b->shard, b->env, &events);
        b->attached = true;
        if (b->shard > 0) {
            roster_follow(&b->roster); /* what was published meanwhile */
        }
    }
}

static void on_detached(struct env_defer *defer)
{
    broker_part_closed(defer->data);
}

void broker_detach(struct broker *b)
{
    if (b->attached) {
        b->attached = false;
        b->parts_open++;
        b->detached.data = b;
        hub_detach(b->hub, b->shard, &b->detached, on_detached);
    }
}
