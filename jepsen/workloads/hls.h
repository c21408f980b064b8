/* What a viewer reads: media playlists, and whose picture is in a part.
 *
 * Encoders of these workloads write a mark into every key frame (encoder.h): the number of their
 * session, as an SEI message of H.264 that no transcoder of a source touches. So the bytes of a
 * part say which session they are of, whatever the servers say about it. Pure. */
#ifndef JEPSEN_WORKLOADS_HLS_H
#define JEPSEN_WORKLOADS_HLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HLS_PARTS_MAX   256
#define HLS_MARK_UUID   "57656972-5761-7465-726d-61726b210102"
#define HLS_MARK_BYTES  "WeirWatermark!\x01\x02"
#define HLS_MARK_PREFIX "session="
#define HLS_MARKS_MAX   16

struct hls_part {
    uint64_t msn;
    uint32_t part, duration_ms;
};

struct hls_playlist {
    char broadcast[17];               /* of its media; empty: it lists none */
    uint64_t first;                   /* EXT-X-MEDIA-SEQUENCE */
    uint32_t n_segments;              /* whole ones; their numbers follow from `first` */
    uint32_t target_ms, hold_back_ms; /* PART-HOLD-BACK; 0: none */
    bool ended, hinted;
    struct hls_part next; /* hinted: what comes next */
    struct hls_part parts[HLS_PARTS_MAX];
    unsigned n_parts;
};

/* NULL, or what is wrong with it: segments whose names are not the numbers of their places count as
 * wrong. */
const char *hls_parse(const void *text, size_t len, struct hls_playlist *ret_playlist);
/* CRC-32C of the text without what it tells of other renditions. */
uint32_t hls_hash(const void *text, size_t len);
/* Sessions whose marks are in these bytes, in order, neighbours only once. Returns how many. */
unsigned hls_sessions(const void *bytes, size_t len, unsigned ret_sessions[HLS_MARKS_MAX]);

#endif
