/* Publishers that claim the same channels, against each other, from any node; they go with a
 * farewell or without one, are cut off by each other and come back. Transcoders and nodes that were
 * paused wake up as zombies. A reader of every edge writes down its playlists and parts, and at the
 * end every edge is read whole. Operations: publisher.h, reader.h, archive.h. */
#include <stdlib.h>

#include "jepsen/workloads/stage.h"

#define PUBLISHERS   4
#define RECONNECT_MS 2000

static int start(struct run *run, void **ret_state, struct error *err)
{
    const struct stage_options options = {
        .n_channels = STAGE_CHANNELS, .n_publishers = PUBLISHERS, .reconnect_ms = RECONNECT_MS};
    struct stage *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory");
    }
    int rv = stage_open(run, &options, s, err);
    if (rv == 0) {
        *ret_state = s;
    }
    return rv;
}

static void next(void *state, struct process *p)
{
    stage_next(state, p);
}

static void final(void *state)
{
    stage_final(state);
}

static void stop(void *state)
{
    struct stage *s = state;
    struct run *run = s->run;
    stage_close(s);
    free(s);
    run_stopped(run);
}

const struct workload workload_lifecycle = {
    .name = "lifecycle",
    .about = "publishers that take channels from each other; every edge's playlists and parts",
    .checker = "lifecycle",
    .config = STAGE_CONFIG,
    .views = true,
    .media = true,
    .processes = 9,
    .pause_us = 100000,
    .start = start,
    .next = next,
    .final = final,
    .stop = stop,
};
