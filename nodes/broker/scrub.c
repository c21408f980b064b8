#include "nodes/broker/scrub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/damage.h"
#include "nodes/broker/broker_priv.h"

#define CHUNK_BYTES    (256u << 10)
#define ROUND_PAUSE_US 3600000000ull
#define FIRST_PAUSE_US 60000000ull

/* One read of a segment file. Outlives the scrub that was closed meanwhile. */
struct chunk {
    struct env_io io;
    struct iovec iov;
    struct scrub *scrub; /* NULL: closed */
    uint8_t data[CHUNK_BYTES];
};

struct scrub {
    struct broker *broker;
    struct env_timer timer;
    struct chunk *chunk;
    struct env_file *file; /* being read */
    bool reading;
    bool running, asked;         /* a round; by a command: as fast as it goes */
    char topic[CONFIG_NAME_MAX]; /* only this one; "": all */
    uint32_t replica;            /* index of the one being read */
    uint64_t next;               /* entry; 0: its first */
    /* The last round, or the running one. */
    uint64_t rounds, entries, bytes, found;
    struct metric *bytes_total, *found_total, *rounds_total, *damaged;
};

static void on_timer(struct env_timer *timer);

static void again(struct scrub *s, uint64_t delay_us)
{
    env_timer_start(&s->timer, delay_us, on_timer);
}

static uint64_t pace_us(const struct scrub *s, uint64_t bytes)
{
    uint64_t per_s = ((uint64_t)s->broker->config->log_scrub_mib_s << 20) / s->broker->n_shards;
    return s->asked || per_s == 0 ? 0 : bytes * 1000000 / per_s;
}

/* --- A round --- */

static void round_begin(struct scrub *s, const char *topic, bool asked)
{
    s->running = true;
    s->asked = asked;
    (void)snprintf(s->topic, sizeof(s->topic), "%s", topic);
    s->replica = 0;
    s->next = 0;
    s->entries = s->bytes = s->found = 0;
    s->rounds++;
    again(s, 0);
}

/* Damaged ranges of all replicas, as far as is known. */
static unsigned count_damage(const struct broker *b)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < b->n_replicas; i++) {
        char text[ERROR_TEXT_MAX];
        if (b->replicas[i].group != NULL) {
            n += group_damage(b->replicas[i].group, text, sizeof(text));
        }
    }
    return n;
}

static void round_end(struct scrub *s)
{
    s->running = s->asked = false;
    metric_add(s->rounds_total, 1);
    log_event(s->found > 0 ? LOG_WARN : LOG_INFO, "log_scrubbed",
              "entries=%llu bytes=%llu damaged=%llu", (unsigned long long)s->entries,
              (unsigned long long)s->bytes, (unsigned long long)s->found);
    if (s->broker->config->log_scrub_mib_s > 0) {
        again(s, ROUND_PAUSE_US);
    }
}

static struct replica *current(struct scrub *s)
{
    struct broker *b = s->broker;
    while (s->replica < b->n_replicas) {
        struct replica *r = &b->replicas[s->replica];
        bool meant = s->topic[0] == '\0' || strcmp(r->topic->name, s->topic) == 0;
        if (meant && r->group != NULL) {
            return r;
        }
        s->replica++;
        s->next = 0;
    }
    return NULL;
}

static void next_replica(struct scrub *s)
{
    s->replica++;
    s->next = 0;
}

/* What was read is in memory now: checks it. */
static void check_some(struct scrub *s, struct replica *r)
{
    struct partition *p = group_partition(r->group);
    struct log_index next = LOG_INDEX(s->next);
    struct error err = {0};
    unsigned before = partition_damage(p, NULL, 0);
    int rv = partition_check(p, LOG_INDEX(s->next), CHUNK_BYTES, &next, &err);
    unsigned found = partition_damage(p, NULL, 0) - before;
    s->found += found;
    metric_add(s->found_total, found);
    bool noted = rv == WEIR_ECORRUPT && partition_in_hole(p, LOG_INDEX(next.v - 1));
    if (rv != 0 && !noted) {
        log_warn("log_scrub", "topic=%s partition=%u reason=" LOG_Q, r->topic->name, r->partition,
                 err.text);
    }
    if (rv == 0 || rv == WEIR_ECORRUPT) {
        s->entries += next.v - s->next;
        s->next = next.v;
    } else {
        next_replica(s);
    }
}

