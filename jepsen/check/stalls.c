/* Players: what they were given, and how long their pictures stood still.
 *
 *   :play {:player 7, :channel 1} -> and :edge "n1", :rendition "source", :broadcast "63f5..",
 * :msn, :part, :crc, :session, :size, :buffer :large, :stall-ms: for so long the player had nothing
 * to show before it got this part; :jump true: what comes next had been taken from the playlists
 * already
 *
 *   nonmonotonic-play   a player was given an older part than before
 *   play-gap            a player was given a part that does not follow its last one
 *   old-epoch           a player was shown a session again after its successor
 *   jumped              (told) a player had to go on later: it was away for longer than a window
 *
 * A stall belongs to the fault that began last before its end. They are told of players with small
 * and with large buffers apart. */
#include <stdlib.h>

#include "jepsen/check/lifecycle_priv.h"
#include "jepsen/check/windows.h"

#define PLAYERS_MAX 64

struct stalls {
    uint64_t parts, n, switches;
    int64_t longest_ms, total_ms;
};

struct player {
    int64_t number, session, edge;
    bool small;
    struct stalls s;
};

static struct player *player_of(struct player players[PLAYERS_MAX], const struct op *op)
{
    int64_t number = edn_int(edn_get(op->value, "player"), op->process);
    unsigned i = 0;
    while (i < PLAYERS_MAX - 1 && players[i].number >= 0 && players[i].number != number) {
        i++;
    }
    players[i].number = number;
    return &players[i];
}

static void judge_order(struct lifecycle *l, const struct op *op, struct player *p, int64_t part)
{
    int64_t *last = table_put(&l->played, p->number, lifecycle_stream(op), -1);
    if (*last < 0) {
        *last = part;
        return;
    }
    int64_t end = table_get(&l->last_of, lifecycle_stream(op), MSN_OF(*last), PART_OF(*last));
    bool next = part == *last + 1 ||
                (PART_OF(part) == 0 && MSN_OF(part) == MSN_OF(*last) + 1 && end == PART_OF(*last));
    bool jump = edn_get(op->value, "jump") != NULL;
    if (part <= *last) {
        report_anomaly(l->r, "nonmonotonic-play", "{:player %lld :numbers [%lld %lld] :index %lld}",
                       (long long)p->number, (long long)*last, (long long)part,
                       (long long)op->index);
    } else if (!next && !jump) {
        report_anomaly(l->r, "play-gap",
                       "{:player %lld :after [%lld %lld] :part [%lld %lld] :index %lld}",
                       (long long)p->number, MSN_OF(*last), PART_OF(*last), MSN_OF(part),
                       PART_OF(part), (long long)op->index);
    } else if (jump) {
        report_harmless(l->r, "jumped", "{:player %lld :index %lld}", (long long)p->number,
                        (long long)op->index);
    }
    *last = part;
}

/* Sessions of a player are kept under numbers that no operation has. */
static void judge_session(struct lifecycle *l, const struct op *op, struct player *p)
{
    struct op as = *op;
    as.index = -1 - p->number;
    lifecycle_session(l, &as, edn_get(op->value, "session"), &p->session);
}

static void count(struct stalls *s, int64_t stall_ms)
{
    s->parts++;
    s->n += stall_ms > 0;
    s->total_ms += stall_ms;
    s->longest_ms = stall_ms > s->longest_ms ? stall_ms : s->longest_ms;
}

/* The one that began last; -1: none yet. */
static ptrdiff_t fault_at(const struct windows *w, int64_t ns)
{
    ptrdiff_t best = -1;
    for (size_t i = 0; i < w->n; i++) {
        best = w->at[i].start_ns <= ns ? (ptrdiff_t)i : best;
    }
    return best;
}

static void judge_play(struct lifecycle *l, const struct op *op, struct player *p)
{
    int64_t part = lifecycle_number(lifecycle_field(op, "msn"), lifecycle_field(op, "part"));
    int64_t edge = lifecycle_name(edn_get(op->value, "edge"), 0);
    l->plays++;
    p->s.switches += p->edge != 0 && p->edge != edge;
    p->edge = edge;
    judge_order(l, op, p, part);
    judge_session(l, op, p);
    lifecycle_content(l, op, part, edn_get(op->value, "crc"), edn_get(op->value, "size"));
}

/* `of`: by fault, two each. */
static void print_faults(struct lifecycle *l, const struct windows *w, const struct stalls *of,
                         const char *buffer)
{
    for (size_t i = 0; i < w->n; i++) {
        struct stalls sum = {0};
        bool told = false;
        for (size_t k = 0; k < w->n; k++) {
            if (window_same(&w->at[k], &w->at[i])) {
                told |= k < i;
                const struct stalls *one = &of[2 * k];
                sum.n += one->n;
                sum.total_ms += one->total_ms;
                sum.longest_ms =
                    one->longest_ms > sum.longest_ms ? one->longest_ms : sum.longest_ms;
            }
        }
        if (!told) {
            report_figure(l->r,
                          ":stalls-%s-buffer/%.*s {:stalls %llu, :longest-ms %lld, :total-ms %lld}",
                          buffer, w->at[i].len, w->at[i].name, (unsigned long long)sum.n,
                          (long long)sum.longest_ms, (long long)sum.total_ms);
        }
    }
}

static void print_players(struct lifecycle *l, const struct player *players)
{
    for (unsigned i = 0; i < PLAYERS_MAX && players[i].number >= 0; i++) {
        const struct stalls *s = &players[i].s;
        report_figure(l->r,
                      ":player/%lld {:buffer :%s, :parts %llu, :stalls %llu, :longest-ms %lld, "
                      ":total-ms %lld, "
                      ":changed-edge %llu}",
                      (long long)players[i].number, players[i].small ? "small" : "large",
                      (unsigned long long)s->parts, (unsigned long long)s->n,
                      (long long)s->longest_ms, (long long)s->total_ms,
                      (unsigned long long)s->switches);
    }
}

void stalls_check(struct lifecycle *l)
{
    struct player players[PLAYERS_MAX];
    struct windows windows;
    windows_find(&windows, l->ops);
    struct stalls *of = calloc(2 * (windows.n + 1), sizeof(*of));
    for (unsigned i = 0; i < PLAYERS_MAX; i++) {
        players[i] = (struct player){.number = -1, .session = -1};
    }
    for (size_t i = 0; of != NULL && i < l->ops->n; i++) {
        const struct op *op = &l->ops->at[i];
        if (op_is(op, HISTORY_OK, "play")) {
            struct player *p = player_of(players, op);
            int64_t stall_ms = edn_int(edn_get(op->value, "stall-ms"), 0);
            judge_play(l, op, p);
            count(&p->s, stall_ms);
            p->small = edn_is(edn_get(op->value, "buffer"), "small");
            count(&of[2 * (fault_at(&windows, op->time_ns) + 1) + p->small], stall_ms);
        }
    }
    print_players(l, players);
    if (of != NULL && l->plays > 0) {
        print_faults(l, &windows, of + 2, "large");
        print_faults(l, &windows, of + 3, "small");
    }
    free(of);
    windows_free(&windows);
}
