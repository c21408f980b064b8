#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_priv.h"

/* --- The list --- */

struct hole *hole_at(const struct holes *holes, uint64_t index)
{
    for (uint32_t i = 0; i < holes->n; i++) {
        if (index >= holes->all[i].first && index <= holes->all[i].last) {
            return &holes->all[i];
        }
    }
    return NULL;
}

const struct hole *hole_before(const struct holes *holes, uint64_t segment, uint64_t index)
{
    const struct hole *found = NULL;
    for (uint32_t i = 0; i < holes->n && holes->all[i].last < index; i++) {
        found = holes->all[i].segment == segment ? &holes->all[i] : found;
    }
    return found;
}

bool hole_in_segment(const struct holes *holes, uint64_t segment)
{
    return hole_before(holes, segment, UINT64_MAX) != NULL;
}

void hole_remove(struct holes *holes, struct hole *hole)
{
    size_t i = (size_t)(hole - holes->all);
    holes->n--;
    memmove(hole, hole + 1, (holes->n - i) * sizeof(*hole));
}

void holes_cut(struct holes *holes, uint64_t from)
{
    while (holes->n > 0 && holes->all[holes->n - 1].first >= from) {
        holes->n--;
    }
}

void holes_drop(struct holes *holes, uint64_t first)
{
    while (holes->n > 0 && holes->all[0].segment < first) {
        hole_remove(holes, &holes->all[0]);
    }
}

void holes_close(struct holes *holes)
{
    free(holes->all);
    *holes = (struct holes){0};
}

int hole_error(struct partition *p, const struct hole *hole, struct error *err)
{
    return error_set(err, WEIR_ECORRUPT, "%s: %s", partition_segment_path(p, hole->segment),
                     hole->what);
}

static void widen(struct hole *to, const struct hole *with)
{
    if (with->first < to->first) {
        to->first = to->next = with->first;
        to->first_offset = with->first_offset;
        to->at = with->at;
    }
    if (with->last > to->last) {
        to->last = with->last;
        to->end_offset = with->end_offset;
        to->end = with->end;
    }
    to->terms_known = to->terms_known && with->terms_known;
}

int hole_add(struct partition *p, const struct hole *hole)
{
    struct holes *holes = &p->holes;
    uint32_t i = 0;
    while (i < holes->n && holes->all[i].last < hole->first) {
        i++;
    }
    bool overlaps = i < holes->n && holes->all[i].first <= hole->last;
    if (overlaps && holes->all[i].first <= hole->first && holes->all[i].last >= hole->last) {
        return 0;
    }
    if (!overlaps && holes->n >= HOLES_MAX && i > 0 && holes->all[i - 1].segment == hole->segment) {
        overlaps = true;
        i--;
    }
    if (overlaps) {
        widen(&holes->all[i], hole);
        while (i + 1 < holes->n && holes->all[i + 1].first <= holes->all[i].last) {
            widen(&holes->all[i], &holes->all[i + 1]);
            hole_remove(holes, &holes->all[i + 1]);
        }
    } else {
        if (holes->n == holes->cap) {
            uint32_t cap = holes->cap == 0 ? 4 : holes->cap * 2;
            struct hole *all = realloc(holes->all, cap * sizeof(*all));
            if (all == NULL) {
                return WEIR_ENOMEM;
            }
            holes->all = all;
            holes->cap = cap;
        }
        memmove(&holes->all[i + 1], &holes->all[i], (holes->n - i) * sizeof(*holes->all));
        holes->all[i] = *hole;
        holes->n++;
    }
    log_error("log_damaged",
              "dir=" LOG_Q " segment=%" PRIu64 " first=%" PRIu64 " last=%" PRIu64 " what=" LOG_Q,
              p->dir, hole->segment, hole->first, hole->last, hole->what);
    return 0;
}

/* --- Looking for them --- */

static bool is_damage(int rc)
{
    return rc == WEIR_ECORRUPT || rc == WEIR_EPROTO || rc == WEIR_EIO;
}

static void set_what(struct hole *hole, const char *what)
{
    (void)snprintf(hole->what, sizeof(hole->what), "%.95s", what);
}

/* Only the payload is bad: what the header says is still worth something. */
static bool note_header(struct segment *seg, uint64_t index)
{
    uint8_t head[FRAME_HEADER_SIZE];
    struct frame f;
    size_t n = 0;
    if (env_file_pread(seg->file, head, sizeof(head), seg->s.end, &n, NULL) != 0 ||
        n < sizeof(head) || !frame_header_ok(head, frame_seed(seg->salt), &f) ||
        f.index.v != index || index_reserve(&seg->index, 1) != 0) {
        return false;
    }
    index_add(&seg->index, &f, seg->s.end, seg->s.last_time_ms);
    if (f.type == LOG_ENTRY_CONFIG) {
        seg->s.config_index = f.index;
    }
    return true;
}

