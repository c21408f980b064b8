#include "media/transcoder.h"

#include <libavcodec/avcodec.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "media/cmaf.h"

#define PIXELS_MAX       (4096ll * 2304)
#define BAD_FRAMES_MAX   250
#define FRAME_TICKS_MIN  (CMAF_VIDEO_HZ / 40) /* nearer ones are left out */
#define GOP_FRAMES_NEVER 100000               /* key frames come from the source alone */
#define JPEG_QUALITY     5                    /* 2 best .. 31 */
#define NAL_SPS          7
#define NAL_PPS          8
#define NONE             INT64_MIN

struct transcoder {
    struct transcoder_options options;
    struct transcoder_events events;
    AVCodecContext *decoder, *encoder;
    struct SwsContext *scaler, *thumbnail_scaler;
    AVPacket *packet;
    AVFrame *decoded, *scaled;
    struct codec_avc config;
    bool has_config;
    int64_t last_pts, force_key_pts, thumbnail_pts;
    unsigned bad_frames;
};

static int av_failed(struct error *err, int av, const char *what)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = {0};
    (void)av_strerror(av, text, sizeof(text));
    return error_set(err, av == AVERROR(ENOMEM) ? WEIR_ENOMEM : WEIR_EPROTO, "%s: %s", what, text);
}

static int open_decoder(struct transcoder *t, const struct codec_avc *source, struct error *err)
{
    const AVCodec *codec = avcodec_find_decoder(AV_CODEC_ID_H264);
    t->decoder = codec != NULL ? avcodec_alloc_context3(codec) : NULL;
    if (t->decoder == NULL) {
        return error_set(err, WEIR_ENOMEM, "H.264 decoder");
    }
    uint8_t *extra = av_mallocz(source->config_len + AV_INPUT_BUFFER_PADDING_SIZE);
    if (extra == NULL) {
        return error_set(err, WEIR_ENOMEM, "H.264 decoder");
    }
    memcpy(extra, source->config, source->config_len);
    t->decoder->extradata = extra;
    t->decoder->extradata_size = (int)source->config_len;
    t->decoder->thread_count = 1;
    t->decoder->max_pixels = PIXELS_MAX;
    t->decoder->pkt_timebase = (AVRational){1, CMAF_VIDEO_HZ};
    int av = avcodec_open2(t->decoder, codec, NULL);
    return av < 0 ? av_failed(err, av, "H.264 decoder") : 0;
}

int transcoder_new(const struct codec_avc *source, const struct transcoder_options *options,
                   const struct transcoder_events *events, struct transcoder **ret_transcoder,
                   struct error *err)
{
    struct transcoder *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return error_set(err, WEIR_ENOMEM, "transcoder");
    }
    av_log_set_level(AV_LOG_QUIET); /* what a stream may provoke does not belong on stderr */
    t->options = *options;
    t->events = *events;
    t->last_pts = t->force_key_pts = t->thumbnail_pts = NONE;
    t->packet = av_packet_alloc();
    t->decoded = av_frame_alloc();
    t->scaled = av_frame_alloc();
    int rc = t->packet == NULL || t->decoded == NULL || t->scaled == NULL
                 ? error_set(err, WEIR_ENOMEM, "transcoder")
                 : open_decoder(t, source, err);
    if (rc < 0) {
        transcoder_free(t);
        return rc;
    }
    *ret_transcoder = t;
    return 0;
}

void transcoder_free(struct transcoder *t)
{
    if (t == NULL) {
        return;
    }
    avcodec_free_context(&t->decoder);
    avcodec_free_context(&t->encoder);
    sws_freeContext(t->scaler);
    sws_freeContext(t->thumbnail_scaler);
    av_packet_free(&t->packet);
    av_frame_free(&t->decoded);
    av_frame_free(&t->scaled);
    free(t);
}

void transcoder_force_key(struct transcoder *t, int64_t pts)
{
    t->force_key_pts = pts;
}

const struct codec_avc *transcoder_config(const struct transcoder *t)
{
    return t->has_config ? &t->config : NULL;
}

/* --- Encoder
 * ---------------------------------------------------------------------------------------------------
 */

/* x264 gives its parameter sets as length-prefixed NAL units (annexb=0): make the configuration
 * record of them. */
