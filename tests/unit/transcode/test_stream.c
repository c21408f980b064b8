/* A stream on a transcode node, with neither worker nor log: what it says on its link by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/process.h"
#include "nodes/transcode/stream.h"
#include "virtual_env.h"

#define BEAT_US (WIRE_BEAT_MS * 1000ull)

int __wrap_process_spawn(struct env *env, const char *verb, const struct process_events *events,
                         struct process **ret_process, struct error *err);
int __wrap_process_write(struct process *p, const uint8_t *data, size_t n);
size_t __wrap_process_queued_bytes(const struct process *p);
size_t __wrap_process_unread_bytes(const struct process *p);
long __wrap_process_pid(const struct process *p);
void __wrap_process_free(struct process *p);

static size_t to_worker; /* waiting for it */
static size_t overhead;  /* that the kernel counts with it */

int __wrap_process_spawn(struct env *env, const char *verb, const struct process_events *events,
                         struct process **ret_process, struct error *err)
{
    (void)env;
    (void)verb;
    (void)events;
    (void)ret_process;
    (void)err;
    return 0;
}

int __wrap_process_write(struct process *p, const uint8_t *data, size_t n)
{
    (void)p;
    (void)data;
    to_worker += n;
    return 0;
}

size_t __wrap_process_queued_bytes(const struct process *p)
{
    (void)p;
    return to_worker;
}

size_t __wrap_process_unread_bytes(const struct process *p)
{
    (void)p;
    return to_worker > 0 ? to_worker + overhead : 0;
}

long __wrap_process_pid(const struct process *p)
{
    (void)p;
    return 0;
}

void __wrap_process_free(struct process *p)
{
    (void)p;
}

/* How many beats, and nothing else, were sent. */
static unsigned beats(const struct virtual_stream *s)
{
    unsigned n = 0;
    size_t at = 0;
    struct wire_frame f;
    while (wire_next(s->sent.data + at, s->sent.len - at, &f, NULL) == 1) {
        assert_int_equal(f.type, WIRE_BEAT);
        at += f.size;
        n++;
    }
    assert_int_equal(at, s->sent.len);
    return n;
}

static void on_closed(void *data, struct stream *s)
{
    (void)s;
    *(bool *)data = true;
}

static void a_stream__beats_while_its_link_is_open(void **state)
{
    (void)state;
    static const uint8_t much[9u << 20];
    struct virtual_env env;
    struct config config;
    struct stream_options options = {.channel = "alice"};
    struct stream *stream;
    bool closed = false;
    memset(&config, 0, sizeof(config));
    virtual_env_init(&env);
    struct node node = {.config = &config, .self = &config.nodes[0], .env = &env.base};
    struct virtual_stream *s = virtual_stream_new(&env);
    assert_int_equal(
        stream_new(&node, &options, &s->base, NULL, 0, on_closed, &closed, &stream, NULL), 0);
    assert_int_equal(beats(s), 1); /* at once */
    virtual_env_run(&env, 10 * BEAT_US);
    assert_int_equal(beats(s), 11);
    virtual_stream_read(s, much, sizeof(much), 0);
    assert_null(s->read); /* a worker that lags is no dead node */
    virtual_env_run(&env, 10 * BEAT_US);
    assert_int_equal(beats(s), 21);
    stream_kill(stream);
    virtual_env_run(&env, 10 * BEAT_US);
    assert_int_equal(beats(s), 21);
    assert_false(closed);
    virtual_env_close(&env);
}

/* A stream and the frames that come for it, 1,000 bytes a beat. */
struct hanging {
    struct virtual_env env;
    struct config config;
    struct node node;
    struct stream *stream;
    struct virtual_stream *link;
    bool closed;
};

static void hanging_open(struct hanging *h)
{
    static const struct stream_options options = {.channel = "alice"};
    memset(h, 0, sizeof(*h));
    to_worker = overhead = 0;
    virtual_env_init(&h->env);
    h->node = (struct node){.config = &h->config, .self = &h->config.nodes[0], .env = &h->env.base};
    h->link = virtual_stream_new(&h->env);
    assert_int_equal(stream_new(&h->node, &options, &h->link->base, NULL, 0, on_closed, &h->closed,
                                &h->stream, NULL),
                     0);
}

/* In each beat the worker reads so many bytes, and frames come in. */
static void hanging_pass(struct hanging *h, unsigned n, size_t reads, size_t comes)
{
    static const uint8_t frame[1000];
    for (unsigned i = 0; i < n && !h->closed; i++) {
        to_worker -= reads < to_worker ? reads : to_worker;
        if (comes > 0) {
            virtual_stream_read(h->link, frame, comes, 0);
        }
        overhead += comes / 2;
        virtual_env_run(&h->env, BEAT_US);
    }
}

static void a_stream__whose_worker_reads_nothing_is_closed(void **state)
{
    (void)state;
    struct hanging h;
    hanging_open(&h);
    hanging_pass(&h, 100, SIZE_MAX, 1000);
    assert_false(h.closed);
    hanging_pass(&h, 10, 0, 1000);
    assert_false(h.closed);
    hanging_pass(&h, 20, 0, 1000);
    assert_true(h.closed); /* and so the link: ingest looks for another node */
    virtual_env_close(&h.env);
}

static void a_stream__whose_worker_is_slow_or_has_nothing_to_do_is_kept(void **state)
{
    (void)state;
    struct hanging h;
    hanging_open(&h);
    hanging_pass(&h, 100, 0, 0);
    assert_false(h.closed);
    hanging_pass(&h, 12, 0, 100);
    overhead = 0;
    hanging_pass(&h, 1, 500, 0); /* a little, now and then */
    hanging_pass(&h, 12, 0, 100);
    overhead = 0;
    hanging_pass(&h, 1, 2000, 0);
    hanging_pass(&h, 12, 0, 100);
    assert_false(h.closed);
    stream_kill(h.stream);
    virtual_env_close(&h.env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream__beats_while_its_link_is_open),
        cmocka_unit_test(a_stream__whose_worker_reads_nothing_is_closed),
        cmocka_unit_test(a_stream__whose_worker_is_slow_or_has_nothing_to_do_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
