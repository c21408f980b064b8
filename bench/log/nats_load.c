/* Load for NATS JetStream over its text protocol
 * (https://docs.nats.io/reference/reference-protocols/nats-protocol), to stand beside `weir log
 * produce` in bench/log/run: the same sizes, the same number in flight, each publish acknowledged
 * by its stream's leader, each stream published to over a connection to the server that leads it,
 * which is the best case for NATS.
 *
 *   nats_load create PORTS STREAMS                       replicated three times, files
 *   nats_load load PORTS STREAMS RECORDS SIZE WINDOW     prints JSON as `weir log produce --json`
 *                                                        does
 *   nats_load consume PORTS RATE SECONDS                 from publishing to a push consumer of the
 *                                                        first stream, JSON
 *   nats_load failover PORTS RATE SECONDS PID,PID,PID    kills the first stream's leader half-way
 *                                                        and prints the longest time without an
 *                                                        acknowledgement, JSON */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/bytes.h"
#include "base/env_uv.h"
#include "clients/cli/cli.h"
#include "clients/cli/histogram.h"

#define SERVERS_MAX 3
#define STREAMS_MAX 64
#define OUT_MAX     (256u << 20)
#define REPLY_MAX   65536
#define TRIES_MAX   100
#define STAMP_SIZE  16 /* hex digits of the time at which a record was handed over */
#define PACE_US     1000
#define RATE_SIZE   100

struct load;

struct server {
    struct load *load;
    struct env_stream *stream;
    bool connected;
    struct bytes in, out[2];
    unsigned filling;
    bool sending;
    struct env_send send;
    struct env_defer flush;
};

struct load {
    struct cli_loop loop;
    struct server servers[SERVERS_MAX];
    unsigned n_servers;
    unsigned leader_of[STREAMS_MAX];
    unsigned n_streams;
    char reply[REPLY_MAX]; /* to the last question */
    bool replied, waiting;
    struct env_timer timer;
    bool timed_out;
    /* The run */
    uint64_t records, window, n_sent, n_out, n_acked, n_failed;
    size_t size;
    char *value;
    uint64_t *sent_ns;
    uint32_t *free_slots;
    uint64_t n_free;
    uint64_t started_ns, ended_ns;
    struct histogram latency;
    struct env_defer fill;
    bool running;
    /* At a fixed rate */
    uint64_t rate, seconds, last_ack_ns, gap_ns, n_seen;
    unsigned victim; /* server to be killed half-way */
    long victim_pid; /* 0: none */
    struct histogram seen;
    struct env_timer pace;
};

static void die(const char *text)
{
    fprintf(stderr, "nats_load: %s\n", text);
    exit(1);
}

/* --- Output --- */

static void on_sent(struct env_send *send, int status);

static void flush_output(struct env_defer *defer)
{
    struct server *s = defer->data;
    struct bytes *out = &s->out[s->filling];
    if (!s->connected || s->sending || out->len == 0) {
        return;
    }
    struct iovec iov = {.iov_base = out->data, .iov_len = out->len};
    s->filling ^= 1;
    s->sending = true;
    s->send.data = s;
    env_stream_send(s->stream, &s->send, &iov, 1, on_sent);
}

static void on_sent(struct env_send *send, int status)
{
    struct server *s = send->data;
    s->sending = false;
    bytes_reset(&s->out[s->filling ^ 1]);
    if (status == 0) {
        flush_output(&s->flush);
    }
}

static struct bytes *output(struct server *s)
{
    s->flush.data = s;
    env_defer(s->load->loop.env, &s->flush, flush_output);
    return &s->out[s->filling];
}

/* --- The run --- */

