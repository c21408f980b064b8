#include "nodes/ingest/position.h"

#include <string.h>

/* The rendition as this session's workers have brought it; NULL when they have not. */
static const struct lifecycle_rendition *current(const struct lifecycle_channel *c, uint32_t id)
{
    const struct lifecycle_rendition *r = lifecycle_rendition_by_id(c, id);
    return r != NULL && r->session_epoch == c->session_epoch ? r : NULL;
}

/* Where the rendition goes on: the start of its open segment, or its end. */
static int64_t resume_us(const struct lifecycle_rendition *r)
{
    const struct lifecycle_segment *open = lifecycle_open_segment(r);
    return open != NULL ? open->start_us : r->end_us;
}

int64_t position_needed_us(const struct lifecycle_channel *channel, bool rung)
{
    const struct lifecycle_rendition *source = current(channel, 0);
    const struct lifecycle_rendition *lower = rung ? current(channel, 1) : NULL;
    if (source == NULL) {
        return BACKLOG_NONE;
    }
    int64_t us = resume_us(source);
    return lower != NULL && resume_us(lower) < us ? resume_us(lower) : us;
}

/* The number of the segment that begins at `us`; false when the rendition has none that does. */
static bool number_at(const struct lifecycle_rendition *r, int64_t us, uint64_t *ret_msn)
{
    for (unsigned i = 0; i < r->n_segments; i++) {
        if (r->segments[i]->start_us == us) {
            *ret_msn = r->segments[i]->msn;
            return true;
        }
    }
    *ret_msn = r->next_msn;
    return r->next_part == 0 && r->end_us == us;
}

/* A segment after all that there is. */
static uint64_t number_after(const struct lifecycle_rendition *r)
{
    return r->next_msn + (r->next_part > 0 ? 1 : 0);
}

/* Goes on at `us` with everything that the log has: true when the numbers are known. */
static bool resume(const struct lifecycle_channel *c, const struct backlog *backlog, bool rung,
                   struct position *p)
{
    int64_t us = position_needed_us(c, rung);
    const struct lifecycle_rendition *source = current(c, 0);
    if (us == BACKLOG_NONE || backlog_find(backlog, us) == NULL ||
        !number_at(source, us, &p->first_msn[0])) {
        return false;
    }
    p->from_us = us;
    p->next[0] = (struct wire_position){source->next_msn, source->next_part};
    const struct lifecycle_rendition *lower = current(c, 1);
    const struct lifecycle_rendition *before = lifecycle_rendition_by_id(c, 1);
    p->rung = rung;
    if (rung && lower != NULL) {
        p->next[1] = (struct wire_position){lower->next_msn, lower->next_part};
        return number_at(lower, us, &p->first_msn[1]);
    }
    p->first_msn[1] = before != NULL ? number_after(before) : p->first_msn[0];
    p->next[1] = (struct wire_position){p->first_msn[1], 0};
    return true;
}

/* Begins new segments at a key frame. */
static void begin(const struct lifecycle_channel *c, const struct backlog *backlog, bool rung,
                  struct position *p)
{
    int64_t needed = position_needed_us(c, false);
    const struct lifecycle_rendition *source = lifecycle_rendition_by_id(c, 0);
    const struct lifecycle_rendition *lower = lifecycle_rendition_by_id(c, 1);
    const struct backlog_frame *from = backlog_find_after(backlog, needed);
    p->from_us = from != NULL ? from->key_us : BACKLOG_NONE;
    p->rung = rung;
    p->discontinuity = current(c, 0) != NULL;
    p->first_msn[0] = source != NULL ? number_after(source) : 0;
    p->first_msn[1] = lower != NULL ? number_after(lower) : p->first_msn[0];
    for (unsigned i = 0; i < WIRE_RENDITIONS; i++) {
        p->next[i] = (struct wire_position){p->first_msn[i], 0};
    }
}

void position_find(const struct lifecycle_channel *channel, const struct backlog *backlog,
                   bool rung, struct position *ret_position)
{
    struct position p = {0};
    if (!resume(channel, backlog, rung, &p)) {
        p = (struct position){0};
        /* A rung whose input is gone is given up rather than the source's continuity. */
        if (!rung || !resume(channel, backlog, false, &p)) {
            p = (struct position){0};
            begin(channel, backlog, rung, &p);
        }
    }
    const struct lifecycle_rendition *source = lifecycle_rendition_by_id(channel, 0);
    p.target_duration_ms = source != NULL ? source->target_duration_ms : 0;
    *ret_position = p;
}
