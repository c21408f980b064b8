/* The network: TCP connections between machines, as streams of bytes.
 *
 * What is sent goes, as far as the connection's window allows, on the way in pieces; a piece
 * arrives in order, late, and not before a cut of its way has healed; the reader gets it in smaller
 * or larger bites. A window opens again when the reader has read and the news of it got through.
 * Connections break: by the nemesis, because a process died (its machine tells the peers), because
 * a machine has come up again that knows nothing of them. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "sim.h"

#define PIECE_MAX     16384u
#define SYN_TRIES_MAX 5u
#define STALL_LOW_NS  (20 * SIM_MS)
#define STALL_HIGH_NS (250 * SIM_MS)

struct piece {
    struct list link;
    uint64_t due_ns;
    size_t n, at;
    bool fin;
    uint8_t data[];
};

/* In env_send.impl. */
struct send {
    struct list link;
    struct env_send *owner;
    struct iovec *iov; /* a copy; moves on */
    unsigned iov_at;
    size_t left;
    int status;
};
static_assert(sizeof(struct send) <= sizeof(((struct env_send *)0)->impl), "grow impl");

/* One side of a connection: what env calls a stream. */
struct end {
    struct env_stream base;
    struct list link; /* process.ends */
    struct end *other;
    struct process *process; /* NULL: not accepted yet */
    unsigned machine;
    bool up;      /* connected */
    bool closing; /* by its owner */
    bool reading;
    env_connect_cb connect_cb;
    env_read_cb read_cb;
    env_close_cb close_cb;
    void *close_data;
    int broken; /* the status that reads and sends get from now on */
    /* Out */
    struct list sends, sent; /* of struct send: waiting; done, to be called back */
    size_t queued;
    struct list flight; /* of struct piece */
    size_t window, outstanding, credit;
    uint64_t last_due_ns;
    bool fin_sent;
    /* In */
    struct list rx; /* of struct piece */
    bool rx_end, told_end;
    struct event deliver, open_window, read, sent_event, close;
};

/* A handshake on its way, or the news of a reset. */
struct signal {
    struct event event;
    struct end *end;
    uint16_t port;
    unsigned tries;
    int status;
};

struct listener {
    struct env_listener base;
    struct list link; /* process.listeners */
    env_accept_cb cb;
    bool closed;
};

static struct end *end_of(const struct env_stream *stream)
{
    return container_of((void *)(uintptr_t)stream, struct end, base);
}

static bool cut(unsigned from, unsigned to)
{
    return sim.cut[from][to] || sim.machines[to].power == MACHINE_OFF;
}

static uint64_t delay_ns(unsigned from, unsigned to)
{
    uint64_t base = sim.delay_ns[from][to];
    uint64_t ns = base + sim_below(base + 1);
    return sim_one_in(64) ? ns * 4 : ns;
}

static uint64_t stall_ns(void)
{
    return sim_between(STALL_LOW_NS, STALL_HIGH_NS);
}

static bool alive(const struct end *e)
{
    return e->process != NULL && !e->process->dead;
}

static struct end *end_new(struct process *p, unsigned machine)
{
    struct end *e = sim_alloc(sizeof(*e));
    e->process = p;
    e->machine = machine;
    e->base.env = p != NULL ? &p->env : NULL;
    e->window = (size_t)sim_between(8, 256) << 10;
    list_init(&e->sends);
    list_init(&e->sent);
    list_init(&e->flight);
    list_init(&e->rx);
    list_init(&e->link);
    if (p != NULL) {
        list_push_back(&p->ends, &e->link);
    }
    return e;
}

/* --- Breaking --- */

static void on_sent(struct event *event)
{
    struct end *e = event->data;
    struct list done;
    list_init(&done);
    list_move_all(&done, &e->sent);
    for (struct list *it; (it = list_pop(&done)) != NULL;) {
        struct send *s = list_entry(it, struct send, link);
        struct env_send *owner = s->owner;
        int status = s->status;
        free(s->iov);
        owner->cb(owner, status);
    }
}