static void on_fill(struct env_defer *defer)
{
    struct load *l = defer->data;
    uint64_t now = env_now_ns(l->loop.env);
    while (l->n_sent < l->records && l->n_free > 0) {
        uint32_t slot = l->free_slots[--l->n_free];
        unsigned stream = (unsigned)(l->n_sent % l->n_streams);
        struct bytes *out = output(&l->servers[l->leader_of[stream]]);
        bytes_printf(out, "PUB s.%u _A%u.%x %zu\r\n", stream, l->leader_of[stream], slot, l->size);
        bytes_put(out, l->value, l->size);
        bytes_put(out, "\r\n", 2);
        if (bytes_error(out) != 0) {
            die("the server does not take what is sent");
        }
        l->sent_ns[slot] = now;
        l->n_sent++;
        l->n_out++;
    }
    if (l->running && l->n_out == 0 && l->n_sent == l->records) {
        l->ended_ns = env_now_ns(l->loop.env);
        l->running = false;
        cli_loop_stop(&l->loop);
    }
}

static void count_rated_ack(struct load *l, bool good);

static void on_ack(struct load *l, const char *subject, const char *payload, size_t n)
{
    unsigned long slot = strtoul(subject + strlen("_A0."), NULL, 16);
    if (l->rate > 0) {
        count_rated_ack(l, n > 9 && memcmp(payload, "{\"stream\"", 9) == 0);
        return;
    }
    if (slot >= l->window || !l->running) {
        return;
    }
    if (n > 9 && memcmp(payload, "{\"stream\"", 9) == 0) {
        l->n_acked++;
        histogram_add(&l->latency, env_now_ns(l->loop.env) - l->sent_ns[slot]);
    } else {
        l->n_failed++;
    }
    l->n_out--;
    l->free_slots[l->n_free++] = (uint32_t)slot;
    l->fill.data = l;
    env_defer(l->loop.env, &l->fill, on_fill);
}

/* --- At a fixed rate --- */

static void count_rated_ack(struct load *l, bool good)
{
    uint64_t now = env_now_ns(l->loop.env), gap = now - l->last_ack_ns;
    l->n_acked += good;
    l->n_failed += !good;
    if (good) {
        l->gap_ns = gap > l->gap_ns ? gap : l->gap_ns;
        l->last_ack_ns = now;
    }
}

static void count_seen(struct load *l, const char *payload, size_t n)
{
    char stamp[STAMP_SIZE + 1];
    if (n < STAMP_SIZE || !l->running) {
        return;
    }
    memcpy(stamp, payload, STAMP_SIZE);
    stamp[STAMP_SIZE] = '\0';
    uint64_t sent = strtoull(stamp, NULL, 16), now = env_now_ns(l->loop.env);
    histogram_add(&l->seen, now > sent ? now - sent : 0);
    l->n_seen++;
}

/* A server that lives on passes records to whoever leads. */
static struct server *entrance(struct load *l)
{
    unsigned i = l->leader_of[0];
    return &l->servers[l->victim_pid != 0 && i == l->victim ? (i + 1) % l->n_servers : i];
}

static void on_pace(struct env_timer *timer)
{
    struct load *l = timer->data;
    uint64_t now = env_now_ns(l->loop.env), elapsed = now - l->started_ns;
    uint64_t allowed = (uint64_t)((double)elapsed * (double)l->rate / 1e9) + 1;
    struct server *to = entrance(l);
    if (elapsed >= l->seconds * 1000000000u) {
        l->running = false;
        cli_loop_stop(&l->loop);
        return;
    }
    if (l->victim_pid > 0 && elapsed >= l->seconds * 500000000u) {
        (void)kill((pid_t)l->victim_pid, SIGKILL);
        l->victim_pid = -1;
    }
    for (; l->n_sent < allowed; l->n_sent++) {
        struct bytes *out = output(to);
        bytes_printf(out, "PUB s.0 _A%u.0 %u\r\n%016llx%0*d\r\n", (unsigned)(to - l->servers),
                     RATE_SIZE, (unsigned long long)now, RATE_SIZE - STAMP_SIZE, 0);
        if (bytes_error(out) != 0) {
            die("the server does not take what is sent");
        }
    }
    env_timer_start(&l->pace, PACE_US, on_pace);
}

