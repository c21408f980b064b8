/* The cluster's operator: asks nodes for changes of the membership, as `weir cluster` does, one
 * after the other until one says yes. Who is not the controller, or finds the wish unwise, refuses;
 * then it was not to be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/log/link.h"
#include "sim.h"

#define SECRET "the secret of the simulation"

struct wish {
    struct process *process;
    struct broker_link *link;
    struct broker_request request;
    unsigned action, subject; /* Weir__ClusterChange__Action, node id */
    unsigned at, tries;       /* node asked */
    struct event patience;
};

static void ask(struct wish *w);

static void again(void *data)
{
    struct wish *w = data;
    if (++w->tries < sim.n_nodes) {
        w->at = w->at % sim.n_nodes + 1;
        ask(w);
    } else {
        free(w);
    }
}

static void on_reply(struct broker_request *request, int status, const struct frame *reply,
                     const ProtobufCMessage *head)
{
    struct wish *w = request->data;
    const Weir__BrokerError *e = (const Weir__BrokerError *)head;
    (void)reply;
    sim_say("operator: change %u of node %u, asked of node %u: %d %s", w->action, w->subject, w->at,
            status, status != 0 && e != NULL ? e->text : "");
    w->tries = status == WEIR_ENOTLEADER ? w->tries : sim.n_nodes;
}

/* The answer closes the link later: not from inside its callback. */
static void on_ready(void *data, struct broker_link *link, const Weir__BrokerWelcome *welcome)
{
    struct wish *w = data;
    Weir__ClusterChange m = WEIR__CLUSTER_CHANGE__INIT;
    char name[16], host[4][32];
    static const unsigned ports[] = {7101, 7201, 80, 1935};
    (void)welcome;
    (void)snprintf(name, sizeof(name), "n%u", w->subject);
    for (unsigned i = 0; i < 4; i++) {
        (void)snprintf(host[i], sizeof(host[i]), "10.0.0.%u:%u", w->subject, ports[i]);
    }
    m.action = (Weir__ClusterChange__Action)w->action;
    m.name = name;
    if (m.action == WEIR__CLUSTER_CHANGE__ACTION__ADD) {
        m.id = w->subject;
        m.peer = host[0];
        m.broker = host[1];
        m.http = host[2];
        m.rtmp = host[3];
    }
    w->request.data = w;
    (void)broker_link_request(link, BROKER_CLUSTER_CHANGE, &m.base, NULL, 0, BROKER_CLUSTER_CHANGED,
                              &w->request, on_reply);
}

static void on_closed(void *data, struct broker_link *link, const struct error *why)
{
    struct wish *w = data;
    (void)link;
    (void)why;
    w->link = NULL;
    event_cancel(&w->patience);
    again(w);
}

static void on_patience_over(struct event *event)
{
    struct wish *w = event->data;
    struct broker_link *link = w->link;
    if (link != NULL) {
        w->link = NULL;
        broker_link_close(link, again, w);
    }
}

static void ask(struct wish *w)
{
    char host[32];
    struct error err = {0};
    struct broker_link_events events = {.data = w, .ready = on_ready, .closed = on_closed};
    (void)snprintf(host, sizeof(host), "10.0.0.%u", w->at);
    if (broker_link_open(&w->process->env, NULL, host, 7201, SECRET, "operator", &events, &w->link,
                         &err) == 0) {
        event_at(&w->patience, w->process, sim.now_ns + 600 * SIM_MS, on_patience_over, w);
    }
}

static void on_wish(struct event *event)
{
    ask(event->data);
    free(event);
}

void operator_wish(unsigned action, unsigned subject)
{
    struct process *p = sim.machines[sim.n_nodes + 1].process;
    if (p == NULL) {
        return;
    }
    struct wish *w = sim_alloc(sizeof(*w));
    struct event *event = sim_alloc(sizeof(*event));
    w->process = p;
    w->action = action;
    w->subject = subject;
    w->at = (unsigned)sim_between(1, sim.n_nodes);
    event_at(event, p, sim.now_ns, on_wish, w);
}