static void send_done(struct end *e, struct send *s, int status)
{
    s->status = status;
    list_push_back(&e->sent, &s->link);
    if (e->sent_event.at == 0) {
        event_at(&e->sent_event, e->process, sim.now_ns, on_sent, e);
    }
}

static void fail_sends(struct end *e, int status)
{
    for (struct list *it; (it = list_pop(&e->sends)) != NULL;) {
        send_done(e, list_entry(it, struct send, link), status);
    }
    e->queued = 0;
}

static void drop_pieces(struct list *pieces)
{
    for (struct list *it; (it = list_pop(pieces)) != NULL;) {
        free(list_entry(it, struct piece, link));
    }
}

static void read_soon(struct end *e);

/* The end's kernel learns that the connection is no more. */
static void end_broken(struct end *e, int status)
{
    if (e->broken != 0) {
        return;
    }
    e->broken = status;
    drop_pieces(&e->flight);
    drop_pieces(&e->rx);
    event_cancel(&e->deliver);
    if (alive(e) && !e->closing) {
        fail_sends(e, status == WEIR_ECLOSED ? -EPIPE : status);
        e->rx_end = true;
        read_soon(e);
    }
}

static void on_reset(struct event *event)
{
    struct signal *s = event->data;
    struct end *e = s->end;
    if (cut(e->other->machine, e->machine) && ++s->tries < 1000) {
        event_at(event, NULL, sim.now_ns + stall_ns(), on_reset, s);
        return;
    }
    end_broken(e, -ECONNRESET);
    free(s);
}

/* The other side's machine says so: takes its way through the network. */
static void tell_reset(struct end *e)
{
    struct signal *s = sim_alloc(sizeof(*s));
    s->end = e;
    sim.count.resets++;
    event_at(&s->event, NULL, sim.now_ns + delay_ns(e->other->machine, e->machine), on_reset, s);
}

/* --- Reading --- */

static void on_window(struct event *event);

static void on_read(struct event *event)
{
    struct end *e = event->data;
    if (!e->reading || e->closing || !e->up) {
        return;
    }
    if (list_empty(&e->rx)) {
        if (e->rx_end && !e->told_end) {
            e->told_end = true;
            e->reading = false;
            e->read_cb(&e->base, NULL, 0, e->broken != 0 ? e->broken : WEIR_ECLOSED);
        }
        return;
    }
    struct piece *piece = list_entry(e->rx.next, struct piece, link);
    size_t n = piece->n - piece->at;
    n = sim_one_in(4) ? (size_t)sim_between(1, n) : n;
    struct end *from = e->other;
    if (n > 0) {
        /* A copy of exactly that size: reading past it is noticed. */
        uint8_t *copy = sim_alloc(n);
        memcpy(copy, piece->data + piece->at, n);
        piece->at += n;
        from->credit += n;
        if (piece->at == piece->n) {
            list_remove(&piece->link);
            free(piece);
        }
        if (from->open_window.at == 0 && from->broken == 0) {
            event_at(&from->open_window, NULL, sim.now_ns + delay_ns(e->machine, from->machine),
                     on_window, from);
        }
        read_soon(e);
        e->read_cb(&e->base, copy, n, 0);
        free(copy);
    }
}

static void read_soon(struct end *e)
{
    if (alive(e) && e->up && e->reading && !e->closing && e->read.at == 0 &&
        (!list_empty(&e->rx) || (e->rx_end && !e->told_end))) {
        event_at(&e->read, e->process, sim.now_ns, on_read, e);
    }
}

static void op_read_start(struct env_stream *stream, env_read_cb cb)
{
    struct end *e = end_of(stream);
    e->read_cb = cb;
    e->reading = !e->closing;
    read_soon(e);
}

static void op_read_stop(struct env_stream *stream)
{
    end_of(stream)->reading = false;
}

/* --- Sending --- */