static void run_rated(struct load *l)
{
    l->running = true;
    l->started_ns = l->last_ack_ns = env_now_ns(l->loop.env);
    env_timer_start(&l->pace, 0, on_pace);
    while (l->running) {
        cli_loop_run(&l->loop, NULL, NULL);
    }
    /* A gap that lasts to the end counts. */
    uint64_t gap = env_now_ns(l->loop.env) - l->last_ack_ns;
    l->gap_ns = gap > l->gap_ns ? gap : l->gap_ns;
    printf("{\"sent\": %llu, \"acked\": %llu, \"consumed\": %llu, \"consume_p50_ms\": %.3f, "
           "\"consume_p99_ms\": %.3f, \"longest_ack_gap_ms\": %.1f}\n",
           (unsigned long long)l->n_sent, (unsigned long long)l->n_acked,
           (unsigned long long)l->n_seen, (double)histogram_quantile(&l->seen, 0.5) / 1e6,
           (double)histogram_quantile(&l->seen, 0.99) / 1e6, (double)l->gap_ns / 1e6);
}

/* --- Input --- */

static void on_message(struct load *l, const char *subject, const char *payload, size_t n)
{
    if (strncmp(subject, "_A", 2) == 0) {
        on_ack(l, subject, payload, n);
    } else if (strncmp(subject, "s.", 2) == 0) {
        count_seen(l, payload, n);
    } else if (l->waiting) {
        size_t len = n < REPLY_MAX - 1 ? n : REPLY_MAX - 1;
        memcpy(l->reply, payload, len);
        l->reply[len] = '\0';
        l->replied = true;
        l->waiting = false;
        cli_loop_stop(&l->loop);
    }
}

/* Size of the first whole protocol unit in `at`; 0: not all there yet. */
static size_t take(struct server *s, char *at, size_t left)
{
    char *end = memchr(at, '\n', left);
    if (end == NULL) {
        return 0;
    }
    size_t line = (size_t)(end - at) + 1;
    bool plain = strncmp(at, "MSG ", 4) == 0, headed = strncmp(at, "HMSG ", 5) == 0;
    if (plain || headed) {
        char *last = end - 1;
        while (last > at && last[-1] != ' ') {
            last--;
        }
        size_t n = strtoul(last, NULL, 10);
        if (left < line + n + 2) {
            return 0;
        }
        on_message(s->load, at + (plain ? 4 : 5), end + 1, n);
        return line + n + 2;
    }
    if (strncmp(at, "PING", 4) == 0) {
        bytes_put(output(s), "PONG\r\n", 6);
    } else if (at[0] == '-') {
        fprintf(stderr, "nats_load: %.*s", (int)line, at);
    }
    return line;
}

static void on_read(struct env_stream *stream, const uint8_t *data, size_t n, int status)
{
    struct server *s = env_stream_data(stream);
    if (status != 0 && s->load->victim_pid == -1 && s == &s->load->servers[s->load->victim]) {
        s->connected = false; /* we killed it */
        return;
    }
    if (status != 0) {
        die("a server closed its connection");
    }
    bytes_put(&s->in, data, n);
    bytes_put_u8(&s->in, 0); /* strtoul must find an end */
    if (bytes_error(&s->in) != 0) {
        die("out of memory");
    }
    s->in.len--;
    size_t pos = 0, used = 0;
    while (pos < s->in.len && (used = take(s, (char *)s->in.data + pos, s->in.len - pos)) > 0) {
        pos += used;
    }
    bytes_consume(&s->in, pos);
}

static void on_connected(struct env_stream *stream, int status)
{
    struct server *s = env_stream_data(stream);
    if (status != 0) {
        die("can't connect");
    }
    s->connected = true;
    env_stream_read_start(stream, on_read);
    cli_loop_stop(&s->load->loop);
}

/* Acknowledgements come to the connection that published: each listens to its own subject. */
static void say_hello(struct load *l, unsigned i)
{
    bytes_printf(output(&l->servers[i]),
                 "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,"
                 "\"no_responders\":true,\"protocol\":1}\r\nSUB _A%u.* 1\r\n",
                 i);
    if (i == 0) {
        bytes_printf(output(&l->servers[i]), "SUB _R 2\r\n");
    }
}

/* --- Questions --- */

static void on_timer(struct env_timer *timer)
{
    struct load *l = timer->data;
    l->timed_out = true;
    cli_loop_stop(&l->loop);
}