static int take_config(struct transcoder *t, struct error *err)
{
    const uint8_t *sps = NULL, *pps = NULL;
    size_t sps_len = 0, pps_len = 0;
    struct cursor c;
    cursor_init(&c, t->encoder->extradata, (size_t)t->encoder->extradata_size);
    while (cursor_left(&c) > 0) {
        size_t len = cursor_be32(&c);
        const uint8_t *nal = cursor_take(&c, len);
        if (nal == NULL || len < 4) {
            break;
        }
        if ((nal[0] & 0x1f) == NAL_SPS) {
            sps = nal;
            sps_len = len;
        } else if ((nal[0] & 0x1f) == NAL_PPS) {
            pps = nal;
            pps_len = len;
        }
    }
    if (!cursor_ok(&c) || sps == NULL || pps == NULL) {
        return error_set(err, WEIR_EPROTO, "x264 gave no parameter sets");
    }
    struct bytes record;
    bytes_init(&record, CODEC_AVC_CONFIG_MAX);
    bytes_put_u8(&record, 1);
    bytes_put(&record, sps + 1, 3);
    bytes_put_u8(&record, 0xff); /* lengths of 4 bytes */
    bytes_put_u8(&record, 0xe1); /* one SPS */
    bytes_put_be16(&record, (uint16_t)sps_len);
    bytes_put(&record, sps, sps_len);
    bytes_put_u8(&record, 1);
    bytes_put_be16(&record, (uint16_t)pps_len);
    bytes_put(&record, pps, pps_len);
    if (sps[1] >= 100 && sps[1] != 244) { /* high profiles: 4:2:0, 8 bits, no SPS extensions */
        static const uint8_t high[] = {0xfd, 0xf8, 0xf8, 0};
        bytes_put(&record, high, sizeof(high));
    }
    int rc = bytes_error(&record) != 0 ? error_set(err, bytes_error(&record), "x264 parameter sets")
                                       : codec_avc_parse(record.data, record.len, &t->config, err);
    bytes_close(&record);
    t->has_config = rc == 0;
    return rc;
}

static void set_encoder(struct transcoder *t)
{
    AVCodecContext *e = t->encoder;
    e->height = (int)t->options.height & ~1;
    e->width = (int)(((int64_t)t->decoded->width * e->height / t->decoded->height + 1) & ~1ll);
    e->sample_aspect_ratio = t->decoded->sample_aspect_ratio;
    e->pix_fmt = AV_PIX_FMT_YUV420P;
    e->colorspace = t->decoded->colorspace;
    e->color_primaries = t->decoded->color_primaries;
    e->color_trc = t->decoded->color_trc;
    e->time_base = (AVRational){1, CMAF_VIDEO_HZ};
    e->framerate = (AVRational){30, 1}; /* a hint: rate control goes by the times */
    e->bit_rate = t->options.bps;
    e->rc_max_rate = t->options.bps + t->options.bps / 5;
    e->rc_buffer_size = (int)t->options.bps;
    e->gop_size = GOP_FRAMES_NEVER;
    e->thread_count = 1;
    e->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
}

static int open_encoder(struct transcoder *t, struct error *err)
{
    const AVCodec *codec = avcodec_find_encoder_by_name("libx264");
    t->encoder = codec != NULL ? avcodec_alloc_context3(codec) : NULL;
    if (t->encoder == NULL) {
        return error_set(err, WEIR_ENOMEM, "x264 encoder");
    }
    set_encoder(t);
    AVDictionary *options = NULL;
    av_dict_set(&options, "preset", "superfast", 0);
    av_dict_set(&options, "tune", "zerolatency", 0);
    av_dict_set(&options, "forced-idr", "1", 0);
    av_dict_set(&options, "x264-params", "annexb=0:scenecut=0:keyint=infinite", 0);
    int av = avcodec_open2(t->encoder, codec, &options);
    av_dict_free(&options);
    if (av < 0) {
        return av_failed(err, av, "x264 encoder");
    }
    t->scaled->format = AV_PIX_FMT_YUV420P;
    t->scaled->width = t->encoder->width;
    t->scaled->height = t->encoder->height;
    av = av_frame_get_buffer(t->scaled, 0);
    return av < 0 ? av_failed(err, av, "picture") : take_config(t, err);
}

static int drain_encoder(struct transcoder *t, struct error *err)
{
    for (;;) {
        int av = avcodec_receive_packet(t->encoder, t->packet);
        if (av == AVERROR(EAGAIN) || av == AVERROR_EOF) {
            return 0;
        }
        if (av < 0) {
            return av_failed(err, av, "x264");
        }
        int rc = t->events.frame(t->events.data, t->packet->pts,
                                 (t->packet->flags & AV_PKT_FLAG_KEY) != 0, t->packet->data,
                                 (size_t)t->packet->size);
        av_packet_unref(t->packet);
        if (rc < 0) {
            return error_set(err, rc, "encoded frame");
        }
    }
}

static int scale(struct SwsContext **scaler, const AVFrame *from, AVFrame *to)
{
    *scaler = sws_getCachedContext(*scaler, from->width, from->height,
                                   (enum AVPixelFormat)from->format, to->width, to->height,
                                   (enum AVPixelFormat)to->format, SWS_BILINEAR, NULL, NULL, NULL);
    if (*scaler == NULL) {
        return AVERROR(ENOMEM);
    }
    return sws_scale(*scaler, (const uint8_t *const *)from->data, from->linesize, 0, from->height,
                     to->data, to->linesize);
}

static int encode(struct transcoder *t, int64_t pts, bool key, struct error *err)
{
    if (t->encoder == NULL) {
        int rc = open_encoder(t, err);
        if (rc < 0) {
            return rc;
        }
    }
    int av = av_frame_make_writable(t->scaled);
    if (av >= 0) {
        av = scale(&t->scaler, t->decoded, t->scaled);
    }
    if (av < 0) {
        return av_failed(err, av, "scaling");
    }
    bool forced = t->force_key_pts != NONE && pts >= t->force_key_pts;
    if (forced) {
        t->force_key_pts = NONE;
    }
    t->scaled->pts = pts;
    t->scaled->pict_type = key || forced ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
    av = avcodec_send_frame(t->encoder, t->scaled);
    return av < 0 ? av_failed(err, av, "x264") : drain_encoder(t, err);
}

