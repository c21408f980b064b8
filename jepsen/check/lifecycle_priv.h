/* What the files of the checker `lifecycle` share: lifecycle.c (what goes on), archive.c (what is
 * left at the end), stalls.c (what players put up with). */
#ifndef JEPSEN_CHECK_LIFECYCLE_PRIV_H
#define JEPSEN_CHECK_LIFECYCLE_PRIV_H

#include "jepsen/check/check.h"
#include "jepsen/check/table.h"

#define PART_BITS       12 /* number of a part: msn << PART_BITS | part */
#define PART_OF(number) ((long long)((number) & ((1 << PART_BITS) - 1)))
#define MSN_OF(number)  ((long long)((number) >> PART_BITS))

struct lifecycle {
    const struct ops *ops;
    struct report *r;
    struct table crc, size; /* stream, part -> of its bytes */
    struct table last_of;   /* stream, msn -> the last part of a whole segment */
    struct table top;       /* stream, 0 -> newest part that anybody was shown */
    struct table newest;    /* process, stream -> part */
    struct table first;     /* process, stream -> media sequence */
    struct table hash;      /* where, offset -> hash */
    struct table broadcast; /* channel -> broadcast */
    struct table shown;     /* channel, broadcast -> index of a playlist with parts of it */
    struct table listed;    /* channel, broadcast -> 1; channel, 0 -> was asked for */
    struct table sessions;  /* index, session -> 1: it has parts in this list */
    struct table played;    /* process, broadcast -> part */
    uint64_t playlists, parts, views, plays, vods, segments;
};

/* Of what stands there: anything. */
static inline int64_t lifecycle_number(int64_t msn, int64_t part)
{
    return (int64_t)((uint64_t)msn << PART_BITS | (uint64_t)part);
}

/* FNV-1a of what stands there: names become numbers. */
int64_t lifecycle_name(const struct edn *e, int64_t h);
int64_t lifecycle_field(const struct op *op, const char *name);
int64_t lifecycle_stream(const struct op *op); /* channel, rendition, broadcast */
/* All that tell of a part tell the same. `number`: see PART_BITS. */
void lifecycle_content(struct lifecycle *l, const struct op *op, int64_t number,
                       const struct edn *crc, const struct edn *size);
/* Of the next thing in a list: whose it is. Once another session follows, one does not come back.
 * *last: -1 at first. */
void lifecycle_session(struct lifecycle *l, const struct op *op, const struct edn *session,
                       int64_t *last);
/* All that tell of `where` at `offset` tell the same; `hash` may be absent. */
void lifecycle_hash(struct lifecycle *l, const struct op *op, int64_t where, int64_t offset,
                    const struct edn *hash, const char *anomaly);

/* archive.c */
void archive_check(struct lifecycle *l);
/* stalls.c */
void stalls_check(struct lifecycle *l);

#endif