static void pause_ms(struct load *l, uint64_t ms)
{
    env_timer_start(&l->timer, ms * 1000, on_timer);
    cli_loop_run(&l->loop, NULL, NULL);
}

/* The answer's text, or NULL after three seconds. */
static const char *ask(struct load *l, const char *subject, const char *body)
{
    struct bytes *out = output(&l->servers[0]);
    bytes_printf(out, "PUB %s _R %zu\r\n%s\r\n", subject, strlen(body), body);
    l->waiting = true;
    l->replied = l->timed_out = false;
    env_timer_start(&l->timer, 3000000, on_timer);
    while (!l->replied && !l->timed_out) {
        cli_loop_run(&l->loop, NULL, NULL);
    }
    env_timer_stop(&l->timer);
    l->waiting = false;
    return l->replied ? l->reply : NULL;
}

static void create(struct load *l)
{
    for (unsigned i = 0; i < l->n_streams; i++) {
        char subject[64], body[256];
        const char *reply = NULL;
        (void)snprintf(subject, sizeof(subject), "$JS.API.STREAM.CREATE.S%u", i);
        (void)snprintf(body, sizeof(body),
                       "{\"name\":\"S%u\",\"subjects\":[\"s.%u\"],\"retention\":\"limits\","
                       "\"storage\":\"file\",\"num_replicas\":3,\"discard\":\"old\"}",
                       i, i);
        for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
            reply = ask(l, subject, body);
            if (reply != NULL && strstr(reply, "\"error\"") == NULL) {
                break;
            }
            pause_ms(l, 300);
        }
        if (reply == NULL || strstr(reply, "\"error\"") != NULL) {
            die(reply != NULL ? reply : "no answer to STREAM.CREATE");
        }
    }
}

/* Servers are named n1, n2, ... in the order of the ports. */
static void find_leaders(struct load *l)
{
    for (unsigned i = 0; i < l->n_streams; i++) {
        char subject[64];
        const char *at = NULL;
        (void)snprintf(subject, sizeof(subject), "$JS.API.STREAM.INFO.S%u", i);
        for (unsigned tries = 0; tries < TRIES_MAX && at == NULL; tries++) {
            const char *reply = ask(l, subject, "");
            at = reply != NULL ? strstr(reply, "\"leader\":\"n") : NULL;
            if (at == NULL) {
                pause_ms(l, 200);
            }
        }
        unsigned long n = at != NULL ? strtoul(at + strlen("\"leader\":\"n"), NULL, 10) : 0;
        if (n < 1 || n > l->n_servers) {
            die("a stream has no leader");
        }
        l->leader_of[i] = (unsigned)n - 1;
    }
}

static void run(struct load *l)
{
    l->value = malloc(l->size);
    l->sent_ns = calloc(l->window, sizeof(*l->sent_ns));
    l->free_slots = calloc(l->window, sizeof(*l->free_slots));
    if (l->value == NULL || l->sent_ns == NULL || l->free_slots == NULL) {
        die("out of memory");
    }
    memset(l->value, 'x', l->size);
    for (uint64_t i = 0; i < l->window; i++) {
        l->free_slots[l->n_free++] = (uint32_t)i;
    }
    l->running = true;
    l->started_ns = env_now_ns(l->loop.env);
    l->fill.data = l;
    env_defer(l->loop.env, &l->fill, on_fill);
    while (l->running) {
        cli_loop_run(&l->loop, NULL, NULL);
    }
    double seconds = (double)(l->ended_ns - l->started_ns) / 1e9;
    printf("{\"acked\": %llu, \"failed\": %llu, \"seconds\": %.3f, \"records_per_s\": %.0f, "
           "\"ack_p50_ms\": %.3f, \"ack_p99_ms\": %.3f, \"ack_p999_ms\": %.3f}\n",
           (unsigned long long)l->n_acked, (unsigned long long)l->n_failed, seconds,
           (double)l->n_acked / seconds, (double)histogram_quantile(&l->latency, 0.5) / 1e6,
           (double)histogram_quantile(&l->latency, 0.99) / 1e6,
           (double)histogram_quantile(&l->latency, 0.999) / 1e6);
}