static void on_deliver(struct event *event)
{
    struct end *e = event->data; /* the sender */
    struct end *to = e->other;
    if (cut(e->machine, to->machine)) {
        event_at(event, NULL, sim.now_ns + stall_ns(), on_deliver, e); /* sent again, again */
        return;
    }
    struct list *el = list_pop(&e->flight);
    struct piece *piece = list_entry(el, struct piece, link);
    sim_trace(9, piece->n, e->machine << 8 | to->machine);
    if (!list_empty(&e->flight)) {
        event_at(event, NULL, list_entry(e->flight.next, struct piece, link)->due_ns, on_deliver,
                 e);
    }
    if (to->broken != 0 || to->closing || (to->process != NULL && to->process->dead)) {
        bool fin = piece->fin;
        free(piece);
        if (!fin) {
            tell_reset(e); /* nobody there */
        }
        return;
    }
    if (piece->fin) {
        to->rx_end = true;
        free(piece);
    } else {
        list_push_back(&to->rx, &piece->link);
    }
    read_soon(to);
}

static struct piece *launch(struct end *e, size_t n)
{
    struct piece *piece = sim_alloc(sizeof(*piece) + n);
    uint64_t due = sim.now_ns + delay_ns(e->machine, e->other->machine);
    piece->n = n;
    piece->due_ns = due > e->last_due_ns ? due : e->last_due_ns;
    e->last_due_ns = piece->due_ns;
    e->outstanding += n;
    if (list_empty(&e->flight)) {
        event_at(&e->deliver, NULL, piece->due_ns, on_deliver, e);
    }
    list_push_back(&e->flight, &piece->link);
    return piece;
}

static void copy_out(uint8_t *to, struct send *s, size_t n)
{
    s->left -= n;
    while (n > 0) {
        struct iovec *v = &s->iov[s->iov_at];
        size_t k = v->iov_len < n ? v->iov_len : n;
        memcpy(to, v->iov_base, k);
        to += k;
        n -= k;
        v->iov_base = (uint8_t *)v->iov_base + k;
        v->iov_len -= k;
        s->iov_at += v->iov_len == 0;
    }
}

static size_t room(const struct end *e)
{
    return e->outstanding < e->window ? e->window - e->outstanding : 0;
}

static void pump(struct end *e)
{
    while (!list_empty(&e->sends) && room(e) > 0 && e->broken == 0) {
        struct send *s = list_entry(e->sends.next, struct send, link);
        while (s->left > 0 && room(e) > 0) {
            size_t n = s->left < room(e) ? s->left : room(e);
            n = n < PIECE_MAX ? n : PIECE_MAX;
            struct piece *piece = launch(e, n);
            copy_out(piece->data, s, n);
            sim_trace(10, n, crc32c(0, piece->data, n));
            e->queued -= n;
        }
        if (s->left == 0) {
            list_remove(&s->link);
            send_done(e, s, 0);
        }
    }
}

static void on_window(struct event *event)
{
    struct end *e = event->data;
    if (cut(e->other->machine, e->machine)) {
        event_at(event, NULL, sim.now_ns + stall_ns(), on_window, e);
        return;
    }
    e->outstanding -= e->credit;
    e->credit = 0;
    if (alive(e) && !e->closing) {
        pump(e);
    }
}

static void op_send(struct env_stream *stream, struct env_send *send, const struct iovec *iov,
                    unsigned n_iov)
{
    struct end *e = end_of(stream);
    struct send *s = (struct send *)(void *)send->impl;
    *s = (struct send){.owner = send};
    list_init(&s->link);
    s->iov = sim_alloc((n_iov + 1) * sizeof(*iov));
    for (unsigned i = 0, k = 0; i < n_iov; i++) {
        s->left += iov[i].iov_len;
        if (iov[i].iov_len > 0) {
            s->iov[k++] = iov[i];
        }
    }
    if (e->broken != 0 || e->closing) {
        send_done(e, s, e->closing ? WEIR_ECLOSED : -EPIPE);
        return;
    }
    e->queued += s->left;
    list_push_back(&e->sends, &s->link);
    pump(e);
}

