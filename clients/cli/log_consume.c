/* weir log consume */
#include <stdlib.h>
#include <string.h>

#include "clients/cli/ask.h"
#include "clients/cli/log.h"
#include "clients/cli/log_consume.h"
#include "proto/print.h"

enum {
    KEY_PARTITION = 0x2000,
    KEY_FROM,
    KEY_FROM_TIME,
    KEY_FOLLOW,
    KEY_COUNT,
    KEY_FORMAT,
    KEY_GROUP,
    KEY_COMMIT,
    KEY_SESSION
};

static const struct argp_option options[] = {
    {"partition", KEY_PARTITION, "P", 0, "Only this partition (all of them)", 1},
    {"from", KEY_FROM, "WHERE", 0, "begin, end, or an offset (begin)", 1},
    {"from-time", KEY_FROM_TIME, "TIME", 0,
     "From the first record at or after TIME: RFC 3339 (2026-01-31T12:00:00Z) or ms since 1970", 1},
    {"follow", KEY_FOLLOW, 0, 0, "Wait for more at the end", 1},
    {"count", KEY_COUNT, "N", 0, "Stop after N records", 1},
    {"format", KEY_FORMAT, "F", 0,
     "value: values as lines; record: 'partition-offset {...}', for Weir's own topics, whose "
     "default "
     "it is; json: one object a line; crc: 'partition offset crc32c'; count: only how many (value)",
     1},
    {"group", KEY_GROUP, "NAME", 0,
     "As a member of this consumer group: the partitions are shared out among its members, who "
     "begin where the group stands (--from only where it stands nowhere)",
     2},
    {"commit-every", KEY_COMMIT, "MS", 0, "How often a member commits where it stands (1000)", 2},
    {"session", KEY_SESSION, "MS", 0, "Silence after which others take over (10000)", 2},
    {0},
};

struct stream {
    struct reader *reader;
    uint32_t partition;
    struct weir_consumer *consumer;
    int64_t target; /* the end when not following */
    bool done;
};

struct reader {
    const struct consume_arguments *args;
    struct cli_loop loop;
    struct weir_client *client;
    uint32_t n_partitions;
    struct stream *streams;
    uint32_t n_streams, n_running;
    int64_t *starts; /* per partition, when by time */
    uint64_t n_printed, n_bytes, started_ns;
    bool stopping;
    enum cli_exit status;
    struct env_timer patience;
    bool progressed;
};

/* --- Arguments --- */

static void check_arguments(struct consume_arguments *a, struct argp_state *state)
{
    if (a->topic == NULL) {
        argp_error(state, "which TOPIC?");
    } else if (a->group != NULL && (a->has_partition || a->by_time || a->from >= 0)) {
        argp_error(state, "--group: the group knows where it stands: no --partition, --from-time "
                          "or offset");
    } else if (a->format == LOG_FORMAT_AUTO) {
        a->format = record_known(a->topic) ? LOG_FORMAT_RECORD : LOG_FORMAT_VALUE;
    } else if (a->format == LOG_FORMAT_RECORD && !record_known(a->topic)) {
        argp_error(state, "--format record: topic '%s' has no records of Weir's", a->topic);
    }
}