static void subscribe(struct load *l)
{
    const char *reply =
        ask(l, "$JS.API.CONSUMER.CREATE.S0",
            "{\"stream_name\":\"S0\",\"config\":{\"deliver_subject\":\"_D\","
            "\"deliver_policy\":\"new\",\"ack_policy\":\"none\",\"replay_policy\":\"instant\"}}");
    if (reply == NULL || strstr(reply, "\"error\"") != NULL) {
        die(reply != NULL ? reply : "no answer to CONSUMER.CREATE");
    }
}

/* --- Arguments --- */

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    uint64_t v = 0;
    if (!cli_parse_u64(text, min, max, &v)) {
        die("usage: nats_load create|load|consume|failover PORT,PORT,PORT ...");
    }
    return v;
}

static void connect_all(struct load *l, const char *ports)
{
    struct error err = {0};
    for (const char *at = ports; *at != '\0' && l->n_servers < SERVERS_MAX;) {
        char one[8];
        size_t n = strcspn(at, ",");
        struct server *s = &l->servers[l->n_servers++];
        (void)snprintf(one, sizeof(one), "%.*s", (int)(n < sizeof(one) ? n : sizeof(one)), at);
        s->load = l;
        bytes_init(&s->in, OUT_MAX);
        bytes_init(&s->out[0], OUT_MAX);
        bytes_init(&s->out[1], OUT_MAX);
        if (env_connect(l->loop.env, "127.0.0.1", (uint16_t)number(one, 1, UINT16_MAX),
                        on_connected, s, &s->stream, &err) != 0) {
            die(err.text);
        }
        at += n + (at[n] == ',');
    }
    for (unsigned i = 0; i < l->n_servers; i++) {
        while (!l->servers[i].connected) {
            cli_loop_run(&l->loop, NULL, NULL);
        }
        say_hello(l, i);
    }
}

static void load_records(struct load *l, char **argv)
{
    l->records = number(argv[4], 1, UINT64_MAX);
    l->size = (size_t)number(argv[5], 1, 1u << 20);
    l->window = number(argv[6], 1, 1000000);
    find_leaders(l);
    run(l);
}

static void load_rated(struct load *l, char **argv, const char *pids)
{
    l->rate = number(argv[3], 1, 1000000);
    l->seconds = number(argv[4], 1, 1000);
    find_leaders(l);
    if (pids != NULL) {
        for (unsigned i = 0; i < l->leader_of[0] && pids != NULL; i++) {
            pids = strchr(pids, ',');
            pids = pids != NULL ? pids + 1 : NULL;
        }
        l->victim = l->leader_of[0];
        l->victim_pid = pids != NULL ? strtol(pids, NULL, 10) : 0;
    } else {
        /* The subscription stands at the leader, where the records are first. */
        bytes_printf(output(&l->servers[l->leader_of[0]]), "SUB _D 3\r\n");
        subscribe(l);
    }
    run_rated(l);
}

int main(int argc, char **argv)
{
    static struct load l;
    static const struct {
        const char *name;
        int argc;
    } modes[] = {{"create", 4}, {"load", 7}, {"consume", 5}, {"failover", 6}};
    int mode = -1;
    for (int i = 0; i < 4 && argc > 1; i++) {
        mode = argc == modes[i].argc && strcmp(argv[1], modes[i].name) == 0 ? i : mode;
    }
    (void)number(mode >= 0 ? "1" : "", 1, 1);
    l.n_streams = mode < 2 ? (unsigned)number(argv[3], 1, STREAMS_MAX) : 1;
    if (cli_loop_open(&l.loop) != CLI_OK || env_timer_init(l.loop.env, &l.timer) != 0 ||
        env_timer_init(l.loop.env, &l.pace) != 0) {
        die("no event loop");
    }
    l.timer.data = l.pace.data = &l;
    connect_all(&l, argv[2]);
    if (mode == 0) {
        create(&l);
        find_leaders(&l);
    } else if (mode == 1) {
        load_records(&l, argv);
    } else {
        load_rated(&l, argv, mode == 3 ? argv[5] : NULL);
    }
    return l.n_failed > 0 && l.victim_pid == 0;
}