/* Between two entries of one term there is no other. */
static bool same_term_around(const struct segment *seg, uint64_t term)
{
    const struct index *x = &seg->index;
    return x->n_runs > 0 && x->runs[x->n_runs - 1].term == term;
}

/* Goes over what is between the end of the description and `to`. */
static int skip_over(struct partition *p, struct segment *seg, const struct segment_close *to,
                     uint64_t to_term, const char *what, struct error *err)
{
    struct hole hole = {
        .first = seg->s.last_index.v + 1,
        .last = to->last_index.v,
        .next = seg->s.last_index.v + 1,
        .first_offset = seg->s.next_offset.v,
        .end_offset = to->next_offset.v,
        .at = seg->s.end,
        .end = to->end,
        .segment = seg->first_index.v,
        .terms_known = same_term_around(seg, to_term),
    };
    if (hole.end_offset < hole.first_offset) {
        return error_set(err, WEIR_ECORRUPT, "%s: at byte %" PRIu64 ": offsets go back",
                         partition_segment_path(p, seg->first_index.v), seg->s.end);
    }
    set_what(&hole, what);
    if (hole.first == hole.last && seg->file != NULL && note_header(seg, hole.first)) {
        hole.terms_known = true;
    }
    if (hole_add(p, &hole) != 0) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    seg->s.last_index = to->last_index;
    seg->s.next_offset = to->next_offset;
    seg->s.end = to->end > seg->s.end ? to->end : seg->s.end;
    return 0;
}

/* The first good frame behind the bad one at seg->s.end, as the place to go on. */
static int behind(struct segment *seg, const struct segment_close *bound,
                  struct segment_found *ret_found, struct error *err)
{
    uint64_t bad = seg->s.last_index.v + 1;
    return segment_search(seg->file, seg->salt, seg->s.end + FRAME_ALIGN,
                          bound != NULL && bound->end != 0 ? bound->end : UINT64_MAX, bad + 1,
                          bound != NULL ? bound->last_index.v : UINT64_MAX, bound != NULL,
                          ret_found, err);
}

int segment_examine(struct partition *p, struct segment *seg, const struct segment_close *bound,
                    uint64_t *known, bool *ret_lost, struct error *err)
{
    for (;;) {
        struct error why = {0};
        struct segment_found found;
        int rc = segment_scan(seg, bound != NULL ? bound->last_index.v : UINT64_MAX, known, &why);
        if (rc == 0) {
            return bound == NULL || seg->s.next_offset.v == bound->next_offset.v
                       ? 0
                       : error_set(err, WEIR_ECORRUPT,
                                   "%s: ends at offset %" PRId64
                                   ", the segment behind it begins at %" PRId64,
                                   partition_segment_path(p, seg->first_index.v),
                                   seg->s.next_offset.v, bound->next_offset.v);
        }
        rc = is_damage(rc) ? behind(seg, bound, &found, &why) : rc;
        if (rc != 0) {
            return error_set(err, rc, "%s", why.text);
        }
        struct segment_close to = {
            .last_index = LOG_INDEX(found.frame.index.v - 1),
            .next_offset = found.frame.base_offset,
            .end = found.at,
        };
        if (bound == NULL) {
            *known = found.synced > *known ? found.synced : *known;
            if (*known <= seg->s.last_index.v) {
                return 0; /* torn: never durable */
            }
            if (found.at == 0 || to.last_index.v > *known) {
                *ret_lost = true;
                return 0;
            }
        } else if (found.at == 0) {
            to = *bound;
        }
        rc = skip_over(p, seg, &to, found.at != 0 ? found.frame.term.v : 0, why.text, err);
        if (rc != 0) {
            return rc;
        }
    }
}

int segment_lost(struct partition *p, struct segment *seg, const struct segment_close *end,
                 const char *what, struct error *err)
{
    struct segment_close to = {.last_index = end->last_index, .next_offset = end->next_offset};
    env_file_close(seg->file);
    seg->file = NULL;
    seg->lost = seg->closed = seg->allocated = seg->loaded = true;
    seg->pins++; /* there is nothing to let go of */
    return skip_over(p, seg, &to, 0, what, err);
}

