#include "jepsen/workloads/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jepsen/workloads/archive.h"
#include "jepsen/workloads/publisher.h"
#include "jepsen/workloads/reader.h"

const char *const stage_renditions[STAGE_RENDITIONS] = {"source", "72p"};

uint64_t stage_now_ns(const struct stage *s)
{
    return env_now_ns(run_env(s->run));
}

const struct host *stage_host(const struct stage *s, unsigned index)
{
    const struct hosts *h = run_hosts(s->run);
    return &h->at[index % h->founders];
}

/* --- Beginning: one user, channels, their keys --- */

static void make_next(struct stage *s);

static void on_made(void *data, int status, json_t *answer)
{
    struct stage *s = data;
    const char *key = json_string_value(json_object_get(answer, "stream_key"));
    bool good = status == 200 || status == 201 || status == 409;
    if (key != NULL && s->step > 0) {
        struct stage_channel *c = &s->channels[(s->step - 1) / 2];
        (void)snprintf(c->key, sizeof(c->key), "%s", key);
    }
    s->step += good;
    make_next(s);
}

static void on_sweep(struct env_timer *timer)
{
    struct stage *s = timer->data;
    for (unsigned i = 0; i < s->n_publishers; i++) {
        publisher_sweep(&s->publishers[i]);
    }
    archive_sweep(s->archive);
    if (s->swept != NULL) {
        s->swept(s->data);
    }
    env_timer_start(timer, STAGE_SWEEP_US, on_sweep);
}

static void make_next(struct stage *s)
{
    const struct host *host = stage_host(s, 0);
    unsigned channel = s->step > 0 ? (s->step - 1) / 2 : 0;
    char path[64];
    if (s->step == 0) {
        web_ask(s->web, host, "POST", "/api/admin/users", json_pack("{s:s}", "name", "owner"),
                on_made, s);
    } else if (channel < s->n_channels && s->step % 2 == 1) {
        web_ask(s->web, host, "POST", "/api/admin/channels",
                json_pack("{s:s, s:s}", "name", s->channels[channel].name, "owner", "owner"),
                on_made, s);
    } else if (channel < s->n_channels) {
        (void)snprintf(path, sizeof(path), "/api/admin/channels/%s/key", s->channels[channel].name);
        web_ask(s->web, host, "POST", path, NULL, on_made, s);
    } else {
        env_timer_start(&s->timer, STAGE_SWEEP_US, on_sweep);
        run_started(s->run);
    }
}

static int make_people(struct stage *s, const struct stage_options *o, struct error *err)
{
    s->readers = calloc(s->n_readers, sizeof(*s->readers));
    s->publishers = calloc(s->n_publishers, sizeof(*s->publishers));
    if (s->readers == NULL || s->publishers == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory");
    }
    for (unsigned i = 0; i < s->n_readers; i++) {
        s->readers[i].stage = s;
        s->readers[i].edge = i;
        s->readers[i].p = run_process(s->run, i);
    }
    for (unsigned i = 0; i < s->n_publishers; i++) {
        s->publishers[i] = (struct publisher){.stage = s,
                                              .p = run_process(s->run, s->n_readers + i),
                                              .channel = &s->channels[i % s->n_channels],
                                              .hold = o->hold,
                                              .reconnect_ms = o->reconnect_ms,
                                              .node = i};
    }
    return archive_new(s, &s->archive, err);
}

int stage_open(struct run *run, const struct stage_options *options, struct stage *s,
               struct error *err)
{
    s->run = run;
    s->n_channels = options->n_channels;
    s->n_readers = run_hosts(run)->founders;
    s->n_publishers = options->n_publishers;
    if (run_n_processes(run) < s->n_readers + s->n_publishers) {
        return error_set(err, WEIR_EINVAL, "%u processes are needed",
                         s->n_readers + s->n_publishers);
    }
    for (unsigned i = 0; i < s->n_channels; i++) {
        s->channels[i].number = i;
        (void)snprintf(s->channels[i].name, sizeof(s->channels[i].name), "live%u", i);
    }
    int rv = encoder_make_picture(run, err);
    rv = rv == 0 ? web_open(run, &s->web, err) : rv;
    rv = rv == 0 ? env_timer_init(run_env(run), &s->timer) : rv;
    s->timer.data = s;
    rv = rv == 0 ? make_people(s, options, err) : rv;
    if (rv == 0) {
        make_next(s);
    }
    return rv;
}

void stage_close(struct stage *s)
{
    env_timer_close(&s->timer);
    web_close(s->web);
    for (unsigned i = 0; i < s->n_publishers; i++) {
        encoder_close(&s->publishers[i].encoder);
    }
    encoder_drop_picture(s->run);
    archive_free(s->archive);
    free(s->publishers);
    free(s->readers);
}

void stage_next(struct stage *s, struct process *p)
{
    if (p->slot < s->n_readers) {
        reader_next(&s->readers[p->slot]);
    } else if (p->slot < s->n_readers + s->n_publishers) {
        publisher_next(&s->publishers[p->slot - s->n_readers]);
    }
}

void stage_final(struct stage *s)
{
    archive_begin(s->archive);
}
