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
long __wrap_process_pid(const struct process *p);
void __wrap_process_free(struct process *p);

static size_t to_worker; /* waiting for it */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream__beats_while_its_link_is_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