static ssize_t op_try_send(struct env_stream *stream, const struct iovec *iov, unsigned n_iov)
{
    struct end *e = end_of(stream);
    size_t sent = 0;
    if (e->closing || e->broken != 0) {
        return e->closing ? WEIR_ECLOSED : -EPIPE;
    }
    for (unsigned i = 0; list_empty(&e->sends) && i < n_iov && room(e) > 0; i++) {
        size_t n = iov[i].iov_len < room(e) ? iov[i].iov_len : room(e);
        for (size_t at = 0, k; at < n; at += k) {
            k = n - at < PIECE_MAX ? n - at : PIECE_MAX;
            memcpy(launch(e, k)->data, (const uint8_t *)iov[i].iov_base + at, k);
        }
        sim_trace(10, n, crc32c(0, iov[i].iov_base, n));
        sent += n;
    }
    return (ssize_t)sent;
}

static size_t op_queued_bytes(const struct env_stream *stream)
{
    return end_of(stream)->queued;
}

/* --- Closing --- */

static void on_close(struct event *event)
{
    struct end *e = event->data;
    env_close_cb cb = e->close_cb;
    if (!list_empty(&e->sent)) {
        event_at(event, e->process, e->sent_event.due_ns, on_close, e); /* sends first */
        return;
    }
    list_remove(&e->link);
    e->base.env = NULL; /* whoever uses it now is caught */
    if (cb != NULL) {
        cb(e->close_data);
    }
}

static void op_close(struct env_stream *stream, env_close_cb cb, void *data)
{
    struct end *e = end_of(stream);
    assert(!e->closing);
    e->closing = true;
    e->reading = false;
    e->close_cb = cb;
    e->close_data = data;
    event_cancel(&e->read);
    fail_sends(e, WEIR_ECLOSED);
    if (e->other != NULL && e->broken == 0 && e->up) {
        if (!list_empty(&e->rx) || sim_one_in(16)) {
            tell_reset(e->other); /* unread data: the kernel resets */
        } else {
            launch(e, 0)->fin = true;
        }
    }
    event_at(&e->close, e->process, sim.now_ns, on_close, e);
}

static int op_detach_fd(struct env_stream *stream)
{
    op_close(stream, NULL, NULL);
    return -1;
}

/* --- Connecting --- */

static struct listener *listener_at(const struct machine *m, uint16_t port)
{
    if (m->process == NULL || m->process->dead) {
        return NULL;
    }
    LIST_FOREACH(it, &m->process->listeners)
    {
        struct listener *l = list_entry(it, struct listener, link);
        if (l->base.port == port && !l->closed) {
            return l;
        }
    }
    return NULL;
}

static void on_connected(struct event *event)
{
    struct signal *s = event->data;
    struct end *e = s->end;
    int status = s->status;
    free(s);
    if (e->closing) {
        return;
    }
    e->broken = e->broken != 0 ? e->broken : status; /* a reset may have come first */
    e->up = e->broken == 0;
    e->connect_cb(&e->base, e->broken);
    read_soon(e);
}

static void on_accept(struct event *event)
{
    struct signal *s = event->data;
    struct end *e = s->end;
    struct listener *l = listener_at(&sim.machines[e->machine], s->port);
    free(s);
    if (e->broken != 0 && !e->closing) {
        e->rx_end = true;
    }
    if (l == NULL) {
        e->closing = true;
        tell_reset(e->other);
        return;
    }
    l->cb(&l->base, &e->base);
}

static void finish_connect(struct signal *s, int status)
{
    struct end *e = s->end;
    s->status = status;
    event_at(&s->event, e->process, sim.now_ns + delay_ns(e->other->machine, e->machine),
             on_connected, s);
}

/* The first packet, tried again when it gets lost. */
static void on_syn(struct event *event)
{
    struct signal *s = event->data;
    struct end *e = s->end;
    unsigned to = e->other->machine;
    if (e->closing || !alive(e)) {
        free(s);
        return;
    }
    if (cut(e->machine, to) || cut(to, e->machine)) {
        if (++s->tries == SYN_TRIES_MAX) {
            finish_connect(s, -ETIMEDOUT);
            return;
        }
        event_at(event, NULL, sim.now_ns + (SIM_S << s->tries), on_syn, s);
        return;
    }
    struct listener *l = listener_at(&sim.machines[to], s->port);
    if (l == NULL) {
        finish_connect(s, -ECONNREFUSED);
        return;
    }
    struct process *p = sim.machines[to].process;
    struct signal *accepted = sim_alloc(sizeof(*accepted));
    e->other->process = p;
    e->other->base.env = &p->env;
    e->other->up = true;
    list_push_back(&p->ends, &e->other->link);
    accepted->end = e->other;
    accepted->port = s->port;
    event_at(&accepted->event, p, sim.now_ns, on_accept, accepted);
    finish_connect(s, 0);
}

