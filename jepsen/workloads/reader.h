/* A reader of one edge: its live playlists, one channel and rendition after the other, now and then
 * with a blocking reload, and every part that they list.
 *
 *   :playlist {:edge "n1", :channel 0, :rendition "source"}
 *     -> :broadcast, :first 4 (media sequence), :parts [[msn part crc session size] ..], :hash of
 * the text and :offset, the number of the part that it announces: where it stands; :ended true;
 * :malformed "why" */
#ifndef JEPSEN_WORKLOADS_READER_H
#define JEPSEN_WORKLOADS_READER_H

#include "jepsen/workloads/stage.h"

#define READER_KNOWN (2 * HLS_PARTS_MAX)
#define READER_TEXT  (64u << 10)
#define PART_BITS    12 /* number of a part: msn << PART_BITS | part */

struct reader_part {
    uint64_t number;
    uint32_t crc, size;
    unsigned session; /* 0: no mark */
};

/* What it knows of a rendition. */
struct reader_view {
    char broadcast[17];
    bool known; /* and goes on */
    struct hls_part next;
    struct reader_part parts[READER_KNOWN]; /* a ring, newest at n - 1 */
    unsigned n;
};

struct reader {
    struct stage *stage;
    struct process *p;
    unsigned edge, at;
    struct reader_view views[STAGE_CHANNELS][STAGE_RENDITIONS];
    unsigned channel, rendition; /* of the open operation */
    struct hls_playlist playlist;
    uint32_t hash;
    unsigned fetched; /* of the playlist's parts */
    char text[READER_TEXT];
};

void reader_next(struct reader *r);

#endif
