/* weir log produce: lines of standard input, or generated load. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/crc32c.h"
#include "base/env_uv.h"
#include "clients/cli/histogram.h"
#include "clients/cli/log.h"

#define WINDOW_DEFAULT 1024
#define WINDOW_MAX     1000000
#define READ_SIZE      (256u << 10)
#define LINE_MAX_BYTES (1u << 20)
#define VALUE_MIN      16 /* a generated value begins with its number, 16 hex digits */
#define REPORT_US      1000000u
#define PACE_US        1000u
#define CACHE_LINE     64
#define SLOTS_AHEAD    8  /* asked for in advance: they lie far apart in memory */
#define CLOCK_USES     16 /* acknowledgements of one turn that share a look at the clock */

enum {
    KEY_KEY = 0x2000,
    KEY_SEPARATOR,
    KEY_PARTITION,
    KEY_RECORDS,
    KEY_SECONDS,
    KEY_FIRST,
    KEY_SIZE,
    KEY_WINDOW,
    KEY_RATE,
    KEY_ALL,
    KEY_REPORT,
    KEY_ACK_LOG,
    KEY_PRODUCER,
    KEY_INFLIGHT,
    KEY_NULL_EMPTY,
};

static const struct argp_option options[] = {
    {"key", KEY_KEY, "K", 0, "Key of all records", 1},
    {"key-separator", KEY_SEPARATOR, "S", 0, "Lines are KEY S VALUE", 1},
    {"null-empty", KEY_NULL_EMPTY, 0, 0,
     "An empty value is null: in a compacted topic it deletes the key", 1},
    {"partition", KEY_PARTITION, "P", 0,
     "Write to this partition (without key and partition: to all in turn)", 1},
    {"window", KEY_WINDOW, "W", 0, "Records in flight (1024)", 2},
    {"inflight-batches", KEY_INFLIGHT, "N", 0, "Batches in flight per partition (4, at most 5)", 2},
    {"producer", KEY_PRODUCER, "NAME", 0,
     "Write as this producer: whoever had the name before is fenced", 1},
    {"ack-log", KEY_ACK_LOG, "FILE", 0,
     "Write 'partition offset crc32c' of every acknowledged record; compare with weir log consume "
     "--format crc",
     2},
    {"report", KEY_REPORT, 0, 0, "A line each second on standard error", 2},
    {"records", KEY_RECORDS, "N", 0, "Generate N records instead of reading lines", 3},
    {"seconds", KEY_SECONDS, "S", 0, "Generate records for S seconds", 3},
    {"first", KEY_FIRST, "N", 0,
     "Number of the first generated record (0): a value begins with its number", 3},
    {"size", KEY_SIZE, "B", 0, "Bytes of a generated value, at least 16 (100)", 3},
    {"rate", KEY_RATE, "R", 0, "Generate R records a second (as many as the window allows)", 3},
    {"partitions-all", KEY_ALL, 0, 0, "Generate for all partitions in turn (the default)", 3},
    {0},
};

struct arguments {
    struct cli_cluster cluster;
    const char *topic, *key, *separator, *ack_path, *producer;
    uint64_t partition, records, seconds, first, size, window, rate, inflight;
    bool has_partition, report, all, null_empty;
};

struct slot {
    struct weir_produce req;
    struct producer *producer;
    uint64_t sent_ns;
    uint32_t crc;
} __attribute__((aligned(CACHE_LINE)));
static_assert(sizeof(struct slot) == CACHE_LINE, "one miss a record");

struct counts {
    uint64_t acked, failed, unknown;
    struct histogram latency; /* ns */
    uint64_t gap_ns;          /* longest time without an acknowledgement while one was due */
};