static int op_connect(struct env *env, const char *host, uint16_t port, env_connect_cb cb,
                      void *data, struct env_stream **ret_stream, struct error *err)
{
    struct process *p = process_of(env);
    unsigned to = 0;
    for (unsigned i = 1; i <= sim.n_nodes + sim.n_clients; i++) {
        to = strcmp(sim.machines[i].host, host) == 0 ? i : to;
    }
    if (to == 0) {
        return error_set(err, WEIR_ENOTFOUND, "connect to %s:%u: no such machine", host, port);
    }
    struct end *e = end_new(p, p->machine->id);
    e->other = end_new(NULL, to);
    e->other->other = e;
    e->connect_cb = cb;
    e->base.data = data;
    (void)snprintf(e->base.peer, sizeof(e->base.peer), "%s:%u", host, port);
    (void)snprintf(e->other->base.peer, sizeof(e->other->base.peer), "%s:%u", p->machine->host,
                   (unsigned)sim_between(30000, 60000));
    struct signal *s = sim_alloc(sizeof(*s));
    s->end = e;
    s->port = port;
    event_at(&s->event, NULL, sim.now_ns + delay_ns(e->machine, to), on_syn, s);
    *ret_stream = &e->base;
    return 0;
}

static int op_listen(struct env *env, const char *host, uint16_t port, env_accept_cb cb, void *data,
                     struct env_listener **ret_listener, struct error *err)
{
    struct process *p = process_of(env);
    if (listener_at(p->machine, port) != NULL) {
        return error_set(err, -EADDRINUSE, "listen on %s:%u: occupied", host, port);
    }
    struct listener *l = sim_alloc(sizeof(*l));
    l->base = (struct env_listener){.env = env, .data = data, .port = port};
    l->cb = cb;
    list_push_back(&p->listeners, &l->link);
    *ret_listener = &l->base;
    return 0;
}

static void op_listener_close(struct env_listener *listener)
{
    struct listener *l = container_of(listener, struct listener, base);
    l->closed = true; /* its memory stays: a connection may be on its way */
    list_remove(&l->link);
}

/* --- Deaths --- */

void net_abandon(struct process *p, bool told)
{
    LIST_FOREACH(it, &p->ends)
    {
        struct end *e = list_entry(it, struct end, link);
        bool was_up = e->up && e->other->process != NULL && e->broken == 0 && !e->closing;
        e->broken = -EPIPE;
        if (!told) {
            drop_pieces(&e->flight); /* what its kernel would have sent again */
            event_cancel(&e->deliver);
        }
        if (was_up && told) {
            if (list_empty(&e->rx)) {
                launch(e, 0)->fin = true; /* behind what is on its way */
            } else {
                tell_reset(e->other);
            }
        }
    }
}

void net_reset(unsigned a, unsigned b)
{
    struct process *p = sim.machines[a].process;
    if (p == NULL) {
        return;
    }
    LIST_FOREACH_SAFE(it, nx, &p->ends)
    {
        struct end *e = list_entry(it, struct end, link);
        if (e->other->machine == b && e->up && e->broken == 0 && sim_below(4) != 0) {
            sim.count.resets++;
            end_broken(e, -ECONNRESET);
            if (alive(e->other)) {
                end_broken(e->other, sim_one_in(2) ? -ECONNRESET : -ETIMEDOUT);
            }
        }
    }
}

const struct env_ops sim_net_ops = {
    .listen = op_listen,
    .listener_close = op_listener_close,
    .connect = op_connect,
    .stream_read_start = op_read_start,
    .stream_read_stop = op_read_stop,
    .stream_send = op_send,
    .stream_try_send = op_try_send,
    .stream_queued_bytes = op_queued_bytes,
    .stream_close = op_close,
    .stream_detach_fd = op_detach_fd,
};
