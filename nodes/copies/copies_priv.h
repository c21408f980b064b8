/* Inside of nodes/copies: copies.c (start, stop, what is told), members.c (who counts), round.c (a
 * walk over all objects), job.c (one object). */
#ifndef NODES_COPIES_PRIV_H
#define NODES_COPIES_PRIV_H

#include "base/metrics.h"
#include "media/store_place.h"
#include "nodes/copies/copies.h"
#include "views/lifecycle.h"

#define COPIES_BYTES_MAX (32u << 20) /* in memory at a time, or one part */

struct copies;
struct round;

/* --- members.c --- */

struct member {
    struct copies *copies;
    uint32_t id; /* who has this place in the configuration's list; 0: nobody yet */
    uint64_t heard_ns;
    bool stores; /* it has said so last */
    struct http_call *call;
};

struct members {
    struct env_timer timer;
    struct member at[CONFIG_NODES_MAX]; /* as in the configuration */
    char headers[300];
    store_nodes able;  /* who counts */
    uint32_t hash;     /* of that */
    uint64_t since_ns; /* that it has been so */
    uint64_t seen_ns;  /* when this was looked at last */
};
int members_start(struct copies *c, struct error *err);
void members_stop(struct copies *c);
/* Looks at the list anew; true: who counts is not who counted, and a look is due. */
bool members_changed(struct copies *c);
/* The same, and the look is begun. */
void members_follow(struct copies *c);

/* --- job.c: one object, made whole --- */

struct piece {
    uint64_t position;
    uint32_t size, crc32c;
    bool has_crc;
    bool wanted;  /* to be here */
    bool missing; /* as far as is known */
    store_nodes named, holders;
};

struct job {
    struct round *round;
    struct list link; /* of those that wait for their turn, or of those that run */
    struct env_timer timer;
    struct store_look look;
    struct http_body *body;
    uint32_t bytes_held; /* in memory, or on their way there */
    unsigned at;         /* the piece being read, or fetched */
    bool waits;          /* for its timer, and for nothing else */
    bool grows;          /* an open segment */
    bool surplus;        /* nothing of it is to be here */
    bool filled, failed, damaged;
    unsigned n_pieces;
    struct piece *pieces;
    char object[STORE_OBJECT_NAME_MAX + 1];
};
/* Of an init segment or thumbnail, or of those parts of a segment that are in this object. NULL:
 * out of memory. */
struct job *job_of_object(struct round *r, const struct lifecycle_object *o);
struct job *job_of_segment(struct round *r, const struct lifecycle_segment *s, const char *object);
void job_free(struct job *j);
/* Ends with round_job_done, later. */
void job_start(struct job *j);
/* Ends one that waits, now. False: something is in flight, whose callback ends it when the node
 * stops. */
bool job_cancel(struct job *j);

/* --- round.c --- */

enum round_kind { ROUND_LOOK, ROUND_SCRUB };

struct round {
    struct copies *copies;
    enum round_kind kind;
    struct env_timer timer;
    struct lifecycle_place place;
    struct list queue; /* jobs of this page that wait */
    struct list jobs;  /* that run */
    unsigned n_running, n_running_max;
    bool running, more, no_space;
    uint64_t begun_ns, page_ns, read_free_ns;
    /* Of the running round. */
    uint32_t members_hash;
    int64_t offset;
    uint64_t n_objects, n_missing, n_made, n_bad;
    uint64_t page_made; /* n_made when this page began */
};
int round_open(struct copies *c, struct round *r, enum round_kind kind, struct error *err);
/* Soon: at once when it rests. */
void round_hurry(struct round *r);
/* What waits is let go of; n_running is what is in flight still. */
void round_close(struct round *r);
void round_job_done(struct job *j);

/* --- copies.c --- */

struct copies {
    struct node *node;
    const struct config *config;
    uint32_t self; /* place of this node in the configuration's list */
    struct members members;
    struct round look, scrub;
    uint64_t bytes_held;
    uint64_t repair_free_ns; /* the bandwidth is used up until then */
    bool stopping;
    void (*stop_cb)(void *data);
    void *stop_data;
    struct env_defer stop_defer;
    /* What the last whole look found. */
    bool looked;
    uint32_t looked_hash;
    int64_t looked_offset;
    uint64_t n_missing;
    struct metric *whole, *missing, *made, *made_bytes, *bad, *scrubbed_bytes, *removed, *looks,
        *scrubs;
};
/* Sum of the offsets at which the view of `lifecycle` stands. */
int64_t copies_offset(const struct copies *c);
/* `bytes` more at `mib_s` (0: no bound): how long to wait before them. */
uint64_t copies_pace_us(struct copies *c, uint64_t *free_ns, uint32_t mib_s, uint64_t bytes);
/* The rounds' last step when the node stops. */
void copies_stop_when_done(struct copies *c);

#endif
