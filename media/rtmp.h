/* An RTMP server session that takes a publisher: a state machine over bytes in and bytes out,
 * without sockets or clock.
 *
 * The caller feeds what the socket gives to rtmp_receive and sends what rtmp_output holds after
 * each call. A `publish` is answered only when the caller says so (rtmp_publish_accept,
 * rtmp_publish_reject); until then the session does not parse on, so nothing an eager encoder sends
 * is lost, and rtmp_wants_input says whether to read the socket. Source: Adobe's RTMP
 * specification 1.0, and what OBS, ffmpeg and librtmp really send.
 *
 * Limits: RTMP_MESSAGE_MAX bytes a message, RTMP_CHUNK_STREAMS_MAX chunk streams, RTMP_ASSEMBLY_MAX
 * bytes in half-received messages (before the publisher is accepted RTMP_ASSEMBLY_EARLY_MAX),
 * RTMP_OUTPUT_MAX unsent bytes. One thread at a time. */
#ifndef MEDIA_RTMP_H
#define MEDIA_RTMP_H

#include "base/bytes.h"
#include "base/error.h"

#define RTMP_MESSAGE_MAX  (16u << 20)
#define RTMP_ASSEMBLY_MAX (32u << 20)
/* Nobody has shown a key yet: commands are much shorter. */
#define RTMP_ASSEMBLY_EARLY_MAX (16u << 10)
#define RTMP_CHUNK_STREAMS_MAX  64
#define RTMP_NAME_MAX           256
#define RTMP_OUTPUT_MAX         (64u << 10)
#define RTMP_INPUT_MAX          (1u << 20)

struct rtmp;

enum rtmp_media { RTMP_AUDIO = 8, RTMP_VIDEO = 9 };

/* What onMetaData said; 0 where it said nothing. A hint, never trusted. */
struct rtmp_metadata {
    double width, height, fps, video_kbps, audio_kbps;
};

/* Called from inside rtmp_receive and rtmp_publish_accept. They may call
 * rtmp_publish_accept/reject, not rtmp_free. */
struct rtmp_events {
    void *data;
    /* Somebody wants to publish `name` (the stream key, with its ?a=b if any) to `app`. Must be
     * answered once, now or later. */
    void (*publish)(void *data, const char *app, const char *name);
    /* One media message of an accepted publisher: an FLV tag body. The timestamp is the wire's, 32
     * bits. Valid during the call. */
    void (*media)(void *data, enum rtmp_media type, uint32_t timestamp_ms, const uint8_t *body,
                  size_t len);
    void (*metadata)(void *data, const struct rtmp_metadata *metadata);
    /* The publisher ended its stream properly (FCUnpublish, deleteStream, closeStream); once. A
     * mere close of the line says nothing. */
    void (*unpublish)(void *data);
};

/* As the encoder names itself in `connect` (flashVer): printable ASCII, "" before. */
const char *rtmp_encoder(const struct rtmp *rtmp);

/* `events` is copied. WEIR_ENOMEM. */
int rtmp_new(const struct rtmp_events *events, struct rtmp **ret_rtmp);
void rtmp_free(struct rtmp *rtmp); /* NULL is allowed */

/* Bytes from the peer, in any slicing. A negative result means that the session is over: send what
 * rtmp_output holds, then close the connection. WEIR_EPROTO (the text says what), WEIR_ETOOBIG,
 * WEIR_ENOMEM, WEIR_ECLOSED after a refusal. */
int rtmp_receive(struct rtmp *rtmp, const uint8_t *data, size_t n, struct error *err);
/* False while a publish waits for its answer: leave the socket unread. Feeding on is safe up to
 * RTMP_INPUT_MAX. */
bool rtmp_wants_input(const struct rtmp *rtmp);
/* Bytes for the peer: send a prefix, then bytes_consume it. Owned by the session. */
struct bytes *rtmp_output(struct rtmp *rtmp);

/* NetStream.Publish.Start, then whatever had arrived meanwhile is parsed: same results as
 * rtmp_receive. */
int rtmp_publish_accept(struct rtmp *rtmp, struct error *err);
/* NetStream.Publish.BadName with a text for the encoder's user. The caller sends the output and
 * closes: OBS waits for ever if the connection stays open. */
void rtmp_publish_reject(struct rtmp *rtmp, const char *description);
/* After acceptance: an error status (level "error") that tells the encoder's user why it is being
 * cut off. Then close. */
void rtmp_publish_abort(struct rtmp *rtmp, const char *description);

#endif