static void on_read(struct env_io *io, int status)
{
    struct chunk *chunk = io->data;
    struct scrub *s = chunk->scrub;
    if (s == NULL) {
        free(chunk);
        return;
    }
    s->reading = false;
    env_file_close(s->file);
    s->file = NULL;
    struct replica *r = current(s);
    uint64_t bytes = io->n_bytes;
    (void)status; /* the check meets the same error, and says where */
    if (r != NULL && s->next != 0) {
        check_some(s, r);
        s->bytes += bytes;
        metric_add(s->bytes_total, (int64_t)bytes);
    }
    again(s, pace_us(s, bytes));
}

static void read_some(struct scrub *s, struct replica *r)
{
    struct partition *p = group_partition(r->group);
    char path[CONFIG_PATH_MAX + CONFIG_NAME_MAX + 128];
    uint64_t at;
    struct error err = {0};
    if (s->next == 0 || s->next < partition_first_index(p).v) {
        s->next = partition_first_index(p).v;
    }
    if (s->next > partition_durable_index(p).v) {
        next_replica(s);
        again(s, 0);
        return;
    }
    if (partition_place(p, LOG_INDEX(s->next), path, sizeof(path), &at) != 0 ||
        env_file_open(s->broker->env, path, ENV_OPEN_READ, &s->file, &err) != 0) {
        check_some(s, r); /* says what is the matter */
        again(s, pace_us(s, CHUNK_BYTES));
        return;
    }
    struct chunk *chunk = s->chunk;
    chunk->iov = (struct iovec){chunk->data, CHUNK_BYTES};
    chunk->io = (struct env_io){.data = chunk, .iov = &chunk->iov, .n_iov = 1, .offset = at};
    s->reading = true;
    env_file_read(s->file, &chunk->io, on_read);
}

static void on_timer(struct env_timer *timer)
{
    struct scrub *s = timer->data;
    if (s->reading || s->broker->stopping) {
        return;
    }
    if (!s->running) {
        round_begin(s, "", false);
        return;
    }
    struct replica *r = current(s);
    if (r == NULL) {
        round_end(s);
    } else {
        read_some(s, r);
    }
}

/* --- --- */

struct scrub *scrub_new(struct broker *b)
{
    struct scrub *s = calloc(1, sizeof(*s));
    struct chunk *chunk = calloc(1, sizeof(*chunk));
    if (s == NULL || chunk == NULL || env_timer_init(b->env, &s->timer) != 0) {
        free(s);
        free(chunk);
        return NULL;
    }
    s->broker = b;
    s->timer.data = s;
    s->chunk = chunk;
    chunk->scrub = s;
    s->bytes_total =
        metric_counter("weir_log_scrub_bytes_total", "", "Bytes of logs read to check them.");
    s->found_total = metric_counter("weir_log_scrub_damaged_total", "",
                                    "Damaged ranges of logs that scrubbing found.");
    s->rounds_total = metric_counter("weir_log_scrub_rounds_total", "", "Rounds of scrubbing.");
    if (b->config->log_scrub_mib_s > 0) {
        again(s, FIRST_PAUSE_US);
    }
    return s;
}

void scrub_close(struct scrub *s)
{
    if (s == NULL) {
        return;
    }
    env_timer_close(&s->timer);
    if (s->reading) {
        env_file_wait(s->file);
        env_file_close(s->file);
        s->chunk->scrub = NULL; /* its callback frees it */
    } else {
        free(s->chunk);
    }
    free(s);
}

int broker_handle_scrub(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                        struct error *err)
{
    const Weir__BrokerScrubRequest *m = (const Weir__BrokerScrubRequest *)head;
    struct scrub *s = c->broker->scrub;
    Weir__BrokerScrub reply = WEIR__BROKER_SCRUB__INIT;
    if (s == NULL) {
        return error_set(err, WEIR_EUNAVAILABLE, "the node is stopping");
    }
    if (m->start && s->running && s->asked) {
        broker_conn_reply_error(c, frame->correlation, WEIR_EBUSY,
                                "a round that was asked for is running", NULL);
        return 0;
    }
    if (m->start) {
        if (strlen(m->topic) >= sizeof(s->topic)) {
            broker_conn_reply_error(c, frame->correlation, WEIR_ENOTFOUND, "no such topic", NULL);
            return 0;
        }
        round_begin(s, m->topic, true);
    }
    reply.running = s->running;
    reply.round = s->rounds;
    reply.entries = s->entries;
    reply.bytes = s->bytes;
    reply.found = s->found;
    reply.damaged = count_damage(c->broker);
    broker_conn_reply(c, BROKER_SCRUB, frame->correlation, &reply.base);
    return 0;
}