static error_t parse_from(struct consume_arguments *a, const char *arg, struct argp_state *state)
{
    uint64_t v = 0;
    if (strcmp(arg, "begin") == 0) {
        a->from = WEIR_OFFSET_BEGIN;
    } else if (strcmp(arg, "end") == 0) {
        a->from = WEIR_OFFSET_END;
    } else if (cli_parse_u64(arg, 0, (uint64_t)INT64_MAX, &v)) {
        a->from = (int64_t)v;
    } else {
        argp_error(state, "--from: begin, end or an offset, not '%s'", arg);
    }
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct consume_arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->cluster;
        return 0;
    case KEY_PARTITION:
        a->has_partition = true;
        if (!cli_parse_u64(arg, 0, UINT32_MAX - 1, &a->partition)) {
            argp_error(state, "--partition: '%s' is not a partition's number", arg);
        }
        return 0;
    case KEY_FROM:
        return parse_from(a, arg, state);
    case KEY_FROM_TIME:
        a->by_time = true;
        if (!cli_parse_time(arg, &a->from_ms)) {
            argp_error(state, "--from-time: '%s' is neither RFC 3339 nor milliseconds", arg);
        }
        return 0;
    case KEY_FOLLOW:
        a->follow = true;
        return 0;
    case KEY_COUNT:
        if (!cli_parse_u64(arg, 1, UINT64_MAX, &a->count)) {
            argp_error(state, "--count: '%s' is not a number above 0", arg);
        }
        return 0;
    case KEY_GROUP:
        a->group = arg;
        return 0;
    case KEY_COMMIT:
        if (!cli_parse_u64(arg, 1, UINT32_MAX, &a->commit_ms)) {
            argp_error(state, "--commit-every: '%s' is not milliseconds", arg);
        }
        return 0;
    case KEY_SESSION:
        if (!cli_parse_u64(arg, 500, 600000, &a->session_ms)) {
            argp_error(state, "--session: '%s' is not 500 to 600000 ms", arg);
        }
        return 0;
    case KEY_FORMAT:
        a->format = log_format_of(arg);
        if (a->format == LOG_FORMAT_AUTO) {
            argp_error(state, "--format: value, record, json, crc or count, not '%s'", arg);
        }
        return 0;
    case ARGP_KEY_ARG:
        return cli_take_word(state, "topic", &a->topic, arg);
    case ARGP_KEY_END:
        check_arguments(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* --- Consumers --- */

static void stop(struct reader *r, enum cli_exit status)
{
    if (!r->stopping) {
        r->stopping = true;
        r->status = status;
        cli_loop_stop(&r->loop);
    }
}

static void stream_done(struct stream *s)
{
    if (!s->done) {
        s->done = true;
        weir_consumer_pause(s->consumer);
        if (--s->reader->n_running == 0) {
            stop(s->reader, CLI_OK);
        }
    }
}

static void on_records(void *data, struct weir_consumer *c, const struct batch_record *records,
                       unsigned n, int64_t high_watermark)
{
    struct stream *s = data;
    struct reader *r = s->reader;
    const struct consume_arguments *a = r->args;
    (void)c;
    (void)high_watermark;
    r->progressed = true;
    for (unsigned i = 0; i < n && !r->stopping; i++) {
        log_print_record(a->format, a->topic, s->partition, &records[i]);
        r->n_bytes += log_record_bytes(&records[i]);
        if (++r->n_printed == a->count) {
            stop(r, CLI_OK);
        }
    }
    if (a->follow) {
        (void)fflush(stdout);
    }
    if (ferror(stdout) != 0) {
        stop(r, CLI_FAILED); /* the reader of our output is gone */
    }
}

static void on_failed(void *data, struct weir_consumer *c, int status, const char *text)
{
    struct stream *s = data;
    (void)c;
    cli_fail(CLI_FAILED, "%s-%u: %s", s->reader->args->topic, s->partition, text);
    stop(s->reader, cli_exit_of(status));
}

static void on_caught_up(void *data, struct weir_consumer *c, int64_t high_watermark)
{
    struct stream *s = data;
    (void)c;
    (void)high_watermark;
    s->reader->progressed = true;
    if (!s->reader->args->follow) {
        stream_done(s);
    }
}

static enum cli_exit open_streams(struct reader *r)
{
    const struct consume_arguments *a = r->args;
    struct error err = {0};
    r->streams = calloc(r->n_partitions, sizeof(*r->streams));
    if (r->streams == NULL) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    for (uint32_t i = 0; i < r->n_partitions; i++) {
        if (a->has_partition && i != a->partition) {
            continue;
        }
        struct stream *s = &r->streams[r->n_streams];
        struct weir_consumer_events events = {
            .data = s, .records = on_records, .failed = on_failed, .caught_up = on_caught_up};
        s->reader = r;
        s->partition = i;
        if (weir_consume(r->client, a->topic, i, r->starts != NULL ? r->starts[i] : a->from,
                         &events, &s->consumer, &err) != 0) {
            return cli_fail(CLI_FAILED, "%s", err.text);
        }
        r->n_streams++;
        r->n_running++;
    }
    return CLI_OK;
}

/* --- Where to begin, by time --- */

static enum cli_exit find_start(struct ask *a, const struct consume_arguments *args,
                                uint32_t partition, int64_t *ret_offset)
{
    Weir__BrokerOffsetsRequest m = WEIR__BROKER_OFFSETS_REQUEST__INIT;
    char topic[CONFIG_NAME_MAX];
    (void)snprintf(topic, sizeof(topic), "%s", args->topic);
    m.topic = topic;
    m.partition = partition;
    m.by_time = true;
    m.time_ms = args->from_ms;
    ask_all(a, BROKER_OFFSETS_REQUEST, &m.base, BROKER_OFFSETS);
    for (unsigned i = 0; i < a->n_nodes; i++) {
        const Weir__BrokerOffsets *o = (const Weir__BrokerOffsets *)a->nodes[i].answer;
        if (a->nodes[i].status == 0 && o->leader) {
            *ret_offset = o->by_time;
            return CLI_OK;
        }
    }
    return cli_fail(CLI_UNAVAILABLE, "%s-%u has no leader that answers", args->topic, partition);
}

static enum cli_exit find_starts(struct reader *r)
{
    const struct consume_arguments *a = r->args;
    struct ask ask;
    r->starts = calloc(r->n_partitions, sizeof(*r->starts));
    if (r->starts == NULL) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    enum cli_exit rv = ask_open(&ask, &a->cluster);
    if (rv != CLI_OK) {
        return rv;
    }
    for (uint32_t i = 0; i < r->n_partitions && rv == CLI_OK; i++) {
        if (!a->has_partition || i == a->partition) {
            rv = find_start(&ask, a, i, &r->starts[i]);
        }
    }
    ask_close(&ask);
    return rv;
}

/* --- The command --- */

/* Without --follow a cluster that gives nothing for a whole timeout is not available. */
static void on_patience(struct env_timer *timer)
{
    struct reader *r = timer->data;
    if (!r->progressed && !r->args->follow) {
        cli_fail(CLI_UNAVAILABLE, "no answer within %u ms", r->args->cluster.timeout_ms);
        stop(r, CLI_UNAVAILABLE);
        return;
    }
    r->progressed = false;
    env_timer_start(&r->patience, (uint64_t)r->args->cluster.timeout_ms * 1000u, on_patience);
}

static void on_interrupt(void *data)
{
    stop(data, CLI_OK);
}

static enum cli_exit consume(struct reader *r)
{
    const struct consume_arguments *a = r->args;
    enum cli_exit rv = log_find_topic(&r->loop, r->client, a->topic,
                                      a->has_partition ? &a->partition : NULL, &r->n_partitions);
    if (rv == CLI_OK && a->by_time) {
        rv = find_starts(r);
    }
    if (rv == CLI_OK) {
        rv = open_streams(r);
    }
    if (rv != CLI_OK) {
        return rv;
    }
    env_timer_start(&r->patience, (uint64_t)a->cluster.timeout_ms * 1000u, on_patience);
    r->started_ns = env_now_ns(r->loop.env);
    cli_loop_run(&r->loop, on_interrupt, r);
    if (a->format == LOG_FORMAT_COUNT) {
        log_print_count(r->n_printed, r->n_bytes, env_now_ns(r->loop.env) - r->started_ns);
    }
    (void)fflush(stdout);
    return r->status;
}

int log_consume(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "TOPIC",
        .children = cli_cluster_children,
        .doc = "Print the records of TOPIC, in order within each partition, up to the end of the "
               "log as it is now.\v" CLI_EXIT_HELP,
    };
    struct consume_arguments a = {.from = WEIR_OFFSET_BEGIN};
    struct reader r = {.args = &a};
    struct weir_client_options o = {.name = "weir log consume"};
    if (argp_parse(&argp, argc, argv, 0, NULL, &a) != 0) {
        return CLI_USAGE;
    }
    enum cli_exit rv = cli_cluster_resolve(&a.cluster);
    if (rv == CLI_OK && a.group != NULL) {
        return (int)log_consume_group(&a);
    }
    if (rv == CLI_OK) {
        rv = cli_loop_open(&r.loop);
    }
    if (rv != CLI_OK) {
        return (int)rv;
    }
    o.timeout_ms = a.cluster.timeout_ms;
    r.patience.data = &r;
    rv = env_timer_init(r.loop.env, &r.patience) == 0
             ? log_client_open(&r.loop, &a.cluster, &o, &r.client)
             : cli_fail(CLI_FAILED, "out of memory");
    if (rv == CLI_OK) {
        rv = consume(&r);
        r.stopping = true;
        log_client_close(&r.loop, r.client);
    }
    env_timer_close(&r.patience);
    cli_loop_close(&r.loop);
    free(r.streams);
    free(r.starts);
    return (int)rv;
}
