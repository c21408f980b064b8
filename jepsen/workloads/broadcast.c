/* Two channels that are live all the time, and players that watch them. A publisher whose line
 * breaks dials the next node after two seconds, as OBS does; a player whose edge fails asks the
 * next one (player.h, which also says what a stall is). Readers of every edge and the end are those
 * of lifecycle. */
#include <stdlib.h>

#include "jepsen/workloads/player.h"

#define RECONNECT_MS 2000

struct broadcast {
    struct stage stage;
    struct player *players;
    unsigned n_players;
};

/* Nothing new is begun at the end, and what players wait for may never come. */
static void on_sweep(void *data)
{
    struct broadcast *b = data;
    for (unsigned i = 0; i < b->n_players; i++) {
        if (run_ending(b->stage.run)) {
            player_stop(&b->players[i]);
        } else {
            player_sweep(&b->players[i]);
        }
    }
}

static int open_players(struct broadcast *b, struct run *run, struct error *err)
{
    const struct stage *s = &b->stage;
    unsigned first = s->n_readers + s->n_publishers;
    b->n_players = run_n_processes(run) - first;
    b->players = calloc(b->n_players + 1, sizeof(*b->players));
    if (b->players == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory");
    }
    for (unsigned i = 0; i < b->n_players; i++) {
        b->players[i] = (struct player){.stage = &b->stage,
                                        .p = run_process(run, first + i),
                                        .channel = &b->stage.channels[i % s->n_channels],
                                        .large = i / s->n_channels % 2 == 0,
                                        .rendition = i / s->n_channels / 2 % STAGE_RENDITIONS,
                                        .edge = i};
    }
    return 0;
}

static int start(struct run *run, void **ret_state, struct error *err)
{
    const struct stage_options options = {.n_channels = STAGE_CHANNELS,
                                          .n_publishers = STAGE_CHANNELS,
                                          .hold = true,
                                          .reconnect_ms = RECONNECT_MS};
    struct broadcast *b = calloc(1, sizeof(*b));
    int rv = b == NULL ? error_set(err, WEIR_ENOMEM, "no memory")
                       : stage_open(run, &options, &b->stage, err);
    rv = rv == 0 ? open_players(b, run, err) : rv;
    if (rv == 0) {
        b->stage.swept = on_sweep;
        b->stage.data = b;
        *ret_state = b;
    }
    return rv;
}

static void next(void *state, struct process *p)
{
    struct broadcast *b = state;
    unsigned first = b->stage.n_readers + b->stage.n_publishers;
    if (p->slot < first) {
        stage_next(&b->stage, p);
    } else {
        player_next(&b->players[p->slot - first]);
    }
}

static void final(void *state)
{
    struct broadcast *b = state;
    stage_final(&b->stage);
}

static void stop(void *state)
{
    struct broadcast *b = state;
    struct run *run = b->stage.run;
    stage_close(&b->stage);
    free(b->players);
    free(b);
    run_stopped(run);
}

const struct workload workload_broadcast = {
    .name = "broadcast",
    .about = "channels that are live all the time, and players that change edges; stalls",
    .checker = "lifecycle",
    .config = STAGE_CONFIG,
    .views = true,
    .media = true,
    .processes = 11,
    .pause_us = 100000,
    .start = start,
    .next = next,
    .final = final,
    .stop = stop,
};