/* --- Thumbnails
 * ------------------------------------------------------------------------------------------------
 */

static int encode_jpeg(struct transcoder *t, AVCodecContext *jpeg, AVFrame *picture)
{
    int av = avcodec_open2(jpeg, jpeg->codec, NULL);
    if (av >= 0) {
        av = avcodec_send_frame(jpeg, picture);
    }
    if (av >= 0) {
        av = avcodec_receive_packet(jpeg, t->packet);
    }
    if (av >= 0) {
        t->events.thumbnail(t->events.data, (uint32_t)jpeg->width, (uint32_t)jpeg->height,
                            t->packet->data, (size_t)t->packet->size);
        av_packet_unref(t->packet);
    }
    return av;
}

/* Of the decoded frame. A failure costs the picture, nothing else. */
static void make_thumbnail(struct transcoder *t)
{
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_MJPEG);
    AVCodecContext *jpeg = codec != NULL ? avcodec_alloc_context3(codec) : NULL;
    AVFrame *picture = av_frame_alloc();
    if (jpeg != NULL && picture != NULL) {
        picture->format = AV_PIX_FMT_YUVJ420P;
        int height = (int)t->options.thumbnail_height;
        picture->height = (height < t->decoded->height ? height : t->decoded->height) & ~1;
        picture->width =
            (int)(((int64_t)t->decoded->width * picture->height / t->decoded->height + 1) & ~1ll);
        picture->quality = JPEG_QUALITY * FF_QP2LAMBDA;
        jpeg->width = picture->width;
        jpeg->height = picture->height;
        jpeg->pix_fmt = AV_PIX_FMT_YUVJ420P;
        jpeg->time_base = (AVRational){1, CMAF_VIDEO_HZ};
        jpeg->flags |= AV_CODEC_FLAG_QSCALE;
        jpeg->global_quality = picture->quality;
        jpeg->thread_count = 1;
        picture->pts = 0;
        if (av_frame_get_buffer(picture, 0) >= 0 &&
            scale(&t->thumbnail_scaler, t->decoded, picture) >= 0) {
            (void)encode_jpeg(t, jpeg, picture);
        }
    }
    av_frame_free(&picture);
    avcodec_free_context(&jpeg);
}

/* --- Input
 * -----------------------------------------------------------------------------------------------------
 */

static int take_decoded(struct transcoder *t, struct error *err)
{
    const AVFrame *f = t->decoded;
    int64_t pts = f->best_effort_timestamp;
    bool key = f->key_frame != 0;
    t->bad_frames = 0;
    if (t->thumbnail_pts != NONE && pts >= t->thumbnail_pts) {
        t->thumbnail_pts = NONE;
        make_thumbnail(t);
    }
    bool too_near = t->last_pts != NONE && pts < t->last_pts + (key ? 1 : FRAME_TICKS_MIN);
    if (t->options.height == 0 || too_near) {
        return 0;
    }
    t->last_pts = pts;
    return encode(t, pts, key, err);
}

static int drain_decoder(struct transcoder *t, struct error *err)
{
    for (;;) {
        int av = avcodec_receive_frame(t->decoder, t->decoded);
        if (av == AVERROR(ENOMEM)) {
            return av_failed(err, av, "H.264 decoder");
        }
        if (av < 0) {
            return 0; /* needs more, or the frame was bad */
        }
        int rc = t->decoded->best_effort_timestamp == AV_NOPTS_VALUE ? 0 : take_decoded(t, err);
        av_frame_unref(t->decoded);
        if (rc < 0) {
            return rc;
        }
    }
}

int transcoder_push(struct transcoder *t, const struct wire_video *frame, bool thumbnail,
                    struct error *err)
{
    int av = av_new_packet(t->packet, (int)frame->len);
    if (av < 0) {
        return av_failed(err, av, "frame");
    }
    memcpy(t->packet->data, frame->data, frame->len);
    t->packet->dts = frame->dts;
    t->packet->pts = frame->dts + frame->composition;
    t->packet->flags = frame->key ? AV_PKT_FLAG_KEY : 0;
    if (thumbnail) {
        t->thumbnail_pts = t->packet->pts;
    }
    av = avcodec_send_packet(t->decoder, t->packet);
    av_packet_unref(t->packet);
    if (av == AVERROR(ENOMEM) || (av < 0 && ++t->bad_frames > BAD_FRAMES_MAX)) {
        return av_failed(err, av, "H.264 decoder");
    }
    return drain_decoder(t, err);
}

int transcoder_flush(struct transcoder *t, struct error *err)
{
    (void)avcodec_send_packet(t->decoder, NULL);
    int rc = drain_decoder(t, err);
    if (rc == 0 && t->encoder != NULL) {
        (void)avcodec_send_frame(t->encoder, NULL);
        rc = drain_encoder(t, err);
    }
    return rc;
}
