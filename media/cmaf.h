/* Fragmented MP4 as LL-HLS wants it: an initialisation segment, then fragments (moof + mdat), each
 * of which is one part. A segment is its parts joined. ISO/IEC 14496-12 and -15; RFC 8216bis
 * section 3.1.2.
 *
 * Sound and picture are in one file, as tracks 1 (video) and 2 (audio). The same input gives the
 * same bytes, on any machine: that is what lets a replacement worker go on where another one
 * stopped. Pure. */
#ifndef MEDIA_CMAF_H
#define MEDIA_CMAF_H

#include <stdbool.h>

#include "base/bytes.h"
#include "media/codec.h"

#define CMAF_VIDEO_HZ 90000

struct cmaf_sample {
    uint32_t duration; /* in the track's time scale */
    uint32_t size;
    int32_t composition; /* pts - dts; video */
    bool sync;
};

/* One track's samples of a fragment; `data` is them joined, the sum of their sizes long. */
struct cmaf_run {
    int64_t dts; /* of the first, >= 0 */
    const struct cmaf_sample *samples;
    uint32_t n_samples; /* 0: the track is absent from the fragment */
    const uint8_t *data;
    size_t len;
};

/* `audio` may be NULL. Out of room is bytes_error(out). */
void cmaf_put_init(struct bytes *out, const struct codec_avc *video, const struct codec_aac *audio);
void cmaf_put_fragment(struct bytes *out, uint32_t sequence, const struct cmaf_run *video,
                       const struct cmaf_run *audio);

#endif
