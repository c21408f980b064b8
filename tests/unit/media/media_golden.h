/* tests/golden/media:
 *   rtmp_ffmpeg.bin      what ffmpeg 5.1 sent to publish 5 s of 160x120 at 15 frames a second,
 * H.264 with B frames and a key frame each second, AAC of 44.1 kHz in mono, as
 * rtmp://host/live/live_alice_key?a=b worker_wire_v1.bin   one frame of each type of the worker's
 * wire */
#ifndef TESTS_MEDIA_GOLDEN_H
#define TESTS_MEDIA_GOLDEN_H

#include "base/bytes.h"

/* The whole file; asserts that it is there. The caller closes it. */
struct bytes golden_read(const char *name);
void golden_write(const char *name, const struct bytes *data);

/* The frames of an RTMP recording, on a timeline that begins at 1 s, as input frames of a worker
 * (media/worker_wire.h), in order, each told to `cb`. Returns how many. */
unsigned golden_frames(const char *name, void (*cb)(void *data, uint8_t type, const struct bytes *),
                       void *data);

#endif
