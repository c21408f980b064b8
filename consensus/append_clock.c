#include "consensus/append_clock.h"

int64_t append_clock_stamp(struct append_clock *c, int64_t wall_ms, uint64_t now_ns,
                           int64_t newest_ms)
{
    if (wall_ms >= newest_ms) {
        c->behind = false;
        c->last_ms = wall_ms;
        return wall_ms;
    }
    /* Not ours, the newest: somebody else has led since, or ours was taken back. */
    if (!c->behind || c->last_ms != newest_ms) {
        c->behind = true;
        c->anchor_ms = newest_ms;
        c->anchor_ns = now_ns;
    }
    c->last_ms = c->anchor_ms + (int64_t)((now_ns - c->anchor_ns) / 2000000);
    return c->last_ms;
}