/* Where the entries that are on disk for sure end, if that can be told now. */
static bool durable_end(struct partition *p, const struct segment *seg, struct segment_close *ret)
{
    *ret = seg->s;
    if (seg->s.last_index.v <= p->durable) {
        return true;
    }
    if (p->writing || p->durable < seg->first_index.v || p->durable + 1 < p->tail.first) {
        return false;
    }
    size_t run;
    ret->last_index = LOG_INDEX(p->durable);
    ret->next_offset = frame_peek(tail_frame(&p->tail, p->durable + 1, &run)).base_offset;
    ret->end = p->write_at;
    return true;
}

void hole_discover(struct partition *p, uint64_t index, const struct error *why)
{
    uint32_t i = partition_segment_at(p, index);
    struct segment *seg = p->segments[i];
    struct segment_close before, to;
    struct segment_found found = {0};
    if (index > p->durable || seg->lost || hole_at(&p->holes, index) != NULL || !seg->loaded ||
        !durable_end(p, seg, &to) || segment_state_before(p, i, index, &before, NULL) != 0 ||
        hole_at(&p->holes, index) != NULL) {
        return;
    }
    for (uint32_t k = 0; k < seg->index.n_positions; k++) {
        const struct index_position *pos = &seg->index.positions[k];
        if (pos->index > index && pos->index <= to.last_index.v) {
            to.last_index.v = pos->index - 1;
            to.next_offset.v = pos->offset;
            to.end = pos->at;
            break;
        }
    }
    if (segment_search(seg->file, seg->salt, before.end + FRAME_ALIGN, to.end, index + 1,
                       to.last_index.v, true, &found, NULL) != 0) {
        return;
    }
    if (found.at != 0) {
        to.last_index.v = found.frame.index.v - 1;
        to.next_offset = found.frame.base_offset;
        to.end = found.at;
    }
    struct hole hole = {
        .first = index,
        .last = to.last_index.v,
        .next = index,
        .first_offset = before.next_offset.v,
        .end_offset = to.next_offset.v,
        .at = before.end,
        .end = to.end,
        .segment = seg->first_index.v,
        .terms_known = true, /* the index was made of good frames */
    };
    if (hole.end_offset >= hole.first_offset && hole.end > hole.at) {
        set_what(&hole, why->text);
        (void)hole_add(p, &hole); /* no memory: found again */
    }
}

/* --- Telling --- */

bool partition_damaged(const struct partition *p)
{
    return p->holes.n > 0;
}

bool partition_in_hole(const struct partition *p, struct log_index index)
{
    return hole_at(&p->holes, index.v) != NULL;
}

int partition_place(struct partition *p, struct log_index index, char *ret_path, size_t size,
                    uint64_t *ret_at)
{
    struct index_position start;
    if (index.v < partition_first_index(p).v || index.v > p->durable) {
        return WEIR_ENOTFOUND;
    }
    struct segment *seg = p->segments[partition_segment_at(p, index.v)];
    int rc = segment_use(p, seg, NULL);
    if (rc != 0 || seg->lost || !segment_start_for(p, seg, index.v, &start)) {
        return rc != 0 ? rc : WEIR_ECORRUPT;
    }
    (void)snprintf(ret_path, size, "%s", partition_segment_path(p, seg->first_index.v));
    *ret_at = start.at;
    return 0;
}

/* An entry at or behind the hole's last one whose term is known. */
static void find_anchor(struct partition *p, const struct hole *hole, struct partition_hole *ret)
{
    uint64_t index = hole->terms_known ? hole->last : hole->last + 1;
    uint64_t last = last_index_of(p);
    ret->anchor = LOG_INDEX(0);
    ret->anchor_term = LOG_TERM(0);
    while (index <= last) {
        const struct hole *other = hole_at(&p->holes, index);
        if (partition_term_at(p, LOG_INDEX(index), &ret->anchor_term) == 0) {
            ret->anchor = LOG_INDEX(index);
            return;
        }
        if (other == NULL && (other = hole_at(&p->holes, index)) == NULL) {
            return;
        }
        index = other->last + 1;
    }
}

unsigned partition_damage(struct partition *p, struct partition_hole *ret_holes, unsigned max)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < p->holes.n; i++) {
        struct hole hole = p->holes.all[i]; /* looking for its anchor may find others */
        if (hole.next > hole.last) {
            continue; /* all of it is in the new file */
        }
        if (n < max) {
            struct partition_hole *h = &ret_holes[n];
            *h = (struct partition_hole){.first = LOG_INDEX(hole.next),
                                         .last = LOG_INDEX(hole.last)};
            find_anchor(p, &hole, h);
            (void)snprintf(h->text, sizeof(h->text), "%020" PRIu64 ".log: %s", hole.segment,
                           hole.what);
        }
        n++;
    }
    return n;
}
