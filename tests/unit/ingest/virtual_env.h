/* An env of timers and streams alone, whose clock the test steps. Far ends of streams are the test:
 * it hands in what is read, and looks at what was sent. */
#ifndef TESTS_INGEST_VIRTUAL_ENV_H
#define TESTS_INGEST_VIRTUAL_ENV_H

#include "base/bytes.h"
#include "base/env_ops.h"

struct virtual_env {
    struct env base;
    uint64_t now_us;
    struct list timers, streams;
};

struct virtual_stream {
    struct env_stream base;
    env_read_cb read; /* NULL: not reading */
    bool closed;
    struct bytes sent;
    struct list sends, link;
    env_close_cb close_cb;
    void *close_data;
};

void virtual_env_init(struct virtual_env *e);
/* Completes what is under way and releases the streams. */
void virtual_env_close(struct virtual_env *e);
/* Time passes, and every timer runs when it is due. */
void virtual_env_run(struct virtual_env *e, uint64_t us);
/* Time passes during which the loop is held up; then the timers that are due run, once each. */
void virtual_env_stall(struct virtual_env *e, uint64_t us);
struct virtual_stream *virtual_stream_new(struct virtual_env *e);
void virtual_stream_read(struct virtual_stream *s, const void *data, size_t n, int status);

#endif
