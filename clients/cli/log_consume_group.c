/* weir log consume --group: as a member of a consumer group. */
#include <string.h>

#include "clients/cli/log.h"
#include "clients/cli/log_consume.h"

#define IDLE_CHECK_US 50000u
#define BUFFER_SIZE   (1u << 16)

struct member {
    const struct consume_arguments *args;
    struct cli_loop loop;
    struct weir_client *client;
    struct weir_group *group;
    struct env_timer check;
    uint64_t n_records, n_bytes, started_ns, quiet_since_ns;
    bool assigned; /* at least once */
    bool progressed, stopping;
    enum cli_exit status;
};

static void on_closed(void *data)
{
    struct member *m = data;
    m->group = NULL;
    cli_loop_stop(&m->loop);
}

/* Leaves the group, with a last commit. */
static void stop(struct member *m, enum cli_exit status)
{
    if (!m->stopping) {
        m->stopping = true;
        m->status = status;
        weir_group_close(m->group, on_closed, m);
    }
}

static void on_assigned(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                        int64_t offset)
{
    struct member *m = data;
    (void)g;
    m->assigned = m->progressed = true;
    if (m->args->format == LOG_FORMAT_COUNT) {
        (void)fprintf(stderr, "assigned %s-%u from %lld\n", topic, partition, (long long)offset);
    }
}

static void on_revoked(void *data, struct weir_group *g, const char *topic, uint32_t partition)
{
    struct member *m = data;
    (void)g;
    if (m->args->format == LOG_FORMAT_COUNT) {
        (void)fprintf(stderr, "revoked %s-%u\n", topic, partition);
    }
    (void)fflush(stdout); /* what is committed next has been printed */
}

static void on_records(void *data, struct weir_group *g, const char *topic, uint32_t partition,
                       const struct batch_record *records, unsigned n, int64_t high_watermark)
{
    struct member *m = data;
    const struct consume_arguments *a = m->args;
    (void)high_watermark;
    m->progressed = true;
    for (unsigned i = 0; i < n && !m->stopping; i++) {
        log_print_record(a->format, topic, partition, &records[i]);
        m->n_bytes += log_record_bytes(&records[i]);
        if (++m->n_records == a->count) {
            weir_group_done(g, topic, partition, records[i].offset.v + 1);
            stop(m, CLI_OK);
        }
    }
    /* Committed is only what has left this process. */
    if (a->format != LOG_FORMAT_COUNT && (fflush(stdout) != 0 || ferror(stdout) != 0)) {
        stop(m, CLI_FAILED);
    }
}

static void on_failed(void *data, struct weir_group *g, int status, const char *text)
{
    struct member *m = data;
    (void)g;
    cli_fail(CLI_FAILED, "group %s: %s", m->args->group, text);
    stop(m, cli_exit_of(status));
}

/* Without --follow it ends when all that it holds has been read to the end; a member that is given
 * nothing ends after a timeout. */
static void on_check(struct env_timer *timer)
{
    struct member *m = timer->data;
    uint64_t now = env_now_ns(m->loop.env);
    unsigned held = 0, caught_up = 0;
    if (m->stopping) {
        return;
    }
    weir_group_progress(m->group, &held, &caught_up);
    if (m->progressed) {
        m->progressed = false;
        m->quiet_since_ns = now;
    }
    if (!m->args->follow && m->assigned && held == caught_up) {
        stop(m, CLI_OK);
    } else if (!m->args->follow &&
               now - m->quiet_since_ns > (uint64_t)m->args->cluster.timeout_ms * 1000000u) {
        cli_fail(CLI_UNAVAILABLE, "no answer within %u ms", m->args->cluster.timeout_ms);
        stop(m, CLI_UNAVAILABLE);
    } else {
        env_timer_start(&m->check, IDLE_CHECK_US, on_check);
    }
}

static void on_interrupt(void *data)
{
    stop(data, CLI_OK);
}

static enum cli_exit consume(struct member *m)
{
    const struct consume_arguments *a = m->args;
    struct weir_group_options o = {.group = a->group,
                                   .topics = &a->topic,
                                   .n_topics = 1,
                                   .from = a->from,
                                   .session_ms = (uint32_t)a->session_ms,
                                   .commit_ms = (uint32_t)a->commit_ms};
    struct weir_group_events events = {.data = m,
                                       .assigned = on_assigned,
                                       .revoked = on_revoked,
                                       .records = on_records,
                                       .failed = on_failed};
    struct error err = {0};
    int rv = weir_group_join(m->client, &o, &events, &m->group, &err);
    if (rv != 0) {
        return cli_fail(cli_exit_of(rv), "%s", err.text);
    }
    m->started_ns = m->quiet_since_ns = env_now_ns(m->loop.env);
    env_timer_start(&m->check, IDLE_CHECK_US, on_check);
    cli_loop_run(&m->loop, on_interrupt, m);
    if (a->format == LOG_FORMAT_COUNT) {
        log_print_count(m->n_records, m->n_bytes, env_now_ns(m->loop.env) - m->started_ns);
    }
    (void)fflush(stdout);
    return m->status;
}

enum cli_exit log_consume_group(const struct consume_arguments *a)
{
    struct member m = {.args = a};
    struct weir_client_options o = {.name = "weir log consume",
                                    .timeout_ms = a->cluster.timeout_ms};
    enum cli_exit rv = cli_loop_open(&m.loop);
    if (rv != CLI_OK) {
        return rv;
    }
    (void)setvbuf(stdout, NULL, _IOFBF, BUFFER_SIZE);
    m.check.data = &m;
    rv = env_timer_init(m.loop.env, &m.check) == 0
             ? log_client_open(&m.loop, &a->cluster, &o, &m.client)
             : cli_fail(CLI_FAILED, "out of memory");
    if (rv == CLI_OK) {
        rv = consume(&m);
        log_client_close(&m.loop, m.client);
    }
    env_timer_close(&m.check);
    cli_loop_close(&m.loop);
    return rv;
}