struct producer {
    const struct arguments *args;
    struct cli_loop loop;
    struct weir_client *client;
    uint32_t n_partitions, turn;
    struct slot *slots;
    uint32_t *free_slots; /* by index; the last one is the next to be used */
    uint32_t n_free;
    uint64_t n_out, n_sent;
    uint64_t started_ns, ended_ns, last_ack_ns;
    uint64_t clock_ns;
    unsigned clock_uses; /* since it was looked at; 0: not yet in this turn */
    struct counts all, second;
    struct env_defer fill;
    struct env_timer report, pace;
    bool generating, finished; /* nothing more is to be sent */
    bool fenced;               /* the name is somebody else's: nothing ever will be */
    uint8_t *value;
    FILE *ack_log;
    int first_error;
    /* Standard input */
    uv_fs_t read;
    bool reading;
    uint8_t *input;
    size_t input_len, input_pos;
    bool input_ended;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    const struct {
        int key;
        uint64_t min, max;
        uint64_t *value;
    } numbers[] = {{KEY_PARTITION, 0, UINT32_MAX - 1, &a->partition},
                   {KEY_RECORDS, 1, UINT64_MAX, &a->records},
                   {KEY_SECONDS, 1, 1000000, &a->seconds},
                   {KEY_FIRST, 0, UINT64_MAX, &a->first},
                   {KEY_SIZE, VALUE_MIN, LINE_MAX_BYTES, &a->size},
                   {KEY_WINDOW, 1, WINDOW_MAX, &a->window},
                   {KEY_RATE, 1, 100000000, &a->rate},
                   {KEY_INFLIGHT, 1, 256, &a->inflight}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (key == numbers[i].key) {
            if (!cli_parse_u64(arg, numbers[i].min, numbers[i].max, numbers[i].value)) {
                argp_error(state, "'%s' is not a whole number from %llu to %llu", arg,
                           (unsigned long long)numbers[i].min, (unsigned long long)numbers[i].max);
                return EINVAL;
            }
            a->has_partition |= key == KEY_PARTITION;
            return 0;
        }
    }
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->cluster;
        return 0;
    case KEY_KEY:
        a->key = arg;
        return 0;
    case KEY_SEPARATOR:
        a->separator = arg;
        return 0;
    case KEY_NULL_EMPTY:
        a->null_empty = true;
        return 0;
    case KEY_PRODUCER:
        a->producer = arg;
        return 0;
    case KEY_ACK_LOG:
        a->ack_path = arg;
        return 0;
    case KEY_REPORT:
        a->report = true;
        return 0;
    case KEY_ALL:
        a->all = true;
        return 0;
    case ARGP_KEY_ARG:
        return cli_take_word(state, "topic", &a->topic, arg);
    case ARGP_KEY_END:
        if (a->topic == NULL) {
            argp_error(state, "which TOPIC?");
        } else if (a->separator != NULL && a->separator[0] == '\0') {
            argp_error(state, "--key-separator is empty");
        } else if (a->has_partition && a->all) {
            argp_error(state, "--partition and --partitions-all exclude each other");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* --- Completions --- */

static void fill_soon(struct producer *p);

static void end_if_done(struct producer *p)
{
    if (p->finished && p->n_out == 0) {
        p->ended_ns = env_now_ns(p->loop.env);
        cli_loop_stop(&p->loop);
    }
}

static void count_ack(struct producer *p, const struct slot *s, uint64_t now)
{
    uint64_t gap = now - p->last_ack_ns;
    struct counts *both[] = {&p->all, &p->second};
    for (unsigned i = 0; i < (p->args->report ? 2 : 1); i++) {
        both[i]->acked++;
        both[i]->gap_ns = gap > both[i]->gap_ns ? gap : both[i]->gap_ns;
        histogram_add(&both[i]->latency, now - s->sent_ns);
    }
    p->last_ack_ns = now;
    if (p->ack_log != NULL) {
        fprintf(p->ack_log, "%u %lld %08x\n", s->req.partition, (long long)s->req.offset, s->crc);
    }
}

/* --- Slots --- */

static struct slot *take_slot(struct producer *p)
{
    struct slot *s = &p->slots[p->free_slots[--p->n_free]];
    if (p->n_free > SLOTS_AHEAD) {
        __builtin_prefetch(&p->slots[p->free_slots[p->n_free - SLOTS_AHEAD]], 1);
    }
    p->n_out++;
    return s;
}

static void give_slot(struct producer *p, struct slot *s)
{
    p->free_slots[p->n_free++] = (uint32_t)(s - p->slots);
    p->n_out--;
}

/* Acknowledgements come by the batch. */
static uint64_t ack_clock(struct producer *p)
{
    if (p->clock_uses++ % CLOCK_USES == 0) {
        p->clock_ns = env_now_ns(p->loop.env);
    }
    return p->clock_ns;
}

static void count_failure(struct producer *p, int status)
{
    p->all.unknown += status == WEIR_EUNKNOWN;
    p->all.failed += status != WEIR_EUNKNOWN;
    p->first_error = p->first_error == 0 ? status : p->first_error;
    if (status == WEIR_EFENCED) {
        p->fenced = p->finished = true;
    }
}

static void on_produced(struct weir_produce *req, int status)
{
    struct slot *s = req->data;
    struct producer *p = s->producer;
    if (status == 0) {
        count_ack(p, s, ack_clock(p));
    } else {
        count_failure(p, status);
    }
    give_slot(p, s);
    fill_soon(p);
}

/* 0, or WEIR_EBUSY: later. Anything else is counted here. */
static int send_record(struct producer *p, const void *key, size_t key_len, const void *value,
                       size_t value_len, uint64_t due_ns)
{
    const struct arguments *a = p->args;
    uint32_t partition = a->has_partition ? (uint32_t)a->partition : WEIR_PARTITION_BY_KEY;
    if (p->n_free == 0) {
        return WEIR_EBUSY;
    }
    if (key == NULL && !a->has_partition) {
        partition = p->turn;
    }
    struct slot *s = take_slot(p);
    s->sent_ns = due_ns;
    s->crc = p->ack_log != NULL ? crc32c(0, value, value_len) : 0;
    if (p->n_out == 1) {
        p->last_ack_ns = env_now_ns(p->loop.env); /* nothing was due before */
    }
    int rv = weir_produce(p->client, a->topic, partition, key, key_len, value, value_len, &s->req,
                          on_produced);
    if (rv != WEIR_EBUSY) {
        p->n_sent++;
        p->turn = (p->turn + 1) % p->n_partitions;
    }
    if (rv == 0) {
        return 0;
    }
    give_slot(p, s);
    if (rv != WEIR_EBUSY) {
        count_failure(p, rv);
        rv = 0;
    }
    return rv;
}

/* --- Generated records --- */

static void write_number(uint8_t *out, uint64_t n)
{
    for (unsigned i = VALUE_MIN; i-- > 0; n >>= 4) {
        out[i] = (uint8_t) "0123456789abcdef"[n & 15];
    }
}

static void generate(struct producer *p)
{
    const struct arguments *a = p->args;
    uint64_t now = env_now_ns(p->loop.env), allowed = UINT64_MAX;
    if (a->rate > 0) {
        allowed = (uint64_t)((double)(now - p->started_ns) * (double)a->rate / 1e9) + 1;
    }
    while (!p->finished && p->n_sent < allowed) {
        uint64_t due = a->rate > 0
                           ? p->started_ns + (uint64_t)((double)p->n_sent * 1e9 / (double)a->rate)
                           : now;
        write_number(p->value, a->first + p->n_sent);
        if (send_record(p, a->key, a->key != NULL ? strlen(a->key) : 0, p->value, (size_t)a->size,
                        due) != 0) {
            break;
        }
        p->finished = (a->records > 0 && p->n_sent >= a->records) ||
                      (a->seconds > 0 && now - p->started_ns >= a->seconds * 1000000000u);
    }
    if (!p->finished && a->seconds > 0 && now - p->started_ns >= a->seconds * 1000000000u) {
        p->finished = true;
    }
}

static void on_pace(struct env_timer *timer)
{
    struct producer *p = timer->data;
    generate(p);
    end_if_done(p);
    if (!p->finished) {
        env_timer_start(&p->pace, PACE_US, on_pace);
    }
}

/* --- Lines --- */

static void read_more(struct producer *p);

/* False when the record must wait. */
static bool send_line(struct producer *p, const uint8_t *line, size_t len)
{
    const struct arguments *a = p->args;
    const uint8_t *key = (const uint8_t *)a->key;
    size_t key_len = key != NULL ? strlen(a->key) : 0;
    if (a->separator != NULL) {
        size_t n = strlen(a->separator);
        const uint8_t *at = memmem(line, len, a->separator, n);
        if (at == NULL) {
            p->all.failed++;
            p->first_error = p->first_error == 0 ? WEIR_EINVAL : p->first_error;
            cli_fail(CLI_FAILED, "a line has no '%s'", a->separator);
            return true;
        }
        key = line;
        key_len = (size_t)(at - line);
        len -= key_len + n;
        line = at + n;
    }
    bool null = len == 0 && a->null_empty;
    return send_record(p, key, key_len, null ? NULL : line, len, env_now_ns(p->loop.env)) == 0;
}

static void send_lines(struct producer *p)
{
    while (!p->finished && p->input_pos < p->input_len) {
        const uint8_t *at = p->input + p->input_pos;
        size_t left = p->input_len - p->input_pos;
        const uint8_t *end = memchr(at, '\n', left);
        size_t len = end != NULL ? (size_t)(end - at) : left;
        if (end == NULL && !p->input_ended && left < LINE_MAX_BYTES) {
            break;
        }
        if (!send_line(p, at, len)) {
            return;
        }
        p->input_pos += len + (end != NULL);
    }
    if (p->input_ended && p->input_pos >= p->input_len) {
        p->finished = true;
    } else {
        read_more(p);
    }
}

static void on_input(uv_fs_t *req)
{
    struct producer *p = req->data;
    ssize_t n = req->result;
    uv_fs_req_cleanup(req);
    p->reading = false;
    if (n < 0) {
        cli_fail(CLI_FAILED, "standard input: %s", uv_strerror((int)n));
        p->first_error = WEIR_EIO;
    }
    p->input_ended |= n <= 0;
    p->input_len += n > 0 ? (size_t)n : 0;
    fill_soon(p);
}

static void read_more(struct producer *p)
{
    if (p->reading || p->input_ended || p->finished) {
        return;
    }
    memmove(p->input, p->input + p->input_pos, p->input_len - p->input_pos);
    p->input_len -= p->input_pos;
    p->input_pos = 0;
    uv_buf_t buf = uv_buf_init((char *)p->input + p->input_len, READ_SIZE);
    p->read.data = p;
    p->reading =
        uv_fs_read(env_uv_loop(p->loop.env), &p->read, STDIN_FILENO, &buf, 1, -1, on_input) == 0;
    p->input_ended = !p->reading;
}

static void on_fill(struct env_defer *defer)
{
    struct producer *p = defer->data;
    p->clock_uses = 0;
    if (!p->finished && p->generating) {
        if (p->args->rate == 0) {
            generate(p);
        }
    } else if (!p->finished) {
        send_lines(p);
    }
    end_if_done(p);
}

static void fill_soon(struct producer *p)
{
    p->fill.data = p;
    env_defer(p->loop.env, &p->fill, on_fill);
}

/* --- Reports --- */

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static void on_report(struct env_timer *timer)
{
    struct producer *p = timer->data;
    uint64_t now = env_now_ns(p->loop.env);
    /* A gap that is not over yet counts. */
    uint64_t waiting = p->n_out > 0 ? now - p->last_ack_ns : 0;
    uint64_t gap = waiting > p->second.gap_ns ? waiting : p->second.gap_ns;
    fprintf(stderr,
            "t=%.1f acked=%llu rate=%llu p50_ms=%.3f p99_ms=%.3f gap_ms=%.1f unknown=%llu "
            "failed=%llu\n",
            (double)(now - p->started_ns) / 1e9, (unsigned long long)p->all.acked,
            (unsigned long long)p->second.acked, ms(histogram_quantile(&p->second.latency, 0.5)),
            ms(histogram_quantile(&p->second.latency, 0.99)), ms(gap),
            (unsigned long long)p->all.unknown, (unsigned long long)p->all.failed);
    memset(&p->second, 0, sizeof(p->second));
    env_timer_start(&p->report, REPORT_US, on_report);
}

static enum cli_exit print_summary(const struct producer *p)
{
    const struct counts *c = &p->all;
    double seconds = (double)(p->ended_ns - p->started_ns) / 1e9;
    double rate = seconds > 0 ? (double)c->acked / seconds : 0;
    double q[3] = {ms(histogram_quantile(&c->latency, 0.5)),
                   ms(histogram_quantile(&c->latency, 0.99)),
                   ms(histogram_quantile(&c->latency, 0.999))};
    if (p->args->cluster.json) {
        printf("{\"acked\": %llu, \"failed\": %llu, \"unknown\": %llu, \"seconds\": %.3f, "
               "\"records_per_s\": %.0f, \"ack_p50_ms\": %.3f, \"ack_p99_ms\": %.3f, "
               "\"ack_p999_ms\": %.3f, \"longest_ack_gap_ms\": %.1f}\n",
               (unsigned long long)c->acked, (unsigned long long)c->failed,
               (unsigned long long)c->unknown, seconds, rate, q[0], q[1], q[2], ms(c->gap_ns));
    } else {
        printf("acked %llu  failed %llu  unknown %llu  in %.3f s  %.0f records/s\n"
               "ack p50 %.3f ms  p99 %.3f ms  p99.9 %.3f ms  longest gap between acks %.1f ms\n",
               (unsigned long long)c->acked, (unsigned long long)c->failed,
               (unsigned long long)c->unknown, seconds, rate, q[0], q[1], q[2], ms(c->gap_ns));
    }
    if (c->unknown > 0) {
        cli_fail(CLI_UNAVAILABLE,
                 "the outcome of %llu records is not known: each may be stored or "
                 "not",
                 (unsigned long long)c->unknown);
    }
    if (c->failed > 0 || p->first_error != 0) {
        cli_fail(CLI_FAILED, "first error: %s", error_name(p->first_error));
    }
    if (p->fenced) {
        return cli_fail(CLI_FAILED,
                        "somebody else writes as '%s' now: this producer is fenced for good",
                        p->args->producer);
    }
    return c->unknown > 0        ? CLI_UNAVAILABLE
           : p->first_error != 0 ? cli_exit_of(p->first_error)
                                 : CLI_OK;
}

/* --- The command --- */

static void on_interrupt(void *data)
{
    struct producer *p = data;
    p->finished = true;
    fill_soon(p);
}

static enum cli_exit allocate(struct producer *p)
{
    const struct arguments *a = p->args;
    p->slots = aligned_alloc(CACHE_LINE, a->window * sizeof(*p->slots));
    p->free_slots = malloc(a->window * sizeof(*p->free_slots));
    p->value = malloc(a->size);
    p->input = p->generating ? NULL : malloc(LINE_MAX_BYTES + READ_SIZE);
    if (p->slots == NULL || p->free_slots == NULL || p->value == NULL ||
        (!p->generating && p->input == NULL) || env_timer_init(p->loop.env, &p->report) != 0 ||
        env_timer_init(p->loop.env, &p->pace) != 0) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    memset(p->value, 'x', a->size);
    p->report.data = p->pace.data = p;
    for (uint64_t i = 0; i < a->window; i++) {
        p->slots[i] = (struct slot){.producer = p, .req.data = &p->slots[i]};
        p->free_slots[p->n_free++] = (uint32_t)i;
    }
    if (a->ack_path != NULL) {
        p->ack_log = fopen(a->ack_path, "we");
        if (p->ack_log == NULL) {
            return cli_fail(CLI_FAILED, "--ack-log %s: %m", a->ack_path);
        }
    }
    return CLI_OK;
}

static enum cli_exit produce(struct producer *p)
{
    const struct arguments *a = p->args;
    enum cli_exit rv = log_find_topic(&p->loop, p->client, a->topic,
                                      a->has_partition ? &a->partition : NULL, &p->n_partitions);
    if (rv == CLI_OK) {
        rv = allocate(p);
    }
    if (rv != CLI_OK) {
        return rv;
    }
    p->started_ns = p->last_ack_ns = env_now_ns(p->loop.env);
    if (a->report) {
        env_timer_start(&p->report, REPORT_US, on_report);
    }
    if (a->rate > 0) {
        env_timer_start(&p->pace, 0, on_pace);
    } else if (p->generating) {
        fill_soon(p);
    } else {
        read_more(p);
    }
    cli_loop_run(&p->loop, on_interrupt, p);
    rv = print_summary(p);
    if (p->ack_log != NULL && (fflush(p->ack_log) != 0 || ferror(p->ack_log) != 0)) {
        rv = cli_fail(CLI_FAILED, "--ack-log %s: %m", a->ack_path);
    }
    return rv;
}

int log_produce(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "TOPIC",
        .children = cli_cluster_children,
        .doc = "Write records to TOPIC: the lines of standard input, or with --records or "
               "--seconds generated ones. A record is acknowledged when it is on the disks of a "
               "majority of its replicas.\v" CLI_EXIT_HELP,
    };
    struct arguments a = {.size = 100, .window = WINDOW_DEFAULT};
    struct producer *p = calloc(1, sizeof(*p));
    if (p == NULL || argp_parse(&argp, argc, argv, 0, NULL, &a) != 0) {
        free(p);
        return CLI_USAGE;
    }
    p->args = &a;
    p->generating = a.records > 0 || a.seconds > 0;
    struct weir_client_options o = {.name = "weir log produce",
                                    .producer_name = a.producer,
                                    .timeout_ms = a.cluster.timeout_ms,
                                    .inflight_batches_max = (uint32_t)a.inflight};
    enum cli_exit rv = cli_cluster_resolve(&a.cluster);
    o.timeout_ms = a.cluster.timeout_ms;
    if (rv == CLI_OK) {
        rv = cli_loop_open(&p->loop);
    }
    if (rv == CLI_OK) {
        rv = log_client_open(&p->loop, &a.cluster, &o, &p->client);
        if (rv == CLI_OK) {
            rv = produce(p);
            p->finished = true;
            log_client_close(&p->loop, p->client);
        }
        env_timer_close(&p->report);
        env_timer_close(&p->pace);
        env_defer_cancel(&p->fill);
        if (p->reading) {
            /* A read of a terminal can't be called back. */
            fflush(stdout);
            _exit((int)rv);
        }
        cli_loop_close(&p->loop);
    }
    if (p->ack_log != NULL) {
        (void)fclose(p->ack_log);
    }
    free(p->slots);
    free(p->free_slots);
    free(p->value);
    free(p->input);
    free(p);
    return (int)rv;
}
