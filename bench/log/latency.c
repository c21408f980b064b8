/* From weir_produce to a consumer's callback: records of one partition at a fixed rate, produced
 * and consumed by one process over two clients, as in nats_load's `consume`.
 *
 *   latency TOPIC RATE SECONDS HOST:PORT,HOST:PORT,... SECRET-FILE
 *
 * The consumer reads from the first broker. Prints JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/cli/histogram.h"
#include "clients/log/weir_log.h"

#define SEEDS_MAX  8
#define SIZE       100
#define STAMP_SIZE 16
#define PACE_US    1000
#define DRAIN_US   500000
#define REQUESTS   65536
#define TEXT_SIZE  512
#define SETTLE_US  500000

struct latency {
    struct cli_loop loop;
    struct weir_client *producer, *consumer;
    struct weir_consumer *reading;
    const char *topic;
    uint64_t rate, seconds, started_ns, n_sent, n_acked, n_seen, n_failed;
    struct histogram acks, seen;
    struct env_timer pace;
    struct weir_produce requests[REQUESTS];
    uint64_t sent_ns[REQUESTS];
    unsigned n_closed;
};

static void die(const char *text)
{
    fprintf(stderr, "latency: %s\n", text);
    exit(1);
}

static void on_acked(struct weir_produce *req, int status)
{
    struct latency *l = req->data;
    l->n_acked += status == 0;
    l->n_failed += status != 0;
    histogram_add(&l->acks, env_now_ns(l->loop.env) - l->sent_ns[req - l->requests]);
    req->data = NULL;
}

static void on_end(struct env_timer *timer)
{
    struct latency *l = timer->data;
    cli_loop_stop(&l->loop);
}

static void on_pace(struct env_timer *timer)
{
    struct latency *l = timer->data;
    uint64_t now = env_now_ns(l->loop.env), elapsed = now - l->started_ns;
    uint64_t allowed = (uint64_t)((double)elapsed * (double)l->rate / 1e9) + 1;
    if (elapsed >= l->seconds * 1000000000u) {
        env_timer_start(&l->pace, DRAIN_US, on_end);
        return;
    }
    for (; l->n_sent < allowed; l->n_sent++) {
        unsigned i = (unsigned)(l->n_sent % REQUESTS);
        char value[SIZE + 1];
        l->sent_ns[i] = now;
        (void)snprintf(value, sizeof(value), "%016llx%0*d", (unsigned long long)l->sent_ns[i],
                       SIZE - STAMP_SIZE, 0);
        if (l->requests[i].data != NULL) {
            die("more than 65536 records are not acknowledged");
        }
        l->requests[i].data = l;
        if (weir_produce(l->producer, l->topic, 0, NULL, 0, value, SIZE, &l->requests[i],
                         on_acked) != 0) {
            die("a record was refused");
        }
    }
    env_timer_start(&l->pace, PACE_US, on_pace);
}

static void on_records(void *data, struct weir_consumer *c, const struct batch_record *records,
                       unsigned n, int64_t high_watermark)
{
    struct latency *l = data;
    uint64_t now = env_now_ns(l->loop.env);
    (void)c;
    (void)high_watermark;
    for (unsigned i = 0; i < n; i++) {
        char stamp[STAMP_SIZE + 1];
        if (records[i].value_len < STAMP_SIZE) {
            continue;
        }
        memcpy(stamp, records[i].value, STAMP_SIZE);
        stamp[STAMP_SIZE] = '\0';
        uint64_t sent = strtoull(stamp, NULL, 16);
        histogram_add(&l->seen, now > sent ? now - sent : 0);
        l->n_seen++;
    }
}

static void on_failed(void *data, struct weir_consumer *c, int status, const char *text)
{
    (void)data;
    (void)c;
    (void)status;
    die(text);
}

static void on_closed(void *data)
{
    struct latency *l = data;
    if (++l->n_closed == 2) {
        cli_loop_stop(&l->loop);
    }
}

static void read_secret(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    if (f == NULL || fgets(out, (int)size, f) == NULL) {
        die("can't read the secret's file");
    }
    out[strcspn(out, "\n")] = '\0';
    (void)fclose(f);
}

static void open_clients(struct latency *l, char *brokers, const char *secret)
{
    const char *seeds[SEEDS_MAX];
    struct error err = {0};
    struct weir_client_options o = {.seeds = seeds, .secret = secret, .name = "latency"};
    struct weir_consumer_events events = {.data = l, .records = on_records, .failed = on_failed};
    for (char *at; o.n_seeds < SEEDS_MAX && (at = strsep(&brokers, ",")) != NULL;) {
        seeds[o.n_seeds++] = at;
    }
    if (weir_client_new(l->loop.env, &o, &l->producer, &err) != 0 ||
        weir_client_new(l->loop.env, &o, &l->consumer, &err) != 0 ||
        weir_consume(l->consumer, l->topic, 0, WEIR_OFFSET_END, &events, &l->reading, &err) != 0) {
        die(err.text);
    }
}

int main(int argc, char **argv)
{
    static struct latency l;
    char secret[TEXT_SIZE];
    if (argc != 6 || !cli_parse_u64(argv[2], 1, 1000000, &l.rate) ||
        !cli_parse_u64(argv[3], 1, 1000, &l.seconds)) {
        die("usage: latency TOPIC RATE SECONDS HOST:PORT,... SECRET-FILE");
    }
    l.topic = argv[1];
    read_secret(argv[5], secret, sizeof(secret));
    if (cli_loop_open(&l.loop) != CLI_OK || env_timer_init(l.loop.env, &l.pace) != 0) {
        die("no event loop");
    }
    l.pace.data = &l;
    open_clients(&l, argv[4], secret);
    env_timer_start(&l.pace, SETTLE_US, on_end); /* connections and the consumer's place */
    cli_loop_run(&l.loop, NULL, NULL);
    l.started_ns = env_now_ns(l.loop.env);
    env_timer_start(&l.pace, 0, on_pace);
    cli_loop_run(&l.loop, NULL, NULL);
    printf("{\"sent\": %llu, \"acked\": %llu, \"consumed\": %llu, \"consume_p50_ms\": %.3f, "
           "\"consume_p99_ms\": %.3f, \"ack_p50_ms\": %.3f, \"ack_p99_ms\": %.3f}\n",
           (unsigned long long)l.n_sent, (unsigned long long)l.n_acked,
           (unsigned long long)l.n_seen, (double)histogram_quantile(&l.seen, 0.5) / 1e6,
           (double)histogram_quantile(&l.seen, 0.99) / 1e6,
           (double)histogram_quantile(&l.acks, 0.5) / 1e6,
           (double)histogram_quantile(&l.acks, 0.99) / 1e6);
    env_timer_close(&l.pace);
    weir_consumer_close(l.reading);
    weir_client_free(l.producer, on_closed, &l);
    weir_client_free(l.consumer, on_closed, &l);
    cli_loop_run(&l.loop, NULL, NULL);
    cli_loop_close(&l.loop);
    return l.n_failed > 0 || l.n_seen != l.n_sent;
}
